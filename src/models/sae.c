/* SPDX-License-Identifier: MIT */
/* sae.c -- top-k sparse autoencoder: memory, encode, decode. Its folder: sae_folder.c, sae_save.c; its training:
 * sae_trainer.c, sae_train.c.
 *
 *     h = (x - b_dec) W_enc^T + b_enc      a = the K largest of h, at least 0      x' = a W_dec + b_dec
 *
 *   x, x' (N,D)   h (N,F)   a (N,K) with features i (N,K)   W_enc, W_dec (F,D)
 *
 * A threshold goes into the encoder's bias, so that the K largest are those furthest above theirs, and comes back in
 * the gate.
 *
 * Gao et al. 2024 (arXiv 2406.04093), section 2.3. b_dec is taken off before W_enc, not after. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/sae.h"
#include "src/models/workspace.h"

struct SaePlan {
    SaeEncoder *encoder;
    DType type;
    float *bias;                /* b_enc - threshold; NULL without one */
};

int sae_create(Sae **out, int D, int F, int K, Err *e)
{
    *out = NULL;
    if (D < 1 || F < 1 || K < 1 || K > F)
        return err_set(e, "an autoencoder of width %d with %d features, %d kept, cannot be", D, F, K);
    Sae *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->D = D;
    s->F = F;
    s->K = K;
    strcpy(s->take, "output");
    const size_t weights = sizeof(float)*(size_t)F*(size_t)D;
    s->cfg = json_object();
    s->W_enc = op->alloc(weights, e);
    s->W_dec = op->alloc(weights, e);
    s->b_enc = op->alloc(sizeof(float)*(size_t)F, e);
    s->b_dec = op->alloc(sizeof(float)*(size_t)D, e);
    if (!s->cfg || !s->W_enc || !s->W_dec || !s->b_enc || !s->b_dec) {
        sae_free(s);
        return err_set(e, "out of memory for an autoencoder of %d features of width %d", F, D);
    }
    *out = s;
    return 0;
}

int sae_need_gate(Sae *s, float **part, Err *e)
{
    return *part || (*part = op->alloc(sizeof(float)*(size_t)s->F, e)) ? 0 : -1;
}

static void drop_plan(Sae *s)
{
    if (!s->plan)
        return;
    op->sae.encoder_free(s->plan->encoder);
    if (s->plan->bias)
        op->free(s->plan->bias);
    free(s->plan);
    s->plan = NULL;
}

void sae_free(Sae *s)
{
    if (!s)
        return;
    float *device[] = {s->W_enc, s->W_dec, s->b_enc, s->b_dec, s->threshold, s->scale, s->offset};
    for (size_t p = 0; p < sizeof device/sizeof *device; p++)
        if (device[p])
            op->free(device[p]);
    drop_plan(s);
    json_decref(s->cfg);
    free(s);
}

int sae_prepare(Sae *s, DType type, Err *e)
{
    if (s->plan && s->plan->type != type)
        drop_plan(s);
    if (!s->plan) {
        if (!(s->plan = calloc(1, sizeof *s->plan)))
            return err_set(e, "out of memory");
        s->plan->type = type;
        if (op->sae.encoder_create(&s->plan->encoder, s->D, s->F, type, e))
            return -1;
    }
    if (s->threshold && !s->plan->bias && !(s->plan->bias = op->alloc(sizeof(float)*(size_t)s->F, e)))
        return -1;
    if (s->threshold)
        op->subtract(s->plan->bias, s->b_enc, s->threshold, s->F);
    op->sae.encoder_pack(s->plan->encoder, s->W_enc, s->threshold ? s->plan->bias : s->b_enc, s->b_dec, NULL, s->F);
    return 0;
}

void sae_encode(Sae *s, float *a, int32_t *i, const float *x, int64_t N)
{
    op->sae.encode(s->plan->encoder, a, i, x, N, s->K);
    if (s->threshold || s->scale || s->offset)
        op->sae.gate(a, i, s->threshold, s->scale, s->offset, N*s->K);
}

int sae_check_codes(const Sae *s, const float *a, int64_t N, Err *e)
{
    for (int64_t n = 0; s->capped && n < N; n++)
        if (a[n*s->K + s->K - 1] > 0)           /* the least of the row */
            return err_set(e, "the autoencoder %s: a token has %d features above 0 or more, and no more are kept; "
                           "\"most\" in cfg.json sets how many are (sae-convert --to ours writes such a folder)",
                           s->id, s->K);
    return 0;
}

int sae_check_device_codes(const Sae *s, const float *a, int64_t N, Err *e)
{
    if (!s->capped)
        return 0;
    const size_t bytes = sizeof *a*(size_t)(N*s->K);
    float *host = malloc(bytes);
    if (!host)
        return err_set(e, "out of memory for the codes of %lld tokens", (long long)N);
    op->download(host, a, bytes);
    const int failed = sae_check_codes(s, host, N, e);
    free(host);
    return failed;
}

int sae_encode_to_host(Sae *s, float *a, int32_t *i, float *device_a, int32_t *device_i, const float *x, int64_t N,
                       Err *e)
{
    const size_t codes = (size_t)N*(size_t)s->K;
    sae_encode(s, device_a, device_i, x, N);
    op->download(a, device_a, codes*sizeof *a);
    op->download(i, device_i, codes*sizeof *i);
    return sae_check_codes(s, a, N, e);
}

int sae_codes_grow(SaeCodes *c, size_t codes, Err *e)
{
    return device_grow(&c->a, &c->a_bytes, codes*sizeof *c->host_a, e)
        || device_grow(&c->i, &c->i_bytes, codes*sizeof *c->host_i, e) ? -1 : 0;
}

int sae_codes_read(Sae *s, SaeCodes *c, const float *x, int64_t N, Err *e)
{
    const size_t codes = (size_t)N*(size_t)s->K;
    if (sae_codes_grow(c, codes, e))
        return -1;
    if (codes > c->host_codes) {
        free(c->host_a);
        free(c->host_i);
        c->host_a = malloc(codes*sizeof *c->host_a);
        c->host_i = malloc(codes*sizeof *c->host_i);
        c->host_codes = c->host_a && c->host_i ? codes : 0;
        if (!c->host_codes)
            return err_set(e, "out of memory for the codes of %lld tokens", (long long)N);
    }
    return sae_encode_to_host(s, c->host_a, c->host_i, c->a, c->i, x, N, e);
}

void sae_codes_free(SaeCodes *c)
{
    if (c->a)
        op->free(c->a);
    if (c->i)
        op->free(c->i);
    free(c->host_a);
    free(c->host_i);
    *c = (SaeCodes){0};
}

void sae_decode(const Sae *s, float *y, const float *a, const int32_t *i, int64_t N)
{
    op->sae.decode(y, a, i, s->W_dec, s->b_dec, N, s->D, s->K);
}
