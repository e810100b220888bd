/* SPDX-License-Identifier: MIT */
/* sae_stream.h -- an autoencoder over activation streams, record by record: what sae-encode and sae-eval share. */
#ifndef SRC_MODELS_SAE_STREAM_H
#define SRC_MODELS_SAE_STREAM_H

#include "src/models/activations.h"
#include "src/models/sae.h"

typedef struct SaeStreamOptions {
    const char *sae;                    /* folder; NULL: borrowed */
    Sae *borrowed;                      /* one in memory, which stays the caller's */
    const char *const *paths;           /* none: standard input */
    int path_count;
    const char *hook;                   /* NULL: the autoencoder's, or the stream's only one */
    const char *half;
    DType type;                         /* of the encoder's product */
} SaeStreamOptions;

typedef struct SaeStream {
    Sae *sae;
    bool borrowed;                      /* sae is not freed */
    Activations *in;
    Act act;                            /* the record */
    int64_t N;                          /* its tokens */
    const float *x;                     /* (N,D) host */
    float *a;                           /* (N,K) host */
    int32_t *i;
    float *y;                           /* (N,D) host, decoded; NULL unless asked for */
    int64_t room;                       /* tokens that the memory below holds */
    float *device_x, *device_a, *device_y;
    int32_t *device_i;
} SaeStream;

/* Loads the autoencoder and opens the streams. Checks that take and the widths agree. */
int sae_stream_open(SaeStream *s, const SaeStreamOptions *options, Err *e);
void sae_stream_close(SaeStream *s);    /* zeroed memory is fine */
/* Next record, encoded; with decode, decoded too. Returns 1, 0 after the last, -1. Memory is that of the largest
 * record. */
int sae_stream_next(SaeStream *s, bool decode, Err *e);

#endif
