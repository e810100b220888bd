/* SPDX-License-Identifier: MIT */
/* onednn.h -- what oneDNN 2 (Debian 12) and 3 (Debian 13) say in C by other names: a description of memory is a
 * structure in the one, a handle in the other, and 3 plans an operation in one call. All return oneDNN's status. */
#ifndef KERNELS_CPU_ONEDNN_H
#define KERNELS_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

/* Layout: a description that is read, the library's or one's own. */
#if DNNL_VERSION_MAJOR >= 3
#define ONEDNN(three, two) three
typedef const_dnnl_memory_desc_t OnednnLayout;
#else
#define ONEDNN(three, two) two
typedef const dnnl_memory_desc_t *OnednnLayout;
#endif

#define ONEDNN_INLINE static inline __attribute__((unused))

static const dnnl_cpu_isa_t onednn_any_isa = ONEDNN(dnnl_cpu_isa_default, dnnl_cpu_isa_all);

ONEDNN_INLINE dnnl_status_t onednn_describe(dnnl_memory_desc_t *d, int ndims, const dnnl_dims_t dim,
                                            dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return ONEDNN(dnnl_memory_desc_create_with_tag, dnnl_memory_desc_init_by_tag)(d, ndims, dim, type, tag);
}

ONEDNN_INLINE OnednnLayout onednn_layout(const dnnl_memory_desc_t *d)
{
    return ONEDNN(*d, d);
}

/* Of onednn_describe's; what was made with it stays. */
ONEDNN_INLINE void onednn_forget(dnnl_memory_desc_t *d)
{
    ONEDNN(dnnl_memory_desc_destroy(*d), (void)d);
}

ONEDNN_INLINE dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops)
{
    return ONEDNN(dnnl_post_ops_append_sum(ops, 1, 0, dnnl_data_type_undef), dnnl_post_ops_append_sum(ops, 1));
}

ONEDNN_INLINE dnnl_status_t onednn_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    return ONEDNN(dnnl_post_ops_append_eltwise(ops, kind, alpha, 0),
                  dnnl_post_ops_append_eltwise(ops, 1, kind, alpha, 0));
}

/* For inference. b: NULL where there is no bias; before, after: rows and columns of padding */
ONEDNN_INLINE dnnl_status_t onednn_convolution(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout x,
                                               OnednnLayout w, OnednnLayout b, OnednnLayout y,
                                               const dnnl_dims_t strides, const dnnl_dims_t before,
                                               const dnnl_dims_t after, dnnl_primitive_attr_t attr)
{
    const dnnl_prop_kind_t kind = dnnl_forward_inference;
    const dnnl_alg_kind_t how = dnnl_convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, kind, how, x, w, b, y, strides, NULL, before,
                                                          after, attr);
#else
    dnnl_convolution_desc_t d;
    const dnnl_status_t status = dnnl_convolution_forward_desc_init(&d, kind, how, x, w, b, y, strides, before, after);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) : status;
#endif
}

ONEDNN_INLINE dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, OnednnLayout a,
                                          OnednnLayout b, OnednnLayout c)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(pd, engine, a, b, NULL, c, NULL);
#else
    dnnl_matmul_desc_t d;
    const dnnl_status_t status = dnnl_matmul_desc_init(&d, a, b, NULL, c);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &d, NULL, engine, NULL) : status;
#endif
}

#endif
