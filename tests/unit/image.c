/* SPDX-License-Identifier: MIT */
/* image.c -- PNG files: round trips, text chunks, equal bytes, cuts, noise. */
#include "formats/image.h"
#include "tests/unit/stream_test.h"

/* Names that are no keywords of PNG's come back, beside a field of the keyword that stands for them. */
static int test_names(void)
{
    Err e = {0};
    Image image;
    const uint8_t pixels[3*4*4] = {0};
    char longer[101];
    memset(longer, 'n', 100);
    longer[100] = 0;
    json_t *text = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "gr\xc3\xb6\xc3\x9f" "e", "1", "\xe7\xb1\xbb",
                             "\xe7\x8c\xab", longer, "2", " apart ", "3", "Field", "4", "two\nlines", "5");
    json_t *got = NULL;
    int failed = test_ok("names/written", image_write(scratch("n.png"), 4, 4, 3, pixels, text, &e) == 0
                                          && image_read(&image, scratch("n.png"), &got, &e) == 0);
    failed += test_ok("names/read", json_equal(got, text));
    if (got)
        image_free(&image);
    json_decref(got);
    json_decref(text);
    return failed;
}

/* A chunk behind the IHDR chunk of a file. Returns the file's new size. */
static size_t insert_chunk(unsigned char *to, const Blob *file, const char *type, const char *data, size_t n)
{
    enum { IHDR_END = 33 };
    unsigned char *p = to + IHDR_END;
    memcpy(to, file->data, IHDR_END);
    const unsigned char length[] = {0, 0, (unsigned char)(n >> 8), (unsigned char)n};
    memcpy(p, length, 4);
    memcpy(p + 4, type, 4);
    memcpy(p + 8, data, n);
    uint32_t crc = ~0u;
    for (size_t bit = 0; bit < 8*(n + 4); bit++) {
        crc ^= p[4 + bit/8] >> bit%8 & 1;
        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    crc = ~crc;
    for (int i = 0; i < 4; i++)
        p[8 + n + (size_t)i] = (unsigned char)(crc >> (24 - 8*i));
    memcpy(p + 12 + n, file->data + IHDR_END, file->size - IHDR_END);
    return file->size + n + 12;
}

/* Chunks of other programs: tEXt is Latin-1, and a translated keyword of iTXt is no name. */
static int test_foreign(void)
{
    static const struct { const char *type; const char *data; size_t n; const char *key, *want; } cases[] = {
        {"tEXt", "note\0\xa7 2", 8, "note", "\xc2\xa7 2"},
        {"tEXt", "note\0\xff" "e", 7, "note", "\xc3\xbf" "e"},
        {"iTXt", "Title\0\0\0de\0Titel\0\xc3\xa4", 19, "Title", "\xc3\xa4"},
    };
    Err e = {0};
    const uint8_t pixels[3*4*4] = {0};
    int failed = test_ok("foreign/written", image_write(scratch("f.png"), 4, 4, 3, pixels, NULL, &e) == 0);
    Blob file = slurp(scratch("f.png"));
    unsigned char *bytes = malloc(file.size + 100);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = insert_chunk(bytes, &file, cases[i].type, cases[i].data, cases[i].n);
        Image image;
        json_t *got = NULL;
        if (image_read(&image, spill_memory(bytes, n), &got, &e))
            return failed + test_ok(e.text, 0);
        failed += test_ok("foreign/one text", json_object_size(got) == 1);
        failed += test_text(cases[i].type, json_string_value(json_object_get(got, cases[i].key)), cases[i].want);
        image_free(&image);
        json_decref(got);
    }
    free(bytes);
    free(file.data);
    return failed;
}

static int test_round_trip(int width, int height, int channels)
{
    int failed = 0;
    char name[100];
    Err e = {0};
    const size_t n = (size_t)width * (size_t)height * (size_t)channels;
    uint8_t *pixels = malloc(n);
    for (size_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)(i * i * 31 / 7 % 251);
    json_t *text = json_pack("{s:s, s:i, s:{s:s}, s:s}", "prompt", "caf\xc3\xa9 \xe2\x98\x83\nline", "seed", 188,
                             "steering", "mode", "ablate",
                             "empty", "");
    snprintf(name, sizeof name, "%d x %d x %d", width, height, channels);
    failed += test_ok(name, image_write(scratch("a.png"), width, height, channels, pixels, text, &e) == 0);
    failed += test_ok("write again", image_write(scratch("b.png"), width, height, channels, pixels, text, &e) == 0);
    Blob a = slurp(scratch("a.png")), b = slurp(scratch("b.png"));
    failed += test_ok("equal length", a.size == b.size);
    failed += test_same("equal bytes", a.data, b.data, a.size);
    free(a.data);
    free(b.data);

    Image image;
    json_t *got = NULL;
    if (image_read(&image, scratch("a.png"), &got, &e))
        return failed + test_ok(e.text, 0);
    failed += test_ok("size", image.width == width && image.height == height && image.channels == channels);
    failed += test_same("pixels", image.pixels, pixels, n);
    failed += test_text("text/utf-8", json_string_value(json_object_get(got, "prompt")),
                        "caf\xc3\xa9 \xe2\x98\x83\nline");
    failed += test_text("text/number", json_string_value(json_object_get(got, "seed")), "188");
    failed += test_text("text/object", json_string_value(json_object_get(got, "steering")), "{\"mode\":\"ablate\"}");
    failed += test_text("text/empty", json_string_value(json_object_get(got, "empty")), "");
    image_free(&image);
    json_decref(got);
    json_decref(text);
    free(pixels);
    return failed;
}

/* A picture in memory is the file's bytes; alpha is written and dropped in reading; sizes are means and repeats. */
static int test_memory(void)
{
    int failed = 0;
    Err e = {0};
    const uint8_t rgb[12] = {0, 10, 20, 2, 30, 20, 4, 50, 20, 7, 90, 20}, rgba[8] = {1, 2, 3, 0, 4, 5, 6, 128};
    uint8_t *bytes, small[3], large[48];
    size_t n;
    Image image;
    failed += test_ok("file", image_write(scratch("m.png"), 2, 2, 3, rgb, NULL, &e) == 0);
    failed += test_ok("memory", image_encode(&bytes, &n, 2, 2, 3, rgb, &e) == 0);
    Blob file = slurp(scratch("m.png"));
    failed += test_ok("as many bytes", n == file.size);
    failed += test_same("the same bytes", bytes, file.data, n);
    free(bytes);
    free(file.data);
    failed += test_ok("alpha", image_encode(&bytes, &n, 2, 1, 4, rgba, &e) == 0
                      && image_read(&image, spill("alpha.png", bytes, n), NULL, &e) == 0);
    failed += test_ok("colour type", bytes[25] == 6);
    failed += test_same("its colours", image.pixels, (uint8_t[]){1, 2, 3, 4, 5, 6}, 6);
    image_free(&image);
    free(bytes);
    image_resize(small, 1, 1, rgb, 2, 2);               /* (0 + 2 + 4 + 7 + 2)/4, (10 + 30 + 50 + 90)/4 */
    failed += test_same("smaller", small, (uint8_t[]){3, 45, 20}, 3);
    /* sides that do not divide: of three, the first two and the last two; (0 + 2 + 4 + 8)/4 is rounded up */
    static const uint8_t nine[9] = {0, 2, 30, 4, 8, 70, 100, 120, 140}, four[4] = {4, 28, 58, 85};
    uint8_t from[27], to[12];
    for (int i = 0; i < 27; i++)
        from[i] = nine[i/3];
    image_resize(to, 2, 2, from, 3, 3);
    for (int i = 0; i < 12; i++)
        failed += test_ok("three to two", to[i] == four[i/3]);
    image_resize(large, 4, 4, rgb, 2, 2);
    failed += test_ok("larger", large[0] == 0 && large[3*3] == 2 && large[3*15] == 7 && large[3*9 + 1] == 50);
    return failed;
}

static int test_refused(void)
{
    int failed = 0;
    Err e = {0};
    Image image;
    const uint8_t pixels[48] = {9, 8, 7};
    failed += test_ok("no file", image_read(&image, scratch("none.png"), NULL, &e) == -1
                      && strstr(e.text, "No such file"));
    e = (Err){0};
    failed += test_ok("not a PNG", image_read(&image, spill("t.png", "hello, world", 12), NULL, &e) == -1
                      && strstr(e.text, "Not a PNG file"));
    e = (Err){0};
    failed += test_ok("two channels", image_write(scratch("x.png"), 2, 2, 2, pixels, NULL, &e) == -1
                      && access(scratch("x.png"), F_OK));
    e = (Err){0};
    failed += test_ok("too wide", image_write(scratch("x.png"), 16385, 1, 1, pixels, NULL, &e) == -1
                      && strstr(e.text, "16384"));
    e = (Err){0};
    failed += test_ok("full disk", image_write("/dev/full", 4, 4, 3, pixels, NULL, &e) == -1
                      && strstr(e.text, "No space left"));
    e = (Err){0};
    json_t *bad = json_pack("{s:i}", "", 1);
    failed += test_ok("field name", image_write(scratch("x.png"), 4, 4, 3, pixels, bad, &e) == -1
                      && strstr(e.text, "without a name")
                      && access(scratch("x.png"), F_OK));
    json_decref(bad);

    e = (Err){0};
    json_t *text = json_pack("{s:s}", "id", "a");
    failed += test_ok("small", image_write(scratch("s.png"), 4, 4, 3, pixels, text, &e) == 0);
    json_decref(text);
    Blob whole = slurp(scratch("s.png"));
    long passed = 0, flips = 0;
    for (size_t n = 0; n < whole.size; n++) {
        e = (Err){0};
        passed += image_read(&image, spill_memory(whole.data, n), NULL, &e) == 0 || !e.set || image.pixels;
    }
    failed += test_ok("a cut at each byte is refused", passed == 0);
    for (size_t bit = 0; bit < whole.size * 8; bit++) {
        json_t *got = NULL;
        whole.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        e = (Err){0};
        if (image_read(&image, spill_memory(whole.data, whole.size), &got, &e) == 0) {
            /* A flip in a text chunk is skipped by libpng, pixels are not */
            flips += memcmp(image.pixels, pixels, 48) != 0;
            image_free(&image);
        }
        json_decref(got);
        whole.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    failed += test_ok("a flipped bit never gives other pixels", flips == 0);
    free(whole.data);

    static const unsigned char huge[] = "\x89PNG\r\n\x1a\n\0\0\0\r"
                                         "IHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\0\0\0\x9b\xab\x9c\x31"
                                         "\0\0\0\0IDAT\x35\xaf\x06\x1e";
    e = (Err){0};
    failed += test_ok("2^31 x 2^31", image_read(&image, spill("h.png", huge, sizeof huge - 1), NULL, &e) == -1
                      && strstr(e.text, "2147483647 x 2147483647, expected sides of 16384"));
    return failed;
}

int main(void)
{
    int failed = test_round_trip(64, 48, 3) + test_round_trip(1, 1, 1) + test_round_trip(33, 7, 1) + test_memory()
               + test_names() + test_foreign() + test_refused();
    scratch_clear();
    return failed != 0;
}
