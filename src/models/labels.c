/* SPDX-License-Identifier: MIT */
/* labels.c -- labels by kind and name, and the sets of them that records have. */
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/stream.h"
#include "src/models/labels.h"

enum { KINDS = 8, LABELS_MAX = 1 << 16 };

typedef struct Label { int kind; char *name; int number; } Label;
typedef struct Set { int32_t label[KINDS]; } Set;      /* places in label; -1: none of that kind */

struct Labels {
    char *text, *kind[KINDS];       /* kind: into text */
    int kinds;
    Label *label;                   /* in the order of their coming */
    int count;
    Set *set;
    int sets;
    bool settled;
    pthread_mutex_t lock;           /* a reader finds tags while batches are labelled */
};

int labels_create(Labels **out, const char *kinds, Err *e)
{
    Labels *l = *out = calloc(1, sizeof *l);
    if (!l || !(l->text = strdup(kinds))) {
        labels_free(l);
        *out = NULL;
        return err_set(e, "out of memory");
    }
    pthread_mutex_init(&l->lock, NULL);
    char *rest = NULL;
    for (char *k = strtok_r(l->text, ",", &rest); k; k = strtok_r(NULL, ",", &rest)) {
        if (l->kinds == KINDS) {
            labels_free(l);
            *out = NULL;
            return err_misuse(e, "'%s': more than %d kinds of labels", kinds, KINDS);
        }
        l->kind[l->kinds++] = k;
    }
    return 0;
}

void labels_free(Labels *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->count; i++)
        free(l->label[i].name);
    free(l->label);
    free(l->set);
    free(l->text);
    free(l);
}

/* Room for one more of n items, doubling. */
static int grow(void **items, int n, size_t size, Err *e)
{
    if (n & (n - 1))
        return 0;
    void *more = realloc(*items, size*(size_t)(n ? 2*n : 1));
    if (!more)
        return err_set(e, "out of memory for labels");
    *items = more;
    return 0;
}

static int32_t find_label(Labels *l, int kind, const char *name, Err *e)
{
    for (int i = 0; i < l->count; i++)
        if (l->label[i].kind == kind && strcmp(l->label[i].name, name) == 0)
            return i;
    if (l->settled)
        return err_set(e, "%s '%s' comes first after training has begun: a feature is tied to each label, so all must "
                       "be there in the first --buffer tokens", l->kind[kind], name);
    if (l->count == LABELS_MAX)
        return err_set(e, "more than %d labels", LABELS_MAX);
    if (grow((void **)&l->label, l->count, sizeof *l->label, e))
        return -1;
    char *own = strdup(name);
    if (!own)
        return err_set(e, "out of memory for labels");
    l->label[l->count] = (Label){kind, own, -1};
    return l->count++;
}

static int32_t find_tag(Labels *l, const json_t *fields, Err *e)
{
    Set s;
    for (int k = 0; k < KINDS; k++)
        s.label[k] = -1;
    for (int k = 0; k < l->kinds; k++) {
        const json_t *value = json_object_get(fields, l->kind[k]);
        if (json_is_array(value) || json_is_object(value))
            return err_set(e, "field %s is %s, expected a label", l->kind[k], json_type_text(value));
        char *name = record_label(fields, l->kind[k]);
        if (!name)
            return err_set(e, "out of memory for labels");
        if (*name)
            s.label[k] = find_label(l, k, name, e);
        const bool failed = *name && s.label[k] < 0;
        free(name);
        if (failed)
            return -1;
    }
    for (int i = l->sets; i-- > 0;)         /* mostly the last ones */
        if (memcmp(&l->set[i], &s, sizeof s) == 0)
            return i;
    if (grow((void **)&l->set, l->sets, sizeof *l->set, e))
        return -1;
    l->set[l->sets] = s;
    return l->sets++;
}

int32_t labels_tag(Labels *l, const json_t *fields, Err *e)
{
    pthread_mutex_lock(&l->lock);
    const int32_t tag = find_tag(l, fields, e);
    pthread_mutex_unlock(&l->lock);
    return tag;
}

static int by_name(const void *a, const void *b)
{
    const Label *x = *(const Label *const *)a, *y = *(const Label *const *)b;
    return x->kind != y->kind ? x->kind - y->kind : strcmp(x->name, y->name);
}

int labels_settle(Labels *l, Err *e)
{
    if (l->settled)
        return l->count;
    if (l->count == 0) {
        err_set(e, "no record has a label of %s", l->kinds ? l->kind[0] : "any kind");
        return 0;
    }
    Label **order = malloc(sizeof *order*(size_t)l->count);
    if (!order) {
        err_set(e, "out of memory for labels");
        return 0;
    }
    for (int i = 0; i < l->count; i++)
        order[i] = &l->label[i];
    qsort(order, (size_t)l->count, sizeof *order, by_name);
    for (int i = 0; i < l->count; i++)
        order[i]->number = i;
    free(order);
    l->settled = true;
    return l->count;
}

int labels_count(const Labels *l)
{
    return l->settled ? l->count : 0;
}

int32_t labels_tags(const Labels *l)
{
    return l->sets;
}

void labels_fill(Labels *l, int32_t tag, uint8_t *on)
{
    pthread_mutex_lock(&l->lock);
    memset(on, 0, (size_t)l->count);
    for (int k = 0; k < l->kinds; k++)
        if (l->set[tag].label[k] >= 0)
            on[l->label[l->set[tag].label[k]].number] = 1;
    pthread_mutex_unlock(&l->lock);
}

json_t *labels_json(const Labels *l)
{
    json_t *all = json_object();
    for (int k = 0; k < l->kinds && all; k++)
        json_object_set_new(all, l->kind[k], json_object());
    for (int n = 0; n < l->count && all; n++)
        for (int i = 0; i < l->count; i++)
            if (l->label[i].number == n)
                json_object_set_new(json_object_get(all, l->kind[l->label[i].kind]), l->label[i].name, json_integer(n));
    return all;
}

json_t *labels_store(Labels *l)
{
    json_t *names = json_array(), *sets = json_array();
    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < l->count; i++)
        json_array_append_new(names, json_pack("[i, s]", l->label[i].kind, l->label[i].name));
    for (int i = 0; i < l->sets; i++) {
        json_t *set = json_array();
        for (int k = 0; k < l->kinds; k++)
            json_array_append_new(set, json_integer(l->set[i].label[k]));
        json_array_append_new(sets, set);
    }
    pthread_mutex_unlock(&l->lock);
    return json_pack("{s:o, s:o, s:b}", "labels", names, "sets", sets, "settled", (int)l->settled);
}

int labels_restore(Labels *l, const json_t *stored, Err *e)
{
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(stored, "labels"), i, item) {
        const char *name = json_string_value(json_array_get(item, 1));
        const json_int_t kind = json_integer_value(json_array_get(item, 0));
        if (!name || kind < 0 || kind >= l->kinds)
            return err_set(e, "checkpoint: label %zu is not one of this run's kinds", i);
        if (find_label(l, (int)kind, name, e) != (int32_t)i)
            return err_set(e, "checkpoint: label %zu comes twice", i);
    }
    json_array_foreach(json_object_get(stored, "sets"), i, item) {
        Set s;
        if (grow((void **)&l->set, l->sets, sizeof *l->set, e))
            return -1;
        for (int k = 0; k < KINDS; k++) {
            const json_t *place = k < l->kinds ? json_array_get(item, (size_t)k) : NULL;
            s.label[k] = place ? (int32_t)json_integer_value(place) : -1;
            if (s.label[k] < -1 || s.label[k] >= l->count)
                return err_set(e, "checkpoint: set %zu names label %d of %d", i, s.label[k], l->count);
        }
        l->set[l->sets++] = s;
    }
    return json_is_true(json_object_get(stored, "settled")) && labels_settle(l, e) == 0 ? -1 : 0;
}

const char *label_kind(const char *text, char kind[24])
{
    size_t n = 0;
    while (isalnum((unsigned char)text[n]) || text[n] == '_' || text[n] == '-')
        n++;
    if (n == 0 || n > 23 || text[n] != '=')
        return NULL;
    memcpy(kind, text, n);
    kind[n] = 0;
    return text + n + 1;
}
