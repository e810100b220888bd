/* SPDX-License-Identifier: MIT */
/* image_encoder_prepare.c -- a picture as CLIPImageProcessor hands it to the image tower, or torchvision's transforms
 * to a vision transformer.
 *
 *   FIT_CROP      short side to `size` (bicubic, antialiased), centre crop, y = (x/255 - mean) / std
 *   FIT_STRETCH   both sides to `size` (bilinear, antialiased), y likewise
 *
 * transformers image_transforms.py; torchvision transforms/_functional_pil.py. */
#include "src/models/image_encoder.h"
#include "src/models/resample.h"

static void normalise(float *y, const Resampled *r, const ImageForm *f)
{
    for (int i = 0; i < f->size; i++)
        for (int j = 0; j < f->size; j++)
            for (int c = 0; c < 3; c++) {
                const float x = (float)(r->pixels[i * r->row + j * r->column + c] / 255.0);
                *y++ = (x - f->mean[c]) / f->std[c];
            }
}

int image_prepare(float *pixels, const uint8_t *image, int H, int W, const ImageForm *f, Err *e)
{
    Resampled r;
    const int failed = f->fit == FIT_STRETCH ? resample_stretch(&r, image, H, W, f->size, f->size, e)
                                             : resample_cover(&r, image, H, W, f->size, f->size, e);
    if (!failed)
        normalise(pixels, &r, f);
    resampled_free(&r);
    return failed;
}
