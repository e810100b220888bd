/* SPDX-License-Identifier: MIT */
/* options.h -- what the parser and the help share: an option's help text taken apart. Private to src/cli. */
#ifndef SRC_CLI_OPTIONS_H
#define SRC_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>
#include "src/cli/cli.h"

typedef struct OptHelp {
    char value[128];         /* "FILE", "auto|on|off"; empty for a flag */
    const char *text;       /* what follows it */
    bool choices;           /* value lists all that may be given */
} OptHelp;

/* "FILE  what it is" -> FILE and what it is. A first word of lower-case names joined by '|' is a list of choices. */
OptHelp opt_help(const Opt *o);
int opt_count(const Cli *cli);
const Common *cli_common(void);                 /* of the Config that cli_parse filled; zeros before */

void help_print(const Cli *cli, FILE *f);       /* --help */
void manual_print(const Cli *cli, FILE *f);     /* --man: troff with the man macros */
void signals_install(void);
void waiting_settle(char **argv);             /* first of all: see waiting.c */

#endif
