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
    float *value, *gradient, *m, *v;    /* gradient: without the factor 2/V; Adam's moments, */
    uint32_t *pairs;                    /* or both in one: m and v are NULL */
    int64_t rows;
    int D;
    bool unit_rows, by_feature;         /* by_feature: rows, or where there is but one, values, are the features' */
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
    bool scales;                        /* any input, to a mean square length of D */
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
    /* They have come from a checkpoint, which may say anything: checks them, and takes what they ask for. */
    int (*resume)(Trainer *t, Err *e);
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
    float *through_h;                   /* [F] sum over rows of dL/dh, by which b_dec enters h; gated: not b_enc's */
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
    int all_features, first_feature;    /* of all ranks; options.F are this one's, from first_feature on */
    int number;                         /* of rank 0's orders */
    void *room;                         /* memory that all ranks see, for what passes between them */
    size_t room_bytes;
    float *all_a;                       /* (R,B,K) values of all ranks */
    int own_dead;                       /* features in t->dead */
    int64_t dead_of[TEAM_MOST];         /* the same of each rank */
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

/* t->scale, and room for a scaled batch. */
int trainer_set_scale(Trainer *t, double scale, Err *e);
/* Of n host values the sum of squares. */
double trainer_square_length(const float *x, int64_t n);

/* sae_train_labels.c */
int trainer_need_labels(Trainer *t, Err *e);
void trainer_free_labels(Trainer *t);
/* The supervised terms' gradients of W_enc, b_enc and W_dec, in memory; label (N,C) host. Returns their sum. */
double trainer_add_labels(Trainer *t, const uint8_t *label, int64_t N);

/* sae_train_dead.c: t->dead, t->own_dead, t->dead_of. Returns how many all ranks have */
int trainer_list_dead(Trainer *t);
/* The dead features' term; sums[AUX] = |e_aux - e|^2. */
int trainer_add_dead(Trainer *t, int64_t N, int dead, Err *e);
/* From t->count. Returns all firings, of all ranks. */
int64_t trainer_mark_fired(Trainer *t, int64_t N);

/* sae_shards.c, of a trainer of a team; where it says so, nothing in one without. */
typedef enum {
    ORDER_SPACE, ORDER_CREATE, ORDER_START, ORDER_STEP, ORDER_EXPORT, ORDER_STORE, ORDER_RESTORE, ORDER_END
} ShardOrder;
/* Settles which features are this rank's. Without a team: all */
int trainer_take_shard(Trainer *t, Err *e);
/* Memory for what is exchanged; without a team nothing */
int trainer_need_exchange(Trainer *t, Err *e);
/* Rank 0: the others call the same. Without a team, and in them, nothing */
void trainer_order(const Trainer *t, ShardOrder what);
/* The same for a step on x (N,D). Returns where x is, which may be a copy that all see. */
const float *trainer_order_step(Trainer *t, const float *x, int64_t N, double rate);
bool trainer_leads(const Trainer *t);           /* rank 0, or without a team */
/* Each rank's a (N,keep), its features' largest, becomes what of it is among the `keep` largest of all. features: how
 * many each rank chose from, where some may have fewer than keep, and a as many columns; NULL: none has. */
void trainer_keep(Trainer *t, float *a, const int64_t *features, int64_t N, int keep);
/* Over all ranks, on the device; without a team nothing */
void trainer_sum_floats(const Trainer *t, float *x, int64_t n);
void trainer_sum_doubles(const Trainer *t, double *x, int64_t n);
/* of[r] = rank r's mine; returns their sum. Without a team of[0] */
int64_t trainer_gather(const Trainer *t, int64_t *of, int64_t mine);
/* Rank 0's value to all; without a team nothing */
void trainer_tell(const Trainer *t, void *value, size_t bytes);
/* Rows of `bytes` each: all features' in rank 0's host memory, those of its own in each rank's, on the device or not.
 * The former from the latter (to_all), or the latter from the former. */
void trainer_pass_rows(const Trainer *t, void *all, void *mine, size_t bytes, bool device, bool to_all);

#endif
