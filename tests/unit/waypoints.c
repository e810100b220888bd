/* SPDX-License-Identifier: MIT */
/* waypoints.c -- runs that begin where an earlier one was alike: the latents are those of the whole run, for every
 * sampler, with noise anew at each step and with what a step leaves for the next; for pictures of texts of two lengths,
 * and for some pictures of a batch; and only the rest of the steps is taken. */
#include "kernels/op.h"
#include "src/models/sampler.h"
#include "tests/unit/golden.h"
#include "tests/unit/network.h"

enum { STEPS = 6, BATCH = 3, POINTS = 2 };

static int taken;                       /* steps, of runs of texts of any length */

static int step(void *context, Sampler *s, Err *e)
{
    (void)context;
    (void)s;
    (void)e;
    taken++;
    return 0;
}

/* A steering from step 3 on. */
static int change(void *context, const HookCall *call, Err *e)
{
    const Sampler *s = context;
    const int64_t n = call->B*call->H*call->W*call->C;
    (void)e;
    if (s->step >= 3)
        op->add(call->act, call->act, n);
    return 0;
}

static int same(const char *method, const char *what, const float *a, const float *b, size_t n)
{
    char name[96];
    snprintf(name, sizeof name, "%s: %s", method, what);
    return test_same(name, a, b, n*sizeof *a);
}

static int test_method(const char *method, double strength)
{
    static const int lengths[BATCH] = {5, 7, 5};
    const SamplerOptions o = {.model = test_path("../data/minisd/model"), .type = F32, .method = method, .steps = STEPS,
                              .guidance = 3, .batch = BATCH, .height = 8, .width = 8, .strength = strength};
    Sampler *s = NULL;
    die_if(sampler_create(&s, &o, &err));
    const int steps = s->scheduler->steps, late = steps - 1, points[POINTS] = {2, late};
    const size_t E = (size_t)denoiser_text_width(s->denoiser), picture = (size_t)(s->C*s->H*s->W);
    CondItem item[BATCH] = {0}, part[2];
    unsigned seed = 1;
    for (int i = 0; i < BATCH; i++) {
        item[i] = (CondItem){.S = lengths[i], .seed = 7 + (uint64_t)i, .place = i};
        item[i].state = malloc(2*(size_t)lengths[i]*E*sizeof(float));
        item[i].uncond = item[i].state + (size_t)lengths[i]*E;
        for (size_t k = 0; k < 2*(size_t)lengths[i]*E; k++)
            item[i].state[k] = noise(&seed);
        item[i].start = malloc(picture*sizeof(float));
        for (size_t k = 0; k < picture; k++)
            item[i].start[k] = noise(&seed);
    }
    part[0] = item[0];
    part[1] = item[2];
    const CondBatch all = {.E = (int)E, .item = item, .count = BATCH, .capacity = BATCH};
    const CondBatch some = {.E = (int)E, .item = part, .count = 2, .capacity = BATCH};
    float *whole = malloc(BATCH*picture*sizeof *whole), *rest = malloc(BATCH*picture*sizeof *rest);
    float *plain = malloc(BATCH*picture*sizeof *plain);
    die_if(sampler_waypoints(s, points, POINTS, &err));
    die_if(sampler_run_from(s, -1, -1, &all, plain, step, NULL, &err));
    die_if(sampler_run_from(s, -1, POINTS - 1, &all, rest, step, NULL, &err));
    int failed = same(method, "to leave something changes nothing", rest, plain, BATCH*picture);
    for (int p = POINTS - 1; p >= 0; p--) {
        taken = 0;
        die_if(sampler_run_from(s, p, -1, &all, rest, step, NULL, &err));
        failed += same(method, "from a waypoint", rest, plain, BATCH*picture);
        failed += test_ok("the rest of the steps, for texts of two lengths", taken == 2*(steps - points[p]));
    }
    /* changed from step 3 on: what it would leave later is not what the plain run has, and it does not leave it */
    die_if(hooks_add(denoiser_hooks(s->denoiser), "mid_block", false, change, s, &err) != 1
           || sampler_run_from(s, -1, 0, &all, whole, step, NULL, &err));
    failed += test_ok("another picture", memcmp(whole, plain, BATCH*picture*sizeof *whole) != 0);
    die_if(sampler_run_from(s, 0, 0, &some, rest, step, NULL, &err));
    failed += same(method, "the first of some", rest, whole, picture);
    failed += same(method, "the last of some", rest + picture, whole + 2*picture, picture);
    for (int i = 0; i < BATCH; i++) {
        free(item[i].state);
        free(item[i].start);
    }
    free(whole);
    free(rest);
    free(plain);
    sampler_free(s);
    return failed;
}

int main(void)
{
    static const char *const methods[] = {"ddim", "pndm", "dpm++2m", "unipc-karras", "euler", "euler-a", "lcm"};
    int failed = 0;
    if (backend_pick(test_backend(), 0, &err)) {
        printf("%s\n", err.text);
        return TEST_SKIPPED;
    }
    for (size_t i = 0; i < sizeof methods/sizeof *methods; i++) {
        failed += test_method(methods[i], 0);
        failed += test_method(methods[i], 0.7);
    }
    return failed != 0;
}
