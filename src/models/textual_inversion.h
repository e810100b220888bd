/* SPDX-License-Identifier: MIT */
/* textual_inversion.h -- words that a textual inversion has learned (Gal et al. 2022, arXiv 2208.01618), from the files
 * that diffusers and web UIs read.
 *
 *     diffusers       .safetensors, .bin   one tensor, named as the word ("<cat-toy>")
 *     webui           .pt                  string_to_param {"*": tensor} and "name", the word
 *     webui           .safetensors         emb_params
 *     SDXL            .safetensors, .pt    clip_l, of the first text encoder, and clip_g, of the second
 *
 * Tensors are [E] or [n,E], E the text encoder's width; torch's files are read as data (torch_zip.h). Where a file has
 * no word it is the file's name without its ending, as web UIs have it (stable-diffusion-webui
 * modules/textual_inversion/textual_inversion.py). diffusers loaders/textual_inversion.py takes "emb_params" for the
 * word then, and no file of both of SDXL's at once. */
#ifndef SRC_MODELS_TEXTUAL_INVERSION_H
#define SRC_MODELS_TEXTUAL_INVERSION_H

#include "formats/err.h"

enum { WORD_MOST_TOKENS = 1024 };

typedef struct LearnedWord {
    char *name;
    int count;                      /* n, tokens that it stands for */
    float *rows[2];                 /* (n,E) of each text encoder */
} LearnedWord;

/* FILE of FILE or NAME=FILE; what begins with /, ./ or ../ is a FILE. */
const char *learned_word_file(const char *said);
/* Of FILE or NAME=FILE, for `encoders` text encoders of these widths. Cleared by the caller, after failure too. */
int learned_word_read(LearnedWord *word, const char *said, int encoders, const int width[2], Err *e);
void learned_word_clear(LearnedWord *word);

#endif
