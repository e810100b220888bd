/* SPDX-License-Identifier: MIT */
/* dnn_attention.cu -- attention over many keys by cuDNN 9: y = softmax(q k^T scale) v, bf16, scores never written.
 *
 *   q, y (B,heads,Sq,d)   k, v (B,heads,Sk,d): dimensions in this order, strides say that a row holds all heads
 *
 * A graph of one operation, which cuDNN has from 9.13.1 on, without the rows' statistics; scale is a number in host
 * memory. For an H100, 9.19 proposes the same kernels for it as for attention spelt out in products, maxima,
 * exponentials and sums, and takes the latter only where the statistics are written out.
 *
 * Engine and knobs are chosen for a size at DNN_IMAGES images, and used for any number (dnn_graph.h). For few keys,
 * keys shared between images and causal attention, attention_bf16.cu's kernel stays. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/dnn_graph.h"

#if DNN_VERSION >= 91301

enum { LEAST_KEYS = 256, WIDEST = 256, MOST_SIZES = 32, MOST_PLANS = 64 };
enum { UID_Q = 1, UID_K, UID_V, UID_Y, UID_SCALE };

typedef struct Size {
    int64_t heads, d, Sq, Sk, q_stride, k_stride, v_stride, y_stride;
} Size;

typedef struct Choice {
    Size size;
    DnnChoice choice;
} Choice;

typedef struct Plan {
    Size size;
    int64_t B;
    float scale;                    /* where the plan's runs find it */
    DnnPlan plan;
} Plan;

/* (B,heads,S,d) in rows of `row` elements */
static Descriptor rows(Build *b, int64_t uid, int64_t B, const Size *s, int64_t S, int64_t row)
{
    const int64_t dim[] = {B, s->heads, S, s->d}, stride[] = {S*row, s->d, row, 1};
    return dnn_tensor(b, uid, CUDNN_DATA_BFLOAT16, dim, stride, DNN_STORED);
}

static Descriptor graph(Build *b, const Size *s, int64_t B)
{
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

static const char *name_of(char name[96], const Size *s, int64_t B)
{
    snprintf(name, 96, "attention %ldx%ld %ld-%ld, %ld images", (long)s->heads, (long)s->d, (long)s->Sq, (long)s->Sk,
             (long)B);
    return name;
}

/* NULL where no engine takes the size, or the table is full. */
static const DnnChoice *choice_for(const Size *s)
{
    static Choice table[MOST_SIZES];
    static int count;
    for (int i = 0; i < count; i++)
        if (memcmp(&table[i].size, s, sizeof *s) == 0)
            return table[i].choice.none ? NULL : &table[i].choice;
    if (count == MOST_SIZES)
        return NULL;
    Choice *c = &table[count++];
    Build b = {{}, 0, true};
    char name[96];
    c->size = *s;
    dnn_choose(&c->choice, &b, graph(&b, s, DNN_IMAGES), name_of(name, s, DNN_IMAGES));
    dnn_drop(&b, 0);
    return c->choice.none ? NULL : &c->choice;
}

/* A full table drops its oldest. */
static Plan *plan_for(const Size *s, const DnnChoice *c, int64_t B, float scale)
{
    static Plan table[MOST_PLANS];
    static int count, oldest;
    for (int i = 0; i < count; i++)
        if (table[i].B == B && table[i].scale == scale && memcmp(&table[i].size, s, sizeof *s) == 0)
            return &table[i];
    int at = count;
    if (at < MOST_PLANS) {
        count++;
    } else {
        at = oldest;
        oldest = (oldest + 1)%MOST_PLANS;
        if (!gpu_recorded) {            /* else a recording may hold the plan's kernels: it stays, out of the table */
            gpu_check(cudaStreamSynchronize(gpu_stream));
            dnn_plan_drop(&table[at].plan);
        }
    }
    Plan *p = &table[at];
    char name[96];
    memset(p, 0, sizeof *p);
    p->size = *s;
    p->B = B;
    p->scale = scale;
    p->plan.build.good = true;
    dnn_plan(&p->plan, graph(&p->plan.build, s, B), c, name_of(name, s, B));
    return p;
}

bool attention_dnn(const Attention *a, int64_t B)
{
    const bool fits = a->pieces && a->y_stride%8 == 0 && ((uintptr_t)a->y&15) == 0 && a->d <= WIDEST;
    if (!fits || a->causal || a->kv_index || a->Sk < LEAST_KEYS || B == 0 || a->Sq == 0 || !library_wanted()
        || !dnn_open())
        return false;
    const Size s = {a->heads, a->d, a->Sq, a->Sk, a->q_stride, a->k_stride, a->v_stride, a->y_stride};
    const DnnChoice *c = choice_for(&s);
    Plan *p = c ? plan_for(&s, c, B, a->scale) : NULL;
    if (!p)
        return false;
    const int64_t uid[] = {UID_Q, UID_K, UID_V, UID_Y, UID_SCALE};
    const void *data[] = {a->q, a->k, a->v, a->y, &p->scale};
    return dnn_plan_run(&p->plan, uid, data, 5);
}

#else

bool attention_dnn(const Attention *, int64_t)
{
    return false;
}

#endif
