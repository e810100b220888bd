/* SPDX-License-Identifier: MIT */
/* label_texts.h -- labels said in words, and where CLIP puts them.
 *
 *   u = v/|v|,  v the sum over a label's texts of t/|t|      t (P) CLIP's embedding of a text
 *   Radford et al. 2021 (arXiv 2103.00020), section 3.1.4 */
#ifndef SRC_MODELS_LABEL_TEXTS_H
#define SRC_MODELS_LABEL_TEXTS_H

#include <jansson.h>
#include <stdbool.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef struct LabelText {
    char *kind, *label;             /* "concept", "Fishes" */
    long line;                      /* where it comes first */
} LabelText;

typedef struct LabelTexts {
    char *name;                     /* the file's, for messages */
    int P, count;
    LabelText *text;                /* [count], in the order of their coming */
    float *direction;               /* (count,P) u */
    json_t *place;                  /* kind -> label -> place in text */
} LabelTexts;

/* A line each as text records: {"prompt":"A fish.","concept":"Fishes"} and {"prompt":"In Rust style.","theme":"Rust"},
 * or with "kind" and "label", so that the label may be "". Several texts of a label are averaged. A line of another
 * kind, a plain word for one, is an error; but where plain is set it is a label by itself, the text, of the kind "".
 * dir: model folder with clip/ and tokenizer/. *t is NULL on failure. */
int label_texts_load(LabelTexts **t, const char *path, const char *dir, DType type, bool plain, Err *e);
void label_texts_free(LabelTexts *t);               /* NULL is fine */

#endif
