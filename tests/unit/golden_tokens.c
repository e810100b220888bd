/* SPDX-License-Identifier: MIT */
/* golden_tokens.c -- token ids against transformers' CLIPTokenizer, with minisd's vocabulary and with cut ones in the
 * files of transformers 4 and 5: all must be equal. */
#include <sys/stat.h>
#include "formats/json_file.h"
#include "src/models/tokenizer.h"
#include "tests/unit/test.h"

static int check_text(const Tokenizer *t, const char *file, size_t number, const json_t *one)
{
    const char *text = json_string_value(json_object_get(one, "text"));
    const json_t *want = json_object_get(one, "ids");
    int32_t got[77];
    char name[64];
    Err e = {0};
    snprintf(name, sizeof name, "tokens/%s/%zu", file, number);
    if (tokenizer_encode(t, text, got, &e) < 0) {
        printf("FAIL %s: %s\n", name, e.text);
        return 1;
    }
    for (size_t i = 0; i < 77; i++)
        if (got[i] != (int32_t)json_integer_value(json_array_get(want, i))) {
            printf("FAIL %s: id %zu is %d, expected %lld: %s\n", name, i, got[i],
                   json_integer_value(json_array_get(want, i)), text);
            return 1;
        }
    return test_ok(name, 1);
}

static int check_list(const Tokenizer *t, const char *file, const json_t *list)
{
    int failed = test_ok("tokens/the list is not empty", json_array_size(list) > 0);
    for (size_t i = 0; i < json_array_size(list); i++)
        failed += check_text(t, file, i, json_array_get(list, i));
    return failed;
}

static int check_damage(const Tokenizer *t)
{
    static const char *const texts[] = {"ab\xff", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf5\x80\x80\x80"};
    int failed = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int32_t ids[77];
        Err e = {0};
        failed += test_ok("tokens/not UTF-8 is refused", tokenizer_encode(t, texts[i], ids, &e) == -1 && e.set);
    }
    return failed;
}

/* Time is n log n in the length of a word: a megabyte without a space must not take minutes. */
static int check_long_word(const Tokenizer *t)
{
    enum { LENGTH = 1 << 20 };
    char *text = malloc(LENGTH + 1);
    int32_t ids[77], none[77];
    Err e = {0};
    memset(text, 'a', LENGTH);
    text[LENGTH] = '\0';
    const int count = tokenizer_encode(t, text, ids, &e);
    free(text);
    return test_ok("tokens/a megabyte of one word", count > 75 && tokenizer_encode(t, "", none, &e) == 0
                                                    && ids[0] == none[0] && ids[76] == none[1]);
}

/* Files as transformers of this version writes them, with added tokens. */
static int check_version(const json_t *file, const char *version)
{
    char dir[PATH_MAX], name[64];
    Tokenizer *t = NULL;
    Err e = {0};
    int failed = 0;
    size_t i;
    const json_t *one;
    snprintf(dir, sizeof dir, "%s/%s", test_path("golden-more/tokenizers"), version);
    if (tokenizer_load(&t, dir, &e))
        return test_ok(e.text, 0);
    json_array_foreach(json_object_get(file, version), i, one) {
        int32_t got[24], want[24];
        const char *text = json_string_value(json_array_get(json_object_get(file, "texts"), i));
        for (size_t k = 0; k < 24; k++)
            want[k] = (int32_t)json_integer_value(json_array_get(one, k));
        snprintf(name, sizeof name, "tokens/transformers %s/%zu", version, i);
        failed += tokenizer_encode(t, text, got, &e) < 0 ? test_ok(e.text, 0) : test_same(name, got, want, sizeof got);
    }
    tokenizer_free(t);
    return failed + test_ok("tokens/texts of a version", i == 6);
}

/* A tokenizer.json that is not CLIP's, or damaged, is refused by its name. */
static int check_whole_refused(void)
{
    static const char *const bad[] = {
        "{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]]}}",
        "{\"model\": {\"vocab\": {\"a\": 0}, \"merges\": [], \"end_of_word_suffix\": null}}",
        "{\"model\": {\"vocab\": {\"a\": 0, \"<|startoftext|>\": 1, \"<|endoftext|>\": 2}, \"merges\": [[\"a\"]],"
        " \"end_of_word_suffix\": \"</w>\"}}",
        "{\"model\": {\"vocab\": {\"a\": 0, \"<|startoftext|>\": 1, \"<|endoftext|>\": 2}, \"merges\": [\"a b\"],"
        " \"end_of_word_suffix\": \"</w>\"}}",
        "{\"model\": {\"vocab\": {\"a\": 0, \"<|startoftext|>\": 1, \"<|endoftext|>\": 2}, \"merges\": [],"
        " \"end_of_word_suffix\": \"</w>\"}, \"added_tokens\": [{\"content\": \"<new>\"}]}",
    };
    char dir[] = "/tmp/golden_tokens.XXXXXX", folder[64], path[96];
    int failed = 0;
    if (!mkdtemp(dir))
        return test_ok("tokens/a folder", 0);
    snprintf(folder, sizeof folder, "%s/tokenizer", dir);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    mkdir(folder, 0777);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Tokenizer *t = NULL;
        Err e = {0};
        FILE *f = fopen(path, "w");
        fputs(bad[i], f);
        fclose(f);
        failed += test_ok("tokens/tokenizer.json is refused", tokenizer_load(&t, dir, &e) == -1 && !t
                          && strstr(e.text, folder));
        test_note("%s", e.text);
    }
    unlink(path);
    rmdir(folder);
    rmdir(dir);
    return failed;
}

int main(void)
{
    Tokenizer *t = NULL;
    Err e = {0};
    json_t *first = json_load_file(test_path("golden/tokens.json"), 0, NULL);
    json_t *more = json_file_load(test_path("golden-more/tokens.json"), &e);
    if (tokenizer_load(&t, test_path("../data/minisd/model"), &e) || !first || !more) {
        printf("FAIL tokens: %s\n", e.text);
        return 1;
    }
    json_t *versions = json_file_load(test_path("golden-more/tokenizers/tokens.json"), &e);
    const int failed = check_list(t, "golden", first) + check_list(t, "golden-more", json_object_get(more, "cases"))
                     + check_damage(t) + check_long_word(t) + check_version(versions, "4")
                     + check_version(versions, "5") + check_whole_refused();
    json_decref(versions);
    json_decref(first);
    json_decref(more);
    tokenizer_free(t);
    return failed != 0;
}
