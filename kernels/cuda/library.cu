/* SPDX-License-Identifier: MIT */
/* library.cu -- opens NVIDIA's libraries when they are first wanted: the backend works without them. */
#include <dlfcn.h>
#include <stdarg.h>
#include <time.h>
#include "kernels/cuda/library.h"

bool library_wanted(void)
{
    return !gpu_wished("SDSTEER_CUDA_LIBRARIES", "none");
}

void *library_open(const char *name)
{
#ifdef SIMT                     /* tests/simt has the functions, linked to this one: in a shared object or a program */
    Dl_info here = {};
    dladdr((void *)library_open, &here);
    name = dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD) ? here.dli_fname : NULL;
#endif
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

bool library_find(void *library, const char *name, void **function)
{
    *function = dlsym(library, name);
    return *function != NULL;
}

bool library_traced(void)
{
    return gpu_wished("SDSTEER_CUDA_TRACE", "1");
}

void library_trace(const char *format, ...)
{
    if (!library_traced())
        return;
    static struct timespec first;
    struct timespec now;
    va_list arguments;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!first.tv_sec)
        first = now;
    fprintf(stderr, "%7.3f s  ", (double)(now.tv_sec - first.tv_sec) + 1e-9*(double)(now.tv_nsec - first.tv_nsec));
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}
