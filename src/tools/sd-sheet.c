/* SPDX-License-Identifier: MIT */
/* sd-sheet.c -- pictures side by side on one labelled sheet. */
#include <stdlib.h>
#include "formats/affix.h"
#include "formats/image.h"
#include "src/cli/cli.h"
#include "src/models/picture_source.h"
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
    {0, "cell", OPT_INT, offsetof(Config, cell), "0",
     "PIXELS  side of a cell; 0: its sides are the first picture's. A picture of another shape keeps its proportions: "
     "it stands in the middle, the margin is the sheet's background", 0},
    {0, "across", OPT_INT, offsetof(Config, across), "8", "N  pictures a row, without --rows and --columns", 0},
    {0, "text", OPT_INT, offsetof(Config, text), "1", "N  size of the letters, 1 to 4; one that is not ASCII is drawn "
                                                      "as ?", 0},
    OUTPUT_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-sheet", "Put pictures side by side on one labelled sheet, a PNG.", options, "[FILE|DIR...]",
    "Reads streams of images, PNG and JPEG files, and folders, whose files are taken in the order of their names, but "
    "for names that begin with a dot. A picture's row and column are the texts of its fields, which in a PNG file are "
    "its text chunks, and of its run (model, sampler, steps, guidance, ...), which in a stream are the header's; a "
    "value that is no text is shown as JSON: 3.0, true. With --rows or --columns alone, the pictures of a row, or "
    "column, stand in the order in which they come; with both, the first picture of a cell is shown and a note says "
    "how many were not. A field that no picture has is a note too.\n"
    "Texts are compared whole, and cut when they are drawn, with dots at the end: to 512 letters, beside a row to as "
    "many lines as its pictures are high. The sheet is a PNG whatever its name; one that ends in .jpg or .jpeg is "
    "refused.\n"
    "Memory: the pixels of the sheet, twice. The same pictures and options give the same bytes; the text chunk "
    "provenance says what made it.",
    "# unsteered beside steered\n"
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --sweep concept=none,Fishes,Cats conditioning.mpk.zst |\n"
    "  sd-sheet --rows concept,theme --columns steered -o sheet.png"
};

typedef struct Run {
    const Config *cfg;
    PictureSource *source;
    Sheet *sheet;
    long left_out;
} Run;

/* A picture's fields, and what its file or stream says of the run: a row may be of --guidance. */
static int add(Run *r, const Picture *p, Err *e)
{
    json_t *fields = json_copy(p->record.fields);
    json_object_update_missing(fields, p->run);
    const int got = sheet_add(r->sheet, fields, p->rgb, p->W, p->H, e);
    json_decref(fields);
    r->left_out += got > 0;
    return got < 0 ? -1 : 0;
}

static int add_all(Run *r, Err *e)
{
    Picture p;
    int got;
    while ((got = picture_source_next(r->source, &p, e)) > 0)
        if (add(r, &p, e))
            return -1;
    return got;
}

static int write_sheet(Run *r, Err *e)
{
    Canvas canvas = {0};
    if (sheet_draw(r->sheet, &canvas, e))
        return -1;
    json_t *text = json_object();
    if (r->cfg->title)
        json_object_set_new(text, "title", json_string(r->cfg->title));
    json_t *provenance = picture_source_provenance(r->source);
    json_array_append_new(provenance, cli_provenance(&cli));
    json_object_set_new(text, "provenance", provenance);
    const int failed = image_write(r->cfg->c.output, canvas.width, canvas.height, 3, canvas.pixels, text, e);
    json_decref(text);
    free(canvas.pixels);
    return failed;
}

static void say_notes(const Run *r)
{
    const char *field;
    if (r->left_out)
        cli_note(&cli, "%ld pictures are not shown: their cells were taken", r->left_out);
    for (int i = 0; (field = sheet_unseen(r->sheet, i)); i++)
        cli_note(&cli, "no picture has a field '%s'", field);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.cell < 0 || cfg.cell > 4096 || cfg.across < 1 || cfg.across > 16384 || cfg.text < 1
        || cfg.text > 4)
        cli_misuse(&cli, "--cell must be 0 to 4096, --across 1 to 16384, --text 1 to 4");
    if (ends_with_any_case(cfg.c.output, ".jpg") || ends_with_any_case(cfg.c.output, ".jpeg"))
        cli_misuse(&cli, "%s: a sheet is a PNG file, and its name says JPEG", cfg.c.output);

    const SheetOptions o = {.title = cfg.title, .rows = cfg.rows, .columns = cfg.columns, .caption = cfg.caption,
                            .cell = (int)cfg.cell, .across = (int)cfg.across, .text = (int)cfg.text};
    int failed = sheet_create(&r.sheet, &o, &e)
              || picture_source_open(&r.source, cfg.c.inputs.items, cfg.c.inputs.count, &e)
              || add_all(&r, &e)
              || write_sheet(&r, &e);
    if (!failed)
        say_notes(&r);

    sheet_free(r.sheet);
    picture_source_close(r.source);
    return failed ? cli_report(&cli, &e) : 0;
}
