/* SPDX-License-Identifier: MIT */
/* scheduler.c -- the noise schedule of a model, and DDIM's timesteps and coefficients, as diffusers computes them.
 *
 *   alpha_cumprod(t) = prod_{s <= t} (1 - beta_s), t in [0, T)
 *   a = alpha_cumprod(t)      a_prev = alpha_cumprod(t - T/steps)
 *
 * The config is taken as StableDiffusionPipeline takes it, which sets clip_sample to false and steps_offset to 1
 * whatever they are. Of another sampler's config from_config then drops the two where they were missing, and takes its
 * own defaults: true, which is refused here, and 0. (lcm's is false, the others do not clip.)
 * StableDiffusionXLPipeline leaves both as they are.
 *
 * Before the first timestep a_prev is 1 (set_alpha_to_one) or alpha_cumprod(0). Roots are correctly rounded, torch's
 * may be an ulp off. Trailing spacing gives as many timesteps as were asked for, where diffusers (by numpy.arange) adds
 * a last one of -1 for some counts such as 61. diffusers schedulers/scheduling_ddim.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

enum { MAX_T = 100000 };
static const char FLOW_CLASS[] = "FlowMatchEulerDiscreteScheduler";

typedef SchedulerConfig Config;

static int read_prediction(Config *c, Err *e)
{
    static const char *const names[] = {"epsilon", "v_prediction", "sample"};
    const char *name;
    if (json_get_text(c->file, c->json, "prediction_type", names[PREDICT_EPSILON], &name, e))
        return -1;
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            c->prediction = (Prediction)i;
            return 0;
        }
    return err_set(e, "%s: \"prediction_type\" is \"%s\", expected epsilon, v_prediction or sample", c->file, name);
}

/* What the pipeline sets, and thresholding. */
static int read_overruled(Config *c, Err *e)
{
    const char *class = *c->class ? c->class : c->own;
    bool clip, thresholding;
    int64_t offset;
    if (json_get_bool(c->file, c->json, "clip_sample", c->method == METHOD_DDIM, &clip, e)
        || json_get_bool(c->file, c->json, "thresholding", false, &thresholding, e)
        || json_get_int(c->file, c->json, "steps_offset", -1, &offset, e))
        return -1;
    const bool same = strcmp(class, c->own) == 0, missing = !json_is_boolean(json_object_get(c->json, "clip_sample"));
    const bool xl = c->pipeline.xl;
    if (xl && offset >= c->T)
        return err_set(e, "%s: \"steps_offset\" is %lld, expected 0 to %lld", c->file, (long long)offset,
                       (long long)c->T - 1);
    c->steps_offset = xl ? (int)(offset > 0 ? offset : 0) : same || offset >= 0;
    const bool lcm = c->method == METHOD_LCM;
    if (thresholding && (c->method == METHOD_DDIM || c->method == METHOD_DPM || c->method == METHOD_UNIPC || lcm))
        return err_set(e, "%s: \"thresholding\" is true; a latent is not clipped here, expected false", c->file);
    const bool clips = c->method == METHOD_DDIM ? (xl ? clip : !same && missing) : lcm && xl && clip;
    if (!clips)
        return 0;
    return err_set(e, "%s: \"clip_sample\" is %s, and a %s made of this %s would clip; a latent is not clipped here, "
                   "expected false", c->file, missing ? "missing" : "true", c->own, class);
}

/* What the config of any method has. */
static int config_open(Config *c, const char *dir, Err *e)
{
    snprintf(c->file, sizeof c->file, "%.4096s/scheduler/scheduler_config.json", dir);
    if (pipeline_read(&c->pipeline, dir, e) || !(c->json = json_file_load(c->file, e))
        || json_get_text(c->file, c->json, "_class_name", c->pipeline.sd3 ? FLOW_CLASS : "", &c->class, e)
        || json_get_int(c->file, c->json, "num_train_timesteps", 1000, &c->T, e))
        return -1;
    if (c->pipeline.sd3 && strcmp(c->class, FLOW_CLASS) != 0)
        return err_set(e, "%s: \"_class_name\" is \"%.60s\": Stable Diffusion 3 matches flows, expected %s", c->file,
                       c->class, FLOW_CLASS);
    if (c->T < 1 || c->T > MAX_T)
        return err_set(e, "%s: \"num_train_timesteps\" is %lld, expected 1 to %d", c->file, (long long)c->T, MAX_T);
    return 0;
}

/* What that of a method with betas has. */
static int config_read(Config *c, Err *e)
{
    const char *file = c->file;
    const json_t *json = c->json;
    const bool leading = c->method == METHOD_DDIM || c->method == METHOD_PNDM, lcm = c->method == METHOD_LCM;
    if (json_get_number(file, json, "beta_start", lcm ? 0.00085 : 0.0001, &c->beta_start, e)
        || json_get_number(file, json, "beta_end", lcm ? 0.012 : 0.02, &c->beta_end, e)
        || json_get_text(file, json, "beta_schedule", lcm ? "scaled_linear" : "linear", &c->schedule, e)
        || json_get_text(file, json, "timestep_spacing", leading ? "leading" : "linspace", &c->spacing, e)
        || json_get_bool(file, json, "set_alpha_to_one", c->method != METHOD_PNDM, &c->set_alpha_to_one, e)
        || json_get_bool(file, json, "rescale_betas_zero_snr", false, &c->zero_snr, e)
        || read_prediction(c, e))
        return -1;
    if (c->method == METHOD_PNDM)
        c->zero_snr = false;                    /* no key of this scheduler's */
    return read_overruled(c, e);
}

int scheduler_space(Scheduler *s, const Config *c, int points, Err *e)
{
    const int T = (int)c->T, n = s->steps;
    const double down = (T - T / (double)n) - T;        /* rounded as numpy.arange rounds its step: it decides ties */
    for (int i = 0; i < n; i++) {
        SchedulerStep *step = &s->step[i];
        const int left = points - 1 - i;
        if (strcmp(c->spacing, "leading") == 0)
            step->t = left * (T / points) + c->steps_offset;
        else if (strcmp(c->spacing, "trailing") == 0)
            step->t = (int)nearbyint(T + i * down) - 1;
        else if (strcmp(c->spacing, "linspace") == 0)
            step->t = (int)nearbyint(points > 1 ? left * ((T - 1) / (double)(points - 1)) : 0);
        else
            return err_set(e, "%s: \"timestep_spacing\" is \"%s\", expected leading, trailing or linspace", c->file,
                           c->spacing);
        step->time = (float)step->t;
        if (step->t < 0 || step->t >= T)
            return err_set(e, "%s: with %d steps a timestep is %d, outside 0 to %d; take fewer steps", c->file, n,
                           step->t, T - 1);
    }
    return 0;
}

void scheduler_set_step(SchedulerStep *step, float a, float a_prev)
{
    step->sqrt_a = sqrtf(a);
    step->sqrt_1m_a = sqrtf(1.0f - a);
    step->sqrt_a_prev = sqrtf(a_prev);
    step->sqrt_1m_a_prev = sqrtf(1.0f - a_prev);
}

static void fill_coefficients(Scheduler *s, const Config *c, const float *bar)
{
    const float before = c->set_alpha_to_one ? 1.0f : bar[0];
    for (int i = 0; i < s->steps; i++) {
        SchedulerStep *step = &s->step[i];
        const int t_prev = step->t - (int)(c->T / s->steps);
        scheduler_set_step(step, bar[step->t], t_prev >= 0 ? bar[t_prev] : before);
    }
}

int scheduler_check_signal(const Scheduler *s, const Config *c, const float *bar, Err *e)
{
    if (c->zero_snr && c->prediction == PREDICT_EPSILON && bar[s->step[0].t] == 0)
        return err_set(e,
                       "%s: \"rescale_betas_zero_snr\" leaves no signal at t = %d, which epsilon prediction divides by",
                       c->file, s->step[0].t);
    return 0;
}

static int plan_ddim(Scheduler *s, const Config *c, const float *bar, Err *e)
{
    if (scheduler_space(s, c, s->steps, e) || scheduler_check_signal(s, c, bar, e))
        return -1;
    fill_coefficients(s, c, bar);
    return 0;
}

static void fill_sigmas(float *sigma, const Config *c, const float *bar)
{
    for (int t = 0; t < c->T; t++) {
        const float a = c->zero_snr && t == c->T - 1 ? 0x1p-24f : bar[t];       /* near 0, so that sigma is finite */
        sigma[t] = sqrtf((1.0f - a) / a);
    }
}

int scheduler_last_sigma(float *sigma, const Config *c, float lowest, Err *e)
{
    const char *last;
    if (json_get_text(c->file, c->json, "final_sigmas_type", "zero", &last, e))
        return -1;
    if (strcmp(last, "zero") != 0 && strcmp(last, "sigma_min") != 0)
        return err_set(e, "%s: \"final_sigmas_type\" is \"%s\", expected zero or sigma_min", c->file, last);
    *sigma = strcmp(last, "zero") == 0 ? 0 : lowest;
    return 0;
}

int scheduler_check_karras(const Config *c, Err *e)
{
    return c->karras || !json_is_true(json_object_get(c->json, "use_karras_sigmas")) ? 0
         : err_set(e, "%s: \"use_karras_sigmas\" is true: --sampler %s-karras draws by it", c->file, c->name);
}

int scheduler_check_false(const Config *c, const char *const *key, int n, Err *e)
{
    for (int i = 0; i < n; i++)
        if (json_is_true(json_object_get(c->json, key[i])))
            return err_set(e, "%s: \"%s\" is true, expected false", c->file, key[i]);
    return 0;
}

/* bar, scratch: (T). */
static int plan_noise(Scheduler *s, const Config *c, float *bar, float *scratch, Err *e)
{
    if (scheduler_cumulate(bar, scratch, c, e))
        return -1;
    if (c->method == METHOD_DDIM)
        return plan_ddim(s, c, bar, e);
    if (c->method == METHOD_PNDM)
        return scheduler_plan_pndm(s, c, bar, e);
    if (c->method == METHOD_LCM)
        return scheduler_plan_lcm(s, c, bar, e);
    fill_sigmas(scratch, c, bar);
    return c->method == METHOD_DPM ? scheduler_plan_dpm(s, c, scratch, e)
         : c->method == METHOD_UNIPC ? scheduler_plan_unipc(s, c, scratch, e)
         : scheduler_plan_euler(s, c, scratch, e);
}

/* Of a model that matches flows there is one method, under two names. */
static int read_flow_method(Config *c, const char *name, Err *e)
{
    c->method = METHOD_FLOW;
    c->name = "euler";
    c->own = FLOW_CLASS;
    if (strcmp(name, "auto") == 0 || strcmp(name, c->name) == 0)
        return 0;
    return err_set(e, "%s: \"_class_name\" is \"%s\": this model matches flows, which sampler euler (or auto) draws; "
                   "%.40s goes by noise", c->file, FLOW_CLASS, name);
}

static int read_method(Config *c, const char *name, Err *e)
{
    static const struct { const char *name, *class; Method method; bool karras, ancestral; } methods[] = {
        {"ddim", "DDIMScheduler", METHOD_DDIM, false, false},
        {"pndm", "PNDMScheduler", METHOD_PNDM, false, false},
        {"dpm++2m", "DPMSolverMultistepScheduler", METHOD_DPM, false, false},
        {"dpm++2m-karras", "DPMSolverMultistepScheduler", METHOD_DPM, true, false},
        {"unipc", "UniPCMultistepScheduler", METHOD_UNIPC, false, false},
        {"unipc-karras", "UniPCMultistepScheduler", METHOD_UNIPC, true, false},
        {"euler", "EulerDiscreteScheduler", METHOD_EULER, false, false},
        {"euler-a", "EulerAncestralDiscreteScheduler", METHOD_EULER, false, true},
        {"lcm", "LCMScheduler", METHOD_LCM, false, false},
    };
    const char *wanted = strcmp(name, "auto") == 0 ? "ddim" : name;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(wanted, methods[i].name) == 0) {
            c->method = methods[i].method;
            c->karras = methods[i].karras;
            c->ancestral = methods[i].ancestral;
            c->name = methods[i].name;
            c->own = methods[i].class;
            return strcmp(c->class, FLOW_CLASS) == 0 ? read_flow_method(c, name, e) : 0;
        }
    return err_misuse(e, "sampler '%s' is not auto, ddim, pndm, dpm++2m, dpm++2m-karras, unipc, "
                      "unipc-karras, euler, euler-a or lcm", name);
}

/* The first steps away: the next begins without what they would have left. */
static void leave_out(Scheduler *s, int begin)
{
    s->steps -= begin;
    memmove(s->step, s->step + begin, sizeof *s->step*(size_t)s->steps);
    s->step[0].change = 0;
}

static int find_begin(Config *c, int steps, double strength, Err *e)
{
    if (strength == 0)
        return 0;
    c->begin = c->method == METHOD_FLOW ? (int)(steps - steps*strength) : steps - (int)(steps*strength);
    return c->begin < steps ? 0 : err_misuse(e, "a strength of %g of %d steps is none", strength, steps);
}

static int plan(Scheduler *s, Config *c, double strength, Err *e)
{
    if (s->steps < 1 || s->steps > c->T)
        return err_set(e, "%d steps: expected 1 to %lld, the timesteps of %s", s->steps, (long long)c->T, c->file);
    float *bar = calloc((size_t)c->T*2, sizeof *bar);
    s->step = calloc((size_t)s->steps + SCHEDULER_MORE, sizeof *s->step);
    int failed = !bar || !s->step ? err_set(e, "out of memory") : find_begin(c, s->steps, strength, e);
    s->method = c->name;
    s->prediction = c->prediction;
    s->first = 1;
    if (!failed)
        failed = c->method == METHOD_FLOW ? scheduler_plan_flow(s, c, e) : plan_noise(s, c, bar, bar + c->T, e);
    if (!failed && c->method != METHOD_PNDM)
        leave_out(s, c->begin);
    free(bar);
    return failed;
}

int scheduler_load(Scheduler **out, const char *dir, const char *method, int steps, double strength, Err *e)
{
    Config c = {0};
    Scheduler *s = *out = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->steps = steps;
    const int failed = config_open(&c, dir, e) || read_method(&c, method, e)
                    || (c.method != METHOD_FLOW && config_read(&c, e)) || plan(s, &c, strength, e) ? -1 : 0;
    json_decref(c.json);
    if (failed) {
        scheduler_free(s);
        *out = NULL;
    }
    return failed;
}

void scheduler_add_noise(const Scheduler *s, int i, float *noise, const float *x, size_t n)
{
    const SchedulerStep *q = &s->step[i];
    for (size_t k = 0; k < n; k++)
        noise[k] = q->sqrt_a*x[k] + q->sqrt_1m_a*noise[k];
}

void scheduler_mean(const Scheduler *s, int i, float *x, const float *uncond, const float *cond, float guidance,
                    int64_t n)
{
    const SchedulerStep *q = &s->step[i];
    const double a = (double)q->sqrt_a*q->sqrt_a, b = (double)q->sqrt_1m_a*q->sqrt_1m_a;
    const double a_prev = (double)q->sqrt_a_prev*q->sqrt_a_prev, b_prev = (double)q->sqrt_1m_a_prev*q->sqrt_1m_a_prev;
    const double variance = b_prev/b*(1 - a/a_prev);
    op->ddim_step(x, uncond, cond, guidance, q->sqrt_a, q->sqrt_1m_a, q->sqrt_a_prev,
                  (float)sqrt(fmax(b_prev - variance, 0)), s->prediction, n);
}

int scheduler_first(const Scheduler *s, TRange when)
{
    int i = 0;
    while (i < s->steps && !t_range_has(when, s->step[i].t))
        i++;
    return i;
}

void scheduler_free(Scheduler *s)
{
    if (s)
        free(s->step);
    free(s);
}

/* From where the step starts, DDIM's with a mix of outputs for the output. */
static void pndm_step(const Scheduler *s, const SchedulerStep *q, float *x, float *memory, const float *uncond,
                      const float *cond, float guidance, int64_t n)
{
    const Mix *m = &q->mix;
    const size_t bytes = (size_t)n*sizeof *x;
    float *y = memory + PLACE_MIX*n, *mark = memory + PLACE_MARK*n, *store = m->store < 0 ? NULL : memory + m->store*n;
    const float *const before[] = {memory + m->before[0]*n, memory + m->before[1]*n, memory + m->before[2]*n};
    if (q->origin == FROM_MARKED_X)
        op->copy(mark, x, bytes);
    else if (q->origin == FROM_THE_MARK)
        op->copy(x, mark, bytes);
    op->multistep(y, store, uncond, cond, guidance, before, m->weight, m->share, n);
    op->ddim_step(x, NULL, y, 1, q->sqrt_a, q->sqrt_1m_a, q->sqrt_a_prev, q->sqrt_1m_a_prev, s->prediction, n);
}

/* What the output says of the picture; then x as it should have been before, and as it is after the step. */
static void unipc_step(const Scheduler *s, const SchedulerStep *q, float *x, float *memory, const float *uncond,
                       const float *cond, float guidance, int64_t n)
{
    const size_t bytes = (size_t)n*sizeof *x;
    float *last = memory + PLACE_LAST*n, *x0 = memory + q->mix.store*n;
    const float *const before[] = {last, memory + q->mix.before[1]*n, memory + q->mix.before[2]*n};
    op->copy(x0, x, bytes);
    op->ddim_step(x0, uncond, cond, guidance, q->sqrt_a, q->sqrt_1m_a, 1, 0, s->prediction, n);
    if (q->corrected.share > 0)
        op->multistep(x, NULL, NULL, x0, 1, before, q->corrected.weight, q->corrected.share, n);
    op->copy(last, x, bytes);
    op->multistep(x, NULL, NULL, x0, 1, before, q->mix.weight, q->mix.share, n);
}

void scheduler_step(const Scheduler *s, int i, float *x, float *memory, const float *uncond, const float *cond,
                    float guidance, int64_t n)
{
    const SchedulerStep *q = &s->step[i];
    switch (s->kind) {
    case STEP_DDIM:
        op->ddim_step(x, uncond, cond, guidance, q->sqrt_a, q->sqrt_1m_a, q->sqrt_a_prev, q->sqrt_1m_a_prev,
                      s->prediction, n);
        break;
    case STEP_DPM:
        op->dpm_step(x, memory, uncond, cond, guidance, q->sqrt_a, q->sqrt_1m_a, q->keep, q->data, q->change,
                     s->prediction, n);
        break;
    case STEP_PNDM:
        pndm_step(s, q, x, memory, uncond, cond, guidance, n);
        break;
    case STEP_UNIPC:
        unipc_step(s, q, x, memory, uncond, cond, guidance, n);
        break;
    case STEP_FLOW:                             /* what is predicted, as it is, stands where dpm++2m has x0 */
        op->dpm_step(x, memory, uncond, cond, guidance, 1, 0, 1, q->data, 0, PREDICT_SAMPLE, n);
        break;
    }
}
