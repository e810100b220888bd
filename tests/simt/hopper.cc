/* SPDX-License-Identifier: MIT */
/* hopper.cc -- kernels/cuda/hopper.h and wgmma.h on the host: barriers in shared memory, clusters of blocks, products
 * of 4 warps. Boxes are in boxes.cc.
 *
 * A product is computed when its group is waited for and all others have gone as far as they can, by each thread its
 * own sums, from what shared memory and the registers of A then hold; what was written since it was asked for is
 * refused. The four warps of a group ask for the
 * same.
 * Stricter than PTX: all threads of a cluster meet at its barrier, those that have ended are missed there; every wait
 * for products is followed by a fence before the next, whether registers were touched or not. PTX ISA 8.x:
 * mbarrier, barrier.cluster, mapa, wgmma.mma_async (matrix descriptors, swizzled K-major and MN-major layouts,
 * fragments of m64nNk16). */
#include "tests/simt/cuda.h"

/* ---- addresses: shared memory begins at no multiple of 1024 ---- */

enum { SHARED_BEGIN = 1024 + 128, SHARED_END = SHARED_BEGIN + SIMT_SHARED };

uint32_t simt_shared_address(const void *p)
{
    const ptrdiff_t at = (const unsigned char *)p - simt.here->dynamic;
    if (at < 0 || at > SIMT_SHARED)
        simt_fail("%p is not in the block's shared memory", p);
    return (uint32_t)at + SHARED_BEGIN;
}

unsigned char *simt_shared_at(SimtBlock *b, uint32_t address, uint32_t bytes)
{
    if (address < SHARED_BEGIN || address + bytes > SHARED_BEGIN + simt.dynamic_bytes)
        simt_fail("address %u is outside the block's shared memory", address);
    return b->dynamic + (address - SHARED_BEGIN);
}

unsigned simt_cluster_rank(void)
{
    return (unsigned)(simt.here - simt.block);
}

SimtBlock *simt_block_of(unsigned rank)
{
    SimtBlock *b = &simt.block[rank];
    if (rank >= simt.blocks)
        simt_fail("block %u of a cluster of %u", rank, simt.blocks);
    if (!b->begun || b->ended)
        simt_fail("the shared memory of block %u of the cluster, which has %s", rank, b->ended ? "ended" : "not begun");
    return b;
}

void *simt_at_rank(const void *p, unsigned bytes, unsigned rank)
{
    if ((uintptr_t)p%bytes)
        simt_fail("%u bytes at %p are not aligned", bytes, p);
    return simt_shared_at(simt_block_of(rank), simt_shared_address(p), bytes);
}

/* ---- barriers ---- */

struct Arrivals {                       /* the 64 bits of a barrier */
    int32_t bytes;                      /* announced and not there yet */
    uint16_t expected;
    uint16_t missing : 15, parity : 1;
};
static_assert(sizeof(Arrivals) == sizeof(uint64_t), "a barrier is 64 bits");
static const unsigned MOST_ARRIVALS = 1024, HIDDEN = 0x8000, MOST_BYTES = (1 << 20) - 1;

static Arrivals *arrivals(uint64_t *barrier)
{
    Arrivals *a = (Arrivals *)barrier;
    const unsigned count = a->expected & ~HIDDEN;
    if (count == 0 || count > MOST_ARRIVALS)
        simt_fail("a barrier that was not created");
    if (a->expected & HIDDEN)
        simt_fail("a barrier that was created, and not shown to others by fence.mbarrier_init");
    return a;
}

static void end_phase(Arrivals *a)
{
    if (a->missing || a->bytes)
        return;
    a->missing = a->expected & 0x7fff;
    a->parity ^= 1;
}

void simt_barrier_create(uint64_t *barrier, unsigned count)
{
    simt_shared_address(barrier);
    if ((uintptr_t)barrier%8 || count == 0 || count > MOST_ARRIVALS)
        simt_fail("a barrier at %p for %u arrivals", (void *)barrier, count);
    Arrivals *a = (Arrivals *)barrier;
    if (simt.self->hidden == SIMT_BARRIERS)
        simt_fail("more than %d barriers of a thread", SIMT_BARRIERS);
    simt.self->created[simt.self->hidden++] = barrier;
    a->bytes = 0;
    a->expected = (uint16_t)(count | HIDDEN);
    a->missing = count & 0x7fff;
    a->parity = 0;
}

void simt_barriers_created(void)
{
    SimtThread *self = simt.self;
    while (self->hidden)
        ((Arrivals *)self->created[--self->hidden])->expected &= (uint16_t)~HIDDEN;
}

void simt_barrier_arrive(uint64_t *barrier, unsigned bytes)
{
    Arrivals *a = arrivals(barrier);
    if (a->missing == 0)
        simt_fail("more arrivals at a barrier than the %u it is for", a->expected);
    if (bytes > MOST_BYTES)
        simt_fail("%u bytes announced at a barrier", bytes);
    a->missing = (a->missing - 1u) & 0x7fff;
    a->bytes += (int32_t)bytes;
    end_phase(a);
}

void simt_barrier_bytes(uint64_t *barrier, unsigned bytes)
{
    Arrivals *a = arrivals(barrier);
    a->bytes -= (int32_t)bytes;
    end_phase(a);
}

bool simt_barrier_passed(const SimtThread *t)
{
    return arrivals(t->barrier)->parity != t->parity;
}

void simt_barrier_wait(uint64_t *barrier, unsigned parity)
{
    SimtThread *self = simt.self;
    self->barrier = barrier;
    self->parity = parity & 1;
    if (!simt_barrier_passed(self))
        simt_meet(SIMT_AT_BARRIER, "mbarrier.try_wait");
}

void simt_barrier_arrive_at(uint64_t *barrier, unsigned rank)
{
    simt_barrier_arrive((uint64_t *)simt_at_rank(barrier, sizeof *barrier, rank), 0);
}

/* ---- the barrier of a cluster ---- */

void simt_cluster_arrive(void)
{
    SimtThread *self = simt.self;
    simt_board("barrier.cluster.arrive", "", 0);
    if (self->joined != self->waited)
        simt_fail("barrier.cluster.arrive again before barrier.cluster.wait");
    self->joined++;
    if (++simt.joined == simt.blocks*simt.block_dim.x) {
        simt.joined = 0;
        simt.phases++;
    }
}

void simt_cluster_wait(void)
{
    SimtThread *self = simt.self;
    simt_board("barrier.cluster.wait", "", 0);
    if (self->joined == self->waited)
        simt_fail("barrier.cluster.wait without barrier.cluster.arrive");
    self->waited++;
    if (simt.phases != self->waited)
        simt_meet(SIMT_AT_CLUSTER, "barrier.cluster.wait");
}

/* ---- products ---- */

static const uint32_t ROW = 128;        /* bytes of a row of a swizzled operand */

static uint32_t field(uint64_t descriptor, int bit)
{
    return (uint32_t)(descriptor >> bit & 0x3fff) << 4;
}

static void check_operand(uint64_t descriptor)
{
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) || (field(descriptor, 0) >> 7 & 7))
        simt_fail("operand %016llx: 128-byte swizzle from a multiple of 1024 is played alone",
                  (unsigned long long)descriptor);
}

/* 16 bytes, `part` of two, of a row of an operand with k along memory. */
static const unsigned char *row_part(uint64_t descriptor, int row, uint32_t part)
{
    const uint32_t at = field(descriptor, 0) + (uint32_t)row/8*field(descriptor, 32) + (uint32_t)row%8*ROW + part*16;
    return simt_shared_at(simt.here, simt_turned(at, ROW), 16);
}

/* 16 bytes, of 8 columns from n on, of a row of k of an operand with n along memory: 64 of n a row, then those at the
 * leading offset; k row by row, every 8 at the stride offset. */
static const unsigned char *column_part(uint64_t descriptor, int n, uint32_t k)
{
    const uint32_t at = field(descriptor, 0) + (uint32_t)n/64*field(descriptor, 16) + k/8*field(descriptor, 32)
                      + k%8*ROW + (uint32_t)n%64*2;
    return simt_shared_at(simt.here, simt_turned(at, ROW), 16);
}

/* A sum that changes with any of the bytes, n of them, a multiple of 8. */
static uint64_t summed(uint64_t sum, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, (const char *)bytes + i, sizeof word);
        sum = (sum ^ word)*0x9e3779b97f4a7c15;
        sum ^= sum >> 32;
    }
    return sum;
}

/* Of what the product reads in shared memory. */
static uint64_t operands_now(const SimtProduct *p)
{
    uint64_t sum = 0;
    for (int row = 0; row < 64 && !p->left; row++)
        for (uint32_t part = 0; part < 2; part++)
            sum = summed(sum, row_part(p->A, row, part), 16);
    for (int n = 0; n < p->columns; n += p->left ? 8 : 1)
        for (uint32_t i = 0; i < (p->left ? 16u : 2u); i++)
            sum = summed(sum, p->left ? column_part(p->B, n, i) : row_part(p->B, n, i), 16);
    return sum;
}

/* One thread of a group looks at it. */
static bool looks(void)
{
    return simt.self->index.x%128 == 0;
}

/* A product's operands as floats, which the first thread of a group that comes to it makes for all 128. The columns of
 * B are in the order of the threads' sums: those of the threads with t%4 = 0, pair by pair, then of 1, 2 and 3. */
typedef float Eight __attribute__((vector_size(32)));
enum { K = 16, OF_A_THREAD = 256/4 };
struct Operands { alignas(32) float A[64][K]; Eight B[4][OF_A_THREAD/8][K]; uint64_t number; };

/* 16 values of k of a row of an operand with k along memory. */
static void operand_row(float value[K], uint64_t descriptor, int row, bool f16)
{
    for (uint32_t part = 0; part < 2; part++) {
        uint16_t half[8];
        memcpy(half, row_part(descriptor, row, part), 16);
        for (int k = 0; k < 8; k++)
            value[part*8 + (uint32_t)k] = simt_from_bits(half[k], f16);
    }
}

/* 16 values of k of a column of an operand with n along memory. */
static void operand_column(float value[K], uint64_t descriptor, int n, bool f16)
{
    for (uint32_t k = 0; k < K; k++) {
        uint16_t half;
        memcpy(&half, column_part(descriptor, n/8*8, k) + n%8*2, 2);
        value[k] = simt_from_bits(half, f16);
    }
}

static void make_operands(Operands *o, const SimtProduct *p)
{
    for (int row = 0; row < 64 && !p->left; row++)
        operand_row(o->A[row], p->A, row, p->f16);
    for (int n = 0; n < p->columns; n++) {
        float value[K];
        (p->left ? operand_column : operand_row)(value, p->B, n, p->f16);
        for (int k = 0; k < K; k++)
            o->B[n%8/2][n/32][k][n/8%4*2 + n%2] = value[k];
    }
}

/* Those of the next product of this thread. */
static const Operands *operands(const SimtProduct *p)
{
    static Operands *made[SIMT_CLUSTER][SIMT_THREADS/128];      /* the latest of each group, SIMT_PRODUCTS of them */
    Operands **const group = &made[simt.here - simt.block][simt.self->index.x/128];
    if (!*group) {
        *group = (Operands *)aligned_alloc(alignof(Operands), SIMT_PRODUCTS*sizeof **group);
        if (!*group)
            simt_fail("no memory for operands");
        memset(*group, 0, SIMT_PRODUCTS*sizeof **group);
    }
    const uint64_t number = ++simt.self->multiplied;
    Operands *const o = &(*group)[number%SIMT_PRODUCTS];
    if (o->number != number)
        make_operands(o, p);
    o->number = number;
    return o;
}

/* Rows lane/4 and 8 further of the warp's part of A: lane l has k 2(l%4) and one more, and those 8 further. */
static void left_rows(float A[2][K], const SimtProduct *p)
{
    if (memcmp(p->left, p->was, sizeof p->was))
        simt_fail("wgmma: a register of A was written while it was under way");
    const SimtBoard *board = simt_board("wgmma.wait_group", p->left, sizeof p->was);
    for (int l = 0; l < 4; l++) {
        uint32_t word[4];
        memcpy(word, board->slot[simt_lane()/4*4 + l], sizeof word);
        for (int i = 0; i < 4; i++)
            for (int half = 0; half < 2; half++)
                A[i%2][2*l + i/2*8 + half] = simt_from_bits((uint16_t)(word[i] >> 16*half), p->f16);
    }
}

/* Adds to the sums of rows A and A8, 2*columns in all, in the order of their registers. */
__attribute__((target_clones("avx2", "default")))
static void add_rows(float *sum, const float A[K], const float A8[K], const Eight (*B)[K], int columns)
{
    for (int n = 0; n < columns; n += 8) {
        Eight row = {}, row8 = {};
        const int m = columns - n < 8 ? columns - n : 8;
        for (int i = 0; i < m; i++) {
            row[i] = sum[(n + i)/2*4 + i%2];
            row8[i] = sum[(n + i)/2*4 + 2 + i%2];
        }
        for (int k = 0; k < K; k++) {
            row += A[k]*B[n/8][k];
            row8 += A8[k]*B[n/8][k];
        }
        for (int i = 0; i < m; i++) {
            sum[(n + i)/2*4 + i%2] = row[i];
            sum[(n + i)/2*4 + 2 + i%2] = row8[i];
        }
    }
}

static void multiply(const SimtProduct *p)
{
    if (looks() && operands_now(p) != p->seen)
        simt_fail("wgmma: shared memory that it reads was written while it was under way");
    const int t = (int)(simt.self->index.x%128), row = t/32*16 + t%32/4;
    float left[2][K];
    if (p->left)
        left_rows(left, p);
    if (!p->add)
        memset(p->sum, 0, sizeof *p->sum*(size_t)p->columns/2);
    const Operands *o = operands(p);
    add_rows(p->sum, p->left ? left[0] : o->A[row], p->left ? left[1] : o->A[row + 8], o->B[t%4], p->columns/4);
}

static void begin(SimtProduct p)
{
    SimtThread *self = simt.self;
    const uint64_t mine[4] = {p.A, p.B, (uint64_t)p.add << 1 | p.f16, (uint64_t)p.columns};
    const SimtBoard *board = simt_board(p.left ? "wgmma by registers" : "wgmma", mine, sizeof mine);
    for (int l = 0; l < SIMT_LANES; l++)
        if (memcmp(board->slot[l], mine, sizeof mine))
            simt_fail("wgmma: lane %d has other operands", l);
    if (p.columns < 8 || p.columns > 256 || p.columns%8)
        simt_fail("wgmma of %d columns", p.columns);
    if (self->products == SIMT_PRODUCTS)
        simt_fail("more than %d products under way", SIMT_PRODUCTS);
    if (!self->fenced)
        simt_fail("wgmma without wgmma.fence after the last wgmma.wait_group");
    self->asked = summed(self->asked, mine, sizeof mine);
    if (looks())
        p.seen = operands_now(&p);
    p.group = self->product_group;
    self->product[self->products++] = p;
}

void simt_wgmma(float *sum, int columns, uint64_t A, uint64_t B, bool add, bool f16)
{
    check_operand(A);
    check_operand(B);
    begin({sum, columns, A, B, add, f16, 0, NULL, {}, 0});
}

void simt_wgmma_left(float *sum, int columns, const uint32_t *A, uint64_t B, bool add, bool f16)
{
    check_operand(B);
    if (field(B, 32)%1024 || (columns > 64 && field(B, 16)%1024))
        simt_fail("operand %016llx: its parts begin at no multiple of 1024", (unsigned long long)B);
    begin({sum, columns, 0, B, add, f16, 0, A, {A[0], A[1], A[2], A[3]}, 0});
}

void simt_wgmma_fence(void)
{
    simt_board("wgmma.fence", "", 0);
    simt.self->fenced = true;
}

void simt_wgmma_commit(void)
{
    simt_board("wgmma.commit_group", "", 0);
    simt.self->product_group++;
}

void simt_wgmma_wait(int newest)
{
    SimtThread *self = simt.self;
    simt_board("wgmma.wait_group", "", 0);
    self->fenced = false;
    int done = 0;
    if (self->products && self->product[0].group < self->product_group - newest)
        simt_meet(SIMT_AT_PRODUCTS, "wgmma.wait_group");
    while (done < self->products && self->product[done].group < self->product_group - newest)
        multiply(&self->product[done++]);
    self->products -= done;
    memmove(self->product, self->product + done, sizeof *self->product*(size_t)self->products);
}

void simt_products_end(const SimtBlock *b, unsigned threads)
{
    for (unsigned n = 0; n < threads; n += SIMT_LANES)
        if (b->thread[n].asked != b->thread[n/128*128].asked || (b->thread[n].asked && n/128*128 + 128 > threads))
            simt_fail("wgmma: warp %u asked for other products than its group", n/SIMT_LANES);
}
