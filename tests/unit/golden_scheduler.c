/* SPDX-License-Identifier: MIT */
/* golden_scheduler.c -- timesteps and coefficients against diffusers' DDIMScheduler in its pipeline, also made of the
 * PNDM config of Stable Diffusion 1.4 and of others; a step of each kind of prediction. Timesteps must be equal.
 * Coefficients may differ by 2e-7, some ulps of 1, since torch's roots are not correctly rounded; after rescaling to
 * zero terminal SNR, which takes the difference of near roots, by 2e-5. What a step gives may differ by 2e-6: values
 * below 4 are rounded five times, and 1/sqrt(a) = 4.2 enlarges that.
 *
 * And against DPMSolverMultistepScheduler: four values of a latent after each step, whose UNet says sin(t/100 + i), to
 * 2e-5 of the largest of the run: x0 divides by alpha, down to 0.0006 in some configs, and what the roundings before
 * made of it stays in x. Against UniPCMultistepScheduler likewise, also in runs that begin with a picture, and against
 * PNDMScheduler, to 2e-6. Against EulerDiscreteScheduler and EulerAncestralDiscreteScheduler likewise, before each step
 * and after the last; they keep z = x/alpha in f32, which is up to sigma times as large, and add to it: 5e-8 of the
 * first sigma. Against LCMScheduler in the same way, to 2e-6. */
#include <math.h>
#include <sys/stat.h>
#include "formats/json_file.h"
#include "kernels/op.h"
#include "src/models/noise.h"
#include "src/models/scheduler.h"
#include "tests/unit/test.h"

static char folder[] = "/tmp/golden_scheduler.XXXXXX";
static char config_path[128];

static int check_run(size_t number, const json_t *run)
{
    const json_t *config = json_object_get(run, "config"), *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const float limit = json_is_true(json_object_get(config, "rescale_betas_zero_snr")) ? 2e-5f : 2e-7f;
    Scheduler *s = NULL;
    Err e = {0};
    char name[64];
    if (json_file_write(config_path, config, &e) || scheduler_load(&s, folder, "ddim", steps, 0, &e)) {
        printf("FAIL scheduler/%zu: %s\n", number, e.text);
        return 1;
    }
    float *got = malloc(steps * 4 * sizeof *got), *want = malloc(steps * 4 * sizeof *want);
    int same = json_array_size(rows) == (size_t)steps;
    for (int i = 0; i < steps; i++) {
        const json_t *row = json_array_get(rows, i);
        const SchedulerStep *step = &s->step[i];
        same = same && step->t == (int)json_integer_value(json_array_get(row, 0));
        memcpy(got + i * 4, (float[]){step->sqrt_a, step->sqrt_1m_a, step->sqrt_a_prev, step->sqrt_1m_a_prev},
               4 * sizeof *got);
        for (int k = 0; k < 4; k++)
            want[i * 4 + k] = (float)json_number_value(json_array_get(row, k + 1));
    }
    snprintf(name, sizeof name, "scheduler/%zu/timesteps of %d steps", number, steps);
    int failed = test_ok(name, same);
    snprintf(name, sizeof name, "scheduler/%zu/coefficients", number);
    failed += test_close(name, got, want, (size_t)steps * 4, limit, 0);
    free(got);
    free(want);
    scheduler_free(s);
    return failed;
}

enum { N = 4 };                                 /* values of the latents that follow */

/* A row's values, behind its timestep. Returns the largest. */
static float read_values(float want[N], const json_t *row)
{
    float largest = 0;
    for (int k = 0; k < N; k++) {
        want[k] = (float)json_number_value(json_array_get(row, k + 1));
        largest = fmaxf(largest, fabsf(want[k]));
    }
    return largest;
}

/* All steps of a latent: got and want (steps, N), the latent behind each, here and recorded. Returns whether the
 * timesteps are those recorded. */
static bool take_steps(const Scheduler *s, const json_t *rows, float *memory, float *got, float *want, float *largest)
{
    float x[N] = {2, -1, 0.5f, 0}, out[N];
    bool same = true;
    for (int i = 0; i < s->steps; i++) {
        const json_t *row = json_array_get(rows, (size_t)i);
        same = same && s->step[i].t == (int)json_integer_value(json_array_get(row, 0))
            && s->step[i].time == (float)s->step[i].t;
        for (int k = 0; k < N; k++)
            out[k] = (float)sin(s->step[i].t / 100.0 + k);
        scheduler_step(s, i, x, memory, NULL, out, 1, N);
        memcpy(got + i*N, x, sizeof x);
        *largest = fmaxf(*largest, read_values(want + i*N, row));
    }
    return same;
}

static int check_dpm(size_t number, const json_t *run)
{
    const json_t *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const bool karras = json_is_true(json_object_get(run, "karras"));
    float memory[N] = {0}, largest = 0;
    float *got = malloc(sizeof *got * N * steps), *want = malloc(sizeof *want * N * steps);
    Scheduler *s = NULL;
    Err e = {0};
    char name[64];
    snprintf(name, sizeof name, "scheduler/dpm++2m/%zu/%d steps%s", number, steps, karras ? ", karras" : "");
    if (json_file_write(config_path, json_object_get(run, "config"), &e)
        || scheduler_load(&s, folder, karras ? "dpm++2m-karras" : "dpm++2m", steps, 0, &e)) {
        printf("FAIL %s: %s\n", name, e.text);
        free(got);
        free(want);
        return 1;
    }
    const bool same = take_steps(s, rows, memory, got, want, &largest) && json_array_size(rows) == (size_t)steps;
    int failed = test_ok(name, same) + test_close(name, got, want, (size_t)steps * N, 2e-5f * largest, 0);
    free(got);
    free(want);
    scheduler_free(s);
    return failed;
}

static int write_pipeline(const char *class, Err *e)
{
    char path[128];
    json_t *index = json_pack("{s:s}", "_class_name", class);
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    const int failed = json_file_write(path, index, e);
    json_decref(index);
    return failed;
}

/* A run of a method with a memory of its own; limit: of the largest value. */
static int check_multistep(size_t number, const json_t *run, const char *method, float limit)
{
    const json_t *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const bool begun = json_integer_value(json_object_get(run, "begin")) > 0;
    const size_t count = json_array_size(rows);
    float *got = malloc(sizeof *got * N * count), *want = malloc(sizeof *want * N * count), *memory = NULL, largest = 0;
    Scheduler *s = NULL;
    Err e = {0};
    char name[64];
    snprintf(name, sizeof name, "scheduler/%s/%zu/%d steps, %zu evaluations", method, number, steps, count);
    int failed = write_pipeline(json_is_true(json_object_get(run, "xl")) ? "StableDiffusionXLPipeline"
                                                                         : "StableDiffusionPipeline", &e)
              || json_file_write(config_path, json_object_get(run, "config"), &e)
              || scheduler_load(&s, folder, method, steps, begun ? ((double)count + 0.5)/steps : 0, &e)
              || s->steps != (int)count
              || !(memory = calloc((size_t)s->memory, N * sizeof *memory));
    failed = failed || !take_steps(s, rows, memory, got, want, &largest);
    if (failed)
        printf("FAIL %s: %s\n", name, e.set ? e.text : "other evaluations");
    else
        failed = test_close(name, got, want, count * N, limit * largest, 0);
    free(got);
    free(want);
    free(memory);
    scheduler_free(s);
    return failed;
}

/* A run of a method that may add noise: the latent before each step, and behind the last one. limit: of the largest
 * value and of the first sigma. */
static int check_noisy(size_t number, const json_t *run, const char *method, const float limit[2])
{
    const json_t *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const int begin = (int)json_integer_value(json_object_get(run, "begin")), taken = steps - begin;
    const double strength = begin ? (taken + 0.5)/steps : 0;
    const bool xl = json_is_true(json_object_get(run, "xl"));
    float x[N] = {2, -1, 0.5f, 0}, memory[N] = {0}, out[N], drawn[N], largest = 0, times = 0;
    float *got = malloc((taken + 1) * sizeof x), *want = malloc((taken + 1) * sizeof x);
    Scheduler *s = NULL;
    Noise noise;
    Err e = {0};
    char name[64];
    snprintf(name, sizeof name, "scheduler/%s/%zu/%d of %d steps", method, number, taken, steps);
    if (write_pipeline(xl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline", &e)
        || json_file_write(config_path, json_object_get(run, "config"), &e)
        || scheduler_load(&s, folder, method, steps, strength, &e)) {
        printf("FAIL %s: %s\n", name, e.text);
        free(got);
        free(want);
        return 1;
    }
    const float sigma = s->step[0].sqrt_1m_a / s->step[0].sqrt_a;
    noise_seed(&noise, 7);
    for (int k = 0; k < N; k++)
        x[k] *= s->first;
    for (int i = 0; i <= taken; i++) {
        const json_t *row = json_array_get(rows, i);
        memcpy(got + i*N, x, sizeof x);
        largest = fmaxf(largest, read_values(want + i*N, row));
        if (i == taken)
            break;
        const float time = (float)json_number_value(json_array_get(row, 0));
        const float off = fabsf(s->step[i].time - time) + (s->step[i].t != (int)nearbyintf(time));
        if (!(off <= times))                    /* a NaN is the most */
            times = off;
        for (int k = 0; k < N; k++)
            out[k] = (float)sin(time / 100.0 + k);
        scheduler_step(s, i, x, memory, NULL, out, 1, N);
        noise_draw(&noise, drawn, N);
        for (int k = 0; k < N; k++)
            x[k] += s->step[i].noise * drawn[k];
    }
    const float most = limit[0] * largest + (limit[1] ? limit[1] * sigma : 0);      /* where sigma may be infinite */
    int failed = test_ok(name, times < 1e-4f && s->steps == taken && json_array_size(rows) == (size_t)taken + 1)
               + test_close(name, got, want, (size_t)(taken + 1) * N, most, 0);
    free(got);
    free(want);
    scheduler_free(s);
    return failed;
}

static void read_list(float y[64], const json_t *move, const char *key)
{
    for (size_t i = 0; i < 64; i++)
        y[i] = (float)json_number_value(json_array_get(json_object_get(move, key), i));
}

static int check_move(const json_t *move)
{
    const char *prediction = json_string_value(json_object_get(move, "prediction_type"));
    json_t *config = json_pack("{s:f, s:f, s:s, s:b, s:i, s:s}", "beta_start", 0.00085, "beta_end", 0.012,
                               "beta_schedule", "scaled_linear", "set_alpha_to_one", 0, "steps_offset", 1,
                               "prediction_type", prediction);
    float x[64], out[64], want[64];
    char name[64];
    Scheduler *s = NULL;
    Err e = {0};
    const int failed = json_file_write(config_path, config, &e) || scheduler_load(&s, folder, "ddim", 4, 0, &e);
    json_decref(config);
    if (failed)
        return test_ok(e.text, 0);
    const int step = (int)json_integer_value(json_object_get(move, "step"));
    const SchedulerStep *q = &s->step[step];
    read_list(x, move, "x");
    read_list(out, move, "out");
    read_list(want, move, "y");
    op->ddim_step(x, NULL, out, 1, q->sqrt_a, q->sqrt_1m_a, q->sqrt_a_prev, q->sqrt_1m_a_prev, s->prediction, 64);
    scheduler_free(s);
    snprintf(name, sizeof name, "scheduler/a step that predicts %s, %d", prediction, step);
    return test_close(name, x, want, 64, 2e-6f, 0);
}

/* A config of one step that the method draws by, whatever it says of what the method does not have. */
static int check_taken(const char *what, const char *method, const char *json)
{
    char name[96];
    Scheduler *s = NULL;
    Err e = {0};
    json_t *config = json_loads(json, 0, NULL);
    const int failed = json_file_write(config_path, config, &e) || scheduler_load(&s, folder, method, 1, 0, &e);
    json_decref(config);
    scheduler_free(s);
    snprintf(name, sizeof name, "scheduler/%s is taken: %s", what, e.text);
    return test_ok(name, !failed);
}

/* Configs that the method cannot draw by as diffusers would, and words of the message. */
static int check_said(const char *what, const char *method, const char *json, int steps, const char *words)
{
    char name[96];
    Scheduler *s = NULL;
    Err e = {0};
    json_t *config = json_loads(json, 0, NULL);
    const int refused = !json_file_write(config_path, config, &e)
                        && scheduler_load(&s, folder, method, steps, 0, &e) == -1 && !s;
    json_decref(config);
    snprintf(name, sizeof name, "scheduler/%s is refused: %s", what, e.text);
    return test_ok(name, refused && strstr(e.text, words));
}

static int check_refused(const char *what, const char *method, const char *json, int steps)
{
    return check_said(what, method, json, steps, "");
}

static int check_unipc(const json_t *runs)
{
    int failed = test_ok("scheduler/there are runs of unipc", json_array_size(runs) > 30);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *config = json_object_get(run, "config");
        const bool karras = json_is_true(json_object_get(config, "use_karras_sigmas"));
        failed += check_multistep(i, run, karras ? "unipc-karras" : "unipc", 2e-5f);
    }
    static const struct { const char *json, *words; } refused[] = {
        {"{\"solver_order\": 3}", "expected 2"}, {"{\"predict_x0\": false}", "predict_x0"},
        {"{\"disable_corrector\": [0]}", "expected none"}, {"{\"use_flow_sigmas\": true}", "expected false"},
        {"{\"lower_order_final\": false}", "sigma_min"}, {"{\"solver_type\": \"bh1\"}", "sigma_min"},
        {"{\"thresholding\": true}", "not clipped here"}};
    for (size_t i = 0; i < sizeof refused/sizeof *refused; i++)
        failed += check_said(refused[i].json, "unipc", refused[i].json, 10, refused[i].words);
    return failed + check_taken("no corrector left out, no other solver", "unipc",
                                "{\"disable_corrector\": [], \"solver_p\": null}")
         + check_taken("another solver's type", "unipc",
                       "{\"solver_type\": \"heun\", \"algorithm_type\": \"dpmsolver++\"}");
}

int main(void)
{
    Err e = {0};
    json_t *file = json_file_load(test_path("golden-more/scheduler.json"), &e);
    json_t *dpm_file = json_file_load(test_path("golden-more/dpm.json"), &e);
    json_t *euler_file = json_file_load(test_path("golden-more/euler.json"), &e);
    json_t *pndm_file = json_file_load(test_path("golden-more/pndm.json"), &e);
    json_t *lcm_file = json_file_load(test_path("golden-more/lcm.json"), &e);
    json_t *unipc_file = json_file_load(test_path("golden-more/unipc.json"), &e);
    const json_t *runs = json_object_get(file, "runs"), *dpm_runs = json_object_get(dpm_file, "runs"),
        *euler_runs = json_object_get(euler_file, "runs"), *pndm_runs = json_object_get(pndm_file, "runs"),
        *lcm_runs = json_object_get(lcm_file, "runs");
    char sub[64], index[64];
    int failed = 0;
    if (!file || !dpm_file || !euler_file || !pndm_file || !lcm_file || !unipc_file || backend_pick("cpu", 1, &e)
        || !mkdtemp(folder)) {
        printf("FAIL scheduler: %s\n", e.text);
        return 1;
    }
    snprintf(sub, sizeof sub, "%s/scheduler", folder);
    snprintf(config_path, sizeof config_path, "%s/scheduler_config.json", sub);
    mkdir(sub, 0777);
    for (size_t i = 0; i < json_array_size(runs); i++)
        failed += check_run(i, json_array_get(runs, i));
    failed += test_ok("scheduler/there are runs", json_array_size(runs) > 0 && json_array_size(dpm_runs) > 0);
    for (size_t i = 0; i < json_array_size(dpm_runs); i++)
        failed += check_dpm(i, json_array_get(dpm_runs, i));
    for (size_t i = 0; i < json_array_size(pndm_runs); i++)
        failed += check_multistep(i, json_array_get(pndm_runs, i), "pndm", 2e-6f);
    failed += test_ok("scheduler/there are runs of pndm", json_array_size(pndm_runs) > 25);
    for (size_t i = 0; i < json_array_size(euler_runs); i++)
        failed += check_noisy(i, json_array_get(euler_runs, i),
                              json_is_true(json_object_get(json_array_get(euler_runs, i), "ancestral")) ? "euler-a"
                                                                                                     : "euler",
                              (float[]){2e-5f, 5e-8f});
    failed += test_ok("scheduler/there are runs of euler", json_array_size(euler_runs) > 30);
    for (size_t i = 0; i < json_array_size(lcm_runs); i++)
        failed += check_noisy(i, json_array_get(lcm_runs, i), "lcm", (float[]){2e-6f, 0});
    failed += test_ok("scheduler/there are runs of lcm", json_array_size(lcm_runs) > 20);
    failed += check_unipc(json_object_get(unipc_file, "runs"));
    failed += write_pipeline("StableDiffusionXLPipeline", &e)
            + check_refused("XL: clipping", "ddim", "{\"_class_name\": \"DDIMScheduler\"}", 10)
            + check_said("XL: an offset past the timesteps", "ddim", "{\"clip_sample\": false, \"steps_offset\": 1000}",
                         10, "expected 0 to 999")
            + check_taken("XL: an offset to the last", "ddim", "{\"clip_sample\": false, \"steps_offset\": 999}")
            + check_refused("XL: clipping by lcm", "lcm", "{\"clip_sample\": true}", 10)
            + check_taken("XL: a config that says nothing of clipping", "lcm", "{\"_class_name\": \"DDIMScheduler\"}")
            + write_pipeline("StableDiffusionPipeline", &e);
    const json_t *moves = json_object_get(file, "moves");
    for (size_t i = 0; i < json_array_size(moves); i++)
        failed += check_move(json_array_get(moves, i));
    failed += test_ok("scheduler/there are moves", json_array_size(moves) == 12);
    failed += check_refused("thresholding", "ddim", "{\"thresholding\": true}", 10);
    failed += check_refused("thresholding", "dpm++2m", "{\"thresholding\": true}", 10);
    failed += check_taken("thresholding", "euler-a", "{\"thresholding\": true}");
    failed += check_taken("thresholding and clipping", "pndm",
                          "{\"thresholding\": true, \"clip_sample\": true, \"skip_prk_steps\": true}");
    failed += check_refused("clipping by from_config's default", "ddim",
                            "{\"_class_name\": \"PNDMScheduler\"}", 10);
    failed += check_refused("an unknown schedule", "ddim",
                            "{\"clip_sample\": false, \"beta_schedule\": \"sigmoid\"}", 10);
    failed += check_refused("flow prediction", "ddim", "{\"prediction_type\": \"flow_prediction\"}", 10);
    failed += check_refused("more steps than timesteps", "ddim", "{\"clip_sample\": false}", 1001);
    failed += check_refused("no steps", "ddim", "{\"clip_sample\": false}", 0);
    failed += check_refused("a list of another length", "ddim",
                            "{\"clip_sample\": false, \"trained_betas\": [0.1]}", 10);
    failed += check_refused("another sampler", "heun", "{\"clip_sample\": false}", 10);
    failed += check_refused("dpm++2m: an order of 3", "dpm++2m", "{\"solver_order\": 3}", 10);
    failed += check_refused("dpm++2m: the heun solver", "dpm++2m", "{\"solver_type\": \"heun\"}", 10);
    failed += check_refused("dpm++2m: noise prediction", "dpm++2m", "{\"algorithm_type\": \"dpmsolver\"}", 10);
    failed += check_refused("dpm++2m: other sigmas", "dpm++2m", "{\"use_lu_lambdas\": true}", 10);
    failed += check_refused("dpm++2m: an unknown end", "dpm++2m", "{\"final_sigmas_type\": \"one\"}", 10);
    failed += check_refused("dpm++2m: a timestep twice", "dpm++2m", "{\"timestep_spacing\": \"leading\"}", 1000);
    failed += check_refused("pndm: x0 prediction", "pndm", "{\"prediction_type\": \"sample\"}", 10);
    failed += check_refused("pndm: Runge-Kutta steps over fewer timesteps", "pndm", "{\"skip_prk_steps\": false}", 3);
    failed += check_refused("pndm: a switch that is none", "pndm", "{\"skip_prk_steps\": \"no\"}", 10);
    failed += check_refused("euler: other sigmas", "euler", "{\"use_karras_sigmas\": true}", 10);
    failed += check_refused("euler: sigmas of their own", "euler", "{\"interpolation_type\": \"log_linear\"}", 10);
    failed += check_refused("euler: timesteps of their own", "euler", "{\"timestep_type\": \"continuous\"}", 10);
    failed += check_refused("lcm: more steps than it was distilled for", "lcm", "{}", 51);
    failed += check_refused("lcm: distilled for more than there are", "lcm", "{\"original_inference_steps\": 1001}", 4);
    failed += check_refused("lcm: distilled for none", "lcm", "{\"original_inference_steps\": 0}", 1);
    failed += check_refused("lcm: a huge scaling", "lcm", "{\"timestep_scaling\": 1e300}", 4);
    failed += check_refused("lcm: a scaling that is none", "lcm", "{\"timestep_scaling\": \"10\"}", 4);
    failed += check_refused("lcm: thresholding", "lcm", "{\"thresholding\": true}", 4);
    failed += check_refused("lcm: epsilon without signal", "lcm", "{\"rescale_betas_zero_snr\": true}", 4);
    failed += check_taken("lcm: clipping, which the pipeline leaves out", "lcm", "{\"clip_sample\": true}");
    unlink(config_path);
    snprintf(index, sizeof index, "%s/model_index.json", folder);
    unlink(index);
    rmdir(sub);
    rmdir(folder);
    json_decref(file);
    json_decref(dpm_file);
    json_decref(euler_file);
    json_decref(pndm_file);
    json_decref(lcm_file);
    json_decref(unipc_file);
    return failed != 0;
}
