/* SPDX-License-Identifier: MIT */
/* sae_update.cu -- Adam on the weights' rows: along a gradient in memory, or along one that is summed as it goes.
 *
 *     p -= rate m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps)
 *
 *   p, m, v, dp (F,D)   gradients of a feature's two rows: sae_rows.h
 *
 * Bound by memory: p, m and v are read and written once, 24 bytes a parameter (F = 40960, D = 1280: 2.5 GB), 16 with
 * both moments in one word (kernels/adam_pair.h); the gradients' rows are gathered from the second-level cache. A block
 * of row_update has the six (four) rows of its next feature on their way to shared memory while it works on one, so
 * that memory is never waited for; a thread copies just what it will read. What passes by once is marked so, since the
 * cache is to keep x and g. */
#include "kernels/adam_pair.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/sae_rows.h"

enum { ROW_THREADS = 512, AT_ONCE = 2, AHEAD = 2, PLAIN_ROWS = 2048, SQUARE_WARPS = 8 };

/* ---- along a gradient in memory ---- */

__device__ __forceinline__ void adam_value(float &p, float &m, float &v, float g, float rate, float root,
                                           const AdamStep &s)
{
    m = fmaf(s.beta1, m, (1 - s.beta1)*g);
    v = fmaf(s.beta2, v, (1 - s.beta2)*g*g);
    p -= rate*m/fmaf(root, sqrtf(v), s.eps);
}

/* Words of some values: m in the upper half, v in the lower. */
template <int each> __device__ __forceinline__ void part_pairs(float (&m)[each], float (&v)[each],
                                                               const float (&word)[each])
{
    for (int k = 0; k < each; k++) {
        const uint32_t both = __float_as_uint(word[k]);
        m[k] = __uint_as_float(both & 0xffff0000u);
        v[k] = __uint_as_float(both << 16);
    }
}

/* first: the first value's place, as its weight's chance is drawn of it */
template <int each> __device__ __forceinline__ void join_pairs(float (&word)[each], const float (&m)[each],
                                                               const float (&v)[each], uint32_t chance, int64_t first)
{
    for (int k = 0; k < each; k++)
        word[k] = __uint_as_float(adam_pair(__float_as_uint(m[k]), __float_as_uint(v[k]),
                                            adam_chance(chance, (uint32_t)first + (uint32_t)k)));
}

/* One block a row; a thread has the same columns throughout. In unit rows the gradient's part along p is taken off, and
 * p gets length 1. dp becomes 0. Streams p, m, v, dp in and out, 32 bytes a parameter, 24 with pairs; with unit rows it
 * goes over the row three times, the later ones in the caches. */
template <int each, bool pairs>
static __global__ void adam_rows(AdamState w, float *dp, int D, AdamStep s)
{
    __shared__ float room[WARP];
    const int64_t at = (int64_t)blockIdx.x*D;
    const float rate = s.rate*s.unbias1, root = sqrtf(s.unbias2);
    float *const p = w.p, *const m = pairs ? (float *)w.pairs : w.m, *const v = w.v;
    float along = 0, square = 0;
    if (s.unit_rows) {
        for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
            float P[each], G[each];
            load_run(P, p + at + d);
            load_run(G, dp + at + d);
            for (int k = 0; k < each; k++)
                along = fmaf(G[k], P[k], along);
        }
        along = block_sum(along, room);
    }
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float P[each], M[each], V[each], G[each];
        load_run(P, p + at + d);
        load_run(M, m + at + d);
        if (pairs)
            part_pairs(M, V, M);
        else
            load_run(V, v + at + d);
        load_run(G, dp + at + d);
        for (int k = 0; k < each; k++) {
            adam_value(P[k], M[k], V[k], s.scale*fmaf(-along, P[k], G[k]), rate, root, s);
            G[k] = 0;
            square = fmaf(P[k], P[k], square);
        }
        store_run(p + at + d, P);
        if (pairs)
            join_pairs(M, M, V, w.chance, w.first + at + d);
        else
            store_run(v + at + d, V);
        store_run(m + at + d, M);
        store_run(dp + at + d, G);
    }
    if (!s.unit_rows)
        return;
    const float length = sqrtf(block_sum(square, room)), r = length > 0 ? 1/length : 0;
    for (int d = threadIdx.x*each; d < D; d += blockDim.x*each) {
        float P[each];
        load_run(P, p + at + d);
        for (int k = 0; k < each; k++)
            P[k] *= r;
        store_run(p + at + d, P);
    }
}

static unsigned row_threads(int D, int each)
{
    return sae_threads((D + each - 1)/each, ROW_THREADS);
}

template <int each> static void launch_adam(const AdamState *w, float *dp, int64_t rows, int D, const AdamStep *step)
{
    if (w->pairs)
        LAUNCH((adam_rows<each, true>), (unsigned)rows, row_threads(D, each), 0, *w, dp, D, *step);
    else
        LAUNCH((adam_rows<each, false>), (unsigned)rows, row_threads(D, each), 0, *w, dp, D, *step);
}

static bool state_by_four(int D, const AdamState *w)
{
    return w->pairs ? sae_by_four(D, w->p, w->pairs) : sae_by_four(D, w->p, w->m, w->v);
}

static void adam(const AdamState *w, float *dp, int64_t rows, int D, const AdamStep *step)
{
    if (!step->unit_rows && rows*D%256 == 0) {  /* each value by itself: rows of any length will do */
        rows = rows*D/256;
        D = 256;
    }
    if (state_by_four(D, w) && sae_by_four(D, dp))
        launch_adam<4>(w, dp, rows, D, step);
    else
        launch_adam<1>(w, dp, rows, D, step);
}

/* ---- along one that is summed as it goes: rows of four values by four ---- */

struct Update {
    double *square;             /* (F) of a feature's two gradients */
    AdamState W[2];             /* W_dec in unit rows, W_enc */
    const float *far[2];        /* (MOST_LONG,D) gradients of long features, by slot */
    LongList list;
    Parts q;
    AdamStep step;
    SaePacked packed;           /* of W_enc's rows; W NULL: none */
};

/* Rows of a feature's weight in a stage: p, m, v, or p and pairs. */
static __host__ __device__ constexpr int state_rows(bool pairs)
{
    return pairs ? 2 : 3;
}

/* This thread's columns of feature f's rows, to shared memory: one group, empty after the last feature. */
template <bool pairs> __device__ __forceinline__ void fetch(float *stage, const Update &u, int f)
{
    const int D = u.q.D;
    for (int d = threadIdx.x*4; d < D && f < u.q.F; d += blockDim.x*4)
        for (int w = 0; w < 2; w++) {
            const int64_t at = (int64_t)f*D + d;
            float *to = stage + state_rows(pairs)*w*D + d;
            copy_async_once(to, u.W[w].p + at);
            if (pairs)
                copy_async_once(to + D, u.W[w].pairs + at);
            else {
                copy_async_once(to + D, u.W[w].m + at);
                copy_async_once(to + 2*D, u.W[w].v + at);
            }
        }
    copy_commit();
}

/* Where a feature's entries are: its slot among the long ones, and for each part the first and how many. A thread of
 * the first warp reads one of them ahead, and lays it down when all are done with what was there. */
typedef int2 Heads[1 + MOST_PARTS];

__device__ __forceinline__ int2 read_head(const Update &u, int f)
{
    const int p = (int)threadIdx.x - 1;
    if (p >= u.q.parts || f >= u.q.F)
        return make_int2(0, 0);
    if (p < 0)
        return make_int2(u.list.slot[f], 0);
    const int count = entries_of(u.q.part[p], f);
    return make_int2(count ? u.q.part[p].start[f] : 0, count);
}

__device__ __forceinline__ void store_packed(const SaePacked &packed, int f, int d, const float (&p)[4])
{
    const int64_t at = (int64_t)f*packed.D_p + d;
    if (packed.type == BF16)
        store_once((uint2 *)((bf16 *)packed.W + at),
                   make_uint2(pack_pair<bf16>(p[0], p[1]), pack_pair<bf16>(p[2], p[3])));
    else
        store_once((float4 *)((float *)packed.W + at), make_float4(p[0], p[1], p[2], p[3]));
}

__device__ __forceinline__ void store_four(float *p, const float (&v)[4])
{
    store_once((float4 *)p, make_float4(v[0], v[1], v[2], v[3]));
}

/* Four values of a weight at `at`, which the stage has with their moments, a step along g; the moments go to memory. */
template <bool pairs> __device__ __forceinline__ void step_four(float (&P)[4], const AdamState &w, int64_t at,
                                                                const float *stage, int D, const float (&g)[4],
                                                                float rate, float root, const AdamStep &s)
{
    float M[4], V[4];
    load_run(P, stage);
    load_run(M, stage + D);
    if (pairs)
        part_pairs(M, V, M);
    else
        load_run(V, stage + 2*D);
    for (int k = 0; k < 4; k++)
        adam_value(P[k], M[k], V[k], g[k], rate, root, s);
    if (pairs) {
        join_pairs(M, M, V, w.chance, w.first + at);
        store_four((float *)w.pairs + at, M);
    } else {
        store_four(w.m + at, M);
        store_four(w.v + at, V);
    }
}

/* Blocks of at most `threads`, `blocks` of them at once on a multiprocessor, take features in turn; a thread has `runs`
 * of four columns. Shared memory: AHEAD stages of both weights' rows. Sums go over a block as adam_rows takes them. */
template <int runs, int threads, int blocks, bool pairs>
static __global__ void __launch_bounds__(threads, blocks) update_rows(Update u)
{
    __shared__ float room[2][WARP];
    __shared__ double room_squares[WARP];
    __shared__ Heads heads[AHEAD];
    __shared__ int next;
    constexpr int ROWS = state_rows(pairs);     /* of a weight */
    float *stages = (float *)shared_memory();
    const int D = u.q.D, lane = threadIdx.x%WARP, warp = threadIdx.x/WARP, warps = blockDim.x/WARP;
    const float rate = u.step.rate*u.step.unbias1, root = sqrtf(u.step.unbias2);
    int f = blockIdx.x, then = f + gridDim.x;
    fetch<pairs>(stages, u, f);
    fetch<pairs>(stages + 2*ROWS*D, u, then);
    if (threadIdx.x <= MOST_PARTS) {
        heads[0][threadIdx.x] = read_head(u, f);
        heads[1][threadIdx.x] = read_head(u, then);
    }
    __syncthreads();
    for (int turn = 0; f < u.q.F; turn ^= 1) {
        float *stage = stages + turn*2*ROWS*D;
        float dec[runs][4] = {}, enc[runs][4] = {}, along = 0, sum = 0, square = 0;
        const int64_t slot = heads[turn][0].x;
        if (threadIdx.x == 0)
            next = atomicAdd(u.list.next, 1) + 2*(int)gridDim.x;
        #pragma unroll
        for (int r = 0; r < runs; r++) {
            const int d = (r*blockDim.x + threadIdx.x)*4;
            if (slot < 0)
                for (int p = 0; p < u.q.parts; p++)
                    add_part<AT_ONCE>(dec[r], enc[r], u.q.part[p], u.q.x, D, d, d < D, heads[turn][1 + p].x,
                                      heads[turn][1 + p].y);
            else if (d < D) {
                load_run(dec[r], u.far[0] + slot*D + d);
                load_run(enc[r], u.far[1] + slot*D + d);
            }
        }
        copy_wait<AHEAD - 1>();
        #pragma unroll
        for (int r = 0; r < runs; r++) {
            const int d = (r*blockDim.x + threadIdx.x)*4;
            float P[4] = {};
            if (d < D)
                load_run(P, stage + d);
            for (int k = 0; k < 4; k++) {
                along = fmaf(dec[r][k], P[k], along);
                sum += dec[r][k]*dec[r][k] + enc[r][k]*enc[r][k];
            }
        }
        along = warp_sum(along);
        const double squares = warp_sum((double)sum);
        if (lane == 0) {
            room[0][warp] = along;
            room_squares[warp] = squares;
        }
        __syncthreads();
        const int after = next;
        const int2 head = threadIdx.x <= MOST_PARTS ? read_head(u, after) : make_int2(0, 0);
        along = warp_sum(lane < warps ? room[0][lane] : 0);
        if (warp == 0) {
            const double all = warp_sum(lane < warps ? room_squares[lane] : 0);
            if (lane == 0)
                u.square[f] = all;
        }
        #pragma unroll
        for (int r = 0; r < runs; r++) {
            const int d = (r*blockDim.x + threadIdx.x)*4;
            const int64_t at = (int64_t)f*D + d;
            float P[4], g[4];
            if (d >= D)
                break;
            load_run(P, stage + d);
            for (int k = 0; k < 4; k++)
                g[k] = u.step.scale*fmaf(-along, P[k], dec[r][k]);
            step_four<pairs>(P, u.W[0], at, stage + d, D, g, rate, root, u.step);
            for (int k = 0; k < 4; k++) {
                square = fmaf(P[k], P[k], square);
                dec[r][k] = P[k];
                g[k] = u.step.scale*enc[r][k];
            }
            step_four<pairs>(P, u.W[1], at, stage + ROWS*D + d, D, g, rate, root, u.step);
            store_four(u.W[1].p + at, P);
            if (u.packed.W)
                store_packed(u.packed, f, d, P);
        }
        fetch<pairs>(stage, u, after);
        square = warp_sum(square);
        if (lane == 0)
            room[1][warp] = square;
        if (threadIdx.x <= MOST_PARTS)
            heads[turn][threadIdx.x] = head;
        __syncthreads();
        const float length = sqrtf(warp_sum(lane < warps ? room[1][lane] : 0)), scale = length > 0 ? 1/length : 0;
        #pragma unroll
        for (int r = 0; r < runs; r++) {
            const int d = (r*blockDim.x + threadIdx.x)*4;
            for (int k = 0; k < 4; k++)
                dec[r][k] *= scale;
            if (d < D)
                store_four(u.W[0].p + (int64_t)f*D + d, dec[r]);
        }
        f = then;
        then = after;
    }
    copy_wait<0>();
}

/* Dynamic shared memory of a block of update_rows. */
static size_t stage_bytes(int D, bool pairs)
{
    return sizeof(float)*AHEAD*2*(size_t)state_rows(pairs)*(size_t)D;
}

/* As many blocks as are at work at once. */
template <int runs, int most_threads, int blocks, bool pairs> static void launch_update(const Update *u)
{
    const unsigned threads = row_threads(u->q.D, 4), at_once = gpu_processors*most_threads*blocks/threads;
    LAUNCH((update_rows<runs, most_threads, blocks, pairs>), at_once < (unsigned)u->q.F ? at_once : (unsigned)u->q.F,
           threads, stage_bytes(u->q.D, pairs), *u);
}

template <bool pairs> static void choose_update(const Update *u)
{
    if (u->q.D <= 1280)
        launch_update<1, 320, 3, pairs>(u);
    else if (u->q.D <= 4*ROW_THREADS)
        launch_update<1, ROW_THREADS, 2, pairs>(u);
    else
        launch_update<2, ROW_THREADS, 1, pairs>(u);
}

static void update_by_four(const AdamState *W_dec, const AdamState *W_enc, double *square, const LongList *list,
                           float *far, const Parts *q, const AdamStep *step, const SaePacked *packed)
{
    float *far_enc = far + (size_t)MOST_LONG*(size_t)q->D;
    const Update u = {square, {*W_dec, *W_enc}, {far, far_enc}, *list, *q, *step, *packed};
    sae_sum_long(far, far_enc, true, list, q, true);
    if (W_dec->pairs)
        choose_update<true>(&u);
    else
        choose_update<false>(&u);
}

/* ---- rows of any width and alignment: PLAIN_ROWS at a time by way of memory ---- */

/* A warp a row: square = |dec|^2 + |enc|^2 */
static __global__ void square_rows(double *square, const float *dec, const float *enc, int rows, int D)
{
    const int f = blockIdx.x*SQUARE_WARPS + threadIdx.x/WARP;
    if (f >= rows)
        return;
    double sum = 0;
    for (int d = threadIdx.x%WARP; d < D; d += WARP) {
        const double g = (double)dec[(int64_t)f*D + d], h = (double)enc[(int64_t)f*D + d];
        sum += g*g + h*h;
    }
    sum = warp_sum(sum);
    if (threadIdx.x%WARP == 0)
        square[f] = sum;
}

static AdamState state_from(const AdamState *w, int64_t at)
{
    AdamState part = {w->p + at, NULL, NULL, NULL, w->chance, w->first + at};
    if (w->pairs)
        part.pairs = w->pairs + at;
    else {
        part.m = w->m + at;
        part.v = w->v + at;
    }
    return part;
}

/* far: room for the two gradients of PLAIN_ROWS features */
static void update_plain(const AdamState *W_dec, const AdamState *W_enc, double *square, const LongList *list,
                         float *far, const Parts *q, const AdamStep *step)
{
    const size_t D = (size_t)q->D;
    float *dec = far, *enc = far + PLAIN_ROWS*D;
    AdamStep unit = *step;
    unit.unit_rows = true;
    gpu_check(cudaMemsetAsync(far, 0, 2*PLAIN_ROWS*D*sizeof *far, gpu_stream));     /* adam leaves zeros */
    for (int from = 0; from < q->F; from += PLAIN_ROWS) {
        const int to = min(from + PLAIN_ROWS, q->F), rows = to - from;
        const int64_t at = (int64_t)from*q->D;
        for (int p = 0; p < q->parts; p++) {
            Parts one = {{q->part[p]}, q->x, 1, 0, q->D};
            one.part[0].from = max(one.part[0].from, from);
            one.F = one.part[0].to = min(one.part[0].to, to);
            if (one.part[0].from < one.F)
                sae_sum_rows(dec - at, enc - at, list, &one);
        }
        LAUNCH(square_rows, gpu_blocks(rows, SQUARE_WARPS), SQUARE_WARPS*WARP, 0, square + from, dec, enc, rows, q->D);
        const AdamState own_dec = state_from(W_dec, at), own_enc = state_from(W_enc, at);
        adam(&own_dec, dec, rows, q->D, &unit);
        adam(&own_enc, enc, rows, q->D, step);
    }
}

static void row_update(double *square, const AdamState *W_dec, const AdamState *W_enc, const CodePart *part, int parts,
                       const float *x, int F, int D, const AdamStep *step, SaeEncoder *encoder)
{
    Parts q = {{}, x, parts, F, D};
    bool by_four = D <= 8*ROW_THREADS
                   && stage_bytes(D, W_dec->pairs) + GPU_OWN_SHARED <= (size_t)gpu_block_shared
                   && state_by_four(D, W_dec) && state_by_four(D, W_enc) && sae_by_four(D, x);
    if (parts > MOST_PARTS)
        gpu_fail(__FILE__, __LINE__, "row_update", "too many parts");
    for (int p = 0; p < parts; p++) {
        q.part[p] = part[p];
        by_four = by_four && sae_by_four(D, part[p].g);
    }
    static_assert((int)PLAIN_ROWS <= (int)MOST_LONG, "one room for both");
    const size_t rows = sizeof(float)*MOST_LONG*(size_t)D, squares = sizeof(double)*(((size_t)F + 1)/2*2);
    char *at = (char *)gpu_scratch(SCRATCH_SAE2, 2*rows + squares + sae_list_bytes(F));
    float *far = (float *)at;
    double *of_rows = (double *)(at + 2*rows);
    const LongList list = sae_list_at(at + 2*rows + squares);
    const SaePacked packed = encoder ? sae_packed(encoder) : SaePacked{NULL, F32, 0};
    if (by_four)
        update_by_four(W_dec, W_enc, of_rows, &list, far, &q, step, &packed);
    else {
        update_plain(W_dec, W_enc, of_rows, &list, far, &q, step);
        if (encoder)
            sae_pack_rows(encoder, W_enc->p);
    }
    sae_join_sum(square, of_rows, F);
}

void cuda_sae_update_ops(SaeOps *ops)
{
    ops->adam = adam;
    ops->row_update = row_update;
}
