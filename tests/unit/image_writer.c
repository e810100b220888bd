/* SPDX-License-Identifier: MIT */
/* image_writer.c -- pictures written side by side: the files of image_write, whatever the number of threads; failures,
 * and what is dropped. */
#include "formats/image.h"
#include "formats/image_writer.h"
#include "tests/unit/stream_test.h"

enum { SIDE = 300, PICTURES = 20, CHANNELS = 3, BYTES = SIDE*SIDE*CHANNELS };

static uint8_t *pixels_of(int number)
{
    uint8_t *pixels = malloc(BYTES);
    for (int i = 0; i < BYTES && pixels; i++)
        pixels[i] = (uint8_t)((i/7*number + i%31*5) >> number%4);
    return pixels;
}

static const char *file_of(const char *kind, int number)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%d.png", kind, number);
    return scratch(name);
}

/* Adds picture `number`; its bytes and its text are gone when the writer comes to it. */
static int add(ImageWriter *w, const char *path, int number, int side, Err *e)
{
    uint8_t *pixels = pixels_of(number);
    json_t *text = json_pack("{s:i, s:{s:i}}", "id", number, "steering", "top", number);
    const int failed = image_writer_add(w, path, side, side, CHANNELS, pixels, text, e);
    memset(pixels, 0, BYTES);
    json_object_set_new(json_object_get(text, "steering"), "top", json_string("other"));
    json_decref(text);
    free(pixels);
    return failed;
}

static int test_same_files(int threads)
{
    char name[64];
    Err e = {0};
    ImageWriter *w = NULL;
    int failed = 0, same = 0;
    snprintf(name, sizeof name, "%d threads", threads);
    failed += test_ok("created", image_writer_create(&w, threads, &e) == 0);
    for (int i = 0; i < PICTURES && !e.set; i++)
        add(w, file_of("side", i), i, i%5 == 4 ? 16 : SIDE, &e);
    failed += test_ok("drained", !e.set && image_writer_drain(w, &e) == 0);
    image_writer_free(w);
    for (int i = 0; i < PICTURES; i++) {
        uint8_t *pixels = pixels_of(i);
        const int side = i%5 == 4 ? 16 : SIDE;
        json_t *text = json_pack("{s:i, s:{s:i}}", "id", i, "steering", "top", i);
        image_write(file_of("alone", i), side, side, CHANNELS, pixels, text, &e);
        Blob a = slurp(file_of("side", i)), b = slurp(file_of("alone", i));
        same += a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
        free(a.data);
        free(b.data);
        unlink(file_of("side", i));
        json_decref(text);
        free(pixels);
    }
    return failed + test_ok(name, same == PICTURES);
}

/* Pictures 3 and 5 cannot be written: the first is told of, then and again. */
static int test_failure(int threads)
{
    Err e = {0}, again = {0};
    ImageWriter *w = NULL;
    int failed = test_ok("created", image_writer_create(&w, threads, &e) == 0), i;
    for (i = 0; i < PICTURES && !e.set; i++)
        add(w, i == 3 || i == 5 ? file_of("none/x", i) : file_of("side", i), i, SIDE, &e);
    failed += test_ok("a failure ends it", e.set && i < PICTURES && strstr(e.text, "none/x-3.png"));
    failed += threads == 1 ? 0 : test_ok("and is said again", image_writer_drain(w, &again) == -1
                                                              && strcmp(again.text, e.text) == 0);
    failed += test_ok("pictures before it are there", access(file_of("side", 2), F_OK) == 0);
    image_writer_free(w);
    for (i = 0; i < PICTURES; i++)
        unlink(file_of("side", i));
    return failed;
}

static int test_sizes(void)
{
    Err e = {0};
    ImageWriter *w = NULL;
    int failed = test_ok("created", image_writer_create(&w, 4, &e) == 0 && add(w, file_of("side", 0), 0, SIDE, &e) == 0);
    failed += test_ok("no width", add(w, file_of("side", 1), 1, 0, &e) == -1 && strstr(e.text, "0 x 0 x 3"));
    image_writer_free(w);               /* with one under way, or dropped */
    return failed;
}

int main(void)
{
    int failed = 0;
    for (int threads = 1; threads <= 4; threads += threads)
        failed += test_same_files(threads) + test_failure(threads);
    failed += test_same_files(0) + test_sizes();
    image_writer_free(NULL);
    scratch_clear();
    return failed != 0;
}
