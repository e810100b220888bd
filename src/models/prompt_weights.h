/* SPDX-License-Identifier: MIT */
/* prompt_weights.h -- the weights that a prompt says by brackets, as users of web UIs write them.
 *
 *     (a cat) 1.1     (a cat:1.3) 1.3     [a cat] 1/1.1     brackets in brackets: the product
 *     \( \) \[ \] \\ the character itself; any other backslash goes     BREAK, a word by itself: a new chunk begins
 *
 * A bracket that is not closed holds to the end; one that was not opened is text, and so is a colon without a number
 * and a ) behind it. stable-diffusion-webui modules/prompt_parser.py, parse_prompt_attention, whose pieces these are,
 * and which diffusers' examples/community/lpw_stable_diffusion.py has without BREAK and without spaces around the
 * number. Otherwise: BREAK in brackets is BREAK too (there it is text of weight -1.1), characters beyond ASCII are no
 * part of a word that BREAK would not be by itself in, and [a:b:0.5], which changes a prompt while a picture is drawn,
 * is text in brackets. */
#ifndef SRC_MODELS_PROMPT_WEIGHTS_H
#define SRC_MODELS_PROMPT_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include "formats/err.h"

typedef struct PromptPiece {
    size_t from, length;            /* bytes of PromptWeights.text */
    double weight;
    bool breaks;                    /* after a BREAK */
} PromptPiece;

typedef struct PromptWeights {
    char *text;                     /* without what says weights */
    PromptPiece *piece;             /* neighbours differ in weight, or are parted by BREAK; may be empty */
    int count;                      /* 1 or more */
} PromptWeights;

/* Both are cleared by the caller, after failure too. Refused: a number that is none ("1.2.3"), a weight beyond 100
 * either way, more than 256 brackets of a kind open at once. */
int prompt_weights_read(PromptWeights *w, const char *text, Err *e);
void prompt_weights_clear(PromptWeights *w);
/* What such a prompt asks to see: its text without marks, of which what has a weight of 0 or less is left out; at a
 * BREAK a space. The caller's to free; NULL on error, which prompt_weights_read's are. */
char *prompt_weights_text(const char *prompt, Err *e);

#endif
