/* SPDX-License-Identifier: MIT */
/* naming.c -- features named by hand-made pictures and texts, in any order of records and files; names read back; bad
 * input. */
#include "src/models/name_table.h"
#include "src/models/naming.h"
#include "tests/unit/stream_test.h"

enum { P = 3, F = 5, K = 2 };

/* ---- three pictures, along the axes, and three texts likewise ---- */

typedef struct Embedded { const char *id; float x[P]; } Embedded;
static const Embedded pictures[] = {{"a", {2, 0, 0}}, {"b", {0, 1, 0}}, {"c", {0, 0, 0.5f}}};

/* Records of two tokens, two features kept of each. Feature 0 is active in a; 1 in a with 1 in all, in b with 3; 2
 * everywhere alike; 3 in c, at another timestep alone; 4 nowhere. */
typedef struct Made { const char *id; int t; int32_t index[4]; float value[4]; } Made;
static const Made made[] = {
    {"a", 900, {0, 2, 1, 2}, {1.5f, 1, 1, 1}}, {"a", 100, {0, 2, 2, 4}, {0.5f, 1, 1, 0}},
    {"b", 900, {1, 2, 2, 1}, {1, 1, 1, 0.5f}}, {"b", 100, {1, 2, 2, 4}, {1.5f, 1, 1, 0}},
    {"c", 900, {2, 4, 2, 4}, {1, 0, 1, 0}}, {"c", 100, {2, 3, 2, 3}, {1, 0.25f, 1, 0.5f}},
};
enum { MADE = sizeof made/sizeof *made };

static bool twins;      /* there is a fourth text, like the first */

static const LabelTexts *texts(void)
{
    static LabelText text[] = {{"axis", "one", 1}, {"axis", "two", 2}, {"", "three", 3}, {"axis", "uno", 4}};
    static float direction[] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0};
    static LabelTexts t = {.name = "texts", .P = P, .text = text, .direction = direction};
    t.count = twins ? 4 : 3;
    return &t;
}

static const char *write_stream(const char *name, Record *header, const Record *rec, int records)
{
    const char *path = scratch(name);
    StreamOut *out = NULL;
    Err e = {0};
    int failed = stream_create(&out, path, header, &(StreamOptions){0}, &e);
    for (int i = 0; i < records && !failed; i++)
        failed = stream_write(out, &rec[i], &e);
    if (failed || stream_finish(out, &e))
        exit(test_ok(e.text, 0) + 1);
    stream_abandon(out);
    record_clear(header);
    return path;
}

static const char *write_embeddings(const char *name, const char *model, const Embedded *x, int count, int64_t width)
{
    Record header, rec[8];
    record_init(&header, "embeddings");
    record_set_text(&header, "model", model);
    for (int i = 0; i < count; i++) {
        record_init(&rec[i], NULL);
        record_set_text(&rec[i], "id", x[i].id);
        record_add_tensor(&rec[i], "embedding", F32, 1, &width, x[i].x);
    }
    const char *path = write_stream(name, &header, rec, count);
    for (int i = 0; i < count; i++)
        record_clear(&rec[i]);
    return path;
}

/* Records first, first + step, ... of made, below MADE. */
static const char *write_features(const char *name, int k, int first, int step)
{
    Record header, rec[MADE];
    int count = 0;
    record_init(&header, "features");
    record_set_text(&header, "sae", "one-0123");
    record_set_int(&header, "features", F);
    record_set_int(&header, "k", k);
    for (int i = first; i >= 0 && i < MADE; i += step, count++) {
        record_init(&rec[count], NULL);
        record_set_text(&rec[count], "id", made[i].id);
        record_set_int(&rec[count], "t", made[i].t);
        record_add_tensor(&rec[count], "index", I32, 3, (int64_t[]){1, 2, K}, made[i].index);
        record_add_tensor(&rec[count], "value", F32, 3, (int64_t[]){1, 2, K}, made[i].value);
    }
    const char *path = write_stream(name, &header, rec, count);
    for (int i = 0; i < count; i++)
        record_clear(&rec[i]);
    return path;
}

/* ---- names of them ---- */

typedef struct Named { Naming *naming; Tally *tally; } Named;

static int embed(Naming *n, const char *path, Err *e)
{
    StreamIn *in = NULL;
    const int failed = stream_open_kind(&in, path, "embeddings", e) || naming_embeddings(n, in, "clip-abc", e);
    stream_close(in);
    return failed;
}

static int count(Tally *y, const char *path, Err *e)
{
    StreamIn *in = NULL;
    const int failed = stream_open_kind(&in, path, "features", e) || tally_stream(y, in, NULL, NULL, e);
    stream_close(in);
    return failed;
}

/* Of embeddings and up to two files of features; asked: features that count, NULL for all. */
static int name(Named *x, const char *embeddings, const char *one, const char *two, const int *asked, int asks,
                int t_low, Err *e)
{
    *x = (Named){0};
    if (naming_create(&x->naming, texts(), e) || embed(x->naming, embeddings, e))
        return -1;
    const TallyOptions o = {.feature = asked, .count = asks, .half = "both", .when = {999, t_low},
                            .record = naming_record, .context = x->naming};
    return tally_create(&x->tally, &o, e) || count(x->tally, one, e) || (two && count(x->tally, two, e))
        || tally_finish(x->tally, e) || naming_finish(x->naming, e) ? -1 : 0;
}

static void forget(Named *x)
{
    tally_free(x->tally);
    naming_free(x->naming);
}

/* mean: (1,1,1)/3.  d_0 = (2,-1,-1)/3, the direction of text one.
 * d_1 = (1,3,0)/4 - mean = (-1,5,-4)/12, and of texts (2,-1,-1), (-1,2,-1), (-1,-1,2), cosines -3, 15, -12 over
 * sqrt(42*6). */
static int test_scores(const char *embeddings)
{
    Named x, y;
    Err e = {0};
    Score best[3], other[3];
    int failed = test_ok("named", name(&x, embeddings, write_features("all", K, 0, 1), NULL, NULL, 0, 0, &e) == 0);
    failed += test_ok("feature 0", naming_best(x.naming, 0, best, 1) == 1 && best[0].text == 0
                                   && fabs(best[0].score - 1) < 1e-7 && naming_pictures(x.naming, 0) == 1);
    failed += test_ok("feature 1 has three texts", naming_best(x.naming, 1, best, 3) == 3 && best[0].text == 1
                      && best[1].text == 0 && best[2].text == 2 && naming_pictures(x.naming, 1) == 2);
    for (int i = 0; i < 3; i++)
        failed += test_ok("feature 1's score", fabs(best[i].score - (double[]){15, -3, -12}[i]/sqrt(252)) < 1e-7);
    failed += test_ok("in all pictures alike", naming_best(x.naming, 2, other, 3) == 0
                                               && naming_pictures(x.naming, 2) == 3);
    failed += test_ok("never active", naming_best(x.naming, 4, other, 3) == 0 && naming_pictures(x.naming, 4) == 0);
    failed += test_ok("the best two", naming_best(x.naming, 1, other, 2) == 2 && other[1].text == best[1].text);

    /* two files, each backwards, the later pictures first: the same bits */
    failed += test_ok("in another order", name(&y, embeddings, write_features("odd", K, MADE - 1, -2),
                                               write_features("even", K, MADE - 2, -2), NULL, 0, 0, &e) == 0);
    naming_best(y.naming, 1, other, 3);
    for (int i = 0; i < 3; i++)
        failed += test_ok("the same score", other[i].score == best[i].score && other[i].text == best[i].text);
    forget(&y);

    /* from t 500 on, feature 3 is not active, and 1 has a 1, b 1.5 */
    failed += test_ok("feature 3 at all timesteps", naming_best(x.naming, 3, other, 1) == 1 && other[0].text == 2);
    failed += test_ok("timesteps", name(&y, embeddings, scratch("all"), NULL, NULL, 0, 500, &e) == 0
                                   && naming_pictures(y.naming, 3) == 0);
    forget(&y);
    failed += test_ok("features asked for", name(&y, embeddings, scratch("all"), NULL, (int[]){1}, 1, 0, &e) == 0
                                            && naming_pictures(y.naming, 0) == 0);
    failed += test_ok("the same of one alone", naming_best(y.naming, 1, other, 3) == 3
                                               && other[0].score == best[0].score);
    forget(&y);
    forget(&x);
    return failed;
}

/* Of equal scores the text that comes first is named, also where no more are asked for. */
static int test_ties(const char *embeddings)
{
    Named x;
    Err e = {0};
    Score best[4];
    twins = true;
    int failed = test_ok("named", name(&x, embeddings, write_features("ties", K, 0, 1), NULL, NULL, 0, 0, &e) == 0);
    failed += test_ok("a tie: one is asked for", naming_best(x.naming, 0, best, 1) == 1 && best[0].text == 0);
    failed += test_ok("two", naming_best(x.naming, 0, best, 2) == 2 && best[0].text == 0 && best[1].text == 3
                             && best[0].score == best[1].score);
    failed += test_ok("behind another", naming_best(x.naming, 1, best, 2) == 2 && best[0].text == 1
                                        && best[1].text == 0);
    forget(&x);
    twins = false;
    return failed;
}

/* ---- bad input ---- */

static int refused(const char *embeddings, const char *one, const char *two, const char *why)
{
    Named x;
    Err e = {0};
    const int done = name(&x, embeddings, one, two, NULL, 0, 0, &e);
    forget(&x);
    const int failed = test_ok(why, done == -1 && strstr(e.text, why));
    if (failed)
        printf("  %s\n", e.text);
    return failed;
}

static int test_refused(const char *all)
{
    static const Embedded twice[] = {{"a", {1, 0, 0}}, {"b", {0, 1, 0}}, {"a", {1, 0, 0}}}, zero[] = {{"a", {0}}},
        not_a_number[] = {{"a", {1, NAN, 0}}};
    char whole[4096];
    snprintf(whole, sizeof whole, "%s", all);
    int failed = refused(write_embeddings("two", "x-abc", pictures, 2, P), scratch("all"), NULL,
                         "all: record 5: picture c is not among the 2 embeddings");
    failed += refused(write_embeddings("twice", "x-abc", twice, 3, P), scratch("all"), NULL,
                      "twice: record 3: a second embedding of picture a");
    failed += refused(write_embeddings("zero", "x-abc", zero, 1, P), scratch("all"), NULL,
                      "record 1: the embedding of picture a has no direction");
    failed += refused(write_embeddings("nan", "x-abc", not_a_number, 1, P), scratch("all"), NULL,
                      "nan: record 1: embedding");
    failed += refused(write_embeddings("wide", "x-abc", pictures, 1, 2), scratch("all"), NULL, "wide: record 1");
    failed += refused(write_embeddings("other", "x-def", pictures, 3, P), scratch("all"), NULL,
                      "embeddings of x-def, the texts' are of clip-abc");
    failed += refused(whole, scratch("all"), write_features("k", 3, 0, 1), "k is 3, and in");
    failed += refused(whole, write_features("single", K, 4, 1), NULL, "features of one picture only");
    failed += refused(whole, write_features("none", K, MADE, 1), NULL, "none: no record");
    return failed;
}

/* ---- the table ---- */

static int table_says(const char *text, const char *why)
{
    NameTable t = {0};
    Err e = {0};
    const int done = name_table_load(&t, spill("names.tsv", text, strlen(text)), &e);
    name_table_free(&t);
    const int failed = test_ok(why, done == -1 && strstr(e.text, why));
    if (failed)
        printf("  %s\n", e.text);
    return failed;
}

#define COLUMNS "feature\tpictures\tdensity\tplace\tscore\tkind\ttext\n"

static int test_table(void)
{
    static const NameRow rows[] = {{7, 1, 3, 0.25, 0.5, "", "a\tb\n"}, {7, 2, 3, 0.25, 0.125, "axis", "one"},
                                   {2, 1, 4, 1e-7, -0.75, "axis", ""}};
    const char *path = scratch("table.tsv");
    FILE *f = fopen(path, "w");
    NameTable t = {0};
    Err e = {0};
    name_table_print_columns(f);
    for (int i = 0; i < 3; i++)
        name_table_print(f, &rows[i]);
    fclose(f);
    int failed = test_ok("read back", name_table_load(&t, path, &e) == 0 && t.rows == 2);
    const NameRow *two = name_table_find(&t, 2), *seven = name_table_find(&t, 7);
    if (test_ok("found", two && seven && !name_table_find(&t, 3)))
        return failed + 1;
    failed += test_text("empty", two->text, "-") + test_text("control characters", seven->text, "a b ");
    failed += test_ok("numbers", two->score == -0.75 && two->pictures == 4 && seven->density == 0.25);
    name_table_free(&t);
    failed += table_says("", "line 1: not the columns") + table_says("feature\n", "line 1: not the columns");
    failed += table_says(COLUMNS "1\t2\t0.1\t1\n", "line 2: 4 columns, expected 7");
    failed += table_says(COLUMNS "1\t2\t0.1\t1\tnan\t-\tx\n", "line 2: column 5 is 'nan'");
    failed += table_says(COLUMNS "1\t2\t0.1\t1\t0.5\t-\tx\n-1\t2\t0.1\t1\t0.5\t-\tx\n", "line 3: column 1 is '-1'");
    failed += table_says(COLUMNS "1.5\t2\t0.1\t1\t0.5\t-\tx\n", "column 1 is '1.5'");
    failed += table_says(COLUMNS "1\t2\t0.1\t1\t0.5\t-\tx\n1\t2\t0.1\t1\t0.5\t-\ty\n", "feature 1 is named twice");
    return failed;
}

int main(void)
{
    char embeddings[4096];
    snprintf(embeddings, sizeof embeddings, "%s", write_embeddings("embeddings", "my-abc", pictures, 3, P));
    int failed = test_scores(embeddings);
    failed += test_ties(embeddings) + test_refused(embeddings);
    failed += test_table();
    scratch_clear();
    return failed != 0;
}
