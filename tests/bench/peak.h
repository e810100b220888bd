/* SPDX-License-Identifier: MIT */
/* peak.h -- what this machine reaches: multiplications by oneDNN's matmul, where it has no code by the backend's own
 * product, of bf16 where AMX is by its instruction alone; copies of memory. Measured, not looked up. */
#ifndef TESTS_BENCH_PEAK_H
#define TESTS_BENCH_PEAK_H

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/cpu/cpu.h"

#ifdef __x86_64__
#include "kernels/cpu/amx.h"
#include "kernels/cpu/onednn.h"
#endif

/* On one thread the processor's time, so that a busy machine measures as an idle one; on several the clock on the
 * wall. */
__attribute__((unused)) static double bench_seconds(void)
{
    struct timespec t;
    clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

#ifdef __x86_64__
static void peak_check(dnnl_status_t status)
{
    if (status != dnnl_success) {
        fprintf(stderr, "oneDNN: status %d\n", (int)status);
        exit(1);
    }
}

/* Of AMX's products of registers of 16 x 32 and 32 x 16 numbers, not all alike: of zeros they are faster. oneDNN's
 * matmul reaches half of it. */
static double peak_amx(void)
{
    enum { LOOPS = 200000, TIMES = 10 };
    static uint16_t values[4096];
    for (int i = 0; i < 4096; i++)
        values[i] = (uint16_t)(0x3f00 + i*37 % 256 + (i*11 % 2 << 15));
    double best = 0;
    for (int i = 0; i < TIMES; i++) {
        const double start = bench_seconds();
#pragma omp parallel
        {
            amx_begin();
            __asm__ volatile("tileloadd (%0,%1,1), %%tmm4\n\ttileloadd (%0,%1,1), %%tmm5\n\t"
                             "tileloadd (%0,%1,1), %%tmm6\n\ttileloadd (%0,%1,1), %%tmm7"
                             :: "r"(values), "r"((size_t)64) : "memory");
            for (int j = 0; j < LOOPS; j++)
                __asm__ volatile("tdpbf16ps %tmm6, %tmm4, %tmm0\n\ttdpbf16ps %tmm7, %tmm4, %tmm1\n\t"
                                 "tdpbf16ps %tmm6, %tmm5, %tmm2\n\ttdpbf16ps %tmm7, %tmm5, %tmm3");
            amx_end();
        }
        const double rate = 4.0*2*16*16*32*LOOPS*omp_get_max_threads()/(bench_seconds() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Flop per second of the best of some (1024, 1024) x (1024, 1024) products on all threads; 0 where the type has no
 * code. */
__attribute__((unused)) static double peak_gemm(DType of)
{
    enum { SIDE = 1024, TIMES = 40 };
    cpu_ops();
    if (of == BF16 && cpu_level >= CPU_AMX)
        return peak_amx();
    const dnnl_data_type_t type = of == BF16 ? dnnl_bf16 : dnnl_f32;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_desc_t plain, any, out;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    const dnnl_dims_t dims = {SIDE, SIDE};
    peak_check(dnnl_engine_create(&engine, dnnl_cpu, 0));
    peak_check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    peak_check(onednn_describe(&plain, 2, dims, type, dnnl_ab));
    peak_check(onednn_describe(&any, 2, dims, type, dnnl_format_tag_any));
    peak_check(onednn_describe(&out, 2, dims, dnnl_f32, dnnl_ab));
    double best = 0;
    if (onednn_matmul(&pd, engine, onednn_layout(&plain), onednn_layout(&any), onednn_layout(&out)) == dnnl_success) {
        dnnl_memory_t a, b, c;
        peak_check(dnnl_primitive_create(&p, pd));
        peak_check(dnnl_memory_create(&a, onednn_layout(&plain), engine, DNNL_MEMORY_ALLOCATE));
        peak_check(dnnl_memory_create(&b, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), engine,
                                      DNNL_MEMORY_ALLOCATE));
        peak_check(dnnl_memory_create(&c, onednn_layout(&out), engine, DNNL_MEMORY_ALLOCATE));
        void *data;
        dnnl_memory_get_data_handle(a, &data);
        memset(data, 0, dnnl_memory_desc_get_size(onednn_layout(&plain)));
        dnnl_memory_get_data_handle(b, &data);
        memset(data, 0, dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0)));
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
        for (int i = 0; i < TIMES; i++) {
            const double start = bench_seconds();
            peak_check(dnnl_primitive_execute(p, stream, 3, args));
            peak_check(dnnl_stream_wait(stream));
            const double rate = 2.0*SIDE*SIDE*SIDE/(bench_seconds() - start);
            best = rate > best ? rate : best;
        }
        dnnl_memory_destroy(a);
        dnnl_memory_destroy(b);
        dnnl_memory_destroy(c);
        dnnl_primitive_destroy(p);
        dnnl_primitive_desc_destroy(pd);
    }
    onednn_forget(&plain);
    onednn_forget(&any);
    onednn_forget(&out);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return best;
}
#else
__attribute__((unused)) static double peak_gemm(DType of)
{
    enum { SIDE = 1024, TIMES = 10 };
    float *const a = calloc(3*SIDE*SIDE, sizeof *a), *const b = a + SIDE*SIDE;
    double best = 0;
    if (!a)
        exit(1);
    for (int i = 0; i < TIMES && of == F32; i++) {
        const double start = bench_seconds();
        cpu_ops()->sae.gemm(b + SIDE*SIDE, false, a, false, b, false, SIDE, SIDE, SIDE);
        const double rate = 2.0*SIDE*SIDE*SIDE/(bench_seconds() - start);
        best = rate > best ? rate : best;
    }
    free(a);
    return best;
}
#endif

/* Bytes read and written per second of the best of some copies of `bytes` on all threads. */
__attribute__((unused)) static double peak_copy(size_t bytes)
{
    char *from = malloc(bytes), *to = malloc(bytes);
    if (!from || !to)
        exit(1);
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    const int threads = omp_get_max_threads();
    const size_t part = bytes/(size_t)threads;
    double best = 0;
    for (int i = 0; i < 20; i++) {
        const double start = bench_seconds();
#pragma omp parallel for
        for (int t = 0; t < threads; t++)
            memcpy(to + (size_t)t*part, from + (size_t)t*part, part);
        const double rate = 2.0*(double)(part*(size_t)threads)/(bench_seconds() - start);
        best = rate > best ? rate : best;
    }
    free(from);
    free(to);
    return best;
}

#endif
