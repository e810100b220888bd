/* SPDX-License-Identifier: MIT */
/* steer.c -- steering by hand: each mode on a small autoencoder, no change, several labels, masks, gates, any batch. */
#include "kernels/op.h"
#include "src/models/rank_score.h"
#include "src/models/steer.h"
#include "tests/unit/test.h"

enum { D = 3, F = 4, K = 2 };

/* Feature f < 3 reads and writes axis f; feature 3 reads nothing and writes axis 0. b_dec = (1, 0, 0). A row x has a =
 * x - b_dec. */
static int make_sae(Sae **s, Err *e)
{
    const float axes[F * D] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}, back[F * D] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0};
    const float none[F] = {0}, b_dec[D] = {1, 0, 0};
    if (sae_create(s, D, F, K, e))
        return -1;
    op->upload((*s)->W_enc, axes, sizeof axes);
    op->upload((*s)->W_dec, back, sizeof back);
    op->upload((*s)->b_enc, none, sizeof none);
    op->upload((*s)->b_dec, b_dec, sizeof b_dec);
    return sae_prepare(*s, F32, e);
}

/* Ranks of two labels at t 500: Cats feature 1 then 0, Dogs feature 1 (its score there is given, above 1) then 2.
 * Without whole, they lack the means that they may lack. */
static int make_ranks(Ranks **r, const char *path, int whole, int features, float dogs, Err *e)
{
    const float *rest = whole ? (float[]){0.5f, 0.25f} : NULL, *none = whole ? (float[]){0.125f, 0} : NULL;
    const RankEntry x[2] = {
        {.kind = "concept", .label = "Cats", .t = 500, .count = 2, .feature = (int32_t[]){1, 0},
         .score = (float[]){3, 2}, .mean = (float[]){2, 4}, .mean_all = (float[]){1.5f, 1}, .mean_rest = rest,
         .mean_none = none},
        {.kind = "concept", .label = "Dogs", .t = 500, .count = 2, .feature = (int32_t[]){1, 2},
         .score = (float[]){dogs, 1}, .mean = (float[]){7, 4}, .mean_all = (float[]){1.5f, 1}, .mean_rest = rest}};
    StreamOut *out = NULL;
    Record header;
    record_init(&header, "ranks");
    record_set_int(&header, "features", features);
    int failed = stream_create(&out, path, &header, &(StreamOptions){0}, e);
    for (int i = 0; i < 2 && !failed; i++) {
        Record rec;
        rank_record(&rec, &x[i]);
        failed = stream_write(out, &rec, e);
        record_clear(&rec);
    }
    record_clear(&header);
    failed = failed || stream_finish(out, e);
    stream_abandon(out);
    return failed || ranks_load(r, path, e);
}

static SteerSpec cats(SteerMode mode, double multiplier, int top)
{
    static const char *const labels[] = {"Cats"};
    return (SteerSpec){.mode = mode, .multiplier = multiplier, .top = top, .kind = "concept", .labels = labels,
                       .label_count = 1, .when = {999, 0}};
}

/* x (n,D) steered by spec at t into y; returns what steering_set_step says, or -2 when it cannot be made. */
static int steered(const SteerSpec *spec, Sae *sae, const Ranks *ranks, int t, const float *x, float *y, int n, Err *e)
{
    Steering *s = NULL;
    float *device = op->alloc(sizeof(float) * D * n, e);
    int got = steering_create(&s, spec, sae, ranks, e) ? -2 : steering_set_step(s, t, e);
    op->upload(device, x, sizeof(float) * D * n);
    if (got >= 0 && steering_apply(s, device, n, e))
        got = -1;
    op->download(y, device, sizeof(float) * D * n);
    op->free(device);
    steering_free(s);
    return got;
}

typedef struct Case { const char *name; SteerMode mode; double multiplier; int top; float x[D], want[D]; } Case;

/* a = (x0 - 1, x1, x2), the two largest kept. Cats, top 1: feature 1 with mean 2, all 1.5, rest 0.5, none 0.125; top 2:
 * feature 0 too with mean 4, all 1, rest 0.25, none 0. */
static const Case cases[] = {
    {"multiply above mean_all", STEER_MULTIPLY, -1, 1, {1, 3, 0}, {1, -6, 0}},          /* 3 -> -1*2*3 */
    {"multiply below mean_all", STEER_MULTIPLY, -1, 1, {1, 1.25f, 0}, {1, 1.25f, 0}},
    {"replace", STEER_REPLACE, -1, 1, {1, 3, 0}, {1, -2, 0}},
    {"scale", STEER_SCALE, 0.5, 1, {1, 3, 0}, {1, 1.5f, 0}},
    {"ablate", STEER_ABLATE, 0, 1, {1, 3, 5}, {1, 0, 5}},
    {"ablate two", STEER_ABLATE, 0, 2, {4, 3, 1}, {1, 0, 1}},
    {"clamp above", STEER_CLAMP, 1, 1, {1, 3, 0}, {1, 2, 0}},
    {"clamp below", STEER_CLAMP, 1, 1, {1, 1.75f, 0}, {1, 1.75f, 0}},
    {"clamp below 0", STEER_CLAMP, -1, 1, {1, 3, 0}, {1, -2, 0}},
    {"clamp below 0 what is not there", STEER_CLAMP, -1, 1, {1, 0, 0}, {1, 0, 0}},
    {"others", STEER_OTHERS, 0, 1, {1, 3, 0}, {1, 0.5f, 0}},
    {"unlabelled", STEER_UNLABELLED, 0, 1, {1, 3, 0}, {1, 0.125f, 0}},
    {"set kept", STEER_SET, 2, 1, {1, 3, 0}, {1, 4, 0}},
    /* 0 and 2 are kept; 1 goes from 0 to 4: the 0.5 is error */
    {"set not kept", STEER_SET, 2, 1, {3, 0.5f, 4}, {3, 4.5f, 4}},
    {"add kept", STEER_ADD, -1, 1, {1, 3, 0}, {1, 1, 0}},
    {"add not kept", STEER_ADD, 1, 1, {3, 0.5f, 4}, {3, 2.5f, 4}},
    {"only", STEER_ONLY, 2, 1, {3, 0.5f, 4}, {1, 4, 0}},
    {"only, of two", STEER_ONLY, 0.5, 2, {3, 0.5f, 4}, {3, 1, 0}},
    {"a feature not kept stays", STEER_ABLATE, 0, 1, {3, 0.5f, 4}, {3, 0.5f, 4}},
};

static int test_modes(Sae *sae, const Ranks *ranks)
{
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *c = &cases[i];
        const SteerSpec spec = cats(c->mode, c->multiplier, c->top);
        Err e = {0};
        float y[D];
        failed += test_ok(c->name, steered(&spec, sae, ranks, 480, c->x, y, 1, &e) == 1);
        failed += test_close(c->name, y, c->want, D, 1e-6f, 0);
        if (memcmp(c->x, c->want, sizeof y) == 0)
            failed += test_same("nothing changed: bit for bit", y, c->x, sizeof y);
        SteerMode mode;
        failed += test_ok("the mode's name", steer_mode(&mode, steer_mode_name(c->mode), &e) == 0 && mode == c->mode);
    }
    return failed;
}

static int test_labels(Sae *sae, const Ranks *ranks)
{
    SteerSpec spec = cats(STEER_REPLACE, 1, 2);
    Err e = {0};
    float y[D];
    int failed = 0;
    const float x[D] = {1, 3, 2};
    for (int turned = 0; turned < 2; turned++) {
        spec.labels = turned ? (const char *const[]){"dogs", "cats"} : (const char *const[]){"Cats", "Dogs"};
        spec.label_count = 2;
        spec.compat_saeuron = false;
        failed += test_ok("two labels", steered(&spec, sae, ranks, 500, x, y, 1, &e) == 1);
        failed += test_close("the label of the higher score decides", y, (float[]){1, 7, 4}, D, 1e-6f, 0);
        spec.compat_saeuron = true;         /* recon = x here: no error to double */
        failed += test_ok("two labels, compat", steered(&spec, sae, ranks, 500, x, y, 1, &e) == 1);
        failed += test_close("compat: the label named last decides", y, (float[]){1, turned ? 2 : 7, 4}, D, 1e-6f, 0);
    }
    return failed;
}

/* Of equal scores the label named first decides: Cats' feature 1 has the mean 2, Dogs' 7. */
static int test_tie(Sae *sae, const Ranks *equal)
{
    SteerSpec spec = cats(STEER_REPLACE, 1, 2);
    const float x[D] = {1, 3, 2};
    int failed = 0;
    for (int turned = 0; turned < 2; turned++) {
        Err e = {0};
        float y[D];
        spec.labels = turned ? (const char *const[]){"Dogs", "Cats"} : (const char *const[]){"Cats", "Dogs"};
        spec.label_count = 2;
        failed += test_ok("two labels, a tie", steered(&spec, sae, equal, 500, x, y, 1, &e) == 1);
        failed += test_close("the label named first decides", y, (float[]){1, turned ? 7 : 2, 4}, D, 1e-6f, 0);
    }
    return failed;
}

static int test_hand(Sae *sae)
{
    SteerSpec spec = {.mode = STEER_ADD, .feature = (int32_t[]){3, 1}, .value = (float[]){5, -1}, .feature_count = 2,
                      .when = {600, 400}};
    Err e = {0};
    float y[D];
    int failed = test_ok("features by hand", steered(&spec, sae, NULL, 400, (float[]){1, 3, 0}, y, 1, &e) == 1);
    failed += test_close("add to a kept one and to one that is not", y, (float[]){6, 2, 0}, D, 1e-6f, 0);
    failed += test_ok("outside --when", steered(&spec, sae, NULL, 399, (float[]){1, 3, 0}, y, 1, &e) == 0);
    failed += test_same("outside --when: bit for bit", y, (float[]){1, 3, 0}, sizeof y);
    spec.feature = (int32_t[]){3, F};
    failed += test_ok("a feature that is not there", steered(&spec, sae, NULL, 500, (float[]){1, 3, 0}, y, 1, &e) == -2
                                                     && strstr(e.text, "feature 4"));
    return failed;
}

static int test_errors(Sae *sae, const Ranks *ranks, const Ranks *plain, const Ranks *wider)
{
    SteerSpec spec = cats(STEER_MULTIPLY, -1, 3);
    Err e = {0};
    float y[D];
    const float x[D] = {1, 3, 0};
    int failed = test_ok("more than the ranks keep", steered(&spec, sae, ranks, 500, x, y, 1, &e) == -1
                         && strstr(e.text, "--top 3"));
    e = (Err){0};
    spec.top = 0;
    spec.percentile = 10;
    failed += test_ok("a percentile beyond the ranks", steered(&spec, sae, ranks, 500, x, y, 1, &e) == -1
                      && strstr(e.text, "--top 4"));
    e = (Err){0};
    spec.percentile = 101;
    failed += test_ok("a percentile over 100", steered(&spec, sae, ranks, 500, x, y, 1, &e) == -2);
    e = (Err){0};
    spec = cats(STEER_MULTIPLY, -1, 1);
    spec.labels = (const char *const[]){"Fishes"};
    failed += test_ok("a label that is not there", steered(&spec, sae, ranks, 500, x, y, 1, &e) == -2
                      && strstr(e.text, "Cats, Dogs"));
    e = (Err){0};
    spec = cats(STEER_UNLABELLED, -1, 1);
    failed += test_ok("no unlabelled pictures", steered(&spec, sae, plain, 500, x, y, 1, &e) == -1
                      && strstr(e.text, "unlabelled"));
    e = (Err){0};
    spec = cats(STEER_OTHERS, -1, 1);
    failed += test_ok("no means of the others", steered(&spec, sae, plain, 500, x, y, 1, &e) == -1
                      && strstr(e.text, "--mode others"));
    e = (Err){0};
    spec = cats(STEER_SCALE, 0, 1);
    spec.gate = 0.5;
    failed += test_ok("nor for a gate", steered(&spec, sae, plain, 500, x, y, 1, &e) == -1
                      && strstr(e.text, "--gate"));
    e = (Err){0};
    spec = cats(STEER_MULTIPLY, -1, 1);
    failed += test_ok("ranks of another autoencoder's width", steered(&spec, sae, wider, 500, x, y, 1, &e) == -2
                      && strstr(e.text, "ranks of 5 features, the autoencoder has 4"));
    e = (Err){0};
    SteerMode mode;
    failed += test_ok("an unknown mode", steer_mode(&mode, "zap", &e) == -1 && strstr(e.text, "multiply"));
    return failed;
}

/* Cats and Dogs with their two best features each: 0 is of Cats, 1 (Dogs' score is higher) and 2 are of Dogs. */
static SteerSpec cats_and_dogs(SteerMode mode, double gate)
{
    static const char *const labels[] = {"Cats", "Dogs"};
    SteerSpec spec = cats(mode, 0.5, 2);
    spec.labels = labels;
    spec.label_count = 2;
    spec.gate = gate;
    return spec;
}

/* Gate 0.5 opens for Cats above 0.25 + 0.5 (4 - 0.25) = 2.125, for Dogs above that and 0.5 + 0.5 (7 - 0.5): 5.875. */
static int test_gate(Sae *sae, const Ranks *ranks)
{
    enum { PICTURES = 5, TOKENS = 2 };
    const float x[PICTURES * TOKENS * D] = {
        4, 0, 0, 3, 0, 0,           /* feature 0: 3 and 2, mean 2.5 */
        1, 9, 3, 1, 0, 0,           /* features 1 and 2: (9 + 3)/2 = 6 */
        5.25f, 0, 0, 1, 0, 0,       /* feature 0: 4.25/2, just what is not enough */
        6, 9, 3, 6, 0, 5,           /* 0: (5 + 5)/2; 1 and 2: (9 + 5)/2, the 3 is not kept */
        1, 0, 0, 1, 0, 0,
    };
    const uint64_t want[PICTURES] = {1, 2, 0, 3, 4};        /* the last one's bit was there */
    uint64_t shown[PICTURES] = {0, 0, 0, 0, 4}, by_codes[PICTURES] = {0, 0, 0, 0, 4};
    const SteerSpec spec = cats_and_dogs(STEER_ABLATE, 0.5);
    float a[PICTURES * TOKENS * K];
    int32_t i[PICTURES * TOKENS * K];
    Err e = {0};
    Steering *s = NULL;
    if (test_ok("a gate", !steering_create(&s, &spec, sae, ranks, &e) && steering_gated(s) && !steering_always(s)))
        return 1;
    int failed = test_ok("before the first step no gate opens",
                         !steering_gate(s, x, PICTURES, TOKENS, shown, &e) && shown[3] == 0);
    failed += test_ok("a step", steering_set_step(s, 500, &e) == 1);
    failed += test_ok("gates", !steering_gate(s, x, PICTURES, TOKENS, shown, &e));
    failed += test_same("a gate opens above its sum", shown, want, sizeof want);
    sae_encode(sae, a, i, x, PICTURES * TOKENS);
    steering_gate_codes(s, a, i, PICTURES, TOKENS, by_codes);
    failed += test_same("by codes", by_codes, want, sizeof want);
    failed += test_ok("once open, open", !steering_gate(s, x + 4*TOKENS*D, 1, TOKENS, shown, &e) && shown[0] == 1);
    steering_free(s);
    return failed;
}

static int test_apply_labels(Sae *sae, const Ranks *ranks)
{
    static const struct { const char *name; uint64_t labels; float want[D]; } some[] = {
        {"no label: bit for bit", 0, {4, 3, 1}}, {"Cats", 1, {1, 3, 1}}, {"Dogs", 2, {4, 0, 1}}, {"both", 3, {1, 0, 1}}
    };
    SteerSpec spec = cats_and_dogs(STEER_ABLATE, 0);
    Err e = {0};
    Steering *s = NULL;
    if (test_ok("two labels", !steering_create(&s, &spec, sae, ranks, &e) && !steering_gated(s) && steering_always(s)
                              && steering_set_step(s, 500, &e) == 1))
        return 1;
    int failed = 0;
    for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
        float y[D] = {4, 3, 1};
        failed += test_ok(some[k].name, !steering_apply_labels(s, some[k].labels, y, 1, &e));
        failed += test_same(some[k].name, y, some[k].want, sizeof y);
    }
    steering_free(s);

    spec = cats_and_dogs(STEER_SCALE, 0.5);
    spec.feature = (int32_t[]){2};
    spec.value = (float[]){0.25f};
    spec.feature_count = 1;
    float y[D] = {1, 2, 4};
    if (test_ok("a feature by hand beside", !steering_create(&s, &spec, sae, ranks, &e) && steering_gated(s)
                                            && steering_always(s)
                                            && steering_set_step(s, 500, &e) == 1))
        return 1;
    failed += test_ok("no label", !steering_apply_labels(s, 0, y, 1, &e));
    failed += test_same("what is given by hand is steered behind no gate", y, (float[]){1, 2, 1}, sizeof y);
    steering_free(s);
    return failed;
}

/* Each mode that a mask is for, over pictures of five tokens with mask 0, 1, 0.25, 0, 1, over a block's end: none of
 * the change, all of it, a quarter. */
static int test_mask(Sae *sae, const Ranks *ranks)
{
    enum { TOKENS = 5, N = TOKENS * 1000 };
    static const float mask[TOKENS] = {0, 1, 0.25f, 0, 1};
    static float x[N * D], whole[N * D], masked[N * D];
    Err e = {0};
    unsigned state = 1;
    for (int i = 0; i < N * D; i++)
        x[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 4e6f;
    int failed = 0;
    for (int mode = 0; mode < STEER_ONLY; mode++) {
        const SteerSpec spec = cats((SteerMode)mode, -1.5, 2);
        Steering *s = NULL;
        steered(&spec, sae, ranks, 500, x, whole, N, &e);
        memcpy(masked, x, sizeof x);
        if (test_ok("a mask", !steering_create(&s, &spec, sae, ranks, &e) && steering_set_step(s, 500, &e) == 1))
            return 1;
        steering_mask(s, mask, TOKENS);
        failed += test_ok(steer_mode_name((SteerMode)mode), !steering_apply(s, masked, N, &e));
        int others = 0;
        float part[N / TOKENS * D], want[N / TOKENS * D];
        for (int n = 0; n < N; n++) {
            const float *full = mask[n % TOKENS] == 1 ? whole : x;
            if (n % TOKENS != 2)
                others += memcmp(masked + n*D, full + n*D, sizeof(float) * D) != 0;
            for (int d = 0; d < D && n % TOKENS == 2; d++) {
                part[n / TOKENS * D + d] = masked[n*D + d];
                want[n / TOKENS * D + d] = x[n*D + d] + 0.25f * (whole[n*D + d] - x[n*D + d]);
            }
        }
        failed += test_ok("0: nothing, 1: all, bit for bit", others == 0);
        failed += test_close("0.25: a quarter of the change", part, want, N / TOKENS * D, 1e-5f, 1e-5f);
        steering_free(s);
    }
    return failed;
}

/* Rows steered together and one by one give the same bytes, over a block's end. */
static int test_batch(Sae *sae, const Ranks *ranks)
{
    enum { N = 5000 };
    static float x[N * D], together[N * D], single[N * D];
    Err e = {0};
    unsigned state = 1;
    for (int i = 0; i < N * D; i++)
        x[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 4e6f;
    int failed = 0;
    for (int mode = 0; mode < STEER_MODES; mode++) {
        const SteerSpec spec = cats((SteerMode)mode, -1.5, 2);
        failed += test_ok("rows together", steered(&spec, sae, ranks, 500, x, together, N, &e) == 1);
        for (int n = 0; n < N; n += 625)
            steered(&spec, sae, ranks, 500, x + n*D, single + n*D, n % 1250 ? 625 : 1, &e);
        for (int n = 0; n < N; n += 625)
            failed += memcmp(together + n*D, single + n*D, sizeof(float) * D * (n % 1250 ? 625 : 1)) != 0;
        failed += test_ok(steer_mode_name((SteerMode)mode), !failed);
    }
    return failed;
}

int main(void)
{
    Err e = {0};
    Sae *sae = NULL;
    Ranks *ranks = NULL, *plain = NULL, *equal = NULL, *wider = NULL;
    char path[] = "/tmp/steer-test.XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = backend_pick("cpu", 0, &e) || make_sae(&sae, &e) || make_ranks(&ranks, path, 1, F, 5, &e)
        || make_ranks(&plain, path, 0, F, 5, &e) || make_ranks(&equal, path, 1, F, 3, &e)
        || make_ranks(&wider, path, 1, F + 1, 5, &e);
    if (!failed)
        failed = test_modes(sae, ranks) + test_labels(sae, ranks) + test_tie(sae, equal) + test_hand(sae)
               + test_errors(sae, ranks, plain, wider) + test_gate(sae, ranks) + test_apply_labels(sae, ranks)
               + test_mask(sae, ranks) + test_batch(sae, ranks);
    if (e.set)
        printf("FAIL %s\n", e.text);
    unlink(path);
    ranks_free(ranks);
    ranks_free(plain);
    ranks_free(equal);
    ranks_free(wider);
    sae_free(sae);
    return failed || e.set;
}
