/* SPDX-License-Identifier: MIT */
/* simt.h -- enough of CUDA for the kernels to be built by a C++ compiler and run on the host, one thread at a time.
 *
 * A block's threads are fibers with stacks of their own; a thread runs until it meets others: at a barrier of its block
 * or in an operation of its warp (shuffle, vote, mma, ldmatrix), where all 32 lanes must come to the same operation.
 * What a device would leave undefined ends the program with a message: lanes that part, barriers that some threads
 * miss, a collective with lanes missing, addresses that are not aligned, memory written outside its bounds. Shared
 * memory starts a block as NaN; cp.async copies at the latest moment allowed, wgmma multiplies when no other warp can
 * go on, and so comes every other copy of a box (hopper.cc, boxes.cc); the order of warps and lanes turns round at
 * every barrier, so that a missing one shows. The blocks of a cluster run in turns, each as far as it can. Clusters (a
 * block, where there are none) run one after another, and so do kernels: a missing barrier between them is not seen.
 *
 * Arithmetic is the host's: expf, erff and sums in an mma may differ from a device's in the last bits. */
#ifndef TESTS_SIMT_SIMT_H
#define TESTS_SIMT_SIMT_H

#if !defined __x86_64__
#error "simt.h switches stacks in the code of x86-64"
#endif

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
/* One for all blocks, so none for blocks that run side by side: those have shared_memory(). */
#define SIMT_JOIN_(a, b) a##b
#define SIMT_JOIN(a, b) SIMT_JOIN_(a, b)
#define __shared__ __attribute__((unused)) const bool SIMT_JOIN(simt_alone_, __COUNTER__) = simt_alone(); static
#define __constant__ static

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

/* ---- threads ---- */

enum { SIMT_LANES = 32, SIMT_THREADS = 1024, SIMT_STACK = 64*1024, SIMT_COPIES = 128, SIMT_PRODUCTS = 32,
       SIMT_BARRIERS = 64, SIMT_SHARED = 227*1024,
       SIMT_CLUSTER = 8 };              /* blocks of a cluster: what every device takes */
enum SimtState { SIMT_READY, SIMT_AT_WARP, SIMT_AT_BLOCK, SIMT_AT_BARRIER, SIMT_AT_CLUSTER, SIMT_AT_PRODUCTS,
                 SIMT_DONE };

struct SimtCopy { void *to; const void *from; int bytes, group; };       /* of 16 bytes; the rest zeros */

struct SimtProduct {                    /* wgmma.mma_async */
    float *sum;
    int columns;
    uint64_t A, B;
    bool add, f16;
    int group;
    const uint32_t *left;               /* A's registers, NULL where A is a descriptor, */
    uint32_t was[4];                    /* and what they held when it was asked for */
    uint64_t seen;                      /* a sum of what shared memory then held */
};

struct SimtThread {
    void *stack_pointer;
    char *stack;
    SimtState state;
    uint3 index;
    unsigned calls;                     /* of collectives: their number chooses one of two boards */
    const char *at;                     /* the operation waited in */
    SimtCopy copy[SIMT_COPIES];
    int copies, group;
    SimtProduct product[SIMT_PRODUCTS];
    int products, product_group;
    uint64_t multiplied;                /* products so far, on top of what is the block's own */
    bool fenced;                        /* wgmma.fence since the last wgmma.wait_group */
    uint64_t asked;                     /* a sum of all products' operands: the same in a group's four warps */
    uint64_t *created[SIMT_BARRIERS];   /* barriers that nobody else may use yet */
    int hidden;                         /* how many */
    int stores, store_group;            /* boxes to memory that were not read yet, and groups of them that ended */
    int shown;                          /* calls of fence.proxy.async */
    uint64_t *barrier;                  /* in shared memory, waited at for the end of the phase of this parity */
    unsigned parity;
    unsigned joined, waited;            /* barrier.cluster.arrive and .wait called */
};

/* What lanes lay open to each other. Two, since a lane may reach the next operation before another has read. */
struct SimtBoard {
    alignas(16) unsigned char slot[SIMT_LANES][32];
    float A[16][16], B[16][8];          /* of an mma */
};

struct SimtBlock {
    uint3 index;
    SimtThread thread[SIMT_THREADS];
    SimtBoard board[SIMT_THREADS/SIMT_LANES][2];
    alignas(128) unsigned char dynamic[SIMT_SHARED + 128];
    unsigned char *shown[SIMT_THREADS/SIMT_LANES];      /* that, as it was at each warp's last fence.proxy.async */
    int votes;
    bool begun, ended;
};

struct Simt {
    SimtBlock block[SIMT_CLUSTER], *here;       /* by rank; the one that runs */
    SimtThread *self;
    dim3 block_dim, grid_dim;
    unsigned blocks;                    /* of a cluster */
    unsigned joined, phases;            /* threads at barrier.cluster; how often all were */
    size_t dynamic_bytes;
    void *scheduler;                    /* its stack pointer */
    void (*call)(void *closure);
    void *closure;
    const char *file, *name;
    int line;
    unsigned turn;
};
extern Simt simt;
extern int simt_shared;                 /* bytes of shared memory that a block can have, at most SIMT_SHARED */
extern const char *simt_started;        /* the last kernel, as LAUNCH names it, */
extern unsigned simt_started_blocks;    /* and the blocks of its clusters */

/* simt.cc */
void simt_start(const char *file, int line, const char *name, unsigned blocks, dim3 grid, unsigned threads,
                size_t shared);
[[noreturn]] void simt_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void simt_meet(SimtState where, const char *at);                /* waits until the others are there too */
SimtBoard *simt_board(const char *at, const void *mine, size_t bytes);    /* lays mine open, waits for the warp */

/* What a stream is asked for: done at once, or kept by the graph that captures it. Closures are plain data. */
struct SimtStep { void (*call)(void *closure); void *closure; SimtStep *next; };
struct SimtGraph { SimtStep *first, **end; };
extern SimtGraph *simt_graph;           /* NULL: nothing is captured */
void simt_keep(void (*call)(void *closure), const void *closure, size_t bytes);

template <typename F> void simt_do(F f)
{
    if (simt_graph)
        simt_keep([](void *closure) { (*(F *)closure)(); }, &f, sizeof f);
    else
        f();
}

template <typename F> void simt_run(const char *file, int line, const char *name, unsigned blocks, dim3 grid,
                                    unsigned threads, size_t shared, F f)
{
    simt_do([=] {
        simt.call = [](void *closure) { (*(F *)closure)(); };
        simt.closure = (void *)&f;
        simt_start(file, line, name, blocks, grid, threads, shared);
    });
}

#define threadIdx (simt.self->index)
#define blockIdx (simt.here->index)
#define blockDim (simt.block_dim)
#define gridDim (simt.grid_dim)
#define shared_memory() (simt.here->dynamic)

static inline bool simt_alone(void)
{
    if (simt.blocks > 1)
        simt_fail("a __shared__ variable in a cluster");
    return true;
}

static inline int simt_lane(void) { return (int)(simt.self->index.x%SIMT_LANES); }
static inline void __syncthreads(void) { simt_meet(SIMT_AT_BLOCK, "__syncthreads"); }
int __syncthreads_or(int predicate);
int __syncthreads_count(int predicate);
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

/* ---- operations of a warp: every lane takes part ---- */

static inline void simt_whole(unsigned mask)
{
    if (mask != 0xffffffffu)
        simt_fail("a collective for lanes %08x only", mask);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    simt_whole(mask);
    simt_board("__syncwarp", "", 0);
}

template <typename T> T simt_from(const char *at, T value, int lane)
{
    T other;
    const SimtBoard *board = simt_board(at, &value, sizeof value);
    memcpy(&other, board->slot[lane >= 0 && lane < SIMT_LANES ? lane : simt_lane()], sizeof other);
    return other;
}
template <typename T> T __shfl_sync(unsigned mask, T v, int lane)
{
    simt_whole(mask);
    return simt_from("__shfl_sync", v, lane & 31);
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int with)
{
    simt_whole(mask);
    return simt_from("__shfl_xor_sync", v, simt_lane() ^ with);
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, unsigned by)
{
    simt_whole(mask);
    return simt_from("__shfl_down_sync", v, simt_lane() + (int)by);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, unsigned by)
{
    simt_whole(mask);
    return simt_from("__shfl_up_sync", v, simt_lane() - (int)by);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    simt_whole(mask);
    const unsigned char mine = predicate != 0;
    const SimtBoard *board = simt_board("__ballot_sync", &mine, 1);
    unsigned votes = 0;
    for (int l = 0; l < SIMT_LANES; l++)
        votes |= (unsigned)board->slot[l][0] << l;
    return votes;
}
static inline unsigned __reduce_add_sync(unsigned mask, unsigned v)
{
    simt_whole(mask);
    const SimtBoard *board = simt_board("__reduce_add_sync", &v, sizeof v);
    unsigned sum = 0;
    for (int l = 0; l < SIMT_LANES; l++) {
        unsigned other;
        memcpy(&other, board->slot[l], sizeof other);
        sum += other;
    }
    return sum;
}
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == 0xffffffffu; }

/* ---- arithmetic ---- */

static inline float __uint_as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t __float_as_uint(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float __int_as_float(int i) { return __uint_as_float((uint32_t)i); }
static inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
static inline float __fmul_rn(float a, float b) { volatile float r = a*b; return r; }
static inline float __fadd_rn(float a, float b) { volatile float r = a + b; return r; }
static inline float __fsub_rn(float a, float b) { volatile float r = a - b; return r; }
static inline float __fdiv_rn(float a, float b) { volatile float r = a/b; return r; }
static inline float __fdividef(float a, float b) { return fabsf(b) > 0x1p126f ? a*0 : a/b; }   /* 0 beyond 2^126 */
#define __expf(x) expf(x)                /* glibc has the name too */
static inline float rsqrtf(float x) { return 1/sqrtf(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
template <typename T> T __ldg(const T *p) { return *p; }
template <typename T> T min(T a, T b) { return a < b ? a : b; }
template <typename T> T max(T a, T b) { return a > b ? a : b; }
template <typename T> T atomicAdd(T *p, T v) { const T old = *p; *p += v; return old; }
template <typename T> T atomicMax(T *p, T v) { const T old = *p; *p = old > v ? old : v; return old; }
template <typename T> T atomicMin(T *p, T v) { const T old = *p; *p = old < v ? old : v; return old; }
template <typename T> T atomicOr(T *p, T v) { const T old = *p; *p |= v; return old; }
template <typename T> T atomicExch(T *p, T v) { const T old = *p; *p = v; return old; }
template <typename T> T atomicCAS(T *p, T was, T v) { const T old = *p; if (old == was) *p = v; return old; }

static inline uint16_t simt_bf16(float x)
{
    const uint32_t u = __float_as_uint(x);
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
uint16_t simt_half(float x);
static inline float simt_from_half(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, low = (uint32_t)(bits & 0x7fff) << 13;
    const uint32_t finite = __float_as_uint(__uint_as_float(low)*0x1p112f);     /* the exponent's bias from 15 to 127 */
    const uint32_t top = 0x7c00u << 13;                 /* infinity, and NaN above it */
    return __uint_as_float(sign | finite | (low >= top ? 0x7f800000u : 0) | (low > top ? 0x400000u : 0));
}
static inline float simt_from_bits(uint16_t bits, bool f16)     /* else bf16 */
{
    return f16 ? simt_from_half(bits) : __uint_as_float((uint32_t)bits << 16);
}

/* ---- the tensor core's side of kernels/cuda/mma.h ---- */

/* Waits until the warp's 16x16 A and 16x8 B, of f16 or else bf16, are on the board as floats. */
const SimtBoard *simt_mma_board(const uint32_t a[4], const uint32_t b[2], bool f16);
void simt_ldmatrix(uint32_t *r, const void *row, int matrices, bool transposed);
void simt_copy_async(void *to, const void *from, int bytes);
void simt_copy_commit(void);
void simt_copy_wait(int newest);        /* all groups but the newest ones are there */

/* ---- kernels/cuda/hopper.h's side (hopper.cc, boxes.cc); boxes and their maps: cuda.h beside this ---- */

uint32_t simt_shared_address(const void *p);
void simt_barrier_create(uint64_t *barrier, unsigned count);
void simt_barriers_created(void);
void simt_barrier_arrive(uint64_t *barrier, unsigned bytes);
void simt_barrier_wait(uint64_t *barrier, unsigned parity);
bool simt_barrier_passed(const SimtThread *t);      /* what t waits for at a barrier has come */
void simt_barrier_bytes(uint64_t *barrier, unsigned bytes);     /* some of those announced are there */
bool simt_box_comes(void);                          /* one of those under way; false: there is none */
void simt_block_ends(const SimtBlock *b);           /* refused while boxes are on their way to it */
void simt_products_end(const SimtBlock *b, unsigned threads);   /* refused where a group's warps asked for others */
unsigned simt_cluster_rank(void);
void simt_cluster_arrive(void);
void simt_cluster_wait(void);
SimtBlock *simt_block_of(unsigned rank);            /* which has begun and not ended */
unsigned char *simt_shared_at(SimtBlock *b, uint32_t address, uint32_t bytes);
/* An address with its part of 16 bytes turned: the swizzle of rows of 32, 64 or 128 bytes. */
static inline uint32_t simt_turned(uint32_t address, uint32_t row_bytes)
{
    return address ^ (address >> 7 & (row_bytes/16 - 1)) << 4;
}
/* p's place in the shared memory of the block of that rank of the cluster, which has begun and not ended. */
void *simt_at_rank(const void *p, unsigned bytes, unsigned rank);
void simt_barrier_arrive_at(uint64_t *barrier, unsigned rank);
void simt_wgmma_fence(void);
void simt_wgmma(float *sum, int columns, uint64_t A, uint64_t B, bool add, bool f16);
/* A in registers, B with n along memory. */
void simt_wgmma_left(float *sum, int columns, const uint32_t *A, uint64_t B, bool add, bool f16);
void simt_show_written(void);
void simt_stores_commit(void);
void simt_stores_read(int newest);                  /* all groups but the newest ones are read */
void simt_wgmma_commit(void);
void simt_wgmma_wait(int newest);                   /* all groups but the newest ones are computed */

/* ---- the runtime's calls that kernels/cuda makes ---- */

typedef int cudaError_t;
typedef struct SimtStream *cudaStream_t;
typedef struct SimtEvent *cudaEvent_t;
enum { cudaSuccess = 0, cudaErrorMemoryAllocation = 2, cudaErrorNoDevice = 100, cudaStreamNonBlocking = 1,
       cudaEventDisableTiming = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75,
                      cudaDevAttrComputeCapabilityMinor = 76, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };

/* Memory starts as NaN, and its edges are looked at when it is freed. */
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
const char *cudaGetErrorString(cudaError_t status);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);

typedef SimtGraph *cudaGraph_t, *cudaGraphExec_t;       /* an instance is the graph itself */
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *instance, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance);
extern int simt_graph_launches;

enum { cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared = 100 };
template <typename F> cudaError_t cudaFuncSetAttribute(F *, int, int) { return cudaSuccess; }

static inline cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
static inline cudaError_t cudaGetDeviceCount(int *n) { *n = 4; return cudaSuccess; }
static inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) { *s = NULL; return cudaSuccess; }
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { *e = NULL; return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t e);
/* Of events that tell the time, which a kernel's launch takes 1 of. */
extern float simt_time;
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end);
static inline cudaError_t cudaMallocHost(void **p, size_t bytes) { return cudaMalloc(p, bytes); }
static inline cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
enum { cudaHostRegisterDefault };
static inline cudaError_t cudaHostRegister(void *, size_t, unsigned) { return cudaSuccess; }
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int)
{
    *value = what == cudaDevAttrMultiProcessorCount ? 4 : what == cudaDevAttrComputeCapabilityMajor ? 9
           : what == cudaDevAttrMaxSharedMemoryPerBlockOptin ? simt_shared : 0;
    return cudaSuccess;
}

#endif
