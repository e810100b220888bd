/* SPDX-License-Identifier: MIT */
/* image_jpeg.c -- JPEG files by libjpeg, the right way up.
 *
 * libjpeg reports errors by longjmp, so what must outlive one is kept in a struct, never in a local. Of its warnings
 * those that mean damage are errors here: it would go on with grey. Colours come out as Pillow's, which leaves
 * libjpeg's defaults too. Exif 2.3, tag 0x0112 of the first directory, is what Pillow's exif_transpose goes by. */
#include <stdio.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>
#include "formats/image_parts.h"

enum { BUFFER = 1 << 16, EXIF = JPEG_APP0 + 1, ORIENTATION = 0x0112, ORIENTATIONS = 8,
       SCANS = 100 };       /* at most: encoders make some ten, and each goes over the whole picture whatever it holds */

typedef struct Job {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    ImageFile *file;
    uint8_t buffer[BUFFER];
} Job;

static void on_error(j_common_ptr d)
{
    Job *job = d->client_data;
    char reason[JMSG_LENGTH_MAX];
    d->err->format_message(d, reason);
    err_set(job->file->e, "%s: %s", job->file->name, reason);       /* what was set before stays */
    longjmp(job->out, 1);
}

static void on_message(j_common_ptr d, int level)
{
    static const int harmless[] = {JWRN_EXTRANEOUS_DATA, JWRN_ADOBE_XFORM, JWRN_JFIF_MAJOR};
    for (size_t i = 0; i < sizeof harmless/sizeof *harmless; i++)
        if (level >= 0 || d->err->msg_code == harmless[i])
            return;
    on_error(d);
}

static void on_progress(j_common_ptr d)
{
    Job *job = d->client_data;
    if (job->d.input_scan_number <= SCANS)
        return;
    err_set(job->file->e, "%s: a progressive JPEG of over %d scans", job->file->name, SCANS);
    longjmp(job->out, 1);
}

static void no_source(j_decompress_ptr d)
{
    (void)d;
}

static boolean on_fill(j_decompress_ptr d)
{
    Job *job = d->client_data;
    const ssize_t got = image_file_read(job->file, job->buffer, BUFFER);
    if (got < 0)
        longjmp(job->out, 1);
    d->src->next_input_byte = job->buffer;
    d->src->bytes_in_buffer = (size_t)got;
    return TRUE;
}

static void on_skip(j_decompress_ptr d, long n)
{
    while (n > (long)d->src->bytes_in_buffer) {
        n -= (long)d->src->bytes_in_buffer;
        on_fill(d);
    }
    if (n > 0) {
        d->src->next_input_byte += n;
        d->src->bytes_in_buffer -= (size_t)n;
    }
}

/* ---- orientation ---- */

static unsigned number(const uint8_t *p, int bytes, bool big)
{
    unsigned x = 0;
    for (int i = 0; i < bytes; i++)
        x = x << 8 | p[big ? i : bytes - 1 - i];
    return x;
}

/* 1 to 8; 1, upright, where nothing is said. */
static unsigned orientation(const struct jpeg_decompress_struct *d)
{
    const struct jpeg_marker_struct *m = d->marker_list;
    while (m && (m->marker != EXIF || m->data_length < 14 || memcmp(m->data, "Exif\0", 6) != 0))
        m = m->next;
    if (!m)
        return 1;
    const uint8_t *tiff = m->data + 6;
    const size_t size = m->data_length - 6;
    const bool big = tiff[0] == 'M';
    const size_t at = number(tiff + 4, 4, big);
    if (at > size || size - at < 2)
        return 1;
    const unsigned entries = number(tiff + at, 2, big);
    for (unsigned i = 0; i < entries && at + 2 + 12*(size_t)(i + 1) <= size; i++) {
        const uint8_t *entry = tiff + at + 2 + 12*(size_t)i;
        if (number(entry, 2, big) != ORIENTATION)
            continue;
        const unsigned turn = number(entry + 8, 2, big);
        return turn >= 1 && turn <= ORIENTATIONS ? turn : 1;
    }
    return 1;
}

/* Turns the picture so that the row and column that orientation names come to the top and to the left. */
static int turn(Image *image, unsigned how)
{
    const bool swapped = how >= 5, down = how == 3 || how == 4 || how == 7 || how == 8,
        right = how == 2 || how == 3 || how == 6 || how == 7;
    const int W = image->width, H = image->height, w = swapped ? H : W, h = swapped ? W : H;
    const size_t C = (size_t)image->channels;
    if (how == 1)
        return 0;
    uint8_t *y = malloc((size_t)w*(size_t)h*C);
    for (int i = 0; y && i < h; i++)
        for (int j = 0; j < w; j++) {
            const int row = down ? h - 1 - i : i, column = right ? w - 1 - j : j;
            const size_t from = swapped ? (size_t)column*(size_t)W + (size_t)row
                                        : (size_t)row*(size_t)W + (size_t)column;
            memcpy(y + ((size_t)i*(size_t)w + (size_t)j)*C, image->pixels + from*C, C);
        }
    free(image->pixels);
    *image = (Image){w, h, image->channels, y};
    return y ? 0 : -1;
}

/* ---- pictures ---- */

static int decode(Job *job, Image *image)
{
    struct jpeg_decompress_struct *d = &job->d;
    if (setjmp(job->out))
        return -1;
    jpeg_create_decompress(d);
    d->src = &job->source;
    d->progress = &job->progress;
    jpeg_save_markers(d, EXIF, 0xffff);
    jpeg_read_header(d, TRUE);
    if (image_check_size(job->file, d->image_width, d->image_height))
        return -1;
    if (d->num_components != 1 && d->num_components != 3)
        return err_set(job->file->e, "%s: pixels of %d channels are not read", job->file->name, d->num_components);
    d->out_color_space = d->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(d);
    *image = (Image){(int)d->output_width, (int)d->output_height, d->output_components, NULL};
    const size_t row = (size_t)image->width*(size_t)image->channels;
    if (!(image->pixels = malloc(row*(size_t)image->height)))
        return err_set(job->file->e, "%s: out of memory for a picture of %d x %d", job->file->name, image->width,
                       image->height);
    while (d->output_scanline < d->output_height) {
        JSAMPROW line = image->pixels + row*d->output_scanline;
        jpeg_read_scanlines(d, &line, 1);
    }
    const unsigned how = orientation(d);
    jpeg_finish_decompress(d);
    return turn(image, how) ? err_set(job->file->e, "%s: out of memory for a picture", job->file->name) : 0;
}

bool image_is_jpeg(const ImageFile *file)
{
    return file->waiting == 3 && memcmp(file->head, "\xff\xd8\xff", 3) == 0;
}

int image_read_jpeg(Image *image, ImageFile *file)
{
    Job *job = calloc(1, sizeof *job);
    if (!job)
        return err_set(file->e, "%s: out of memory", file->name);
    job->file = file;
    job->d.err = jpeg_std_error(&job->errors);
    job->errors.error_exit = on_error;
    job->errors.emit_message = on_message;
    job->d.client_data = job;
    job->progress.progress_monitor = on_progress;
    job->source = (struct jpeg_source_mgr){.init_source = no_source, .fill_input_buffer = on_fill,
                                           .skip_input_data = on_skip, .resync_to_restart = jpeg_resync_to_restart,
                                           .term_source = no_source};
    const int failed = decode(job, image);
    jpeg_destroy_decompress(&job->d);
    free(job);
    return failed;
}
