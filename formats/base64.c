/* SPDX-License-Identifier: MIT */
/* base64.c -- four digits of six bits are three bytes; "=" stands for a digit of bytes that are not there. */
#include <stdlib.h>
#include <string.h>
#include "formats/base64.h"

static int digit(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
         : c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(uint8_t **data, size_t *n, const char *text, const char *where, Err *e)
{
    const size_t length = strlen(text);
    const size_t pad = length < 2 || text[length - 1] != '=' ? 0 : text[length - 2] == '=' ? 2 : 1;
    if (length % 4 != 0)
        return err_set(e, "%s: %zu characters of base64, expected a multiple of four", where, length);
    uint8_t *y = malloc(length / 4 * 3 + 1);
    if (!y)
        return err_set(e, "%s: out of memory for %zu bytes", where, length / 4 * 3);
    for (size_t i = 0; i < length; i += 4) {
        uint32_t three = 0;
        for (size_t k = i; k < i + 4; k++) {
            const int six = k < length - pad ? digit(text[k]) : 0;
            if (six < 0) {
                free(y);
                return err_set(e, "%s: character %zu of its base64 is 0x%02x, expected a letter, a digit, + or /",
                               where, k + 1, (unsigned char)text[k]);
            }
            three = three << 6 | (uint32_t)six;
        }
        for (size_t k = 0; k < 3; k++)
            y[i / 4 * 3 + k] = (uint8_t)(three >> (16 - 8 * k));
    }
    *data = y;
    *n = length / 4 * 3 - pad;
    return 0;
}
