/* SPDX-License-Identifier: MIT */
/* templates.c -- lists of concepts and themes, sentence templates, anchors. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "formats/lines.h"
#include "src/models/templates.h"

/* ---- lines ---- */

static bool is_utf8(const char *text)
{
    json_t *value = json_string(text);
    json_decref(value);
    return value != NULL;
}

/* Called for each line that is neither blank nor a comment; line has no end and may be changed. where:
 * "file: line 3". */
typedef int (*LineFn)(void *context, char *line, const char *where, Err *e);

static int read_lines(const char *path, LineFn fn, void *context, Err *e)
{
    Lines *in;
    char *line, where[4200];
    int got = lines_open(&in, path, e) ? -1 : 1;
    while (got > 0 && (got = lines_next(in, &line, e)) > 0) {
        for (size_t n = strlen(line); n > 0 && strchr("\r\t ", line[n - 1]); n--)
            line[n - 1] = 0;
        snprintf(where, sizeof where, "%s: line %ld", path, lines_number(in));
        if (!is_utf8(line))
            got = err_set(e, "%s: not UTF-8 text", where);
        else if (*line && *line != '#' && fn(context, line, where, e))
            got = -1;
    }
    lines_close(in);
    return got;
}

/* Cuts line at its first TAB; returns what follows, or NULL. */
static char *cut(char *line)
{
    char *tab = line ? strchr(line, '\t') : NULL;
    if (!tab)
        return NULL;
    *tab = 0;
    return tab + 1;
}

/* ---- names ---- */

typedef struct NameReader {
    Names *names;
    bool small_letters;
} NameReader;

static const Name *find(const Names *names, const char *name)
{
    for (int i = 0; i < names->count; i++)
        if (strcmp(names->item[i].name, name) == 0)
            return &names->item[i];
    return NULL;
}

static int name_line(void *context, char *line, const char *where, Err *e)
{
    NameReader *r = context;
    char *words = cut(line), *article = cut(words);
    if (!*line || strlen(line) > 200 || strchr(line, '/'))
        return err_set(e, "%s: '%.40s' is no name: names have 1 to 200 bytes and no /", where, line);
    if (strcmp(line, "plain") == 0)
        return err_set(e, "%s: the name 'plain' is taken: ids have it where there is no theme", where);
    if (find(r->names, line))
        return err_set(e, "%s: %s came before", where, line);

    Name *item = realloc(r->names->item, sizeof *item * (r->names->count + 1));
    if (!item)
        return err_set(e, "%s: out of memory", where);
    r->names->item = item;
    Name *n = &item[r->names->count++];
    *n = (Name){.name = strdup(line), .words = strdup(words && *words ? words : line),
                .article = article && *article ? strdup(article) : NULL};
    if (!n->name || !n->words || (article && *article && !n->article))
        return err_set(e, "%s: out of memory", where);
    if (r->small_letters && !(words && *words))
        for (char *c = n->words; *c; c++)
            *c = (char)tolower((unsigned char)*c);
    return 0;
}

int names_read(Names *names, const char *path, bool small_letters, Err *e)
{
    return read_lines(path, name_line, &(NameReader){names, small_letters}, e);
}

static void name_free(Name *n)
{
    free(n->name);
    free(n->words);
    free(n->article);
}

int names_keep(Names *names, const char *const *wanted, int count, const char *what, Err *e)
{
    for (int i = 0; i < count; i++) {
        const Name *n = find(names, wanted[i]);
        if (!n)
            return err_set(e, "%s '%s' is not in the list of %d", what, wanted[i], names->count);
        const int at = (int)(n - names->item);
        if (at < i)
            return err_set(e, "%s '%s' is asked for twice", what, wanted[i]);
        const Name here = names->item[i];
        names->item[i] = names->item[at];
        names->item[at] = here;
    }
    for (int i = count; i < names->count; i++)
        name_free(&names->item[i]);
    names->count = count;
    return 0;
}

void names_free(Names *names)
{
    for (int i = 0; i < names->count; i++)
        name_free(&names->item[i]);
    free(names->item);
    *names = (Names){0};
}

/* ---- templates ---- */

static const char *const fields[] = {"{concept}", "{article}", "{Article}", "{theme}"};

/* Index in fields of the one that text begins with, -1: none. */
static int field_at(const char *text)
{
    for (int i = 0; i < 4; i++)
        if (strncmp(text, fields[i], strlen(fields[i])) == 0)
            return i;
    return -1;
}

static int append(Templates *t, Template one, const char *where, Err *e)
{
    Template *item = realloc(t->item, sizeof *item * (t->count + 1));
    if (item)
        t->item = item;
    if (!item || !one.text) {
        free(one.text);
        free(one.concept);
        return err_set(e, "%s: out of memory", where);
    }
    t->item[t->count++] = one;
    return 0;
}

int templates_add(Templates *t, const char *text, int splits, const char *where, Err *e)
{
    for (const char *c = strchr(text, '{'); c; c = strchr(c + 1, '{'))
        if (field_at(c) < 0)
            return err_set(e, "%s: '%.20s' is no field: expected {concept}, {article}, {Article} or {theme}", where, c);
    if (!is_utf8(text))
        return err_set(e, "%s: not UTF-8 text", where);
    if (!strstr(text, "{concept}"))
        return err_set(e, "%s: the template has no {concept}", where);
    return append(t, (Template){splits, NULL, strdup(text), strstr(text, "{theme}") != NULL}, where, e);
}

static int template_line(void *context, char *line, const char *where, Err *e)
{
    const char *text = cut(line);
    const int splits = strcmp(line, "gather") == 0     ? SPLIT_GATHER
                       : strcmp(line, "generate") == 0 ? SPLIT_GENERATE
                       : strcmp(line, "both") == 0     ? SPLIT_GATHER | SPLIT_GENERATE
                                                       : 0;
    if (!text || !splits)
        return err_set(e, "%s: expected gather, generate or both, a TAB and a template", where);
    return templates_add(context, text, splits, where, e);
}

int templates_read(Templates *t, const char *path, Err *e)
{
    return read_lines(path, template_line, t, e);
}

/* ---- anchors ---- */

typedef struct AnchorReader {
    Templates *templates;
    const Names *concepts;
} AnchorReader;

/* CSV's second field in place: quotes off, doubled quotes single. */
static void unquote(char *text)
{
    if (*text != '"')
        return;
    char *to = text;
    for (const char *c = text + 1; *c && !(c[0] == '"' && c[1] != '"'); c++) {
        *to++ = *c;
        c += *c == '"';
    }
    *to = 0;
}

static int anchor_line(void *context, char *line, const char *where, Err *e)
{
    AnchorReader *r = context;
    char *text = cut(line);
    if (!text && (text = strchr(line, ','))) {
        *text++ = 0;
        unquote(text);
    }
    if (!text || !*text)
        return err_set(e, "%s: expected a concept, a TAB or comma, and a sentence", where);
    if (strcasecmp(line, "concept") == 0)       /* CSV's head */
        return 0;
    if (!find(r->concepts, line))
        return 0;                               /* a concept left out of this run */

    const size_t length = strlen(text) - (text[strlen(text) - 1] == '.');
    char *themed = NULL;
    if (asprintf(&themed, "%.*s in {theme} style.", (int)length, text) < 0)
        themed = NULL;
    const int both = SPLIT_GATHER | SPLIT_GENERATE;
    return append(r->templates, (Template){both, strdup(line), themed, true}, where, e)
        || append(r->templates, (Template){both, strdup(line), strdup(text), false}, where, e);
}

int anchors_read(Templates *t, const char *path, const Names *concepts, Err *e)
{
    return read_lines(path, anchor_line, &(AnchorReader){t, concepts}, e);
}

void templates_free(Templates *t)
{
    for (int i = 0; i < t->count; i++) {
        free(t->item[i].concept);
        free(t->item[i].text);
    }
    free(t->item);
    *t = (Templates){0};
}

/* ---- prompts ---- */

const Template *template_pick(const Templates *t, int split, const Name *concept, bool themed, size_t turn)
{
    for (int own = 1; own >= 0; own--) {        /* the concept's own first, else the general ones */
        size_t fit = 0;
        for (int pass = 0; pass < 2; pass++) {
            size_t left = pass ? turn % fit : 0;
            for (int i = 0; i < t->count; i++) {
                const Template *one = &t->item[i];
                if (!(one->splits & split) || one->themed != themed
                    || (own ? !one->concept || strcmp(one->concept, concept->name) != 0 : one->concept != NULL))
                    continue;
                if (pass && left-- == 0)
                    return one;
                fit++;
            }
            if (!fit)
                break;
        }
    }
    return NULL;
}

char *template_fill(const Template *t, const Name *concept, const Name *theme)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return NULL;
    const char *article = concept->article ? concept->article : strchr("aeiouAEIOU", *concept->words) ? "an" : "a";
    for (const char *c = t->text; *c; c++) {
        const int field = field_at(c);
        switch (field) {
        case 0:  fputs(concept->words, f); break;
        case 1:  fputs(article, f); break;
        case 2:  fprintf(f, "%c%s", toupper((unsigned char)*article), article + 1); break;
        case 3:  fputs(theme ? theme->words : "", f); break;
        default: fputc(*c, f);
        }
        c += field < 0 ? 0 : strlen(fields[field]) - 1;
    }
    return fclose(f) ? free(text), NULL : text;
}
