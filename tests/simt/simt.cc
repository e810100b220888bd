/* SPDX-License-Identifier: MIT */
/* simt.cc -- runs a kernel's clusters one after another, and the threads of their blocks as fibers (simt.h).
 *
 * The scheduler goes over the warps and resumes lanes that are ready, until all of a warp's lanes wait: in an operation
 * of the warp they are let go on together; at a barrier of the block, when all of its threads are there. A block goes
 * on until none of its warps can; then it is the next block's turn in the cluster. */
#include "tests/simt/simt.h"
#include <stdarg.h>
extern "C" {
#include "formats/dtype.h"
}

Simt simt;
float simt_time;
int simt_shared = SIMT_SHARED;
const char *simt_started;
unsigned simt_started_blocks;

/* Saves what a call keeps (System V ABI) on the running stack, stores its pointer in *from and goes on at `to`. */
extern "C" void simt_switch(void **from, void *to);
asm(".text\n.globl simt_switch\n.type simt_switch, @function\nsimt_switch:\n"
    "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
    "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
    "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n    ret\n"
    ".size simt_switch, .-simt_switch\n");

void simt_fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fflush(stdout);
    fprintf(stderr, "%s:%d: %s", simt.file ? simt.file : "?", simt.line, simt.name ? simt.name : "?");
    if (simt.self)
        fprintf(stderr, ", block (%u,%u,%u), thread %u", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x);
    fputs(": ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    abort();
}

static void thread_main(void)
{
    simt.call(simt.closure);
    simt_copy_wait(0);
    if (simt.self->products)
        simt_fail("a thread ends while products are under way");
    if (simt.self->stores)
        simt_fail("a thread ends while what it stores is still to be read");
    if (simt.self->joined != simt.self->waited)
        simt_fail("a thread ends that has not waited at the cluster's barrier");
    simt.self->state = SIMT_DONE;
    simt_switch(&simt.self->stack_pointer, simt.scheduler);
    simt_fail("a thread that had ended was resumed");
}

void simt_meet(SimtState where, const char *at)
{
    simt.self->state = where;
    simt.self->at = at;
    simt_switch(&simt.self->stack_pointer, simt.scheduler);
}

SimtBoard *simt_board(const char *at, const void *mine, size_t bytes)
{
    SimtThread *self = simt.self;
    SimtBoard *board = &simt.here->board[self->index.x/SIMT_LANES][self->calls++%2];
    if (bytes > sizeof board->slot[0])
        simt_fail("%s of %zu bytes", at, bytes);
    memcpy(board->slot[simt_lane()], mine, bytes);
    simt_meet(SIMT_AT_WARP, at);
    return board;
}

int __syncthreads_count(int predicate)
{
    int *votes = &simt.here->votes;
    if (predicate)
        (*votes)++;
    __syncthreads();
    const int all = *votes;
    __syncthreads();
    *votes = 0;
    __syncthreads();
    return all;
}

int __syncthreads_or(int predicate)
{
    return __syncthreads_count(predicate) != 0;
}

static void thread_begin(SimtThread *t, unsigned n)
{
    if (!t->stack && !(t->stack = (char *)malloc(SIMT_STACK)))
        simt_fail("no memory for stacks");
    /* as simt_switch left it: six registers and where to return to; there the stack is 8 off a multiple of 16 */
    void **top = (void **)(((uintptr_t)t->stack + SIMT_STACK) & ~(uintptr_t)63) - 2;
    top[0] = (void *)thread_main;
    t->stack_pointer = top - 6;
    t->state = SIMT_READY;
    t->index = {n, 0, 0};
    t->calls = 0;
    t->copies = t->group = t->products = t->product_group = t->hidden = 0;
    t->fenced = false;
    t->asked = 0;
    t->joined = t->waited = 0;
    t->stores = t->store_group = 0;
    t->shown = 0;
    t->at = "its start";
}

/* Lets a warp go on until none of its lanes can. Returns whether any ran. */
static bool run_warp(SimtThread *warp)
{
    bool ran = false;
    for (;;) {
        bool any = false;
        for (int i = 0; i < SIMT_LANES; i++) {
            SimtThread *t = &warp[simt.turn & 1 ? SIMT_LANES - 1 - i : i];
            if (t->state == SIMT_READY) {
                simt.self = t;
                simt_switch(&simt.scheduler, t->stack_pointer);
                any = ran = true;
            }
        }
        if (any)
            continue;
        int waiting = 0, held = 0;
        for (int i = 0; i < SIMT_LANES; i++) {
            waiting += warp[i].state == SIMT_AT_WARP;
            /* may come to the others' operation yet */
            held += warp[i].state == SIMT_AT_BARRIER || warp[i].state == SIMT_AT_CLUSTER
                 || warp[i].state == SIMT_AT_PRODUCTS;
        }
        if (waiting == 0 || held)
            return ran;
        for (int i = 0; i < SIMT_LANES; i++)
            if (warp[i].state != SIMT_AT_WARP || warp[i].at != warp[0].at) {
                simt.self = &warp[i];
                simt_fail("lanes part: this one is %s %s, lane 0 at %s",
                          warp[i].state == SIMT_DONE ? "done, last at" : "at", warp[i].at, warp[0].at);
            }
        for (int i = 0; i < SIMT_LANES; i++)
            warp[i].state = SIMT_READY;
        ran = true;
    }
}

static void block_begins(SimtBlock *b, uint3 index, unsigned threads)
{
    static uint64_t begun;
    begun++;
    for (unsigned n = 0; n < threads; n++) {
        thread_begin(&b->thread[n], n);
        b->thread[n].multiplied = begun << 32;
    }
    memset(b->dynamic, 0xff, simt.dynamic_bytes + 128);
    b->index = index;
    b->votes = 0;
    b->begun = b->ended = false;
}

static void block_ends(SimtBlock *b, unsigned threads)
{
    b->ended = true;
    simt_block_ends(b);
    simt_products_end(b, threads);
    for (int i = 0; i < 128; i++)
        if (b->dynamic[simt.dynamic_bytes + (size_t)i] != 0xff)
            simt_fail("shared memory written %d bytes behind its %zu", i, simt.dynamic_bytes);
}

/* Goes once over a block's warps. Returns whether any ran or can now. */
static bool run_block(SimtBlock *b, unsigned threads)
{
    bool ran = false;
    if (b->ended)
        return false;
    b->begun = true;
    simt.here = b;
    for (unsigned w = 0; w < threads/SIMT_LANES; w++)
        ran |= run_warp(&b->thread[(simt.turn & 1 ? threads/SIMT_LANES - 1 - w : w)*SIMT_LANES]);
    unsigned waiting = 0, done = 0;
    for (unsigned n = 0; n < threads; n++) {
        SimtThread *t = &b->thread[n];
        if ((t->state == SIMT_AT_BARRIER && simt_barrier_passed(t))
            || (t->state == SIMT_AT_CLUSTER && simt.phases == t->waited)) {
            t->state = SIMT_READY;
            ran = true;
        }
        waiting += t->state == SIMT_AT_BLOCK;
        done += t->state == SIMT_DONE;
    }
    if (done == threads) {
        block_ends(b, threads);
    } else if (waiting == threads) {
        for (unsigned n = 0; n < threads; n++)
            b->thread[n].state = SIMT_READY;
        simt.turn++;
        ran = true;
    } else if (waiting && waiting + done == threads) {
        simt_fail("%u threads wait at a barrier, %u have ended", waiting, done);
    }
    return ran;
}

static unsigned count(unsigned threads, SimtState state)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < simt.blocks; i++)
        for (unsigned n = 0; n < threads; n++)
            sum += simt.block[i].thread[n].state == state;
    return sum;
}

/* Warps that wait for products go on. Returns whether there are any. */
static bool products_come(unsigned threads)
{
    bool any = false;
    for (unsigned i = 0; i < simt.blocks; i++)
        for (unsigned n = 0; n < threads; n++)
            if (simt.block[i].thread[n].state == SIMT_AT_PRODUCTS) {
                simt.block[i].thread[n].state = SIMT_READY;
                any = true;
            }
    return any;
}

/* When no thread can go on: a box or the products under way, in turn where there are both. */
static bool something_comes(unsigned threads)
{
    static bool box_first;
    box_first = !box_first;
    return box_first ? simt_box_comes() || products_come(threads) : products_come(threads) || simt_box_comes();
}

static void run_cluster(unsigned threads)
{
    unsigned ended;
    simt.joined = simt.phases = 0;
    do {
        const bool backward = simt.turn & 1;
        bool ran = false;
        ended = 0;
        for (unsigned i = 0; i < simt.blocks; i++) {
            SimtBlock *b = &simt.block[backward ? simt.blocks - 1 - i : i];
            while (run_block(b, threads))
                ran = true;
            ended += b->ended;
        }
        if (ended < simt.blocks && !ran && !something_comes(threads))
            simt_fail("%u threads wait at barriers in shared memory for what does not come, %u at the cluster's",
                      count(threads, SIMT_AT_BARRIER), count(threads, SIMT_AT_CLUSTER));
    } while (ended < simt.blocks);
}

void simt_start(const char *file, int line, const char *name, unsigned blocks, dim3 grid, unsigned threads,
                size_t shared)
{
    simt_time++;
    simt.self = NULL;
    simt.file = file;
    simt.line = line;
    simt.name = simt_started = name;
    simt_started_blocks = blocks;
    if (threads == 0 || threads%SIMT_LANES || threads > SIMT_THREADS || shared > (size_t)simt_shared
        || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535)
        simt_fail("cannot launch (%u,%u,%u) blocks of %u threads with %zu bytes", grid.x, grid.y, grid.z, threads,
                  shared);
    if (blocks == 0 || blocks > SIMT_CLUSTER || grid.x%blocks)
        simt_fail("cannot launch (%u,%u,%u) blocks in clusters of %u", grid.x, grid.y, grid.z, blocks);
    simt.grid_dim = grid;
    simt.block_dim = dim3(threads);
    simt.blocks = blocks;
    simt.dynamic_bytes = shared;
    simt.turn = 0;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x += blocks) {
                for (unsigned i = 0; i < blocks; i++)
                    block_begins(&simt.block[i], {x + i, y, z}, threads);
                simt.turn++;
                run_cluster(threads);
            }
    simt.self = NULL;
}

/* ---- f16 of f32, by formats/dtype.h ---- */

uint16_t simt_half(float x)
{
    uint16_t bits;
    dtype_from_f32(&bits, F16, &x, 1);
    return bits;
}

/* ---- fragments, as PTX lays them out (PTX ISA, mma.m16n8k16 and ldmatrix) ---- */

static float widened(uint32_t word, int half, bool f16)
{
    return simt_from_bits((uint16_t)(half ? word >> 16 : word), f16);
}

/* Lane l holds rows g = l/4 and g+8 of A at columns 2(l%4) and 8 further, and of B column g at the same rows. */
const SimtBoard *simt_mma_board(const uint32_t a[4], const uint32_t b[2], bool f16)
{
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    SimtBoard *board = simt_board("mma", mine, sizeof mine);
    const int l = simt_lane(), g = l/4, c = l%4*2;
    uint32_t word[6];
    memcpy(word, board->slot[l], sizeof word);
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 4; i++)
            board->A[g + i%2*8][c + i/2*8 + half] = widened(word[i], half, f16);
        for (int i = 0; i < 2; i++)
            board->B[c + i*8 + half][g] = widened(word[4 + i], half, f16);
    }
    simt_meet(SIMT_AT_WARP, "mma");
    return board;
}

/* Lane 8m+i gives the address of row i of matrix m; register m of lane l is its row l/4, columns 2(l%4) and one more,
 * or of the transposed matrix. */
void simt_ldmatrix(uint32_t *r, const void *row, int matrices, bool transposed)
{
    if ((uintptr_t)row%16)
        simt_fail("ldmatrix: row at %p is not aligned to 16 bytes", row);
    const SimtBoard *board = simt_board("ldmatrix", &row, sizeof row);
    const int l = simt_lane();
    for (int m = 0; m < matrices; m++) {
        uint16_t value[2];
        for (int half = 0; half < 2; half++) {
            const uint16_t *from;
            memcpy(&from, board->slot[8*m + (transposed ? l%4*2 + half : l/4)], sizeof from);
            value[half] = from[transposed ? l/4 : l%4*2 + half];
        }
        r[m] = (uint32_t)value[0] | (uint32_t)value[1] << 16;
    }
}

void simt_copy_async(void *to, const void *from, int bytes)
{
    SimtThread *self = simt.self;
    if ((uintptr_t)to%16 || (bytes && (uintptr_t)from%16))
        simt_fail("cp.async from %p to %p is not aligned to 16 bytes", from, to);
    if (self->copies == SIMT_COPIES)
        simt_fail("more than %d copies under way", SIMT_COPIES);
    self->copy[self->copies++] = {to, from, bytes, self->group};
}

void simt_copy_commit(void)
{
    simt.self->group++;
}

void simt_copy_wait(int newest)
{
    SimtThread *self = simt.self;
    int kept = 0;
    for (int i = 0; i < self->copies; i++) {
        const SimtCopy *c = &self->copy[i];
        if (c->group < self->group - newest) {
            memset(c->to, 0, 16);
            if (c->bytes)
                memcpy(c->to, c->from, (size_t)c->bytes);
        } else {
            self->copy[kept++] = *c;
        }
    }
    self->copies = kept;
}
