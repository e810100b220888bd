/* SPDX-License-Identifier: MIT */
/* weights.c -- safetensors: a file made by hand, round trips, hostile headers, cuts at every byte, noise. */
#include "tests/unit/weights_test.h"

/* A file of the header text and n data bytes 0, 1, 2, ...; size < 0: the text's own. */
static const char *file_of(const char *header, size_t n, long long size)
{
    static unsigned char bytes[4096];
    const size_t length = strlen(header);
    const uint64_t claimed = size < 0 ? length : (uint64_t)size;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(claimed >> 8*i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < n; i++)
        bytes[8 + length + i] = (unsigned char)i;
    return spill("w", bytes, 8 + length + n);
}

static int test_by_hand(void)
{
    Err e = {0};
    Weights *w;
    int failed = 0;
    const char *path = file_of("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                               "\"__metadata__\":{\"k\":\"v\"},"
                               "\"a\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[3,7]},"
                               "\"c\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[7,8]},"
                               "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[8,8]}}", 8, -1);
    if (weights_open(&w, path, &e))
        return test_ok(e.text, 0);
    failed += test_ok("by hand/count", weights_count(w) == 3 && strcmp(weights_at(w, 1)->name, "a") == 0
                      && !weights_at(w, 3));
    failed += test_text("by hand/metadata", json_string_value(json_object_get(weights_metadata(w), "k")), "v");
    const Weight *a = weights_need(w, "a", 2, (int64_t[]){1, -1}, &e);
    failed += test_ok("by hand/need", a && a->type == BF16 && a->dim[1] == 2 && weight_count(a) == 2);
    failed += test_ok("by hand/aligned", a && (uintptr_t)a->data % 2 == 0);
    failed += test_same("by hand/data", a->data, (unsigned char[]){3, 4, 5, 6}, 4);
    float *y = weights_floats(w, "a", 2, (int64_t[]){1, 2}, &e);
    const uint32_t want[] = {0x04030000, 0x06050000};
    failed += test_ok("by hand/floats", y && (uintptr_t)y % 64 == 0);
    failed += test_same("by hand/values", y, want, 8);
    free(y);
    failed += test_ok("by hand/empty tensor", weights_find(w, "empty") && weight_count(weights_find(w, "empty")) == 0);

    static const struct { const char *name; int ndim; const char *words; } needs[] = {
        {"none", 1, "tensor none is missing, expected (5, *)"},
        {"b", 1, "tensor b is u8 (3), expected f32, f16 or bf16 (5, *)"},
        {"c", 1, "tensor c is of type BOOL, expected F32, F16 or BF16 (5, *)"},
        {"a", 2, "tensor a is bf16 (1, 2), expected f32, f16 or bf16 (5, *)"},
    };
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++) {
        e = (Err){0};
        failed += test_ok(needs[i].words, !weights_need(w, needs[i].name, 2, (int64_t[]){5, -1}, &e)
                          && strstr(e.text, needs[i].words));
    }
    weights_close(w);
    return failed;
}

static int refused(const char *name, const char *path, const char *words)
{
    return test_weights_refused(weights_open, name, path, words);
}

#define ONE(name, type, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static int test_refused(void)
{
    int failed = 0;
    failed += refused("no file", scratch("none"), "No such file");
    failed += refused("folder", "/tmp", "is not a regular file");
    failed += refused("empty", spill("w", "", 0), "is 0 bytes long, too short");
    failed += refused("short", spill("w", "1234567", 7), "is 7 bytes long, too short");
    failed += refused("header of 2^63", file_of("{}", 0, INT64_MAX), "at most 100 MiB");
    failed += refused("header past the end", file_of("{}", 0, 3), "the file ends after 2: it was cut");
    failed += refused("not JSON", file_of("{]", 0, -1), "header: line 1");
    failed += refused("not an object", file_of("[1]", 0, -1), "not a JSON object");
    failed += refused("twice", file_of("{" ONE("a", "U8", "[1]", "[0,1]") "," ONE("a", "U8", "[1]", "[0,1]") "}", 1,
                                       -1), "duplicate");
    failed += refused("entry a number", file_of("{\"a\":3}", 0, -1), "tensor a: needs dtype, shape");
    failed += refused("no offsets", file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, -1), "needs dtype, shape");
    failed += refused("past the end", file_of("{" ONE("a", "U8", "[9]", "[0,9]") "}", 8, -1),
                      "0 to 9, the file holds 0 to 8");
    failed += refused("negative", file_of("{" ONE("a", "U8", "[1]", "[-1,0]") "}", 8, -1), "data_offsets are -1 to 0");
    failed += refused("backwards", file_of("{" ONE("a", "U8", "[1]", "[4,3]") "}", 8, -1), "data_offsets are 4 to 3");
    failed += refused("wrong size", file_of("{" ONE("a", "F32", "[3]", "[0,8]") "}", 8, -1),
                      "shape takes 12 bytes, its data_offsets hold 8");
    failed += refused("overflow", file_of("{" ONE("a", "F32", "[4611686018427387904,4,4]", "[0,0]") "}", 0, -1),
                      "shape overflows");
    failed += refused("negative shape", file_of("{" ONE("a", "F32", "[-2]", "[0,8]") "}", 8, -1),
                      "dimension 0 is not a count");
    failed += refused("nine dimensions", file_of("{" ONE("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, -1),
                      "has 9 dimensions");
    failed += refused("overlap", file_of("{" ONE("a", "U8", "[4]", "[0,4]") "," ONE("b", "U8", "[4]", "[3,7]") "}", 7,
                                         -1),
                      "tensors a and b lie over one another");
    failed += refused("hole", file_of("{" ONE("a", "U8", "[2]", "[0,2]") "," ONE("b", "U8", "[4]", "[3,7]") "}", 7, -1),
                      "1 bytes before tensor b belong to no tensor");
    failed += refused("tail", file_of("{" ONE("a", "U8", "[2]", "[0,2]") "}", 7, -1),
                      "end at byte 2 of the data, the file goes on to 7");
    failed += refused("unknown type past the end", file_of("{" ONE("a", "Q4", "[2]", "[0,99]") "}", 7, -1),
                      "the file holds 0 to 7");
    return failed;
}

static int test_round_trip(void)
{
    int failed = 0;
    Err e = {0};
    const uint8_t u8[] = {1, 2, 3};
    const float f32[] = {1, 2, 3, 4, 5, 6};
    const uint16_t f16[] = {0x3c00, 0xc000};
    const Weight out[] = {{"bytes", U8, 1, {3}, u8, NULL}, {"matrix", F32, 2, {2, 3}, f32, NULL},
                          {"h\xc3\xa9", F16, 1, {2}, f16, NULL}};
    json_t *metadata = json_pack("{s:s}", "format", "pt");
    failed += test_ok("write", weights_write(scratch("r"), out, 3, metadata, &e) == 0);
    failed += test_ok("write/again", weights_write(scratch("r2"), out, 3, metadata, &e) == 0);
    json_decref(metadata);
    Blob a = slurp(scratch("r")), b = slurp(scratch("r2"));
    failed += test_ok("write/equal length", a.size == b.size);
    failed += test_same("write/equal bytes", a.data, b.data, a.size);
    failed += test_ok("write/data begins at a multiple of 64", (8 + a.data[0] + 256u * a.data[1]) % 64 == 0);

    Weights *w;
    if (weights_open(&w, scratch("r"), &e))
        return failed + test_ok(e.text, 0);
    failed += test_ok("read/count", weights_count(w) == 3);
    for (int i = 0; i < 3; i++) {
        const Weight *t = weights_find(w, out[i].name);
        failed += test_ok(out[i].name, t && t->type == out[i].type && t->ndim == out[i].ndim
                          && weight_count(t) == weight_count(&out[i]));
        if (t)
            failed += test_same(out[i].name, t->data, out[i].data, weight_count(t) * dtype_size(t->type));
    }
    weights_close(w);

    long passed = 0;
    for (size_t n = 0; n < a.size; n++) {
        e = (Err){0};
        passed += weights_open(&w, spill_memory(a.data, n), &e) == 0;
        weights_close(w);
    }
    failed += test_ok("a cut at each byte is refused", passed == 0);
    uint32_t seed = 1;
    for (int r = 0; r < 2000; r++) {                        /* no crash, whatever the header becomes */
        const size_t at = (seed = seed * 1664525u + 1013904223u, seed >> 8) % a.size;
        const unsigned char before = a.data[at];
        a.data[at] = (unsigned char)(seed >> 20);
        e = (Err){0};
        weights_open(&w, spill_memory(a.data, a.size), &e);
        weights_close(w);
        a.data[at] = before;
    }
    free(a.data);
    free(b.data);

    const Weight twice[] = {{"a", U8, 1, {3}, u8, NULL}, {"a", U8, 1, {3}, u8, NULL}};
    e = (Err){0};
    failed += test_ok("write/a name twice", weights_write(scratch("t"), twice, 2, NULL, &e) == -1
                      && access(scratch("t"), F_OK));
    e = (Err){0};
    failed += test_ok("write/full disk", weights_write("/dev/full", out, 3, NULL, &e) == -1
                      && strstr(e.text, "No space left"));
    return failed;
}

int main(void)
{
    const int failed = test_by_hand() + test_refused() + test_round_trip();
    scratch_clear();
    return failed != 0;
}
