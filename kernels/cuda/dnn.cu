/* SPDX-License-Identifier: MIT */
/* dnn.cu -- convolutions by cuDNN 9: y (B,Ho,Wo,out) = conv(x (B,H,W,in)) + bias, or y += that; bf16 or f16 in, f32
 * sums, f32 or the same out.
 *
 * A graph of a convolution, the addition of the bias, and the addition of what y held or a copy. Dimensions are in the
 * order (B, C, H, W) whatever lies where in memory; strides say channels last. What is between the operations is a
 * virtual tensor of f32, so that all is added before anything is rounded to less. The copy at the end is there because
 * cuDNN 9.19 takes a convolution of bf16 that ends in f32, with or without a bias, for a pattern of its own that knows
 * no such types; with it, or with the second addition, its fused engines take the graph. What y held is a tensor of
 * its own that lies where y does: each value is read by whom writes it.
 *
 * An engine is chosen for a kind of layer and a size of picture, once with and once without addition to y, and used for
 * any number of images (dnn_graph.h). Choosing and planning take the library a tenth of a second: layers that are alike
 * share both. What none takes is left to the caller, for any number of images. (An engine that refuses some
 * other number leaves that one too, whose bytes then differ: none is known to.)
 * Built without cudnn.h there is no cuDNN. */
#include "kernels/cuda/dnn_graph.h"

#if DNN_VERSION

enum { UID_X = 1, UID_W, UID_BIAS, UID_Y, UID_SUM, UID_BIASED, UID_HELD };

struct DnnLayer {
    ConvSpec spec;
    bool bias;
};

/* The numbers of a kind. */
typedef struct Shape {
    int64_t in, out, kernel, stride, pad_before, pad_after, x_type, y_type, bias, H, W, add;
} Shape;
static_assert(sizeof(Shape) <= sizeof(int64_t)*DNN_NUMBERS, "a kind holds a shape");

/* ---- the graph ---- */

/* Channels last. */
static Descriptor picture(Build *b, int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h, int64_t w,
                          DnnPlace place)
{
    const int64_t dim[] = {n, c, h, w}, stride[] = {h*w*c, 1, w*c, c};
    return dnn_tensor(b, uid, type, dim, stride, place);
}

static Descriptor convolution(Build *b, const Shape *s)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t sides = 2, dilation[] = {1, 1}, stride[] = {s->stride, s->stride};
    const int64_t before[] = {s->pad_before, s->pad_before}, after[] = {s->pad_after, s->pad_after};
    Descriptor d = dnn_make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &sides);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    dnn_set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    return dnn_finish(b, d);
}

/* y = x + with, or x where with is NULL */
static Descriptor pointwise(Build *b, Descriptor x, Descriptor with, Descriptor y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnPointwiseMode_t mode = with ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_IDENTITY;
    Descriptor how = dnn_make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    dnn_set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    dnn_set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    dnn_finish(b, how);
    Descriptor d = dnn_make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (with)
        dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, with);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return dnn_finish(b, d);
}

static Descriptor graph(Build *b, const DnnKind *kind, int64_t B)
{
    const Shape *s = (const Shape *)kind->number;
    const int64_t pads = s->pad_before + s->pad_after;
    const int64_t Ho = (s->H + pads - s->kernel)/s->stride + 1, Wo = (s->W + pads - s->kernel)/s->stride + 1;
    const cudnnDataType_t x_type = dnn_type((DType)s->x_type), y_type = dnn_type((DType)s->y_type);
    const float one = 1, zero = 0;
    Descriptor x = picture(b, UID_X, x_type, B, s->in, s->H, s->W, DNN_STORED);
    Descriptor w = picture(b, UID_W, x_type, s->out, s->in, s->kernel, s->kernel, DNN_STORED);
    Descriptor y = picture(b, UID_Y, y_type, B, s->out, Ho, Wo, DNN_STORED);
    Descriptor held = s->add ? picture(b, UID_HELD, y_type, B, s->out, Ho, Wo, DNN_STORED) : NULL;
    Descriptor sum = picture(b, UID_SUM, CUDNN_DATA_FLOAT, B, s->out, Ho, Wo, DNN_BETWEEN);

    Descriptor operation[3] = {dnn_make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)};
    int64_t count = 1;
    dnn_set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution(b, s));
    dnn_set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    dnn_set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
    dnn_set_descriptor(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, sum);
    dnn_set(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    dnn_set(b, operation[0], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    dnn_finish(b, operation[0]);
    if (s->bias) {
        Descriptor bias = picture(b, UID_BIAS, CUDNN_DATA_FLOAT, 1, s->out, 1, 1, DNN_STORED);
        Descriptor biased = picture(b, UID_BIASED, CUDNN_DATA_FLOAT, B, s->out, Ho, Wo, DNN_BETWEEN);
        operation[count++] = pointwise(b, sum, bias, biased);
        sum = biased;
    }
    operation[count++] = pointwise(b, sum, held, y);
    return dnn_graph(b, operation, count);
}

static void name_of(char name[128], const DnnKind *kind, int64_t B)
{
    const Shape *s = (const Shape *)kind->number;
    snprintf(name, 128, "conv %ld-%ld k%ld s%ld %ldx%ld %s-%s%s, %ld images", (long)s->in, (long)s->out,
             (long)s->kernel, (long)s->stride, (long)s->H, (long)s->W, dtype_name((DType)s->x_type),
             dtype_name((DType)s->y_type), s->add ? " added" : "", (long)B);
}

/* ---- layers ---- */

DnnLayer *dnn_layer(const ConvSpec *spec, bool bias)
{
    if (spec->x_type == F32 || !dnn_open())
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
    free(layer);
}

bool dnn_run(const DnnLayer *layer, const Product *p, int64_t B, void *y, bool add)
{
    const ConvSpec *s = &layer->spec;
    DnnKind kind = {graph, name_of, {}};
    *(Shape *)kind.number = Shape{s->in, s->out, s->kernel, s->stride, s->pad_before, s->pad_after, s->x_type,
                                  s->y_type, layer->bias, p->H, p->W, add};
    DnnPlan *plan = dnn_plan_for(&kind, B);
    int64_t uid[DNN_TENSORS] = {UID_X, UID_W, UID_Y};
    const void *data[DNN_TENSORS] = {p->x, p->w, y};
    int count = 3;
    if (layer->bias) {
        uid[count] = UID_BIAS;
        data[count++] = p->bias;
    }
    if (add) {
        uid[count] = UID_HELD;
        data[count++] = y;
    }
    return plan && dnn_plan_run(plan, uid, data, count);
}

#else

DnnLayer *dnn_layer(const ConvSpec *, bool)
{
    return NULL;
}

void dnn_layer_free(DnnLayer *)
{
}

bool dnn_run(const DnnLayer *, const Product *, int64_t, void *, bool)
{
    return false;
}

#endif
