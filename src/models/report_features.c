/* SPDX-License-Identifier: MIT */
/* report_features.c -- features: how often and how strongly they are active, when, and where in which pictures. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/html.h"
#include "formats/image.h"
#include "src/models/chart.h"
#include "src/models/report.h"

enum { DENSITY_BINS = 36 };                 /* from 1e-9, a quarter of a decade each */

static double share(double part, double whole) { return whole > 0 ? part/whole : 0; }

/* ---- heat maps ---- */

/* The grid as a PNG of a pixel a token: viridis of value/most. Over a picture the weak ones are clearer, and those
 * where the feature is not active are not seen. */
static int print_heat(FILE *f, const Peak *p, float most, int W, int H, bool over, Err *e)
{
    const size_t tokens = (size_t)p->H*(size_t)p->W;
    uint8_t *pixel = malloc(4*tokens), *png = NULL;
    size_t bytes = 0;
    if (!pixel)
        return err_set(e, "out of memory for a heat map");
    for (size_t n = 0; n < tokens; n++) {
        const double x = share((double)p->grid[n], (double)most);
        chart_viridis(pixel + 4*n, x);
        pixel[4*n + 3] = (uint8_t)(!over ? 255 : x > 0 ? lround(255*(0.3 + 0.45*x)) : 0);
    }
    const int failed = image_encode(&png, &bytes, p->W, p->H, 4, pixel, e);
    free(pixel);
    if (failed)
        return -1;
    html(f, "<image class=\"heat%s\" width=%d height=%d preserveAspectRatio=none href=\"", over ? " over" : "", W, H);
    html_data(f, "image/png", png, bytes);
    fputs("\"/>", f);
    free(png);
    return 0;
}

static int print_peak(FILE *f, const Report *r, int feature, const Peak *p, float most, Err *e)
{
    Thumb *picture = report_picture(r, p);
    const bool drawn = picture && picture->number > 0;
    const char *prompt = json_string_value(json_object_get(p->fields, "prompt"));
    fputs("<figure class=peak tabindex=0>", f);
    if (drawn || p->grid) {
        const int W = drawn ? picture->W : 128, H = drawn ? picture->H : 128*p->H/p->W;
        html(f, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s%s where feature %d is active: %s\">", W, H ? H : 1,
             drawn ? "picture" : "heat map", drawn && p->grid ? " and" : "", feature, prompt ? prompt : p->id);
        if (drawn)
            thumb_write(f, picture);
        if (p->grid && print_heat(f, p, most, W, H ? H : 1, drawn, e))
            return -1;
        fputs("</svg>", f);
    } else
        fputs("<div class=none>neither picture nor heat map</div>", f);
    html(f, "<figcaption><b>%g</b> at t %d<br>%s<br>%s<br>", (double)p->value, p->t, prompt ? prompt : "", p->id);
    report_labels(f, p->fields);
    fputs("</figcaption></figure>\n", f);
    return 0;
}

/* ---- one feature ---- */

static void print_leads(FILE *f, const Report *r, int feature)
{
    const char *gap = "<p class=note>Leads ";
    for (int i = 0; i < r->leads.labels; i++)
        for (int k = 0; k < r->leads.label[i].leads; k++) {
            const LeadLabel *l = &r->leads.label[i];
            if (l->lead[k].feature != feature)
                continue;
            fprintf(f, "%s<a href=\"#", gap);
            report_label_anchor(f, l->kind, l->label);
            html(f, "\">%s %s</a> (place %d)", l->kind, l->label, k + 1);
            gap = ", ";
        }
    if (*gap == ',')
        fputs("</p>\n", f);
}

static void print_name(FILE *f, const NameRow *name)
{
    if (name)
        html(f, "<p class=note>Named <b>%s</b> (%s%sscore %.2f over %lld pictures)</p>\n", name->text,
             strcmp(name->kind, "-") == 0 ? "" : name->kind, strcmp(name->kind, "-") == 0 ? "" : ", ", name->score,
             (long long)name->pictures);
}

static int print_by_time(FILE *f, const Tally *y, const Chosen *c, const int *order, Err *e)
{
    double *t = malloc(sizeof *t*2*(size_t)(y->times + 1)), *mean = t ? t + y->times : NULL;
    if (!t)
        return err_set(e, "out of memory for %d timesteps", y->times);
    int best = 0;
    for (int i = 0; i < y->times; i++) {
        t[i] = y->t[order[i]];
        mean[i] = share(tally_sum(c->sum[order[i]]), (double)y->t_tokens[order[i]]);
        best = mean[i] > mean[best] ? i : best;
    }
    char label[160], number[32];
    snprintf(label, sizeof label, "mean over all tokens by timestep, highest at t %.0f: %s", t[best],
             number_text(number, mean[best]));
    fputs("<figure><figcaption>Mean over all tokens, by timestep</figcaption>\n", f);
    chart_lines(f, &(Plot){.label = label, .x = "t", .y = "mean", .width = 380, .height = 150, .falling = true},
                &(Series){t, mean, y->times, 0, false}, 1);
    fputs("</figure>\n", f);
    free(t);
    return 0;
}

static int print_feature(FILE *f, const Report *r, const Chosen *c, const int *order, Err *e)
{
    const Tally *y = r->tally;
    const long long active = y->active[c->feature];
    html(f, "<article class=feature id=f%d><h3><a href=\"#f%d\">Feature %d</a></h3>\n<ul class=facts>", c->feature,
         c->feature, c->feature);
    html(f, "<li><span>active in</span> %g %% <span>of the tokens</span></li><li><span>mean when active</span> %g</li>"
            "<li><span>largest</span> %g</li><li><span>tokens</span> %'lld</li></ul>\n",
         100*share((double)active, (double)y->tokens), share(tally_sum(y->sum[c->feature]), (double)active),
         (double)y->most[c->feature], active);
    print_name(f, name_table_find(&r->names, c->feature));
    print_leads(f, r, c->feature);
    if (!active) {
        fputs("<p>Never active in what was read.</p></article>\n", f);
        return 0;
    }
    html(f, "<div class=pictures>\n");
    report_print_icon(f, r, (int)(c - y->chosen));
    for (int p = 0; p < c->peaks; p++)
        if (print_peak(f, r, c->feature, &c->peak[p], c->peak[0].value, e))
            return -1;
    fputs("</div>\n<div class=charts>\n", f);
    if (y->times > 1 && print_by_time(f, y, c, order, e))
        return -1;
    fputs("<figure><figcaption>Values where it is active</figcaption>\n", f);
    chart_bars(f, &(Plot){.label = "histogram of its values", .x = "value", .y = "tokens", .width = 380, .height = 150},
               c->bin, VALUE_BINS, VALUE_LOWEST, VALUE_WIDTH);
    fputs("</figure>\n</div></article>\n", f);
    return 0;
}

/* ---- all features ---- */

static void print_density(FILE *f, const Tally *y)
{
    int64_t bin[DENSITY_BINS] = {0};
    long long never = 0, active = 0;
    for (int j = 0; j < y->F; j++) {
        active += y->active[j];
        if (!y->active[j]) {
            never++;
            continue;
        }
        const int b = (int)floor((log10(share((double)y->active[j], (double)y->tokens)) + 9)*4);
        bin[b < 0 ? 0 : b < DENSITY_BINS ? b : DENSITY_BINS - 1]++;
    }
    html(f, "<p>Read: %'lld records at %d timesteps, %'lld tokens. %g features are active a token; %'lld of %'d are "
            "never active there (%g %%).</p>\n", y->records, y->times, y->tokens,
         share((double)active, (double)y->tokens), never, y->F, 100*share((double)never, y->F));
    fputs("<div class=charts><figure><figcaption>How often features are active: share of the tokens</figcaption>\n", f);
    chart_bars(f, &(Plot){.label = "histogram of all features by the share of tokens in which they are active",
                          .x = "share of the tokens", .y = "features", .width = 380, .height = 180},
               bin, DENSITY_BINS, -9, 0.25);
    fputs("</figure></div>\n", f);
}

static int print_scale(FILE *f, Err *e)
{
    enum { STEPS = 64 };
    uint8_t pixel[STEPS*3], *png;
    size_t bytes;
    for (int i = 0; i < STEPS; i++)
        chart_viridis(pixel + 3*i, i/(STEPS - 1.0));
    if (image_encode(&png, &bytes, STEPS, 1, 3, pixel, e))
        return -1;
    fputs("<p class=note>0 <img class=scale alt=\"from dark blue over green to yellow\" src=\"", f);
    html_data(f, "image/png", png, bytes);
    fputs("\"> the largest value of the feature's pictures</p>\n", f);
    free(png);
    return 0;
}

int report_features(FILE *f, const Report *r, Err *e)
{
    const Tally *y = r->tally;
    if (!y)
        return 0;
    int *order = report_times(y), failed = order ? 0 : err_set(e, "out of memory for %d timesteps", y->times);
    fputs("<section id=features><h2><a href=\"#features\">Features</a></h2>\n", f);
    print_density(f, y);
    if (y->options.count) {
        html(f, "<p>Each feature's pictures are those in which one token's value is largest, at the timestep where it "
                "is. %sThe colour is the token's value.</p>\n",
             r->has_images ? "The heat map lies over the picture as it was when it was done; it is not seen where the "
                             "feature is not active, and goes away under the pointer. " : "");
        failed = failed || print_scale(f, e);
    } else
        fputs("<p>None is shown by itself: --feature and --ranks say which.</p>\n", f);
    for (int i = 0; i < y->options.count && !failed; i++)
        failed = print_feature(f, r, &y->chosen[i], order, e);
    fputs("</section>\n", f);
    free(order);
    return failed;
}
