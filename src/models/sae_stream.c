/* SPDX-License-Identifier: MIT */
/* sae_stream.c -- an autoencoder over activation streams, record by record. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/sae_stream.h"

static int check_take(const SaeStream *s, Err *e)
{
    const StreamIn *in = activations_stream(s->in);
    const char *take = record_text(stream_header(in), "take", s->sae->take);
    if (strcmp(take, s->sae->take) == 0)
        return 0;
    return err_set(e, "%s: header: take is %s, the autoencoder%s%s was trained on %s", stream_name(in), take,
                   *s->sae->id ? " " : "", s->sae->id, s->sae->take);
}

int sae_stream_open(SaeStream *s, const SaeStreamOptions *options, Err *e)
{
    *s = (SaeStream){0};
    ActivationsOptions o = {.hook = options->hook, .half = options->half};
    if (options->sae ? sae_load(&s->sae, options->sae, e) : 0)
        return -1;
    if (!options->sae) {
        s->sae = options->borrowed;
        s->borrowed = true;
    }
    if (sae_prepare(s->sae, options->type, e))
        return -1;
    if (!o.hook && s->sae->hook[0])
        o.hook = s->sae->hook;
    if (activations_open(&s->in, options->paths, options->path_count, &o, e) || check_take(s, e))
        return -1;
    if (activations_hooks(s->in) != 1)
        return err_set(e, "%s: header: %d hooks, and %s/cfg.json does not say which it belongs to; give --hook",
                       stream_name(activations_stream(s->in)), activations_hooks(s->in), options->sae);
    return 0;
}

static void drop_memory(SaeStream *s)
{
    void *device[] = {s->device_x, s->device_a, s->device_y, s->device_i};
    for (int p = 0; p < 4; p++)
        if (device[p])
            op->free(device[p]);
    free(s->a);
    free(s->i);
    free(s->y);
    s->device_x = s->device_a = s->device_y = s->a = s->y = NULL;
    s->device_i = s->i = NULL;
    s->room = 0;
}

void sae_stream_close(SaeStream *s)
{
    if (s->sae)
        drop_memory(s);
    activations_close(s->in);
    if (!s->borrowed)
        sae_free(s->sae);
    *s = (SaeStream){0};
}

static int need_memory(SaeStream *s, int64_t N, Err *e)
{
    if (N <= s->room)
        return 0;
    drop_memory(s);
    const size_t ND = sizeof(float)*(size_t)N*(size_t)s->sae->D, NK = sizeof(float)*(size_t)N*(size_t)s->sae->K;
    s->a = malloc(NK);
    s->i = malloc(NK);
    s->y = malloc(ND);
    s->device_x = op->alloc(ND, e);
    s->device_y = op->alloc(ND, e);
    s->device_a = op->alloc(NK, e);
    s->device_i = op->alloc(NK, e);
    if (!s->a || !s->i || !s->y || !s->device_x || !s->device_y || !s->device_a || !s->device_i)
        return err_set(e, "out of memory for a record of %lld tokens", (long long)N);
    s->room = N;
    return 0;
}

int sae_stream_next(SaeStream *s, bool decode, Err *e)
{
    const int got = activations_next(s->in, &s->act, e);
    if (got <= 0)
        return got;
    const Sae *sae = s->sae;
    s->N = s->act.tensor.N;
    if (s->act.tensor.D != sae->D) {
        char text[128];
        return err_set(e, "%s: record %ld: act is %s, the autoencoder %s takes width %d", stream_name(s->act.in),
                       s->act.rec->number, tensor_shape_text(s->act.tensor.act, text), sae->id, sae->D);
    }
    if (!(s->x = activations_floats(s->in, &s->act, e)) || need_memory(s, s->N, e))
        return -1;
    const size_t ND = sizeof(float)*(size_t)s->N*(size_t)sae->D;
    op->upload(s->device_x, s->x, ND);
    Err why = {0};
    if (sae_encode_to_host(s->sae, s->a, s->i, s->device_a, s->device_i, s->device_x, s->N, &why))
        return stream_blame(s->act.in, s->act.rec->number, &why, e);
    if (!dtype_finite(s->a, F32, (size_t)s->N*(size_t)sae->K))
        return err_set(e, "%s: record %ld: act is too large for the autoencoder %s: a feature's value is no number",
                       stream_name(s->act.in), s->act.rec->number, sae->id);
    if (decode) {
        sae_decode(sae, s->device_y, s->device_a, s->device_i, s->N);
        op->download(s->y, s->device_y, ND);
    }
    return 1;
}
