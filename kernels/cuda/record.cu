/* SPDX-License-Identifier: MIT */
/* record.cu -- ops taken down as a CUDA graph. The stream captures what is launched on it; a graph's launch then costs
 * the host one call, and the device about a microsecond between kernels. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/library.h"

struct Recording { cudaGraphExec_t graph; };

bool gpu_recorded;

/* Relaxed: libraries may ask the runtime for what is no work on the stream. */
static void record_begin(void)
{
    gpu_recorded = true;
    gpu_check(cudaStreamBeginCapture(gpu_stream, cudaStreamCaptureModeRelaxed));
}

static Recording *record_end(void)
{
    cudaGraph_t graph = NULL;
    Recording *r = (Recording *)calloc(1, sizeof *r);
    cudaError_t status = cudaStreamEndCapture(gpu_stream, &graph);
    if (status == cudaSuccess)
        status = r ? cudaGraphInstantiate(&r->graph, graph, 0) : cudaErrorMemoryAllocation;
    library_trace("graph: %s", status == cudaSuccess ? "made" : cudaGetErrorString(status));
    if (graph)
        gpu_check(cudaGraphDestroy(graph));
    if (status == cudaSuccess)
        return r;
    cudaGetLastError();
    free(r);
    return NULL;
}

static void replay(Recording *r)
{
    gpu_check(cudaGraphLaunch(r->graph, gpu_stream));
}

static void record_free(Recording *r)
{
    if (!r)
        return;
    gpu_check(cudaGraphExecDestroy(r->graph));
    free(r);
}

void cuda_record_ops(Ops *ops)
{
    ops->record_begin = record_begin;
    ops->record_end = record_end;
    ops->replay = replay;
    ops->record_free = record_free;
}
