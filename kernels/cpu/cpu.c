/* SPDX-License-Identifier: MIT */
/* cpu.c -- the CPU backend's table, its memory, and what the machine can do.
 *
 * On x86-64 products of matrices are oneDNN's (conv.c), everything else is written here. On other processors, for which
 * Debian's oneDNN has no code of their own, products are made by tiles (conv_tiles.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/cpu.h"

#ifdef __x86_64__
#include "kernels/cpu/amx.h"
#include "kernels/cpu/onednn.h"
#endif

CpuLevel cpu_level;

static CpuLevel detect(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return CPU_ANY;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")
        || !__builtin_cpu_supports("avx512vl"))
        return CPU_AVX2;
    return !__builtin_cpu_supports("avx512bf16") ? CPU_AVX512 : amx_usable() ? CPU_AMX : CPU_AVX512_BF16;
#else
    return CPU_ANY;
#endif
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

static bool filled;
static Ops ops = {
    .name = "cpu",
    .alloc = cpu_alloc, .free = free, .upload = copy_bytes, .download = copy_bytes, .copy = copy_bytes,
    .upload_early = copy_bytes, .alloc_host = cpu_alloc_host, .free_host = free, .clear = clear_bytes,
};

void cpu_choose(CpuLevel level, bool tiles)
{
    cpu_level = level;
    ops.best = level >= CPU_AVX512_BF16 && !tiles ? BF16 : F32;
#ifdef __x86_64__
    if (level >= CPU_AVX512_BF16)
        cpu_level_ops_avx512_bf16(&ops, tiles);
    else if (level >= CPU_AVX512)
        cpu_level_ops_avx512(&ops, tiles);
    else if (level >= CPU_AVX2)
        cpu_level_ops_avx2(&ops, tiles);
    else
        cpu_level_ops_any(&ops, tiles);
#else
    cpu_level_ops_any(&ops, true);
#endif
}

const Ops *cpu_ops(void)
{
    if (!filled) {
        filled = true;
        cpu_choose(detect(), false);
        cpu_sae_code_ops(&ops.sae);
        cpu_comm_ops(&ops.comm);
    }
    return &ops;
}

int cpu_settle(Err *e)
{
    enum { NAMES = CPU_AMX + 1 };
    static const char *const names[NAMES] = {"any", "avx2", "avx512", "avx512_bf16", "amx"};
    const char *asked = getenv("SDSTEER_CPU");
    if (!asked || !*asked || filled)
        return 0;
    const CpuLevel best = detect();
    int level = (int)best;
    bool tiles = false;
    char text[256], *rest = text;
    snprintf(text, sizeof text, "%s", asked);           /* which is longer than all names together, or unknown */
    for (const char *name; (name = strsep(&rest, "+")); ) {
        int found = 0;
        while (found < NAMES && strcmp(name, names[found]) != 0)
            found++;
        if (strcmp(name, "tiles") == 0)
            tiles = true;
        else if (found > (int)best)
            return err_set(e, "SDSTEER_CPU: '%s' is %s", name, found < NAMES ? "more than this processor has"
                           : "unknown; there are: any, avx2, avx512, avx512_bf16, amx, tiles");
        else
            level = found;
    }
    cpu_ops();
    cpu_choose((CpuLevel)level, tiles);
#ifdef __x86_64__
    const dnnl_cpu_isa_t isa[] = {dnnl_cpu_isa_sse41, dnnl_cpu_isa_avx2, dnnl_cpu_isa_avx512_core,
                                  dnnl_cpu_isa_avx512_core_bf16, onednn_any_isa};
    dnnl_set_max_cpu_isa(isa[level]);
#endif
    return 0;
}
