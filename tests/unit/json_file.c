/* SPDX-License-Identifier: MIT */
/* json_file.c -- JSON files and their messages; files written aside. */
#include <dirent.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/folder.h"
#include "formats/json_file.h"
#include "tests/unit/stream_test.h"

static int refused(const char *name, const char *text, const char *words)
{
    Err e = {0};
    json_t *got = json_file_load(spill("bad.json", text, strlen(text)), &e);
    int failed = test_ok(name, !got && strstr(e.text, "bad.json: ") && strstr(e.text, words));
    if (failed)
        test_note("message: %s; expected: ...%s...", e.text, words);
    return failed;
}

static int test_load(void)
{
    int failed = 0;
    Err e = {0};
    failed += refused("line", "{\n  \"a\": 1,\n  \"b\" 2\n}\n", "line 3, column ");
    failed += refused("array", "[1, 2]", "holds an array, expected an object");
    failed += refused("twice", "{\"a\": 1, \"a\": 2}", "duplicate");
    failed += refused("empty", "", "line 1");
    failed += test_ok("folder", !json_file_load("/tmp", &e) && strstr(e.text, "is a folder"));
    e = (Err){0};
    failed += test_ok("no file", !json_file_load(scratch("none"), &e) && strstr(e.text, "No such file"));
    return failed;
}

/* What json.dump writes of float("-inf"), float("nan") and 10**21: the other keys are read, these are not numbers. */
static int test_python(void)
{
    static const char text[] = "{\"low\": -Infinity, \"none\": NaN, \"a\": [Infinity, 1.5], \"n\": -12,"
                               " \"long\": 1000000000000000000000, \"longest\": 9223372036854775807,"
                               " \"real\": 0.12345678901234567890, \"exp\": 12345678901234567890e1,"
                               " \"-Infinity \\\" NaN\": \"Infinity\"}";
    Err e = {0};
    int64_t n = 0;
    double x = 0;
    const char *s = NULL;
    json_t *j = json_file_load(spill("python.json", text, sizeof text - 1), &e);
    int failed = test_ok("python/read", j != NULL);
    failed += test_ok("python/others", !json_need_int("f", j, "n", &n, &e) && n == -12
                      && !json_need_int("f", j, "longest", &n, &e) && n == INT64_MAX
                      && !json_need_number("f", j, "real", &x, &e) && x == 0.12345678901234567890
                      && !json_need_number("f", j, "exp", &x, &e) && x == 12345678901234567890e1);
    failed += test_ok("python/texts stay", !json_need_text("f", j, "-Infinity \" NaN", &s, &e)
                      && strcmp(s, "Infinity") == 0);
    failed += test_ok("python/in a list", json_is_string(json_array_get(json_object_get(j, "a"), 0)));
    failed += test_ok("python/asked for", json_need_number("f", j, "low", &x, &e) == -1);
    failed += test_text("python/asked for, message", e.text, "f: \"low\" is a string, expected a number");
    e = (Err){0};
    failed += test_ok("python/long", json_need_int("f", j, "long", &n, &e) == -1);
    json_decref(j);
    return failed + refused("python/elsewhere", "{\"a\": Infinit}", "line 1");
}

static int test_getters(void)
{
    static const char text[] = "{\"n\": 4, \"x\": 0.5, \"yes\": true, \"s\": \"silu\", \"a\": [1], \"o\": {}, "
                               "\"none\": null}";
    int failed = 0;
    Err e = {0};
    int64_t n = 0;
    double x = 0;
    bool yes = false;
    const char *s = NULL;
    const json_t *a, *o;
    json_t *j = json_file_load(spill("c.json", text, sizeof text - 1), &e);
    int bad = json_need_int("f", j, "n", &n, &e) || json_need_number("f", j, "x", &x, &e)
           || json_need_bool("f", j, "yes", &yes, &e) || json_need_text("f", j, "s", &s, &e)
           || json_need_array("f", j, "a", &a, &e) || json_need_object("f", j, "o", &o, &e);
    failed += test_ok("need", !bad && n == 4 && x == 0.5 && yes && strcmp(s, "silu") == 0);
    failed += test_ok("need/an integer is a number", !json_need_number("f", j, "n", &x, &e) && x == 4);
    bad = json_get_int("f", j, "m", 7, &n, &e) || json_get_number("f", j, "m", 1.5, &x, &e)
       || json_get_bool("f", j, "m", false, &yes, &e) || json_get_text("f", j, "m", "gelu", &s, &e);
    failed += test_ok("get/missing", !bad && n == 7 && x == 1.5 && !yes && strcmp(s, "gelu") == 0);
    failed += test_ok("get/null", !json_get_int("f", j, "none", 8, &n, &e) && n == 8);
    failed += test_ok("get/there", !json_get_int("f", j, "n", 9, &n, &e) && n == 4);
    failed += test_ok("need/missing", json_need_int("f", j, "m", &n, &e) == -1);
    failed += test_text("need/missing message", e.text, "f: \"m\" is missing, expected an integer");
    e = (Err){0};
    failed += test_ok("get/wrong type", json_get_int("f", j, "x", 1, &n, &e) == -1);
    failed += test_text("get/wrong type message", e.text, "f: \"x\" is a number, expected an integer");
    json_decref(j);
    return failed;
}

static int test_aside(void)
{
    int failed = 0;
    Err e = {0};
    json_t *value = json_pack("{s:i}", "z", 1);
    failed += test_ok("write", json_file_write(scratch("w.json"), value, &e) == 0);
    json_decref(value);
    Blob b = slurp(scratch("w.json"));
    failed += test_same("write/bytes", b.data, "{\n  \"z\": 1\n}\n", b.size);
    free(b.data);
    Aside *a = aside_open(scratch("w.json"), &e);
    failed += test_ok("aside", a && fd_write(aside_fd(a), "w", "new", 3, &e) == 0);
    b = slurp(scratch("w.json"));
    failed += test_ok("aside/the old file stays until the end", b.size == 13);
    free(b.data);
    aside_cleanup();                                        /* as the handler of a signal does */
    failed += test_ok("aside/commit after a cleanup fails", aside_commit(a, true, &e) == -1);
    a = aside_open(scratch("x"), &e);
    aside_abandon(a);
    for (int end = 0; end < 3; end++) {                     /* as a signal does, abandoned, committed */
        static const char *const names[] = {"a", "in/b", "in/c", "b"};
        AsideFolder *folder = aside_folder(scratch("folder/"), names, 4, &e);
        char path[4200];
        snprintf(path, sizeof path, "%s/in/b", aside_folder_part(folder));
        failed += test_ok("aside/folder", (a = aside_open(path, &e)) && aside_commit(a, true, &e) == 0);
        failed += test_ok("aside/folder is not there before", access(scratch("folder"), F_OK) != 0);
        if (end == 0)
            aside_cleanup();
        if (end < 2)
            aside_folder_abandon(folder);
        else
            failed += test_ok("aside/folder is there", aside_folder_commit(folder, &e) == 0
                              && unlink(scratch("folder/in/b")) == 0 && rmdir(scratch("folder/in")) == 0
                              && rmdir(scratch("folder")) == 0);
    }
    failed += test_ok("aside/folders", folder_make(scratch("made/empty"), &e) == 0
                      && folder_make_above(scratch("made/full/x"), &e) == 0
                      && (a = aside_open(scratch("made/full/x"), &e)) && aside_commit(a, true, &e) == 0);
    aside_cleanup();
    failed += test_ok("aside/a folder made for nothing is not left", access(scratch("made/empty"), F_OK) != 0);
    failed += test_ok("aside/one with a file is", unlink(scratch("made/full/x")) == 0);
    aside_cleanup();
    failed += test_ok("aside/until the end", access(scratch("made"), F_OK) != 0);
    int files = 0;
    DIR *d = opendir(scratch(""));
    for (struct dirent *f; d && (f = readdir(d));)
        files += strstr(f->d_name, ".part-") != NULL;
    closedir(d);
    return failed + test_ok("aside/nothing half-written is left", files == 0);
}

int main(void)
{
    const int failed = test_load() + test_python() + test_getters() + test_aside();
    scratch_clear();
    return failed != 0;
}
