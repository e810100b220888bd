/* SPDX-License-Identifier: MIT */
/* boxes.cc -- tensor maps on the host, and boxes that are copied to shared memory and from there.
 *
 * A box comes at once, or only when no thread of the cluster can go on without it; one to memory is read at once, or
 * only when that is waited for; in turn, so that both a stage filled too early and one read too early are seen. PTX ISA
 * 8.x, sections cp.async.bulk.tensor, cp.reduce.async.bulk.tensor; the driver's manual, cuTensorMapEncodeTiled. */
#include "tests/simt/cuda.h"

/* ---- maps ---- */

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *p,
                                const cuuint64_t *size, const cuuint64_t *pitch, const cuuint32_t *box,
                                const cuuint32_t *every, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    const uint32_t value_bytes = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
    if (rank < 2 || rank > SIMT_DIMENSIONS || (uintptr_t)map%64 || (uintptr_t)p%16
        || box[0]*value_bytes%16 || (swizzle && box[0]*value_bytes > 16u << swizzle))
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t least = size[0]*value_bytes;
    *map = {(unsigned char *)p, rank, value_bytes, swizzle ? 16u << swizzle : 0,
            type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, {}, {value_bytes}, {}};
    for (uint32_t i = 0; i < rank; i++) {
        if (size[i] == 0 || size[i] > (uint64_t)1 << 32 || box[i] == 0 || box[i] > 256 || every[i] != 1)
            return CUDA_ERROR_INVALID_VALUE;
        map->size[i] = size[i];
        map->box[i] = box[i];
        if (i == 0)
            continue;
        if (pitch[i - 1]%16 || pitch[i - 1] >= (uint64_t)1 << 40 || pitch[i - 1] < least)
            return CUDA_ERROR_INVALID_VALUE;
        map->pitch[i] = pitch[i - 1];
        least = pitch[i - 1]*size[i];
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

/* ---- boxes ---- */

enum { MOST_BOXES = 512 };
struct Box { SimtBlock *block; uint32_t shared; CUtensorMap map; int at[SIMT_DIMENSIONS]; uint64_t *barrier; };
static Box box[MOST_BOXES];
static int boxes;
static unsigned boxes_begun;

static uint32_t values(const CUtensorMap *map)
{
    uint32_t n = 1;
    for (uint32_t i = 0; i < map->rank; i++)
        n *= map->box[i];
    return n;
}

/* A part of a row of a box, 16 bytes in shared memory: values [from, to) of it are in the tensor, the first at p. */
struct Part { unsigned char *shared, *p; uint32_t from, to; };
static const uint32_t PART = 16;

static uint32_t parts(const CUtensorMap *map)
{
    return values(map)*map->value_bytes/PART;
}

static Part part_of(const Box *b, uint32_t i)
{
    const CUtensorMap *m = &b->map;
    const uint32_t most = PART/m->value_bytes, row = m->box[0]/most;
    const int64_t first = b->at[0] + (int64_t)(i%row*most), past = (int64_t)m->size[0] - first;
    const auto within = [=](int64_t n) { return (uint32_t)(n < 0 ? 0 : n < most ? n : most); };
    Part part = {simt_shared_at(b->block, simt_turned(b->shared + i*PART, m->turned_bytes), PART), m->p,
                 within(-first), within(past)};
    part.p += (uint64_t)(first + part.from)*m->value_bytes;
    i /= row;
    for (uint32_t d = 1; d < m->rank; d++) {
        const int64_t at = b->at[d] + (int64_t)(i%m->box[d]);
        if (at < 0 || at >= (int64_t)m->size[d])
            part.to = 0;
        part.p += (uint64_t)at*m->pitch[d];
        i /= m->box[d];
    }
    part.from = min(part.from, part.to);
    return part;
}

static Box box_of(const CUtensorMap *map, const int *at, uint32_t dimensions, const void *shared, uint32_t alignment)
{
    Box b = {simt.here, simt_shared_address(shared), *map, {}, NULL};
    if (b.shared%alignment)
        simt_fail("a box at %u, which is no multiple of %u", b.shared, alignment);
    if (dimensions != map->rank)
        simt_fail("a box in %u dimensions of a map of %u", dimensions, map->rank);
    if (map->box[0]*map->value_bytes != map->turned_bytes)
        simt_fail("a box with rows of %u bytes, turned in %u: such are not played", map->box[0]*map->value_bytes,
                  map->turned_bytes);
    memcpy(b.at, at, sizeof *at*dimensions);
    return b;
}

static void bring(const Box *b)
{
    const uint32_t n = parts(&b->map), value_bytes = b->map.value_bytes;
    for (uint32_t i = 0; i < n; i++) {
        const Part part = part_of(b, i);
        memset(part.shared, 0, PART);
        if (part.from < part.to)
            memcpy(part.shared + part.from*value_bytes, part.p, (part.to - part.from)*value_bytes);
    }
    simt_barrier_bytes(b->barrier, n*PART);
}

void simt_copy_box(void *to, const CUtensorMap *map, const int *at, uint32_t dimensions, uint64_t *barrier,
                   unsigned ranks)
{
    Box b = box_of(map, at, dimensions, to, 1024);
    if (ranks == 0 || ranks >> 16)
        simt_fail("a box for blocks %x of a cluster", ranks);
    for (unsigned rank = 0; ranks >> rank; rank++) {
        if (!(ranks >> rank & 1))
            continue;
        b.block = simt_block_of(rank);
        b.barrier = (uint64_t *)simt_at_rank(barrier, sizeof *barrier, rank);
        if (boxes == MOST_BOXES)
            simt_fail("more than %d boxes under way", MOST_BOXES);
        if ((boxes_begun++ + simt.turn)%2)
            bring(&b);
        else
            box[boxes++] = b;
    }
}

void simt_prefetch_box(const CUtensorMap *map, uint32_t dimensions)
{
    if (dimensions != map->rank)
        simt_fail("a box in %u dimensions of a map of %u", dimensions, map->rank);
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

/* ---- boxes to memory ---- */

struct Store { Box box; SimtThread *thread; int group; bool add, read; };
static Store store[MOST_BOXES];
static int stores;

static void add_values(const Part *part, uint32_t value_bytes)
{
    for (uint32_t i = part->from; i < part->to; i++) {
        unsigned char *p = part->p + (i - part->from)*value_bytes;
        const unsigned char *shared = part->shared + i*value_bytes;
        if (value_bytes == 2)
            *(uint16_t *)p = simt_half(simt_from_half(*(uint16_t *)p) + simt_from_half(*(const uint16_t *)shared));
        else
            *(float *)p += *(const float *)shared;
    }
}

static void put(const Store *s)
{
    const uint32_t n = parts(&s->box.map), value_bytes = s->box.map.value_bytes;
    for (uint32_t i = 0; i < n; i++) {
        const Part part = part_of(&s->box, i);
        if (s->add)
            add_values(&part, value_bytes);
        else if (part.from < part.to)
            memcpy(part.p, part.shared + part.from*value_bytes, (part.to - part.from)*value_bytes);
    }
}

/* What shared memory holds when the last lane of a warp comes to a fence is what the copy engine will see. */
void simt_show_written(void)
{
    const int warp = (int)(simt.self - simt.here->thread)/SIMT_LANES;
    const SimtThread *const lane = &simt.here->thread[warp*SIMT_LANES];
    unsigned char **const shown = &simt.here->shown[warp];
    simt.self->shown++;
    for (int l = 0; l < SIMT_LANES; l++)
        if (lane[l].shown != simt.self->shown)
            return;
    if (!*shown && !(*shown = (unsigned char *)malloc(SIMT_SHARED)))
        simt_fail("no memory for what a warp has shown");
    memcpy(*shown, simt.here->dynamic, simt.dynamic_bytes);
}

/* Stricter than PTX: every lane of the storing thread's warp has a fence behind it for each group of boxes, and nothing
 * was written to them since. */
void simt_store_box(const CUtensorMap *map, const int *at, uint32_t dimensions, const void *from, bool add)
{
    const SimtThread *const warp = simt.self - simt_lane();
    for (int l = 0; l < SIMT_LANES; l++)
        if (warp[l].shown <= simt.self->store_group)
            simt_fail("a box to memory of what lane %d has not shown to the copy engine", l);
    Store s = {box_of(map, at, dimensions, from, 128), simt.self, simt.self->store_group, add, false};
    const uint32_t bytes = values(map)*map->value_bytes;
    const unsigned char *const now = simt_shared_at(simt.here, s.box.shared, bytes);
    if (memcmp(now, simt.here->shown[(warp - simt.here->thread)/SIMT_LANES] + (now - simt.here->dynamic), bytes) != 0)
        simt_fail("a box to memory that was written to after it was shown to the copy engine");
    if (add && map->bf16)
        simt_fail("only f32 and f16 are added to");
    if (stores == MOST_BOXES)
        simt_fail("more than %d boxes under way to memory", MOST_BOXES);
    s.read = (boxes_begun++ + simt.turn)%2;
    if (s.read)
        put(&s);
    store[stores++] = s;
    simt.self->stores++;
}

void simt_stores_commit(void)
{
    simt.self->store_group++;
}

void simt_stores_read(int newest)
{
    SimtThread *self = simt.self;
    int kept = 0;
    for (int i = 0; i < stores; i++) {
        const Store s = store[i];
        if (s.thread == self && s.group < self->store_group - newest) {
            if (!s.read)
                put(&s);
            self->stores--;
        } else {
            store[kept++] = s;
        }
    }
    stores = kept;
}
