/* SPDX-License-Identifier: MIT */
/* evaluate.c -- counts of classified pictures by steering and target, and the shares made of them; see evaluate.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/evaluate.h"
#include "src/models/steered.h"

const char *const measure_names[MEASURES] = {"UA", "IRA", "CRA", "brought"};

typedef struct Of {                 /* one target under one steering; or one domain, unsteered or by features */
    RowType type;
    const char *steering, *kind, *target;
    json_t *labels;                 /* the target's, steered.h: "A+B" is one or two of them; NULL in the other types */
} Of;

typedef struct Group {
    RowType type;
    char *steering, *kind, *target;
    json_t *labels;
    long pictures, hits[MEASURES], of[MEASURES];
    long scored;                    /* pictures with a CLIP score */
    double clip, clip_squares;      /* sums over them */
    Moments moments;                /* of their embeddings, where there is a reference */
} Group;

struct Evaluation {
    const Classifier *c;
    const Frechet *reference;
    Plain plain;
    Group *group;
    size_t groups, room;
};

int evaluation_create(Evaluation **v, const Classifier *c, const Frechet *reference, Plain plain, Err *e)
{
    *v = calloc(1, sizeof **v);
    if (!*v)
        return err_set(e, "out of memory");
    (*v)->c = c;
    (*v)->reference = reference;
    (*v)->plain = plain;
    return 0;
}

void evaluation_free(Evaluation *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->groups; i++) {
        free(v->group[i].steering);
        free(v->group[i].kind);
        free(v->group[i].target);
        json_decref(v->group[i].labels);
        moments_free(&v->group[i].moments);
    }
    free(v->group);
    free(v);
}

static Group *need_group(Evaluation *v, const Of *of, Err *e)
{
    for (size_t i = v->groups; i-- > 0; ) {
        Group *g = &v->group[i];
        if (g->type == of->type && strcmp(g->target, of->target) == 0 && strcmp(g->kind, of->kind) == 0
            && strcmp(g->steering, of->steering) == 0 && (g->labels == of->labels || json_equal(g->labels, of->labels)))
            return g;
    }
    if (v->groups == v->room) {
        const size_t room = v->room ? 2*v->room : 64;
        Group *more = realloc(v->group, room * sizeof *more);
        if (!more) {
            err_set(e, "out of memory for %zu steerings", room);
            return NULL;
        }
        v->group = more;
        v->room = room;
    }
    Group *g = &v->group[v->groups++];
    *g = (Group){.type = of->type, .steering = strdup(of->steering), .kind = strdup(of->kind),
                 .target = strdup(of->target), .labels = json_incref(of->labels)};
    if (!g->steering || !g->kind || !g->target)
        err_set(e, "out of memory");
    else if (!v->reference || !moments_create(&g->moments, v->c->P, e))
        return g;
    return NULL;
}

/* Features and their values: "3:2.5+7:0"; nothing for none. */
static void print_features(FILE *f, json_t *features)
{
    const char *feature, *before = "";
    json_t *value;
    json_object_foreach(features, feature, value) {
        fprintf(f, "%s%s:%.7g", before, feature, json_number_value(value));
        before = "+";
    }
}

/* The field "steering" as one line: "mode=multiply multiplier=-1 percentile=99.5 features=3:2.5". Labels are the
 * target. */
static void print_steering(FILE *f, json_t *steering)
{
    const char *name, *before = "";
    json_t *value;
    json_object_foreach(steering, name, value) {
        if (strcmp(name, "labels") == 0)
            continue;
        fprintf(f, "%s%s=", before, name);
        before = " ";
        if (json_is_object(value))
            print_features(f, value);
        else if (json_is_string(value))
            fputs(json_string_value(value), f);
        else
            fprintf(f, "%.10g", json_number_value(value));
    }
}

/* What print prints of value, whole: rows are told apart by it. NULL: out of memory */
static char *printed(void (*print)(FILE *f, json_t *value), json_t *value)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return NULL;
    print(f, value);
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

static bool target_known(const Domain *d, const json_t *labels)
{
    for (int k = 0; k < d->classes; k++)
        if (steered_has(labels, d->name, d->label[k]))
            return true;
    return false;
}

/* That what was steered is of kinds and labels that are classified. */
static int check_target(const Classifier *c, const char *file, const Record *rec, const Of *of, Err *e)
{
    const json_t *item;
    size_t k;
    json_array_foreach(of->labels, k, item) {
        const char *kind = json_string_value(json_object_get(item, "kind"));
        int i = 0;
        while (i < c->domains && strcmp(c->domain[i].name, kind) != 0)
            i++;
        if (i == c->domains)
            return err_set(e, "%s: record %ld: steered_kind is '%s', which %s does not classify", file, rec->number,
                           of->kind, c->name);
        if (!target_known(&c->domain[i], of->labels))
            return err_set(e, "%s: record %ld: the steered %s '%s' is none that %s knows", file, rec->number,
                           c->domain[i].name, of->target, domain_source(c, &c->domain[i]));
    }
    return 0;
}

/* The picture's class in a domain: -1 where it has no label, and "" is no class or does not count. */
static int true_class(const Evaluation *v, const char *file, const Record *rec, const Domain *d, int *class, Err *e)
{
    const char *label = record_text(rec, d->name, "");
    *class = *label || v->plain == PLAIN_CLASS ? domain_class(d, label) : -1;
    if (*class >= 0 || !*label)
        return 0;
    return err_set(e, "%s: record %ld: %s '%s' is none of the %d that %s knows", file, rec->number, d->name, label,
                   d->classes, domain_source(v->c, d));
}

static void count(Group *g, Measure m, bool hit)
{
    g->of[m]++;
    g->hits[m] += hit;
}

/* The domains of the target's kinds are its own, the others are crossed. */
static Group *count_picture(Evaluation *v, const Of *of, const int *class, const int *predicted, Err *e)
{
    Group *g = need_group(v, of, e);
    if (!g)
        return NULL;
    g->pictures++;
    for (int i = 0; i < v->c->domains; i++) {
        const Domain *d = &v->c->domain[i];
        const bool steered = steered_has(of->labels, d->name, NULL), own = steered || strcmp(of->kind, d->name) == 0;
        const bool is_target = steered && class[i] >= 0 && steered_has(of->labels, d->name, d->label[class[i]]);
        if (is_target)
            count(g, MEASURE_UA, predicted[i] != class[i]);
        else if (class[i] >= 0)
            count(g, own ? MEASURE_IRA : MEASURE_CRA, predicted[i] == class[i]);
        if (steered && !is_target)
            count(g, MEASURE_BROUGHT, steered_has(of->labels, d->name, d->label[predicted[i]]));
    }
    return g;
}

/* What does not depend on the classes. */
static int measure(const Evaluation *v, Group *g, const float *embedding, double clip)
{
    if (!g)
        return -1;
    if (!isnan(clip)) {
        g->scored++;
        g->clip += clip;
        g->clip_squares += clip * clip;
    }
    if (v->reference)
        moments_add(&g->moments, embedding);
    return 0;
}

static int add_target(Evaluation *v, const char *file, const Record *rec, const char *steering, const float *embedding,
                      double clip, const int *class, const int *predicted, Err *e)
{
    const Of of = {ROW_TARGET, steering, record_text(rec, "steered_kind", "concept"), record_text(rec, "steered", ""),
                   steered_labels(rec->fields)};
    const int failed = !of.labels ? err_set(e, "out of memory")
                     : check_target(v->c, file, rec, &of, e)
                       || measure(v, count_picture(v, &of, class, predicted, e), embedding, clip);
    json_decref(of.labels);
    return failed ? -1 : 0;
}

static int add_untargeted(Evaluation *v, json_t *how, const char *steering, const float *embedding, double clip,
                          const int *class, const int *predicted, Err *e)
{
    char *features = printed(print_features, json_object_get(how, "features"));
    int failed = features ? 0 : err_set(e, "out of memory");
    for (int i = 0; i < v->c->domains && !failed; i++) {
        const Of of = {*features ? ROW_FEATURES : ROW_UNSTEERED, *features ? steering : "", v->c->domain[i].name,
                       features, NULL};
        failed = measure(v, count_picture(v, &of, class, predicted, e), embedding, clip);
    }
    free(features);
    return failed;
}

int evaluation_add(Evaluation *v, const char *file, const Record *rec, const float *embedding, double clip,
                   const int *predicted, Err *e)
{
    const Classifier *c = v->c;
    json_t *how = json_object_get(rec->fields, "steering");
    int class[DOMAINS];
    bool plain = false;
    for (int i = 0; i < c->domains; i++) {
        if (true_class(v, file, rec, &c->domain[i], &class[i], e))
            return -1;
        plain = plain || class[i] < 0;
    }
    if (plain && v->plain == PLAIN_NONE)
        return 0;
    char *steering = printed(print_steering, how);
    const int failed = !steering ? err_set(e, "out of memory")
                     : *record_text(rec, "steered", "")
                       ? add_target(v, file, rec, steering, embedding, clip, class, predicted, e)
                       : add_untargeted(v, how, steering, embedding, clip, class, predicted, e);
    free(steering);
    return failed ? -1 : 0;
}

/* ---- rows ---- */

Share share_wilson(long hits, long of)
{
    const double z = 1.959963984540054, n = (double)of, p = of ? (double)hits / n : 0;
    if (!of)
        return (Share){0, 0, NAN, NAN, NAN};
    const double middle = (p + z*z / (2*n)) / (1 + z*z/n);
    const double half = z / (1 + z*z/n) * sqrt(p * (1 - p) / n + z*z / (4*n*n));
    return (Share){hits, of, p, hits ? fmax(0, middle - half) : 0, hits < of ? fmin(1, middle + half) : 1};
}

static double mean_of(const Share *share)
{
    return (share[MEASURE_UA].value + share[MEASURE_IRA].value + share[MEASURE_CRA].value) / 3;
}

static void finish_row(const Evaluation *v, EvalRow *row, const Group *g)
{
    const double n = (double)g->scored, mean = g->clip / n, variance = (g->clip_squares - n * mean * mean) / (n - 1);
    row->mean = mean_of(row->share);
    row->clip = g->scored ? mean : NAN;
    row->clip_error = g->scored > 1 ? sqrt((variance > 0 ? variance : 0) / n) : NAN;
    row->frechet = v->reference ? frechet_distance(v->reference, &g->moments) : NAN;
}

static EvalRow target_row(const Evaluation *v, const Group *g)
{
    EvalRow row = {.type = g->type, .kind = g->kind, .target = g->target,
                   .steering = g->steering, .targets = g->type == ROW_TARGET, .pictures = g->pictures};
    for (int m = 0; m < MEASURES; m++)
        row.share[m] = share_wilson(g->hits[m], g->of[m]);
    finish_row(v, &row, g);
    return row;
}

/* The mean of target rows first..last-1: a measure is averaged over the targets that have it. all has the pictures of
 * them all. */
static EvalRow overall_row(const Evaluation *v, const EvalRow *rows, int first, int last, const Group *all)
{
    EvalRow row = {.type = ROW_OVERALL, .kind = rows[first].kind, .target = "", .steering = rows[first].steering,
                   .targets = last - first};
    for (int m = 0; m < MEASURES; m++) {
        double sum = 0, below = 0, above = 0;
        int T = 0;
        Share *s = &row.share[m];
        for (int i = first; i < last; i++) {
            const Share *x = &rows[i].share[m];
            if (!x->of)
                continue;
            T++;
            s->hits += x->hits;
            s->of += x->of;
            sum += x->value;
            below += (x->value - x->low) * (x->value - x->low);
            above += (x->high - x->value) * (x->high - x->value);
        }
        s->value = T ? sum / T : NAN;
        s->low = T ? s->value - sqrt(below) / T : NAN;
        s->high = T ? s->value + sqrt(above) / T : NAN;
    }
    for (int i = first; i < last; i++)
        row.pictures += rows[i].pictures;
    finish_row(v, &row, all);
    return row;
}

static void add_group(const Evaluation *v, Group *all, const Group *g)
{
    all->scored += g->scored;
    all->clip += g->clip;
    all->clip_squares += g->clip_squares;
    if (v->reference)
        moments_merge(&all->moments, &g->moments);
}

static int by_name(const void *a, const void *b)
{
    const Group *x = a, *y = b;
    const int order = strcmp(x->steering, y->steering), kind = strcmp(x->kind, y->kind);
    if (x->type != y->type)             /* the unsteered first */
        return x->type < y->type ? -1 : 1;
    if (order || kind)
        return order ? order : kind;
    const int target = strcmp(x->target, y->target);
    const size_t m = json_array_size(x->labels), n = json_array_size(y->labels);
    return target ? target : (m > n) - (m < n);
}

/* Whether two groups are averaged into one overall row, or are of the same kind and steering without one. */
static bool together(const Group *a, const Group *b)
{
    return a->type == b->type && strcmp(a->kind, b->kind) == 0 && strcmp(a->steering, b->steering) == 0;
}

int evaluation_rows(Evaluation *v, EvalRow **rows, Err *e)
{
    int count_rows = 0;
    if (!v->groups)
        return err_set(e, "no pictures to evaluate");
    qsort(v->group, v->groups, sizeof *v->group, by_name);
    EvalRow *row = *rows = malloc(sizeof *row * v->groups * 2);
    if (!row)
        return err_set(e, "out of memory");
    for (size_t i = 0; i < v->groups; ) {
        const Group *first = &v->group[i];
        const int from = count_rows;
        Group all = {0};
        if (v->reference && moments_create(&all.moments, v->c->P, e)) {
            moments_free(&all.moments);
            return -1;
        }
        for (; i < v->groups && together(&v->group[i], first); i++) {
            row[count_rows++] = target_row(v, &v->group[i]);
            add_group(v, &all, &v->group[i]);
        }
        if (first->type == ROW_TARGET) {
            row[count_rows] = overall_row(v, row, from, count_rows, &all);
            count_rows++;
        }
        moments_free(&all.moments);
    }
    return count_rows;
}
