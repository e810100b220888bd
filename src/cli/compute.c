/* SPDX-License-Identifier: MIT */
/* compute.c -- backend, model folder and type of products from the common options. */
#include "kernels/op.h"
#include "src/cli/compute.h"
#include "src/models/model.h"

int compute_backend(const Common *c, Err *e)
{
    return backend_pick(c->backend, (int)c->threads, e);
}

int compute_start(Compute *out, const Common *c, Err *e)
{
    out->model = c->model ? c->model : cli_default_model();
    return compute_backend(c, e) || model_dtype(&out->type, c->dtype, e) || model_id(out->id, out->model, e);
}

const char *compute_input(const Cli *cli, const Common *c)
{
    if (c->inputs.count > 1)
        cli_misuse(cli, "takes one input, not %d", c->inputs.count);
    return cli_input(c, 0);
}
