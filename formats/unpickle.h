/* SPDX-License-Identifier: MIT */
/* unpickle.h -- the pickles in which torch describes state dicts, read as data: nothing is imported, nothing is called.
 *
 * Known are the opcodes of protocol 2 that build None, booleans, numbers, text, tuples, lists and dicts, and as the
 * only names collections.OrderedDict, torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch's
 * ParameterDict (a dict with a dict "_parameters"), the storages of plain number types, and a few that a trainer's
 * checkpoint has beside its tensors (numpy's scalars, sets, Lightning's ModelCheckpoint), which become one value that
 * says nothing. Any other opcode or name is refused by its name. Memory is bounded by the bytes: each makes at most one
 * value. (Opcodes: CPython, Lib/pickletools.py.) */
#ifndef FORMATS_UNPICKLE_H
#define FORMATS_UNPICKLE_H

#include <stddef.h>
#include <stdint.h>
#include "formats/dtype.h"
#include "formats/err.h"

typedef enum {
    PICKLE_NONE, PICKLE_BOOL, PICKLE_INT, PICKLE_REAL, PICKLE_TEXT, PICKLE_TUPLE, PICKLE_LIST,
    PICKLE_DICT,            /* item: key, value, key, value, ... */
    PICKLE_NAME,            /* one of the known functions and classes; number says which */
    PICKLE_STORAGE,         /* text: its key in the archive; type; number: elements */
    PICKLE_TENSOR,          /* item: storage, size tuple, stride tuple; number: offset, in elements */
    PICKLE_OTHER            /* what is known, and is none of these */
} PickleKind;

typedef struct PickleValue PickleValue;
struct PickleValue {
    PickleKind kind;
    DType type;
    int64_t number;         /* of BOOL, INT and as above; a REAL's value is not kept */
    char *text;             /* ends with a 0, and holds no other */
    PickleValue **item;
    size_t count, room;
    PickleValue *next;      /* the value made before this one */
};

typedef struct Pickle Pickle;

enum { PICKLE_MAX_BYTES = 2 << 20 };

/* Reads the pickle at bytes[0..n). Values live until pickle_free. An error begins with `where` and the byte. */
int unpickle(Pickle **p, const uint8_t *bytes, size_t n, const char *where, Err *e);
const PickleValue *pickle_root(const Pickle *p);
void pickle_free(Pickle *p);                        /* NULL is fine */

#endif
