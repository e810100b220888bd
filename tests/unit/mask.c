/* SPDX-License-Identifier: MIT */
/* mask.c -- masks: means over cells by hand, larger and smaller than the grid; grey of PNGs with colours and alpha. */
#include <math.h>
#include <png.h>
#include "src/models/mask.h"
#include "tests/unit/stream_test.h"

static int cells(const char *name, int width, int height, const uint8_t *pixels, int H, int W, const float *want)
{
    float m[64];
    Image mask = {width, height, 1, (uint8_t *)pixels};
    mask_tokens(m, &mask, H, W);
    return test_close(name, m, want, H * W, 1e-7f, 0);
}

static int test_by_hand(void)
{
    static const uint8_t four[] = {255, 0, 51, 102}, three[] = {255, 0, 0, 0, 0, 0, 0, 0, 51};
    int failed = cells("as large as the grid", 2, 2, four, 2, 2, (float[]){1, 0, 0.2f, 0.4f});
    failed += cells("to one", 2, 2, four, 1, 1, (float[]){0.4f});
    failed += cells("two rows to one", 2, 2, four, 1, 2, (float[]){0.6f, 0.2f});
    failed += cells("each pixel two tokens", 2, 2, four, 2, 4, (float[]){1, 1, 0, 0, 0.2f, 0.2f, 0.4f, 0.4f});
    /* cells of 1.5 x 1.5 pixels: 1 of the 2.25 is white; the last has 1 of 2.25 with 0.2 */
    failed += cells("borders inside pixels", 3, 3, three, 2, 2, (float[]){1/2.25f, 0, 0, 0.2f/2.25f});
    /* 2 to 3: the middle has half of each */
    failed += cells("two to three", 2, 1, four, 1, 3, (float[]){1, 0.5f, 0});
    return failed;
}

/* White is 1 and black 0, bit for bit, whatever the sizes; and the mean over all cells is that over all pixels. */
static int test_exact(void)
{
    enum { SIDE = 97 };
    static uint8_t white[SIDE * SIDE], black[SIDE * SIDE], any[SIDE * SIDE];
    static float m[SIDE * SIDE];
    int others = 0, means = 0;
    memset(white, 255, sizeof white);
    for (int width = 1; width <= SIDE; width += 7)
        for (int W = 1; W <= SIDE; W += 5) {
            const int height = SIDE + 1 - width, H = SIDE + 1 - W, n = width * height;
            double pixels = 0, tokens = 0;
            for (int i = 0; i < n; i++)
                pixels += any[i] = (uint8_t)(i * i / 3);
            mask_tokens(m, &(Image){width, height, 1, any}, H, W);
            for (int i = 0; i < H * W; i++)
                tokens += m[i];
            means += !(fabs(tokens / (H * W) - pixels / (255.0 * n)) < 1e-6);
            mask_tokens(m, &(Image){width, height, 1, white}, H, W);
            for (int i = 0; i < H * W; i++)
                others += m[i] != 1;
            mask_tokens(m, &(Image){width, height, 1, black}, H, W);
            for (int i = 0; i < H * W; i++)
                others += m[i] != 0;
        }
    return test_ok("white is 1, black is 0", others == 0) + test_ok("no part of the mask is lost", means == 0);
}

/* A PNG of one row in a format of libpng's, as grey. */
static int grey(const char *name, png_uint_32 format, const uint8_t *pixels, int width, const uint8_t *want)
{
    Err e = {0};
    Image image;
    png_image png = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = 1, .format = format};
    if (!png_image_write_to_file(&png, scratch("m.png"), 0, pixels, 0, NULL)
        || image_read_grey(&image, scratch("m.png"), &e))
        return test_ok(e.text, 0);
    int failed = test_ok(name, image.width == width && image.height == 1 && image.channels == 1);
    failed += test_same(name, image.pixels, want, (size_t)width);
    image_free(&image);
    return failed;
}

static int test_grey(void)
{
    int failed = grey("grey", PNG_FORMAT_GRAY, (uint8_t[]){0, 77, 255}, 3, (uint8_t[]){0, 77, 255});
    failed += grey("colours", PNG_FORMAT_RGB,
                   (uint8_t[]){255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9}, 6,
                   (uint8_t[]){255, 0, 76, 150, 29, 9});
    failed += grey("grey and alpha", PNG_FORMAT_GA, (uint8_t[]){255, 255, 255, 0, 255, 128, 100, 51, 0, 255}, 5,
                   (uint8_t[]){255, 0, 128, 20, 0});
    failed += grey("colours and alpha", PNG_FORMAT_RGBA,
                   (uint8_t[]){255, 255, 255, 255, 255, 255, 255, 0, 255, 0, 0, 51}, 3, (uint8_t[]){255, 0, 15});
    Err e = {0};
    Image image;
    failed += test_ok("not a PNG", image_read_grey(&image, spill("t.png", "hello, world", 12), &e) == -1
                      && strstr(e.text, "t.png: Not a PNG file") && !image.pixels);
    return failed;
}

int main(void)
{
    const int failed = test_by_hand() + test_exact() + test_grey();
    scratch_clear();
    return failed != 0;
}
