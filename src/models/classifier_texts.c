/* SPDX-License-Identifier: MIT */
/* classifier_texts.c -- a zero-shot classifier: classes are the mean directions of their texts' CLIP embeddings. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/classifier.h"
#include "src/models/prompts.h"
#include "src/models/text_encoder.h"
#include "src/models/tokenizer.h"

typedef struct Texts {
    Classifier *c;
    Prompts *prompts;
    Tokenizer *tokenizer;
    TextEncoder *encoder;
    int32_t *ids;
    float *embedding;               /* [P] */
} Texts;

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

/* Row of the class, added with zeros when it is new. */
static float *need_class(const Classifier *c, Domain *d, const char *label, Err *e)
{
    int k = domain_class(d, label);
    if (k < 0) {
        char **labels = realloc(d->label, sizeof *labels * ((size_t)d->classes + 1));
        if (labels)
            d->label = labels;
        float *weight = labels ? realloc(d->weight, sizeof *weight * ((size_t)d->classes + 1) * c->P) : NULL;
        if (weight)
            d->weight = weight;
        if (!weight || !(d->label[d->classes] = strdup(label))) {
            err_set(e, "out of memory");
            return NULL;
        }
        k = d->classes++;
        memset(d->weight + (size_t)k*c->P, 0, sizeof(float) * c->P);
    }
    return d->weight + (size_t)k*c->P;
}

static void add_direction(float *to, const float *x, int P)
{
    double length = 0;
    for (int p = 0; p < P; p++)
        length += (double)x[p] * (double)x[p];
    for (int p = 0; p < P && length > 0; p++)
        to[p] += (float)(x[p] / sqrt(length));
}

/* The domain and label that a text stands for. */
static int read_class(const Texts *t, const Record *rec, const char **domain, const char **label, Err *e)
{
    const char *concept = record_text(rec, "concept", NULL), *theme = record_text(rec, "theme", NULL);
    *domain = record_text(rec, "kind", concept ? "concept" : "theme");
    *label = record_text(rec, "label", concept ? concept : theme);
    if (*label && !(concept && theme))
        return 0;
    return err_set(e, "%s: line %ld: a text of one class has either concept or theme, or kind and label",
                   prompts_name(t->prompts), rec->number);
}

static int add_text(Texts *t, const Record *rec, Err *e)
{
    const char *domain, *label;
    if (read_class(t, rec, &domain, &label, e))
        return -1;
    Domain *d = need_domain(t->c, domain);
    if (!d)
        return err_set(e, "%s: line %ld: '%s' is a third kind of label; a picture is classified by two",
                       prompts_name(t->prompts), rec->number, domain);
    if (tokenizer_encode(t->tokenizer, record_text(rec, "prompt", ""), t->ids, e) < 0
        || text_embed(t->encoder, t->ids, 1, t->embedding, e))
        return -1;
    float *row = need_class(t->c, d, label, e);
    if (!row)
        return -1;
    add_direction(row, t->embedding, t->c->P);
    return 0;
}

static int read_texts(Texts *t, const char *path, const char *dir, DType type, Err *e)
{
    if (prompts_open(&t->prompts, path, 0, e) || tokenizer_load(&t->tokenizer, dir, e)
        || text_encoder_load(&t->encoder, dir, 1, type, e))
        return -1;
    t->c->P = text_encoder_projection(t->encoder);
    t->c->normalize = true;
    t->c->name = strdup(prompts_name(t->prompts));
    t->c->scratch = malloc(sizeof(float) * t->c->P);
    t->ids = malloc(sizeof *t->ids * tokenizer_length(t->tokenizer));
    t->embedding = malloc(sizeof(float) * t->c->P);
    if (!t->c->name || !t->c->scratch || !t->ids || !t->embedding)
        return err_set(e, "out of memory");
    Record rec;
    int got;
    while ((got = prompts_next(t->prompts, &rec, e)) > 0)
        if (add_text(t, &rec, e))
            return -1;
    for (int i = 0; i < t->c->domains && !got; i++)
        if (t->c->domain[i].classes < 2)
            got = err_set(e, "%s: one %s only; a classifier needs two or more", t->c->name, t->c->domain[i].name);
    return got ? -1 : t->c->domains ? 0 : err_set(e, "%s: no texts", t->c->name);
}

int classifier_zero_shot(Classifier **out, const char *path, const char *dir, DType type, Err *e)
{
    Texts t = {.c = calloc(1, sizeof *t.c)};
    *out = NULL;
    int failed = t.c ? read_texts(&t, path, dir, type, e) : err_set(e, "out of memory");
    /* each mean is brought to length 1: a class of several texts weighs as much as one of a single text */
    for (int i = 0; i < DOMAINS && !failed; i++)
        for (int k = 0; k < t.c->domain[i].classes; k++) {
            float *row = t.c->domain[i].weight + (size_t)k*t.c->P;
            memcpy(t.embedding, row, sizeof(float) * t.c->P);
            memset(row, 0, sizeof(float) * t.c->P);
            add_direction(row, t.embedding, t.c->P);
        }
    prompts_close(t.prompts);
    tokenizer_free(t.tokenizer);
    text_encoder_free(t.encoder);
    free(t.ids);
    free(t.embedding);
    if (failed)
        classifier_free(t.c);
    else
        *out = t.c;
    return failed ? -1 : 0;
}
