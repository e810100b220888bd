/* SPDX-License-Identifier: MIT */
/* golden_init.c -- pictures that begin with others, against diffusers' image-to-image pipeline and an inversion taken
 * literally: tests/golden-more/init.safetensors, see make_init.py, and lcm_init.safetensors, see make_lcm.py.
 *
 * Latents agree to 2e-5 relative L2; with an inversion, where small differences of large numbers add up, to 5e-5. Where
 * nothing is pushed the own latent of the picture comes out, bit for bit, and that, too, is the recorded one. A picture
 * in a batch of two, the other of another seed, is the picture alone. */
#include "formats/image.h"
#include "src/models/prompt_encoder.h"
#include "src/models/sampler.h"
#include "src/models/starts.h"
#include "src/models/text_encoder.h"
#include "src/models/tokenizer.h"
#include "tests/unit/golden.h"
#include "tests/unit/timesteps.h"

static const char *model;
static char folder[] = "/tmp/golden-init-XXXXXX";

typedef struct Push {               /* what the hook adds to the conditional half */
    Sampler *sampler;
    double by;
    float *vector;                  /* device (rows,C) */
    size_t size;
} Push;

static int push(void *context, const HookCall *call, Err *e)
{
    Push *p = context;
    const size_t rows = (size_t)(call->H*call->W), image = rows*(size_t)call->C;
    int first, count;
    (void)e;
    if (p->by == 0)
        return 0;
    if (!p->vector) {
        float *host = malloc(image*sizeof *host);
        for (size_t i = 0; i < image; i++)
            host[i] = sinf((float)(i%(size_t)call->C))*(float)p->by;
        die_if(!(p->vector = op->alloc(image*sizeof *host, &err)));
        op->upload(p->vector, host, image*sizeof *host);
        free(host);
    }
    sampler_half(p->sampler, HALF_COND, &first, &count);
    for (int i = first; i < first + count; i++)
        op->add(call->act + image*(size_t)i, p->vector, (int64_t)image);
    return 0;
}

static const char *text_of(const json_t *run, const char *key)
{
    return json_string_value(json_object_get(run, key));
}

static double number_of(const json_t *run, const char *key)
{
    return json_number_value(json_object_get(run, key));
}

static float *draw(Push *p, const CondBatch *batch, size_t picture)
{
    float *latents = calloc(picture*(size_t)batch->count, sizeof *latents);
    const double by = p->by;
    p->by = 0;
    if (p->sampler->options.inversion)
        die_if(sampler_run_plain(p->sampler, batch, latents, NULL, NULL, &err));
    p->by = by;
    die_if(sampler_run(p->sampler, batch, latents, NULL, NULL, &err));
    return latents;
}

static int check_run(const json_t *run, const char *hook, Vae *vae, const CondItem *text, const float *uncond, int E,
                     const Weight *want)
{
    const bool inverted = strcmp(text_of(run, "inversion"), "ddpm") == 0;
    const SamplerOptions o = {.model = model, .type = F32, .method = text_of(run, "sampler"), .batch = 2,
                              .steps = (int)number_of(run, "steps"), .guidance = number_of(run, "guidance"),
                              .strength = number_of(run, "strength"),
                              .inversion = inverted ? INVERSION_DDPM : INVERSION_NONE};
    Sampler *s = NULL;
    Starts *starts = NULL;
    char name[160], path[128];
    snprintf(name, sizeof name, "%s, %d steps, strength %g, guidance %g, picture %s%s, push %g", o.method, o.steps,
             o.strength, o.guidance, text_of(run, "picture"), inverted ? ", inversion" : "", number_of(run, "push"));
    snprintf(path, sizeof path, "%s/%s.png", folder, text_of(run, "picture"));
    die_if(sampler_create(&s, &o, &err) || starts_open(&starts, path, vae, s->C, s->H, s->W, !inverted, &err));
    Push p = {.sampler = s, .by = number_of(run, "push")};
    die_if(hooks_add(denoiser_hooks(s->denoiser), hook, false, push, &p, &err) != 1);
    CondItem items[2] = {*text, *text};
    items[0].seed++;
    items[1].place = 1;
    CondBatch two = {.E = E, .uncond = (float *)uncond, .item = items, .count = 2, .capacity = 2};
    CondBatch one = {.E = E, .uncond = (float *)uncond, .item = items + 1, .count = 1, .capacity = 1};
    die_if(starts_fill(starts, &two, &err));
    const size_t picture = weight_count(want);
    float *both = draw(&p, &two, picture);
    int failed = test_below(name, relative_l2(both + picture, want->data, picture), inverted ? 5e-5 : 2e-5);
    float *alone = draw(&p, &one, picture);
    failed += test_ok("  its timesteps", same_timesteps(s->scheduler, json_object_get(run, "timesteps")))
            + test_same("  alone", alone, both + picture, picture*sizeof *alone);
    if (inverted && number_of(run, "push") == 0)
        failed += test_same("  as it was", alone, items[1].start, picture*sizeof *alone);
    for (int i = 0; i < 2; i++)
        free(items[i].start);
    if (p.vector)
        op->free(p.vector);
    free(both);
    free(alone);
    starts_free(starts);
    sampler_free(s);
    return failed;
}

static void write_picture(const Weights *w, const char *name)
{
    char path[128];
    const Weight *x = tensor(w, name);
    snprintf(path, sizeof path, "%s/%s.png", folder, name);
    die_if(image_write(path, (int)x->dim[1], (int)x->dim[0], 3, x->data, NULL, &err));
}

static void remove_picture(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s.png", folder, name);
    unlink(path);
}

/* A run of pndm that begins late has its first evaluations, of Runge and Kutta's steps, where it begins, and then those
 * of the others. */
static int check_pndm(void)
{
    Scheduler *whole = NULL, *late = NULL;
    die_if(scheduler_load(&whole, model, "ddim", 10, 0.6, &err)
           || scheduler_load(&late, model, "pndm", 10, 0.6, &err));
    bool same = late->steps == whole->steps + 9 && late->step[0].t == whole->step[0].t;
    for (int i = 1; i <= whole->steps - 3 && same; i++)
        same = late->step[late->steps - i].t == whole->step[whole->steps - i].t;
    scheduler_free(whole);
    scheduler_free(late);
    return test_ok("pndm begins late", same);
}

/* All runs of a file, which begin with its pictures. */
static int check_file(const char *file, const char *const *picture, size_t least, const Tokenizer *tokenizer,
                      TextEncoder *encoder, Vae *vae)
{
    Weights *w = NULL;
    die_if(weights_open(&w, test_path(file), &err));
    for (int i = 0; picture[i]; i++)
        write_picture(w, picture[i]);
    const json_t *meta = weights_metadata(w);
    json_t *runs = json_loads(text_of(meta, "runs"), 0, NULL);
    const int S = text_encoder_length(encoder), E = text_encoder_width(encoder);
    int32_t *ids = malloc(sizeof *ids*2*(size_t)S);
    float *states = malloc(sizeof *states*2*(size_t)S*(size_t)E);
    die_if(tokenizer_encode(tokenizer, "", ids, &err) < 0
           || tokenizer_encode(tokenizer, text_of(meta, "prompt"), ids + S, &err) < 0
           || text_encode(encoder, ids, 2, states, &err));
    const CondItem text = {.S = S, .seed = strtoull(text_of(meta, "seed"), NULL, 10),
                           .state = states + (size_t)S*(size_t)E};
    int failed = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        char name[8];
        snprintf(name, sizeof name, "%zu", i);
        failed += check_run(json_array_get(runs, i), text_of(meta, "hook"), vae, &text, states, E, tensor(w, name));
    }
    failed += test_ok("there are runs", json_array_size(runs) >= least);
    for (int i = 0; picture[i]; i++)
        remove_picture(picture[i]);
    json_decref(runs);
    free(ids);
    free(states);
    weights_close(w);
    return failed;
}

int main(void)
{
    Tokenizer *tokenizer = NULL;
    TextEncoder *encoder = NULL;
    Vae *vae = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_path("../data/minisd/model"));
    model = path;
    die_if(!mkdtemp(folder) || backend_pick(test_backend(), 0, &err)
           || tokenizer_load(&tokenizer, model, &err) || text_encoder_load(&encoder, model, 0, F32, &err)
           || vae_load(&vae, model, F32, &err));
    const int failed = check_file("golden-more/init.safetensors", (const char *[]){"a", "b", NULL}, 20, tokenizer,
                                  encoder, vae)
                     + check_file("golden-more/lcm_init.safetensors", (const char *[]){"c", NULL}, 3, tokenizer,
                                  encoder, vae)
                     + check_pndm();
    rmdir(folder);
    vae_free(vae);
    text_encoder_free(encoder);
    tokenizer_free(tokenizer);
    return failed != 0;
}
