/* SPDX-License-Identifier: MIT */
/* report_concepts.c -- the features that lead each label, as tables: a kind of label each. */
#include <math.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/chart.h"
#include "src/models/report.h"

/* Two bars, on the label and elsewhere, to a common scale. */
static void print_bars(FILE *f, const Lead *x, double most)
{
    const double scale = most > 0 ? 118/most : 0;
    html(f, "<svg class=pair viewBox=\"0 0 120 18\" role=img aria-label=\"%g on the label, %g elsewhere\">"
            "<path class=on d=\"M0 1h%.1fv7h-%.1fz\"/><path class=rest d=\"M0 10h%.1fv7h-%.1fz\"/></svg>",
         x->mean, x->elsewhere, fmax(x->mean, 0)*scale, fmax(x->mean, 0)*scale, fmax(x->elsewhere, 0)*scale,
         fmax(x->elsewhere, 0)*scale);
}

static void print_lead(FILE *f, const Report *r, const LeadLabel *l, const Lead *x, double most, double low,
                       double high)
{
    char label[128];
    if (r->tally)
        html(f, "<td class=n><a href=\"#f%d\">%d</a></td>", x->feature, x->feature);
    else
        html(f, "<td class=n>%d</td>", x->feature);
    html(f, "<td class=n>%g</td><td class=n>%g</td><td class=n>%g</td><td>", x->score, x->mean, x->elsewhere);
    print_bars(f, x, most);
    fputs("</td>", f);
    if (l->times > 1) {
        snprintf(label, sizeof label, "score by timestep, highest at t %d", x->t);
        fputs("<td>", f);
        chart_spark(f, label, x->by_t, l->times, low, high);
        html(f, "</td><td class=n>%d</td>", x->t);
    }
    fputs("</tr>\n", f);
}

static void print_label(FILE *f, const Report *r, const LeadLabel *l)
{
    double most = 0, low = 0, high = 0;
    for (int k = 0; k < l->leads; k++) {
        most = fmax(most, fmax(l->lead[k].mean, l->lead[k].elsewhere));
        for (int i = 0; i < l->times; i++) {
            low = fmin(low, l->lead[k].by_t[i]);
            high = fmax(high, l->lead[k].by_t[i]);
        }
    }
    fputs("<tbody id=\"", f);
    report_label_anchor(f, l->kind, l->label);
    html(f, "\">\n<tr><th scope=rowgroup rowspan=%d>%s</th>", l->leads > 1 ? l->leads : 1, l->label);
    for (int k = 0; k < l->leads; k++) {
        if (k)
            fputs("<tr>", f);
        print_lead(f, r, l, &l->lead[k], most, low, high);
    }
    fputs(l->leads ? "</tbody>\n" : "<td>no feature is ranked</td></tr></tbody>\n", f);
}

static void print_kind(FILE *f, const Report *r, int from, int to)
{
    const LeadLabel *first = &r->leads.label[from];
    bool by_t = false;
    for (int i = from; i < to; i++)
        by_t |= r->leads.label[i].times > 1;
    html(f, "<h3>By %s</h3>\n<div class=wide><table><thead><tr><th scope=col>%s</th><th class=n scope=col>feature</th>"
            "<th class=n scope=col>score</th><th class=n scope=col>mean on it</th>"
            "<th class=n scope=col>mean elsewhere</th><th scope=col>both</th>", first->kind, first->kind);
    if (by_t)
        html(f, "<th scope=col>score, t %d to %d</th><th class=n scope=col>highest at t</th>", first->t[0],
             first->t[first->times - 1]);
    fputs("</tr></thead>\n", f);
    for (int i = from; i < to; i++)
        print_label(f, r, &r->leads.label[i]);
    fputs("</table></div>\n", f);
}

void report_concepts(FILE *f, const Report *r)
{
    const Leads *l = &r->leads;
    if (!l->labels)
        return;
    const json_t *score = json_object_get(ranks_header(r->ranks), "score");
    html(f, "<section id=concepts><h2><a href=\"#concepts\">Concepts</a></h2>\n<p>The features that lead each label's "
            "ranks%s%s: by the mean of their scores over the timesteps, where they are not among the ranked counting 0."
            " Mean: of a feature's value over all tokens, of the label's pictures and of the rest. ",
         json_is_string(score) ? ", by the score " : "", json_is_string(score) ? json_string_value(score) : "");
    fputs("The curves go from the first timestep of a drawing, on the left, to the last; those of a label have one "
          "scale.</p>\n<ul class=legend><li><svg class=key viewBox=\"0 0 16 8\" aria-hidden=true><path class=on "
          "d=\"M0 0h16v8H0z\"/></svg>on the label</li><li><svg class=key viewBox=\"0 0 16 8\" aria-hidden=true>"
          "<path class=rest d=\"M0 0h16v8H0z\"/></svg>elsewhere</li></ul>\n", f);
    for (int from = 0, to; from < l->labels; from = to) {
        for (to = from + 1; to < l->labels && strcmp(l->label[to].kind, l->label[from].kind) == 0;)
            to++;
        print_kind(f, r, from, to);
    }
    fputs("</section>\n", f);
}
