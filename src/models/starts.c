/* SPDX-License-Identifier: MIT */
/* starts.c -- pictures to begin with, as latents. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/folder.h"
#include "formats/image.h"
#include "src/models/latent.h"
#include "src/models/noise.h"
#include "src/models/resample.h"
#include "src/models/starts.h"

struct Starts {
    const char *path;
    bool one;                       /* path is the picture of every record */
    char encoded[4096];             /* the file that mean and log_variance are of; "": none */
    bool sampled;
    Vae *vae;
    int C, H, W;                    /* of the latent */
    float *pixels;                  /* (H,W,3) of the picture's size, -1 to 1 */
    float *mean, *log_variance;     /* (H*W,C) */
    float *planes, *noise;          /* (C,H*W) */
};

static size_t size_of(const Starts *s)
{
    return (size_t)s->C * s->H * s->W;
}

int starts_open(Starts **out, const char *path, Vae *vae, int C, int H, int W, bool sampled, Err *e)
{
    *out = NULL;
    const bool one = image_ending(path) > 0;
    const int there = one ? access(path, R_OK) == 0 : folder_there(path, e);
    if (there <= 0)
        return there ? -1 : err_set(e, "%s: no such %s", path, one ? "picture, or not to be read"
                                                                   : "folder of pictures");
    Starts *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    *s = (Starts){.path = path, .one = one, .sampled = sampled, .vae = vae, .C = C, .H = H, .W = W};
    const size_t scale = (size_t)vae_scale(vae), n = size_of(s);
    s->pixels = malloc(sizeof *s->pixels * 3 * scale*H * scale*W);
    s->mean = malloc(sizeof *s->mean * n);
    s->log_variance = malloc(sizeof *s->log_variance * n);
    s->planes = malloc(sizeof *s->planes * n);
    s->noise = malloc(sizeof *s->noise * n);
    *out = s;
    if (s->pixels && s->mean && s->log_variance && s->planes && s->noise)
        return 0;
    starts_free(s);
    *out = NULL;
    return err_set(e, "out of memory for a picture of %zu x %zu", scale*W, scale*H);
}

void starts_free(Starts *s)
{
    if (!s)
        return;
    free(s->pixels);
    free(s->mean);
    free(s->log_variance);
    free(s->planes);
    free(s->noise);
    free(s);
}

static void take_pixels(float *y, const Resampled *r, int h, int w)
{
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++)
            for (int c = 0; c < 3; c++)
                *y++ = 2*((float)r->pixels[i*r->row + j*r->column + c]/255.0f) - 1;
}

/* The posterior of the picture in a file. */
static int encode(Starts *s, const char *file, Err *e)
{
    const int scale = vae_scale(s->vae), h = s->H*scale, w = s->W*scale;
    Image image;
    Resampled r = {0};
    if (image_read_rgb(&image, file, NULL, e))
        return -1;
    int failed = resample_cover(&r, image.pixels, image.height, image.width, h, w, e);
    if (!failed) {
        take_pixels(s->pixels, &r, h, w);
        failed = vae_encode(s->vae, s->pixels, 1, h, w, s->mean, s->log_variance, e);
    }
    if (!failed && !(dtype_finite(s->mean, F32, size_of(s)) && dtype_finite(s->log_variance, F32, size_of(s))))
        failed = err_set(e, "%s: the VAE made numbers of it that are none: values leave the range of --dtype", file);
    resampled_free(&r);
    image_free(&image);
    return failed;
}

/* *text: a field's. 1; 0 where there is none or nothing in it; -1 where it is no text, or none that can name a file. */
static int text_field(const char **text, const CondBatch *b, const CondItem *item, const char *field, Err *e)
{
    const json_t *value = json_object_get(item->record.fields, field);
    *text = json_string_value(value);
    if (!value || (*text && !**text && json_string_length(value) == 0))
        return 0;
    if (!*text || strlen(*text) != json_string_length(value))
        return err_set(e, "%s: record %ld: %s is not text that can name a file", stream_name(b->in),
                       item->record.number, field);
    return 1;
}

/* Where there is no such PNG file but a JPEG, the name of that. stem: bytes before the ending */
static void other_ending(char *file, size_t size, size_t stem)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".JPG"};
    for (size_t i = 0; i < sizeof endings/sizeof *endings && access(file, F_OK) != 0; i++)
        snprintf(file + stem, size - stem, "%s", endings[i]);
    if (access(file, F_OK) != 0)
        snprintf(file + stem, size - stem, ".png");
}

/* The record's picture, unless it was the last one's too. */
static int encode_for(Starts *s, const CondBatch *b, const CondItem *item, Err *e)
{
    char file[sizeof s->encoded];
    const char *name, *end = "";
    int got = s->one ? 1 : text_field(&name, b, item, "init_image", e);
    if (got == 0) {
        got = text_field(&name, b, item, "id", e);
        end = ".png";
    }
    if (got < 0)
        return -1;
    if (got == 0)
        return err_set(e, "%s: record %ld: has neither an id nor an init_image, which name its picture",
                       stream_name(b->in), item->record.number);
    const int n = s->one ? snprintf(file, sizeof file, "%s", s->path)
                         : snprintf(file, sizeof file, "%s/%s%s", s->path, name, end);
    if (n >= (int)sizeof file)
        return err_set(e, "%s: record %ld: the file name '%.200s'... is too long", stream_name(b->in),
                       item->record.number, name);
    if (*end)
        other_ending(file, sizeof file, (size_t)n - strlen(end));
    if (strcmp(file, s->encoded) == 0)
        return 0;
    Err why = {0};
    s->encoded[0] = '\0';
    if (encode(s, file, &why))
        return err_set(e, "%s: record %ld: %s", stream_name(b->in), item->record.number, why.text);
    strcpy(s->encoded, file);
    return 0;
}

/* From the posterior to the item's own latent. */
static int take_latent(Starts *s, CondItem *item, Err *e)
{
    const size_t n = size_of(s), cells = (size_t)s->H*s->W;
    Noise noise;
    noise_seed(&noise, item->seed);
    if (!(item->start = malloc(sizeof *item->start * n)))
        return err_set(e, "out of memory for a latent");
    latent_to_planes(item->start, s->mean, s->C, cells);
    if (s->sampled) {
        noise_draw(&noise, s->noise, n);
        latent_to_planes(s->planes, s->log_variance, s->C, cells);
        for (size_t i = 0; i < n; i++)
            item->start[i] += expf(0.5f*fminf(fmaxf(s->planes[i], -30), 20))*s->noise[i];
    }
    vae_scale_latent(s->vae, item->start, n);
    return 0;
}

int starts_fill(Starts *s, CondBatch *batch, Err *e)
{
    for (int i = 0; i < batch->count; i++) {
        CondItem *item = &batch->item[i];
        if (!s->sampled && !item->init_state && json_object_get(item->record.fields, "init_prompt"))
            return err_set(e, "%s: record %ld: has an init_prompt and no init_state: encode it with sd-encode-text",
                           stream_name(batch->in), item->record.number);
        if (encode_for(s, batch, item, e) || take_latent(s, item, e))
            return -1;
    }
    return 0;
}
