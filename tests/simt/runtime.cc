/* SPDX-License-Identifier: MIT */
/* runtime.cc -- what kernels' callers ask of CUDA's runtime: memory, events, graphs of what a stream was given. */
#include "tests/simt/simt.h"

/* ---- memory: 128 bytes of 0xff on either side are looked at when it is freed ---- */

enum { EDGE = 128 };

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (simt_graph)
        simt_fail("memory allocated while a stream is captured");
    char *all = bytes < ((size_t)1 << 40) ? (char *)aligned_alloc(128, (bytes + 3*EDGE)/EDGE*EDGE + EDGE) : NULL;
    if (!all)
        return cudaErrorMemoryAllocation;
    memset(all, 0xff, (bytes + 3*EDGE)/EDGE*EDGE + EDGE);
    memcpy(all, &bytes, sizeof bytes);
    *p = all + EDGE;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    if (simt_graph)
        simt_fail("memory freed while a stream is captured");
    unsigned char *all = (unsigned char *)p - EDGE;
    size_t bytes;
    memcpy(&bytes, all, sizeof bytes);
    for (size_t i = 0; i < EDGE; i++)
        if ((i >= sizeof bytes && all[i] != 0xff) || all[EDGE + bytes + i] != 0xff)
            simt_fail("memory of %zu bytes was written outside its bounds (found when it was freed)", bytes);
    free(all);
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t status)
{
    return status == cudaErrorMemoryAllocation ? "out of memory" : "failed";
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    if (bytes)
        simt_do([=] { memmove(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    if (bytes)
        simt_do([=] { memset(p, value, bytes); });
    return cudaSuccess;
}

/* ---- events ---- */

struct SimtEvent { float at; bool captured; };

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = (cudaEvent_t)calloc(1, sizeof **e);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    if (e)
        *e = {simt_time, simt_graph != NULL};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e && e->captured)
        simt_fail("an event that a stream's capture recorded is waited for");
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    if (simt_graph)
        simt_fail("a stream is waited for while it is captured");
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    *ms = end->at - begin->at;
    return cudaSuccess;
}

/* ---- graphs ---- */

SimtGraph *simt_graph;
int simt_graph_launches;

void simt_keep(void (*call)(void *closure), const void *closure, size_t bytes)
{
    SimtStep *step = (SimtStep *)malloc(sizeof *step);
    *step = {call, aligned_alloc(64, (bytes + 63)/64*64), NULL};
    memcpy(step->closure, closure, bytes);
    *simt_graph->end = step;
    simt_graph->end = &step->next;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    if (simt_graph)
        simt_fail("a stream that is captured already");
    simt_graph = (SimtGraph *)calloc(1, sizeof *simt_graph);
    simt_graph->end = &simt_graph->first;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph)
{
    *graph = simt_graph;
    simt_graph = NULL;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *instance, cudaGraph_t graph, unsigned long long)
{
    *instance = (SimtGraph *)calloc(1, sizeof **instance);
    **instance = *graph;
    graph->first = NULL;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    for (SimtStep *step = graph->first, *next; step; step = next) {
        next = step->next;
        free(step->closure);
        free(step);
    }
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t)
{
    if (simt_graph)
        simt_fail("a graph launched into a stream that is captured");
    simt_graph_launches++;
    for (SimtStep *step = instance->first; step; step = step->next)
        step->call(step->closure);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance)
{
    return cudaGraphDestroy(instance);
}
