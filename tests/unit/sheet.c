/* SPDX-License-Identifier: MIT */
/* sheet.c -- the order of a sheet's rows: those without a value first, whatever a value's words are; pictures whose
 * shape is not their cell's; labels longer than their rows are high. */
#include "src/models/sheet.h"
#include "tests/unit/test.h"

enum { SIDE = 8, MARGIN = 8, GREY = 77, PAPER = 255 };

/* Pictures come in this order, each of one grey; place: its row, or column. */
static const struct { const char *concept; uint8_t grey; int place; } pictures[] = {
    {"Cats", 10, 1}, {"no hat", 20, 2}, {NULL, 30, 0}, {"unsteered", 40, 3}, {"no concept", 15, 4},
};
enum { PICTURES = sizeof pictures/sizeof *pictures };

static int add(Sheet *s, const char *field, int i, Err *e)
{
    uint8_t rgb[SIDE*SIDE*3];
    memset(rgb, pictures[i].grey, sizeof rgb);
    json_t *fields = pictures[i].concept ? json_pack("{s:s}", field, pictures[i].concept) : json_object();
    const int got = sheet_add(s, fields, rgb, SIDE, SIDE, e);
    json_decref(fields);
    return got;
}

/* The row, of the cells' heights from the first one's grey on, in which a picture's grey stands at the right border. */
static int row_of(const Canvas *c, uint8_t grey)
{
    int row = -1;
    uint8_t last = 0;
    for (int y = 0; y < c->height; y++) {
        const uint8_t *p = c->pixels + ((size_t)(y + 1)*(size_t)c->width - 12)*3;
        row += p[0] < 50 && p[0] != last;
        last = p[0];
        if (p[0] == grey)
            return row;
    }
    return -1;
}

/* The column in whose left corner a picture's grey stands first. */
static int column_of(const Canvas *c, uint8_t grey)
{
    for (int i = 0; i < c->width*c->height; i++)
        if (c->pixels[3*i] == grey)
            return (i % c->width - MARGIN) % (SIDE + 4) ? -1 : (i % c->width - MARGIN)/(SIDE + 4);
    return -1;
}

/* Each picture stands in its place on the axis that the field is of; the one without a value comes first. */
static int test_places(const SheetOptions *o, const char *field, int (*place_of)(const Canvas *c, uint8_t grey))
{
    Sheet *s = NULL;
    Canvas c = {0};
    Err e = {0};
    char none[32];
    snprintf(none, sizeof none, "no %s, first", field);
    int failed = test_ok("a sheet", sheet_create(&s, o, &e) == 0);
    for (int i = 0; i < PICTURES; i++)
        failed += test_ok("a picture", add(s, field, i, &e) == 0);
    failed += test_ok("drawn", sheet_draw(s, &c, &e) == 0);
    for (int i = 0; i < PICTURES && !failed; i++)
        failed += test_ok(pictures[i].concept ? pictures[i].concept : none,
                          place_of(&c, pictures[i].grey) == pictures[i].place);
    free(c.pixels);
    sheet_free(s);
    return failed;
}

static const uint8_t *pixel(const Canvas *c, int x, int y)
{
    return c->pixels + ((size_t)y*(size_t)c->width + (size_t)x)*3;
}

/* A grey picture (W,H) alone in a cell of that side, or, where cell is 0, below a first one of SIDE: grey is the box of
 * width and height in the middle of its cell, and the rest is paper. */
static int test_shape(int W, int H, int cell, int width, int height)
{
    const SheetOptions o = {.cell = cell, .across = 1, .text = 1};
    uint8_t *rgb = malloc((size_t)W*(size_t)H*3), square[SIDE*SIDE*3] = {0};
    Sheet *s = NULL;
    Canvas c = {0};
    Err e = {0};
    char name[80];
    const int side = cell ? cell : SIDE, top = MARGIN + (cell ? 0 : SIDE + 4);
    int wrong = 0;
    memset(rgb, GREY, (size_t)W*(size_t)H*3);
    const int failed = sheet_create(&s, &o, &e) || (!cell && sheet_add(s, NULL, square, SIDE, SIDE, &e))
                    || sheet_add(s, NULL, rgb, W, H, &e) || sheet_draw(s, &c, &e);
    for (int y = 0; y < side && !failed; y++)
        for (int x = 0; x < side; x++) {
            const int left = (side - width)/2, above = (side - height)/2;
            const int inside = x >= left && x < left + width && y >= above && y < above + height;
            wrong += pixel(&c, MARGIN + x, top + y)[1] != (inside ? GREY : PAPER);
        }
    snprintf(name, sizeof name, "%d x %d in a cell of %d is %d x %d", W, H, side, width, height);
    free(c.pixels);
    free(rgb);
    sheet_free(s);
    return test_ok(name, !failed && !wrong);
}

/* Ink beside rows y0 to y1 of a sheet. */
static int ink(const Canvas *c, int y0, int y1)
{
    int n = 0;
    for (int y = y0; y < y1; y++)
        for (int x = MARGIN; x < MARGIN + 24*6; x++)
            n += pixel(c, x, y)[0] < 128;
    return n;
}

/* Two rows of 32 pixels whose labels would take a dozen lines each: neither is drawn above its row. */
static int test_long_label(void)
{
    const SheetOptions o = {.rows = "prompt", .cell = 32, .across = 1, .text = 1};
    uint8_t rgb[SIDE*SIDE*3] = {0};
    char prompt[300];
    Sheet *s = NULL;
    Canvas c = {0};
    Err e = {0};
    int failed = sheet_create(&s, &o, &e);
    for (int i = 0; i < 2 && !failed; i++) {
        memset(prompt, i ? 'x' : '_', sizeof prompt - 1);       /* '_' is low and wide, 'x' neither */
        prompt[sizeof prompt - 1] = 0;
        json_t *fields = json_pack("{s:s}", "prompt", prompt);
        failed = sheet_add(s, fields, rgb, SIDE, SIDE, &e);
        json_decref(fields);
    }
    failed = failed || sheet_draw(s, &c, &e);
    const int row = MARGIN + 32 + 4;
    /* '_' in 3 lines of 24, 5 pixels each, but the last three, which are dots of 4 */
    const int fits = !failed && ink(&c, MARGIN, row) == (3*24 - 3)*5 + 3*4 && ink(&c, row, row + 32) > 0
                  && ink(&c, 0, MARGIN) == 0 && ink(&c, row + 32 + 1, c.height) == 0;
    free(c.pixels);
    sheet_free(s);
    return test_ok("a long label stays beside its row", fits);
}

int main(void)
{
    int failed = test_places(&(SheetOptions){.rows = "concept", .across = 1, .text = 1}, "concept", row_of)
                 + test_places(&(SheetOptions){.columns = "theme", .across = 1, .text = 1}, "theme", column_of);
    failed += test_shape(192, 64, 96, 96, 32);
    failed += test_shape(64, 192, 96, 32, 96);
    failed += test_shape(3, 2, 96, 96, 64);
    failed += test_shape(500, 1, 96, 96, 1);
    failed += test_shape(96, 96, 96, 96, 96);
    failed += test_shape(24, 12, 0, 8, 4);
    failed += test_shape(4, 16, 0, 2, 8);
    failed += test_long_label();
    return failed != 0;
}
