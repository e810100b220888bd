/* SPDX-License-Identifier: MIT */
/* single_file.h -- a checkpoint in one file: LDM's names, or one part in diffusers'. */
#ifndef SRC_MODELS_SINGLE_FILE_H
#define SRC_MODELS_SINGLE_FILE_H

#include "src/models/tensor_source.h"

typedef struct SingleFile {
    Weights *w;
    Source source[PARTS];
    size_t means;                   /* tensors of running means that are not taken */
    const char **left;              /* names of those that belong to nothing, alive as long as w */
    size_t lefts;
} SingleFile;

/* Opens a .safetensors, .ckpt or .gguf file and finds the parts of which it has tensors: those of v whose `wanted` is
 * set. ema: the UNet's running means, which must be there. Other architectures than that of part[...] are refused by
 * name where UNet or transformer is wanted, a refiner too, and so are weights that are to be scaled. */
int single_file_open(SingleFile *f, const char *path, const Inventory v[PARTS], const Part part[PARTS],
                     const bool wanted[PARTS], bool ema, Err *e);
/* Counts what is left when the tensors of `taken` parts are. One that a part's name stands before, and that its config
 * (in PATH of part[...]) does not have, is an error, and so is a UNet that was made for inpainting. */
int single_file_check(SingleFile *f, const Inventory v[PARTS], const Part part[PARTS], const bool taken[PARTS],
                      Err *e);
/* Some files say what their UNet predicts, where its config does not; BASE's scheduler must agree, or pictures would be
 * noise. */
int single_file_check_scheduler(const SingleFile *f, const char *base, Err *e);
void single_file_close(SingleFile *f);

#endif
