/* SPDX-License-Identifier: MIT */
/* lines.c -- lines of files and pipes: their ends, the mark of UTF-8, the longest, lines over the borders of blocks. */
#include <sys/wait.h>
#include "formats/lines.h"
#include "tests/unit/stream_test.h"

/* The lines of a file of these bytes with | between, then what ended them. */
static const char *lines_of(const void *data, size_t size)
{
    static char text[1024];
    Err e = {0};
    Lines *l;
    char *line;
    size_t used = 0;
    if (lines_open(&l, spill_memory(data, size), &e))
        return strcpy(text, e.text);
    int got;
    while ((got = lines_next(l, &line, &e)) > 0) {
        used += (size_t)snprintf(text + used, sizeof text - used, "%ld %s|", lines_number(l), line);
        line[0] = 'x';                                      /* it may be written to */
    }
    const char *said = got < 0 ? strchr(e.text, ':') : NULL;    /* behind the name */
    snprintf(text + used, sizeof text - used, "%s", got < 0 ? said : "end");
    lines_close(l);
    return text;
}

#define LINES(name, text, want) test_text(name, lines_of(text, sizeof text - 1), want)

static int test_mend(void)
{
    char text[] = "a\xff caf\xc3\xa9 \xed\xa0\x80 \xe7\x8c";
    utf8_mend(text);
    return test_text("mended", text, "a? caf\xc3\xa9 ??? ??");
}

static int test_ends(void)
{
    int failed = LINES("lines/none", "", "end");
    failed += LINES("lines/with and without an end", "a\nb c\nd", "1 a|2 b c|3 d|end");
    failed += LINES("lines/empty ones", "\n\na\n\n", "1 |2 |3 a|4 |end");
    failed += LINES("lines/CRLF", "a\r\n\r\nb\rc\r", "1 a|2 |3 b\rc|end");
    failed += LINES("lines/mark of UTF-8", "\xef\xbb\xbf" "a\n\xef\xbb\xbf" "b\n", "1 a|2 \xef\xbb\xbf" "b|end");
    failed += LINES("lines/the mark alone", "\xef\xbb\xbf", "1 |end");
    failed += LINES("lines/a tensor stream", "\x28\xb5\x2f\xfd\0\1",
                    ": is compressed with zstd, as tensor streams are; expected lines of text");
    failed += LINES("lines/zero byte", "a\nb\0c\n", "1 a|: line 2: holds a zero byte; is this text?");
    failed += LINES("lines/not UTF-8", "a\ncaf\xe9\n", "1 a|: line 2: not UTF-8 text");
    return failed;
}

/* Lines about as long as the blocks in which a file is read, and the longest. */
static int test_lengths(void)
{
    int wrong = 0;
    Err e = {0};
    char *line, *data = malloc(LINE_MOST + 2);
    Lines *l;
    memset(data, 'a', LINE_MOST + 2);
    for (size_t n = (64 << 10) - 2; n <= (64 << 10) + 2; n++) {
        data[n] = data[2*n + 1] = '\n';
        wrong += lines_open(&l, spill_memory(data, 2*n + 2), &e) != 0;
        for (int i = 0; i < 2; i++)
            wrong += lines_next(l, &line, &e) != 1 || strlen(line) != n || strspn(line, "a") != n;
        wrong += lines_next(l, &line, &e) != 0 || lines_next(l, &line, &e) != 0 || lines_number(l) != 2;
        lines_close(l);
        data[n] = data[2*n + 1] = 'a';
    }
    int failed = test_ok("lines/over the borders of blocks", wrong == 0);
    data[LINE_MOST] = '\n';
    failed += test_ok("lines/the longest", lines_open(&l, spill_memory(data, LINE_MOST + 1), &e) == 0
                      && lines_next(l, &line, &e) == 1 && strlen(line) == LINE_MOST && lines_next(l, &line, &e) == 0);
    lines_close(l);
    data[LINE_MOST] = 'a';
    failed += test_text("lines/a longer one", lines_of(data, LINE_MOST + 1),
                        ": line 1: over 1048576 bytes; is this text?");
    free(data);
    return failed;
}

/* Standard input as a non-blocking pipe that gives a byte at a time. */
static int test_pipe(void)
{
    int end[2];
    Err e = {0};
    Lines *l;
    char *line;
    if (pipe(end) || fcntl(end[0], F_SETFL, O_NONBLOCK))
        exit(2);
    const pid_t writer = fork();
    if (writer == 0) {
        for (const char *c = "one\ntwo"; *c; c++) {
            usleep(2000);
            if (write(end[1], c, 1) != 1)
                _exit(2);
        }
        _exit(0);
    }
    close(end[1]);
    dup2(end[0], STDIN_FILENO);
    const int failed = test_ok("lines/non-blocking pipe", lines_open(&l, "-", &e) == 0
                               && lines_next(l, &line, &e) == 1 && strcmp(line, "one") == 0
                               && lines_next(l, &line, &e) == 1 && strcmp(line, "two") == 0
                               && lines_next(l, &line, &e) == 0 && strcmp(lines_name(l), "standard input") == 0);
    lines_close(l);
    waitpid(writer, NULL, 0);
    return failed;
}

static int test_errors(void)
{
    Err e = {0};
    Lines *l;
    char *line;
    int failed = test_ok("lines/no such file", lines_open(&l, "/none", &e) == -1 && !l);
    failed += test_text("lines/no such file, its message", e.text, "/none: No such file or directory");
    e = (Err){0};
    failed += test_ok("lines/a folder", lines_open(&l, "/tmp", &e) == 0 && lines_next(l, &line, &e) == -1);
    failed += test_text("lines/a folder, its message", e.text, "/tmp: reading: Is a directory");
    lines_close(l);
    return failed;
}

int main(void)
{
    return (test_ends() + test_mend() + test_lengths() + test_pipe() + test_errors()) != 0;
}
