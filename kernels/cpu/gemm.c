/* SPDX-License-Identifier: MIT */
/* gemm.c -- products of matrices that training takes, by oneDNN.
 *
 *     C (M,N) = op(A) op(B), or C += op(A) op(B),   op(A) (M,K), op(B) (K,N)
 *
 * A fixed block of C at a time: a call within a parallel region computes with one thread, in an order that depends on
 * sizes, so the bytes do not depend on threads. Blocks of 256 x 512 reach 76 to 95 % of one call for the whole C. */
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cpu/level.h"

enum { BLOCK_ROWS = 256, BLOCK_COLUMNS = 512 };

void cpu_gemm(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M, int64_t N,
              int64_t K)
{
    const int64_t across = (N + BLOCK_COLUMNS - 1)/BLOCK_COLUMNS, blocks = (M + BLOCK_ROWS - 1)/BLOCK_ROWS*across;
    #pragma omp parallel for schedule(dynamic)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t m = b/across*BLOCK_ROWS, n = b % across*BLOCK_COLUMNS;
        const dnnl_status_t status = dnnl_sgemm(A_turned ? 'T' : 'N', B_turned ? 'T' : 'N', least(M - m, BLOCK_ROWS),
                                                least(N - n, BLOCK_COLUMNS), K, 1, A_turned ? A + m : A + m*K,
                                                A_turned ? M : K, B_turned ? B + n*K : B + n, B_turned ? K : N, add,
                                                C + m*N + n, N);
        if (status != dnnl_success) {
            fprintf(stderr, "oneDNN: sgemm: status %d\n", (int)status);
            abort();
        }
    }
}
