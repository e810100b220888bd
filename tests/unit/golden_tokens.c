/* SPDX-License-Identifier: MIT */
/* golden_tokens.c -- token ids against transformers' CLIPTokenizer, with minisd's vocabulary: all must be equal. */
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
    int32_t ids[77];
    Err e = {0};
    memset(text, 'a', LENGTH);
    text[LENGTH] = '\0';
    const int count = tokenizer_encode(t, text, ids, &e);
    free(text);
    return test_ok("tokens/a megabyte of one word", count > 75 && ids[0] == 2048 && ids[76] == tokenizer_end(t));
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
    const int failed = check_list(t, "golden", first) + check_list(t, "golden-more", json_object_get(more, "cases"))
                     + check_damage(t) + check_long_word(t);
    json_decref(first);
    json_decref(more);
    tokenizer_free(t);
    return failed != 0;
}
