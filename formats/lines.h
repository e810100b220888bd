/* SPDX-License-Identifier: MIT */
/* lines.h -- text read line by line: prompts, lists, vocabularies, logs. */
#ifndef FORMATS_LINES_H
#define FORMATS_LINES_H

#include <stdbool.h>
#include "formats/err.h"

enum { LINE_MOST = 1 << 20 };                   /* bytes of a line; a longer one is an error, as is what is not UTF-8 */

typedef struct Lines Lines;

/* Opens path (NULL or "-": standard input). *l is NULL on failure. */
int lines_open(Lines **l, const char *path, Err *e);
void lines_close(Lines *l);                     /* NULL is fine */
/* Next line, without its end ("\n", "\r\n"; the last may have none) and without the mark of UTF-8 before the first.
 * *line may be written to and is good until the next call. 1; 0 at the end; -1. */
int lines_next(Lines *l, char **line, Err *e);
long lines_number(const Lines *l);              /* of the last line, from 1 */
const char *lines_name(const Lines *l);         /* the file's, or "standard input" */
bool is_utf8(const char *text);
/* Bytes that are no UTF-8, as in a file's name, or of a letter that was cut, become '?': text for JSON. */
void utf8_mend(char *text);

#endif
