/* SPDX-License-Identifier: MIT */
/* classifier_names.c -- a network that classifies: the names of its classes, in the order of its outputs. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/lines.h"
#include "src/models/classifier.h"
#include "src/models/labels.h"

enum { CLASSES_MAX = 1 << 16 };     /* as many as a head may have */

static int add_class(Domain *d, const char *label, long line, Err *e)
{
    json_t *text = json_string(label);
    const bool utf8 = text != NULL;
    json_decref(text);
    if (!utf8)
        return err_set(e, "%s: line %ld: not UTF-8 text", d->names, line);
    const int before = domain_class(d, label);
    if (before >= 0)
        return err_set(e, "%s: lines %d and %ld are both '%.100s'", d->names, before + 1, line, label);
    if (d->classes == CLASSES_MAX)
        return err_set(e, "%s: more than %d names", d->names, CLASSES_MAX);
    char **more = realloc(d->label, sizeof *more * ((size_t)d->classes + 1));
    if (more)
        d->label = more;
    if (!more || !(d->label[d->classes] = strdup(label)))
        return err_set(e, "out of memory");
    d->classes++;
    return 0;
}

/* A line, its end taken off: NAME, or NAME<TAB>LABEL. */
static int add_line(Domain *d, char *line, long number, Err *e)
{
    char *tab = strchr(line, '\t');
    if (*line == 0 || tab == line)
        return err_set(e, "%s: line %ld: no name; each line names an output of the network, in their order", d->names,
                       number);
    if (tab && strchr(tab + 1, '\t'))
        return err_set(e, "%s: line %ld: more than two columns", d->names, number);
    return add_class(d, tab ? tab + 1 : line, number, e);
}

static int read_names(Domain *d, Err *e)
{
    Lines *in;
    char *line;
    int got = lines_open(&in, d->names, e) ? -1 : 1;
    while (got > 0 && (got = lines_next(in, &line, e)) > 0)
        if (add_line(d, line, lines_number(in), e))
            got = -1;
    lines_close(in);
    if (got == 0 && d->classes < 2)
        return err_set(e, "%s: %d names; a classifier has two classes or more", d->names, d->classes);
    return got;
}

/* One KIND=FILE. */
static int add_domain(Classifier *c, const char *item, Err *e)
{
    char kind[24];
    const char *path = label_kind(item, kind);
    if (!path || !*path)
        return err_misuse(e, "--names %s: expected KIND=FILE, as theme=styles.txt", item);
    if (c->domains == DOMAINS)
        return err_misuse(e, "--names: more than %d kinds; a picture is classified by two", DOMAINS);
    for (int i = 0; i < c->domains; i++)
        if (strcmp(c->domain[i].name, kind) == 0)
            return err_misuse(e, "--names: two files for %s", kind);
    Domain *d = &c->domain[c->domains++];
    snprintf(d->name, sizeof d->name, "%s", kind);
    return (d->names = strdup(path)) ? read_names(d, e) : err_set(e, "out of memory");
}

int classifier_names(Classifier **out, const char *const *items, int count, Err *e)
{
    Classifier *c = calloc(1, sizeof *c);
    int failed = c && (c->name = strdup("--names")) ? 0 : err_set(e, "out of memory");
    for (int i = 0; i < count && !failed; i++)
        failed = add_domain(c, items[i], e);
    if (failed)
        classifier_free(c);
    *out = failed ? NULL : c;
    return failed ? -1 : 0;
}
