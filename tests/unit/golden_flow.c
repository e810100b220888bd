/* SPDX-License-Identifier: MIT */
/* golden_flow.c -- models that match flows: times, steps and begun pictures against diffusers'
 * FlowMatchEulerDiscreteScheduler, the same to the bit, for all of it is f32 in the same order; what such configs and
 * the samplers of other models are refused for. */
#include <math.h>
#include <sys/stat.h>
#include "formats/json_file.h"
#include "kernels/op.h"
#include "src/models/scheduler.h"
#include "tests/unit/test.h"

enum { N = 4 };                                 /* values of a latent */

static char folder[] = "/tmp/golden_flow.XXXXXX", config_path[64], index_path[64];

static int write_pipeline(const char *class, Err *e)
{
    json_t *index = json_pack("{s:s}", "_class_name", class);
    const int failed = json_file_write(index_path, index, e);
    json_decref(index);
    return failed;
}

/* The latent before each step and behind the last, and the times: got (count, 1 + N). */
static void take_steps(const Scheduler *s, bool begun, float *got)
{
    const float picture[N] = {0.25f, 1.5f, -3, 0};
    float x[N] = {2, -1, 0.5f, 0}, memory[N] = {0}, out[N];
    if (begun)
        scheduler_add_noise(s, 0, x, picture, N);
    for (int i = 0; i <= s->steps; i++) {
        got[i*(1 + N)] = i < s->steps ? s->step[i].time : 0;
        memcpy(got + i*(1 + N) + 1, x, sizeof x);
        for (int k = 0; k < N && i < s->steps; k++)
            out[k] = (float)sin((double)s->step[i].time/100 + k);
        if (i < s->steps)
            scheduler_step(s, i, x, memory, NULL, out, 1, N);
    }
}

static int check_run(size_t number, const json_t *run)
{
    const json_t *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const double strength = json_number_value(json_object_get(run, "strength"));
    const size_t count = json_array_size(rows), n = count*(1 + N);
    Scheduler *s = NULL;
    Err e = {0};
    char name[96];
    snprintf(name, sizeof name, "flow/%zu/%zu of %d steps, strength %g", number, count - 1, steps, strength);
    if (json_file_write(config_path, json_object_get(run, "config"), &e)
        || scheduler_load(&s, folder, number%2 ? "auto" : "euler", steps, strength, &e)
        || s->steps + 1 != (int)count) {
        printf("FAIL %s: %s\n", name, e.set ? e.text : "other steps");
        scheduler_free(s);
        return 1;
    }
    float *got = calloc(n, sizeof *got), *want = calloc(n, sizeof *want);
    for (size_t i = 0; i < n; i++)
        want[i] = (float)json_number_value(json_array_get(json_array_get(rows, i/(1 + N)), i%(1 + N)));
    take_steps(s, strength > 0, got);
    int failed = test_same(name, got, want, n*sizeof *got);
    bool rounded = strcmp(s->method, "euler") == 0;
    for (int i = 0; i < s->steps; i++)
        rounded = rounded && s->step[i].t == (int)nearbyintf(want[i*(1 + N)]);
    failed += test_ok("  its timesteps are those, rounded", rounded);
    free(got);
    free(want);
    scheduler_free(s);
    return failed;
}

/* By `method`, what the config says beside its class. */
static int check_refused(const char *what, const char *method, const char *json, double strength, const char *names)
{
    char name[200];
    Scheduler *s = NULL;
    Err e = {0};
    json_t *config = json_loads(json, 0, NULL);
    if (!json_object_get(config, "_class_name"))
        json_object_set_new(config, "_class_name", json_string("FlowMatchEulerDiscreteScheduler"));
    const int refused = !json_file_write(config_path, config, &e)
                        && scheduler_load(&s, folder, method, 10, strength, &e) == -1 && !s && strstr(e.text, names);
    json_decref(config);
    scheduler_free(s);
    snprintf(name, sizeof name, "flow/%s is refused: %.120s", what, e.text);
    return test_ok(name, refused);
}

int main(void)
{
    static const char *const others[] = {"ddim", "pndm", "dpm++2m", "dpm++2m-karras", "unipc", "unipc-karras", "euler-a", "lcm"};
    static const char *const switches[] = {"use_dynamic_shifting", "invert_sigmas", "use_karras_sigmas",
                                           "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"};
    Err e = {0};
    json_t *file = json_file_load(test_path("golden-more/flow.json"), &e);
    const json_t *runs = json_object_get(file, "runs");
    char sub[64], config[64];
    int failed = 0;
    if (!file || backend_pick("cpu", 1, &e) || !mkdtemp(folder)) {
        printf("FAIL flow: %s\n", e.text);
        return 1;
    }
    snprintf(sub, sizeof sub, "%s/scheduler", folder);
    snprintf(config_path, sizeof config_path, "%s/scheduler_config.json", sub);
    snprintf(index_path, sizeof index_path, "%s/model_index.json", folder);
    mkdir(sub, 0777);
    failed += test_ok("flow/there are runs", json_array_size(runs) > 20);
    for (size_t i = 0; i < json_array_size(runs); i++)
        failed += check_run(i, json_array_get(runs, i));
    for (size_t i = 0; i < sizeof others/sizeof *others; i++)
        failed += check_refused(others[i], others[i], "{}", 0, others[i]);
    for (size_t i = 0; i < sizeof switches/sizeof *switches; i++) {
        snprintf(config, sizeof config, "{\"%s\": true}", switches[i]);
        failed += check_refused(switches[i], "euler", config, 0, switches[i]);
    }
    failed += check_refused("an end of its own", "auto", "{\"shift_terminal\": 0.02}", 0, "shift_terminal")
            + check_refused("no shift", "auto", "{\"shift\": 0}", 0, "shift")
            + check_refused("a shift that is no number", "auto", "{\"shift\": \"3\"}", 0, "shift")
            + check_refused("a huge shift", "auto", "{\"shift\": 1e300}", 0, "shift")
            + check_refused("fewer timesteps than steps", "auto", "{\"num_train_timesteps\": 9}", 0, "10 steps")
            + check_refused("no timesteps", "auto", "{\"num_train_timesteps\": 0}", 0, "num_train_timesteps")
            + check_refused("a strength of no step", "auto", "{}", 1e-20, "is none")
            + check_refused("an unknown sampler", "heun", "{}", 0, "heun")
            + write_pipeline("StableDiffusion3Pipeline", &e)
            + check_refused("another class in Stable Diffusion 3", "auto", "{\"_class_name\": \"DDIMScheduler\"}", 0,
                            "FlowMatchEulerDiscreteScheduler");
    unlink(config_path);
    unlink(index_path);
    rmdir(sub);
    rmdir(folder);
    json_decref(file);
    return failed != 0;
}
