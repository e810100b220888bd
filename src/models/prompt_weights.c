/* SPDX-License-Identifier: MIT */
/* prompt_weights.c -- brackets to weights: each bracket, when it closes, multiplies the pieces since it opened. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/prompt_weights.h"

enum { ROUND, SQUARE, KINDS, MOST_OPEN = 256, MOST_WEIGHT = 100 };

typedef struct Reader {
    PromptWeights *w;
    size_t used;                    /* bytes of text */
    int room;                       /* pieces */
    int open[KINDS][MOST_OPEN], depth[KINDS];       /* first pieces of what is in brackets */
    bool fresh;                     /* a bracket or BREAK came: what follows is another piece */
} Reader;

static const double multiplier[KINDS] = {1.1, 1/1.1};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static int add(Reader *r, const char *text, size_t n, bool breaks, Err *e)
{
    PromptWeights *w = r->w;
    if (w->count == r->room) {
        const int room = r->room ? 2*r->room : 8;
        PromptPiece *more = realloc(w->piece, sizeof *more*(size_t)room);
        if (!more)
            return err_set(e, "out of memory for %d pieces of a text", room);
        w->piece = more;
        r->room = room;
    }
    if (w->count == 0 || r->fresh || breaks)
        w->piece[w->count++] = (PromptPiece){.from = r->used, .weight = 1, .breaks = breaks};
    memcpy(w->text + r->used, text, n);
    r->used += n;
    w->piece[w->count - 1].length += n;
    r->fresh = false;
    return 0;
}

/* Text without brackets, backslashes and colons: what lies between its BREAKs. */
static int add_run(Reader *r, const char *run, size_t n, Err *e)
{
    static const char word[] = "BREAK";
    const size_t length = sizeof word - 1;
    size_t from = 0;
    bool breaks = false;
    for (size_t at = 0; at + length <= n; at++)
        if (memcmp(run + at, word, length) == 0 && (at == 0 || !is_word(run[at - 1]))
            && (at + length == n || !is_word(run[at + length]))) {
            if (add(r, run + from, at - from, breaks, e))
                return -1;
            breaks = true;
            from = at + length;
        }
    return add(r, run + from, n - from, breaks, e);
}

static int open_bracket(Reader *r, int kind, Err *e)
{
    if (r->depth[kind] == MOST_OPEN)
        return err_set(e, "more than %d brackets are open at once", MOST_OPEN);
    r->open[kind][r->depth[kind]++] = r->w->count;
    r->fresh = true;
    return 0;
}

static void multiply_from(Reader *r, int first, double by)
{
    for (int i = first; i < r->w->count; i++)
        r->w->piece[i].weight *= by;
    r->fresh = true;
}

/* Bytes of ":NUMBER)" here, 0: something else. The number's are [*from, *to) of them. */
static size_t number_here(const char *text, size_t *from, size_t *to)
{
    size_t at = 1;
    while (is_space(text[at]))
        at++;
    *from = at;
    if (text[at] == '+' || text[at] == '-')
        at++;
    const size_t digits = at;
    at += strspn(text + at, ".0123456789");
    *to = at;
    while (is_space(text[at]))
        at++;
    return *to > digits && text[at] == ')' ? at + 1 : 0;
}

/* What begins with a colon. Returns how many bytes it has, 0 on error. */
static size_t take_colon(Reader *r, const char *text, Err *e)
{
    size_t from, to;
    const size_t n = number_here(text, &from, &to);
    if (n == 0 || r->depth[ROUND] == 0)
        return add(r, text, n ? n : 1, false, e) ? 0 : n ? n : 1;
    char *end;
    const double by = strtod(text + from, &end);
    if (end != text + to) {
        err_set(e, "weight '%.*s' is no number", to - from > 40 ? 40 : (int)(to - from), text + from);
        return 0;
    }
    multiply_from(r, r->open[ROUND][--r->depth[ROUND]], by);
    return n;
}

static size_t take_bracket(Reader *r, const char *text, Err *e)
{
    const int kind = *text == '[' || *text == ']' ? SQUARE : ROUND;
    if (*text == '(' || *text == '[')
        return open_bracket(r, kind, e) ? 0 : 1;
    if (r->depth[kind] == 0)
        return add(r, text, 1, false, e) ? 0 : 1;
    multiply_from(r, r->open[kind][--r->depth[kind]], multiplier[kind]);
    return 1;
}

/* The next thing that the text has. Returns how many bytes it has, 0 on error. */
static size_t take_next(Reader *r, const char *text, Err *e)
{
    const size_t run = strcspn(text, "\\()[]:");
    if (run > 0)
        return add_run(r, text, run, e) ? 0 : run;
    if (*text == ':')
        return take_colon(r, text, e);
    if (*text != '\\')
        return take_bracket(r, text, e);
    const size_t escaped = text[1] && strchr("\\()[]", text[1]) ? 1 : 0;
    return add(r, text + 1, escaped, false, e) ? 0 : 1 + escaped;
}

static int check_weights(const PromptWeights *w, Err *e)
{
    for (int i = 0; i < w->count; i++) {
        const PromptPiece *p = &w->piece[i];
        if (!(fabs(p->weight) <= MOST_WEIGHT))
            return err_set(e, "'%.*s' has weight %g, expected -%d to %d", p->length > 40 ? 40 : (int)p->length,
                           w->text + p->from, p->weight, MOST_WEIGHT, MOST_WEIGHT);
    }
    return 0;
}

static void join_alike(PromptWeights *w)
{
    int last = 0;
    for (int i = 1; i < w->count; i++)
        if (w->piece[i].weight == w->piece[last].weight && !w->piece[i].breaks)
            w->piece[last].length += w->piece[i].length;
        else
            w->piece[++last] = w->piece[i];
    w->count = last + 1;
}

int prompt_weights_read(PromptWeights *w, const char *text, Err *e)
{
    Reader r = {.w = w};
    *w = (PromptWeights){.text = malloc(strlen(text) + 1)};
    if (!w->text)
        return err_set(e, "out of memory for a text of %zu bytes", strlen(text));
    for (size_t n; *text; text += n)
        if ((n = take_next(&r, text, e)) == 0)
            return -1;
    if (w->count == 0 && add(&r, "", 0, false, e))
        return -1;
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < r.depth[kind]; i++)
            multiply_from(&r, r.open[kind][i], multiplier[kind]);
    w->text[r.used] = '\0';
    if (check_weights(w, e))
        return -1;
    join_alike(w);
    return 0;
}

char *prompt_weights_text(const char *prompt, Err *e)
{
    PromptWeights w;
    char *text = NULL;
    size_t used = 0;
    if (prompt_weights_read(&w, prompt, e) == 0 && !(text = malloc(strlen(w.text) + (size_t)w.count + 1)))
        err_set(e, "out of memory for a text of %zu bytes", strlen(prompt));
    for (int i = 0; i < w.count && text; i++) {
        const PromptPiece *p = &w.piece[i];
        if (p->breaks)
            text[used++] = ' ';
        if (p->weight > 0) {
            memcpy(text + used, w.text + p->from, p->length);
            used += p->length;
        }
    }
    if (text)
        text[used] = '\0';
    prompt_weights_clear(&w);
    return text;
}

void prompt_weights_clear(PromptWeights *w)
{
    free(w->text);
    free(w->piece);
    *w = (PromptWeights){0};
}
