/* SPDX-License-Identifier: MIT */
/* report_page.c -- the page's frame: head, contents, provenance, and what its parts have in common. */
#include <stdlib.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/report.h"

/* ---- what the parts share ---- */

void report_label_anchor(FILE *f, const char *kind, const char *label)
{
    fputs("label-", f);
    html_anchor(f, kind);
    fputc(':', f);                      /* which neither has */
    html_anchor(f, label);
}

void report_labels(FILE *f, const json_t *fields)
{
    static const char own[] = " id prompt negative seed step t hook half steered steered_kind steering ";
    const char *name, *gap = "";
    json_t *value;
    json_object_foreach((json_t *)fields, name, value) {
        char word[64];
        if (snprintf(word, sizeof word, " %s ", name) < (int)sizeof word && strstr(own, word))
            continue;
        if (json_is_string(value) && json_string_length(value))
            html(f, "%s%s %s", gap, name, json_string_value(value));
        else if (json_is_integer(value))
            html(f, "%s%s %lld", gap, name, (long long)json_integer_value(value));
        else
            continue;
        gap = ", ";
    }
}

int *report_times(const Tally *y)
{
    int *order = malloc(sizeof *order*((size_t)y->times + 1));
    for (int i = 0; order && i < y->times; i++) {
        int to = i;
        for (; to > 0 && y->t[order[to - 1]] < y->t[i]; to--)
            order[to] = order[to - 1];
        order[to] = i;
    }
    return order;
}

/* ---- provenance ---- */

static void print_steps(FILE *f, const char *of, const json_t *steps)
{
    if (json_array_size(steps) == 0)
        return;
    html(f, "<details><summary>%s</summary><ol>\n", of);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i), *arguments = json_object_get(step, "arguments");
        const char *program = json_string_value(json_object_get(step, "program"));
        const char *version = json_string_value(json_object_get(step, "version"));
        html(f, "<li>%s %s <code>", program ? program : "?", version ? version : "");
        for (size_t k = 0; k < json_array_size(arguments); k++) {
            const char *text = json_string_value(json_array_get(arguments, k));
            html(f, "%s%s", k ? " " : "", text ? text : "?");
        }
        fputs("</code></li>\n", f);
    }
    fputs("</ol></details>\n", f);
}

static void print_provenance(FILE *f, const Report *r)
{
    json_t *own = json_pack("[O]", r->step);
    fputs("<section id=provenance><h2><a href=\"#provenance\">Made by</a></h2>\n", f);
    if (r->sae)
        print_steps(f, "The autoencoder", json_object_get(json_object_get(r->sae->cfg, "training"), "provenance"));
    if (r->ranks)
        print_steps(f, "The ranks", json_object_get(ranks_header(r->ranks), "provenance"));
    if (r->tally)
        print_steps(f, "The features", json_object_get(r->tally->header, "provenance"));
    print_steps(f, "This page", own);
    if (r->thumbs.left_out)
        html(f, "<p>%'lld pictures are left out of this page: those before them fill its %'zu bytes of pictures "
                "(--limit).</p>\n", (long long)r->thumbs.left_out, r->thumbs.limit);
    fputs("</section>\n", f);
    json_decref(own);
}

/* ---- frame ---- */

static void print_contents(FILE *f, const Report *r)
{
    fputs("<nav aria-label=Contents><ul>\n", f);
    if (r->sae)
        fputs("<li><a href=\"#autoencoder\">Autoencoder</a></li>\n", f);
    if (r->curves.count)
        fputs("<li><a href=\"#training\">Training</a></li>\n", f);
    if (r->leads.labels) {
        fputs("<li><a href=\"#concepts\">Concepts</a><ul>\n", f);
        for (int i = 0; i < r->leads.labels; i++) {
            const LeadLabel *l = &r->leads.label[i];
            fputs("<li><a href=\"#", f);
            report_label_anchor(f, l->kind, l->label);
            html(f, "\">%s</a></li>\n", l->label);
        }
        fputs("</ul></li>\n", f);
    }
    if (r->tally) {
        fputs("<li><a href=\"#features\">Features</a><ul>\n", f);
        for (int i = 0; i < r->tally->options.count; i++)
            html(f, "<li><a href=\"#f%d\">%d</a></li>\n", r->tally->chosen[i].feature, r->tally->chosen[i].feature);
        fputs("</ul></li>\n", f);
    }
    if (r->pairs.groups) {
        fputs("<li><a href=\"#sheets\">Steered pictures</a><ul>\n", f);
        for (int g = 0; g < r->pairs.groups; g++)
            html(f, "<li><a href=\"#g%d\">%s</a></li>\n", g,
                 *r->pairs.group[g].label ? r->pairs.group[g].label : "features");
        fputs("</ul></li>\n", f);
    }
    fputs("<li><a href=\"#provenance\">Made by</a></li>\n</ul></nav>\n", f);
}

int report_page(FILE *f, Report *r, Err *e)
{
    const char *id = r->sae ? r->sae->id : r->ranks ? ranks_sae(r->ranks) : "";
    char title[512];
    snprintf(title, sizeof title, "%s%s", *id ? "Sparse autoencoder " : "Sparse autoencoder", id);
    const char *name = r->title ? r->title : title;
    html(f, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n<title>%s</title>\n", name);
    fputs("<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=color-scheme content=\"light dark\">\n"
          "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; "
          "style-src 'unsafe-inline'\">\n<style>\n", f);
    fputs(report_style, f);
    html(f, "</style></head>\n<body>\n<h1>%s</h1>\n", name);
    print_contents(f, r);
    fputs("<main>\n", f);
    report_head(f, r);
    report_training(f, r);
    report_concepts(f, r);
    if (report_features(f, r, e))
        return -1;
    report_sheets(f, r);
    print_provenance(f, r);
    fputs("</main>\n</body></html>\n", f);
    return 0;
}
