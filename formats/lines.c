/* SPDX-License-Identifier: MIT */
/* lines.c -- lines out of blocks of a file. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#include "formats/affix.h"
#include "formats/fdio.h"
#include "formats/lines.h"

struct Lines {
    int fd;
    char *name;
    long number;
    bool ended;
    size_t at, have;                            /* of block: what is not used yet */
    char block[64 << 10], line[LINE_MOST + 1];
};

int lines_open(Lines **out, const char *path, Err *e)
{
    const bool is_stdin = !path || strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    Lines *l = malloc(sizeof *l);               /* not cleared: pages of line that no line reaches are never touched */
    *out = NULL;
    if (!l)
        return err_set(e, "out of memory");
    l->number = 0;
    l->ended = false;
    l->at = l->have = 0;
    l->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    l->name = strdup(name);
    if (l->fd < 0 || !l->name) {
        err_set(e, "%s: %s", name, strerror(errno));
        lines_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

void lines_close(Lines *l)
{
    if (!l)
        return;
    if (l->fd > STDIN_FILENO)
        close(l->fd);
    free(l->name);
    free(l);
}

/* Appends what the block has of the line, whose first *n bytes are known. 1: the line is whole, 0: more is needed. */
static int take(Lines *l, size_t *n, Err *e)
{
    const char *from = l->block + l->at, *end = memchr(from, '\n', l->have - l->at);
    const size_t bytes = end ? (size_t)(end - from) : l->have - l->at;
    if (bytes > LINE_MOST - *n)
        return err_set(e, "%s: line %ld: over %d bytes; is this text?", l->name, l->number + 1, LINE_MOST);
    memcpy(l->line + *n, from, bytes);
    *n += bytes;
    l->at += bytes + (end != NULL);
    return end != NULL;
}

int lines_next(Lines *l, char **line, Err *e)
{
    static const char utf8_mark[] = "\xef\xbb\xbf", zstd_magic[] = "\x28\xb5\x2f\xfd";
    size_t n = 0;
    int whole = 0;
    while (!l->ended && (whole = take(l, &n, e)) == 0) {
        const ssize_t got = fd_read(l->fd, l->name, l->block, sizeof l->block, e);
        if (got < 0)
            return -1;
        l->at = 0;
        l->have = (size_t)got;
        l->ended = got == 0;
    }
    if (whole < 0 || (l->ended && n == 0))
        return whole;
    l->number++;
    n -= n > 0 && l->line[n - 1] == '\r';
    l->line[n] = 0;
    if (l->number == 1 && starts_with(l->line, zstd_magic))
        return err_set(e, "%s: is compressed with zstd, as tensor streams are; expected lines of text", l->name);
    if (memchr(l->line, 0, n))
        return err_set(e, "%s: line %ld: holds a zero byte; is this text?", l->name, l->number);
    if (!is_utf8(l->line))
        return err_set(e, "%s: line %ld: not UTF-8 text", l->name, l->number);
    *line = l->line + (l->number == 1 && starts_with(l->line, utf8_mark) ? strlen(utf8_mark) : 0);
    return 1;
}

long lines_number(const Lines *l)
{
    return l->number;
}

const char *lines_name(const Lines *l)
{
    return l->name;
}

bool is_utf8(const char *text)
{
    json_t *value = json_string(text);
    json_decref(value);
    return value != NULL;
}

void utf8_mend(char *text)
{
    while (*text) {
        utf8proc_int32_t code;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code);
        if (n < 1)
            *text = '?';
        text += n > 0 ? n : 1;
    }
}
