/* SPDX-License-Identifier: MIT */
/* sd-encode-image.c -- pictures to embeddings, by CLIP's image tower. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/compute.h"
#include "src/models/convnet.h"
#include "src/models/model.h"
#include "src/models/picture_source.h"
#include "src/models/text_encoder.h"

enum { BATCH = 32 };

typedef struct Config {
    Common c;
    const char *net;
    int normalize;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "net", OPT_STR, offsetof(Config, net), NULL,
     "FILE  a judge's network in place of CLIP, safetensors (minisd's: data/minisd/judge.safetensors)", OPT_NEUTRAL},
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
    "the centre as CLIP wants them. With --net a plain convolutional network describes them instead (its features, for "
    "a classifier trained on them); it takes pictures of its own size only. Memory does not depend on the number of "
    "pictures.",
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
    PictureSource *source;
    StreamOut *out;
    Progress *progress;
    int size, P;
    size_t values;                  /* of a prepared picture */
    float *pixels;                  /* [BATCH][size,size,3], prepared for CLIP, or */
    uint8_t *pictures;              /* the same as they came, for --net */
    float *embedding;               /* [BATCH][P] */
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

static int open_stream(Run *r, Err *e)
{
    const StreamOptions o = compute_stream_options(&r->cfg->c);
    json_t *provenance = picture_source_provenance(r->source);
    Record header;
    json_array_append_new(provenance, cli_provenance(&cli));
    record_init(&header, "embeddings");
    record_set_text(&header, "model", r->id);
    record_set_json(&header, "provenance", provenance);
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
        if (!failed && !dtype_finite(y, F32, (size_t)r->P))
            failed = err_set(e, "the embedding of %s is no number: values leave the range of --dtype",
                             record_text(&r->record[i], "id", "a picture"));
        record_add_tensor(&r->record[i], "embedding", F32, 1, (int64_t[]){r->P}, y);
        failed = failed || stream_write(r->out, &r->record[i], e);
        record_clear(&r->record[i]);
    }
    r->written += r->waiting;
    r->waiting = 0;
    progress_set(r->progress, r->written);
    return failed ? -1 : 0;
}

/* Puts a picture with its fields in the queue; both are copied. */
static int add_picture(Run *r, const Picture *p, Err *e)
{
    const size_t at = r->waiting * r->values;
    char where[4200];
    if (r->net && (p->H != r->size || p->W != r->size))
        return err_set(e, "%s: the picture is %d x %d, the network takes %d x %d",
                       picture_source_where(r->source, where, sizeof where), p->W, p->H, r->size, r->size);
    if (r->net)
        memcpy(r->pictures + at, p->rgb, r->values);
    else if (image_prepare(r->pixels + at, p->rgb, p->H, p->W, r->size, e))
        return -1;
    record_init(&r->record[r->waiting], NULL);
    record_copy_fields(&r->record[r->waiting], &p->record);
    r->waiting++;
    return r->waiting == BATCH ? write_batch(r, e) : 0;
}

static int encode_all(Run *r, Err *e)
{
    Picture p;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = picture_source_next(r->source, &p, e)) > 0)
        if (add_picture(r, &p, e))
            return -1;
    return got || write_batch(r, e);
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->out);
    picture_source_close(r->source);
    image_encoder_free(r->encoder);
    convnet_free(r->net);
    for (int i = 0; i < r->waiting; i++)
        record_clear(&r->record[i]);
    free(r->pixels);
    free(r->pictures);
    free(r->embedding);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);

    int failed = compute_start(&r.compute, &cfg.c, &e)
              || open_model(&r, &e)
              || picture_source_open(&r.source, cfg.c.inputs.items, cfg.c.inputs.count, &e)
              || open_stream(&r, &e)
              || encode_all(&r, &e)
              || stream_finish(r.out, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
