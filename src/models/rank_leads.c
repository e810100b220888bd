/* SPDX-License-Identifier: MIT */
/* rank_leads.c -- ranks by label, summed over timesteps. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/rank_leads.h"

typedef struct Build {
    const Ranks *ranks;
    int top;
    TRange when;
    const RankEntry **entry;        /* of the label at hand, t falling */
    int entries;
    double *sum;                    /* [F] NAN between labels, and of features without a score */
    int *seen;                      /* [F] features with a score, then scratch */
} Build;

void leads_free(Leads *l)
{
    for (int i = 0; i < l->labels; i++) {
        for (int k = 0; k < l->label[i].leads; k++)
            free(l->label[i].lead[k].by_t);
        free(l->label[i].lead);
        free(l->label[i].t);
    }
    free(l->label);
    free(l->feature);
    *l = (Leads){0};
}

/* ---- one label ---- */

static int by_falling_t(const void *a, const void *b)
{
    const int x = (*(const RankEntry *const *)a)->t, y = (*(const RankEntry *const *)b)->t;
    return (x < y) - (x > y);
}

/* An entry's kind and label are the same pointers in all of a label's entries. */
static void take_entries(Build *b, const RankEntry *of)
{
    const RankEntry *x;
    b->entries = 0;
    for (size_t i = 0; (x = ranks_entry(b->ranks, i)); i++)
        if (x->kind == of->kind && x->label == of->label && t_range_has(b->when, x->t))
            b->entry[b->entries++] = x;
    qsort(b->entry, (size_t)b->entries, sizeof *b->entry, by_falling_t);
}

static int sum_scores(Build *b)
{
    int seen = 0;
    for (int i = 0; i < b->entries; i++)
        for (int j = 0; j < b->entry[i]->count; j++) {
            const int f = b->entry[i]->feature[j];
            if (isnan(b->sum[f])) {
                b->sum[f] = 0;
                b->seen[seen++] = f;
            }
            b->sum[f] += (double)b->entry[i]->score[j];
        }
    return seen;
}

static int fill_lead(const Build *b, Lead *x, int feature, Err *e)
{
    int ranked = 0;
    *x = (Lead){.feature = feature, .score = b->sum[feature]/b->entries, .t = -1,
                .by_t = malloc(sizeof(double)*(size_t)b->entries)};
    if (!x->by_t)
        return err_set(e, "out of memory for ranks");
    double best = -INFINITY;
    for (int i = 0; i < b->entries; i++) {
        const RankEntry *r = b->entry[i];
        const float *rest = r->mean_rest ? r->mean_rest : r->mean_all;
        x->by_t[i] = NAN;
        for (int j = 0; j < r->count; j++)
            if (r->feature[j] == feature) {
                x->by_t[i] = (double)r->score[j];
                x->mean += (double)r->mean[j];
                x->elsewhere += (double)rest[j];
                ranked++;
                if (x->by_t[i] > best) {
                    best = x->by_t[i];
                    x->t = r->t;
                }
                break;
            }
    }
    x->mean /= ranked;
    x->elsewhere /= ranked;
    return 0;
}

static int fill_label(Build *b, LeadLabel *l, Err *e)
{
    const int seen = sum_scores(b), leads = seen < b->top ? seen : b->top;
    int failed = 0;
    l->t = malloc(sizeof *l->t*(size_t)(b->entries + 1));
    l->lead = calloc((size_t)leads + 1, sizeof *l->lead);
    if (!l->t || !l->lead)
        failed = err_set(e, "out of memory for ranks");
    for (l->times = 0; !failed && l->times < b->entries; l->times++)
        l->t[l->times] = b->entry[l->times]->t;
    for (int k = 0; k < leads && !failed; k++) {        /* the best of those from k on comes to k */
        for (int i = k + 1; i < seen; i++) {
            const int f = b->seen[i], first = b->seen[k];
            if (b->sum[f] > b->sum[first] || (b->sum[f] == b->sum[first] && f < first)) {
                b->seen[k] = f;
                b->seen[i] = first;
            }
        }
        failed = fill_lead(b, &l->lead[k], b->seen[k], e);
        l->leads++;
    }
    for (int i = 0; i < seen; i++)
        b->sum[b->seen[i]] = NAN;
    return failed;
}

/* ---- all labels ---- */

static bool is_new(const Leads *l, const RankEntry *x)
{
    for (int i = 0; i < l->labels; i++)
        if (l->label[i].kind == x->kind && l->label[i].label == x->label)
            return false;
    return true;
}

static int by_kind(const char *kind, const char *const *kinds, int count)
{
    int k = 0;
    while (k < count && strcmp(kinds[k], kind) != 0)
        k++;
    return k;
}

/* Labels of one kind come together: kinds in the order in which they first come. */
static void gather_kinds(Leads *l, LeadLabel *scratch, const char **kinds)
{
    int count = 0, n = 0;
    for (int i = 0; i < l->labels; i++)
        if (by_kind(l->label[i].kind, kinds, count) == count)
            kinds[count++] = l->label[i].kind;
    for (int k = 0; k < count; k++)
        for (int i = 0; i < l->labels; i++)
            if (strcmp(l->label[i].kind, kinds[k]) == 0)
                scratch[n++] = l->label[i];
    memcpy(l->label, scratch, sizeof *scratch*(size_t)n);
}

static int gather_features(Leads *l, int F, Err *e)
{
    bool *there = calloc((size_t)F, sizeof *there);
    size_t n = 0;
    for (int i = 0; i < l->labels; i++)
        n += (size_t)l->label[i].leads;
    l->feature = malloc(sizeof *l->feature*(n + 1));
    for (int i = 0; there && l->feature && i < l->labels; i++)
        for (int k = 0; k < l->label[i].leads; k++) {
            const int f = l->label[i].lead[k].feature;
            if (!there[f])
                l->feature[l->features++] = f;
            there[f] = true;
        }
    free(there);
    return there && l->feature ? 0 : err_set(e, "out of memory for ranks");
}

static int build(Leads *l, Build *b, size_t entries, int F, Err *e)
{
    const RankEntry *x;
    b->entry = malloc(sizeof *b->entry*(entries + 1));
    b->sum = malloc(sizeof *b->sum*(size_t)F);
    b->seen = malloc(sizeof *b->seen*(size_t)F);
    l->label = calloc(entries + 1, sizeof *l->label);
    LeadLabel *scratch = calloc(entries + 1, sizeof *scratch);
    const char **kinds = calloc(entries + 1, sizeof *kinds);
    int failed = b->entry && b->sum && b->seen && l->label && scratch && kinds ? 0
               : err_set(e, "out of memory for ranks of %d features", F);
    for (int f = 0; f < F && !failed; f++)
        b->sum[f] = NAN;
    for (size_t i = 0; !failed && (x = ranks_entry(b->ranks, i)); i++) {
        if (!is_new(l, x))
            continue;
        take_entries(b, x);
        if (!b->entries)
            continue;
        l->label[l->labels] = (LeadLabel){.kind = x->kind, .label = x->label};
        failed = fill_label(b, &l->label[l->labels++], e);
    }
    if (!failed && !l->labels)
        failed = err_set(e, "%s: no ranks at timesteps from %d to %d", ranks_path(b->ranks), b->when.high, b->when.low);
    if (!failed) {
        gather_kinds(l, scratch, kinds);
        failed = gather_features(l, F, e);
    }
    free(scratch);
    free(kinds);
    return failed;
}

int leads_build(Leads *l, const Ranks *ranks, int top, TRange when, Err *e)
{
    Build b = {.ranks = ranks, .top = top, .when = when};
    size_t entries = 0;
    while (ranks_entry(ranks, entries))
        entries++;
    *l = (Leads){0};
    const int failed = build(l, &b, entries, ranks_features(ranks), e);
    free(b.entry);
    free(b.sum);
    free(b.seen);
    return failed;
}
