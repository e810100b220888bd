/* SPDX-License-Identifier: MIT */
/* feature_tally.c -- features streams counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/feature_tally.h"
#include "src/models/hooks.h"
#include "src/models/model.h"
#include "src/models/record_origin.h"
#include "src/models/sae.h"

enum { BITS = 24 };

int tally_create(Tally **out, const TallyOptions *options, Err *e)
{
    Tally *y = *out = calloc(1, sizeof *y);
    const size_t n = (size_t)options->count + 1;
    if (!y || !(y->chosen = calloc(n, sizeof *y->chosen)) || !(y->touched = malloc(n*sizeof *y->touched)))
        return err_set(e, "out of memory for %d features", options->count);
    y->options = *options;
    for (int i = 0; i < options->count; i++) {
        y->chosen[i].feature = options->feature[i];
        if (!(y->chosen[i].peak = calloc((size_t)options->pictures + 1, sizeof(Peak))))
            return err_set(e, "out of memory for %d features", options->count);
    }
    return 0;
}

static void peak_free(Peak *p)
{
    json_decref(p->fields);
    free(p->grid);
}

void tally_free(Tally *y)
{
    if (!y)
        return;
    for (int i = 0; y->chosen && i < y->options.count; i++) {
        for (int p = 0; p < y->chosen[i].peaks; p++)
            peak_free(&y->chosen[i].peak[p]);
        free(y->chosen[i].peak);
    }
    json_decref(y->header);
    free(y->first);
    free(y->hook);
    free(y->active);
    free(y->sum);
    free(y->most);
    free(y->chosen);
    free(y->slot);
    free(y->touched);
    feature_room_free(&y->room);
    free(y);
}

double tally_sum(int64_t sum)
{
    return ldexp((double)sum, -BITS);
}

int tally_time(const Tally *y, int t)
{
    for (int i = 0; i < y->times; i++)
        if (y->t[i] == t)
            return i;
    return -1;
}

/* ---- headers ---- */

static int begin(Tally *y, const StreamIn *in, const char *hook, int F, Err *e)
{
    const size_t n = (size_t)F;
    y->F = F;
    y->header = json_incref(stream_header(in)->fields);
    y->first = strdup(stream_name(in));
    y->hook = strdup(hook);
    y->active = calloc(n, sizeof *y->active);
    y->sum = calloc(n, sizeof *y->sum);
    y->most = calloc(n, sizeof *y->most);
    y->slot = malloc(n*sizeof *y->slot);
    if (!y->first || !y->hook || !y->active || !y->sum || !y->most || !y->slot)
        return err_set(e, "out of memory for %d features", F);
    memset(y->slot, 0xff, n*sizeof *y->slot);
    for (int i = 0; i < y->options.count; i++) {
        const int f = y->chosen[i].feature;
        if (f < 0 || f >= F)
            return err_set(e, "%s: header: %d features, and feature %d is asked for", y->first, F, f);
        y->slot[f] = i;
    }
    return 0;
}

static int meet_stream(Tally *y, const StreamIn *in, Err *e)
{
    const Record *header = stream_header(in);
    const long long F = record_int(header, "features", 0), k = record_int(header, "k", 0);
    const char *sae = record_text(header, "sae", ""), *hook = "";
    const json_t *hooks = json_object_get(header->fields, "hooks");
    if (json_array_size(hooks) == 1 && json_is_string(json_array_get(hooks, 0)))
        hook = hook_path(json_string_value(json_array_get(hooks, 0)));
    if (F < 1 || F > SAE_MAX_FEATURES)
        return err_set(e, "%s: header: features is missing or not a number from 1 to %d", stream_name(in),
                       SAE_MAX_FEATURES);
    if (y->options.sae && *sae && !folder_same(sae, y->options.sae))
        return err_set(e, "%s: header: made with the autoencoder %s, expected %s", stream_name(in), sae,
                       y->options.sae);
    if (!y->header)
        return begin(y, in, hook, (int)F, e);
    const char *other = json_string_value(json_object_get(y->header, "sae"));
    if (F != y->F || !folder_same(sae, other ? other : "") || strcmp(hook, y->hook) != 0)
        return err_set(e, "%s: header: features of %s at '%s' (%lld of them), and in %s of %s at '%s' (%d): they "
                          "cannot be counted together",
                       stream_name(in), sae, hook, F, y->first, other ? other : "", y->hook, y->F);
    const long long first_k = json_integer_value(json_object_get(y->header, "k"));
    return k == first_k ? 0 : err_set(e, "%s: header: k is %lld, and in %s %lld: they cannot be counted together",
                                      stream_name(in), k, y->first, first_k);
}

/* ---- records ---- */

typedef struct Kept {               /* a record's features: K of each token */
    FeatureRecord codes;
    int t;
    int time;                       /* place of t */
    const json_t *fields;
    const char *id;
} Kept;

static int read_kept(Tally *y, const StreamIn *in, const Record *rec, Kept *k, Err *e)
{
    if (feature_record_read(&k->codes, &y->room, in, rec, y->F, e))
        return -1;
    if (k->codes.H > TALLY_GRID || k->codes.W > TALLY_GRID)
        return err_set(e, "%s: record %ld: tokens are %d x %d, at most %d x %d are read", stream_name(in), rec->number,
                       k->codes.H, k->codes.W, TALLY_GRID, TALLY_GRID);
    k->fields = rec->fields;
    k->id = record_text(rec, "id", NULL);
    return k->id ? 0 : err_set(e, "%s: record %ld: id is missing", stream_name(in), rec->number);
}

static int find_time(Tally *y, const StreamIn *in, long number, Kept *k, Err *e)
{
    k->time = tally_time(y, k->t);
    if (k->time < 0) {
        if (y->times == TALLY_TIMES)
            return err_set(e, "%s: record %ld: more than %d timesteps", stream_name(in), number, TALLY_TIMES);
        k->time = y->times;
        y->t[y->times++] = k->t;
    }
    y->t_tokens[k->time] += k->codes.tokens;
    return 0;
}

/* The feature's values over the record's tokens, (H,W). */
static float *make_grid(const Kept *k, int feature, Err *e)
{
    float *grid = calloc((size_t)k->codes.tokens, sizeof *grid);
    if (!grid) {
        err_set(e, "out of memory for a heat map of %lld tokens", (long long)k->codes.tokens);
        return NULL;
    }
    for (int64_t n = 0; n < k->codes.tokens*k->codes.K; n++)
        if (k->codes.index[n] == feature && k->codes.value[n] > 0)
            grid[n/k->codes.K] = k->codes.value[n];
    return grid;
}

/* Whether a goes before b: the stronger, then the smaller id. */
static bool before(float a, const char *a_id, const Peak *b)
{
    return a != b->value ? a > b->value : strcmp(a_id, b->id) < 0;
}

/* Whether the record k stands for its picture rather than b does: the stronger, then the larger timestep, then the
 * first of its evaluations, where a sampler takes it more than once, then its half cond. */
static bool outdoes(float value, const Kept *k, const Peak *b)
{
    if (value != b->value || k->t != b->t)
        return value != b->value ? value > b->value : k->t > b->t;
    const json_int_t step = json_integer_value(json_object_get(k->fields, "step")),
        other = json_integer_value(json_object_get(b->fields, "step"));
    const char *half = json_string_value(json_object_get(k->fields, "half")),
        *other_half = json_string_value(json_object_get(b->fields, "half"));
    return step != other ? step < other : strcmp(half ? half : "", other_half ? other_half : "") < 0;
}

/* A picture stands there once, at the timestep where it is strongest. */
static int add_peak(Chosen *c, const Kept *k, int pictures, Err *e)
{
    const float value = c->strongest;
    int old = 0;
    while (old < c->peaks && strcmp(c->peak[old].id, k->id) != 0)
        old++;
    if (old < c->peaks && !outdoes(value, k, &c->peak[old]))
        return 0;
    if (old == c->peaks && c->peaks == pictures && (!pictures || !before(value, k->id, &c->peak[pictures - 1])))
        return 0;
    Peak p = {.fields = json_incref((json_t *)k->fields), .id = k->id, .t = k->t, .value = value, .H = k->codes.H,
              .W = k->codes.W};
    if (k->codes.H && !(p.grid = make_grid(k, c->feature, e))) {
        peak_free(&p);
        return -1;
    }
    if (old == c->peaks && c->peaks < pictures)
        c->peaks++;
    else
        peak_free(&c->peak[old < c->peaks ? old : --old]);
    int to = old;
    for (; to > 0 && before(p.value, p.id, &c->peak[to - 1]); to--)
        c->peak[to] = c->peak[to - 1];
    c->peak[to] = p;
    return 0;
}

static int overflow(const StreamIn *in, long number, Err *e)
{
    return err_set(e, "%s: record %ld: the sums leave 64 bits: features are too large to sum", stream_name(in), number);
}

static int count_value(Tally *y, const Kept *k, int f, float value, int *touched)
{
    const double scaled = ldexp((double)value, BITS);
    if (!(scaled < 0x1p62) || __builtin_add_overflow(y->sum[f], llrint(scaled), &y->sum[f]))
        return -1;
    y->active[f]++;
    y->most[f] = value > y->most[f] ? value : y->most[f];
    if (y->slot[f] < 0)
        return 0;
    Chosen *c = &y->chosen[y->slot[f]];
    const int bin = (int)floor((log10((double)value) - VALUE_LOWEST)/VALUE_WIDTH);
    c->bin[bin < 0 ? 0 : bin < VALUE_BINS ? bin : VALUE_BINS - 1]++;
    c->sum[k->time] += llrint(scaled);              /* at most y->sum */
    if (c->strongest == 0)
        y->touched[(*touched)++] = y->slot[f];
    c->strongest = value > c->strongest ? value : c->strongest;
    return 0;
}

static int count_record(Tally *y, const StreamIn *in, const Record *rec, int t, Err *e)
{
    Kept k = {.t = t};
    int touched = 0, failed = 0;
    if (read_kept(y, in, rec, &k, e) || find_time(y, in, rec->number, &k, e))
        return -1;
    y->records++;
    y->tokens += k.codes.tokens;
    for (int64_t n = 0; n < k.codes.tokens*k.codes.K && !failed; n++)
        if (k.codes.value[n] > 0 && count_value(y, &k, k.codes.index[n], k.codes.value[n], &touched))
            failed = overflow(in, rec->number, e);
    for (int i = 0; i < touched; i++) {
        Chosen *c = &y->chosen[y->touched[i]];
        failed = failed || add_peak(c, &k, y->options.pictures, e);
        c->strongest = 0;
    }
    if (!failed && y->options.record)
        failed = y->options.record(y->options.context, y, in, rec, &k.codes, e);
    return failed ? -1 : 0;
}

int tally_stream(Tally *y, StreamIn *in, void (*each)(void *context, long long records), void *context, Err *e)
{
    Record rec;
    int got;
    if (meet_stream(y, in, e))
        return -1;
    for (long long records = 0; (got = stream_next(in, &rec, e)) > 0;) {
        int t;
        if (each)
            each(context, ++records);
        if (!record_of(&rec, y->hook, y->options.half))
            continue;
        if (record_timestep(in, &rec, &t, e))
            return -1;
        if (t_range_has(y->options.when, t) && count_record(y, in, &rec, t, e))
            return -1;
    }
    return got;
}

int tally_finish(Tally *y, Err *e)
{
    if (y->records)
        return 0;
    return err_set(e, "%s: no record of hook %s, half %s and the timesteps asked for", y->first, y->hook,
                   y->options.half);
}
