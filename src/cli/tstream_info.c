/* SPDX-License-Identifier: MIT */
/* tstream_info.c -- tstream info: what a stream holds, for people or as one JSON object a file. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/lines.h"
#include "formats/seek_table.h"
#include "formats/tame.h"
#include "src/cli/tstream.h"

typedef struct Config {
    Common c;
    int json, header;
} Config;

static const Opt options[] = {
    COMMON_OPTIONS,
    {'j', "json", OPT_FLAG, offsetof(Config, json), NULL, "one JSON object a file", 0},
    {'H', "header", OPT_FLAG, offsetof(Config, header), NULL, "read the header only: no counts, but at once", 0},
    {0}};

static const Cli cli = {
    "tstream info", "Say what a tensor stream holds.", options, "[FILE]...",
    "Prints kind, header fields, provenance, what an index says, counts of records, fields and tensors, and sizes. The "
    "whole stream is read, and so checked, unless --header is given. Memory is that of the largest record.",
    "tstream info acts.mpk.zst\n"
    "tstream info --json acts.mpk.zst | jq .records"};

/* Counts of what records hold: {"name": count}, in order of first appearance. */
static void count_up(json_t *counts, const char *name)
{
    json_object_set_new(counts, name, json_integer(json_integer_value(json_object_get(counts, name)) + 1));
}

static json_t *shape_json(const StreamTensor *t)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++)
        json_array_append_new(shape, json_integer(t->dim[i]));
    return shape;
}

static json_t *header_tensors(const Record *header)
{
    json_t *all = json_object();
    for (int i = 0; i < header->tensors; i++)
        json_object_set_new(all, header->tensor[i].name,
                            json_pack("{s:s, s:o}", "type", dtype_name(header->tensor[i].type), "shape",
                                      shape_json(&header->tensor[i])));
    return all;
}

/* {"frames", "records"} of an index, "damaged", or NULL: there is none. */
static json_t *index_json(StreamIn *in)
{
    const SeekTable *t;
    Err damage = {0};
    const int got = stream_index(in, &t, &damage);
    return got < 0 ? json_string("damaged")
         : got > 0 ? json_pack("{s:I, s:I}", "frames", (json_int_t)t->count, "records", (json_int_t)t->records)
         : NULL;
}

/* Reads the stream into {"file", "kind", "header", "header_tensors", "records", "fields", "tensors", "bytes", ...}. */
static json_t *survey(StreamIn *in, bool header_only, Err *e)
{
    const Record *header = stream_header(in);
    json_t *fields = json_object(), *tensors = json_object();
    long records = 0;
    long long tensor_bytes = 0;
    Record rec;
    int got = 0;
    while (!header_only && (got = stream_next(in, &rec, e)) > 0) {
        const char *name;
        json_t *value;
        records++;
        json_object_foreach(rec.fields, name, value)
            count_up(fields, name);
        for (int i = 0; i < rec.tensors; i++) {
            char shape[128], text[200];
            snprintf(text, sizeof text, "%s %s", rec.tensor[i].name, tensor_shape_text(&rec.tensor[i], shape));
            count_up(tensors, text);
            tensor_bytes += (long long)rec.tensor[i].bytes;
        }
    }
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s", stream_name(in));
    utf8_mend(name);
    json_t *all = json_pack("{s:s, s:s, s:O, s:o}", "file", name, "kind", stream_kind(in), "header",
                            header->fields,
                            "header_tensors", header_tensors(header));
    json_t *index = all ? index_json(in) : NULL;
    if (index)
        json_object_set_new(all, "index", index);
    if (all && !header_only) {
        json_object_set_new(all, "records", json_integer(records));
        json_object_set(all, "fields", fields);
        json_object_set(all, "tensors", tensors);
        json_object_set_new(all, "bytes", json_integer(stream_bytes_in(in)));
        json_object_set_new(all, "tensor_bytes", json_integer(tensor_bytes));
    }
    json_decref(fields);
    json_decref(tensors);
    if (got < 0) {
        json_decref(all);
        return NULL;
    }
    if (!all)
        err_set(e, "%s: out of memory", stream_name(in));
    return all;
}

/* ---- for people ---- */

static const char *bytes_text(long long bytes, char text[32])
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB"};
    double size = (double)bytes;
    int u = 0;
    for (; size >= 1000 && u < 4; u++)
        size /= 1000;
    snprintf(text, 32, u ? "%.2f %s" : "%.0f %s", size, units[u]);
    return text;
}

/* Text of the stream; NULL: what came is no text. Returns the bytes printed. */
static int print_text(const char *text)
{
    return tame_print(stdout, text ? text : "?", '?');
}

static void print_value(const char *name, const json_t *value)
{
    char *text = json_value_text(value);
    fputs("  ", stdout);
    for (int n = print_text(name); n < 16; n++)
        putchar(' ');
    putchar(' ');
    print_text(text);
    putchar('\n');
    free(text);
}

static void print_provenance(const json_t *provenance)
{
    size_t i, k;
    json_t *step, *argument;
    json_array_foreach(provenance, i, step) {
        printf("  %zu. ", i + 1);
        print_text(json_string_value(json_object_get(step, "program")));
        putchar(' ');
        print_text(json_string_value(json_object_get(step, "version")));
        json_array_foreach(json_object_get(step, "arguments"), k, argument) {
            putchar(' ');
            print_text(json_string_value(argument));
        }
        putchar('\n');
    }
}

static void print_counts(const json_t *counts, long long records)
{
    const char *name;
    json_t *n;
    json_object_foreach((json_t *)counts, name, n) {
        fputs("  ", stdout);
        print_text(name);
        if (json_integer_value(n) != records)
            printf(" in %lld of them", (long long)json_integer_value(n));
        putchar('\n');
    }
}

static void print_people(const json_t *all)
{
    const json_t *header = json_object_get(all, "header"), *records = json_object_get(all, "records");
    const char *name;
    json_t *value;
    print_text(json_string_value(json_object_get(all, "file")));
    fputs(": ", stdout);
    print_text(json_string_value(json_object_get(all, "kind")));
    puts("\nheader:");
    json_object_foreach((json_t *)header, name, value)
        if (strcmp(name, "stream") != 0 && strcmp(name, "provenance") != 0)
            print_value(name, value);
    json_object_foreach(json_object_get(all, "header_tensors"), name, value)
        print_value(name, value);
    puts("made by:");
    print_provenance(json_object_get(header, "provenance"));
    const json_t *index = json_object_get(all, "index"), *indexed = json_object_get(index, "records");
    if (indexed)
        printf("indexed: %lld records in %lld frames\n", (long long)json_integer_value(indexed),
               (long long)json_integer_value(json_object_get(index, "frames")));
    else if (index)
        puts("indexed, but the index is damaged");
    if (!records)
        return;
    const long long n = json_integer_value(records), bytes = json_integer_value(json_object_get(all, "bytes"));
    const long long tensor_bytes = json_integer_value(json_object_get(all, "tensor_bytes"));
    char a[32], b[32];
    printf("%lld records with\n", n);
    print_counts(json_object_get(all, "fields"), n);
    print_counts(json_object_get(all, "tensors"), n);
    printf("%s, for %s of tensors", bytes_text(bytes, a), bytes_text(tensor_bytes, b));
    if (bytes > 0 && tensor_bytes > 0)
        printf(" (%.1f %%)", 100.0 * (double)bytes / (double)tensor_bytes);
    putchar('\n');
}

int tstream_info(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    int failed = 0;
    for (int i = 0; i < cli_input_count(&cfg.c) && !failed; i++) {
        StreamIn *in;
        json_t *all = NULL;
        failed = stream_open(&in, cli_input(&cfg.c, i), &e) || !(all = survey(in, cfg.header, &e));
        if (!failed && cfg.json) {
            json_dumpf(all, stdout, JSON_COMPACT);
            putchar('\n');
        } else if (!failed) {
            if (i > 0)
                putchar('\n');
            print_people(all);
        }
        failed = failed || stdout_check(&e);
        json_decref(all);
        stream_close(in);
    }
    const int unsaid = stdout_flush(&e);
    return failed || unsaid ? cli_report(&cli, &e) : 0;
}
