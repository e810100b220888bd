/* SPDX-License-Identifier: MIT */
/* evaluate.c -- UA, IRA and CRA of pictures counted by hand; Wilson's interval; a classifier file read back, whole and
 * broken. */
#include "formats/weights.h"
#include "src/models/evaluate.h"
#include "tests/unit/test.h"

enum { P = 5 };     /* embedding: logits of Cats, Dogs, Fishes, then of no theme and Rust */

static int write_probe(const char *path, int columns, const char *concepts, Err *e)
{
    static float concept[3*P], theme[2*P], zero[3];
    for (int k = 0; k < 3; k++)
        concept[k*columns + k] = 1;
    for (int k = 0; k < 2; k++)
        theme[k*P + 3 + k] = 1;
    const Weight tensors[] = {{"concept.weight", F32, 2, {3, columns}, concept, NULL},
                              {"concept.bias", F32, 1, {3}, zero, NULL},
                              {"theme.weight", F32, 2, {2, P}, theme, NULL}, {"theme.bias", F32, 1, {2}, zero, NULL}};
    json_t *metadata = json_pack("{ss ss}", "concept", concepts, "theme", "[\"\", \"Rust\"]");
    int failed = weights_write(path, tensors, 4, metadata, e);
    json_decref(metadata);
    memset(concept, 0, sizeof concept);
    return failed;
}

/* what it is, and is taken for */
typedef struct Shown { const char *concept, *theme, *steered, *kind; int class, style; } Shown;

/* Steered: Cats. UA 1 of 2, IRA 2 of 3, CRA 4 of 5, brought 1 of 3. Dogs: UA 1 of 1, IRA 0 of 1, CRA 2 of 2, brought 0
 * of 1. Rust: UA 0 of 1, IRA 1 of 1, CRA 1 of 2, brought 0 of 1. */
static const Shown shown[] = {
    {"Cats", "Rust", "", "", 0, 1}, {"Dogs", "", "", "", 1, 1},
    {"Cats", "Rust", "Cats", "concept", 1, 1}, {"Cats", "", "Cats", "concept", 0, 0},
        {"Dogs", "Rust", "Cats", "concept", 1, 1},
    {"Fishes", "Rust", "Cats", "concept", 2, 0}, {"Fishes", "", "Cats", "concept", 0, 0},
    {"Dogs", "", "Dogs", "concept", 0, 0}, {"Cats", "", "Dogs", "concept", 2, 0},
    {"Cats", "Rust", "Rust", "theme", 0, 1}, {"Cats", "", "Rust", "theme", 1, 0},
};

/* steering: JSON, NULL for none */
static int add(Evaluation *v, const Classifier *c, const Shown *s, const char *steering, double clip, Err *e)
{
    Record rec;
    float x[P] = {0};
    int predicted[DOMAINS];
    record_init(&rec, NULL);
    rec.number = 7;
    record_set_text(&rec, "concept", s->concept);
    if (*s->theme)
        record_set_text(&rec, "theme", s->theme);
    record_set_text(&rec, "steered", s->steered);
    record_set_text(&rec, "steered_kind", s->kind);
    if (steering)
        record_set_json(&rec, "steering", json_loads(steering, 0, NULL));
    x[s->class] = 1;
    x[3 + s->style] = 1;
    for (int i = 0; i < c->domains; i++)
        predicted[i] = classifier_predict(c, &c->domain[i], x);
    int failed = evaluation_add(v, "pictures", &rec, x, clip, predicted, e);
    record_clear(&rec);
    return failed ? failed : test_ok("predicted", predicted[0] == s->class && predicted[1] == s->style);
}

static int is(const Share *s, long hits, long of)
{
    return s->hits == hits && s->of == of;
}

/* The shares of the first of two rows that these pictures give, of a target; the other is the overall one. */
static int first_share(const Classifier *c, const Shown *pictures, size_t count, Share share[MEASURES])
{
    Err e = {0};
    Evaluation *v = NULL;
    EvalRow *rows = NULL;
    int failed = evaluation_create(&v, c, NULL, PLAIN_CLASS, &e);
    for (size_t i = 0; i < count; i++)
        failed += add(v, c, &pictures[i], NULL, NAN, &e);
    const bool two = evaluation_rows(v, &rows, &e) == 2 && rows[0].type == ROW_TARGET;
    failed += test_ok("a target and its overall row", two);
    if (two)
        memcpy(share, rows[0].share, sizeof rows[0].share);
    free(rows);
    evaluation_free(v);
    return failed;
}

static int test_rows(const Classifier *c)
{
    Err e = {0};
    Evaluation *v = NULL;
    EvalRow *rows = NULL;
    int failed = evaluation_create(&v, c, NULL, PLAIN_CLASS, &e);
    for (size_t i = sizeof shown / sizeof *shown; i-- > 0; )
        failed += add(v, c, &shown[i], NULL, i % 2 ? 10 : 20, &e);
    const int count = evaluation_rows(v, &rows, &e);
    if (test_ok("seven rows", count == 7 && !failed))
        return 1;
    failed += test_ok("unsteered concept", rows[0].type == ROW_UNSTEERED && is(&rows[0].share[MEASURE_IRA], 2, 2)
                                           && is(&rows[0].share[MEASURE_CRA], 1, 2)
                                               && is(&rows[0].share[MEASURE_UA], 0, 0));
    failed += test_ok("unsteered theme", rows[1].type == ROW_UNSTEERED && is(&rows[1].share[MEASURE_IRA], 1, 2));
    const Share *x = rows[2].share;
    failed += test_ok("CLIP score of both", rows[0].clip == 15 && fabs(rows[0].clip_error - 5) < 1e-12
                      && isnan(rows[0].frechet));
    failed += test_text("the first target", rows[2].target, "Cats");
    failed += test_ok("Cats", is(&x[MEASURE_UA], 1, 2) && is(&x[MEASURE_IRA], 2, 3) && is(&x[MEASURE_CRA], 4, 5)
                      && is(&x[MEASURE_BROUGHT], 1, 3) && rows[2].pictures == 5);
    x = rows[3].share;
    failed += test_ok("Dogs", is(&x[MEASURE_UA], 1, 1) && is(&x[MEASURE_IRA], 0, 1) && is(&x[MEASURE_CRA], 2, 2)
                      && is(&x[MEASURE_BROUGHT], 0, 1));
    x = rows[4].share;
    const float got[4] = {(float)x[0].value, (float)x[1].value, (float)x[2].value, (float)x[3].value};
    failed += test_ok("overall of two concepts", rows[4].type == ROW_OVERALL && rows[4].targets == 2
                      && rows[4].pictures == 7);
    failed += test_close("means over targets", got, (float[]){0.75f, 1.0f/3, 0.9f, 1.0f/6}, 4, 1e-6f, 0);
    for (int m = 0; m < MEASURES; m++) {        /* each target's distances to its own ends, added as squares */
        const Share *a = &rows[2].share[m], *b = &rows[3].share[m];
        const double low = hypot(a->value - a->low, b->value - b->low)/2;
        const double high = hypot(a->high - a->value, b->high - b->value)/2;
        failed += test_ok("overall interval", low > 0 && high > 0 && fabs(x[m].low - (x[m].value - low)) < 1e-12
                                              && fabs(x[m].high - (x[m].value + high)) < 1e-12);
    }
    x = rows[5].share;
    failed += test_ok("Rust", is(&x[MEASURE_UA], 0, 1) && is(&x[MEASURE_IRA], 1, 1) && is(&x[MEASURE_CRA], 1, 2));
    free(rows);
    evaluation_free(v);
    return failed;
}

/* Cats and Dogs steered at once. A cat taken for a dog is no cat any more, one taken for a cat is; a fish is of the
 * others, and one taken for a dog is brought. UA 2 of 3, IRA 0 of 1, brought 1 of 1. */
static int test_several(const Classifier *c)
{
    static const Shown pictures[] = {
        {"Cats", "", "Cats+Dogs", "concept", 1, 0}, {"Cats", "", "Cats+Dogs", "concept", 0, 0},
        {"Dogs", "", "Cats+Dogs", "concept", 2, 0}, {"Fishes", "", "Cats+Dogs", "concept", 1, 0},
    };
    Share x[MEASURES] = {0};
    const int failed = first_share(c, pictures, sizeof pictures / sizeof *pictures, x);
    return failed + test_ok("several labels at once", is(&x[MEASURE_UA], 2, 3) && is(&x[MEASURE_IRA], 0, 1)
                            && is(&x[MEASURE_BROUGHT], 1, 1));
}

/* A concept and a theme steered at once, of pictures (class, style) taken for (class, style). Steered labels: the first
 * is no cat any more but of Rust still, the second has gone as Rust, the third as Cats. Others kept: the dog of the
 * second, the fish of the fourth, whose plain style is a class of its own and was kept too. No domain is left for CRA.
 * Brought: nothing is taken for Cats or Rust that was not. */
static int test_kinds(const Classifier *c)
{
    static const Shown pictures[] = {
        {"Cats", "Rust", "Cats+Rust", "concept+theme", 1, 1}, {"Dogs", "Rust", "Cats+Rust", "concept+theme", 1, 0},
        {"Cats", "", "Cats+Rust", "concept+theme", 1, 0}, {"Fishes", "", "Cats+Rust", "concept+theme", 2, 0},
    };
    Share x[MEASURES] = {0};
    const int failed = first_share(c, pictures, sizeof pictures / sizeof *pictures, x);
    return failed + test_ok("two kinds at once", is(&x[MEASURE_UA], 3, 4) && is(&x[MEASURE_IRA], 4, 4)
                            && is(&x[MEASURE_CRA], 0, 0) && is(&x[MEASURE_BROUGHT], 0, 4));
}

/* Steered by features alone: a group for each set of them and each steering, in each domain, never the unsteered's. */
static int test_features(const Classifier *c)
{
    static const struct { Shown shown; const char *steering; } pictures[] = {
        {{"Cats", "Rust", "", "", 0, 1}, NULL}, {{"Cats", "Rust", "", "", 0, 1}, "{\"mode\": \"add\"}"},
        {{"Cats", "Rust", "", "", 1, 1}, "{\"mode\": \"add\", \"features\": {\"3\": 2.5}}"},
        {{"Dogs", "", "", "", 1, 0}, "{\"mode\": \"add\", \"features\": {\"3\": 2.5}}"},
        {{"Cats", "Rust", "", "", 0, 0}, "{\"mode\": \"set\", \"features\": {\"3\": 2.5}}"},
        {{"Cats", "Rust", "", "", 0, 0}, "{\"mode\": \"add\", \"features\": {\"3\": 2.5, \"11\": -1}}"},
        {{"Cats", "", "Cats", "concept", 1, 0}, "{\"mode\": \"add\", \"features\": {\"3\": 2.5}}"},
        {{"Cats", "", "Cats", "concept", 1, 0}, "{\"mode\": \"add\", \"features\": {\"3\": 1}}"},
    };
    static const struct { RowType type; const char *kind, *target, *steering; long pictures; } want[] = {
        {ROW_UNSTEERED, "concept", "", "", 2},
        {ROW_UNSTEERED, "theme", "", "", 2},
        {ROW_FEATURES, "concept", "3:2.5", "mode=add features=3:2.5", 2},
        {ROW_FEATURES, "theme", "3:2.5", "mode=add features=3:2.5", 2},
        {ROW_FEATURES, "concept", "3:2.5+11:-1", "mode=add features=3:2.5+11:-1", 1},
        {ROW_FEATURES, "theme", "3:2.5+11:-1", "mode=add features=3:2.5+11:-1", 1},
        {ROW_FEATURES, "concept", "3:2.5", "mode=set features=3:2.5", 1},
        {ROW_FEATURES, "theme", "3:2.5", "mode=set features=3:2.5", 1},
        {ROW_TARGET, "concept", "Cats", "mode=add features=3:1", 1},
        {ROW_OVERALL, "concept", "", "mode=add features=3:1", 1},
        {ROW_TARGET, "concept", "Cats", "mode=add features=3:2.5", 1},
        {ROW_OVERALL, "concept", "", "mode=add features=3:2.5", 1},
    };
    enum { ROWS = sizeof want / sizeof *want };
    Err e = {0};
    Evaluation *v = NULL;
    EvalRow *rows = NULL;
    int failed = evaluation_create(&v, c, NULL, PLAIN_CLASS, &e);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        failed += add(v, c, &pictures[i].shown, pictures[i].steering, NAN, &e);
    const int count = evaluation_rows(v, &rows, &e);
    failed += test_ok("rows of features", count == ROWS);
    for (int i = 0; i < count && i < ROWS; i++) {
        failed += test_ok("a row's type", rows[i].type == want[i].type);
        failed += test_ok("its pictures", rows[i].pictures == want[i].pictures);
        failed += test_text("its kind", rows[i].kind, want[i].kind);
        failed += test_text("its target", rows[i].target, want[i].target);
        failed += test_text("its steering", rows[i].steering, want[i].steering);
    }
    /* Cats was taken for a dog, Dogs for itself; Rust and no theme were found */
    failed += test_ok("shares without UA", count == ROWS && is(&rows[2].share[MEASURE_IRA], 1, 2)
                      && is(&rows[2].share[MEASURE_CRA], 2, 2) && is(&rows[2].share[MEASURE_UA], 0, 0)
                      && rows[2].targets == 0);
    free(rows);
    evaluation_free(v);
    return failed;
}

/* The five pictures of which Cats was steered away, two of them without a theme, the one of Rust and the two of none
 * that are unsteered: how the latter are counted. */
static int test_plain(const Classifier *c)
{
    static const struct { Plain plain; long pictures, ua, ira, cra, unsteered_theme; } want[] = {
        {PLAIN_CLASS, 5, 2, 3, 5, 2}, {PLAIN_OTHERS, 5, 2, 3, 3, 1}, {PLAIN_NONE, 3, 1, 2, 3, 1}};
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        Err e = {0};
        Evaluation *v = NULL;
        EvalRow *rows = NULL;
        failed += evaluation_create(&v, c, NULL, want[i].plain, &e);
        for (int k = 0; k < 7; k++)
            failed += add(v, c, &shown[k], NULL, NAN, &e);
        const int count = evaluation_rows(v, &rows, &e);
        const Share *x = count == 4 ? rows[2].share : NULL;
        failed += test_ok("plain pictures counted", x && rows[2].pictures == want[i].pictures
                          && x[MEASURE_UA].of == want[i].ua && x[MEASURE_IRA].of == want[i].ira
                          && x[MEASURE_CRA].of == want[i].cra
                          && rows[1].share[MEASURE_IRA].of == want[i].unsteered_theme);
        free(rows);
        evaluation_free(v);
    }
    return failed;
}

static int test_wilson(void)
{
    const Share s = share_wilson(8, 10), all = share_wilson(10, 10), none = share_wilson(0, 0);
    const float got[2] = {(float)s.low, (float)s.high};
    /* Wilson's, from the formula by hand */
    int failed = test_close("8 of 10", got, (float[]){0.490162f, 0.943318f}, 2, 1e-5f, 0);
    for (long n = 1; n <= 50; n++)
        failed += share_wilson(0, n).low != 0 || share_wilson(n, n).high != 1;
    failed += test_ok("0 of 10", share_wilson(0, 10).low == 0 && fabs(share_wilson(0, 10).high - 0.277533) < 1e-5);
    failed += test_ok("10 of 10", all.high == 1 && fabs(all.low - 0.722467) < 1e-5);
    return failed + test_ok("0 of 0", none.of == 0 && isnan(none.value));
}

/* Variances 1 and 4 about means 0 and 3 in one dimension, none in the other: 3^2 + (2 - 1)^2 = 10. And against itself:
 * 0. */
static int test_frechet(void)
{
    Err e = {0};
    Moments a, b;
    Frechet *f = NULL;
    int failed = moments_create(&a, 2, &e) || moments_create(&b, 2, &e);
    const float root = sqrtf(0.5f);
    for (int side = -1; side <= 1; side += 2) {         /* two points d apart have variance d^2/2 */
        moments_add(&a, (float[]){(float)side * root, 7});
        moments_add(&b, (float[]){3 + 2 * (float)side * root, 7});
    }
    failed += test_ok("a reference", frechet_create(&f, &a, &e) == 0);
    const float got[2] = {(float)frechet_distance(f, &b), (float)frechet_distance(f, &a)};
    failed += test_close("Frechet distance", got, (float[]){10, 0}, 2, 1e-5f, 0);
    frechet_free(f);
    moments_free(&a);
    moments_free(&b);
    failed += test_ok("too wide", moments_create(&a, FRECHET_MAX_P + 1, &e) < 0);
    return failed;
}

/* tr (S1 S2)^(1/2) where they do not commute: S1 = [[2,1],[1,2]], S2 = diag(1,4): eigenvalues of S1 S2 are 5 +-
 * sqrt(13), the sum of their roots sqrt(10 + 2 sqrt(12)); so d = 4 + 5 - 2 sqrt(10 + 2 sqrt(12)). */
static int test_frechet_matrices(void)
{
    Err e = {0};
    Moments a, b;
    Frechet *f = NULL;
    int failed = moments_create(&a, 2, &e) || moments_create(&b, 2, &e);
    const float u = 1.5f, v = sqrtf(0.75f), w = sqrtf(1.5f), z = sqrtf(6.0f);
    for (int side = -1; side <= 1; side += 2) {         /* four points: S = 2/3 of the sum of squares over two axes */
        const float s = (float)side;
        moments_add(&a, (float[]){s * u, s * u});       /* along (1,1), variance 3 */
        moments_add(&a, (float[]){s * v, -s * v});      /* along (1,-1), variance 1 */
        moments_add(&b, (float[]){s * w, 0});
        moments_add(&b, (float[]){0, s * z});
    }
    failed += test_ok("a reference", frechet_create(&f, &a, &e) == 0);
    const float got = (float)frechet_distance(f, &b), want = (float)(9 - 2 * sqrt(10 + 2 * sqrt(12.0)));
    failed += test_close("Frechet distance, axes apart", &got, &want, 1, 1e-5f, 0);
    frechet_free(f);
    moments_free(&a);
    moments_free(&b);
    return failed;
}

/* Every row's distance is that of its pictures; the overall row has those of both concepts, 2 to 8. */
static int test_frechet_rows(const Classifier *c)
{
    enum { SHOWN = sizeof shown / sizeof *shown };
    Err e = {0};
    Moments all, both;
    Frechet *f = NULL;
    Evaluation *v = NULL;
    EvalRow *rows = NULL;
    int failed = moments_create(&all, P, &e) || moments_create(&both, P, &e);
    for (int i = 0; i < SHOWN; i++) {
        float x[P] = {0};
        x[shown[i].class] = 1;
        x[3 + shown[i].style] = 1;
        moments_add(&all, x);
        if (i >= 2 && i <= 8)
            moments_add(&both, x);
    }
    failed += test_ok("a reference", !frechet_create(&f, &all, &e) && !evaluation_create(&v, c, f, PLAIN_CLASS, &e));
    for (int i = 0; i < SHOWN && !failed; i++)
        failed += add(v, c, &shown[i], NULL, NAN, &e);
    if (test_ok("rows with distances", !failed && evaluation_rows(v, &rows, &e) == 7))
        return failed + 1;
    const double want = frechet_distance(f, &both);
    test_note("overall %.9g, of the pictures %.9g, of the first target %.9g", rows[4].frechet, want, rows[2].frechet);
    failed += test_ok("distance of the overall row", rows[4].type == ROW_OVERALL && want > 0.01
                      && fabs(rows[4].frechet - want) < 1e-9 && fabs(rows[2].frechet - want) > 0.01);
    free(rows);
    evaluation_free(v);
    frechet_free(f);
    moments_free(&all);
    moments_free(&both);
    return failed;
}

static int test_unknown(const Classifier *c)
{
    int failed = 0;
    const Shown bad[] = {{"Birds", "", "", "", 0, 0}, {"Cats", "", "Birds", "concept", 0, 0},
                         {"Cats", "", "Cats", "colour", 0, 0}, {"Cats", "", "Cats+Red", "concept+colour", 0, 0},
                         {"Cats", "", "Cats+Cats", "concept+theme", 0, 0}};
    const char *const says[] = {"'Birds'", "steered concept 'Birds'", "'colour'", "'concept+colour'", "steered theme"};
    for (int i = 0; i < 5; i++) {
        Err e = {0};
        Evaluation *v = NULL;
        evaluation_create(&v, c, NULL, PLAIN_CLASS, &e);
        failed += test_ok(says[i], add(v, c, &bad[i], NULL, NAN, &e) < 0 && strstr(e.text, says[i])
                          && strstr(e.text, "record 7"));
        evaluation_free(v);
    }
    return failed;
}

/* Labels with a '+' of their own, as steering.labels tells them: Cats+Dogs is not Cats, by itself and beside Rust; Cats
 * and Dogs together are another target of the same text. */
static int test_plus(const char *path)
{
    static const char one[] = "{\"labels\": [{\"kind\": \"concept\", \"label\": \"Cats+Dogs\"}]}",
                      two[] = "{\"labels\": [{\"kind\": \"concept\", \"label\": \"Cats\"}, "
                              "{\"kind\": \"concept\", \"label\": \"Dogs\"}]}",
                      kinds[] = "{\"labels\": [{\"kind\": \"concept\", \"label\": \"Cats+Dogs\"}, "
                                "{\"kind\": \"theme\", \"label\": \"Rust\"}]}";
    static const struct { Shown shown; const char *steering; } pictures[] = {
        {{"Cats+Dogs", "", "Cats+Dogs", "concept", 1, 0}, one}, {{"Cats", "", "Cats+Dogs", "concept", 0, 0}, one},
        {{"Cats", "", "Cats+Dogs", "concept", 2, 0}, two},
        {{"Cats+Dogs", "Rust", "Cats+Dogs+Rust", "concept+theme", 0, 1}, kinds}};
    Err e = {0};
    Classifier *c = NULL;
    Evaluation *v = NULL;
    EvalRow *rows = NULL;
    int failed = write_probe(path, P, "[\"Cats\", \"Cats+Dogs\", \"Fishes\"]", &e) || classifier_load(&c, path, &e)
              || evaluation_create(&v, c, NULL, PLAIN_CLASS, &e);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures && !failed; i++)
        failed += add(v, c, &pictures[i].shown, pictures[i].steering, NAN, &e);
    if (test_ok("rows of labels with a +", !failed && evaluation_rows(v, &rows, &e) == 5))
        failed += test_ok(e.text, 0);
    else {
        const Share *x = rows[0].share, *y = rows[1].share, *z = rows[3].share;
        failed += test_ok("one label", is(&x[MEASURE_UA], 0, 1) && is(&x[MEASURE_IRA], 1, 1)
                                       && is(&x[MEASURE_BROUGHT], 0, 1));
        failed += test_ok("two labels", is(&y[MEASURE_UA], 1, 1) && is(&y[MEASURE_IRA], 0, 0));
        failed += test_text("of two kinds", rows[3].kind, "concept+theme");
        failed += test_ok("its shares", is(&z[MEASURE_UA], 1, 2) && is(&z[MEASURE_IRA], 0, 0));
        failed += test_text("labels are no steering", rows[0].steering, "");
    }
    free(rows);
    evaluation_free(v);
    classifier_free(c);
    return failed;
}

static int test_broken(const char *path, int columns, const char *concepts, const char *says)
{
    Err e = {0};
    Classifier *c = NULL;
    int failed = test_ok("written", write_probe(path, columns, concepts, &e) == 0);
    failed += test_ok(says, classifier_load(&c, path, &e) < 0 && strstr(e.text, says) && strstr(e.text, path));
    classifier_free(c);
    return failed;
}

/* A file of names: its classes, or what is said of it. */
static int test_names(void)
{
    static const struct { const char *text, *says; } cases[] = {
        {"Abstract\nVan_Gogh\tVan Gogh\r\nSeed_Images\t\n", NULL},
        {"\xef\xbb\xbfOne\r\nTwo\r\nOne\r\n", "lines 1 and 3 are both 'One'"},
        {"One\n", "1 names"}, {"", "0 names"}, {"One\n\nTwo\n", "line 2: no name"}, {"One\n\tTwo\n", "line 2: no name"},
        {"One\nTwo\tx\ty\n", "line 2: more than two columns"}, {"One\nTwo\tOne\n", "lines 1 and 2 are both 'One'"},
        {"One\nTw\xff\n", "line 2: not UTF-8"}};
    static const char *const want[] = {"Abstract", "Van Gogh", ""};
    char path[] = "/tmp/evaluate-test.XXXXXX", item[64];
    int failed = 0;
    close(mkstemp(path));
    snprintf(item, sizeof item, "theme=%s", path);
    const char *const items[] = {item, "theme=x", "x"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Classifier *c = NULL;
        Err e = {0};
        FILE *f = fopen(path, "w");
        fputs(cases[i].text, f);
        fclose(f);
        const int refused = classifier_names(&c, items, 1, &e);
        if (cases[i].says)
            failed += test_ok(cases[i].says, refused && !c && strstr(e.text, cases[i].says) && strstr(e.text, path));
        else if (!(failed += test_ok("names", !refused && c->domains == 1 && c->domain[0].classes == 3)))
            for (int k = 0; k < 3; k++)
                failed += test_text("a class", c->domain[0].label[k], want[k]);
        classifier_free(c);
    }
    FILE *f = fopen(path, "w");
    fputs(cases[0].text, f);
    fclose(f);
    for (int i = 1; i < 3; i++) {
        Classifier *c = NULL;
        Err e = {0};
        failed += test_ok("misuse", classifier_names(&c, (const char *const[]){item, items[i]}, 2, &e) && e.misuse);
    }
    unlink(path);
    failed += test_ok("the first of the largest", classifier_largest((float[]){1, 3, 2, 3}, 4) == 1);
    return failed;
}

int main(void)
{
    Err e = {0};
    Classifier *c = NULL;
    char path[] = "/tmp/evaluate-test.XXXXXX";
    const int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int failed = write_probe(path, P, "[\"Cats\", \"Dogs\", \"Fishes\"]", &e) || classifier_load(&c, path, &e);
    if (!failed)
        failed = test_ok("the file", c->P == P && c->domains == 2) + test_rows(c) + test_several(c) + test_kinds(c)
               + test_features(c)
            + test_plain(c) + test_wilson() + test_frechet()
            + test_frechet_matrices() + test_frechet_rows(c) + test_unknown(c);
    failed += test_names() + test_plus(path);
    failed += test_broken(path, 4, "[\"Cats\", \"Dogs\", \"Fishes\"]", "takes embeddings of 5");
    failed += test_broken(path, P, "[\"Cats\", \"Dogs\"]", "concept.weight");
    failed += test_broken(path, P, "Cats", "metadata: concept");
    if (e.set)
        printf("FAIL %s\n", e.text);
    unlink(path);
    classifier_free(c);
    return failed || e.set;
}
