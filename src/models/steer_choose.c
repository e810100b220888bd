/* SPDX-License-Identifier: MIT */
/* steer_choose.c -- which features a steering changes at a timestep, and how each is turned. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/steer_choose.h"

static const char *const mode_names[STEER_MODES] = {"multiply", "scale", "ablate", "clamp", "set", "add", "replace",
                                                    "others", "unlabelled", "only"};

int steer_mode(SteerMode *mode, const char *name, Err *e)
{
    for (int i = 0; i < STEER_MODES; i++)
        if (strcmp(name, mode_names[i]) == 0) {
            *mode = (SteerMode)i;
            return 0;
        }
    char known[256] = "";
    for (int i = 0; i < STEER_MODES; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", mode_names[i]);
    return err_misuse(e, "steering mode '%s' is unknown; there are %s", name, known);
}

const char *steer_mode_name(SteerMode mode)
{
    return mode_names[mode];
}

SaeTurn steer_turn(SteerMode mode, const Chosen *x)
{
    const float M = x->multiplier, target = M * x->mean, always = -INFINITY;
    const int32_t f = x->feature, set = x->label;
    switch (mode) {                              /* over,         factor, offset */
    case STEER_MULTIPLY:   return (SaeTurn){f, set, x->mean_all,  target, 0};
    case STEER_REPLACE:    return (SaeTurn){f, set, x->mean_all,  0,      target};
    case STEER_SCALE:      return (SaeTurn){f, set, 0,            M,      0};
    case STEER_ABLATE:     return (SaeTurn){f, set, 0,            0,      0};
    case STEER_CLAMP:      return (SaeTurn){f, set, fmaxf(target, 0), 0,  target};
    case STEER_OTHERS:     return (SaeTurn){f, set, x->mean_rest, 0,      x->mean_rest};
    case STEER_UNLABELLED: return (SaeTurn){f, set, x->mean_none, 0,      x->mean_none};
    case STEER_SET:
    case STEER_ONLY:       return (SaeTurn){f, set, always,       0,      target};
    case STEER_ADD:        return (SaeTurn){f, set, always,       1,      target};
    case STEER_MODES:      break;
    }
    return (SaeTurn){f, set, always, 1, 0};
}

int choice_create(Choice *c, int F, Err *e)
{
    *c = (Choice){.F = F, .item = malloc(sizeof *c->item * F), .slot = malloc(sizeof *c->slot * F)};
    if (!c->item || !c->slot)
        return err_set(e, "out of memory for %d features", F);
    for (int f = 0; f < F; f++)
        c->slot[f] = -1;
    return 0;
}

void choice_free(Choice *c)
{
    free(c->item);
    free(c->slot);
    *c = (Choice){0};
}

static void put(Choice *c, const Chosen *x)
{
    if (c->slot[x->feature] < 0)
        c->slot[x->feature] = c->count++;
    c->item[c->slot[x->feature]] = *x;
}

/* How many of an entry's features are taken: its best are the first. */
static int taken(const SteerSpec *spec, const Ranks *ranks, const RankEntry *x, int *count, Err *e)
{
    const int F = ranks_features(ranks);
    float quantile;
    *count = 0;
    if (spec->top > 0) {
        *count = spec->top < F ? spec->top : F;
        if (*count > x->count)
            return err_set(e, "%s: %s '%s' at t %d keeps its %d best features, the %d best are asked for: "
                              "rank again with --top %d", ranks_path(ranks), x->kind, x->label, x->t, x->count,
                           *count, *count);
        return 0;
    }
    if (ranks_quantile(x->score, x->count, F, spec->percentile, &quantile)) {
        const int needed = ranks_needed(F, spec->percentile);
        return err_set(e, "%s: %s '%s' at t %d keeps its %d best features, percentile %g of %d takes %d: "
                          "rank again with --top %d", ranks_path(ranks), x->kind, x->label, x->t, x->count,
                       spec->percentile, F, needed, needed);
    }
    while (*count < x->count && x->score[*count] > quantile)
        (*count)++;
    return 0;
}

static int choose_label(Choice *c, const SteerSpec *spec, const Ranks *ranks, int l, int t, Err *e)
{
    const char *label = spec->labels[l];
    const RankEntry *x = ranks_find(ranks, spec->kind, label, t);
    int count;
    if (!x)
        return err_set(e, "%s: no %s '%s'", ranks_path(ranks), spec->kind, label);
    if ((spec->mode == STEER_OTHERS || spec->gate > 0) && !x->mean_rest)
        return err_set(e, "%s: these ranks have no mean_rest, which --%s needs", ranks_path(ranks),
                       spec->gate > 0 ? "gate" : "mode others");
    if (spec->mode == STEER_UNLABELLED && !x->mean_none)
        return err_set(e, "%s: %s '%s' at t %d: no picture without a %s was ranked, --mode unlabelled needs some",
                       ranks_path(ranks), x->kind, x->label, x->t, x->kind);
    if (taken(spec, ranks, x, &count, e))
        return -1;
    for (int j = 0; j < count; j++) {
        const Chosen y = {.feature = x->feature[j], .label = l, .score = x->score[j],
                          .multiplier = (float)spec->multiplier, .mean = x->mean[j], .mean_all = x->mean_all[j],
                          .mean_rest = x->mean_rest ? x->mean_rest[j] : 0,
                          .mean_none = x->mean_none ? x->mean_none[j] : 0};
        const int slot = c->slot[y.feature];
        if (slot < 0 || spec->compat_saeuron || y.score > c->item[slot].score)
            put(c, &y);
    }
    return 0;
}

static int by_feature(const void *a, const void *b)
{
    const Chosen *x = a, *y = b;
    return (x->feature > y->feature) - (x->feature < y->feature);
}

int choice_make(Choice *c, const SteerSpec *spec, const Ranks *ranks, int t, Err *e)
{
    for (int j = 0; j < c->count; j++)
        c->slot[c->item[j].feature] = -1;
    c->count = 0;
    if (!t_range_has(spec->when, t))
        return 0;
    for (int i = 0; i < spec->label_count; i++)
        if (choose_label(c, spec, ranks, i, t, e))
            return -1;
    for (int i = 0; i < spec->feature_count; i++)
        put(c, &(Chosen){.feature = spec->feature[i], .label = STEER_LABELS, .multiplier = spec->value[i], .mean = 1});
    qsort(c->item, c->count, sizeof *c->item, by_feature);
    for (int j = 0; j < c->count; j++)
        c->slot[c->item[j].feature] = j;
    return 0;
}
