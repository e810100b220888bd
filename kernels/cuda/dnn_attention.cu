/* SPDX-License-Identifier: MIT */
/* dnn_attention.cu -- attention over many keys by cuDNN 9: y = softmax(q k^T scale) v, halves, scores never written.
 *
 *   q, y (B,heads,Sq,d)   k, v (B,heads,Sk,d): dimensions in this order, strides say that a row holds all heads
 *
 * A graph of one operation, which cuDNN has from 9.13.1 on, without the rows' statistics; scale is a number in host
 * memory. For an H100, 9.19 proposes the same kernels for it as for attention spelt out in products, maxima,
 * exponentials and sums, and takes the latter only where the statistics are written out.
 *
 * Engine and knobs are chosen for a size at DNN_IMAGES images, and used for any number (dnn_graph.h). For few keys,
 * keys shared between images and causal attention, attention_half.cu's kernel stays. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/dnn_graph.h"

#if DNN_VERSION >= 91301

enum { LEAST_KEYS = 256, WIDEST = 256 };
enum { UID_Q = 1, UID_K, UID_V, UID_Y, UID_SCALE };

/* The numbers of a kind. */
typedef struct Size {
    int64_t type, heads, d, Sq, Sk, q_stride, k_stride, v_stride, y_stride, scale;      /* scale: the bits of one */
} Size;
static_assert(sizeof(Size) <= sizeof(int64_t)*DNN_NUMBERS, "a kind holds a size");

/* (B,heads,S,d) in rows of `row` elements */
static Descriptor rows(Build *b, int64_t uid, int64_t B, const Size *s, int64_t S, int64_t row)
{
    const int64_t dim[] = {B, s->heads, S, s->d}, stride[] = {S*row, s->d, row, 1};
    return dnn_tensor(b, uid, dnn_type((DType)s->type), dim, stride, DNN_STORED);
}

static Descriptor graph(Build *b, const DnnKind *kind, int64_t B)
{
    const Size *s = (const Size *)kind->number;
    const int64_t one[] = {1, 1, 1, 1};
    Descriptor q = rows(b, UID_Q, B, s, s->Sq, s->q_stride), k = rows(b, UID_K, B, s, s->Sk, s->k_stride);
    Descriptor v = rows(b, UID_V, B, s, s->Sk, s->v_stride), y = rows(b, UID_Y, B, s, s->Sq, s->y_stride);
    Descriptor scale = dnn_tensor(b, UID_SCALE, CUDNN_DATA_FLOAT, one, one, DNN_NUMBER);
    Descriptor attend = dnn_make(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    dnn_set_descriptor(b, attend, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q);
    dnn_set_descriptor(b, attend, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k);
    dnn_set_descriptor(b, attend, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v);
    dnn_set_descriptor(b, attend, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, y);
    dnn_set_descriptor(b, attend, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    dnn_finish(b, attend);
    return dnn_graph(b, &attend, 1);
}

static void name_of(char name[128], const DnnKind *kind, int64_t B)
{
    const Size *s = (const Size *)kind->number;
    snprintf(name, 128, "attention %s %ldx%ld %ld-%ld, %ld images", dtype_name((DType)s->type), (long)s->heads,
             (long)s->d, (long)s->Sq, (long)s->Sk, (long)B);
}

bool attention_dnn(const Attention *a, DType type, int64_t B)
{
    const bool fits = a->pieces && a->y_stride%8 == 0 && ((uintptr_t)a->y&15) == 0 && a->d <= WIDEST;
    if (!fits || a->causal || a->kv_index || a->Sk < LEAST_KEYS || B == 0 || a->Sq == 0 || !library_wanted()
        || !dnn_open())
        return false;
    DnnKind kind = {graph, name_of, {}};
    uint32_t scale;
    memcpy(&scale, &a->scale, sizeof scale);
    *(Size *)kind.number = Size{type, a->heads, a->d, a->Sq, a->Sk, a->q_stride, a->k_stride, a->v_stride,
                                a->y_stride, scale};
    DnnPlan *p = dnn_plan_for(&kind, B);
    if (!p)
        return false;
    p->number = a->scale;
    const int64_t uid[] = {UID_Q, UID_K, UID_V, UID_Y, UID_SCALE};
    const void *data[] = {a->q, a->k, a->v, a->y, &p->number};
    return dnn_plan_run(p, uid, data, 5);
}

#else

bool attention_dnn(const Attention *, DType, int64_t)
{
    return false;
}

#endif
