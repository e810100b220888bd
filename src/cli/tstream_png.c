/* SPDX-License-Identifier: MIT */
/* tstream_png.c -- tstream to-png: pictures of a stream as PNG files, activations as grey heat maps; tstream text:
 * their fields.
 *
 *     heat map of x [H,W,C]:  v[h,w] = sqrt(sum_c x[h,w,c]^2), or x[h,w,i];  grey = 255 (v - min) / (max - min)
 *
 * A latent is x [C,H,W]. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/folder.h"
#include "formats/image.h"
#include "formats/image_writer.h"
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    const char *range;
    const char *tensor, *name;
    int64_t channel, zoom;
    json_t *written;            /* names so far, so that none is overwritten by its like */
    float *values;
    uint8_t *grey;
    size_t room, grey_room;
    ImageWriter *writer;
} Config;

static const Opt options[] = {
    {'o', "output", OPT_STR, offsetof(Common, output), NULL, "DIR  folder of the pictures, made where missing",
     OPT_NEUTRAL | OPT_REQUIRED},
    {'N', "name", OPT_STR, offsetof(Config, name), "{id}",
     "NAME  of each picture; {field} stands for a field's value, / makes folders", 0},
    {'t', "tensor", OPT_STR, offsetof(Config, tensor), "image",
     "NAME  image: u8 (H, W, 1 or 3); another of floats (H, W, C), or a latent (C, H, W), becomes a grey heat "
     "map", 0},
    {0, "channel", OPT_INT, offsetof(Config, channel), "-1", "N  of the heat map; -1: the length over all channels", 0},
    {0, "zoom", OPT_INT, offsetof(Config, zoom), "1", "N  pixels a side for each value of a heat map", 0},
    RANGE_OPTION, COMMON_OPTIONS, {0}};

static const Cli cli = {
    "tstream to-png", "Write the pictures of a tensor stream as PNG files.", options, "[FILE]...",
    "A record's fields go into the file as text chunks; tstream text prints them. Two records with the same name are "
    "an error. No name leads out of DIR: empty and '.' parts are dropped, '..' becomes '_'. Memory: one record, "
    "the names, and six pictures at most that are written side by side.",
    "tstream to-png -o pictures images.mpk.zst\n"
    "tstream to-png -t act -N '{id}/{hook}-{t}' --zoom 16 -o maps acts.mpk.zst"};

typedef struct Grid {
    int64_t H, W, C;
    int64_t place, channel;     /* from a place's values to the next place's, from one of them to the next */
} Grid;

static Grid grid_of(const StreamIn *in, const StreamTensor *t)
{
    const int64_t *d = t->dim;
    if (strcmp(stream_kind(in), "latents") == 0 && strcmp(t->name, "latent") == 0)
        return (Grid){d[1], d[2], d[0], 1, d[1]*d[2]};
    return (Grid){d[0], d[1], d[2], d[2], 1};
}

static int heat_map(Config *cfg, const StreamIn *in, const Record *rec, const StreamTensor *t, const Grid *g, Err *e)
{
    const int64_t H = g->H, W = g->W, C = g->C, zoom = cfg->zoom;
    if (cfg->channel >= C)
        return err_set(e, "%s: record %ld: %s has %lld channels, --channel is %lld", stream_name(in), rec->number,
                       t->name,
                       (long long)C, (long long)cfg->channel);
    const size_t n = (size_t)(H*W*C), pixels = (size_t)(H*zoom) * (size_t)(W*zoom);
    if (n > cfg->room || pixels > cfg->grey_room) {
        free(cfg->values);
        free(cfg->grey);
        cfg->values = malloc(n * sizeof *cfg->values);
        cfg->grey = malloc(pixels);
        cfg->room = n;
        cfg->grey_room = pixels;
        if (!cfg->values || !cfg->grey) {
            cfg->room = cfg->grey_room = 0;
            return err_set(e, "%s: record %ld: out of memory", stream_name(in), rec->number);
        }
    }
    if (stream_floats(in, rec, t, cfg->values, e))
        return -1;
    float least = INFINITY, most = -INFINITY, *v = cfg->values;
    for (int64_t i = 0; i < H*W; i++) {                 /* v[i] takes the place of values that have been used */
        const float *x = cfg->values + i*g->place;
        double sum = 0;
        for (int64_t c = 0; c < C; c++)
            sum += (double)x[c*g->channel] * (double)x[c*g->channel];
        const float value = cfg->channel < 0 ? (float)sqrt(sum) : x[cfg->channel*g->channel];
        v[i] = value;
        least = fminf(least, value);
        most = fmaxf(most, value);
    }
    const float scale = most > least ? 255 / (most - least) : 0;
    for (int64_t y = 0; y < H*zoom; y++)
        for (int64_t x = 0; x < W*zoom; x++)
            cfg->grey[y*W*zoom + x] = (uint8_t)lrintf((v[y/zoom*W + x/zoom] - least) * scale);
    return 0;
}

static int write_picture(Config *cfg, const char *path, const StreamIn *in, const Record *rec, Err *e)
{
    const StreamTensor *t = record_tensor(rec, cfg->tensor);
    char found[128];
    const bool is_image = t && t->ndim == 3 && t->type == U8 && (t->dim[2] == 1 || t->dim[2] == 3);
    const bool is_map = t && t->ndim == 3 && tensor_is_float(t);
    if (!is_image && !is_map)
        return err_set(e, "%s: record %ld: %s is %s, expected u8 (H, W, 1 or 3) or floats (H, W, C)", stream_name(in),
                       rec->number,
                       cfg->tensor, t ? tensor_shape_text(t, found) : "missing");
    const int64_t zoom = is_image ? 1 : cfg->zoom;
    const Grid g = grid_of(in, t);
    if (g.H < 1 || g.W < 1 || g.C < 1 || g.H * zoom > IMAGE_MAX_SIDE || g.W * zoom > IMAGE_MAX_SIDE)
        return err_set(e, "%s: record %ld: a picture of %s, zoomed by %lld, is not written: sides go from 1 to %d",
                       stream_name(in),
                       rec->number, tensor_shape_text(t, found), (long long)zoom, IMAGE_MAX_SIDE);
    if (is_image)
        return image_writer_add(cfg->writer, path, (int)t->dim[1], (int)t->dim[0], (int)t->dim[2], t->data,
                                rec->fields, e);
    return heat_map(cfg, in, rec, t, &g, e)
        || image_writer_add(cfg->writer, path, (int)(g.W * zoom), (int)(g.H * zoom), 1, cfg->grey, rec->fields, e);
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    char path[4096];
    if (record_path(path, sizeof path, cfg->c.output, cfg->name, ".png", in, rec, e))
        return -1;
    if (json_object_get(cfg->written, path))
        return err_set(e, "%s: record %ld: %s was written by a record before it; use more fields in --name",
                       stream_name(in),
                       rec->number, path);
    json_object_set_new(cfg->written, path, json_true());
    return folder_make_above(path, e) || write_picture(cfg, path, in, rec, e) ? -1 : 0;
}

int tstream_to_png(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.zoom < 1 || cfg.zoom > IMAGE_MAX_SIDE)
        cli_misuse(&cli, "--zoom: '%lld' is not in 1 to %d", (long long)cfg.zoom, IMAGE_MAX_SIDE);
    if (cfg.channel < -1)
        cli_misuse(&cli, "--channel: '%lld' is below -1", (long long)cfg.channel);
    cfg.written = json_object();
    const Walk w = {NULL, on_record, &cfg, true, range_parse(&cli, cfg.range)};
    const int failed = image_writer_create(&cfg.writer, 0, &e) || walk(&w, &cfg.c, &e)
                    || image_writer_drain(cfg.writer, &e);
    image_writer_free(cfg.writer);
    json_decref(cfg.written);
    free(cfg.values);
    free(cfg.grey);
    return failed ? cli_report(&cli, &e) : 0;
}

/* ---- tstream text ---- */

typedef struct TextConfig { Common c; } TextConfig;

static const Opt text_options[] = {COMMON_OPTIONS, {0}};

static const Cli text_cli = {
    "tstream text", "Print the text chunks of PNG files, a JSON line each.", text_options, "[FILE.png]...",
    "The pictures that these programs write carry the fields of their record: id, prompt, seed and what steered them.",
    "tstream text pictures/Fishes/Rust/3.png | jq .seed"};

int tstream_text(int argc, char **argv)
{
    TextConfig cfg = {0};
    Err e = {0};
    cli_parse(&text_cli, &cfg, argc, argv);
    int failed = 0;
    for (int i = 0; i < cli_input_count(&cfg.c) && !failed; i++) {
        Image image = {0};
        json_t *text = NULL;
        failed = image_read(&image, cli_input(&cfg.c, i), &text, &e);
        if (!failed) {
            json_dumpf(text, stdout, JSON_COMPACT);
            putchar('\n');
            failed = stdout_check(&e);
        }
        json_decref(text);
        image_free(&image);
    }
    failed = stdout_flush(&e) || failed;
    return failed ? cli_report(&text_cli, &e) : 0;
}
