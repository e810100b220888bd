/* SPDX-License-Identifier: MIT */
/* rank_stats.c -- sums of feature activations by label and timestep, in integers; see rank_stats.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/rank_stats.h"

int rank_stats_create(RankStats **out, int F, const char *const *kinds, int count, Err *e)
{
    *out = NULL;
    if (F < 1)
        return err_set(e, "statistics of %d features", F);
    if (count > RANK_KINDS)
        return err_set(e, "statistics of %d kinds of label; at most %d are kept", count, RANK_KINDS);
    RankStats *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->F = F;
    for (s->kinds = 0; s->kinds < count; s->kinds++)
        if (snprintf(s->kind[s->kinds], sizeof s->kind[0], "%s", kinds[s->kinds]) >= (int)sizeof s->kind[0]) {
            err_set(e, "the kind of label '%s' is longer than %zu bytes", kinds[s->kinds], sizeof s->kind[0] - 1);
            rank_stats_free(s);
            return -1;
        }
    s->sums = calloc(F, sizeof *s->sums);
    s->counts = calloc(F, sizeof *s->counts);
    s->touched = calloc(F, sizeof *s->touched);
    if (!s->sums || !s->counts || !s->touched) {
        rank_stats_free(s);
        return err_set(e, "out of memory for %d features", F);
    }
    *out = s;
    return 0;
}

void rank_cell_free(RankCell *c)
{
    if (!c)
        return;
    free(c->label);
    free(c->stat[0]);
    free(c);
}

void rank_stats_free(RankStats *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->cells; i++)
        rank_cell_free(s->cell[i]);
    free(s->cell);
    free(s->sums);
    free(s->counts);
    free(s->touched);
    free(s);
}

RankCell *rank_cell_new(int kind, const char *label, int t, int F, Err *e)
{
    RankCell *c = calloc(1, sizeof *c);
    if (c) {
        c->kind = kind;
        c->t = t;
        c->label = strdup(label);
        c->stat[0] = calloc((size_t)F * STATS, sizeof *c->stat[0]);
        for (int i = 1; i < STATS && c->stat[0]; i++)
            c->stat[i] = c->stat[0] + (size_t)F*i;
    }
    if (c && c->label && c->stat[0])
        return c;
    rank_cell_free(c);
    err_set(e, "out of memory for the statistics of '%s' at t %d (%d features)", label, t, F);
    return NULL;
}

static int cell_order(const RankCell *c, int kind, const char *label, int t)
{
    if (c->kind != kind)
        return c->kind < kind ? -1 : 1;
    int order = strcmp(c->label, label);
    return order ? order : c->t == t ? 0 : c->t > t ? -1 : 1;
}

RankCell *rank_stats_cell(RankStats *s, int kind, const char *label, int t, Err *e)
{
    size_t low = 0, high = s->cells;
    while (low < high) {
        size_t middle = low + (high - low)/2;
        int order = cell_order(s->cell[middle], kind, label, t);
        if (order == 0)
            return s->cell[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (s->cells == s->room) {
        size_t room = s->room ? 2*s->room : 64;
        RankCell **more = realloc(s->cell, room * sizeof *more);
        if (!more) {
            err_set(e, "out of memory for %zu labels and timesteps", room);
            return NULL;
        }
        s->cell = more;
        s->room = room;
    }
    RankCell *c = rank_cell_new(kind, label, t, s->F, e);
    if (!c)
        return NULL;
    memmove(s->cell + low + 1, s->cell + low, (s->cells - low) * sizeof *s->cell);
    s->cell[low] = c;
    s->cells++;
    return c;
}

static int overflow(const RankCell *c, Err *e)
{
    return err_set(e, "the statistics of '%s' at t %d leave 64 bits: activations are too large to sum", c->label, c->t);
}

int rank_cell_add(RankCell *to, const RankCell *from, int F, Err *e)
{
    bool over = __builtin_add_overflow(to->tokens, from->tokens, &to->tokens);
    over |= __builtin_add_overflow(to->pictures, from->pictures, &to->pictures);
    for (int i = 0; i < STATS; i++)
        for (int f = 0; f < F; f++)
            over |= __builtin_add_overflow(to->stat[i][f], from->stat[i][f], &to->stat[i][f]);
    return over ? overflow(to, e) : 0;
}

double rank_cell_mean(const RankCell *c, int f)
{
    return c->tokens ? ldexp((double)c->stat[STAT_SUM][f], -STAT_SUM_BITS) / (double)c->tokens : 0;
}

/* What the picture in s->sums adds to a cell. */
static int add_picture(const RankStats *s, RankCell *c, int touched, int64_t tokens, Err *e)
{
    bool over = __builtin_add_overflow(c->tokens, tokens, &c->tokens);
    c->pictures++;
    for (int j = 0; j < touched; j++) {
        const int f = s->touched[j];
        const double mean = s->sums[f] / (double)tokens;
        const double sum = ldexp(s->sums[f], STAT_SUM_BITS), square = ldexp(mean * mean, STAT_SQUARE_BITS);
        if (!(sum < 0x1p62) || !(square < 0x1p62))
            return overflow(c, e);
        over |= __builtin_add_overflow(c->stat[STAT_SUM][f], llrint(sum), &c->stat[STAT_SUM][f]);
        over |= __builtin_add_overflow(c->stat[STAT_SQUARE][f], llrint(square), &c->stat[STAT_SQUARE][f]);
        c->stat[STAT_ACTIVE][f] += s->counts[f];
        c->stat[STAT_PRESENT][f]++;
    }
    return over ? overflow(c, e) : 0;
}

int rank_stats_add(RankStats *s, const char *const *labels, int t, const int32_t *index, const float *value,
                   int64_t tokens, int K, Err *e)
{
    int touched = 0, failed = 0;
    for (int64_t i = 0; i < tokens * K; i++) {
        const int f = index[i];
        if (!(value[i] > 0))
            continue;
        if (s->counts[f]++ == 0)
            s->touched[touched++] = f;
        s->sums[f] += value[i];
    }
    for (int k = 0; k < s->kinds && !failed; k++) {
        RankCell *c = rank_stats_cell(s, k, labels[k], t, e);
        failed = !c || add_picture(s, c, touched, tokens, e);
    }
    for (int j = 0; j < touched; j++) {
        s->sums[s->touched[j]] = 0;
        s->counts[s->touched[j]] = 0;
    }
    return failed ? -1 : 0;
}
