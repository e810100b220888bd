/* SPDX-License-Identifier: MIT */
/* golden_run.c -- whole runs against diffusers: text, noise, every hooked step, the picture.
 *
 * tests/golden/run0, run1.safetensors (DDIM), golden-more/dpm_run.safetensors (DPM-Solver++(2M), Karras) and
 * euler_run.safetensors (Euler, ancestral): recorded with diffusers in float32. Activations may differ by 1e-3 in
 * relative L2 at each step (rounding differences grow along the run), the picture by 1/255 on 99.9 % of its values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "formats/weights.h"
#include "src/models/latent.h"
#include "src/models/sampler.h"
#include "src/models/text_encoder.h"
#include "src/models/tokenizer.h"
#include "src/models/vae.h"
#include "tests/unit/test.h"

typedef struct Watch {              /* relative L2 of each step's activation against the recorded one */
    Sampler *sampler;
    const float *want;              /* (steps, 2, H,W,C) */
    float *got;
    double worst;
    int calls;
} Watch;

static double relative_l2(const float *got, const float *want, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    return sqrt(error / norm);
}

static int watch(void *context, const HookCall *call, Err *e)
{
    Watch *w = context;
    const size_t n = (size_t)(call->B * call->H * call->W) * call->C;
    (void)e;
    w->calls++;
    op->download(w->got, call->act, n * sizeof(float));
    double error = relative_l2(w->got, w->want + n * w->sampler->step, n);
    if (!(error <= w->worst))       /* a NaN is the worst */
        w->worst = error;
    return 0;
}

static int run(const char *file_name, const char *model, Err *e)
{
    char path[4096], label[128];
    snprintf(path, sizeof path, "%s/%s.safetensors", test_golden(), file_name);
    Weights *file = NULL;
    Tokenizer *tokenizer = NULL;
    TextEncoder *encoder = NULL;
    Vae *vae = NULL;
    Sampler *sampler = NULL;
    if (weights_open(&file, path, e) || tokenizer_load(&tokenizer, model, e)
        || text_encoder_load(&encoder, model, 0, F32, e)
        || vae_load(&vae, model, F32, e))
        return -1;
    const json_t *meta = weights_metadata(file);
    const char *name = strrchr(file_name, '/') ? strrchr(file_name, '/') + 1 : file_name;
    const char *method = json_string_value(json_object_get(meta, "sampler"));
    const char *prompt = json_string_value(json_object_get(meta, "prompt"));
    const int S = text_encoder_length(encoder), E = text_encoder_width(encoder);
    SamplerOptions o = {.model = model, .type = F32, .method = strncmp(method, "ddim", 4) == 0 ? "ddim" : method,
                        .steps = atoi(json_string_value(json_object_get(meta, "steps"))),
                        .guidance = atof(json_string_value(json_object_get(meta, "guidance"))), .batch = 1};
    if (sampler_create(&sampler, &o, e))
        return -1;

    int32_t *ids = malloc(sizeof *ids * 2 * S);
    float *states = malloc(sizeof(float) * 2 * S * E);
    if (tokenizer_encode(tokenizer, "", ids, e) < 0 || tokenizer_encode(tokenizer, prompt, ids + S, e) < 0
        || text_encode(encoder, ids, 2, states, e))
        return -1;
    CondItem item = {.S = S, .seed = strtoull(json_string_value(json_object_get(meta, "seed")), NULL, 10),
                     .state = states + (size_t)S*E};
    CondBatch batch = {.E = E, .uncond = states, .item = &item, .count = 1, .capacity = 1};

    const Weight *output = weights_find(file, "hook.output"), *latents = weights_find(file, "latents"),
        *image = weights_find(file, "image");
    Watch w = {.sampler = sampler, .want = output->data, .got = malloc(sizeof(float) * weight_count(output))};
    const char *hook = json_string_value(json_object_get(meta, "hook"));
    if (hooks_add(denoiser_hooks(sampler->denoiser), hook, false, watch, &w, e) != 1)
        return -1;

    const size_t picture = (size_t)sampler->C * sampler->H * sampler->W;
    const size_t pixels = (size_t)image->dim[0] * image->dim[1] * 3;
    float *latent = malloc(picture * sizeof(float)), *rows = malloc(picture * sizeof(float)),
        *drawn = malloc(pixels * sizeof(float));
    uint8_t *u8 = malloc(pixels);
    if (sampler_run(sampler, &batch, latent, NULL, NULL, e))
        return -1;
    latent_to_rows(rows, latent, sampler->C, picture / sampler->C);
    if (vae_decode(vae, rows, 1, sampler->H, sampler->W, drawn, e))
        return -1;
    vae_to_u8(u8, drawn, (int64_t)pixels);

    int failed = 0, near = 0;
    for (int i = 0; i < o.steps; i++)
        failed |= sampler->scheduler->step[i].t != ((const int32_t *)weights_find(file, "timesteps")->data)[i];
    snprintf(label, sizeof label, "%s/timesteps", name);
    failed = test_ok(label, !failed);
    printf("  %s: worst activation of %d steps: relative L2 %.2e (limit 1e-3)\n", name, o.steps, w.worst);
    snprintf(label, sizeof label, "%s/activations", name);
    failed += test_ok(label, w.worst < 1e-3 && w.calls == o.steps);
    const double last = relative_l2(latent, (const float *)latents->data + picture * o.steps, picture);
    printf("  %s: final latent: relative L2 %.2e (limit 1e-3)\n", name, last);
    snprintf(label, sizeof label, "%s/latent", name);
    failed += test_ok(label, last < 1e-3);
    for (size_t i = 0; i < pixels; i++)
        near += abs(u8[i] - ((const uint8_t *)image->data)[i]) <= 1;
    printf("  %s: picture within 1/255 on %.4f %% of its values (limit 99.9)\n", name, 100.0 * near / pixels);
    snprintf(label, sizeof label, "%s/picture", name);
    failed += test_ok(label, near >= 0.999 * pixels);

    free(ids); free(states); free(w.got); free(latent); free(rows); free(drawn); free(u8);
    sampler_free(sampler);
    vae_free(vae);
    text_encoder_free(encoder);
    tokenizer_free(tokenizer);
    weights_close(file);
    return failed;
}

int main(void)
{
    static const char *const runs[] = {"run0", "run1", "../golden-more/dpm_run", "../golden-more/euler_run"};
    Err e = {0};
    int failed = 0;
    char model[4096];
    snprintf(model, sizeof model, "%s/../../data/minisd/model", test_golden());
    if (backend_pick(test_backend(), 0, &e) == 0)
        for (size_t i = 0; i < sizeof runs / sizeof *runs && !e.set; i++)
            failed += run(runs[i], model, &e);
    if (e.set)
        printf("FAIL %s\n", e.text);
    return failed || e.set;
}
