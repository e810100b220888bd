/* SPDX-License-Identifier: MIT */
/* sae_train_dead.c -- features that do not fire: told apart, given a term of their own (AuxK), or begun anew.
 *
 * AuxK: Gao et al. 2024 (arXiv 2406.04093), section A.2. Resampling: Bricken et al. 2023 (Towards Monosemanticity,
 * "neuron resampling"): a dead feature gets the direction e of a token drawn with probability ~ |e|^4, its encoder's
 * row at 0.2 of the living rows' mean length, a bias of 0, and no moments. Where only the largest are kept it would
 * never be among them at 0.2: it gets half of the mean length. A token is drawn once, and no more features are begun
 * anew at a time than an eighth of the batch: many of one direction would fire together. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_trainer.h"
#include "src/models/splitmix.h"

int trainer_list_dead(Trainer *t)
{
    t->own_dead = 0;
    for (int f = 0; f < t->options.F; f++)
        if (t->tokens - t->fired[f] > t->options.dead)
            t->dead[t->own_dead++] = f;
    return (int)trainer_gather(t, t->dead_of, t->own_dead);
}

/* They learn what the living left over. t->g holds x' - x = -e; t->y becomes e_aux - e. */
int trainer_add_dead(Trainer *t, int64_t N, int dead, Err *e)
{
    const int D = t->options.D, keep = dead < t->K_aux ? dead : t->K_aux;
    const int K = t->own_dead < keep ? t->own_dead : keep;      /* a team's other ranks have the rest */
    if (!t->dead_encoder && (op->sae.encoder_create(&t->dead_encoder, D, t->options.F, t->options.type, e)
                             || trainer_need_codes(t, &t->aux, t->K_aux, e)))
        return -1;
    if (K > 0) {
        op->sae.encoder_pack(t->dead_encoder, t->sae->W_enc, t->sae->b_enc, t->sae->b_dec, t->dead, t->own_dead);
        op->sae.encode(t->dead_encoder, t->aux.a, t->aux.i, t->x, N, K);
    }
    if (t->options.team)
        trainer_keep(t, t->aux.a, t->dead_of, N, keep);
    if (K > 0)
        op->sae.decode(t->y, t->aux.a, t->aux.i, t->sae->W_dec, NULL, N, D, K);
    else
        op->clear(t->y, sizeof(float)*(size_t)N*(size_t)D);
    trainer_sum_floats(t, t->y, N*D);
    op->add(t->y, t->g, N*D);
    op->sae.sum_squares(&t->sums[AUX], t->y, N*D);
    if (K == 0)
        return 0;
    const double share = dead < t->K_aux ? (double)dead/t->K_aux : 1;
    const Codes codes = {K, t->aux.a, t->aux.g_a, t->aux.i, t->aux.order, t->aux.start};
    op->sae.code_grad(codes.g_a, t->y, codes.a, codes.i, t->sae->W_dec, N, D, K);
    trainer_add_part(t, (float)(t->options.auxk*share), &codes, t->y, N);
    return 0;
}

int64_t trainer_mark_fired(Trainer *t, int64_t N)
{
    const size_t F = (size_t)t->options.F;
    int64_t total = 0;
    t->tokens += N;
    for (size_t f = 0; f < F; f++) {
        total += t->count[f];
        if (t->count[f])
            t->fired[f] = t->tokens;
    }
    int64_t of[TEAM_MOST];          /* after this all ranks have read their sums, and so their batch */
    return trainer_gather(t, of, total);
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
        if (p->pairs)
            op->upload(p->pairs + at + d, zero, sizeof(float)*n);
        else {
            op->upload(p->m + at + d, zero, sizeof(float)*n);
            op->upload(p->v + at + d, zero, sizeof(float)*n);
        }
    }
}

static void set_value(const Param *p, int f, float value)
{
    const float zero = 0;
    op->upload(p->value + f, &value, sizeof value);
    op->upload(p->m + f, &zero, sizeof zero);
    op->upload(p->v + f, &zero, sizeof zero);
}

/* A token drawn by its loss, which is then 0; -1 when none has one. */
static int64_t draw(double *loss, int64_t N, uint64_t *random)
{
    double all = 0, at = 0;
    int64_t last = -1;
    for (int64_t n = 0; n < N; n++)
        all += loss[n];
    at = (double)(splitmix(*random += SPLITMIX_STEP) >> 11)*0x1p-53*all;
    for (int64_t n = 0; n < N && (last < 0 || at >= 0); n++)
        if (loss[n] > 0) {
            last = n;
            at -= loss[n];
        }
    if (last >= 0)
        loss[last] = 0;
    return last;
}

/* Of the mean length of W_enc's living rows. */
static double new_length(const Trainer *t, const float *W_enc, int dead)
{
    const int D = t->options.D, F = t->options.F;
    double sum = 0;
    for (int f = 0, next = 0; f < F; f++) {
        if (next < dead && t->dead[next] == f) {
            next++;
            continue;
        }
        sum += sqrt(trainer_square_length(W_enc + (size_t)f*(size_t)D, D));
    }
    return (t->variant->scales ? 0.2 : 0.5)*(F > dead ? sum/(F - dead) : 1);
}

int trainer_resample(Trainer *t, int64_t N, Err *e)
{
    const int dead = trainer_list_dead(t), D = t->options.D;
    if (dead == 0)
        return 0;
    const size_t ND = (size_t)N*(size_t)D, FD = (size_t)t->options.F*(size_t)D;
    float *g = malloc(sizeof *g*ND), *W_enc = malloc(sizeof *W_enc*FD), *row = malloc(sizeof *row*(size_t)D);
    double *loss = malloc(sizeof *loss*(size_t)N);
    if (!g || !W_enc || !row || !loss) {
        free(g);
        free(W_enc);
        free(row);
        free(loss);
        return err_set(e, "out of memory");
    }
    op->download(g, t->g, sizeof *g*ND);
    op->download(W_enc, t->sae->W_enc, sizeof *W_enc*FD);
    for (int64_t n = 0; n < N; n++)
        loss[n] = pow(trainer_square_length(g + n*D, D), 2);
    t->packed = false;
    const double length = new_length(t, W_enc, dead);
    uint64_t random = splitmix(t->options.seed ^ (uint64_t)t->tokens);
    const int64_t most = (N + 7)/8;
    for (int j = 0; j < dead && j < most; j++) {
        const int64_t n = draw(loss, N, &random);
        if (n < 0)
            break;
        const double e_length = sqrt(trainer_square_length(g + n*D, D));
        for (int d = 0; d < D; d++)
            row[d] = (float)(-g[n*D + d]/e_length);             /* g = -e */
        set_row(&t->param[W_DEC], t->dead[j], row);
        for (int d = 0; d < D; d++)
            row[d] = (float)(row[d]*length);
        set_row(&t->param[W_ENC], t->dead[j], row);
        set_value(&t->param[B_ENC], t->dead[j], 0);
        for (int p = MORE; p < t->params; p++)
            set_value(&t->param[p], t->dead[j], t->param[p].first);
        t->fired[t->dead[j]] = t->tokens;
    }
    free(g);
    free(W_enc);
    free(row);
    free(loss);
    return 0;
}
