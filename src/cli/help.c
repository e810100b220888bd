/* SPDX-License-Identifier: MIT */
/* help.c -- --help and --man, from the same table and texts as the parser. */
#include <ctype.h>
#include <string.h>
#include "src/cli/options.h"

enum { WIDTH = 100, INDENT = 28 };

/* The parser's own options, as rows of the table. */
static const Opt own[] = {
    {'h', "help", OPT_FLAG, 0, NULL, "print this help", 0},
    {0, "version", OPT_FLAG, 0, NULL, "print the version", 0},
    {0, "man", OPT_FLAG, 0, NULL, "print the manual page: --man | man -l -", 0},
    {0}};

/* Calls print for the options that are shown: the program's, then the parser's own that it does not take for itself. */
static void each_option(const Cli *cli, FILE *f, void (*print)(FILE *, const Opt *, const OptHelp *))
{
    bool h_taken = false;
    for (const Opt *o = cli->options; o->type != OPT_END; o++) {
        h_taken |= o->letter == 'h';
        const OptHelp h = opt_help(o);
        if (!(o->flags & OPT_HIDDEN))
            print(f, o, &h);
    }
    for (const Opt *o = own; o->type != OPT_END; o++) {
        Opt row = *o;
        if (h_taken)
            row.letter = 0;
        const OptHelp h = opt_help(&row);
        print(f, &row, &h);
    }
}

/* What stands in brackets after an option's text; empty where there is nothing to say. */
static const char *remark(const Opt *o, char text[300])
{
    *text = 0;
    if (o->flags & OPT_REQUIRED)
        snprintf(text, 300, "[required]");
    else if (o->type == OPT_FLAG && o->fallback && strcmp(o->fallback, "0") != 0)
        snprintf(text, 300, "[on; --no-%s]", o->name);
    else if (o->fallback && *o->fallback && o->type != OPT_FLAG)
        snprintf(text, 300, "[%s]", o->fallback);
    return text;
}

/* Whether the operands say themselves where options go. */
static bool places_options(const Cli *cli)
{
    return cli->operands && strstr(cli->operands, "[OPTION]");
}

static void print_usage(const Cli *cli, FILE *f)
{
    fprintf(f, "%s", cli->name);
    for (const Opt *o = cli->options; o->type != OPT_END; o++)
        if (o->flags & OPT_REQUIRED)
            fprintf(f, " --%s %s", o->name, opt_help(o).value);
    fprintf(f, "%s%s%s", places_options(cli) ? "" : " [OPTION]...", cli->operands ? " " : "",
            cli->operands ? cli->operands : "");
}

/* ---- --help ---- */

/* Words of text from column `column` on, wrapped at WIDTH and indented by INDENT; returns the column reached. */
static int wrap(FILE *f, const char *text, int column)
{
    while (*text) {
        const size_t length = strcspn(text, " ");
        if (column > INDENT && column + 1 + (int)length > WIDTH) {
            fprintf(f, "\n%*s", INDENT, "");
            column = INDENT;
        } else if (column > INDENT) {
            fputc(' ', f);
            column++;
        }
        fwrite(text, 1, length, f);
        column += (int)length;
        text += length + strspn(text + length, " ");
    }
    return column;
}

static void help_row(FILE *f, const Opt *o, const OptHelp *h)
{
    char left[128], brackets[300];
    snprintf(left, sizeof left, "  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? ',' : ' ', o->name, *h->value ? " " : "", h->value);
    int column = (int)strlen(left);
    fputs(left, f);
    if (column > INDENT - 2) {
        fputc('\n', f);
        column = 0;
    }
    fprintf(f, "%*s", INDENT - column, "");
    wrap(f, remark(o, brackets), wrap(f, h->text, INDENT));
    fputc('\n', f);
}

/* Lines of text, each after an indent. */
static void print_indented(FILE *f, const char *text, const char *indent)
{
    while (*text) {
        const size_t length = strcspn(text, "\n");
        fprintf(f, "%s%.*s\n", length ? indent : "", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

void help_print(const Cli *cli, FILE *f)
{
    fputs("usage: ", f);
    print_usage(cli, f);
    fprintf(f, "\n\n%s\n\nOptions:\n", cli->summary);
    each_option(cli, f, help_row);
    if (cli->examples) {
        fputs("\nExamples:\n", f);
        print_indented(f, cli->examples, "  ");
    }
    fprintf(f, "\nMore: man %s\n", cli->name);
}

/* ---- --man ---- */

/* Text as troff shows it: \ and leading . and ' escaped; with literal, '-' is the minus of options and programs. */
static void roff(FILE *f, const char *text, size_t length, bool literal)
{
    if (length && (*text == '.' || *text == '\''))
        fputs("\\&", f);
    for (size_t i = 0; i < length; i++)
        switch (text[i]) {
        case '\\': fputs("\\e", f); break;
        case '-':  fputs(literal || (i && text[i - 1] == '-') || (i + 1 < length && text[i + 1] == '-') ? "\\-" : "-",
                         f);
                   break;
        case '\'': fputs("\\(aq", f); break;
        case '`':  fputs("\\(ga", f); break;
        case '^':  fputs("\\(ha", f); break;
        case '~':  fputs("\\(ti", f); break;
        default:   fputc(text[i], f);
        }
}

static void roff_all(FILE *f, const char *text, bool literal)
{
    roff(f, text, strlen(text), literal);
}

static void man_row(FILE *f, const Opt *o, const OptHelp *h)
{
    char brackets[300];
    fputs(".TP\n\\fB", f);
    if (o->letter)
        fprintf(f, "\\-%c\\fR, \\fB", o->letter);
    fputs("\\-\\-", f);
    roff_all(f, o->name, true);
    fputs("\\fR", f);
    if (*h->value) {
        fputs(" \\fI", f);
        roff_all(f, h->value, true);
        fputs("\\fR", f);
    }
    fputc('\n', f);
    if (*h->text)
        roff_all(f, h->text, false);
    else
        fputs("(no more to say)", f);
    if (*remark(o, brackets)) {
        fputc(' ', f);
        roff_all(f, brackets, true);
    }
    fputc('\n', f);
}

/* Paragraphs apart by empty lines; indented lines are set as they are. */
static void man_text(FILE *f, const char *text, bool literal)
{
    bool block = false;
    if (literal)
        fputs(".nf\n", f);
    while (*text) {
        const size_t length = strcspn(text, "\n");
        const bool indented = !literal && length && *text == ' ';
        if (indented != block) {
            fputs(indented ? ".PP\n.nf\n" : ".fi\n.PP\n", f);
            block = indented;
        }
        if (length)
            roff(f, text, length, literal || block);
        else
            fputs(literal || block ? "\\&" : ".PP", f);
        fputc('\n', f);
        text += length + (text[length] == '\n');
    }
    if (block || literal)
        fputs(".fi\n", f);
}

void manual_print(const Cli *cli, FILE *f)
{
    fputs(".TH ", f);
    for (const char *c = cli->name; *c; c++)
        *c == '-' ? fputs("\\-", f) : fputc(toupper((unsigned char)*c), f);
    fprintf(f, " 1 \"\" \"sdsteer %s\" \"sdsteer manual\"\n.SH NAME\n", sdsteer_version);
    roff_all(f, cli->name, true);
    fputs(" \\- ", f);
    roff_all(f, cli->summary, false);
    fputs("\n.SH SYNOPSIS\n\\fB", f);
    roff_all(f, cli->name, true);
    fputs("\\fR", f);
    for (const Opt *o = cli->options; o->type != OPT_END; o++)
        if (o->flags & OPT_REQUIRED) {
            fputs(" \\-\\-", f);
            roff_all(f, o->name, true);
            fprintf(f, " \\fI%s\\fR", opt_help(o).value);
        }
    if (!places_options(cli))
        fputs(" [\\fIOPTION\\fR]...", f);
    if (cli->operands) {
        fputc(' ', f);
        roff_all(f, cli->operands, true);
    }
    fputc('\n', f);
    if (cli->about) {
        fputs(".SH DESCRIPTION\n", f);
        man_text(f, cli->about, false);
    }
    fputs(".SH OPTIONS\n", f);
    each_option(cli, f, man_row);
    fputs(".PP\nA flag is undone by \\fB\\-\\-no\\-\\fINAME\\fR. Counts take K, M, G (powers of ten) and Ki, Mi, Gi.\n"
          "Of an option that comes again the last counts, unless its text says that it may.\n", f);
    if (cli->examples) {
        fputs(".SH EXAMPLES\n", f);
        man_text(f, cli->examples, true);
    }
    fputs(".SH EXIT STATUS\n0 done; 1 failed, with one line on standard error that says why; 2 misuse.\n"
          ".SH ENVIRONMENT\n.TP\n\\fBSDSTEER_DATA\\fR\nfolder of prompts, concepts and the small model, in place of "
          "the one that came with the programs\n"
          ".SH SEE ALSO\nsdsteer(7)\n", f);
}
