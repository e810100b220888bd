/* SPDX-License-Identifier: MIT */
/* fit_grid.c -- what each autoencoder of a fit is to be: the options, and the product of --grid's axes over them. */
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "src/cli/fit.h"
#include "src/models/model.h"
#include "src/models/sae_shards.h"

enum { CELLS_MAX = 256 };

/* ---- values ---- */

typedef struct Range { const char *name; double low, high; bool whole; } Range;

static const Range ranges[] = {
    {"k", 1, 1 << 16, true}, {"features", 0, SAE_MAX_FEATURES, true}, {"expansion", 1, 1 << 16, true},
    {"batch", 0, 1 << 20, true}, {"lr", 0, 1e9, false}, {"auxk", 0, 1e9, false}, {"sparsity", 0, 1e9, false},
    {"width", 0, 1e9, false}, {"assign", 0, 1e9, false}, {"decorrelate", 0, 1e9, false}, {"seed", 0, 0x1p53, true},
};

/* Puts a value where its name says; false: there is no such axis. */
static bool put(LearnerOptions *o, const char *name, double v)
{
    TrainOptions *t = &o->train;
    if (strcmp(name, "k") == 0)
        t->K = (int)v;
    else if (strcmp(name, "features") == 0)
        t->F = (int)v;
    else if (strcmp(name, "expansion") == 0) {
        o->expansion = (int64_t)v;
        t->F = 0;
    } else if (strcmp(name, "batch") == 0)
        t->batch = (int)v;
    else if (strcmp(name, "lr") == 0)
        o->rate = v;
    else if (strcmp(name, "auxk") == 0)
        t->auxk = v;
    else if (strcmp(name, "sparsity") == 0)
        t->sparsity = v;
    else if (strcmp(name, "width") == 0)
        t->width = v;
    else if (strcmp(name, "seed") == 0)
        t->seed = (uint64_t)v;
    else
        return false;
    return true;
}

/* NULL: none is known. */
static const Range *find_range(const char *name)
{
    for (size_t r = 0; r < sizeof ranges/sizeof *ranges; r++)
        if (strcmp(ranges[r].name, name) == 0)
            return &ranges[r];
    return NULL;
}

static void check_value(const Cli *cli, const char *name, double v)
{
    const Range *r = find_range(name);
    if (r && !(v >= r->low && v <= r->high))
        cli_misuse(cli, "%s %.10g: expected %s%.10g to %.10g", name, v, r->whole ? "a whole number from " : "", r->low,
                   r->high);
}

/* A value of an axis, written as the option of that name takes it. */
static double read_value(const Cli *cli, const char *name, const char *text)
{
    const Range *r = find_range(name);
    const bool whole = r && r->whole;
    int64_t count;
    double number;
    const char *wrong = whole ? number_count(text, &count) : number_real(text, &number);
    if (wrong)
        cli_misuse(cli, "--grid %s: '%s' %s", name, text, wrong);
    return whole ? (double)count : number;
}

/* ---- matryoshka's levels: "64,256,1024", or all F of it ---- */

static void read_levels(const Cli *cli, const char *text, TrainOptions *t)
{
    char *copy = text ? strdup(text) : NULL, *rest = copy, *word;
    while ((word = strsep(&rest, ","))) {
        int64_t v;
        if (number_count(word, &v) || v < 1 || v > SAE_MAX_FEATURES || t->levels == MAX_LEVELS - 1
            || (t->levels && v <= t->level[t->levels - 1]))
            cli_misuse(cli, "--levels %s: expected at most %d rising numbers of features, as 64,256,1024", text,
                       MAX_LEVELS - 1);
        t->level[t->levels++] = (int)v;
    }
    free(copy);
}

static int base_learner(LearnerOptions *o, const Cli *cli, const FitConfig *cfg, Err *e)
{
    *o = (LearnerOptions){
        .expansion = cfg->expansion, .rate = cfg->rate, .decay = cfg->decay, .warmup = cfg->warmup,
        .resample = cfg->resample,
        .train = {.F = (int)cfg->features, .K = (int)cfg->k, .multi = cfg->multi, .batch = (int)cfg->batch,
                  .auxk = cfg->auxk, .k_aux = (int)cfg->k_aux, .dead = cfg->dead,
                  .clip = cfg->clip, .sparsity = cfg->sparsity, .width = cfg->width, .assign = cfg->assign,
                  .decorrelate = cfg->decorrelate, .seed = (uint64_t)cfg->c.seed},
    };
    if (sae_variant_find(&o->train.variant, cfg->variant))
        cli_misuse(cli, "--variant %s is not known", cfg->variant);
    read_levels(cli, cfg->levels, &o->train);
    const int moments = dtype_parse(cfg->moments);
    if (moments != F32 && moments != BF16)
        cli_misuse(cli, "--moments %s: expected f32 or bf16", cfg->moments);
    o->train.moments = (DType)moments;
    return model_dtype(&o->train.type, cfg->c.dtype, e);
}

/* ---- product ---- */

static int extend(FitGrid *out, const FitCell *from, const Cli *cli, const char *name, const char *value, Err *e)
{
    FitCell cell = *from;
    if (strcmp(name, "variant") == 0) {
        if (sae_variant_find(&cell.learner.train.variant, value))
            cli_misuse(cli, "--grid variant: '%s' is not known", value);
    } else {
        const double v = read_value(cli, name, value);
        check_value(cli, name, v);
        if (!put(&cell.learner, name, v))
            cli_misuse(cli, "--grid: no axis '%s'; there are variant, k, features, expansion, batch, lr, auxk, "
                       "sparsity, width, seed", name);
    }
    const size_t n = strlen(cell.name);
    if (snprintf(cell.name + n, sizeof cell.name - n, "%s%s=%s", n ? "," : "", name, value)
        >= (int)(sizeof cell.name - n))
        return err_misuse(e, "--grid: the name %s... is too long", cell.name);
    for (int c = 0; c < out->count; c++)
        if (strcmp(out->cell[c].name, cell.name) == 0)
            cli_misuse(cli, "--grid %s: %s comes twice", name, cell.name);
    if (out->count == CELLS_MAX)
        cli_misuse(cli, "--grid: more than %d autoencoders", CELLS_MAX);
    FitCell *more = realloc(out->cell, sizeof *more*(size_t)(out->count + 1));
    if (!more)
        return err_set(e, "out of memory");
    out->cell = more;
    out->cell[out->count++] = cell;
    return 0;
}

static int multiply(FitGrid *g, const Cli *cli, const char *axis, Err *e)
{
    char *text = strdup(axis), *values = text ? strchr(text, '=') : NULL;
    FitGrid out = {0};
    int failed = text ? 0 : err_set(e, "out of memory");
    if (text && (!values || values == text || !values[1]))
        cli_misuse(cli, "--grid %s: expected NAME=V,V,...", axis);
    if (values)
        *values++ = 0;
    for (int c = 0; c < g->count && !failed; c++) {
        char *copy = strdup(values), *rest = copy, *v;
        failed = copy ? 0 : err_set(e, "out of memory");
        while (!failed && (v = strsep(&rest, ",")))
            failed = extend(&out, &g->cell[c], cli, text, v, e);
        free(copy);
    }
    free(text);
    fit_grid_free(g);
    *g = out;
    return failed;
}

static void check_cell(const Cli *cli, const FitConfig *cfg, const LearnerOptions *o)
{
    const TrainOptions *t = &o->train;
    if (t->F && t->F < t->K)
        cli_misuse(cli, "--features %d: expected -k (%d) to 16M", t->F, t->K);
    if (t->multi && t->variant != VARIANT_TOPK)
        cli_misuse(cli, "--multi is of --variant topk");
    if (t->levels && t->variant != VARIANT_MATRYOSHKA)
        cli_misuse(cli, "--levels is of --variant matryoshka");
    if (t->sparsity > 0 && t->variant != VARIANT_JUMPRELU && t->variant != VARIANT_GATED && t->variant != VARIANT_RELU)
        cli_misuse(cli, "--sparsity is of --variant jumprelu, gated and relu");
    if (t->width > 0 && t->variant != VARIANT_JUMPRELU)
        cli_misuse(cli, "--width is of --variant jumprelu");
    if (cfg->labels && (t->multi || t->variant > VARIANT_MATRYOSHKA))
        cli_misuse(cli, "--labels is of the variants that keep the largest features, without --multi");
    if (t->variant == VARIANT_SAMPLETOPK && strcmp(cfg->mix, "pictures") != 0)
        cli_misuse(cli, "--variant sampletopk keeps features by picture: give --mix pictures");
    const char *whole = shards_refuse(t) ? shards_refuse(t) : cfg->labels ? "labels" : o->resample ? "resample" : NULL;
    if (cfg->devices > 1 && whole)
        cli_misuse(cli, "--devices is of --variant topk, without --multi, --labels and --resample; here is %s", whole);
}

int fit_grid_build(FitGrid *g, const Cli *cli, const FitConfig *cfg, Team *team, Err *e)
{
    *g = (FitGrid){calloc(1, sizeof *g->cell), 1};
    if (!g->cell)
        return err_set(e, "out of memory");
    const struct { const char *name; double value; } given[] = {
        {"k", (double)cfg->k}, {"features", (double)cfg->features}, {"expansion", (double)cfg->expansion},
        {"batch", (double)cfg->batch}, {"lr", cfg->rate}, {"auxk", cfg->auxk}, {"sparsity", cfg->sparsity},
        {"width", cfg->width}, {"assign", cfg->assign}, {"decorrelate", cfg->decorrelate},
    };
    for (size_t i = 0; i < sizeof given/sizeof *given; i++)
        check_value(cli, given[i].name, given[i].value);
    if (base_learner(&g->cell[0].learner, cli, cfg, e))
        return -1;
    g->cell[0].learner.train.team = team;
    for (int i = 0; i < cfg->grid.count; i++)
        if (multiply(g, cli, cfg->grid.items[i], e))
            return -1;
    for (int c = 0; c < g->count; c++)
        check_cell(cli, cfg, &g->cell[c].learner);
    return 0;
}

void fit_grid_free(FitGrid *g)
{
    free(g->cell);
    *g = (FitGrid){0};
}
