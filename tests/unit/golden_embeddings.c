/* SPDX-License-Identifier: MIT */
/* golden_embeddings.c -- words that a textual inversion has learned, against diffusers' load_textual_inversion and
 * encode_prompt (golden-more/make_embeddings.py): ids of awkward texts, states of prompt and negative prompt, weighted
 * too, and the states and pooled embeddings of Stable Diffusion XL. Then what no reference has: names in other letters,
 * what is no word, texts that say none.
 *
 * Tolerances: as golden_text.c and golden_sdxl.c have them. */
#include "formats/json_file.h"
#include "src/models/prompt_chunks.h"
#include "src/models/prompt_states.h"
#include "src/models/textual_inversion.h"
#include "tests/unit/golden.h"

enum { MOST_WORDS = 16 };

static const Weights *golden;

static PromptEncoder *model_of(const char *path)
{
    PromptEncoder *p = NULL;
    die_if(prompt_encoder_load(&p, test_path(path), F32, 0, T5_USUAL_TOKENS, &err));
    return p;
}

/* An encoder that has learned the files of embeddings/ that are said, [NAME=]FILE. */
static PromptEncoder *learned(const char *path, const char *const *said, int count)
{
    PromptEncoder *p = model_of(path);
    char whole[MOST_WORDS][PATH_MAX];
    const char *argument[MOST_WORDS];
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(said[i], '='), *file = equals ? equals + 1 : said[i];
        snprintf(whole[i], sizeof *whole, "%.*s%s/%s", (int)(file - said[i]), said[i],
                 test_path("golden-more/embeddings"), file);
        argument[i] = whole[i];
    }
    die_if(prompt_encoder_learn(p, argument, count, &err));
    return p;
}

static PromptEncoder *learned_all(const json_t *words)
{
    const char *said[MOST_WORDS];
    const int count = (int)json_array_size(words);
    for (int i = 0; i < count; i++)
        said[i] = json_string_value(json_array_get(words, (size_t)i));
    return learned("../data/minisd/model", said, count);
}

static int test_ids(const PromptEncoder *p, const json_t *cases)
{
    const json_t *one;
    size_t n;
    int failed = test_ok("texts", json_array_size(cases) > 60);
    json_array_foreach(cases, n, one) {
        const char *text = json_string_value(json_object_get(one, "text"));
        int32_t got[77], want[77];
        char name[40];
        for (size_t k = 0; k < 77; k++)
            want[k] = (int32_t)json_integer_value(json_array_get(json_object_get(one, "ids"), k));
        snprintf(name, sizeof name, "ids/%zu", n);
        die_if(tokenizer_encode(prompt_encoder_tokenizer(p, 0), text, got, &err) < 0);
        if (test_same(name, got, want, sizeof got)) {
            test_note("%s", text);
            failed++;
        }
    }
    return failed;
}

/* ---- states ---- */

static int said(const char *name)
{
    return atoi(json_string_value(json_object_get(weights_metadata(golden), name)));
}

static int near(PromptEncoder *p, const char *kind, int n, const char *text, TextKind of, bool weights)
{
    PromptStates *states = NULL;
    PromptText t;
    char name[40];
    const int S = prompt_encoder_length(p), E = prompt_encoder_width(p), every = said("every"), first = said("first");
    snprintf(name, sizeof name, "%s.%d", kind, n);
    const Weight *want = tensor(golden, name);
    const int rows = (int)want->dim[0];
    float *state = malloc(sizeof *state*(size_t)(S*E)), *got = malloc(sizeof *got*(size_t)(rows*E)), none[1];
    die_if(prompt_states_create(&states, p, 1, 1, weights, &err) || prompt_states_add(states, &t, text, of, false, &err)
           || prompt_states_encode(states, &err));
    prompt_states_join(states, &t, 1, state, none);
    for (int i = 0; i < rows; i++)
        memcpy(got + i*E, state + (first + i*every)*E, sizeof *got*(size_t)E);
    const int failed = test_below(name, range_error(got, want->data, (size_t)(rows*E)), 1e-4);
    prompt_text_clear(&t);
    prompt_states_free(states);
    free(state);
    free(got);
    return failed;
}

static int test_states(PromptEncoder *p)
{
    json_t *texts = json_loads(json_string_value(json_object_get(weights_metadata(golden), "texts")), 0, NULL);
    const json_t *one;
    size_t n;
    int failed = 0;
    json_array_foreach(texts, n, one) {
        const bool weights = json_is_true(json_object_get(one, "weights"));
        failed += near(p, "state", (int)n, json_string_value(json_object_get(one, "prompt")), TEXT_PROMPT, weights);
        failed += near(p, "uncond", (int)n, json_string_value(json_object_get(one, "negative")), TEXT_NEGATIVE,
                       weights);
    }
    json_decref(texts);
    return failed;
}

static int test_xl(void)
{
    enum { TEXTS = 3, LENGTH = 16, WIDTH = 16 + 24, POOLED = 20 };
    PromptEncoder *p = learned("golden-more/sdxl", (const char *[]){"XL-word=xl.safetensors"}, 1);
    json_t *texts = json_loads(json_string_value(json_object_get(weights_metadata(golden), "xl")), 0, NULL);
    PromptChunks chunk = {0};
    int32_t ids[TEXTS*2*LENGTH];
    float state[TEXTS*LENGTH*WIDTH], pooled[TEXTS*POOLED];
    int same = 1;
    die_if(prompt_chunks_create(&chunk, p, 1, &err));
    for (int n = 0; n < TEXTS; n++) {
        die_if(prompt_chunks_read(&chunk, json_string_value(json_array_get(texts, (size_t)n)), false, &err));
        memcpy(ids + n*2*LENGTH, chunk.ids, sizeof *ids*2*LENGTH);
        for (int i = 0; i < 2; i++) {
            const Weight *want = tensor(golden, i ? "xl.ids.2" : "xl.ids.1");
            same &= memcmp(ids + (2*n + i)*LENGTH, (const int32_t *)want->data + n*LENGTH, sizeof *ids*LENGTH) == 0;
        }
    }
    int failed = test_ok("sdxl: ids of both tokenizers", same);
    die_if(prompt_encode(p, ids, TEXTS, false, state, pooled, &err));
    failed += test_below("sdxl: states", range_error(state, tensor(golden, "xl.state")->data, TEXTS*LENGTH*WIDTH),
                         1e-4);
    failed += test_below("sdxl: pooled embeddings", range_error(pooled, tensor(golden, "xl.pooled")->data,
                                                                TEXTS*POOLED), 1e-4);
    prompt_chunks_clear(&chunk);
    json_decref(texts);
    prompt_encoder_free(p);
    return failed;
}

/* ---- words ---- */

/* Texts that say no learned word have the states that they had. */
static int test_others(PromptEncoder *knows)
{
    static const char text[] = "a red tower in the rain, <cat-to and Easy Negative";
    PromptEncoder *plain = model_of("../data/minisd/model");
    const size_t n = (size_t)prompt_encoder_length(plain)*(size_t)prompt_encoder_width(plain);
    PromptEncoder *const of[] = {plain, knows};
    float *state[2];
    for (int i = 0; i < 2; i++) {
        int32_t ids[77];
        state[i] = malloc(sizeof(float)*n);
        die_if(tokenizer_encode(prompt_encoder_tokenizer(of[i], 0), text, ids, &err) < 0
               || prompt_encode(of[i], ids, 1, false, state[i], NULL, &err));
    }
    const int failed = test_same("a text without learned words", state[1], state[0], sizeof(float)*n);
    free(state[0]);
    free(state[1]);
    prompt_encoder_free(plain);
    return failed;
}

static int named(const char *said, const char *name, int count)
{
    const int width[2] = {128};
    char path[PATH_MAX];
    LearnedWord word;
    snprintf(path, sizeof path, "%s/%s", test_path("golden-more/embeddings"), said);
    die_if(learned_word_read(&word, path, 1, width, &err));
    const int failed = test_ok(said, strcmp(word.name, name) == 0 && word.count == count);
    learned_word_clear(&word);
    return failed;
}

static int test_names(void)
{
    return named("toy.safetensors", "<cat-toy>", 1) + named("style.bin", "<my-style>", 3)
         + named("EasyNegative.safetensors", "EasyNegative", 4) + named("charturner.pt", "charturnerv2", 2)
         + named("old.pt", "old", 2) + named("spaced.pt", "spaced", 1);
}

static int refused(const char *name, int count, const char *words)
{
    static Tokenizer *t;
    int32_t first = 0;
    Err e = {0};
    if (!t) {
        die_if(tokenizer_load(&t, test_path("../data/minisd/model"), &err)
               || tokenizer_learn(t, "My-Word", 3, &first, &err) || tokenizer_learn(t, "one_1", 1, &first, &err));
    }
    const int failed = test_ok(words, tokenizer_learn(t, name, count, &first, &e) == -1 && strstr(e.text, words));
    test_note("%s", e.text);
    return failed;
}

static int test_refused(void)
{
    char name[300];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = 0;
    return refused("cat</w>", 1, "'cat</w>' is a token already")
         + refused("<|endoftext|>", 1, "'<|endoftext|>' is a token already")
         + refused("My-Word", 1, "'My-Word' is a token already")
         + refused("My-Word_2", 1, "'My-Word_2' is a token") + refused("one", 2, "'one_1' is a token")
         + refused("MY-WORD", 1, "'MY-WORD' is 'My-Word' but for its letter case") + refused("", 1, "a word of 0 bytes")
         + refused(" \n", 1, "a word of 2 bytes") + refused(name, 1, "a word of 299 bytes")
         + refused("a\xff", 1, "not valid UTF-8");
}

int main(void)
{
    Weights *w = NULL;
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&w, test_path("golden-more/embeddings.safetensors"), &err));
    golden = w;
    json_t *file = json_file_load(test_path("golden-more/embeddings.json"), &err);
    die_if(!file);
    PromptEncoder *p = learned_all(json_object_get(file, "words"));
    const int failed = test_ids(p, json_object_get(file, "cases")) + test_states(p) + test_others(p) + test_xl()
                     + test_names() + test_refused();
    prompt_encoder_free(p);
    json_decref(file);
    weights_close(w);
    return failed != 0;
}
