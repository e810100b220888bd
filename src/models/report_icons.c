/* SPDX-License-Identifier: MIT */
/* report_icons.c -- what features draw by themselves: pictures that sd-steer --mode only made of one feature each. */
#include <stdlib.h>
#include <string.h>
#include "formats/html.h"
#include "src/models/report.h"

static char *key_of(int feature)
{
    char *key;
    return asprintf(&key, "icon\n%d", feature) < 0 ? NULL : key;
}

/* Place among the features shown of the one that a picture was drawn of, -1: of none of them, or of more. */
static int place_of(const Tally *y, const Record *rec, double *value)
{
    const json_t *steering = json_object_get(rec->fields, "steering");
    const char *mode = json_string_value(json_object_get(steering, "mode"));
    json_t *features = json_object_get(steering, "features");
    if (!mode || strcmp(mode, "only") != 0 || json_object_size(features) != 1
        || *record_text(rec, "steered", ""))
        return -1;
    void *only = json_object_iter(features);
    char *end;
    const long feature = strtol(json_object_iter_key(only), &end, 10);
    *value = json_number_value(json_object_iter_value(only));
    for (int i = 0; i < y->options.count && !*end; i++)
        if (y->chosen[i].feature == feature)
            return i;
    return -1;
}

/* Of several pictures of a feature the one whose id is the first stays. */
static int take(Report *r, const Picture *p, Err *e)
{
    double value = 0;
    const char *id = record_text(&p->record, "id", "");
    const int i = place_of(r->tally, &p->record, &value);
    Icon *x = i < 0 ? NULL : &r->icon[i];
    if (!x || (x->id && strcmp(x->id, id) <= 0))
        return 0;
    char *key = key_of(r->tally->chosen[i].feature), *copy = strdup(id);
    const bool there = key && copy;
    free(x->id);
    *x = (Icon){copy, value};
    if (there)
        thumbs_drop(&r->thumbs, key);
    const int failed = !there || thumbs_add(&r->thumbs, key, p->rgb, p->W, p->H, e);
    free(key);
    return failed ? err_set(e, "out of memory for pictures") : 0;
}

int report_read_icons(Report *r, const char *const *paths, int count, long *found, Err *e)
{
    PictureSource *source = NULL;
    Picture p;
    *found = 0;
    r->icon = calloc((size_t)r->tally->options.count + 1, sizeof *r->icon);
    if (!r->icon)
        return err_set(e, "out of memory for pictures");
    int got = picture_source_open(&source, paths, count, e) ? -1 : 1;
    while (got > 0 && (got = picture_source_next(source, &p, e)) > 0)
        got = take(r, &p, e) ? -1 : 1;
    picture_source_close(source);
    for (int i = 0; i < r->tally->options.count; i++)
        *found += r->icon[i].id != NULL;
    return got < 0 ? -1 : 0;
}

void report_free_icons(Report *r)
{
    for (int i = 0; r->icon && i < r->tally->options.count; i++)
        free(r->icon[i].id);
    free(r->icon);
}

Thumb *report_icon(const Report *r, int place)
{
    char *key = r->icon && r->icon[place].id ? key_of(r->tally->chosen[place].feature) : NULL;
    Thumb *x = key ? thumbs_find(&r->thumbs, key) : NULL;
    free(key);
    return x;
}

void report_print_icon(FILE *f, const Report *r, int place)
{
    Thumb *x = report_icon(r, place);
    if (!x || x->number <= 0)
        return;
    html(f, "<figure><svg viewBox=\"0 0 %d %d\" role=img aria-label=\"what feature %d draws by itself\">", x->W, x->H,
         r->tally->chosen[place].feature);
    thumb_write(f, x);
    html(f, "</svg><figcaption><b>by itself</b>, at %g<br>%s</figcaption></figure>\n", r->icon[place].value,
         r->icon[place].id);
}
