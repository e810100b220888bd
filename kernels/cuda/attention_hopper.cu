/* SPDX-License-Identifier: MIT */
/* attention_hopper.cu -- attention (attention.cu has the formula) by the instructions of compute capability 9.0a: bf16
 * or f16 in and out, f32 scores and sums, heads of 40, 64, 80 and 160.
 *
 * One block a multiprocessor goes over tiles: 128 or 192 queries of one head of one image. One thread has the copy
 * engine fill rings of keys and of values, 128 a stage (64 for heads of 160; 80 of a text, whose 77 tokens would leave
 * two fifths of 128 empty), and the queries, of the next tile early where there is room. To it a matrix is (d, heads,
 * rows, images), so that what lies beyond a head or an image comes as zeros: heads of 40 are multiplied as 48
 * wide in q k^T, 40 in p v. A group of four warps has 64 queries, a warp 16; the scores come in registers, and p goes
 * from there into the second product, whose other side, the values, lies in shared memory with its columns along
 * memory. The scores of the next keys and p v of these are asked for together, and the softmax of those scores is made
 * while p v is under way; groups take turns in asking, so that while one makes its softmax another's products run.
 * (Shah et al. 2024, arXiv 2407.08608, section 3.)
 *
 * A query's sums run over its keys in order, a stage at a time from key 0, whatever else is in the batch, and whichever
 * group has it. Bound by exp for heads of 40: 64 queries by 128 keys take 512 cycles of it, of products 352. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/wgmma.h"

enum { GROUP_ROWS = 64, WARP_ROWS = GROUP_ROWS/GROUP_WARPS, ROW_BYTES = BOX_DEPTH*2 };

/* groups: of four warps. A row lies as `parts` rows of 64 columns, in boxes one after another. */
template <int d_, int groups_, int keys_> struct Tile {
    static constexpr int d = d_, groups = groups_, keys = keys_, rows = groups*GROUP_ROWS;
    static constexpr int parts = (d + BOX_DEPTH - 1)/BOX_DEPTH, depth = (d + 15)/16*16;
    static constexpr int warps = groups*GROUP_WARPS, threads = warps*WARP + WARPGROUP;
    static constexpr int registers = groups == 2 ? 232 : 160, left = groups == 2 ? 40 : 32;     /* of 65536 */
    static constexpr int q_part = GROUP_ROWS*ROW_BYTES, q_bytes = parts*q_part;         /* of a group */
    static constexpr int key_part = keys*ROW_BYTES, key_bytes = parts*key_part;         /* of a stage, and values too */
    static constexpr int room_part = WARP_ROWS*ROW_BYTES, room_bytes = parts*room_part; /* of a warp, for y */
    static constexpr int fit(int tiles)                 /* stages beside the queries of so many tiles */
    {
        return (227*1024 - BOX_ALIGNMENT - tiles*groups*q_bytes - warps*room_bytes - 512)/(2*key_bytes);
    }
    static constexpr int q_stages = fit(2) >= 2 ? 2 : 1, stages = fit(q_stages) < 4 ? fit(q_stages) : 4;
    static constexpr int k_at = q_stages*groups*q_bytes, v_at = k_at + stages*key_bytes;
    static constexpr int rooms_at = v_at + stages*key_bytes;
    static constexpr int barriers_at = rooms_at + warps*room_bytes;
    struct Barriers {
        Barrier q_full[q_stages][groups], q_empty[q_stages][groups];
        Barrier turn[groups];           /* the group before has asked for its products */
        Barrier k_full[stages], k_empty[stages], v_full[stages], v_empty[stages];
    };
    static constexpr int shared_bytes = BOX_ALIGNMENT + barriers_at + (int)sizeof(Barriers);
    static_assert(stages >= 2 && sizeof(Barriers) <= 512 && shared_bytes <= 227*1024, "a block's shared memory");
    static_assert(registers_suffice(threads, groups, registers, left), "a block's registers");
};

typedef struct HopperAttention {
    CUtensorMap q, k, v, y;             /* (d,heads,rows,images) by 64 queries, a stage's keys, and a warp's queries */
    const int32_t *kv_index;
    int heads, Sk, row_tiles, tiles;    /* row_tiles: to a head of an image */
    Divider by_row_tiles, by_heads;
    float scale;                        /* times log2 e */
} HopperAttention;

#if defined SIMT || !defined __CUDA_ARCH__ || defined __CUDA_ARCH_FEAT_SM90_ALL

struct TilePlace {
    int row, head, image;

    __device__ __forceinline__ TilePlace(const HopperAttention &a, int t, int rows)
    {
        const int of_image = a.by_row_tiles.of(t);
        image = a.by_heads.of(of_image);
        row = (t - of_image*a.row_tiles)*rows;
        head = of_image - image*a.heads;
    }
};

/* A stage of keys or values, when it is empty. */
template <typename Tile>
__device__ __forceinline__ void fill_stage(unsigned char *ring, const CUtensorMap *map, const TilePlace &place, int row,
                                           Barrier *full, Barrier *empty, Ring<Tile::stages> &at)
{
    unsigned char *const to = ring + at.stage*Tile::key_bytes;
    barrier_wait(&empty[at.stage], at.parity ^ 1);
    barrier_expect(&full[at.stage], Tile::key_bytes);
    #pragma unroll
    for (int c = 0; c < Tile::parts; c++)
        copy_box(to + c*Tile::key_part, map, Place{{c*BOX_DEPTH, place.head, row, place.image}}, &full[at.stage]);
    at.advance();
}

/* The thread that has the copy engine fill all. Keys come one stage ahead of values, as they are used. */
template <typename Tile>
__device__ __forceinline__ void fill(const HopperAttention &a, unsigned char *shared, typename Tile::Barriers *b)
{
    const int steps = (a.Sk + Tile::keys - 1)/Tile::keys;
    Ring<Tile::stages> k_at, v_at;
    Ring<Tile::q_stages> q_at;
    for (int t = blockIdx.x; t < a.tiles; t += gridDim.x, q_at.advance()) {
        const TilePlace place(a, t, Tile::rows);
        TilePlace of_keys = place;
        if (a.kv_index)
            of_keys.image = a.kv_index[place.image];
        for (int s = 0; s <= steps; s++) {
            if (s < steps)
                fill_stage<Tile>(shared + Tile::k_at, &a.k, of_keys, s*Tile::keys, b->k_full, b->k_empty, k_at);
            for (int g = 0; s == 0 && g < Tile::groups; g++) {
                Barrier *const full = &b->q_full[q_at.stage][g];
                barrier_wait(&b->q_empty[q_at.stage][g], q_at.parity ^ 1);
                barrier_expect(full, Tile::q_bytes);
                for (int c = 0; c < Tile::parts; c++)
                    copy_box(shared + (q_at.stage*Tile::groups + g)*Tile::q_bytes + c*Tile::q_part, &a.q,
                             Place{{c*BOX_DEPTH, place.head, place.row + g*GROUP_ROWS, place.image}}, full);
            }
            if (s > 0)
                fill_stage<Tile>(shared + Tile::v_at, &a.v, of_keys, (s - 1)*Tile::keys, b->v_full, b->v_empty, v_at);
        }
    }
}

/* s = q k^T */
template <typename T, typename Tile>
__device__ __forceinline__ void multiply_keys(float (&s)[Tile::keys/2], const unsigned char *q, const unsigned char *k)
{
    #pragma unroll
    for (int i = 0; i < Tile::depth/16; i++)
        product_64<T, Tile::keys>(s, operand(q + i/4*Tile::q_part) + i%4*2, operand(k + i/4*Tile::key_part) + i%4*2,
                                  i > 0);
    products_commit();
}

/* o += p v, or = p v where not add */
template <typename T, typename Tile>
__device__ __forceinline__ void multiply_values(float (&o)[Tile::d/2], const uint32_t (&p)[Tile::keys/4],
                                                const unsigned char *v, bool add)
{
    /* columns beyond 64 have a part of their own; where there are none, the offset is not looked at */
    const uint64_t B = operand_across(v, Tile::parts > 1 ? Tile::key_part : 8*ROW_BYTES);
    #pragma unroll
    for (int i = 0; i < Tile::keys/16; i++)
        product_left<T, Tile::d>(o, p + 4*i, B + i*ROWS_16, add || i > 0);
    products_commit();
}

/* Of the lane's two rows, 8 apart. */
struct Rows {
    float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};     /* of scores times a.scale; the lane's part of p's */

    /* p in place of a stage's scores; keep: what sums made so far are to be multiplied by. Keys from `visible` on are
     * not there; it is at least 1. */
    template <int n>
    __device__ __forceinline__ void softmax(float (&s)[n], float (&keep)[2], float scale, int visible)
    {
        float found[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}}, part[2] = {};
        if (visible < 2*n) {
            const int mine = visible - threadIdx.x%4*2;
            #pragma unroll
            for (int i = 0; i < n; i++)
                if (i/4*8 + i%2 >= mine)
                    s[i] = -INFINITY;
        }
        #pragma unroll
        for (int i = 0; i < n; i++)
            found[i/2%2][i%2] = fmaxf(found[i/2%2][i%2], s[i]);
        #pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = fmaxf(found[half][0], found[half][1]);
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
            most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
            const float now = fmaxf(top[half], most*scale);
            keep[half] = power_of_2(top[half] - now);
            top[half] = now;
        }
        #pragma unroll
        for (int i = 0; i < n; i++) {
            s[i] = power_of_2(fmaf(s[i], scale, -top[i/2%2]));
            part[i/2%2] += s[i];
        }
        #pragma unroll
        for (int half = 0; half < 2; half++)
            sum[half] = fmaf(sum[half], keep[half], part[half]);
    }
};

/* What one product leaves in registers is what the next one takes. */
template <typename T, int n> __device__ __forceinline__ void pack(uint32_t (&p)[n/2], const float (&s)[n])
{
    #pragma unroll
    for (int i = 0; i < n/2; i++)
        p[i] = pack_pair<T>(s[2*i], s[2*i + 1]);
}

/* A warp's y = o/l; room: its own. */
template <typename T, typename Tile>
__device__ __forceinline__ void finish_rows(const HopperAttention &a, const float (&o)[Tile::d/2], const Rows &rows,
                                            unsigned char *room, const TilePlace &place, int row)
{
    const int lane = threadIdx.x%WARP;
    float over[2];
    #pragma unroll
    for (int half = 0; half < 2; half++) {
        float l = rows.sum[half];
        l += __shfl_xor_sync(ALL_LANES, l, 1);
        l += __shfl_xor_sync(ALL_LANES, l, 2);
        over[half] = 1/l;
    }
    if (lane == 0)
        stores_read<0>();               /* of the tile before */
    __syncwarp();
    #pragma unroll
    for (int c = 0; c < Tile::parts; c++) {
        unsigned char *const box = room + c*Tile::room_part, *const to = box + lane/4*ROW_BYTES + lane%4*4;
        #pragma unroll
        for (int j = c*BOX_DEPTH/8; j < Tile::d/8 && j < (c + 1)*BOX_DEPTH/8; j++)
            #pragma unroll
            for (int half = 0; half < 2; half++)
                *(uint32_t *)(to + half*8*ROW_BYTES + ((j%8 ^ lane/4) << 4))
                    = pack_pair<T>(o[4*j + 2*half]*over[half], o[4*j + 2*half + 1]*over[half]);
        show_written();
        __syncwarp();
        if (lane == 0) {
            store_box(&a.y, Place{{c*BOX_DEPTH, place.head, row, place.image}}, box);
            stores_commit();
        }
    }
}

/* A group's part of all tiles. */
template <typename T, typename Tile>
__device__ __forceinline__ void attend_tiles(const HopperAttention &a, unsigned char *shared, int warp,
                                             typename Tile::Barriers *b)
{
    const int lane = threadIdx.x%WARP, group = warp/GROUP_WARPS, steps = (a.Sk + Tile::keys - 1)/Tile::keys;
    const unsigned char *const k = shared + Tile::k_at;
    const unsigned char *const v = shared + Tile::v_at;
    unsigned char *const room = shared + Tile::rooms_at + warp*Tile::room_bytes;
    Barrier *const mine = &b->turn[group], *const next = &b->turn[(group + 1)%Tile::groups];
    Ring<Tile::stages> k_at, v_at;
    Ring<Tile::q_stages> q_at;
    unsigned turn = group == 0;                 /* the first group begins unasked */
    auto arrive = [&](Barrier *barrier) {
        if (lane == 0)
            barrier_arrive(barrier);
    };
    for (int t = blockIdx.x; t < a.tiles; t += gridDim.x, q_at.advance()) {
        const TilePlace place(a, t, Tile::rows);
        const unsigned char *const q = shared + (q_at.stage*Tile::groups + group)*Tile::q_bytes;
        Barrier *const q_empty = &b->q_empty[q_at.stage][group];
        float s[Tile::keys/2], o[Tile::d/2], keep[2];
        uint32_t p[Tile::keys/4];
        Rows rows;
        barrier_wait(&b->q_full[q_at.stage][group], q_at.parity);
        barrier_wait(&b->k_full[k_at.stage], k_at.parity);
        barrier_wait(mine, turn);
        products_begin(s);
        multiply_keys<T, Tile>(s, q, k + k_at.stage*Tile::key_bytes);
        arrive(next);
        products_finish(s);
        if (steps == 1)
            arrive(q_empty);
        arrive(&b->k_empty[k_at.stage]);
        k_at.advance();
        rows.softmax(s, keep, a.scale, a.Sk);
        pack<T>(p, s);
        if (steps > 1)
            barrier_wait(&b->k_full[k_at.stage], k_at.parity);
        for (int step = 1; step < steps; step++) {
            turn ^= 1;
            barrier_wait(&b->v_full[v_at.stage], v_at.parity);
            barrier_wait(mine, turn);
            products_begin(s, p, o);
            multiply_keys<T, Tile>(s, q, k + k_at.stage*Tile::key_bytes);
            multiply_values<T, Tile>(o, p, v + v_at.stage*Tile::key_bytes, step > 1);
            arrive(next);
            products_finish<1>(s);
            if (step + 1 == steps)
                arrive(q_empty);
            arrive(&b->k_empty[k_at.stage]);
            k_at.advance();
            rows.softmax(s, keep, a.scale, a.Sk - step*Tile::keys);
            hold(s);
            /* no earlier: across a loop the compiler does not move the wait for p v up, before the softmax */
            if (step + 1 < steps)
                barrier_wait(&b->k_full[k_at.stage], k_at.parity);
            products_finish(o);
            arrive(&b->v_empty[v_at.stage]);
            v_at.advance();
            #pragma unroll
            for (int i = 0; i < Tile::d/2; i++)
                o[i] *= keep[i/2%2];
            pack<T>(p, s);
        }
        turn ^= 1;
        barrier_wait(&b->v_full[v_at.stage], v_at.parity);
        products_begin(p, o);
        multiply_values<T, Tile>(o, p, v + v_at.stage*Tile::key_bytes, steps > 1);
        products_finish(o);
        arrive(&b->v_empty[v_at.stage]);
        v_at.advance();
        finish_rows<T, Tile>(a, o, rows, room, place, place.row + warp*WARP_ROWS);
    }
    if (lane == 0)
        stores_read<0>();
    __syncwarp();
}

template <typename T, typename Tile>
static __global__ void __launch_bounds__(Tile::threads, 1) attend_hopper(const __grid_constant__ HopperAttention a)
{
    unsigned char *shared = box_memory();
    typename Tile::Barriers *b = (typename Tile::Barriers *)(shared + Tile::barriers_at);
    if (threadIdx.x == 0) {
        prefetch_map(&a.q);
        prefetch_map(&a.k);
        prefetch_map(&a.v);
        prefetch_map(&a.y);
        for (int g = 0; g < Tile::groups; g++) {
            for (int s = 0; s < Tile::q_stages; s++) {
                barrier_create(&b->q_full[s][g], 1);
                barrier_create(&b->q_empty[s][g], GROUP_WARPS);
            }
            barrier_create(&b->turn[g], GROUP_WARPS);
        }
        for (int s = 0; s < Tile::stages; s++) {
            barrier_create(&b->k_full[s], 1);
            barrier_create(&b->k_empty[s], Tile::warps);
            barrier_create(&b->v_full[s], 1);
            barrier_create(&b->v_empty[s], Tile::warps);
        }
        barriers_created();
    }
    __syncthreads();

    const int warp = warp_number();
    if (warp >= Tile::warps) {
        registers_give<Tile::left>();
        if (threadIdx.x == Tile::warps*WARP)
            fill<Tile>(a, shared, b);
        __syncwarp();
    } else {
        registers_take<Tile::registers>();
        attend_tiles<T, Tile>(a, shared, warp, b);
    }
}

#else

/* It is started on compute capability 9 alone; this is there for devices of other kinds to load. */
template <typename T, typename Tile> static __global__ void attend_hopper(const __grid_constant__ HopperAttention)
{
    __trap();
}

#endif

/* ---- starting it ---- */

static void map_rows(CUtensorMap *map, DType type, const Attention *a, const void *p, int64_t stride, int64_t rows,
                     int64_t images, int box_rows)
{
    const int64_t size[] = {a->d, a->heads, rows, images}, spread[] = {a->d, stride, rows*stride};
    const int box[] = {BOX_DEPTH, 1, box_rows, 1};
    tensor_map_spread(map, type, 4, p, size, spread, box);
}

template <typename T, typename Tile> static void launch(const Attention *a, int64_t B)
{
    const int64_t images = a->kv_index ? INT32_MAX : B;         /* of keys: kv_index knows */
    HopperAttention h = {};
    map_rows(&h.q, dtype_of<T>, a, a->q, a->q_stride, a->Sq, B, GROUP_ROWS);
    map_rows(&h.k, dtype_of<T>, a, a->k, a->k_stride, a->Sk, images, Tile::keys);
    map_rows(&h.v, dtype_of<T>, a, a->v, a->v_stride, a->Sk, images, Tile::keys);
    map_rows(&h.y, dtype_of<T>, a, a->y, a->y_stride, a->Sq, B, WARP_ROWS);
    h.kv_index = a->kv_index;
    h.heads = a->heads;
    h.Sk = (int)a->Sk;
    h.row_tiles = (int)((a->Sq + Tile::rows - 1)/Tile::rows);
    h.tiles = (int)(B*a->heads*h.row_tiles);
    h.by_row_tiles = Divider::by(h.row_tiles);
    h.by_heads = Divider::by(h.heads);
    h.scale = a->scale*1.44269504f;     /* exp(x) = 2^(x log2 e) */
    watch_begin(__FILE__);
    LAUNCH((attend_hopper<T, Tile>), (unsigned)min(h.tiles, gpu_processors), Tile::threads, Tile::shared_bytes, h);
}

/* What the busiest block does, in groups' tiles. */
static int64_t work(const Attention *a, int64_t B, int groups)
{
    const int64_t rows = groups*GROUP_ROWS, tiles = B*a->heads*((a->Sq + rows - 1)/rows);
    return (tiles + gpu_processors - 1)/gpu_processors*groups;
}

/* Three groups to a block leave fewer gaps than two, unless they have too few rows. */
template <typename T, int d, int keys> static void launch_narrow(const Attention *a, int64_t B)
{
    if (8*work(a, B, 3) <= 9*work(a, B, 2))
        launch<T, Tile<d, 3, keys>>(a, B);
    else
        launch<T, Tile<d, 2, keys>>(a, B);
}

enum { TEXT_KEYS = 80 };        /* a stage of them, of which a text or two make one or two */

template <typename T> static void launch_by_width(const Attention *a, int64_t B)
{
    const bool text = a->Sk <= 2*TEXT_KEYS && (a->Sk <= TEXT_KEYS || a->Sk > 128);
    if (a->d == 40)
        (text ? launch_narrow<T, 40, TEXT_KEYS> : launch_narrow<T, 40, 128>)(a, B);
    else if (a->d == 64)
        (text ? launch_narrow<T, 64, TEXT_KEYS> : launch_narrow<T, 64, 128>)(a, B);
    else if (a->d == 80)
        (text ? launch<T, Tile<80, 2, TEXT_KEYS>> : launch<T, Tile<80, 2, 128>>)(a, B);
    else
        (text && a->Sk > 64 ? launch<T, Tile<160, 2, TEXT_KEYS>> : launch<T, Tile<160, 2, 64>>)(a, B);
}

bool attention_hopper(const Attention *a, DType type, int64_t B)
{
    const bool wide = a->d == 40 || a->d == 64 || a->d == 80 || a->d == 160;
    const bool fits = a->pieces && a->y_stride%8 == 0 && ((uintptr_t)a->y&15) == 0 && a->Sk > 0 && a->Sk < INT32_MAX/2
                   && a->Sq < INT32_MAX/2 && B*a->heads*(a->Sq/GROUP_ROWS + 1) <= INT32_MAX;
    if (!wide || !fits || a->causal || B == 0 || a->Sq == 0 || !hopper_wanted("attention"))
        return false;
    if (type == BF16)
        launch_by_width<bf16>(a, B);
    else
        launch_by_width<f16>(a, B);
    return true;
}
