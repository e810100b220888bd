/* SPDX-License-Identifier: MIT */
/* ranks.c -- statistics, scores and ranks: a case worked by hand, quantiles, sums that do not depend on order, broken
 * streams. */
#include "src/models/rank_score.h"
#include "tests/unit/test.h"

/* Three features, pictures of two tokens with one feature kept in each (K = 1).
 *   Cats    picture 1: f0 1, f1 2      picture 2: f0 1, f0 0 (nothing)
 *   Dogs    picture 3: f1 4, f2 4
 *   none    picture 4: f2 2, f2 2
 * Sums: Cats (2, 2, 0) of 4 tokens, Dogs (0, 4, 4) of 2, none (0, 0, 4) of 2. */
typedef struct Picture { const char *label; int32_t index[2]; float value[2]; } Picture;
static const Picture pictures[4] = {
    {"Cats", {0, 1}, {1, 2}}, {"Cats", {0, 0}, {1, 0}}, {"Dogs", {1, 2}, {4, 4}}, {"", {2, 2}, {2, 2}}
};

static RankStats *make(const int *order, int count, Err *e)
{
    RankStats *s = NULL;
    if (rank_stats_create(&s, 3, (const char *const[]){"concept"}, 1, e))
        return NULL;
    for (int i = 0; i < count; i++) {
        const Picture *p = &pictures[order[i]];
        if (rank_stats_add(s, &p->label, 500, p->index, p->value, 2, 1, e))
            return NULL;
    }
    return s;
}

typedef struct Kept {
    float score[3], mean[3], mean_all[3], mean_rest[3], mean_none[3];
    int32_t first;
    int entries;
} Kept;

static int keep_cats(void *context, const RankEntry *x, Err *e)
{
    Kept *k = context;
    (void)e;
    k->entries++;
    if (strcmp(x->label, "Cats") != 0)
        return 0;
    k->first = x->feature[0];
    for (int j = 0; j < x->count; j++) {
        const int f = x->feature[j];
        k->score[f] = x->score[j];
        k->mean[f] = x->mean[j];
        k->mean_all[f] = x->mean_all[j];
        k->mean_rest[f] = x->mean_rest[j];
        k->mean_none[f] = x->mean_none ? x->mean_none[j] : -1;
    }
    return 0;
}

static int test_scores(void)
{
    /* p_c (1/2, 1/2, 0), p_rest (0, 4/12, 8/12); means (1/2, 1/2, 0) and (0, 1, 2); u = (4/4 + 12/4)/6 = 2/3 */
    const float want[SCORES][3] = {
        {0.5f, 1.0f/6, -2.0f/3},
        {0.5f, -0.5f, -2},
        /* variances over pictures: c (0, 1/4, 0), rest (0, 1, 0) */
        {(float)(0.5/sqrt(1e-9)), (float)(-0.5/sqrt(0.625 + 1e-9)), (float)(-2/sqrt(1e-9))},
        {(float)log(7.0/4), (float)log(7.0/10), (float)log(1.0/4)},
        {0.5f, -0.1f, 0},           /* means of the labels (1/2, 1/2, 0) and (0, 2, 2) */
        {0.5f, 0.0f, -0.75f},       /* tokens 2/4 - 0/4, 1/4 - 1/4, 0/4 - 3/4 */
        {1, 0.5f, 0},               /* pictures 2/2 and 0/2, 1/2 and 1/2, 0/2 and 2/2 */
        {0.5f, -1.5f, -2},          /* the largest of Dogs (0, 2, 2) and none (0, 0, 2) */
        {0, 0, 1},                  /* as assigned says */
    };
    Err e = {0};
    int failed = 0;
    json_t *assigned = json_pack("{s:{s:i, s:i}}", "concept", "Cats", 2, "Dogs", 0);
    RankStats *s = make((const int[]){0, 1, 2, 3}, 4, &e);
    if (test_ok("statistics of four pictures", s != NULL))
        return 1;
    for (int kind = 0; kind < SCORES; kind++) {
        Kept k = {0};
        char name[64];
        failed += test_ok("ranked", rank_stats_rank(s, (ScoreKind)kind, assigned, 0, keep_cats, &k, &e) == 0
                                    && k.entries == 2);
        snprintf(name, sizeof name, "score %s", score_names[kind]);
        failed += test_close(name, k.score, want[kind], 3, 1e-6f, 1e-6f);
        if (kind == SCORE_SAEURON) {
            failed += test_ok("the best feature comes first", k.first == 0);
            failed += test_close("mean", k.mean, (float[]){0.5f, 0.5f, 0}, 3, 1e-7f, 0);
            failed += test_close("mean_all", k.mean_all, (float[]){0.25f, 1.25f, 1}, 3, 1e-7f, 0);
            failed += test_close("mean_rest", k.mean_rest, (float[]){0, 1, 2}, 3, 1e-7f, 0);
            failed += test_close("mean_none", k.mean_none, (float[]){0, 0, 2}, 3, 1e-7f, 0);
        }
    }
    json_object_del(json_object_get(assigned, "concept"), "Dogs");
    Kept k = {0};
    failed += test_ok("a label without a feature is an error",
                      rank_stats_rank(s, SCORE_ASSIGNED, assigned, 0, keep_cats, &k, &e) && strstr(e.text, "Dogs"));
    json_decref(assigned);
    rank_stats_free(s);
    return failed;
}

static int keep_order(void *context, const RankEntry *x, Err *e)
{
    (void)e;
    if (strcmp(x->label, "Cats") == 0)
        for (int j = 0; j < x->count; j++)
            ((int32_t *)context)[j] = x->feature[j];
    return 0;
}

/* Features 0 and 1 of equal sums: the lower comes first, and alone where one is asked for. */
static int test_ties(void)
{
    Err e = {0};
    RankStats *s = NULL;
    int32_t all[3] = {-1, -1, -1}, best[3] = {-1, -1, -1};
    int wrong = rank_stats_create(&s, 3, (const char *const[]){"concept"}, 1, &e);
    wrong = wrong || rank_stats_add(s, &(const char *){"Cats"}, 500, (int32_t[]){1, 0}, (float[]){2, 2}, 2, 1, &e)
        || rank_stats_add(s, &(const char *){"Dogs"}, 500, (int32_t[]){2, 2}, (float[]){1, 1}, 2, 1, &e)
        || rank_stats_rank(s, SCORE_SAEURON, NULL, 0, keep_order, all, &e)
        || rank_stats_rank(s, SCORE_SAEURON, NULL, 1, keep_order, best, &e);
    rank_stats_free(s);
    if (test_ok("statistics of two equal features", !wrong))
        return 1;
    return test_same("a tie goes to the lower feature", all, (int32_t[]){0, 1, 2}, sizeof all)
         + test_same("the best one", best, (int32_t[]){0, -1, -1}, sizeof best);
}

static int same_statistics(const char *name, const RankStats *a, const RankStats *b)
{
    int failed = test_ok(name, a->cells == b->cells);
    for (size_t i = 0; i < a->cells && !failed; i++)
        failed += test_same(name, a->cell[i]->stat[0], b->cell[i]->stat[0], sizeof(int64_t) * STATS * 3)
                + test_ok(name, a->cell[i]->tokens == b->cell[i]->tokens
                          && a->cell[i]->pictures == b->cell[i]->pictures);
    return failed;
}

static int write_statistics(const RankStats *s, const char *path, Err *e)
{
    Record header;
    StreamOut *out = NULL;
    record_init(&header, "statistics");
    int failed = stream_create(&out, path, &header, &(StreamOptions){0}, e) || rank_stats_write(s, out, e)
        || stream_finish(out, e);
    stream_abandon(out);
    record_clear(&header);
    return failed;
}

static int test_order(const char *path)
{
    Err e = {0};
    StreamIn *in = NULL;
    RankStats *whole = make((const int[]){0, 1, 2, 3}, 4, &e), *turned = make((const int[]){3, 1, 0, 2}, 4, &e);
    RankStats *part = make((const int[]){2, 0}, 2, &e), *rest = make((const int[]){3, 1}, 2, &e);
    if (test_ok("statistics of parts", whole && turned && part && rest))
        return 1;
    int failed = same_statistics("another order, the same sums", turned, whole);
    failed += test_ok("a part through a stream", !write_statistics(rest, path, &e)
                      && !stream_open_kind(&in, path, "statistics", &e)
                                                 && !rank_stats_read(part, in, &e));
    failed += same_statistics("parts added, the same sums", part, whole);
    stream_close(in);
    rank_stats_free(whole);
    rank_stats_free(turned);
    rank_stats_free(part);
    rank_stats_free(rest);
    return failed;
}

static int test_overflow(void)
{
    Err e = {0};
    RankStats *s = NULL;
    const char *label = "Cats";
    rank_stats_create(&s, 1, (const char *const[]){"concept"}, 1, &e);
    int failed = test_ok("a sum of 2^40 is refused", rank_stats_add(s, &label, 1, (int32_t[]){0}, (float[]){0x1p40f}, 1,
                                                                    1, &e) < 0
                                                     && strstr(e.text, "64 bits"));
    e = (Err){0};
    failed += test_ok("a mean whose square is 2^40 is refused", rank_stats_add(s, &label, 1, (int32_t[]){0},
                                                                             (float[]){0x1p20f}, 1, 1, &e) < 0
                                                                && strstr(e.text, "64 bits"));
    failed += test_ok("2^28 is not", !rank_stats_add(s, &label, 2, (int32_t[]){0}, (float[]){0x1p14f}, 1, 1, &e));
    for (int i = STAT_SUM; i <= STAT_SQUARE; i++) {
        RankCell *c = rank_stats_cell(s, 0, label, 3 + i, &e), *from = rank_cell_new(0, label, 3 + i, 1, &e);
        e = (Err){0};
        c->stat[i][0] = INT64_MAX - 1;
        failed += test_ok("a sum over pictures leaves 64 bits", rank_stats_add(s, &label, 3 + i, (int32_t[]){0},
                                                                              (float[]){1}, 1, 1, &e) < 0
                                                                && strstr(e.text, "64 bits"));
        e = (Err){0};
        c->stat[i][0] = INT64_MAX - 1;
        from->stat[i][0] = 1;
        failed += test_ok("2^63 - 1 is a sum", !rank_cell_add(c, from, 1, &e) && c->stat[i][0] == INT64_MAX);
        failed += test_ok("2^63 is not", rank_cell_add(c, from, 1, &e) < 0 && strstr(e.text, "64 bits"));
        rank_cell_free(from);
    }
    rank_stats_free(s);
    return failed;
}

static int test_quantile(void)
{
    const float score[5] = {50, 40, 20, 10, 0};         /* of F = 5, rising places 4 3 2 1 0 */
    float q;
    int failed = test_ok("quantile 75 is the fourth", ranks_quantile(score, 5, 5, 75, &q) == 0 && q == 40);
    failed += test_ok("quantile 60 lies between", ranks_quantile(score, 5, 5, 60, &q) == 0 && fabsf(q - 28) < 1e-4f);
    failed += test_ok("quantile 100 is the largest", ranks_quantile(score, 1, 5, 100, &q) == 0 && q == 50);
    failed += test_ok("quantile 60 needs three scores", ranks_needed(5, 60) == 3
                      && ranks_quantile(score, 2, 5, 60, &q) < 0);
    failed += test_ok("percentile 99 of 2048 needs 22", ranks_needed(2048, 99) == 22);
    return failed;
}

/* One record, as given; the message must hold `says` (NULL: it must load). */
static int test_load(const char *name, const char *path, const char *label, int t, const int32_t *feature,
                     const float *score, const char *says)
{
    Err e = {0};
    StreamOut *out = NULL;
    Record header;
    Ranks *r = NULL;
    const RankEntry x = {.kind = "concept", .label = label, .t = t, .count = 2, .feature = feature, .score = score,
                         .mean = score, .mean_all = score};
    record_init(&header, "ranks");
    record_set_text(&header, "sae", "an SAE");
    record_set_int(&header, "features", 3);
    int wrote = !stream_create(&out, path, &header, &(StreamOptions){0}, &e);
    for (int i = 0; i < 2 && wrote; i++) {              /* twice: at t and at t + 100 */
        Record rec;
        rank_record(&rec, &x);
        record_set_int(&rec, "t", t + 100*i);
        wrote = !stream_write(out, &rec, &e);
        record_clear(&rec);
    }
    wrote = wrote && !stream_finish(out, &e);
    stream_abandon(out);
    record_clear(&header);
    int failed = test_ok("written", wrote);
    const int loaded = ranks_load(&r, path, &e) == 0;
    failed += test_ok(name, says ? !loaded && strstr(e.text, says) && strstr(e.text, path) : loaded);
    if (e.set && !says)
        test_note("%s", e.text);
    if (loaded) {
        failed += test_ok("the header", ranks_features(r) == 3 && strcmp(ranks_sae(r), "an SAE") == 0);
        failed += test_ok("the nearest timestep", ranks_find(r, "concept", label, t + 51)->t == t + 100);
        failed += test_ok("the smaller on a tie", ranks_find(r, "concept", label, t + 50)->t == t);
        failed += test_ok("whatever the case", ranks_find(r, "concept", "CATS", t)
                          && !ranks_find(r, "concept", "Cat", t));
        failed += test_ok("another kind", !ranks_find(r, "theme", label, t));
        char *labels = ranks_labels(r, "concept");
        failed += test_text("labels", labels, "Cats");
        free(labels);
    }
    ranks_free(r);
    return failed;
}

int main(void)
{
    char path[] = "/tmp/ranks-test.XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const float falling[2] = {2, 1}, rising[2] = {1, 2}, nan[2] = {1, NAN};
    int failed = test_scores() + test_ties() + test_order(path) + test_overflow() + test_quantile();
    failed += test_load("ranks load", path, "Cats", 100, (int32_t[]){2, 0}, falling, NULL);
    failed += test_load("a feature beyond F", path, "Cats", 100, (int32_t[]){0, 3}, falling, "record 1: feature 3");
    failed += test_load("scores that rise", path, "Cats", 100, (int32_t[]){0, 1}, rising, "record 1: score 1");
    failed += test_load("a score that is not a number", path, "Cats", 100, (int32_t[]){0, 1}, nan, "record 1");
    failed += test_load("a record without label", path, "", 100, (int32_t[]){0, 1}, falling,
                        "record 1: kind, label or timestep");
    unlink(path);
    return failed != 0;
}
