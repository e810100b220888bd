/* SPDX-License-Identifier: MIT */
/* classifier.h -- names what a picture shows from its embedding, by a probe trained on embeddings or by texts, or from
 * the logits of a network that classifies.
 *
 *   probe      logits = g(x) W^T + b,  g(x) = x, or relu(x Wh^T + bh) where the file has a hidden layer
 *   zero-shot  logits = x/|x| . u/|u|, u the sum over a class's texts of t/|t|
 *              Radford et al. 2021 (arXiv 2103.00020), section 3.1.4
 *
 * Each domain (concept, theme) has its classes. The class named "" is "none": a picture without a theme. */
#ifndef SRC_MODELS_CLASSIFIER_H
#define SRC_MODELS_CLASSIFIER_H

#include <stdbool.h>
#include "formats/dtype.h"
#include "formats/err.h"

enum { DOMAINS = 2 };

typedef struct Domain {
    char name[32];                  /* "concept", "theme" */
    char *names;                    /* file of the classes' names; NULL: they are of the classifier's own file */
    char **label;                   /* [classes] */
    int classes, hidden;            /* hidden: width of the hidden layer, 0 without */
    float *weight, *bias;           /* (classes, hidden or P), [classes] or NULL; no weight where logits are given */
    float *hidden_weight, *hidden_bias;         /* (hidden, P), [hidden] */
} Domain;

typedef struct Classifier {
    char *name;                     /* for messages and reports */
    int P;                          /* 0: it takes no embeddings */
    bool normalize;                 /* embeddings are brought to length 1 first */
    Domain domain[DOMAINS];
    int domains;
    float *scratch;                 /* [P + widest hidden layer] */
} Classifier;

/* A safetensors file: concept.weight [n,P], concept.bias [n], theme.weight, theme.bias, optionally
 * concept.hidden.weight [h,P] and concept.hidden.bias [h] (then concept.weight is [n,h]); metadata "concept" and
 * "theme", JSON lists of the classes' names, and "normalize", "true" where it was trained on embeddings of length 1.
 * A domain that the metadata lacks is absent. */
int classifier_load(Classifier **c, const char *path, Err *e);
/* Texts of labels, two or more of each kind, as label_texts.h has them. dir: model folder with clip/ and tokenizer/. */
int classifier_zero_shot(Classifier **c, const char *path, const char *dir, DType type, Err *e);
/* The classes of networks whose logits come with the pictures. items: KIND=FILE, a line for each output, in their
 * order: NAME, or NAME<TAB>LABEL where its label is another; an empty LABEL is that of pictures without one. */
int classifier_names(Classifier **c, const char *const *items, int count, Err *e);
void classifier_free(Classifier *c);

int domain_class(const Domain *d, const char *label);                       /* -1 when unknown */
const char *domain_source(const Classifier *c, const Domain *d);            /* where its classes are named */
/* The largest of n logits, the first on a tie. */
int classifier_largest(const float *logits, int n);
/* The class of the largest logit. */
int classifier_predict(const Classifier *c, const Domain *d, const float *embedding);

#endif
