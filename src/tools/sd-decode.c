/* SPDX-License-Identifier: MIT */
/* sd-decode.c -- latents to pictures, by the model's VAE. */
#include <stdlib.h>
#include <string.h>
#include "src/cli/compute.h"
#include "src/models/model.h"
#include "src/models/pictures.h"

typedef struct Config {
    Common c;
    int any_model;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "any-model", OPT_FLAG, offsetof(Config, any_model), NULL,
     "decode latents that another model drew, with this one's VAE", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-decode", "Decode a stream of latents into pictures.", options, "[FILE]",
    "Reads a latents stream, as sd-sample-hooked --latents and sd-steer --latents write it, and decodes each record "
    "with the VAE of the model. -o DIR writes PNG files named by the records' ids, whose text chunks hold the record's "
    "fields and the stream's provenance; - or a name ending in .mpk or .mpk.zst is a stream of images.\n"
    "One picture is in work at a time: memory does not depend on the number of records.",
    "# draw now, decode later or elsewhere\n"
    "sd-encode-text prompts.jsonl | sd-sample-hooked --no-activations --latents latents.mpk.zst\n"
    "sd-decode latents.mpk.zst -o pictures/\n"
    "# a stream of images, for sd-encode-image\n"
    "sd-decode latents.mpk.zst | sd-encode-image -o embeddings.mpk.zst"
};

typedef struct Run {
    const Config *cfg;
    Compute compute;
    StreamIn *in;
    Vae *vae;
    Pictures *pictures;
    Progress *progress;
    float *latent;                  /* (c,h,w) of the current record */
    size_t size;
} Run;

static int check_model(const Run *r, Err *e)
{
    const char *drew = record_text(stream_header(r->in), "model", "");
    if (r->cfg->any_model || !*drew || folder_same(drew, r->compute.id))
        return 0;
    return err_set(e, "%s: latents of model %s, but %s is model %s; --any-model decodes them all the same",
                   stream_name(r->in), drew, r->compute.model, r->compute.id);
}

/* The input's header, as that of images. */
static int open_pictures(Run *r, Err *e)
{
    const StreamOptions o = cli_stream_options(&r->cfg->c);
    Record header;
    const char *name;
    json_t *value;
    record_init(&header, "images");
    json_object_foreach(stream_header(r->in)->fields, name, value)
        if (!json_object_get(header.fields, name))
            record_set_json(&header, name, json_incref(value));
    record_provenance(&header, r->in, cli_provenance(&cli));
    const int failed = pictures_open(&r->pictures, r->cfg->c.output, r->vae, r->in, &header, &o, e);
    record_clear(&header);
    return failed;
}

static int decode_record(Run *r, const Record *rec, Err *e)
{
    const StreamTensor *t = stream_need(r->in, rec, "latent", -1, 3, (int64_t[]){vae_channels(r->vae), -1, -1}, e);
    if (!t)
        return -1;
    const size_t n = tensor_count(t);
    if (n > r->size) {
        free(r->latent);
        r->latent = malloc(n*sizeof *r->latent);
        r->size = r->latent ? n : 0;
        if (!r->latent)
            return err_set(e, "out of memory for a latent of %zu values", n);
    }
    if (stream_floats(r->in, rec, t, r->latent, e))
        return -1;
    return pictures_write(r->pictures, rec, r->latent, (int)t->dim[0], (int)t->dim[1], (int)t->dim[2], e);
}

static int decode_all(Run *r, Err *e)
{
    Record rec;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = stream_next(r->in, &rec, e)) > 0) {
        if (decode_record(r, &rec, e))
            return -1;
        progress_set(r->progress, rec.number);
    }
    return got;
}

static void release(Run *r)
{
    progress_end(r->progress);
    pictures_abandon(r->pictures);
    vae_free(r->vae);
    stream_close(r->in);
    free(r->latent);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);

    int failed = pictures_check(cfg.c.output, &e)
              || compute_start(&r.compute, &cfg.c, &e)
              || stream_open_kind(&r.in, compute_input(&cli, &cfg.c), "latents", &e)
              || check_model(&r, &e)
              || vae_load(&r.vae, r.compute.model, r.compute.type, &e)
              || open_pictures(&r, &e)
              || decode_all(&r, &e)
              || pictures_finish(r.pictures, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
