/* SPDX-License-Identifier: MIT */
/* prompts.c -- reader of text records: lines into fields, defaults for id and seed, no id twice. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/fnv.h"
#include "formats/lines.h"
#include "src/models/prompts.h"
#include "src/models/splitmix.h"

struct Prompts {
    Lines *in;
    const char *name;           /* of in */
    char *line;                 /* the last */
    uint64_t seed;
    long number, before;        /* lines of this file so far, and of the files before it */
    json_t *fields;             /* of the record handed out last */
    IdSet own, *ids;            /* ids so far: own, or those of prompts_follow */
};

/* ---- seeds and ids ---- */

int64_t prompt_seed(uint64_t seed, const char *id)
{
    return (int64_t)(splitmix(splitmix(seed + SPLITMIX_STEP) ^ fnv_text(id)) >> 33);
}

/* ---- fields ---- */

static const char *type_name(const json_t *value)
{
    static const char *const names[] = {"an object", "an array", "text", "an integer", "a fraction", "true", "false",
                                        "null"};
    return names[json_typeof(value)];
}

/* Moves text field `name` from the line's object to the record's; a missing or null one is left out, and where that
 * says nothing an empty one. */
static int take_text(Prompts *p, json_t *from, const char *name, bool empty_says, Err *e)
{
    json_t *value = json_object_get(from, name);
    if (value && !json_is_string(value) && !json_is_null(value))
        return err_set(e, "%s: line %ld: %s is %s, expected text", p->name, p->number, name, type_name(value));
    if (json_is_string(value) && (empty_says || json_string_length(value)))
        json_object_set(p->fields, name, value);
    json_object_del(from, name);
    return 0;
}

static int take_id(Prompts *p, json_t *from, Err *e)
{
    const json_t *value = json_object_get(from, "id");
    json_t *id;
    if (!value || json_is_null(value))
        id = json_sprintf("%ld", p->before + p->number);
    else if (json_is_integer(value))
        id = json_sprintf("%lld", (long long)json_integer_value(value));
    else if (json_is_string(value) && json_string_length(value))
        id = json_string(json_string_value(value));
    else
        return err_set(e, "%s: line %ld: id is %s, expected text or an integer", p->name, p->number,
                       json_is_string(value) ? "empty" : type_name(value));
    json_object_del(from, "id");
    if (json_object_set_new(p->fields, "id", id))
        return err_set(e, "%s: line %ld: out of memory", p->name, p->number);
    const int fresh = id_set_add(p->ids, json_string_value(id));
    if (fresh < 0)
        return err_set(e, "%s: line %ld: out of memory for the ids of %zu records", p->name, p->number, p->ids->count);
    if (!fresh)
        return err_set(e, "%s: line %ld: id '%s' came before; ids are unique in a run", p->name, p->number,
                       json_string_value(id));
    return 0;
}

static int take_prompt(Prompts *p, json_t *from, Err *e)
{
    json_t *value = json_object_get(from, "prompt");
    if (!json_is_string(value))
        return err_set(e, "%s: line %ld: prompt is %s, expected text", p->name, p->number,
                       value ? type_name(value) : "missing");
    json_object_set(p->fields, "prompt", value);
    json_object_del(from, "prompt");
    return 0;
}

static int take_seed(Prompts *p, json_t *from, Err *e)
{
    const json_t *value = json_object_get(from, "seed");
    int64_t seed;
    if (!value || json_is_null(value)) {
        seed = prompt_seed(p->seed, json_string_value(json_object_get(p->fields, "id")));
    } else {
        seed = json_integer_value(value);
        if (!json_is_integer(value))
            return err_set(e, "%s: line %ld: seed is %s, expected an integer", p->name, p->number, type_name(value));
        if (seed < 0)
            return err_set(e, "%s: line %ld: seed is %lld, expected 0 to 2^63-1", p->name, p->number, (long long)seed);
    }
    json_object_del(from, "seed");
    json_object_set_new(p->fields, "seed", json_integer(seed));
    return 0;
}

/* ---- lines ---- */

/* Reads the next line that is not blank. 1, 0 at the end, -1 on error. */
static int next_line(Prompts *p, Err *e)
{
    int got;
    do
        got = lines_next(p->in, &p->line, e);
    while (got > 0 && !p->line[strspn(p->line, " \t")]);
    p->number = lines_number(p->in);
    return got;
}

/* The line as an object with a prompt; NULL on error. The caller owns it. */
static json_t *line_object(Prompts *p, Err *e)
{
    if (*p->line != '{') {
        json_t *object = json_pack("{s:s}", "prompt", p->line);
        if (!object)
            err_set(e, "out of memory");
        return object;
    }
    json_error_t why;
    json_t *object = json_loads(p->line, JSON_REJECT_DUPLICATES, &why);
    if (!object)
        err_set(e, "%s: line %ld: not a JSON object, though it begins with {: %s at column %d", p->name, p->number,
                why.text, why.column);
    return object;
}

int prompts_open(Prompts **out, const char *path, uint64_t seed, Err *e)
{
    *out = NULL;
    Prompts *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory for a reader of prompts");
    if (lines_open(&p->in, path, e)) {
        prompts_close(p);
        return -1;
    }
    p->name = lines_name(p->in);
    p->seed = seed;
    p->ids = &p->own;
    *out = p;
    return 0;
}

void prompts_follow(Prompts *p, IdSet *ids, long lines)
{
    p->ids = ids;
    p->before = lines;
}

long prompts_lines(const Prompts *p)
{
    return p->before + p->number;
}

int prompts_next(Prompts *p, Record *rec, Err *e)
{
    json_decref(p->fields);
    p->fields = NULL;
    *rec = (Record){0};
    const int got = next_line(p, e);
    if (got <= 0)
        return got;
    json_t *object = line_object(p, e);
    if (!object)
        return -1;
    p->fields = json_object();
    int failed = take_id(p, object, e) || take_prompt(p, object, e) || take_text(p, object, "negative", true, e)
              || take_text(p, object, "init_prompt", true, e) || take_text(p, object, "init_image", false, e)
              || take_text(p, object, "concept", false, e) || take_text(p, object, "theme", false, e)
              || take_seed(p, object, e);
    if (!failed)
        json_object_update(p->fields, object);
    json_decref(object);
    if (failed)
        return -1;
    rec->fields = p->fields;
    rec->number = p->number;
    return 1;
}

void prompts_close(Prompts *p)
{
    if (!p)
        return;
    lines_close(p->in);
    json_decref(p->fields);
    id_set_free(&p->own);
    free(p);
}

const char *prompts_name(const Prompts *p)
{
    return p->name;
}
