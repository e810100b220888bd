/* SPDX-License-Identifier: MIT */
/* ranks.c -- a ranks stream in memory: found by label and timestep. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/ranks.h"
#include "src/models/sae.h"

enum { ARRAYS = 5, ALWAYS = 3 };    /* tensors of a record beside feature; the first are always there */
static const char *const arrays[ARRAYS] = {"score", "mean", "mean_all", "mean_rest", "mean_none"};

typedef struct Label { char *kind, *label; } Label;

struct Ranks {
    char *path, *sae;
    json_t *header;
    int F;
    RankEntry *entry;
    size_t entries, entry_room;
    Label *label;                   /* distinct, in the order of the stream */
    size_t labels, label_room;
    json_t *place;                  /* of each in label, by "LENGTH KIND LABEL" */
    json_t *there;                  /* "PLACE T" of each entry */
    size_t *seen;                   /* [F] the last entry that named the feature, from 1 on */
};

static int grow(void **array, size_t *room, size_t count, size_t size, Err *e)
{
    if (count < *room)
        return 0;
    const size_t more = *room ? 2 * *room : 64;
    void *p = realloc(*array, more * size);
    if (!p)
        return err_set(e, "out of memory for %zu ranks", more);
    *array = p;
    *room = more;
    return 0;
}

/* The label of kind and name, added when it is new: an entry's kind and label point to it. */
static int intern(Ranks *r, const char *kind, const char *label, size_t *place, Err *e)
{
    char *key = malloc(strlen(kind) + strlen(label) + 24);
    if (!key)
        return err_set(e, "out of memory");
    sprintf(key, "%zu %s%s", strlen(kind), kind, label);
    const json_t *known = json_object_get(r->place, key);
    *place = known ? (size_t)json_integer_value(known) : r->labels;
    const int failed = !known && json_object_set_new_nocheck(r->place, key, json_integer((json_int_t)r->labels));
    free(key);
    if (known)
        return 0;
    if (failed)
        return err_set(e, "out of memory for %zu labels", r->labels + 1);
    if (grow((void **)&r->label, &r->label_room, r->labels, sizeof *r->label, e))
        return -1;
    Label *l = &r->label[r->labels++];
    l->kind = strdup(kind);
    l->label = strdup(label);
    return l->kind && l->label ? 0 : err_set(e, "out of memory");
}

static int check_entry(const StreamIn *in, const Record *rec, Ranks *r, const RankEntry *x, size_t place, Err *e)
{
    char key[48];
    for (int j = 0; j < x->count; j++) {
        if (x->feature[j] < 0 || x->feature[j] >= r->F)
            return err_set(e, "%s: record %ld: feature %d, the autoencoder has features 0 to %d", stream_name(in),
                           rec->number, x->feature[j], r->F - 1);
        if (j && x->score[j] > x->score[j-1])
            return err_set(e, "%s: record %ld: score %d is larger than the one before it; ranks go from the highest "
                              "score down", stream_name(in), rec->number, j);
        if (r->seen[x->feature[j]] == r->entries + 1)
            return err_set(e, "%s: record %ld: feature %d comes twice", stream_name(in), rec->number, x->feature[j]);
        r->seen[x->feature[j]] = r->entries + 1;
    }
    snprintf(key, sizeof key, "%zu %d", place, x->t);
    if (json_object_get(r->there, key))
        return err_set(e, "%s: record %ld: %s '%s' at t %d comes twice", stream_name(in), rec->number, x->kind,
                       x->label, x->t);
    return json_object_set_new_nocheck(r->there, key, json_true()) ? err_set(e, "out of memory") : 0;
}

static int read_entry(Ranks *r, const StreamIn *in, const Record *rec, RankEntry *x, Err *e)
{
    const char *kind = record_text(rec, "kind", ""), *label = record_text(rec, "label", "");
    const long long t = record_int(rec, "t", -1);
    if (!*kind || !*label || t < 0 || t > INT32_MAX)
        return err_set(e, "%s: record %ld: kind, label or timestep t is missing", stream_name(in), rec->number);
    const StreamTensor *feature = stream_need(in, rec, "feature", I32, 1, (int64_t[]){-1}, e);
    if (!feature)
        return -1;
    const int64_t m = feature->dim[0];
    if (m > r->F)
        return err_set(e, "%s: record %ld: %lld features, the header says %d", stream_name(in), rec->number,
                       (long long)m, r->F);
    size_t place = 0;
    if (intern(r, kind, label, &place, e))
        return -1;
    *x = (RankEntry){.kind = r->label[place].kind, .label = r->label[place].label, .t = (int)t, .count = (int)m};

    int32_t *block = malloc(sizeof(float) * ((size_t)m * (ARRAYS + 1) + 1));
    if (!block)
        return err_set(e, "out of memory for ranks of %lld features", (long long)m);
    memcpy(block, feature->data, sizeof(int32_t) * (size_t)m);
    x->feature = block;
    const float **to[ARRAYS] = {&x->score, &x->mean, &x->mean_all, &x->mean_rest, &x->mean_none};
    for (int i = 0; i < ARRAYS; i++) {
        if (i >= ALWAYS && !record_tensor(rec, arrays[i]))
            continue;
        const StreamTensor *a = stream_need(in, rec, arrays[i], F32, 1, (int64_t[]){m}, e);
        float *values = (float *)block + m*(i + 1);
        if (!a || stream_floats(in, rec, a, values, e))
            return -1;              /* x->feature is freed with the entry */
        *to[i] = values;
    }
    return check_entry(in, rec, r, x, place, e);
}

/* What only reading needs. */
static void drop_index(Ranks *r)
{
    json_decref(r->place);
    json_decref(r->there);
    free(r->seen);
    r->place = r->there = NULL;
    r->seen = NULL;
}

static int read_all(Ranks *r, StreamIn *in, Err *e)
{
    const Record *header = stream_header(in);
    const long long F = record_int(header, "features", 0);
    if (F < 1 || F > SAE_MAX_FEATURES)
        return err_set(e, "%s: header: features is missing or not a number from 1 to %d", stream_name(in),
                       SAE_MAX_FEATURES);
    r->F = (int)F;
    r->header = json_incref(header->fields);
    r->place = json_object();
    r->there = json_object();
    r->seen = calloc((size_t)F, sizeof *r->seen);
    if (!r->place || !r->there || !r->seen || !(r->sae = strdup(record_text(header, "sae", ""))))
        return err_set(e, "out of memory");
    Record rec;
    int got;
    while ((got = stream_next(in, &rec, e)) > 0) {
        RankEntry x = {0};
        if (grow((void **)&r->entry, &r->entry_room, r->entries, sizeof x, e))
            return -1;
        if (read_entry(r, in, &rec, &x, e)) {
            free((void *)x.feature);
            return -1;
        }
        r->entry[r->entries++] = x;
    }
    drop_index(r);
    return got ? -1 : r->entries ? 0 : err_set(e, "%s: no ranks in it", stream_name(in));
}

int ranks_load(Ranks **out, const char *path, Err *e)
{
    StreamIn *in = NULL;
    *out = NULL;
    if (stream_open_kind(&in, path, "ranks", e))
        return -1;
    Ranks *r = calloc(1, sizeof *r);
    int failed = !r || !(r->path = strdup(stream_name(in))) ? err_set(e, "out of memory") : read_all(r, in, e);
    stream_close(in);
    if (failed)
        ranks_free(r);
    else
        *out = r;
    return failed ? -1 : 0;
}

void ranks_free(Ranks *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->entries; i++)
        free((void *)r->entry[i].feature);
    for (size_t i = 0; i < r->labels; i++) {
        free(r->label[i].kind);
        free(r->label[i].label);
    }
    drop_index(r);
    free(r->entry);
    free(r->label);
    json_decref(r->header);
    free(r->path);
    free(r->sae);
    free(r);
}

const char *ranks_path(const Ranks *r)
{
    return r->path;
}

const char *ranks_sae(const Ranks *r)
{
    return r->sae;
}

int ranks_features(const Ranks *r)
{
    return r->F;
}

const json_t *ranks_header(const Ranks *r)
{
    return r->header;
}

const RankEntry *ranks_entry(const Ranks *r, size_t i)
{
    return i < r->entries ? &r->entry[i] : NULL;
}

/* A label spelt exactly so is preferred to one that differs in case. */
const RankEntry *ranks_find(const Ranks *r, const char *kind, const char *label, int t)
{
    const RankEntry *best = NULL;
    int best_exact = 0;
    for (size_t i = 0; i < r->entries; i++) {
        const RankEntry *x = &r->entry[i];
        if (strcmp(x->kind, kind) != 0 || strcasecmp(x->label, label) != 0)
            continue;
        const int exact = strcmp(x->label, label) == 0;
        const int away = abs(x->t - t), best_away = best ? abs(best->t - t) : 0;
        if (!best || exact > best_exact
            || (exact == best_exact && (away < best_away || (away == best_away && x->t < best->t)))) {
            best = x;
            best_exact = exact;
        }
    }
    return best;
}

const char *ranks_label(const Ranks *r, const char *kind, int i)
{
    for (size_t j = 0; j < r->labels; j++)
        if (strcmp(r->label[j].kind, kind) == 0 && i-- == 0)
            return r->label[j].label;
    return NULL;
}

char *ranks_labels(const Ranks *r, const char *kind)
{
    size_t bytes = 1;
    const char *label;
    for (int i = 0; (label = ranks_label(r, kind, i)); i++)
        bytes += strlen(label) + 2;
    char *text = calloc(1, bytes);
    for (int i = 0; text && (label = ranks_label(r, kind, i)); i++)
        sprintf(text + strlen(text), "%s%s", i ? ", " : "", label);
    return text;
}

/* Where the quantile lies among F rising scores, as torch.quantile has it: its sums are in f32. */
static float quantile_place(int F, double percentile)
{
    return (float)(percentile/100) * (float)(F - 1);
}

int ranks_needed(int F, double percentile)
{
    const int needed = F - (int)floorf(quantile_place(F, percentile));
    return needed > F ? F : needed < 1 ? 1 : needed;
}

int ranks_quantile(const float *score, int m, int F, double percentile, float *quantile)
{
    if (m < ranks_needed(F, percentile))
        return -1;
    const float place = quantile_place(F, percentile);
    const int low = (int)floorf(place), high = (int)ceilf(place);
    const float below = score[F - 1 - low], above = score[F - 1 - (high < F ? high : F - 1)];
    const float share = place - (float)low;
    *quantile = share < 0.5f ? below + share * (above - below) : above - (above - below) * (1 - share);
    return 0;
}
