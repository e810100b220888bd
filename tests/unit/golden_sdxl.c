/* SPDX-License-Identifier: MIT */
/* golden_sdxl.c -- Stable Diffusion XL against diffusers, by the tiny model of tests/golden-more/make_sdxl.py: ids of
 * both tokenizers, text states and pooled embeddings, one UNet evaluation, whole runs with and without a negative
 * prompt and without guidance, activations at a nested path, a picture; and that a picture's bytes do not depend on its
 * batch.
 *
 * Tolerances: f32 sums in other orders, as golden_unet.c has them. */
#include "src/models/prompt_chunks.h"
#include "src/models/unet.h"
#include "tests/unit/recorded.h"

enum { TEXTS = 3, BATCH = 4 };      /* texts recorded: a prompt, one that is cut, and nothing */

static const char *model;
static float *state, *pooled, *told_state, *told_pooled;        /* of TEXTS texts, of the negative one */
static int S, E, P;

static int test_texts(void)
{
    PromptEncoder *p = NULL;
    json_t *texts = json_loads(said("texts"), 0, NULL);
    die_if(prompt_encoder_load(&p, model, F32, 0, T5_USUAL_TOKENS, &err));
    S = prompt_encoder_length(p);
    E = prompt_encoder_width(p);
    P = prompt_encoder_pooled(p);
    const int I = prompt_encoder_count(p)*S;
    int failed = test_ok("sizes", S == 16 && E == 40 && P == 20 && I == 2*S && prompt_encoder_zeros(p)), same = 1;
    int32_t ids[TEXTS*2*16];
    PromptChunks chunk = {0};
    die_if(prompt_chunks_create(&chunk, p, 1, &err));
    state = malloc(sizeof(float)*TEXTS*S*E);
    pooled = malloc(sizeof(float)*TEXTS*P);
    told_state = malloc(sizeof(float)*S*E);
    told_pooled = malloc(sizeof(float)*P);
    for (int i = 0; i < TEXTS; i++) {
        die_if(prompt_chunks_read(&chunk, json_string_value(json_array_get(texts, i)), false, &err));
        memcpy(ids + i*I, chunk.ids, I*sizeof *ids);
        same &= memcmp(ids + i*I, (const int32_t *)tensor(golden, "ids.1")->data + i*S, S*sizeof *ids) == 0;
        same &= memcmp(ids + i*I + S, (const int32_t *)tensor(golden, "ids.2")->data + i*S, S*sizeof *ids) == 0;
    }
    failed += test_ok("ids of both tokenizers", same);
    die_if(prompt_encode(p, ids, TEXTS, false, state, pooled, &err));
    failed += near("states", state, "state", 0) + near("pooled embeddings", pooled, "pooled", 0);
    die_if(prompt_encode(p, ids + I, 1, false, told_state, told_pooled, &err));
    failed += test_same("a text's state whatever its neighbours", told_state, state + S*E, sizeof(float)*S*E);
    failed += test_same("and its pooled embedding", told_pooled, pooled + P, sizeof(float)*P);
    die_if(prompt_chunks_read(&chunk, said("negative"), false, &err)
           || prompt_encode(p, chunk.ids, 1, false, told_state, told_pooled, &err));
    prompt_chunks_clear(&chunk);
    json_decref(texts);
    prompt_encoder_free(p);
    return failed;
}

static int test_evaluation(void)
{
    const Weight *x = tensor(golden, "x");
    const int H = (int)x->dim[2], W = (int)x->dim[3];
    const size_t bytes = sizeof(float)*weight_count(x);
    const int32_t index[] = {0, 1}, turned[] = {1, 0};
    float *rows = rows_of(x->data, 2, 4, H*W), *eps = malloc(bytes), *again = malloc(bytes);
    float *dx = op->alloc(bytes, &err), *dy = op->alloc(bytes, &err);
    UNet *u = NULL;
    Err e = {0};
    die_if(unet_load(&u, model, F32, op->residual, &err) || unet_set_text(u, state, 2, S, index, 2, &err));
    int failed = test_ok("the pooled embedding is asked for", unet_eval(u, dy, dx, 2, H, W, 500, &e) == -1
                         && strstr(e.text, "without its pooled embedding"));
    die_if(unet_set_added(u, pooled, 8*H, 8*W, &err));
    op->upload(dx, rows, bytes);
    for (int i = 0; i < 3; i++)                         /* run, taken down, played */
        die_if(unet_eval(u, dy, dx, 2, H, W, 500, &err));
    op->download(rows, dy, bytes);
    to_planes(eps, rows, 2, 4, H*W);
    failed += near("evaluation", eps, "eps", 0);

    /* texts in the other order, by an index that turns them round again */
    float both[2*16*40], two[2*20];
    memcpy(both, state + S*E, sizeof(float)*S*E);
    memcpy(both + S*E, state, sizeof(float)*S*E);
    memcpy(two, pooled + P, sizeof(float)*P);
    memcpy(two + P, pooled, sizeof(float)*P);
    die_if(unet_set_text(u, both, 2, S, turned, 2, &err) || unet_set_added(u, two, 8*H, 8*W, &err)
           || unet_eval(u, dy, dx, 2, H, W, 500, &err));
    op->download(rows, dy, bytes);
    to_planes(again, rows, 2, 4, H*W);
    failed += test_same("texts by index", again, eps, bytes);
    die_if(unet_set_added(u, two, 8*W, 8*H, &err) || unet_eval(u, dy, dx, 2, H, W, 500, &err));
    op->download(rows, dy, bytes);
    to_planes(again, rows, 2, 4, H*W);
    failed += test_ok("height and width are told apart", memcmp(again, eps, bytes) != 0);
    op->free(dx);
    op->free(dy);
    free(rows);
    free(eps);
    free(again);
    unet_free(u);
    return failed;
}

static Sampler *sampler(double guidance)
{
    Sampler *s = NULL;
    const SamplerOptions o = {.model = model, .type = F32, .steps = atoi(said("steps")), .guidance = guidance,
                              .batch = BATCH, .height = atoi(said("height"))/8, .width = atoi(said("width"))/8};
    die_if(sampler_create(&s, &o, &err));
    return s;
}

/* Of the first text: no negative prompt, one of the record's own, or no guidance; in a batch of others, and alone. */
static int test_run(const char *name, double guidance, bool told)
{
    Sampler *s = sampler(guidance);
    const size_t picture = (size_t)s->C*s->H*s->W, last = picture*s->options.steps;
    const Weight *hook = tensor(golden, "guided.hook");
    const bool first = strcmp(name, "guided") == 0;
    char label[80], recorded[40];
    float *zeros = calloc((size_t)S*E, sizeof *zeros), *latents = malloc(sizeof(float)*BATCH*picture),
        *alone = malloc(sizeof(float)*picture), *seen = malloc(sizeof(float)*weight_count(hook));
    const uint64_t seed = strtoull(said("seed"), NULL, 10);
    CondItem one = {.seed = seed, .S = S, .state = state, .pooled = pooled};
    if (told) {
        one.uncond = told_state;
        one.uncond_pooled = told_pooled;
    }
    CondItem item[BATCH];
    CondBatch batch = {.E = E, .P = P, .uncond = zeros, .uncond_pooled = zeros, .item = &one, .count = 1};
    die_if(sampler_run(s, &batch, alone, NULL, NULL, &err));
    snprintf(label, sizeof label, "%s: final latent", name);
    snprintf(recorded, sizeof recorded, "%s.latents", name);
    int failed = near(label, alone, recorded, last);

    for (int i = 0; i < BATCH; i++)         /* the third of texts of other lengths, some with a negative of their own */
        item[i] = i == 2 ? one : (CondItem){.seed = (uint64_t)i, .S = S, .state = state + (size_t)i%TEXTS*S*E,
                                            .pooled = pooled + (size_t)i%TEXTS*P,
                                            .uncond = i == 1 ? told_state : NULL, .uncond_pooled = told_pooled};
    batch.item = item;
    batch.count = BATCH;
    for (int i = 0; i < 2; i++) {
        die_if(sampler_run(s, &batch, latents, NULL, NULL, &err));
        snprintf(label, sizeof label, "%s: a picture's bytes whatever its batch, %d", name, i);
        failed += test_same(label, latents + 2*picture, alone, sizeof(float)*picture);
    }
    if (first) {
        Watch w = {s, seen};
        die_if(hooks_add(denoiser_hooks(s->denoiser), said("hook"), false, watch, &w, &err) != 1);
        batch.item = &one;
        batch.count = 1;
        die_if(sampler_run(s, &batch, latents, NULL, NULL, &err));
        failed += near("guided: activations", seen, "guided.hook", 0) + test_picture(model, alone, "guided.image");
    }
    free(zeros);
    free(latents);
    free(alone);
    free(seen);
    sampler_free(s);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", test_path("golden-more/sdxl"));
    model = folder;
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&w, test_path("golden-more/sdxl.safetensors"), &err));
    golden = w;
    const double guidance = atof(said("guidance"));
    int failed = test_texts() + test_evaluation();
    failed += test_run("guided", guidance, false) + test_run("told", guidance, true) + test_run("alone", 1, false);
    free(state);
    free(pooled);
    free(told_state);
    free(told_pooled);
    weights_close(w);
    return failed != 0;
}
