/* SPDX-License-Identifier: MIT */
/* read_prompts.c -- the reader of text records: defaults, order of fields, and what it refuses, with file and line. */
#include "formats/lines.h"
#include "src/models/prompts.h"
#include "tests/unit/test.h"

/* prompt_seed of (0, "1"), (0, "4") and (42, "Fishes/Watercolor/3"), by a Python script of the formula in prompts.h. */
#define SEED_0_1 890325655
#define SEED_0_4 1532431006
#define SEED_42_FISH 978027655
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

static char path[PATH_MAX];

static void write_file(const char *bytes, size_t length)
{
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes, 1, length, f) != length || fclose(f)) {
        perror(path);
        exit(1);
    }
}

/* All records of text as compact JSON, one a line, or "error: " and the message without the file's name. */
static const char *all_records(const char *bytes, size_t length, uint64_t seed)
{
    static char text[8192];
    Prompts *p = NULL;
    Record rec;
    Err e = {0};
    int got;
    write_file(bytes, length);
    *text = 0;
    if (prompts_open(&p, path, seed, &e))
        return strcpy(text, "error: not opened");
    while ((got = prompts_next(p, &rec, &e)) == 1) {
        char *line = json_dumps(rec.fields, JSON_COMPACT);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n", line);
        free(line);
    }
    if (got < 0) {
        const size_t name = strlen(path);
        const int named = strncmp(e.text, path, name) == 0;
        snprintf(text, sizeof text, "error%s", named ? e.text + name : " without the file's name");
    }
    prompts_close(p);
    return text;
}

static int reads(const char *name, const char *bytes, const char *want)
{
    return test_text(name, all_records(bytes, strlen(bytes), 0), want);
}

static int refuses(const char *name, const char *bytes, const char *want)
{
    const char *got = all_records(bytes, strlen(bytes), 0);
    return strncmp(got, want, strlen(want)) == 0 ? test_ok(name, 1) : test_text(name, got, want);
}

static int many_ids(void)
{
    size_t length = 0;
    char *text = malloc(5000 * 40);
    for (int i = 0; i < 5000; i++)
        length += (size_t)sprintf(text + length, "{\"id\":\"a%d\",\"prompt\":\"x\"}\n", i);
    Prompts *p = NULL;
    Record rec;
    Err e = {0};
    int count = 0;
    write_file(text, length);
    prompts_open(&p, path, 0, &e);
    while (prompts_next(p, &rec, &e) == 1)
        count++;
    prompts_close(p);
    free(text);
    return test_ok("prompts/5000 ids", count == 5000 && !e.set);
}

int main(void)
{
    int failed = 0;
    snprintf(path, sizeof path, "%s/prompts-test-%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());

    failed += test_ok("prompts/seed 0 of 1", prompt_seed(0, "1") == SEED_0_1);
    failed += test_ok("prompts/seed 42 of Fishes", prompt_seed(42, "Fishes/Watercolor/3") == SEED_42_FISH);

    failed += reads("prompts/plain lines", "a cat\r\n\n  \na dog",
                    "{\"id\":\"1\",\"prompt\":\"a cat\",\"seed\":" TEXT(SEED_0_1) "}\n"
                    "{\"id\":\"4\",\"prompt\":\"a dog\",\"seed\":" TEXT(SEED_0_4) "}\n");
    failed += reads("prompts/order of fields",
                    "{\"x\":[1],\"seed\":7,\"theme\":\"Rust\",\"concept\":\"Cats\",\"prompt\":\"p\","
                    "\"negative\":\"n\",\"id\":\"a/b\",\"y\":null}\n",
                    "{\"id\":\"a/b\",\"prompt\":\"p\",\"negative\":\"n\",\"concept\":\"Cats\",\"theme\":\"Rust\","
                    "\"seed\":7,"
                    "\"x\":[1],\"y\":null}\n");
    failed += reads("prompts/empty labels are left out",
                    "{\"id\":5,\"prompt\":\"\",\"theme\":\"\",\"concept\":null,\"seed\":0}",
                    "{\"id\":\"5\",\"prompt\":\"\",\"seed\":0}\n");
    failed += reads("prompts/an empty negative is one",
                    "{\"prompt\":\"p\",\"negative\":\"\",\"seed\":0}\n{\"prompt\":\"p\",\"negative\":null,\"seed\":0}",
                    "{\"id\":\"1\",\"prompt\":\"p\",\"negative\":\"\",\"seed\":0}\n"
                    "{\"id\":\"2\",\"prompt\":\"p\",\"seed\":0}\n");
    failed += reads("prompts/byte order mark", "\xef\xbb\xbf{\"prompt\":\"p\",\"seed\":9223372036854775807}\n",
                    "{\"id\":\"1\",\"prompt\":\"p\",\"seed\":9223372036854775807}\n");
    failed += reads("prompts/no lines", "", "");
    failed += many_ids();

    failed += refuses("prompts/bad JSON", "a\n{\"prompt\": }\n", "error: line 2: not a JSON object");
    failed += refuses("prompts/cut JSON", "{\"prompt\":\"a\"", "error: line 1: not a JSON object");
    failed += refuses("prompts/two objects", "{\"prompt\":\"a\"} {}\n", "error: line 1: not a JSON object");
    failed += refuses("prompts/key twice", "{\"prompt\":\"a\",\"prompt\":\"b\"}\n", "error: line 1: not a JSON object");
    failed += refuses("prompts/id twice", "{\"id\":\"2\",\"prompt\":\"a\"}\nb\n", "error: line 2: id '2' came before");
    failed += refuses("prompts/empty id", "{\"id\":\"\",\"prompt\":\"a\"}\n", "error: line 1: id is empty");
    failed += refuses("prompts/id of a wrong type", "{\"id\":1.5,\"prompt\":\"a\"}\n",
                      "error: line 1: id is a fraction");
    failed += refuses("prompts/no prompt", "{\"id\":\"a\"}\n", "error: line 1: prompt is missing, expected text");
    failed += refuses("prompts/prompt of a wrong type", "{\"prompt\":[1]}\n",
                      "error: line 1: prompt is an array, expected text");
    failed += refuses("prompts/theme of a wrong type", "{\"prompt\":\"a\",\"theme\":3}\n",
                      "error: line 1: theme is an integer");
    failed += refuses("prompts/seed below 0", "{\"prompt\":\"a\",\"seed\":-1}\n", "error: line 1: seed is -1");
    failed += refuses("prompts/seed over 2^63", "{\"prompt\":\"a\",\"seed\":9223372036854775808}\n", "error: line 1: ");
    failed += refuses("prompts/seed as text", "{\"prompt\":\"a\",\"seed\":\"1\"}\n", "error: line 1: seed is text");
    failed += refuses("prompts/not UTF-8", "caf\xe9\n", "error: line 1: the prompt is not UTF-8");
    failed += refuses("prompts/JSON not UTF-8", "{\"prompt\":\"caf\xe9\"}\n", "error: line 1: not a JSON object");
    failed += test_text("prompts/zero byte", all_records("a\0b\n", 4, 0),
                        "error: line 1: holds a zero byte; is this text?");

    char *big = malloc(LINE_MOST + 2);
    memset(big, 'a', LINE_MOST + 1);
    big[LINE_MOST + 1] = 0;
    failed += refuses("prompts/a line too long", big, "error: line 1: over 1048576 bytes");
    free(big);

    Prompts *p = NULL;
    Err e = {0};
    failed += test_ok("prompts/no such file", prompts_open(&p, "/nowhere/prompts", 0, &e) == -1 && !p
                      && strstr(e.text, "/nowhere"));
    remove(path);
    return failed != 0;
}
