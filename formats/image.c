/* SPDX-License-Identifier: MIT */
/* image.c -- PNG files written by libpng, and in memory: deterministic bytes, fields as iTXt chunks.
 *
 * libpng reports errors by longjmp, so what must outlive one is kept in a struct, never in a local. */
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/image_parts.h"
#include "formats/json_file.h"

enum { ZLIB_LEVEL = 4, MAX_KEY = 79 };

typedef struct Job {
    const char *name;
    int fd;                     /* -1: to memory */
    uint8_t *memory;
    size_t size, room;
    Err *e;
    png_structp png;
    png_infop info;
    png_text *text;             /* chunks to write, and the JSON made for those that are not strings */
    char **made;
    int texts;
} Job;

static void on_error(png_structp png, png_const_charp reason)
{
    const Job *job = png_get_error_ptr(png);
    err_set(job->e, "%s: %s", job->name, reason);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp reason)
{
    (void)png;
    (void)reason;
}

/* ---- writing ---- */

static int to_memory(Job *job, const uint8_t *data, size_t n)
{
    if (n > job->room - job->size) {
        const size_t room = 2 * (job->size + n);
        uint8_t *more = realloc(job->memory, room);
        if (!more)
            return err_set(job->e, "%s: out of memory", job->name);
        job->memory = more;
        job->room = room;
    }
    memcpy(job->memory + job->size, data, n);
    job->size += n;
    return 0;
}

static void on_write(png_structp png, png_bytep data, png_size_t n)
{
    Job *job = png_get_io_ptr(png);
    if (job->fd < 0 ? to_memory(job, data, n) : fd_write(job->fd, job->name, data, n, job->e))
        png_longjmp(png, 1);
}

static void on_flush(png_structp png)
{
    (void)png;
}

static char translated[] = IMAGE_FIELD;

/* 1 to 79 characters of ASCII, no space at either end. */
static bool is_keyword(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if (name[i] < 32 || name[i] > 126)
            return false;
    return length > 0 && length <= MAX_KEY && name[0] != ' ' && name[length - 1] != ' ';
}

static int make_texts(Job *job, const json_t *text)
{
    const size_t n = json_object_size(text);
    const char *key;
    json_t *value;
    if (n == 0)
        return 0;
    job->text = calloc(n, sizeof *job->text);
    job->made = calloc(n, sizeof *job->made);
    if (!job->text || !job->made)
        return err_set(job->e, "out of memory");
    json_object_foreach((json_t *)text, key, value) {
        const bool keyword = is_keyword(key);
        if (!*key)
            return err_set(job->e, "%s: a field without a name has no place among a PNG's text chunks", job->name);
        png_text *t = &job->text[job->texts];
        char *string = job->made[job->texts] = json_value_text(value);
        if (!string)
            return err_set(job->e, "out of memory");
        t->compression = PNG_ITXT_COMPRESSION_NONE;
        t->key = keyword ? (char *)key : translated;
        t->text = string;
        t->itxt_length = strlen(string);
        t->lang = "";
        t->lang_key = keyword ? "" : (char *)key;
        job->texts++;
    }
    return 0;
}

static int write_png(Job *job, int width, int height, int channels, const uint8_t *pixels)
{
    if (!(job->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_warning))
        || !(job->info = png_create_info_struct(job->png)))
        return err_set(job->e, "%s: out of memory", job->name);
    if (setjmp(png_jmpbuf(job->png)))
        return -1;
    png_set_write_fn(job->png, job, on_write, on_flush);
    png_set_user_limits(job->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_compression_level(job->png, ZLIB_LEVEL);
    png_set_filter(job->png, 0, PNG_FILTER_SUB | PNG_FILTER_UP | PNG_FILTER_PAETH);
    png_set_IHDR(job->png, job->info, (png_uint_32)width, (png_uint_32)height, 8,
                 channels == 1 ? PNG_COLOR_TYPE_GRAY : channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_RGB_ALPHA,
                 PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (job->texts)
        png_set_text(job->png, job->info, job->text, job->texts);
    png_write_info(job->png, job->info);
    for (int y = 0; y < height; y++)
        png_write_row(job->png, pixels + (size_t)y * (size_t)width * (size_t)channels);
    png_write_end(job->png, NULL);
    return 0;
}

int image_write(const char *path, int width, int height, int channels, const uint8_t *pixels, const json_t *text,
                Err *e)
{
    const bool is_stdout = strcmp(path, "-") == 0;
    Job job = {.name = is_stdout ? "standard output" : path, .fd = STDOUT_FILENO, .e = e};
    if ((channels != 1 && channels != 3) || width < 1 || height < 1 || width > IMAGE_MAX_SIDE
        || height > IMAGE_MAX_SIDE)
        return err_set(e, "%s: a picture of %d x %d x %d cannot be written, expected 1 or 3 channels and sides up to "
                          "%d", job.name,
                       width, height, channels, IMAGE_MAX_SIDE);
    Aside *aside = is_stdout ? NULL : aside_open(path, e);
    if (!is_stdout && !aside)
        return -1;
    if (aside)
        job.fd = aside_fd(aside);

    const int failed = fd_refuse_terminal(job.fd, job.name, "a picture is", e)
                    || make_texts(&job, text) || write_png(&job, width, height, channels, pixels);
    png_destroy_write_struct(&job.png, &job.info);
    for (int i = 0; i < job.texts; i++)
        free(job.made[i]);
    free(job.made);
    free(job.text);
    if (failed) {
        aside_abandon(aside);
        return -1;
    }
    return aside ? aside_commit(aside, false, e) : fd_settle(job.fd, job.name, e);
}

int image_encode(uint8_t **bytes, size_t *n, int width, int height, int channels, const uint8_t *pixels, Err *e)
{
    Job job = {.name = "a picture", .fd = -1, .e = e};
    const int failed = write_png(&job, width, height, channels, pixels);
    png_destroy_write_struct(&job.png, &job.info);
    if (failed)
        free(job.memory);
    *bytes = failed ? NULL : job.memory;
    *n = failed ? 0 : job.size;
    return failed;
}

void image_resize(uint8_t *to, int w, int h, const uint8_t *from, int W, int H)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int y0 = (int)((int64_t)y*H/h), y1 = (int)(((int64_t)(y + 1)*H + h - 1)/h);
            const int x0 = (int)((int64_t)x*W/w), x1 = (int)(((int64_t)(x + 1)*W + w - 1)/w);
            const int last_y = h >= H ? y0 + 1 : y1, last_x = w >= W ? x0 + 1 : x1;
            const int64_t count = (int64_t)(last_y - y0) * (last_x - x0);
            for (int c = 0; c < 3; c++) {
                int64_t sum = 0;
                for (int j = y0; j < last_y; j++)
                    for (int i = x0; i < last_x; i++)
                        sum += from[((size_t)j*W + i)*3 + c];
                to[((size_t)y*w + x)*3 + c] = (uint8_t)((sum + count/2) / count);
            }
        }
}

void image_free(Image *image)
{
    free(image->pixels);
    *image = (Image){0};
}
