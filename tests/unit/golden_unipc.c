/* SPDX-License-Identifier: MIT */
/* golden_unipc.c -- sampler unipc against UniPCMultistepScheduler (golden-more/make_unipc.py): four values of a latent
 * after each step, whose UNet says sin(t/100 + i), also of runs that begin with a picture; and what is refused. To 2e-5
 * of the largest of the run: x0 divides by alpha, as golden_scheduler.c says of dpm++2m. */
#include <math.h>
#include <sys/stat.h>
#include "formats/json_file.h"
#include "kernels/op.h"
#include "src/models/scheduler.h"
#include "tests/unit/test.h"

enum { N = 4 };

static char folder[] = "/tmp/golden_unipc.XXXXXX";
static char config_path[128];

static int check_run(size_t number, const json_t *run)
{
    const json_t *rows = json_object_get(run, "rows");
    const int steps = (int)json_integer_value(json_object_get(run, "steps"));
    const int begin = (int)json_integer_value(json_object_get(run, "begin")), taken = steps - begin;
    float x[N] = {2, -1, 0.5f, 0}, out[N], largest = 0;
    float *got = malloc((size_t)taken*sizeof x), *want = malloc((size_t)taken*sizeof x), *memory = NULL;
    Scheduler *s = NULL;
    Err e = {0};
    char name[64];
    const bool karras = json_is_true(json_object_get(json_object_get(run, "config"), "use_karras_sigmas"));
    const char *method = karras ? "unipc-karras" : "unipc";
    snprintf(name, sizeof name, "%s/%zu/%d of %d steps", method, number, taken, steps);
    int failed = json_file_write(config_path, json_object_get(run, "config"), &e)
              || scheduler_load(&s, folder, method, steps, begin ? (taken + 0.5)/steps : 0, &e);
    bool same = !failed && s->steps == taken && json_array_size(rows) == (size_t)taken;
    memory = failed ? NULL : calloc((size_t)s->memory, sizeof x);
    for (int i = 0; i < taken && same; i++) {
        const json_t *row = json_array_get(rows, (size_t)i);
        same = s->step[i].t == (int)json_integer_value(json_array_get(row, 0))
            && s->step[i].time == (float)s->step[i].t;
        for (int k = 0; k < N; k++)
            out[k] = (float)sin(s->step[i].t/100.0 + k);
        scheduler_step(s, i, x, memory, NULL, out, 1, N);
        memcpy(got + i*N, x, sizeof x);
        for (int k = 0; k < N; k++) {
            want[i*N + k] = (float)json_number_value(json_array_get(row, (size_t)k + 1));
            largest = fmaxf(largest, fabsf(want[i*N + k]));
        }
    }
    if (e.set)
        printf("FAIL %s: %s\n", name, e.text);
    failed += test_ok(name, same) || test_close(name, got, want, (size_t)(taken*N), 2e-5f*largest, 0);
    free(got);
    free(want);
    free(memory);
    scheduler_free(s);
    return failed;
}

static int check_config(const char *config, const char *words)
{
    Scheduler *s = NULL;
    Err e = {0};
    json_t *json = json_loads(config, 0, NULL);
    const int written = json_file_write(config_path, json, &e), got = scheduler_load(&s, folder, "unipc", 10, 0, &e);
    json_decref(json);
    scheduler_free(s);
    return test_ok(config, !written && (words ? got && strstr(e.text, words) : !got));
}

int main(void)
{
    Err e = {0};
    char sub[64];
    json_t *file = json_file_load(test_path("golden-more/unipc.json"), &e);
    const json_t *runs = json_object_get(file, "runs");
    int failed = 0;
    if (!file || backend_pick("cpu", 1, &e) || !mkdtemp(folder)) {
        printf("FAIL unipc: %s\n", e.text);
        return 1;
    }
    snprintf(sub, sizeof sub, "%s/scheduler", folder);
    snprintf(config_path, sizeof config_path, "%s/scheduler_config.json", sub);
    mkdir(sub, 0777);
    for (size_t i = 0; i < json_array_size(runs); i++)
        failed += check_run(i, json_array_get(runs, i));
    failed += test_ok("there are runs", json_array_size(runs) > 30);
    failed += check_config("{\"solver_order\": 3}", "expected 2")
            + check_config("{\"predict_x0\": false}", "predict_x0")
            + check_config("{\"disable_corrector\": [0]}", "expected none")
            + check_config("{\"disable_corrector\": [], \"solver_p\": null}", NULL)
            + check_config("{\"use_flow_sigmas\": true}", "expected false")
            + check_config("{\"lower_order_final\": false}", "sigma_min")
            + check_config("{\"solver_type\": \"bh1\"}", "sigma_min")
            + check_config("{\"thresholding\": true}", "not clipped here")
            + check_config("{\"solver_type\": \"heun\", \"algorithm_type\": \"dpmsolver++\"}", NULL);
    unlink(config_path);
    rmdir(sub);
    rmdir(folder);
    json_decref(file);
    return failed != 0;
}
