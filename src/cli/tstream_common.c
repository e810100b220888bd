/* SPDX-License-Identifier: MIT */
/* tstream_common.c -- inputs one after the other, paths made of records. */
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/number.h"
#include "formats/tame.h"
#include "src/cli/tstream.h"

static int same_header(const Record *first, const StreamIn *in, Err *e)
{
    const char *other = record_difference(first, stream_header(in));
    return other ? err_set(e, "%s: header: its %s differs from the first input's", stream_name(in), other) : 0;
}

/* ---- ranges ---- */

static int64_t range_end(const Cli *cli, const char *whole, const char *text, size_t n)
{
    char number[32];
    int64_t value = 0;
    snprintf(number, sizeof number, "%.*s", (int)n, text);
    if (n >= sizeof number || number_count(number, &value) || value < 1)
        cli_misuse(cli, "--range: '%s' is no A-B, A- or A, where records count from 1", whole);
    return value;
}

Range range_parse(const Cli *cli, const char *text)
{
    if (!text)
        return (Range){0};
    const size_t n = strcspn(text, "-");
    const int64_t first = range_end(cli, text, text, n);
    if (text[n] && !text[n + 1])
        return (Range){.skip = first - 1};
    const int64_t last = text[n] ? range_end(cli, text, text + n + 1, strlen(text + n + 1)) : first;
    if (last < first)
        cli_misuse(cli, "--range: '%s' ends before it begins", text);
    return (Range){first - 1, true, last - first + 1};
}

int range_next(Range *left, StreamIn *in, Record *rec, Err *e)
{
    if (range_done(left))
        return 0;
    if (left->skip > 0) {
        const long passed = stream_skip(in, left->skip, e);
        if (passed < 0)
            return -1;
        left->skip -= passed;
    }
    const int got = stream_next(in, rec, e);
    left->limit -= got > 0 && left->limited;
    return got > 0 && range_done(left) && stream_settle(in, e) ? -1 : got;
}

/* ---- inputs ---- */

int walk(const Walk *w, const Common *c, Err *e)
{
    StreamIn *first = NULL;                         /* stays open for its header */
    Range left = w->range;
    int status = 0;
    for (int i = 0; i < cli_input_count(c) && status == 0 && !range_done(&left); i++) {
        StreamIn *in;
        Record rec;
        int got = 0;
        status = stream_open(&in, cli_input(c, i), e);
        if (status == 0 && first && !w->mixed)
            status = same_header(stream_header(first), in, e);
        if (status == 0 && w->on_open)
            status = w->on_open(w->context, in, e);
        while (status == 0 && (got = range_next(&left, in, &rec, e)) > 0)
            status = w->on_record(w->context, in, &rec, e);
        if (got < 0)
            status = -1;
        if (!first)
            first = in;
        else
            stream_close(in);
    }
    stream_close(first);
    return status < 0 ? -1 : 0;
}

void index_check(const Cli *cli, int index, const Common *c)
{
    if (index && c->no_compress)
        cli_misuse(cli, "--index is of zstd frames: not with --no-compress");
}

bool list_next(const char **list, char *item, size_t size)
{
    if (!*list || !**list)
        return false;
    const size_t n = strcspn(*list, ",");
    snprintf(item, size, "%.*s", (int)n, *list);
    *list += n + ((*list)[n] == ',');
    return true;
}

enum { FIELDS_SEEN = 64 };

void fields_see(FieldsSeen *s, const char *list, const Record *rec)
{
    char field[256];
    for (int i = 0; i < FIELDS_SEEN && list_next(&list, field, sizeof field); i++)
        if (json_object_get(rec->fields, field))
            s->seen |= 1ull << i;
    s->records++;
}

void fields_note(const FieldsSeen *s, const char *list, const Cli *cli)
{
    char field[256];
    for (int i = 0; s->records && i < FIELDS_SEEN && list_next(&list, field, sizeof field); i++)
        if (!(s->seen >> i & 1))
            cli_note(cli, "no record has a field '%s'", field);
}

/* ---- paths ---- */

static int append_value(char *path, size_t size, size_t *used, const char *text)
{
    for (; *text; text++) {
        if (*used + 2 > size)
            return -1;
        path[(*used)++] = tame(*text, '_');
    }
    return 0;
}

/* Parts between slashes: empty ones and "." are dropped, ".." becomes "_". In place: a part never grows. */
static void clean_parts(char *path)
{
    char *to = path;
    for (const char *from = path; *from;) {
        const size_t n = strcspn(from, "/");
        const bool dots = n == 2 && from[0] == '.' && from[1] == '.';
        if (n > 0 && !(n == 1 && *from == '.')) {
            if (to != path)
                *to++ = '/';
            memmove(to, dots ? "_" : from, dots ? 1 : n);
            to += dots ? 1 : n;
        }
        from += n + (from[n] == '/');
    }
    *to = 0;
}

int record_path(char *path, size_t size, const char *folder, const char *name, const char *suffix, const StreamIn *in,
                const Record *rec, Err *e)
{
    char inside[4096];
    size_t used = 0;
    int failed = 0;
    for (const char *p = name; *p && !failed;) {
        const char *close = *p == '{' ? strchr(p, '}') : NULL;
        if (!close) {
            failed = append_value(inside, sizeof inside, &used, (char[]){*p++, 0});
            continue;
        }
        char field[128];
        snprintf(field, sizeof field, "%.*s", (int)(close - p - 1), p + 1);
        const json_t *value = json_object_get(rec->fields, field);
        if (!value)
            return err_set(e, "%s: record %ld: has no field %s, which the picture's name needs", stream_name(in),
                           rec->number, field);
        char *text = json_value_text(value);
        failed = !text || append_value(inside, sizeof inside, &used, text);
        free(text);
        p = close + 1;
    }
    inside[used] = 0;
    clean_parts(inside);
    if (failed || snprintf(path, size, "%s/%s%s", folder, inside, suffix) >= (int)size)
        return err_set(e, "%s: record %ld: the picture's path is too long", stream_name(in), rec->number);
    return *inside ? 0 : err_set(e, "%s: record %ld: its picture's name is empty", stream_name(in), rec->number);
}
