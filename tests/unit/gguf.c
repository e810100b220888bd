/* SPDX-License-Identifier: MIT */
/* gguf.c -- GGUF files: those that the package gguf wrote, blocks of each type bit for bit as it reads them, and files
 * made by hand to be refused. tests/golden-more/make_gguf.py made the files. */
#include "formats/gguf.h"
#include "formats/gguf_types.h"
#include "formats/weights_either.h"
#include "tests/unit/weights_test.h"

static const char *in_tests(const char *name)
{
    static char path[4096];
    const char *tests = getenv("SDSTEER_TESTS");
    snprintf(path, sizeof path, "%s/golden-more/gguf/%s", tests ? tests : "tests", name);
    return path;
}

/* The values of a tensor as f32, at most n of them, whatever it is. Returns their number. */
static size_t values_of(float *y, size_t n, const Weight *t)
{
    const size_t unit = t->blocks ? (size_t)t->blocks->values : 1, all = weight_count(t);
    n = (n < all ? n : all)/unit*unit;
    if (t->blocks)
        gguf_unpack(y, t->blocks, t->data, n);
    else
        dtype_to_f32(y, t->data, t->type, n);
    return n;
}

/* ---- what gguf wrote ---- */

static int holds(const Weights *w, const char *name, DType type, int ndim, const int64_t *dim, const float *values)
{
    const Weight *t = weights_find(w, name);
    float got[64];
    int ok = t && t->type == type && t->ndim == ndim;
    for (int i = 0; ok && i < ndim; i++)
        ok = t->dim[i] == dim[i];
    const size_t n = ok ? values_of(got, 64, t) : 0;
    return n ? test_same(name, got, values, n*sizeof *got) : test_ok(name, ok);
}

static int test_blocks(const Weights *w)
{
    Weights *expected;
    Err e = {0};
    int failed = 0;
    if (weights_open(&expected, in_tests("types.safetensors"), &e))
        return test_ok(e.text, 0);
    failed += test_ok("types in blocks", weights_count(expected) == 12);
    for (size_t i = 0; i < weights_count(expected); i++) {
        const Weight *want = weights_at(expected, i), *t = weights_find(w, want->name);
        float got[1024];
        failed += test_ok(want->name, t && t->blocks && t->type == F16 && strcmp(weight_type(t), want->name) == 0
                          && t->ndim == 2 && t->dim[0] == want->dim[0] && t->dim[1] == want->dim[1]
                          && weight_count(t) <= 1024);
        if (t)
            failed += test_same(want->name, got, want->data, values_of(got, 1024, t)*sizeof *got);
    }
    weights_close(expected);
    return failed;
}

static int test_types(void)
{
    static const struct { const char *name; DType type; } plain[] = {
        {"f32", F32}, {"f16", F16}, {"bf16", BF16}, {"f64", F32}, {"i8", I8}, {"i16", I16}, {"i32", I32}, {"i64", I64},
    };
    Err e = {0};
    Weights *w;
    float m[24];
    for (int i = 0; i < 24; i++)
        m[i] = (float)(i - 4);
    if (weights_open_any(&w, in_tests("types.gguf"), &e))
        return test_ok(e.text, 0);
    int failed = test_ok("tensors", weights_count(w) == 22) + test_blocks(w);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        failed += holds(w, plain[i].name, plain[i].type, 2, (int64_t[]){4, 6}, m);
    failed += holds(w, "shaped", F32, 4, (int64_t[]){2, 3, 4, 1}, m);
    failed += holds(w, "row", F32, 1, (int64_t[]){6}, m);
    weights_close(w);
    return failed + test_weights_refused(weights_open_either, "where it is not read", in_tests("types.gguf"),
                                         "is a GGUF file, expected safetensors or a file of torch.save");
}

/* ---- made by hand ---- */

static unsigned char file[1 << 12];
static size_t size;

static void put(uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        file[size++] = (unsigned char)(value >> 8*i);
}

static void put_text(const char *text, size_t length)
{
    put(length, 8);
    memcpy(file + size, text, length);
    size += length;
}

static void begin(uint64_t tensors, uint64_t pairs)
{
    size = 0;
    put(0x46554747, 4);
    put(3, 4);
    put(tensors, 8);
    put(pairs, 8);
}

static void put_key(const char *key, uint32_t type)
{
    put_text(key, strlen(key));
    put(type, 4);
}

static void put_tensor(const char *name, int ndim, const uint64_t *dim, uint32_t type, uint64_t offset)
{
    put_text(name, strlen(name));
    put((uint64_t)ndim, 4);
    for (int i = 0; i < ndim; i++)
        put(dim[i], 8);
    put(type, 4);
    put(offset, 8);
}

/* The file with zeros up to a multiple of 32 and `bytes` more. */
static const char *end(size_t bytes)
{
    while (size % 32)
        put(0, 1);
    memset(file + size, 0, bytes);
    return spill("g", file, size + bytes);
}

static int refused(const char *name, const char *path, const char *words)
{
    return test_weights_refused(gguf_open, name, path, words);
}

/* A file of one tensor and as many bytes of data. */
static int one(const char *name, int ndim, const uint64_t *dim, uint32_t type, uint64_t offset, size_t bytes,
               const char *words)
{
    begin(1, 0);
    put_tensor("w", ndim, dim, type, offset);
    return refused(name, end(bytes), words);
}

static int test_heads(void)
{
    int failed = 0;
    failed += refused("no file", scratch("none"), "No such file");
    failed += refused("folder", "/tmp", "is not a regular file");
    failed += refused("empty", spill("g", "", 0), "4 bytes of a beginning should follow byte 0, the file ends after 0");
    failed += refused("magic", spill("g", "GGML....", 8), "does not begin with GGUF");
    failed += refused("version 1", spill("g", "GGUF\1\0\0\0", 8), "GGUF of version 1, expected 2 or 3");
    failed += refused("version 4", spill("g", "GGUF\4\0\0\0", 8), "GGUF of version 4, expected 2 or 3");
    failed += refused("big-endian", spill("g", "GGUF\0\0\0\3", 8), "(big-endian?)");
    begin(UINT64_MAX, 0);
    failed += refused("2^64 tensors", end(64), "claims 18446744073709551615 tensors and 0 keys");
    begin(0, UINT64_MAX);
    failed += refused("2^64 keys", end(64), "claims 0 tensors and 18446744073709551615 keys");
    begin(2, 0);
    put_tensor("w", 0, NULL, 0, 0);
    failed += refused("a tensor too few", spill("g", file, size), "claims 2 tensors");
    begin(0, 1);
    put(UINT64_MAX, 8);
    failed += refused("a key of 2^64 bytes", end(64), "18446744073709551615 bytes of a key should follow byte 32");
    begin(0, 1);
    put_key("k", 8);
    put(1 << 20, 8);
    failed += refused("a text past the end", end(64), "1048576 bytes of a value should follow");
    begin(0, 1);
    put_key("k", 13);
    failed += refused("an unknown type", end(64), "is of type 13, expected 0 to 12");
    begin(0, 1);
    put_key("k", 9);
    put(UINT32_MAX, 4);
    failed += refused("an array of an unknown type", end(64), "is of type 4294967295, expected 0 to 12");
    begin(0, 1);
    put_key("k", 9);
    put(10, 4);
    put((uint64_t)1 << 61, 8);
    failed += refused("an array that overflows", end(64), "bytes of an array should follow");
    begin(0, 1);
    put_key("k", 9);
    put(8, 4);
    put(UINT64_MAX, 8);
    failed += refused("2^64 texts", end(64), "the file ends after");
    begin(0, 1);
    put_key("k", 9);
    for (int i = 0; i < 40; i++) {
        put(9, 4);
        put(1, 8);
    }
    failed += refused("arrays in arrays", end(64), "arrays nested deeper than 8");
    static const struct { const char *name; uint32_t type, value; const char *words; } alignments[] = {
        {"alignment 0", 4, 0, "general.alignment is 0, expected a power"},
        {"alignment 4", 4, 4, "general.alignment is 4, expected a power"},
        {"alignment 48", 4, 48, "general.alignment is 48, expected a power"},
        {"alignment of i32", 5, 32, "general.alignment is of type 5, expected 4 (u32)"},
    };
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        begin(0, 1);
        put_key("general.alignment", alignments[i].type);
        put(alignments[i].value, 4);
        failed += refused(alignments[i].name, end(64), alignments[i].words);
    }
    return failed;
}

static int test_tensors(void)
{
    int failed = 0;
    const uint64_t row[] = {32, 2}, many[] = {(uint64_t)1 << 32, (uint64_t)1 << 31}, huge[] = {UINT64_MAX};
    failed += one("9 dimensions", 9, (uint64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 0, 64, "has 9 dimensions, at most 8");
    failed += one("2^63 values", 2, many, 0, 0, 64, "tensor w: its shape overflows");
    failed += one("2^64 - 1 values", 1, huge, 0, 0, 64, "tensor w: its shape overflows");
    failed += one("2^60 f64", 1, (uint64_t[]){(uint64_t)1 << 60}, 28, 0, 64, "tensor w: its shape overflows");
    failed += one("2^59 f64", 1, (uint64_t[]){(uint64_t)1 << 59}, 28, 0, 64, "is 4611686018427387904 bytes at 0");
    failed += one("cut", 2, row, 0, 0, 255, "tensor w is 256 bytes at 0 of the data, the file holds 255: it was cut");
    failed += one("blocks cut", 2, row, 2, 0, 35, "tensor w is 36 bytes at 0 of the data, the file holds 35");
    failed += one("offset past the end", 2, row, 0, 1 << 20, 256, "tensor w is 256 bytes at 1048576");
    failed += one("offset of -32", 2, row, 0, (uint64_t)-32, 256, "tensor w is 256 bytes at 18446744073709551584");
    failed += one("offset aside", 2, row, 0, 8, 512, "its offset 8 is no multiple of 32");
    failed += one("rows of no blocks", 2, (uint64_t[]){16, 4}, 8, 0, 256, "16 values are no whole blocks of q8_0");
    failed += one("rows of half blocks", 2, (uint64_t[]){128, 4}, 12, 0, 512, "no whole blocks of q4_k, which are 256");
    failed += one("a scalar in blocks", 0, NULL, 2, 0, 64, "rows of 1 values are no whole blocks");
    failed += one("iq2_xxs", 1, (uint64_t[]){256}, 16, 0, 256, "tensor w is of type iq2_xxs, expected plain values");
    failed += one("q8_k", 1, (uint64_t[]){256}, 15, 0, 512, "tensor w is of type q8_k");
    failed += one("type 77", 1, row, 77, 0, 512, "tensor w is of type 77, which is unknown");
    failed += one("type 2^32 - 1", 1, row, UINT32_MAX, 0, 512, "is of type 4294967295, which is unknown");

    begin(1, 0);
    put_text("a\0b", 3);
    failed += refused("a name with a 0", end(64), "a name of 3 bytes");
    begin(1, 0);
    put_text((const char *)memset(file + 2048, 'a', 512), 512);
    failed += refused("a long name", end(64), "a name of 512 bytes");
    begin(2, 0);
    put_tensor("a", 2, row, 0, 0);
    put_tensor("b", 2, row, 0, 224);
    failed += refused("over one another", end(1024), "tensors a and b lie over one another");
    begin(2, 0);
    put_tensor("a", 2, row, 0, 0);
    put_tensor("a", 2, row, 0, 256);
    failed += refused("twice", end(1024), "tensor a comes twice");
    begin(1, 1);
    put_key("comfy.gguf.orig_shape.w", 9);
    put(5, 4);
    put(1, 8);
    put(65, 4);
    put_tensor("w", 2, row, 0, 0);
    failed += refused("another shape", end(256), "comfy.gguf.orig_shape.w is (65), and w has 64 values");
    begin(1, 1);
    put_key("comfy.gguf.orig_shape.w", 9);
    put(5, 4);
    put(2, 8);
    put(UINT32_MAX, 4);
    put(0, 4);
    put_tensor("w", 1, (uint64_t[]){0}, 0, 0);
    failed += refused("a shape below 0", end(256), "comfy.gguf.orig_shape.w is (*, 0), and w has 0 values");
    begin(1, 1);
    put_key("comfy.gguf.orig_shape.w", 4);
    put(64, 4);
    put_tensor("w", 2, row, 0, 0);
    failed += refused("a shape of no array", end(256), "comfy.gguf.orig_shape.w is no array of at most 8 i32");
    return failed;
}

/* What is odd and good: version 2, tensors without values, a gap, another alignment, all that is before the data. */
static int test_odd(void)
{
    Err e = {0};
    Weights *w;
    begin(3, 1);
    file[4] = 2;
    put_key("general.alignment", 4);
    put(64, 4);
    put_tensor("none", 2, (uint64_t[]){0, 5}, 0, 1 << 20);
    put_tensor("b", 1, (uint64_t[]){1}, 0, 64);
    put_tensor("scalar", 0, NULL, 0, 0);
    while (size % 64)
        put(0, 1);
    put(0x40200000, 4);
    while (size % 64)
        put(0, 1);
    put(0x40400000, 4);
    int failed = test_ok("odd", gguf_open(&w, spill("g", file, size), &e) == 0 && weights_count(w) == 3);
    if (failed)
        return test_ok(e.text, 0);
    failed += holds(w, "scalar", F32, 0, NULL, (float[]){2.5f});
    failed += holds(w, "b", F32, 1, (int64_t[]){1}, (float[]){3});
    failed += holds(w, "none", F32, 2, (int64_t[]){5, 0}, NULL);
    weights_close(w);
    return failed;
}

/* ---- damage ---- */

static uint32_t seed = 1;

static uint32_t dice(void)
{
    return seed = seed*1664525u + 1013904223u, seed >> 8;
}

/* Reads all values of a damaged file. Whether it opened. */
static bool read_damaged(const unsigned char *data, size_t n)
{
    static float y[4096];
    Err e = {0};
    Weights *w;
    if (gguf_open(&w, spill_memory(data, n), &e))
        return false;
    for (size_t i = 0; i < weights_count(w); i++)
        values_of(y, 4096, weights_at(w, i));
    weights_close(w);
    return true;
}

static int test_damage(const char *name, int rounds)
{
    static const uint64_t extreme[] = {0, 1, 9, UINT32_MAX, INT64_MAX, UINT64_MAX, (uint64_t)1 << 60, 1 << 20};
    Blob b = slurp(in_tests(name));
    unsigned char *data = malloc(b.size);
    long cut = 0, opened = 0;
    const size_t before = b.size < 6000 ? b.size : 6000;
    for (size_t n = 0; n < b.size - 32; n += n < 4000 ? 1 : 61)         /* 31 bytes after the last tensor may be none */
        cut += read_damaged(b.data, n);
    for (int r = 0; r < rounds; r++) {                      /* no crash, whatever counts, types and offsets become */
        memcpy(data, b.data, b.size);
        for (unsigned i = dice() % 3; i < 3; i++) {
            const size_t bytes = 1u << dice() % 4, at = dice() % (before - bytes);
            memcpy(data + at, &extreme[dice() % 8], bytes);
            data[dice() % before] ^= (unsigned char)(1u << dice() % 8);
        }
        opened += read_damaged(data, b.size);
    }
    test_note("%s: %ld of %d damaged files opened", name, opened, rounds);
    free(b.data);
    free(data);
    return test_ok("a cut at each byte is refused", cut == 0) + test_ok("damage does not crash", opened < rounds);
}

int main(void)
{
    const int failed = test_types() + test_heads() + test_tensors() + test_odd() + test_damage("types.gguf", 4000)
                     + test_damage("unet.gguf", 3000);
    scratch_clear();
    return failed != 0;
}
