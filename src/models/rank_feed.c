/* SPDX-License-Identifier: MIT */
/* rank_feed.c -- activations are encoded in blocks of rows, features and statistics are added as they come. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/rank_feed.h"
#include "src/models/ranks.h"

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
    /* sae, hook, take, half, by, features, assigned, model: fields of every header made here */
    json_t *about;
    json_t *provenance;
    char *first;                    /* name of the first stream, for messages */
    const char *hook, *half;        /* in about */
    long long records, counted;

    Waiting *waiting;               /* [BLOCK_ROWS] */
    int waits;
    int64_t rows, room;             /* in the block, and that its buffers hold */
    float *x, *device_x, *a, *device_a;
    int32_t *i, *device_i;
};

static const char *const usual_kinds[] = {"concept", "theme"};

int rank_feed_create(RankFeed **out, const RankFeedOptions *options, Err *e)
{
    *out = NULL;
    RankFeed *f = calloc(1, sizeof *f);
    if (!f || !(f->waiting = calloc(BLOCK_ROWS, sizeof *f->waiting))) {
        free(f);
        return err_set(e, "out of memory");
    }
    f->options = *options;
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
    free(f);
}

/* ---- headers: what is counted ---- */

static json_t *kinds_json(const RankFeedOptions *o)
{
    const char *const *kinds = o->kind_count ? o->kinds : usual_kinds;
    json_t *by = json_array();
    for (int i = 0; i < (o->kind_count ? o->kind_count : 2); i++)
        json_array_append_new(by, json_string(kinds[i]));
    return by;
}

/* The module counted of a stream of activations: what the options say, else the autoencoder's own, else the only one
 * there is. */
static const char *pick_hook(const RankFeed *f, const StreamIn *in, Err *e)
{
    const json_t *hooks = json_object_get(stream_header(in)->fields, "hooks");
    const char *wanted = f->options.hook ? f->options.hook : f->sae ? f->sae->hook : "";
    const char *one = record_text(stream_header(in), "hook", "");
    char list[1024] = "";
    if (!json_is_array(hooks))
        return *wanted ? wanted : one;
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        const char *name = json_string_value(json_array_get(hooks, i));
        if (name && strcmp(name, wanted) == 0)
            return wanted;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", name ? name : "?");
    }
    const char *only = json_array_size(hooks) == 1 ? json_string_value(json_array_get(hooks, 0)) : NULL;
    if (!*wanted && only)
        return only;
    if (*wanted)
        err_set(e, "%s: header: hooks are %s; the one to count is %s", stream_name(in), list, wanted);
    else
        err_set(e, "%s: header: hooks are %s; say which one to count with --hook", stream_name(in), list);
    return NULL;
}

static int check_take(const RankFeed *f, const StreamIn *in, Err *e)
{
    const char *take = record_text(stream_header(in), "take", "");
    if (!*take || !*f->sae->take || strcmp(take, f->sae->take) == 0)
        return 0;
    return err_set(e, "%s: header: take is %s, the autoencoder %s was trained on %s", stream_name(in), take, f->sae->id,
                   f->sae->take);
}

/* The fields that this stream's statistics have; NULL on error. */
static json_t *describe_stream(const RankFeed *f, const StreamIn *in, Err *e)
{
    const Record *header = stream_header(in);
    const char *kind = stream_kind(in), *hook = NULL, *id = record_text(header, "sae", "");
    const bool statistics = strcmp(kind, "statistics") == 0;
    long long features = record_int(header, "features", 0);
    if (strcmp(kind, "activations") == 0) {
        if (!f->sae) {
            err_set(e, "%s: activations are ranked by the features of an autoencoder: give --sae DIR", stream_name(in));
            return NULL;
        }
        if (check_take(f, in, e))
            return NULL;
        id = f->sae->id;
        features = f->sae->F;
    } else if (!statistics && strcmp(kind, "features") != 0) {
        err_set(e, "%s: a stream of %s, expected activations, features or statistics", stream_name(in), kind);
        return NULL;
    }
    if (f->sae && *id && !ranks_same_sae(id, f->sae->id)) {
        err_set(e, "%s: header: made with the autoencoder %s, --sae is %s", stream_name(in), id, f->sae->id);
        return NULL;
    }
    if (features < 1 || features > INT32_MAX) {
        err_set(e, "%s: header: features is missing or not a number from 1 on", stream_name(in));
        return NULL;
    }
    if (!(hook = statistics ? record_text(header, "hook", "") : pick_hook(f, in, e)))
        return NULL;
    json_t *by = json_object_get(header->fields, "by");
    json_t *about = json_object();
    json_object_set_new(about, "sae", json_string(id));
    json_object_set_new(about, "features", json_integer(features));
    json_object_set_new(about, "hook", json_string(hook));
    json_object_set_new(about, "take", json_string(record_text(header, "take", "output")));
    json_object_set_new(about, "half", json_string(statistics ? record_text(header, "half", "cond") : f->options.half));
    if (statistics && json_is_array(by))
        json_object_set(about, "by", by);
    else
        json_object_set_new(about, "by", kinds_json(&f->options));
    json_t *assigned = f->sae ? json_object_get(f->sae->cfg, "labels") : json_object_get(header->fields, "assigned");
    if (json_is_object(assigned))
        json_object_set(about, "assigned", assigned);
    if (json_object_get(header->fields, "model"))
        json_object_set(about, "model", json_object_get(header->fields, "model"));
    return about;
}

static void keep_provenance(RankFeed *f, const StreamIn *in)
{
    const json_t *before = json_object_get(stream_header(in)->fields, "provenance");
    f->provenance = json_is_array(before) ? json_copy((json_t *)before) : json_array();
    if (strcmp(stream_kind(in), "statistics") == 0 && json_array_size(f->provenance))
        json_array_remove(f->provenance, json_array_size(f->provenance) - 1);
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
    json_t *about = describe_stream(f, in, e), *value;
    const char *name;
    if (!about)
        return -1;
    if (!f->about) {
        f->about = about;
        f->hook = json_string_value(json_object_get(about, "hook"));
        f->half = json_string_value(json_object_get(about, "half"));
        f->first = strdup(stream_name(in));
        keep_provenance(f, in);
        return f->first ? open_stats(f, in, e) : err_set(e, "out of memory");
    }
    int failed = 0;
    json_object_foreach(about, name, value) {
        const json_t *other = json_object_get(f->about, name);
        if (failed || json_equal(value, (json_t *)other)
            || (strcmp(name, "sae") == 0 && ranks_same_sae(json_string_value(value), json_string_value(other))))
            continue;
        char *found = json_dumps(value, JSON_ENCODE_ANY), *expected = json_dumps(other, JSON_ENCODE_ANY);
        failed = err_set(e, "%s: %s is %s, and %s in %s: they cannot be counted together", stream_name(in), name,
                         found ? found : "?", expected ? expected : "missing", f->first);
        free(found);
        free(expected);
    }
    json_decref(about);
    return failed;
}

/* ---- records ---- */

static int count_features(RankFeed *f, const StreamIn *in, long number, const json_t *fields, const int32_t *index,
                          const float *value, int64_t tokens, int K, Err *e)
{
    Err why = {0};
    const char *labels[RANK_KINDS];
    char digits[RANK_KINDS][24];
    for (int k = 0; k < f->stats->kinds; k++) {
        const json_t *label = json_object_get(fields, f->stats->kind[k]);
        if (json_is_integer(label))
            snprintf(digits[k], sizeof digits[k], "%lld", (long long)json_integer_value(label));
        labels[k] = json_is_integer(label) ? digits[k] : json_is_string(label) ? json_string_value(label) : "";
    }
    f->counted++;
    if (rank_stats_add(f->stats, labels, (int)json_integer_value(json_object_get(fields, "t")), index, value, tokens, K,
                       &why))
        return stream_blame(in, number, &why, e);
    return 0;
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
    const StreamTensor *act = record_tensor(rec, "act");
    char text[128];
    const int D = f->sae->D;
    if (!act || act->ndim < 2 || act->ndim > 3 || !tensor_is_float(act) || act->dim[act->ndim - 1] != D)
        return err_set(e, "%s: record %ld: act is %s, the autoencoder takes f32, f16 or bf16 (..., %d)",
                       stream_name(in), rec->number, act ? tensor_shape_text(act, text) : "missing", D);
    const int64_t rows = (int64_t)tensor_count(act) / D;
    if (rows < 1)
        return err_set(e, "%s: record %ld: activations of no token", stream_name(in), rec->number);
    if ((f->rows + rows > BLOCK_ROWS || f->waits == BLOCK_ROWS) && encode_block(f, in, e))
        return -1;
    if (need_block(f, f->rows + rows, e) || stream_floats(in, rec, act, f->x + f->rows * D, e))
        return -1;
    f->waiting[f->waits++] = (Waiting){json_incref(rec->fields), rows, rec->number};
    f->rows += rows;
    return 0;
}

/* index and value (H,W,K) or (tokens,K) are counted at once. */
static int add_features(RankFeed *f, const StreamIn *in, const Record *rec, Err *e)
{
    const StreamTensor *index = record_tensor(rec, "index"), *value = record_tensor(rec, "value");
    if (!index || !value || index->type != I32 || !tensor_is_float(value) || index->ndim < 2
        || index->ndim != value->ndim
        || memcmp(index->dim, value->dim, sizeof *index->dim * index->ndim) != 0)
        return err_set(e, "%s: record %ld: index and value are not of one shape (..., K), i32 and float",
                       stream_name(in), rec->number);
    const int64_t count = (int64_t)tensor_count(index), K = index->dim[index->ndim - 1];
    const int32_t *i = index->data;
    for (int64_t n = 0; n < count; n++)
        if (i[n] < 0 || i[n] >= f->stats->F)
            return err_set(e, "%s: record %ld: feature %d, the header says there are %d", stream_name(in), rec->number,
                           i[n], f->stats->F);
    if (count < 1)
        return err_set(e, "%s: record %ld: features of no token", stream_name(in), rec->number);
    float *values = malloc(sizeof *values * (size_t)count);
    int failed = !values ? err_set(e, "out of memory") : stream_floats(in, rec, value, values, e)
               || count_features(f, in, rec->number, rec->fields, i, values, count / K, (int)K, e);
    free(values);
    return failed ? -1 : 0;
}

static bool wanted(const RankFeed *f, const Record *rec)
{
    return strcmp(record_text(rec, "hook", f->hook), f->hook) == 0
        && (strcmp(f->half, "both") == 0 || strcmp(record_text(rec, "half", f->half), f->half) == 0);
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
        if (!wanted(f, &rec))
            continue;
        const long long t = record_int(&rec, "t", -1);
        if (t < 0 || t > INT32_MAX)
            return err_set(e, "%s: record %ld: timestep t is missing or not a number from 0 on", stream_name(in),
                           rec.number);
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
    for (int k = 0; k < f->stats->kinds; k++)
        any |= has_label(f->stats, f->stats->kind[k]);
    for (int k = 0; k < f->options.kind_count && !part; k++)
        if (!has_label(f->stats, f->options.kinds[k]))
            return err_set(e, "%s: no record has the label %s", f->first, f->options.kinds[k]);
    return any ? 0 : err_set(e, "%s: no record has a label: neither concept nor theme", f->first);
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
    json_t *all = json_copy(f->provenance);
    json_array_append_new(all, step);
    record_set_json(header, "provenance", all);
}
