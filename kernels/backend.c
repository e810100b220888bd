/* SPDX-License-Identifier: MIT */
/* backend.c -- chooses the table of operations that everything above computes through.
 *
 * The CUDA backend is a shared object, sdsteer-cuda.so, opened only when it is asked for (or for "auto"): beside the
 * program, in ../lib/sdsteer from there, or where the loader looks. It gives `const Ops *sdsteer_backend(int device,
 * Err *e)`, which returns NULL with e set when there is no such device. A machine without NVIDIA's driver is told by
 * that, before the library is opened. */
#include <dlfcn.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/cpu/cpu.h"
#include "kernels/op.h"

#define CUDA_LIBRARY "sdsteer-cuda.so"
#define CUDA_DRIVER "libcuda.so.1"

const Ops *op;

typedef const Ops *BackendOpen(int device, Err *e);

static void *open_library(void)
{
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "/../lib/sdsteer/" CUDA_LIBRARY);
    if (length > 0) {
        path[length] = 0;
        char *name = strrchr(path, '/') + 1;
        static const char *const places[] = {CUDA_LIBRARY, "../lib/sdsteer/" CUDA_LIBRARY};
        for (size_t i = 0; i < sizeof places/sizeof *places; i++) {
            strcpy(name, places[i]);
            if (access(path, R_OK) == 0)
                return dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
    }
    return dlopen(CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
}

/* The library stays open: its table is in use until the program ends. */
static const Ops *cuda_ops(int device, Err *e)
{
    if (!dlopen(CUDA_DRIVER, RTLD_LAZY | RTLD_LOCAL)) {
        err_set(e, "backend cuda: no NVIDIA driver here (%s); there is: cpu", dlerror());
        return NULL;
    }
    void *library = open_library();
    if (!library) {
        err_set(e, "backend cuda: %s; there is: cpu", dlerror());
        return NULL;
    }
    BackendOpen *open = NULL;
    *(void **)&open = dlsym(library, "sdsteer_backend");
    if (!open) {
        err_set(e, "backend cuda: %s has no sdsteer_backend", CUDA_LIBRARY);
        return NULL;
    }
    return open(device, e);
}

/* "cuda" is device 0, "cuda:N" device N; -1 for anything else. */
static int cuda_device(const char *name)
{
    if (strcmp(name, "cuda") == 0)
        return 0;
    if (strncmp(name, "cuda:", 5) != 0 || strspn(name + 5, "0123456789") != strlen(name + 5))
        return -1;
    const size_t digits = strlen(name + 5);
    return digits >= 1 && digits <= 4 ? atoi(name + 5) : -1;
}

int backend_pick(const char *name, int threads, Err *e)
{
    return backend_pick_rank(name, threads, 0, 1, e);
}

/* A parallel region is to get the threads that it asks for: oneDNN's products come out wrong where it gets fewer, as by
 * OMP_DYNAMIC or OMP_THREAD_LIMIT in the environment. */
static void settle_threads(int threads, int ranks)
{
    const int share = (threads > 0 ? threads : omp_get_num_procs())/ranks, most = omp_get_thread_limit();
    const int wanted = threads > 0 || ranks > 1 ? share : omp_get_max_threads();
    omp_set_dynamic(0);
    omp_set_num_threads(wanted < 1 ? 1 : wanted < most ? wanted : most);
}

int backend_pick_rank(const char *name, int threads, int rank, int ranks, Err *e)
{
    settle_threads(threads, ranks);
    Err absent = {0};
    op = strcmp(name, "auto") == 0 ? cuda_ops(rank, &absent) : NULL;
    if (op)
        return 0;
    if (strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0) {
        if (cpu_settle(e))
            return -1;
        op = cpu_ops();
        return 0;
    }
    const int device = cuda_device(name);
    if (device < 0)
        return err_misuse(e, "backend '%s' is unknown; there are: auto, cpu, cuda, cuda:N", name);
    op = cuda_ops(device + rank, e);
    return op ? 0 : -1;
}
