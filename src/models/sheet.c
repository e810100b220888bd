/* SPDX-License-Identifier: MIT */
/* sheet.c -- contact sheets; layout in sheet.h. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "formats/image.h"
#include "src/models/sheet.h"

enum { MARGIN = 8, GAP = 4, MAX_SIDE = 16384, TITLE_SCALE = 2 };
enum { PAPER = 0xffffff, INK = 0x202020, FAINT = 0x707070, EMPTY = 0xececec };

typedef struct Axis {               /* names of rows, or of columns */
    char **name;
    int *used;                      /* pictures so far: the next one's number where the other axis has no field */
    int count;
} Axis;

typedef struct Cell { int row, column; char *caption; uint8_t *pixels; } Cell;

struct Sheet {
    SheetOptions options;
    Axis rows, columns;
    int width, height;              /* of a cell's picture */
    Cell *cell;
    size_t cells;
};

int sheet_create(Sheet **s, const SheetOptions *options, Err *e)
{
    *s = calloc(1, sizeof **s);
    if (!*s)
        return err_set(e, "out of memory");
    (*s)->options = *options;
    (*s)->width = (*s)->height = options->cell;
    return 0;
}

static void free_axis(Axis *a)
{
    for (int i = 0; i < a->count; i++)
        free(a->name[i]);
    free(a->name);
    free(a->used);
}

void sheet_free(Sheet *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->cells; i++) {
        free(s->cell[i].caption);
        free(s->cell[i].pixels);
    }
    free(s->cell);
    free_axis(&s->rows);
    free_axis(&s->columns);
    free(s);
}

/* ---- what a picture's fields say ---- */

/* One field, "steering.multiplier" inside an object, as text. The objects of PNG files' text chunks are JSON in a
 * string. Returns whether it has a value; "no NAME" stands for none. */
static bool one_field(char *text, size_t size, const json_t *fields, const char *path, size_t length)
{
    bool there = true;
    char name[128];
    const char *dot = memchr(path, '.', length);
    snprintf(name, sizeof name, "%.*s", (int)(dot ? dot - path : (long)length), path);
    json_t *value = json_object_get(fields, name), *parsed = NULL;
    if (dot && json_is_string(value))
        value = parsed = json_loads(json_string_value(value), 0, NULL);
    if (dot && value)
        there = one_field(text, size, value, dot + 1, length - (size_t)(dot + 1 - path));
    else if (json_is_string(value) && json_string_length(value))
        snprintf(text, size, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, size, "%lld", json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, size, "%.10g", json_real_value(value));
    else {
        there = false;
        snprintf(text, size, "%s%s", strcmp(name, "steered") == 0 ? "un" : "no ", name);
    }
    json_decref(parsed);
    return there;
}

/* Fields of a list, "concept,theme", as "Fishes, Rust". Returns whether one has a value. */
static bool field_text(char text[512], const json_t *fields, const char *list)
{
    bool there = false;
    size_t used = 0;
    for (const char *path = list; path; ) {
        const char *comma = strchr(path, ',');
        const size_t length = comma ? (size_t)(comma - path) : strlen(path);
        char one[256];
        there |= one_field(one, sizeof one, fields, path, length);
        used += (size_t)snprintf(text + used, 512 - used, "%s%s", used ? ", " : "", one);
        if (used >= 512)
            break;
        path = comma ? comma + 1 : NULL;
    }
    return there;
}

/* Place of a name on an axis, added when it is new: at the end, or at the front where it stands for no value. */
static int need_place(Sheet *s, Axis *a, const char *name, bool front, Err *e)
{
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->name[i], name) == 0)
            return i;
    char **names = realloc(a->name, sizeof *names * ((size_t)a->count + 1));
    if (names)
        a->name = names;
    int *used = names ? realloc(a->used, sizeof *used * ((size_t)a->count + 1)) : NULL;
    if (used)
        a->used = used;
    char *copy = used ? strdup(name) : NULL;
    if (!copy)
        return err_set(e, "out of memory");
    const int at = front ? 0 : a->count;
    memmove(a->name + at + 1, a->name + at, sizeof *a->name * (size_t)(a->count - at));
    memmove(a->used + at + 1, a->used + at, sizeof *a->used * (size_t)(a->count - at));
    a->name[at] = copy;
    a->used[at] = 0;
    a->count++;
    for (size_t i = 0; i < s->cells && front; i++)
        *(a == &s->rows ? &s->cell[i].row : &s->cell[i].column) += 1;
    return at;
}

/* Places without a name, up to number n. */
static int need_number(Axis *a, int n, Err *e)
{
    char **names = a->count > n ? a->name : realloc(a->name, sizeof *names * ((size_t)n + 1));
    int *used = a->count > n ? a->used : realloc(a->used, sizeof *used * ((size_t)n + 1));
    if (names)
        a->name = names;
    if (used)
        a->used = used;
    if (!names || !used)
        return err_set(e, "out of memory");
    for (; a->count <= n; a->count++) {
        a->used[a->count] = 0;
        if (!(a->name[a->count] = strdup("")))
            return err_set(e, "out of memory");
    }
    return n;
}

static int find_place(Sheet *s, const json_t *fields, int *row, int *column, Err *e)
{
    const SheetOptions *o = &s->options;
    char text[512];
    if (o->rows) {
        const bool front = !field_text(text, fields, o->rows);
        *row = need_place(s, &s->rows, text, front, e);
    }
    if (o->columns) {
        const bool front = !field_text(text, fields, o->columns);
        *column = need_place(s, &s->columns, text, front, e);
    }
    if ((o->rows && *row < 0) || (o->columns && *column < 0))
        return -1;
    if (o->rows && !o->columns)
        *column = need_number(&s->columns, s->rows.used[*row]++, e);
    else if (o->columns && !o->rows)
        *row = need_number(&s->rows, s->columns.used[*column]++, e);
    else if (!o->rows) {
        *row = need_number(&s->rows, (int)(s->cells / (size_t)o->across), e);
        *column = need_number(&s->columns, (int)(s->cells % (size_t)o->across), e);
    }
    return *row < 0 || *column < 0 ? -1 : 0;
}

/* ---- pictures ---- */

int sheet_add(Sheet *s, const json_t *fields, const uint8_t *rgb, int W, int H, Err *e)
{
    int row = 0, column = 0;
    char text[512] = "";
    if (!s->width) {
        s->width = W;
        s->height = H;
    }
    if (find_place(s, fields, &row, &column, e))
        return -1;
    if ((int64_t)s->columns.count * s->width > MAX_SIDE || (int64_t)s->rows.count * s->height > MAX_SIDE)
        return err_set(e, "a sheet of %d rows and %d columns of %d x %d pixels has sides over %d: a smaller --cell "
                          "helps", s->rows.count, s->columns.count, s->width, s->height, MAX_SIDE);
    for (size_t i = 0; i < s->cells; i++)
        if (s->cell[i].row == row && s->cell[i].column == column)
            return 1;
    Cell *more = realloc(s->cell, sizeof *more * (s->cells + 1));
    if (!more)
        return err_set(e, "out of memory for %zu pictures", s->cells + 1);
    s->cell = more;
    if (s->options.caption)
        field_text(text, fields, s->options.caption);
    Cell *c = &s->cell[s->cells];
    *c = (Cell){row, column, strdup(text), malloc((size_t)s->width * s->height * 3)};
    s->cells++;
    if (!c->caption || !c->pixels)
        return err_set(e, "out of memory for %zu pictures", s->cells);
    image_resize(c->pixels, s->width, s->height, rgb, W, H);
    return 0;
}

/* ---- drawing ---- */

typedef struct Layout {
    int letters, row_letters;       /* characters a line over a column, and beside a row */
    int left, top;                  /* of the first cell */
    int step_x, step_y, line;
} Layout;

static Layout plan(const Sheet *s)
{
    const int scale = s->options.text;
    Layout l = {.line = FONT_HEIGHT * scale};
    int header = 0, caption = 0, longest = 0;
    l.letters = s->width / (FONT_WIDTH * scale);
    for (int i = 0; i < s->columns.count; i++) {
        const int lines = font_lines(s->columns.name[i], l.letters);
        header = lines > header ? lines : header;
    }
    for (size_t i = 0; i < s->cells; i++) {
        const int lines = font_lines(s->cell[i].caption, l.letters);
        caption = lines > caption ? lines : caption;
    }
    for (int i = 0; i < s->rows.count; i++) {
        const int length = font_length(s->rows.name[i]);
        longest = length > longest ? length : longest;
    }
    l.row_letters = longest < 24 ? longest : 24;
    l.left = MARGIN + (l.row_letters ? l.row_letters * FONT_WIDTH * scale + GAP : 0);
    l.top = MARGIN + (s->options.title ? FONT_HEIGHT * scale * TITLE_SCALE + GAP : 0)
        + (header ? header * l.line + GAP/2 : 0);
    l.step_x = s->width + GAP;
    l.step_y = s->height + GAP + caption * l.line;
    return l;
}

/* Text in lines of `letters` from the top. */
static void draw_lines(Canvas *c, int x, int y, int scale, uint32_t rgb, const char *text, int letters)
{
    for (; *text; y += FONT_HEIGHT * scale)
        text = font_draw(c, x, y, scale, rgb, text, font_break(text, letters));
}

static void draw_cell(Canvas *canvas, const Sheet *s, int x, int y, const uint8_t *pixels)
{
    for (int j = 0; j < s->height; j++) {
        uint8_t *to = canvas->pixels + ((size_t)(y + j) * canvas->width + x) * 3;
        if (pixels)
            memcpy(to, pixels + (size_t)j * s->width * 3, (size_t)s->width * 3);
        else
            memset(to, EMPTY & 0xff, (size_t)s->width * 3);
    }
}

static void draw_labels(Canvas *canvas, const Sheet *s, const Layout *l)
{
    const int scale = s->options.text;
    if (s->options.title)
        font_draw(canvas, MARGIN, MARGIN, scale * TITLE_SCALE, INK, s->options.title, font_length(s->options.title));
    for (int i = 0; i < s->columns.count; i++) {
        const int lines = font_lines(s->columns.name[i], l->letters);
        draw_lines(canvas, l->left + i*l->step_x, l->top - GAP/2 - lines*l->line, scale, INK, s->columns.name[i],
                   l->letters);
    }
    for (int i = 0; i < s->rows.count; i++) {
        const int lines = l->row_letters ? font_lines(s->rows.name[i], l->row_letters) : 0;
        draw_lines(canvas, MARGIN, l->top + i*l->step_y + (s->height - lines*l->line)/2, scale, INK, s->rows.name[i],
                   l->row_letters);
    }
}

int sheet_draw(const Sheet *s, Canvas *canvas, Err *e)
{
    if (!s->cells)
        return err_set(e, "no pictures to put on a sheet");
    const Layout l = plan(s);
    const int64_t title = s->options.title ? (int64_t)font_length(s->options.title) * FONT_WIDTH * s->options.text
        * TITLE_SCALE : 0;
    const int64_t grid = l.left - MARGIN + (int64_t)s->columns.count * l.step_x - GAP;
    const int64_t W = 2*MARGIN + (grid > title ? grid : title);
    const int64_t H = l.top + (int64_t)s->rows.count * l.step_y - GAP + MARGIN;
    if (W > MAX_SIDE || H > MAX_SIDE)
        return err_set(e, "a sheet of %d rows and %d columns would be %lld x %lld pixels, at most %d are possible: a "
                          "smaller --cell helps",
                       s->rows.count, s->columns.count, (long long)W, (long long)H, MAX_SIDE);
    *canvas = (Canvas){malloc((size_t)W * H * 3), (int)W, (int)H};
    if (!canvas->pixels)
        return err_set(e, "out of memory for a sheet of %lld x %lld pixels", (long long)W, (long long)H);
    memset(canvas->pixels, PAPER & 0xff, (size_t)W * H * 3);
    if (s->options.rows && s->options.columns)      /* a hole in the table is shown as one */
        for (int i = 0; i < s->rows.count * s->columns.count; i++)
            draw_cell(canvas, s, l.left + i % s->columns.count * l.step_x, l.top + i / s->columns.count * l.step_y,
                      NULL);
    draw_labels(canvas, s, &l);
    for (size_t i = 0; i < s->cells; i++) {
        const Cell *c = &s->cell[i];
        const int x = l.left + c->column*l.step_x, y = l.top + c->row*l.step_y;
        draw_cell(canvas, s, x, y, c->pixels);
        draw_lines(canvas, x, y + s->height + 2, s->options.text, FAINT, c->caption, l.letters);
    }
    return 0;
}
