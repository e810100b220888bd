/* SPDX-License-Identifier: MIT */
/* tstream_npy.c -- tstream to-npy: one tensor of every record, stacked, as a NumPy file (format 1.0).
 *
 *     "\x93NUMPY" 1 0 [u16: length]
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (records, ...), } spaces "\n"
 *     [data]
 *
 * The header's room is fixed, so it is written last, when the number of records is known. bfloat16, which NumPy lacks,
 * becomes f32, which holds it exactly. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "src/cli/tstream.h"

enum { HEADER = 256 };

typedef struct Config {
    Common c;
    const char *range;
    const char *tensor;
    Aside *out;
    StreamTensor shape;             /* of the first record */
    int64_t records;
    float *values;
} Config;

static const Opt options[] = {
    {'t', "tensor", OPT_STR, offsetof(Config, tensor), NULL, "NAME  the tensor; default: the first of the first record",
     0},
    {'o', "output", OPT_STR, offsetof(Common, output), NULL, "FILE  the .npy file", OPT_NEUTRAL | OPT_REQUIRED},
    RANGE_OPTION, COMMON_OPTIONS, {0}};

static const Cli cli = {
    "tstream to-npy", "Stack one tensor of every record into a NumPy file.", options, "[FILE]...",
    "The array's first axis is the record. All records must agree in shape and type. bfloat16 becomes float32. The "
    "file is written as records come, memory is that of one record.",
    "tstream to-npy -t latent -o latents.npy latents.mpk.zst"};

static void header_text(unsigned char header[HEADER], const Config *cfg)
{
    char shape[160];
    int used = snprintf(shape, sizeof shape, "(%lld,", (long long)cfg->records);
    for (int i = 0; i < cfg->shape.ndim; i++)
        used += snprintf(shape + used, sizeof shape - (size_t)used, " %lld,", (long long)cfg->shape.dim[i]);
    memset(header, ' ', HEADER);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (HEADER - 10) & 0xff;
    header[9] = (HEADER - 10) >> 8;
    const int n = snprintf((char *)header + 10, HEADER - 10, "{'descr': '%s', 'fortran_order': False, 'shape': %s), }",
                           dtype_numpy(cfg->shape.type == BF16 ? F32 : cfg->shape.type), shape);
    header[10 + n] = ' ';
    header[HEADER - 1] = '\n';
}

/* Once before the first byte too, so that none goes to what has no beginning. */
static int rewind_file(const Config *cfg, Err *e)
{
    return lseek(aside_fd(cfg->out), 0, SEEK_SET) == 0
        ? 0 : err_set(e, "%s: a NumPy file needs a regular file: %s", cfg->c.output, strerror(errno));
}

static int begin(Config *cfg, StreamIn *in, const Record *rec, const StreamTensor *t, Err *e)
{
    unsigned char blank[HEADER] = {0};
    cfg->shape = *t;
    if (t->type == BF16 && !(cfg->values = malloc(tensor_count(t) * sizeof *cfg->values + 1)))
        return err_set(e, "%s: record %ld: out of memory", stream_name(in), rec->number);
    return rewind_file(cfg, e) || fd_write(aside_fd(cfg->out), cfg->c.output, blank, HEADER, e) ? -1 : 0;
}

static int on_record(void *context, StreamIn *in, const Record *rec, Err *e)
{
    Config *cfg = context;
    const StreamTensor *t = cfg->tensor ? record_tensor(rec, cfg->tensor) : &rec->tensor[0];
    if (!t || rec->tensors == 0)
        return err_set(e, "%s: record %ld: has no tensor %s", stream_name(in), rec->number, cfg->tensor ? cfg->tensor
                       : "at all");
    if (cfg->records == 0) {
        if (begin(cfg, in, rec, t, e))
            return -1;
        cfg->tensor = cfg->shape.name;
    }
    if (t->type != cfg->shape.type || t->ndim != cfg->shape.ndim
        || memcmp(t->dim, cfg->shape.dim, sizeof *t->dim * (size_t)t->ndim) != 0) {
        char found[128], expected[128];
        return err_set(e, "%s: record %ld: %s is %s, the records before it have %s", stream_name(in), rec->number,
                       t->name,
                       tensor_shape_text(t, found), tensor_shape_text(&cfg->shape, expected));
    }
    cfg->records++;
    if (t->type != BF16)
        return fd_write(aside_fd(cfg->out), cfg->c.output, t->data, t->bytes, e);
    dtype_to_f32(cfg->values, t->data, t->type, tensor_count(t));
    return fd_write(aside_fd(cfg->out), cfg->c.output, cfg->values, 2*t->bytes, e);
}

static int finish(const Config *cfg, Err *e)
{
    unsigned char header[HEADER];
    if (cfg->records == 0)
        return err_set(e, "no records came: the array's shape is not known");
    header_text(header, cfg);
    return rewind_file(cfg, e) || fd_write(aside_fd(cfg->out), cfg->c.output, header, HEADER, e) ? -1 : 0;
}

int tstream_to_npy(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    cli_parse(&cli, &cfg, argc, argv);
    if (strcmp(cfg.c.output, "-") == 0)
        cli_misuse(&cli, "-o - is not possible: the number of records stands in the file's header; name a file");
    const Walk w = {NULL, on_record, &cfg, true, range_parse(&cli, cfg.range)};
    int failed = !(cfg.out = aside_open(cfg.c.output, &e)) || walk(&w, &cfg.c, &e) || finish(&cfg, &e);
    if (failed)
        aside_abandon(cfg.out);
    else
        failed = aside_commit(cfg.out, true, &e);
    free(cfg.values);
    return failed ? cli_report(&cli, &e) : 0;
}
