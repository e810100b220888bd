/* SPDX-License-Identifier: MIT */
/* steered_pairs.c -- groups of pairs, in order. */
#include <stdlib.h>
#include <string.h>
#include "formats/fnv.h"
#include "src/models/steered.h"
#include "src/models/steered_pairs.h"

void pairs_init(Pairs *p, int kept, Thumbs *thumbs)
{
    *p = (Pairs){.kept = kept, .thumbs = thumbs};
}

static void pair_free(Pair *x)
{
    json_decref(x->fields);
    free(x->plain);
    free(x->steered);
    *x = (Pair){0};
}

void pairs_free(Pairs *p)
{
    for (int g = 0; g < p->groups; g++) {
        PairGroup *x = &p->group[g];
        for (int own = 0; own < 2; own++) {
            for (int i = 0; i < x->pairs[own]; i++)
                pair_free(&x->pair[own][i]);
            free(x->pair[own]);
        }
        free(x->kind);
        free(x->label);
        free(x->steering);
    }
    free(p->group);
    *p = (Pairs){0};
}

/* ---- groups ---- */

static int group_order(const PairGroup *g, const char *kind, const char *label, const char *steering)
{
    const int by_kind = strcmp(g->kind, kind), by_label = strcmp(g->label, label);
    return by_kind ? by_kind : by_label ? by_label : strcmp(g->steering, steering);
}

static PairGroup *need_group(Pairs *p, const char *kind, const char *label, const char *steering, Err *e)
{
    int low = 0, high = p->groups;
    while (low < high) {
        const int middle = (low + high)/2, order = group_order(&p->group[middle], kind, label, steering);
        if (order == 0)
            return &p->group[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    PairGroup *more = p->groups < GROUPS_MAX ? realloc(p->group, sizeof *more*((size_t)p->groups + 1)) : NULL;
    if (!more) {
        err_set(e, "pictures of more than %d steerings, or out of memory", p->groups);
        return NULL;
    }
    p->group = more;
    memmove(more + low + 1, more + low, sizeof *more*(size_t)(p->groups - low));
    PairGroup *g = &more[low];
    *g = (PairGroup){.kind = strdup(kind), .label = strdup(label), .steering = strdup(steering)};
    p->groups++;
    for (int own = 0; own < 2; own++)
        g->pair[own] = calloc((size_t)p->kept + 1, sizeof *g->pair[own]);
    if (g->kind && g->label && g->steering && g->pair[0] && g->pair[1])
        return g;
    err_set(e, "out of memory for pictures");
    return NULL;
}

/* ---- pictures ---- */

/* What a picture is known by: prompt, negative prompt, seed. The caller frees; NULL without memory. */
static char *known_by(const Record *rec, const char *what)
{
    char *seed = json_dumps(json_object_get(rec->fields, "seed"), JSON_ENCODE_ANY | JSON_COMPACT), *key;
    if (asprintf(&key, "%s\n%s\n%s\n%s", what, seed ? seed : "", record_text(rec, "prompt", ""),
                 record_text(rec, "negative", "")) < 0)
        key = NULL;
    free(seed);
    return key;
}

static int pair_order(const Pair *a, const Pair *b)
{
    return a->order != b->order ? a->order < b->order ? -1 : 1 : strcmp(a->plain, b->plain);
}

/* Takes the pair into a list of the p->kept first ones, with its picture; x is spent. */
static int keep_pair(Pairs *p, Pair *list, int *count, Pair *x, const Picture *picture, Err *e)
{
    int to = *count;
    while (to > 0 && pair_order(x, &list[to - 1]) < 0)
        to--;
    const bool there = to > 0 && pair_order(x, &list[to - 1]) == 0;
    if (there || to == p->kept) {
        pair_free(x);
        return 0;
    }
    if (thumbs_add(p->thumbs, x->steered, picture->rgb, picture->W, picture->H, e)) {
        pair_free(x);
        return -1;
    }
    if (*count == p->kept) {
        thumbs_drop(p->thumbs, list[*count - 1].steered);
        pair_free(&list[--*count]);
    }
    memmove(list + to + 1, list + to, sizeof *list*(size_t)(*count - to));
    list[to] = *x;
    ++*count;
    return 0;
}

/* Whether the picture is of one of the labels that were steered: 1 or 0; -1: out of memory. */
static int is_own(const Record *rec)
{
    json_t *labels = steered_labels(rec->fields), *item;
    size_t i;
    bool own = false;
    json_array_foreach(labels, i, item) {
        const char *kind = json_string_value(json_object_get(item, "kind"));
        own = own || steered_has(labels, kind, record_text(rec, kind, ""));
    }
    json_decref(labels);
    return labels ? own : -1;
}

static int add_steered(Pairs *p, const Picture *picture, const json_t *steering, Err *e)
{
    const Record *rec = &picture->record;
    const char *kind = record_text(rec, "steered_kind", ""), *label = record_text(rec, "steered", "");
    char *text = json_dumps(steering, JSON_ENCODE_ANY | JSON_COMPACT), *prefix = NULL;
    PairGroup *g = text ? need_group(p, kind, label, text, e) : NULL;
    Pair x = {.plain = known_by(rec, "plain"), .fields = json_incref(rec->fields)};
    if (g && asprintf(&prefix, "steered\n%s\n%s\n%s", kind, label, text) >= 0)
        x.steered = known_by(rec, prefix);
    free(prefix);
    free(text);
    const int own = is_own(rec);
    if (!g || !x.plain || !x.steered || own < 0) {
        pair_free(&x);
        return err_set(e, "out of memory for pictures");
    }
    const uint64_t hash = fnv_text(x.plain);
    x.order = hash ^ hash >> 29;
    g->pictures++;
    return keep_pair(p, g->pair[!own], &g->pairs[!own], &x, picture, e);
}

int pairs_add(Pairs *p, const Picture *picture, Err *e)
{
    const json_t *steering = json_object_get(picture->record.fields, "steering");
    if (json_is_object(steering))
        return add_steered(p, picture, steering, e);
    char *key = known_by(&picture->record, "plain");
    const int failed = key ? thumbs_add(p->thumbs, key, picture->rgb, picture->W, picture->H, e)
                           : err_set(e, "out of memory for pictures");
    free(key);
    p->plain++;
    return failed;
}

void pairs_settle(Pairs *p)
{
    for (int g = 0; g < p->groups; g++) {
        PairGroup *x = &p->group[g];
        const int half = (p->kept + 1)/2, rest = p->kept - x->pairs[1], own = half > rest ? half : rest;
        const int first = x->pairs[0] < own ? x->pairs[0] : own;
        for (int list = 0; list < 2; list++) {
            const int most = list == 0 ? first : p->kept - first;
            while (x->pairs[list] > most)
                pair_free(&x->pair[list][--x->pairs[list]]);
        }
    }
}
