/* SPDX-License-Identifier: MIT */
/* tstream_stat.c -- tstream stat: count, mean, deviation and extremes of each tensor, by group, as TSV.
 *
 *     n = n_a + n_b      d = mean_b - mean_a      mean = mean_a + d n_b/n
 *     M = M_a + M_b + d^2 n_a n_b/n               std = sqrt(M/n)
 *
 * One record's mean and sum of squares are taken in two passes, then merged as above (Chan, Golub, LeVeque 1979), in
 * the order of the records. NaN and infinity are counted and left out of the rest. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/tame.h"
#include "src/cli/tstream.h"

typedef struct Group {
    char *key;                  /* its columns, tabs between */
    char tensor[40];
    long records;
    double n, mean, M, min, max;
    long long nans, infinities;
} Group;

typedef struct Config {
    Common c;
    const char *range;
    const char *by;
    FieldsSeen seen;            /* of --by */
    Group *group;
    size_t groups, capacity;
    json_t *index;              /* "key\ttensor" to its place in group */
    double *values;
    size_t room;
} Config;

static const Opt options[] = {
    RANGE_OPTION, COMMON_OPTIONS,
    {'b', "by", OPT_STR, offsetof(Config, by), NULL,
     "FIELDS  one row for each value of these fields (hook,t); one that no record has is a note", 0},
    {0}};

static const Cli cli = {
    "tstream stat", "Count, mean, deviation and extremes of each tensor, as a table with tabs.", options, "[FILE]...",
    "Columns: the fields of --by, then tensor, records, values, mean, std, min, max, nan, inf. NaN and infinity are "
    "counted and left out of the rest. Groups come in the order in which they appear. Memory grows with the number of "
    "groups only.",
    "tstream stat --by hook,t acts.mpk.zst\n"
    "tstream stat --by concept latents.mpk.zst | column -t"};

static int group_key(char *key, size_t size, const char *list, const Record *rec)
{
    char field[256];
    size_t used = 0;
    for (*key = 0; list_next(&list, field, sizeof field);) {
        char *value = json_value_text(json_object_get(rec->fields, field));
        for (const char *text = value ? value : ""; *text && used + 3 < size; text++)
            key[used++] = tame(*text, ' ');      /* a table's cell holds no tab or newline */
        key[used++] = '\t';
        key[used] = 0;
        free(value);
        if (used + 3 >= size)
            return -1;
    }
    return 0;
}

static Group *group_find(Config *cfg, const char *key, const char *tensor)
{
    char name[4200];
    snprintf(name, sizeof name, "%s%s", key, tensor);
    const json_t *place = json_object_get(cfg->index, name);
    if (place)
        return &cfg->group[json_integer_value(place)];
    if (cfg->groups == cfg->capacity) {
        const size_t capacity = cfg->capacity ? 2*cfg->capacity : 64;
        Group *more = realloc(cfg->group, capacity * sizeof *more);
        if (!more)
            return NULL;
        cfg->group = more;
        cfg->capacity = capacity;
    }
    Group *g = &cfg->group[cfg->groups];
    *g = (Group){.key = strdup(key), .min = INFINITY, .max = -INFINITY};
    snprintf(g->tensor, sizeof g->tensor, "%s", tensor);
    if (!g->key || json_object_set_new(cfg->index, name, json_integer((json_int_t)cfg->groups))) {
        free(g->key);
        return NULL;
    }
    cfg->groups++;
    return g;
}

static void group_add(Group *g, const double *x, size_t count)
{
    double n = 0, sum = 0, M = 0;
    for (size_t i = 0; i < count; i++)
        if (isfinite(x[i])) {
            n++;
            sum += x[i];
            g->min = fmin(g->min, x[i]);
            g->max = fmax(g->max, x[i]);
        } else if (isnan(x[i])) {
            g->nans++;
        } else {
            g->infinities++;
        }
    g->records++;
    if (n == 0)
        return;
    const double mean = sum / n;
    for (size_t i = 0; i < count; i++)
        if (isfinite(x[i]))
            M += (x[i] - mean) * (x[i] - mean);
    const double d = mean - g->mean, total = g->n + n;
    g->mean += d * n / total;
    g->M += M + d * d * g->n * n / total;
    g->n = total;
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    char key[4096];
    if (group_key(key, sizeof key, cfg->by, rec))
        return err_set(e, "%s: record %ld: the values of --by are over 4000 characters long", stream_name(in),
                       rec->number);
    fields_see(&cfg->seen, cfg->by, rec);
    for (int i = 0; i < rec->tensors; i++) {
        const StreamTensor *t = &rec->tensor[i];
        const size_t n = tensor_count(t);
        if (n > cfg->room) {
            free(cfg->values);
            cfg->values = malloc(n * sizeof *cfg->values);
            cfg->room = cfg->values ? n : 0;
        }
        Group *g = n > cfg->room ? NULL : group_find(cfg, key, t->name);
        if (!g)
            return err_set(e, "%s: record %ld: out of memory, or a name that is not UTF-8", stream_name(in),
                           rec->number);
        dtype_to_f64(cfg->values, t->data, t->type, n);
        group_add(g, cfg->values, n);
    }
    return 0;
}

static int print_table(const Config *cfg, Err *e)
{
    char field[256];
    for (const char *list = cfg->by; list_next(&list, field, sizeof field);)
        printf("%s\t", field);
    puts("tensor\trecords\tvalues\tmean\tstd\tmin\tmax\tnan\tinf");
    for (size_t i = 0; i < cfg->groups; i++) {
        const Group *g = &cfg->group[i];
        fputs(g->key, stdout);
        tame_print(stdout, g->tensor, ' ');
        printf("\t%ld\t%.0f\t", g->records, g->n + (double)(g->nans + g->infinities));
        if (g->n > 0)
            printf("%.6g\t%.6g\t%.6g\t%.6g", g->mean, sqrt(g->M / g->n), g->min, g->max);
        else
            printf("nan\tnan\tnan\tnan");
        printf("\t%lld\t%lld\n", g->nans, g->infinities);
    }
    return stdout_check(e);
}

int tstream_stat(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    cfg.index = json_object();
    const Walk w = {NULL, on_record, &cfg, true, range_parse(&cli, cfg.range)};
    int failed = walk(&w, &cfg.c, &e) || print_table(&cfg, &e);
    failed = stdout_flush(&e) || failed;
    if (!failed)
        fields_note(&cfg.seen, cfg.by, &cli);
    for (size_t i = 0; i < cfg.groups; i++)
        free(cfg.group[i].key);
    free(cfg.group);
    free(cfg.values);
    json_decref(cfg.index);
    return failed ? cli_report(&cli, &e) : 0;
}
