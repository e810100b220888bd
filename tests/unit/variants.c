/* SPDX-License-Identifier: MIT */
/* variants.c -- the steerings of a run: products of sweeps in their order, labels of the ranks, what is refused. */
#include "src/models/rank_score.h"
#include "src/models/variants.h"
#include "tests/unit/test.h"

typedef const char *RankLabel[2];           /* kind, name */

static int make_ranks(Ranks **r, const char *path, const RankLabel *labels, Err *e)
{
    const float one[1] = {1};
    StreamOut *out = NULL;
    Record header;
    record_init(&header, "ranks");
    record_set_int(&header, "features", 1);
    int failed = stream_create(&out, path, &header, &(StreamOptions){0}, e);
    for (int i = 0; i < 3 && !failed; i++) {
        const RankEntry x = {.kind = labels[i][0], .label = labels[i][1], .t = 500, .count = 1,
                             .feature = (int32_t[]){0}, .score = one, .mean = one, .mean_all = one};
        Record rec;
        rank_record(&rec, &x);
        failed = stream_write(out, &rec, e);
        record_clear(&rec);
    }
    record_clear(&header);
    failed = failed || stream_finish(out, e);
    stream_abandon(out);
    return failed || ranks_load(r, path, e);
}

static const Variant base = {.mode = STEER_MULTIPLY, .multiplier = -1, .percentile = 99.5, .when = T_RANGE_ALL};

static int test_product(const Ranks *ranks)
{
    static const struct { const char *name; double multiplier; const char *label; } want[] = {
        {"multiplier=-1/concept=Bears", -1, "Bears"}, {"multiplier=-1/concept=Birds", -1, "Birds"},
        {"multiplier=-5/concept=Bears", -5, "Bears"}, {"multiplier=-5/concept=Birds", -5, "Birds"}};
    const char *const sweeps[] = {"multiplier=-1,-5", "concept=all"};
    Variants v = {0};
    Err e = {0};
    if (test_ok("a product of two", !variants_build(&v, &base, sweeps, 2, ranks, &e) && v.count == 4))
        return 1;
    int failed = 0;
    for (int i = 0; i < v.count; i++) {
        const Variant *x = &v.item[i];
        failed += test_text("the last sweep turns fastest", x->name, want[i].name);
        failed += test_ok("its values", x->multiplier == want[i].multiplier && x->targets == 1 && !x->none
                                        && strcmp(x->target[0].kind, "concept") == 0
                                        && strcmp(x->target[0].label, want[i].label) == 0 && x->percentile == 99.5);
    }
    failed += test_ok("unsteered goes first", !variants_add_none(&v, &e) && v.count == 5 && v.item[0].none
                                              && strcmp(v.item[0].name, "unsteered") == 0
                                              && strcmp(v.item[1].name, want[0].name) == 0);
    variants_free(&v);
    failed += test_ok("freed", v.count == 0 && !v.item);
    return failed;
}

static int test_features(void)
{
    const char *const sweeps[] = {"feature=3=8,17=-0.5", "feature=none,4=1"};
    const char *const twice[] = {"feature=3=8", "feature=3=1"};
    static const char *const bad[] = {"feature=3", "feature=x=1", "feature=-1=2", "feature=3=much", "feature=3=inf"};
    Variants v = {0};
    Err e = {0};
    if (test_ok("sweeps of features", !variants_build(&v, &base, sweeps, 2, NULL, &e) && v.count == 4))
        return 1;
    const Variant *x = &v.item[3];
    int failed = test_text("named by number and value", x->name, "feature=17=-0.5/feature=4=1");
    failed += test_ok("one of each", x->features == 2 && x->feature[0] == 17 && x->value[0] == -0.5f
                                     && x->feature[1] == 4 && x->value[1] == 1 && !x->none);
    failed += test_ok("none leaves the other sweep's", !v.item[0].none && v.item[0].features == 1);
    variants_free(&v);
    failed += test_ok("one feature by two sweeps", variants_build(&v, &base, twice, 2, NULL, &e) && e.misuse);
    variants_free(&v);
    for (size_t i = 0; i < sizeof bad/sizeof *bad; i++) {
        e = (Err){0};
        failed += test_ok(bad[i], variants_build(&v, &base, &bad[i], 1, NULL, &e) && strstr(e.text, "is not I=VALUE"));
        variants_free(&v);
    }
    return failed;
}

static int test_values(const Ranks *ranks)
{
    const char *const sweeps[] = {"top=4", "mode=ablate", "gate=0.5", "when=400-900", "concept=none,birds",
                                  "theme=Rust"};
    Variants v = {0};
    Err e = {0};
    if (test_ok("a sweep of each", !variants_build(&v, &base, sweeps, 6, ranks, &e) && v.count == 2))
        return 1;
    const Variant *x = &v.item[1];
    int failed = test_ok("none leaves the other sweep's label", !v.item[0].none && v.item[0].targets == 1);
    failed += test_text("which it names", v.item[0].target[0].label, "Rust");
    failed += test_text("its name", x->name, "top=4/mode=ablate/gate=0.5/when=400-900/concept=birds/theme=Rust");
    failed += test_ok("its values", x->top == 4 && x->mode == STEER_ABLATE && x->gate == 0.5 && x->when.high == 900
                                    && x->when.low == 400 && x->targets == 2);
    failed += test_text("a label is spelt as the ranks have it", x->target[0].label, "Birds");
    failed += test_text("and the next is added", x->target[1].kind, "theme");
    variants_free(&v);
    Variant one = base;
    failed += test_ok("kinds in alphabetical order, labels as they come",
                      !variant_target(&one, "theme", "Rust", NULL, &e) && !variant_target(&one, "age", "new", NULL, &e)
                      && !variant_target(&one, "concept", "Cats", NULL, &e)
                      && !variant_target(&one, "concept", "Bears", NULL, &e) && one.targets == 4);
    static const char *const in_order[] = {"new", "Cats", "Bears", "Rust"};
    for (int i = 0; i < 4; i++)
        failed += test_text("in its place", one.target[i].label, in_order[i]);
    const char *const none[] = {"top=4", "theme=none,Rust", "concept=none,Birds"};
    failed += test_ok("none of all is not steered", !variants_build(&v, &base, none, 3, ranks, &e) && v.count == 4
                                                    && v.item[0].none && v.item[0].targets == 0);
    failed += test_ok("any other is", !v.item[1].none && !v.item[2].none && !v.item[3].none);
    variants_free(&v);
    one = base;
    one.by_hand = 1;
    failed += test_ok("nor with a feature by hand", !variants_build(&v, &one, none, 3, ranks, &e) && !v.item[0].none
                                                    && variant_steers(&v.item[0]));
    variants_free(&v);
    one = base;
    failed += test_ok("nor with a label beside", !variant_target(&one, "concept", "Birds", ranks, &e)
                                                 && !variants_build(&v, &one, none, 3, ranks, &e) && !v.item[0].none
                                                 && v.item[0].targets == 1);
    variants_free(&v);
    const char *const percentile[] = {"percentile=99"};
    one = base;
    one.top = 4;
    failed += test_ok("a percentile stands in for top", !variants_build(&v, &one, percentile, 1, ranks, &e)
                                                        && v.item[0].top == 0 && v.item[0].percentile == 99);
    variants_free(&v);
    failed += test_ok("no sweep is one steering", !variants_build(&v, &base, NULL, 0, ranks, &e) && v.count == 1
                                                  && !*v.item[0].name && v.item[0].multiplier == -1);
    variants_free(&v);
    const char *const city[] = {"city=Rome"};
    failed += test_ok("without ranks any label", !variants_build(&v, &base, city, 1, NULL, &e)
                                                 && strcmp(v.item[0].target[0].label, "Rome") == 0);
    variants_free(&v);
    return failed;
}

/* The array of labels: where the texts may be read in several ways. */
static int test_told(void)
{
    static const struct { int targets; VariantTarget target[2]; const char *labels; } cases[] = {
        {1, {{"concept", "Cats"}}, NULL},
        {1, {{"concept", "A+B"}}, "[{\"kind\":\"concept\",\"label\":\"A+B\"}]"},
        {1, {{"a+b", "Cats"}}, "[{\"kind\":\"a+b\",\"label\":\"Cats\"}]"},
        {2, {{"concept", "A"}, {"theme", "B"}},
         "[{\"kind\":\"concept\",\"label\":\"A\"},{\"kind\":\"theme\",\"label\":\"B\"}]"}};
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Variant v = base;
        Record rec;
        v.targets = cases[i].targets;
        memcpy(v.target, cases[i].target, sizeof cases[i].target);
        record_init(&rec, NULL);
        variant_describe(&v, &rec);
        json_t *labels = json_object_get(json_object_get(rec.fields, "steering"), "labels");
        char *text = labels ? json_dumps(labels, JSON_COMPACT) : NULL;
        failed += test_text("labels", text ? text : "", cases[i].labels ? cases[i].labels : "");
        free(text);
        record_clear(&rec);
    }
    return failed;
}

/* Of ranks with the concepts none and "x=y,z", and one of a kind called feature. */
static int test_labels(const Ranks *ranks)
{
    static const struct { const char *sweep, *name[2], *label[2]; } cases[] = {
        {"concept=all", {"concept=none", "concept=x=y,z"}, {"none", "x=y,z"}},
        {"concept=none,None", {"concept=none", "concept=None"}, {NULL, "none"}},
        {"concept=x=y\\,z,none", {"concept=x=y,z", "concept=none"}, {"x=y,z", NULL}},
        {"feature=all", {"feature=3=8", NULL}, {"3=8", NULL}}};
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Variants v = {0};
        Err e = {0};
        const int count = cases[i].name[1] ? 2 : 1;
        failed += test_ok(cases[i].sweep, !variants_build(&v, &base, &cases[i].sweep, 1, ranks, &e)
                                          && v.count == count);
        for (int n = 0; n < v.count && n < count; n++) {
            const Variant *x = &v.item[n];
            failed += test_text("its name", x->name, cases[i].name[n]);
            failed += test_text("its label", x->targets ? x->target[0].label : "", cases[i].label[n] ? : "");
            failed += test_ok("without one it is not steered", x->none == !cases[i].label[n] && !x->features);
        }
        variants_free(&v);
    }
    failed += test_text("none that looks like a label", variants_none_label("concept=x=y\\,z,none", ranks), "none");
    failed += test_ok("what does not", !variants_none_label("concept=all", ranks)
                                       && !variants_none_label("concept=x,\\,none,None", ranks)
                                       && !variants_none_label("theme=none", ranks) && !variants_none_label("x", ranks)
                                       && !variants_none_label("concept=none", NULL));
    return failed;
}

static int test_describe(void)
{
    Variant v = base;
    Record rec;
    Err e = {0};
    v.when.high = 900;
    v.when.low = 400;
    v.gate = 0.5;
    int failed = test_ok("two labels", !variant_target(&v, "concept", "Bears", NULL, &e)
                                       && !variant_target(&v, "concept", "Birds", NULL, &e));
    record_init(&rec, NULL);
    variant_describe(&v, &rec);
    char *text = json_dumps(rec.fields, JSON_COMPACT);
    failed += test_text("fields", text, "{\"steered\":\"Bears+Birds\",\"steered_kind\":\"concept\",\"steering\":"
                        "{\"mode\":\"multiply\",\"multiplier\":-1.0,\"percentile\":99.5,\"gate\":0.5,"
                        "\"when\":\"900-400\",\"labels\":[{\"kind\":\"concept\",\"label\":\"Bears\"},"
                        "{\"kind\":\"concept\",\"label\":\"Birds\"}]}}");
    free(text);
    failed += test_ok("a label of another kind", !variant_target(&v, "theme", "Rust", NULL, &e));
    variant_describe(&v, &rec);
    failed += test_text("all labels", record_text(&rec, "steered", ""), "Bears+Birds+Rust");
    failed += test_text("kinds, one a label", record_text(&rec, "steered_kind", ""), "concept+concept+theme");
    record_clear(&rec);
    v.targets = 0;
    record_init(&rec, NULL);
    variant_describe(&v, &rec);
    text = json_dumps(rec.fields, JSON_COMPACT);
    failed += test_text("fields of features alone", text, "{\"steered\":\"\",\"steered_kind\":\"\",\"steering\":"
                        "{\"mode\":\"multiply\",\"when\":\"900-400\"}}");
    free(text);
    record_clear(&rec);
    v.none = 1;
    record_init(&rec, NULL);
    record_set_text(&rec, "steered", "Cats");
    record_set_json(&rec, "steering", json_pack("{s:s}", "mode", "add"));
    variant_describe(&v, &rec);
    text = json_dumps(rec.fields, JSON_COMPACT);
    failed += test_text("fields of the unsteered, nothing left of an earlier steering", text,
                        "{\"steered\":\"\",\"steered_kind\":\"\"}");
    free(text);
    record_clear(&rec);
    return failed;
}

static int test_refused(const Ranks *ranks)
{
    static const struct { const char *sweep, *says; } bad[] = {
        {"multiplier", "not NAME=VALUE"}, {"=3", "not NAME=VALUE"}, {"multiplier=", "not NAME=VALUE"},
        {"multiplier=1x", "'1x' is not a number"}, {"multiplier=1,,2", "'' is not a number"},
        {"multiplier=-1,2,-1", "multiplier=-1 comes twice"},
        {"gate=nan", "'nan' is not a number"}, {"percentile=inf", "'inf' is not a number"},
        {"top=2.5", "'2.5' is not a whole number"}, {"top=-1", "'-1' is not a whole number"},
        {"top=1e12", "'1e12' is not a whole number"}, {"mode=zap", "'zap'"}, {"when=late", "'late'"},
        {"concept=Cats", "they have: Bears, Birds"}, {"concept=Bears,", "no concept ''"},
        {"city=all", "no label of that kind"}, {"city=Rome", "no label of the kind 'city'"}};
    int failed = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Variants v = {0};
        Err e = {0};
        failed += test_ok(bad[i].sweep, variants_build(&v, &base, &bad[i].sweep, 1, ranks, &e)
                                        && strstr(e.text, bad[i].says));
        variants_free(&v);
    }
    static const char anew[] = "sets anew what", alone[] = "no label is steered";
    static const struct { const char *sweep[2], *says; } pairs[] = {        /* says NULL: taken */
        {{"top=5,10", "percentile=99"}, anew}, {{"percentile=99", "top=5"}, anew}, {{"top=5", "top=6"}, anew},
        {{"multiplier=-1", "multiplier=-5"}, anew}, {{"mode=add", "mode=ablate"}, anew}, {{"gate=1", "gate=2"}, anew},
        {{"when=9-0", "when=5-0"}, anew}, {{"concept=Bears", "concept=none,Birds"}, NULL},
        {{"feature=3=1", "feature=4=1"}, NULL}, {{"top=5", "multiplier=2"}, NULL},
        {{"feature=3=1", "multiplier=-1,-5"}, alone}, {{"gate=0.5,1", "feature=3=1,4=1"}, alone},
        {{"feature=3=1", "top=5"}, alone}, {{"percentile=99", "feature=3=1"}, alone},
        {{"feature=3=1", "mode=set,add"}, NULL}, {{"feature=3=1", "when=9-0,5-0"}, NULL},
        {{"feature=3=1", "concept=none,Birds"}, NULL}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *says = pairs[i].says;
        Variants v = {0};
        Err e = {0};
        const int got = variants_build(&v, &base, pairs[i].sweep, 2, ranks, &e);
        failed += test_ok(pairs[i].sweep[1], says ? got && e.misuse && strstr(e.text, says) : !got);
        variants_free(&v);
    }
    return failed;
}

static int test_limits(const Ranks *ranks)
{
    char many[1024] = "gate=1", more[1100], label[200];
    const char *const both[] = {many, more};
    Variants v = {0};
    Variant one = base;
    Err e = {0};
    for (int i = 2; i <= 101; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), ",%d", i);
    snprintf(more, sizeof more, "multiplier%s", strchr(many, '='));
    int failed = test_ok("101 x 101 steerings", variants_build(&v, &base, both, 2, ranks, &e)
                                                && strstr(e.text, "more than 10000"));
    variants_free(&v);
    e = (Err){0};
    for (int i = 0; i < VARIANT_TARGETS; i++) {
        snprintf(label, sizeof label, "label %d", i);
        failed += variant_target(&one, "concept", label, NULL, &e) != 0;
    }
    failed += test_ok("a label said again", !variant_target(&one, "concept", label, NULL, &e)
                                            && one.targets == VARIANT_TARGETS);
    failed += test_ok("63 labels at once, no more", !failed && variant_target(&one, "theme", label, NULL, &e)
                                                         && strstr(e.text, "more than 63"));
    e = (Err){0};
    one.targets = 0;
    memset(label, 'x', sizeof label);
    label[sizeof label - 1] = 0;
    failed += test_ok("a long label", variant_target(&one, "concept", label, NULL, &e)
                                      && strstr(e.text, "too long: expected at most 31 and 95 bytes")
                                      && one.targets == 0);
    return failed;
}

int main(void)
{
    Err e = {0};
    Ranks *ranks = NULL;
    char path[] = "/tmp/variants-test.XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    static const RankLabel plain[] = {{"concept", "Bears"}, {"concept", "Birds"}, {"theme", "Rust"}};
    static const RankLabel odd[] = {{"concept", "none"}, {"concept", "x=y,z"}, {"feature", "3=8"}};
    int failed = make_ranks(&ranks, path, plain, &e) ? test_ok(e.text, 0)
               : test_product(ranks) + test_features() + test_values(ranks) + test_describe() + test_told()
                 + test_refused(ranks) + test_limits(ranks)
                 + test_ok("no label is called none", !variants_none_label("concept=none", ranks));
    ranks_free(ranks);
    failed += make_ranks(&ranks, path, odd, &e) ? test_ok(e.text, 0) : test_labels(ranks);
    unlink(path);
    ranks_free(ranks);
    return failed != 0;
}
