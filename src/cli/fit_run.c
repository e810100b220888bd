/* SPDX-License-Identifier: MIT */
/* fit_run.c -- from activation streams to autoencoders: readings of the input, reports, the end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/folder.h"
#include "src/cli/fit.h"

double seconds_since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9*(double)(now.tv_nsec - t->tv_nsec);
}

/* After a step: a checkpoint when it is time for one, or when told to stop. */
static int keep_checkpoint(FitRun *run, int64_t steps)
{
    const FitConfig *cfg = run->cfg;
    if (!cfg->checkpoint || run->stopped)
        return 0;
    if (!cli_stop && !(cfg->every && steps % cfg->every == 0)
        && !(cfg->minutes > 0 && seconds_since(&run->written) >= 60*cfg->minutes))
        return 0;
    run->stopped = cli_stop != 0;
    return fit_write_checkpoint(run, run->e);
}

/* FitFn: after every step. */
static int on_step(void *context, int learner, const FitReport *r)
{
    FitJob *job = context;
    FitRun *run = job->run;
    if (r->steps == 1 && learner == 0) {        /* the first step makes what later ones use */
        clock_gettime(CLOCK_MONOTONIC, &job->begun);
        job->before = r->tokens;
    }
    const bool last = r->total > 0 && r->tokens >= r->total;       /* whole batches: a little beyond */
    if (run->log && (r->steps % run->cfg->report == 0 || last))
        fit_write_log(run, job, learner, r);
    int64_t done = 0;
    for (int j = 0; j < run->jobs; j++)
        for (int l = 0; l < run->grid.count; l++)
            done += fit_last(run->job[j].fit, l)->tokens;
    if (r->total > 0)
        progress_note(run->progress, "of %lld, fvu %.4f, %d dead", (long long)r->total*run->jobs*run->grid.count,
                      r->step.fvu, r->step.dead);
    else
        progress_note(run->progress, "fvu %.4f, %d dead", r->step.fvu, r->step.dead);
    progress_set(run->progress, done);
    if (keep_checkpoint(run, r->steps))
        return -1;
    return run->cfg->checkpoint ? run->stopped : cli_stop != 0;     /* told while one was written: a step later */
}

/* A hook comes out of a stream's header, and names a folder below that of -o. */
static int check_folder(const FitRun *run, const char *hook, Err *e)
{
    return *hook && *hook != '.' && !strchr(hook, '/') && strlen(hook) < 256 ? 0
        : err_set(e, "%s: header: hook '%s' cannot name a folder; --hook chooses one of several",
                  stream_name(activations_stream(run->in)), hook);
}

/* The log is written as it comes, the checkpoint on the way, and removed at the end: neither may be a file that is
 * read, or the place of another. */
static int check_written(const FitConfig *cfg, const char *option, const char *name, const char *other, Err *e)
{
    const char *what = NULL;
    if (!name || strcmp(name, "-") == 0)
        return 0;
    if (cli_listed(&cfg->c.inputs, name))
        what = "an input";
    if (cfg->eval && cli_same_file(name, cfg->eval))
        what = "the file of --eval";
    if (other && cli_same_file(name, other))
        what = "the checkpoint";
    if (cli_same_file(name, cfg->c.output))
        what = "the folder of --output";
    return what ? err_misuse(e, "--%s %s: that is %s", option, name, what) : 0;
}

/* What can be known before the training: it may take days. */
static int check_names(const FitConfig *cfg, Err *e)
{
    if (check_written(cfg, "checkpoint", cfg->checkpoint, NULL, e)
        || check_written(cfg, "log", cfg->log, cfg->checkpoint, e)
        || (cfg->checkpoint && aside_try(cfg->checkpoint, e)))
        return -1;
    return folder_there(cfg->c.output, e) < 0 ? -1 : 0;
}

static int open_log(FitRun *run, Err *e)
{
    const FitConfig *cfg = run->cfg;
    if (strcmp(cfg->log, "-") == 0) {
        run->log = stdout;
        return 0;
    }
    run->log = fopen(cfg->log, cfg->resume ? "a" : "w");
    return run->log ? 0 : err_set(e, "%s: %s", cfg->log, strerror(errno));
}

static int open_jobs(FitRun *run, Err *e)
{
    const FitConfig *cfg = run->cfg;
    const int hooks = activations_hooks(run->in);
    LearnerOptions *learner = malloc(sizeof *learner*(size_t)run->grid.count);
    run->job = calloc((size_t)hooks, sizeof *run->job);
    int failed = !learner || !run->job ? err_set(e, "out of memory") : 0;
    for (int c = 0; c < run->grid.count && !failed; c++)
        learner[c] = run->grid.cell[c].learner;
    const FitOptions o = {.learner = learner, .learners = run->grid.count, .tokens = cfg->tokens,
                          .epochs = cfg->epochs, .buffer = cfg->buffer, .pictures = strcmp(cfg->mix, "pictures") == 0,
                          .labels = run->labels, .gate = run->gate,
                          .seed = (uint64_t)(cfg->order < 0 ? cfg->c.seed : cfg->order)};
    for (; run->jobs < hooks && !failed; run->jobs++) {
        FitJob *job = &run->job[run->jobs];
        *job = (FitJob){.run = run, .hook = activations_hook(run->in, run->jobs)};
        failed = (hooks > 1 && check_folder(run, job->hook, e)) || fit_check_folders(run, job->hook, e)
              || (cfg->eval && fit_check_held_out(run, job->hook, e)) || fit_create(&job->fit, &o, on_step, job, e);
    }
    free(learner);
    return failed || (cfg->log && open_log(run, e)) ? -1 : 0;
}

static int fit_all(FitRun *run, Err *e)
{
    for (int again = 1; again;) {
        const int got = fit_read_all(run, e);
        if (got < 0)
            return -1;
        again = 0;
        for (int j = 0; j < run->jobs && got == 0; j++) {
            const int more = fit_input_ended(run->job[j].fit, activations_can_rewind(run->in), e);
            if (more < 0)
                return -1;
            again |= more;
        }
        if (again && activations_rewind(run->in, e))
            return -1;
    }
    return e->set ? -1 : 0;     /* a checkpoint that failed stopped its fit */
}

static int check_log(const FitRun *run, Err *e)
{
    e->closed |= run->log_error == EPIPE;
    return run->log_error ? err_set(e, "%s: writing: %s", run->cfg->log, strerror(run->log_error)) : 0;
}

/* Told to stop with --checkpoint: that file stands for the folder. */
static int leave_checkpoint(FitRun *run, Err *e)
{
    if (!run->stopped) {            /* between two steps: an input that broke off because we were told to stop */
        *e = (Err){0};
        if (fit_write_checkpoint(run, e))
            return -1;
    }
    if (e->set)
        return -1;
    cli_note(run->cli, "stopped; %s is written, and --resume goes on from it", run->cfg->checkpoint);
    return check_log(run, e);
}

int fit_run(FitRun *run, const Cli *cli, const FitConfig *cfg, Team *team, Err *e)
{
    const ActivationsOptions o = {.hook = cfg->hook, .half = cfg->half};
    *run = (FitRun){.cli = cli, .cfg = cfg, .e = e};
    if (!(run->gate = fit_gate_create(e)) || fit_grid_build(&run->grid, cli, cfg, team, e) || check_names(cfg, e)
        || (cfg->labels && labels_create(&run->labels, cfg->labels, e))
        || activations_open(&run->in, cfg->c.inputs.items, cfg->c.inputs.count, &o, e))
        return -1;
    cli_catch_stop();               /* not before: the input's beginning may be a long time coming */
    if (open_jobs(run, e) || fit_resume(run, e))
        return -1;
    run->progress = progress_start(cli, "tokens", cfg->tokens*run->jobs*run->grid.count);
    const int failed = fit_all(run, e) && !cli_stop;
    progress_end(run->progress);
    if (failed)
        return -1;
    if (cfg->checkpoint && cli_stop)
        return leave_checkpoint(run, e);
    *e = (Err){0};
    if (fit_save_all(run, e))
        return -1;
    if (cfg->checkpoint)
        unlink(cfg->checkpoint);
    return check_log(run, e);
}

void fit_run_close(FitRun *run)
{
    for (int j = 0; j < run->jobs; j++)
        fit_free(run->job[j].fit);
    free(run->job);
    if (run->log && run->log != stdout)
        fclose(run->log);
    fit_grid_free(&run->grid);
    labels_free(run->labels);
    fit_gate_free(run->gate);
    activations_close(run->in);
}
