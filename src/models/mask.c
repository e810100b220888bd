/* SPDX-License-Identifier: MIT */
/* mask.c -- means of a mask over cells of a grid, in integers: along a side of `size` pixels and `cells` cells, with
 * lengths in units of 1/(size*cells), pixel p is [p*cells, (p+1)*cells) and cell c is [c*size, (c+1)*size). */
#include "src/models/mask.h"

/* Units that pixel p and cell c have in common. */
static int64_t overlap(int64_t p, int64_t c, int64_t size, int64_t cells)
{
    const int64_t from = p * cells > c * size ? p * cells : c * size;
    const int64_t to = (p + 1) * cells < (c + 1) * size ? (p + 1) * cells : (c + 1) * size;
    return to - from;
}

static int64_t first_pixel(int64_t c, int64_t size, int64_t cells)
{
    return c * size / cells;
}

/* One after the last. */
static int64_t end_pixel(int64_t c, int64_t size, int64_t cells)
{
    return ((c + 1) * size + cells - 1) / cells;
}

static float cell_mean(const Image *mask, int64_t h, int64_t w, int64_t H, int64_t W)
{
    const int64_t left = first_pixel(w, mask->width, W), right = end_pixel(w, mask->width, W);
    const int64_t bottom = end_pixel(h, mask->height, H);
    int64_t sum = 0;
    for (int64_t y = first_pixel(h, mask->height, H); y < bottom; y++) {
        const uint8_t *row = mask->pixels + y * mask->width;
        int64_t of_row = 0;
        for (int64_t x = left; x < right; x++)
            of_row += row[x] * overlap(x, w, mask->width, W);
        sum += of_row * overlap(y, h, mask->height, H);
    }
    return (float)((double)sum / (255.0 * mask->height * mask->width));
}

void mask_tokens(float *m, const Image *mask, int64_t H, int64_t W)
{
    for (int64_t h = 0; h < H; h++)
        for (int64_t w = 0; w < W; w++)
            m[h*W + w] = cell_mean(mask, h, w, H, W);
}
