/* SPDX-License-Identifier: MIT */
/* html.c -- HTML printed to a file, escaped. */
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "formats/html.h"

static void put_escaped(FILE *f, int32_t code, const char *bytes, size_t n)
{
    switch (code) {
    case '&':  fputs("&amp;", f); return;
    case '<':  fputs("&lt;", f); return;
    case '>':  fputs("&gt;", f); return;
    case '"':  fputs("&quot;", f); return;
    case '\'': fputs("&#39;", f); return;
    default:   break;
    }
    if ((code < ' ' && code != '\n' && code != '\t') || (code >= 0x7f && code < 0xa0))
        fputs("\xef\xbf\xbd", f);
    else
        fwrite(bytes, 1, n, f);
}

void html_text(FILE *f, const char *text)
{
    while (*text) {
        utf8proc_int32_t code;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code);
        put_escaped(f, n > 0 ? code : 0, text, n > 0 ? (size_t)n : 1);
        text += n > 0 ? n : 1;
    }
}

void html_anchor(FILE *f, const char *text)
{
    for (; *text; text++) {
        const char c = *text;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.')
            fputc(c, f);
        else
            fprintf(f, "_%02x", (unsigned)(unsigned char)c);
    }
}

void html_data(FILE *f, const char *type, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    fprintf(f, "data:%s;base64,", type);
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t three = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0)
                             | (i + 2 < n ? p[i + 2] : 0);
        const char four[4] = {digits[three >> 18], digits[three >> 12 & 63],
                              i + 1 < n ? digits[three >> 6 & 63] : '=', i + 2 < n ? digits[three & 63] : '='};
        fwrite(four, 1, 4, f);
    }
}

/* ---- numbers ---- */

char *count_text(char text[32], long long value)
{
    char digits[32];
    const int n = snprintf(digits, sizeof digits, "%lld", value), sign = value < 0;
    char *to = text;
    for (int i = 0; i < n; i++) {
        if (i > sign && (n - i) % 3 == 0)
            *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return text;
}

char *number_text(char text[32], double value)
{
    if (isnan(value))
        return strcpy(text, "not known");
    char digits[32];
    snprintf(digits, sizeof digits, "%.2e", value);                     /* "-1.23e+05" */
    const int exponent = atoi(strchr(digits, 'e') ? strchr(digits, 'e') + 1 : "0");
    if (value == 0 || isinf(value))
        snprintf(text, 32, "%g", fabs(value) > 0 ? value : 0);
    else if (exponent >= 3 && exponent < 7)
        count_text(text, llround(value));
    else if (exponent >= -4 && exponent < 3)
        snprintf(text, 32, "%.*f", 2 - exponent, value);
    else
        snprintf(text, 32, "%.*se%d", (int)(strchr(digits, 'e') - digits), digits, exponent);
    return text;
}

/* ---- the format ---- */

/* Prints the argument of the directive at p, which follows a '%'; returns what comes after it. */
static const char *put_argument(FILE *f, const char *p, va_list *values)
{
    char text[32];
    const bool commas = *p == '\'';
    p += commas;
    if (*p == 's')
        html_text(f, va_arg(*values, const char *));
    else if (*p == 'g')
        fputs(number_text(text, va_arg(*values, double)), f);
    else if (*p == '%')
        fputc('%', f);
    else if (strncmp(p, ".1f", 3) == 0 || strncmp(p, ".2f", 3) == 0) {
        fprintf(f, p[1] == '1' ? "%.1f" : "%.2f", va_arg(*values, double));
        p += 2;
    } else {
        long long whole = 0;
        if (*p == 'd')
            whole = va_arg(*values, int);
        else if (strncmp(p, "lld", 3) == 0) {
            whole = va_arg(*values, long long);
            p += 2;
        } else if (strncmp(p, "zu", 2) == 0) {
            whole = (long long)va_arg(*values, size_t);
            p++;
        } else
            abort();
        if (commas)
            fputs(count_text(text, whole), f);
        else
            fprintf(f, "%lld", whole);
    }
    return p + 1;
}

void html(FILE *f, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    for (const char *p = format; *p;) {
        const size_t plain = strcspn(p, "%");
        fwrite(p, 1, plain, f);
        p += plain;
        if (*p)
            p = put_argument(f, p + 1, &values);
    }
    va_end(values);
}
