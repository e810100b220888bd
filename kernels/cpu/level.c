/* SPDX-License-Identifier: MIT */
/* level.c -- the part of the CPU's table that a level fills. */
#include "kernels/cpu/level.h"

/* Products by tiles, or by oneDNN where it is. */
static void products(Ops *ops, bool tiles)
{
#ifdef __x86_64__
    if (!tiles) {
        ops->conv_create = cpu_conv_create;
        ops->conv_free = cpu_conv_free;
        ops->conv_run = cpu_conv_run;
        ops->sae.gemm = cpu_gemm;
        return;
    }
#endif
    (void)tiles;
    ops->conv_create = cpu_tiled_create;
    ops->conv_free = cpu_tiled_free;
    ops->conv_run = cpu_tiled_run;
    ops->sae.gemm = cpu_tiled_gemm;
}

void cpu_level_ops(Ops *ops, bool tiles)
{
    products(ops, tiles);
    ops->group_norm = cpu_group_norm;
    ops->layer_norm = cpu_layer_norm;
    ops->modulate = cpu_modulate;
    ops->add_gated = cpu_add_gated;
    ops->rms_norm = cpu_rms_norm;
    ops->attention = cpu_attention;
    ops->attention_biased = cpu_attention_biased;
    ops->activate = cpu_activate;
    ops->convert = cpu_convert;
    ops->store = cpu_store;
    ops->add = cpu_add;
    ops->multiply = cpu_multiply;
    ops->subtract = cpu_subtract;
    ops->upsample = cpu_upsample;
    ops->unpatch = cpu_unpatch;
    ops->embed = cpu_embed;
    ops->ddim_step = cpu_ddim_step;
    ops->dpm_step = cpu_dpm_step;
    ops->multistep = cpu_multistep;
    cpu_sae_ops(&ops->sae);
}
