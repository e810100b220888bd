/* SPDX-License-Identifier: MIT */
/* scheduler_unipc.c -- coefficients of UniPC of order 2 with x0 prediction: a step predicted from what the picture was
 * taken for, and corrected when the network has been asked at its end.
 *
 *   sigma, alpha, h_i as scheduler_dpm.c has them; m_i = x0 as predicted at step i, from the x that step was given
 *   phi = e^-h - 1      B = phi (bh2) or -h (bh1)
 *
 *   predicted   x_i+1 = alpha' sigma'/(alpha sigma) c_i - alpha' phi m_i - alpha' B/(2 r) (m_i-1 - m_i)
 *   corrected   c_i+1 = alpha' sigma'/(alpha sigma) c_i - alpha' phi m_i
 *                       - alpha' B [p/r (m_i-1 - m_i) + q (m_i+1 - m_i)]
 *   r = -h_i-1/h_i of the step's own h = h_i      p + q = b1,  r p + q = b2,  b1 = (phi/-h - 1)/B,
 *   b2 = 2 ((phi/-h - 1)/-h - 1/2)/B
 *
 * The first step, and the last where "lower_order_final" is true, are of first order: without m_i-1, and q = 1/2. c of
 * the first step is x itself. Both are sums of four latents: c_i and three m. Zhao et al. 2023 (arXiv 2302.04867),
 * algorithms 5 to 8; diffusers schedulers/scheduling_unipc_multistep.py, whose defaults these are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "src/models/scheduler_parts.h"

enum { PREDICTIONS = 3 };               /* m that a step goes by: its own and two before */

typedef struct UniPc {
    int n, begin;                       /* begin: the first step that is taken */
    float *at;                          /* [n + 1] sigmas of the steps, and of the end */
    bool bh1, lower_final;
} UniPc;

static int place(int step)
{
    return PLACE_FIRST_X0 + step%PREDICTIONS;
}

static int order_of(const UniPc *u, int i)
{
    const int most = u->lower_final && i == u->n - 1 ? 1 : 2;
    return i == u->begin ? 1 : most;
}

static double alpha_of(double sigma)
{
    return 1/sqrt(1 + sigma*sigma);
}

/* A sum over what step `at` goes by, of m_at (0 for a predictor's weight of m_at+1), c, m_at-1 and m_at-2. */
static Mix sum_of(double own, double last, double before, double before_that, int at)
{
    return (Mix){.weight = {(float)own, (float)last, (float)before, (float)before_that}, .share = 1,
                 .before = {PLACE_LAST, place(at + PREDICTIONS - 1), place(at + PREDICTIONS - 2)}, .store = place(at)};
}

typedef struct Way { double keep, phi, B, hh, alpha; } Way;     /* from one sigma to the next */

static Way way(const UniPc *u, int i)
{
    const double s = u->at[i], t = u->at[i + 1], hh = log(t/s);
    return (Way){t*alpha_of(t)/(s*alpha_of(s)), t/s - 1, u->bh1 ? hh : t/s - 1, hh, alpha_of(t)};
}

/* r of step i: the way to the step before over its own. */
static double ratio(const UniPc *u, int i, const Way *w)
{
    return log((double)u->at[i]/(double)u->at[i - 1])/-w->hh;
}

static void predict(const UniPc *u, SchedulerStep *step, int i)
{
    const Way w = way(u, i);
    const double half = order_of(u, i) == 2 ? 0.5*w.B/ratio(u, i, &w) : 0;
    step->mix = sum_of(w.alpha*(half - w.phi), w.keep, -w.alpha*half, 0, i);
}

static void correct(const UniPc *u, SchedulerStep *step, int i)
{
    const Way w = way(u, i - 1);
    double p = 0, q = 0.5, r = 1;
    if (order_of(u, i - 1) == 2) {
        const double first = w.phi/w.hh - 1, b1 = first/w.B, b2 = 2*(first/w.hh - 0.5)/w.B;
        r = ratio(u, i - 1, &w);
        p = (b1 - b2)/(1 - r);
        q = b1 - p;
    }
    step->corrected = sum_of(-w.alpha*w.B*q, w.keep, w.alpha*(w.B*(p/r + q) - w.phi), -w.alpha*w.B*p/r, i);
}

static int read_config(UniPc *u, const SchedulerConfig *c, Err *e)
{
    static const char *const other_sigmas[] = {"use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"};
    const char *solver;
    int64_t order;
    bool x0;
    if (json_get_text(c->file, c->json, "solver_type", "bh2", &solver, e)
        || json_get_int(c->file, c->json, "solver_order", 2, &order, e)
        || json_get_bool(c->file, c->json, "predict_x0", true, &x0, e)
        || json_get_bool(c->file, c->json, "lower_order_final", true, &u->lower_final, e))
        return -1;
    if (order != 2)
        return err_set(e, "%s: \"solver_order\" is %lld, expected 2", c->file, (long long)order);
    if (!x0)
        return err_set(e, "%s: \"predict_x0\" is false, expected true", c->file);
    if (json_array_size(json_object_get(c->json, "disable_corrector")) > 0)
        return err_set(e, "%s: \"disable_corrector\" names steps, expected none", c->file);
    u->bh1 = strcmp(solver, "bh1") == 0;                /* what other solvers' configs say stands for bh2 */
    return scheduler_check_karras(c, e) ? -1
         : scheduler_check_false(c, other_sigmas, sizeof other_sigmas/sizeof *other_sigmas, e);
}

static int plan(Scheduler *s, const SchedulerConfig *c, UniPc *u, const float *sigma, Err *e)
{
    if (scheduler_sigmas(s, c, sigma, u->at, e))
        return -1;
    if ((!u->lower_final || u->bh1) && u->at[u->n] == 0)        /* h of the last step is infinite */
        return err_set(e, "%s: %s, and the last step goes to no noise at all; expected \"final_sigmas_type\" sigma_min",
                       c->file, u->bh1 ? "\"solver_type\" is \"bh1\"" : "\"lower_order_final\" is false");
    for (int i = u->begin; i < u->n; i++) {
        SchedulerStep *step = &s->step[i];
        const double alpha = alpha_of(u->at[i]);
        step->sqrt_a = (float)alpha;
        step->sqrt_1m_a = (float)(alpha*u->at[i]);
        predict(u, step, i);
        if (i > u->begin)
            correct(u, step, i);
    }
    return 0;
}

int scheduler_plan_unipc(Scheduler *s, const SchedulerConfig *c, const float *sigma, Err *e)
{
    UniPc u = {.n = s->steps, .begin = c->begin};
    s->kind = STEP_UNIPC;
    s->memory = PLACE_FIRST_X0 + PREDICTIONS;
    if (read_config(&u, c, e))
        return -1;
    if (!(u.at = malloc(sizeof *u.at*(size_t)(u.n + 1))))
        return err_set(e, "out of memory");
    const int failed = plan(s, c, &u, sigma, e);
    free(u.at);
    return failed;
}
