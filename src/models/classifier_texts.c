/* SPDX-License-Identifier: MIT */
/* classifier_texts.c -- a zero-shot classifier: classes are the mean directions of their texts' CLIP embeddings. */
#include <stdlib.h>
#include <string.h>
#include "src/models/classifier.h"
#include "src/models/label_texts.h"

static Domain *need_domain(Classifier *c, const char *name)
{
    for (int i = 0; i < c->domains; i++)
        if (strcmp(c->domain[i].name, name) == 0)
            return &c->domain[i];
    if (c->domains == DOMAINS)
        return NULL;
    Domain *d = &c->domain[c->domains++];
    snprintf(d->name, sizeof d->name, "%s", name);
    return d;
}

static int add_class(const Classifier *c, Domain *d, const char *label, const float *direction, Err *e)
{
    char **labels = realloc(d->label, sizeof *labels * ((size_t)d->classes + 1));
    if (labels)
        d->label = labels;
    float *weight = labels ? realloc(d->weight, sizeof *weight * ((size_t)d->classes + 1) * (size_t)c->P) : NULL;
    if (weight)
        d->weight = weight;
    if (!weight || !(d->label[d->classes] = strdup(label)))
        return err_set(e, "out of memory");
    memcpy(d->weight + (size_t)d->classes++*(size_t)c->P, direction, sizeof(float) * (size_t)c->P);
    return 0;
}

static int add_classes(Classifier *c, const LabelTexts *t, Err *e)
{
    c->P = t->P;
    c->normalize = true;
    c->name = strdup(t->name);
    c->scratch = malloc(sizeof(float) * (size_t)c->P);
    if (!c->name || !c->scratch)
        return err_set(e, "out of memory");
    for (int i = 0; i < t->count; i++) {
        const LabelText *x = &t->text[i];
        Domain *d = need_domain(c, x->kind);
        if (!d)
            return err_set(e, "%s: line %ld: '%s' is a third kind of label; a picture is classified by two", t->name,
                           x->line, x->kind);
        if (add_class(c, d, x->label, t->direction + (size_t)i*(size_t)t->P, e))
            return -1;
    }
    for (int i = 0; i < c->domains; i++)
        if (c->domain[i].classes < 2)
            return err_set(e, "%s: one %s only; a classifier needs two or more", c->name, c->domain[i].name);
    return 0;
}

int classifier_zero_shot(Classifier **out, const char *path, const char *dir, DType type, Err *e)
{
    LabelTexts *texts = NULL;
    Classifier *c = calloc(1, sizeof *c);
    const int failed = !c ? err_set(e, "out of memory")
                     : label_texts_load(&texts, path, dir, type, false, e) || add_classes(c, texts, e);
    label_texts_free(texts);
    if (failed)
        classifier_free(c);
    *out = failed ? NULL : c;
    return failed ? -1 : 0;
}
