/* SPDX-License-Identifier: MIT */
/* unigram_parts.h -- the unigram tokenizer from within: shared by unigram_load.c, unigram_model.c and unigram_added.c,
 * which make it, and unigram.c. */
#ifndef SRC_MODELS_UNIGRAM_PARTS_H
#define SRC_MODELS_UNIGRAM_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include "src/models/byte_trie.h"
#include "src/models/charsmap.h"
#include "src/models/unigram.h"

/* UNIGRAM_PIECE_MOST: bytes of a piece, so that time is linear in the text whatever the vocabulary. UNIGRAM_UNKNOWN: id
 * of <unk>, which T5Tokenizer sets. */
enum { UNIGRAM_PIECE_MOST = 1024, UNIGRAM_UNKNOWN = 2 };

typedef struct AddedToken {
    char *text;
    int32_t id;
    bool normalized, lstrip, rstrip;
} AddedToken;

struct Unigram {
    ByteTrie piece;                 /* ids */
    double *score;                  /* of each id */
    int32_t pieces, room;
    double least;                   /* of the scores */
    Charsmap *charsmap;             /* NULL: none */
    AddedToken *added;
    int32_t addeds;
    ByteTrie raw, normal;           /* of the text of those that are found as they stand, and of those that are found in
                                     * a text's normal form: index into added */
    int32_t end, pad;
};

enum { EXTRA_TEXT = 32 };

typedef struct UnigramFiles {       /* what is made of; an object is empty where its file is not there */
    char folder[4096], whole_path[4128], config_path[4128];
    json_t *whole, *config;         /* tokenizer.json, tokenizer_config.json */
    json_t *map, *added;            /* special_tokens_map.json, added_tokens.json: empty where config has a decoder */
    json_t *controls;               /* list of tokens that spiece.model has for its own use */
    int64_t extra_ids;              /* how many <extra_id_N> there are */
} UnigramFiles;

int unigram_extra(char text[EXTRA_TEXT], int64_t i);        /* "<extra_id_I>"; returns its length */
/* Another piece, of the next id; of a text that comes twice the last id counts. An error begins with `where`. */
int unigram_add_piece(Unigram *u, const char *text, size_t n, double score, const char *where, Err *e);
/* Pieces and normalizer of the file spiece.model at `path`; its control and user-defined pieces onto `controls`. */
int unigram_read_model(Unigram *u, const char *path, json_t *controls, Err *e);
/* Behind all pieces. */
int unigram_add_tokens(Unigram *u, const UnigramFiles *f, Err *e);

#endif
