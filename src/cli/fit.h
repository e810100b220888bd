/* SPDX-License-Identifier: MIT */
/* fit.h -- sae-fit in parts: what is asked for, the run over a stream's hooks, its log, its checkpoints, its
 * folders. */
#ifndef SRC_CLI_FIT_H
#define SRC_CLI_FIT_H

#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include "src/cli/cli.h"
#include "src/models/activations.h"
#include "src/models/sae_fit.h"

typedef struct FitConfig {
    Common c;
    const char *variant, *levels, *labels, *mix, *hook, *half, *moments, *log, *eval, *checkpoint;
    List grid;
    int64_t k, features, expansion, batch, epochs, tokens, buffer, k_aux, dead, resample, warmup, report, every, order;
    int64_t devices;
    double rate, decay, auxk, clip, sparsity, width, assign, decorrelate, minutes;
    int multi, resume;
} FitConfig;

/* ---- fit_devices.c ---- */

/* Opens the backend; with --devices a process for each device, of which the first returns here with their team, and the
 * others do what its trainers order. One device: *team is NULL. */
int fit_devices(Team **team, const Cli *cli, const FitConfig *cfg, Err *e);
void fit_devices_end(Team *team, bool failed);          /* NULL: nothing */

/* ---- fit_grid.c: one learner, or the product of the grid's axes ---- */

typedef struct FitCell { char name[256]; LearnerOptions learner; } FitCell;     /* "" without a grid, "k=8,lr=1e-3" */
typedef struct FitGrid { FitCell *cell; int count; } FitGrid;

/* The axes of --grid, as the help has them. */
#define FIT_AXES \
    "variant, k, features, expansion, batch, lr, auxk, sparsity, width, assign, decorrelate, seed"
/* Every option that a learner has, checked, from the command line and --grid; what cannot be is misuse. */
int fit_grid_build(FitGrid *g, const Cli *cli, const FitConfig *cfg, Team *team, Err *e);
void fit_grid_free(FitGrid *g);

/* ---- fit_run.c ---- */

typedef struct FitJob {             /* the autoencoders of one hook */
    struct FitRun *run;
    const char *hook;
    Fit *fit;
    struct timespec begun;          /* first step */
    int64_t before;                 /* tokens when the clock began: of the first step, or of a checkpoint */
} FitJob;

typedef struct FitRun {
    const Cli *cli;
    const FitConfig *cfg;
    Activations *in;
    FitGate *gate;                  /* between the thread that reads in and this one */
    FitGrid grid;
    Labels *labels;                 /* NULL without --labels */
    FitJob *job;
    int jobs;
    FILE *log;
    int log_error;                  /* errno of a line that could not be written: said when the folders are there */
    Progress *progress;
    struct timespec written;        /* last checkpoint, or the start */
    bool stopped;                   /* the checkpoint of the stop is written: what comes after is not kept */
    Err unmeasured;                 /* what is wrong with --eval: nothing that was learned is given up for it */
    Err *e;                         /* of what failed within a step's report */
} FitRun;

/* Trains on all of the input, from the beginning or from a checkpoint, and writes the folders, or where it is stopped
 * with --checkpoint that file. */
int fit_run(FitRun *run, const Cli *cli, const FitConfig *cfg, Team *team, Err *e);
void fit_run_close(FitRun *run);
double seconds_since(const struct timespec *t);

/* ---- fit_read.c ---- */

/* One reading of the input, in a thread of its own, while this one trains. Returns 1 when every autoencoder has all
 * it wants or the run was told to stop, 0 at the end of the input, -1. */
int fit_read_all(FitRun *run, Err *e);

/* ---- fit_log.c ---- */

/* Reads --eval through for the records of a hook: what is wrong with it is said before the training. */
int fit_check_held_out(const FitRun *run, const char *hook, Err *e);
/* Figures of a learner's autoencoder as it is now on --eval. null without --eval, and from when it could not be read
 * (run->unmeasured). */
json_t *fit_held_out(FitRun *run, const FitJob *job, int learner);
void fit_write_log(FitRun *run, const FitJob *job, int learner, const FitReport *r);

/* ---- fit_checkpoint.c ---- */

int fit_write_checkpoint(FitRun *run, Err *e);
/* Goes on from --checkpoint with --resume; nothing where there is no file yet. */
int fit_resume(FitRun *run, Err *e);

/* ---- fit_save.c ---- */

/* Whether the folders of a hook's autoencoders can be written, asked before the training. */
int fit_check_folders(const FitRun *run, const char *hook, Err *e);
int fit_save_all(FitRun *run, Err *e);

#endif
