/* SPDX-License-Identifier: MIT */
/* gemm_tiles.c -- products of matrices that training takes, by tiles: for processors that oneDNN has no code for.
 *
 *     C (M,N) = op(A) op(B), or C += op(A) op(B),   op(A) (M,K), op(B) (K,N)
 *
 * A block of ROWS x COLUMNS of C is one thread's; WORDS of K at a time are packed as tile.h takes them. A sum is one
 * chain of multiply-adds over K, the same whatever the threads. */
#include <omp.h>
#include <string.h>
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"

enum { PANEL = CPU_PANEL, ROWS = 256, COLUMNS = 256, WORDS = 256 };

typedef struct Product {
    float *C;
    const float *A, *B;
    bool add, A_turned, B_turned;
    int64_t M, N, K;
    Tile tile;
    int most_rows;                  /* ROWS, to the next whole tile */
} Product;

/* op(A) [m, m + rows) x [k, k + words) in groups of a tile's rows [words][T], zeros beyond. */
static void pack_rows(const Product *p, float *to, int64_t m, int rows, int64_t k, int words)
{
    const int T = p->tile.rows;
    for (int first = 0; first < rows; first += T, to += T*words)
        for (int r = 0; r < T; r++)
            for (int w = 0; w < words; w++)
                to[w*T + r] = first + r >= rows ? 0
                            : p->A_turned ? p->A[(k + w)*p->M + m + first + r] : p->A[(m + first + r)*p->K + k + w];
}

/* op(B) [k, k + words) x [n, n + columns) in panels [words][32], zeros beyond. */
static void pack_columns(const Product *p, float *to, int64_t n, int columns, int64_t k, int words)
{
    for (int first = 0; first < columns; first += PANEL)
        for (int w = 0; w < words; w++, to += PANEL)
            for (int c = 0; c < PANEL; c++)
                to[c] = first + c >= columns ? 0
                      : p->B_turned ? p->B[(n + first + c)*p->K + k + w] : p->B[(k + w)*p->N + n + first + c];
}

static void block(const Product *p, float *scratch, int64_t m, int64_t n)
{
    const int T = p->tile.rows, rows = (int)least(p->M - m, ROWS), columns = (int)least(p->N - n, COLUMNS);
    float *h = scratch, *a = h + p->most_rows*COLUMNS, *b = a + p->most_rows*WORDS;
    memset(h, 0, sizeof *h*(size_t)p->most_rows*COLUMNS);
    for (int64_t k = 0; k < p->K; k += WORDS) {
        const int words = (int)least(p->K - k, WORDS);
        pack_rows(p, a, m, rows, k, words);
        pack_columns(p, b, n, columns, k, words);
        for (int c = 0; c < columns; c += PANEL)
            for (int r = 0; r < rows; r += T) {
                float *sum = h + r*COLUMNS + c;
                p->tile.run(sum, COLUMNS, (const uint32_t *)(a + r*words), (const uint32_t *)(b + c*words), sum,
                            COLUMNS, words);
            }
    }
    for (int r = 0; r < rows; r++) {
        float *C = p->C + (m + r)*p->N + n;
        for (int c = 0; c < columns; c++)
            C[c] = p->add ? C[c] + h[r*COLUMNS + c] : h[r*COLUMNS + c];
    }
}

void cpu_tiled_gemm(float *C, bool add, const float *A, bool A_turned, const float *B, bool B_turned, int64_t M,
                    int64_t N, int64_t K)
{
    Product p = {C, A, B, add, A_turned, B_turned, M, N, K, cpu_tile(F32), 0};
    p.most_rows = (ROWS + p.tile.rows - 1)/p.tile.rows*p.tile.rows;
    const size_t each = (size_t)p.most_rows*(COLUMNS + WORDS) + (size_t)COLUMNS*WORDS;        /* whole lines of cache */
    const int64_t across = (N + COLUMNS - 1)/COLUMNS, blocks = (M + ROWS - 1)/ROWS*across;
    float *scratch = cpu_scratch(each*(size_t)omp_get_max_threads()*sizeof *scratch);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < blocks; i++)
        block(&p, scratch + each*(size_t)omp_get_thread_num(), i/across*ROWS, i%across*COLUMNS);
}
