/* SPDX-License-Identifier: MIT */
/* pictures.c -- latents to PNG files in a folder, or to an images stream. */
#include <stdlib.h>
#include <string.h>
#include "formats/affix.h"
#include "formats/aside.h"
#include "formats/folder.h"
#include "formats/image.h"
#include "formats/image_writer.h"
#include "src/models/id_set.h"
#include "src/models/latent.h"
#include "src/models/pictures.h"
#include "src/models/run_fields.h"

/* Pixels; bytes of an id's part, which with .png, and .part-PID until it is whole, is a name of 255 at most. */
enum { SIDE_MAX = 8192, PART_MAX = 238 };

struct Pictures {
    const char *input;              /* name of the stream that the records are of */
    char *folder;                   /* NULL: a stream */
    ImageWriter *writer;            /* of the folder's files */
    IdSet written;                  /* ids of the folder's files */
    StreamOut *stream;
    Vae *vae;
    json_t *header;                 /* fields for the text chunks */
    float *rows, *pixels;           /* latent as rows; decoded picture */
    float *latent;                  /* that image was decoded from: variants of a sweep often draw the same */
    size_t latent_size;             /* 0: nothing decoded yet */
    int latent_h;
    uint8_t *image;
    size_t capacity;                /* pixels held */
};

static bool is_stream(const char *path)
{
    return strcmp(path, "-") == 0 || ends_with(path, ".mpk") || ends_with(path, ".mpk.zst");
}

int pictures_check(const char *path, Err *e)
{
    if (image_ending(path))
        return err_misuse(e, "%s: pictures go to a folder, each a PNG file named by its id, or to a stream, *.mpk.zst",
                          path);
    return !is_stream(path) && folder_there(path, e) < 0 ? -1 : 0;
}

static int check_folder(const char *path, Err *e)
{
    if (aside_is_open(path))
        return err_set(e, "%s: cannot be a folder of pictures: it is an output already", path);
    return pictures_check(path, e);
}

int pictures_open(Pictures **out, const char *path, Vae *vae, const StreamIn *in, const Record *header,
                  const StreamOptions *options, Err *e)
{
    *out = NULL;
    Pictures *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->vae = vae;
    p->input = stream_name(in);
    p->header = json_incref(header->fields);
    int failed = is_stream(path) ? stream_create(&p->stream, path, header, options, e)
                        : check_folder(path, e) || !(p->folder = strdup(path))
                          || image_writer_create(&p->writer, options->threads, e);
    if (failed) {
        err_set(e, "out of memory");
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

/* An id names a file below the folder and nothing else, and no two the same. */
static int check_id(Pictures *p, const Record *rec, const char *id, Err *e)
{
    for (const char *part = id; ; part = strchr(part, '/') + 1) {
        size_t n = strcspn(part, "/");
        if (n == 0 || part[0] == '.')
            return err_set(e, "%s: record %ld: id '%.200s' cannot name a file: a part is empty or starts with a dot",
                           p->input, rec->number, id);
        if (n > PART_MAX)
            return err_set(e, "%s: record %ld: id '%.40s'... cannot name a file: a part has %zu bytes, expected %d at "
                           "most", p->input, rec->number, id, n, PART_MAX);
        if (!part[n])
            break;
    }
    const int fresh = id_set_add(&p->written, id);
    if (fresh < 0)
        return err_set(e, "out of memory for the ids of %zu pictures", p->written.count);
    return fresh ? 0 : err_set(e, "%s: record %ld: id '%.200s' came before: its picture would take the other's place",
                               p->input, rec->number, id);
}

static int write_png(Pictures *p, const Record *rec, const char *id, const uint8_t *rgb, int H, int W, Err *e)
{
    char path[4096];
    if (check_id(p, rec, id, e))
        return -1;
    if (snprintf(path, sizeof path, "%s/%s.png", p->folder, id) >= (int)sizeof path)
        return err_set(e, "%s: record %ld: the file name of id '%.200s'... is too long", p->input, rec->number, id);
    if (folder_make_above(path, e))
        return -1;
    json_t *text = json_copy(rec->fields);
    run_fields_copy(text, p->header, run_fields_of_pictures);
    const int failed = image_writer_add(p->writer, path, W, H, 3, rgb, text, e);
    json_decref(text);
    return failed;
}

/* p->image of a latent (C,h,w) */
static int decode(Pictures *p, const Record *rec, const float *latent, int C, int h, int w, Err *e)
{
    if (h < 1 || w < 1)
        return err_set(e, "%s: record %ld: a latent of %d x %d, expected 1 x 1 at least", p->input, rec->number, h, w);
    if (h > SIDE_MAX / vae_scale(p->vae) || w > SIDE_MAX / vae_scale(p->vae))
        return err_set(e, "%s: record %ld: a latent of %d x %d, expected pictures of sides up to %d", p->input,
                       rec->number, h, w, SIDE_MAX);
    const size_t cells = (size_t)h * w, bytes = cells * C * sizeof(float),
        pixels = cells * vae_scale(p->vae) * vae_scale(p->vae);
    if (reserve(p, cells * C, pixels, e))
        return -1;
    if (p->latent_size == bytes && p->latent_h == h && memcmp(p->latent, latent, bytes) == 0)
        return 0;
    latent_to_rows(p->rows, latent, C, cells);
    p->latent_size = 0;
    if (vae_decode(p->vae, p->rows, 1, h, w, p->pixels, e))
        return -1;
    if (!dtype_finite(p->pixels, F32, pixels * 3))
        return err_set(e, "%s: record %ld: the VAE made pixels that are no numbers: values leave the range of --dtype, "
                       "or the latent is none of this model's", p->input, rec->number);
    vae_to_u8(p->image, p->pixels, (int64_t)pixels * 3);
    memcpy(p->latent, latent, bytes);
    p->latent_size = bytes;
    p->latent_h = h;
    return 0;
}

int pictures_write(Pictures *p, const Record *rec, const float *latent, int C, int h, int w, Err *e)
{
    return decode(p, rec, latent, C, h, w, e)
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
    return p->stream ? stream_finish(p->stream, e) : image_writer_drain(p->writer, e);
}

void pictures_abandon(Pictures *p)
{
    if (!p)
        return;
    stream_abandon(p->stream);
    image_writer_free(p->writer);
    id_set_free(&p->written);
    free(p->folder);
    json_decref(p->header);
    free(p->latent);
    free(p->rows);
    free(p->pixels);
    free(p->image);
    free(p);
}
