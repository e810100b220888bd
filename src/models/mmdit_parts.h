/* SPDX-License-Identifier: MIT */
/* mmdit_parts.h -- the inside of Stable Diffusion 3's transformer, shared by the files mmdit_*.c. */
#ifndef SRC_MODELS_MMDIT_PARTS_H
#define SRC_MODELS_MMDIT_PARTS_H

#include "src/models/blocks.h"
#include "src/models/mmdit.h"
#include "src/models/tapes.h"

enum {
    MMDIT_BLOCKS = 256,
    MMDIT_WAVES = 256               /* sinusoids of t */
};
#define MMDIT_EPS 1e-6f             /* of every norm */

typedef struct MMDiTConfig {        /* of config.json */
    int sample;                     /* side of the latents it was made for */
    int patch, C;                   /* side of a patch, channels of the latent */
    int most;                       /* patches a side, at most */
    int layers, heads, head_dim, D, E, P;           /* D = heads*head_dim: width of the blocks */
    bool dual[MMDIT_BLOCKS];        /* blocks with an attn2 */
    bool qk_norm;
} MMDiTConfig;

int mmdit_config_read(MMDiTConfig *c, const Part *part, Err *e);

/* What a block does with the image's rows or with the text's. The text's in the last block, of which only k and v are
 * wanted, have nothing else. */
typedef struct MMDiTSide {
    Conv *q, *kv, *out, *ff1, *ff2;
    float *gamma_q, *gamma_k;       /* device (head_dim), NULL: no norms */
} MMDiTSide;

typedef struct MMDiTBlock {
    Conv *modulation;               /* shifts, scales and gates of the image, then those of the text */
    int width;                      /* of its rows: their number times D */
    int text_at;                    /* where those of the text begin, in D */
    MMDiTSide image, text;
    Conv *qkv2, *out2;              /* attn2, of the image alone; NULL: none */
    float *gamma_q2, *gamma_k2;
    int module, module_attn, module_attn2, module_ff;
} MMDiTBlock;

struct MMDiT {
    MMDiTConfig config;
    DType type;
    Part part;                      /* stays open for its positions */
    const Weight *positions;        /* (1, most*most, D), in the file */
    Conv *patches, *time1, *time2, *pooled1, *pooled2, *context, *norm_out, *proj_out;
    MMDiTBlock *block;              /* [layers] */
    Hooks hooks;
    Workspace work;

    float *position;                /* device (h*w,D): the middle of positions, of the latents at work */
    size_t position_bytes;
    int64_t h, w;

    /* text at work */
    float *state;                   /* device (images*S,D): projected states */
    size_t state_bytes;
    int32_t *state_rows;            /* device (B*S): rows of state that make the batch's */
    size_t state_rows_bytes;
    float *pooled;                  /* device (images,D): projected pooled embeddings */
    size_t pooled_bytes;
    int32_t *pooled_rows;           /* device (B) */
    size_t pooled_rows_bytes;
    int64_t B, S, images;
    bool has_pooled;

    float *waves;                   /* device (MMDIT_WAVES): sinusoids of t */
    Tapes tapes;
};

#endif
