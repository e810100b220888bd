/* SPDX-License-Identifier: MIT */
/* clip_score.c -- CLIP score of pictures and their prompts. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include "src/models/clip_score.h"
#include "src/models/clip_text.h"
#include "src/models/prompt_weights.h"

struct ClipScore {
    ClipText *clip;
    bool weights;
    int P;
    json_t *known;                  /* prompt -> row of text */
    float *text;                    /* (rows, P) */
    size_t rows;
};

int clip_score_create(ClipScore **out, const char *dir, bool weights, DType type, Err *e)
{
    *out = NULL;
    ClipScore *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->weights = weights;
    int failed = clip_text_open(&s->clip, dir, type, e);
    if (!failed) {
        s->P = clip_text_width(s->clip);
        s->known = json_object();
        failed = s->known ? 0 : err_set(e, "out of memory");
    }
    if (failed)
        clip_score_free(s);
    else
        *out = s;
    return failed ? -1 : 0;
}

void clip_score_free(ClipScore *s)
{
    if (!s)
        return;
    clip_text_close(s->clip);
    json_decref(s->known);
    free(s->text);
    free(s);
}

int clip_score_width(const ClipScore *s)
{
    return s->P;
}

/* Row of the prompt's embedding. */
static int need_text(ClipScore *s, const char *prompt, size_t *row, Err *e)
{
    const json_t *known = json_object_get(s->known, prompt);
    *row = known ? (size_t)json_integer_value(known) : s->rows;
    if (known)
        return 0;
    float *more = realloc(s->text, sizeof *more * (s->rows + 1) * (size_t)s->P);
    if (!more)
        return err_set(e, "out of memory for %zu prompts", s->rows + 1);
    s->text = more;
    char *plain = s->weights ? prompt_weights_text(prompt, e) : NULL;
    const int failed = (s->weights && !plain)
                    || clip_text_embed(s->clip, plain ? plain : prompt, s->text + s->rows * (size_t)s->P, e);
    free(plain);
    if (failed)
        return -1;
    json_object_set_new(s->known, prompt, json_integer((json_int_t)s->rows++));
    return 0;
}

int clip_score(ClipScore *s, const char *prompt, const float *x, double *score, Err *e)
{
    size_t row;
    if (need_text(s, prompt, &row, e))
        return -1;
    const float *y = s->text + row * (size_t)s->P;
    double xx = 0, yy = 0, xy = 0;
    for (int p = 0; p < s->P; p++) {
        xx += (double)x[p] * (double)x[p];
        yy += (double)y[p] * (double)y[p];
        xy += (double)x[p] * (double)y[p];
    }
    *score = xy > 0 ? 100 * xy / sqrt(xx * yy) : 0;
    return 0;
}
