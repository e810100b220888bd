/* SPDX-License-Identifier: MIT */
/* convnet.c -- the judge's network: convolutions with relu, pooled on a grid and over the whole picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "kernels/op.h"
#include "src/models/convnet.h"

enum { LAYERS_MAX = 32, WIDEST = 1 << 16, CHUNK = 16 };

struct ConvNet {
    int size, grid, layers;
    Conv *conv[LAYERS_MAX];
    ConvSpec spec[LAYERS_MAX];
    int side[LAYERS_MAX + 1];       /* of each layer's input, and of the last output */
    float *turn[2];                 /* device: CHUNK images of the widest layer */
    float *host;                    /* CHUNK inputs, or last outputs */
    size_t values;                  /* of one image in turn[] */
};

static int read_layer(ConvNet *n, const Weights *w, const char *text, Err *e)
{
    const int i = n->layers;
    char name[2][32];
    ConvSpec *s = &n->spec[i];
    if (i == LAYERS_MAX)
        return err_set(e, "%s: more than %d layers", weights_path(w), LAYERS_MAX);
    snprintf(name[0], sizeof name[0], "conv.%d.weight", i);
    snprintf(name[1], sizeof name[1], "conv.%d.bias", i);
    const int in = i ? n->spec[i - 1].out : 3;
    const Weight *weight = weights_need_finite(w, name[0], 4, (int64_t[]){-1, in, -1, -1}, e);
    const Weight *bias = weight ? weights_need_finite(w, name[1], 1, (int64_t[]){weight->dim[0]}, e) : NULL;
    if (!bias)
        return -1;
    if (weight->dim[0] < 1 || weight->dim[0] > WIDEST)
        return err_set(e, "%s: tensor %s has %lld rows, expected 1 to %d", weights_path(w), name[0],
                       (long long)weight->dim[0], WIDEST);
    *s = (ConvSpec){.in = in, .out = (int)weight->dim[0], .kernel = (int)weight->dim[2], .x_type = F32, .y_type = F32,
                    .act = ACT_RELU};
    int used = 0;
    if (sscanf(text, "%9d,%9d%n", &s->stride, &s->pad_before, &used) != 2 || (text[used] && text[used] != ' ')
        || s->stride < 1 || s->pad_before < 0 || s->pad_before >= s->kernel || weight->dim[2] != weight->dim[3])
        return err_set(e, "%s: layer %d: '%s' is not \"stride,pad\" of a square kernel", weights_path(w), i, text);
    s->pad_after = s->pad_before;
    n->side[i + 1] = (n->side[i] + 2*s->pad_before - s->kernel) / s->stride + 1;
    if (n->side[i] + 2*s->pad_before < s->kernel)
        return err_set(e, "%s: layer %d: its input of side %d is smaller than its kernel", weights_path(w), i,
                       n->side[i]);
    n->layers++;
    return op->conv_create(&n->conv[i], s, &weight, &bias, 1, e);
}

static int meta_int(const Weights *w, const char *key, int low, int high, int *value, Err *e)
{
    const char *text = json_string_value(json_object_get(weights_metadata(w), key));
    int64_t found;
    const bool there = text && !number_whole(text, &found) && found >= low && found <= high;
    *value = there ? (int)found : 0;
    return there ? 0
        : err_set(e, "%s: metadata '%s' is %s, expected %d to %d", weights_path(w), key, text ? text : "missing", low,
                  high);
}

static int read_layers(ConvNet *n, const Weights *w, Err *e)
{
    const char *list = json_string_value(json_object_get(weights_metadata(w), "conv"));
    if (meta_int(w, "size", 8, 4096, &n->size, e) || meta_int(w, "grid", 1, 64, &n->grid, e))
        return -1;
    if (!list)
        return err_set(e, "%s: metadata 'conv' is missing: this is not a judge's network", weights_path(w));
    n->side[0] = n->size;
    for (const char *text = list; *text; text += strcspn(text, " "), text += strspn(text, " "))
        if (read_layer(n, w, text, e))
            return -1;
    if (n->layers == 0 || n->side[n->layers] % n->grid)
        return err_set(e, "%s: the last layer's side %d is not a multiple of the grid %d", weights_path(w),
                       n->side[n->layers], n->grid);
    for (int i = 0; i <= n->layers; i++) {
        const size_t values = (size_t)n->side[i] * n->side[i] * (i ? n->spec[i - 1].out : 3);
        n->values = values > n->values ? values : n->values;
    }
    for (int i = 0; i < 2; i++)
        if (!(n->turn[i] = op->alloc(n->values * CHUNK * sizeof(float), e)))
            return -1;
    n->host = malloc(n->values * CHUNK * sizeof(float));
    return n->host ? 0 : err_set(e, "out of memory");
}

int convnet_load(ConvNet **out, const char *path, Err *e)
{
    Weights *w = NULL;
    *out = NULL;
    ConvNet *n = calloc(1, sizeof *n);
    int failed = (n ? 0 : err_set(e, "out of memory")) || weights_open(&w, path, e) || read_layers(n, w, e);
    weights_close(w);
    if (failed) {
        convnet_free(n);
        return -1;
    }
    *out = n;
    return 0;
}

void convnet_free(ConvNet *n)
{
    if (!n)
        return;
    for (int i = 0; i < n->layers; i++)
        op->conv_free(n->conv[i]);
    for (int i = 0; i < 2; i++)
        if (n->turn[i]) op->free(n->turn[i]);
    free(n->host);
    free(n);
}

int convnet_size(const ConvNet *n) { return n->size; }

int convnet_width(const ConvNet *n)
{
    return n->spec[n->layers - 1].out * (n->grid * n->grid + 2);
}

/* One picture's last layer x (side,side,C), pooled. */
static void pool(const ConvNet *n, float *y, const float *x)
{
    const int C = n->spec[n->layers - 1].out, side = n->side[n->layers], cell = side / n->grid;
    float *mean = y + (size_t)C * n->grid * n->grid, *top = mean + C;
    memset(y, 0, sizeof(float) * convnet_width(n));
    for (int h = 0; h < side; h++)
        for (int w = 0; w < side; w++, x += C)
            for (int c = 0; c < C; c++) {
                y[((size_t)(h/cell)*n->grid + w/cell)*C + c] += x[c] / (float)(cell*cell);
                mean[c] += x[c] / (float)(side*side);
                top[c] = x[c] > top[c] ? x[c] : top[c];         /* x >= 0 */
            }
}

int convnet_embed(ConvNet *n, const uint8_t *pictures, int64_t B, float *embedding, Err *e)
{
    const size_t input = (size_t)n->size * n->size * 3, P = convnet_width(n);
    const size_t output = (size_t)n->side[n->layers] * n->side[n->layers] * n->spec[n->layers - 1].out;
    (void)e;
    for (int64_t b = 0; b < B; b += CHUNK) {
        const int64_t count = B - b < CHUNK ? B - b : CHUNK;
        for (size_t i = 0; i < input * count; i++)
            n->host[i] = (float)pictures[input*b + i] / 127.5f - 1;
        op->upload(n->turn[0], n->host, input * count * sizeof(float));
        for (int i = 0; i < n->layers; i++)
            op->conv_run(n->conv[i], n->turn[(i + 1) & 1], n->turn[i & 1], count, n->side[i], n->side[i], false);
        op->download(n->host, n->turn[n->layers & 1], output * count * sizeof(float));
        for (int64_t i = 0; i < count; i++)
            pool(n, embedding + P*(b + i), n->host + output*i);
    }
    return 0;
}
