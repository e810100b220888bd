/* SPDX-License-Identifier: MIT */
/* dnn.cu -- convolutions by cuDNN 9: y (B,Ho,Wo,out) = conv(x (B,H,W,in)) + bias, bf16 in, f32 sums, f32 or bf16 out.
 *
 * A graph of a convolution, an addition and a copy, in cuDNN's backend interface: descriptors that are filled by
 * attributes and finalized. Dimensions are in the order (B, C, H, W) whatever lies where in memory; strides say
 * channels last. What is between the operations is a virtual tensor of f32, so that the bias is added before anything
 * is rounded. The copy at the end is there because cuDNN 9.19 takes a convolution of bf16 that ends in f32, with or
 * without a bias, for a pattern of its own that knows no such types; with it, its fused engines take the graph.
 *
 * For a size of picture the library is asked once, for IMAGES images, which of its engines it prefers; the first that
 * is deterministic, keeps f32 sums and can be planned is then used, with its knobs, for any number of images. A size
 * that none takes is left to product.h, for any number of images. (An engine that refuses some other number leaves
 * that one to product.h too, whose bytes differ: none is known to.)
 * cuDNN Backend API reference, 9.x. Built without cudnn.h there is no cuDNN. */
#include "kernels/cuda/library.h"

#if __has_include(<cudnn.h>)
#include <cudnn.h>

enum { IMAGES = 8, MOST_SHAPES = 32, MOST_SIZES = 32, MOST_ENGINES = 16, MOST_KNOBS = 24, MOST_OWNED = 64 };
enum { UID_X = 1, UID_W, UID_BIAS, UID_Y, UID_SUM, UID_BIASED };

#define EACH_FUNCTION(f)                                                                                               \
    f(cudnnCreate) f(cudnnSetStream) f(cudnnBackendCreateDescriptor) f(cudnnBackendDestroyDescriptor)                  \
    f(cudnnBackendSetAttribute) f(cudnnBackendGetAttribute) f(cudnnBackendFinalize) f(cudnnBackendExecute)

/* cuDNN's functions, under their own names. */
static struct Dnn {
#define MEMBER(name) decltype(&::name) name;
    EACH_FUNCTION(MEMBER)
    cudnnHandle_t handle;
} dnn;

typedef cudnnBackendDescriptor_t Descriptor;

/* Descriptors that are made one on another; the first failure makes all that follows do nothing. */
typedef struct Build {
    Descriptor owned[MOST_OWNED];
    int count;
    bool good;
} Build;

/* An engine and its knobs, for a size of picture. */
typedef struct Choice {
    int64_t H, W, engine;
    cudnnBackendKnobType_t knob[MOST_KNOBS];
    int64_t value[MOST_KNOBS], knobs;
    bool none;                      /* no engine takes this size */
} Choice;

typedef struct Shape {
    int64_t B, H, W;
    Build build;                    /* keeps all that the plan is made of */
    Descriptor plan;                /* NULL: the engine refused */
    int64_t workspace;
} Shape;

struct DnnLayer {
    ConvSpec spec;
    bool bias;
    Choice size[MOST_SIZES];
    Shape shape[MOST_SHAPES];
    int sizes, shapes, oldest;      /* a full table of shapes drops its oldest */
};

/* Opens the library, once. */
static bool dnn_open(void)
{
    static bool tried;
    if (tried)
        return dnn.handle != NULL;
    tried = true;
    void *library = library_open("libcudnn.so.9");
    bool whole = library != NULL;
#define FIND(name) whole = whole && library_find(library, #name, (void **)&dnn.name);
    EACH_FUNCTION(FIND)
    if (!whole || dnn.cudnnCreate(&dnn.handle) != CUDNN_STATUS_SUCCESS)
        dnn.handle = NULL;
    else if (dnn.cudnnSetStream(dnn.handle, gpu_stream) != CUDNN_STATUS_SUCCESS)
        dnn.handle = NULL;
    return dnn.handle != NULL;
}

/* ---- descriptors ---- */

static Descriptor make(Build *b, cudnnBackendDescriptorType_t type)
{
    Descriptor d = NULL;
    b->good = b->good && b->count < MOST_OWNED && dnn.cudnnBackendCreateDescriptor(type, &d) == CUDNN_STATUS_SUCCESS;
    if (b->good)
        b->owned[b->count++] = d;
    return b->good ? d : NULL;
}

static void set(Build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    b->good = b->good && dnn.cudnnBackendSetAttribute(d, name, type, count, values) == CUDNN_STATUS_SUCCESS;
}

static void set_descriptor(Build *b, Descriptor d, cudnnBackendAttributeName_t name, Descriptor value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static int64_t get(Build *b, Descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                   int64_t most, void *values)
{
    int64_t count = 0;
    b->good = b->good && dnn.cudnnBackendGetAttribute(d, name, type, most, &count, values) == CUDNN_STATUS_SUCCESS;
    return !b->good ? 0 : count < most ? count : most;
}

static Descriptor finish(Build *b, Descriptor d)
{
    b->good = b->good && dnn.cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS;
    return d;
}

/* Those after the first `kept`, youngest first. */
static void drop(Build *b, int kept)
{
    while (b->count > kept)
        dnn.cudnnBackendDestroyDescriptor(b->owned[--b->count]);
}

/* ---- the graph ---- */

static Descriptor tensor(Build *b, int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w,
                         bool is_virtual)
{
    const int64_t dim[] = {n, c, h, w}, stride[] = {h*w*c, 1, w*c, c}, alignment = 16;
    Descriptor d = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    return finish(b, d);
}

static Descriptor convolution(Build *b, const ConvSpec *s)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t sides = 2, dilation[] = {1, 1}, stride[] = {s->stride, s->stride};
    const int64_t before[] = {s->pad_before, s->pad_before}, after[] = {s->pad_after, s->pad_after};
    Descriptor d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &sides);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    return finish(b, d);
}

/* y = x + with, or x where with is NULL */
static Descriptor pointwise(Build *b, Descriptor x, Descriptor with, Descriptor y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnPointwiseMode_t mode = with ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_IDENTITY;
    Descriptor how = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finish(b, how);
    Descriptor d = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (with)
        set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, with);
    set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return finish(b, d);
}

static Descriptor graph(Build *b, const DnnLayer *layer, int64_t B, int64_t H, int64_t W)
{
    const ConvSpec *s = &layer->spec;
    const int64_t pads = s->pad_before + s->pad_after;
    const int64_t Ho = (H + pads - s->kernel)/s->stride + 1, Wo = (W + pads - s->kernel)/s->stride + 1;
    const cudnnDataType_t y_type = s->y_type == BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    const float one = 1, zero = 0;
    Descriptor x = tensor(b, UID_X, CUDNN_DATA_BFLOAT16, B, s->in, H, W, false);
    Descriptor w = tensor(b, UID_W, CUDNN_DATA_BFLOAT16, s->out, s->in, s->kernel, s->kernel, false);
    Descriptor y = tensor(b, UID_Y, y_type, B, s->out, Ho, Wo, false);
    Descriptor sum = tensor(b, UID_SUM, CUDNN_DATA_FLOAT, B, s->out, Ho, Wo, true);

    Descriptor operation[3] = {make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)};
    int64_t count = 1;
    set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(b, s));
    set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, sum);
    set(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    finish(b, operation[0]);
    if (layer->bias) {
        Descriptor bias = tensor(b, UID_BIAS, CUDNN_DATA_FLOAT, 1, s->out, 1, 1, false);
        Descriptor biased = tensor(b, UID_BIASED, CUDNN_DATA_FLOAT, B, s->out, Ho, Wo, true);
        operation[count++] = pointwise(b, sum, bias, biased);
        sum = biased;
    }
    operation[count++] = pointwise(b, sum, NULL, y);
    Descriptor g = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, g, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn.handle);
    set(b, g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operation);
    return finish(b, g);
}

/* ---- engines ---- */

/* A plan of the graph by the engine and knobs of c; b is not good where it refuses. */
static Descriptor plan_with(Build *b, Descriptor g, const Choice *c, int64_t *workspace)
{
    Descriptor engine = make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[MOST_KNOBS];
    set_descriptor(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g);
    set(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &c->engine);
    finish(b, engine);
    for (int64_t i = 0; i < c->knobs; i++) {
        knob[i] = make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &c->knob[i]);
        set(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &c->value[i]);
        finish(b, knob[i]);
    }
    Descriptor config = make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_descriptor(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knobs)
        set(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, c->knobs, knob);
    finish(b, config);
    Descriptor plan = make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn.handle);
    set_descriptor(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    finish(b, plan);
    get(b, plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, workspace);
    b->good = b->good && *workspace <= LIBRARY_WORKSPACE;
    return plan;
}

/* Takes down a proposed engine and its knobs; false for one that may round or order its sums otherwise. */
static bool read_proposal(Build *b, Descriptor config, Choice *c)
{
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    Descriptor engine = make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[MOST_KNOBS];
    for (int i = 0; i < MOST_KNOBS; i++)
        knob[i] = make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    get(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    get(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &c->engine);
    const int64_t notes = get(b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                              CUDNN_NUMERICAL_NOTE_TYPE_COUNT, note);
    bool exact = true;
    for (int64_t i = 0; i < notes; i++)
        exact = exact
            && (note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE || note[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP);
    c->knobs = get(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_KNOBS, knob);
    for (int64_t i = 0; i < c->knobs; i++) {
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &c->knob[i]);
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &c->value[i]);
    }
    return b->good && exact;
}

static void choose(const DnnLayer *layer, Choice *c)
{
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    Build b = {{}, 0, true}, proposals = {{}, 0, true};
    Descriptor g = graph(&b, layer, IMAGES, c->H, c->W), config[MOST_ENGINES];
    Descriptor heuristic = make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_descriptor(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g);
    set(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    finish(&b, heuristic);
    for (int i = 0; i < MOST_ENGINES; i++)
        config[i] = make(&proposals, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    b.good = b.good && proposals.good;
    const int64_t count = get(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                              MOST_ENGINES, config);
    const int kept = b.count;
    c->none = true;
    for (int64_t i = 0; b.good && c->none && i < count; i++) {
        Build trial = {{}, 0, true};
        int64_t workspace = 0;
        if (read_proposal(&trial, config[i], c)) {
            drop(&trial, 0);
            plan_with(&trial, g, c, &workspace);
            c->none = !trial.good;
        }
        drop(&trial, 0);
    }
    drop(&b, kept);
    drop(&proposals, 0);
    drop(&b, 0);
}

/* ---- layers ---- */

DnnLayer *dnn_layer(const ConvSpec *spec, bool bias)
{
    if (spec->x_type != BF16 || !dnn_open())
        return NULL;
    DnnLayer *layer = (DnnLayer *)calloc(1, sizeof *layer);
    if (layer) {
        layer->spec = *spec;
        layer->bias = bias;
    }
    return layer;
}

void dnn_layer_free(DnnLayer *layer)
{
    if (!layer)
        return;
    for (int i = 0; i < layer->shapes; i++)
        drop(&layer->shape[i].build, 0);
    free(layer);
}

/* The choice for a size of picture; NULL where none takes it, or the table is full. */
static const Choice *choice_for(DnnLayer *layer, int64_t H, int64_t W)
{
    for (int i = 0; i < layer->sizes; i++)
        if (layer->size[i].H == H && layer->size[i].W == W)
            return layer->size[i].none ? NULL : &layer->size[i];
    if (layer->sizes == MOST_SIZES)
        return NULL;
    Choice *c = &layer->size[layer->sizes++];
    c->H = H;
    c->W = W;
    choose(layer, c);
    return c->none ? NULL : c;
}

static Shape *shape_for(DnnLayer *layer, const Choice *c, int64_t B, int64_t H, int64_t W)
{
    for (int i = 0; i < layer->shapes; i++)
        if (layer->shape[i].B == B && layer->shape[i].H == H && layer->shape[i].W == W)
            return &layer->shape[i];
    int at = layer->shapes;
    if (at < MOST_SHAPES) {
        layer->shapes++;
    } else {
        at = layer->oldest;
        layer->oldest = (layer->oldest + 1)%MOST_SHAPES;
        gpu_check(cudaStreamSynchronize(gpu_stream));
        if (!gpu_recorded)          /* a graph may hold the plan's kernels */
            drop(&layer->shape[at].build, 0);
    }
    Shape *s = &layer->shape[at];
    memset(s, 0, sizeof *s);
    s->B = B;
    s->H = H;
    s->W = W;
    s->build.good = true;
    Descriptor plan = plan_with(&s->build, graph(&s->build, layer, B, H, W), c, &s->workspace);
    s->plan = s->build.good ? plan : NULL;
    return s;
}

bool dnn_run(DnnLayer *layer, const Product *p, int64_t B, void *y)
{
    const Choice *c = choice_for(layer, p->H, p->W);
    Shape *s = c ? shape_for(layer, c, B, p->H, p->W) : NULL;
    if (!s || !s->plan)
        return false;
    const int64_t uid[] = {UID_X, UID_W, UID_Y, UID_BIAS};
    const void *data[] = {p->x, p->w, y, p->bias};
    void *workspace = gpu_scratch(SCRATCH_LIBRARY, LIBRARY_WORKSPACE);
    Build b = {{}, 0, true};
    Descriptor pack = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, layer->bias ? 4 : 3, uid);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, layer->bias ? 4 : 3, data);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, pack);
    if (!b.good || dnn.cudnnBackendExecute(dnn.handle, s->plan, pack) != CUDNN_STATUS_SUCCESS)
        gpu_fail(__FILE__, __LINE__, "cudnnBackendExecute", "cuDNN refuses a plan that it made");
    drop(&b, 0);
    return true;
}

#else

DnnLayer *dnn_layer(const ConvSpec *, bool)
{
    return NULL;
}

void dnn_layer_free(DnnLayer *)
{
}

bool dnn_run(DnnLayer *, const Product *, int64_t, void *)
{
    return false;
}

#endif
