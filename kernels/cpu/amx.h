/* SPDX-License-Identifier: MIT */
/* amx.h -- products of bf16 in the tile registers of x86-64 (AMX), whose sums are f32.
 *
 * Rows of the left matrix are read where they lie, 16 to a register. The right one is packed in panels [words][32], a
 * word two bf16 that are neighbours in the sum, as those of tile.h; words are a multiple of 16, a step. */
#ifndef KERNELS_CPU_AMX_H
#define KERNELS_CPU_AMX_H

#include "kernels/op.h"

enum { AMX_ROWS = 16, AMX_STEP_WORDS = 16, AMX_COLUMNS = 32 };

/* Whether the processor has them and the system lets this process use them; asks the system for that. */
bool amx_usable(void);

/* Before the products of a thread, and after: between them the thread runs no code that uses the registers otherwise,
 * as oneDNN's does. */
void amx_begin(void);
void amx_end(void);

/* h[r, 0..32) = start[r, 0..32) + sum over steps s and words w of x_r[at[s] + w] panel[16 s + w, 0..32), a sum's order
 * the same for all.
 *   rows 0 to 15 of x begin at low, 16 to 31 at high (NULL: there are 16), x_stride bytes apart; at: bytes into a row
 *   panel's words panel_stride words apart   h rows at stride   start rows at start_stride, 0: one row for all; it may
 *   be h; NULL: zeros
 *   soon: what is to be in the second-level cache later, `lines` times 64 bytes a step (of 32 rows) */
void amx_product(float *h, size_t stride, const void *low, const void *high, size_t x_stride, const int32_t *at,
                 const uint32_t *panel, size_t panel_stride, const float *start, size_t start_stride, int steps,
                 const void *soon, int lines);

/* The best distance of rows of `bytes`, a multiple of 64: an odd number of lines, so that a tile's rows lie in as many
 * sets of the caches. */
static inline size_t amx_pitch(size_t bytes)
{
    return bytes/64 % 2 ? bytes : bytes + 64;
}

/* A convolution or linear layer of bf16 (conv_amx.c), as op.h's conv_create, conv_free and conv_run describe them.
 *   W (out,in,kernel,kernel)   bias (out), NULL: none; both are copied */
typedef struct AmxConv AmxConv;
int cpu_amx_create(AmxConv **conv, const ConvSpec *spec, const float *W, const float *bias, Err *e);
void cpu_amx_free(AmxConv *c);
void cpu_amx_run(AmxConv *c, void *y, const void *x, int64_t B, int64_t H, int64_t W, bool add);

#endif
