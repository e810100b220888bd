/* SPDX-License-Identifier: MIT */
/* classifier.c -- a picture's classes from its embedding; formulas in classifier.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/weights.h"
#include "src/models/classifier.h"

void classifier_free(Classifier *c)
{
    if (!c)
        return;
    for (int i = 0; i < DOMAINS; i++) {
        Domain *d = &c->domain[i];
        for (int k = 0; d->label && k < d->classes; k++)
            free(d->label[k]);
        free(d->label);
        free(d->names);
        free(d->weight);
        free(d->bias);
        free(d->hidden_weight);
        free(d->hidden_bias);
    }
    free(c->name);
    free(c->scratch);
    free(c);
}

const char *domain_source(const Classifier *c, const Domain *d)
{
    return d->names ? d->names : c->name;
}

int domain_class(const Domain *d, const char *label)
{
    for (int i = 0; i < d->classes; i++)
        if (strcmp(d->label[i], label) == 0)
            return i;
    return -1;
}

/* y[r] = x . W[r] + b[r] */
static void product(float *y, const float *x, const float *W, const float *b, int rows, int columns)
{
    for (int r = 0; r < rows; r++) {
        double sum = b ? (double)b[r] : 0;
        for (int j = 0; j < columns; j++)
            sum += (double)x[j] * (double)W[(size_t)r*columns + j];
        y[r] = (float)sum;
    }
}

int classifier_largest(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

int classifier_predict(const Classifier *c, const Domain *d, const float *embedding)
{
    float *x = c->scratch, *hidden = c->scratch + c->P;
    double length = 0;
    for (int p = 0; p < c->P; p++)
        length += (double)embedding[p] * (double)embedding[p];
    const double factor = c->normalize && length > 0 ? 1 / sqrt(length) : 1;
    for (int p = 0; p < c->P; p++)
        x[p] = (float)(embedding[p] * factor);
    int width = c->P, best = 0;
    if (d->hidden) {
        product(hidden, x, d->hidden_weight, d->hidden_bias, d->hidden, c->P);
        for (int h = 0; h < d->hidden; h++)
            hidden[h] = hidden[h] > 0 ? hidden[h] : 0;
        x = hidden;
        width = d->hidden;
    }
    float most = -INFINITY;
    for (int k = 0; k < d->classes; k++) {
        float logit;
        product(&logit, x, d->weight + (size_t)k*width, d->bias ? d->bias + k : NULL, 1, width);
        if (logit > most) {
            most = logit;
            best = k;
        }
    }
    return best;
}

static int read_labels(const Weights *w, Domain *d, const char *text, Err *e)
{
    json_t *list = json_loads(text, 0, NULL);
    const size_t count = json_array_size(list);
    int failed = !json_is_array(list) || count < 2
               ? err_set(e, "%s: metadata: %s is not a JSON list of two or more names", weights_path(w), d->name) : 0;
    if (!failed && !(d->label = calloc(count, sizeof *d->label)))
        failed = err_set(e, "out of memory");
    for (size_t i = 0; i < count && !failed; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            failed = err_set(e, "%s: metadata: %s: name %zu is not a string", weights_path(w), d->name, i);
        else if (domain_class(d, name) >= 0)
            failed = err_set(e, "%s: metadata: %s: '%.100s' comes twice", weights_path(w), d->name, name);
        else if (!(d->label[d->classes] = strdup(name)))
            failed = err_set(e, "out of memory");
        else
            d->classes++;
    }
    json_decref(list);
    return failed;
}

static float *read_part(const Weights *w, const Domain *d, const char *part, int rows, int columns, Err *e)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", d->name, part);
    const Weight *t = weights_need_finite(w, name, columns ? 2 : 1, (int64_t[]){rows, columns}, e);
    return t ? weights_floats(w, name, t->ndim, t->dim, e) : NULL;
}

static int read_domain(Classifier *c, const Weights *w, const char *name, const char *labels, Err *e)
{
    Domain *d = &c->domain[c->domains++];
    char key[96];
    snprintf(d->name, sizeof d->name, "%s", name);
    if (read_labels(w, d, labels, e))
        return -1;
    snprintf(key, sizeof key, "%s.hidden.weight", name);
    const Weight *hidden = weights_find(w, key);
    snprintf(key, sizeof key, "%s.weight", name);
    const Weight *first = hidden ? hidden : weights_find(w, key);
    if (!first || first->ndim != 2 || first->dim[0] < 1 || first->dim[1] < 1 || first->dim[0] > 1 << 20
        || first->dim[1] > 1 << 20)
        return err_set(e, "%s: %s%s is missing or not [rows, width]", weights_path(w), name,
                       hidden ? ".hidden.weight" : ".weight");
    if (c->P && c->P != first->dim[1])
        return err_set(e, "%s: %s takes embeddings of %lld values, %s of %d", weights_path(w), name,
                       (long long)first->dim[1], c->domain[0].name, c->P);
    c->P = (int)first->dim[1];
    if (hidden) {
        d->hidden = (int)hidden->dim[0];
        if (!(d->hidden_weight = read_part(w, d, "hidden.weight", d->hidden, c->P, e))
            || !(d->hidden_bias = read_part(w, d, "hidden.bias", d->hidden, 0, e)))
            return -1;
    }
    d->weight = read_part(w, d, "weight", d->classes, d->hidden ? d->hidden : c->P, e);
    d->bias = d->weight ? read_part(w, d, "bias", d->classes, 0, e) : NULL;
    return d->bias ? 0 : -1;
}

int classifier_load(Classifier **out, const char *path, Err *e)
{
    static const char *const names[DOMAINS] = {"concept", "theme"};
    Weights *w = NULL;
    *out = NULL;
    if (weights_open(&w, path, e))
        return -1;
    Classifier *c = calloc(1, sizeof *c);
    int failed = c && (c->name = strdup(path)) ? 0 : err_set(e, "out of memory");
    const json_t *metadata = weights_metadata(w);
    for (int i = 0; i < DOMAINS && !failed; i++) {
        const char *labels = json_string_value(json_object_get(metadata, names[i]));
        failed = labels ? read_domain(c, w, names[i], labels, e) : 0;
    }
    if (!failed && !c->domains)
        failed = err_set(e, "%s: metadata names no classes: neither concept nor theme is there", path);
    if (!failed) {
        const char *normalize = json_string_value(json_object_get(metadata, "normalize"));
        const int h0 = c->domain[0].hidden, h1 = c->domain[1].hidden;
        c->normalize = normalize && strcmp(normalize, "true") == 0;
        c->scratch = malloc(sizeof(float) * ((size_t)c->P + (h0 > h1 ? h0 : h1)));
        failed = c->scratch ? 0 : err_set(e, "out of memory");
    }
    weights_close(w);
    if (failed)
        classifier_free(c);
    else
        *out = c;
    return failed ? -1 : 0;
}
