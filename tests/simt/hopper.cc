/* SPDX-License-Identifier: MIT */
/* hopper.cc -- kernels/cuda/hopper.h on the host: barriers in shared memory, boxes copied there, clusters of blocks,
 * products of 4 warps.
 *
 * A box comes at once, or only when no thread of the cluster can go on without it; in turn, so that both a stage filled
 * too early and one read too early are seen. A product is computed when its group is waited for, by each thread its own
 * 128 sums, from what shared memory then holds. Stricter than PTX: all threads of a cluster meet at its barrier, those
 * that have ended are missed there. PTX ISA 8.x: mbarrier, cp.async.bulk.tensor, barrier.cluster, mapa, wgmma.mma_async
 * (matrix descriptors, swizzled K-major layouts, fragments of m64n256k16). */
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

static unsigned char *shared_at(SimtBlock *b, uint32_t address, uint32_t bytes)
{
    if (address < SHARED_BEGIN || address + bytes > SHARED_BEGIN + simt.dynamic_bytes)
        simt_fail("address %u is outside the block's shared memory", address);
    return b->dynamic + (address - SHARED_BEGIN);
}

unsigned simt_cluster_rank(void)
{
    return (unsigned)(simt.here - simt.block);
}

static SimtBlock *block_of(unsigned rank)
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
    return shared_at(block_of(rank), simt_shared_address(p), bytes);
}

/* The 128-byte swizzle. */
static uint32_t turned(uint32_t address)
{
    return address ^ (address >> 7 & 7) << 4;
}

/* ---- barriers ---- */

struct Arrivals {                       /* the 64 bits of a barrier */
    int32_t bytes;                      /* announced and not there yet */
    uint16_t expected;
    uint16_t missing : 15, parity : 1;
};
static_assert(sizeof(Arrivals) == sizeof(uint64_t), "a barrier is 64 bits");
static const uint16_t MOST_ARRIVALS = 1024;

static Arrivals *arrivals(uint64_t *barrier)
{
    Arrivals *a = (Arrivals *)barrier;
    if (a->expected == 0 || a->expected > MOST_ARRIVALS)
        simt_fail("a barrier that was not created");
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
    a->bytes = 0;
    a->expected = (uint16_t)count;
    a->missing = count & 0x7fff;
    a->parity = 0;
}

void simt_barrier_arrive(uint64_t *barrier, unsigned bytes)
{
    Arrivals *a = arrivals(barrier);
    if (a->missing == 0)
        simt_fail("more arrivals at a barrier than the %u it is for", a->expected);
    a->missing = (a->missing - 1u) & 0x7fff;
    a->bytes += (int32_t)bytes;
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

/* ---- boxes ---- */

enum { MOST_BOXES = 512 };
struct Box { SimtBlock *block; uint32_t to; CUtensorMap map; int64_t row, column; uint64_t *barrier; };
static Box box[MOST_BOXES];
static int boxes;
static unsigned boxes_begun;

static void bring(const Box *b)
{
    for (uint32_t r = 0; r < b->map.box[1]; r++)
        for (uint32_t c = 0; c < b->map.box[0]; c++) {
            const int64_t row = b->row + r, column = b->column + c;
            unsigned char *at = shared_at(b->block, turned(b->to + r*128 + c*2), 2);
            if (row < 0 || row >= (int64_t)b->map.size[1] || column < 0 || column >= (int64_t)b->map.size[0])
                memset(at, 0, 2);
            else
                memcpy(at, b->map.p + (uint64_t)row*b->map.pitch + (uint64_t)column*2, 2);
        }
    Arrivals *a = arrivals(b->barrier);
    a->bytes -= (int32_t)(b->map.box[0]*b->map.box[1]*2);
    end_phase(a);
}

void simt_multicast_box(void *to, const CUtensorMap *map, int row, int column, uint64_t *barrier, unsigned ranks)
{
    const uint32_t address = simt_shared_address(to);
    if (address%1024)
        simt_fail("a box goes to %u, which is no multiple of 1024", address);
    if (ranks == 0 || ranks >> 16)
        simt_fail("a box for blocks %x of a cluster", ranks);
    for (unsigned rank = 0; ranks >> rank; rank++) {
        if (!(ranks >> rank & 1))
            continue;
        SimtBlock *block = block_of(rank);
        if (boxes == MOST_BOXES)
            simt_fail("more than %d boxes under way", MOST_BOXES);
        box[boxes] = {block, address, *map, row, column, (uint64_t *)simt_at_rank(barrier, sizeof *barrier, rank)};
        if ((boxes_begun++ + simt.turn)%2)
            bring(&box[boxes]);
        else
            boxes++;
    }
}

void simt_copy_box(void *to, const CUtensorMap *map, int row, int column, uint64_t *barrier)
{
    simt_multicast_box(to, map, row, column, barrier, 1u << simt_cluster_rank());
}

void simt_block_ends(const SimtBlock *b)
{
    for (int i = 0; i < boxes; i++)
        if (box[i].block == b)
            simt_fail("the block ends while boxes are on their way to it");
}

/* The oldest or the newest that has not come; false: none is under way. */
bool simt_box_comes(void)
{
    if (boxes == 0)
        return false;
    const int which = simt.turn++ & 1 ? boxes - 1 : 0;
    const Box b = box[which];
    memmove(&box[which], &box[which + 1], sizeof *box*(size_t)(boxes - which - 1));
    boxes--;
    bring(&b);
    return true;
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *p,
                                const cuuint64_t *size, const cuuint64_t *pitch, const cuuint32_t *box_size,
                                const cuuint32_t *every, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    if (rank != 2 || (uintptr_t)map%64 || (uintptr_t)p%16 || pitch[0]%16 || pitch[0] >= (uint64_t)1 << 40
        || pitch[0] < size[0]*2 || every[0] != 1 || every[1] != 1 || box_size[0]*2 != 128)
        return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < 2; i++)
        if (size[i] == 0 || size[i] > (uint64_t)1 << 32 || box_size[i] == 0 || box_size[i] > 256)
            return CUDA_ERROR_INVALID_VALUE;
    map->p = (const unsigned char *)p;
    map->pitch = pitch[0];
    for (int i = 0; i < 2; i++) {
        map->size[i] = size[i];
        map->box[i] = box_size[i];
    }
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found)
{
    const bool known = strcmp(name, "cuTensorMapEncodeTiled") == 0;
    *function = known ? (void *)cuTensorMapEncodeTiled : NULL;
    *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return cudaSuccess;
}

/* ---- products ---- */

/* 16 values of k of a row of an operand. */
static void operand_row(float value[16], uint64_t descriptor, int row)
{
    const uint32_t start = (uint32_t)(descriptor & 0x3fff) << 4, next = (uint32_t)(descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1 || (descriptor >> 49 & 7) || (start >> 7 & 7))
        simt_fail("operand %016llx: 128-byte swizzle from a multiple of 1024 is played alone",
                  (unsigned long long)descriptor);
    for (uint32_t part = 0; part < 2; part++) {
        uint16_t half[8];
        const uint32_t at = start + (uint32_t)row/8*next + (uint32_t)row%8*128 + part*16;
        memcpy(half, shared_at(simt.here, turned(at), 16), 16);
        for (int k = 0; k < 8; k++)
            value[part*8 + (uint32_t)k] = __uint_as_float((uint32_t)half[k] << 16);
    }
}

static void multiply(const SimtProduct *p)
{
    const int t = (int)(simt.self->index.x%128), row = t/32*16 + t%32/4;
    float A[2][16], B[16];
    for (int i = 0; i < 2; i++)
        operand_row(A[i], p->A, row + 8*i);
    for (int j = 0; j < 32; j++)
        for (int c = 0; c < 2; c++) {
            operand_row(B, p->B, 8*j + t%4*2 + c);
            for (int i = 0; i < 2; i++) {
                float sum = p->add ? p->sum[4*j + 2*i + c] : 0;
                for (int k = 0; k < 16; k++)
                    sum += A[i][k]*B[k];
                p->sum[4*j + 2*i + c] = sum;
            }
        }
}

void simt_wgmma(float *sum, uint64_t A, uint64_t B, bool add)
{
    SimtThread *self = simt.self;
    const uint64_t mine[3] = {A, B, add};
    const SimtBoard *board = simt_board("wgmma", mine, sizeof mine);
    for (int l = 0; l < SIMT_LANES; l++)
        if (memcmp(board->slot[l], mine, sizeof mine))
            simt_fail("wgmma: lane %d has other operands", l);
    if (self->products == SIMT_PRODUCTS)
        simt_fail("more than %d products under way", SIMT_PRODUCTS);
    self->product[self->products++] = {sum, A, B, add, self->product_group};
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
    int done = 0;
    while (done < self->products && self->product[done].group < self->product_group - newest)
        multiply(&self->product[done++]);
    self->products -= done;
    memmove(self->product, self->product + done, sizeof *self->product*(size_t)self->products);
}
