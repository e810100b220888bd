/* SPDX-License-Identifier: MIT */
/* golden_pipeline.c -- whole runs of samplers pndm, lcm and unipc against StableDiffusionPipeline with PNDMScheduler,
 * LCMScheduler and UniPCMultistepScheduler, with the small model, of lcm also with a UNet that is told its guidance.
 *
 * golden-more/pndm_runs.safetensors: final latents of runs of some steps each, with and without Runge-Kutta steps, with
 * and without guidance, of epsilon and of v, each by a scheduler_config.json of its own; recorded with diffusers in
 * float32. Timesteps must be equal. Latents may differ by 2e-5 in relative L2: they did by up to 5e-6 with guidance 4,
 * 2.7 times what DDIM does over as many steps (in diffusers f32 is 2.9 times as far from f64), since the outputs before
 * are weighted by up to 6.7 in all; by 1e-5 with guidance 7.5. lcm_runs.safetensors and unipc_runs.safetensors
 * are the same of those; runs of lcm that have a LoRA are sd-convert.bats's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/json_file.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sampler.h"
#include "src/models/text_encoder.h"
#include "src/models/tokenizer.h"
#include "tests/unit/test.h"
#include "tests/unit/timesteps.h"

enum { ROOM = 4200 };               /* of a path */
static char folder[] = "/tmp/golden_pipeline.XXXXXX";
static const char *const parts[] = {"unet", "vae", "text_encoder", "tokenizer", "model_index.json"};
enum { PARTS = sizeof parts/sizeof *parts };

/* folder/unet: the small model's, or that of golden-more/NAME. */
static int link_unet(const char *model, const char *name)
{
    char from[ROOM], to[128];
    snprintf(from, sizeof from, "%s/unet", model);
    if (name) {
        char more[64];
        snprintf(more, sizeof more, "golden-more/%s/unet", name);
        char *whole = realpath(test_path(more), NULL);
        snprintf(from, sizeof from, "%s", whole ? whole : more);
        free(whole);
    }
    snprintf(to, sizeof to, "%s/unet", folder);
    unlink(to);
    return symlink(from, to);
}

/* The small model in `folder`, but for its scheduler. */
static int link_model(const char *model)
{
    char from[ROOM], to[128];
    int failed = !mkdtemp(folder);
    for (int i = 0; i < PARTS && !failed; i++) {
        snprintf(from, sizeof from, "%s/%s", model, parts[i]);
        snprintf(to, sizeof to, "%s/%s", folder, parts[i]);
        failed = symlink(from, to);
    }
    snprintf(to, sizeof to, "%s/scheduler", folder);
    return failed || mkdir(to, 0777);
}

static void unlink_model(void)
{
    char path[128];
    for (int i = 0; i < PARTS; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, parts[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/scheduler", folder);
    rmdir(path);
    rmdir(folder);
}

/* Draws the batch of one picture: latents as recorded in want (C,H,W). */
static int check_run(const json_t *run, const char *method, const CondBatch *batch, const Weight *want, Err *e)
{
    char path[128], name[128];
    const json_t *config = json_object_get(run, "config");
    const char *prediction = json_string_value(json_object_get(config, "prediction_type"));
    const size_t picture = weight_count(want);
    const float *x = want->data;
    const bool karras = json_is_true(json_object_get(config, "use_karras_sigmas"));
    SamplerOptions o = {.model = folder, .type = F32, .method = karras ? "unipc-karras" : method, .batch = 1,
                        .steps = (int)json_integer_value(json_object_get(run, "steps")),
                        .guidance = json_number_value(json_object_get(run, "guidance"))};
    Sampler *sampler = NULL;
    double error = 0, norm = 0;
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    const bool pndm = strcmp(method, "pndm") == 0;
    snprintf(name, sizeof name, "%s/%d steps%s, guidance %g%s, %s", method, o.steps,
             pndm && !json_is_true(json_object_get(config, "skip_prk_steps")) ? ", Runge-Kutta" : "", o.guidance,
             json_object_get(run, "unet") ? ", told" : "", prediction ? prediction : "epsilon");
    if (json_file_write(path, config, e) || sampler_create(&sampler, &o, e))
        return 1;
    float *drawn = calloc(picture, sizeof *drawn);
    int failed = (size_t)sampler->C*(size_t)sampler->H*(size_t)sampler->W != picture
              || sampler_run(sampler, batch, drawn, NULL, NULL, e);
    for (size_t i = 0; i < picture; i++) {
        error += pow((double)drawn[i] - (double)x[i], 2);
        norm += pow((double)x[i], 2);
    }
    error = sqrt(error/norm);
    printf("  %s: final latent: relative L2 %.2e (limit 2e-5)\n", name, error);
    failed += test_ok(name, error < 2e-5)
            + test_ok("  its timesteps", same_timesteps(sampler->scheduler, json_object_get(run, "timesteps")));
    free(drawn);
    sampler_free(sampler);
    return failed;
}

static int check_all(const char *model, const char *method, Err *e)
{
    char path[64];
    Weights *file = NULL;
    Tokenizer *tokenizer = NULL;
    TextEncoder *encoder = NULL;
    snprintf(path, sizeof path, "golden-more/%s_runs.safetensors", method);
    if (weights_open(&file, test_path(path), e)|| tokenizer_load(&tokenizer, model, e)
        || text_encoder_load(&encoder, model, 0, F32, e))
        return 1;
    const json_t *meta = weights_metadata(file);
    json_t *runs = json_loads(json_string_value(json_object_get(meta, "runs")), 0, NULL);
    const int S = text_encoder_length(encoder), E = text_encoder_width(encoder);
    const size_t state = (size_t)S*(size_t)E;
    int32_t *ids = malloc(sizeof *ids*2*(size_t)S);
    float *states = malloc(sizeof *states*2*state);
    int failed = tokenizer_encode(tokenizer, "", ids, e) < 0
              || tokenizer_encode(tokenizer, json_string_value(json_object_get(meta, "prompt")), ids + S, e) < 0
              || text_encode(encoder, ids, 2, states, e);
    CondItem item = {.S = S, .seed = strtoull(json_string_value(json_object_get(meta, "seed")), NULL, 10),
                     .state = states + state};
    const CondBatch batch = {.E = E, .uncond = states, .item = &item, .count = 1, .capacity = 1};
    for (size_t i = 0; i < json_array_size(runs) && !e->set; i++) {
        char name[8];
        const json_t *run = json_array_get(runs, i);
        snprintf(name, sizeof name, "%zu", i);
        if (json_object_get(run, "lora"))
            continue;
        failed += link_unet(model, json_string_value(json_object_get(run, "unet")))
               || check_run(run, method, &batch, weights_find(file, name), e);
    }
    failed += test_ok("there are runs", json_array_size(runs) > 10);
    json_decref(runs);
    free(ids);
    free(states);
    text_encoder_free(encoder);
    tokenizer_free(tokenizer);
    weights_close(file);
    return failed;
}

int main(void)
{
    Err e = {0};
    char model[4096];
    snprintf(model, sizeof model, "%s", test_path("../data/minisd/model"));
    char *whole = realpath(model, NULL);
    int failed = !whole || link_model(whole) || backend_pick(test_backend(), 0, &e);
    if (!failed)
        failed = check_all(whole, "pndm", &e) + check_all(whole, "lcm", &e) + check_all(whole, "unipc", &e);
    if (e.set || !whole)
        printf("FAIL %s\n", e.set ? e.text : model);
    unlink_model();
    free(whole);
    return failed || e.set;
}
