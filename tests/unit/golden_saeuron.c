/* SPDX-License-Identifier: MIT */
/* golden_saeuron.c -- scores, chosen features, codes and steered activations against SAeUron's own code
 * (tests/golden/README.md).
 *
 * latents.CONCEPT holds a mean activation a picture, timestep and feature: fed as pictures of one token. Reference
 * values are f32. */
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/rank_score.h"
#include "src/models/steer.h"
#include "tests/unit/test.h"

enum { CONCEPTS = 6, TARGETS = 3, TIMES = 4 };
static const char *const concepts[CONCEPTS] = {"Architectures", "Bears", "Birds", "Butterfly", "Cats", "Dogs"};
static const char *const targets[TARGETS] = {"Bears", "Birds", "Cats"};

/* the reference knows steps only: any falling numbers will do */
static const int timestep[TIMES] = {900, 700, 500, 100};

static const float *data(const Weights *w, const char *name, const Weight **weight)
{
    const Weight *found = weights_find(w, name);
    if (!found) {
        printf("FAIL golden file lacks %s\n", name);
        exit(1);
    }
    *weight = found;
    return found->data;
}

static RankStats *make_statistics(const Weights *w, Err *e)
{
    RankStats *s = NULL;
    const Weight *latents;
    if (rank_stats_create(&s, 2048, (const char *const[]){"concept"}, 1, e))
        return NULL;
    int32_t index[2048];
    for (int f = 0; f < 2048; f++)
        index[f] = f;
    for (int c = 0; c < CONCEPTS; c++) {
        char name[64];
        snprintf(name, sizeof name, "latents.%s", concepts[c]);
        const float *x = data(w, name, &latents);
        for (int64_t i = 0; i < latents->dim[0] * TIMES; i++)
            if (rank_stats_add(s, &concepts[c], timestep[i % TIMES], index, x + i*2048, 1, 2048, e)) {
                rank_stats_free(s);
                return NULL;
            }
    }
    return s;
}

typedef struct Check { const Weights *w; StreamOut *out; int failed, seen; } Check;

/* All scores of a label at a timestep are compared; the entry goes on into the ranks file. */
static int check_scores(void *context, const RankEntry *x, Err *e)
{
    Check *c = context;
    Record rec;
    rank_record(&rec, x);
    int failed = stream_write(c->out, &rec, e);
    record_clear(&rec);
    for (int i = 0; i < TARGETS; i++)
        for (int t = 0; t < TIMES; t++)
            if (strcmp(x->label, targets[i]) == 0 && x->t == timestep[t]) {
                char name[64];
                const Weight *weight;
                static float got[2048];
                snprintf(name, sizeof name, "score.%s.%d", targets[i], t);
                for (int j = 0; j < x->count; j++)
                    got[x->feature[j]] = x->score[j];
                c->failed += test_close(name, got, data(c->w, name, &weight), 2048, 1e-5f, 0);
                c->seen++;
            }
    return failed;
}

static int write_ranks(Check *c, const Sae *sae, const char *path, Err *e)
{
    RankStats *s = make_statistics(c->w, e);
    Record header;
    record_init(&header, "ranks");
    record_set_text(&header, "sae", sae->id);
    record_set_int(&header, "features", 2048);
    int failed = !s || stream_create(&c->out, path, &header, &(StreamOptions){0}, e)
              || rank_stats_rank(s, SCORE_SAEURON, NULL, 0, check_scores, c, e) || stream_finish(c->out, e);
    stream_abandon(c->out);
    record_clear(&header);
    rank_stats_free(s);
    c->failed += test_ok("scores of 3 concepts at 4 timesteps", c->seen == TARGETS * TIMES);
    return failed ? -1 : 0;
}

static int check_codes(const Weights *w, Sae *sae, Err *e)
{
    const Weight *act, *weight;
    const float *x = data(w, "act", &act);
    const int N = 256, K = sae->K;
    int failed = 0, different = 0;
    float *device_x = op->alloc(sizeof(float) * N * 128, e), *a = op->alloc(sizeof(float) * N * K, e);
    int32_t *i = op->alloc(sizeof(int32_t) * N * K, e);
    static float values[256*64];
    static int32_t index[256*64];
    op->upload(device_x, x, sizeof(float) * N * 128);
    sae_encode(sae, a, i, device_x, N);
    op->download(values, a, sizeof(float) * N * K);
    op->download(index, i, sizeof(int32_t) * N * K);
    const float *want = data(w, "encode.value", &weight);
    const int32_t *want_index = (const int32_t *)data(w, "encode.index", &weight);
    failed += test_close("encode.value", values, want, (size_t)N * K, 1e-4f, 1e-5f);
    for (int j = 0; j < N * K; j++) {           /* but for places that rounding may change */
        const bool near = (j % K > 0 && want[j - 1] - want[j] <= 1e-4f)
                       || (j % K < K - 1 && want[j] - want[j + 1] <= 1e-4f);
        different += index[j] != want_index[j] && values[j] > 0 && !near;
    }
    failed += test_ok("encode.index", different == 0);
    op->free(device_x);
    op->free(a);
    op->free(i);
    return failed;
}

/* SAeUron's published hook, exactly; and with multiplier made so that nothing changes, ours gives the activation
 * back. */
static int check_steered(const Weights *w, Sae *sae, const Ranks *ranks, const char *target, Err *e)
{
    const Weight *weight;
    const float *x = data(w, "act", &weight);
    const size_t bytes = sizeof(float) * 256 * 128;
    const char *text = json_string_value(json_object_get(weights_metadata(w), target));
    double percentile, multiplier;
    int failed = test_ok("metadata", text && sscanf(text, "percentile %lf multiplier %lf", &percentile,
                                                    &multiplier) == 2);
    SteerSpec spec = {.mode = STEER_MULTIPLY, .multiplier = multiplier, .percentile = percentile, .kind = "concept",
                      .labels = &target, .label_count = 1, .when = {999, 0}, .compat_saeuron = true};
    Steering *s = NULL;
    float *y = op->alloc(bytes, e), *got = malloc(bytes);
    failed += test_ok("steering_create", got && y && steering_create(&s, &spec, sae, ranks, e) == 0);
    for (int t = 0; t < TIMES && s; t++) {
        char name[64];
        int32_t chosen[2048];
        snprintf(name, sizeof name, "chosen.%s.%d", target, t);
        const int32_t *want = (const int32_t *)data(w, name, &weight);
        failed += test_ok("steering_set_step", steering_set_step(s, timestep[t], e) == 1);
        const int count = steering_features(s, chosen, 2048);
        failed += test_ok("count of chosen", count == (int)weight->dim[0]);
        failed += test_same(name, chosen, want, sizeof *chosen * (size_t)weight->dim[0]);
        op->upload(y, x, bytes);
        failed += test_ok("steering_apply", steering_apply(s, y, 256, e) == 0);
        op->download(got, y, bytes);
        snprintf(name, sizeof name, "steered.%s.%d", target, t);
        failed += test_close(name, got, data(w, name, &weight), 256 * 128, 1e-3f, 0);
    }
    steering_free(s);
    op->free(y);
    free(got);
    return failed;
}

int main(void)
{
    Err e = {0};
    Weights *w = NULL;
    Sae *sae = NULL;
    Ranks *ranks = NULL;
    Check check = {0};
    char path[] = "/tmp/golden-saeuron.XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = backend_pick(test_backend(), 0, &e)
        || weights_open(&w, test_path("golden/saeuron/saeuron.safetensors"), &e)
              || sae_load(&sae, test_path("golden/saeuron/sae"), &e) || sae_prepare(sae, F32, &e);
    if (!failed) {
        check.w = w;
        failed = write_ranks(&check, sae, path, &e) || ranks_load(&ranks, path, &e);
        failed |= check.failed;
    }
    if (!failed) {
        failed += check_codes(w, sae, &e);
        for (int i = 0; i < TARGETS; i++)
            failed += check_steered(w, sae, ranks, targets[i], &e);
    }
    if (e.set)
        printf("FAIL %s\n", e.text);
    unlink(path);
    ranks_free(ranks);
    sae_free(sae);
    weights_close(w);
    return failed || e.set;
}
