/* SPDX-License-Identifier: MIT */
/* sd-sheet.c -- pictures side by side on one labelled sheet. */
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/image.h"
#include "formats/stream.h"
#include "src/cli/cli.h"
#include "src/models/sheet.h"

typedef struct Config {
    Common c;
    const char *title, *rows, *columns, *caption;
    int64_t cell, across, text;
} Config;

static const Opt options[] = {
    {0, "rows", OPT_STR, offsetof(Config, rows), NULL, "FIELDS  a row for each value of these: concept, or "
                                                       "concept,theme, or steering.multiplier", 0},
    {0, "columns", OPT_STR, offsetof(Config, columns), NULL, "FIELDS  a column for each value of these: steered", 0},
    {0, "caption", OPT_STR, offsetof(Config, caption), NULL, "FIELDS  text under each picture: id, prompt, ...", 0},
    {0, "title", OPT_STR, offsetof(Config, title), NULL, "TEXT  above it all", 0},
    {0, "cell", OPT_INT, offsetof(Config, cell), "0", "PIXELS  side of a cell; 0: the size of the first picture", 0},
    {0, "across", OPT_INT, offsetof(Config, across), "8", "N  pictures a row, without --rows and --columns", 0},
    {0, "text", OPT_INT, offsetof(Config, text), "1", "N  size of the letters, 1 to 4", 0},
    OUTPUT_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-sheet", "Put pictures side by side on one labelled sheet, a PNG.", options, "[FILE|DIR...]",
    "Reads streams of images, PNG files, and folders, whose PNG files are taken in the order of their names. A "
    "picture's row and column are the texts of its fields, which in a PNG file are its text chunks. With --rows or "
    "--columns alone, the pictures of a row, or "
    "column, stand in the order in which they come; with both, the first picture of a cell is shown and a note says "
    "how many were not.\n"
    "Memory: the pixels of the sheet, twice. The same pictures and options give the same bytes; the text chunk "
    "provenance says what made it.",
    "# unsteered beside steered\n"
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --sweep concept=none,Fishes,Cats conditioning.mpk.zst |\n"
    "  sd-sheet --rows concept,theme --columns steered -o sheet.png"
};

typedef struct Run {
    const Config *cfg;
    Sheet *sheet;
    json_t *provenance;
    long left_out;
} Run;

static int add(Run *r, const json_t *fields, const uint8_t *pixels, int W, int H, int channels, Err *e)
{
    const int got = sheet_add(r->sheet, fields, pixels, W, H, channels, e);
    r->left_out += got > 0;
    return got < 0 ? -1 : 0;
}

static int add_stream(Run *r, const char *path, Err *e)
{
    StreamIn *in = NULL;
    Record rec;
    int got = stream_open_kind(&in, path, "images", e) ? -1 : 1;
    if (got > 0 && !json_array_size(r->provenance))
        json_array_extend(r->provenance, json_object_get(stream_header(in)->fields, "provenance"));
    while (got > 0 && (got = stream_next(in, &rec, e)) > 0) {
        const StreamTensor *x = stream_need(in, &rec, "image", U8, 3, (int64_t[]){-1, -1, 3}, e);
        if (x && !tensor_count(x))
            err_set(e, "%s: record %ld: a picture without pixels", stream_name(in), rec.number);
        if (!x || e->set || add(r, rec.fields, x->data, (int)x->dim[1], (int)x->dim[0], 3, e))
            got = -1;
    }
    stream_close(in);
    return got;
}

static int add_png(Run *r, const char *path, Err *e)
{
    Image image = {0};
    json_t *fields = NULL;
    if (image_read(&image, path, &fields, e))
        return -1;
    if (!json_object_get(fields, "id"))
        json_object_set_new(fields, "id", json_string(path));
    const int failed = add(r, fields, image.pixels, image.width, image.height, image.channels, e);
    json_decref(fields);
    image_free(&image);
    return failed;
}

static int is_png(const char *path)
{
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".png") == 0;
}

static struct { char **path; size_t count; } found;         /* nftw's callback has no argument of ours */

static int find_png(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)at;
    if (type != FTW_F || !is_png(path))
        return 0;
    char **more = realloc(found.path, sizeof *more * (found.count + 1));
    if (more)
        found.path = more;
    if (!more || !(more[found.count] = strdup(path)))
        return -1;
    found.count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_folder(Run *r, const char *path, Err *e)
{
    int failed = 0;
    found.count = 0;
    if (nftw(path, find_png, 16, 0) != 0)
        failed = err_set(e, "%s: the folder cannot be read", path);
    else if (!found.count)
        failed = err_set(e, "%s: no PNG files in this folder", path);
    if (found.count > 1)
        qsort(found.path, found.count, sizeof *found.path, by_name);
    for (size_t i = 0; i < found.count; i++) {
        failed = failed || add_png(r, found.path[i], e);
        free(found.path[i]);
    }
    free(found.path);
    found.path = NULL;
    return failed;
}

static int add_inputs(Run *r, Err *e)
{
    static const char *const standard_input[] = {"-"};
    const List *inputs = &r->cfg->c.inputs;
    int failed = 0;
    for (int i = 0; i < (inputs->count ? inputs->count : 1) && !failed; i++) {
        const char *path = inputs->count ? inputs->items[i] : standard_input[0];
        struct stat st;
        if (strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            failed = add_folder(r, path, e);
        else
            failed = is_png(path) ? add_png(r, path, e) : add_stream(r, path, e);
    }
    return failed;
}

static int write_sheet(Run *r, Err *e)
{
    Canvas canvas = {0};
    if (sheet_draw(r->sheet, &canvas, e))
        return -1;
    json_t *text = json_object();
    if (r->cfg->title)
        json_object_set_new(text, "title", json_string(r->cfg->title));
    json_array_append_new(r->provenance, cli_provenance(&cli));
    json_object_set(text, "provenance", r->provenance);
    const int failed = image_write(r->cfg->c.output, canvas.width, canvas.height, 3, canvas.pixels, text, e);
    json_decref(text);
    free(canvas.pixels);
    if (!failed && r->left_out)
        cli_note(&cli, "%ld pictures are not shown: their cells were taken", r->left_out);
    return failed;
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg, .provenance = json_array()};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.cell < 0 || cfg.cell > 4096 || cfg.across < 1 || cfg.text < 1 || cfg.text > 4)
        cli_misuse(&cli, "--cell must be 0 to 4096, --across 1 or more, --text 1 to 4");

    const SheetOptions o = {.title = cfg.title, .rows = cfg.rows, .columns = cfg.columns, .caption = cfg.caption,
                            .cell = (int)cfg.cell, .across = (int)cfg.across, .text = (int)cfg.text};
    int failed = sheet_create(&r.sheet, &o, &e)
              || add_inputs(&r, &e)
              || write_sheet(&r, &e);

    sheet_free(r.sheet);
    json_decref(r.provenance);
    return failed ? cli_report(&cli, &e) : 0;
}
