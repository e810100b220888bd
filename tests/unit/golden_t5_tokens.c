/* SPDX-License-Identifier: MIT */
/* golden_t5_tokens.c -- token ids against transformers' T5TokenizerFast, of a folder as transformers 5 writes it, as 4
 * does, and of spiece.model: all must be equal.
 *
 *     golden_t5_tokens DIR PART S      the ids of texts from standard input, each with a NUL behind it, a line each
 *                                      (tests/peers/t5_tokens) */
#include "formats/fdio.h"
#include "formats/json_file.h"
#include "src/models/unigram.h"
#include "tests/unit/test.h"

static int print_ids(char **arg)
{
    Unigram *u = NULL;
    Err e = {0};
    const int S = atoi(arg[2]);
    int32_t *ids = malloc((size_t)S*sizeof *ids);
    char *text = NULL;
    size_t room = 0;
    long left;
    int failed = unigram_load(&u, arg[0], arg[1], &e);
    while (!failed && getdelim(&text, &room, '\0', stdin) > 0) {
        failed = unigram_encode(u, text, ids, S, &left, &e);
        for (int s = 0; s < S; s++)
            printf("%d%c", ids[s], s + 1 < S ? ' ' : '\n');
    }
    if (failed)
        fprintf(stderr, "%s\n", e.text);
    free(text);
    free(ids);
    unigram_free(u);
    return failed != 0;
}

static int check_folder(const json_t *file, const char *name)
{
    enum { S = 40 };
    char dir[PATH_MAX];
    Unigram *u = NULL;
    Err e = {0};
    int failed = 0;
    size_t i;
    const json_t *one;
    snprintf(dir, sizeof dir, "%s/%s", test_path("golden-more/t5"), name);
    if (unigram_load(&u, dir, "tokenizer_3", &e))
        return test_ok(e.text, 0);
    json_array_foreach(json_object_get(file, name), i, one) {
        const json_t *want_ids = json_object_get(one, "ids");
        const char *text = json_string_value(json_array_get(json_object_get(file, "texts"), i));
        int32_t got[S], want[S];
        long left = -1;
        char claim[64];
        for (int s = 0; s < S; s++)
            want[s] = (int32_t)json_integer_value(json_array_get(want_ids, (size_t)s));
        snprintf(claim, sizeof claim, "t5 tokens/%s/%zu", name, i);
        if (unigram_encode(u, text, got, S, &left, &e))
            return test_ok(e.text, 0);
        failed += test_same(claim, got, want, sizeof got)
                + test_ok("  tokens left out", left == json_integer_value(json_object_get(one, "left")));
    }
    unigram_free(u);
    return failed + test_ok("t5 tokens/all texts", i == json_array_size(json_object_get(file, "texts")) && i > 40);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return print_ids(argv + 1);
    static const char *const names[] = {"five", "four", "model"};
    Err e = {0};
    json_t *file = json_file_load(test_path("golden-more/t5/tokens.json"), &e);
    if (!file)
        return test_ok(e.text, 0);
    int failed = 0;
    for (int i = 0; i < 3; i++)
        failed += check_folder(file, names[i]);
    json_decref(file);
    return failed != 0;
}
