/* SPDX-License-Identifier: MIT */
/* report_head.c -- the page's first parts: what the autoencoder is, and how its training went. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/chart.h"
#include "src/models/report.h"

/* ---- the autoencoder ---- */

static void text_row(FILE *f, const char *name, const json_t *value)
{
    if (json_is_string(value) && json_string_length(value))
        html(f, "<dt>%s</dt><dd>%s</dd>\n", name, json_string_value(value));
    else if (json_is_integer(value))
        html(f, "<dt>%s</dt><dd>%'lld</dd>\n", name, (long long)json_integer_value(value));
    else if (json_is_real(value))
        html(f, "<dt>%s</dt><dd>%g</dd>\n", name, json_real_value(value));
}

/* The config without what is shown elsewhere, as JSON. */
static void print_config(FILE *f, const json_t *cfg)
{
    json_t *copy = json_deep_copy(cfg);
    json_object_del(json_object_get(copy, "training"), "provenance");
    char *text = json_dumps(copy, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (text)
        html(f, "<details><summary>Its config</summary><pre>%s</pre></details>\n", text);
    free(text);
    json_decref(copy);
}

void report_head(FILE *f, const Report *r)
{
    const Sae *s = r->sae;
    if (!s)
        return;
    const json_t *cfg = s->cfg, *training = json_object_get(cfg, "training");
    fputs("<section id=autoencoder><h2><a href=\"#autoencoder\">Autoencoder</a></h2>\n<dl>\n", f);
    html(f, "<dt>folder</dt><dd>%s</dd>\n<dt>id</dt><dd>%s</dd>\n", r->folder, s->id);
    html(f, "<dt>width of a token (d)</dt><dd>%'d</dd>\n<dt>features (n)</dt><dd>%'d</dd>\n", s->D, s->F);
    text_row(f, "kept of each token (k)", json_object_get(cfg, "k"));
    text_row(f, "variant", json_object_get(cfg, "activation"));
    if (*s->hook)
        html(f, "<dt>module</dt><dd>%s, its %s</dd>\n", s->hook, s->take);
    static const struct { const char *name, *key; } of_model[] = {
        {"model", "model"}, {"sampler", "sampler"}, {"steps", "steps"}, {"guidance", "guidance"},
        {"pictures begun with", "init"}, {"strength", "strength"}, {"inversion", "inversion"}, {"half", "half"}};
    for (size_t i = 0; i < sizeof of_model/sizeof *of_model; i++)
        text_row(f, of_model[i].name, json_object_get(cfg, of_model[i].key));
    static const struct { const char *name, *key; } of_training[] = {
        {"tokens trained on", "tokens"}, {"seed of the training", "seed"},
        {"variance unexplained at its end (FVU)", "fvu"}, {"features active a token (L0)", "l0"},
        {"dead features at its end", "dead"}};
    for (size_t i = 0; i < sizeof of_training/sizeof *of_training; i++)
        text_row(f, of_training[i].name, json_object_get(training, of_training[i].key));
    if (json_is_true(json_object_get(training, "stopped")))
        fputs("<dt>training</dt><dd>stopped before its end</dd>\n", f);
    fputs("</dl>\n", f);
    print_config(f, cfg);
    fputs("</section>\n", f);
}

/* ---- the training ---- */

static const struct { FitFigure figure, eval; const char *name, *axis; } shown[] = {
    {FIT_FVU, FIT_EVAL_FVU, "Fraction of variance unexplained (FVU)", "FVU"},
    {FIT_DEAD, FIT_FIGURES, "Dead features", "features"},
    {FIT_L0, FIT_EVAL_L0, "Features active a token (L0)", "L0"},
    {FIT_AUX, FIT_FIGURES, "Loss of the dead features' term", "loss"},
    {FIT_SUPERVISED, FIT_FIGURES, "Loss of the labels' features", "loss"},
    {FIT_GRADIENT, FIT_FIGURES, "Norm of the gradient", "norm"},
    {FIT_LR, FIT_FIGURES, "Learning rate", "rate"},
};

static bool has_any(const Curve *c, FitFigure figure)
{
    for (int p = 0; p < c->points; p++)
        if (isfinite(c->figure[figure][p]) && c->figure[figure][p] > 0)
            return true;
    return false;
}

static void print_chart(FILE *f, const Curves *c, int which)
{
    Series series[2*CHART_SERIES];
    int count = 0;
    bool any = false, held_out = false;
    char label[256], first[32], last[32];
    const FitFigure figure = shown[which].figure, eval = shown[which].eval;
    for (int i = 0; i < c->count && i < CHART_SERIES; i++) {
        const Curve *x = &c->curve[i];
        series[count++] = (Series){x->figure[FIT_TOKENS], x->figure[figure], x->points, i, false};
        any |= has_any(x, figure);
        if (eval < FIT_FIGURES && has_any(x, eval)) {
            series[count++] = (Series){x->figure[FIT_TOKENS], x->figure[eval], x->points, i, true};
            held_out = true;
        }
    }
    if (!any)
        return;
    snprintf(label, sizeof label, "%s over the tokens trained on: %s at first, %s at the end%s", shown[which].name,
             number_text(first, curve_first(&c->curve[0], figure)), number_text(last, curve_last(&c->curve[0], figure)),
             c->count > 1 ? " in the first training" : "");
    html(f, "<figure><figcaption>%s%s</figcaption>\n", shown[which].name,
         held_out ? "; dashed: on held-out tokens" : "");
    chart_lines(f, &(Plot){.label = label, .x = "tokens", .y = shown[which].axis, .width = 380, .height = 210,
                           .whole = figure == FIT_DEAD}, series, count);
    fputs("</figure>\n", f);
}

static void number_cell(FILE *f, double value)
{
    if (isnan(value))
        fputs("<td class=n>-</td>", f);
    else
        html(f, "<td class=n>%g</td>", value);
}

/* The ends of all trainings, in numbers. */
static void print_ends(FILE *f, const Curves *c)
{
    fputs("<div class=wide><table><caption>At the last line of the log</caption><thead><tr><th scope=col>training</th>"
          "<th class=n scope=col>tokens</th><th class=n scope=col>FVU at first</th><th class=n scope=col>FVU</th>"
          "<th class=n scope=col>FVU, held out</th><th class=n scope=col>L0</th>"
          "<th class=n scope=col>dead features</th></tr></thead><tbody>\n", f);
    for (int i = 0; i < c->count; i++) {
        const Curve *x = &c->curve[i];
        fputs("<tr><th scope=row>", f);
        if (c->count > 1 && i < CHART_SERIES)
            html(f, "<svg class=key viewBox=\"0 0 16 8\" aria-hidden=true><path class=\"line s%d\" d=\"M0 4H16\"/>"
                    "</svg>", i);
        html(f, "%s</th><td class=n>%'lld</td>", x->name, llround(curve_last(x, FIT_TOKENS)));
        number_cell(f, curve_first(x, FIT_FVU));
        number_cell(f, curve_last(x, FIT_FVU));
        number_cell(f, curve_last(x, FIT_EVAL_FVU));
        number_cell(f, curve_last(x, FIT_L0));
        const double dead = curve_last(x, FIT_DEAD);
        if (isnan(dead))
            number_cell(f, dead);
        else
            html(f, "<td class=n>%'lld</td>", llround(dead));
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

void report_training(FILE *f, const Report *r)
{
    const Curves *c = &r->curves;
    if (!c->count)
        return;
    fputs("<section id=training><h2><a href=\"#training\">Training</a></h2>\n", f);
    print_ends(f, c);
    if (c->count > CHART_SERIES)
        html(f, "<p>The curves are those of the first %d trainings.</p>\n", CHART_SERIES);
    fputs("<div class=charts>\n", f);
    for (size_t i = 0; i < sizeof shown/sizeof *shown; i++)
        print_chart(f, c, (int)i);
    fputs("</div>\n</section>\n", f);
}
