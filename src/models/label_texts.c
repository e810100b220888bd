/* SPDX-License-Identifier: MIT */
/* label_texts.c -- text records encoded and summed by label. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/clip_text.h"
#include "src/models/label_texts.h"
#include "src/models/prompts.h"

typedef struct Reading {
    LabelTexts *t;
    Prompts *prompts;
    ClipText *clip;
    float *embedding;               /* [P] */
    bool plain;
} Reading;

void label_texts_free(LabelTexts *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->count; i++) {
        free(t->text[i].kind);
        free(t->text[i].label);
    }
    json_decref(t->place);
    free(t->text);
    free(t->direction);
    free(t->name);
    free(t);
}

/* The direction of a label, added with zeros when it is new. */
static float *need_label(LabelTexts *t, const char *kind, const char *label, long line, Err *e)
{
    json_t *labels = json_object_get(t->place, kind);
    const json_t *known = json_object_get(labels, label);
    if (known)
        return t->direction + (size_t)json_integer_value(known)*(size_t)t->P;
    const size_t n = (size_t)t->count;
    if (!(n & (n - 1))) {
        LabelText *text = realloc(t->text, sizeof *text * (n ? 2*n : 1));
        t->text = text ? text : t->text;
        float *direction = text ? realloc(t->direction, sizeof *direction * (n ? 2*n : 1) * (size_t)t->P) : NULL;
        t->direction = direction ? direction : t->direction;
        if (!direction) {
            err_set(e, "out of memory for %zu labels", 2*n);
            return NULL;
        }
    }
    t->text[n] = (LabelText){strdup(kind), strdup(label), line};
    t->count++;
    if (!labels)
        json_object_set_new(t->place, kind, labels = json_object());
    if (!t->text[n].kind || !t->text[n].label
        || json_object_set_new(labels, label, json_integer((json_int_t)n))) {
        err_set(e, "out of memory for %zu labels", n + 1);
        return NULL;
    }
    return memset(t->direction + n*(size_t)t->P, 0, sizeof(float) * (size_t)t->P);
}

static void add_direction(float *to, const float *x, int P)
{
    double length = 0;
    for (int p = 0; p < P; p++)
        length += (double)x[p] * (double)x[p];
    for (int p = 0; p < P && length > 0; p++)
        to[p] += (float)(x[p] / sqrt(length));
}

/* The kind and label that a text stands for. */
static int read_label(const Reading *r, const Record *rec, const char **kind, const char **label, Err *e)
{
    const char *concept = record_text(rec, "concept", NULL), *theme = record_text(rec, "theme", NULL);
    *kind = record_text(rec, "kind", concept ? "concept" : "theme");
    *label = record_text(rec, "label", concept ? concept : theme);
    if (*label && !(concept && theme))
        return 0;
    if (!r->plain)
        return err_set(e, "%s: line %ld: a text of one class has either concept or theme, or kind and label",
                       prompts_name(r->prompts), rec->number);
    *kind = "";
    *label = record_text(rec, "prompt", "");
    return 0;
}

static int add_text(Reading *r, const Record *rec, Err *e)
{
    const char *kind, *label;
    Err why = {0};
    if (read_label(r, rec, &kind, &label, e))
        return -1;
    if (clip_text_embed(r->clip, record_text(rec, "prompt", ""), r->embedding, &why))
        return err_set(e, "%s: line %ld: %s", prompts_name(r->prompts), rec->number, why.text);
    float *direction = need_label(r->t, kind, label, rec->number, e);
    if (!direction)
        return -1;
    add_direction(direction, r->embedding, r->t->P);
    return 0;
}

static int read_texts(Reading *r, const char *path, const char *dir, DType type, Err *e)
{
    LabelTexts *t = r->t;
    if (prompts_open(&r->prompts, path, 0, e) || clip_text_open(&r->clip, dir, type, e))
        return -1;
    t->P = clip_text_width(r->clip);
    t->name = strdup(prompts_name(r->prompts));
    t->place = json_object();
    r->embedding = malloc(sizeof(float) * (size_t)t->P);
    if (!t->name || !t->place || !r->embedding)
        return err_set(e, "out of memory");
    Record rec;
    int got;
    while ((got = prompts_next(r->prompts, &rec, e)) > 0)
        if (add_text(r, &rec, e))
            return -1;
    /* each sum is brought to length 1: a label of several texts weighs as much as one of a single text */
    for (int i = 0; i < t->count && !got; i++) {
        float *direction = t->direction + (size_t)i*(size_t)t->P;
        memcpy(r->embedding, direction, sizeof(float) * (size_t)t->P);
        memset(direction, 0, sizeof(float) * (size_t)t->P);
        add_direction(direction, r->embedding, t->P);
    }
    return got ? -1 : t->count ? 0 : err_set(e, "%s: no texts", t->name);
}

int label_texts_load(LabelTexts **out, const char *path, const char *dir, DType type, bool plain, Err *e)
{
    Reading r = {.t = calloc(1, sizeof *r.t), .plain = plain};
    const int failed = r.t ? read_texts(&r, path, dir, type, e) : err_set(e, "out of memory");
    prompts_close(r.prompts);
    clip_text_close(r.clip);
    free(r.embedding);
    if (failed)
        label_texts_free(r.t);
    *out = failed ? NULL : r.t;
    return failed ? -1 : 0;
}
