/* SPDX-License-Identifier: MIT */
/* sae-name-features.c -- names features by text, from the pictures that they are active in. */
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "formats/text_out.h"
#include "src/cli/compute.h"
#include "src/models/model.h"
#include "src/models/name_table.h"
#include "src/models/naming.h"
#include "src/models/sae.h"
#include "src/models/sampler.h"

typedef struct Config {
    Common c;
    const char *texts, *half, *at;
    List embeddings, features;
    int64_t top, min;
    int json;
} Config;

static const Opt options[] = {
    {0, "embeddings", OPT_LIST, offsetof(Config, embeddings), NULL,
     "FILE  embeddings of the pictures (sd-encode-image), found by their ids; again for more", OPT_REQUIRED},
    {0, "texts", OPT_STR, offsetof(Config, texts), NULL,
     "FILE  names to choose from: a word or a sentence a line, or JSON lines as sd-evaluate takes them", OPT_REQUIRED},
    {0, "top", OPT_INT, offsetof(Config, top), "3", "N  best texts of each feature; 0: all", 0},
    {0, "min", OPT_INT, offsetof(Config, min), "1", "N  leave out features that are active in fewer pictures", 0},
    {0, "feature", OPT_LIST, offsetof(Config, features), NULL, "I  a feature to name; again for more (default: all)",
     0},
    {0, "at", OPT_STR, offsetof(Config, at), "", "HIGH-LOW  only features at these timesteps; default: all", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance that count", 0},
    {0, "json", OPT_FLAG, offsetof(Config, json), NULL, "a JSON object a feature instead of a table", 0},
    MODEL_OPTIONS, COMPUTE_OPTIONS, OUTPUT_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-name-features", "Name the features of a sparse autoencoder by text, without labels.", options, "[FILE...]",
    "Reads features (sae-encode), several streams one after the other, the embeddings of the pictures that were drawn "
    "meanwhile, and texts, which the model's CLIP encodes. A feature's direction is the mean of the pictures' "
    "embeddings (of length 1), each token of a picture weighing by the feature's activation there, less the mean in "
    "which all tokens weigh alike: what its pictures have beyond all pictures. A text's direction is its embedding of "
    "length 1 less the mean of all texts. The score is the cosine of the two, -1 to 1: it says which of these texts "
    "fits best and, where it is low, that none does.\n"
    "The table has a row a feature and text, tab-separated: feature; pictures that it is active in; density, the share "
    "of the tokens where it is; place, 1 for the text of the highest score; score; kind; text. Features that are never "
    "active, or in all pictures alike, have none.\n"
    "--texts: a line like {\"prompt\":\"A fish.\",\"concept\":\"Fishes\"}, {\"prompt\":\"A picture in Rust "
    "style.\",\"theme\":\"Rust\"} or {\"prompt\":\"Snow.\",\"kind\":\"weather\",\"label\":\"Snow\"} is shown as that "
    "kind and label, and several of a label are averaged; any other line is shown as its text, kind -. Two or more are "
    "needed, and since scores are against their mean, texts of many subjects are better than a few of one.\n"
    "Sums are kept in integers, so that the order of records and files plays no part. Memory: 4 bytes a value of each "
    "picture's embedding and its id, 44 bytes a feature, 9 KB each --feature, and of each feature that is active and "
    "asked for 8 bytes a value of an embedding and a bit a picture; 12 bytes a value of each label's embedding.",
    "# pictures, what the model computes meanwhile, an autoencoder of it, and words to choose from\n"
    "sd-assemble-prompts -n 1 > prompts.jsonl\n"
    "sd-encode-text prompts.jsonl |\n"
    "  sd-sample-hooked --hook up_blocks.0.attentions.1 --images pictures.mpk.zst -o acts.mpk.zst\n"
    "sae-fit -k 16 --features 512 --tokens 500K -o sae/ acts.mpk.zst\n"
    "jq -r '.concept, .theme // empty' prompts.jsonl | sort -u > words.txt\n"
    "# what every feature is about\n"
    "sd-encode-image pictures.mpk.zst -o emb.mpk.zst\n"
    "sae-encode --sae sae/ acts.mpk.zst -o features.mpk.zst\n"
    "sae-name-features --embeddings emb.mpk.zst --texts words.txt features.mpk.zst > names.tsv\n"
    "awk -F '\\t' '$4 == 1 && $5 > 0.8' names.tsv\n"
    "# which features are about fish?\n"
    "sae-name-features --embeddings emb.mpk.zst --texts words.txt --top 0 features.mpk.zst |\n"
    "  awk -F '\\t' '$7 == \"Fishes\"' | sort -t \"$(printf '\\t')\" -k 5,5gr | head"
};

typedef struct Run {
    const Config *cfg;
    LabelTexts *texts;
    Naming *naming;
    Tally *tally;
    int *feature;                   /* asked for, each once */
    int count;
    TRange when;
    TextOut out;
    int top;                        /* texts shown of each feature */
    Score *best;                    /* scratch [top] */
    NameRow *row;
    Progress *progress;
} Run;

static void on_record(void *context, long long records)
{
    progress_set(context, records);
}

static int parse_features(Run *r, Err *e)
{
    const List *list = &r->cfg->features;
    if (!(r->feature = malloc(sizeof *r->feature*((size_t)list->count + 1))))
        return err_set(e, "out of memory");
    for (int i = 0; i < list->count; i++) {
        int64_t f;
        int k = 0;
        if (number_count(list->items[i], &f) || f < 0 || f >= SAE_MAX_FEATURES)
            return err_misuse(e, "--feature '%s' is no feature's number", list->items[i]);
        while (k < r->count && r->feature[k] != f)
            k++;
        r->feature[k] = (int)f;
        r->count += k == r->count;
    }
    return 0;
}

static int read_embeddings(Run *r, const char *model, Err *e)
{
    const List *list = &r->cfg->embeddings;
    char clip[4200], id[128];
    snprintf(clip, sizeof clip, "%.4096s/clip", model);
    int failed = model_id(id, clip, e);
    for (int i = 0; i < list->count && !failed; i++) {
        StreamIn *in = NULL;
        failed = stream_open_kind(&in, list->items[i], "embeddings", e) || naming_embeddings(r->naming, in, id, e);
        stream_close(in);
    }
    return failed;
}

static int open_all(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    Compute compute = {0};
    if (compute_start(&compute, &cfg->c, e)
        || label_texts_load(&r->texts, cfg->texts, compute.model, compute.type, true, e)
        || naming_create(&r->naming, r->texts, e)
        || read_embeddings(r, compute.model, e))
        return -1;
    const TallyOptions o = {.feature = r->feature, .count = r->count, .half = cfg->half, .when = r->when,
                            .record = naming_record, .context = r->naming};
    r->top = cfg->top && cfg->top < r->texts->count ? (int)cfg->top : r->texts->count;
    r->best = malloc(sizeof *r->best*(size_t)r->top);
    r->row = malloc(sizeof *r->row*(size_t)r->top);
    if (!r->best || !r->row)
        return err_set(e, "out of memory");
    return tally_create(&r->tally, &o, e) || text_open(&r->out, cfg->c.output, e) ? -1 : 0;
}

static int read_features(Run *r, Err *e)
{
    int failed = 0;
    r->progress = progress_start(&cli, "records", 0);
    for (int i = 0; i < cli_input_count(&r->cfg->c) && !failed; i++) {
        StreamIn *in = NULL;
        failed = stream_open_kind(&in, cli_input(&r->cfg->c, i), "features", e)
              || tally_stream(r->tally, in, on_record, r->progress, e);
        stream_close(in);
    }
    return failed ? -1 : tally_finish(r->tally, e) || naming_finish(r->naming, e) ? -1 : 0;
}

static void print_json(FILE *f, const NameRow *row, int count)
{
    json_t *names = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(names, json_pack("{ss ss sf}", "kind", row[i].kind, "text", row[i].text, "score",
                                               row[i].score));
    json_t *line = json_pack("{si sI sf so}", "feature", row->feature, "pictures", (json_int_t)row->pictures, "density",
                             row->density, "names", names);
    json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', f);
    json_decref(line);
}

static void print_all(Run *r)
{
    const Tally *y = r->tally;
    NameRow *row = r->row;
    if (!r->cfg->json)
        name_table_print_columns(r->out.file);
    for (int f = 0; f < y->F; f++) {
        const long pictures = naming_pictures(r->naming, f);
        const int count = pictures < r->cfg->min ? 0 : naming_best(r->naming, f, r->best, r->top);
        for (int i = 0; i < count; i++) {
            const LabelText *text = &r->texts->text[r->best[i].text];
            row[i] = (NameRow){f, i + 1, pictures, (double)y->active[f]/(double)y->tokens, r->best[i].score, text->kind,
                               text->label};
            if (!r->cfg->json)
                name_table_print(r->out.file, &row[i]);
        }
        if (r->cfg->json && count)
            print_json(r->out.file, row, count);
    }
}

static bool is_input(const char *path)
{
    return strcmp(path, "-") == 0;
}

/* Of the texts, the embeddings and the features one at most is standard input. */
static void check_usage(const Config *cfg)
{
    int from_input = is_input(cfg->texts) + !cfg->c.inputs.count;
    for (int i = 0; i < cfg->embeddings.count; i++)
        from_input += is_input(cfg->embeddings.items[i]);
    for (int i = 0; i < cfg->c.inputs.count; i++)
        from_input += is_input(cfg->c.inputs.items[i]);
    if (from_input > 1)
        cli_misuse(&cli, "standard input is read once: of features, --embeddings and --texts all but one are files");
    if (cfg->top < 0 || cfg->min < 0)
        cli_misuse(&cli, "--top and --min must be 0 or more");
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg);

    int failed = parse_features(&r, &e)
              || t_range_parse(&r.when, "--at", cfg.at, &e)
              || open_all(&r, &e)
              || read_features(&r, &e);
    if (!failed) {
        print_all(&r);
        failed = text_finish(&r.out, &e);
    }

    progress_end(r.progress);
    text_abandon(&r.out);
    tally_free(r.tally);
    naming_free(r.naming);
    label_texts_free(r.texts);
    free(r.feature);
    free(r.best);
    free(r.row);
    return failed ? cli_report(&cli, &e) : 0;
}
