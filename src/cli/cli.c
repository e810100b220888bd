/* SPDX-License-Identifier: MIT */
/* cli.c -- the command line: options from a table into a Config, operands, defaults, misuse.
 *
 *     --name VALUE   --name=VALUE   --flag   --no-flag   -k 32   -k32   -qv   --
 *
 * Options and operands may be mixed; after -- all are operands; a lone - is an operand. Numbers are parsed whole. Of an
 * option that comes again the last counts, so that a line can be tried otherwise by adding to it; a list has all. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/affix.h"
#include "formats/number.h"
#include "formats/tame.h"
#include "formats/text_out.h"
#include "src/cli/options.h"

enum { MAX_OPTIONS = 128, THREADS_MOST = 1024 };

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
const char sdsteer_version[] = TEXT(SDSTEER_VERSION);

/* What cli_parse filled, for the notes and the provenance: a program parses its command line once. */
static struct {
    void *cfg;
    bool given[MAX_OPTIONS];
    const char **items[MAX_OPTIONS + 1];        /* of each OPT_LIST, and of the operands: they live until the next
                                                 * cli_parse, that is, as long as a program */
} parsed;

const Common *cli_common(void)
{
    static const Common none = {0};
    return parsed.cfg ? parsed.cfg : &none;
}

int opt_count(const Cli *cli)
{
    int n = 0;
    while (cli->options[n].type != OPT_END)
        n++;
    return n;
}

OptHelp opt_help(const Opt *o)
{
    OptHelp h = {.text = o->help ? o->help : ""};
    if (o->type == OPT_FLAG)
        return h;
    const char *gap = strstr(h.text, "  ");
    size_t length = gap ? (size_t)(gap - h.text) : 0;
    if (length == 0 || length >= sizeof h.value) {
        strcpy(h.value, o->type == OPT_INT || o->type == OPT_NUMBER ? "N" : "VALUE");
        return h;
    }
    memcpy(h.value, h.text, length);
    h.text = gap + strspn(gap, " ");
    h.choices = strchr(h.value, '|') != NULL && (o->type == OPT_STR || o->type == OPT_LIST);
    for (const char *c = h.value; *c; c++)
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && !strchr("|-_+", *c))
            h.choices = false;
    return h;
}

/* "NAME: text" on stderr, as one line. */
static void say(const Cli *cli, const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    tame_text(text, '?');
    fprintf(stderr, "%s: %s\n", cli->name, text);
}

_Noreturn void cli_misuse(const Cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(cli, format, args);
    va_end(args);
    fprintf(stderr, "Try '%s --help'.\n", cli->name);
    exit(2);
}

int cli_report(const Cli *cli, const Err *e)
{
    if (e->closed)
        return 0;
    fprintf(stderr, "%s: %s\n", cli->name, e->set ? e->text : "failed for a reason it did not say");
    if (e->misuse)
        fprintf(stderr, "Try '%s --help'.\n", cli->name);
    return e->misuse ? 2 : 1;
}

void cli_note(const Cli *cli, const char *format, ...)
{
    if (cli_common()->quiet)
        return;
    va_list args;
    va_start(args, format);
    say(cli, format, args);
    va_end(args);
}

/* ---- values ---- */

static bool among(const char *value, const char *choices)
{
    for (const char *c = choices; *c;) {
        const size_t n = strcspn(c, "|");
        if (strlen(value) == n && memcmp(c, value, n) == 0)
            return true;
        c += n + (c[n] == '|');
    }
    return false;
}

/* Whether a value of this name is that of a file, which has one. */
static bool is_file(const char *name)
{
    static const char *const files[] = {"FILE", "DIR", "BASE", "FILE|DIR", "FILE[=STRENGTH]", "MASK", "PREFIX"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(name, files[i]) == 0)
            return true;
    return false;
}

/* owner: where in parsed.items the list's memory is kept. */
static void list_add(const Cli *cli, int owner, List *list, const char *value)
{
    const char **items = realloc(list->items, sizeof *items * (list->count + 1));
    if (!items) {
        fprintf(stderr, "%s: out of memory for the command line\n", cli->name);
        exit(1);
    }
    items[list->count++] = value;
    list->items = parsed.items[owner] = items;
}

static void assign(const Cli *cli, void *cfg, const Opt *o, const char *value)
{
    void *at = (char *)cfg + o->offset;
    const OptHelp h = opt_help(o);
    const char *wrong = NULL;
    if (h.choices && !among(value, h.value))
        cli_misuse(cli, "--%s: '%s' is none of %s", o->name, value, h.value);
    if (!*value && is_file(h.value))
        cli_misuse(cli, "--%s: the name is empty", o->name);
    switch (o->type) {
    case OPT_INT:    wrong = number_count(value, at); break;
    case OPT_NUMBER: wrong = number_real(value, at); break;
    case OPT_STR:    *(const char **)at = value; break;
    case OPT_LIST:   list_add(cli, (int)(o - cli->options), at, value); break;
    case OPT_FLAG:   *(int *)at = strcmp(value, "0") != 0; break;
    case OPT_END:    break;
    }
    if (wrong)
        cli_misuse(cli, "--%s: '%s' %s", o->name, value, wrong);
}

/* Assigns a value of the command line: the first one replaces a list's default. */
static void give(const Cli *cli, void *cfg, const Opt *o, const char *value)
{
    const int i = (int)(o - cli->options);
    if (o->type == OPT_LIST && !parsed.given[i])
        ((List *)((char *)cfg + o->offset))->count = 0;
    parsed.given[i] = true;
    assign(cli, cfg, o, value);
}

/* ---- names ---- */

bool cli_given(const Cli *cli, const char *name)
{
    for (int i = 0; cli->options[i].type != OPT_END; i++)
        if (strcmp(cli->options[i].name, name) == 0)
            return parsed.given[i];
    abort();                                /* no program asks for what it lacks */
}

static const Opt *find_letter(const Cli *cli, char letter)
{
    for (const Opt *o = cli->options; o->type != OPT_END; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

static const Opt *find_name(const Cli *cli, const char *name, size_t length)
{
    for (const Opt *o = cli->options; o->type != OPT_END; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

/* Edits (insert, delete, replace one letter) that turn a into b; names longer than 63 letters are far from all. */
static int distance(const char *a, size_t length, const char *b)
{
    int row[65];
    const size_t n = strlen(b);
    if (length > 63 || n > 63)
        return 99;
    for (size_t j = 0; j <= n; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

static _Noreturn void unknown_name(const Cli *cli, const char *name, size_t length)
{
    const char *nearest = NULL;
    int least = length < 5 ? 2 : 3;         /* farther names are no likely slip */
    for (const Opt *o = cli->options; o->type != OPT_END; o++) {
        int d = distance(name, length, o->name);
        if (length >= 2 && strncmp(o->name, name, length) == 0)
            d = 1;                          /* cut short */
        if (d < least && !(o->flags & OPT_HIDDEN)) {
            least = d;
            nearest = o->name;
        }
    }
    if (nearest)
        cli_misuse(cli, "unknown option --%.*s; did you mean --%s?", (int)length, name, nearest);
    cli_misuse(cli, "unknown option --%.*s", (int)length, name);
}

/* Values of the options that programs share; those of one that it lacks are 0. tstream writes streams of streams: there
 * a file may take its own place, as a folder may of sae-convert. */
static void check_common(const Cli *cli, const Common *c)
{
    struct stat st;
    if (c->output && stat(c->output, &st) == 0 && S_ISREG(st.st_mode) && cli_listed(&c->inputs, c->output)
        && !starts_with(cli->name, "tstream "))
        cli_misuse(cli, "--output %s: that is an input", c->output);
    if (find_name(cli, "level", strlen("level")) && (c->level < 1 || c->level > 19))
        cli_misuse(cli, "--level %lld: expected 1 to 19", (long long)c->level);
    if (c->threads < 0 || c->threads > THREADS_MOST)
        cli_misuse(cli, "--threads %lld: expected 0 to %d", (long long)c->threads, THREADS_MOST);
}

static _Noreturn void print_and_exit(const Cli *cli, void (*print)(const Cli *, FILE *))
{
    Err e = {0};
    print(cli, stdout);
    exit(stdout_flush(&e) ? cli_report(cli, &e) : 0);
}

static void version_print(const Cli *cli, FILE *f)
{
    fprintf(f, "%s (sdsteer) %s\n", cli->name, sdsteer_version);
}

/* ---- the command line ---- */

/* --name, --name=value, --name value; returns how many arguments it took. */
static int long_option(const Cli *cli, void *cfg, char **arg)
{
    const char *name = arg[0] + 2;
    const char *equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const Opt *o = find_name(cli, name, length);
    if (o && o->type != OPT_FLAG) {
        if (!equals && !arg[1])
            cli_misuse(cli, "--%s needs a value: %s", o->name, opt_help(o).value);
        give(cli, cfg, o, equals ? equals + 1 : arg[1]);
        return equals ? 1 : 2;
    }
    static const struct { const char *name; void (*print)(const Cli *, FILE *); } said[] = {
        {"help", help_print}, {"version", version_print}, {"man", manual_print}};
    for (size_t i = 0; i < sizeof said / sizeof *said && !o; i++)
        if (strlen(said[i].name) == length && strncmp(name, said[i].name, length) == 0) {
            if (equals)
                cli_misuse(cli, "--%s takes no value", said[i].name);
            print_and_exit(cli, said[i].print);
        }

    const Opt *negated = !o && strncmp(name, "no-", 3) == 0 ? find_name(cli, name + 3, length - 3) : NULL;
    if (!o && !(negated && negated->type == OPT_FLAG))
        unknown_name(cli, name, length);
    if (equals)
        cli_misuse(cli, "--%.*s takes no value", (int)length, name);
    give(cli, cfg, o ? o : negated, o ? "1" : "0");
    return 1;
}

/* -q, -qv, -k32, -k 32; returns how many arguments it took. */
static int short_options(const Cli *cli, void *cfg, char **arg)
{
    for (const char *c = arg[0] + 1; *c; c++) {
        const Opt *o = find_letter(cli, *c);
        if (!o && *c == 'h')
            print_and_exit(cli, help_print);
        if (!o)
            cli_misuse(cli, "unknown option -%c", *c);
        if (o->type == OPT_FLAG) {
            give(cli, cfg, o, "1");
            continue;
        }
        if (!c[1] && !arg[1])
            cli_misuse(cli, "-%c (--%s) needs a value: %s", *c, o->name, opt_help(o).value);
        give(cli, cfg, o, c[1] ? c + 1 : arg[1]);
        return c[1] ? 1 : 2;
    }
    return 1;
}

/* Where standard input, output or error were closed, their numbers are taken, so that no file gets them and then what
 * was meant for them: reading or writing there fails as it did. */
static void hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return;
}

void cli_parse(const Cli *cli, void *cfg, int argc, char **argv)
{
    hold_standard_descriptors();
    const int n = opt_count(cli);
    for (int i = 0; i < n; i++)
        if (strcmp(cli->options[i].name, "threads") == 0)
            waiting_settle(argv);
    if (n > MAX_OPTIONS)
        abort();
    for (int i = 0; i <= MAX_OPTIONS; i++)
        free(parsed.items[i]);
    memset(&parsed, 0, sizeof parsed);
    signals_install();

    for (int i = 0; i < n; i++)
        if (cli->options[i].fallback)
            assign(cli, cfg, &cli->options[i], cli->options[i].fallback);

    List *operands = &((Common *)cfg)->inputs;
    bool options = true;
    for (int i = 1; i < argc;) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
            i++;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            i += long_option(cli, cfg, argv + i);
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            i += short_options(cli, cfg, argv + i);
        } else {
            if (!cli->operands)
                cli_misuse(cli, "takes no operands, but got '%s'", argv[i]);
            if (!*argv[i])
                cli_misuse(cli, "the name of an input is empty");
            list_add(cli, MAX_OPTIONS, operands, argv[i++]);
        }
    }
    for (int i = 0; i < n; i++)
        if ((cli->options[i].flags & OPT_REQUIRED) && !parsed.given[i] && !cli->options[i].fallback)
            cli_misuse(cli, "--%s %s is required", cli->options[i].name, opt_help(&cli->options[i]).value);
    check_common(cli, cfg);
    parsed.cfg = cfg;
}

/* ---- provenance ---- */

static void add_argument(json_t *list, const char *name, const char *value)
{
    json_t *text = value ? json_sprintf("--%s=%s", name, value) : json_sprintf("--%s", name);
    if (!text)              /* not UTF-8 */
        text = json_sprintf("--%s=?", name);
    json_array_append_new(list, text);
}

/* Values are written anew, so that 1K and 1000 leave the same bytes. */
static void add_option(json_t *list, const Opt *o, const void *at)
{
    char text[64];
    switch (o->type) {
    case OPT_FLAG:
        if (*(const int *)at)
            add_argument(list, o->name, NULL);
        break;
    case OPT_INT:
        snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
        add_argument(list, o->name, text);
        break;
    case OPT_NUMBER:
        for (int digits = 6; digits <= 17; digits++) {      /* the shortest that reads back */
            snprintf(text, sizeof text, "%.*g", digits, *(const double *)at);
            if (strtod(text, NULL) == *(const double *)at)
                break;
        }
        add_argument(list, o->name, text);
        break;
    case OPT_STR:
        if (*(const char *const *)at)
            add_argument(list, o->name, *(const char *const *)at);
        break;
    case OPT_LIST:
        for (int i = 0; i < ((const List *)at)->count; i++)
            add_argument(list, o->name, ((const List *)at)->items[i]);
        break;
    case OPT_END:
        break;
    }
}

json_t *cli_provenance(const Cli *cli)
{
    json_t *list = json_array();
    for (int i = 0; parsed.cfg && cli->options[i].type != OPT_END; i++) {
        const Opt *o = &cli->options[i];
        if (!(o->flags & OPT_NEUTRAL) && (o->fallback || parsed.given[i]))
            add_option(list, o, (const char *)parsed.cfg + o->offset);
    }
    json_t *step = json_pack("{s:s, s:s, s:o}", "program", cli->name, "version", sdsteer_version, "arguments", list);
    const char *level = getenv("SDSTEER_CPU");          /* which the bytes depend on */
    if (level && *level)
        json_object_set_new(step, "SDSTEER_CPU", json_string(level));
    return step;
}
