/* SPDX-License-Identifier: MIT */
/* image_jpeg.c -- JPEG files beside Pillow's reading of them, tests/golden-more/jpeg.safetensors: the same bytes, every
 * way up; cuts, damage, sizes and colours that are refused. */
#include "formats/image.h"
#include "formats/weights.h"
#include "tests/unit/stream_test.h"

static int check_pixels(const Weights *w, int n)
{
    char name[48];
    Err e = {0};
    Image image;
    snprintf(name, sizeof name, "%d.file", n);
    const Weight *file = weights_find(w, name);
    snprintf(name, sizeof name, "%d.pixels", n);
    const Weight *want = weights_find(w, name);
    json_t *text = NULL;
    const int failed = image_read(&image, spill("j.jpg", file->data, weight_count(file)), &text, &e);
    snprintf(name, sizeof name, "%d: %s", n, failed ? e.text : "a picture of its size");
    if (test_ok(name, !failed && image.height == want->dim[0] && image.width == want->dim[1]
                      && image.channels == want->dim[2] && json_object_size(text) == 0))
        return 1;
    json_decref(text);
    const int other = test_same("  its pixels", image.pixels, want->data, weight_count(want));
    image_free(&image);
    return other;
}

static int check_damage(const Weight *file)
{
    const size_t size = weight_count(file);
    uint8_t *bytes = malloc(size);
    Image image;
    long passed = 0, silent = 0;
    memcpy(bytes, file->data, size);
    for (size_t n = 0; n < size; n++) {
        Err e = {0};
        passed += image_read(&image, spill_memory(bytes, n), NULL, &e) == 0 || !e.set || image.pixels;
    }
    int failed = test_ok("a cut at each byte is refused", passed == 0);
    for (size_t i = 0; i < size; i++) {
        Err e = {0};
        bytes[i] ^= 0x55;
        if (image_read(&image, spill_memory(bytes, size), NULL, &e) == 0)
            image_free(&image);
        else
            silent += !e.set || image.pixels;
        bytes[i] ^= 0x55;
    }
    failed += test_ok("a wrong byte gives a picture or a message", silent == 0);
    free(bytes);
    return failed;
}

static int refused(const char *name, const void *bytes, size_t size, const char *says)
{
    Err e = {0};
    Image image;
    const int failed = image_read(&image, spill("r.jpg", bytes, size), NULL, &e);
    return test_ok(name, failed && strstr(e.text, says) && strstr(e.text, "r.jpg"));
}

int main(void)
{
    Weights *w = NULL;
    Err e = {0};
    char name[16];
    int failed = 0, n = 0;
    if (weights_open(&w, test_path("golden-more/jpeg.safetensors"), &e))
        return test_ok(e.text, 0);
    while (snprintf(name, sizeof name, "%d.file", n), weights_find(w, name))
        failed += check_pixels(w, n++);
    const Weight *cmyk = weights_find(w, "cmyk.file"), *one = weights_find(w, "4.file");
    failed += test_ok("there are files", n > 10) + check_damage(one)
            + refused("four inks", cmyk->data, weight_count(cmyk), "4 channels are not read")
            + refused("of no bytes", "", 0, "an empty file")
            + refused("text", "hello, world", 12, "Not a PNG file, nor a JPEG");
    static const unsigned char wide[] = "\xff\xd8\xff\xc0\0\x0b\x08\x7f\xff\x7f\xff\x01\x01\x11\0"
                                        "\xff\xda\0\x08\x01\x01\0\0\x3f\0";
    failed += refused("32767 x 32767", wide, sizeof wide - 1, "a picture of 32767 x 32767, expected sides of 16384");
    weights_close(w);
    scratch_clear();
    return failed != 0;
}
