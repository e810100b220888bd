/* SPDX-License-Identifier: MIT */
/* sae_hopper.cu -- the encoder's bf16 product (sae_product.cu) by the instructions of compute capability 9.0a.
 *
 *   x (N,D_p) centered   W (tiles*TILE,D_p)   h (N,tiles*TILE)   candidates (N,tiles,keep)
 *
 * One block a multiprocessor goes over the tiles of 128 rows x 256 features, two of TILE side by side, row tiles first:
 * what runs at a time shares a few tiles of W, and x stays in the second-level cache. One thread has the copy engine
 * fill a ring of STAGES stages of 64 columns; two groups of four warps have 64 rows x 256 features each: wgmma
 * 64x256x16, one chain of sums over d as everywhere. A group gives a stage back when its products have read it, and
 * chooses its tile's candidates while the other goes on in the ring: the second starts a few stages later, so that both
 * are not choosing at a time.
 *
 * The blocks of a cluster have neighbouring row tiles of the same features; each fetches its part of W for all, and a
 * stage is empty when all have read it. The last row tiles may be without rows. Where there is but one row tile, each
 * block has features of its own and fetches all of their W.
 *
 * A stage takes 1024 cycles of arithmetic, in which 48 KB come to shared memory and 80 KB are read there, of the 128 KB
 * that it moves in that time. 48 KB take the second-level cache 1800 cycles (27 bytes a cycle and multiprocessor of an
 * H100), which is what bounds blocks on their own; of two that share W each has 32 KB come out of it.
 * The candidates are chosen in registers: sae_hopper_choose.h. */
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/sae_hopper_choose.h"
#include "kernels/cuda/wgmma.h"

enum { ROWS = 128, COLUMNS = 2*TILE, GROUPS = 2, GROUP_ROWS = ROWS/GROUPS, STAGES = 4, LAG = 2, SHARING = 2 };
enum { THREADS = GROUPS*WARPGROUP + WARP };
enum { X_BYTES = ROWS*BOX_DEPTH*2, W_BYTES = COLUMNS*BOX_DEPTH*2, STAGE_BYTES = X_BYTES + W_BYTES };
/* a warp's LENT_BYTES: the bias of the tiles, then what choose puts there */
enum { LENT_AT = STAGES*STAGE_BYTES, BARRIERS_AT = LENT_AT + GROUPS*GROUP_WARPS*LENT_BYTES,
       SHARED_BYTES = BOX_ALIGNMENT + BARRIERS_AT + (2*STAGES + 1)*8 };
static_assert(SHARED_BYTES <= 227*1024, "a block's shared memory");

typedef struct Maps { CUtensorMap x, W; } Maps;

#if defined SIMT || !defined __CUDA_ARCH__ || defined __CUDA_ARCH_FEAT_SM90_ALL

/* A warp's 16 rows of sums; lent begins with the bias of their columns, and is the warp's own. */
template <int keep>
__device__ __forceinline__ void finish_rows(const SaeProduct &p, float (&sum)[128], float *lent, int64_t row,
                                            int64_t N, int tile)
{
    const int lane = threadIdx.x%WARP, place = lane%4;
    const bool both = tile + 1 < p.tiles;               /* of the tiles are there */
    copy_wait<0>();
    __syncwarp();
    #pragma unroll
    for (int j = 0; j < 32; j++) {
        const float2 bias = *(const float2 *)(lent + 8*j + 2*place);
        sum[4*j] += bias.x;
        sum[4*j + 1] += bias.y;
        sum[4*j + 2] += bias.x;
        sum[4*j + 3] += bias.y;
    }
    __syncwarp();
    if constexpr (keep > 0) {
        choose<keep>(p, sum, (float2 *)lent, row, N, tile, both);
    } else {
        float *h = p.h + (row + lane/4)*p.tiles*TILE + tile*TILE + 2*place;
        #pragma unroll
        for (int i = 0; i < 2; i++, h += (int64_t)8*p.tiles*TILE)
            if (row + lane/4 + 8*i < N)
                #pragma unroll
                for (int j = 0; j < 32; j++)
                    if (j < 16 || both)
                        *(float2 *)(h + 8*j) = make_float2(number(sum[4*j + 2*i]), number(sum[4*j + 2*i + 1]));
    }
}

/* ---- the kernel ---- */

template <int keep>
static __global__ void __launch_bounds__(THREADS, 1) product_hopper(const __grid_constant__ Maps maps, SaeProduct p)
{
    unsigned char *shared = box_memory();
    Barrier *full = (Barrier *)(shared + BARRIERS_AT), *empty = full + STAGES, *begun = empty + STAGES;
    const int64_t N = p.count ? *p.count : p.N;
    const int row_tiles = (int)((N + ROWS - 1)/ROWS);
    const int sharing = row_tiles > 1 ? (int)SHARING : 1;       /* so many blocks share W */
    const unsigned rank = cluster_rank(), mine = sharing == SHARING ? rank : 0;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_create(&full[s], 1);
            barrier_create(&empty[s], sharing*GROUPS*GROUP_WARPS);
        }
        barrier_create(begun, GROUP_WARPS);
        barriers_created();
    }
    cluster_meet<SHARING>();

    /* step t: `sharing` row tiles from t%row_steps*sharing on, columns from t/row_steps*COLUMNS on */
    const int row_steps = (row_tiles + sharing - 1)/sharing, all = row_steps*((p.tiles + 1)/2);
    const int begin = blockIdx.x/sharing, stride = gridDim.x/sharing;
    const int steps = (p.D_p + BOX_DEPTH - 1)/BOX_DEPTH, lane = threadIdx.x%WARP;
    const int warp = warp_number(), group = warp/GROUP_WARPS;
    Ring<STAGES> at;
    if (group == GROUPS) {
        if (lane > 0)
            return;
        const unsigned ranks = sharing == SHARING ? (1u << SHARING) - 1 : 1u << rank;
        for (int t = begin; t < all; t += stride)
            for (int s = 0; s < steps; s++, at.advance()) {
                unsigned char *to = shared + at.stage*STAGE_BYTES;
                barrier_wait(&empty[at.stage], at.parity ^ 1);
                barrier_expect(&full[at.stage], STAGE_BYTES);
                copy_box(to, &maps.x, (t%row_steps*sharing + mine)*ROWS, s*BOX_DEPTH, &full[at.stage]);
                for (unsigned i = mine; i < SHARING; i += sharing)
                    multicast_box(to + X_BYTES + i*W_BYTES/SHARING, &maps.W, t/row_steps*COLUMNS + i*COLUMNS/SHARING,
                                  s*BOX_DEPTH, &full[at.stage], ranks);
            }
        for (int s = 0; s < STAGES; s++, at.advance())    /* others may still arrive here */
            barrier_wait(&empty[at.stage], at.parity ^ 1);
        return;
    }
    auto read = [&](int stage) {                        /* by this warp: said to each that fills it */
        if (lane < sharing)
            barrier_arrive_at(&empty[stage], sharing == SHARING ? lane : rank);
    };
    float *lent = (float *)(shared + LENT_AT + warp*LENT_BYTES);
    const int lag = steps < LAG ? steps : LAG;
    for (int t = begin; t < all; t += stride) {
        const bool first = t == begin;
        const int64_t row = (int64_t)(t%row_steps*sharing + mine)*ROWS + group*GROUP_ROWS;
        if (row >= N) {                                 /* nothing for this group */
            for (int s = 0; s < steps; s++, at.advance()) {
                barrier_wait(&full[at.stage], at.parity);
                read(at.stage);
            }
            continue;
        }
        const int tile = t/row_steps*2;
        for (int i = 0; i < 2; i++) {
            const bool there = tile + i < p.tiles;
            copy_async(lent + i*TILE + lane*4, p.bias + (there ? tile + i : 0)*TILE + lane*4, there);
        }
        copy_commit();
        float sum[128];
        if (first && group > 0)
            barrier_wait(begun, 0);
        for (int s = 0; s < steps; s++, at.advance()) {
            const unsigned char *x = shared + at.stage*STAGE_BYTES;
            const uint64_t A = operand(x + group*GROUP_ROWS*BOX_DEPTH*2), B = operand(x + X_BYTES);
            barrier_wait(&full[at.stage], at.parity);
            products_begin();
            #pragma unroll
            for (int k = 0; k < BOX_DEPTH/16; k++)
                product_64<bf16, COLUMNS>(sum, A + 2*k, B + 2*k, s > 0 || k > 0);
            products_commit();
            products_wait<1>();                         /* the stage before is read */
            if (s > 0)
                read(at.before());
            if (first && group == 0 && s + 1 == lag && lane == 0)
                barrier_arrive(begun);
        }
        products_finish(sum);
        read(at.before());
        finish_rows<keep>(p, sum, lent, row + warp%GROUP_WARPS*16, N, tile);
    }
}

#else

/* It is started on compute capability 9 alone; this is there for devices of other kinds to load. */
template <int keep> static __global__ void product_hopper(const __grid_constant__ Maps, SaeProduct)
{
    __trap();
}

#endif

/* ---- starting it ---- */

/* A matrix (rows,D_p) of bf16, copied by boxes of box_rows x BOX_DEPTH. */
static void map_matrix(CUtensorMap *map, const void *p, int64_t rows, int D_p, int box_rows)
{
    const int64_t size[] = {D_p, rows};
    const int box[] = {BOX_DEPTH, box_rows};
    tensor_map(map, BF16, 2, p, size, box);
}

template <int keep> static void launch(const SaeProduct *p)
{
    Maps maps;
    map_matrix(&maps.x, p->x, p->N, p->D_p, ROWS);
    map_matrix(&maps.W, p->W, (int64_t)p->tiles*TILE, p->D_p, COLUMNS/SHARING);
    static const int clusters = gpu_clusters(product_hopper<keep>, SHARING, THREADS, SHARED_BYTES);
    const int64_t all = (p->N + SHARING*ROWS - 1)/(SHARING*ROWS)*((p->tiles + 1)/2);
    watch_begin(__FILE__);
    LAUNCH_CLUSTERS((product_hopper<keep>), SHARING, (unsigned)min(all, (int64_t)clusters)*SHARING, THREADS,
                    SHARED_BYTES, maps, *p);
}

void sae_hopper_product(const SaeProduct *p, int keep)
{
    if (keep == 4)
        launch<4>(p);
    else if (keep == 8)
        launch<8>(p);
    else
        launch<0>(p);
}
