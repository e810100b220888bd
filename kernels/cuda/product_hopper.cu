/* SPDX-License-Identifier: MIT */
/* product_hopper.cu -- the product of product.h by the instructions of compute capability 9.0a: halves in, stride 1.
 *
 *     y[m,o] = act(sum_k x[m,k] w[o,k] + bias[o])   or   y += that   or   (sum_a + bias_a) gelu(sum_b + bias_b)
 *
 * One block a multiprocessor goes over tiles: a box of output points (x, y, b) by columns. One thread has the copy
 * engine fill a ring of stages: for a tap and 64 channels the points' box of the input, moved by the tap (what lies
 * outside the image, and channels beyond the last, come as zeros), and as many of the weights. Blocks of a cluster that
 * have the same points fetch a part of them each for all, and so with weights. Groups of four warps multiply by wgmma,
 * 64 rows and all columns an instruction. Sums get their bias and more in registers, and go out by the copy engine in
 * boxes of 16 rows by at most 128 bytes; it adds to y too, so that y is not read here but brought to the second-level
 * cache, and leaves out points that are not there. The loads of the next tile go on meanwhile, and the second group
 * goes a few stages behind the first, so that one multiplies while the other stores.
 *
 * Same bytes: a sum goes over taps, then channels, 16 at a time in rising order, whatever the tile; so the tile is
 * chosen by the shape and by time (product_tile.cu). Where it is made of slices, each is a sum of its own, and they are
 * added in order: by one thread that makes one after the other, or by blocks of a cluster that have one each.
 *
 * 256 x 160: a step of 64 takes the tensor cores 1280 cycles, in which 52 KB come to shared memory and 112 KB are read
 * there, of the 160 KB that it moves in that time. Widths of Stable Diffusion are multiples of 160, not of 256. */
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/product_finish.h"
#include "kernels/cuda/product_tile.h"

#if defined SIMT || !defined __CUDA_ARCH__ || defined __CUDA_ARCH_FEAT_SM90_ALL

/* Among the blocks that share what they fetch. */
template <typename Tile> __device__ __forceinline__ int rank_of(void)
{
    return Tile::sharing > 1 ? (int)cluster_rank() : 0;
}

/* Steps of a sum that a block makes; in slices each is of so many, but the last. */
struct Steps {
    int each, first, end;

    template <typename Tile, int slices> __device__ __forceinline__ static Steps of(const HopperProduct &p)
    {
        const int all = p.kernel*p.kernel*p.channel_boxes, each = (all + slices - 1)/slices;
        const int slice = Tile::split > 1 ? (int)cluster_rank() : 0;
        return {each, slice*each, Tile::split > 1 ? min(all, (slice + 1)*each) : all};
    }
};

/* A box to the blocks whose rank's bit is set, which are more than this one where shared. */
template <bool shared>
__device__ __forceinline__ void copy_for(unsigned ranks, void *to, const CUtensorMap *map, const Place &p, Barrier *b)
{
    if constexpr (shared)
        multicast_box(to, map, p, b, ranks);
    else
        copy_box(to, map, p, b);
}

/* The thread that has the ring filled. */
template <typename Tile, Finish finish, int slices>
__device__ __forceinline__ void fill_ring(const HopperProduct &p, unsigned char *stages,
                                          typename Tile::BarriersOf *barriers)
{
    constexpr int made = made_columns<Tile, finish>, x_part = Tile::rows/Tile::across, w_part = made/Tile::down;
    constexpr bool x_shared = Tile::across > 1, w_shared = Tile::down > 1;
    constexpr unsigned one_row = (1 << Tile::across) - 1, one_column = Tile::down > 1 ? 1 | 1 << Tile::across : 1;
    static_assert(Tile::down <= 2, "one_column");
    const int rank = rank_of<Tile>(), rank_row = rank/Tile::across, rank_column = rank%Tile::across;
    const unsigned row = one_row << rank_row*Tile::across, column = one_column << rank_column;
    const Steps steps = Steps::of<Tile, slices>(p);
    const int all = p.row_runs*p.column_runs;
    Ring<Tile::stages> at;
    for (int t = blockIdx.x/Tile::cluster; t < all; t += gridDim.x/Tile::cluster) {
        const TilePlace place(p, t, Tile::across, Tile::down, rank);
        const Place x = place.point(p, rank_column*x_part, 0);
        const int first = place.column*made, w_first = first + rank_row*w_part;
        int held = p.add && steps.first == 0 ? 0 : (int)HELD_PARTS, step = 0;
        for (int r = 0, tap = 0; r < p.kernel; r++)
            for (int s = 0; s < p.kernel; s++, tap++)
                for (int c = 0; c < p.channel_boxes*BOX_DEPTH; c += BOX_DEPTH) {
                    step++;
                    if (Tile::split > 1 && (step <= steps.first || step > steps.end))
                        continue;
                    unsigned char *const stage = stages + at.stage*Tile::stage_bytes;
                    unsigned char *const to = stage + rank_column*x_part*BOX_DEPTH*2;
                    unsigned char *const w = stage + Tile::x_bytes + rank_row*w_part*BOX_DEPTH*2;
                    const Place moved = {{c, x.at[1] + s - p.pad, x.at[2] + r - p.pad, x.at[3]}};
                    Barrier *b = &barriers->full[at.stage];
                    barrier_wait(&barriers->empty[at.stage], at.parity ^ 1);    /* wherever this thread copies to */
                    barrier_expect(b, Tile::stage_bytes);
                    copy_for<x_shared>(row, to, &p.x, moved, b);
                    copy_for<w_shared>(column, w, &p.w, Place{{c, tap, w_first, 0}}, b);
                    if (finish == GATED)
                        copy_for<w_shared>(column, w + Tile::w_bytes/2, &p.w,
                                           Place{{c, tap, p.out/2 + w_first, 0}}, b);
                    for (; held < HELD_PARTS && held*steps.end < HELD_PARTS*step; held++)
                        prefetch_box(&p.held, place.point(p, held*(Tile::rows/HELD_PARTS), first));
                    at.advance();
                }
    }
}

/* A warp has read a stage: said to all blocks that copy to it, those of the same rows and of the same columns. */
template <typename Tile> __device__ __forceinline__ void give_back(Barrier *empty)
{
    const int lane = threadIdx.x%WARP;
    if constexpr (Tile::sharing > 1) {
        const int rank = rank_of<Tile>(), row = rank/Tile::across, column = rank%Tile::across;
        const int other = lane - Tile::across;          /* of the other rows */
        if (lane < Tile::writers)
            barrier_arrive_at(empty, (unsigned)(other < 0 ? row*Tile::across + lane
                                                          : (other + (other >= row))*Tile::across + column));
    } else if (lane == 0) {
        barrier_arrive(empty);
    }
}

/* The first block of a cluster gets the others' sums, each by the thread that has the same; the cluster meets here. */
template <typename Tile> __device__ __forceinline__ void hand_over(float (&sum)[Tile::columns/2], float *handed)
{
    constexpr int apart = Tile::warps*WARP;
    float *const mine = handed + threadIdx.x;
    const unsigned rank = cluster_rank();
    if (rank > 0)
        #pragma unroll
        for (int i = 0; i < Tile::columns/2; i++)
            mine[i*apart] = sum[i];
    cluster_meet<Tile::cluster>();
    if (rank > 0)
        return;
    for (unsigned r = 1; r < Tile::split; r++)
        #pragma unroll
        for (int i = 0; i < Tile::columns/2; i++)
            sum[i] += load_at(&mine[i*apart], r);
}

/* A group's part of all tiles. X: of x and w. T: of y. */
template <typename Tile, typename X, typename T, Finish finish, int slices>
__device__ __forceinline__ void multiply_tiles(const HopperProduct &p, unsigned char *rooms, unsigned char *stages,
                                               int warp, typename Tile::BarriersOf *barriers)
{
    Barrier *const full = barriers->full, *const empty = barriers->empty;
    const int lane = threadIdx.x%WARP, group = warp/GROUP_WARPS, first_row = group*Tile::deep*64;
    constexpr bool folds = slices > 1 && Tile::split == 1;      /* all slices are made here, and added */
    const Steps of_sum = Steps::of<Tile, slices>(p);
    const int steps = of_sum.end - of_sum.first, all = p.row_runs*p.column_runs, rank = rank_of<Tile>();
    const int lag = Tile::groups > 1 ? min(steps, (int)(finish == GATED ? Tile::long_lag : Tile::lag)) : 0;
    static_assert(!folds || Tile::deep == 1, "registers");
    unsigned char *room = rooms + warp*Tile::room_bytes;
    Ring<Tile::stages> at;
    bool begins = true;
    unsigned parity = 0;                /* of the tile's number */
    for (int t = blockIdx.x/Tile::cluster; t < all; t += gridDim.x/Tile::cluster, begins = false, parity ^= 1) {
        float sum[Tile::deep][Tile::columns/2], before[folds ? Tile::columns/2 : 1] = {};
        const TilePlace place(p, t, Tile::across, Tile::down, rank);
        const int first = place.column*made_columns<Tile, finish>;
        TileBias<made_columns<Tile, finish>, finish> bias;
        if (!folds)                                     /* which has no registers left */
            bias.load(p, first);
        if (begins && lag > 0 && group > 0)
            barrier_wait(&barriers->begun, 0);
        auto multiply_stage = [&](int s, bool begun) {
            const unsigned char *x = stages + at.stage*Tile::stage_bytes;
            const uint64_t A = operand(x + first_row*BOX_DEPTH*2), B = operand(x + Tile::x_bytes);
            barrier_wait(&full[at.stage], at.parity);
            products_begin();
            #pragma unroll
            for (int k = 0; k < BOX_DEPTH/16; k++)
                #pragma unroll
                for (int d = 0; d < Tile::deep; d++)
                    product_64<X, Tile::columns>(sum[d], A + d*(64*BOX_DEPTH*2/16) + 2*k, B + 2*k, begun || k > 0);
            products_commit();
            products_wait<1>();                         /* the stage before is read */
            if (s > 0)
                give_back<Tile>(&empty[at.before()]);
            if (begins && group == 0 && s + 1 == lag && lane == 0)
                barrier_arrive(&barriers->begun);
        };
        if constexpr (folds) {
            int next = of_sum.each;                     /* slice, where it begins */
            #pragma unroll 1                            /* what is unrolled has no registers for `before` */
            for (int s = 0; s < steps; s++, at.advance()) {
                const bool begins_slice = s == next;
                if (begins_slice) {
                    products_finish(sum[0]);
                    #pragma unroll
                    for (int i = 0; i < Tile::columns/2; i++)
                        before[i] = s == of_sum.each ? sum[0][i] : before[i] + sum[0][i];
                    hold(before);
                    next += of_sum.each;
                }
                multiply_stage(s, s > 0 && !begins_slice);
            }
        } else {
            for (int s = 0; s < steps; s++, at.advance())
                multiply_stage(s, s > 0);
        }
        #pragma unroll
        for (int d = 0; d < Tile::deep; d++)
            products_finish(sum[d]);
        if constexpr (folds)
            if (steps > of_sum.each)
                #pragma unroll
                for (int i = 0; i < Tile::columns/2; i++)
                    sum[0][i] = before[i] + sum[0][i];
        if (folds)
            bias.load(p, first);
        if constexpr (Tile::split > 1) {
            hand_over<Tile>(sum[0], (float *)(rooms + Tile::handed_at));
            if (cluster_rank() > 0)
                break;                                  /* each cluster has one tile */
        }
        if (Tile::lent_bytes > 0) {
            if (lane == 0)
                barrier_arrive(&barriers->read[group]);
            barrier_wait(&barriers->read[group], parity);
        }
        const int row = warp%GROUP_WARPS*16;
        finish_tile<Tile, T, finish>(p, sum, bias, place, first_row + row, first, room,
                                     stages + at.before()*Tile::stage_bytes + (first_row + row)*BOX_DEPTH*2,
                                     [&] { give_back<Tile>(&empty[at.before()]); });
    }
    if (lane == 0)
        stores_read<0>();
    __syncwarp();
}

template <typename Tile, typename X, typename T, Finish finish, int slices>
static __global__ void __launch_bounds__(Tile::threads, 1) multiply(const __grid_constant__ HopperProduct p)
{
    unsigned char *shared = box_memory();
    unsigned char *stages = shared + Tile::stages_at;
    typename Tile::BarriersOf *barriers = (typename Tile::BarriersOf *)(shared + Tile::barriers_at);
    if (threadIdx.x == 0) {
        prefetch_map(&p.x);
        prefetch_map(&p.w);
        prefetch_map(&p.y);
        for (int s = 0; s < Tile::stages; s++) {
            barrier_create(&barriers->full[s], 1);
            barrier_create(&barriers->empty[s], Tile::writers*Tile::warps);
        }
        barrier_create(&barriers->begun, GROUP_WARPS);
        for (int g = 0; g < Tile::groups; g++)
            barrier_create(&barriers->read[g], GROUP_WARPS);
        barriers_created();
    }
    cluster_meet<Tile::cluster>();

    const int warp = warp_number();
    if (warp >= Tile::warps) {
        if constexpr (Tile::shares)
            registers_give<Tile::left>();
        if (threadIdx.x == Tile::warps*WARP)
            fill_ring<Tile, finish, slices>(p, stages, barriers);
        __syncwarp();
        if constexpr (Tile::split > 1)
            cluster_meet<Tile::cluster>();              /* as in hand_over() */
    } else {
        if constexpr (Tile::shares)
            registers_take<Tile::registers>();
        multiply_tiles<Tile, X, T, finish, slices>(p, shared, stages, warp, barriers);
    }
    if constexpr (Tile::cluster > 1)
        cluster_meet<Tile::cluster>();                  /* what others send or say here has come */
}

#else

/* It is started on compute capability 9 alone; this is there for devices of other kinds to load. */
template <typename Tile, typename X, typename T, Finish finish, int slices>
static __global__ void multiply(const __grid_constant__ HopperProduct)
{
    __trap();
}

#endif

/* ---- starting it ---- */

template <typename Tile, typename X, typename T, Finish finish, int slices = 1> static void launch(const Product *p)
{
    constexpr int made = made_columns<Tile, finish>;
    const Cover c = product_cover(p, Tile::rows);
    const Cover part = product_part(c, Tile::across);
    const int taps = p->kernel*p->kernel, columns = finish == GATED ? p->out/2 : p->out;
    const int64_t B = p->M/((int64_t)p->Ho*p->Wo);
    const int64_t x_size[] = {p->in, p->W, p->H, B}, w_size[] = {p->in, taps, p->out, 1};
    const int64_t y_size[] = {columns, p->Wo, p->Ho, B};
    const int x_box[] = {BOX_DEPTH, 1 << part.log_w, 1 << part.log_h, 1 << part.log_b};
    const int w_box[] = {BOX_DEPTH, 1, made/Tile::down, 1};
    const int w16 = min(c.log_w, 4), h16 = min(c.log_h, 4 - w16);
    const int y_box[] = {box_columns<Tile, T, finish>, 1 << w16, 1 << h16, 1 << (4 - w16 - h16)};
    const Cover held = product_part(c, HELD_PARTS);
    const int held_box[] = {made, 1 << held.log_w, 1 << held.log_h, 1 << held.log_b};
    HopperProduct h = {};
    tensor_map(&h.x, dtype_of<X>, 4, p->x, x_size, x_box);
    tensor_map(&h.w, dtype_of<X>, 4, p->w, w_size, w_box);
    tensor_map(&h.y, dtype_of<T>, 4, p->y, y_size, y_box);
    if (p->add)
        tensor_map(&h.held, dtype_of<T>, 4, p->y, y_size, held_box);
    h.bias = p->bias;
    h.out = p->out;
    h.kernel = p->kernel;
    h.pad = p->pad;
    h.channel_boxes = (p->in + BOX_DEPTH - 1)/BOX_DEPTH;
    h.log_w = c.log_w;
    h.log_h = c.log_h;
    h.log_b = c.log_b;
    h.across = (int)c.across;
    h.down = (int)c.down;
    h.row_runs = (int)((c.across*c.down*c.images + Tile::down - 1)/Tile::down);
    h.column_runs = product_columns(columns, made)/Tile::across;
    h.by_band = Divider::by(BAND*h.column_runs);
    h.by_rest = Divider::by(h.row_runs%BAND ? h.row_runs%BAND : 1);
    h.by_across = Divider::by(h.across);
    h.by_down = Divider::by(h.down);
    h.act = p->act;
    h.add = p->add;
    static int clusters;                        /* that run at a time; with a tile each, all that there are */
    if (clusters == 0)
        clusters = Tile::split > 1 ? INT32_MAX/Tile::split : Tile::cluster == 1 ? gpu_processors
                 : gpu_clusters(multiply<Tile, X, T, finish, slices>, Tile::cluster, Tile::threads, Tile::shared_bytes);
    const int64_t all = (int64_t)h.row_runs*h.column_runs;
    watch_begin(__FILE__);
    LAUNCH_CLUSTERS((multiply<Tile, X, T, finish, slices>), Tile::cluster,
                    (unsigned)min(all, (int64_t)clusters)*Tile::cluster, Tile::threads, Tile::shared_bytes, h);
}

#define AS(X, y, finish, ...) launch<Tile<__VA_ARGS__>, X, y, finish>
#define IN_SLICES(X, y, ...) launch<Tile<__VA_ARGS__>, X, y, PLAIN, SLICES>
#define EACH_PLAIN(X, ...) \
    {AS(X, float, PLAIN, __VA_ARGS__), AS(X, X, PLAIN, __VA_ARGS__), AS(X, f16, PLAIN, __VA_ARGS__)}
#define EACH_ACTIVATED(X, ...) {AS(X, float, ACTIVATED, __VA_ARGS__), AS(X, X, ACTIVATED, __VA_ARGS__)}
#define EACH_SLICED(X, ...) \
    {IN_SLICES(X, float, __VA_ARGS__), IN_SLICES(X, X, __VA_ARGS__), IN_SLICES(X, f16, __VA_ARGS__)}
#define PLAINLY(X, ...) {EACH_PLAIN(X, __VA_ARGS__), {}, NULL, {}}
#define ACTIVATING(X, ...) {EACH_PLAIN(X, __VA_ARGS__), EACH_ACTIVATED(X, __VA_ARGS__), NULL, {}}
#define GATING(X, ...) {EACH_PLAIN(X, __VA_ARGS__), {}, AS(X, X, GATED, __VA_ARGS__), {}}
#define GATING_AND_SLICING(X, ...) \
    {EACH_PLAIN(X, __VA_ARGS__), {}, AS(X, X, GATED, __VA_ARGS__), EACH_SLICED(X, __VA_ARGS__)}
#define SLICING(X, ...) {{}, {}, NULL, EACH_SLICED(X, __VA_ARGS__)}
#define BOTH(makes, ...) {makes(bf16, __VA_ARGS__), makes(f16, __VA_ARGS__)}

const ProductTile product_tiles[] = {
    {256, 160, 2, 1, 1, BOTH(GATING,             2, 2, 160, 2, 1)},
    {256, 160, 1, 1, 1, BOTH(GATING,             2, 2, 160, 1, 1)},
    {256, 128, 2, 1, 1, BOTH(PLAINLY,            2, 2, 128, 2, 1)},
    {256, 128, 1, 2, 1, BOTH(PLAINLY,            2, 2, 128, 1, 2)},
    {128, 160, 2, 1, 1, BOTH(GATING_AND_SLICING, 2, 1, 160, 2, 1)},
    {128, 160, 1, 1, 1, BOTH(GATING_AND_SLICING, 2, 1, 160, 1, 1)},
    {128, 80,  2, 1, 1, BOTH(PLAINLY,            2, 1, 80, 2, 1)},
    {128, 80,  1, 1, 1, BOTH(ACTIVATING,         2, 1, 80, 1, 1)},
    {128, 80,  1, 1, SLICES, BOTH(SLICING,       2, 1, 80, 1, 1, SLICES)},
    {64,  160, 1, 2, 1, BOTH(GATING,             1, 1, 160, 1, 2)},
    {64,  160, 1, 1, 1, BOTH(GATING,             1, 1, 160, 1, 1)},
    {64,  80,  2, 1, 1, BOTH(PLAINLY,            1, 1, 80, 2, 1)},
    {64,  80,  1, 1, 1, BOTH(ACTIVATING,         1, 1, 80, 1, 1)},
    {64,  80,  1, 1, SLICES, BOTH(SLICING,       1, 1, 80, 1, 1, SLICES)},
    {64,  32,  4, 1, 1, BOTH(PLAINLY,            1, 1, 32, 4, 1)},
    {64,  32,  1, 1, 1, BOTH(PLAINLY,            1, 1, 32, 1, 1)},
};
const int product_tile_count = sizeof product_tiles/sizeof *product_tiles;
