/* SPDX-License-Identifier: MIT */
/* fake_dnn.cc -- cuDNN's backend interface as its manual describes it, for kernels/cuda/dnn*.cu on the host:
 * descriptors keep what is set, a plan's graph, of a convolution, additions and copies or of attention, is made by
 * plain loops over dimensions and strides.
 *
 * It refuses attributes set after finalizing or read before it, and proposes three engines: one that is not
 * deterministic, one that cannot be planned, and engine 7 with one knob, of type 3 and value 2, which alone runs. That
 * one knows neither sums added to 24 channels nor attention over an odd number of keys, so that what is done without it
 * is played too. */
#include "tests/simt/cudnn.h"

enum { MOST = 24, GOOD_ENGINE = 7, KNOB_TYPE = 3, KNOB_VALUE = 2 };

struct Attribute {
    cudnnBackendAttributeName_t name;
    int64_t count;
    unsigned char bytes[8*MOST];
};

struct FakeDescriptor {
    cudnnBackendDescriptorType_t type;
    bool final;
    Attribute attribute[MOST];
    int attributes;
};

int simt_dnn_calls, simt_dnn_added, simt_dnn_attentions, simt_dnn_alive;
typedef cudnnBackendDescriptor_t Descriptor;

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_HANDLE: case CUDNN_TYPE_INT64: case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    default: return 4;
    }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    static char one;
    *handle = (cudnnHandle_t)(void *)&one;
    return CUDNN_STATUS_SUCCESS;
}

void cudnnGetLastErrorString(char *message, size_t size)
{
    snprintf(message, size, "refused by tests/simt");
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t)
{
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, Descriptor *d)
{
    *d = (Descriptor)calloc(1, sizeof **d);
    (*d)->type = type;
    simt_dnn_alive++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(Descriptor d)
{
    memset((void *)d, 0xff, sizeof *d);
    free(d);
    simt_dnn_alive--;
    return CUDNN_STATUS_SUCCESS;
}

static Attribute *find(Descriptor d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->attributes; i++)
        if (d->attribute[i].name == name)
            return &d->attribute[i];
    return NULL;
}

static cudnnStatus_t keep(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                          int64_t count, const void *values)
{
    if (count < 1 || count > MOST || d->attributes == MOST || find(d, name))
        return CUDNN_STATUS_BAD_PARAM;
    Attribute *a = &d->attribute[d->attributes++];
    a->name = name;
    a->count = count;
    memcpy(a->bytes, values, (size_t)count*size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t count, const void *values)
{
    return d->final ? CUDNN_STATUS_BAD_PARAM : keep(d, name, type, count, values);
}

template <typename T> static T *values(Descriptor d, cudnnBackendAttributeName_t name)
{
    Attribute *a = d ? find(d, name) : NULL;
    if (!a)
        simt_fail("cuDNN: a descriptor of type %d lacks attribute %d", d ? (int)d->type : -1, (int)name);
    return (T *)a->bytes;
}

static Descriptor one(Descriptor d, cudnnBackendAttributeName_t name)
{
    return *values<Descriptor>(d, name);
}

/* Proposal number i: an engine, and a knob where it is the good one. */
static void propose(Descriptor config, Descriptor graph, int i)
{
    static const int64_t engines[] = {1, 2, GOOD_ENGINE};
    Descriptor engine;
    cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine);
    keep(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    keep(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &engines[i]);
    keep(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    config->final = true;
    simt_dnn_alive--;           /* the config's own; never freed, as there are few */
}

cudnnStatus_t cudnnBackendGetAttribute(Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t most, int64_t *count, void *to)
{
    if (!d->final && d->type != CUDNN_BACKEND_ENGINE_DESCRIPTOR && d->type != CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
        return CUDNN_STATUS_BAD_PARAM;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        for (*count = 0; *count < 3 && *count < most; ++*count)
            propose(((Descriptor *)to)[*count], one(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), (int)*count);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {          /* the caller's descriptor becomes a copy */
        memcpy((void *)*(Descriptor *)to, (void *)one(d, name), sizeof *d);
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES) {
        const int type_of = KNOB_TYPE;
        const int64_t value = KNOB_VALUE;
        *count = *values<int64_t>(one(d, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == GOOD_ENGINE;
        if (*count) {
            keep(*(Descriptor *)to, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type_of);
            keep(*(Descriptor *)to, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        }
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        cudnnBackendNumericalNote_t *note = (cudnnBackendNumericalNote_t *)to;
        note[0] = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        note[1] = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        *count = *values<int64_t>(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX) == 1 ? 2 : 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *(int64_t *)to = 1024;
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    Attribute *a = find(d, name);
    if (!a)
        return CUDNN_STATUS_BAD_PARAM;
    *count = a->count;
    memcpy(to, a->bytes, (size_t)(a->count < most ? a->count : most)*size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

static const int64_t *dimensions(Descriptor tensor)
{
    return values<int64_t>(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS);
}

/* What a pointwise operation adds: nothing (a copy), a value a channel, or a tensor of its output's dimensions. */
enum Adds { ADDS_NOTHING, ADDS_BIAS, ADDS_TENSOR };

static Adds adds(Descriptor pointwise)
{
    const int mode = *values<int>(one(pointwise, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
                                  CUDNN_ATTR_POINTWISE_MODE);
    if (mode == CUDNN_POINTWISE_IDENTITY)
        return ADDS_NOTHING;
    if (mode != CUDNN_POINTWISE_ADD)
        simt_fail("cuDNN: a pointwise operation of mode %d", mode);
    const int64_t *with = dimensions(one(pointwise, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    const int64_t *y = dimensions(one(pointwise, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    const bool bias = with[0] == 1 && with[1] == y[1] && with[2] == 1 && with[3] == 1;
    if (!bias && memcmp(with, y, 4*sizeof *y) != 0)
        simt_fail("cuDNN: what is added has other dimensions");
    return bias ? ADDS_BIAS : ADDS_TENSOR;
}

cudnnStatus_t cudnnBackendFinalize(Descriptor d)
{
    if (d->final)
        return CUDNN_STATUS_BAD_PARAM;
    d->final = true;
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        Descriptor config = one(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        if (*values<int64_t>(one(config, CUDNN_ATTR_ENGINECFG_ENGINE), CUDNN_ATTR_ENGINE_GLOBAL_INDEX) != GOOD_ENGINE)
            return CUDNN_STATUS_NOT_SUPPORTED;
        Descriptor knob = one(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
        if (*values<int>(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) != KNOB_TYPE
            || *values<int64_t>(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE) != KNOB_VALUE)
            return CUDNN_STATUS_NOT_SUPPORTED;
        /* cuDNN 9.19 takes a convolution of bf16 for a pattern that cannot end in f32, unless a copy follows or the
         * addition of a whole tensor */
        const Attribute *operations = find(one(one(config, CUDNN_ATTR_ENGINECFG_ENGINE),
                                               CUDNN_ATTR_ENGINE_OPERATION_GRAPH),
                                           CUDNN_ATTR_OPERATIONGRAPH_OPS);
        Descriptor last = ((const Descriptor *)operations->bytes)[operations->count - 1];
        if (last->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
            return dimensions(one(last, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC))[2]%2 ? CUDNN_STATUS_NOT_SUPPORTED
                                                                                  : CUDNN_STATUS_SUCCESS;
        if (last->type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR || adds(last) == ADDS_BIAS)
            return CUDNN_STATUS_NOT_SUPPORTED;
        if (adds(last) == ADDS_TENSOR && dimensions(one(last, CUDNN_ATTR_OPERATION_POINTWISE_YDESC))[1] == 24)
            return CUDNN_STATUS_NOT_SUPPORTED;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* A tensor of the graph and where its values are. */
struct Tensor {
    const int64_t *dim, *stride;
    cudnnDataType_t type;
    char *data;

    Tensor(Descriptor d, Descriptor pack)
    {
        dim = values<int64_t>(d, CUDNN_ATTR_TENSOR_DIMENSIONS);
        stride = values<int64_t>(d, CUDNN_ATTR_TENSOR_STRIDES);
        type = *values<cudnnDataType_t>(d, CUDNN_ATTR_TENSOR_DATA_TYPE);
        data = NULL;
        const Attribute *uids = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
        const int64_t uid = *values<int64_t>(d, CUDNN_ATTR_TENSOR_UNIQUE_ID);
        for (int64_t i = 0; i < uids->count; i++)
            if (((const int64_t *)uids->bytes)[i] == uid)
                data = values<char *>(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)[i];
        if ((data == NULL) != *values<bool>(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL))
            simt_fail("cuDNN: tensor %ld is %s", (long)uid, data ? "virtual and has data" : "not virtual and has none");
        if ((uintptr_t)data%(uintptr_t)*values<int64_t>(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT))
            simt_fail("cuDNN: tensor %ld is not aligned as it says", (long)uid);
    }
    int64_t at(int64_t n, int64_t c, int64_t h, int64_t w) const
    {
        return n*stride[0] + c*stride[1] + h*stride[2] + w*stride[3];
    }
    float value(int64_t i) const
    {
        return type == CUDNN_DATA_FLOAT ? ((const float *)data)[i]
                                        : simt_from_bits(((const uint16_t *)data)[i], type == CUDNN_DATA_HALF);
    }
    uint16_t rounded(float v) const
    {
        return type == CUDNN_DATA_HALF ? simt_half(v) : simt_bf16(v);
    }
    void store(int64_t i, float v) const
    {
        if (type == CUDNN_DATA_FLOAT)
            ((float *)data)[i] = v;
        else
            ((uint16_t *)data)[i] = rounded(v);
    }
};

static cudnnStatus_t convolve(const Attribute *operations, Descriptor pack)
{
    Descriptor conv = ((const Descriptor *)operations->bytes)[0];
    Descriptor how = one(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    Descriptor made = one(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y), end = made, bias_d = NULL, held_d = NULL;
    for (int64_t i = 1; i < operations->count; i++) {           /* at most one addition of each kind, and copies */
        Descriptor step = ((const Descriptor *)operations->bytes)[i];
        const Adds kind = adds(step);
        Descriptor *with = kind == ADDS_BIAS ? &bias_d : kind == ADDS_TENSOR ? &held_d : NULL;
        if (one(step, CUDNN_ATTR_OPERATION_POINTWISE_XDESC) != end || (with && *with))
            simt_fail("cuDNN: operation %ld does not go on from the one before it", (long)i);
        if (with)
            *with = one(step, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        end = one(step, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    }
    if (*values<int>(how, CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION)
        simt_fail("cuDNN: the kernel would be turned round");
    const Tensor x(one(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X), pack),
        w(one(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W), pack);
    const Tensor sum(made, pack), y(end, pack);
    const Tensor bias(bias_d ? bias_d : end, pack), held(held_d ? held_d : end, pack);
    const int64_t *stride = values<int64_t>(how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const int64_t *before = values<int64_t>(how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const int64_t *after = values<int64_t>(how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    for (int side = 0; side < 2; side++)
        if (y.dim[2 + side] != (x.dim[2 + side] + before[side] + after[side] - w.dim[2 + side])/stride[side] + 1
            || sum.dim[2 + side] != y.dim[2 + side])
            return CUDNN_STATUS_BAD_PARAM;
    if (x.dim[1] != w.dim[1] || y.dim[1] != w.dim[0] || x.dim[0] != y.dim[0])
        return CUDNN_STATUS_BAD_PARAM;
    simt_do([=] {
        simt_dnn_calls++;
        simt_dnn_added += held_d != NULL;
        for (int64_t n = 0; n < y.dim[0]; n++)
            for (int64_t o = 0; o < y.dim[1]; o++)
                for (int64_t i = 0; i < y.dim[2]; i++)
                    for (int64_t j = 0; j < y.dim[3]; j++) {
                        float total = 0;
                        for (int64_t r = 0; r < w.dim[2]; r++)
                            for (int64_t s = 0; s < w.dim[3]; s++) {
                                const int64_t h = i*stride[0] + r - before[0], v = j*stride[1] + s - before[1];
                                if (h >= 0 && h < x.dim[2] && v >= 0 && v < x.dim[3])
                                    for (int64_t c = 0; c < w.dim[1]; c++)
                                        total += x.value(x.at(n, c, h, v))*w.value(w.at(o, c, r, s));
                            }
                        total += bias_d ? bias.value(bias.at(0, o, 0, 0)) : 0;
                        total += held_d ? held.value(held.at(n, o, i, j)) : 0;
                        y.store(y.at(n, o, i, j), total);
                    }
    });
    return CUDNN_STATUS_SUCCESS;
}

/* Dimensions (B, heads, S, d); p is rounded as tensor cores take it, divided by its sum at the end. */
static cudnnStatus_t attend(Descriptor operation, Descriptor pack)
{
    const Tensor q(one(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC), pack),
        k(one(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC), pack),
        v(one(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC), pack),
        y(one(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC), pack);
    Descriptor scale = one(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC);
    if (!*values<bool>(scale, CUDNN_ATTR_TENSOR_IS_BY_VALUE))
        simt_fail("cuDNN: the scale is not given by value");
    const float factor = Tensor(scale, pack).value(0);
    const int64_t keys = k.dim[2], d = q.dim[3];
    for (int i = 0; i < 4; i++)
        if (y.dim[i] != q.dim[i] || v.dim[i] != k.dim[i] || (i != 2 && k.dim[i] != q.dim[i]))
            return CUDNN_STATUS_BAD_PARAM;
    if (d%8 || q.stride[3] != 1 || k.stride[3] != 1 || v.stride[3] != 1 || y.stride[3] != 1)
        return CUDNN_STATUS_NOT_SUPPORTED;
    simt_do([=] {
        simt_dnn_attentions++;
        float *p = (float *)calloc((size_t)keys, sizeof *p);
        for (int64_t b = 0; b < q.dim[0]; b++)
            for (int64_t h = 0; h < q.dim[1]; h++)
                for (int64_t s = 0; s < q.dim[2]; s++) {
                    float top = -INFINITY, sum = 0;
                    for (int64_t j = 0; j < keys; j++) {
                        p[j] = 0;
                        for (int64_t c = 0; c < d; c++)
                            p[j] += q.value(q.at(b, h, s, c))*k.value(k.at(b, h, j, c));
                        p[j] *= factor;
                        top = p[j] > top ? p[j] : top;
                    }
                    for (int64_t j = 0; j < keys; j++) {
                        p[j] = expf(p[j] - top);
                        sum += p[j];
                        p[j] = simt_from_bits(q.rounded(p[j]), q.type == CUDNN_DATA_HALF);
                    }
                    for (int64_t c = 0; c < d; c++) {
                        float total = 0;
                        for (int64_t j = 0; j < keys; j++)
                            total += p[j]*v.value(v.at(b, h, j, c));
                        y.store(y.at(b, h, s, c), total/sum);
                    }
                }
        free(p);
    });
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, Descriptor plan, Descriptor pack)
{
    Descriptor engine = one(one(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG), CUDNN_ATTR_ENGINECFG_ENGINE);
    const Attribute *operations = find(one(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH), CUDNN_ATTR_OPERATIONGRAPH_OPS);
    Descriptor first = ((const Descriptor *)operations->bytes)[0];
    if (!pack->final)
        return CUDNN_STATUS_BAD_PARAM;
    if (first->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
        return attend(first, pack);
    return convolve(operations, pack);
}
