/* SPDX-License-Identifier: MIT */
/* html.h -- printing HTML and SVG: text from data is never taken for markup.
 *
 *     html(f, "<td class=label>%s</td><td>%g</td>", label, score);
 *
 * Errors of the file stay in it (ferror), for who closes it. */
#ifndef FORMATS_HTML_H
#define FORMATS_HTML_H

#include <stddef.h>
#include <stdio.h>

/* The format is markup and is printed as it is, but for
 *     %s      text, escaped for elements and for attributes in quotes; bytes that are no UTF-8 and control characters
 *             become U+FFFD
 *     %g      a number of three significant digits (number_text)
 *     %d %lld %zu     whole numbers; %'d %'lld with commas between thousands
 *     %.1f %.2f       as printf has them, for coordinates
 *     %%      a percent sign */
void html(FILE *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text alone, as %s prints it. */
void html_text(FILE *f, const char *text);
/* A name for id="..." and href="#...": letters, digits, - and . stay, other bytes become _ and two hexadecimal digits,
 * so that different texts have different names. */
void html_anchor(FILE *f, const char *text);
/* data:TYPE;base64,... (RFC 2397, RFC 4648). */
void html_data(FILE *f, const char *type, const void *bytes, size_t n);

/* "0.0503", "12.3", "1,230", "4.56e-7", "0"; "not known" for a NaN. Returns text. */
char *number_text(char text[32], double value);
/* 1,234,567. Returns text. */
char *count_text(char text[32], long long value);

#endif
