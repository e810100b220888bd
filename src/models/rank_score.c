/* SPDX-License-Identifier: MIT */
/* rank_score.c -- scores of features from statistics, and their order; formulas in rank_score.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/rank_score.h"

const char *const score_names[SCORES] = {
    "saeuron", "difference", "effect", "ratio", "share", "frequency", "auroc", "margin", "assigned"
};

int score_parse(const char *name)
{
    for (int i = 0; i < SCORES; i++)
        if (strcmp(name, score_names[i]) == 0)
            return i;
    return -1;
}

static double share(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

static double total(const RankCell *c, int F)
{
    double sum = 0;
    for (int f = 0; f < F; f++)
        sum += (double)c->stat[STAT_SUM][f];
    return sum;
}

/* Variance over pictures of the picture's mean activation. */
static double variance(const RankCell *c, int f)
{
    if (!c->pictures)
        return 0;
    const double mean = rank_cell_mean(c, f);
    const double squares = ldexp((double)c->stat[STAT_SQUARE][f], -STAT_SQUARE_BITS) / (double)c->pictures;
    return squares > mean*mean ? squares - mean*mean : 0;
}

void rank_scores(float *score, ScoreKind kind, const RankCell *c, const RankCell *rest, const double *mean_sum,
                 const double *rival, int F)
{
    const double sum = total(c, F), rest_sum = total(rest, F);
    const double share_c = ldexp(share(1, c->tokens), -STAT_SUM_BITS);
    const double share_rest = ldexp(share(1, rest->tokens), -STAT_SUM_BITS);
    const double usual = (sum * share_c + rest_sum * share_rest) / (2.0 * F);
    for (int f = 0; f < F; f++) {
        const double mean = rank_cell_mean(c, f), rest_mean = rank_cell_mean(rest, f);
        double x = 0;
        switch (kind) {
        case SCORE_SAEURON:
            x = (sum > 0 ? (double)c->stat[STAT_SUM][f] / sum : 0)
              - (rest_sum > 0 ? (double)rest->stat[STAT_SUM][f] / rest_sum : 0);
            break;
        case SCORE_DIFFERENCE:
            x = mean - rest_mean;
            break;
        case SCORE_EFFECT:
            x = (mean - rest_mean) / sqrt((variance(c, f) + variance(rest, f)) / 2 + 1e-9);
            break;
        case SCORE_RATIO:
            x = usual > 0 ? log((mean + usual) / (rest_mean + usual)) : 0;
            break;
        case SCORE_SHARE:
            x = mean_sum[f] > 0 ? (mean - rest_mean) * mean / mean_sum[f] : 0;
            break;
        case SCORE_FREQUENCY:
            x = share(c->stat[STAT_ACTIVE][f], c->tokens) - share(rest->stat[STAT_ACTIVE][f], rest->tokens);
            break;
        case SCORE_AUROC:
            x = (1 + share(c->stat[STAT_PRESENT][f], c->pictures)
                 - share(rest->stat[STAT_PRESENT][f], rest->pictures)) / 2;
            break;
        case SCORE_MARGIN:
            x = mean - rival[f];
            break;
        case SCORE_ASSIGNED:            /* set by rank_cell, which knows the label */
        case SCORES:
            break;
        }
        score[f] = (float)x;
    }
}

/* ---- ranks of a kind: what the labels of one timestep have in common, then each label against the rest ---- */

typedef struct Group {              /* one timestep */
    RankCell *all;                  /* sums over the labels and the pictures without one; its t is the group's */
    const RankCell *none;           /* pictures without a label, or NULL */
    double *mean_sum;               /* [F] of the labels' means */
    double *best, *next;            /* [F] the largest mean of any label or of none, and the second largest */
    const RankCell **best_of;       /* [F] whose the largest is */
    int labels;
} Group;

typedef struct Ranking {
    const RankStats *s;
    ScoreKind kind;
    const json_t *assigned;
    int top;
    Group *group;
    int groups;
    RankCell *rest;
    double *rival;                  /* [F] the largest mean of the others */
    float *score, *block;           /* [F]; [5][F]: what an entry points to */
    int32_t *order;
} Ranking;

static Group *find_group(Ranking *r, int t)
{
    for (int i = 0; i < r->groups; i++)
        if (r->group[i].all->t == t)
            return &r->group[i];
    return NULL;
}

static Group *need_group(Ranking *r, const RankCell *c, Err *e)
{
    Group *found = find_group(r, c->t);
    if (found)
        return found;
    Group *more = realloc(r->group, sizeof *more * ((size_t)r->groups + 1));
    if (!more) {
        err_set(e, "out of memory");
        return NULL;
    }
    r->group = more;
    Group *g = &more[r->groups];
    *g = (Group){.all = rank_cell_new(c->kind, "all", c->t, r->s->F, e),
                 .mean_sum = calloc(r->s->F, sizeof *g->mean_sum), .best = calloc(r->s->F, sizeof *g->best),
                 .next = calloc(r->s->F, sizeof *g->next), .best_of = calloc(r->s->F, sizeof *g->best_of)};
    r->groups++;
    if (g->all && g->mean_sum && g->best && g->next && g->best_of)
        return g;
    err_set(e, "out of memory for %d features", r->s->F);
    return NULL;
}

static void drop_groups(Ranking *r)
{
    for (int i = 0; i < r->groups; i++) {
        rank_cell_free(r->group[i].all);
        free(r->group[i].mean_sum);
        free(r->group[i].best);
        free(r->group[i].next);
        free(r->group[i].best_of);
    }
    free(r->group);
    r->group = NULL;
    r->groups = 0;
}

static int add_to_group(Ranking *r, const RankCell *c, Err *e)
{
    const int F = r->s->F;
    Group *g = need_group(r, c, e);
    if (!g || rank_cell_add(g->all, c, F, e))
        return -1;
    for (int f = 0; f < F; f++) {
        const double mean = rank_cell_mean(c, f);
        if (mean > g->best[f]) {
            g->next[f] = g->best[f];
            g->best[f] = mean;
            g->best_of[f] = c;
        } else if (mean > g->next[f])
            g->next[f] = mean;
    }
    if (!*c->label) {
        g->none = c;
        return 0;
    }
    g->labels++;
    for (int f = 0; f < F; f++)
        g->mean_sum[f] += rank_cell_mean(c, f);
    return 0;
}

static void subtract(RankCell *rest, const RankCell *all, const RankCell *c, int F)
{
    rest->tokens = all->tokens - c->tokens;
    rest->pictures = all->pictures - c->pictures;
    for (int i = 0; i < STATS; i++)
        for (int f = 0; f < F; f++)
            rest->stat[i][f] = all->stat[i][f] - c->stat[i][f];
}

static int by_score(const void *a, const void *b, void *context)
{
    const float *score = context;
    const int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return score[i] != score[j] ? (score[i] > score[j] ? -1 : 1) : (i > j) - (i < j);
}

static int mark_assigned(Ranking *r, const RankCell *c, Err *e)
{
    const char *kind = r->s->kind[c->kind];
    const json_t *f = json_object_get(json_object_get(r->assigned, kind), c->label);
    if (!json_is_integer(f) || json_integer_value(f) < 0 || json_integer_value(f) >= r->s->F)
        return err_set(e, "the autoencoder has no feature tied to %s '%s': sae-fit --labels makes one that has", kind,
                       c->label);
    r->score[json_integer_value(f)] = 1;
    return 0;
}

static int rank_cell(Ranking *r, const RankCell *c, RankSink sink, void *context, Err *e)
{
    const int F = r->s->F, m = r->top && r->top < F ? r->top : F;
    const Group *g = find_group(r, c->t);
    subtract(r->rest, g->all, c, F);
    for (int f = 0; f < F; f++)
        r->rival[f] = g->best_of[f] == c ? g->next[f] : g->best[f];
    rank_scores(r->score, r->kind, c, r->rest, g->mean_sum, r->rival, F);
    if (r->kind == SCORE_ASSIGNED && mark_assigned(r, c, e))
        return -1;
    for (int f = 0; f < F; f++)
        r->order[f] = f;
    qsort_r(r->order, F, sizeof *r->order, by_score, r->score);
    float *score = r->block, *mean = score + F, *mean_all = mean + F;
    float *mean_rest = mean_all + F, *mean_none = mean_rest + F;
    for (int j = 0; j < m; j++) {
        const int f = r->order[j];
        score[j] = r->score[f];
        mean[j] = (float)rank_cell_mean(c, f);
        mean_all[j] = (float)(g->mean_sum[f] / g->labels);
        mean_rest[j] = (float)rank_cell_mean(r->rest, f);
        mean_none[j] = g->none ? (float)rank_cell_mean(g->none, f) : 0;
    }
    const RankEntry entry = {.kind = r->s->kind[c->kind], .label = c->label, .t = c->t, .count = m, .feature = r->order,
                             .score = score, .mean = mean, .mean_all = mean_all, .mean_rest = mean_rest,
                             .mean_none = g->none ? mean_none : NULL};
    return sink(context, &entry, e);
}

static int rank_kind(Ranking *r, int kind, RankSink sink, void *context, Err *e)
{
    const RankStats *s = r->s;
    int failed = 0;
    for (size_t i = 0; i < s->cells && !failed; i++)
        if (s->cell[i]->kind == kind)
            failed = add_to_group(r, s->cell[i], e);
    for (size_t i = 0; i < s->cells && !failed; i++)
        if (s->cell[i]->kind == kind && *s->cell[i]->label)
            failed = rank_cell(r, s->cell[i], sink, context, e);
    drop_groups(r);
    return failed;
}

int rank_stats_rank(const RankStats *s, ScoreKind score, const json_t *assigned, int top, RankSink sink, void *context,
                    Err *e)
{
    const int F = s->F;
    Ranking r = {.s = s, .kind = score, .assigned = assigned, .top = top};
    r.rest = rank_cell_new(0, "rest", 0, F, e);
    r.rival = malloc(sizeof(double) * F);
    r.score = malloc(sizeof(float) * F);
    r.block = malloc(sizeof(float) * F * 5);
    r.order = malloc(sizeof(int32_t) * F);
    int failed = r.rest && r.rival && r.score && r.block && r.order ? 0
               : err_set(e, "out of memory for %d features", F);
    for (int k = 0; k < s->kinds && !failed; k++)
        failed = rank_kind(&r, k, sink, context, e);
    rank_cell_free(r.rest);
    free(r.rival);
    free(r.score);
    free(r.block);
    free(r.order);
    return failed;
}

void rank_record(Record *rec, const RankEntry *x)
{
    const int64_t m[] = {x->count};
    record_init(rec, NULL);
    record_set_text(rec, "kind", x->kind);
    record_set_text(rec, "label", x->label);
    record_set_int(rec, "t", x->t);
    record_add_tensor(rec, "feature", I32, 1, m, x->feature);
    record_add_tensor(rec, "score", F32, 1, m, x->score);
    record_add_tensor(rec, "mean", F32, 1, m, x->mean);
    record_add_tensor(rec, "mean_all", F32, 1, m, x->mean_all);
    if (x->mean_rest)
        record_add_tensor(rec, "mean_rest", F32, 1, m, x->mean_rest);
    if (x->mean_none)
        record_add_tensor(rec, "mean_none", F32, 1, m, x->mean_none);
}
