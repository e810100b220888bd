/* SPDX-License-Identifier: MIT */
/* backend.cu -- the CUDA backend's table, its device, its memory and its one stream.
 *
 * A device of compute capability 8.0 or later: bf16 and f16 in tensor cores, asynchronous copies to shared memory. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/hopper_watch.h"
#include "kernels/cuda/sae_cuda.h"

cudaStream_t gpu_stream;
int gpu_processors, gpu_block_shared, gpu_capability;

void gpu_fail(const char *file, int line, const char *what, const char *why)
{
    fflush(stdout);
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, what, why);
    watch_report();
    exit(1);
}

void gpu_trace_kernel(const char *name, unsigned blocks, dim3 grid, unsigned threads, size_t shared)
{
    static const bool traced = gpu_wished("SDSTEER_CUDA_TRACE", "kernels");
    if (traced)
        fprintf(stderr, "kernel %s: (%u,%u,%u) blocks in clusters of %u, %u threads, %zu bytes\n", name, grid.x, grid.y,
                grid.z, blocks, threads, shared);
}

void *gpu_memory(size_t bytes, Err *e)
{
    void *p = NULL;
    const cudaError_t status = cudaMalloc(&p, bytes);
    if (status == cudaSuccess)
        return p;
    cudaGetLastError();                 /* a failed allocation is no broken device: forget it */
    err_set(e, "cannot allocate %zu bytes on the device: %s", bytes, cudaGetErrorString(status));
    return NULL;
}

static void *cuda_alloc(size_t bytes, Err *e)
{
    const size_t least = bytes ? bytes : 64;
    void *p = gpu_memory(least, e);
    if (!p)
        return NULL;
    gpu_check(cudaMemsetAsync(p, 0, least, gpu_stream));
    gpu_check(cudaStreamSynchronize(gpu_stream));           /* upload_early may follow, which waits for nothing */
    return p;
}

/* Waits for what is queued, since that may still use p. */
static void cuda_free(void *p)
{
    gpu_check(cudaFree(p));
}

/* Small ones by way of pinned memory, in turns: the runtime would wait for the stream before it copies from pageable
 * memory. A step of a sampler that steers at several places, or adds noise, has some ten, and the next one's should be
 * on their way while it runs. Large ones are waited for: from memory that the caller pinned the device may still be
 * reading. */
void gpu_upload(void *device, const void *host, size_t bytes)
{
    enum { SLOTS = 16, SLOT_BYTES = 2 << 20 };
    static char *slot[SLOTS];
    static cudaEvent_t copied[SLOTS];
    static int turn;
    const void *from = host;
    const bool small = bytes <= SLOT_BYTES;
    turn = (turn + 1)%SLOTS;
    if (small && !slot[turn]) {
        gpu_check(cudaMallocHost((void **)&slot[turn], SLOT_BYTES));
        gpu_check(cudaEventCreateWithFlags(&copied[turn], cudaEventDisableTiming));
    } else if (small) {
        gpu_check(cudaEventSynchronize(copied[turn]));
    }
    if (small)
        from = memcpy(slot[turn], host, bytes);
    gpu_check(cudaMemcpyAsync(device, from, bytes, cudaMemcpyHostToDevice, gpu_stream));
    if (small)
        gpu_check(cudaEventRecord(copied[turn], gpu_stream));
    else
        gpu_check(cudaStreamSynchronize(gpu_stream));
}

/* On a stream of its own; gpu_stream goes on when it is there. */
static void cuda_upload_early(void *device, const void *host, size_t bytes)
{
    static cudaStream_t stream;
    static cudaEvent_t copied;
    if (!stream) {
        gpu_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        gpu_check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    }
    gpu_check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream));
    gpu_check(cudaEventRecord(copied, stream));
    gpu_check(cudaStreamWaitEvent(gpu_stream, copied, 0));
}

static void *cuda_alloc_host(size_t bytes)
{
    void *p = NULL;
    if (cudaMallocHost(&p, bytes ? bytes : 64) != cudaSuccess) {
        cudaGetLastError();
        return NULL;
    }
    return p;
}

static void cuda_free_host(void *p)
{
    if (p)
        gpu_check(cudaFreeHost(p));
}

static void cuda_clear(void *device, size_t bytes)
{
    gpu_check(cudaMemsetAsync(device, 0, bytes, gpu_stream));
}

static void cuda_download(void *host, const void *device, size_t bytes)
{
    gpu_check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gpu_stream));
    gpu_check(cudaStreamSynchronize(gpu_stream));
}

/* On a stream of its own: what the last download waited for is there. */
static void cuda_download_early(void *host, const void *device, size_t bytes)
{
    static cudaStream_t stream;
    if (!stream)
        gpu_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    gpu_check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream));
    gpu_check(cudaStreamSynchronize(stream));
}

static void cuda_copy(void *to, const void *from, size_t bytes)
{
    gpu_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, gpu_stream));
}

double gpu_read_double(const double *device)
{
    double value;
    cuda_download(&value, device, sizeof value);
    return value;
}

void *gpu_scratch(int slot, size_t bytes)
{
    static void *buffer[SCRATCH_SLOTS];
    static size_t size[SCRATCH_SLOTS];
    if (bytes > size[slot]) {
        if (!gpu_recorded)
            gpu_check(cudaFree(buffer[slot]));
        size[slot] = (bytes + bytes/(gpu_recorded ? 2 : 8) + 255)/256*256;
        gpu_check(cudaMalloc(&buffer[slot], size[slot]));
    }
    return buffer[slot];
}

static int attribute(cudaDeviceAttr what, int device)
{
    int value = 0;
    gpu_check(cudaDeviceGetAttribute(&value, what, device));
    return value;
}

static const Ops *refuse(Err *e, int device, const char *why)
{
    err_set(e, "backend cuda:%d: %s; there is: cpu", device, why);
    return NULL;
}

extern "C" __attribute__((visibility("default"))) const Ops *sdsteer_backend(int device, Err *e)
{
    static Ops ops;
    static char name[16];
    char why[128];
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status != cudaSuccess || devices == 0)
        return refuse(e, device, status == cudaSuccess ? "no device" : cudaGetErrorString(status));
    if (device < 0 || device >= devices) {
        snprintf(why, sizeof why, "no such device among %d", devices);
        return refuse(e, device, why);
    }
    gpu_capability = attribute(cudaDevAttrComputeCapabilityMajor, device);
    if (gpu_capability < 8) {
        snprintf(why, sizeof why, "compute capability %d.%d, 8.0 is needed", gpu_capability,
                 attribute(cudaDevAttrComputeCapabilityMinor, device));
        return refuse(e, device, why);
    }
    gpu_check(cudaSetDevice(device));
    gpu_check(cudaStreamCreateWithFlags(&gpu_stream, cudaStreamNonBlocking));
    gpu_processors = attribute(cudaDevAttrMultiProcessorCount, device);
    gpu_block_shared = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);

    snprintf(name, sizeof name, "cuda:%d", device);
    ops.name = name;
    ops.best = BF16;
    ops.residual = hopper_wanted("product") ? F16 : F32;
    ops.alloc = cuda_alloc;
    ops.free = cuda_free;
    ops.upload = gpu_upload;
    ops.upload_early = cuda_upload_early;
    ops.download_early = cuda_download_early;
    ops.alloc_host = cuda_alloc_host;
    ops.free_host = cuda_free_host;
    ops.clear = cuda_clear;
    ops.download = cuda_download;
    ops.copy = cuda_copy;
    ops.conv_create = cuda_conv_create;
    ops.conv_free = cuda_conv_free;
    ops.conv_run = cuda_conv_run;
    ops.group_norm = cuda_group_norm;
    ops.layer_norm = cuda_layer_norm;
    ops.modulate = cuda_modulate;
    ops.add_gated = cuda_add_gated;
    ops.rms_norm = cuda_rms_norm;
    ops.attention = cuda_attention;
    ops.attention_biased = cuda_attention_biased;
    ops.activate = cuda_activate;
    ops.convert = cuda_convert;
    ops.store = cuda_store;
    ops.add = cuda_add;
    ops.multiply = cuda_multiply;
    ops.subtract = cuda_subtract;
    ops.upsample = cuda_upsample;
    ops.unpatch = cuda_unpatch;
    ops.embed = cuda_embed;
    ops.ddim_step = cuda_ddim_step;
    ops.dpm_step = cuda_dpm_step;
    ops.multistep = cuda_multistep;
    cuda_record_ops(&ops);
    cuda_sae_ops(&ops.sae);
    cuda_comm_ops(&ops.comm);
    return &ops;
}
