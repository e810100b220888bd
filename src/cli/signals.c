/* SPDX-License-Identifier: MIT */
/* signals.c -- what a signal leaves behind: no half-written file, and the signal's own exit status. */
#include <signal.h>
#include <stdlib.h>
#include "formats/aside.h"
#include "src/cli/options.h"

volatile sig_atomic_t cli_stop;

static void clean_and_end(int number)
{
    aside_cleanup();
    signal(number, SIG_DFL);
    raise(number);          /* blocked until the handler returns, then ends the program */
}

static void ask_to_stop(int number)
{
    if (cli_stop)
        clean_and_end(number);
    else
        cli_stop = number;
}

/* What is ignored stays so (nohup), and what another handles, as a sanitizer does. */
static void handle(void (*handler)(int), const int *numbers, int count)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    sigfillset(&action.sa_mask);
    for (int i = 0; i < count; i++)
        if (sigaction(numbers[i], NULL, &before) == 0
            && (before.sa_handler == SIG_DFL || before.sa_handler == clean_and_end))
            sigaction(numbers[i], &action, NULL);
}

enum { STOPS = 3, ENDS = 5 };
static const int stops[STOPS] = {SIGINT, SIGTERM, SIGHUP};
/* Ctrl-\, ulimit -t, memory that ran out within an op, a mapped file that was cut, a mistake of ours */
static const int ends[ENDS] = {SIGQUIT, SIGXCPU, SIGABRT, SIGBUS, SIGSEGV};

void signals_install(void)
{
    atexit(aside_cleanup);          /* OpenMP ends a program by exit where it gets no thread, a broken device too */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);       /* over ulimit -f a write says so */
    handle(clean_and_end, stops, STOPS);
    handle(clean_and_end, ends, ENDS);
}

void cli_catch_stop(void)
{
    handle(ask_to_stop, stops, STOPS);
}
