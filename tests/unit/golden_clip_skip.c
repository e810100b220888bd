/* SPDX-License-Identifier: MIT */
/* golden_clip_skip.c -- states of prompts taken some layers of the text encoder earlier, against encode_prompt of
 * diffusers' pipelines with clip_skip (golden-more/make_clip_skip.py): of the small model all numbers of layers, of the
 * tiny Stable Diffusion XL both, whose pooled embedding stays; negative prompts whole; a picture. A layer that a prompt
 * does not go through has no hook, and one that it does sees it.
 *
 * Tolerances: of states as golden_text.c and golden_sdxl.c have them, of the latent as golden_pipeline.c. */
#include "src/models/prompt_states.h"
#include "src/models/sampler.h"
#include "tests/unit/golden.h"

static const Weights *golden;

static const char *said(const char *name)
{
    return json_string_value(json_object_get(weights_metadata(golden), name));
}

typedef struct Encoded {            /* of the prompt and the negative one */
    int S, E, P;
    float *state[2], *pooled[2];
} Encoded;

static void clear(Encoded *x)
{
    for (int k = 0; k < 2; k++) {
        free(x->state[k]);
        free(x->pooled[k]);
    }
}

static int count(void *context, const HookCall *call, Err *e)
{
    (void)call;
    (void)e;
    ++*(int *)context;
    return 0;
}

/* calls: how often hooks of all modules were called. */
static Encoded encode(const char *model, int skip, int *calls)
{
    PromptEncoder *encoder = NULL;
    PromptStates *states = NULL;
    die_if(prompt_encoder_load(&encoder, test_path(model), F32, skip, T5_USUAL_TOKENS, &err)
           || prompt_states_create(&states, encoder, 1, 2, false, &err)
           || hooks_add(prompt_encoder_hooks(encoder), "**", false, count, calls, &err) < 0);
    Encoded x = {.S = prompt_encoder_length(encoder), .E = prompt_encoder_width(encoder),
                 .P = prompt_encoder_pooled(encoder)};
    for (int k = 0; k < 2; k++) {
        PromptText text;
        die_if(prompt_states_add(states, &text, said(k ? "negative" : "prompt"), k ? TEXT_NEGATIVE : TEXT_PROMPT, false,
                                 &err) || prompt_states_encode(states, &err));
        x.state[k] = malloc(sizeof(float)*(size_t)(x.S*x.E));
        x.pooled[k] = malloc(sizeof(float)*(size_t)(x.P + 1));
        prompt_states_join(states, &text, 1, x.state[k], x.pooled[k]);
    }
    prompt_states_free(states);
    prompt_encoder_free(encoder);
    return x;
}

/* Each every-th row of a state against the recorded ones. */
static int near(const char *name, const float *state, int E, int every)
{
    const Weight *want = tensor(golden, name);
    const size_t n = weight_count(want);
    float *got = malloc(sizeof *got*n);
    for (size_t i = 0; i < n/(size_t)E; i++)
        memcpy(got + i*(size_t)E, state + i*(size_t)(every*E), sizeof *got*(size_t)E);
    const int failed = test_below(name, range_error(got, want->data, n), 1e-4);
    free(got);
    return failed;
}

static int test_picture(const Encoded *x)
{
    char model[1024];
    snprintf(model, sizeof model, "%s", test_path("../data/minisd/model"));
    Sampler *s = NULL;
    const SamplerOptions o = {.model = model, .type = F32, .method = "ddim", .steps = atoi(said("steps")),
                              .guidance = atof(said("guidance")), .batch = 1};
    die_if(sampler_create(&s, &o, &err));
    CondItem item = {.seed = strtoull(said("seed"), NULL, 10), .S = x->S, .state = x->state[0], .uncond = x->state[1]};
    const CondBatch batch = {.E = x->E, .uncond = x->state[1], .item = &item, .count = 1};
    const Weight *want = tensor(golden, "latent");
    float *latent = malloc(sizeof *latent*weight_count(want));
    die_if(sampler_run(s, &batch, latent, NULL, NULL, &err));
    const int failed = test_below("latent", relative_l2(latent, want->data, weight_count(want)), 2e-5);
    free(latent);
    sampler_free(s);
    return failed;
}

static int test_small(void)
{
    static const char *const model = "../data/minisd/model";
    const int layers = atoi(said("layers")), every = atoi(said("every")), drawn = atoi(said("skip"));
    int failed = 0;
    for (int skip = 0; skip <= layers; skip++) {
        char name[40];
        int calls = 0;
        Encoded x = encode(model, skip, &calls);
        snprintf(name, sizeof name, "minisd.%d", skip);
        failed += near(name, x.state[0], x.E, every) + near("minisd.uncond", x.state[1], x.E, every)
                + test_ok("  hooks of the layers that prompts go through, and the norm",
                          calls == 2*(layers - skip + 1));
        if (skip == drawn)
            failed += test_picture(&x);
        clear(&x);
    }
    PromptEncoder *p = NULL;
    Err e = {0};
    failed += test_ok("a layer too many",
                      prompt_encoder_load(&p, test_path(model), F32, layers + 1, T5_USUAL_TOKENS, &e) == -1 && !p
                      && strstr(e.text, "layers to skip"));
    return failed;
}

/* Encoders of 2 and of 3 layers, whose last one's gives the pooled embedding alone. */
static int test_xl(void)
{
    static const char *const model = "golden-more/sdxl";
    int failed = 0;
    for (int skip = 0; skip < 2; skip++) {
        char name[40];
        int calls = 0;
        Encoded x = encode(model, skip, &calls);
        snprintf(name, sizeof name, "sdxl.%d", skip);
        failed += near(name, x.state[0], x.E, 1) + near("uncond", x.state[1], x.E, 1)
                + near("pooled", x.pooled[0], x.P, 1) + test_ok("  hooks", calls == 2*(1 - skip + 3 + 1));
        clear(&x);
    }
    PromptEncoder *p = NULL;
    Err e = {0};
    failed += test_ok("a layer too many for one of the two",
                      prompt_encoder_load(&p, test_path(model), F32, 2, T5_USUAL_TOKENS, &e) == -1 && !p
                      && strstr(e.text, "2 layers to skip of the 2 of text_encoder"));
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&w, test_path("golden-more/clip_skip.safetensors"), &err));
    golden = w;
    const int failed = test_small() + test_xl();
    weights_close(w);
    return failed != 0;
}
