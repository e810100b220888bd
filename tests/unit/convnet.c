/* SPDX-License-Identifier: MIT */
/* convnet.c -- the judge's network: one layer worked by hand, three against a plain loop, any batch, broken files. */
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/convnet.h"
#include "tests/unit/test.h"

enum { LAYERS = 3, SIDE = 8 };

typedef struct Layer { int in, out, kernel, stride, pad; float *weight, *bias; } Layer;

static char path[] = "/tmp/convnet-test.XXXXXX";

/* A file of some layers; size, grid and conv NULL: without that metadata. */
static int write_net(const Layer *layer, int layers, const char *size, const char *grid, const char *conv, Err *e)
{
    static const char *const names[LAYERS][2] = {
        {"conv.0.weight", "conv.0.bias"}, {"conv.1.weight", "conv.1.bias"}, {"conv.2.weight", "conv.2.bias"}};
    Weight w[2 * LAYERS];
    json_t *metadata = json_object();
    int count = 0;
    for (int i = 0; i < layers; i++) {
        const Layer *l = &layer[i];
        w[count++] = (Weight){names[i][0], F32, 4, {l->out, l->in, l->kernel, l->kernel}, l->weight, NULL};
        if (l->bias)
            w[count++] = (Weight){names[i][1], F32, 1, {l->out}, l->bias, NULL};
    }
    if (size)
        json_object_set_new(metadata, "size", json_string(size));
    if (grid)
        json_object_set_new(metadata, "grid", json_string(grid));
    if (conv)
        json_object_set_new(metadata, "conv", json_string(conv));
    const int failed = weights_write(path, w, (size_t)count, metadata, e);
    json_decref(metadata);
    return failed;
}

/* y = relu(red - green + 0.5) of a picture whose quadrants have the red 255, 51, 255, 0 (1, -0.6, 1, -1) and the green
 * 0, 0, 255, 0 (-1, -1, 1, -1): 2.5, 0.9, 0.5, 0.5. One pixel more has red 255 in the last quadrant: 2.5. */
static int test_by_hand(void)
{
    static const uint8_t red[4] = {255, 51, 255, 0}, green[4] = {0, 0, 255, 0};
    const Layer one = {3, 1, 1, 1, 0, (float[]){1, -1, 0}, (float[]){0.5f}};
    const float last = 0.5f + 2.0f/16, want[6] = {2.5f, 0.9f, 0.5f, last, (2.5f + 0.9f + 0.5f + last)/4, 2.5f};
    uint8_t picture[SIDE * SIDE * 3];
    float y[6];
    ConvNet *n = NULL;
    Err e = {0};
    for (int h = 0; h < SIDE; h++)
        for (int w = 0; w < SIDE; w++) {
            uint8_t *pixel = picture + (h*SIDE + w)*3;
            pixel[0] = red[h/4*2 + w/4];
            pixel[1] = green[h/4*2 + w/4];
            pixel[2] = (uint8_t)(h*w);
        }
    picture[(SIDE*SIDE - 1)*3] = 255;
    if (test_ok("one layer", !write_net(&one, 1, "8", "2", "1,0", &e) && !convnet_load(&n, path, &e)))
        return 1;
    int failed = test_ok("its sizes", convnet_size(n) == SIDE && convnet_width(n) == 6);
    failed += test_ok("embedded", !convnet_embed(n, picture, 1, y, &e));
    failed += test_close("quadrants, mean and maximum", y, want, 6, 1e-6f, 1e-6f);
    convnet_free(n);
    return failed;
}

/* y (side out) of x (side,side,in), both by rows, pixels, channels; returns the side of y. */
static int plain_conv(float *y, const float *x, int side, const Layer *l)
{
    const int to = (side + 2*l->pad - l->kernel)/l->stride + 1;
    for (int h = 0; h < to; h++)
        for (int w = 0; w < to; w++)
            for (int o = 0; o < l->out; o++) {
                double sum = l->bias[o];
                for (int c = 0; c < l->in; c++)
                    for (int i = 0; i < l->kernel; i++)
                        for (int j = 0; j < l->kernel; j++) {
                            const int at_h = h*l->stride + i - l->pad, at_w = w*l->stride + j - l->pad;
                            if (at_h >= 0 && at_h < side && at_w >= 0 && at_w < side)
                                sum += (double)l->weight[((o*l->in + c)*l->kernel + i)*l->kernel + j]
                                     * (double)x[(at_h*side + at_w)*l->in + c];
                        }
                y[(h*to + w)*l->out + o] = sum > 0 ? (float)sum : 0;
            }
    return to;
}

static void plain_pool(float *y, const float *x, int side, int C, int grid)
{
    const int cell = side/grid;
    for (int c = 0; c < C; c++) {
        double sum = 0, most = 0;
        for (int g = 0; g < grid*grid; g++) {
            double part = 0;
            for (int h = 0; h < cell; h++)
                for (int w = 0; w < cell; w++) {
                    const double v = x[((g/grid*cell + h)*side + g%grid*cell + w)*C + c];
                    part += v;
                    most = v > most ? v : most;
                }
            y[g*C + c] = (float)(part / (cell*cell));
            sum += part;
        }
        y[grid*grid*C + c] = (float)(sum / (side*side));
        y[(grid*grid + 1)*C + c] = (float)most;
    }
}

static unsigned noise_state = 7;
static unsigned noise(void) { return (noise_state = noise_state*1664525u + 1013904223u) >> 8; }

static float *noise_floats(int n)
{
    float *x = malloc(sizeof *x * (size_t)n);
    for (int i = 0; i < n; i++)
        x[i] = (float)noise()/8388608 - 1;
    return x;
}

/* Sides 16 -> 8 -> 4 -> 4; 19 pictures are more than are in work at once. */
static int test_loop(void)
{
    enum { SIZE = 16, B = 19, P = 6 * (2*2 + 2) };
    static uint8_t pictures[B * SIZE*SIZE*3];
    static float got[B * P], want[B * P], alone[P], x[2][SIZE*SIZE*16];
    Layer layer[LAYERS] = {{3, 8, 4, 2, 1, NULL, NULL}, {8, 16, 3, 2, 1, NULL, NULL}, {16, 6, 3, 1, 1, NULL, NULL}};
    ConvNet *n = NULL;
    Err e = {0};
    for (int i = 0; i < LAYERS; i++) {
        layer[i].weight = noise_floats(layer[i].out * layer[i].in * layer[i].kernel * layer[i].kernel);
        layer[i].bias = noise_floats(layer[i].out);
    }
    for (size_t i = 0; i < sizeof pictures; i++)
        pictures[i] = (uint8_t)noise();
    for (int b = 0; b < B; b++) {
        int side = SIZE;
        for (int i = 0; i < SIZE*SIZE*3; i++)
            x[0][i] = 2 * (float)pictures[b*SIZE*SIZE*3 + i] / 255 - 1;
        for (int i = 0; i < LAYERS; i++)
            side = plain_conv(x[(i + 1) & 1], x[i & 1], side, &layer[i]);
        plain_pool(want + b*P, x[LAYERS & 1], side, 6, 2);
    }
    int failed = test_ok("three layers", !write_net(layer, LAYERS, "16", "2", "2,1 2,1 1,1", &e)
                                         && !convnet_load(&n, path, &e) && convnet_width(n) == P);
    if (!failed) {
        failed += test_ok("embedded", !convnet_embed(n, pictures, B, got, &e));
        /* sums of up to 144 products of values near 10, in f32 */
        failed += test_close("as a plain loop", got, want, B * P, 1e-4f, 1e-5f);
        for (int b = 0; b < B; b += 6)
            failed += test_ok("alone", !convnet_embed(n, pictures + b*SIZE*SIZE*3, 1, alone, &e))
                    + test_same("the same bytes alone and among others", alone, got + b*P, sizeof alone);
    }
    convnet_free(n);
    for (int i = 0; i < LAYERS; i++) {
        free(layer[i].weight);
        free(layer[i].bias);
    }
    return failed;
}

static int refused(const char *says, int written)
{
    ConvNet *n = NULL;
    Err e = {0};
    const int loaded = !written && !convnet_load(&n, path, &e);
    const int failed = test_ok(says, !written && !loaded && !n && strstr(e.text, says) && strstr(e.text, path));
    if (failed)
        test_note("%s", e.set ? e.text : "loaded");
    convnet_free(n);
    return failed;
}

static int test_refused(void)
{
    static float zeros[2 * 3 * 3 * 3];
    const Layer good[2] = {{3, 2, 3, 1, 1, zeros, zeros}, {2, 1, 1, 1, 0, zeros, zeros}};
    Layer wide[2] = {good[0], good[1]}, bare = good[0];
    Err e = {0};
    wide[1].in = 3;
    bare.bias = NULL;
    int failed = refused("metadata 'size' is missing", write_net(good, 2, NULL, "2", "1,1 1,0", &e));
    failed += refused("metadata 'size' is 4, expected 8 to 4096", write_net(good, 2, "4", "2", "1,1 1,0", &e));
    failed += refused("metadata 'grid' is missing", write_net(good, 2, "8", NULL, "1,1 1,0", &e));
    failed += refused("metadata 'conv' is missing", write_net(good, 2, "8", "2", NULL, &e));
    failed += refused("not a multiple of the grid", write_net(good, 2, "8", "2", "", &e));
    failed += refused("not a multiple of the grid 3", write_net(good, 2, "8", "3", "1,1 1,0", &e));
    failed += refused("layer 1: '1'", write_net(good, 2, "8", "2", "1,1 1", &e));
    failed += refused("layer 0: '0,1", write_net(good, 2, "8", "2", "0,1 1,0", &e));
    failed += refused("layer 0: '1,9", write_net(good, 2, "8", "2", "1,9 1,0", &e));
    failed += refused("conv.2.weight is missing", write_net(good, 2, "8", "2", "1,1 1,0 1,0", &e));
    failed += refused("conv.0.bias is missing", write_net(&bare, 1, "8", "2", "1,1", &e));
    failed += refused("tensor conv.1.weight is f32 (1, 3, 1, 1)", write_net(wide, 2, "8", "2", "1,1 1,0", &e));
    failed += test_ok("cut", truncate(path, 40) == 0) + refused(path, 0);
    return failed;
}

int main(void)
{
    Err e = {0};
    const int fd = mkstemp(path);
    if (fd < 0 || backend_pick("cpu", 0, &e))
        return 1;
    close(fd);
    const int failed = test_by_hand() + test_loop() + test_refused();
    unlink(path);
    return failed != 0;
}
