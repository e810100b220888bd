/* SPDX-License-Identifier: MIT */
/* prompts.h -- text records: one prompt a line, as JSON or as plain text.
 *
 *     {"id":"Fishes/Watercolor/3","prompt":"A fish in Watercolor style.","concept":"Fishes","theme":"Watercolor",
 *      "seed":188}
 *     A fish in Watercolor style.
 *
 * A line that begins with { is a JSON object, any other line is a prompt; blank lines are skipped, CRLF and a byte
 * order mark are tolerated. Errors name the file and the line: bad JSON, text that is not UTF-8, an id that came
 * before, a field of the wrong type, a seed outside 0..2^63-1, a line over 1 MiB. */
#ifndef SRC_MODELS_PROMPTS_H
#define SRC_MODELS_PROMPTS_H

#include <stdint.h>
#include "formats/stream.h"
#include "src/models/id_set.h"

typedef struct Prompts Prompts;

/* Opens path (NULL or "-": stdin). seed: of the records that bring none. *p is NULL on failure. */
int prompts_open(Prompts **p, const char *path, uint64_t seed, Err *e);
/* Before the first record: this file follows others of a run, as if cat had joined them. ids: theirs, the caller's, and
 * added to; lines: how many theirs were. */
void prompts_follow(Prompts *p, IdSet *ids, long lines);
long prompts_lines(const Prompts *p);               /* so far, those of the files before too */
/* Next record: fields id (default: the line's number, over all files), prompt, negative, init_prompt (where given),
 * init_image, concept, theme (where given and not empty), seed, then the others in their order. rec->number is the
 * line. The fields are good until the next call (json_incref to keep). Memory grows by 16 bytes a record, to know ids
 * that come twice.
 * Returns 1 with a record, 0 at the end, -1 on error. */
int prompts_next(Prompts *p, Record *rec, Err *e);
void prompts_close(Prompts *p);                     /* NULL is fine */
const char *prompts_name(const Prompts *p);         /* the file's name, or "standard input", for messages */

/* Seed of record `id` in a run seeded `seed`: a number in 0..2^31-1 that depends on nothing else.
 *     h = FNV-1a of the id's bytes, 64 bits      mix = splitmix64's finalizer
 *     mix(mix(seed + 0x9e3779b97f4a7c15) ^ h) >> 33 */
int64_t prompt_seed(uint64_t seed, const char *id);

#endif
