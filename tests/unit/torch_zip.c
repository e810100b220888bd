/* SPDX-License-Identifier: MIT */
/* torch_zip.c -- files of torch.save: those of torch itself, and pickles and zips made by hand to be refused;
 * none is executed.
 *
 * tests/golden-more/torch/make.py made the files; the tensor m there is 0, 1, ... 11 in [3,4]. */
#include "formats/torch_zip.h"
#include "tests/unit/weights_test.h"

static const char *in_tests(const char *name)
{
    static char path[4096];
    const char *tests = getenv("SDSTEER_TESTS");
    snprintf(path, sizeof path, "%s/golden-more/torch/%s", tests ? tests : "tests", name);
    return path;
}

/* ---- what torch wrote ---- */

static int holds(const Weights *w, const char *name, DType type, int ndim, const int64_t *dim, const float *values)
{
    const Weight *t = weights_find(w, name);
    int ok = t && t->type == type && t->ndim == ndim;
    for (int i = 0; ok && i < ndim; i++)
        ok = t->dim[i] == dim[i];
    if (!ok)
        return test_ok(name, 0);
    float got[16];
    const size_t n = weight_count(t);
    dtype_to_f32(got, t->data, t->type, n);
    return n ? test_same(name, got, values, n*sizeof *got) : test_ok(name, 1);
}

static int test_types(void)
{
    static const struct { const char *name; DType type; } whole[] = {
        {"f32", F32}, {"f16", F16}, {"bf16", BF16}, {"f64", F64}, {"i8", I8}, {"u8", U8}, {"i16", I16}, {"i32", I32},
        {"i64", I64},
    };
    Err e = {0};
    Weights *w;
    float m[12], plus[12], flags[12], across[12];
    for (int i = 0; i < 12; i++) {
        m[i] = (float)i;
        plus[i] = (float)(i + 1);
        flags[i] = i > 5;
        across[i] = (float)(i%3*4 + i/3);
    }
    if (torch_zip_open(&w, in_tests("types.pth"), &e))
        return test_ok(e.text, 0);
    int failed = 0;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        failed += holds(w, whole[i].name, whole[i].type, 2, (int64_t[]){3, 4}, m);
    failed += holds(w, "bool", U8, 2, (int64_t[]){3, 4}, flags);
    failed += holds(w, "across", F32, 2, (int64_t[]){4, 3}, across);
    failed += holds(w, "part", F32, 2, (int64_t[]){2, 2}, (float[]){5, 6, 9, 10});
    failed += holds(w, "every", F32, 1, (int64_t[]){4}, (float[]){1, 4, 7, 10});
    failed += holds(w, "scalar", F32, 0, NULL, (float[]){2.5f});
    failed += holds(w, "empty", F32, 2, (int64_t[]){0, 4}, m);
    failed += holds(w, "parameter", F32, 2, (int64_t[]){3, 4}, plus);
    failed += holds(w, "list.1", F32, 1, (int64_t[]){4}, m + 4);
    failed += holds(w, "pair.0", F32, 1, (int64_t[]){4}, m + 8);
    failed += holds(w, "ordered.a", F32, 2, (int64_t[]){1, 4}, m);
    failed += holds(w, "step.0", F32, 2, (int64_t[]){3, 1}, (float[]){0, 4, 8});
    failed += test_ok("layer.weight", weights_find(w, "layer.weight") && weights_find(w, "layer.bias"));
    failed += test_ok("what is no tensor is passed over", weights_count(w) == 23 && !weights_find(w, "k"));
    e = (Err){0};
    failed += test_ok("need", !weights_need(w, "none", 1, (int64_t[]){3}, &e)
                      && strstr(e.text, "tensor none is missing"));
    weights_close(w);
    return failed;
}

/* ---- zips made by hand ---- */

static unsigned char zip[1 << 16], directory[1 << 14];
static size_t zip_size, directory_size;
static int entries;

static void put(unsigned char *at, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(value >> 8*i);
}

static void begin_zip(void)
{
    zip_size = directory_size = 0;
    entries = 0;
}

static void add(const char *name, const void *data, size_t n)
{
    const size_t length = strlen(name);
    unsigned char *local = zip + zip_size, *central = directory + directory_size;
    memset(local, 0, 30);
    memset(central, 0, 46);
    memcpy(local, "PK\3\4", 4);
    memcpy(central, "PK\1\2", 4);
    put(local + 18, n, 4);
    put(local + 22, n, 4);
    put(local + 26, length, 2);
    put(central + 20, n, 4);
    put(central + 24, n, 4);
    put(central + 28, length, 2);
    put(central + 42, zip_size, 4);
    memcpy(local + 30, name, length);
    memcpy(central + 46, name, length);
    if (n)
        memcpy(local + 30 + length, data, n);
    zip_size += 30 + length + n;
    directory_size += 46 + length;
    entries++;
}

static const char *end_zip(void)
{
    unsigned char end[22] = {'P', 'K', 5, 6};
    put(end + 8, (uint64_t)entries, 2);
    put(end + 10, (uint64_t)entries, 2);
    put(end + 12, directory_size, 4);
    put(end + 16, zip_size, 4);
    memcpy(zip + zip_size, directory, directory_size);
    memcpy(zip + zip_size + directory_size, end, 22);
    return spill("z", zip, zip_size + directory_size + 22);
}

/* A file whose pickle is these bytes, with a storage "0" of 48 bytes. */
static const char *file_of(const void *pickle, size_t n)
{
    static const float storage[12];
    begin_zip();
    add("a/data.pkl", pickle, n);
    add("a/data/0", storage, sizeof storage);
    return end_zip();
}

static int refused(const char *name, const char *path, const char *words)
{
    return test_weights_refused(torch_zip_open, name, path, words);
}

#define PICKLE(name, bytes, words) refused(name, file_of(bytes, sizeof bytes - 1), words)

/* {'w': tensor of storage `key` with `elements`, offset, size and stride}, all opcodes as given */
#define TEXT(n, text) "X" n "\0\0\0" text
#define STORAGE(type, elements) \
    "(" TEXT("\7", "storage") "ctorch\n" type "\n" TEXT("\1", "0") TEXT("\3", "cpu") elements "tQ"
#define TENSOR(type, elements, offset, size, stride) "\x80\2}" TEXT("\1", "w") "ctorch._utils\n_rebuild_tensor_v2\n(" \
    STORAGE(type, elements) offset size stride "\x89" "ccollections\nOrderedDict\n)RtRs."

#define PARAMETER_DICT "ctorch.nn.modules.container\nParameterDict\n"

static int test_pickles(void)
{
    int failed = 0;
    Err e = {0};
    Weights *w;
    static const char good[] = TENSOR("FloatStorage", "K\x0c", "K\0", "K\3K\4\x86", "K\4K\1\x86");
    failed += test_ok("by hand", torch_zip_open(&w, file_of(good, sizeof good - 1), &e) == 0 && weights_find(w, "w"));
    weights_close(w);

    /* A class as key, a numpy scalar whose type is told more and whose bytes are text with a 0, a set. */
    static const char trained[] = "\x80\2}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n}s"
        TEXT("\1", "n") "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" TEXT("\2", "f8") "K\0K\1tR(K\3Nt"
        "b" "c_codecs\nencode\n(X\3\0\0\0a\0b" TEXT("\6", "latin1") "tRtRs"
        TEXT("\1", "s") "c__builtin__\nset\n(](K\1K\2etRs"
        TEXT("\1", "w") "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE("FloatStorage", "K\x0c")
        "K\0K\3K\4\x86K\4K\1\x86\x89NtRs.";
    failed += test_ok("what is no tensor", torch_zip_open(&w, file_of(trained, sizeof trained - 1), &e) == 0
                      && weights_count(w) == 1 && weights_find(w, "w"));
    weights_close(w);

    /* A module's dict of parameters, one attribute before it; texts beside it, one of which is no UTF-8. */
    static const char learned[] = "\x80\2}" TEXT("\1", "p") PARAMETER_DICT ")\x81}" TEXT("\1", "t") "\x88s"
        TEXT("\x0b", "_parameters") "}" TEXT("\1", "*") "ctorch._utils\n_rebuild_tensor_v2\n("
        STORAGE("FloatStorage", "K\x0c") "K\0K\3K\4\x86K\4K\1\x86\x89NtRssbs"
        TEXT("\4", "name") TEXT("\3", "toy") "s" TEXT("\3", "bad") TEXT("\1", "\xff") "s.";
    failed += test_ok("a ParameterDict", torch_zip_open(&w, file_of(learned, sizeof learned - 1), &e) == 0
                      && weights_count(w) == 1 && weights_find(w, "p._parameters.*"));
    const json_t *texts = weights_metadata(w);
    failed += test_ok("texts", json_object_size(texts) == 1
                      && strcmp(json_string_value(json_object_get(texts, "name")), "toy") == 0);
    weights_close(w);

    failed += PICKLE("os.system", "\x80\2cos\nsystem\n(X\2\0\0\0lstR.", "names os.system: only tensors");
    failed += PICKLE("posix.system", "\x80\2cposix\nsystem\n.", "names posix.system");
    failed += PICKLE("eval", "\x80\2c__builtin__\neval\n(X\1\0\0\0" "1tR.", "names __builtin__.eval");
    failed += PICKLE("torch.load", "\x80\2ctorch\nload\n.", "names torch.load");
    failed += PICKLE("a name with control characters", "\x80\2c\33[2J\nx\n.", "names ?[2J.x");
    failed += PICKLE("a long name",
                     "\x80\2ctorch."
                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nx\n.", "names torch.aaa");
    failed += PICKLE("a name without end", "\x80\2cos", "a name has no end");
    failed += PICKLE("INST", "\x80\2(ios\nsystem\n.", "opcode 0x69 (INST) is not read");
    failed += PICKLE("OBJ", "\x80\2(o.", "(OBJ)");
    failed += PICKLE("NEWOBJ", "\x80\2ccollections\nOrderedDict\n)\x81.", "NEWOBJ of what is not a ParameterDict");
    failed += PICKLE("NEWOBJ with arguments", "\x80\2" PARAMETER_DICT "K\1\x85\x81.",
                     "NEWOBJ of what is not a ParameterDict");
    failed += PICKLE("REDUCE of a ParameterDict", "\x80\2" PARAMETER_DICT ")R.",
                     "REDUCE of what is not a known function");
    failed += PICKLE("a ParameterDict filled twice", "\x80\2" PARAMETER_DICT ")\x81}" TEXT("\x0b", "_parameters")
                     "}sq\0bh\0b.", "a ParameterDict is filled twice");
    failed += PICKLE("STACK_GLOBAL", "\x80\2X\2\0\0\0osX\6\0\0\0system\x93.", "(STACK_GLOBAL)");
    failed += PICKLE("EXT1", "\x80\2\x82\1.", "(EXT1)");
    failed += PICKLE("protocol 4", "\x80\4}.", "protocol 4, expected 2");
    failed += PICKLE("no opcode", "\x80\2\xff.", "opcode 0xff (not an opcode)");
    failed += PICKLE("REDUCE of text", "\x80\2X\1\0\0\0a)R.", "REDUCE of what is not a known function");
    failed += PICKLE("REDUCE of a storage type", "\x80\2ctorch\nFloatStorage\n)R.",
                     "REDUCE of what is not a known function");
    failed += PICKLE("REDUCE of a dict", "\x80\2}" ")R.", "REDUCE of what is not a known function");
    failed += PICKLE("OrderedDict of something", "\x80\2ccollections\nOrderedDict\nK\1\x85R.",
                     "OrderedDict with arguments");
    failed += PICKLE("a tensor of nothing", "\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R.", "a tensor is not made of");
    failed += PICKLE("a parameter of nothing", "\x80\2ctorch._utils\n_rebuild_parameter\n)R.",
                     "a parameter is not made of");
    failed += PICKLE("BUILD of text", "\x80\2X\1\0\0\0a}b.", "BUILD of what is not a dict");
    failed += PICKLE("a persistent id of text", "\x80\2X\1\0\0\0aQ.", "a persistent id is not");
    failed += PICKLE("nothing", "", "1 bytes should follow, the pickle has 0 more");
    failed += PICKLE("no end", "\x80\2}", "it was cut");
    failed += PICKLE("pop of nothing", "\x80\2R.", "the stack is empty");
    failed += PICKLE("SETITEM below a mark", "\x80\2}(NNs.", "the stack is empty");
    failed += PICKLE("SETITEM of nothing", "\x80\2s.", "the stack is empty");
    failed += PICKLE("APPEND of nothing", "\x80\2a.", "the stack is empty");
    failed += PICKLE("SETITEMS without mark", "\x80\2}u.", "no mark is set");
    failed += PICKLE("SETITEMS of a key", "\x80\2}(Nu.", "a key of a dict has no value");
    failed += PICKLE("SETITEM of a list", "\x80\2]NNs.", "items are added to what is not a dict");
    failed += PICKLE("TUPLE without mark", "\x80\2t.", "no mark is set");
    failed += PICKLE("TUPLE3 of two", "\x80\2NN\x87.", "the stack is empty");
    failed += PICKLE("memo never set", "\x80\2h\7.", "memo 7 was never set");
    failed += PICKLE("memo of 2^32", "\x80\2}r\xff\xff\xff\xff.", "memo 4294967295 is out of bounds");
    failed += PICKLE("memo of nothing", "\x80\2q\0.", "the stack is empty");
    failed += PICKLE("a text of 2^32", "\x80\2X\xff\xff\xff\xff.", "4294967295 bytes should follow");
    failed += PICKLE("a key with a 0", "\x80\2}X\2\0\0\0a\0Ns.", "a key is neither text nor an integer");
    failed += PICKLE("a storage's key with a 0", "\x80\2(" TEXT("\7", "storage") "ctorch\nFloatStorage\nX\2\0\0\0a\0"
                     TEXT("\3", "cpu") "K\1tQ.", "a persistent id is not");
    failed += PICKLE("an integer of 9 bytes", "\x80\2\x8a\x09" "123456789.", "an integer of 9 bytes");
    failed += PICKLE("two values", "\x80\2NN.", "ends with 2 values");
    failed += PICKLE("a dict in itself", "\x80\2}q\0X\1\0\0\0ah\0s.", "nested deeper than 8");
    failed += PICKLE("a real key", "\x80\2}G\0\0\0\0\0\0\0\0Ns.", "a key is neither text nor an integer");
    return failed;
}

static int test_tensors(void)
{
    int failed = 0;
    failed += PICKLE("unknown storage", TENSOR("ComplexFloatStorage", "K\x0c", "K\0", "K\3\x85", "K\1\x85"),
                     "names torch.ComplexFloatStorage");
    failed += PICKLE("more elements than bytes", TENSOR("FloatStorage", "K\x0d", "K\0", "K\3\x85", "K\1\x85"),
                     "claims 13 elements of 4 bytes, data/0 is 48 bytes");
    failed += PICKLE("2^62 elements", TENSOR("FloatStorage", "\x8a\10\0\0\0\0\0\0\0\x40", "K\0", "K\3\x85", "K\1\x85"),
                     "claims");
    failed += PICKLE("-1 elements", TENSOR("FloatStorage", "J\xff\xff\xff\xff", "K\0", "K\3\x85", "K\1\x85"),
                     "persistent id");
    failed += PICKLE("past the end", TENSOR("FloatStorage", "K\x0c", "K\1", "K\3K\4\x86", "K\4K\1\x86"),
                     "reach out of its storage");
    failed += PICKLE("offset past the end", TENSOR("FloatStorage", "K\x0c", "K\x0d", "K\0\x85", "K\1\x85"),
                     "reach out");
    failed += PICKLE("offset of -1", TENSOR("FloatStorage", "K\x0c", "J\xff\xff\xff\xff", "K\3\x85", "K\1\x85"),
                     "a tensor is not");
    failed += PICKLE("size of -1", TENSOR("FloatStorage", "K\x0c", "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85"),
                     "a tensor is not");
    failed += PICKLE("stride of -1", TENSOR("FloatStorage", "K\x0c", "K\0", "K\3\x85", "J\xff\xff\xff\xff\x85"),
                     "a tensor is not");
    failed += PICKLE("stride past the end", TENSOR("FloatStorage", "K\x0c", "K\0", "K\3\x85", "K\6\x85"), "reach out");
    failed += PICKLE("stride of 2^62",
                     TENSOR("FloatStorage", "K\x0c", "K\0", "K\3\x85", "\x8a\10\0\0\0\0\0\0\0\x40\x85"), "reach out");
    failed += PICKLE("stride 0, many", TENSOR("FloatStorage", "K\x0c", "K\0", "K\x7f\x85", "K\0\x85"), "reach out");
    failed += PICKLE("sizes that overflow",
                     TENSOR("FloatStorage", "K\x0c", "K\0", "\x8a\10\0\0\0\0\0\0\0\x40" "K\4\x86", "K\0K\0\x86"),
                     "reach out");
    failed += PICKLE("two sizes, one stride", TENSOR("FloatStorage", "K\x0c", "K\0", "K\3K\4\x86", "K\4\x85"),
                     "a tensor is not");
    failed += PICKLE("nine dimensions", TENSOR("FloatStorage", "K\x0c", "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t",
                                               "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t"), "at most 8 dimensions");
    failed += PICKLE("a name twice", "\x80\2}" TEXT("\1", "w") "ctorch._utils\n_rebuild_tensor_v2\n("
                     STORAGE("FloatStorage", "K\1") "K\0K\1\x85K\1\x85\x89NtRq\1s" TEXT("\1", "w") "h\1s.",
                     "tensor w comes twice");
    begin_zip();
    static const char good[] = TENSOR("FloatStorage", "K\x0c", "K\0", "K\3K\4\x86", "K\4K\1\x86");
    add("a/data.pkl", good, sizeof good - 1);
    failed += refused("no storage", end_zip(), "its storage data/0 is missing");
    return failed;
}

static int test_zips(void)
{
    int failed = 0;
    static const char empty[] = "\x80\2}.";
    failed += refused("no file", scratch("none"), "No such file");
    failed += refused("folder", "/tmp", "is not a regular file");
    failed += refused("empty", spill("e", "", 0), "is no zip");
    failed += refused("legacy", in_tests("legacy.pth"), "is no zip: files of torch before 1.6");
    failed += refused("evil", in_tests("evil.pth"), "names posix.system: only tensors");
    failed += refused("no directory", spill("e", "PK\3\4..........................", 30), "has no end of a zip");
    begin_zip();
    add("a/other", "x", 1);
    failed += refused("no data.pkl", end_zip(), "the zip has no data.pkl");
    begin_zip();
    add("a/data.pkl", empty, 4);
    add("b/data.pkl", empty, 4);
    failed += refused("two of data.pkl", end_zip(), "holds two files data.pkl");
    begin_zip();
    add("a/data.pkl", empty, 4);
    add("a/data.pkl", empty, 4);
    failed += refused("a name twice", end_zip(), "a/data.pkl comes twice");
    begin_zip();
    add("a/data.pkl", empty, 4);
    add("a/byteorder", "big", 3);
    failed += refused("big endian", end_zip(), "byteorder is big, expected little");

    static const struct { const char *name; int at, value; const char *words; } damage[] = {
        {"compressed", 10, 8, "is compressed (method 8)"}, {"encrypted", 8, 1, "is encrypted"},
        {"other packed size", 20, 5, "is compressed"}, {"offset", 42, 1, "does not begin at byte 1"},
        {"offset past the end", 45, 0x7f, "does not begin at byte"},
        {"name past the end", 29, 0x7f, "directory is damaged"},
        {"extra past the end", 31, 0x7f, "directory is damaged"}, {"signature", 2, 9, "directory is damaged"},
    };
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        begin_zip();
        add("a/data.pkl", empty, 4);
        directory[damage[i].at] = (unsigned char)damage[i].value;
        failed += refused(damage[i].name, end_zip(), damage[i].words);
    }
    begin_zip();
    add("a/data.pkl", empty, 4);
    directory[20 + 2] = directory[24 + 2] = 1;
    failed += refused("size past the end", end_zip(), "a/data.pkl is 65540 bytes at 40, the file ends at");
    begin_zip();
    add("a/data.pkl", empty, 4);
    entries = 40;
    failed += refused("more entries than bytes", end_zip(), "(40 entries in 56 bytes at 44) does not fit");
    return failed;
}

static int test_damage(void)
{
    Err e;
    Weights *w;
    Blob b = slurp(in_tests("types.pth"));
    long passed = 0;
    for (size_t n = 0; n < b.size; n++) {
        e = (Err){0};
        passed += torch_zip_open(&w, spill_memory(b.data, n), &e) == 0;
        weights_close(w);
    }
    uint32_t seed = 1;
    for (int r = 0; r < 4000; r++) {                        /* no crash, whatever the pickle and the directory become */
        const size_t at = (seed = seed * 1664525u + 1013904223u, seed >> 8) % b.size;
        const unsigned char before = b.data[at];
        b.data[at] = (unsigned char)(seed >> 20);
        e = (Err){0};
        if (torch_zip_open(&w, spill_memory(b.data, b.size), &e) == 0)
            for (size_t i = 0; i < weights_count(w); i++) {
                const Weight *t = weights_at(w, i);
                float y[4096];
                dtype_to_f32(y, t->data, t->type, weight_count(t) < 4096 ? weight_count(t) : 4096);
            }
        weights_close(w);
        b.data[at] = before;
    }
    free(b.data);
    return test_ok("a cut at each byte is refused", passed == 0) + test_ok("noise does not crash", 1);
}

int main(void)
{
    const int failed = test_types() + test_pickles() + test_tensors() + test_zips() + test_damage();
    scratch_clear();
    return failed != 0;
}
