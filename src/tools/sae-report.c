/* SPDX-License-Identifier: MIT */
/* sae-report.c -- one HTML page of an autoencoder, its features, their ranks and pictures. */
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "formats/text_out.h"
#include "kernels/op.h"
#include "src/cli/cli.h"
#include "src/models/model.h"
#include "src/models/report.h"
#include "src/models/sampler.h"

typedef struct Config {
    Common c;
    const char *sae, *log, *ranks, *names, *half, *at, *title, *json;
    List features, images, icons, steered;
    int64_t top, pictures, side, limit;
} Config;

static const Opt options[] = {
    {'s', "sae", OPT_STR, offsetof(Config, sae), NULL, "DIR  autoencoder, as sae-fit or SAeUron wrote it", OPT_NEUTRAL},
    {0, "log", OPT_STR, offsetof(Config, log), NULL, "FILE  its training, as sae-fit --log wrote it", OPT_NEUTRAL},
    {0, "ranks", OPT_STR, offsetof(Config, ranks), NULL, "FILE  ranks of its features (sae-rank-concepts)",
     OPT_NEUTRAL},
    {0, "names", OPT_STR, offsetof(Config, names), NULL, "FILE  names of its features (sae-name-features, the table)",
     OPT_NEUTRAL},
    {0, "images", OPT_LIST, offsetof(Config, images), NULL,
     "FILE|DIR  pictures that the features were active in, found by their ids; again for more", OPT_NEUTRAL},
    {0, "icons", OPT_LIST, offsetof(Config, icons), NULL,
     "FILE|DIR  what features draw by themselves (sd-steer --mode only --sweep feature=I=VALUE,...); again for more",
     OPT_NEUTRAL},
    {0, "steered", OPT_LIST, offsetof(Config, steered), NULL,
     "FILE|DIR  steered and unsteered pictures (sd-steer); again for more", OPT_NEUTRAL},
    {0, "feature", OPT_LIST, offsetof(Config, features), NULL, "I  a feature to show; again for more", 0},
    {0, "top", OPT_INT, offsetof(Config, top), "3", "N  features shown of each label of the ranks", 0},
    {0, "pictures", OPT_INT, offsetof(Config, pictures), "6", "N  pictures shown of each feature and steering", 0},
    {0, "at", OPT_STR, offsetof(Config, at), "",
     "HIGH-LOW  only ranks and features at these timesteps; default: all", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance that count", 0},
    {0, "side", OPT_INT, offsetof(Config, side), "160", "PIXELS  longer side of a picture in the page, at most", 0},
    {0, "limit", OPT_INT, offsetof(Config, limit), "24M",
     "BYTES  of pictures in the page; those after them are left out", 0},
    {0, "title", OPT_STR, offsetof(Config, title), NULL, "TEXT  of the page", 0},
    {0, "json", OPT_STR, offsetof(Config, json), NULL, "FILE  the same figures as JSON; - is standard output",
     OPT_NEUTRAL},
    OUTPUT_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-report", "Write one HTML page of a sparse autoencoder: training, concepts, features, steered pictures.",
    options, "[FILE...]",
    "Reads features (sae-encode), one stream after the other, - being standard input, and shows what is given of all "
    "the rest: the autoencoder and what it was trained on; the curves of its training; for each label the features "
    "that lead its ranks; of these features, and of each --feature, how often and how strongly they are active, by "
    "timestep, their --names, what they draw by themselves, and the pictures in which they are strongest, each under "
    "its heat map; steered pictures beside the unsteered ones. Without FILE no features are read.\n"
    "The page needs no network, no scripts and no other file. A picture is shown once for each id, at the timestep "
    "where the feature's largest value is. Without --images the heat maps stand alone; where the activations are a "
    "sample of the tokens (sd-sample-hooked --tokens) there are none. Of each steering as many pictures of the steered "
    "label are shown as of others, where there are. The order of records and files plays no part in what is shown.\n"
    "Memory: the ranks, 24 bytes a feature, 9 KB and the heat maps of each feature shown, and a small copy of each "
    "picture shown and of each unsteered one.\n"
    "With --json - that text is what standard output gets; the page is written too where -o names a file.",
    "# a page, with pictures that sd-sample-hooked --images and sd-steer left in folders\n"
    "sae-report --sae sae/ --ranks ranks.mpk.zst --images drawn/ --steered out/ -o page.html features.mpk.zst\n"
    "# what the leading features draw by themselves, for --icons\n"
    "list=$(sae-report --ranks ranks.mpk.zst --top 1 --json - features.mpk.zst |\n"
    "  jq -r '[.features.shown[] | select(.mean) | \"\\(.feature)=\\(2 * .mean)\"] | join(\",\")')\n"
    "echo '{\"id\":\"icon\",\"prompt\":\"\"}' | sd-encode-text |\n"
    "  sd-steer --sae sae/ --mode only --half cond --guidance 8 --sweep feature=$list -o icons/\n"
    "# how training went\n"
    "sae-report --sae sae/ --log fit.jsonl -o page.html\n"
    "# the figures of two features\n"
    "sae-report --feature 12 --feature 40 --json - features.mpk.zst"
};

typedef struct Run {
    const Config *cfg;
    Report r;
    Sae *sae;
    TRange when;
    int *feature;                   /* to be shown: those asked for, then those that lead a label */
    int count;
    Progress *progress;
    TextOut page, json;
} Run;

static void on_record(void *context, long long records)
{
    progress_set(context, records);
}

/* ---- what is given ---- */

static int load_sae(Run *x, Err *e)
{
    const Config *cfg = x->cfg;
    if (!cfg->sae)
        return 0;
    if (backend_pick("cpu", 0, e) || sae_load(&x->sae, cfg->sae, e))
        return -1;
    x->r.sae = x->sae;
    x->r.folder = cfg->sae;
    return 0;
}

static int load_ranks(Run *x, Err *e)
{
    const Config *cfg = x->cfg;
    if (!cfg->ranks)
        return 0;
    if (ranks_load(&x->r.ranks, cfg->ranks, e))
        return -1;
    const char *id = ranks_sae(x->r.ranks);
    if (x->sae && *id && !folder_same(id, x->sae->id))
        return err_set(e, "%s: these ranks were made with the autoencoder %s, --sae is %s", ranks_path(x->r.ranks), id,
                       x->sae->id);
    return leads_build(&x->r.leads, x->r.ranks, (int)cfg->top, x->when, e);
}

static int choose_features(Run *x, Err *e)
{
    const List *asked = &x->cfg->features;
    const int F = x->sae ? x->sae->F : x->r.ranks ? ranks_features(x->r.ranks) : INT32_MAX;
    x->feature = malloc(sizeof *x->feature*((size_t)asked->count + (size_t)x->r.leads.features + 1));
    if (!x->feature)
        return err_set(e, "out of memory");
    for (int i = 0; i < asked->count + x->r.leads.features; i++) {
        int64_t f = i < asked->count ? 0 : x->r.leads.feature[i - asked->count];
        if (i < asked->count && (number_count(asked->items[i], &f) || f < 0 || f >= F))
            cli_misuse(&cli, "--feature '%s': expected 0 to %d", asked->items[i], F - 1);
        int k = 0;
        while (k < x->count && x->feature[k] != f)
            k++;
        x->feature[k] = (int)f;
        x->count += k == x->count;
    }
    return 0;
}

static int read_features(Run *x, Err *e)
{
    const Config *cfg = x->cfg;
    const char *id = x->sae ? x->sae->id : x->r.ranks && *ranks_sae(x->r.ranks) ? ranks_sae(x->r.ranks) : NULL;
    const TallyOptions o = {.feature = x->feature, .count = x->count, .pictures = (int)cfg->pictures, .half = cfg->half,
                            .when = x->when, .sae = id};
    if (!cfg->c.inputs.count)
        return 0;
    int failed = tally_create(&x->r.tally, &o, e);
    x->progress = progress_start(&cli, "records", 0);
    for (int i = 0; i < cfg->c.inputs.count && !failed; i++) {
        StreamIn *in = NULL;
        failed = stream_open_kind(&in, cfg->c.inputs.items[i], "features", e)
              || tally_stream(x->r.tally, in, on_record, x->progress, e);
        stream_close(in);
    }
    progress_end(x->progress);
    x->progress = NULL;
    return failed ? -1 : tally_finish(x->r.tally, e);
}

static int read_images(Run *x, Err *e)
{
    const List *images = &x->cfg->images;
    long asked = 0, found = 0;
    if (images->count && report_read_images(&x->r, images->items, images->count, &asked, &found, e))
        return -1;
    if (images->count && found < asked)
        cli_note(&cli, "--images: %ld of %ld pictures asked for are there, by their ids", found, asked);
    return 0;
}

static int read_icons(Run *x, Err *e)
{
    const List *icons = &x->cfg->icons;
    long found = 0;
    if (icons->count && report_read_icons(&x->r, icons->items, icons->count, &found, e))
        return -1;
    if (icons->count && found < x->count)
        cli_note(&cli, "--icons: %ld of %d features are there by themselves", found, x->count);
    return 0;
}

static int read_steered(Run *x, Err *e)
{
    const List *steered = &x->cfg->steered;
    return steered->count ? report_read_steered(&x->r, steered->items, steered->count, (int)x->cfg->pictures, e) : 0;
}

/* ---- what comes out ---- */

static int write_all(Run *x, Err *e)
{
    const Config *cfg = x->cfg;
    const bool text_only = strcmp(cfg->c.output, "-") == 0 && cfg->json && strcmp(cfg->json, "-") == 0;
    json_t *json = NULL;
    if (text_open(&x->json, cfg->json, e) || text_open(&x->page, text_only ? NULL : cfg->c.output, e))
        return -1;
    report_plan(&x->r);
    if (x->page.file && report_page(x->page.file, &x->r, e))
        return -1;
    if (x->json.file) {
        if (!(json = report_json(&x->r, e)))
            return -1;
        json_dumpf(json, x->json.file, JSON_COMPACT | JSON_REAL_PRECISION(9));
        fputc('\n', x->json.file);
        json_decref(json);
    }
    if (x->r.thumbs.left_out)
        cli_note(&cli, "%ld pictures are left out: the page has room for %zu bytes of them (--limit)",
                 x->r.thumbs.left_out, x->r.thumbs.limit);
    return text_finish_file(&x->json, e) || text_finish(&x->page, e) || text_finish(&x->json, e) ? -1 : 0;
}

static void check_usage(const Config *cfg)
{
    if (cfg->top < 1 || cfg->top > 1000 || cfg->pictures < 1 || cfg->pictures > 1000)
        cli_misuse(&cli, "--top and --pictures must be 1 to 1000");
    if (cfg->side < 16 || cfg->side > 2048 || cfg->limit < 0)
        cli_misuse(&cli, "--side must be 16 to 2048, --limit 0 or more");
    if (!cfg->sae && !cfg->log && !cfg->ranks && !cfg->steered.count && !cfg->c.inputs.count)
        cli_misuse(&cli, "there is nothing to show: give --sae, --log, --ranks, --steered, or a stream of features");
    if ((cfg->images.count || cfg->icons.count || cfg->features.count || cfg->names) && !cfg->c.inputs.count)
        cli_misuse(&cli, "--images, --icons, --feature and --names go with a stream of features, and there is none; - "
                   "is standard input");
}

static void release(Run *x)
{
    progress_end(x->progress);
    text_abandon(&x->page);
    text_abandon(&x->json);
    pairs_free(&x->r.pairs);
    thumbs_free(&x->r.thumbs);
    report_free_icons(&x->r);
    tally_free(x->r.tally);
    leads_free(&x->r.leads);
    ranks_free(x->r.ranks);
    name_table_free(&x->r.names);
    curves_free(&x->r.curves);
    sae_free(x->sae);
    json_decref(x->r.step);
    free(x->feature);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run x = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg);
    x.r.title = cfg.title;
    x.r.step = cli_provenance(&cli);
    x.r.thumbs = (Thumbs){.side = (int)cfg.side, .limit = (size_t)cfg.limit};

    int failed = t_range_parse(&x.when, "--at", cfg.at, &e)
              || load_sae(&x, &e)
              || (cfg.log ? curves_load(&x.r.curves, cfg.log, x.sae && *x.sae->hook ? x.sae->hook : NULL, &e) : 0)
              || load_ranks(&x, &e)
              || (cfg.names ? name_table_load(&x.r.names, cfg.names, &e) : 0)
              || choose_features(&x, &e)
              || read_features(&x, &e)
              || read_images(&x, &e)
              || read_icons(&x, &e)
              || read_steered(&x, &e)
              || write_all(&x, &e);

    release(&x);
    return failed ? cli_report(&cli, &e) : 0;
}
