/* SPDX-License-Identifier: MIT */
/* blocks.h -- the parts that the UNet and the VAE are made of: norms, convolutions, residual blocks, transformers.
 *
 * The residual stream is rows (B*H*W, C) of R (f32, or the backend's `residual`), changed in place where its old value
 * is not needed; what enters a product is T (the type of products: F32, BF16, F16), written so by the norm before it.
 * Where R has 16 bits the stream itself enters products too. Temporaries come from a workspace. */
#ifndef SRC_MODELS_BLOCKS_H
#define SRC_MODELS_BLOCKS_H

#include "kernels/op.h"
#include "src/models/hooks.h"
#include "src/models/model.h"
#include "src/models/tape.h"
#include "src/models/workspace.h"

/* ---- loading: of tensors PREFIX.weight and PREFIX.bias; each returns 0, or -1 with e set ---- */

typedef struct Norm {               /* group norm, or layer norm with groups 0 */
    float *gamma, *beta;            /* device */
    int C, groups;
    float eps;
} Norm;

int norm_load(Norm *n, const Part *part, const char *prefix, int C, int groups, float eps, Err *e);
void norm_free(Norm *n);

/* spec gives all but the weights, which are (out,in,kernel,kernel) or, for a kernel of 1, (out,in). Stacked: one conv
 * of several tensors side by side along out, at prefix.suffix each; parts have parts_out outputs each. A layer has a
 * bias, but for a few kinds, which may have one (BIAS_MAYBE): where it is in no part it is left out. */
typedef enum { BIAS, BIAS_MAYBE } BiasKind;

int conv_load(Conv **c, const Part *part, const char *prefix, ConvSpec spec, Err *e);
int conv_load_stacked(Conv **c, const Part *part, const char *const *prefix, const int *out, int parts, ConvSpec spec,
                      BiasKind bias, Err *e);
/* Linear layers prefix.suffix[i], at most 3, of out[i] outputs each as one. spec gives all but its `out`, their sum. */
int linear_load(Conv **c, const Part *part, const char *prefix, const char *const *suffix, const int *out, int parts,
                ConvSpec spec, BiasKind bias, Err *e);
ConvSpec conv_spec(int in, int out, int kernel, DType x_type, DType y_type);    /* stride 1, same size */

/* ---- one evaluation ---- */

typedef struct Run {
    DType type, residual;           /* T, R */
    int64_t B, H, W;                /* of the stream at the moment */
    int folds;                      /* in a UNet: images of the batch that each of the stream's stands for, which their
                                     * texts alone will tell apart; 1 from the first transformer on */
    Workspace *work;
    const Hooks *hooks;             /* NULL: none */
    Tape *tape;                     /* takes down where hooks are called; NULL: they are called */
    const int32_t *kv_index;        /* device (B): text state of each image */
    int64_t S;                      /* tokens of a text state */
} Run;

void *run_take(const Run *r, DType type, int64_t values, Err *e);       /* of the workspace */
/* Of the stream's images so far, the first `bytes` of x, the whole batch: folds - 1 copies behind them. */
void run_unfold(void *x, size_t bytes, int64_t folds);
/* Calls the hooks of a module whose output is act (B,HW,C), or x of R, which they see and change as f32. */
int run_hook(const Run *r, int module, float *act, const float *input, int C, Err *e);
int run_hook_stream(const Run *r, int module, void *x, const float *input, int C, Err *e);
/* A copy of x (B,HW,C) in f32 for the hooks of a module that want its input, NULL where none does. Returns 0, or -1
 * with e set. */
int run_keep_input(const Run *r, int module, const void *x, DType type, int C, float **kept, Err *e);
/* y T = act(group norm of in); as_is as op->group_norm has it. */
void run_group_norm(const Run *r, const Norm *n, void *y, void *as_is, NormInput in, Activation act);
/* The type in which products take the stream as it is. */
DType type_as_is(DType type, DType residual);
/* x (n) of R in that type: itself, or its conversion, in the workspace; NULL with e set. */
const void *run_as_is(const Run *r, const void *x, int64_t n, Err *e);

/* An error where an image of the batch, index (B), asks for none of the `texts` states. */
int text_index_check(const int32_t *index, int64_t B, int64_t texts, Err *e);

/* ---- ResnetBlock2D ----
 *     h = conv1(silu(norm1(x)))      y = shortcut(x) + conv2(silu(norm2(h + temb)))         x (B,HW,in)   y (B,HW,out)
 * h is T. temb is given to norm2 as its shift. shortcut is a 1x1 convolution where in and out differ, else nothing is
 * done to x. */
typedef struct Resnet {
    int in, out, module;            /* module: -1 without hooks */
    int temb;                       /* offset of its channels among those of all resnets, -1: no time embedding */
    Norm norm1, norm2;
    Conv *conv1, *conv2, *shortcut;
} Resnet;

int resnet_load(Resnet *n, const Part *part, const char *prefix, int in, int out, int groups, float eps, DType type,
                DType residual, Err *e);
void resnet_free(Resnet *n);
/* in: of R, as y is, without shift, of n->in channels in all; something beside it only where there is a shortcut. y may
 * be in->x where there is none. shift (B,out) or NULL. */
int resnet_run(const Resnet *n, const Run *r, void *y, const NormInput *in, const float *shift, Err *e);

/* ---- Transformer2DModel over the tokens of an image: y = x + proj_out(blocks(proj_in(norm(x)))) ----
 * Each block:  x += attn1(norm1(x))    x += attn2(norm2(x), text)    x += ff(norm3(x)),  ff(x) = W2 geglu(W1 x) */
typedef struct TransformerBlock {
    Norm norm1, norm2, norm3;
    Conv *qkv, *out1, *q, *kv, *out2, *ff1, *ff2;
    void *text_kv;                  /* T (images*S, 2C), of the text states at work; the UNet's memory */
    int module, module_attn1, module_attn2, module_ff;
} TransformerBlock;

typedef struct Transformer {
    int C, heads, layers, module;
    Norm norm;
    Conv *proj_in, *proj_out;
    TransformerBlock *block;
} Transformer;

/* E: width of the text states. */
int transformer_load(Transformer *t, const Part *part, const char *prefix, int C, int heads, int layers, int E,
                     int groups, DType type, DType residual, Err *e);
void transformer_free(Transformer *t);
/* x R (B,HW,C), in place, with room for the whole batch, which it is in the end: see Run's folds. */
int transformer_run(const Transformer *t, Run *r, void *x, Err *e);

#endif
