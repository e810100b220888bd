/* SPDX-License-Identifier: MIT */
/* sae_dense.c -- training with all of h in memory: JumpReLU, ReLU and the gate, with gradients.
 *
 *     jump   z = h where h > threshold, else 0      gated  z = m where gate > 0 and m > 0, else 0
 *                                                          gate = h + b_gate      m = exp(r_mag) h + b_mag
 *   h, z, p, g (N,F)   b_enc, threshold, b_gate, r_mag, b_mag (F)
 *
 * Bound by memory: sums over rows go by columns of STRIP features, each by one thread, TILE_ROWS rows in f32 and those
 * in double. A NaN in h stays one in z, so that the loss shows it. */
#include <math.h>
#include "kernels/cpu/sae_cpu.h"
#include "kernels/cpu/vec.h"

enum { STRIP = 128, TILE_ROWS = 32 };

/* ---- JumpReLU, ReLU ---- */

static void jump_row(float *z, float *h, const float *b_enc, const float *threshold, int F)
{
    for (int f = 0; f < F; f++) {
        h[f] += b_enc[f];
        z[f] = h[f] <= (threshold ? threshold[f] : 0) ? 0 : h[f];
    }
}

static void jump(float *z, float *h, const float *b_enc, const float *threshold, int64_t N, int F)
{
    #pragma omp parallel for if (N*F > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        jump_row(z + n*F, h + n*F, b_enc, threshold, F);
}

/* One vector of features of rows [0,rows): the n first of it. Returns what a threshold's gradient loses. */
ALWAYS_INLINE V jump_grad_vector(float *g, const float *h, const float *threshold, float sparsity, float width,
                                 int rows, int F, int n)
{
    const V t = threshold ? v_load(threshold, n) : (V){0};
    V lost = {0};
    for (int r = 0; r < rows; r++) {
        const size_t at = (size_t)r*(size_t)F;
        const V x = v_load(h + at, n), y = v_load(g + at, n);
        V through, window;
        EACH_LANE(l) {
            window[l] = fabsf(x[l] - t[l]) < width/2 ? t[l]*y[l] + sparsity : 0;
            through[l] = x[l] > t[l] ? y[l] + (threshold ? 0 : sparsity) : 0;
        }
        v_store(g + at, through, n);
        lost += window;
    }
    return lost/width;
}

/* Columns [0,columns) of N rows. */
static void jump_grad_strip(float *g, float *d_threshold, const float *h, const float *threshold, float sparsity,
                            float width, int64_t N, int F, int columns)
{
    double sum[STRIP] = {0};
    for (int64_t r = 0; r < N; r += TILE_ROWS)
        for (int f = 0; f < columns; f += LANES) {
            const int n = columns - f < LANES ? columns - f : LANES;
            const V lost = jump_grad_vector(g + r*F + f, h + r*F + f, threshold ? threshold + f : NULL, sparsity, width,
                                            (int)least(N - r, TILE_ROWS), F, n);
            for (int l = 0; l < LANES; l++)
                sum[f + l] += lost[l];
        }
    for (int f = 0; threshold && f < columns; f++)
        d_threshold[f] -= (float)sum[f];
}

static void jump_grad(float *g, float *d_threshold, const float *h, const float *threshold, float sparsity, float width,
                      int64_t N, int F)
{
    #pragma omp parallel for if (N*F > CPU_PARALLEL)
    for (int f = 0; f < F; f += STRIP)
        jump_grad_strip(g + f, threshold ? d_threshold + f : NULL, h + f, threshold ? threshold + f : NULL, sparsity,
                        width, N, F, (int)least(F - f, STRIP));
}

/* ---- gated ---- */

static void gated_row(float *z, float *p, const float *h, const float *b_gate, const float *r_mag, const float *b_mag,
                      int F)
{
    for (int f = 0; f < F; f += LANES) {
        const int n = F - f < LANES ? F - f : LANES;
        const V x = v_load(h + f, n), gate = x + v_load(b_gate + f, n);
        const V m = v_exp(v_load(r_mag + f, n))*x + v_load(b_mag + f, n);
        V open;
        EACH_LANE(l)
            open[l] = gate[l] <= 0 || m[l] <= 0 ? 0 : m[l];
        v_store(p + f, v_relu(gate), n);
        v_store(z + f, open, n);
    }
}

static void gated(float *z, float *p, const float *h, const float *b_gate, const float *r_mag, const float *b_mag,
                  int64_t N, int F)
{
    #pragma omp parallel for if (N*F > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++)
        gated_row(z + n*F, p + n*F, h + n*F, b_gate, r_mag, b_mag, F);
}

typedef struct GatedVector {        /* of LANES features */
    V b_gate, scale, b_mag;
    V to_gate, to_r, to_mag;        /* sums over rows */
} GatedVector;

ALWAYS_INLINE void gated_grad_vector(GatedVector *v, float *g, const float *g_p, const float *h, float sparsity,
                                     int rows, int F, int n)
{
    for (int r = 0; r < rows; r++) {
        const size_t at = (size_t)r*(size_t)F;
        const V x = v_load(h + at, n), y = v_load(g + at, n), y_p = v_load(g_p + at, n);
        const V gate = x + v->b_gate, scaled = v->scale*x, m = scaled + v->b_mag;
        V dm, dgate;
        EACH_LANE(l) {
            dm[l] = gate[l] > 0 && m[l] > 0 ? y[l] : 0;
            dgate[l] = gate[l] > 0 ? y_p[l] + sparsity : 0;
        }
        v_store(g + at, v->scale*dm + dgate, n);
        v->to_gate += dgate;
        v->to_mag += dm;
        v->to_r += dm*scaled;
    }
}

static void gated_grad_strip(float *g, const float *g_p, float *d_b_gate, float *d_r_mag, float *d_b_mag,
                             const float *h, const float *b_gate, const float *r_mag, const float *b_mag,
                             float sparsity, int64_t N, int F, int columns)
{
    double sum[3][STRIP] = {{0}};
    for (int64_t r = 0; r < N; r += TILE_ROWS)
        for (int f = 0; f < columns; f += LANES) {
            const int n = columns - f < LANES ? columns - f : LANES;
            GatedVector v = {.b_gate = v_load(b_gate + f, n), .scale = v_exp(v_load(r_mag + f, n)),
                             .b_mag = v_load(b_mag + f, n)};
            gated_grad_vector(&v, g + r*F + f, g_p + r*F + f, h + r*F + f, sparsity, (int)least(N - r, TILE_ROWS), F,
                              n);
            for (int l = 0; l < LANES; l++) {
                sum[0][f + l] += v.to_gate[l];
                sum[1][f + l] += v.to_r[l];
                sum[2][f + l] += v.to_mag[l];
            }
        }
    for (int f = 0; f < columns; f++) {
        d_b_gate[f] += (float)sum[0][f];
        d_r_mag[f] += (float)sum[1][f];
        d_b_mag[f] += (float)sum[2][f];
    }
}

static void gated_grad(float *g, const float *g_p, float *d_b_gate, float *d_r_mag, float *d_b_mag, const float *h,
                       const float *b_gate, const float *r_mag, const float *b_mag, float sparsity, int64_t N, int F)
{
    #pragma omp parallel for if (N*F > CPU_PARALLEL)
    for (int f = 0; f < F; f += STRIP)
        gated_grad_strip(g + f, g_p + f, d_b_gate + f, d_r_mag + f, d_b_mag + f, h + f, b_gate + f, r_mag + f,
                         b_mag + f, sparsity, N, F, (int)least(F - f, STRIP));
}

/* ---- counts ---- */

static void count_dense(int32_t *count, const float *z, int64_t N, int F)
{
    #pragma omp parallel for if (N*F > CPU_PARALLEL)
    for (int f = 0; f < F; f += STRIP)
        for (int64_t n = 0; n < N; n++)
            for (int c = f; c < F && c < f + STRIP; c++)
                count[c] += z[n*F + c] > 0;
}

static int row_most(const float *z, int64_t N, int F)
{
    int most = 0;
    #pragma omp parallel for reduction(max: most) if (N*F > CPU_PARALLEL)
    for (int64_t n = 0; n < N; n++) {
        int kept = 0;
        for (int f = 0; f < F; f++)
            kept += z[n*F + f] > 0;
        most = kept > most ? kept : most;
    }
    return most;
}

void cpu_sae_dense_ops(SaeOps *ops)
{
    ops->jump = jump;
    ops->jump_grad = jump_grad;
    ops->gated = gated;
    ops->gated_grad = gated_grad;
    ops->count_dense = count_dense;
    ops->row_most = row_most;
}
