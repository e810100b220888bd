/* SPDX-License-Identifier: MIT */
/* report_pictures.c -- pictures for the page: those that lie under heat maps, and steered ones. */
#include <stdlib.h>
#include <string.h>
#include "src/models/report.h"

/* The key of a picture among the thumbs, by its record's id. The caller frees; NULL without memory. */
static char *key_of(const char *id)
{
    char *key;
    return asprintf(&key, "id\n%s", id) < 0 ? NULL : key;
}

Thumb *report_picture(const Report *r, const Peak *p)
{
    char *key = key_of(p->id);
    Thumb *x = key ? thumbs_find(&r->thumbs, key) : NULL;
    free(key);
    return x;
}

void report_plan(Report *r)
{
    for (int i = 0; r->tally && i < r->tally->options.count; i++) {
        thumbs_draw(&r->thumbs, report_icon(r, i));
        for (int p = 0; p < r->tally->chosen[i].peaks; p++)
            thumbs_draw(&r->thumbs, report_picture(r, &r->tally->chosen[i].peak[p]));
    }
    for (int g = 0; g < r->pairs.groups; g++)
        for (int own = 0; own < 2; own++)
            for (int i = 0; i < r->pairs.group[g].pairs[own]; i++) {
                thumbs_draw(&r->thumbs, thumbs_find(&r->thumbs, r->pairs.group[g].pair[own][i].plain));
                thumbs_draw(&r->thumbs, thumbs_find(&r->thumbs, r->pairs.group[g].pair[own][i].steered));
            }
}

/* ---- reading ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The keys of the peaks' pictures, each once, sorted. */
static int list_keys(const Tally *y, char ***keys, size_t *count, Err *e)
{
    size_t n = 0;
    *keys = calloc((size_t)y->options.count*(size_t)y->options.pictures + 1, sizeof **keys);
    for (int i = 0; *keys && i < y->options.count; i++)
        for (int p = 0; p < y->chosen[i].peaks; p++) {
            if (!((*keys)[n] = key_of(y->chosen[i].peak[p].id)))
                return err_set(e, "out of memory for pictures");
            *count = ++n;
        }
    if (!*keys)
        return err_set(e, "out of memory for pictures");
    qsort(*keys, n, sizeof **keys, by_text);
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (*count && strcmp((*keys)[*count - 1], (*keys)[i]) == 0)
            free((*keys)[i]);
        else
            (*keys)[(*count)++] = (*keys)[i];
    return 0;
}

static int take_images(Report *r, PictureSource *source, char **keys, size_t count, Err *e)
{
    Picture p;
    int got;
    while ((got = picture_source_next(source, &p, e)) > 0) {
        char *key = key_of(record_text(&p.record, "id", ""));
        const int failed = !key ? err_set(e, "out of memory for pictures")
                         : bsearch(&key, keys, count, sizeof *keys, by_text)
                           ? thumbs_add(&r->thumbs, key, p.rgb, p.W, p.H, e) : 0;
        free(key);
        if (failed)
            return -1;
    }
    return got;
}

int report_read_images(Report *r, const char *const *paths, int count, long *asked, long *found, Err *e)
{
    PictureSource *source = NULL;
    char **keys = NULL;
    size_t n = 0;
    r->has_images = true;
    const int failed = list_keys(r->tally, &keys, &n, e) || picture_source_open(&source, paths, count, e)
                    || take_images(r, source, keys, n, e);
    picture_source_close(source);
    *asked = (long)n;
    *found = 0;
    for (size_t i = 0; keys && i < n; i++) {
        *found += thumbs_find(&r->thumbs, keys[i]) != NULL;
        free(keys[i]);
    }
    free(keys);
    return failed ? -1 : 0;
}

int report_read_steered(Report *r, const char *const *paths, int count, int kept, Err *e)
{
    PictureSource *source = NULL;
    Picture p;
    int got = picture_source_open(&source, paths, count, e) ? -1 : 1;
    pairs_init(&r->pairs, kept, &r->thumbs);
    while (got > 0 && (got = picture_source_next(source, &p, e)) > 0)
        got = pairs_add(&r->pairs, &p, e) ? -1 : 1;
    picture_source_close(source);
    if (!got && !r->pairs.groups)
        got = err_set(e, "%s: no steered picture there, %ld unsteered ones", paths[0], r->pairs.plain);
    pairs_settle(&r->pairs);
    return got;
}
