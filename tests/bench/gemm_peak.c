/* SPDX-License-Identifier: MIT */
/* gemm_peak.c -- prints what this machine reaches, to measure everything else against: one "name value unit" a line. */
#include "tests/bench/peak.h"

int main(void)
{
    printf("threads\t%d\n", omp_get_max_threads());
    printf("gemm f32\t%.0f\tGF/s\n", peak_gemm(F32)*1e-9);
    printf("gemm bf16\t%.0f\tGF/s\n", peak_gemm(BF16)*1e-9);
    printf("copy 256K\t%.1f\tGB/s\n", peak_copy((size_t)256 << 10)*1e-9);
    printf("copy 4M\t%.1f\tGB/s\n", peak_copy((size_t)4 << 20)*1e-9);
    printf("copy 256M\t%.1f\tGB/s\n", peak_copy((size_t)256 << 20)*1e-9);
    return 0;
}
