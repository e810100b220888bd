/* SPDX-License-Identifier: MIT */
/* dnn_graph.h -- cuDNN 9's backend interface, for convolutions (dnn.cu) and attention (dnn_attention.cu). Private to
 * kernels/cuda.
 *
 * A computation is a graph of operations on tensors. It is made of descriptors that are filled by attributes and
 * finalized; tensors have four dimensions, strides that say where they lie, and a number (uid) by which a run gives
 * their addresses. An engine with its knobs makes a plan of the graph, which a run executes.
 *
 * Same bytes: for a size the library is asked once, for DNN_IMAGES images, which of its engines it prefers; the first
 * that is deterministic, keeps f32 sums and can be planned is then used, with its knobs, for any number of images.
 *
 * Any call may be refused, and its size is then not cuDNN's. With SDSTEER_CUDA_TRACE=1 what is refused, and which
 * engine is taken, are said on stderr when a size is first met. cuDNN Backend API reference, 9.x.
 * DNN_VERSION is that of cudnn.h, 0 without one: there is then no cuDNN. */
#ifndef KERNELS_CUDA_DNN_GRAPH_H
#define KERNELS_CUDA_DNN_GRAPH_H

#include "kernels/cuda/library.h"

#if __has_include(<cudnn.h>)
#include <cudnn.h>
#define DNN_VERSION CUDNN_VERSION

enum { DNN_IMAGES = 8, DNN_KNOBS = 24, DNN_OWNED = 64, DNN_TENSORS = 6, DNN_NUMBERS = 12 };

typedef cudnnBackendDescriptor_t Descriptor;

/* Descriptors that are made one on another; the first failure makes all that follows do nothing. */
typedef struct Build {
    Descriptor owned[DNN_OWNED];
    int count;
    bool good;
} Build;

/* What a graph is made of, but for the number of images B. Filled with zeros first: compared byte by byte. */
typedef struct DnnKind {
    Descriptor (*graph)(Build *b, const struct DnnKind *kind, int64_t B);
    void (*name)(char name[128], const struct DnnKind *kind, int64_t B);    /* for the trace */
    int64_t number[DNN_NUMBERS];
} DnnKind;

typedef struct DnnPlan {
    Build build;                    /* keeps all that the plan is made of */
    Descriptor plan;                /* NULL: it was refused */
    Build run;                      /* keeps the addresses of the last run, which the next often has again */
    Descriptor pack;
    const void *data[DNN_TENSORS], *workspace;
    float number;                   /* the caller's, where a tensor is one: runs find it here */
} DnnPlan;

/* Opens the library, once. false: there is none. */
bool dnn_open(void);

Descriptor dnn_make(Build *b, cudnnBackendDescriptorType_t type);
void dnn_set(Build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
             const void *values);
void dnn_set_descriptor(Build *b, Descriptor d, cudnnBackendAttributeName_t name, Descriptor value);
Descriptor dnn_finish(Build *b, Descriptor d);                  /* gives d */
void dnn_drop(Build *b, int kept);                              /* all after the first `kept`, youngest first */

static inline cudnnDataType_t dnn_type(DType type)                 /* F32, BF16 or F16 */
{
    return type == F32 ? CUDNN_DATA_FLOAT : type == BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

/* A tensor in device memory, 16-byte aligned; one between two operations; a number in host memory. */
typedef enum { DNN_STORED, DNN_BETWEEN, DNN_NUMBER } DnnPlace;
Descriptor dnn_tensor(Build *b, int64_t uid, cudnnDataType_t type, const int64_t dim[4], const int64_t stride[4],
                      DnnPlace place);
Descriptor dnn_graph(Build *b, const Descriptor *operation, int64_t count);

/* The plan of a kind for B images, made when they are first met. NULL where no engine takes the kind, or there is no
 * memory. */
DnnPlan *dnn_plan_for(const DnnKind *kind, int64_t B);
/* Queues a run: tensor uid[i] is at data[i], up to DNN_TENSORS of them. false: nothing was done, nor will be by this
 * plan. Once there is a workspace it neither allocates device memory nor waits. */
bool dnn_plan_run(DnnPlan *p, const int64_t *uid, const void *const *data, int count);

#else
#define DNN_VERSION 0
#endif
#endif
