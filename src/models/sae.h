/* SPDX-License-Identifier: MIT */
/* sae.h -- top-k sparse autoencoder: its folder, encode, decode.
 *
 *     h = (x - b_dec) W_enc^T + b_enc      a = the K largest of h, at least 0      x' = a W_dec + b_dec
 *
 *   x, x' (N,D) activations   h (N,F)   a (N,K) with features i (N,K)   W_enc, W_dec (F,D), W_dec in unit rows
 *
 * Autoencoders that keep no fixed number of features have a gate behind that: of the K largest only those with
 * h[f] > threshold[f] are kept, as a[f] = scale[f] h[f] + offset[f], at least 0. BatchTopK and JumpReLU have a
 * threshold, ReLU one of 0, Gated scale and offset. K is then only the most that a token may keep, "most" in cfg.json,
 * whose "k" is the mean that training aimed at.
 *
 * Gao et al. 2024 (arXiv 2406.04093), section 2.3; folder as sparsify and SAeUron write it: cfg.json and
 * sae.safetensors with encoder.weight [F,D], encoder.bias [F], W_dec [F,D], b_dec [D]. What those lack goes in added
 * keys of cfg.json ("hook", "take", "half", "model", "training") and in tensors "threshold", "scale", "offset" [F]. */
#ifndef SRC_MODELS_SAE_H
#define SRC_MODELS_SAE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

enum { SAE_MAX_WIDTH = 1 << 17, SAE_MAX_FEATURES = 1 << 24 };      /* of what is loaded or trained */

typedef struct Sae {
    int D, F, K;
    bool capped;                                /* K is no more than a limit on memory: see sae_check_codes */
    float *W_enc, *b_enc, *W_dec, *b_dec;       /* device memory (op->alloc), f32 */
    float *threshold, *scale, *offset;          /* [F] device memory, or NULL: 0, 1, 0 */
    char hook[256];                             /* module path, "" when the folder does not say */
    char take[16];                              /* "output", "input", "diff" */
    char id[80];                                /* folder name and a hash of the weights, for headers */
    json_t *cfg;                                /* cfg.json as read, or what will be written */
    struct SaePlan *plan;                       /* encoder product and scratch, made by sae_prepare */
} Sae;

typedef enum { SAE_SAEURON, SAE_SPARSIFY, SAE_SAELENS } SaeFormat;

/* Loads DIR; also one level down (DIR/HOOK/cfg.json) where DIR holds one such folder. Folders of SAELens, OpenAI's
 * kind and dictionary_learning (see sae_layout.h) are read too where their autoencoder is one of this kind; s->cfg is
 * then as SAeUron's, with the other config below "origin". */
int sae_load(Sae **s, const char *dir, Err *e);
/* An autoencoder of these sizes with zero weights, for a trainer to fill. */
int sae_create(Sae **s, int D, int F, int K, Err *e);
/* Makes room for a gate's part, &s->threshold or another, zeroed; nothing where it is there. */
int sae_need_gate(Sae *s, float **part, Err *e);
/* Says in s and its config where it belongs; NULL: as it is. take must be one of those above. */
int sae_set_place(Sae *s, const char *hook, const char *take, Err *e);
/* An error where sae_save could not write dir: it is no folder, may not be written or made, or holds an autoencoder in
 * another layout, whose files beside ours would leave readers to pick one. Folders above it are made. */
int sae_check_folder(const char *dir, Err *e);
/* Writes DIR/cfg.json (s->cfg) and DIR/sae.safetensors: a new folder appears whole, with those above it made as needed;
 * in one that is there each file is replaced whole, unless sae_check_folder refuses it. */
int sae_save(const Sae *s, const char *dir, Err *e);
/* As sae_save, with a config that the loader of SAeUron, sparsify or SAELens 6 takes,
 * and SAELens's files for that one. */
int sae_save_as(const Sae *s, const char *dir, SaeFormat format, Err *e);
void sae_free(Sae *s);
/* Packs the encoder for products of `type`; memory is flat in N. After a change of weights, again. */
int sae_prepare(Sae *s, DType type, Err *e);
/* a, i (N,K) of x (N,D), device memory. */
void sae_encode(Sae *s, float *a, int32_t *i, const float *x, int64_t N);
/* The same in host memory; device_a, device_i (N,K): room on the device. -1 as sae_check_codes. */
int sae_encode_to_host(Sae *s, float *a, int32_t *i, float *device_a, int32_t *device_i, const float *x, int64_t N,
                       Err *e);
/* An error where a token's codes a (N,K), host memory, may not be all of its features: those of an autoencoder with a
 * gate whose folder does not say how many a token keeps at most, with all K above 0. */
int sae_check_codes(const Sae *s, const float *a, int64_t N, Err *e);
/* The same of a in device memory, for which the device is waited for only where there is something to check. */
int sae_check_device_codes(const Sae *s, const float *a, int64_t N, Err *e);
/* Room for codes (N,K), which grows; all zero: none. */
typedef struct SaeCodes {
    void *a, *i;                    /* device */
    size_t a_bytes, i_bytes;
    float *host_a;
    int32_t *host_i;
    size_t host_codes;
} SaeCodes;

int sae_codes_grow(SaeCodes *c, size_t codes, Err *e);      /* on the device, for so many or more */
/* sae_encode_to_host into such room. */
int sae_codes_read(Sae *s, SaeCodes *c, const float *x, int64_t N, Err *e);
void sae_codes_free(SaeCodes *c);
/* y (N,D) = decoded (a, i), b_dec included. */
void sae_decode(const Sae *s, float *y, const float *a, const int32_t *i, int64_t N);

#endif
