/* SPDX-License-Identifier: MIT */
/* naming.c -- embeddings summed by the features that are active in their pictures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/model.h"
#include "src/models/naming.h"

enum { BITS = 28, MEAN_BITS = 24 };     /* after the point, of activation times embedding; of tokens times embedding */
/* Shorter directions are what rounding left of a feature that is active in all pictures alike. */
#define SHORTEST 1e-5

typedef struct Row {                    /* of a feature that is active */
    int64_t weight;                     /* sum_i a_if, in 2^-BITS */
    long pictures;
    int64_t sum[];                      /* [P] sum_i a_if x_p(i), in 2^-BITS; behind it a bit a picture */
} Row;

struct Naming {
    int P, texts;
    double *text;                       /* (texts,P) u_c - mean, of length 1, or 0 where nothing is left */
    double *direction;                  /* scratch [P] */
    json_t *place;                      /* id -> row of x */
    float *x;                           /* (pictures,P) of length 1 */
    size_t pictures;
    int64_t tokens, *mean;              /* [P] sum_i x_p(i), in 2^-MEAN_BITS */
    long first;                         /* the first picture that had features, -1 before */
    bool others;                        /* had features too */
    int F;
    Row **row;                          /* [F] NULL: not active, or not asked for */
    double *active;                     /* scratch [F]: a record's sums, 0 between records */
    int32_t *touched;                   /* scratch [F] */
};

/* x becomes of length 1; false where it is 0, or nearly. */
static bool bring_to_length_1(double *x, int P, double shortest)
{
    double length = 0;
    for (int j = 0; j < P; j++)
        length += x[j]*x[j];
    length = sqrt(length);
    for (int j = 0; j < P; j++)
        x[j] = length > shortest ? x[j]/length : 0;
    return length > shortest;
}

static void center_texts(Naming *n, const LabelTexts *t)
{
    for (int c = 0; c < t->count; c++)
        for (int j = 0; j < n->P; j++)
            n->direction[j] += (double)t->direction[(size_t)c*(size_t)n->P + (size_t)j]/t->count;
    for (int c = 0; c < t->count; c++) {
        double *u = n->text + (size_t)c*(size_t)n->P;
        for (int j = 0; j < n->P; j++)
            u[j] = (double)t->direction[(size_t)c*(size_t)n->P + (size_t)j] - n->direction[j];
        bring_to_length_1(u, n->P, SHORTEST);
    }
}

int naming_create(Naming **out, const LabelTexts *texts, Err *e)
{
    *out = NULL;
    if (texts->count < 2)
        return err_set(e, "%s: one label only; a score is against the mean of all, so that two or more are needed",
                       texts->name);
    Naming *n = *out = calloc(1, sizeof *n);
    if (!n)
        return err_set(e, "out of memory");
    n->P = texts->P;
    n->texts = texts->count;
    n->first = -1;
    n->text = malloc(sizeof *n->text*(size_t)n->P*(size_t)n->texts);
    n->direction = calloc((size_t)n->P, sizeof *n->direction);
    n->mean = calloc((size_t)n->P, sizeof *n->mean);
    n->place = json_object();
    if (!n->text || !n->direction || !n->mean || !n->place)
        return err_set(e, "out of memory for %d texts", n->texts);
    center_texts(n, texts);
    return 0;
}

void naming_free(Naming *n)
{
    if (!n)
        return;
    for (int f = 0; n->row && f < n->F; f++)
        free(n->row[f]);
    json_decref(n->place);
    free(n->text);
    free(n->direction);
    free(n->x);
    free(n->mean);
    free(n->row);
    free(n->active);
    free(n->touched);
    free(n);
}

/* ---- embeddings ---- */

static int need_room(Naming *n, Err *e)
{
    if (n->pictures & (n->pictures - 1))
        return 0;
    float *x = realloc(n->x, sizeof *x*(n->pictures ? 2*n->pictures : 1)*(size_t)n->P);
    if (!x)
        return err_set(e, "out of memory for the embeddings of %zu pictures", 2*n->pictures);
    n->x = x;
    return 0;
}

static int add_embedding(Naming *n, const StreamIn *in, const Record *rec, Err *e)
{
    const char *id = record_text(rec, "id", NULL);
    const StreamTensor *x = stream_need(in, rec, "embedding", -1, 1, (int64_t[]){n->P}, e);
    if (!x || need_room(n, e))
        return -1;
    float *to = n->x + n->pictures*(size_t)n->P;
    if (!id)
        return err_set(e, "%s: record %ld: id is missing", stream_name(in), rec->number);
    if (json_object_get(n->place, id))
        return err_set(e, "%s: record %ld: a second embedding of picture %s", stream_name(in), rec->number, id);
    if (stream_floats(in, rec, x, to, e))
        return -1;
    for (int j = 0; j < n->P; j++)
        n->direction[j] = (double)to[j];
    if (!bring_to_length_1(n->direction, n->P, 0))
        return err_set(e, "%s: record %ld: the embedding of picture %s has no direction: it is 0", stream_name(in),
                       rec->number, id);
    for (int j = 0; j < n->P; j++)
        to[j] = (float)n->direction[j];
    return json_object_set_new(n->place, id, json_integer((json_int_t)n->pictures++))
         ? err_set(e, "out of memory for the embeddings of %zu pictures", n->pictures) : 0;
}

int naming_embeddings(Naming *n, StreamIn *in, const char *clip, Err *e)
{
    const char *model = record_text(stream_header(in), "model", "");
    Record rec;
    int got;
    if (*model && !folder_same(model, clip))
        return err_set(e, "%s: header: embeddings of %s, the texts' are of %s", stream_name(in), model, clip);
    while ((got = stream_next(in, &rec, e)) > 0)
        if (add_embedding(n, in, &rec, e))
            return -1;
    return got;
}

/* ---- features ---- */

static int need_rows(Naming *n, int F, Err *e)
{
    if (n->row)
        return 0;
    n->F = F;
    n->row = calloc((size_t)F, sizeof *n->row);
    n->active = calloc((size_t)F, sizeof *n->active);
    n->touched = malloc((size_t)F*sizeof *n->touched);
    return n->row && n->active && n->touched ? 0 : err_set(e, "out of memory for %d features", F);
}

static Row *need_row(Naming *n, int f, Err *e)
{
    if (!n->row[f]
        && !(n->row[f] = calloc(1, sizeof(Row) + sizeof(int64_t)*(size_t)n->P + (n->pictures + 7)/8)))
        err_set(e, "out of memory for the pictures of feature %d", f);
    return n->row[f];
}

/* sum[j] += scale x[j] 2^bits, each rounded. -1 where that leaves 64 bits. */
static int add_scaled(int64_t *sum, const float *x, int P, double scale, int bits)
{
    scale = ldexp(scale, bits);
    if (!(scale < 0x1p62))
        return -1;
    bool beyond = false;
    for (int j = 0; j < P; j++)
        beyond |= __builtin_add_overflow(sum[j], llrint(scale*(double)x[j]), &sum[j]);
    return beyond ? -1 : 0;
}

static int add_feature(Naming *n, int f, size_t picture, Err *e)
{
    Row *r = need_row(n, f, e);
    if (!r)
        return -1;
    uint8_t *bit = (uint8_t *)(r->sum + n->P) + picture/8, mask = (uint8_t)(1 << picture%8);
    r->pictures += !(*bit & mask);
    *bit |= mask;
    return add_scaled(&r->weight, &(float){1}, 1, n->active[f], BITS)
        || add_scaled(r->sum, n->x + picture*(size_t)n->P, n->P, n->active[f], BITS)
         ? err_set(e, "the sums leave 64 bits: feature %d is too large to sum", f) : 0;
}

int naming_record(void *context, const Tally *y, const StreamIn *in, const Record *rec, const FeatureRecord *codes,
                  Err *e)
{
    Naming *n = context;
    const char *id = record_text(rec, "id", "");
    const json_t *place = json_object_get(n->place, id);
    int touched = 0;
    Err why = {0};
    if (!place)
        return err_set(e, "%s: record %ld: picture %s is not among the %zu embeddings", stream_name(in), rec->number,
                       id, n->pictures);
    const size_t picture = (size_t)json_integer_value(place);
    if (need_rows(n, y->F, e))
        return -1;
    n->others |= n->first >= 0 && n->first != (long)picture;
    n->first = n->first < 0 ? (long)picture : n->first;
    for (int64_t i = 0; i < codes->tokens*codes->K; i++) {
        const int f = codes->index[i];
        if (!(codes->value[i] > 0) || (y->options.count && y->slot[f] < 0))
            continue;
        if (n->active[f] == 0)
            n->touched[touched++] = f;
        n->active[f] += (double)codes->value[i];
    }
    n->tokens += codes->tokens;
    int failed = add_scaled(n->mean, n->x + picture*(size_t)n->P, n->P, (double)codes->tokens, MEAN_BITS)
               ? err_set(&why, "the sums leave 64 bits: too many tokens") : 0;
    for (int i = 0; i < touched; i++) {
        failed = failed || add_feature(n, n->touched[i], picture, &why);
        n->active[n->touched[i]] = 0;
    }
    return failed ? stream_blame(in, rec->number, &why, e) : 0;
}

int naming_finish(const Naming *n, Err *e)
{
    return n->others ? 0 : err_set(e, "features of one picture only: a feature is named by what its pictures have "
                                      "beyond all pictures");
}

/* ---- scores ---- */

long naming_pictures(const Naming *n, int f)
{
    return n->row && n->row[f] ? n->row[f]->pictures : 0;
}

int naming_best(Naming *n, int f, Score *best, int top)
{
    const Row *r = n->row ? n->row[f] : NULL;
    int count = 0;
    if (!r || !r->weight)
        return 0;
    for (int j = 0; j < n->P; j++)
        n->direction[j] = (double)r->sum[j]/(double)r->weight
                        - ldexp((double)n->mean[j], -MEAN_BITS)/(double)n->tokens;
    if (!bring_to_length_1(n->direction, n->P, SHORTEST))
        return 0;
    for (int c = 0; c < n->texts; c++) {
        const double *u = n->text + (size_t)c*(size_t)n->P;
        Score s = {c, 0};
        for (int j = 0; j < n->P; j++)
            s.score += n->direction[j]*u[j];
        if (count == top && s.score <= best[top - 1].score)
            continue;
        int to = count < top ? count++ : top - 1;
        for (; to > 0 && s.score > best[to - 1].score; to--)
            best[to] = best[to - 1];
        best[to] = s;
    }
    return count;
}
