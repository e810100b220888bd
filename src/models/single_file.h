/* SPDX-License-Identifier: MIT */
/* single_file.h -- a checkpoint in one file (LDM's names, or one part in diffusers'), and where the tensors of a part
 * are: there, or in the part's own files. */
#ifndef SRC_MODELS_SINGLE_FILE_H
#define SRC_MODELS_SINGLE_FILE_H

#include "src/models/inventory.h"

/* Where a part's tensors are, and how they are called there. */
typedef struct Source {
    Weights *const *file;
    int files;                      /* 0: nowhere */
    char prefix[80];                /* of every name */
    Naming naming;
    bool ema;                       /* LDM's running means of the weights */
} Source;

/* A tensor as it is found; w has the shape of the item, and no name where an optional one is not there. */
typedef struct Found { const Weights *in; Weight w; } Found;

/* The source among files in which most of v's tensors are; s->files is 0 where there is none. */
void source_find(Source *s, const Inventory *v, Weights *const *file, int files);
/* What is missing, of another shape, or no float is an error that names file, tensor, found and expected. Values are
 * not looked at. */
int source_need(const Source *s, const Item *item, Found *found, Err *e);

typedef struct SingleFile {
    Weights *w;
    Source source[PARTS];
    size_t means;                   /* tensors of running means that are not taken */
    const char **left;              /* names of those that belong to nothing, alive as long as w */
    size_t lefts;
} SingleFile;

/* Opens a .safetensors or .ckpt file and finds the parts of which it has tensors: those of v whose `wanted` is set.
 * ema: the UNet's running means, which must be there. */
int single_file_open(SingleFile *f, const char *path, const Inventory v[PARTS], const bool wanted[PARTS], bool ema,
                     Err *e);
/* Counts what is left when the tensors of `taken` parts are. One that a part's name stands before, and that its config
 * (in PATH of part[...]) does not have, is an error, and so are other architectures. */
int single_file_check(SingleFile *f, const Inventory v[PARTS], const Part part[PARTS], const bool taken[PARTS],
                      Err *e);
void single_file_close(SingleFile *f);

#endif
