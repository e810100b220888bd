/* SPDX-License-Identifier: MIT */
/* progress.c -- one line on stderr: done, share, rate, time left.
 *
 *     sd-sample-hooked: 120/800 pictures  15%  3.2/s  3:33 left  fvu 0.21
 *
 * On a terminal the line is rewritten, at most ten times a second; elsewhere (--progress on)
 * there is a line every 10 s. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include "src/cli/options.h"

struct Progress {
    const char *name, *what;
    long long total, done;
    double started, printed;        /* seconds of the monotonic clock */
    bool shown, terminal, summary;
    bool drawn;                     /* a line stands on the terminal */
    char note[160];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Progress *progress_start(const Cli *cli, const char *what, long long total)
{
    const Common *c = cli_common();
    const bool terminal = isatty(STDERR_FILENO);
    const char *wanted = c->progress ? c->progress : "auto";
    const bool shown = !c->quiet && (strcmp(wanted, "on") == 0 || (strcmp(wanted, "auto") == 0 && terminal));
    const bool summary = c->verbose && !c->quiet;
    Progress *p = shown || summary ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;            /* not wanted, or no memory to boast in */
    p->name = cli->name;
    p->what = what;
    p->total = total;
    p->started = p->printed = now();
    p->shown = shown;
    p->terminal = terminal;
    p->summary = summary;
    return p;
}

static void clock_text(char text[32], double seconds)
{
    const long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, 32, "%ld:%02ld", s / 60, s % 60);
}

static void rate_text(char text[48], double rate)
{
    if (rate >= 1e6)
        snprintf(text, 48, "%.2fM/s", rate / 1e6);
    else if (rate >= 1e4)
        snprintf(text, 48, "%.1fk/s", rate / 1e3);
    else if (rate >= 10)
        snprintf(text, 48, "%.0f/s", rate);
    else
        snprintf(text, 48, "%.2f/s", rate);
}

static void draw(Progress *p, double time)
{
    char line[512], rate[48], left[32];
    const double seconds = time - p->started, speed = seconds > 0 ? (double)p->done / seconds : 0;
    rate_text(rate, speed);
    int n = snprintf(line, sizeof line, "%s: %lld", p->name, p->done);
    if (p->total > 0)
        n += snprintf(line + n, sizeof line - n, "/%lld %s  %d%%  %s", p->total, p->what,
                      (int)(100.0 * (double)p->done / (double)p->total), rate);
    else
        n += snprintf(line + n, sizeof line - n, " %s  %s", p->what, rate);
    if (p->total > p->done && speed > 0) {
        clock_text(left, (double)(p->total - p->done) / speed);
        n += snprintf(line + n, sizeof line - n, "  %s left", left);
    }
    if (*p->note)
        n += snprintf(line + n, sizeof line - n, "  %s", p->note);

    if (p->terminal) {
        struct winsize size = {0};
        ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
        const int columns = size.ws_col > 20 ? size.ws_col - 1 : 79;
        fprintf(stderr, "\r%.*s\033[K", columns, line);
        fflush(stderr);
        p->drawn = true;
    } else {
        fprintf(stderr, "%s\n", line);
    }
    p->printed = time;
}

void progress_set(Progress *p, long long done)
{
    if (!p)
        return;
    p->done = done;
    if (!p->shown)
        return;
    const double time = now();
    if (time - p->printed >= (p->terminal ? 0.1 : 10))
        draw(p, time);
}

void progress_note(Progress *p, const char *format, ...)
{
    if (!p)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(p->note, sizeof p->note, format, args);
    va_end(args);
}

void progress_end(Progress *p)
{
    if (!p)
        return;
    if (p->drawn)
        fputs("\r\033[K", stderr);
    if (p->summary) {
        char rate[48];
        const double seconds = now() - p->started;
        rate_text(rate, seconds > 0 ? (double)p->done / seconds : 0);
        fprintf(stderr, "%s: %lld %s in %.1f s, %s%s%s\n", p->name, p->done, p->what, seconds, rate,
                *p->note ? ", " : "", p->note);
    }
    free(p);
}
