/* SPDX-License-Identifier: MIT */
/* sae-eval.c -- how well an autoencoder stands for activations: a table, whole and by timestep, concept or any other
 * field. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/tame.h"
#include "formats/text_out.h"
#include "src/cli/cli.h"
#include "src/cli/compute.h"
#include "src/models/model.h"
#include "src/models/sae_metrics.h"
#include "src/models/sae_stream.h"

typedef struct Config {
    Common c;
    const char *sae, *hook, *half, *by;
    int json, features, density;
} Config;

static const Opt options[] = {
    {'s', "sae", OPT_STR, offsetof(Config, sae), NULL, "DIR  autoencoder, as sae-fit or SAeUron wrote it",
     OPT_REQUIRED},
    {0, "by", OPT_STR, offsetof(Config, by), NULL,
     "FIELD  each value of this field by itself too: t, step, half, concept, theme, ...; records without it are a "
     "line of no name", 0},
    {0, "features", OPT_FLAG, offsetof(Config, features), NULL,
     "a line for each feature instead: feature, tokens, density, mean", 0},
    {0, "density", OPT_FLAG, offsetof(Config, density), NULL,
     "a histogram instead: features by log10 of their density", 0},
    {0, "json", OPT_FLAG, offsetof(Config, json), NULL, "lines of JSON instead of a table", 0},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  module whose activations are measured (default: the autoencoder's)", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance to measure", 0},
    {0, "dtype", OPT_STR, offsetof(Config, c.dtype), "f32",
     "auto|f32|bf16  type of the encoder's product; auto: bf16 where the processor has it", 0},
    OUTPUT_OPTIONS, COMPUTE_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-eval", "Measure an autoencoder on activations.", options, "[FILE...]",
    "Reads activation streams and writes a tab-separated table, first over all tokens, then for each value of --by. "
    "Columns, with x a token, x' its reconstruction, e = x - x', mean and var over the line's tokens:\n"
    "fvu = sum |e|^2 / sum |x - mean|^2, the fraction of variance unexplained. ev = 1 - sum_d var(e_d) / sum_d "
    "var(x_d). mse = mean of e_d^2. cosine = mean of x.x' / (|x| |x'|), 0 where x' is 0, and norm_ratio = mean of "
    "|x'| / |x|, both over the tokens that have a length: x of 0 has no direction. l0 = mean number of kept values "
    "above 0. dead = share of the features never kept. density_median, density_max = over the features that were "
    "kept, the share of tokens that they are kept in. dead_1e4, dead_1e6, dead_1e7 = share of the features not kept "
    "in any of the line's first 10,000, 1 M and 10 M tokens. - (in JSON null) where it has fewer, for fvu and ev "
    "where all tokens are the same, and for cosine and norm_ratio where all are 0.\n"
    "A dead share falls as tokens come: compare it at the same number of tokens, mixed from as many pictures. A "
    "stream of sd-sample-hooked has its tokens picture by picture, and the first 10,000 are of few pictures.\n"
    "With --features: tokens that it is kept in, their share, and the mean of its value in them; with --by the value "
    "of the field stands before them.\n"
    "With --density: log10_density, the lower end of a bin half a decade wide, or -inf for the features never kept; "
    "the features in it; a bar. JSON lines have the same as density_log10, with all bins from -8 to 0.\n"
    "Memory: one record, and 16 bytes a feature for each line.",
    "sae-eval --sae sae/ --by t acts.mpk.zst\n"
    "# the ten features kept most often\n"
    "sae-eval --sae sae/ --features acts.mpk.zst | sort -k2,2nr | head\n"
    "# how often features are kept, at a glance\n"
    "sae-eval --sae sae/ --density acts.mpk.zst"
};

static int measure(SaeStream *s, const char *by, Metrics *m, Progress *p, Err *e)
{
    int got;
    bool there = false;
    long long records = 0;
    for (; (got = sae_stream_next(s, true, e)) == 1; progress_set(p, ++records)) {
        char *name = by ? record_label(s->act.rec->fields, by) : NULL;
        if (by && !name)
            return err_set(e, "out of memory");
        there |= by && *name;
        const int failed = metrics_add(m, name, s->x, s->y, s->a, s->i, s->N, e);
        free(name);
        if (failed)
            return -1;
    }
    return got || !by || there || !records ? got
         : err_set(e, "%s: no record has a field %s to group by", stream_name(activations_stream(s->in)), by);
}

/* The table's columns after name and tokens, which are the JSON lines' keys too; NaN is - or null. */
static const struct { const char *name, *format; size_t at; } columns[] = {
    {"fvu", "\t%.6f", offsetof(Figures, fvu)},
    {"ev", "\t%.6f", offsetof(Figures, ev)},
    {"mse", "\t%.6g", offsetof(Figures, mse)},
    {"cosine", "\t%.6f", offsetof(Figures, cosine)},
    {"norm_ratio", "\t%.6f", offsetof(Figures, norm_ratio)},
    {"l0", "\t%.4f", offsetof(Figures, l0)},
    {"dead", "\t%.6f", offsetof(Figures, dead)},
    {"density_median", "\t%.6g", offsetof(Figures, density_median)},
    {"density_max", "\t%.6g", offsetof(Figures, density_max)},
    {"dead_1e4", "\t%.6f", offsetof(Figures, dead_at[0])},
    {"dead_1e6", "\t%.6f", offsetof(Figures, dead_at[1])},
    {"dead_1e7", "\t%.6f", offsetof(Figures, dead_at[2])},
};
enum { COLUMNS = sizeof columns/sizeof *columns };

static double column(const Figures *v, int c) { return *(const double *)((const char *)v + columns[c].at); }

static int print_json(FILE *f, const Group *group, const Figures *v, const char *by, Err *e)
{
    json_t *line = json_pack("{s:s, s:I}", by, group->name, "tokens", (json_int_t)group->tokens);
    json_t *bins = json_array();
    if (!line || !bins) {
        json_decref(line);
        json_decref(bins);
        return err_set(e, "%s: cannot be written as JSON", group->name);
    }
    for (int c = 0; c < COLUMNS; c++)
        json_object_set_new(line, columns[c].name, json_real_or_null(column(v, c)));
    for (int b = 0; b < DENSITY_BINS; b++)
        json_array_append_new(bins, json_integer(v->density[b]));
    json_object_set_new(line, "density_log10",
                        json_pack("{s:i, s:f, s:o}", "from", DENSITY_LOWEST, "width", 0.5, "features", bins));
    json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', f);
    json_decref(line);
    return 0;
}

static void print_row(FILE *f, const Group *group, const Figures *v)
{
    tame_print(f, group->name, ' ');
    fprintf(f, "\t%lld", (long long)group->tokens);
    for (int c = 0; c < COLUMNS; c++)
        if (isnan(column(v, c)))
            fputs("\t-", f);
        else
            fprintf(f, columns[c].format, column(v, c));
    fputc('\n', f);
}

/* The bins from the lowest that has features to the highest, after those of density 0; the longest bar has 50 marks. */
static void print_density(FILE *f, const Group *group, const Figures *v, int F)
{
    static const char marks[] = "##################################################";
    int dead = F, first = DENSITY_BINS, last = -1;
    for (int b = 0; b < DENSITY_BINS; b++)
        if (v->density[b]) {
            dead -= v->density[b];
            first = first < b ? first : b;
            last = b;
        }
    int most = dead;
    for (int b = first; b <= last; b++)
        most = most > v->density[b] ? most : v->density[b];
    tame_print(f, group->name, ' ');
    fprintf(f, "\t-inf\t%d\t%.*s\n", dead, (int)(50LL*dead/most), marks);
    for (int b = first; b <= last; b++) {
        tame_print(f, group->name, ' ');
        fprintf(f, "\t%.1f\t%d\t%.*s\n", DENSITY_LOWEST + b/2.0, v->density[b], (int)(50LL*v->density[b]/most),
                marks);
    }
}

static int print_groups(FILE *f, const Metrics *m, const Config *cfg, Err *e)
{
    const char *group_by = cfg->by ? cfg->by : "group";
    if (cfg->density && !cfg->json)
        fprintf(f, "%s\tlog10_density\tfeatures\tbar\n", group_by);
    else if (!cfg->json) {
        fprintf(f, "%s\ttokens", group_by);
        for (int c = 0; c < COLUMNS; c++)
            fprintf(f, "\t%s", columns[c].name);
        fputc('\n', f);
    }
    for (int g = 0; g < m->count; g++) {
        const Group *group = &m->group[g];
        Figures v;
        if (group_figures(m, group, &v, e) || (cfg->json && print_json(f, group, &v, group_by, e)))
            return -1;
        if (cfg->density && !cfg->json)
            print_density(f, group, &v, m->F);
        else if (!cfg->json)
            print_row(f, group, &v);
    }
    return 0;
}

/* The group's own beginning of each of its lines, as JSON or in the table's first column; NULL: out of memory. */
static char *feature_prefix(const Config *cfg, const Group *group)
{
    char *text = NULL;
    if (!cfg->by)
        return strdup(cfg->json ? "{" : "");
    if (!cfg->json) {
        if ((text = malloc(strlen(group->name) + 2))) {
            tame_text(strcpy(text, group->name), ' ');
            strcat(text, "\t");
        }
        return text;
    }
    json_t *field = json_pack("{s:s}", cfg->by, group->name);
    if ((text = json_dumps(field, JSON_COMPACT)))
        text[strlen(text) - 1] = ',';               /* for its closing brace */
    json_decref(field);
    return text;
}

static int print_features(FILE *f, const Metrics *m, const Config *cfg, Err *e)
{
    if (!cfg->json)
        fprintf(f, "%s%sfeature\ttokens\tdensity\tmean\n", cfg->by ? cfg->by : "", cfg->by ? "\t" : "");
    for (int g = 0; g < (cfg->by ? m->count : 1); g++) {
        const Group *group = &m->group[g];
        char *prefix = feature_prefix(cfg, group);
        if (!prefix)
            return err_set(e, "%s: out of memory for its features", group->name);
        for (int j = 0; j < m->F; j++) {
            const double n = (double)group->fired[j];
            fprintf(f, cfg->json ? "%s\"feature\":%d,\"tokens\":%lld,\"density\":%.6g,\"mean\":%.6g}\n"
                                 : "%s%d\t%lld\t%.6g\t%.6g\n", prefix, j,
                    (long long)group->fired[j], n/(double)group->tokens, n > 0 ? group->value[j]/n : 0);
        }
        free(prefix);
    }
    return 0;
}

static int print(const Config *cfg, const Metrics *m, TextOut *out, Err *e)
{
    return (cfg->features ? print_features : print_groups)(out->file, m, cfg, e) || text_finish(out, e);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    SaeStream s = {0};
    Metrics m = {0};
    TextOut out = {0};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.features && cfg.density)
        cli_misuse(&cli, "--features and --density are two tables: give one of them");
    SaeStreamOptions o = {.sae = cfg.sae, .paths = cfg.c.inputs.items, .path_count = cfg.c.inputs.count,
                          .hook = cfg.hook, .half = cfg.half};

    int failed = compute_backend(&cfg.c, &e)
              || model_dtype(&o.type, cfg.c.dtype, &e)
              || sae_stream_open(&s, &o, &e)
              || metrics_create(&m, s.sae->D, s.sae->F, s.sae->K, &e)
              || text_open(&out, cfg.c.output, &e);
    if (!failed) {
        Progress *p = progress_start(&cli, "records", 0);
        failed = measure(&s, cfg.by, &m, p, &e);
        progress_end(p);
    }
    if (!failed) {
        metrics_sort(&m);
        failed = print(&cfg, &m, &out, &e);
    }
    text_abandon(&out);
    metrics_free(&m);
    sae_stream_close(&s);
    return failed ? cli_report(&cli, &e) : 0;
}
