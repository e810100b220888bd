/* SPDX-License-Identifier: MIT */
/* report_sheets.c -- steered pictures, each beside the same picture unsteered. */
#include <stdlib.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/report.h"

/* {"mode":"replace","top":40} as "mode replace, top 40". */
static void print_steering(FILE *f, const char *steering)
{
    json_t *map = json_loads(steering, 0, NULL), *value;
    const char *name, *gap = "";
    json_object_foreach(map, name, value) {
        if (strcmp(name, "labels") == 0)        /* which the heading has */
            continue;
        char number[32];
        snprintf(number, sizeof number, "%.10g", json_number_value(value));
        char *text = json_is_object(value) ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
        html(f, "%s%s %s", gap, name, text ? text : json_is_string(value) ? json_string_value(value) : number);
        free(text);
        gap = ", ";
    }
    json_decref(map);
}

static void print_one(FILE *f, Thumb *x, const char *how, const char *prompt)
{
    if (!x || x->number < 1) {
        html(f, "<div class=none>%s%s</div>", how, x ? ": left out" : ": not given");
        return;
    }
    html(f, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"%s: %s\">", x->W, x->H, how, prompt);
    thumb_write(f, x);
    fputs("</svg>", f);
}

static void print_pair(FILE *f, const Report *r, const Pair *p)
{
    Thumb *plain = thumbs_find(&r->thumbs, p->plain), *steered = thumbs_find(&r->thumbs, p->steered);
    const char *prompt = json_string_value(json_object_get(p->fields, "prompt"));
    fputs("<figure><div class=two>", f);
    print_one(f, plain, "unsteered", prompt ? prompt : "");
    print_one(f, steered, "steered", prompt ? prompt : "");
    html(f, "</div><figcaption>%s", prompt ? prompt : "");
    if (plain && steered && plain->hash == steered->hash)
        fputs(" <b>Bit for bit the same.</b>", f);
    fputs("</figcaption></figure>\n", f);
}

static void print_group(FILE *f, const Report *r, int number)
{
    const PairGroup *g = &r->pairs.group[number];
    html(f, "<h3 id=g%d><a href=\"#g%d\">Steered: %s%s%s</a></h3>\n<p class=note>", number, number, g->kind,
         *g->kind ? " " : "", *g->label ? g->label : "features");
    print_steering(f, g->steering);
    const int shown = g->pairs[0] + g->pairs[1];
    html(f, ". %d of %'lld pictures", shown, (long long)g->pictures);
    if (g->pairs[0])
        html(f, ", %d of them of this %s", g->pairs[0], g->kind);
    fputs(".</p>\n<div class=\"pictures pairs\">\n", f);
    for (int own = 0; own < 2; own++)
        for (int i = 0; i < g->pairs[own]; i++)
            print_pair(f, r, &g->pair[own][i]);
    fputs("</div>\n", f);
}

void report_sheets(FILE *f, const Report *r)
{
    if (!r->pairs.groups)
        return;
    fputs("<section id=sheets><h2><a href=\"#sheets\">Steered pictures</a></h2>\n<p>On the left as the model draws "
          "unsteered, on the right steered; prompt and seed are the same.</p>\n", f);
    for (int g = 0; g < r->pairs.groups; g++)
        print_group(f, r, g);
    fputs("</section>\n", f);
}
