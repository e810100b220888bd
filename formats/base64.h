/* SPDX-License-Identifier: MIT */
/* base64.h -- bytes out of base64 text (RFC 4648, section 4: 64 digits, padded with "="). */
#ifndef FORMATS_BASE64_H
#define FORMATS_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include "formats/err.h"

/* Fresh *data, *n bytes of it: the caller frees. An error begins with `where`: text of another length than a multiple
 * of four, another character in it. */
int base64_decode(uint8_t **data, size_t *n, const char *text, const char *where, Err *e);

#endif
