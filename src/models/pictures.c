/* SPDX-License-Identifier: MIT */
/* pictures.c -- latents to PNG files in a folder, or to an images stream. */
#include <stdlib.h>
#include <string.h>
#include "formats/folder.h"
#include "formats/image.h"
#include "src/models/latent.h"
#include "src/models/pictures.h"

struct Pictures {
    char *folder;                   /* NULL: a stream */
    StreamOut *stream;
    Vae *vae;
    json_t *header;                 /* fields for the text chunks */
    float *rows, *pixels;           /* latent as rows; decoded picture */
    float *latent;                  /* that image was decoded from: variants of a sweep often draw the same */
    size_t latent_size;             /* 0: nothing decoded yet */
    uint8_t *image;
    size_t capacity;                /* pixels held */
};

static int ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

int pictures_open(Pictures **out, const char *path, Vae *vae, const Record *header, const StreamOptions *options,
                  Err *e)
{
    *out = NULL;
    Pictures *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->vae = vae;
    p->header = json_incref(header->fields);
    const int stream = strcmp(path, "-") == 0 || ends_with(path, ".mpk") || ends_with(path, ".mpk.zst");
    int failed = stream ? stream_create(&p->stream, path, header, options, e)
                        : (p->folder = strdup(path)) ? 0 : err_set(e, "out of memory");
    if (failed) {
        pictures_abandon(p);
        return -1;
    }
    *out = p;
    return 0;
}

static int reserve(Pictures *p, size_t latent, size_t pixels, Err *e)
{
    if (pixels <= p->capacity)
        return 0;
    free(p->rows);
    free(p->pixels);
    free(p->image);
    free(p->latent);
    p->latent_size = 0;
    p->latent = malloc(latent * sizeof(float));
    p->rows = malloc(latent * sizeof(float));
    p->pixels = malloc(pixels * 3 * sizeof(float));
    p->image = malloc(pixels * 3);
    p->capacity = pixels;
    return p->latent && p->rows && p->pixels && p->image ? 0
        : err_set(e, "out of memory for a picture of %zu pixels", pixels);
}

/* An id names a file below the folder and nothing else. */
static int check_id(const char *id, long number, Err *e)
{
    for (const char *part = id; ; part = strchr(part, '/') + 1) {
        size_t n = strcspn(part, "/");
        if (n == 0 || part[0] == '.')
            return err_set(e, "record %ld: id '%s' cannot name a file: a part is empty or starts with a dot", number,
                           id);
        if (!part[n])
            return 0;
    }
}

static int write_png(Pictures *p, const Record *rec, const char *id, const uint8_t *rgb, int H, int W, Err *e)
{
    char path[4096];
    if (check_id(id, rec->number, e))
        return -1;
    if (snprintf(path, sizeof path, "%s/%s.png", p->folder, id) >= (int)sizeof path)
        return err_set(e, "record %ld: the file name of id '%s' is too long", rec->number, id);
    if (folder_make_above(path, e))
        return -1;
    json_t *text = json_copy(rec->fields);
    static const char *const shared[] = {"model", "sampler", "steps", "guidance", "sae", "provenance"};
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        json_t *value = json_object_get(p->header, shared[i]);
        if (value && !json_object_get(text, shared[i]))
            json_object_set(text, shared[i], value);
    }
    int failed = image_write(path, W, H, 3, rgb, text, e);
    json_decref(text);
    return failed;
}

/* p->image of a latent (C,h,w) */
static int decode(Pictures *p, const float *latent, int C, int h, int w, Err *e)
{
    const size_t cells = (size_t)h * w, bytes = cells * C * sizeof(float),
        pixels = cells * vae_scale(p->vae) * vae_scale(p->vae);
    if (reserve(p, cells * C, pixels, e))
        return -1;
    if (p->latent_size == bytes && memcmp(p->latent, latent, bytes) == 0)
        return 0;
    latent_to_rows(p->rows, latent, C, cells);
    p->latent_size = 0;
    if (vae_decode(p->vae, p->rows, 1, h, w, p->pixels, e))
        return -1;
    vae_to_u8(p->image, p->pixels, (int64_t)pixels * 3);
    memcpy(p->latent, latent, bytes);
    p->latent_size = bytes;
    return 0;
}

int pictures_write(Pictures *p, const Record *rec, const float *latent, int C, int h, int w, Err *e)
{
    return decode(p, latent, C, h, w, e)
        || pictures_write_rgb(p, rec, p->image, h * vae_scale(p->vae), w * vae_scale(p->vae), e);
}

int pictures_write_rgb(Pictures *p, const Record *rec, const uint8_t *rgb, int H, int W, Err *e)
{
    if (p->folder)
        return write_png(p, rec, record_text(rec, "id", ""), rgb, H, W, e);
    Record image = *rec;
    image.tensors = 0;
    record_add_tensor(&image, "image", U8, 3, (int64_t[]){H, W, 3}, rgb);
    return stream_write(p->stream, &image, e);
}

int pictures_finish(Pictures *p, Err *e)
{
    return p->stream ? stream_finish(p->stream, e) : 0;
}

void pictures_abandon(Pictures *p)
{
    if (!p)
        return;
    stream_abandon(p->stream);
    free(p->folder);
    json_decref(p->header);
    free(p->latent);
    free(p->rows);
    free(p->pixels);
    free(p->image);
    free(p);
}
