/* SPDX-License-Identifier: MIT */
/* show_progress.c -- when progress is shown, and how: rewritten on a terminal, quiet elsewhere; and what signals do. */
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include "src/cli/cli.h"
#include "tests/unit/test.h"

typedef struct Config {
    Common c;
} Config;

static const Opt options[] = {COMMON_OPTIONS, {0}};
static const Cli cli = {"prog", "Do it.", options, NULL, NULL, NULL};
static char said[65536];

/* Everything that comes from fd until it closes. */
static void listen_to(int fd)
{
    size_t length = 0;
    for (ssize_t n; length < sizeof said - 1 && (n = read(fd, said + length, sizeof said - 1 - length)) > 0;)
        length += (size_t)n;
    said[length] = 0;
    close(fd);
}

static void work(char *a, char *b)
{
    static Config cfg;
    cli_parse(&cli, &cfg, 1 + (a != NULL) + (b != NULL), (char *[]){"prog", a, b, NULL});
    Progress *p = progress_start(&cli, "pictures", 200);
    for (int i = 0; i <= 100; i++) {
        progress_note(p, "loss %d", i);
        progress_set(p, i);
        usleep(3000);
    }
    progress_end(p);
}

/* What work says on stderr, where that is a terminal or a pipe. */
static const char *run(int terminal, char *a, char *b)
{
    int ends[2], status;
    struct winsize size = {.ws_row = 24, .ws_col = 60};
    fflush(NULL);
    if (terminal ? openpty(&ends[0], &ends[1], NULL, NULL, &size) : pipe(ends))
        exit(1);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        work(a, b);
        exit(0);
    }
    close(ends[1]);
    listen_to(ends[0]);
    waitpid(child, &status, 0);
    return said;
}

static int shown(void)
{
    int failed = 0;
    failed += test_text("progress/silent in a pipe", run(0, NULL, NULL), "");
    failed += test_text("progress/on in a pipe: nothing before 10 s", run(0, "--progress=on", NULL), "");
    failed += test_text("progress/off on a terminal", run(1, "--progress=off", NULL), "");
    failed += test_text("progress/quiet on a terminal", run(1, "-q", "--progress=on"), "");
    const char *text = run(1, NULL, NULL);
    failed += test_ok("progress/rewritten on a terminal", strstr(text, "\rprog: ") && strstr(text, "/200 pictures  ")
                      && strstr(text, " left  loss ") && !strchr(text, '\n'));
    const char *end = "\r\033[K";
    failed += test_ok("progress/the line is cleared at the end",
                      strlen(text) > 4 && strcmp(text + strlen(text) - strlen(end), end) == 0);
    int lines = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\r';
    failed += test_ok("progress/at most ten times a second", lines >= 2 && lines <= 40);
    text = run(0, "-v", NULL);
    failed += test_ok("progress/-v sums up", strncmp(text, "prog: 100 pictures in ", 22) == 0
                      && strstr(text, ", loss 100\n"));
    return failed;
}

/* Status of a child that sends itself SIGTERM `times` times, having asked for a clean stop or not. */
static int stopped(int catches, int times)
{
    int status = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        static Config cfg;
        cli_parse(&cli, &cfg, 1, (char *[]){"prog", NULL});
        if (catches)
            cli_catch_stop();
        for (int i = 0; i < times; i++)
            raise(SIGTERM);
        raise(SIGPIPE);
        _exit(cli_stop == SIGTERM ? 3 : cli_stop ? 4 : 0);
    }
    waitpid(child, &status, 0);
    return status;
}

static int signals(void)
{
    int failed = 0, status = stopped(0, 0);
    failed += test_ok("signals/SIGPIPE is ignored", WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = stopped(0, 1);
    failed += test_ok("signals/SIGTERM ends by SIGTERM", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    status = stopped(1, 1);
    failed += test_ok("signals/cli_catch_stop: the first only asks", WIFEXITED(status) && WEXITSTATUS(status) == 3);
    status = stopped(1, 2);
    failed += test_ok("signals/cli_catch_stop: the second ends", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    return failed;
}

int main(void)
{
    const int failed = shown() + signals();
    return failed != 0;
}
