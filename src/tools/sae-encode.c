/* SPDX-License-Identifier: MIT */
/* sae-encode.c -- activations to sparse features: the K kept of each token. */
#include <string.h>
#include "src/cli/cli.h"
#include "src/cli/compute.h"
#include "src/models/model.h"
#include "src/models/run_fields.h"
#include "src/models/sae_stream.h"

typedef struct Config {
    Common c;
    const char *sae, *hook, *half;
} Config;

static const Opt options[] = {
    {'s', "sae", OPT_STR, offsetof(Config, sae), NULL, "DIR  autoencoder, as sae-fit or SAeUron wrote it",
     OPT_REQUIRED},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  module whose activations are encoded (default: the autoencoder's)", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "both",
     "cond|uncond|both  halves of classifier-free guidance to encode", 0},
    {0, "dtype", OPT_STR, offsetof(Config, c.dtype), "f32",
     "auto|f32|bf16  type of the encoder's product; auto: bf16 where the processor has it", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-encode", "Encode activations into sparse features.", options, "[FILE]",
    "Reads a stream of activations and writes one of features: for each token the k (\"most\" in cfg.json, where it "
    "is there) that are furthest above their thresholds, the furthest first. Of topk, batchtopk, sampletopk, "
    "matryoshka and relu, whose features share a threshold, that is the largest value first; of jumprelu and gated, "
    "whose features have each its own, the values are in no order.\n"
    "Tensors: index [H,W,k] i32, value [H,W,k] f32 (0 where fewer than k are above 0), or [N,k] where the activations "
    "are a subset of tokens. All other fields stay.\n"
    "Memory is that of one record and the autoencoder's weights.",
    "sd-assemble-prompts -n 1 | sd-encode-text | sd-sample-hooked | sae-encode --sae sae/ -o features.mpk.zst"
};

static int create(StreamOut **out, const Config *cfg, const SaeStream *s, Err *e)
{
    const StreamIn *in = activations_stream(s->in);
    const json_t *from = stream_header(in)->fields;
    const StreamOptions o = cli_stream_options(&cfg->c);
    Record header;
    record_init(&header, "features");
    record_set_text(&header, "sae", s->sae->id);
    record_set_int(&header, "k", s->sae->K);
    if (json_object_get(s->sae->cfg, "labels"))
        json_object_set(header.fields, "assigned", json_object_get(s->sae->cfg, "labels"));
    record_set_int(&header, "features", s->sae->F);
    record_set_json(&header, "hooks", json_pack("[s]", activations_hook(s->in, 0)));
    record_set_text(&header, "half", cfg->half);
    run_fields_copy(header.fields, from, (const char *const[]){"take", NULL});
    record_provenance(&header, in, cli_provenance(&cli));
    const int failed = stream_create(out, cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

static int write_features(StreamOut *out, const SaeStream *s, Err *e)
{
    Record rec;
    const StreamTensor *t = s->act.tensor.act, *token = record_tensor(s->act.rec, "token");
    int64_t dim[STREAM_MAX_DIMS];
    memcpy(dim, t->dim, sizeof dim);
    dim[t->ndim - 1] = s->sae->K;
    record_init(&rec, NULL);
    json_object_update(rec.fields, s->act.rec->fields);
    if (token)
        record_add_tensor(&rec, "token", token->type, token->ndim, token->dim, token->data);
    record_add_tensor(&rec, "index", I32, t->ndim, dim, s->i);
    record_add_tensor(&rec, "value", F32, t->ndim, dim, s->a);
    const int failed = stream_write(out, &rec, e);
    record_clear(&rec);
    return failed;
}

static int encode_all(SaeStream *s, StreamOut *out, Progress *p, Err *e)
{
    int got;
    for (long long n = 0; (got = sae_stream_next(s, false, e)) == 1; progress_set(p, ++n))
        if (write_features(out, s, e))
            return -1;
    return got;
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    SaeStream s = {0};
    StreamOut *out = NULL;
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    SaeStreamOptions o = {.sae = cfg.sae, .paths = cfg.c.inputs.items, .path_count = cfg.c.inputs.count,
                          .hook = cfg.hook, .half = cfg.half};
    compute_input(&cli, &cfg.c);                /* one at most: records keep their order */

    int failed = compute_backend(&cfg.c, &e)
              || model_dtype(&o.type, cfg.c.dtype, &e)
              || sae_stream_open(&s, &o, &e)
              || create(&out, &cfg, &s, &e);
    if (!failed) {
        Progress *p = progress_start(&cli, "records", 0);
        failed = encode_all(&s, out, p, &e) || stream_finish(out, &e);
        progress_end(p);
    }
    stream_abandon(out);
    sae_stream_close(&s);
    return failed ? cli_report(&cli, &e) : 0;
}
