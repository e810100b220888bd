/* SPDX-License-Identifier: MIT */
/* rank_feed.c -- activations are encoded in blocks of rows, features and statistics are added as they come. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/act_tensor.h"
#include "src/models/feature_record.h"
#include "src/models/hooks.h"
#include "src/models/rank_about.h"
#include "src/models/record_origin.h"

enum { BLOCK_ROWS = 8192 };

typedef struct Waiting {            /* a record whose rows are in the block */
    json_t *fields;
    int64_t rows;
    long number;
} Waiting;

struct RankFeed {
    RankFeedOptions options;
    Sae *sae;
    RankStats *stats;
    json_t *about;                  /* fields of every header made here: rank_about.h */
    json_t *provenance;             /* of each stream */
    char *first;                    /* name of the first stream, for messages */
    const char *hook, *half;        /* in about */
    long long records, counted;
    FeatureRoom features;           /* of a record of features */

    Waiting *waiting;               /* [BLOCK_ROWS] */
    int waits;
    int64_t rows, room;             /* in the block, and that its buffers hold */
    float *x, *device_x, *a, *device_a;
    int32_t *i, *device_i;
};

int rank_feed_create(RankFeed **out, const RankFeedOptions *options, Err *e)
{
    *out = NULL;
    RankFeed *f = calloc(1, sizeof *f);
    if (!f || !(f->waiting = calloc(BLOCK_ROWS, sizeof *f->waiting))) {
        free(f);
        return err_set(e, "out of memory");
    }
    f->options = *options;
    f->provenance = json_array();
    if (options->sae && (sae_load(&f->sae, options->sae, e) || sae_prepare(f->sae, options->type, e))) {
        rank_feed_free(f);
        return -1;
    }
    *out = f;
    return 0;
}

static void free_block(RankFeed *f)
{
    void *const device[] = {f->device_x, f->device_a, f->device_i};
    for (int k = 0; k < 3; k++)
        if (device[k])
            op->free(device[k]);
    free(f->x);
    free(f->a);
    free(f->i);
    f->x = f->device_x = f->a = f->device_a = NULL;
    f->i = f->device_i = NULL;
    f->room = 0;
}

void rank_feed_free(RankFeed *f)
{
    if (!f)
        return;
    for (int w = 0; w < f->waits; w++)
        json_decref(f->waiting[w].fields);
    free(f->waiting);
    free_block(f);
    sae_free(f->sae);
    rank_stats_free(f->stats);
    json_decref(f->about);
    json_decref(f->provenance);
    free(f->first);
    feature_room_free(&f->features);
    free(f);
}

/* ---- headers ---- */

/* Without the step that wrote statistics: parts merged give the header of one run. */
static void keep_provenance(RankFeed *f, const StreamIn *in)
{
    json_t *steps = json_copy(json_object_get(stream_header(in)->fields, "provenance"));
    if (strcmp(stream_kind(in), "statistics") == 0 && json_array_size(steps))
        json_array_remove(steps, json_array_size(steps) - 1);
    json_array_append_new(f->provenance, steps);
}

static int open_stats(RankFeed *f, const StreamIn *in, Err *e)
{
    const char *kinds[RANK_KINDS];
    const json_t *by = json_object_get(f->about, "by");
    const size_t count = json_array_size(by);
    if (count < 1 || count > RANK_KINDS)
        return err_set(e, "%s: labels of %zu kinds; 1 to %d are possible", stream_name(in), count, RANK_KINDS);
    for (size_t i = 0; i < count; i++)
        if (!(kinds[i] = json_string_value(json_array_get(by, i))))
            return err_set(e, "%s: header: by is not a list of names", stream_name(in));
    return rank_stats_create(&f->stats, (int)json_integer_value(json_object_get(f->about, "features")), kinds,
                             (int)count, e);
}

/* The first stream is taken as it is, later ones must agree with it. */
static int meet_stream(RankFeed *f, const StreamIn *in, Err *e)
{
    json_t *about = rank_about(&f->options, f->sae, in, e);
    if (!about)
        return -1;
    keep_provenance(f, in);
    if (f->about) {
        const int failed = rank_about_agree(about, in, f->about, f->first, e);
        json_decref(about);
        return failed;
    }
    f->about = about;
    f->hook = json_string_value(json_object_get(about, "hook"));
    f->half = json_string_value(json_object_get(about, "half"));
    f->first = strdup(stream_name(in));
    return f->first ? open_stats(f, in, e) : err_set(e, "out of memory");
}

/* ---- records ---- */

static int count_features(RankFeed *f, const StreamIn *in, long number, const json_t *fields, const int32_t *index,
                          const float *value, int64_t tokens, int K, Err *e)
{
    Err why = {0};
    char *labels[RANK_KINDS] = {0};
    int failed = 0;
    for (int k = 0; k < f->stats->kinds && !failed; k++)
        if (!(labels[k] = record_label(fields, f->stats->kind[k])))
            failed = err_set(&why, "out of memory");
    f->counted++;
    failed = failed || rank_stats_add(f->stats, (const char *const *)labels,
                                      (int)json_integer_value(json_object_get(fields, "t")), index, value, tokens, K,
                                      &why);
    for (int k = 0; k < f->stats->kinds; k++)
        free(labels[k]);
    return failed ? stream_blame(in, number, &why, e) : 0;
}

static int encode_block(RankFeed *f, const StreamIn *in, Err *e)
{
    if (!f->rows)
        return 0;
    const int K = f->sae->K;
    op->upload(f->device_x, f->x, sizeof(float) * f->rows * f->sae->D);
    int failed = sae_encode_to_host(f->sae, f->a, f->i, f->device_a, f->device_i, f->device_x, f->rows, e);
    int64_t n = 0;
    for (int w = 0; w < f->waits; w++) {
        const Waiting *x = &f->waiting[w];
        failed = failed || count_features(f, in, x->number, x->fields, f->i + n*K, f->a + n*K, x->rows, K, e);
        n += x->rows;
        json_decref(x->fields);
    }
    f->waits = 0;
    f->rows = 0;
    return failed ? -1 : 0;
}

static int need_block(RankFeed *f, int64_t rows, Err *e)
{
    const int64_t room = rows > BLOCK_ROWS ? rows : BLOCK_ROWS;
    if (rows <= f->room)
        return 0;
    free_block(f);
    f->x = malloc(sizeof(float) * room * f->sae->D);
    f->a = malloc(sizeof(float) * room * f->sae->K);
    f->i = malloc(sizeof(int32_t) * room * f->sae->K);
    f->device_x = op->alloc(sizeof(float) * room * f->sae->D, e);
    f->device_a = op->alloc(sizeof(float) * room * f->sae->K, e);
    f->device_i = op->alloc(sizeof(int32_t) * room * f->sae->K, e);
    if (!f->x || !f->a || !f->i || !f->device_x || !f->device_a || !f->device_i)
        return err_set(e, "out of memory for %lld rows of activations", (long long)room);
    f->room = room;
    return 0;
}

/* act (H,W,D) or (tokens,D) joins the block. */
static int add_activations(RankFeed *f, const StreamIn *in, const Record *rec, Err *e)
{
    const int D = f->sae->D;
    ActTensor t;
    char text[128];
    if (act_tensor_need(&t, in, rec, e))
        return -1;
    if (t.D != D)
        return err_set(e, "%s: record %ld: act is %s, the autoencoder takes tokens of width %d", stream_name(in),
                       rec->number, tensor_shape_text(t.act, text), D);
    const int64_t rows = t.N;
    if ((f->rows + rows > BLOCK_ROWS || f->waits == BLOCK_ROWS) && encode_block(f, in, e))
        return -1;
    if (need_block(f, f->rows + rows, e) || act_tensor_floats(&t, in, rec, f->x + f->rows * D, e))
        return -1;
    f->waiting[f->waits++] = (Waiting){json_incref(rec->fields), rows, rec->number};
    f->rows += rows;
    return 0;
}

/* Features are counted at once. */
static int add_features(RankFeed *f, const StreamIn *in, const Record *rec, Err *e)
{
    FeatureRecord x;
    return feature_record_read(&x, &f->features, in, rec, f->stats->F, e)
        || count_features(f, in, rec->number, rec->fields, x.index, x.value, x.tokens, x.K, e) ? -1 : 0;
}

int rank_feed_stream(RankFeed *f, StreamIn *in, void (*progress)(void *context, long long records), void *context,
                     Err *e)
{
    if (meet_stream(f, in, e))
        return -1;
    if (strcmp(stream_kind(in), "statistics") == 0) {
        f->counted++;
        return rank_stats_read(f->stats, in, e);
    }
    const bool activations = strcmp(stream_kind(in), "activations") == 0;
    Record rec;
    int got;
    while ((got = stream_next(in, &rec, e)) > 0) {
        if (progress)
            progress(context, ++f->records);
        int t;
        if (!record_of(&rec, f->hook, f->half))
            continue;
        if (record_timestep(in, &rec, &t, e))
            return -1;
        if (activations ? add_activations(f, in, &rec, e) : add_features(f, in, &rec, e))
            return -1;
    }
    return got || encode_block(f, in, e) ? -1 : 0;
}

/* ---- the end ---- */

static bool has_label(const RankStats *s, const char *kind)
{
    for (size_t i = 0; i < s->cells; i++)
        if (strcmp(s->kind[s->cell[i]->kind], kind) == 0 && *s->cell[i]->label)
            return true;
    return false;
}

int rank_feed_finish(RankFeed *f, bool part, Err *e)
{
    if (!f->counted)
        return err_set(e, "%s: no record of hook %s, half %s", f->first ? f->first : "no input", f->hook ? f->hook : "",
                       f->half ? f->half : "");
    bool any = part;
    char kinds[RANK_KINDS*sizeof f->stats->kind[0] + 1] = "";
    for (int k = 0; k < f->stats->kinds; k++) {
        any |= has_label(f->stats, f->stats->kind[k]);
        snprintf(kinds + strlen(kinds), sizeof kinds - strlen(kinds), "%s%s", k ? ", " : "", f->stats->kind[k]);
    }
    for (int k = 0; k < f->options.kind_count && !part; k++)
        if (!has_label(f->stats, f->options.kinds[k]))
            return err_set(e, "%s: no record has the label %s", f->first, f->options.kinds[k]);
    return any ? 0 : err_set(e, "%s: no record has a label of %s", f->first, kinds);
}

RankStats *rank_feed_stats(RankFeed *f)
{
    return f->stats;
}

const json_t *rank_feed_assigned(const RankFeed *f)
{
    return json_object_get(f->about, "assigned");
}

void rank_feed_describe(const RankFeed *f, Record *header, json_t *step)
{
    json_object_update(header->fields, f->about);
    json_t *all = provenance_join(f->provenance, true);
    json_array_append_new(all, step);
    record_set_json(header, "provenance", all);
}
