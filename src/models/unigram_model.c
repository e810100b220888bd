/* SPDX-License-Identifier: MIT */
/* unigram_model.c -- spiece.model, SentencePiece's ModelProto in protobuf's wire format.
 *
 *   message    fields one after another: varint number << 3 | kind, then by kind
 *              0 a varint   1 eight bytes   2 a varint n and n bytes, a text or a message   5 four bytes
 *   ModelProto       1 piece, again and again   2 trainer_spec   3 normalizer_spec
 *   piece            1 text   2 score, f32   3 type: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
 *   trainer_spec     3 model_type, 1 unigram   35 byte_fallback   40 unk_id
 *   normalizer_spec  2 precompiled_charsmap   3 add_dummy_prefix   4 remove_extra_whitespaces   5 escape_whitespaces
 *
 * github.com/google/sentencepiece, src/sentencepiece_model.proto, where the defaults are too. What T5Tokenizer does
 * whatever the file has (transformers models/t5/tokenization_t5.py) is refused where the file has it otherwise. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "formats/fdio.h"
#include "formats/little.h"
#include "src/models/tokenizer_text.h"
#include "src/models/unigram_parts.h"

typedef struct Message { const uint8_t *at, *end; } Message;

typedef struct Field {
    uint64_t number, value;         /* value: a varint's, or the bits of what has a fixed size */
    int kind;
    Message inside;                 /* kind 2: its bytes */
} Field;

enum { VARINT, EIGHT, BYTES, FOUR = 5 };

static int read_varint(Message *m, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        const uint8_t byte = *m->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 0;
    }
    return -1;
}

/* 1 with a field, 0 at the end, -1: no field is there, or none of a kind that is in use */
static int next_field(Message *m, Field *f)
{
    uint64_t tag, n;
    *f = (Field){0};
    if (m->at == m->end)
        return 0;
    if (read_varint(m, &tag))
        return -1;
    f->number = tag >> 3;
    f->kind = (int)(tag & 7);
    if (f->kind == VARINT)
        return read_varint(m, &f->value) ? -1 : 1;
    if (f->kind == BYTES ? read_varint(m, &n) : f->kind != EIGHT && f->kind != FOUR)
        return -1;
    n = f->kind == BYTES ? n : f->kind == EIGHT ? 8 : 4;
    if (n > (uint64_t)(m->end - m->at))
        return -1;
    f->inside = (Message){m->at, m->at + n};
    if (f->kind != BYTES)
        f->value = little(m->at, (int)n);
    m->at += n;
    return 1;
}

static int damaged(const char *path, const char *what, Err *e)
{
    return err_set(e, "%s: not a SentencePiece model, or damaged: %s is no protobuf message", path, what);
}

static int read_piece(Unigram *u, Message m, json_t *controls, const char *path, Err *e)
{
    enum { NORMAL = 1, CONTROL = 3, USER_DEFINED = 4 };
    uint64_t type = NORMAL;
    float score = 0;
    Message text = {0};
    Field f;
    int more;
    while ((more = next_field(&m, &f)) > 0) {
        if (f.number == 1 && f.kind == BYTES)
            text = f.inside;
        else if (f.number == 2 && f.kind == FOUR)
            memcpy(&score, &(uint32_t){(uint32_t)f.value}, sizeof score);
        else if (f.number == 3 && f.kind == VARINT)
            type = f.value;
    }
    if (more < 0)
        return damaged(path, "a piece", e);
    const size_t n = (size_t)(text.end - text.at);
    if (!isfinite(score) || (n > 0 && memchr(text.at, '\0', n)) || text_valid((const char *)text.at, n, &(Err){0}))
        return err_set(e, "%s: piece %d is no UTF-8 text with a number", path, u->pieces);
    if (unigram_add_piece(u, (const char *)text.at, n, (double)score, path, e))
        return -1;
    if (type != CONTROL && type != USER_DEFINED)
        return 0;
    return json_array_append_new(controls, json_stringn((const char *)text.at, n)) ? err_set(e, "out of memory") : 0;
}

static int read_trainer(Message m, const char *path, Err *e)
{
    enum { MODEL_TYPE = 3, BYTE_FALLBACK = 35, UNK_ID = 40, UNIGRAM = 1 };
    uint64_t type = UNIGRAM, bytes = 0, unknown = 0;
    Field f;
    int more;
    while ((more = next_field(&m, &f)) > 0) {
        type = f.number == MODEL_TYPE && f.kind == VARINT ? f.value : type;
        bytes = f.number == BYTE_FALLBACK && f.kind == VARINT ? f.value : bytes;
        unknown = f.number == UNK_ID && f.kind == VARINT ? f.value : unknown;
    }
    if (more < 0)
        return damaged(path, "\"trainer_spec\"", e);
    if (type != UNIGRAM)
        return err_set(e, "%s: \"model_type\" is %llu, expected %d, a unigram model", path, (unsigned long long)type,
                       UNIGRAM);
    if (bytes)
        return err_set(e, "%s: \"byte_fallback\" is true, expected false", path);
    if (unknown != UNIGRAM_UNKNOWN)
        return err_set(e, "%s: \"unk_id\" is %llu, expected %d, as T5 has it", path, (unsigned long long)unknown,
                       UNIGRAM_UNKNOWN);
    return 0;
}

static int read_normalizer(Unigram *u, Message m, const char *path, Err *e)
{
    static const char *const flags[] = {"add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"};
    enum { CHARSMAP = 2, FLAG = 3, FLAGS = 3 };
    Field f;
    int more;
    while ((more = next_field(&m, &f)) > 0) {
        if (f.kind == VARINT && f.number >= FLAG && f.number < FLAG + FLAGS && !f.value)
            return err_set(e, "%s: \"%s\" is false, expected true", path, flags[f.number - FLAG]);
        if (f.kind != BYTES || f.number != CHARSMAP || f.inside.at == f.inside.end)
            continue;
        charsmap_free(u->charsmap);
        char where[4200];
        snprintf(where, sizeof where, "%s: \"precompiled_charsmap\"", path);
        if (charsmap_create(&u->charsmap, f.inside.at, (size_t)(f.inside.end - f.inside.at), where, e))
            return -1;
    }
    return more < 0 ? damaged(path, "\"normalizer_spec\"", e) : 0;
}

static int read_model(Unigram *u, Message m, json_t *controls, const char *path, Err *e)
{
    int seen = 0;                                   /* bit N: field N */
    Field f;
    int more;
    while ((more = next_field(&m, &f)) > 0) {
        if (f.kind != BYTES)
            continue;
        if (f.number == 1 ? read_piece(u, f.inside, controls, path, e)
            : f.number == 2 ? read_trainer(f.inside, path, e)
            : f.number == 3 ? read_normalizer(u, f.inside, path, e) : 0)
            return -1;
        seen |= f.number < 4 ? 1 << f.number : 0;
    }
    if (more < 0)
        return damaged(path, "the file", e);
    for (int i = 2; i < 4; i++)
        if (!(seen >> i & 1))
            return err_set(e, "%s: no \"%s\": cut, or not a SentencePiece model", path,
                           i == 2 ? "trainer_spec" : "normalizer_spec");
    return 0;
}

int unigram_read_model(Unigram *u, const char *path, json_t *controls, Err *e)
{
    uint8_t *data;
    size_t n;
    if (file_map(&data, &n, path, "a SentencePiece model", e))
        return -1;
    const int failed = read_model(u, (Message){data, data + n}, controls, path, e);
    if (data)
        munmap(data, n);
    return failed;
}
