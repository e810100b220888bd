/* SPDX-License-Identifier: MIT */
/* tensor_source.h -- where the tensors of a part are, under whose names: in a checkpoint of one file, or in the part's
 * own files. */
#ifndef SRC_MODELS_TENSOR_SOURCE_H
#define SRC_MODELS_TENSOR_SOURCE_H

#include "src/models/inventory.h"

/* Where a part's tensors are, and how they are called there. */
typedef struct Source {
    Weights *const *file;
    int files;                      /* 0: nowhere */
    char prefix[80];                /* of every name */
    Naming naming;
    bool ema;                       /* LDM's running means of the weights */
    bool single;                    /* a checkpoint of one file */
} Source;

/* A tensor as it is found; w has the shape of the item, and no name where an optional one is not there. */
typedef struct Found {
    const Weights *in;
    Weight w;                       /* without data: the identity */
    bool turned;                    /* its data, when they are out of their blocks, are those of (in,out) */
    bool swapped;                   /* the same, the two halves of its rows the other way round */
} Found;

/* The source among files in which most of v's tensors are; s->files is 0 where there is none. */
void source_find(Source *s, const Inventory *v, Weights *const *file, int files);
size_t source_count(const Source *s, const Inventory *v);           /* how many of v's tensors are there */
/* As it lies in the file; NULL where it is missing, or of a type that is not read. */
const Weight *source_tensor(const Source *s, const Item *item);
/* What is missing, of another shape, or no float is an error that names file, tensor, found and expected. Values are
 * not looked at. */
int source_need(const Source *s, const Item *item, Found *found, Err *e);

/* The part, of those that v has, before whose names what is in front of `name` stands; PARTS: of none. */
PartKind source_part(const char *name, const Inventory v[PARTS]);
/* The name without "state_dict." */
const char *source_bare(const char *name);

#endif
