/* SPDX-License-Identifier: MIT */
/* golden_text_steer.c -- text encoders' layers against transformers with torch hooks (golden-more/make_text_steer.py):
 * what is captured of minisd's and of both of Stable Diffusion XL's, and states of prompts steered through an
 * autoencoder. Then what no reference has: negative prompts are steered or left as --half says.
 *
 * Tolerances: those of golden_text.c; a steered state's are larger by what the top-k choice between near values
 * adds. */
#include <string.h>
#include "src/models/text_capture.h"
#include "src/models/text_steering.h"
#include "tests/unit/golden.h"

enum { PROMPTS = 3 };

static const Weights *golden;
static json_t *prompts;
static int stride;

static json_t *said(const char *name)
{
    json_t *value = json_loads(json_string_value(json_object_get(weights_metadata(golden), name)), 0, NULL);
    die_if(value ? 0 : err_set(&err, "text_steer: no %s", name));
    return value;
}

/* Whether a golden tensor is each stride-th row of got (rows,E). */
static int near(const char *name, const float *got, int64_t rows, double limit)
{
    const Weight *want = tensor(golden, name);
    const int64_t E = want->dim[1];
    float *picked = malloc(sizeof *picked*(size_t)weight_count(want));
    for (int64_t i = 0; i < want->dim[0]; i++)
        memcpy(picked + E*i, got + E*stride*i, sizeof *picked*(size_t)E);
    const double error = relative_l2(picked, want->data, weight_count(want));
    char line[80];
    free(picked);
    snprintf(line, sizeof line, "%s, off by %.1e", name, error);
    return test_ok(line, (want->dim[0] - 1)*stride < rows && error <= limit);
}

static void add_prompts(PromptStates *states, PromptText *text, TextKind kind)
{
    for (int i = 0; i < PROMPTS; i++) {
        const char *prompt = json_string_value(json_array_get(prompts, (size_t)i));
        die_if(prompt_states_add(states, &text[i], prompt, kind, false, &err));
    }
}

/* ---- capture ---- */

/* What was kept of the prompts is `at` values into each chunk's. */
static int check_site(const PromptStates *states, const PromptText *text, const char *name, int m, int S, int E,
                      size_t at)
{
    char full[32];
    const size_t size = (size_t)(S - 1)*(size_t)E;
    float *all = malloc(sizeof *all*size*PROMPTS);
    for (int i = 0; i < PROMPTS; i++)
        memcpy(all + size*(size_t)i, prompt_states_watched(states, &text[i], 0) + at, sizeof *all*size);
    snprintf(full, sizeof full, "%s.%d", name, m);
    const int failed = near(full, all, (int64_t)PROMPTS*(S - 1), 2e-5);
    free(all);
    return failed;
}

static int check_capture(const char *path, int first, int count, Take take)
{
    PromptEncoder *encoder;
    PromptStates *states;
    TextCapture *capture;
    PromptText text[PROMPTS] = {0};
    char patterns[2][80];
    const char *pattern[] = {patterns[0], patterns[1]};
    json_t *layers = said("layers");
    int failed = 0;
    die_if(prompt_encoder_load(&encoder, test_path(path), F32, 0, T5_USUAL_TOKENS, &err)
           || prompt_states_create(&states, encoder, 1, PROMPTS, false, &err));
    for (int i = 0; i < count; i++)
        snprintf(patterns[i], sizeof patterns[i], "text_encoder%s.text_model.encoder.layers.%d", i ? "_2" : "",
                 (int)json_integer_value(json_array_get(layers, (size_t)(first + i))));
    const TextCaptureOptions o = {.patterns = pattern, .pattern_count = count, .take = take, .type = F32};
    die_if(text_capture_create(&capture, encoder, states, &o, &err));
    add_prompts(states, text, TEXT_PROMPT);
    die_if(prompt_states_encode(states, &err));
    const int S = prompt_encoder_length(encoder);
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        const int E = prompt_encoder_columns(encoder, i);
        failed += check_site(states, text, take == TAKE_DIFF ? "diff" : "layer", first + i, S, E, at);
        at += (size_t)(S - 1)*(size_t)E;
    }
    text_capture_free(capture);
    prompt_states_free(states);
    prompt_encoder_free(encoder);
    json_decref(layers);
    return failed;
}

/* ---- steering ---- */

typedef struct Bench {
    PromptEncoder *encoder;
    PromptStates *states;
    TextSteering *steering;
    Variants variants;
    PromptText text[PROMPTS], negative[PROMPTS];
    int32_t feature[8];
    float value[8];
    int features;
} Bench;

static void open_bench(Bench *b, const char *take, SteerMode mode, Half half)
{
    char folder[512];
    const char *sae = folder;
    json_t *all = said("features"), *mine = json_object_get(all, take);
    Variant *variant = calloc(1, sizeof *variant);
    *b = (Bench){.features = (int)json_array_size(mine)};
    for (int i = 0; i < b->features; i++) {
        b->feature[i] = (int32_t)json_integer_value(json_array_get(json_array_get(mine, (size_t)i), 0));
        b->value[i] = (float)json_number_value(json_array_get(json_array_get(mine, (size_t)i), 1));
    }
    json_decref(all);
    snprintf(folder, sizeof folder, "%s/%s", test_path("golden-more/text_sae"), take);
    const SteerInputs in = {.saes = &sae, .sae_count = 1, .feature = b->feature, .value = b->value,
                            .feature_count = b->features, .type = F32};
    *variant = (Variant){.mode = mode, .percentile = 99, .when = T_RANGE_ALL};
    b->variants = (Variants){variant, 1};
    die_if(prompt_encoder_load(&b->encoder, test_path("../data/minisd/model"), F32, 0, T5_USUAL_TOKENS, &err)
           || prompt_states_create(&b->states, b->encoder, 1, 2*PROMPTS, false, &err)
           || text_steering_create(&b->steering, b->encoder, b->states, &in, half, &err)
           || text_steering_plan(b->steering, &b->variants, &err));
    add_prompts(b->states, b->text, TEXT_PROMPT);
    add_prompts(b->states, b->negative, TEXT_NEGATIVE);
}

static void close_bench(Bench *b)
{
    prompt_states_free(b->states);
    prompt_encoder_free(b->encoder);
    text_steering_free(b->steering);
    variants_free(&b->variants);
}

/* All states of prompts or negative prompts, encoded anew; the caller's. */
static float *encode(Bench *b, bool negative)
{
    const int S = prompt_encoder_length(b->encoder), E = prompt_encoder_width(b->encoder);
    const PromptText *text = negative ? b->negative : b->text;
    float *all = malloc(sizeof *all*(size_t)(PROMPTS*S*E)), none[1];
    die_if(prompt_states_encode(b->states, &err));
    for (int i = 0; i < PROMPTS; i++)
        prompt_states_join(b->states, &text[i], 1, all + (size_t)S*(size_t)E*(size_t)i, none);
    return all;
}

static int check_steering(const char *name, const char *take, SteerMode mode)
{
    Bench b;
    open_bench(&b, take, mode, HALF_COND);
    const int S = prompt_encoder_length(b.encoder);
    const size_t n = (size_t)(PROMPTS*S)*(size_t)prompt_encoder_width(b.encoder);
    float *plain = encode(&b, false), *other = encode(&b, true);
    die_if(text_steering_select(b.steering, 0, &err));
    float *steered = encode(&b, false), *left = encode(&b, true);
    int failed = near(name, steered, (int64_t)PROMPTS*S, 5e-5);
    failed += test_ok("the steering changes much", relative_l2(steered, plain, n) > 0.01);
    failed += test_same("negative prompts are left", left, other, n*sizeof *left);
    free(plain);
    free(other);
    free(steered);
    free(left);
    close_bench(&b);
    return failed;
}

static int check_half(void)
{
    Bench cond, uncond;
    open_bench(&cond, "output", STEER_ADD, HALF_COND);
    open_bench(&uncond, "output", STEER_ADD, HALF_UNCOND);
    const size_t n = (size_t)(PROMPTS*prompt_encoder_length(cond.encoder))*(size_t)prompt_encoder_width(cond.encoder);
    float *plain = encode(&uncond, false);
    die_if(text_steering_select(cond.steering, 0, &err) || text_steering_select(uncond.steering, 0, &err));
    float *steered = encode(&cond, false), *negative = encode(&uncond, true), *left = encode(&uncond, false);
    int failed = test_same("half uncond leaves prompts", left, plain, n*sizeof *left);
    failed += test_same("half uncond steers negative ones alike", negative, steered, n*sizeof *negative);
    free(plain);
    free(steered);
    free(negative);
    free(left);
    close_bench(&cond);
    close_bench(&uncond);
    return failed;
}

int main(void)
{
    Weights *file;
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&file, test_path("golden-more/text_steer.safetensors"), &err));
    golden = file;
    prompts = said("prompts");
    stride = atoi(json_string_value(json_object_get(weights_metadata(golden), "rows")));
    int failed = 0;
    for (int take = TAKE_OUTPUT; take <= TAKE_DIFF; take += TAKE_DIFF - TAKE_OUTPUT) {
        failed += check_capture("../data/minisd/model", 0, 1, (Take)take);
        failed += check_capture("golden-more/sdxl", 1, 2, (Take)take);
    }
    failed += check_steering("ablate", "output", STEER_ABLATE);
    failed += check_steering("add", "output", STEER_ADD);
    failed += check_steering("set", "output", STEER_SET);
    failed += check_steering("diff", "diff", STEER_ADD);
    failed += check_half();
    json_decref(prompts);
    weights_close(file);
    return failed != 0;
}
