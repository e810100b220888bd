/* SPDX-License-Identifier: MIT */
/* report.c -- what sae-report gathers: features counted by hand, in any order; leading features; logs thinned out;
 * pairs of pictures. */
#include "src/models/feature_tally.h"
#include "src/models/fit_curves.h"
#include "src/models/rank_leads.h"
#include "src/models/rank_score.h"
#include "src/models/steered_pairs.h"
#include "tests/unit/stream_test.h"

/* ---- features ---- */

/* Records of 1 x 2 tokens, two features kept of each. */
typedef struct Made { const char *id, *half; int t; int32_t index[4]; float value[4]; int step; } Made;
static const Made made[] = {
    {"a", "cond", 900, {1, 0, 1, 2}, {2, 1, 3, 0}, 0},      /* f2 with value 0 is not active */
    {"a", "cond", 100, {1, 0, 0, 2}, {5, 1, 2, 1}, 3},
    {"b", "cond", 900, {1, 2, 2, 0}, {5, 1, 4, 1}, 0},
    {"c", "cond", 900, {1, 2, 2, 0}, {1, 0.5f, 4, 1}, 0},
    {"d", "uncond", 900, {1, 2, 2, 0}, {9, 9, 9, 9}, 0},
    {"a", "cond", 500, {1, 0, 0, 2}, {3, 1, 2, 1}, 1},      /* from here on: a timestep that is taken twice */
    {"a", "cond", 500, {0, 2, 1, 2}, {1, 1, 3, 1}, 2},
    {"a", "uncond", 500, {1, 2, 1, 2}, {3, 1, 3, 1}, 1},
};
enum { MADE = 5, TWICE = MADE };

static const char *write_features(const char *name, const int *order, int count, int F)
{
    const char *path = scratch(name);
    StreamOut *out = NULL;
    Err e = {0};
    Record rec;
    record_init(&rec, "features");
    record_set_text(&rec, "sae", "one-0123");
    record_set_int(&rec, "features", F);
    record_set_json(&rec, "hooks", json_pack("[s]", "mid"));
    int failed = stream_create(&out, path, &rec, &(StreamOptions){0}, &e);
    record_clear(&rec);
    for (int i = 0; i < count && !failed; i++) {
        const Made *m = &made[order[i]];
        record_init(&rec, NULL);
        record_set_text(&rec, "id", m->id);
        record_set_text(&rec, "half", m->half);
        record_set_int(&rec, "step", m->step);
        record_set_int(&rec, "t", m->t);
        record_add_tensor(&rec, "index", I32, 3, (int64_t[]){1, 2, 2}, m->index);
        record_add_tensor(&rec, "value", F32, 3, (int64_t[]){1, 2, 2}, m->value);
        failed = stream_write(out, &rec, &e);
        record_clear(&rec);
    }
    if (failed || stream_finish(out, &e))
        exit(test_ok(e.text, 0) + 1);
    stream_abandon(out);
    return path;
}

static Tally *count(const TallyOptions *o, const int *order, int n, int F, Err *e)
{
    Tally *y = NULL;
    StreamIn *in = NULL;
    const char *path = write_features("f.mpk.zst", order, n, F);
    const int failed = tally_create(&y, o, e) || stream_open_kind(&in, path, "features", e)
                    || tally_stream(y, in, NULL, NULL, e) || tally_finish(y, e);
    stream_close(in);
    if (!failed)
        return y;
    tally_free(y);
    return NULL;
}

static int test_tally(const char *name, const int *order)
{
    int failed = 0;
    Err e = {0};
    const TallyOptions o = {.feature = (int[]){1, 2}, .count = 2, .pictures = 2, .half = "cond", .when = {1000, 0}};
    Tally *y = count(&o, order, MADE, 3, &e);
    if (!y)
        return test_ok(e.text, 0);
    printf("     order %s\n", name);
    failed += test_ok("records, tokens", y->records == 4 && y->tokens == 8);
    failed += test_ok("active", y->active[0] == 5 && y->active[1] == 5 && y->active[2] == 5);
    failed += test_ok("sums", tally_sum(y->sum[1]) == 16 && tally_sum(y->sum[2]) == 10.5 && y->most[2] == 4);
    const Chosen *c = &y->chosen[0];
    /* a and b are equally strong: a goes first; at t 100, where it is stronger than at 900 */
    failed += test_ok("strongest pictures", c->peaks == 2 && strcmp(c->peak[0].id, "a") == 0 && c->peak[0].t == 100
                      && strcmp(c->peak[1].id, "b") == 0 && c->peak[1].value == 5);
    failed += test_same("heat map", c->peak[0].grid, (float[]){5, 0}, sizeof(float[2]));
    failed += test_same("heat map/second feature", y->chosen[1].peak[0].grid, (float[]){1, 4}, sizeof(float[2]));
    const int early = tally_time(y, 900), late = tally_time(y, 100);
    failed += test_ok("by timestep", y->times == 2 && tally_sum(c->sum[early]) == 11 && tally_sum(c->sum[late]) == 5
                      && y->t_tokens[early] == 6 && tally_time(y, 5) == -1);
    failed += test_ok("histogram", c->bin[(int)floor((log10(5) - VALUE_LOWEST)/VALUE_WIDTH)] == 2);
    tally_free(y);
    return failed;
}

/* Records as strong as each other, of one picture at one timestep: the heat map is the first evaluation's, of cond. */
static int test_tally_twice(void)
{
    static const int order[][3] = {{TWICE, TWICE + 1, TWICE + 2}, {TWICE + 2, TWICE + 1, TWICE},
                                   {TWICE + 1, TWICE + 2, TWICE}};
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        Err e = {0};
        const TallyOptions o = {.feature = (int[]){1}, .count = 1, .pictures = 2, .half = "both", .when = {1000, 0}};
        Tally *y = count(&o, order[i], 3, 3, &e);
        if (!y)
            return test_ok(e.text, 0);
        const Peak *p = y->chosen[0].peak;
        failed += test_ok("a timestep twice: counted as one", y->records == 3 && y->times == 1 && y->t_tokens[0] == 6);
        failed += test_ok("a timestep twice: one picture", y->chosen[0].peaks == 1 && p->value == 3);
        failed += test_same("a timestep twice: its first heat map", p->grid, (float[]){3, 0}, sizeof(float[2]));
        tally_free(y);
    }
    return failed;
}

static int test_tally_refused(void)
{
    static const int order[] = {0, 1, 2, 3, 4};
    int failed = 0;
    Err e = {0};
    TallyOptions o = {.feature = (int[]){3}, .count = 1, .pictures = 2, .half = "cond", .when = {1000, 0}};
    failed += test_ok("feature", !count(&o, order, MADE, 3, &e) && strstr(e.text, "3 features, and feature 3"));
    e = (Err){0};
    failed += test_ok("record", !count(&o, order, MADE, 2, &e) && strstr(e.text, "feature 3 is asked for"));
    o.count = 0;
    e = (Err){0};
    failed += test_ok("more features than the header", !count(&o, order, MADE, 2, &e)
                      && strstr(e.text, "record 1: feature 2"));
    o.when.low = 950;
    e = (Err){0};
    failed += test_ok("nothing counted", !count(&o, order, MADE, 3, &e) && strstr(e.text, "no record of hook mid"));
    o.when.low = 0;
    o.sae = "two-4567";
    e = (Err){0};
    failed += test_ok("another autoencoder", !count(&o, order, MADE, 3, &e) && strstr(e.text, "expected two-4567"));
    return failed;
}

/* ---- ranks ---- */

static int test_leads(void)
{
    /* f0 leads by 3/2 = (1 + 2)/2; f1 has 2.5 at one timestep and is not ranked at the other, 1.25; f2 never shows.
     * Dogs: f1 and f2 both have 1.5, f2 comes first. */
    static const struct { const char *label; int t; int32_t feature[2]; float score[2]; } entries[] = {
        {"Cats", 100, {1, 0}, {2.5f, 1}}, {"Dogs", 900, {2, 1}, {1, 0.5f}}, {"Cats", 900, {0, 2}, {2, 0.25f}},
        {"Dogs", 800, {1, 2}, {1, 0.5f}}};
    int failed = 0;
    Err e = {0};
    StreamOut *out = NULL;
    Record rec;
    Ranks *ranks = NULL;
    Leads l = {0};
    const char *path = scratch("ranks.mpk.zst");
    record_init(&rec, "ranks");
    record_set_text(&rec, "sae", "one-0123");
    record_set_int(&rec, "features", 3);
    int wrong = stream_create(&out, path, &rec, &(StreamOptions){0}, &e);
    record_clear(&rec);
    for (int i = 0; i < 4 && !wrong; i++) {
        const float mean[] = {4, 2}, all[] = {1, 1};
        const RankEntry x = {.kind = "concept", .label = entries[i].label, .t = entries[i].t, .count = 2,
                             .feature = entries[i].feature, .score = entries[i].score, .mean = mean, .mean_all = all};
        rank_record(&rec, &x);
        wrong = stream_write(out, &rec, &e);
        record_clear(&rec);
    }
    if (wrong || stream_finish(out, &e) || ranks_load(&ranks, path, &e) || leads_build(&l, ranks, 2, T_RANGE_ALL, &e))
        return test_ok(e.text, 0);
    stream_abandon(out);
    const LeadLabel *cats = &l.label[0];
    failed += test_ok("labels", l.labels == 2 && strcmp(cats->label, "Cats") == 0 && cats->times == 2
                      && cats->t[0] == 900);
    failed += test_ok("leads", cats->leads == 2 && cats->lead[0].feature == 0 && cats->lead[0].score == 1.5
                      && cats->lead[1].feature == 1 && cats->lead[1].score == 1.25);
    failed += test_ok("by timestep", isnan(cats->lead[1].by_t[0]) && cats->lead[1].by_t[1] == 2.5
                      && cats->lead[1].t == 100 && cats->lead[0].t == 900);
    failed += test_ok("means where it is ranked", cats->lead[0].mean == 3 && cats->lead[1].mean == 4
                      && cats->lead[0].elsewhere == 1 && cats->lead[1].elsewhere == 1);
    const LeadLabel *dogs = &l.label[1];
    failed += test_ok("a tie goes to the lower feature", dogs->leads == 2 && dogs->lead[0].feature == 1
                      && dogs->lead[1].feature == 2 && dogs->lead[0].score == dogs->lead[1].score);
    failed += test_ok("all that lead", l.features == 3 && l.feature[0] == 0 && l.feature[1] == 1 && l.feature[2] == 2);
    leads_free(&l);
    failed += test_ok("some timesteps", leads_build(&l, ranks, 1, (TRange){100, 100}, &e) == 0 && l.labels == 1
                      && l.label[0].lead[0].feature == 1);
    leads_free(&l);
    failed += test_ok("none", leads_build(&l, ranks, 1, (TRange){50, 0}, &e) == -1 && strstr(e.text, "from 50 to 0"));
    leads_free(&l);
    ranks_free(ranks);
    return failed;
}

/* ---- logs ---- */

static int test_curves(void)
{
    int failed = 0;
    Err e = {0};
    Curves c = {0};
    const long lines = 5*CURVE_POINTS + 3;
    const char *path = scratch("log");
    FILE *f = fopen(path, "w");
    for (long i = 0; i < lines; i++) {
        fprintf(f, "{\"hook\":\"mid\",\"tokens\":%ld,\"fvu\":%g}\n", i, 1.0/(double)(i + 1));
        fprintf(f, "{\"hook\":\"up\",\"tokens\":%ld,\"cell\":\"k=8\",\"eval\":{\"fvu\":0.5}}\n\n", i);
    }
    fclose(f);
    failed += test_ok("a long log", curves_load(&c, path, "mid", &e) == 0 && c.count == 1
                      && strcmp(c.curve[0].name, "mid") == 0);
    bool even = true;
    for (int p = 0; p + 1 < c.curve[0].points; p++)
        even &= c.curve[0].figure[FIT_TOKENS][p] == (double)(p*c.curve[0].stride);
    failed += test_ok("thinned evenly", even && c.curve[0].stride == 8 && c.curve[0].points <= CURVE_POINTS);
    failed += test_ok("first and last", curve_first(&c.curve[0], FIT_FVU) == 1
                      && curve_last(&c.curve[0], FIT_TOKENS) == (double)(lines - 1)
                      && isnan(curve_last(&c.curve[0], FIT_LR)));
    curves_free(&c);
    failed += test_ok("all modules", curves_load(&c, path, NULL, &e) == 0 && c.count == 2
                      && strcmp(c.curve[1].name, "up k=8") == 0 && curve_last(&c.curve[1], FIT_EVAL_FVU) == 0.5);
    curves_free(&c);
    failed += test_ok("no such module", curves_load(&c, path, "down", &e) == -1
                      && strstr(e.text, "no line of the module down"));
    curves_free(&c);
    e = (Err){0};
    const char *cut = spill("cut", "{\"hook\":\"a\",\"tokens\":1}\n{\"hook\":", 33);
    failed += test_ok("cut", curves_load(&c, cut, NULL, &e) == -1 && strstr(e.text, "cut: line 2"));
    curves_free(&c);
    e = (Err){0};
    failed += test_ok("no log", curves_load(&c, spill("no", "[1]\n", 4), NULL, &e) == -1
                      && strstr(e.text, "line 1: an array, expected an object"));
    curves_free(&c);
    return failed;
}

/* ---- pairs ---- */

/* Pictures of one pixel: seeds 0 to 9 unsteered and steered, of which the even ones are of the steered label. */
static int add_pictures(Pairs *p, int from, int step, Err *e)
{
    for (int i = from; i >= 0 && i < 20; i += step) {
        const uint8_t rgb[3] = {(uint8_t)(i/2), (uint8_t)(i/2 == 4 ? 0 : i%2), 7};
        Picture x = {.rgb = rgb, .H = 1, .W = 1};
        record_init(&x.record, NULL);
        record_set_int(&x.record, "seed", i/2);
        record_set_text(&x.record, "concept", i/2 % 2 ? "Dogs" : "Cats");
        if (i % 2) {
            record_set_text(&x.record, "steered", "Cats");
            record_set_text(&x.record, "steered_kind", "concept");
            record_set_json(&x.record, "steering", json_pack("{s:s}", "mode", "ablate"));
        }
        const int failed = pairs_add(p, &x, e);
        record_clear(&x.record);
        if (failed)
            return -1;
    }
    pairs_settle(p);
    return 0;
}

static int test_pairs(void)
{
    int failed = 0;
    Err e = {0};
    Pairs p[2];
    Thumbs t[2] = {{.side = 16, .limit = 300}, {.side = 16, .limit = 300}};
    for (int k = 0; k < 2; k++) {
        pairs_init(&p[k], 4, &t[k]);
        if (add_pictures(&p[k], k ? 19 : 0, k ? -1 : 1, &e))
            return test_ok(e.text, 0);
        failed += test_ok("one group, half of them its own", p[k].groups == 1 && p[k].group[0].pictures == 10
                          && p[k].group[0].pairs[0] == 2 && p[k].group[0].pairs[1] == 2 && p[k].plain == 10);
    }
    for (int own = 0; own < 2; own++)
        for (int i = 0; i < 2; i++) {
            const Pair *a = &p[0].group[0].pair[own][i], *b = &p[1].group[0].pair[own][i];
            failed += test_text("the same in any order", a->steered, b->steered);
            failed += test_ok("both are there", thumbs_find(&t[0], a->steered) && thumbs_find(&t[0], a->plain));
        }
    Thumb *plain = thumbs_find(&t[0], "plain\n4\n\n"), *other = thumbs_find(&t[0], "plain\n5\n\n");
    failed += test_ok("known by prompt and seed", plain && other && plain->hash != other->hash);
    for (int k = 0; k < 2; k++) {                           /* a PNG of one pixel is some 70 bytes, 92 in base64 */
        thumbs_draw(&t[0], plain);
        thumbs_draw(&t[0], other);
        thumbs_draw(&t[0], thumbs_find(&t[0], "plain\n6\n\n"));
        thumbs_draw(&t[0], thumbs_find(&t[0], "plain\n7\n\n"));
    }
    failed += test_ok("drawn once, up to the limit", t[0].taken <= 300 && plain->number == 1 && other->number == 2
                      && t[0].drawn == 3 && t[0].left_out == 1);
    for (int k = 0; k < 2; k++) {
        pairs_free(&p[k]);
        thumbs_free(&t[k]);
    }
    return failed;
}

/* What is kept of each list, its own label's and the others': half each, or what the other leaves. */
static int test_settled(void)
{
    static const struct { int kept, from, step, own, others; } cases[] = {
        {4, 1, 4, 4, 0}, {4, 3, 4, 0, 4}, {3, 0, 1, 2, 1}, {4, 11, 1, 2, 2}};
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err e = {0};
        Pairs p;
        Thumbs t = {.side = 16, .limit = 300};
        pairs_init(&p, cases[i].kept, &t);
        const int added = add_pictures(&p, cases[i].from, cases[i].step, &e);
        failed += test_ok("pairs that are kept", !added && p.groups == 1 && p.group[0].pairs[0] == cases[i].own
                                                 && p.group[0].pairs[1] == cases[i].others);
        pairs_free(&p);
        thumbs_free(&t);
    }
    return failed;
}

int main(void)
{
    int failed = test_tally("as made", (int[]){0, 1, 2, 3, 4}) + test_tally("backwards", (int[]){4, 3, 2, 1, 0})
               + test_tally("mixed", (int[]){2, 4, 1, 3, 0});
    failed += test_tally_twice() + test_tally_refused() + test_leads() + test_curves() + test_pairs() + test_settled();
    scratch_clear();
    return failed != 0;
}
