/* SPDX-License-Identifier: MIT */
/* stream_test.h -- what the tests of streams share: files of given bytes, a small stream of every kind of field. */
#ifndef TESTS_UNIT_STREAM_TEST_H
#define TESTS_UNIT_STREAM_TEST_H

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "formats/stream.h"
#include "tests/unit/test.h"

typedef struct Blob { unsigned char *data; size_t size; } Blob;

/* A path in a folder of this run's own; good until the fourth next call. */
__attribute__((unused)) static const char *scratch(const char *name)
{
    static char folder[4000], path[4][4096];
    static int turn;
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/stream-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        if (!mkdtemp(folder))
            exit(2);
    }
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

__attribute__((unused)) static void scratch_clear(void)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -r '%s'", scratch(""));
    if (system(command))
        exit(2);
}

__attribute__((unused)) static Blob slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st))
        exit(2);
    Blob b = {malloc((size_t)st.st_size + 1), (size_t)st.st_size};
    if (fread(b.data, 1, b.size, f) != b.size)
        exit(2);
    fclose(f);
    return b;
}

__attribute__((unused)) static const char *spill(const char *name, const void *data, size_t size)
{
    const char *path = scratch(name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        exit(2);
    return path;
}

/* As spill, in memory: for loops over thousands of damaged copies. The path is good until the next call. */
__attribute__((unused)) static const char *spill_memory(const void *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0)
        fd = memfd_create("damaged", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        exit(2);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

/* Writes `records` records of an f16 tensor of (size) values and fields of every type. Exits where that fails. */
__attribute__((unused)) static void write_sample(const char *path, int records, int64_t size,
                                                 const StreamOptions *options)
{
    Err e = {0};
    Record header, rec;
    StreamOut *out;
    const float uncond[3] = {1, -2, 0.5f};
    uint16_t *act = malloc((size_t)size * 2);
    record_init(&header, "activations");
    record_set_text(&header, "model", "minisd");
    record_set_number(&header, "guidance", 7.5);
    record_add_tensor(&header, "uncond", F32, 1, (int64_t[]){3}, uncond);
    record_provenance(&header, NULL, json_pack("{s:s, s:s, s:[]}", "program", "test", "version", "1", "arguments"));
    int failed = stream_create(&out, path, &header, options, &e);
    for (int r = 0; r < records && !failed; r++) {
        for (int64_t i = 0; i < size; i++)
            act[i] = (uint16_t)(0x3c00 + (i * 7 + r * 13) % 1024);
        record_init(&rec, NULL);
        record_set_text(&rec, "id", "Fishes/\xc3\xa9/3");
        record_set_int(&rec, "seed", 5000000000 + r);
        record_set_json(&rec, "more", json_pack("{s:[i, f, n, b]}", "list", -7, 0.25, 1));
        record_add_tensor(&rec, "act", F16, 3, (int64_t[]){1, 1, size}, act);
        failed = stream_write(out, &rec, &e);
        record_clear(&rec);
    }
    if (!failed) {
        failed = stream_finish(out, &e);
        stream_abandon(out);
    }
    record_clear(&header);
    free(act);
    if (failed) {
        printf("FAIL writing the sample: %s\n", e.text);
        exit(1);
    }
}

/* Reads all: the number of records, or -1 with the reason in e. *sum, where not NULL, gets a sum over all of it. */
__attribute__((unused)) static long read_all(const char *path, uint64_t *sum, Err *e)
{
    StreamIn *in;
    Record rec;
    int got;
    long count = 0;
    uint64_t h = 14695981039346656037u;
    if (stream_open(&in, path, e))
        return -1;
    while ((got = stream_next(in, &rec, e)) > 0) {
        char *text = json_dumps(rec.fields, JSON_COMPACT);
        for (const char *p = text; *p; p++)
            h = (h ^ (unsigned char)*p) * 1099511628211u;
        free(text);
        for (int i = 0; i < rec.tensors; i++)
            for (size_t k = 0; k < rec.tensor[i].bytes; k++)
                h = (h ^ ((const unsigned char *)rec.tensor[i].data)[k]) * 1099511628211u;
        count++;
    }
    stream_close(in);
    if (sum)
        *sum = h;
    return got < 0 ? -1 : count;
}

#endif
