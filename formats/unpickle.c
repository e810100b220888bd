/* SPDX-License-Identifier: MIT */
/* unpickle.c -- the stack machine of pickle, cut down to what describes tensors.
 *
 *     (  mark        ( x y t   tuple of what stands above the mark        d k v s   d[k] = v        h n   memo n again
 *     c module name  a known name        f args R   f of args: a tensor or an empty dict        Q   a storage
 *     f args NEWOBJ  an empty ParameterDict, which BUILD gives the "_parameters" of its state
 *
 * R and NEWOBJ never call: they look which of the known names f is, and check args. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/little.h"
#include "formats/unpickle.h"

enum { MAX_DIMS = 8 };
enum { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE_TYPE, PARAMETER_DICT, NO_TENSOR };  /* of PICKLE_NAME */

typedef struct List { void **item; size_t count, room; } List;

struct Pickle {
    PickleValue *last, *root;
    List stack, memo;
    size_t *mark, marks, mark_room;
    const uint8_t *bytes;
    size_t size, at, op_at;
    const char *where;
    Err *e;
};

__attribute__((format(printf, 2, 3))) static int refuse(Pickle *p, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(p->e, "%s: byte %zu: %s", p->where, p->op_at, text);
}

/* ---- values, the stack, the memo ---- */

/* items with room for `needed`; NULL when memory is out, items is as it was then. */
static void *grow(void *items, size_t *room, size_t needed, size_t size)
{
    if (needed <= *room)
        return items;
    size_t more = *room ? *room*2 : 4;
    if (more < needed)
        more = needed;
    void *grown = realloc(items, more*size);
    if (grown)
        *room = more;
    return grown;
}

static PickleValue *make(Pickle *p, PickleKind kind)
{
    PickleValue *v = calloc(1, sizeof *v);
    if (!v) {
        refuse(p, "out of memory");
        return NULL;
    }
    v->kind = kind;
    v->next = p->last;
    return p->last = v;
}

static int list_push(Pickle *p, List *l, void *v)
{
    void **grown = v ? grow(l->item, &l->room, l->count + 1, sizeof *l->item) : NULL;
    if (!grown)
        return refuse(p, "out of memory");
    l->item = grown;
    l->item[l->count++] = v;
    return 0;
}

static int push(Pickle *p, PickleValue *v)
{
    return list_push(p, &p->stack, v);
}

static int push_number(Pickle *p, PickleKind kind, int64_t number)
{
    PickleValue *v = make(p, kind);
    if (v)
        v->number = number;
    return push(p, v);
}

/* What the stack holds above its last mark may be taken, no more. NULL with an error when there is nothing. */
static PickleValue *pop(Pickle *p)
{
    if (p->stack.count <= (p->marks ? p->mark[p->marks - 1] : 0)) {
        refuse(p, "the stack is empty");
        return NULL;
    }
    return p->stack.item[--p->stack.count];
}

static int append(Pickle *p, PickleValue *to, PickleValue *v)
{
    PickleValue **grown = grow(to->item, &to->room, to->count + 1, sizeof *to->item);
    if (!grown)
        return refuse(p, "out of memory");
    to->item = grown;
    to->item[to->count++] = v;
    return 0;
}

/* Moves what stands above stack place `from` into v. */
static int take(Pickle *p, PickleValue *v, size_t from)
{
    for (size_t i = from; i < p->stack.count; i++)
        if (append(p, v, p->stack.item[i]))
            return -1;
    p->stack.count = from;
    return 0;
}

static int pop_mark(Pickle *p, size_t *from)
{
    if (p->marks == 0)
        return refuse(p, "no mark is set");
    *from = p->mark[--p->marks];
    return 0;
}

static int set_mark(Pickle *p)
{
    size_t *grown = grow(p->mark, &p->mark_room, p->marks + 1, sizeof *p->mark);
    if (!grown)
        return refuse(p, "out of memory");
    p->mark = grown;
    p->mark[p->marks++] = p->stack.count;
    return 0;
}

static int remember(Pickle *p, uint64_t place)
{
    if (place > p->size)                                /* a pickle has fewer values than bytes */
        return refuse(p, "memo %llu is out of bounds", (unsigned long long)place);
    if (p->stack.count == 0)
        return refuse(p, "the stack is empty");
    void **grown = grow(p->memo.item, &p->memo.room, place + 1, sizeof *p->memo.item);
    if (!grown)
        return refuse(p, "out of memory");
    p->memo.item = grown;
    while (p->memo.count <= place)
        grown[p->memo.count++] = NULL;
    p->memo.item[place] = p->stack.item[p->stack.count - 1];
    return 0;
}

static int recall(Pickle *p, uint64_t place)
{
    if (place >= p->memo.count || !p->memo.item[place])
        return refuse(p, "memo %llu was never set", (unsigned long long)place);
    return push(p, p->memo.item[place]);
}

/* ---- bytes ---- */

static const uint8_t *next_bytes(Pickle *p, size_t n)
{
    if (n > p->size - p->at) {
        refuse(p, "%zu bytes should follow, the pickle has %zu more: it was cut", n, p->size - p->at);
        return NULL;
    }
    p->at += n;
    return p->bytes + p->at - n;
}

static int next_number(Pickle *p, size_t n, uint64_t *number)
{
    const uint8_t *b = next_bytes(p, n);
    *number = b ? little(b, (int)n) : 0;
    return b ? 0 : -1;
}

/* A text with a byte 0 is no name: numpy's scalars, whose bytes pass as text, have such. */
static int push_text(Pickle *p)
{
    uint64_t n;
    const uint8_t *bytes;
    if (next_number(p, 4, &n) || !(bytes = next_bytes(p, n)))
        return -1;
    if (memchr(bytes, 0, n))
        return push(p, make(p, PICKLE_OTHER));
    PickleValue *v = make(p, PICKLE_TEXT);
    if (v && !(v->text = strndup((const char *)bytes, n)))
        return refuse(p, "out of memory");
    return push(p, v);
}

static int push_long(Pickle *p)
{
    uint64_t n, number = 0;
    const uint8_t *bytes;
    if (next_number(p, 1, &n) || !(bytes = next_bytes(p, n)))
        return -1;
    if (n > 8)
        return refuse(p, "an integer of %d bytes, at most 8 are read", (int)n);
    if (n > 0 && bytes[n - 1] & 0x80)
        number = ~(uint64_t)0;
    for (size_t i = n; i-- > 0;)
        number = number << 8 | bytes[i];
    return push_number(p, PICKLE_INT, (int64_t)number);
}

/* ---- names ---- */

/* One line of the pickle, without its end; NULL with an error. */
static const char *next_line(Pickle *p, size_t *n)
{
    const uint8_t *begin = p->bytes + p->at, *end = memchr(begin, '\n', p->size - p->at);
    if (!end) {
        refuse(p, "a name has no end");
        return NULL;
    }
    *n = (size_t)(end - begin);
    p->at += *n + 1;
    return (const char *)begin;
}

static int push_name(Pickle *p)
{
    static const struct { const char *name; int is; DType type; } known[] = {
        {"collections.OrderedDict", ORDERED_DICT, F32},
        {"torch._utils._rebuild_tensor_v2", REBUILD_TENSOR, F32},
        {"torch._utils._rebuild_parameter", REBUILD_PARAMETER, F32},
        {"torch.nn.modules.container.ParameterDict", PARAMETER_DICT, F32},
        {"torch.FloatStorage", STORAGE_TYPE, F32}, {"torch.HalfStorage", STORAGE_TYPE, F16},
        {"torch.BFloat16Storage", STORAGE_TYPE, BF16}, {"torch.DoubleStorage", STORAGE_TYPE, F64},
        {"torch.CharStorage", STORAGE_TYPE, I8}, {"torch.ByteStorage", STORAGE_TYPE, U8},
        {"torch.BoolStorage", STORAGE_TYPE, U8}, {"torch.ShortStorage", STORAGE_TYPE, I16},
        {"torch.IntStorage", STORAGE_TYPE, I32}, {"torch.LongStorage", STORAGE_TYPE, I64},
        {"numpy.core.multiarray.scalar", NO_TENSOR, F32}, {"numpy._core.multiarray.scalar", NO_TENSOR, F32},
        {"numpy.dtype", NO_TENSOR, F32}, {"_codecs.encode", NO_TENSOR, F32}, {"__builtin__.set", NO_TENSOR, F32},
        {"pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", NO_TENSOR, F32},
    };
    char name[256];
    size_t n, m;
    const char *module = next_line(p, &n), *item = module ? next_line(p, &m) : NULL;
    if (!item)
        return -1;
    snprintf(name, sizeof name, "%.*s.%.*s", (int)(n < 120 ? n : 120), module, (int)(m < 120 ? m : 120), item);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n < 120 && m < 120 && strcmp(name, known[i].name) == 0) {
            PickleValue *v = make(p, PICKLE_NAME);
            if (v) {
                v->number = known[i].is;
                v->type = known[i].type;
            }
            return push(p, v);
        }
    return refuse(p, "names %s: only tensors and their containers are read, nothing is called", name);
}

/* ('storage', torch.FloatStorage, key, device, elements) */
static int push_storage(Pickle *p)
{
    const PickleValue *id = pop(p);
    if (!id)
        return -1;
    PickleValue *const *a = id->item;
    if (id->kind != PICKLE_TUPLE || id->count != 5 || a[0]->kind != PICKLE_TEXT || strcmp(a[0]->text, "storage") != 0
        || a[1]->kind != PICKLE_NAME || a[1]->number != STORAGE_TYPE || a[2]->kind != PICKLE_TEXT
        || a[4]->kind != PICKLE_INT || a[4]->number < 0)
        return refuse(p, "a persistent id is not ('storage', type, key, device, elements)");
    PickleValue *v = make(p, PICKLE_STORAGE);
    if (!v)
        return -1;
    v->type = a[1]->type;
    v->number = a[4]->number;
    v->text = strdup(a[2]->text);
    return v->text ? push(p, v) : refuse(p, "out of memory");
}

static int is_counts(const PickleValue *v)
{
    int ok = v->kind == PICKLE_TUPLE && v->count <= MAX_DIMS;
    for (size_t i = 0; ok && i < v->count; i++)
        ok = v->item[i]->kind == PICKLE_INT && v->item[i]->number >= 0;
    return ok;
}

/* (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static int push_tensor(Pickle *p, const PickleValue *args)
{
    PickleValue *const *a = args->item;
    if (args->count < 6 || args->count > 7 || a[0]->kind != PICKLE_STORAGE || a[1]->kind != PICKLE_INT
        || a[1]->number < 0 || !is_counts(a[2]) || !is_counts(a[3]) || a[2]->count != a[3]->count)
        return refuse(p, "a tensor is not made of (storage, offset, size, stride, ...) with at most %d dimensions",
                      MAX_DIMS);
    PickleValue *v = make(p, PICKLE_TENSOR);
    if (!v || append(p, v, a[0]) || append(p, v, a[2]) || append(p, v, a[3]))
        return -1;
    v->number = a[1]->number;
    return push(p, v);
}

static int reduce(Pickle *p)
{
    const PickleValue *args = pop(p), *f = args ? pop(p) : NULL;
    if (!f)
        return -1;
    if (f->kind != PICKLE_NAME || f->number == STORAGE_TYPE || f->number == PARAMETER_DICT
        || args->kind != PICKLE_TUPLE)
        return refuse(p, "REDUCE of what is not a known function and a tuple");
    if (f->number == REBUILD_TENSOR)
        return push_tensor(p, args);
    if (f->number == REBUILD_PARAMETER)
        return args->count == 3 && args->item[0]->kind == PICKLE_TENSOR
             ? push(p, args->item[0]) : refuse(p, "a parameter is not made of (tensor, requires_grad, hooks)");
    if (f->number == NO_TENSOR)
        return push(p, make(p, PICKLE_OTHER));
    return args->count == 0 ? push(p, make(p, PICKLE_DICT)) : refuse(p, "an OrderedDict with arguments");
}

/* ---- containers ---- */

static int push_object(Pickle *p)
{
    const PickleValue *args = pop(p), *f = args ? pop(p) : NULL;
    if (!f)
        return -1;
    if (f->kind != PICKLE_NAME || f->number != PARAMETER_DICT || args->kind != PICKLE_TUPLE || args->count > 0)
        return refuse(p, "NEWOBJ of what is not a ParameterDict without arguments");
    return push_number(p, PICKLE_DICT, PARAMETER_DICT);
}

static int push_tuple(Pickle *p, size_t n)
{
    const size_t floor = p->marks ? p->mark[p->marks - 1] : 0;
    if (p->stack.count - floor < n)
        return refuse(p, "the stack is empty");
    PickleValue *v = make(p, PICKLE_TUPLE);
    return v && take(p, v, p->stack.count - n) == 0 ? push(p, v) : -1;
}

static int marked_tuple(Pickle *p)
{
    size_t from = 0;
    return pop_mark(p, &from) ? -1 : push_tuple(p, p->stack.count - from);
}

/* Adds what stands above `from` to the list or dict below it. */
static int fill(Pickle *p, PickleKind kind, size_t from)
{
    const size_t floor = p->marks ? p->mark[p->marks - 1] : 0;
    if (from <= floor || from > p->stack.count)
        return refuse(p, "the stack is empty");
    PickleValue *to = p->stack.item[from - 1];
    if (to->kind != kind)
        return refuse(p, "items are added to what is not a %s", kind == PICKLE_DICT ? "dict" : "list");
    if (kind == PICKLE_DICT && (p->stack.count - from) % 2)
        return refuse(p, "a key of a dict has no value");
    return take(p, to, from);
}

static int fill_marked(Pickle *p, PickleKind kind)
{
    size_t from = 0;
    return pop_mark(p, &from) ? -1 : fill(p, kind, from);
}

/* The dict that stands for a module takes "_parameters" of the module's state, a dict in it. */
static int take_parameters(Pickle *p, PickleValue *to, const PickleValue *state)
{
    enum { ATTRIBUTES = 64 };                           /* a module has some twenty */
    for (size_t i = 0; i + 1 < state->count && i < 2*ATTRIBUTES; i += 2)
        if (state->item[i]->kind == PICKLE_TEXT && strcmp(state->item[i]->text, "_parameters") == 0)
            return to->count > 0 ? refuse(p, "a ParameterDict is filled twice")
                 : append(p, to, state->item[i]) || append(p, to, state->item[i + 1]) ? -1 : 0;
    return 0;
}

/* State dicts carry an attribute, _metadata; it is dropped, as is what a numpy.dtype is told. */
static int build(Pickle *p)
{
    const PickleValue *state = pop(p);
    if (!state)
        return -1;
    const size_t floor = p->marks ? p->mark[p->marks - 1] : 0;
    PickleValue *of = p->stack.count > floor ? p->stack.item[p->stack.count - 1] : NULL;
    if (!of || (of->kind != PICKLE_OTHER && (of->kind != PICKLE_DICT || state->kind != PICKLE_DICT)))
        return refuse(p, "BUILD of what is not a dict with attributes");
    return of->kind == PICKLE_DICT && of->number == PARAMETER_DICT ? take_parameters(p, of, state) : 0;
}

static int stop(Pickle *p)
{
    if (p->marks || p->stack.count != 1)
        return refuse(p, "ends with %zu values on the stack and %zu marks, expected 1 and 0", p->stack.count, p->marks);
    p->root = p->stack.item[0];
    return 0;
}

static const char *op_name(uint8_t op)
{
    static const struct { uint8_t op; const char *name; } names[] = {
        {'i', "INST"}, {'o', "OBJ"}, {0x92, "NEWOBJ_EX"}, {0x93, "STACK_GLOBAL"}, {'P', "PERSID"},
        {0x82, "EXT1"}, {0x83, "EXT2"}, {0x84, "EXT4"}, {0x95, "FRAME"}, {0x94, "MEMOIZE"}, {'B', "BINBYTES"},
        {'C', "SHORT_BINBYTES"}, {0x8c, "SHORT_BINUNICODE"}, {0x8d, "BINUNICODE8"}, {'U', "SHORT_BINSTRING"},
        {'T', "BINSTRING"}, {0x8b, "LONG4"}, {'S', "STRING"}, {'V', "UNICODE"}, {'I', "INT"}, {'L', "LONG"},
        {'F', "FLOAT"}, {'0', "POP"}, {'1', "POP_MARK"}, {'2', "DUP"}, {'d', "DICT"}, {'l', "LIST"}, {'g', "GET"},
        {'p', "PUT"}, {0x8f, "EMPTY_SET"}, {0x90, "ADDITEMS"}, {0x91, "FROZENSET"}, {0x96, "BYTEARRAY8"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].op == op)
            return names[i].name;
    return "not an opcode";
}

static int step(Pickle *p, uint8_t op)
{
    uint64_t n;
    switch (op) {
    case 0x80:
        return next_number(p, 1, &n) ? -1 : n == 2 ? 0 : refuse(p, "protocol %d, expected 2", (int)n);
    case 'N': return push(p, make(p, PICKLE_NONE));
    case 0x88: return push_number(p, PICKLE_BOOL, 1);
    case 0x89: return push_number(p, PICKLE_BOOL, 0);
    case 'K': return next_number(p, 1, &n) ? -1 : push_number(p, PICKLE_INT, (int64_t)n);
    case 'M': return next_number(p, 2, &n) ? -1 : push_number(p, PICKLE_INT, (int64_t)n);
    case 'J': return next_number(p, 4, &n) ? -1 : push_number(p, PICKLE_INT, (int32_t)(uint32_t)n);
    case 0x8a: return push_long(p);
    case 'G': return next_bytes(p, 8) ? push(p, make(p, PICKLE_REAL)) : -1;
    case 'X': return push_text(p);
    case ')': return push(p, make(p, PICKLE_TUPLE));
    case 0x85: case 0x86: case 0x87: return push_tuple(p, op - 0x84u);
    case 't': return marked_tuple(p);
    case ']': return push(p, make(p, PICKLE_LIST));
    case 'a': return fill(p, PICKLE_LIST, p->stack.count - (p->stack.count > 0));
    case 'e': return fill_marked(p, PICKLE_LIST);
    case '}': return push(p, make(p, PICKLE_DICT));
    case 's': return fill(p, PICKLE_DICT, p->stack.count < 2 ? 0 : p->stack.count - 2);
    case 'u': return fill_marked(p, PICKLE_DICT);
    case '(': return set_mark(p);
    case 'q': return next_number(p, 1, &n) ? -1 : remember(p, n);
    case 'r': return next_number(p, 4, &n) ? -1 : remember(p, n);
    case 'h': return next_number(p, 1, &n) ? -1 : recall(p, n);
    case 'j': return next_number(p, 4, &n) ? -1 : recall(p, n);
    case 'c': return push_name(p);
    case 'Q': return push_storage(p);
    case 'R': return reduce(p);
    case 0x81: return push_object(p);
    case 'b': return build(p);
    case '.': return stop(p);
    default: return refuse(p, "opcode 0x%02x (%s) is not read", op, op_name(op));
    }
}

int unpickle(Pickle **out, const uint8_t *bytes, size_t n, const char *where, Err *e)
{
    *out = NULL;
    if (n > PICKLE_MAX_BYTES)
        return err_set(e, "%s: %zu bytes, at most %d are read", where, n, PICKLE_MAX_BYTES);
    Pickle *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->bytes = bytes;
    p->size = n;
    p->where = where;
    p->e = e;
    int failed = 0;
    while (!failed && !p->root) {
        const uint8_t *op = (p->op_at = p->at, next_bytes(p, 1));
        failed = !op || step(p, *op);
    }
    if (failed) {
        pickle_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

const PickleValue *pickle_root(const Pickle *p)
{
    return p->root;
}

void pickle_free(Pickle *p)
{
    if (!p)
        return;
    for (PickleValue *v = p->last, *next; v; v = next) {
        next = v->next;
        free(v->text);
        free(v->item);
        free(v);
    }
    free(p->stack.item);
    free(p->memo.item);
    free(p->mark);
    free(p);
}
