/* SPDX-License-Identifier: MIT */
/* number.h -- numbers in text, parsed whole: nothing before them, nothing behind. All return NULL, or what is wrong,
 * "is not a number", for a message. */
#ifndef FORMATS_NUMBER_H
#define FORMATS_NUMBER_H

#include <stdint.h>

const char *number_whole(const char *text, int64_t *value);        /* "12", "-3" */
const char *number_count(const char *text, int64_t *value);        /* those, and "40K", "2Gi" */
const char *number_real(const char *text, double *value);          /* "0.5", "-3", "1e-4"; finite */

#endif
