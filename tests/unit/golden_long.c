/* SPDX-License-Identifier: MIT */
/* golden_long.c -- long and weighted prompts against diffusers' lpw_stable_diffusion.py (golden-more/make_long.py):
 * ids, states of prompt and negative prompt in chunks, the pictures drawn from them. Then what no reference has: of
 * Stable Diffusion XL each text encoder's mean as it was, zeros that stay zeros; chunks that are the same text alone;
 * BREAK; means that say nothing.
 *
 * Tolerances: of states as golden_text.c has them, though each is multiplied by a mean over another, of a thousandth
 * of the values' size and summed in f32 there; pictures within 1/255 on 99.9 % of their values, as golden_run.c has
 * it. */
#include "src/models/latent.h"
#include "src/models/prompt_states.h"
#include "src/models/sampler.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

enum { CHUNKS = 3 };

static const Weights *golden;
static PromptEncoder *encoder;
static PromptStates *states;
static int S, E, P;

static int said(const char *name)
{
    return atoi(json_string_value(json_object_get(weights_metadata(golden), name)));
}

static void open_model(const char *path, int chunks, bool weights)
{
    die_if(prompt_encoder_load(&encoder, test_path(path), F32, 0, T5_USUAL_TOKENS, &err)
           || prompt_states_create(&states, encoder, chunks, 2, weights, &err));
    S = prompt_encoder_length(encoder);
    E = prompt_encoder_width(encoder);
    P = prompt_encoder_pooled(encoder);
}

static void close_model(void)
{
    prompt_states_free(states);
    prompt_encoder_free(encoder);
}

/* The state of a text in `chunks` chunks, 0: as many as it has; the caller's. */
static float *state_of(const char *text, TextKind kind, int chunks, PromptText *t, float *pooled)
{
    die_if(prompt_states_add(states, t, text, kind, false, &err) || prompt_states_encode(states, &err));
    chunks = chunks ? chunks : t->chunks;
    float *state = malloc(sizeof *state*(size_t)(chunks*S*E)), none[1];
    die_if(!state);
    prompt_states_join(states, t, chunks, state, pooled ? pooled : none);
    free(t->weight);                /* what else it says is looked at */
    return state;
}

/* ---- against the recorded ---- */

static int near(const char *kind, int n, const float *state)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%d", kind, n);
    const Weight *want = tensor(golden, name);
    const int rows = (int)want->dim[0], every = said("every"), first = said("first");
    float *got = malloc(sizeof *got*(size_t)(rows*E));
    for (int i = 0; i < rows; i++)
        memcpy(got + i*E, state + (first + i*every)*E, sizeof *got*(size_t)E);
    const int failed = test_below(name, range_error(got, want->data, (size_t)(rows*E)), 1e-4);
    free(got);
    return failed;
}

static int drawn(int n, int tokens, float *state, float *uncond)
{
    char name[80];
    Sampler *s = NULL;
    Vae *v = NULL;
    char model[1024];
    snprintf(model, sizeof model, "%s", test_path("../data/minisd/model"));
    const SamplerOptions o = {.model = model, .type = F32, .steps = said("steps"), .guidance = said("guidance"),
                              .batch = 1};
    die_if(sampler_create(&s, &o, &err) || vae_load(&v, model, F32, &err));
    CondItem item = {.seed = (uint64_t)said("seed"), .S = tokens, .state = state, .uncond = uncond};
    const CondBatch batch = {.E = E, .uncond = uncond, .item = &item, .count = 1};
    const size_t picture = (size_t)s->C*s->H*s->W;
    snprintf(name, sizeof name, "image.%d", n);
    const Weight *image = tensor(golden, name);
    const size_t pixels = weight_count(image);
    float *latent = malloc(sizeof *latent*picture), *rows = malloc(sizeof *rows*picture);
    float *decoded = malloc(sizeof *decoded*pixels);
    uint8_t *u8 = malloc(pixels);
    die_if(sampler_run(s, &batch, latent, NULL, NULL, &err));
    latent_to_rows(rows, latent, s->C, (size_t)s->H*s->W);
    die_if(vae_decode(v, rows, 1, s->H, s->W, decoded, &err));
    vae_to_u8(u8, decoded, (int64_t)pixels);
    size_t far = 0;
    for (size_t i = 0; i < pixels; i++)
        far += abs(u8[i] - ((const uint8_t *)image->data)[i]) > 1;
    snprintf(name, sizeof name, "latent.%d", n);
    int failed = test_below(name, relative_l2(latent, tensor(golden, name)->data, picture), 1e-3);
    printf("  picture within 1/255 on %.4f %% of its values (limit 99.9)\n",
           100.0*(double)(pixels - far)/(double)pixels);
    failed += test_ok("picture", 1000*far <= pixels);
    free(latent);
    free(rows);
    free(decoded);
    free(u8);
    sampler_free(s);
    vae_free(v);
    return failed;
}

static int test_one(int n, const json_t *text)
{
    const char *prompt = json_string_value(json_object_get(text, "prompt"));
    const char *negative = json_string_value(json_object_get(text, "negative"));
    PromptText t, u;
    char name[80];
    die_if(prompt_states_add(states, &t, prompt, TEXT_PROMPT, false, &err)
           || prompt_states_add(states, &u, negative, TEXT_NEGATIVE, false, &err)
           || prompt_states_encode(states, &err));
    const int chunks = t.chunks > u.chunks ? t.chunks : u.chunks, tokens = chunks*S;
    int32_t ids[CHUNKS*77];
    float *state = malloc(sizeof *state*(size_t)(tokens*E)), *uncond = malloc(sizeof *uncond*(size_t)(tokens*E));
    float none[1];
    prompt_states_tokens(states, &t, chunks, ids);
    prompt_states_join(states, &t, chunks, state, none);
    prompt_states_join(states, &u, chunks, uncond, none);
    snprintf(name, sizeof name, "ids.%d", n);
    const Weight *want = tensor(golden, name);
    int failed = test_ok("chunks", want->dim[0] == tokens);
    failed += test_same(name, ids, want->data, sizeof *ids*(size_t)tokens);
    failed += near("state", n, state) + near("uncond", n, uncond);
    if (json_is_true(json_object_get(text, "drawn")))
        failed += drawn(n, tokens, state, uncond);
    prompt_text_clear(&t);
    prompt_text_clear(&u);
    prompt_states_next(states);
    free(state);
    free(uncond);
    return failed;
}

static int test_recorded(void)
{
    json_t *texts = json_loads(json_string_value(json_object_get(weights_metadata(golden), "texts")), 0, NULL);
    const json_t *text;
    size_t n;
    int failed = 0;
    open_model("../data/minisd/model", CHUNKS, true);
    json_array_foreach(texts, n, text)
        failed += test_one((int)n, text);
    close_model();
    json_decref(texts);
    return failed;
}

/* ---- by themselves ---- */

/* Words of which minisd's tokenizer makes a token each: 75 are a chunk. */
#define FIVE "red red red red red "
#define TWENTY FIVE FIVE FIVE FIVE

static int test_chunks(void)
{
    PromptText t;
    open_model("../data/minisd/model", 2, true);
    const size_t chunk = sizeof(float)*(size_t)(S*E);
    float *fish = state_of("a fish", TEXT_PROMPT, 0, &t, NULL), *empty = state_of("", TEXT_PROMPT, 0, &t, NULL);
    float *two = state_of("a fish", TEXT_PROMPT, 2, &t, NULL);
    float *part = state_of("a fish BREAK a fish", TEXT_PROMPT, 2, &t, NULL);
    int failed = test_same("a text padded by a chunk", two, fish, chunk);
    failed += test_same("which is the empty text's", two + S*E, empty, chunk);
    failed += test_ok("BREAK makes two chunks", t.chunks == 2 && t.left == 0);
    failed += test_same("of a text each", part, fish, chunk) + test_same("the second too", part + S*E, fish, chunk);
    free(part);
    part = state_of("a fish BREAK BREAK a cat", TEXT_PROMPT, 0, &t, NULL);
    failed += test_ok("a third chunk is cut", t.chunks == 2 && t.left == 2);
    failed += test_same("two BREAKs have an empty one between them", part + S*E, empty, chunk);
    free(part);
    prompt_states_next(states);

    float *full = state_of(TWENTY TWENTY TWENTY FIVE FIVE FIVE "BREAK", TEXT_PROMPT, 0, &t, NULL);
    failed += test_ok("a full chunk", t.chunks == 1 && t.left == 0);
    float *more = state_of(TWENTY TWENTY TWENTY TWENTY, TEXT_PROMPT, 0, &t, NULL);
    failed += test_ok("five tokens more", t.chunks == 2 && t.left == 0);
    failed += test_same("after the same chunk", more, full, chunk);
    prompt_states_next(states);

    /* weights whose mean has another sign, or is a hundred times as large: states are weighted and no more */
    float *wild = state_of("(a fish:-100)", TEXT_PROMPT, 0, &t, NULL);
    failed += test_same("not scaled: the start", wild, fish, sizeof(float)*(size_t)E);
    int same = 1;
    for (int i = E; i < 3*E; i++)
        same &= wild[i] == fish[i]*-100;
    failed += test_ok("not scaled: what is weighted", same);
    free(wild);
    wild = state_of("(a fish)", TEXT_PROMPT, 0, &t, NULL);
    failed += test_ok("scaled: the start", memcmp(wild, fish, sizeof(float)*(size_t)E) != 0);
    float *ones[] = {fish, empty, two, full, more, wild};
    for (size_t i = 0; i < sizeof ones/sizeof *ones; i++)
        free(ones[i]);
    close_model();
    return failed;
}

/* Mean of columns [at, at + width) */
static double mean_of(const float *x, int rows, int at, int width)
{
    double sum = 0;
    for (int n = 0; n < rows; n++)
        for (int k = at; k < at + width; k++)
            sum += (double)x[n*E + k];
    return sum/rows/width;
}

static int test_xl(void)
{
    static const char plain[] = "a red tower, two towers in the rain, and a fish that is far away from all of them";
    static const char weighted[] = "a (red:1.5) tower, two towers in the [rain], and a (fish that:0.7) is far away "
                                   "from all of them";
    PromptText t;
    open_model("golden-more/sdxl", 4, true);
    float pooled[3][32];
    float *x = state_of(plain, TEXT_PROMPT, 0, &t, pooled[0]);
    const int chunks = t.chunks, rows = chunks*S, first = prompt_encoder_columns(encoder, 0);
    float *y = state_of(weighted, TEXT_PROMPT, 0, &t, pooled[1]);
    int failed = test_ok("sdxl: several chunks", chunks > 1 && t.chunks == chunks);
    failed += test_ok("sdxl: weights move the state", memcmp(x, y, sizeof *x*(size_t)(rows*E)) != 0);
    failed += test_below("sdxl: mean of the first encoder's columns",
                         fabs(mean_of(y, rows, 0, first)/mean_of(x, rows, 0, first) - 1), 1e-5);
    failed += test_below("sdxl: of the second's", fabs(mean_of(y, rows, first, E - first)
                                                       /mean_of(x, rows, first, E - first) - 1), 1e-5);
    failed += test_same("sdxl: the pooled embedding is not weighted", pooled[1], pooled[0], sizeof *x*(size_t)P);
    free(y);
    y = state_of("a red tower BREAK fish", TEXT_PROMPT, 0, &t, pooled[2]);
    float *alone = state_of("a red tower", TEXT_PROMPT, 0, &t, pooled[0]);
    failed += test_same("sdxl: it is the first chunk's", pooled[2], pooled[0], sizeof *x*(size_t)P);
    float *zeros = state_of("", TEXT_NEGATIVE, 3, &t, pooled[0]);
    int zero = 1;
    for (int i = 0; i < 3*S*E; i++)
        zero &= zeros[i] == 0;
    failed += test_ok("sdxl: three chunks of zeros", zero);
    free(x);
    free(y);
    free(alone);
    free(zeros);
    close_model();
    return failed;
}

/* ---- lengths in turn ---- */

/* StepFn */
static int count_step(void *context, Sampler *s, Err *e)
{
    (void)s, (void)e;
    ++*(int *)context;
    return 0;
}

/* A batch of two lengths in turn is drawn in two runs, each picture as by itself. */
static int test_runs(void)
{
    enum { PICTURES = 5, STEPS = 2, WIDTH = 128 };
    char model[1024];
    Sampler *s = NULL;
    CondItem item[PICTURES];
    float state[2*77*WIDTH];
    int steps = 0, failed = 0;
    for (int i = 0; i < 2*77*WIDTH; i++)
        state[i] = (float)sin(0.37*i);
    for (int i = 0; i < PICTURES; i++)
        item[i] = (CondItem){.seed = (uint64_t)i, .S = i%2 ? 2*77 : 77, .state = state, .uncond = state};
    snprintf(model, sizeof model, "%s", test_path("../data/minisd/model"));
    const SamplerOptions o = {.model = model, .type = F32, .steps = STEPS, .guidance = 3, .batch = PICTURES};
    die_if(sampler_create(&s, &o, &err));
    const size_t picture = (size_t)s->C*s->H*s->W;
    float *all = malloc(sizeof *all*picture*PICTURES), *alone = malloc(sizeof *alone*picture);
    CondBatch batch = {.E = WIDTH, .item = item, .count = PICTURES};
    die_if(sampler_run(s, &batch, all, count_step, &steps, &err));
    failed += test_ok("two lengths in turn: two runs", steps == 2*STEPS);
    for (int i = 0; i < PICTURES; i++) {
        batch = (CondBatch){.E = WIDTH, .item = &item[i], .count = 1};
        die_if(sampler_run(s, &batch, alone, NULL, NULL, &err));
        failed += test_same("a picture among others", all + picture*i, alone, sizeof *alone*picture);
    }
    free(all);
    free(alone);
    sampler_free(s);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&w, test_path("golden-more/long.safetensors"), &err));
    golden = w;
    const int failed = test_recorded() + test_chunks() + test_xl() + test_runs();
    weights_close(w);
    return failed != 0;
}
