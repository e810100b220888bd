/* SPDX-License-Identifier: MIT */
/* sae_trainer.h -- a trainer's inside, shared by the files sae_train*.c.
 *
 *   x, c, g, y (B,D)     a, g_a, i (B,K), with K the most that the variant keeps a token     h (B,F) */
#ifndef SRC_MODELS_SAE_TRAINER_H
#define SRC_MODELS_SAE_TRAINER_H

#include "kernels/op.h"
#include "src/models/sae_train.h"

typedef struct Param {                  /* one of the weights, (rows,D) */
    const char *name;
    float *value, *gradient, *m, *v;    /* gradient: without the factor 2/V; Adam's moments */
    int64_t rows;
    int D;
    bool unit_rows;
    float first;                        /* of a feature that begins; parameters beyond the four */
} Param;

enum { W_ENC, W_DEC, B_ENC, B_DEC, MORE, PARAMS = MORE + 2 };

typedef struct Codes {                  /* kept features of a batch, and where each feature is among them */
    int K;
    float *a, *g_a;
    int32_t *i, *order, *start;
} Codes;

/* Sums of a step: V, |x - x'|^2, the dead features' term, squares of bounds, of row_update's gradients, of each other
 * gradient. OTHER: nobody asks. */
enum { SPREAD, SQUARE, AUX, BOUND, ROWS = BOUND + 2, OTHER, GRADIENT, SUMS = GRADIENT + PARAMS };

enum { MAX_PARTS = MAX_LEVELS + 1 };    /* of the variant, and the dead features' */

typedef struct SaeVariantOps {
    const char *name;
    bool scales;                        /* the input, to a mean square length of D */
    bool no_dead_term;
    bool lists;                         /* all gradients of W_enc and W_dec are parts */
    /* Memory of its own, options that are open, parameters beyond the four. */
    int (*create)(Trainer *t, Err *e);
    void (*free)(Trainer *t);
    /* After the first weights are there; NULL: nothing. */
    int (*start)(Trainer *t, Err *e);
    /* From t->x and t->c (N rows): t->g = x' - x and its square; gradients, in memory or as parts, but for b_dec's part
     * through h; t->counts += firings. What the parts point to stays until the update. */
    int (*pass)(Trainer *t, int64_t N, Err *e);
    /* Into a copy of the weights: the gate, in the scale of training, and K. NULL: nothing */
    int (*gate)(Trainer *t, Sae *s, Err *e);
    /* Scalars that go on from step to step. */
    int states;
    double *(*state)(Trainer *t);
} SaeVariantOps;

extern const SaeVariantOps topk_family[VARIANTS];          /* sae_train_topk.c */
extern const SaeVariantOps dense_family[VARIANTS];         /* sae_train_dense.c */

typedef struct Supervision Supervision;     /* sae_train_labels.c */

struct Trainer {
    TrainOptions options;
    const SaeVariantOps *variant;
    void *own;                          /* the variant's */
    Sae *sae;
    double scale;                       /* of the input */
    int64_t tokens, steps;
    Param param[PARAMS];
    int params;
    SaeEncoder *encoder, *dead_encoder; /* encoder: of the variants that keep the largest */
    int K_aux;                          /* most dead features taken a token */
    Codes aux;
    int64_t *fired;                     /* [F] tokens seen when the feature last fired */
    int32_t *count, *dead;              /* [F] host: counts as trainer_read last fetched them; dead features */
    float *scaled;                      /* (B,D) host, where the input is scaled */
    float *x, *c, *g, *y;               /* device (B,D): batch, centered, gradient, reconstruction */
    float *mean;                        /* (D) */
    float *through_h;                   /* [F] sum over rows of dL/dh, by which b_dec enters h; b_enc's gradient or own */
    CodePart part[MAX_PARTS];           /* gradients of W_enc and W_dec that are not in memory yet */
    int parts;
    float *g_length, *x_length;         /* (B) */
    float *bound[2];                    /* [F] of W_dec's and W_enc's row gradients */
    struct Supervision *supervision;    /* NULL without labels */
    double *sums;                       /* (SUMS) device, what a step measures; the counts follow */
    int32_t *counts;                    /* (F) firings in this batch */
    double *read;                       /* [SUMS] host, as trainer_read last fetched them, and count */
    double squares;                     /* of the last step's gradients, but for sums[ROWS] */
    bool rows_apart;                    /* which belong to it */
    bool packed;                        /* encoder has the rows of W_enc as they are */
    double sparsity;
    void **memory;                      /* all that trainer_memory gave */
    int memories;
};

/* Fetches sums and counts: waits for all that is queued. */
void trainer_read(Trainer *t);
/* V as last read, above 0. */
double trainer_spread(const Trainer *t);

/* Zeroed device memory that is freed with the trainer. */
void *trainer_memory(Trainer *t, size_t bytes, Err *e);
int trainer_need_codes(Trainer *t, Codes *codes, int K, Err *e);
/* One more parameter, in t->param: `first` for each of n features. */
int trainer_need_param(Trainer *t, const char *name, int n, float first, Err *e);
/* Gradients through kept features whose reconstruction has dL/dx' = g, with factor c: a part. codes->g_a is known. */
void trainer_add_part(Trainer *t, float c, const Codes *codes, const float *g, int64_t N);

/* Of n host values the sum of squares. */
double trainer_square_length(const float *x, int64_t n);

/* sae_train_labels.c */
int trainer_need_labels(Trainer *t, Err *e);
void trainer_free_labels(Trainer *t);
/* The supervised terms' gradients of W_enc, b_enc and W_dec, in memory; label (N,C) host. Returns their sum. */
double trainer_add_labels(Trainer *t, const uint8_t *label, int64_t N);

/* sae_train_dead.c */
int trainer_list_dead(Trainer *t);
/* The dead features' term; sums[AUX] = |e_aux - e|^2. */
int trainer_add_dead(Trainer *t, int64_t N, int dead, Err *e);
/* From t->count. Returns all firings. */
int64_t trainer_mark_fired(Trainer *t, int64_t N);

#endif
