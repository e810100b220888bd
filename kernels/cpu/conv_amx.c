/* SPDX-License-Identifier: MIT */
/* conv_amx.c -- convolution and linear layers of bf16 by AMX (amx.h).
 *
 *     y[n,o] = act(bias[o] + sum_k x_n[k] W[o,k]),   k over groups of 32 channels, then taps, then the group's channels
 *
 *   W packed in panels [out/32][steps][16][32] of pairs of bf16, a step one tap of a group; of a gated layer
 *   (ACT_GEGLU) panels of the first half of `out` and of the second take turns
 *   x read where it lies by linear layers; by others copied, a block of points' surroundings at a time, in planes whose
 *   pixels are whole groups: one plane with its margins, so that a tap is an offset; where rows of a block would not be
 *   whole tiles of 16 points, one plane for each column of taps; with a stride, one for each tap
 *
 * A thread takes a block of up to MOST_POINTS points and some panels, one after another, each by pairs of tiles: 32
 * points by 32 columns, or twice 32, whose sums go by way of h through activation, gate or y += to y. Where k is long,
 * that is done for a part of its groups after the other, so that what is read again stays near, and h keeps the sums of
 * all panels meanwhile. Each sum is one
 * chain over k that begins with its bias: the same bytes whatever the batch, the neighbours and the threads. oneDNN's
 * code for AMX is as fast and does not promise that; version 2.6 ends in a segmentation fault of some sizes. */
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/amx.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/vec.h"

/* MOST_POINTS of a block, fewer where they would take more than NEAR_BYTES, a quarter of the second-level cache.
 * PART_STEPS: of k at a time, about, where it is longer than MOST_STEPS. */
enum { PANEL = AMX_COLUMNS, GROUP = 32, ROWS = AMX_ROWS, MOST_POINTS = 256, NEAR_BYTES = 1 << 19 };
enum { PART_STEPS = 72, MOST_STEPS = 108 };

struct AmxConv {
    ConvSpec spec;
    int groups, taps, steps;        /* of `in`; of the kernel; taps of all groups */
    int panels, side;               /* in all; that one h holds side by side: 2 of a gated layer */
    uint32_t *W;
    float *bias;                    /* (panels*PANEL), zeros where there is none */
};

typedef struct Call {               /* one run */
    const AmxConv *conv;
    const uint16_t *x;
    void *y;
    int64_t B, H, W, Ho, Wo;
    bool add;
    bool direct;                    /* x is read where it lies */
    int groups;                     /* of a part of k */
    int across, down;               /* planes side by side and one below the other: taps that are no offsets */
    int64_t images, rows, columns;  /* of a block; images > 1 where these are whole */
    int64_t tiles, pitch;           /* of one image of a block; pixels of a plane's row */
    size_t pixel, plane, image;     /* bytes */
    const int32_t *at;              /* [steps of a part] bytes from a point's first value to a step's */
} Call;

typedef struct Window {             /* a block's points */
    int64_t image, images, row, rows, column, columns;
} Window;

typedef struct Room {               /* one thread's scratch */
    char *x;                        /* planes, or the last tile of a direct call */
    const void **tile;              /* [tiles] */
    float *h;                       /* sums of one pair of tiles; of several parts, of all tiles and panels */
} Room;

typedef struct Part {               /* of k, and the first panel of those that take part */
    int group, groups, first_panel;
} Part;

/* ---- creation ---- */

/* First output of a panel; *end: after the last. */
static int panel_outputs(const AmxConv *c, int panel, int *end)
{
    const int width = c->spec.out/c->side, first = panel/c->side*PANEL;
    *end = (panel % c->side + 1)*width;
    return panel % c->side*width + first;
}

static void pack_panel(AmxConv *c, int panel, const float *W)
{
    const int in = c->spec.in, taps = c->taps;
    int end;
    const int first = panel_outputs(c, panel, &end);
    uint16_t *to = (uint16_t *)(c->W + (size_t)panel*(size_t)c->steps*AMX_STEP_WORDS*PANEL);
    for (int group = 0; group < in; group += GROUP)
        for (int tap = 0; tap < taps; tap++, to += GROUP*PANEL)
            for (int k = 0; k < GROUP && group + k < in; k++)
                for (int o = 0; o < PANEL && first + o < end; o++) {
                    const size_t row = (size_t)(first + o)*(size_t)in + (size_t)(group + k);
                    to[(k/2*PANEL + o)*2 + k % 2] = (uint16_t)bf16_bits(W[row*(size_t)taps + (size_t)tap]);
                }
}

static void pack(AmxConv *c, const float *W, const float *bias)
{
#pragma omp parallel for
    for (int p = 0; p < c->panels; p++) {
        int end;
        const int first = panel_outputs(c, p, &end);
        pack_panel(c, p, W);
        for (int o = 0; bias && o < PANEL && first + o < end; o++)
            c->bias[p*PANEL + o] = bias[first + o];
    }
}

void cpu_amx_free(AmxConv *c)
{
    if (!c)
        return;
    free(c->W);
    free(c->bias);
    free(c);
}

int cpu_amx_create(AmxConv **conv, const ConvSpec *spec, const float *W, const float *bias, Err *e)
{
    AmxConv *c = *conv = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "cannot allocate %zu bytes", sizeof *c);
    c->spec = *spec;
    c->groups = (int)round_up(spec->in, GROUP)/GROUP;
    c->taps = spec->kernel*spec->kernel;
    c->steps = c->groups*c->taps;
    c->side = spec->act == ACT_GEGLU ? 2 : 1;
    c->panels = (int)round_up(spec->out/c->side, PANEL)/PANEL*c->side;
    const size_t bytes = (size_t)c->panels*(size_t)c->steps*AMX_STEP_WORDS*PANEL*sizeof *c->W;
    c->W = aligned_alloc(64, bytes);
    c->bias = calloc((size_t)c->panels*PANEL, sizeof *c->bias);
    if (!c->W || !c->bias) {
        cpu_amx_free(c);
        *conv = NULL;
        return err_set(e, "cannot allocate %zu bytes for a layer of %d to %d channels", bytes, spec->in, spec->out);
    }
    memset(c->W, 0, bytes);
    pack(c, W, bias);
    return 0;
}

/* ---- what a block reads ---- */

/* `width` bytes of each of `count` pixels of x, `step` pixels apart, to pixels of whole groups; no x: zeros. */
static void copy_pixels(const Call *call, char *to, const uint16_t *x, size_t width, int step, int64_t count)
{
    const int in = call->conv->spec.in;
    if (!x) {
        memset(to, 0, (size_t)count*call->pixel);
    } else if (width == call->pixel && step == 1 && width == (size_t)in*sizeof *x) {
        memcpy(to, x, (size_t)count*width);
    } else {
        for (int64_t j = 0; j < count; j++, to += call->pixel, x += step*in) {
            memcpy(to, x, width);
            memset(to + width, 0, call->pixel - width);
        }
    }
}

/* Pixels of the window that tap (r, s) reads, in a plane of their own; zeros outside the image. */
static void copy_plane(const Call *call, char *plane, const Window *w, const Part *part, int64_t b, int r, int s,
                       int64_t rows, int64_t columns)
{
    const ConvSpec *spec = &call->conv->spec;
    const int channel = part->group*GROUP;
    const size_t width = (size_t)least(spec->in - channel, part->groups*GROUP)*sizeof *call->x;
    const int64_t left = w->column*spec->stride + s - spec->pad_before;        /* column of the first pixel */
    const int64_t outside = left < 0 ? least((-left + spec->stride - 1)/spec->stride, columns) : 0;
    const int64_t last = call->W > left ? (call->W - left + spec->stride - 1)/spec->stride : 0;
    const int64_t end = least(last, columns);
    for (int64_t i = 0; i < rows; i++, plane += (size_t)call->pitch*call->pixel) {
        const int64_t row = (w->row + i)*spec->stride + r - spec->pad_before;
        if (row < 0 || row >= call->H || end <= outside) {
            copy_pixels(call, plane, NULL, 0, 1, columns);
            continue;
        }
        const int64_t first = (b*call->H + row)*call->W + left + outside*spec->stride;
        copy_pixels(call, plane, NULL, 0, 1, outside);
        copy_pixels(call, plane + (size_t)outside*call->pixel, call->x + first*spec->in + channel, width, spec->stride,
                    end - outside);
        copy_pixels(call, plane + (size_t)end*call->pixel, NULL, 0, 1, columns - end);
    }
}

static void copy_window(const Call *call, const Room *room, const Window *w, const Part *part)
{
    const ConvSpec *spec = &call->conv->spec;
    const int64_t rows = w->rows + (call->down ? 0 : spec->kernel - 1);
    const int64_t columns = w->columns + (call->across ? 0 : spec->kernel - 1);
    char *plane = room->x;
    for (int64_t b = 0; b < w->images; b++) {
        for (int r = 0; r < (call->down ? spec->kernel : 1); r++)
            for (int s = 0; s < (call->across ? spec->kernel : 1); s++, plane += call->plane)
                copy_plane(call, plane, w, part, w->image + b, r, s, rows, columns);
        for (int64_t t = 0; t < call->tiles; t++) {
            const int64_t point = t*ROWS, row = point/call->columns;
            const int64_t at = call->across ? point : row*call->pitch + point % call->columns;
            room->tile[b*call->tiles + t] = room->x + (size_t)b*call->image + (size_t)at*call->pixel;
        }
    }
}

/* A linear layer's rows; those of a last tile that is not whole are copied, for 16 are read. */
static void point_at_rows(const Call *call, const Room *room, const Window *w, const Part *part)
{
    const size_t channel = (size_t)(part->group*GROUP)*sizeof *call->x;
    for (int64_t t = 0; t*ROWS < w->columns; t++) {
        const char *x = (const char *)call->x + call->pixel*(size_t)(w->column + t*ROWS);
        const int64_t count = least(w->columns - t*ROWS, ROWS);
        if (count < ROWS)
            memcpy(room->x, x, call->pixel*(size_t)count);
        room->tile[t] = (count < ROWS ? room->x : x) + channel;
    }
}

/* ---- what it writes ---- */

/* One vector, n of its values: y[at..] = act(h), y + h, or h * gelu(h of the panel beside). */
ALWAYS_INLINE void finish_vector(const Call *call, DType type, Activation act, bool add, const float *h, int64_t at,
                                 int n)
{
    const V sum = v_load(h, LANES);
    v_store_as(call->y, type, at, act == ACT_GEGLU ? sum*v_gelu(v_load(h + PANEL, LANES))
               : add ? v_load_as(call->y, type, at, n) + sum : v_activate(sum, act), n);
}

ALWAYS_INLINE void finish_rows(const Call *call, DType type, Activation act, bool add, const float *h, int64_t n,
                               int64_t count, int first, int width)
{
    const int apart = call->conv->spec.out/call->conv->side, stride = (act == ACT_GEGLU ? 2 : 1)*PANEL;
    for (int64_t r = 0; r < count; r++, h += stride) {
        const int64_t at = (n + r)*apart + first;
        if (width == PANEL) {
            finish_vector(call, type, act, add, h, at, LANES);
            finish_vector(call, type, act, add, h + LANES, at + LANES, LANES);
        } else {
            for (int o = 0; o < width; o += LANES)
                finish_vector(call, type, act, add, h + o, at + o, width - o < LANES ? width - o : LANES);
        }
    }
}

ALWAYS_INLINE void finish_as(const Call *call, DType type, const float *h, int64_t n, int64_t count, int first,
                             int width)
{
    switch (call->conv->spec.act) {
    case ACT_NONE:
        if (call->add)
            finish_rows(call, type, ACT_NONE, true, h, n, count, first, width);
        else
            finish_rows(call, type, ACT_NONE, false, h, n, count, first, width);
        break;
    case ACT_GEGLU:
        finish_rows(call, type, ACT_GEGLU, false, h, n, count, first, width);
        break;
    case ACT_SILU:
        finish_rows(call, type, ACT_SILU, false, h, n, count, first, width);
        break;
    default:
        finish_rows(call, type, call->conv->spec.act, false, h, n, count, first, width);
    }
}

/* Tile t of a block begins at the point n that is returned; *count: how many it has. */
static int64_t tile_points(const Call *call, const Window *w, int64_t t, int64_t *count)
{
    const int64_t image = call->tiles == 1 ? t : t/call->tiles, point = (t - image*call->tiles)*ROWS;
    *count = least(w->rows*w->columns - point, ROWS);
    return ((w->image + image)*call->Ho + w->row)*call->Wo + w->column + point;
}

/* Tiles t and, where it is below `end`, t + 1 by one panel, or two of a gated layer. Sums of the last part go straight
 * to y where they are what it is to be. */
static void run_tiles(const Call *call, const Window *w, const Room *room, const Part *part, int64_t t, int64_t end,
                      int p)
{
    const AmxConv *c = call->conv;
    const size_t panel = (size_t)c->steps*AMX_STEP_WORDS*PANEL, stride = (size_t)c->side*PANEL;
    const int steps = part->groups*c->taps;
    const bool two = t + 1 < end, last = part->group + part->groups == c->groups;
    int last_output;
    const int first = panel_outputs(c, p, &last_output), width = (int)least(last_output - first, PANEL);
    int64_t count[2] = {0};
    const int64_t n[2] = {tile_points(call, w, t, &count[0]), two ? tile_points(call, w, t + 1, &count[1]) : 0};
    const bool straight = last && c->spec.act == ACT_NONE && !call->add && c->spec.y_type == F32 && width == PANEL
                       && count[0] == ROWS && (!two || (count[1] == ROWS && n[1] == n[0] + ROWS));
    float *h = room->h;
    if (call->groups < c->groups)
        h += (size_t)((p - part->first_panel)/c->side*end + t)*ROWS*stride;
    float *to = straight ? (float *)call->y + n[0]*c->spec.out + first : h;
    /* meanwhile the next panel comes, a piece with each pair of tiles */
    const int lines = (int)((4*ROWS + end - 1)/end);
    for (int side = 0; side < c->side; side++) {
        const uint32_t *W = c->W + (size_t)(p + side)*panel + (size_t)(part->group*c->taps)*AMX_STEP_WORDS*PANEL;
        amx_product(to + side*PANEL, straight ? (size_t)c->spec.out : stride, room->tile[t],
                    two ? room->tile[t + 1] : NULL, call->pixel, call->at, W, PANEL,
                    part->group ? h + side*PANEL : c->bias + (p + side)*PANEL, part->group ? stride : 0, steps,
                    W + c->side*panel + (size_t)(t/2*steps*lines)*16, lines);
    }
    for (int i = 0; i < 1 + two && last && !straight; i++) {
        const float *sums = h + (size_t)i*ROWS*stride;
        if (c->spec.y_type == BF16)
            finish_as(call, BF16, sums, n[i], count[i], first, width);
        else
            finish_as(call, F32, sums, n[i], count[i], first, width);
    }
}

/* Panels [from, to) of a block. */
static void run_block(const Call *call, const Room *room, const Window *w, int from, int to)
{
    const AmxConv *c = call->conv;
    const int64_t tiles = call->direct ? round_up(w->columns, ROWS)/ROWS : w->images*call->tiles;
    for (int group = 0; group < c->groups; group += call->groups) {
        const Part part = {group, (int)least(c->groups - group, call->groups), from};
        if (call->direct)
            point_at_rows(call, room, w, &part);
        else
            copy_window(call, room, w, &part);
        amx_begin();
        for (int p = from; p < to; p += c->side)
            for (int64_t t = 0; t < tiles; t += 2)
                run_tiles(call, w, room, &part, t, tiles, p);
        amx_end();
    }
}

/* ---- a call ---- */

/* How points are cut into blocks, for about as many as there are threads where they are few. */
static void cut(Call *call, int threads)
{
    const ConvSpec *s = &call->conv->spec;
    const int64_t points = call->Ho*call->Wo, share = round_up((call->B*points + threads - 1)/threads, 2*ROWS);
    const int64_t near = round_up(NEAR_BYTES/(call->groups*GROUP*(int64_t)sizeof *call->x) + 1, 2*ROWS);
    const int64_t limit = least(least(share, near), MOST_POINTS);
    const int64_t fit = limit/round_up(points, ROWS);
    call->images = fit > 1 ? least(call->B, fit) : 1;
    call->columns = call->Wo <= limit ? call->Wo : limit;
    call->rows = points <= limit ? call->Ho : call->Wo <= limit ? limit/call->Wo : 1;
    call->across = s->stride > 1 || call->columns % ROWS != 0;
    call->down = s->stride > 1;
}

/* Sizes of a block's planes. */
static void lay_out(Call *call)
{
    const ConvSpec *s = &call->conv->spec;
    const int64_t margin = s->kernel - 1, height = call->rows + (call->down ? 0 : margin);
    const int planes = (call->across ? s->kernel : 1)*(call->down ? s->kernel : 1);
    call->tiles = round_up(call->rows*call->columns, ROWS)/ROWS;
    call->pitch = call->columns + (call->across ? 0 : margin);
    call->plane = (size_t)(call->pitch*height)*call->pixel;
    call->image = (size_t)planes*call->plane;
}

/* at[steps of a part]: where steps begin. */
static void place_steps(const Call *call, int32_t *at)
{
    const ConvSpec *s = &call->conv->spec;
    for (int group = 0; group < call->groups; group++)
        for (int r = 0; r < s->kernel; r++)
            for (int q = 0; q < s->kernel; q++) {
                const int plane = (call->down ? r*s->kernel : 0) + (call->across ? q : 0);
                const int64_t pixels = (call->down ? 0 : r*call->pitch) + (call->across ? 0 : q);
                *at++ = (int32_t)((size_t)plane*call->plane + (size_t)pixels*call->pixel)
                      + group*GROUP*(int32_t)sizeof *call->x;
            }
}

static Window window(const Call *call, int64_t block)
{
    const int64_t columns = (call->Wo + call->columns - 1)/call->columns, rows = (call->Ho + call->rows - 1)/call->rows;
    const int64_t b = block/(rows*columns)*call->images, i = block/columns % rows*call->rows;
    const int64_t j = block % columns*call->columns;
    return (Window){b, least(call->B - b, call->images), i, least(call->Ho - i, call->rows), j,
                    least(call->Wo - j, call->columns)};
}

void cpu_amx_run(AmxConv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add)
{
    const ConvSpec *s = &c->spec;
    const int64_t pads = s->pad_before + s->pad_after;
    const int threads = omp_get_max_threads();
    Call call = {.conv = c, .x = x, .y = y, .B = B, .H = H, .W = W, .Ho = (H + pads - s->kernel)/s->stride + 1,
                 .Wo = (W + pads - s->kernel)/s->stride + 1, .add = add,
                 .direct = conv_is_linear(s) && s->in % GROUP == 0};
    if (B == 0 || call.Ho <= 0 || call.Wo <= 0)
        return;
    const int parts_of_k = c->steps > MOST_STEPS ? (c->steps + PART_STEPS - 1)/PART_STEPS : 1;
    call.groups = (c->groups + parts_of_k - 1)/parts_of_k;
    call.pixel = call.direct ? (size_t)s->in*sizeof *call.x : amx_pitch((size_t)(call.groups*GROUP)*sizeof *call.x);
    cut(&call, threads);
    lay_out(&call);

    const int64_t blocks = (call.B + call.images - 1)/call.images*((call.Ho + call.rows - 1)/call.rows)
                         *((call.Wo + call.columns - 1)/call.columns);
    const int units = c->panels/c->side;
    const int64_t parts = blocks >= 2*threads ? 1 : least((2*threads + blocks - 1)/blocks, units);
    const int width = (int)((units + parts - 1)/parts)*c->side;
    const int64_t tiles = call.images*call.tiles, kept = call.groups < c->groups ? round_up(tiles, 2)*width : 2*c->side;
    const size_t x_bytes = (call.direct ? 0 : (size_t)call.images*call.image) + ROWS*call.pixel;
    const size_t tile_bytes = (size_t)round_up(tiles*(int64_t)sizeof(void *), 64);
    const size_t at_bytes = (size_t)round_up(call.groups*c->taps*(int64_t)sizeof(int32_t), 64);
    const size_t each = x_bytes + tile_bytes + (size_t)(kept*ROWS*PANEL)*sizeof(float);
    char *scratch = cpu_scratch(at_bytes + each*(size_t)threads);
    place_steps(&call, (int32_t *)scratch);
    call.at = (int32_t *)scratch;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t block = 0; block < blocks; block++)
        for (int first = 0; first < c->panels; first += width) {
            char *own = scratch + at_bytes + each*(size_t)omp_get_thread_num();
            const Room room = {own, (const void **)(own + x_bytes), (float *)(own + x_bytes + tile_bytes)};
            const Window w = window(&call, block);
            run_block(&call, &room, &w, first, (int)least(first + width, c->panels));
        }
}
