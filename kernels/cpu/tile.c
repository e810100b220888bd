/* SPDX-License-Identifier: MIT */
/* tile.c -- the tiles of tile.h.
 *
 * Sums take as many registers as there are beside a word's: 14 rows x 32 columns are 28 of the 32 of AVX-512. Each word
 * takes 2 loads of the panel and 14 of rows for 28 FMAs there, so it is bound by the FMAs (230 of 256 GFLOP/s on a core
 * of Zen 5). */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/level.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

enum {
    PANEL = CPU_PANEL,
    ACROSS = LANES == 4 && REGISTERS == 32 ? 4 : 2,         /* registers of a row */
    DOWN = LANES == 16 ? 14 : 6
};

static void tile_f32(float *h, size_t stride, const uint32_t *x, const uint32_t *panel, const float *start,
                     size_t start_stride, int words)
{
    for (int column = 0; column < PANEL; column += ACROSS*LANES) {
        V sum[DOWN][ACROSS];
        for (int r = 0; r < DOWN; r++)
            for (int c = 0; c < ACROSS; c++)
                sum[r][c] = v_load(start + r*start_stride + column + c*LANES, LANES);
        const float *w = (const float *)panel + column, *a = (const float *)x;
        for (int k = 0; k < words; k++, w += PANEL, a += DOWN) {
            V wide[ACROSS];
            for (int c = 0; c < ACROSS; c++)
                wide[c] = v_load(w + c*LANES, LANES);
            _Pragma("GCC unroll 16")
            for (int r = 0; r < DOWN; r++)
                for (int c = 0; c < ACROSS; c++)
                    sum[r][c] += a[r]*wide[c];
        }
        for (int r = 0; r < DOWN; r++)
            for (int c = 0; c < ACROSS; c++)
                v_store(h + r*stride + column + c*LANES, sum[r][c], LANES);
    }
}

#ifdef __AVX512BF16__
static void tile_bf16(float *h, size_t stride, const uint32_t *x, const uint32_t *panel, const float *start,
                      size_t start_stride, int words)
{
    __m512 sum[DOWN][ACROSS];
    for (int r = 0; r < DOWN; r++)
        for (int c = 0; c < ACROSS; c++)
            sum[r][c] = _mm512_loadu_ps(start + r*start_stride + c*LANES);
    for (int k = 0; k < words; k++, panel += PANEL, x += DOWN) {
        const __m512bh w0 = (__m512bh)_mm512_load_si512(panel), w1 = (__m512bh)_mm512_load_si512(panel + LANES);
        _Pragma("GCC unroll 16")
        for (int r = 0; r < DOWN; r++) {
            const __m512bh a = (__m512bh)_mm512_set1_epi32((int)x[r]);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], a, w0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], a, w1);
        }
    }
    for (int r = 0; r < DOWN; r++)
        for (int c = 0; c < ACROSS; c++)
            _mm512_storeu_ps(h + r*stride + c*LANES, sum[r][c]);
}
#endif

Tile cpu_tile(DType type)
{
#ifdef __AVX512BF16__
    if (type == BF16 && cpu_level >= CPU_AMX)
        return (Tile){NULL, 2*AMX_ROWS, BF16, true};
    if (type == BF16)
        return (Tile){tile_bf16, DOWN, BF16, false};
#endif
    (void)type;
    return (Tile){tile_f32, DOWN, F32, false};
}
