/* SPDX-License-Identifier: MIT */
/* golden_sd3.c -- Stable Diffusion 3 against diffusers, by the tiny model of tests/golden-more/make_sd3.py: ids of the
 * three tokenizers, text states with and without T5, pooled embeddings; whole runs with and without a negative prompt,
 * without guidance and without T5, activations, a picture; runs that begin with a picture (make_sd3_init.py); and that
 * a picture's bytes do not depend on its batch.
 *
 * Tolerances: f32 sums in other orders, as golden_unet.c has them. */
#include "formats/image.h"
#include "src/models/prompt_chunks.h"
#include "src/models/starts.h"
#include "tests/unit/recorded.h"
#include "tests/unit/timesteps.h"

enum { TEXTS = 3, NEGATIVE = TEXTS, ALL, BATCH = 4, C = 16, PARTS = 8 };    /* a prompt, one that is cut, nothing */

typedef struct Texts {              /* by an encoder of all parts, or without T5 */
    int S, I, R, E, P;
    float *state, *pooled;          /* (ALL,R,E), (ALL,P) */
} Texts;

static char whole[1024], bare[] = "/tmp/golden_sd3.XXXXXX", picture_file[64];
static const char *const but_t5[PARTS] = {"model_index.json", "scheduler", "text_encoder", "text_encoder_2",
                                          "tokenizer", "tokenizer_2", "transformer", "vae"};

/* The model's parts but T5, as links. */
static void make_bare(void)
{
    char from[1100], to[64];
    die_if(!mkdtemp(bare) ? err_set(&err, "%s: cannot be made", bare) : 0);
    for (int i = 0; i < PARTS; i++) {
        snprintf(from, sizeof from, "%s/%s", whole, but_t5[i]);
        snprintf(to, sizeof to, "%s/%s", bare, but_t5[i]);
        die_if(symlink(from, to) ? err_set(&err, "%s: cannot be linked", to) : 0);
    }
}

static void remove_bare(void)
{
    char path[64];
    for (int i = 0; i < PARTS; i++) {
        snprintf(path, sizeof path, "%s/%s", bare, but_t5[i]);
        unlink(path);
    }
    rmdir(bare);
}

/* ids (ALL,I) */
static int encode(Texts *t, const char *model, int32_t *ids)
{
    PromptEncoder *p = NULL;
    PromptChunks chunk = {0};
    json_t *texts = json_loads(said("texts"), 0, NULL);
    die_if(prompt_encoder_load(&p, model, F32, 0, atoi(said("t5")), &err) || prompt_chunks_create(&chunk, p, 1, &err));
    *t = (Texts){prompt_encoder_length(p), prompt_encoder_ids(p), prompt_encoder_rows(p), prompt_encoder_width(p),
                 prompt_encoder_pooled(p), NULL, NULL};
    const size_t I = (size_t)t->I, RE = (size_t)(t->R*t->E);
    t->state = malloc(sizeof(float)*ALL*RE);
    t->pooled = malloc(sizeof(float)*ALL*(size_t)t->P);
    for (int i = 0; i < ALL; i++) {
        const char *text = i == NEGATIVE ? said("negative") : json_string_value(json_array_get(texts, (size_t)i));
        die_if(prompt_chunks_read(&chunk, text, false, &err));
        memcpy(ids + I*(size_t)i, chunk.ids, I*sizeof *ids);
    }
    die_if(prompt_encode(p, ids, TEXTS, false, t->state, t->pooled, &err)
           || prompt_encode(p, ids + I*NEGATIVE, 1, true, t->state + RE*NEGATIVE, t->pooled + t->P*NEGATIVE, &err));
    float *again = malloc(sizeof(float)*RE), *pooled = malloc(sizeof(float)*(size_t)t->P);
    die_if(prompt_encode(p, ids + I, 1, false, again, pooled, &err));
    const int failed = test_same("a text's state whatever its neighbours", again, t->state + RE, sizeof(float)*RE)
                     + test_same("and its pooled embedding", pooled, t->pooled + t->P, sizeof(float)*(size_t)t->P);
    free(again);
    free(pooled);
    prompt_chunks_clear(&chunk);
    json_decref(texts);
    prompt_encoder_free(p);
    return failed;
}

static int test_texts(Texts *t)
{
    enum { S = 16, T = 32, I = 2*S + T };
    static const struct { const char *name; int from, count; } by[] = {{"ids.1", 0, S}, {"ids.2", S, S},
                                                                       {"ids.3", 2*S, T}};
    int32_t ids[ALL*I];
    int failed = encode(t, whole, ids);
    failed += test_ok("sizes", t->S == S && t->I == I && t->R == S + T && t->E == 48 && t->P == 36);
    for (int k = 0; k < 3; k++) {
        bool same = true;
        for (int i = 0; i < TEXTS; i++)
            same &= memcmp(ids + i*I + by[k].from, (const int32_t *)tensor(golden, by[k].name)->data + i*by[k].count,
                           (size_t)by[k].count*sizeof *ids) == 0;
        failed += test_ok(by[k].name, same);
    }
    return failed + near("states", t->state, "state", 0) + near("pooled embeddings", t->pooled, "pooled", 0);
}

static int test_bare(Texts *t)
{
    enum { S = 16, T = 32 };
    int32_t ids[ALL*2*S];
    const int failed = encode(t, bare, ids);
    return failed + test_ok("sizes without T5", t->S == S && t->I == 2*S && t->R == S + T && t->E == 48 && t->P == 36)
         + near("state without T5", t->state, "state.bare", 0);
}

static Sampler *sampler(const char *model, SamplerOptions o)
{
    Sampler *s = NULL;
    o.model = model;
    o.type = F32;
    o.height = atoi(said("height"))/8;
    o.width = atoi(said("width"))/8;
    die_if(sampler_create(&s, &o, &err));
    return s;
}

static CondItem item_of(const Texts *t, int text, uint64_t seed)
{
    return (CondItem){.seed = seed, .S = t->R, .state = t->state + (size_t)text*(size_t)(t->R*t->E),
                      .pooled = t->pooled + text*t->P};
}

static void set_negative(CondItem *item, const Texts *t)
{
    const CondItem negative = item_of(t, NEGATIVE, 0);
    item->uncond = negative.state;
    item->uncond_pooled = negative.pooled;
}

static CondBatch batch_of(const Texts *t, CondItem *item, int count)
{
    const CondItem nothing = item_of(t, 2, 0);
    return (CondBatch){.E = t->E, .P = t->P, .uncond = nothing.state, .uncond_pooled = nothing.pooled, .item = item,
                       .count = count};
}

static int test_activations(Sampler *s, CondBatch *batch)
{
    json_t *hooks = json_loads(said("hooks"), 0, NULL), *hook;
    const size_t picture = (size_t)(C*s->H*s->W);
    float *latents = malloc(sizeof(float)*picture);
    Watch w[8];
    int failed = 0;
    size_t i;
    json_array_foreach(hooks, i, hook) {
        char name[64];
        snprintf(name, sizeof name, "guided.%s", json_string_value(hook));
        w[i] = (Watch){s, malloc(sizeof(float)*weight_count(tensor(golden, name)))};
        die_if(hooks_add(denoiser_hooks(s->denoiser), json_string_value(hook), false, watch, &w[i], &err) != 1);
    }
    die_if(sampler_run(s, batch, latents, NULL, NULL, &err));
    json_array_foreach(hooks, i, hook) {
        char name[64];
        snprintf(name, sizeof name, "guided.%s", json_string_value(hook));
        failed += near(name, w[i].got, name, 0);
        free(w[i].got);
    }
    free(latents);
    json_decref(hooks);
    return failed;
}

/* Of the first text: no negative prompt, one of the record's own, or no guidance; in a batch of others, and alone. */
static int test_run(const char *name, const char *model, const Texts *t, double guidance)
{
    Sampler *s = sampler(model, (SamplerOptions){.steps = atoi(said("steps")), .guidance = guidance, .batch = BATCH});
    const size_t picture = (size_t)(C*s->H*s->W), bytes = sizeof(float)*picture;
    const uint64_t seed = strtoull(said("seed"), NULL, 10);
    const bool told = strcmp(name, "told") == 0;
    char label[80], recorded[40];
    float *latents = malloc(bytes*BATCH), *alone = malloc(bytes);
    CondItem item[BATCH], one = item_of(t, 0, seed);
    if (told)
        set_negative(&one, t);
    CondBatch batch = batch_of(t, &one, 1);
    die_if(sampler_run(s, &batch, alone, NULL, NULL, &err));
    snprintf(label, sizeof label, "%s: final latent", name);
    snprintf(recorded, sizeof recorded, "%s.latents", name);
    int failed = near(label, alone, recorded, picture*(size_t)s->options.steps);

    for (int i = 0; i < BATCH; i++)         /* the third of other texts, one with a negative of its own */
        item[i] = i == 2 ? one : item_of(t, i%TEXTS, (uint64_t)i);
    set_negative(&item[1], t);
    batch.item = item;
    batch.count = BATCH;
    die_if(sampler_run(s, &batch, latents, NULL, NULL, &err));
    snprintf(label, sizeof label, "%s: a picture's bytes whatever its batch", name);
    failed += test_same(label, latents + 2*picture, alone, bytes);
    batch = batch_of(t, &one, 1);
    if (strcmp(name, "guided") == 0)
        failed += test_activations(s, &batch) + test_picture(whole, alone, "guided.image");
    free(latents);
    free(alone);
    sampler_free(s);
    return failed;
}

/* Of a picture, by the steps that `strength` leaves. */
static int test_begun(const Texts *t, Vae *vae, const json_t *run, const Weight *want, uint64_t seed)
{
    const SamplerOptions o = {.steps = (int)json_integer_value(json_object_get(run, "steps")), .batch = 1,
                              .strength = json_number_value(json_object_get(run, "strength")),
                              .guidance = json_number_value(json_object_get(run, "guidance"))};
    Sampler *s = sampler(whole, o);
    Starts *starts = NULL;
    char name[80];
    float *latent = malloc(sizeof(float)*weight_count(want));
    CondItem one = item_of(t, 0, seed);
    CondBatch batch = batch_of(t, &one, 1);
    die_if(starts_open(&starts, picture_file, vae, C, s->H, s->W, true, &err) || starts_fill(starts, &batch, &err)
           || sampler_run(s, &batch, latent, NULL, NULL, &err));
    snprintf(name, sizeof name, "begun, %d steps, strength %g, guidance %g", o.steps, o.strength, o.guidance);
    const int failed = test_below(name, range_error(latent, want->data, weight_count(want)), 1e-4)
                     + test_ok("  its timesteps", same_timesteps(s->scheduler, json_object_get(run, "timesteps")));
    free(one.start);
    free(latent);
    starts_free(starts);
    sampler_free(s);
    return failed;
}

static int test_init(const Texts *t)
{
    Weights *w = NULL;
    Vae *vae = NULL;
    char name[8];
    die_if(weights_open(&w, test_path("golden-more/sd3_init.safetensors"), &err) || vae_load(&vae, whole, F32, &err));
    const Weight *picture = tensor(w, "picture"), *mean = tensor(w, "mean");
    const int H = (int)picture->dim[0], W = (int)picture->dim[1], cells = H/8*(W/8);
    const json_t *said_of = weights_metadata(w);
    float *pixels = malloc(sizeof(float)*weight_count(picture)), *got = malloc(sizeof(float)*weight_count(mean)),
        *rows = rows_of(mean->data, 1, C, cells);
    for (size_t i = 0; i < weight_count(picture); i++)
        pixels[i] = (float)((const uint8_t *)picture->data)[i]/127.5f - 1;
    die_if(vae_encode(vae, pixels, 1, H, W, got, NULL, &err));
    int failed = test_below("the posterior's mean", range_error(got, rows, weight_count(mean)), 1e-4);
    snprintf(picture_file, sizeof picture_file, "%s/picture.png", bare);
    die_if(image_write(picture_file, W, H, 3, picture->data, NULL, &err));
    json_t *runs = json_loads(json_string_value(json_object_get(said_of, "runs")), 0, NULL), *run;
    const uint64_t seed = strtoull(json_string_value(json_object_get(said_of, "seed")), NULL, 10);
    size_t i;
    json_array_foreach(runs, i, run) {
        snprintf(name, sizeof name, "%zu", i);
        failed += test_begun(t, vae, run, tensor(w, name), seed);
    }
    unlink(picture_file);
    json_decref(runs);
    free(pixels);
    free(got);
    free(rows);
    vae_free(vae);
    weights_close(w);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    Texts full, less;
    snprintf(whole, sizeof whole, "%s", test_path("golden-more/sd3"));
    die_if(backend_pick(test_backend(), 0, &err)
           || weights_open(&w, test_path("golden-more/sd3.safetensors"), &err));
    golden = w;
    make_bare();
    const double guidance = atof(said("guidance"));
    int failed = test_bare(&less) + test_texts(&full);
    failed += test_run("guided", whole, &full, guidance) + test_run("told", whole, &full, guidance)
            + test_run("alone", whole, &full, 1) + test_run("bare", bare, &less, guidance) + test_init(&full);
    remove_bare();
    free(full.state);
    free(full.pooled);
    free(less.state);
    free(less.pooled);
    weights_close(w);
    return failed != 0;
}
