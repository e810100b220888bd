/* SPDX-License-Identifier: MIT */
/* tstream_view.c -- tstream view: records as JSON lines or as columns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/tame.h"
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    const char *range;
    int tensors, header;
    const char *tsv;
    FieldsSeen seen;            /* of --tsv */
    double *values;             /* room for one tensor */
    size_t room;
} Config;

static const Opt options[] = {
    RANGE_OPTION, COMMON_OPTIONS,
    {'H', "header", OPT_FLAG, offsetof(Config, header), NULL, "print the header first", 0},
    {'t', "tensors", OPT_FLAG, offsetof(Config, tensors), NULL, "print the tensors' values too, in one row each", 0},
    {0, "tsv", OPT_STR, offsetof(Config, tsv), NULL,
     "FIELDS  these fields only (a,b,c), with tabs between; tabs, newlines and backslashes in them "
     "as \\t, \\n, \\\\; one that no record has is a note", 0},
    {0}};

static const Cli cli = {
    "tstream view", "Print records as JSON lines.", options, "[FILE]...",
    "A line holds a record's fields, and for each tensor its type and shape. A value that is not finite is printed as "
    "null. Memory is that of the largest record.",
    "tstream view acts.mpk.zst | jq -r 'select(.concept == \"Fishes\") | .id'\n"
    "tstream view --tsv concept,t acts.mpk.zst | sort | uniq -c"};

static const char *number_format(DType type)
{
    return type == F64 ? "%.17g" : type == F32 ? "%.9g" : type == F16 ? "%.5g" : type == BF16 ? "%.4g" : "%.0f";
}

static int print_values(Config *cfg, const StreamTensor *t, Err *e)
{
    const size_t n = tensor_count(t);
    if (n > cfg->room) {
        free(cfg->values);
        cfg->values = malloc(n * sizeof *cfg->values);
        cfg->room = cfg->values ? n : 0;
        if (!cfg->values)
            return err_set(e, "out of memory for %zu values", n);
    }
    dtype_to_f64(cfg->values, t->data, t->type, n);
    fputs(",\"values\":[", stdout);
    for (size_t i = 0; i < n; i++) {
        const double value = cfg->values[i];
        if (i > 0)
            putchar(',');
        if (t->type == I64)
            printf("%lld", (long long)((const int64_t *)t->data)[i]);
        else if (isfinite(value))
            printf(number_format(t->type), value);
        else
            fputs("null", stdout);
    }
    putchar(']');
    return 0;
}

static int print_json(Config *cfg, const Record *rec, Err *e)
{
    char *fields = json_dumps(rec->fields, JSON_COMPACT);
    if (!fields)
        return err_set(e, "out of memory");
    fields[strlen(fields) - 1] = 0;                     /* the closing brace comes after the tensors */
    fputs(fields, stdout);
    const char *comma = fields[1] ? "," : "";
    free(fields);
    for (int i = 0; i < rec->tensors; i++, comma = ",") {
        const StreamTensor *t = &rec->tensor[i];
        char *name = NULL;
        json_t *text = json_string(t->name);
        if (!text || !(name = json_dumps(text, JSON_ENCODE_ANY))) {
            json_decref(text);
            return err_set(e, "record %ld: the name of tensor %d is not UTF-8", rec->number, i + 1);
        }
        printf("%s%s:{\"type\":\"%s\",\"shape\":[", comma, name, dtype_name(t->type));
        free(name);
        json_decref(text);
        for (int d = 0; d < t->ndim; d++)
            printf("%s%lld", d ? "," : "", (long long)t->dim[d]);
        putchar(']');
        if (cfg->tensors && print_values(cfg, t, e))
            return -1;
        putchar('}');
    }
    puts("}");
    return stdout_check(e);
}

static void print_cell(const json_t *value)
{
    char *all = json_value_text(value);
    for (const char *text = all ? all : ""; *text; text++)
        switch (*text) {
        case '\t': fputs("\\t", stdout); break;
        case '\n': fputs("\\n", stdout); break;
        case '\\': fputs("\\\\", stdout); break;
        default:
            if (tame(*text, 0))
                putchar(*text);
            else
                printf("\\x%02x", (unsigned char)*text);
        }
    free(all);
}

static int print_tsv(Config *cfg, const Record *rec, Err *e)
{
    const char *list = cfg->tsv;
    char field[256];
    fields_see(&cfg->seen, list, rec);
    for (int i = 0; list_next(&list, field, sizeof field); i++) {
        if (i > 0)
            putchar('\t');
        print_cell(json_object_get(rec->fields, field));
    }
    putchar('\n');
    return stdout_check(e);
}

static int on_open(void *context, StreamIn *in, Err *e)
{
    Config *cfg = context;
    return cfg->header ? print_json(cfg, stream_header(in), e) : 0;
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    (void)in;
    return cfg->tsv ? print_tsv(cfg, rec, e) : print_json(cfg, rec, e);
}

int tstream_view(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.tsv && (!*cfg.tsv || cfg.tensors))
        cli_misuse(&cli, "%s", *cfg.tsv ? "--tsv prints fields alone, not --tensors"
                                        : "--tsv names no field");
    const Walk w = {on_open, on_record, &cfg, true, range_parse(&cli, cfg.range)};
    int failed = walk(&w, &cfg.c, &e);
    failed = stdout_flush(&e) || failed;
    if (!failed)
        fields_note(&cfg.seen, cfg.tsv, &cli);
    free(cfg.values);
    return failed ? cli_report(&cli, &e) : 0;
}
