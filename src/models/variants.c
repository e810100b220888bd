/* SPDX-License-Identifier: MIT */
/* variants.c -- the product of sd-steer's sweeps. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "src/models/sampler.h"
#include "src/models/variants.h"

enum { VARIANT_MAX = 10000 };

int variant_target(Variant *v, const char *kind, const char *label, const Ranks *ranks, Err *e)
{
    const RankEntry *known_as = ranks ? ranks_find(ranks, kind, label, 0) : NULL;
    if (ranks && !known_as) {
        char *known = ranks_labels(ranks, kind);
        if (known && *known)
            err_set(e, "the ranks have no %s '%s'; they have: %s", kind, label, known);
        else
            err_set(e, "the ranks have no label of the kind '%s'", kind);
        free(known);
        return -1;
    }
    if (known_as)
        label = known_as->label;    /* spelt as there: who reads the pictures' fields compares letter by letter */
    for (int i = 0; i < v->targets; i++)
        if (strcmp(v->target[i].kind, kind) == 0 && strcmp(v->target[i].label, label) == 0)
            return 0;
    if (v->targets == VARIANT_TARGETS)
        return err_set(e, "more than %d labels are steered at once", VARIANT_TARGETS);
    VariantTarget new;
    if (snprintf(new.kind, sizeof new.kind, "%s", kind) >= (int)sizeof new.kind
        || snprintf(new.label, sizeof new.label, "%s", label) >= (int)sizeof new.label)
        return err_set(e, "the label %s '%s' is too long: expected at most %zu and %zu bytes", kind, label,
                       sizeof new.kind - 1, sizeof new.label - 1);
    int at = v->targets++;
    for (; at > 0 && strcmp(v->target[at - 1].kind, kind) > 0; at--)
        v->target[at] = v->target[at - 1];
    v->target[at] = new;
    return 0;
}

/* Where the number of a sweep goes; NULL: it is of something else. */
static double *number_of(Variant *v, const char *name)
{
    return strcmp(name, "multiplier") == 0 ? &v->multiplier : strcmp(name, "gate") == 0 ? &v->gate
         : strcmp(name, "percentile") == 0 ? &v->percentile : NULL;
}

int variant_feature(int32_t *feature, float *value, const char *text)
{
    char first[16];
    int64_t i;
    double x;
    const size_t n = strcspn(text, "=");
    if (n >= sizeof first || !text[n])
        return -1;
    snprintf(first, sizeof first, "%.*s", (int)n, text);
    if (number_whole(first, &i) || i < 0 || i > INT32_MAX || number_real(text + n + 1, &x))
        return -1;
    *feature = (int32_t)i;
    *value = (float)x;
    return isfinite(*value) ? 0 : -1;
}

static int add_feature(Variant *v, const char *text, Err *e)
{
    if (v->features == VARIANT_FEATURES)
        return err_misuse(e, "more than %d sweeps of features", VARIANT_FEATURES);
    if (variant_feature(&v->feature[v->features], &v->value[v->features], text))
        return err_misuse(e, "--sweep feature: '%s' is not I=VALUE", text);
    for (int i = 0; i < v->features; i++)
        if (v->feature[i] == v->feature[v->features])
            return err_misuse(e, "--sweep feature: %d comes in two of the sweeps", v->feature[i]);
    v->features++;
    return 0;
}

typedef struct Sweep {
    const char *name;
    const Ranks *ranks;
    bool labels;                    /* its values are labels, whatever they are called: those of `all` */
} Sweep;

/* Sets what one sweep's value stands for. */
static int apply(Variant *v, const Sweep *sweep, const char *value, Err *e)
{
    const char *name = sweep->name;
    double x, *const number = number_of(v, name);
    if (sweep->labels)
        return variant_target(v, name, value, sweep->ranks, e);
    if (strcmp(name, "mode") == 0)
        return steer_mode(&v->mode, value, e);
    if (strcmp(name, "when") == 0)
        return t_range_parse(&v->when, "--sweep when:", value, e);
    if (strcmp(name, "top") == 0) {
        if (number_real(value, &x) || !(x >= 1 && x <= INT_MAX && x == floor(x)))
            return err_misuse(e, "--sweep top: '%s' is not a whole number from 1 on", value);
        v->top = (int)x;
        return 0;
    }
    if (number) {
        if (number_real(value, number))
            return err_misuse(e, "--sweep %s: '%s' is not a number", name, value);
        if (number == &v->percentile)
            v->top = 0;                 /* which would go before it */
        return 0;
    }
    if (strcmp(value, "none") == 0) {
        v->none = 1;
        return 0;
    }
    if (strcmp(name, "feature") == 0)
        return add_feature(v, value, e);
    return variant_target(v, name, value, sweep->ranks, e);
}

static int extend(Variants *out, const Variant *from, const Sweep *sweep, const char *value, Err *e)
{
    const char *name = sweep->name;
    if (out->count == VARIANT_MAX)
        return err_misuse(e, "the sweeps make more than %d steerings", VARIANT_MAX);
    if ((out->count & (out->count - 1)) == 0) {
        Variant *more = realloc(out->item, sizeof *more * (out->count ? 2 * (size_t)out->count : 1));
        if (!more)
            return err_set(e, "out of memory for %d steerings", out->count);
        out->item = more;
    }
    Variant *v = &out->item[out->count++];
    *v = *from;
    const size_t used = strlen(v->name);
    const size_t room = sizeof v->name - used;
    if (snprintf(v->name + used, room, "%s%s=%s", used ? "/" : "", name, value) >= (int)room)
        return err_misuse(e, "--sweep %s: the value '%s' is too long", name, value);
    for (int i = 0; i < out->count - 1; i++)
        if (strcmp(out->item[i].name, v->name) == 0)
            return err_misuse(e, "--sweep %s: %s comes twice", name, v->name);
    return apply(v, sweep, value, e);
}

/* The comma behind the value that begins here, or the end; a comma behind a backslash is the value's own. */
static const char *value_end(const char *value)
{
    while (*value && *value != ',')
        value += value[0] == '\\' && value[1] == ',' ? 2 : 1;
    return value;
}

/* A copy of a value without the backslashes before its commas. The caller frees; NULL: out of memory. */
static char *value_copy(const char *value, const char *end)
{
    char *const copy = malloc((size_t)(end - value) + 1), *to = copy;
    for (; copy && value < end; value++) {
        value += value[0] == '\\' && value[1] == ',';
        *to++ = *value;
    }
    if (copy)
        *to = 0;
    return copy;
}

/* `from`, once with each value of the sweep, added to out. */
static int extend_values(Variants *out, const Variant *from, const Sweep *sweep, const char *values, Err *e)
{
    const char *label, *const name = sweep->name;
    if (strcmp(values, "all") == 0) {
        const Sweep all = {name, sweep->ranks, true};
        if (!all.ranks || !ranks_label(all.ranks, name, 0))
            return err_set(e, "--sweep %s=all: the ranks have no label of that kind", name);
        for (int k = 0; (label = ranks_label(all.ranks, name, k)); k++)
            if (extend(out, from, &all, label, e))
                return -1;
        return 0;
    }
    for (const char *end; ; values = end + 1) {
        end = value_end(values);
        char *value = value_copy(values, end);
        const int failed = value ? extend(out, from, sweep, value, e) : err_set(e, "out of memory");
        free(value);
        if (failed || !*end)
            return failed;
    }
}

const char *variants_none_label(const char *sweep, const Ranks *ranks)
{
    const char *value = strchr(sweep, '=');
    char kind[32];
    if (!ranks || !value || value - sweep >= (long)sizeof kind)
        return NULL;
    snprintf(kind, sizeof kind, "%.*s", (int)(value - sweep), sweep);
    for (const char *end = value; *end; ) {
        value = end + 1;
        end = value_end(value);
        const RankEntry *label = end - value == 4 && memcmp(value, "none", 4) == 0 ? ranks_find(ranks, kind, "none", 0)
                               : NULL;
        if (label)
            return label->label;
    }
    return NULL;
}

/* Every variant so far, once with each value of the sweep. */
static int multiply(Variants *v, const char *sweep, const Ranks *ranks, Err *e)
{
    const char *equals = strchr(sweep, '=');
    if (!equals || equals == sweep || !equals[1])
        return err_misuse(e, "--sweep '%s' is not NAME=VALUE,VALUE", sweep);
    char *name = strndup(sweep, equals - sweep);
    Variants next = {0};
    int failed = name ? 0 : err_set(e, "out of memory");
    for (int i = 0; i < v->count && !failed; i++)
        failed = extend_values(&next, &v->item[i], &(Sweep){name, ranks, false}, equals + 1, e);
    free(name);
    free(v->item);
    *v = next;
    return failed;
}

bool variant_steers(const Variant *v)
{
    return v->targets || v->features || v->by_hand;
}

/* What sweeps of numbers and words set; of_labels: in no way for features given by hand. */
typedef struct Set { const char *name; int what; bool of_labels; } Set;
static const Set sets[] = {
    {"multiplier", 1, true}, {"gate", 2, true}, {"mode", 3, false}, {"when", 4, false}, {"top", 5, true},
    {"percentile", 5, true}};

/* That of one, NULL for those of labels and features, which add to one another. */
static const Set *set_by(const char *sweep)
{
    const size_t n = strcspn(sweep, "=");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strlen(sets[i].name) == n && memcmp(sets[i].name, sweep, n) == 0)
            return &sets[i];
    return NULL;
}

/* That no sweep sets what one before it has set: its values would stand under the names of both. */
static int check_sweeps(const char *const *sweeps, int count, Err *e)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < i; k++) {
            const Set *set = set_by(sweeps[i]), *before = set_by(sweeps[k]);
            if (set && before && set->what == before->what)
                return err_misuse(e, "--sweep %s sets anew what --sweep %s has set: give one of them, with all values",
                                  set->name, before->name);
        }
    return 0;
}

/* What only labels are steered by has something to sweep over: features by hand would be drawn alike under each
 * name. */
static int check_labels(const Variants *v, const char *const *sweeps, int count, Err *e)
{
    bool labels = false, features = false;
    for (int i = 0; i < v->count; i++) {
        labels |= v->item[i].targets > 0;
        features |= v->item[i].features > 0;
    }
    for (int i = 0; i < count && features && !labels; i++) {
        const Set *set = set_by(sweeps[i]);
        if (set && set->of_labels)
            return err_misuse(e, "--sweep %s: no label is steered, and a feature has its own value", set->name);
    }
    return 0;
}

int variants_build(Variants *v, const Variant *base, const char *const *sweeps, int sweep_count, const Ranks *ranks,
                   Err *e)
{
    *v = (Variants){0};
    if (check_sweeps(sweeps, sweep_count, e))
        return -1;
    *v = (Variants){malloc(sizeof *v->item), 1};
    if (!v->item)
        return err_set(e, "out of memory");
    v->item[0] = *base;
    for (int i = 0; i < sweep_count; i++)
        if (multiply(v, sweeps[i], ranks, e))
            return -1;
    for (int i = 0; i < v->count; i++)
        v->item[i].none &= !variant_steers(&v->item[i]);
    return check_labels(v, sweeps, sweep_count, e);
}

int variants_add_none(Variants *v, Err *e)
{
    Variant *more = realloc(v->item, sizeof *more * ((size_t)v->count + 1));
    if (!more)
        return err_set(e, "out of memory for %d steerings", v->count + 1);
    v->item = more;
    memmove(more + 1, more, sizeof *more * (size_t)v->count);
    v->count++;
    more[0] = (Variant){.name = "unsteered", .none = 1};
    return 0;
}

void variants_free(Variants *v)
{
    free(v->item);
    *v = (Variants){0};
}

/* [{"kind": ..., "label": ...}, ...] where the texts alone might be of other labels: see steered.h. */
static void describe_labels(const Variant *v, json_t *steering)
{
    const bool clear = v->targets == 1 && !strchr(v->target->kind, '+') && !strchr(v->target->label, '+');
    if (clear || !v->targets)
        return;
    json_t *list = json_array();
    for (int i = 0; i < v->targets; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "kind", v->target[i].kind, "label", v->target[i].label));
    json_object_set_new(steering, "labels", list);
}

/* What only labels are steered by: a feature given by hand has its own value, and no gate before it. */
static void describe_strength(const Variant *v, json_t *steering)
{
    if (v->mode != STEER_ABLATE)
        json_object_set_new(steering, "multiplier", json_real(v->multiplier));
    if (v->top)
        json_object_set_new(steering, "top", json_integer(v->top));
    else
        json_object_set_new(steering, "percentile", json_real(v->percentile));
    if (v->gate > 0)
        json_object_set_new(steering, "gate", json_real(v->gate));
}

void variant_describe(const Variant *v, Record *rec)
{
    char labels[VARIANT_TARGETS*sizeof v->target->label] = "", kinds[VARIANT_TARGETS*sizeof v->target->kind] = "";
    const int targets = v->none ? 0 : v->targets;
    bool one_kind = true;
    for (int i = 0; i < targets; i++) {
        snprintf(labels + strlen(labels), sizeof labels - strlen(labels), "%s%s", i ? "+" : "", v->target[i].label);
        snprintf(kinds + strlen(kinds), sizeof kinds - strlen(kinds), "%s%s", i ? "+" : "", v->target[i].kind);
        one_kind = one_kind && strcmp(v->target[i].kind, v->target[0].kind) == 0;
    }
    record_set_text(rec, "steered", labels);
    record_set_text(rec, "steered_kind", targets && one_kind ? v->target[0].kind : kinds);
    if (v->none) {          /* what is there, a text's steering, is not this picture's */
        json_object_del(rec->fields, "steering");
        return;
    }
    json_t *steering = json_object();
    json_object_set_new(steering, "mode", json_string(steer_mode_name(v->mode)));
    if (v->targets)
        describe_strength(v, steering);
    if (v->when.low > 0 || v->when.high < T_RANGE_ALL.high) {
        char when[32];
        snprintf(when, sizeof when, "%d-%d", v->when.high, v->when.low);
        json_object_set_new(steering, "when", json_string(when));
    }
    describe_labels(v, steering);
    record_set_json(rec, "steering", steering);
}
