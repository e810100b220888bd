/* SPDX-License-Identifier: MIT */
/* sae_hopper.cu -- the encoder's bf16 product (sae_product.cu) by the instructions of compute capability 9.0a.
 *
 *   x (N,D_p) centered   W (tiles*TILE,D_p)   h (N,tiles*TILE)   candidates (N,tiles,keep)
 *
 * One block a multiprocessor goes over the tiles of 128 rows x 256 features, two of TILE side by side, row tiles first:
 * what runs at a time shares a few tiles of W, and x stays in the second-level cache. One thread has the copy engine
 * fill a ring of STAGES stages of 64 columns; two groups of four warps have 64 rows x 256 features each, wgmma 64x256x16
 * from shared memory, one chain of sums over d as everywhere. A group gives a stage back when its products have read
 * it, and chooses its tile's candidates while the other goes on in the ring: the second starts a few stages later, so
 * that both are not choosing at a time.
 *
 * Bound by the arithmetic: a stage takes 1024 cycles, in which 48 KB come and 160 KB are read, of 128 KB a 1024 cycles.
 *
 * Candidates, in registers: a thread has 32 columns of a row of a tile, four threads the row. Of the 8 runs of 16 values
 * the fourth greatest maximum is a bound that 4 values reach and 5 on average; what reaches it goes through shared
 * memory to one of the four threads, which sorts it in. Where a thread has more than ROOM of them (ties, odd numbers,
 * 8 candidates), they are its own largest instead. */
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/sae_largest.h"

enum { ROWS = 128, COLUMNS = 2*TILE, GROUPS = 2, GROUP_ROWS = ROWS/GROUPS, STAGES = 4, LAG = 2 };
enum { THREADS = GROUPS*WARPGROUP + WARP, GROUP_WARPS = WARPGROUP/WARP };
enum { X_BYTES = ROWS*BOX_DEPTH*2, W_BYTES = COLUMNS*BOX_DEPTH*2, STAGE_BYTES = X_BYTES + W_BYTES };
/* of a warp: 4 lists (row, tile) a lane, each with ROOM values */
enum { LISTS = 4, ROOM = 8, LENT = LISTS*ROOM*WARP };
enum { LENT_AT = STAGES*STAGE_BYTES, BARRIERS_AT = LENT_AT + GROUPS*GROUP_WARPS*LENT*4,
       SHARED_BYTES = BOX_ALIGNMENT + BARRIERS_AT + (2*STAGES + 1)*8 };
static_assert(SHARED_BYTES <= 227*1024, "a block's shared memory");

typedef struct Maps { CUtensorMap x, W; } Maps;

#if defined SIMT || !defined __CUDA_ARCH__ || defined __CUDA_ARCH_FEAT_SM90_ALL

/* ---- a tile's end ---- */

/* The fourth greatest of 8 numbers, two in each of four neighbouring lanes. */
__device__ __forceinline__ float fourth_of_8(float a, float b)
{
    const float high = fmaxf(a, b), low = fminf(a, b);
    const float high1 = __shfl_xor_sync(ALL_LANES, high, 1), low1 = __shfl_xor_sync(ALL_LANES, low, 1);
    const float inner = fminf(high, high1), outer = fmaxf(low, low1);
    const float m[4] = {fmaxf(high, high1), fmaxf(inner, outer), fminf(inner, outer), fminf(low, low1)};
    float fourth = INFINITY;
    #pragma unroll
    for (int i = 0; i < 4; i++)         /* of two sorted fours, the 4 greatest are max(m[i], n[3 - i]) */
        fourth = fminf(fourth, fmaxf(m[i], __shfl_xor_sync(ALL_LANES, m[3 - i], 2)));
    return fourth;
}

/* v(c), c < 32: a lane's values of a row of a tile, columns rising. A bit for each that may be among the row's `keep`
 * largest, at most ROOM of them. */
template <int keep, typename Value> __device__ __forceinline__ uint32_t lent_columns(Value v)
{
    uint32_t bits = 0;
    if constexpr (keep == 4) {
        float most[2] = {-INFINITY, -INFINITY};
        #pragma unroll
        for (int c = 0; c < 32; c++)
            most[c/16] = fmaxf(most[c/16], v(c));       /* not a NaN */
        float bound = fourth_of_8(most[0], most[1]);
        bound = bound > -FLT_MAX ? bound : -INFINITY;   /* else what is no number may count */
        #pragma unroll
        for (int c = 0; c < 32; c++)
            bits |= !(v(c) < bound) ? 1u << c : 0;
        if (!__any_sync(ALL_LANES, __popc(bits) > ROOM))
            return bits;
    }
    Largest<keep, true> list;
    list.begin();
    #pragma unroll
    for (int c = 0; c < 32; c++)
        list.insert(number(v(c)), c);
    bits = 0;
    #pragma unroll
    for (int j = 0; j < keep; j++)
        bits |= 1u << list.column[j];
    return bits;
}

/* One of four words, by selection: no array in memory. */
__device__ __forceinline__ uint32_t word_of(const uint32_t (&word)[4], int i)
{
    const uint32_t low = i & 1 ? word[1] : word[0], high = i & 1 ? word[3] : word[2];
    return i & 2 ? high : low;
}

/* A warp's 16 rows of sums, without the bias, the first of them `row`; columns from tile `tile` on. lent: LENT floats of
 * the warp's own. */
template <int keep>
__device__ __forceinline__ void finish_rows(const SaeProduct &p, float (&sum)[128], float *lent, int64_t row,
                                            int64_t N, int tile)
{
    const int lane = threadIdx.x%WARP, place = lane%4;
    const bool both = tile + 1 < p.tiles;               /* of the tiles are there */
    #pragma unroll
    for (int j = 0; j < 32; j++)
        if (j < 16 || both) {
            const float2 bias = *(const float2 *)(p.bias + tile*TILE + 8*j + 2*place);
            sum[4*j] += bias.x;
            sum[4*j + 1] += bias.y;
            sum[4*j + 2] += bias.x;
            sum[4*j + 3] += bias.y;
        }
    if constexpr (keep == 0) {
        float *h = p.h + (row + lane/4)*p.tiles*TILE + tile*TILE + 2*place;
        #pragma unroll
        for (int i = 0; i < 2; i++, h += (int64_t)8*p.tiles*TILE)
            if (row + lane/4 + 8*i < N)
                #pragma unroll
                for (int j = 0; j < 32; j++)
                    if (j < 16 || both)
                        *(float2 *)(h + 8*j) = make_float2(number(sum[4*j + 2*i]), number(sum[4*j + 2*i + 1]));
    } else {
        /* list i is row i%2, tile i/2; a lane's values lie in column lane ^ i of it, so that four lanes which read four
         * lists do so from different banks */
        uint32_t bits[LISTS] = {};
        #pragma unroll
        for (int i = 0; i < LISTS; i++)
            if (i < 2 || both) {
                auto v = [&](int c) { return sum[i/2*64 + c/2*4 + i%2*2 + c%2]; };
                bits[i] = lent_columns<keep>(v);
                float *to = lent + i*ROOM*WARP + (lane ^ i);
                #pragma unroll
                for (int c = 0; c < 32; c++)
                    if (bits[i] >> c & 1) {
                        *to = v(c);
                        to += WARP;
                    }
            }
        __syncwarp();
        Largest<keep, false> list;                      /* of list `place` of this lane's four */
        list.begin();
        #pragma unroll
        for (int d = 0; d < 4; d++) {                   /* from lane ^ d, whose bits[place] that is */
            uint32_t left = __shfl_xor_sync(ALL_LANES, word_of(bits, place ^ d), d);
            const float *from = lent + place*ROOM*WARP + (lane ^ d ^ place);
            for (; left; left &= left - 1, from += WARP) {
                const int c = __ffs((int)left) - 1;
                list.insert(number(*from), c/2*8 + 2*(place ^ d) + c%2);
            }
        }
        const int64_t n = row + lane/4 + place%2*8;
        if (n < N && (place < 2 || both))
            list.write(p, n*p.tiles + tile + place/2);
        __syncwarp();                                   /* read before the next tile's are written */
    }
}

/* ---- the kernel ---- */

/* Where a thread is in the ring. */
struct Ring {
    int stage = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void advance(void)
    {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

template <int keep>
static __global__ void __launch_bounds__(THREADS, 1) product_hopper(const __grid_constant__ Maps maps, SaeProduct p)
{
    unsigned char *shared = shared_memory();
    shared += -shared_address(shared) & (BOX_ALIGNMENT - 1);
    Barrier *full = (Barrier *)(shared + BARRIERS_AT), *empty = full + STAGES, *begun = empty + STAGES;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_create(&full[s], 1);
            barrier_create(&empty[s], GROUPS*GROUP_WARPS);
        }
        barrier_create(begun, GROUP_WARPS);
        barriers_created();
    }
    __syncthreads();

    const int64_t N = p.count ? *p.count : p.N;
    const int row_tiles = (int)((N + ROWS - 1)/ROWS), all = row_tiles*((p.tiles + 1)/2);
    const int steps = (p.D_p + BOX_DEPTH - 1)/BOX_DEPTH, lane = threadIdx.x%WARP;
    /* the same in all lanes, and seen to be by the compiler: wgmma is for whole warps */
    const int warp = __shfl_sync(ALL_LANES, (int)threadIdx.x/WARP, 0), group = warp/GROUP_WARPS;
    Ring at;
    if (group == GROUPS) {
        if (lane == 0)
            for (int t = blockIdx.x; t < all; t += gridDim.x)
                for (int s = 0; s < steps; s++, at.advance()) {
                    unsigned char *to = shared + at.stage*STAGE_BYTES;
                    barrier_wait(&empty[at.stage], at.parity ^ 1);
                    barrier_expect(&full[at.stage], STAGE_BYTES);
                    copy_box(to, &maps.x, t%row_tiles*ROWS, s*BOX_DEPTH, &full[at.stage]);
                    copy_box(to + X_BYTES, &maps.W, t/row_tiles*COLUMNS, s*BOX_DEPTH, &full[at.stage]);
                }
        return;
    }
    float *lent = (float *)(shared + LENT_AT) + warp*LENT;
    const int lag = steps < LAG ? steps : LAG;
    for (int t = blockIdx.x; t < all; t += gridDim.x) {
        const bool first = t == (int)blockIdx.x;
        const int64_t row = (int64_t)(t%row_tiles)*ROWS + group*GROUP_ROWS;
        if (row >= N) {                                 /* nothing for this group */
            for (int s = 0; s < steps; s++, at.advance()) {
                barrier_wait(&full[at.stage], at.parity);
                if (lane == 0)
                    barrier_arrive(&empty[at.stage]);
            }
            continue;
        }
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
                product_64x256(sum, A + 2*k, B + 2*k, s > 0 || k > 0);
            products_commit();
            products_wait<1>();                         /* the stage before is read */
            if (s > 0 && lane == 0)
                barrier_arrive(&empty[(at.stage + STAGES - 1)%STAGES]);
            if (first && group == 0 && s + 1 == lag && lane == 0)
                barrier_arrive(begun);
        }
        products_finish(sum);
        if (lane == 0)
            barrier_arrive(&empty[(at.stage + STAGES - 1)%STAGES]);
        finish_rows<keep>(p, sum, lent, row + warp%GROUP_WARPS*16, N, t/row_tiles*2);
    }
}

#else

/* The dispatcher starts it on capability 9 alone; other code in this file is there for devices of other kinds to load. */
template <int keep> static __global__ void product_hopper(const __grid_constant__ Maps, SaeProduct)
{
    __trap();
}

#endif

/* ---- starting it ---- */

typedef decltype(&cuTensorMapEncodeTiled) Encode;

/* The driver's function; NULL where it has none. */
static Encode tensor_map_encode(void)
{
    static void *function;
    static bool looked;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    if (!looked && (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                                     &found) != cudaSuccess
                    || found != cudaDriverEntryPointSuccess))
        function = NULL;
    looked = true;
    return (Encode)function;
}

bool sae_hopper_wanted(void)
{
    const char *wish = getenv("SDSTEER_CUDA_KERNELS");
    return gpu_capability == 9 && !(wish && strcmp(wish, "portable") == 0) && tensor_map_encode();
}

/* A matrix (rows,D_p) of bf16, copied by boxes of box_rows x BOX_DEPTH. */
static void map_matrix(CUtensorMap *map, const void *p, int64_t rows, int D_p, int box_rows)
{
    const cuuint64_t size[2] = {(cuuint64_t)D_p, (cuuint64_t)rows}, pitch[1] = {(cuuint64_t)D_p*2};
    const cuuint32_t box[2] = {BOX_DEPTH, (cuuint32_t)box_rows}, every[2] = {1, 1};
    const CUresult status = tensor_map_encode()(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, (void *)p, size, pitch, box,
                                                every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS)
        gpu_fail(__FILE__, __LINE__, "cuTensorMapEncodeTiled", "a matrix that it does not take");
}

template <int keep> static void launch(const SaeProduct *p)
{
    Maps maps;
    map_matrix(&maps.x, p->x, p->N, p->D_p, ROWS);
    map_matrix(&maps.W, p->W, (int64_t)p->tiles*TILE, p->D_p, COLUMNS);
    const int64_t all = (p->N + ROWS - 1)/ROWS*((p->tiles + 1)/2);
    LAUNCH(product_hopper<keep>, (unsigned)min(all, (int64_t)gpu_processors), THREADS, SHARED_BYTES, maps, *p);
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
