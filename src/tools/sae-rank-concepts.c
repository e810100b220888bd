/* SPDX-License-Identifier: MIT */
/* sae-rank-concepts.c -- finds the features of an autoencoder that carry a concept, by timestep. */
#include <string.h>
#include "formats/tame.h"
#include "formats/text_out.h"
#include "src/cli/compute.h"
#include "src/models/rank_feed.h"
#include "src/models/rank_score.h"

typedef struct Config {
    Common c;
    const char *sae, *hook, *half, *score, *table, *json;
    List by;
    int64_t top;
    int statistics, merge;
} Config;

static const Opt options[] = {
    {0, "sae", OPT_STR, offsetof(Config, sae), NULL, "DIR  autoencoder, as sae-fit wrote it; needed for activations",
     OPT_NEUTRAL},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL, "NAME  module whose activations count (default: the "
                                                       "autoencoder's own)", OPT_NEUTRAL},
    {0, "half", OPT_STR, offsetof(Config, half), "cond", "cond|uncond|both  half of classifier-free guidance that "
                                                         "counts", OPT_NEUTRAL},
    {0, "by", OPT_LIST, offsetof(Config, by), NULL, "FIELD  label to rank by; again for more (default: concept and "
                                                    "theme, where there)", OPT_NEUTRAL},
    {0, "score", OPT_STR, offsetof(Config, score), "saeuron",
     "saeuron|difference|effect|ratio|share|frequency|auroc|margin|assigned  what makes a feature the label's", 0},
    {0, "top", OPT_INT, offsetof(Config, top), "-1", "N  best features kept of each label and timestep; 0: all; -1: "
                                                     "64, or enough for percentile 99", 0},
    {0, "statistics", OPT_FLAG, offsetof(Config, statistics), NULL,
     "write the sums, for --merge, and no ranks: without --score, --top, --table and --json", OPT_NEUTRAL},
    {0, "merge", OPT_FLAG, offsetof(Config, merge), NULL,
     "the inputs are such statistics, to be added up; --hook, --half and --by are theirs", OPT_NEUTRAL},
    {0, "table", OPT_STR, offsetof(Config, table), NULL, "FILE  ranks as a table to read, tab-separated; - is "
                                                         "standard output", OPT_NEUTRAL},
    {0, "json", OPT_STR, offsetof(Config, json), NULL, "FILE  ranks as JSON, a line a label and timestep; - is "
                                                       "standard output", OPT_NEUTRAL},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-rank-concepts", "Find the features of a sparse autoencoder that carry a concept or theme, by timestep.",
        options, "[FILE...]",
    "Reads activations (sd-sample-hooked), encodes them with --sae, and scores every feature for each label and "
    "timestep; or reads features (sae-encode), or statistics that it wrote itself. Several files, or FIFOs, are read "
    "one after the other. Writes ranks: a record a label and timestep with the features of the highest score, best "
    "first, their score, and their mean activation over the label's pictures (mean), over all labels (mean_all: the "
    "mean of their means), over the pictures of other labels (mean_rest) and over "
    "those without a label (mean_none).\n"
    "Scores, of a label's pictures c against the rest, the pictures of other labels and of none: saeuron, the "
    "feature's share of all activation in c less its share in the rest; difference, mean_c - mean_rest; effect, that "
    "over the root of the mean of both variances over pictures; ratio, log((mean_c + u)/(mean_rest + u)) with u the "
    "usual mean; share, (mean_c - mean_rest) mean_c over the sum of the labels' means; frequency, the share of tokens "
    "where it is active, less that of the rest; auroc, (1 + share of pictures where it is active - that of the "
    "rest)/2; margin, mean_c less the largest mean of any other label or of none.\n"
    "Sums are kept in integers (each picture's sum rounded to 2^-24), so that the order of the records plays no part: "
    "statistics made from shards with --statistics and added with --merge give, byte for byte, what one run gives. The "
    "provenance has the steps of all inputs, where these differ sorted by their JSON. "
    "Memory: 32 bytes a feature, label and "
    "timestep.\n"
    "With --table - or --json - that text is what standard output gets; the ranks are written too where -o names a "
    "file.",
    "# rank, and look at the five best features of each concept\n"
    "sae-rank-concepts --sae sae/ acts.mpk.zst -o ranks.mpk.zst\n"
    "sae-rank-concepts --sae sae/ acts.mpk.zst --top 5 --table -\n"
    "# shard by shard, then together\n"
    "parallel sae-rank-concepts --sae sae/ --statistics {} -o {.}.stats ::: acts*.mpk.zst\n"
    "sae-rank-concepts --merge acts*.stats -o ranks.mpk.zst"
};

typedef struct Run {
    const Config *cfg;
    RankFeed *feed;
    StreamOut *out;
    TextOut table, json;
    Progress *progress;
} Run;

static void on_progress(void *context, long long records)
{
    progress_set(context, records);
}

static int read_inputs(Run *r, Err *e)
{
    int failed = 0;
    r->progress = progress_start(&cli, "records", 0);
    for (int i = 0; i < cli_input_count(&r->cfg->c) && !failed; i++) {
        const char *path = cli_input(&r->cfg->c, i);
        StreamIn *in = NULL;
        failed = (r->cfg->merge ? stream_open_kind(&in, path, "statistics", e) : stream_open(&in, path, e))
              || rank_feed_stream(r->feed, in, on_progress, r->progress, e);
        stream_close(in);
    }
    return failed ? -1 : rank_feed_finish(r->feed, r->cfg->statistics, e);
}

static int top_kept(const Run *r)
{
    const int F = rank_feed_stats(r->feed)->F, percentile_99 = ranks_needed(F, 99);
    const int64_t top = r->cfg->top >= 0 ? r->cfg->top : percentile_99 > 64 ? percentile_99 : 64;
    return top > F ? 0 : (int)top;
}

static int open_outputs(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    const StreamOptions o = cli_stream_options(&cfg->c);
    const bool text_only = strcmp(cfg->c.output, "-") == 0
                        && ((cfg->table && strcmp(cfg->table, "-") == 0) || (cfg->json && strcmp(cfg->json, "-") == 0));
    Record header;
    if (text_open(&r->table, cfg->table, e) || text_open(&r->json, cfg->json, e))
        return -1;
    if (text_only)
        return 0;
    record_init(&header, cfg->statistics ? "statistics" : "ranks");
    rank_feed_describe(r->feed, &header, cli_provenance(&cli));
    if (!cfg->statistics)
        record_set_text(&header, "score", cfg->score);
    int failed = stream_create(&r->out, cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

static void print_rows(FILE *f, const RankEntry *x)
{
    for (int j = 0; j < x->count; j++) {
        fprintf(f, "%s\t", x->kind);
        tame_print(f, x->label, ' ');
        fprintf(f, "\t%d\t%d\t%d\t%.9g\t%.9g\t%.9g\n", x->t, j + 1, x->feature[j], (double)x->score[j],
                (double)x->mean[j], (double)x->mean_all[j]);
    }
}

static void print_json(FILE *f, const RankEntry *x)
{
    json_t *line = json_object();
    json_object_set_new(line, "kind", json_string(x->kind));
    json_object_set_new(line, "label", json_string(x->label));
    json_object_set_new(line, "t", json_integer(x->t));
    const char *const names[] = {"feature", "score", "mean", "mean_all"};
    const float *const arrays[] = {NULL, x->score, x->mean, x->mean_all};
    for (int a = 0; a < 4; a++) {
        json_t *list = json_array();
        for (int j = 0; j < x->count; j++)
            json_array_append_new(list, a ? json_real((double)arrays[a][j]) : json_integer(x->feature[j]));
        json_object_set_new(line, names[a], list);
    }
    json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', f);
    json_decref(line);
}

static int write_entry(void *context, const RankEntry *entry, Err *e)
{
    Run *r = context;
    if (r->table.file)
        print_rows(r->table.file, entry);
    if (r->json.file)
        print_json(r->json.file, entry);
    if (!r->out)
        return 0;
    Record rec;
    rank_record(&rec, entry);
    int failed = stream_write(r->out, &rec, e);
    record_clear(&rec);
    return failed;
}

static int write_result(Run *r, Err *e)
{
    const RankStats *stats = rank_feed_stats(r->feed);
    if (r->cfg->statistics)
        return rank_stats_write(stats, r->out, e);
    if (r->table.file)
        fputs("kind\tlabel\tt\trank\tfeature\tscore\tmean\tmean_all\n", r->table.file);
    return rank_stats_rank(stats, (ScoreKind)score_parse(r->cfg->score), rank_feed_assigned(r->feed), top_kept(r),
                           write_entry, r, e);
}

static int finish(Run *r, Err *e)
{
    return text_finish_file(&r->table, e) || text_finish_file(&r->json, e) || (r->out && stream_finish(r->out, e))
        || text_finish(&r->table, e) || text_finish(&r->json, e) ? -1 : 0;
}

static void check_usage(const Config *cfg)
{
    if (cfg->top < -1)
        cli_misuse(&cli, "--top must be 0 or more, or -1");
    if (cfg->table && cfg->json && strcmp(cfg->table, "-") == 0 && strcmp(cfg->json, "-") == 0)
        cli_misuse(&cli, "--table and --json cannot both be standard output");
    if (cfg->by.count > RANK_KINDS)
        cli_misuse(&cli, "--by is given %d times; at most %d kinds of label are ranked", cfg->by.count, RANK_KINDS);
    static const char *const fixed[] = {"by", "hook", "half"}, *const of_ranks[] = {"top", "score", "table", "json"};
    for (int i = 0; i < 3 && cfg->merge; i++)
        if (cli_given(&cli, fixed[i]))
            cli_misuse(&cli, "--%s is fixed in the statistics that --merge adds up", fixed[i]);
    for (int i = 0; i < 4 && cfg->statistics; i++)
        if (cli_given(&cli, of_ranks[i]))
            cli_misuse(&cli, "--statistics writes no ranks: --%s goes with --merge", of_ranks[i]);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg);

    const RankFeedOptions o = {.sae = cfg.sae, .hook = cfg.hook, .half = cfg.half, .kinds = cfg.by.items,
                               .kind_count = cfg.by.count, .type = F32};
    int failed = compute_backend(&cfg.c, &e)
              || rank_feed_create(&r.feed, &o, &e)
              || read_inputs(&r, &e)
              || open_outputs(&r, &e)
              || write_result(&r, &e)
              || finish(&r, &e);

    progress_end(r.progress);
    text_abandon(&r.table);
    text_abandon(&r.json);
    stream_abandon(r.out);
    rank_feed_free(r.feed);
    return failed ? cli_report(&cli, &e) : 0;
}
