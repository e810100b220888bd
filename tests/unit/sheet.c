/* SPDX-License-Identifier: MIT */
/* sheet.c -- the order of a sheet's rows: those without a value first, whatever a value's words are. */
#include "src/models/sheet.h"
#include "tests/unit/test.h"

enum { SIDE = 8 };

/* Rows by concept; pictures come in this order, each of one grey. */
static const struct { const char *concept; uint8_t grey; int row; } pictures[] = {
    {"Cats", 10, 1}, {"no hat", 20, 2}, {NULL, 30, 0}, {"unsteered", 40, 3},
};
enum { PICTURES = sizeof pictures/sizeof *pictures };

static int add(Sheet *s, int i, Err *e)
{
    uint8_t rgb[SIDE*SIDE*3];
    memset(rgb, pictures[i].grey, sizeof rgb);
    json_t *fields = pictures[i].concept ? json_pack("{s:s}", "concept", pictures[i].concept) : json_object();
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

int main(void)
{
    const SheetOptions o = {.rows = "concept", .across = 1, .text = 1};
    Sheet *s = NULL;
    Canvas c = {0};
    Err e = {0};
    int failed = test_ok("a sheet", sheet_create(&s, &o, &e) == 0);
    for (int i = 0; i < PICTURES; i++)
        failed += test_ok("a picture", add(s, i, &e) == 0);
    failed += test_ok("drawn", sheet_draw(s, &c, &e) == 0);
    for (int i = 0; i < PICTURES && !failed; i++)
        failed += test_ok(pictures[i].concept ? pictures[i].concept : "no concept, first",
                          row_of(&c, pictures[i].grey) == pictures[i].row);
    free(c.pixels);
    sheet_free(s);
    return failed != 0;
}
