/* SPDX-License-Identifier: MIT */
/* command_line.c -- the parser of options: values, defaults, lists, clusters, misuse (exit 2 and its words),
 * provenance. */
#include <sys/wait.h>
#include "src/cli/cli.h"
#include "tests/unit/test.h"

typedef struct Config {
    Common c;
    int64_t count;
    double rate;
    const char *mode, *file;
    List at;
    int fast, check;
} Config;

static const Opt options[] = {
    {'n', "count", OPT_INT, offsetof(Config, count), "32", "N  how many", 0},
    {0, "rate", OPT_NUMBER, offsetof(Config, rate), "0.5", "R  how fast", 0},
    {0, "mode", OPT_STR, offsetof(Config, mode), "add", "add|set-all|x2  what to do", 0},
    {'f', "file", OPT_STR, offsetof(Config, file), NULL, "FILE  a file", OPT_NEUTRAL},
    {'a', "at", OPT_LIST, offsetof(Config, at), "900", "T  a time; again for more", 0},
    {'x', "fast", OPT_FLAG, offsetof(Config, fast), NULL, "hurry", 0},
    {'c', "check", OPT_FLAG, offsetof(Config, check), "1", "check it", 0},
    COMMON_OPTIONS,
    {0}};
static const Opt required[] = {{'w', "weights", OPT_STR, offsetof(Config, file), NULL, "DIR  weights", OPT_REQUIRED},
                               {0}};

static const Cli cli = {"prog", "Do it.", options, "[FILE...]", NULL, NULL};
static const Cli strict = {"prog", "Do it.", options, NULL, NULL, NULL};
static const Cli needy = {"prog", "Do it.", required, NULL, NULL, NULL};

/* Parses the words of line (apart by spaces) into a fresh Config. */
static Config parse(const Cli *with, const char *line)
{
    static char words[512];
    char *argv[32] = {"prog"};
    int argc = 1;
    static Config cfg;
    cfg = (Config){0};
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok(words, " "); w && argc < 31; w = strtok(NULL, " "))
        argv[argc++] = w;
    cli_parse(with, &cfg, argc, argv);
    return cfg;
}

/* Runs the parser in a child: status is its exit status, text what it said on fd. */
static const char *run(const Cli *with, const char *line, int fd, int *status)
{
    static char text[16384];
    int ends[2];
    fflush(NULL);
    if (pipe(ends))
        exit(1);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], fd);
        close(ends[0]);
        parse(with, line);
        exit(0);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; length < sizeof text - 1 && (n = read(ends[0], text + length, sizeof text - 1 - length)) > 0;)
        length += (size_t)n;
    text[length] = 0;
    close(ends[0]);
    waitpid(child, status, 0);
    *status = WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
    return text;
}

static int misuse(const Cli *with, const char *line, const char *want)
{
    int status;
    char name[600], expected[600];
    const char *said = run(with, line, STDERR_FILENO, &status);
    snprintf(name, sizeof name, "cli/misuse: %s", line);
    snprintf(expected, sizeof expected, "prog: %s\nTry 'prog --help'.\n", want);
    return test_text(name, said, expected) || test_ok("cli/exit status 2", status == 2);
}

static int values(void)
{
    int failed = 0;
    Config c = parse(&cli, "");
    failed += test_ok("cli/defaults", c.count == 32 && c.rate == 0.5 && strcmp(c.mode, "add") == 0 && !c.file && !c.fast
                      && c.check && c.at.count == 1 && c.c.inputs.count == 0 && strcmp(c.c.progress, "auto") == 0);
    c = parse(&cli, "--count=40K --rate -1e-3 --mode=set-all --no-check --fast --file=x");
    failed += test_ok("cli/long options", c.count == 40000 && c.rate == -1e-3 && strcmp(c.mode, "set-all") == 0
                      && !c.check && c.fast && strcmp(c.file, "x") == 0);
    c = parse(&cli, "one -xqn2Gi - -f -x -- -n --fast");
    failed += test_ok("cli/clusters, operands, --", c.count == INT64_C(2) << 30 && c.fast && c.c.quiet
                      && strcmp(c.file, "-x") == 0
                      && c.c.inputs.count == 4 && strcmp(c.c.inputs.items[1], "-") == 0
                      && strcmp(c.c.inputs.items[3], "--fast") == 0);
    c = parse(&cli, "-a 1 --at=2 -a3");
    failed += test_ok("cli/a list replaces its default", c.at.count == 3 && strcmp(c.at.items[0], "1") == 0
                      && strcmp(c.at.items[2], "3") == 0);
    c = parse(&cli, "-n 5 -n -7");
    failed += test_ok("cli/the last value counts", c.count == -7);
    c = parse(&needy, "-wx");
    failed += test_text("cli/required option given", c.file, "x");
    return failed;
}

static int misuses(void)
{
    int failed = 0;
    failed += misuse(&cli, "-n 12x", "--count: '12x' is not a whole number");
    failed += misuse(&cli, "--count=1.5", "--count: '1.5' is not a whole number");
    failed += misuse(&cli, "--count=", "--count: '' is not a whole number");
    failed += misuse(&cli, "--count 9223372036854775808", "--count: '9223372036854775808' is out of range");
    failed += misuse(&cli, "--count 9223372036854775807K", "--count: '9223372036854775807K' is out of range");
    failed += misuse(&cli, "--rate 1e999", "--rate: '1e999' is out of range");
    failed += misuse(&cli, "--rate nan", "--rate: 'nan' is not a number");
    failed += misuse(&cli, "--rate 1e", "--rate: '1e' is not a number");
    failed += misuse(&cli, "--mode set", "--mode: 'set' is none of add|set-all|x2");
    failed += misuse(&cli, "--mode add|set-all", "--mode: 'add|set-all' is none of add|set-all|x2");
    failed += misuse(&cli, "--mode=", "--mode: '' is none of add|set-all|x2");
    failed += misuse(&cli, "--cuont 3", "unknown option --cuont; did you mean --count?");
    failed += misuse(&cli, "--prog", "unknown option --prog; did you mean --progress?");
    failed += misuse(&cli, "--zebra=3", "unknown option --zebra");
    failed += misuse(&cli, "--no-count", "unknown option --no-count");
    failed += misuse(&cli, "-xz", "unknown option -z");
    failed += misuse(&cli, "--fast=1", "--fast takes no value");
    failed += misuse(&cli, "--help=1", "--help takes no value");
    failed += misuse(&cli, "--count", "--count needs a value: N");
    failed += misuse(&cli, "-xf", "-f (--file) needs a value: FILE");
    failed += misuse(&cli, "--file=", "--file: the name is empty");
    failed += misuse(&strict, "a.txt", "takes no operands, but got 'a.txt'");
    failed += misuse(&needy, "", "--weights DIR is required");
    return failed;
}

static int texts(void)
{
    int failed = 0, status;
    const char *said = run(&cli, "--help", STDOUT_FILENO, &status);
    failed += test_ok("cli/--help", status == 0 && strstr(said, "usage: prog [OPTION]... [FILE...]\n")
                      && strstr(said, "\n  -n, --count N             how many [32]\n")
                      && strstr(said, "check it [on; --no-check]"));
    said = run(&needy, "--version", STDOUT_FILENO, &status);
    char want[64];
    snprintf(want, sizeof want, "prog (sdsteer) %s\n", sdsteer_version);
    failed += test_text("cli/--version", said, want)
        + test_ok("cli/--version exits 0, whatever is required", status == 0);
    said = run(&cli, "--man", STDOUT_FILENO, &status);
    failed += test_ok("cli/--man", status == 0 && strstr(said, ".SH NAME\nprog \\- Do it.\n"));
    return failed;
}

static int provenance(void)
{
    int failed = 0;
    parse(&cli, "--count 1K --rate=0.1 -f secret -q -a 5 -x in.mpk.zst");
    json_t *made = cli_provenance(&cli);
    char *text = json_dumps(json_object_get(made, "arguments"), JSON_COMPACT);
    failed += test_text("cli/provenance", text,
                        "[\"--count=1000\",\"--rate=0.1\",\"--mode=add\",\"--at=5\",\"--fast\",\"--check\"]");
    free(text);
    failed += test_text("cli/provenance program", json_string_value(json_object_get(made, "program")), "prog");
    json_decref(made);
    return failed;
}

int main(void)
{
    const int failed = values() + misuses() + texts() + provenance();
    return failed != 0;
}
