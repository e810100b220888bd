/* SPDX-License-Identifier: MIT */
/* picture_source.c -- pictures from streams, PNG and JPEG files and folders, in order. */
#include <errno.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/image.h"
#include "formats/lines.h"
#include "src/models/picture_source.h"
#include "src/models/run_fields.h"

struct PictureSource {
    const char *const *operand;     /* those still to open */
    int operands;
    StreamIn *in;                   /* the open stream, or */
    char **file;                    /* the pictures of the open operand */
    size_t files, next;
    size_t folder;                  /* bytes of their paths that are no part of an id */
    json_t *run;                    /* what the open stream's header says of its run */
    json_t *provenance;             /* of each stream opened so far */
    Picture now;                    /* record and run are ours where they come of a file */
    Image image;
};

/* ---- operands ---- */

static int add_file(PictureSource *s, const char *path, Err *e)
{
    char **more = realloc(s->file, (s->files + 1) * sizeof *more);
    if (more)
        s->file = more;
    if (!more || !(more[s->files] = strdup(path)))
        return err_set(e, "out of memory for %zu file names", s->files + 1);
    s->files++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int open_folder(PictureSource *s, const char *path, Err *e)
{
    FTS *walk = fts_open((char *const[]){(char *)path, NULL}, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *at;
    int failed = walk ? 0 : err_set(e, "%s: %s", path, strerror(errno));
    while (!failed && (at = fts_read(walk))) {
        if (at->fts_level > 0 && at->fts_name[0] == '.')    /* hidden: no picture of ours has such a name */
            fts_set(walk, at, FTS_SKIP);
        else if (at->fts_info == FTS_DNR || at->fts_info == FTS_ERR)
            failed = err_set(e, "%s: the folder cannot be read: %s", at->fts_path, strerror(at->fts_errno));
        else if (at->fts_info == FTS_F && image_ending(at->fts_path))
            failed = add_file(s, at->fts_path, e);
    }
    if (walk)
        fts_close(walk);
    if (!failed && !s->files)
        failed = err_set(e, "%s: no PNG or JPEG files in this folder", path);
    if (s->files)
        qsort(s->file, s->files, sizeof *s->file, by_name);
    s->folder = strlen(path);
    s->folder += s->folder > 0 && path[s->folder - 1] != '/';
    return failed;
}

static int open_file(PictureSource *s, const char *path, Err *e)
{
    const char *slash = strrchr(path, '/');
    s->folder = slash ? (size_t)(slash + 1 - path) : 0;
    return add_file(s, path, e);
}

static int open_stream(PictureSource *s, const char *path, Err *e)
{
    if (stream_open_kind(&s->in, path, "images", e))
        return -1;
    const json_t *header = stream_header(s->in)->fields;
    json_array_append(s->provenance, json_object_get(header, "provenance"));
    if (!(s->run = json_object()))
        return err_set(e, "out of memory");
    run_fields_copy(s->run, header, run_fields_of_pictures);
    return 0;
}

static void close_operand(PictureSource *s)
{
    stream_close(s->in);
    for (size_t i = 0; i < s->files; i++)
        free(s->file[i]);
    free(s->file);
    json_decref(s->run);
    s->in = NULL;
    s->run = NULL;
    s->file = NULL;
    s->files = s->next = 0;
}

static int open_operand(PictureSource *s, Err *e)
{
    const char *path = *s->operand++;
    struct stat st;
    close_operand(s);
    s->operands--;
    if (strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return open_folder(s, path, e);
    return image_ending(path) ? open_file(s, path, e) : open_stream(s, path, e);
}

int picture_source_open(PictureSource **out, const char *const *operands, int count, Err *e)
{
    static const char *const standard_input[] = {"-"};
    PictureSource *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return err_set(e, "out of memory");
    s->operand = count ? operands : standard_input;
    s->operands = count ? count : 1;
    if (!(s->provenance = json_array()) ? err_set(e, "out of memory") : open_operand(s, e)) {
        picture_source_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* ---- pictures ---- */

static void drop_picture(PictureSource *s)
{
    if (!s->in)                     /* a stream's record is the stream's */
        record_clear(&s->now.record);
    json_decref(s->now.run);
    image_free(&s->image);
    s->now = (Picture){0};
}

static int next_of_stream(PictureSource *s, Err *e)
{
    Record *rec = &s->now.record;
    const int got = stream_next(s->in, rec, e);
    if (got <= 0) {
        *rec = (Record){0};
        return got;
    }
    const StreamTensor *x = stream_need(s->in, rec, "image", U8, 3, (int64_t[]){-1, -1, 3}, e);
    if (x && !tensor_count(x))
        err_set(e, "%s: record %ld: the picture has no pixels", stream_name(s->in), rec->number);
    if (!x || e->set)
        return -1;
    s->now.rgb = x->data;
    s->now.H = (int)x->dim[0];
    s->now.W = (int)x->dim[1];
    s->now.run = json_incref(s->run);
    rec->tensors = 0;
    return 1;
}

/* A text chunk as what it was before it became text. */
static void take_chunk(Picture *p, const char *name, json_t *text)
{
    json_t *value = NULL;
    bool of_run = run_field(name);
    for (const char *const *other = run_fields_of_pictures; *other; other++)
        of_run |= strcmp(name, *other) == 0;
    if (of_run) {
        json_object_set(p->run, name, text);
        return;
    }
    if (strcmp(name, "seed") == 0 || strcmp(name, "steering") == 0)
        value = json_loads(json_string_value(text), JSON_DECODE_ANY, NULL);
    record_set_json(&p->record, name, value ? value : json_incref(text));
}

static int next_of_files(PictureSource *s, Err *e)
{
    Picture *p = &s->now;
    json_t *chunks = NULL, *text;
    const char *name;
    if (s->next == s->files)
        return 0;
    const char *path = s->file[s->next++];
    char id[PATH_MAX];
    if (image_read_rgb(&s->image, path, &chunks, e))
        return -1;
    record_init(&p->record, NULL);
    p->run = json_object();
    snprintf(id, sizeof id, "%.*s", (int)(strlen(path + s->folder) - image_ending(path)), path + s->folder);
    utf8_mend(id);
    record_set_text(&p->record, "id", id);
    json_object_foreach(chunks, name, text)
        take_chunk(p, name, text);
    json_decref(chunks);
    p->rgb = s->image.pixels;
    p->H = s->image.height;
    p->W = s->image.width;
    return 1;
}

int picture_source_next(PictureSource *s, Picture *p, Err *e)
{
    for (;;) {
        drop_picture(s);
        const int got = s->in ? next_of_stream(s, e) : next_of_files(s, e);
        if (got) {
            *p = s->now;
            return got;
        }
        if (!s->operands)
            return 0;
        if (open_operand(s, e))
            return -1;
    }
}

const char *picture_source_where(const PictureSource *s, char *text, size_t size)
{
    if (s->in)
        snprintf(text, size, "%s: record %ld", stream_name(s->in), s->now.record.number);
    else
        snprintf(text, size, "%s", s->next ? s->file[s->next - 1] : "no picture");
    return text;
}

json_t *picture_source_provenance(const PictureSource *s)
{
    return provenance_join(s->provenance, false);
}

void picture_source_close(PictureSource *s)
{
    if (!s)
        return;
    drop_picture(s);
    close_operand(s);
    json_decref(s->provenance);
    free(s);
}
