/* SPDX-License-Identifier: MIT */
/* feature_tally.h -- what features streams say of an autoencoder's features, in one reading: how often each is active
 * and how strongly; of some chosen ones also by timestep, as a histogram, and where in which pictures they are
 * strongest.
 *
 * Sums are in integers (each value rounded to 2^-24) and pictures of equal strength go by their ids, so that the order
 * of records and of files plays no part. Memory: 24 bytes a feature, and of a chosen one 9 KB and its heat maps. */
#ifndef SRC_MODELS_FEATURE_TALLY_H
#define SRC_MODELS_FEATURE_TALLY_H

#include "src/models/feature_record.h"
#include "src/models/t_range.h"

enum { TALLY_TIMES = 1000, VALUE_BINS = 120, TALLY_GRID = 1024 };
/* lower end of the first bin of a histogram of values, and the width of all, as log10 */
#define VALUE_LOWEST (-8)
#define VALUE_WIDTH 0.1

/* A picture in which a feature is strong, at the timestep where its largest value is. */
typedef struct Peak {
    json_t *fields;                 /* of the record */
    const char *id;                 /* in fields */
    int t;
    float value;                    /* the largest of its tokens */
    int H, W;                       /* 0 where the record has a sample of the tokens only */
    float *grid;                    /* (H,W), 0 where the feature is not kept; NULL where H is 0 */
} Peak;

typedef struct Chosen {
    int feature;
    int64_t sum[TALLY_TIMES];       /* by place in Tally.t, in 2^-24 */
    int64_t bin[VALUE_BINS];        /* tokens by log10 of the value; the outer ones have what lies beyond */
    Peak *peak;                     /* strongest first */
    int peaks;
    float strongest;                /* scratch: within a record */
} Chosen;

typedef struct Tally Tally;

typedef struct TallyOptions {
    const int *feature;             /* chosen ones, each once */
    int count;
    int pictures;                   /* peaks kept of each */
    const char *half;               /* "cond", "uncond", "both" */
    TRange when;                    /* timesteps that count */
    const char *sae;                /* id that the streams must name; NULL: any */
    /* called with each record that was counted, its id among the fields; NULL: nothing is */
    int (*record)(void *context, const Tally *y, const StreamIn *in, const Record *rec, const FeatureRecord *codes,
                  Err *e);
    void *context;
} TallyOptions;

struct Tally {
    TallyOptions options;
    json_t *header;                 /* of the first stream; NULL before */
    char *first, *hook;             /* its name for messages, its module */
    int F;
    long long records, tokens;      /* counted */
    int64_t *active, *sum;          /* [F] tokens in which it is active; values, in 2^-24 */
    float *most;                    /* [F] */
    int t[TALLY_TIMES];             /* in the order of their coming */
    int64_t t_tokens[TALLY_TIMES];
    int times;
    Chosen *chosen;                 /* [options.count], as options.feature has them */
    int32_t *slot;                  /* [F] place in chosen, -1 */
    int32_t *touched;               /* scratch [options.count] */
    FeatureRoom room;               /* scratch: a record's values */
};

/* options and its features are the caller's while the tally lives. */
int tally_create(Tally **y, const TallyOptions *options, Err *e);
void tally_free(Tally *y);
/* All records of one stream. The first says what is counted, later ones must be of the same autoencoder and module.
 * each, where not NULL, is called after each record. */
int tally_stream(Tally *y, StreamIn *in, void (*each)(void *context, long long records), void *context, Err *e);
/* After the last stream: fails when no record was counted. */
int tally_finish(Tally *y, Err *e);
double tally_sum(int64_t sum);      /* out of 2^-24 */
/* Place of t among the timesteps; -1: not there */
int tally_time(const Tally *y, int t);

#endif
