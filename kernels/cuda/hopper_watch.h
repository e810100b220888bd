/* SPDX-License-Identifier: MIT */
/* hopper_watch.h -- waits at barriers in shared memory that do not end: in code built with -DWATCH (make cuda-watch),
 * where SDSTEER_CUDA_WATCH=SECONDS, a warp that has waited so long says where, and soon after ends the kernel; gpu_fail
 * then tells what all have said. Only for that: it takes registers, for want of which the compiler lets products wait
 * for each other. Private to kernels/cuda. */
#ifndef KERNELS_CUDA_HOPPER_WATCH_H
#define KERNELS_CUDA_HOPPER_WATCH_H

#include "kernels/cuda/cuda.h"

/* What a warp says, in memory of the host, which stays when the device is lost. */
typedef struct Stuck {
    const char *file;                   /* of the kernel; NULL: nothing was said */
    uint64_t state;                     /* of the barrier, as it lies in memory */
    uint32_t block, thread, barrier, parity, shared;    /* barrier: its address; shared: the block's dynamic bytes */
} Stuck;

enum { WATCH_BLOCKS = 16, WATCH_WARPS = 32 };           /* block b is told as b%WATCH_BLOCKS */

typedef struct Watch {
    Stuck *stuck;                       /* (WATCH_BLOCKS,WATCH_WARPS); NULL: nobody watches */
    uint64_t nanoseconds;
    const char *file;
} Watch;

/* As SDSTEER_CUDA_WATCH says. */
Watch watch_wanted(const char *file);
/* What was said, on stderr; nothing where nobody watches. */
void watch_report(void);

#ifdef WATCH

/* Of the file whose kernels look at it. */
static __device__ __attribute__((unused)) Watch watch;

__device__ __forceinline__ uint64_t nanoseconds(void)
{
    uint64_t t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

/* A quarter of the time is left to the others to say where they are. */
__device__ __forceinline__ void watch_say(const Watch &w, uint64_t waited, uint32_t barrier, unsigned parity)
{
    Stuck said = {w.file, 0, blockIdx.x, threadIdx.x, barrier, parity, 0};
    asm volatile("ld.shared.b64 %0, [%1];" : "=l"(said.state) : "r"(barrier) : "memory");
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(said.shared));
    w.stuck[blockIdx.x%WATCH_BLOCKS*WATCH_WARPS + threadIdx.x/WARP] = said;
    __threadfence_system();
    if (waited > w.nanoseconds + w.nanoseconds/4)
        __trap();
}

/* Waits at a barrier for the end of a phase (hopper.h). */
__device__ __forceinline__ void watch_wait(uint32_t barrier, unsigned parity)
{
    const Watch w = watch;
    const uint64_t begun = nanoseconds();
    for (uint32_t ended = 0; !ended;) {
        asm volatile("{\n\t.reg .pred done;\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, done;\n\t}" : "=r"(ended) : "r"(barrier), "r"(parity) : "memory");
        const uint64_t waited = nanoseconds() - begun;
        if (!ended && w.stuck && waited > w.nanoseconds)
            watch_say(w, waited, barrier, parity);
    }
}

#endif

/* Before a kernel of `file` is started that waits at barriers. */
static inline void watch_begin(const char *file)
{
#ifdef WATCH
    static bool begun;
    const Watch w = begun ? Watch{} : watch_wanted(file);
    if (w.stuck)
        gpu_check(cudaMemcpyToSymbol(watch, &w, sizeof w));
    begun = true;
#else
    (void)file;
#endif
}

#endif
