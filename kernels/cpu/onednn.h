/* SPDX-License-Identifier: MIT */
/* onednn.h -- what oneDNN 2 (Debian 12) and 3 (Debian 13) have in C under other names: a description of memory is a
 * structure in the one, a handle in the other; 3 plans an operation in one call. All return oneDNN's status. */
#ifndef KERNELS_CPU_ONEDNN_H
#define KERNELS_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

#define ONEDNN_INLINE static inline __attribute__((unused))

#if DNNL_VERSION_MAJOR >= 3

typedef const_dnnl_memory_desc_t OnednnLayout;          /* a description that is read: the library's, or one's own */
static const dnnl_cpu_isa_t onednn_any_isa = dnnl_cpu_isa_default;

ONEDNN_INLINE OnednnLayout onednn_layout(const dnnl_memory_desc_t *d) { return *d; }

ONEDNN_INLINE dnnl_status_t onednn_describe(dnnl_memory_desc_t *d, int ndims, const dnnl_dims_t dim,
                                            dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(d, ndims, dim, type, tag);
}

/* Of onednn_describe's; what was made with it stays. */
ONEDNN_INLINE void onednn_forget(dnnl_memory_desc_t *d) { dnnl_memory_desc_destroy(*d); }

ONEDNN_INLINE dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef);
}

ONEDNN_INLINE dnnl_status_t onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0);
}

/* For inference. b: NULL where there is no bias; pads: rows and columns before, and after */
ONEDNN_INLINE dnnl_status_t onednn_convolution(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout x,
                                               OnednnLayout w, OnednnLayout b, OnednnLayout y,
                                               const dnnl_dims_t strides, const dnnl_dims_t before,
                                               const dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference, dnnl_convolution_direct,
                                                          x, w, b, y, strides, NULL, before, after, attr);
}

ONEDNN_INLINE dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout a,
                                          OnednnLayout b, OnednnLayout c)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, NULL, c, NULL);
}

#else

typedef const dnnl_memory_desc_t *OnednnLayout;
static const dnnl_cpu_isa_t onednn_any_isa = dnnl_cpu_isa_all;

ONEDNN_INLINE OnednnLayout onednn_layout(const dnnl_memory_desc_t *d) { return d; }

ONEDNN_INLINE dnnl_status_t onednn_describe(dnnl_memory_desc_t *d, int ndims, const dnnl_dims_t dim,
                                            dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, ndims, dim, type, tag);
}

ONEDNN_INLINE void onednn_forget(dnnl_memory_desc_t *d) { (void)d; }

ONEDNN_INLINE dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1); }

ONEDNN_INLINE dnnl_status_t onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, 1, kind, alpha, 0);
}

ONEDNN_INLINE dnnl_status_t onednn_convolution(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout x,
                                               OnednnLayout w, OnednnLayout b, OnednnLayout y,
                                               const dnnl_dims_t strides, const dnnl_dims_t before,
                                               const dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t d;
    const dnnl_status_t status = dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_direct,
                                                                    x, w, b, y, strides, before, after);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : status;
}

ONEDNN_INLINE dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout a,
                                          OnednnLayout b, OnednnLayout c)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t status = dnnl_matmul_desc_init(&d, a, b, NULL, c);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &d, NULL, engine, NULL) : status;
}

#endif

#endif
