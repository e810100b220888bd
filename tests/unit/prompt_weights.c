/* SPDX-License-Identifier: MIT */
/* prompt_weights.c -- what is read of a prompt with weights: the cases that stable-diffusion-webui's
 * parse_prompt_attention documents, to the last bit, and others by its rules; what is refused. */
#include <stdlib.h>
#include "src/models/prompt_weights.h"
#include "tests/unit/test.h"

enum { MOST = 10 };

typedef struct Piece { const char *text; double weight; bool breaks; } Piece;

typedef struct Case {
    const char *prompt;
    Piece piece[MOST];              /* up to the first without text */
} Case;

static int check(const Case *c)
{
    PromptWeights w;
    Err e = {0};
    if (prompt_weights_read(&w, c->prompt, &e)) {
        prompt_weights_clear(&w);
        return test_ok(e.text, 0);
    }
    int wanted = 0, same = 1;
    while (wanted < MOST && c->piece[wanted].text)
        wanted++;
    for (int i = 0; i < w.count && i < wanted; i++) {
        const PromptPiece *p = &w.piece[i];
        const Piece *want = &c->piece[i];
        if (p->length == strlen(want->text) && memcmp(w.text + p->from, want->text, p->length) == 0
            && p->weight == want->weight && p->breaks == want->breaks)
            continue;
        test_note("piece %d: '%.*s' %.17g%s", i, (int)p->length, w.text + p->from, p->weight,
                  p->breaks ? " breaks" : "");
        same = 0;
    }
    char name[160];
    snprintf(name, sizeof name, "weights of '%.100s', %d pieces", c->prompt, w.count);
    same &= w.count == wanted;
    prompt_weights_clear(&w);
    return test_ok(name, same);
}

static int refused(const char *prompt, const char *why)
{
    PromptWeights w;
    Err e = {0};
    const int got = prompt_weights_read(&w, prompt, &e);
    prompt_weights_clear(&w);
    if (!strstr(e.text, why))
        test_note("%s", e.text);
    return test_ok(why, got == -1 && strstr(e.text, why));
}

static int plain(const char *prompt, const char *text)
{
    Err e = {0};
    char *found = prompt_weights_text(prompt, &e);
    const int failed = test_text(prompt, found ? found : e.text, text);
    free(found);
    return failed;
}

/* n times a text */
static char *times(const char *text, int n)
{
    char *y = calloc(strlen(text)*(size_t)n + 1, 1);
    for (int i = 0; y && i < n; i++)
        strcpy(y + strlen(text)*(size_t)i, text);
    return y;
}

int main(void)
{
    static const Case cases[] = {
        /* documented there */
        {"normal text", {{"normal text", 1, false}}},
        {"an (important) word", {{"an ", 1, false}, {"important", 1.1, false}, {" word", 1, false}}},
        {"(unbalanced", {{"unbalanced", 1.1, false}}},
        {"\\(literal\\]", {{"(literal]", 1, false}}},
        {"(unnecessary)(parens)", {{"unnecessaryparens", 1.1, false}}},
        {"a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
         {{"a ", 1, false}, {"house", 1.5730000000000004, false}, {" ", 1.1, false}, {"on", 1, false},
          {" a ", 1.1, false}, {"hill", 0.55, false}, {", sun, ", 1.1, false}, {"sky", 1.4641000000000006, false},
          {".", 1.1, false}}},
        /* by the same rules */
        {"", {{"", 1, false}}},
        {"()", {{"", 1, false}}},
        {"[a] b", {{"a", 1/1.1, false}, {" b", 1, false}}},
        {"[[a", {{"a", 1/1.1*(1/1.1), false}}},
        {"a) b] c", {{"a) b] c", 1, false}}},
        {"a:b: c (d:e) f:1.3)", {{"a:b: c ", 1, false}, {"d:e", 1.1, false}, {" f:1.3)", 1, false}}},
        {"(a: 1.5 ) (b:+.5)(c:-2)(d:0)", {{"a", 1.5, false}, {" ", 1, false}, {"b", 0.5, false}, {"c", -2, false},
                                          {"d", 0, false}}},
        {"(a:) (b:1.3", {{"a:", 1.1, false}, {" ", 1, false}, {"b:1.3", 1.1, false}}},
        {"\\\\ \\a \\", {{"\\ a ", 1, false}}},
        {"[cat:dog:0.4]", {{"cat:dog:0.4", 1/1.1, false}}},
        {"[a:1.5)", {{"a:1.5)", 1/1.1, false}}},
        {"(caf\xc3\xa9:1.2)", {{"caf\xc3\xa9", 1.2, false}}},
        /* chunks */
        {"a BREAK b", {{"a ", 1, false}, {" b", 1, true}}},
        {"BREAK BREAK", {{"", 1, false}, {" ", 1, true}, {"", 1, true}}},
        {"(a BREAK:2)", {{"a ", 2, false}, {"", 2, true}}},
        {"BREAKS UNBREAK BREAK_ break", {{"BREAKS UNBREAK BREAK_ break", 1, false}}},
        {"(a)BREAK(b)", {{"a", 1.1, false}, {"", 1, false}, {"", 1, true}, {"b", 1.1, false}}},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof cases/sizeof *cases; i++)
        failed += check(&cases[i]);

    failed += plain("", "");
    failed += plain("a fish", "a fish");
    failed += plain("a (((house:1.3)) [on] a (hill:0.5), (sky", "a house on a hill, sky");
    failed += plain("\\(a\\) fish: (red:-0.5)(blue:0)(green:0.1)", "(a) fish: green");
    failed += plain("(a)BREAK(b) BREAK", "a b  ");
    failed += plain("(a:1.2.3)", "weight '1.2.3' is no number");

    failed += refused("(a:1.2.3)", "weight '1.2.3' is no number");
    failed += refused("(a:.)", "weight '.' is no number");
    failed += refused("((a cat:99):99)", "'a cat' has weight 9801, expected -100 to 100");
    failed += refused("(a cat:-100.5)", "'a cat' has weight -100.5");
    char *digits = times("9", 400), text[420], *deep = times("(a", 300), *both = times("([a", 200);
    snprintf(text, sizeof text, "(a:%s)", digits);
    failed += refused(text, "'a' has weight inf");
    snprintf(text, sizeof text, "((a:%s):0)", digits);
    failed += refused(text, "nan");
    failed += refused(deep, "more than 256 brackets are open at once");
    PromptWeights w;
    Err e = {0};
    failed += test_ok("brackets of both kinds, 200 deep", prompt_weights_read(&w, both, &e) == 0 && w.count > 1);
    prompt_weights_clear(&w);
    free(digits);
    free(deep);
    free(both);
    return failed != 0;
}
