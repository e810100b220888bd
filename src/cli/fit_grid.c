/* SPDX-License-Identifier: MIT */
/* fit_grid.c -- what each autoencoder of a fit is to be: the options, and the product of --grid's axes over them. */
#include <stdlib.h>
#include <string.h>
#include "formats/number.h"
#include "src/cli/fit.h"
#include "src/models/model.h"
#include "src/models/sae_shards.h"

enum { CELLS_MAX = 256 };

/* ---- axes: numbers of a learner, by option and by --grid ---- */

typedef enum { INT, INT64, REAL, VARIANT } AxisType;

typedef struct Axis {
    const char *name;
    AxisType type;                  /* in LearnerOptions; whole numbers are int64_t in FitConfig */
    double low, high;
    size_t option, place;           /* in FitConfig, 0: base_learner's own matter; and in LearnerOptions */
} Axis;

#define IN(member) offsetof(LearnerOptions, member)
#define BY(member) offsetof(FitConfig, member)
static const Axis axes[] = {        /* FIT_AXES has the same names */
    {"variant", VARIANT, 0, 0, 0, IN(train.variant)},
    {"k", INT, 1, 1 << 16, BY(k), IN(train.K)},
    {"features", INT, 0, SAE_MAX_FEATURES, BY(features), IN(train.F)},
    {"expansion", INT64, 1, 1 << 16, BY(expansion), IN(expansion)},
    {"batch", INT, 0, 1 << 20, BY(batch), IN(train.batch)},
    {"lr", REAL, 0, 1e9, BY(rate), IN(rate)},
    {"auxk", REAL, 0, 1e9, BY(auxk), IN(train.auxk)},
    {"sparsity", REAL, 0, 1e9, BY(sparsity), IN(train.sparsity)},
    {"width", REAL, 0, 1e9, BY(width), IN(train.width)},
    {"assign", REAL, 0, 1e9, BY(assign), IN(train.assign)},
    {"decorrelate", REAL, 0, 1e9, BY(decorrelate), IN(train.decorrelate)},
    {"seed", INT64, 0, 0x1p53, 0, IN(train.seed)},
};
enum { AXES = sizeof axes/sizeof *axes };

static const Axis *find_axis(const Cli *cli, const char *name, size_t length)
{
    for (int x = 0; x < AXES; x++)
        if (strlen(axes[x].name) == length && strncmp(axes[x].name, name, length) == 0)
            return &axes[x];
    cli_misuse(cli, "--grid: no axis '%.*s'; there are %s", (int)length, name, FIT_AXES);
}

static void put(LearnerOptions *o, const Axis *x, double v)
{
    void *place = (char *)o + x->place;
    switch (x->type) {
    case INT:     *(int *)place = (int)v; break;
    case INT64:   *(int64_t *)place = (int64_t)v; break;
    case REAL:    *(double *)place = v; break;
    case VARIANT: *(SaeVariant *)place = (SaeVariant)v; break;
    }
}

static void check_value(const Cli *cli, const Axis *x, double v)
{
    if (x->type != VARIANT && !(v >= x->low && v <= x->high))
        cli_misuse(cli, "%s %.10g: expected %s%.10g to %.10g", x->name, v,
                   x->type == REAL ? "" : "a whole number from ", x->low, x->high);
}

/* A value of an axis, written as the option of that name takes it. */
static double read_value(const Cli *cli, const Axis *x, const char *text)
{
    int64_t count = 0;
    double number = 0;
    SaeVariant variant = 0;
    const char *wrong = x->type == VARIANT ? (sae_variant_find(&variant, text) ? "is not known" : NULL)
                      : x->type == REAL ? number_real(text, &number) : number_count(text, &count);
    if (wrong)
        cli_misuse(cli, "--grid %s: '%s' %s", x->name, text, wrong);
    const double v = x->type == VARIANT ? (double)variant : x->type == REAL ? number : (double)count;
    check_value(cli, x, v);
    return v;
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
        .decay = cfg->decay, .warmup = cfg->warmup, .resample = cfg->resample,
        .train = {.multi = cfg->multi, .k_aux = (int)cfg->k_aux, .dead = cfg->dead, .clip = cfg->clip,
                  .seed = (uint64_t)cfg->c.seed},
    };
    for (int x = 0; x < AXES; x++) {
        const void *option = (const char *)cfg + axes[x].option;
        if (!axes[x].option)
            continue;
        const double v = axes[x].type == REAL ? *(const double *)option : (double)*(const int64_t *)option;
        check_value(cli, &axes[x], v);
        put(o, &axes[x], v);
    }
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

/* How many times --grid has an axis of this name. */
static int axis_given(const FitConfig *cfg, const char *name)
{
    const size_t length = strlen(name);
    int times = 0;
    for (int i = 0; i < cfg->grid.count; i++)
        times += strncmp(cfg->grid.items[i], name, length) == 0 && cfg->grid.items[i][length] == '=';
    return times;
}

/* What no cell would show: that one axis is another's, or has no part in the training. */
static void check_axes(const Cli *cli, const FitConfig *cfg)
{
    for (int x = 0; x < AXES; x++)
        if (axis_given(cfg, axes[x].name) > 1)
            cli_misuse(cli, "--grid %s is given twice; one --grid %s=V,V,... takes all its values", axes[x].name,
                       axes[x].name);
    if (axis_given(cfg, "features") && axis_given(cfg, "expansion"))
        cli_misuse(cli, "--grid features and --grid expansion both say how many features there are: give one");
    static const char *const of_labels[] = {"assign", "decorrelate"};
    for (int i = 0; i < 2 && !cfg->labels; i++)
        if (axis_given(cfg, of_labels[i]) || cli_given(cli, of_labels[i]))
            cli_misuse(cli, "--%s is of --labels, which is not given", of_labels[i]);
}

static int extend(FitGrid *out, const FitCell *from, const Cli *cli, const Axis *x, const char *text, double v, Err *e)
{
    FitCell cell = *from;
    put(&cell.learner, x, v);
    if (strcmp(x->name, "expansion") == 0)
        cell.learner.train.F = 0;               /* the axis goes before --features */
    const size_t n = strlen(cell.name);
    if (snprintf(cell.name + n, sizeof cell.name - n, "%s%s=%s", n ? "," : "", x->name, text)
        >= (int)(sizeof cell.name - n))
        return err_misuse(e, "--grid: the name %s... is too long", cell.name);
    if (out->count == CELLS_MAX)
        cli_misuse(cli, "--grid: more than %d autoencoders", CELLS_MAX);
    FitCell *more = realloc(out->cell, sizeof *more*(size_t)(out->count + 1));
    if (!more)
        return err_set(e, "out of memory");
    out->cell = more;
    out->cell[out->count++] = cell;
    return 0;
}

/* "V,V,..." cut at its commas. Returns how many; values that are equal, however they are written, are misuse. */
static int read_values(const Cli *cli, const Axis *x, char *list, const char *text[CELLS_MAX], double value[CELLS_MAX])
{
    int count = 0;
    for (char *word; (word = strsep(&list, ",")); count++) {
        if (count == CELLS_MAX)
            cli_misuse(cli, "--grid: more than %d autoencoders", CELLS_MAX);
        text[count] = word;
        value[count] = read_value(cli, x, word);
        for (int i = 0; i < count; i++)
            if (value[i] == value[count])
                cli_misuse(cli, "--grid %s: %s and %s are one value", x->name, text[i], word);
    }
    return count;
}

static int multiply(FitGrid *g, const Cli *cli, const char *axis, Err *e)
{
    const char *text[CELLS_MAX];
    double value[CELLS_MAX];
    const size_t length = strcspn(axis, "=");
    FitGrid out = {0};
    if (length == 0 || !axis[length] || !axis[length + 1])
        cli_misuse(cli, "--grid %s: expected NAME=V,V,...", axis);
    const Axis *x = find_axis(cli, axis, length);
    char *list = strdup(axis + length + 1);
    int failed = list ? 0 : err_set(e, "out of memory");
    const int count = list ? read_values(cli, x, list, text, value) : 0;
    for (int c = 0; c < g->count && !failed; c++)
        for (int i = 0; i < count && !failed; i++)
            failed = extend(&out, &g->cell[c], cli, x, text[i], value[i], e);
    free(list);
    fit_grid_free(g);
    *g = out;
    return failed;
}

static void check_cell(const Cli *cli, const FitConfig *cfg, const LearnerOptions *o)
{
    const TrainOptions *t = &o->train;
    const int widest = t->levels ? t->level[t->levels - 1] : 0;
    if (t->F && t->F < t->K)
        cli_misuse(cli, "--features %d: expected -k (%d) to 16M", t->F, t->K);
    if (t->F && t->F < widest)
        cli_misuse(cli, "--levels %s: a level of %d of %d features cannot be", cfg->levels, widest, t->F);
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
    check_axes(cli, cfg);
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
