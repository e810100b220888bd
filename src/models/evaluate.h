/* SPDX-License-Identifier: MIT */
/* evaluate.h -- what a steering took away and what it left alone: UA, IRA and CRA of classified pictures.
 *
 * Over the pictures drawn while target c of domain d (concept or theme) was steered away (UnlearnCanvas, arXiv
 * 2402.11846, section 4):
 *   UA    unlearning accuracy: share of the pictures labelled c that are not classified as c
 *   IRA   in-domain retain accuracy: share of the pictures with another label of d that are classified as theirs
 *   CRA   cross-domain retain accuracy: share of all the pictures whose label of the other domain is classified rightly
 * and of a target that is to be brought, not taken away,
 *   brought   share of the pictures with another label of d, or none, that are classified as c
 * Shares are of pictures: where each label has as many, IRA and CRA are the means over labels that UnlearnCanvas takes.
 * overall: the mean over targets of each. A target of several labels ("Bears+Birds") is the set of them, and UA that no
 * picture is classified as its own label: what it is taken for may be another one of them. Of several kinds
 * ("Cats+Rust" of "concept+theme") a picture counts in each of their domains, and CRA is of those that are left. The
 * unsteered pictures, in each domain: IRA over all of them, CRA likewise, no UA. So too the pictures steered by
 * features alone (sd-steer --feature), apart for each set of features and values and each steering.
 *
 * Intervals, 95 %: Wilson's (1927) of each share; of a mean of T shares with limits l_i, u_i around p_i (MOVER, Zou and
 * Donner 2008)
 *   mean(p) - sqrt(sum (p_i - l_i)^2) / T,  mean(p) + sqrt(sum (u_i - p_i)^2) / T */
#ifndef SRC_MODELS_EVALUATE_H
#define SRC_MODELS_EVALUATE_H

#include "formats/stream.h"
#include "src/models/classifier.h"
#include "src/models/frechet.h"

typedef enum { MEASURE_UA, MEASURE_IRA, MEASURE_CRA, MEASURE_BROUGHT, MEASURES } Measure;
extern const char *const measure_names[MEASURES];

typedef struct Share { long hits, of; double value, low, high; } Share;         /* of 0: not measured */

typedef enum { ROW_UNSTEERED, ROW_FEATURES, ROW_TARGET, ROW_OVERALL } RowType;
typedef struct EvalRow {
    RowType type;
    const char *kind, *target;      /* "concept", "Fishes"; of features "3:2.5+7:0"; "" in the other rows */
    const char *steering;           /* "mode=multiply multiplier=-1 ...", "" when unsteered */
    int targets;                    /* of an overall row */
    long pictures;
    Share share[MEASURES];
    double mean;                    /* of UA, IRA and CRA; NaN where one is missing */
    double clip, clip_error;        /* mean CLIP score, and its standard error; NaN without */
    double frechet;                 /* distance to the reference; NaN without */
} EvalRow;

/* A picture without a label of a kind (its field missing or empty) is counted */
typedef enum {
    PLAIN_CLASS,                    /* in that kind too, where the classes have one named "" */
    PLAIN_OTHERS,                   /* in the other kinds alone */
    PLAIN_NONE                      /* nowhere */
} Plain;

typedef struct Evaluation Evaluation;

/* c stays the caller's, and so does reference: pictures whose distance every row gets; NULL: none. */
int evaluation_create(Evaluation **v, const Classifier *c, const Frechet *reference, Plain plain, Err *e);
void evaluation_free(Evaluation *v);
/* One picture: rec has its labels, "steered", "steered_kind" and "steering" as sd-steer writes them (steered missing or
 * empty, and no features in steering: not steered). embedding is for the reference alone. clip is its CLIP score, NaN
 * without. predicted [domains] has the classes it is taken for. Errors name file and record. */
int evaluation_add(Evaluation *v, const char *file, const Record *rec, const float *embedding, double clip,
                   const int *predicted, Err *e);
/* Rows: unsteered first, then those of features, then by steering and kind its targets in the order of their names, and
 * their mean. The caller frees rows, whose texts are the evaluation's. Returns their number, or -1. */
int evaluation_rows(Evaluation *v, EvalRow **rows, Err *e);

Share share_wilson(long hits, long of);

#endif
