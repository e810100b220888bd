/* SPDX-License-Identifier: MIT */
/* compute.h -- what every program that computes does first: backend, model folder, type of products. */
#ifndef SRC_CLI_COMPUTE_H
#define SRC_CLI_COMPUTE_H

#include "formats/stream.h"
#include "src/cli/cli.h"

typedef struct Compute {
    const char *model;              /* folder: -m, or the embedded one */
    char id[128];                   /* its identity */
    DType type;
} Compute;

/* Picks the backend of --backend and --threads; with a model, its folder, id and --dtype too. */
int compute_backend(const Common *c, Err *e);
int compute_start(Compute *out, const Common *c, Err *e);
/* The one input of a program that takes one: the operand or standard input. More than one is misuse. */
const char *compute_input(const Cli *cli, const Common *c);

#endif
