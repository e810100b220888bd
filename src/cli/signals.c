/* SPDX-License-Identifier: MIT */
/* signals.c -- what a signal leaves behind: no half-written file, and the signal's own exit status. */
#include <signal.h>
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

static void handle(void (*handler)(int))
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)      /* nohup stays nohup */
            sigaction(numbers[i], &action, NULL);
}

void signals_install(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);       /* over ulimit -f a write says so */
    handle(clean_and_end);
}

void cli_catch_stop(void)
{
    handle(ask_to_stop);
}
