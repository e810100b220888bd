/* SPDX-License-Identifier: MIT */
/* sheet.c -- contact sheets; layout in sheet.h. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "formats/image.h"
#include "formats/json_file.h"
#include "src/models/sheet.h"

enum { MARGIN = 8, GAP = 4, MAX_SIDE = 16384, TITLE_SCALE = 2 };
enum { LETTERS_MOST = 512, ROW_LETTERS = 24 };      /* of a label or caption, as drawn; of a line beside a row */
enum { PAPER = 0xff, EMPTY = 0xec, INK = 0x202020, FAINT = 0x707070 };

typedef struct Field { char *path; bool seen; } Field;      /* seen: some picture has it */
typedef struct Fields { Field *field; int count; } Fields;

typedef struct Place {              /* a row, or a column */
    json_t *values;                 /* texts of its pictures' fields, which tell it from others; NULL: of no fields */
    char *label;                    /* as drawn */
    int used;                       /* pictures so far: the next one's number where the other axis has no field */
} Place;

typedef struct Axis { Fields by; Place *place; int count; } Axis;

typedef struct Cell { int row, column, width, height; char *caption; uint8_t *pixels; } Cell;

struct Sheet {
    SheetOptions options;
    Axis rows, columns;
    Fields captions;
    int width, height;              /* of a cell, into which its picture is fitted */
    Cell *cell;
    size_t cells;
};

/* "concept,theme" to its fields; NULL: none. */
static int split_fields(Fields *f, const char *list, Err *e)
{
    while (list) {
        const size_t length = strcspn(list, ",");
        Field *more = realloc(f->field, sizeof *more * ((size_t)f->count + 1));
        if (more)
            f->field = more;
        if (!more || !(more[f->count].path = strndup(list, length)))
            return err_set(e, "out of memory");
        more[f->count++].seen = false;
        list = list[length] ? list + length + 1 : NULL;
    }
    return 0;
}

int sheet_create(Sheet **s, const SheetOptions *options, Err *e)
{
    *s = calloc(1, sizeof **s);
    if (!*s)
        return err_set(e, "out of memory");
    (*s)->options = *options;
    (*s)->width = (*s)->height = options->cell;
    return split_fields(&(*s)->rows.by, options->rows, e) || split_fields(&(*s)->columns.by, options->columns, e)
        || split_fields(&(*s)->captions, options->caption, e) ? -1 : 0;
}

static void free_fields(Fields *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->field[i].path);
    free(f->field);
}

static void free_axis(Axis *a)
{
    for (int i = 0; i < a->count; i++) {
        json_decref(a->place[i].values);
        free(a->place[i].label);
    }
    free(a->place);
    free_fields(&a->by);
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
    free_fields(&s->captions);
    free(s);
}

const char *sheet_unseen(const Sheet *s, int i)
{
    const Fields *const lists[] = {&s->rows.by, &s->columns.by, &s->captions};
    for (size_t l = 0; l < sizeof lists/sizeof *lists; l++)
        for (int n = 0; n < lists[l]->count; n++)
            if (!lists[l]->field[n].seen && i-- == 0)
                return lists[l]->field[n].path;
    return NULL;
}

/* ---- what a picture's fields say ---- */

/* One field, "steering.multiplier" inside an object; the caller's, NULL where it is not there. The objects of PNG
 * files' text chunks are JSON in a string. *path is moved on to the last part that was looked for. */
static json_t *find_field(const json_t *fields, char **path)
{
    char *dot = strchr(*path, '.');
    if (dot)
        *dot = 0;
    json_t *value = json_object_get(fields, *path), *parsed = NULL;
    if (!dot)
        return json_incref(value);
    *dot = '.';
    if (json_is_string(value))
        value = parsed = json_loads(json_string_value(value), 0, NULL);
    if (value) {
        *path = dot + 1;
        value = find_field(value, path);
    }
    json_decref(parsed);
    return value;
}

/* A field as text, "" where it has no value, and what a label says of it: the same, or "no NAME". The caller's both;
 * NULL: out of memory. */
static void read_field(char **text, char **words, Field *f, const json_t *fields)
{
    char *part = f->path;
    json_t *value = find_field(fields, &part);
    f->seen |= value != NULL;
    *text = !value || json_is_null(value) ? strdup("") : json_value_text(value);
    const int length = (int)strcspn(part, ".");
    const bool steered = length == 7 && strncmp(part, "steered", 7) == 0;
    if (!*text || **text)
        *words = *text ? strdup(*text) : NULL;
    else if (asprintf(words, "%s%.*s", steered ? "un" : "no ", length, part) < 0)
        *words = NULL;
    json_decref(value);
}

/* What is drawn of a text, which is freed: its first letters, with dots for the rest. */
static char *cut_label(char *text)
{
    const char *end = text ? font_skip(text, LETTERS_MOST) : "";
    char *cut = NULL;
    if (!*end)
        return text;
    if (asprintf(&cut, "%.*s...", (int)(end - text), text) < 0)
        cut = NULL;
    free(text);
    return cut;
}

/* Texts of a list's fields, as an array in which "" is no value, and their label: "Fishes, no theme". The caller's
 * both. Returns 1 when one has a value, else 0; -1 on error. */
static int read_fields(json_t **values, char **label, Fields *list, const json_t *fields, Err *e)
{
    int there = 0;
    *values = json_array();
    *label = strdup("");
    for (int i = 0; i < list->count && *label; i++) {
        char *text, *words, *longer = NULL;
        read_field(&text, &words, &list->field[i], fields);
        if (text && words && json_array_append_new(*values, json_string(text)) == 0
            && asprintf(&longer, "%s%s%s", *label, i ? ", " : "", words) < 0)
            longer = NULL;
        there |= text && *text;
        free(text);
        free(words);
        free(*label);
        *label = longer;
    }
    *label = cut_label(*label);
    return *label ? there : err_set(e, "out of memory for a label");
}

/* Adds a place of those values and that label, both its own from here on. */
static int add_place(Axis *a, int at, json_t *values, char *label, Err *e)
{
    Place *more = label ? realloc(a->place, sizeof *more * ((size_t)a->count + 1)) : NULL;
    if (!more) {
        json_decref(values);
        free(label);
        return err_set(e, "out of memory for %d rows or columns", a->count + 1);
    }
    a->place = more;
    memmove(more + at + 1, more + at, sizeof *more * (size_t)(a->count - at));
    more[at] = (Place){values, label, 0};
    a->count++;
    return at;
}

/* Place on an axis of what a picture's fields say, added when it is new: at the end, or at the front where they have no
 * value. */
static int need_place(Sheet *s, Axis *a, const json_t *fields, Err *e)
{
    json_t *values;
    char *label;
    const int there = read_fields(&values, &label, &a->by, fields, e);
    int at = 0;
    while (there >= 0 && at < a->count && !json_equal(a->place[at].values, values))
        at++;
    if (there >= 0 && at == a->count) {
        at = add_place(a, there ? a->count : 0, values, label, e);
        for (size_t i = 0; i < s->cells && at >= 0 && !there; i++)
            *(a == &s->rows ? &s->cell[i].row : &s->cell[i].column) += 1;
        return at;
    }
    json_decref(values);
    free(label);
    return there < 0 ? -1 : at;
}

/* Places without a label, up to number n. */
static int need_number(Axis *a, int n, Err *e)
{
    while (a->count <= n)
        if (add_place(a, a->count, NULL, strdup(""), e) < 0)
            return -1;
    return n;
}

static int find_place(Sheet *s, const json_t *fields, int *row, int *column, Err *e)
{
    Axis *rows = &s->rows, *columns = &s->columns;
    if ((rows->by.count && (*row = need_place(s, rows, fields, e)) < 0)
        || (columns->by.count && (*column = need_place(s, columns, fields, e)) < 0))
        return -1;
    if (rows->by.count && !columns->by.count)
        *column = need_number(columns, rows->place[*row].used++, e);
    else if (columns->by.count && !rows->by.count)
        *row = need_number(rows, columns->place[*column].used++, e);
    else if (!rows->by.count) {
        *row = need_number(rows, (int)(s->cells / (size_t)s->options.across), e);
        *column = need_number(columns, (int)(s->cells % (size_t)s->options.across), e);
    }
    return *row < 0 || *column < 0 ? -1 : 0;
}

/* ---- pictures ---- */

/* Size of a picture (W,H) in a cell: its proportions, and one side the cell's. */
static void fit(const Sheet *s, int W, int H, int *width, int *height)
{
    const int64_t by_height = ((int64_t)W * s->height + H/2)/H, by_width = ((int64_t)H * s->width + W/2)/W;
    *width = by_height < 1 ? 1 : by_height < s->width ? (int)by_height : s->width;
    *height = by_width < 1 ? 1 : by_width < s->height ? (int)by_width : s->height;
}

int sheet_add(Sheet *s, const json_t *fields, const uint8_t *rgb, int W, int H, Err *e)
{
    int row = 0, column = 0;
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
    Cell *c = &s->cell[s->cells++];
    *c = (Cell){.row = row, .column = column};
    fit(s, W, H, &c->width, &c->height);
    json_t *values;
    const int got = read_fields(&values, &c->caption, &s->captions, fields, e);
    json_decref(values);
    if (got < 0 || !(c->pixels = malloc((size_t)c->width * c->height * 3)))
        return err_set(e, "out of memory for %zu pictures", s->cells);
    image_resize(c->pixels, c->width, c->height, rgb, W, H);
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
        const int lines = font_lines(s->columns.place[i].label, l.letters);
        header = lines > header ? lines : header;
    }
    for (size_t i = 0; i < s->cells; i++) {
        const int lines = font_lines(s->cell[i].caption, l.letters);
        caption = lines > caption ? lines : caption;
    }
    for (int i = 0; i < s->rows.count; i++) {
        const int length = font_length(s->rows.place[i].label);
        longest = length > longest ? length : longest;
    }
    l.row_letters = longest < ROW_LETTERS ? longest : ROW_LETTERS;
    l.left = MARGIN + (l.row_letters ? l.row_letters * FONT_WIDTH * scale + GAP : 0);
    l.top = MARGIN + (s->options.title ? FONT_HEIGHT * scale * TITLE_SCALE + GAP : 0)
        + (header ? header * l.line + GAP/2 : 0);
    l.step_x = s->width + GAP;
    l.step_y = s->height + GAP + caption * l.line;
    return l;
}

/* Text in lines of `letters` from the top, at most so many: dots stand at the end of what goes on. */
static void draw_lines(Canvas *c, int x, int y, int scale, uint32_t rgb, const char *text, int letters, int most)
{
    const char *const dots = "...";
    for (int line = 1; *text && line <= most; line++, y += FONT_HEIGHT * scale) {
        const int length = font_break(text, letters);
        const char *next = font_skip(text, length);
        const bool cut = line == most && *next;
        const int kept = cut && length > letters - 3 ? (letters > 3 ? letters - 3 : 0) : length;
        font_draw(c, x, y, scale, rgb, text, kept);
        if (cut)
            font_draw(c, x + kept*FONT_WIDTH*scale, y, scale, rgb, dots, letters - kept);
        text = next;
    }
}

static void draw_box(Canvas *canvas, int x, int y, int width, int height, int grey)
{
    for (int j = 0; j < height; j++)
        memset(canvas->pixels + ((size_t)(y + j) * canvas->width + x) * 3, grey, (size_t)width * 3);
}

/* A cell at x, y: its picture in the middle, and paper around that. */
static void draw_cell(Canvas *canvas, const Sheet *s, int x, int y, const Cell *c)
{
    draw_box(canvas, x, y, s->width, s->height, PAPER);
    x += (s->width - c->width)/2;
    y += (s->height - c->height)/2;
    for (int j = 0; j < c->height; j++)
        memcpy(canvas->pixels + ((size_t)(y + j) * canvas->width + x) * 3, c->pixels + (size_t)j * c->width * 3,
               (size_t)c->width * 3);
}

/* Beside a row, as many lines as its pictures are high: the next row's label stands apart from it. */
static void draw_row_label(Canvas *canvas, const Sheet *s, const Layout *l, int y, const char *label)
{
    const int most = s->height > l->line ? s->height / l->line : 1;
    const int all = font_lines(label, l->row_letters), lines = all < most ? all : most;
    draw_lines(canvas, MARGIN, y + (s->height - lines*l->line)/2, s->options.text, INK, label, l->row_letters, most);
}

static void draw_labels(Canvas *canvas, const Sheet *s, const Layout *l)
{
    const int scale = s->options.text;
    if (s->options.title)
        font_draw(canvas, MARGIN, MARGIN, scale * TITLE_SCALE, INK, s->options.title, font_length(s->options.title));
    for (int i = 0; i < s->columns.count; i++) {
        const char *label = s->columns.place[i].label;
        const int lines = font_lines(label, l->letters);
        draw_lines(canvas, l->left + i*l->step_x, l->top - GAP/2 - lines*l->line, scale, INK, label, l->letters, lines);
    }
    for (int i = 0; i < s->rows.count && l->row_letters; i++)
        draw_row_label(canvas, s, l, l->top + i*l->step_y, s->rows.place[i].label);
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
    memset(canvas->pixels, PAPER, (size_t)W * H * 3);
    if (s->options.rows && s->options.columns)      /* a hole in the table is shown as one */
        for (int i = 0; i < s->rows.count * s->columns.count; i++)
            draw_box(canvas, l.left + i % s->columns.count * l.step_x, l.top + i / s->columns.count * l.step_y,
                     s->width, s->height, EMPTY);
    draw_labels(canvas, s, &l);
    for (size_t i = 0; i < s->cells; i++) {
        const Cell *c = &s->cell[i];
        const int x = l.left + c->column*l.step_x, y = l.top + c->row*l.step_y;
        draw_cell(canvas, s, x, y, c);
        draw_lines(canvas, x, y + s->height + 2, s->options.text, FAINT, c->caption, l.letters,
                   font_lines(c->caption, l.letters));
    }
    return 0;
}
