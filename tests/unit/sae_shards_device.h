/* SPDX-License-Identifier: MIT */
/* sae_shards_device.h -- training by several ranks beside training by one: weights within a tolerance, the same bytes
 * twice, a checkpoint between. sae_shards.c runs it on the CPU, sae_shards_simt.c on the CUDA backend, played,
 * sae_shards_cuda.c on GPUs.
 *
 * Tolerance: sums of R parts in another order, through a few steps of Adam at a rate of 1e-3, whose steps keep a
 * weight's first digits. Many steps on, one choice of a feature that fell otherwise shows; so the steps are few. */
#ifndef TESTS_UNIT_SAE_SHARDS_DEVICE_H
#define TESTS_UNIT_SAE_SHARDS_DEVICE_H

#include <sys/mman.h>
#include "src/models/sae_shards.h"
#include "tests/unit/team_test.h"

enum { D = 32, F = 97, N = 64, STEPS = 6 };

typedef struct Result {             /* in memory that all processes see */
    float W_enc[F*D], W_dec[F*D], b_enc[F], b_dec[D];
    TrainStep step;
    double gradient;
} Result;

/* Writes the trainer's state to a file, and goes on with another that reads it. */
static Trainer *handed_on(Trainer *t, const TrainOptions *o)
{
    Err e = {0};
    Checkpoint *c;
    char path[64];
    snprintf(path, sizeof path, "/tmp/sae_shards-%ld.ckpt", (long)getpid());
    if (checkpoint_create(&c, &e) || trainer_store(t, c, "t", &e) || checkpoint_write(c, path, &e))
        die(&e);
    checkpoint_free(c);
    trainer_free(t);
    if (checkpoint_open(&c, path, &e) || trainer_create(&t, o, &e) || trainer_restore(t, c, "t", &e))
        die(&e);
    checkpoint_free(c);
    unlink(path);
    return t;
}

static void train(Result *r, const TrainOptions *o, bool interrupted)
{
    Err e = {0};
    Trainer *t;
    Sae *s;
    float *x = op_values(STEPS*N*D, 3);
    if (trainer_create(&t, o, &e) || trainer_start(t, x, N, &e))
        die(&e);
    for (int j = 0; j < STEPS; j++) {
        if (interrupted && j == STEPS/2)
            t = handed_on(t, o);
        if (trainer_step(t, x + j*N*D, NULL, j == 1 ? N/2 : N, 1e-3, &r->step, &e))
            die(&e);
    }
    r->gradient = trainer_gradient(t);
    if (trainer_export(t, &s, &e))
        die(&e);
    op->download(r->W_enc, s->W_enc, sizeof r->W_enc);
    op->download(r->W_dec, s->W_dec, sizeof r->W_dec);
    op->download(r->b_enc, s->b_enc, sizeof r->b_enc);
    op->download(r->b_dec, s->b_dec, sizeof r->b_dec);
    sae_free(s);
    trainer_free(t);
    free(x);
}

typedef struct Training { Result *result; TrainOptions options; bool interrupted; } Training;

static int one_rank(void *context)
{
    Training *t = context;
    Err e = {0};
    t->options.team = team;
    if (team && team_rank(team) > 0) {
        if (shards_serve(team, &e))
            team_fail(team, &e);
        return 0;
    }
    train(t->result, &t->options, t->interrupted);
    if (team)
        shards_end(team);
    return 0;
}

/* from, to: how many features are to be dead at the last step */
static int compare(const char *name, TrainOptions o, const Ops *(*backend)(void), int ranks, int from, int to)
{
    Result *r = mmap(NULL, 3*sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char title[160];
    o.D = D;
    o.F = F;
    o.batch = N;
    o.dead = o.dead ? o.dead : 1 << 20;
    o.seed = 1;
    int failed = 0;
    for (int j = 0; j < 3; j++)
        failed += test_ok("the processes end", in_team(j ? ranks : 0, backend, one_rank,
                                                       &(Training){&r[j], o, j == 2}) == 0);
    failed += test_close(op_name(title, "%d ranks, %s/W_enc", ranks, name), r[1].W_enc, r[0].W_enc, F*D, 2e-5f, 1e-4f)
              + test_close("W_dec", r[1].W_dec, r[0].W_dec, F*D, 2e-5f, 1e-4f)
              + test_close("b_enc", r[1].b_enc, r[0].b_enc, F, 2e-5f, 1e-4f)
              + test_close("b_dec", r[1].b_dec, r[0].b_dec, D, 2e-5f, 1e-4f)
              + test_ok("fvu", fabs(r[1].step.fvu - r[0].step.fvu) <= 1e-5*r[0].step.fvu)
              + test_ok("term of dead features", fabs(r[1].step.aux - r[0].step.aux) <= 1e-5*r[0].step.aux)
              + test_ok("gradient", fabs(r[1].gradient - r[0].gradient) <= 1e-4*r[0].gradient)
              + test_ok("features kept", r[1].step.l0 == r[0].step.l0)
              + test_ok(op_name(title, "%d dead features", r[0].step.dead), r[1].step.dead == r[0].step.dead
                        && r[0].step.dead >= from && r[0].step.dead <= to)
              + test_same("the same bytes twice, and by way of a checkpoint", &r[2], &r[1], sizeof r[1].W_enc
                          + sizeof r[1].W_dec + sizeof r[1].b_enc + sizeof r[1].b_dec);
    munmap(r, 3*sizeof *r);
    return failed;
}

__attribute__((unused)) static int shards_beside_one(const Ops *(*backend)(void))
{
    int failed = compare("no clipping", (TrainOptions){.K = 10, .clip = 1e3}, backend, 2, 0, 0);
    failed += compare("clipped", (TrainOptions){.K = 10, .clip = 1e-3}, backend, 3, 0, 0);
    failed += compare("ranks without dead features",
                      (TrainOptions){.K = 2, .clip = 1, .auxk = 1, .k_aux = 40, .dead = 2*N}, backend, 3, 1, 2);
    return failed + compare("more dead features than are taken",
                            (TrainOptions){.K = 2, .auxk = 1./32, .k_aux = 4, .dead = N/2}, backend, 2, 6, F);
}

#endif
