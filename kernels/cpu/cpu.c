/* SPDX-License-Identifier: MIT */
/* cpu.c -- the CPU backend's table, its memory, and what the machine can do.
 *
 * Products of matrices are oneDNN's (conv.c); everything else is written here for AVX-512, AVX2 and plain x86-64. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/cpu.h"

CpuLevel cpu_level;

static CpuLevel detect(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return CPU_ANY;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")
        || !__builtin_cpu_supports("avx512vl"))
        return CPU_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? CPU_AVX512_BF16 : CPU_AVX512;
}

static size_t aligned(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static void *cpu_alloc_host(size_t bytes)
{
    return bytes <= SIZE_MAX - 63 ? aligned_alloc(64, bytes ? aligned(bytes) : 64) : NULL;
}

static void *cpu_alloc(size_t bytes, Err *e)
{
    void *p = cpu_alloc_host(bytes);
    if (!p) {
        err_set(e, "cannot allocate %zu bytes", bytes);
        return NULL;
    }
    return memset(p, 0, bytes);
}

void *cpu_scratch(size_t bytes)
{
    static void *buffer;
    static size_t size;
    if (bytes > size) {
        free(buffer);
        size = aligned(bytes + bytes/4);
        buffer = aligned_alloc(64, size);
        if (!buffer) {
            fprintf(stderr, "cannot allocate %zu bytes of scratch memory\n", size);
            abort();
        }
    }
    return buffer;
}

static void copy_bytes(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static void clear_bytes(void *p, size_t bytes)
{
    memset(p, 0, bytes);
}

const Ops *cpu_ops(void)
{
    static Ops ops = {
        .name = "cpu",
        .alloc = cpu_alloc, .free = free, .upload = copy_bytes, .download = copy_bytes, .copy = copy_bytes,
        .upload_early = copy_bytes, .alloc_host = cpu_alloc_host, .free_host = free, .clear = clear_bytes,
        .conv_create = cpu_conv_create, .conv_free = cpu_conv_free, .conv_run = cpu_conv_run,
        .group_norm = cpu_group_norm, .layer_norm = cpu_layer_norm, .attention = cpu_attention,
        .activate = cpu_activate, .convert = cpu_convert, .store = cpu_store, .add = cpu_add,
        .subtract = cpu_subtract,
        .upsample = cpu_upsample, .embed = cpu_embed, .ddim_step = cpu_ddim_step,
        .dpm_step = cpu_dpm_step, .multistep = cpu_multistep,
    };
    static bool filled;
    if (!filled) {
        filled = true;
        cpu_level = detect();
        ops.best = cpu_level == CPU_AVX512_BF16 ? BF16 : F32;
        cpu_sae_ops(&ops.sae);
        cpu_comm_ops(&ops.comm);
    }
    return &ops;
}
