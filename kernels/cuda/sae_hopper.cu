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
 * Bound by the arithmetic: a stage takes 1024 cycles, in which 48 KB come to shared memory and 80 KB are read there,
 * of the 128 KB that it moves in that time.
 *
 * Candidates, in registers: a thread has 32 columns of a row of a tile, four threads the row. Of its 2*keep runs of
 * columns the keep-th greatest maximum is a bound that `keep` values reach and few more do, 5 of 128 on average where
 * keep is 4. Pairs of neighbours that reach it go through shared memory to one of the four threads, which sorts them.
 * Where there are more than POOL of them (ties, what is no number), the row's largest are found one after another. */
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/sae_largest.h"

enum { ROWS = 128, COLUMNS = 2*TILE, GROUPS = 2, GROUP_ROWS = ROWS/GROUPS, STAGES = 4, LAG = 2 };
enum { THREADS = GROUPS*WARPGROUP + WARP, GROUP_WARPS = WARPGROUP/WARP };
enum { X_BYTES = ROWS*BOX_DEPTH*2, W_BYTES = COLUMNS*BOX_DEPTH*2, STAGE_BYTES = X_BYTES + W_BYTES };
/* of a warp: 4 lists (row, tile) in four lanes, each of POOL pairs; before them the bias of the tiles */
enum { LISTS = 4, POOL = 16, LENT_BYTES = POOL*WARP*8 };
enum { LENT_AT = STAGES*STAGE_BYTES, BARRIERS_AT = LENT_AT + GROUPS*GROUP_WARPS*LENT_BYTES,
       SHARED_BYTES = BOX_ALIGNMENT + BARRIERS_AT + (2*STAGES + 1)*8 };
static_assert(SHARED_BYTES <= 227*1024, "a block's shared memory");

typedef struct Maps { CUtensorMap x, W; } Maps;

#if defined SIMT || !defined __CUDA_ARCH__ || defined __CUDA_ARCH_FEAT_SM90_ALL

/* ---- a tile's end ---- */

/* v(c), c < 32: a lane's values of a row of a tile, columns rising, here and below. A number that at least `keep` of
 * the row's values reach; -INFINITY where what is no number may count among them. */
template <int keep, typename Value> __device__ __forceinline__ float bound_of(Value v)
{
    constexpr int runs = keep/2;                        /* of this lane */
    auto order = [](float &a, float &b) {
        const float low = fminf(a, b);
        a = fmaxf(a, b);
        b = low;
    };
    float m[keep];
    #pragma unroll
    for (int i = 0; i < runs; i++)
        m[i] = -INFINITY;
    #pragma unroll
    for (int c = 0; c < 32; c++)
        m[c*runs/32] = fmaxf(m[c*runs/32], v(c));       /* not a NaN */
    #pragma unroll
    for (int i = 0; i < runs; i++)
        #pragma unroll
        for (int j = i + 1; j < runs; j++)
            order(m[i], m[j]);
    #pragma unroll
    for (int i = 0; i < runs; i++)                      /* falling, then the neighbour's rising: a bitonic merge */
        m[runs + i] = __shfl_xor_sync(ALL_LANES, m[runs - 1 - i], 1);
    #pragma unroll
    for (int step = runs; step; step /= 2)
        #pragma unroll
        for (int i = 0; i < keep; i++)
            if (!(i & step))
                order(m[i], m[i + step]);
    float bound = INFINITY;
    #pragma unroll
    for (int i = 0; i < keep; i++)                      /* the greatest of two falling runs: max(m[i], n[keep-1-i]) */
        bound = fminf(bound, fmaxf(m[i], __shfl_xor_sync(ALL_LANES, m[keep - 1 - i], 2)));
    return bound > -FLT_MAX ? bound : -INFINITY;
}

/* A lane's 16 pairs of a row of a tile, by bits 4j (+ the lane's place among its four, once they are put together). */
struct Pairs {
    uint32_t low, high;

    __device__ __forceinline__ void add(int j)
    {
        if (j < 8)
            low |= 1u << j*4;
        else
            high |= 1u << (j - 8)*4;
    }

    __device__ __forceinline__ unsigned count(void) const
    {
        return (unsigned)(__popc(low) + __popc(high));
    }
};

template <typename Value> __device__ __forceinline__ Pairs pairs_reaching(float bound, Value v)
{
    Pairs pairs = {};
    #pragma unroll
    for (int j = 0; j < 16; j++)
        if (!(v(2*j) < bound) || !(v(2*j + 1) < bound))
            pairs.add(j);
    return pairs;
}

/* Those in which the row's `keep` largest lie, one after another of four lanes' own. */
template <int keep, typename Value> __device__ __forceinline__ Pairs largest_pairs(Value v)
{
    const int place = threadIdx.x%4;
    Largest<keep, true> list;
    Pairs pairs = {};
    list.begin();
    #pragma unroll
    for (int c = 0; c < 32; c++)
        list.insert(number(v(c)), c/2*8 + 2*place + c%2);
    for (int n = 0; n < keep; n++) {
        float most = list.value[0];
        int column = list.column[0];
        for (int step = 1; step < 4; step *= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, most, step);
            const int there = __shfl_xor_sync(ALL_LANES, column, step);
            if (Largest<keep, false>::before(other, there, most, column)) {
                most = other;
                column = there;
            }
        }
        if (column == list.column[0]) {                 /* this lane's, and no other's */
            pairs.add(column/8);
            #pragma unroll
            for (int j = 0; j + 1 < keep; j++) {
                list.value[j] = list.value[j + 1];
                list.column[j] = list.column[j + 1];
            }
            list.value[keep - 1] = -INFINITY;
            list.column[keep - 1] = -1;
        }
    }
    return pairs;
}

/* One of four, by selection: no array in memory. */
template <typename T> __device__ __forceinline__ T one_of(const T (&v)[4], int i)
{
    const T low = i & 1 ? v[1] : v[0], high = i & 1 ? v[3] : v[2];
    return i & 2 ? high : low;
}

__device__ __forceinline__ uint32_t byte_of(uint32_t word, int i)
{
    return word >> 8*i & 255;
}

/* Four numbers, a byte each: their sums over the lanes of a four, and over those before this one. */
__device__ __forceinline__ uint32_t sums_of_four(uint32_t mine, uint32_t *before)
{
    const int place = threadIdx.x%4;
    const uint32_t beside = __shfl_xor_sync(ALL_LANES, mine, 1), two = mine + beside;
    const uint32_t across = __shfl_xor_sync(ALL_LANES, two, 2);
    *before = (place & 1 ? beside : 0) + (place & 2 ? across : 0);
    return two + across;
}

/* The bits of all lanes of a four, each lane's at its place. */
__device__ __forceinline__ uint32_t put_together(uint32_t bits)
{
    bits <<= threadIdx.x%4;
    bits |= __shfl_xor_sync(ALL_LANES, bits, 1);
    return bits | __shfl_xor_sync(ALL_LANES, bits, 2);
}

/* The candidates of a warp's 16 rows of h, the first of them `row`, in tiles `tile` and, with both, the next. List i is
 * row i%2 of a lane's two, tile i/2. */
template <int keep>
__device__ __forceinline__ void choose(const SaeProduct &p, const float (&h)[128], float2 *lent, int64_t row, int64_t N,
                                       int tile, bool both)
{
    const int lane = threadIdx.x%WARP, place = lane%4;
    float bound[LISTS];
    Pairs pairs[LISTS];
    uint32_t mine = 0, before;
    #pragma unroll
    for (int i = 0; i < LISTS; i++)
        bound[i] = bound_of<keep>([&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
    #pragma unroll
    for (int i = 0; i < LISTS; i++) {
        pairs[i] = pairs_reaching(bound[i], [&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
        mine |= pairs[i].count() << 8*i;
    }
    const uint32_t all = sums_of_four(mine, &before);
    if (__any_sync(ALL_LANES, ((all + (127 - POOL)*0x01010101u) & 0x80808080u) != 0)) {   /* a byte above POOL */
        mine = 0;
        #pragma unroll
        for (int i = 0; i < LISTS; i++) {
            if (__any_sync(ALL_LANES, byte_of(all, i) > POOL))
                pairs[i] = largest_pairs<keep>([&](int c) { return h[i/2*64 + c/2*4 + i%2*2 + c%2]; });
            mine |= pairs[i].count() << 8*i;
        }
        sums_of_four(mine, &before);
    }

    /* list i lies in column i of the four's own, one lane's pairs behind another's */
    uint32_t low[LISTS], high[LISTS];
    #pragma unroll
    for (int i = 0; i < LISTS; i++) {
        float2 *to = lent + byte_of(before, i)*WARP + (lane - place + i);
        #pragma unroll
        for (int j = 0; j < 16; j++)
            if ((j < 8 ? pairs[i].low >> j*4 : pairs[i].high >> (j - 8)*4) & 1) {
                const float *pair = &h[i/2*64 + j*4 + i%2*2];
                *to = make_float2(pair[0], pair[1]);
                to += WARP;
            }
        low[i] = put_together(pairs[i].low);
        high[i] = put_together(pairs[i].high);
    }
    uint32_t next = 0;                                  /* where the pairs of each lane go on, in this lane's list */
    #pragma unroll
    for (int q = 0; q < 4; q++)
        next |= byte_of(__shfl_sync(ALL_LANES, before, lane - place + q), place) << 8*q;
    __syncwarp();
    Largest<keep, true> list;
    list.begin();
    const float least = one_of(bound, place);
    for (uint64_t left = (uint64_t)one_of(high, place) << 32 | one_of(low, place); left; left &= left - 1) {
        const int bit = __ffsll((long long)left) - 1, q = bit%4, column = 2*bit;        /* 8*(bit/4) + 2*q */
        const float2 pair = lent[byte_of(next, q)*WARP + lane];
        const float x = number(pair.x), y = number(pair.y);
        next += 1u << 8*q;
        list.insert(fmaxf(x, y), column + (y > x));
        if (fminf(x, y) >= least)
            list.insert(fminf(x, y), column + !(y > x));
    }
    const int64_t n = row + lane/4 + place%2*8;
    if (n < N && (place < 2 || both))
        list.write(p, n*p.tiles + tile + place/2);
    __syncwarp();                                       /* read before the next tile's are written */
}

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
    float *lent = (float *)(shared + LENT_AT + warp*LENT_BYTES);
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
        const int tile = t/row_tiles*2;
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
