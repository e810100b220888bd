/* SPDX-License-Identifier: MIT */
/* clusters.cc -- small kernels of clusters and of products, and the same with mistakes in them, for
 * tests/unit/cluster_simt.c: what hopper.h and wgmma.h have, and what is refused when it is played. */
#include "kernels/cuda/wgmma.h"
#include "tests/simt/clusters.h"

/* ---- sums over a cluster, read from each other's shared memory ---- */

/* y[block, round] = sum over the cluster's blocks of x[block, round], x in block-sized runs of threads. The slots are
 * two: a block may be a round ahead when another still reads. */
static __global__ void join_sums(float *y, const float *x, int blocks, int rounds, Mistake mistake)
{
    float *slot = (float *)shared_memory(), *room = slot + 2;
    const unsigned rank = cluster_rank();
    const int64_t n = thread_number();
    if (mistake == SHARED_VARIABLE) {
        __shared__ float one;
        one = x[0];
        y[0] = one;
    }
    for (int r = 0; r < rounds; r++) {
        const float sum = block_sum(x[n*rounds + r], room);
        float *mine = &slot[mistake == ONE_SLOT ? 0 : r%2];
        if (threadIdx.x == 0)
            *mine = sum;
        if (mistake == LATE_WARP && rank == 1 && threadIdx.x >= WARP)
            return;
        if (mistake != NO_ARRIVAL)
            cluster_arrive();
        if (mistake == TWO_ARRIVALS)
            cluster_arrive();
        cluster_wait();
        float all = 0;
        for (int b = 0; b < blocks; b++)
            all += load_at(mine, mistake == OTHER_CLUSTER ? blocks : b);
        if (threadIdx.x == 0)
            y[blockIdx.x*rounds + r] = all;
    }
    if (mistake != NO_END)
        cluster_arrive();
    if (mistake != NO_END && mistake != NO_WAIT)
        cluster_wait();
}

void simt_join_sums(float *y, const float *x, int blocks, int clusters, int rounds, Mistake mistake)
{
    const int grid = blocks*clusters + (mistake == ODD_GRID);
    LAUNCH_CLUSTERS(join_sums, blocks, (unsigned)grid, JOIN_THREADS, (2 + WARP)*sizeof(float), y, x, blocks, rounds,
                    mistake);
}

/* ---- a ring of stages, part of each from every block of the cluster ---- */

enum { STAGES = 2, PART_ROWS = 8, PART_BYTES = PART_ROWS*BOX_DEPTH*2, CONSUMERS = 2 };

/* y[block] = sum_k of the products of x[block*PART_ROWS, k] and the sum over all rows of W[., k]: exact for small whole
 * numbers, where all of what a stage should hold does. x (all blocks' PART_ROWS, steps*BOX_DEPTH), W (blocks*PART_ROWS,
 * the same); each block fetches its x and PART_ROWS rows of W, those for all. */
static __global__ void ring(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap W_map,
                            float *y, int blocks, int steps, Mistake mistake)
{
    unsigned char *shared = shared_memory();
    shared += -shared_address(shared) & (BOX_ALIGNMENT - 1);
    const unsigned rank = cluster_rank();
    const int stage_bytes = (blocks + 1)*PART_BYTES, lane = threadIdx.x%WARP, warp = threadIdx.x/WARP;
    Barrier *full = (Barrier *)(shared + STAGES*stage_bytes), *empty = full + STAGES;
    float *sums = (float *)(empty + STAGES);            /* of the warps */
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_create(&full[s], 1);
            barrier_create(&empty[s], mistake == OWN_ARRIVALS ? CONSUMERS : blocks*CONSUMERS);
        }
        if (mistake != NOT_SHOWN)
            barriers_created();
    }
    if (mistake == NO_BEGIN) {
        __syncthreads();
    } else {
        cluster_arrive();
        cluster_wait();
    }
    if (warp == CONSUMERS) {
        for (int s = 0; s < steps && lane == 0; s++) {
            unsigned char *to = shared + s%STAGES*stage_bytes;
            const unsigned all = (1u << blocks) - 1;
            barrier_wait(&empty[s%STAGES], s/STAGES%2 ^ 1);
            barrier_expect(&full[s%STAGES], stage_bytes);
            copy_box(to, &x_map, blockIdx.x*PART_ROWS, s*BOX_DEPTH, &full[s%STAGES]);
            multicast_box(to + (1 + rank)*PART_BYTES, &W_map, rank*PART_ROWS, s*BOX_DEPTH, &full[s%STAGES],
                          mistake == OUTSIDE ? all + 1 : all);
        }
        __syncwarp();
    } else {
        float sum = 0;
        for (int s = 0; s < steps; s++) {
            unsigned char *stage = shared + s%STAGES*stage_bytes;
            auto value = [&](int row, int column) {
                const int at = row*BOX_DEPTH*2 + column*2;
                return to_float(*(bf16 *)(stage + (at ^ (at >> 7 & 7) << 4)));
            };
            barrier_wait(&full[s%STAGES], s/STAGES%2);
            const int column = warp*WARP + lane;
            float W = 0;
            for (int r = 0; r < blocks*PART_ROWS; r++)
                W += value(PART_ROWS + r, column);
            sum += value(0, column)*W;
            __syncwarp();
            if (lane == 0)
                for (int b = 0; b < (mistake == OWN_ARRIVALS ? 1 : blocks); b++)
                    barrier_arrive_at(&empty[s%STAGES], mistake == OWN_ARRIVALS ? rank : b);
        }
        sum = warp_sum(sum);
        if (lane == 0)
            sums[warp] = sum;
    }
    if (mistake == NO_END) {
        __syncthreads();
    } else {
        cluster_arrive();
        cluster_wait();
    }
    if (threadIdx.x == 0)
        y[blockIdx.x] = sums[0] + sums[1];
}

static CUtensorMap map_of(const uint16_t *p, int rows, int columns, int box_rows, int dimensions = 2)
{
    CUtensorMap map;
    const cuuint64_t line = (cuuint64_t)columns*2, all = line*(cuuint64_t)rows, pitch[3] = {line, all, all};
    const cuuint64_t size[4] = {(cuuint64_t)columns, (cuuint64_t)rows, 1, 1};
    const cuuint32_t box[4] = {BOX_DEPTH, (cuuint32_t)box_rows, 1, 1}, every[4] = {1, 1, 1, 1};
    if (cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, dimensions, (void *)p, size, pitch, box, every,
                               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
        simt_fail("no map of (%d,%d)", rows, columns);
    return map;
}

void simt_ring(float *y, const uint16_t *x, const uint16_t *W, int blocks, int clusters, int steps, Mistake mistake)
{
    const CUtensorMap x_map = map_of(x, clusters*blocks*PART_ROWS, steps*BOX_DEPTH, PART_ROWS),
                      W_map = map_of(W, blocks*PART_ROWS, steps*BOX_DEPTH, PART_ROWS);
    LAUNCH_CLUSTERS(ring, blocks, (unsigned)(blocks*clusters), (CONSUMERS + 1)*WARP,
                    BOX_ALIGNMENT + STAGES*((blocks + 1)*PART_BYTES + 2*sizeof(Barrier)) + CONSUMERS*sizeof(float),
                    x_map, W_map, y, blocks, steps, mistake);
}

/* ---- products of a ring's stages ---- */

enum { LEFT_BYTES = PRODUCT_ROWS*BOX_DEPTH*2, STAGE_BYTES = LEFT_BYTES + PRODUCT_COLUMNS*BOX_DEPTH*2 };

/* One group of warps, and one that copies. */
static __global__ void multiply(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap W_map,
                                float *y, int steps, Mistake mistake)
{
    unsigned char *shared = box_memory();
    const int lane = threadIdx.x%WARP, warp = warp_number();
    Barrier *full = (Barrier *)(shared + STAGES*STAGE_BYTES), *empty = full + STAGES;
    Ring<STAGES> at;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_create(&full[s], 1);
            barrier_create(&empty[s], GROUP_WARPS);
        }
        barriers_created();
    }
    __syncthreads();
    if (warp == GROUP_WARPS) {
        for (int s = 0; s < steps && lane == 0; s++, at.advance()) {
            unsigned char *to = shared + at.stage*STAGE_BYTES;
            barrier_wait(&empty[at.stage], at.parity ^ 1);
            barrier_expect(&full[at.stage], STAGE_BYTES);
            copy_box(to, &x_map, 0, s*BOX_DEPTH, &full[at.stage]);
            copy_box(to + LEFT_BYTES, &W_map, 0, s*BOX_DEPTH, &full[at.stage]);
        }
        return;
    }
    float sum[PRODUCT_COLUMNS/2];
    for (int s = 0; s < steps; s++, at.advance()) {
        const unsigned char *x = shared + at.stage*STAGE_BYTES;
        const uint64_t A = operand(x), B = operand(mistake == OTHER_OPERAND && warp == 2 ? x : x + LEFT_BYTES);
        if (mistake != NOT_AWAITED)
            barrier_wait(&full[at.stage], at.parity);
        if (mistake != NO_FENCE || s == 0)
            products_begin(sum);
        for (int k = 0; k < BOX_DEPTH/16; k++)
            product_64<bf16, PRODUCT_COLUMNS>(sum, A + 2*k, B + 2*k, s > 0 || k > 0);
        products_commit();
        if (mistake == GIVEN_BACK_EARLY && lane == 0)
            barrier_arrive(&empty[at.stage]);
        products_finish(sum);
        if (mistake != GIVEN_BACK_EARLY && lane == 0)
            barrier_arrive(&empty[at.stage]);
    }
    for (int i = 0; i < PRODUCT_COLUMNS/2; i++)
        y[(warp*16 + lane/4 + i%4/2*8)*PRODUCT_COLUMNS + i/4*8 + lane%4*2 + i%2] = sum[i];
}

void simt_product(float *y, const uint16_t *x, const uint16_t *W, int steps, Mistake mistake)
{
    const CUtensorMap x_map = map_of(x, PRODUCT_ROWS, steps*BOX_DEPTH, PRODUCT_ROWS),
                      W_map = map_of(W, PRODUCT_COLUMNS, steps*BOX_DEPTH, PRODUCT_COLUMNS);
    LAUNCH(multiply, 1, WARPGROUP + WARP, BOX_ALIGNMENT + STAGES*(STAGE_BYTES + 2*sizeof(Barrier)), x_map, W_map, y,
           steps, mistake);
}

/* ---- boxes to memory ---- */

/* One warp. A row of a box is 8 parts of 16 bytes, turned by the row. */
static __global__ void two_boxes(const __grid_constant__ CUtensorMap y_map, Mistake mistake)
{
    enum { BOX_BYTES = BOX_ROWS*BOX_DEPTH*2, PARTS = BOX_BYTES/16 };
    unsigned char *shared = box_memory();
    const int lane = threadIdx.x%WARP;
    auto write = [&](int part) {
        const int row = part/8;
        uint16_t value[8];
        for (int i = 0; i < 8; i++)
            value[i] = (uint16_t)(part*8 + i);
        memcpy(shared + (part*16 ^ (row%8 << 4)), value, sizeof value);
    };
    for (int part = lane; part < PARTS; part += WARP)
        write(part);
    if (mistake == WRITTEN_LATE)
        show_written();
    for (int part = PARTS + lane; part < 2*PARTS; part += WARP)
        write(part);
    if (mistake == NO_MISTAKE)
        show_written();
    __syncwarp();
    if (lane == 0) {
        for (int b = 0; b < 2; b++)
            store_box(&y_map, Place{{0, b*BOX_ROWS, 0, 0}}, shared + b*BOX_BYTES);
        stores_commit();
        stores_read<0>();
    }
    __syncwarp();
}

void simt_two_boxes(uint16_t *y, Mistake mistake)
{
    const CUtensorMap y_map = map_of(y, 2*BOX_ROWS, BOX_DEPTH, BOX_ROWS, 4);
    LAUNCH(two_boxes, 1, WARP, BOX_ALIGNMENT + 2*BOX_ROWS*BOX_DEPTH*2, y_map, mistake);
}
