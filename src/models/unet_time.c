/* SPDX-License-Identifier: MIT */
/* unet_time.c -- what the time embedding is made of: sinusoids of t, what the guidance adds to them in models that were
 * distilled with it, and for Stable Diffusion XL what each text and the picture's size add to the embedding.
 *
 *     waves(n) = [cos(n f), sin(n f)],  f_i = 10000^(-i/(D/2 - freq_shift))
 *     waves(t) += W_g [sin(w g), cos(w g)],  w = 1000 (guidance - 1), g_i = 10000^(-i/(D_g/2 - 1))
 *     added = W2 silu(W1 [pooled, waves(height), waves(width), waves(0), waves(0), waves(height), waves(width)])
 *
 *   pooled (images,P)      added (images,time_width)      the sizes: original, crop from the top and left, target
 *
 * Neither added one depends on t: the guidance's is computed once, a text's once. diffusers models/embeddings.py
 * (TimestepEmbedding), pipelines/stable_diffusion (get_guidance_scale_embedding),
 * pipelines/stable_diffusion_xl (_get_add_time_ids). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sinusoids.h"
#include "src/models/unet_parts.h"

int unet_set_time(UNet *u, float t, Err *e)
{
    const UNetConfig *c = &u->config;
    float host[UNET_WAVES];
    if (c->C[0] > UNET_WAVES)
        return err_set(e, "\"block_out_channels\" begins with %d, at most %d is implemented", c->C[0], UNET_WAVES);
    if (!u->waves && !(u->waves = op->alloc((size_t)c->C[0]*sizeof *host, e)))
        return -1;
    sinusoids(host, t, c->C[0], c->flip_sin_to_cos, c->freq_shift);
    for (int i = 0; i < c->C[0] && u->guidance; i++)
        host[i] += u->guidance[i];
    op->upload(u->waves, host, (size_t)c->C[0]*sizeof *host);
    return 0;
}

/* As torch computes it in f32, in another order than those of t. */
static void guidance_waves(float *y, double guidance, int D)
{
    const int half = D/2;
    const float w = (float)(guidance - 1)*1000, rate = logf(10000)/(float)(half - 1);
    for (int i = 0; i < half; i++) {
        const float angle = w*expf((float)i*-rate);
        y[i] = sinf(angle);
        y[half + i] = cosf(angle);
    }
    if (D%2)
        y[D - 1] = 0;
}

int unet_set_guidance(UNet *u, double guidance, Err *e)
{
    const int D = u->config.guidance_width, C = u->config.C[0];
    float host[UNET_WAVES];
    if (!D)
        return err_set(e, "a guidance for a model that is told none");
    if (!u->guidance && !(u->guidance = malloc((size_t)C*sizeof *u->guidance)))
        return err_set(e, "out of memory");
    guidance_waves(host, guidance, D);
    const WorkspaceMark mark = workspace_mark(&u->work);
    float *x = workspace_take(&u->work, (size_t)D*sizeof *x, e);
    float *y = x ? workspace_take(&u->work, (size_t)C*sizeof *y, e) : NULL;
    if (y) {
        op->upload(x, host, (size_t)D*sizeof *x);
        op->conv_run(u->guidance_proj, y, x, 1, 1, 1, false);
        op->download(u->guidance, y, (size_t)C*sizeof *y);
    }
    workspace_release(&u->work, mark);
    return y ? workspace_settle(&u->work, e) : -1;
}

/* What W1 reads of each text, on the host: (images, P + UNET_SIZES*D). The caller frees; NULL: out of memory. */
static float *lay_out(const UNetConfig *c, const float *pooled, int64_t images, int height, int width)
{
    const int D = c->size_width, size[UNET_SIZES] = {height, width, 0, 0, height, width};
    const size_t in = (size_t)(c->P + UNET_SIZES*D);
    float *y = malloc((size_t)images*in*sizeof *y);
    for (int64_t b = 0; y && b < images; b++) {
        float *row = y + (size_t)b*in;
        memcpy(row, pooled + (size_t)b*(size_t)c->P, (size_t)c->P*sizeof *row);
        for (int i = 0; i < UNET_SIZES; i++)
            sinusoids(row + c->P + i*D, (float)size[i], D, c->flip_sin_to_cos, c->freq_shift);
    }
    return y;
}

/* Room for the added embeddings of `images` texts, and the numbers of its rows. */
static int need_rows(UNet *u, int64_t images, Err *e)
{
    void *added = u->added, *rows = u->added_rows;
    const size_t bytes = (size_t)images*sizeof *u->added_rows;
    int32_t *host = malloc(bytes);
    const int failed = !host ? err_set(e, "out of memory")
        : device_grow(&added, &u->added_bytes, (size_t)(images*u->config.time_width)*sizeof(float), e)
        || device_grow(&rows, &u->added_rows_bytes, bytes, e) ? -1 : 0;
    u->added = added;
    u->added_rows = rows;
    for (int64_t i = 0; i < images && !failed; i++)
        host[i] = (int32_t)i;
    if (!failed)
        op->upload(u->added_rows, host, bytes);
    free(host);
    return failed;
}

int unet_set_added(UNet *u, const float *pooled, int height, int width, Err *e)
{
    const UNetConfig *c = &u->config;
    const int64_t images = u->B ? u->text_rows/u->S : 0, values = images*(c->P + UNET_SIZES*c->size_width);
    if (!c->P || !images)
        return err_set(e, "a pooled embedding for %s", c->P ? "no text" : "a model that takes none");
    u->has_added = false;
    float *host = lay_out(c, pooled, images, height, width);
    int failed = host ? need_rows(u, images, e) : err_set(e, "out of memory");
    const WorkspaceMark mark = workspace_mark(&u->work);
    float *x = failed ? NULL : workspace_take(&u->work, (size_t)values*sizeof *x, e);
    float *h = x ? workspace_take(&u->work, (size_t)(images*c->time_width)*sizeof *h, e) : NULL;
    if (h) {
        op->upload(x, host, (size_t)values*sizeof *x);
        op->conv_run(u->added1, h, x, 1, images, 1, false);
        op->conv_run(u->added2, u->added, h, 1, images, 1, false);
        u->has_added = true;
    }
    workspace_release(&u->work, mark);
    free(host);
    return h ? 0 : -1;
}
