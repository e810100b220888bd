/* SPDX-License-Identifier: MIT */
/* sd-encode-image.c -- pictures to embeddings, by CLIP's image tower. */
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/image.h"
#include "src/cli/compute.h"
#include "src/models/convnet.h"
#include "src/models/model.h"
#include "src/models/text_encoder.h"

enum { BATCH = 32 };

typedef struct Config {
    Common c;
    const char *net;
    int normalize;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "net", OPT_STR, offsetof(Config, net), NULL, "FILE  a judge's network in place of CLIP, safetensors (minisd's: data/minisd/judge.safetensors)", OPT_NEUTRAL},
    {0, "normalize", OPT_FLAG, offsetof(Config, normalize), NULL, "embeddings of length 1", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-encode-image", "Encode pictures into embeddings with CLIP's image tower.", options, "[FILE|FOLDER...]",
    "Reads images streams (no operand, or -, is standard input), PNG files, and folders, whose PNG files are taken in "
    "the order of their names, subfolders too. Writes an embeddings stream: of each picture its fields and its "
    "embedding [P], the projected class token. The fields of a PNG file are its text chunks as sd-steer and sd-decode "
    "write them; its id, where it has none, is its path within the folder, without .png.\n"
    "CLIP is the folder clip/ of the model (a CLIPModel). Pictures are resized (short side, bicubic) and cropped in "
    "the centre as CLIP wants them. With --net a plain convolutional network describes them instead (its features, for a "
    "classifier trained on them); it takes pictures of its own size only. Memory does not depend on the number of pictures.",
    "# embeddings of a folder of pictures\n"
    "sd-encode-image pictures/ -o embeddings.mpk.zst\n"
    "# straight from the sampler into the evaluation\n"
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes conditioning.mpk.zst | sd-encode-image | sd-evaluate"
};

typedef struct Run {
    const Config *cfg;
    Compute compute;
    char id[128];                   /* of the CLIP */
    ImageEncoder *encoder;          /* CLIP, or */
    ConvNet *net;                   /* --net */
    StreamOut *out;
    Progress *progress;
    int size, P;
    size_t values;                  /* of a prepared picture */
    float *pixels;                  /* [BATCH][size,size,3], prepared for CLIP, or */
    uint8_t *pictures;              /* the same as they came, for --net */
    float *embedding;               /* [BATCH][P] */
    uint8_t *rgb;                   /* a grey picture as colours */
    size_t rgb_size;
    Record record[BATCH];           /* fields of the pictures that wait */
    int waiting;
    long written;
} Run;

static int open_clip(Run *r, Err *e)
{
    char clip[4200];
    snprintf(clip, sizeof clip, "%.4096s/clip", r->compute.model);
    if (image_encoder_load(&r->encoder, r->compute.model, r->compute.type, e) || model_id(r->id, clip, e))
        return -1;
    r->size = image_encoder_size(r->encoder);
    r->P = image_encoder_projection(r->encoder);
    return 0;
}

static int open_net(Run *r, Err *e)
{
    const char *path = r->cfg->net, *slash = strrchr(path, '/');
    if (convnet_load(&r->net, path, e))
        return -1;
    snprintf(r->id, sizeof r->id, "%s", slash ? slash + 1 : path);
    r->size = convnet_size(r->net);
    r->P = convnet_width(r->net);
    return 0;
}

static int open_model(Run *r, Err *e)
{
    if (r->cfg->net ? open_net(r, e) : open_clip(r, e))
        return -1;
    r->values = (size_t)r->size * r->size * 3;
    r->pixels = r->net ? NULL : malloc(BATCH * r->values * sizeof *r->pixels);
    r->pictures = r->net ? malloc(BATCH * r->values) : NULL;
    r->embedding = malloc((size_t)BATCH * r->P * sizeof *r->embedding);
    return (r->pixels || r->pictures) && r->embedding ? 0 : err_set(e, "out of memory");
}

/* The output's header; in: the first input where that is a stream, else NULL. Later ones add nothing to it. */
static int open_stream(Run *r, const StreamIn *in, Err *e)
{
    const StreamOptions o = compute_stream_options(&r->cfg->c);
    Record header;
    if (r->out)
        return 0;
    record_init(&header, "embeddings");
    record_set_text(&header, "model", r->id);
    record_provenance(&header, in, cli_provenance(&cli));
    const int failed = stream_create(&r->out, r->cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

static void normalize(float *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)y[i] * y[i];
    for (int i = 0; i < n && sum > 0; i++)
        y[i] = (float)(y[i] / sqrt(sum));
}

/* Encodes and writes the pictures that wait. */
static int write_batch(Run *r, Err *e)
{
    int failed = r->waiting == 0 ? 0
               : r->net ? convnet_embed(r->net, r->pictures, r->waiting, r->embedding, e)
                        : image_embed(r->encoder, r->pixels, r->waiting, r->embedding, e);
    for (int i = 0; i < r->waiting; i++) {
        float *y = r->embedding + (size_t)i * r->P;
        if (r->cfg->normalize && !failed)
            normalize(y, r->P);
        record_add_tensor(&r->record[i], "embedding", F32, 1, (int64_t[]){r->P}, y);
        failed = failed || stream_write(r->out, &r->record[i], e);
        record_clear(&r->record[i]);
    }
    r->written += r->waiting;
    r->waiting = 0;
    progress_set(r->progress, r->written);
    return failed ? -1 : 0;
}

/* Puts a picture with its fields in the queue; fields are copied. */
static int add_picture(Run *r, const Record *fields, const uint8_t *image, int H, int W, Err *e)
{
    if (!r->net)
        image_prepare(r->pixels + r->waiting * r->values, image, H, W, r->size);
    else if (H == r->size && W == r->size)
        memcpy(r->pictures + r->waiting * r->values, image, r->values);
    else
        return err_set(e, "picture %s is %d x %d, the network takes %d x %d", record_text(fields, "id", ""), W, H, r->size, r->size);
    record_init(&r->record[r->waiting], NULL);
    record_copy_fields(&r->record[r->waiting], fields);
    r->waiting++;
    return r->waiting == BATCH ? write_batch(r, e) : 0;
}

/* ---- streams ---- */

static int encode_stream(Run *r, const char *path, Err *e)
{
    StreamIn *in = NULL;
    Record rec;
    int got = stream_open_kind(&in, path, "images", e);
    if (got == 0)
        got = open_stream(r, in, e);
    while (got >= 0 && (got = stream_next(in, &rec, e)) > 0) {
        const StreamTensor *t = stream_need(in, &rec, "image", U8, 3, (int64_t[]){-1, -1, 3}, e);
        if (t && tensor_count(t) == 0)
            err_set(e, "%s: record %ld: the picture has no pixels", stream_name(in), rec.number);
        if (!t || e->set || add_picture(r, &rec, t->data, (int)t->dim[0], (int)t->dim[1], e))
            got = -1;
    }
    stream_close(in);
    return got;
}

/* ---- PNG files ---- */

static const uint8_t *as_rgb(Run *r, const Image *image, Err *e)
{
    const size_t n = (size_t)image->width * image->height;
    if (image->channels == 3)
        return image->pixels;
    if (3 * n > r->rgb_size) {
        free(r->rgb);
        r->rgb = malloc(3 * n);
        r->rgb_size = r->rgb ? 3 * n : 0;
    }
    if (!r->rgb) {
        err_set(e, "out of memory for a picture of %d x %d", image->width, image->height);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        memset(r->rgb + 3 * i, image->pixels[i], 3);
    return r->rgb;
}

/* A text chunk as the field it was: chunks that describe the run are no fields; numbers and objects were written as
 * JSON. */
static void take_chunk(Record *rec, const char *name, const json_t *text)
{
    static const char *const of_run[] = {"model", "sampler", "steps", "guidance", "sae"};
    static const char *const json[] = {"seed", "steering"};
    json_t *value = NULL;
    for (size_t i = 0; i < sizeof of_run / sizeof of_run[0]; i++)
        if (strcmp(name, of_run[i]) == 0)
            return;
    for (size_t i = 0; i < sizeof json / sizeof json[0]; i++)
        if (strcmp(name, json[i]) == 0)
            value = json_loads(json_string_value(text), JSON_DECODE_ANY, NULL);
    record_set_json(rec, name, value ? value : json_copy((json_t *)text));
}

/* folder: length of the part of path that is no part of the id. */
static int encode_png(Run *r, const char *path, size_t folder, Err *e)
{
    Image image = {0};
    json_t *chunks = NULL, *text;
    const char *name;
    Record rec;
    if (image_read(&image, path, &chunks, e))
        return -1;
    record_init(&rec, NULL);
    record_set_json(&rec, "id", json_stringn(path + folder, strlen(path) - folder - strlen(".png")));
    json_object_foreach(chunks, name, text)
        take_chunk(&rec, name, text);
    const uint8_t *rgb = as_rgb(r, &image, e);
    const int failed = !rgb || open_stream(r, NULL, e) || add_picture(r, &rec, rgb, image.height, image.width, e);
    record_clear(&rec);
    json_decref(chunks);
    image_free(&image);
    return failed ? -1 : 0;
}

static int is_png(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".png") == 0;
}

static struct { char **path; size_t count; } found;          /* nftw's callback has no argument of ours */

static int find_png(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)at;
    if (type != FTW_F || !is_png(path))
        return 0;
    char **grown = realloc(found.path, (found.count + 1) * sizeof *grown);
    if (grown)
        found.path = grown;
    if (!grown || !(found.path[found.count] = strdup(path)))
        return -1;
    found.count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int encode_folder(Run *r, const char *path, Err *e)
{
    int failed = 0;
    size_t folder = strlen(path);
    folder += folder > 0 && path[folder - 1] != '/';
    found.count = 0;
    if (nftw(path, find_png, 16, 0) != 0)
        failed = err_set(e, "%s: the folder cannot be read", path);
    else if (found.count == 0)
        failed = err_set(e, "%s: no PNG files in this folder", path);
    if (found.count > 1)
        qsort(found.path, found.count, sizeof *found.path, by_name);
    for (size_t i = 0; i < found.count; i++) {
        failed = failed || encode_png(r, found.path[i], folder, e);
        free(found.path[i]);
    }
    free(found.path);
    found.path = NULL;
    return failed ? -1 : 0;
}

static int encode_operand(Run *r, const char *path, Err *e)
{
    struct stat st;
    if (strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return encode_folder(r, path, e);
    const char *slash = strrchr(path, '/');
    return is_png(path) ? encode_png(r, path, slash ? (size_t)(slash + 1 - path) : 0, e) : encode_stream(r, path, e);
}

static int encode_all(Run *r, Err *e)
{
    const List *inputs = &r->cfg->c.inputs;
    r->progress = progress_start(&cli, "pictures", 0);
    int failed = inputs->count == 0 ? encode_operand(r, "-", e) : 0;
    for (int i = 0; i < inputs->count && !failed; i++)
        failed = encode_operand(r, inputs->items[i], e);
    return failed || write_batch(r, e);
}

static int finish(Run *r, Err *e)
{
    StreamOut *out = r->out;
    r->out = NULL;
    return stream_finish(out, e);
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->out);
    image_encoder_free(r->encoder);
    convnet_free(r->net);
    for (int i = 0; i < r->waiting; i++)
        record_clear(&r->record[i]);
    free(r->pixels);
    free(r->pictures);
    free(r->embedding);
    free(r->rgb);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);

    int failed = compute_start(&r.compute, &cfg.c, &e)
              || open_model(&r, &e)
              || encode_all(&r, &e)
              || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
