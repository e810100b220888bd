/* SPDX-License-Identifier: MIT */
/* sae_train_dead.c -- features that do not fire: told apart, given a term of their own (AuxK), or begun anew.
 *
 * AuxK: Gao et al. 2024 (arXiv 2406.04093), section A.2. Resampling: Bricken et al. 2023 (Towards Monosemanticity,
 * "neuron resampling"): a dead feature gets the direction of a token drawn with probability ~ |e|^4, its encoder's row at
 * 0.2 of the living rows' mean length, a bias of 0, and no moments. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_trainer.h"
#include "src/models/splitmix.h"

int trainer_list_dead(Trainer *t)
{
    int n = 0;
    for (int f = 0; f < t->options.F; f++)
        if (t->tokens - t->fired[f] > t->options.dead)
            t->dead[n++] = f;
    return n;
}

/* They learn what the living left over. t->g holds x' - x = -e; t->y becomes e_aux - e. */
int trainer_add_dead(Trainer *t, int64_t N, int dead, double *square, Err *e)
{
    const int D = t->options.D, K = dead < t->K_aux ? dead : t->K_aux;
    if (!t->dead_encoder && (op->sae.encoder_create(&t->dead_encoder, D, t->options.F, t->options.type, e)
                             || trainer_need_codes(t, &t->aux, t->K_aux, e)))
        return -1;
    op->sae.encoder_pack(t->dead_encoder, t->sae->W_enc, t->sae->b_enc, t->sae->b_dec, t->dead, dead);
    op->sae.encode(t->dead_encoder, t->aux.a, t->aux.i, t->x, N, K);
    op->sae.decode(t->y, t->aux.a, t->aux.i, t->sae->W_dec, NULL, N, D, K);
    op->add(t->y, t->g, N*D);
    *square = op->sae.sum_squares(t->y, N*D);
    const double share = dead < t->K_aux ? (double)dead/t->K_aux : 1;
    trainer_add_codes(t, (float)(t->options.auxk*share), t->aux.a, t->aux.g_a, t->aux.i, t->y, N, K);
    return 0;
}

int64_t trainer_mark_fired(Trainer *t, int64_t N)
{
    const size_t F = (size_t)t->options.F;
    int64_t total = 0;
    op->download(t->count, t->counts, sizeof *t->count*F);
    t->tokens += N;
    for (size_t f = 0; f < F; f++) {
        total += t->count[f];
        if (t->count[f])
            t->fired[f] = t->tokens;
    }
    return total;
}

/* ---- resampling ---- */

/* The weights of one row taken to the host, changed, and brought back. */
static void set_row(const Param *p, int f, const float *row)
{
    const size_t at = (size_t)f*(size_t)p->D, bytes = sizeof(float)*(size_t)p->D;
    static const float zero[256];
    op->upload(p->value + at, row, bytes);
    for (size_t d = 0; d < (size_t)p->D; d += 256) {
        const size_t n = (size_t)p->D - d < 256 ? (size_t)p->D - d : 256;
        op->upload(p->m + at + d, zero, sizeof(float)*n);
        op->upload(p->v + at + d, zero, sizeof(float)*n);
    }
}

static void set_value(const Param *p, int f, float value)
{
    const float zero = 0;
    op->upload(p->value + f, &value, sizeof value);
    op->upload(p->m + f, &zero, sizeof zero);
    op->upload(p->v + f, &zero, sizeof zero);
}

/* sum[n] = |e|^4 of the tokens up to n */
static void sum_losses(double *sum, const float *g, int64_t N, int D)
{
    double all = 0;
    for (int64_t n = 0; n < N; n++) {
        double square = 0;
        for (int d = 0; d < D; d++)
            square += (double)g[n*D + d]*(double)g[n*D + d];
        sum[n] = all += square*square;
    }
}

static int64_t draw(const double *sum, int64_t N, uint64_t *random)
{
    const double at = (double)(splitmix(*random += SPLITMIX_STEP) >> 11)*0x1p-53*sum[N - 1];
    int64_t low = 0, high = N - 1;
    while (low < high) {
        const int64_t middle = (low + high)/2;
        if (sum[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* 0.2 of the mean length of W_enc's living rows */
static double new_length(const Trainer *t, const float *W_enc, int dead)
{
    const int D = t->options.D, F = t->options.F;
    double sum = 0;
    for (int f = 0, next = 0; f < F; f++) {
        if (next < dead && t->dead[next] == f) {
            next++;
            continue;
        }
        double square = 0;
        for (int d = 0; d < D; d++)
            square += (double)W_enc[(size_t)f*(size_t)D + (size_t)d]*(double)W_enc[(size_t)f*(size_t)D + (size_t)d];
        sum += sqrt(square);
    }
    return F > dead ? 0.2*sum/(F - dead) : 0.2;
}

int trainer_resample(Trainer *t, int64_t N, Err *e)
{
    const int dead = trainer_list_dead(t), D = t->options.D;
    if (dead == 0)
        return 0;
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)t->options.F*(size_t)D;
    float *g = malloc(sizeof *g*ND), *W_enc = malloc(sizeof *W_enc*FD), *row = malloc(sizeof *row*(size_t)D);
    double *sum = malloc(sizeof *sum*(size_t)N);
    if (!g || !W_enc || !row || !sum) {
        free(g);
        free(W_enc);
        free(row);
        free(sum);
        return err_set(e, "out of memory");
    }
    op->download(g, t->g, sizeof *g*ND);
    op->download(W_enc, t->sae->W_enc, sizeof *W_enc*FD);
    sum_losses(sum, g, N, D);
    const double length = new_length(t, W_enc, dead);
    uint64_t random = splitmix(t->options.seed ^ (uint64_t)t->tokens);
    for (int j = 0; j < dead && sum[N - 1] > 0; j++) {
        const float *token = g + draw(sum, N, &random)*D;
        double square = 0;
        for (int d = 0; d < D; d++)
            square += (double)token[d]*(double)token[d];
        for (int d = 0; d < D; d++)
            row[d] = (float)(-token[d]/sqrt(square));           /* g = -e */
        set_row(&t->param[W_DEC], t->dead[j], row);
        for (int d = 0; d < D; d++)
            row[d] = (float)(row[d]*length);
        set_row(&t->param[W_ENC], t->dead[j], row);
        set_value(&t->param[B_ENC], t->dead[j], 0);
        t->fired[t->dead[j]] = t->tokens;
    }
    free(g);
    free(W_enc);
    free(row);
    free(sum);
    return 0;
}
