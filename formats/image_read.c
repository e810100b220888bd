/* SPDX-License-Identifier: MIT */
/* image_read.c -- pictures read: PNG by libpng, what begins as a JPEG by image_jpeg.c.
 *
 * libpng reports errors by longjmp, so what must outlive one is kept in a struct, never in a local. */
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/affix.h"
#include "formats/fdio.h"
#include "formats/image_parts.h"

typedef struct Job {
    ImageFile *file;
    png_structp png;
    png_infop info;
    png_bytep *rows;
} Job;

static void on_error(png_structp png, png_const_charp reason)
{
    const Job *job = png_get_error_ptr(png);
    err_set(job->file->e, "%s: %s%s", job->file->name, reason, strcmp(reason, "Not a PNG file") == 0 ? ", nor a JPEG"
                                                                                                   : "");
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp reason)
{
    (void)png;
    (void)reason;
}

/* What libpng takes at once: a row of the widest picture, or a chunk, whose length nothing else bounds: by default one
 * too large is a warning, then memory of that length. A chunk that gets none is passed over. */
static png_voidp take_memory(png_structp png, png_alloc_size_t bytes)
{
    static const png_alloc_size_t most = (png_alloc_size_t)16 << 20;
    (void)png;
    return bytes <= most ? malloc(bytes) : NULL;
}

static void give_memory(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

static int say_cut(const ImageFile *file)
{
    return err_set(file->e, "%s: the file ends in the middle of the picture: it was cut", file->name);
}

ssize_t image_file_read(ImageFile *file, void *data, size_t n)
{
    if (!file->waiting) {
        const ssize_t got = fd_read(file->fd, file->name, data, n, file->e);
        return got == 0 ? say_cut(file) : got;
    }
    const size_t some = n < file->waiting ? n : file->waiting;
    memcpy(data, file->head + sizeof file->head - file->waiting, some);
    file->waiting -= some;
    return (ssize_t)some;
}

int image_check_size(const ImageFile *file, int64_t width, int64_t height)
{
    return width <= IMAGE_MAX_SIDE && height <= IMAGE_MAX_SIDE ? 0
        : err_set(file->e, "%s: a picture of %lld x %lld, expected sides of %d at most", file->name, (long long)width,
                  (long long)height, IMAGE_MAX_SIDE);
}

/* The first bytes, as far as there are any: of a file that has fewer, none. */
static int look(ImageFile *file)
{
    size_t have = 0;
    while (have < sizeof file->head) {
        const ssize_t got = fd_read(file->fd, file->name, file->head + have, sizeof file->head - have, file->e);
        if (got < 0)
            return -1;
        if (got == 0)
            return have ? say_cut(file) : err_set(file->e, "%s: an empty file, expected a picture", file->name);
        have += (size_t)got;
    }
    file->waiting = have;
    return 0;
}

static void on_read(png_structp png, png_bytep data, png_size_t n)
{
    const Job *job = png_get_io_ptr(png);
    while (n > 0) {
        const ssize_t got = image_file_read(job->file, data, n);
        if (got < 0)
            png_longjmp(png, 1);
        data += got;
        n -= (size_t)got;
    }
}

/* tEXt and zTXt are Latin-1, iTXt is UTF-8. */
static json_t *chunk_text(const png_text *t)
{
    if (t->compression == PNG_ITXT_COMPRESSION_NONE || t->compression == PNG_ITXT_COMPRESSION_zTXt)
        return json_stringn(t->text, t->itxt_length);
    char *utf8 = malloc(2 * t->text_length + 1);
    size_t n = 0;
    for (size_t i = 0; utf8 && i < t->text_length; i++) {
        const uint8_t c = (uint8_t)t->text[i];
        if (c >= 0x80)
            utf8[n++] = (char)(0xc0 | c >> 6);
        utf8[n++] = (char)(c < 0x80 ? c : 0x80 | (c & 0x3f));
    }
    json_t *value = utf8 ? json_stringn(utf8, n) : NULL;
    free(utf8);
    return value;
}

static json_t *read_texts(Job *job)
{
    json_t *object = json_object();
    png_textp text;
    const int n = png_get_text(job->png, job->info, &text, NULL);
    for (int i = 0; i < n; i++) {
        const png_text *t = &text[i];
        const bool other = t->lang_key && *t->lang_key && strcmp(t->key, IMAGE_FIELD) == 0;
        json_object_set_new(object, other ? t->lang_key : t->key, chunk_text(t));
    }
    return object;
}

/* 1 to 4 channels. */
static int read_png(Job *job, Image *image, bool alpha, json_t **text)
{
    job->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, job, on_error, on_warning, NULL, take_memory,
                                        give_memory);
    if (!job->png || !(job->info = png_create_info_struct(job->png)))
        return err_set(job->file->e, "%s: out of memory", job->file->name);
    if (setjmp(png_jmpbuf(job->png)))
        return -1;
    png_set_read_fn(job->png, job, on_read);
    png_set_user_limits(job->png, INT32_MAX, INT32_MAX);
    png_read_info(job->png, job->info);
    image->width = (int)png_get_image_width(job->png, job->info);
    image->height = (int)png_get_image_height(job->png, job->info);
    if (image_check_size(job->file, image->width, image->height))
        return -1;
    png_set_expand(job->png);
    png_set_scale_16(job->png);
    if (!alpha)
        png_set_strip_alpha(job->png);
    png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);
    image->channels = png_get_channels(job->png, job->info);
    const size_t row = png_get_rowbytes(job->png, job->info);
    if (image->channels < 1 || image->channels > 4 || row != (size_t)image->width * (size_t)image->channels)
        return err_set(job->file->e, "%s: pixels of %d channels are not read", job->file->name, image->channels);
    image->pixels = malloc(row * (size_t)image->height);
    job->rows = malloc(sizeof *job->rows * (size_t)image->height);
    if (!image->pixels || !job->rows)
        return err_set(job->file->e, "%s: out of memory for a picture of %d x %d", job->file->name, image->width,
                       image->height);
    for (int y = 0; y < image->height; y++)
        job->rows[y] = image->pixels + row * (size_t)y;
    png_read_image(job->png, job->rows);
    png_read_end(job->png, job->info);
    if (text)
        *text = read_texts(job);
    return 0;
}

static int read_file(Image *image, const char *path, bool alpha, json_t **text, Err *e)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    ImageFile file = {.name = is_stdin ? "standard input" : path, .e = e};
    *image = (Image){0};
    if (text)
        *text = NULL;
    file.fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (file.fd < 0)
        return err_set(e, "%s: %s", path, strerror(errno));
    int failed = look(&file);
    if (!failed && image_is_jpeg(&file)) {
        failed = image_read_jpeg(image, &file);
        if (!failed && text)
            *text = json_object();
    } else if (!failed) {
        Job job = {.file = &file};
        failed = read_png(&job, image, alpha, text);
        png_destroy_read_struct(&job.png, &job.info, NULL);
        free(job.rows);
    }
    if (!is_stdin)
        close(file.fd);
    if (failed)
        image_free(image);
    return failed ? -1 : 0;
}

size_t image_ending(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg"};
    for (size_t i = 0; i < sizeof endings/sizeof *endings; i++)
        if (ends_with_any_case(path, endings[i]) && strlen(path) > strlen(endings[i]))
            return strlen(endings[i]);
    return 0;
}

int image_read(Image *image, const char *path, json_t **text, Err *e)
{
    return read_file(image, path, false, text, e);
}

int image_read_rgb(Image *image, const char *path, json_t **text, Err *e)
{
    if (read_file(image, path, false, text, e))
        return -1;
    const size_t n = (size_t)image->width * (size_t)image->height;
    if (image->channels == 3)
        return 0;
    uint8_t *rgb = malloc(3 * n);
    for (size_t i = 0; rgb && i < n; i++)
        memset(rgb + 3 * i, image->pixels[i], 3);
    free(image->pixels);
    image->pixels = rgb;
    image->channels = 3;
    if (rgb)
        return 0;
    if (text) {
        json_decref(*text);
        *text = NULL;
    }
    return err_set(e, "%s: out of memory for a picture of %d x %d", path, image->width, image->height);
}

int image_read_grey(Image *image, const char *path, Err *e)
{
    if (read_file(image, path, true, NULL, e))
        return -1;
    const size_t n = (size_t)image->width * (size_t)image->height;
    const int channels = image->channels, colours = channels < 3 ? 1 : 3;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = image->pixels + i * (size_t)channels;
        unsigned grey = colours == 1 ? p[0] : (299u * p[0] + 587u * p[1] + 114u * p[2] + 500) / 1000;
        if (channels > colours)
            grey = (grey * p[colours] + 127) / 255;
        image->pixels[i] = (uint8_t)grey;
    }
    image->channels = 1;
    return 0;
}
