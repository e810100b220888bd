/* SPDX-License-Identifier: MIT */
/* templates.h -- concepts, themes and sentence templates, as small text files, and the prompts they make.
 *
 * Lists      NAME[<TAB>words[<TAB>article]], one a line; # begins a comment line. Without words the theme's name
 *            itself, and the concept's name in small letters, stand in prompts.
 * Templates  SPLIT<TAB>text, SPLIT: gather, generate, both. {concept}, {article}, {Article} and {theme} are replaced; a
 *            text without {theme} is for plain prompts.
 * Anchors    CONCEPT<TAB>sentence, or CONCEPT,sentence as CSV writes it: templates of one concept, for both splits. */
#ifndef SRC_MODELS_TEMPLATES_H
#define SRC_MODELS_TEMPLATES_H

#include <stdbool.h>
#include <stddef.h>
#include "formats/err.h"

enum { SPLIT_GATHER = 1, SPLIT_GENERATE = 2 };

typedef struct Name {
    char *name, *words, *article;   /* article NULL: a or an */
} Name;

typedef struct Names {
    Name *item;
    int count;
} Names;

typedef struct Template {
    int splits;                     /* SPLIT_GATHER | SPLIT_GENERATE */
    char *concept;                  /* NULL: of every concept that has none of its own */
    char *text;
    bool themed;
} Template;

typedef struct Templates {
    Template *item;
    int count;
} Templates;

/* Reads a list. A name that comes twice, is empty or holds a / (it parts ids) is an error naming file and line. An
 * empty file is an empty list. names is to be freed also after an error; the same holds for templates. */
int names_read(Names *names, const char *path, bool small_letters, Err *e);
/* Keeps the wanted names only, in the order wanted; one that is not there is an error. what: "concept",
 * for the message. */
int names_keep(Names *names, const char *const *wanted, int count, const char *what, Err *e);
void names_free(Names *names);

int templates_read(Templates *t, const char *path, Err *e);
int templates_add(Templates *t, const char *text, int splits, const char *where, Err *e);
int anchors_read(Templates *t, const char *path, const Names *concepts, Err *e);
void templates_free(Templates *t);

/* The turn-th template for a prompt about concept, themed or plain, going round those that fit;
 * NULL where none does. */
const Template *template_pick(const Templates *t, int split, const Name *concept, bool themed, size_t turn);
/* A fresh string, or NULL when out of memory. theme: NULL for a plain prompt. */
char *template_fill(const Template *t, const Name *concept, const Name *theme);

#endif
