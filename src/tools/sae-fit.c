/* SPDX-License-Identifier: MIT */
/* sae-fit.c -- fits top-k sparse autoencoders to activation streams: one for each hook, in one reading. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "src/cli/cli.h"
#include "src/cli/compute.h"
#include "src/models/activations.h"
#include "src/models/model.h"
#include "src/models/sae_fit.h"
#include "src/models/sae_metrics.h"
#include "src/models/sae_stream.h"

typedef struct Config {
    Common c;
    const char *hook, *half, *log, *eval, *checkpoint, *variant;
    int64_t k, features, expansion, batch, epochs, tokens, buffer, k_aux, dead, warmup, report, every;
    double rate, decay, auxk, clip, minutes;
    int resume;
} Config;

static const Opt options[] = {
    {'o', "output", OPT_STR, offsetof(Config, c.output), NULL,
     "DIR  folder of the autoencoder; with several hooks DIR/HOOK", OPT_NEUTRAL | OPT_REQUIRED},
    {'k', "topk", OPT_INT, offsetof(Config, k), "32", "N  features kept a token", 0},
    {0, "variant", OPT_STR, offsetof(Config, variant), "topk",
     "topk|batchtopk  k of each token, or k a token on the mean of a batch, and above a threshold when encoding", 0},
    {0, "expansion", OPT_INT, offsetof(Config, expansion), "16", "N  features as a multiple of the width", 0},
    {'n', "features", OPT_INT, offsetof(Config, features), "0", "N  features; 0: by --expansion", 0},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  only this module's activations (default: an autoencoder for each in the stream)", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance to learn from", 0},
    {0, "batch", OPT_INT, offsetof(Config, batch), "0", "N  tokens a step; 0: 1024, from 8192 features on 4096", 0},
    {0, "lr", OPT_NUMBER, offsetof(Config, rate), "0", "R  learning rate; 0: 7e-4/sqrt(features/2^14)", 0},
    {0, "warmup", OPT_INT, offsetof(Config, warmup), "0", "N  tokens over which the rate rises from 0", 0},
    {0, "decay", OPT_NUMBER, offsetof(Config, decay), "0.2",
     "R  last part of the tokens over which the rate falls to 0", 0},
    {0, "epochs", OPT_INT, offsetof(Config, epochs), "1",
     "N  passes over the input, from the buffer where it fits, else from the files", 0},
    {0, "tokens", OPT_INT, offsetof(Config, tokens), "0",
     "N  train on N tokens, in as many passes as that takes; 0: by --epochs", 0},
    {0, "buffer", OPT_INT, offsetof(Config, buffer), "0",
     "N  tokens mixed in memory, for each hook; 0: 2^20 or 512 MB, the smaller", 0},
    {0, "auxk", OPT_NUMBER, offsetof(Config, auxk), "0.03125", "R  weight of the dead features' loss; 0: none", 0},
    {0, "auxk-features", OPT_INT, offsetof(Config, k_aux), "0",
     "N  dead features taken a token; 0: half the activation's width", 0},
    {0, "dead", OPT_INT, offsetof(Config, dead), "200K", "N  tokens without firing after which a feature is dead", 0},
    {0, "clip", OPT_NUMBER, offsetof(Config, clip), "1", "R  largest norm of the gradient; 0: any", 0},
    {0, "seed", OPT_INT, offsetof(Config, c.seed), "0", "N  of the first weights and the order of tokens", 0},
    {0, "dtype", OPT_STR, offsetof(Config, c.dtype), "f32",
     "auto|f32|bf16  type of the encoder's product; auto: bf16 where the processor has it", 0},
    {0, "log", OPT_STR, offsetof(Config, log), NULL,
     "FILE  one JSON line a report: hook, tokens, fvu, l0, dead, lr, ...", OPT_NEUTRAL},
    {0, "report", OPT_INT, offsetof(Config, report), "50", "N  steps between reports", OPT_NEUTRAL},
    {0, "eval", OPT_STR, offsetof(Config, eval), NULL,
     "FILE  held-out stream, read at each report of --log and at the end: fvu, cosine, l0, dead, ... in cfg.json", 0},
    {0, "checkpoint", OPT_STR, offsetof(Config, checkpoint), NULL,
     "FILE  from which --resume goes on; removed when the fit is complete", OPT_NEUTRAL},
    {0, "every-minutes", OPT_NUMBER, offsetof(Config, minutes), "10",
     "R  minutes between checkpoints; 0: by --every alone", OPT_NEUTRAL},
    {0, "every", OPT_INT, offsetof(Config, every), "0", "N  steps between checkpoints; 0: by time alone", OPT_NEUTRAL},
    {0, "resume", OPT_FLAG, offsetof(Config, resume), NULL,
     "go on from --checkpoint, or begin where there is none yet", OPT_NEUTRAL},
    COMPUTE_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-fit", "Fit a top-k sparse autoencoder to a stream of activations.", options, "[FILE...]",
    "Reads activation streams (sd-sample-hooked) from standard input, or several files or FIFOs side by side, a record "
    "of each in turn, and writes a folder with cfg.json and sae.safetensors, as sparsify and SAeUron read it. A stream "
    "of several hooks gives one autoencoder for each, in folders named after them.\n"
    "Loss: |x - x'|^2 / |x - mean|^2 summed over a batch (FVU), and for features that have not fired for --dead tokens "
    "the same of what is left over (AuxK). Adam, unit decoder rows, gradient clipping, the rate falling linearly to 0 "
    "at the end.\n"
    "--variant batchtopk (Bussmann et al. 2024) keeps the k largest a token on the mean of a batch, at most 4k on one; "
    "cfg.json then holds the threshold above which sae-encode and the others keep a feature: the mean of the least "
    "value kept, over some 100 steps.\n"
    "Tokens of many pictures and timesteps are mixed in a buffer. An input that fits it is passed over --epochs times "
    "from memory, from a pipe too. A larger one is trained on as it comes, a random half of the buffer at a time; "
    "further passes read the files again, and a pipe ends with the first.\n"
    "Memory is that of the buffer (--buffer), 6 times the weights, and a batch. The same input and options give the "
    "same bytes whatever --threads is. SIGINT and SIGTERM end the training; what was learned is written, and cfg.json "
    "says so.\n"
    "With --checkpoint the state of the training (weights, moments, buffer, place in the input) is written to FILE "
    "every few minutes, aside and renamed. After any end, even kill -9, the same command with --resume and the same "
    "input goes on from it, and ends in the same bytes as an undisturbed run; the input is read again from its "
    "beginning, and what was taken before is skipped. SIGINT and SIGTERM then write FILE, not the folder, and exit 0. "
    "While it is written memory holds another copy of weights, moments and buffer. The log is appended to on "
    "--resume: the lines after the last checkpoint come again.",
    "# from prompts to an autoencoder, with nothing on disk between\n"
    "sd-assemble-prompts -n 2 | sd-encode-text | sd-sample-hooked --steps 25 | sae-fit -k 16 --epochs 4 -o sae/\n"
    "# two shards at once, with a log\n"
    "sae-fit -k 16 --log fit.jsonl -o sae/ a.mpk.zst b.mpk.zst\n"
    "# a long one that survives whatever ends it: the same line again goes on\n"
    "sae-fit -k 32 --epochs 20 --checkpoint fit.ckpt --resume -o sae/ acts.mpk.zst"
};

typedef struct Job {                /* the autoencoder of one hook */
    struct Run *run;
    const char *hook;
    Fit *fit;
    struct timespec begun;          /* first step */
} Job;

typedef struct Run {
    const Config *cfg;
    Activations *in;
    Job *job;
    int jobs;
    FILE *log;
    Progress *progress;
    struct timespec written;        /* last checkpoint, or the start */
    bool stopped;                   /* the checkpoint of the stop is written: what comes after is not kept */
    Err *e;                         /* of a checkpoint that could not be written */
} Run;

static double seconds_since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + 1e-9*(double)(now.tv_nsec - t->tv_nsec);
}

/* Figures of the autoencoder as it is now on the held-out stream. NULL on error. */
static json_t *held_out(const Run *run, const Job *job, Err *e)
{
    SaeStreamOptions o = {.borrowed = fit_sae(job->fit), .paths = (const char *const *)&run->cfg->eval,
                          .path_count = 1, .hook = job->hook, .half = run->cfg->half};
    SaeStream s = {0};
    Metrics m = {0};
    Figures f;
    json_t *figures = NULL;
    int got = model_dtype(&o.type, run->cfg->c.dtype, e) || sae_stream_open(&s, &o, e)
           || metrics_create(&m, s.sae->D, s.sae->F, s.sae->K, e) ? -1 : 1;
    while (got > 0 && (got = sae_stream_next(&s, true, e)) == 1)
        if (metrics_add(&m, NULL, s.x, s.y, s.a, s.i, s.N, e))
            got = -1;
    if (got == 0 && group_figures(&m, &m.group[0], &f, e) == 0)
        figures = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "tokens", (json_int_t)m.group[0].tokens,
                            "fvu", f.fvu, "ev", f.ev, "cosine", f.cosine, "norm_ratio", f.norm_ratio, "l0", f.l0,
                            "dead", f.dead);
    metrics_free(&m);
    sae_stream_close(&s);
    return figures;
}

static int write_log(const Run *run, const Job *job, const FitReport *r)
{
    json_t *eval = run->cfg->eval ? held_out(run, job, run->e) : NULL;
    if (run->cfg->eval && !eval)
        return -1;
    json_t *line = json_pack("{s:s, s:I, s:f, s:f, s:i, s:f, s:f, s:f, s:f}",
                             "hook", job->hook, "tokens", (json_int_t)r->tokens, "fvu", r->step.fvu, "l0", r->step.l0,
                             "dead", r->step.dead, "aux", r->step.aux, "gradient", r->step.gradient, "lr", r->rate,
                             "tokens_per_second", (double)r->tokens/seconds_since(&job->begun));
    if (eval)
        json_object_set_new(line, "eval", eval);
    if (line && json_dumpf(line, run->log, JSON_COMPACT | JSON_REAL_PRECISION(7)) == 0)
        fputc('\n', run->log);
    fflush(run->log);
    json_decref(line);
    return 0;
}

/* ---- checkpoint ---- */

/* What must be the same for a fit to go on from a checkpoint. */
static json_t *about_run(const Run *run)
{
    json_t *hooks = json_array(), *step = cli_provenance(&cli);
    for (int j = 0; j < run->jobs; j++)
        json_array_append_new(hooks, json_string(run->job[j].hook));
    json_t *about = json_pack("{s:O, s:o, s:O}", "arguments", json_object_get(step, "arguments"), "hooks", hooks,
                              "input", stream_header(activations_stream(run->in))->fields);
    json_decref(step);
    return about;
}

static int write_checkpoint(Run *run, Err *e)
{
    Checkpoint *c;
    if (checkpoint_create(&c, e))
        return -1;
    int failed = json_object_set_new(checkpoint_fields(c), "about", about_run(run)) ? err_set(e, "out of memory") : 0;
    for (int j = 0; j < run->jobs && !failed; j++) {
        char part[300];
        snprintf(part, sizeof part, "fit/%s", run->job[j].hook);
        failed = fit_store(run->job[j].fit, c, part, e);
    }
    failed = failed || checkpoint_write(c, run->cfg->checkpoint, e);
    checkpoint_free(c);
    clock_gettime(CLOCK_MONOTONIC, &run->written);
    return failed ? -1 : 0;
}

/* The first thing in which the checkpoint's run was another. */
static int check_about(const Run *run, const json_t *was, Err *e)
{
    json_t *now = about_run(run);
    int failed = 0;
    static const char *const what[] = {"hooks", "input"};
    const json_t *then = json_object_get(was, "arguments"), *here = json_object_get(now, "arguments");
    size_t i;
    json_t *argument;
    json_array_foreach(here, i, argument)
        if (!failed && !json_equal(argument, json_array_get(then, i)))
            failed = err_set(e, "%s: was made with %s, this is %s", run->cfg->checkpoint,
                             json_array_get(then, i) ? json_string_value(json_array_get(then, i)) : "fewer options",
                             json_string_value(argument));
    for (int w = 0; w < 2 && !failed; w++)
        if (!json_equal(json_object_get(now, what[w]), json_object_get(was, what[w])))
            failed = err_set(e, "%s: was made of another input: its header differs in %s", run->cfg->checkpoint,
                             w ? "fields or provenance" : what[w]);
    json_decref(now);
    return failed;
}

static int resume(Run *run, Err *e)
{
    Checkpoint *c;
    clock_gettime(CLOCK_MONOTONIC, &run->written);
    if (!run->cfg->resume || access(run->cfg->checkpoint, F_OK))
        return 0;
    if (checkpoint_open(&c, run->cfg->checkpoint, e))
        return -1;
    int failed = check_about(run, json_object_get(checkpoint_fields(c), "about"), e);
    for (int j = 0; j < run->jobs && !failed; j++) {
        char part[300];
        snprintf(part, sizeof part, "fit/%s", run->job[j].hook);
        failed = fit_restore(run->job[j].fit, c, part, e);
        clock_gettime(CLOCK_MONOTONIC, &run->job[j].begun);
    }
    checkpoint_free(c);
    return failed;
}

/* After a step: writes when it is time to, or when told to stop. */
static int keep_checkpoint(Run *run, int64_t steps)
{
    const Config *cfg = run->cfg;
    if (!cfg->checkpoint || run->stopped)
        return 0;
    if (!cli_stop && !(cfg->every && steps % cfg->every == 0)
        && !(cfg->minutes > 0 && seconds_since(&run->written) >= 60*cfg->minutes))
        return 0;
    run->stopped = cli_stop != 0;
    return write_checkpoint(run, run->e);
}

/* FitFn: after every step. */
static int on_step(void *context, const FitReport *r)
{
    Job *job = context;
    Run *run = job->run;
    if (r->steps == 1)
        clock_gettime(CLOCK_MONOTONIC, &job->begun);
    if (run->log && (r->steps % run->cfg->report == 0 || r->tokens == r->total)
        && write_log(run, job, r))
        return -1;
    int64_t done = 0;
    for (int j = 0; j < run->jobs; j++)
        done += fit_last(run->job[j].fit)->tokens;
    if (r->total > 0)
        progress_note(run->progress, "of %lld, fvu %.4f, %d dead", (long long)r->total*run->jobs, r->step.fvu,
                      r->step.dead);
    else
        progress_note(run->progress, "fvu %.4f, %d dead", r->step.fvu, r->step.dead);
    progress_set(run->progress, done);
    return keep_checkpoint(run, r->steps) || cli_stop != 0;
}

static int open_jobs(Run *run, Err *e)
{
    const Config *cfg = run->cfg;
    FitOptions o = {
        .expansion = cfg->expansion, .rate = cfg->rate, .decay = cfg->decay, .warmup = cfg->warmup,
        .tokens = cfg->tokens, .epochs = cfg->epochs, .buffer = cfg->buffer,
        .train = {.batch_topk = strcmp(cfg->variant, "batchtopk") == 0,
                  .F = (int)cfg->features, .K = (int)cfg->k, .batch = (int)cfg->batch, .auxk = cfg->auxk,
                  .k_aux = (int)cfg->k_aux, .dead = cfg->dead, .clip = cfg->clip, .seed = (uint64_t)cfg->c.seed},
    };
    if (model_dtype(&o.train.type, cfg->c.dtype, e))
        return -1;
    const int hooks = activations_hooks(run->in);
    if (!(run->job = calloc((size_t)hooks, sizeof *run->job)))
        return err_set(e, "out of memory");
    for (; run->jobs < hooks; run->jobs++) {
        Job *job = &run->job[run->jobs];
        *job = (Job){.run = run, .hook = activations_hook(run->in, run->jobs)};
        if (fit_create(&job->fit, &o, on_step, job, e))
            return -1;
    }
    if (cfg->log && !(run->log = strcmp(cfg->log, "-") ? fopen(cfg->log, cfg->resume ? "a" : "w") : stdout))
        return err_set(e, "%s: %s", cfg->log, strerror(errno));
    return 0;
}

/* One reading of the input. Returns 1 when every autoencoder has all it wants, 0 at the end, -1. */
static int read_all(Run *run, Err *e)
{
    Act act;
    int got, wanting = run->jobs;
    for (int j = 0; j < run->jobs; j++)
        wanting -= fit_push(run->job[j].fit, NULL, F32, 0, 0, e) == 1;
    while (wanting > 0 && !cli_stop && (got = activations_next(run->in, &act, e)) != 0) {
        if (got < 0 || !activations_floats(run->in, &act, e))
            return -1;
        Fit *fit = run->job[act.hook].fit;
        const int before = fit_push(fit, NULL, act.tensor->type, act.D, 0, e);
        const int full = before ? before : fit_push(fit, act.tensor->data, act.tensor->type, act.D, act.N, e);
        if (full < 0)
            return -1;
        wanting -= full && !before;
    }
    return wanting == 0 || cli_stop;
}

static int fit_all(Run *run, Err *e)
{
    for (int again = 1; again;) {
        const int got = read_all(run, e);
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
    return 0;
}

/* ---- what cfg.json says ---- */

static json_t *training_record(const Run *run, const Job *job)
{
    const FitReport *r = fit_last(job->fit);
    json_t *steps = json_deep_copy(json_object_get(stream_header(activations_stream(run->in))->fields, "provenance"));
    if (!json_is_array(steps)) {
        json_decref(steps);
        steps = json_array();
    }
    json_array_append_new(steps, cli_provenance(&cli));
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:i, s:b, s:o}",
                     "seed", (json_int_t)run->cfg->c.seed, "tokens", (json_int_t)r->tokens,
                     "steps", (json_int_t)r->steps, "fvu", r->step.fvu, "l0", r->step.l0, "dead", r->step.dead,
                     "stopped", (int)fit_stopped(job->fit), "provenance", steps);
}

static int describe(const Run *run, Job *job, Err *e)
{
    static const char *const shared[] = {"model", "take", "steps", "sampler", "guidance"};
    Sae *s = fit_sae(job->fit);
    const json_t *header = stream_header(activations_stream(run->in))->fields;
    json_t *cfg = json_pack("{s:i, s:b, s:i, s:i, s:b, s:b, s:b, s:b, s:s, s:i}",
                            "expansion_factor", s->F/s->D, "normalize_decoder", 1, "num_latents", s->F,
                            "k", (int)run->cfg->k,
                            "batch_topk", 0, "sample_topk", 0, "input_unit_norm", 0, "multi_topk", 0,
                            "activation", s->threshold > 0 ? "batchtopk" : "topk", "d_in", s->D);
    if (!cfg)
        return err_set(e, "out of memory");
    if (s->threshold > 0) {
        json_object_set_new(cfg, "threshold", json_real((double)s->threshold));
        json_object_set_new(cfg, "most", json_integer(s->K));
    }
    json_object_set_new(cfg, "hook", json_string(job->hook));
    for (int i = 0; i < 5; i++)
        if (json_object_get(header, shared[i]))
            json_object_set(cfg, shared[i], json_object_get(header, shared[i]));
    json_object_set_new(cfg, "half", json_string(run->cfg->half));
    json_t *training = training_record(run, job), *eval = run->cfg->eval ? held_out(run, job, e) : NULL;
    if (eval)
        json_object_set_new(training, "eval", eval);
    json_object_set_new(cfg, "training", training);
    json_decref(s->cfg);
    s->cfg = cfg;
    return run->cfg->eval && !eval ? -1 : 0;
}

static int save_all(Run *run, Err *e)
{
    for (int j = 0; j < run->jobs; j++) {
        Job *job = &run->job[j];
        char dir[4096];
        const bool several = run->jobs > 1;
        snprintf(dir, sizeof dir, "%s%s%s", run->cfg->c.output, several ? "/" : "", several ? job->hook : "");
        if (!fit_sae(job->fit))
            return cli_stop ? err_set(e, "stopped before the first step on %s: nothing was learned", job->hook)
                            : err_set(e, "no token of %s came", job->hook);
        if (describe(run, job, e) || sae_save(fit_sae(job->fit), dir, e))
            return -1;
        if (fit_cut_short(job->fit))
            cli_note(&cli, "%s: the input is not a file and larger than --buffer: passed over once, %lld tokens",
                     job->hook, (long long)fit_last(job->fit)->tokens);
        if (run->cfg->c.verbose)
            cli_note(&cli, "%s: %lld tokens, fvu %.4f, l0 %.2f, %d dead", dir, (long long)fit_last(job->fit)->tokens,
                     fit_last(job->fit)->step.fvu, fit_last(job->fit)->step.l0, fit_last(job->fit)->step.dead);
    }
    return 0;
}

static void check(const Config *cfg)
{
    if (cfg->k < 1 || cfg->k > 1 << 16)
        cli_misuse(&cli, "-k %lld: expected 1 to 65536", (long long)cfg->k);
    if (cfg->features < 0 || cfg->features > 1 << 24 || (cfg->features && cfg->features < cfg->k))
        cli_misuse(&cli, "--features %lld: expected -k (%lld) to 16M", (long long)cfg->features, (long long)cfg->k);
    if (cfg->expansion < 1 || cfg->expansion > 1 << 16)
        cli_misuse(&cli, "--expansion %lld: expected 1 to 65536", (long long)cfg->expansion);
    if (cfg->batch < 0 || cfg->batch > 1 << 20)
        cli_misuse(&cli, "--batch %lld: expected at most 1Mi", (long long)cfg->batch);
    if (cfg->epochs < 1 || cfg->tokens < 0 || cfg->warmup < 0 || cfg->dead < 0 || cfg->k_aux < 0 || cfg->k_aux > 1 << 16
        || cfg->report < 1)
        cli_misuse(&cli, "a count is out of range");
    if (cfg->buffer < 0 || cfg->buffer > INT32_MAX)
        cli_misuse(&cli, "--buffer %lld: expected less than 2^31 tokens", (long long)cfg->buffer);
    if (!(cfg->rate >= 0 && cfg->decay >= 0 && cfg->decay <= 1 && cfg->auxk >= 0 && cfg->clip >= 0))
        cli_misuse(&cli, "--lr, --auxk and --clip are 0 or more, --decay is 0 to 1");
    if (cfg->every < 0 || !(cfg->minutes >= 0))
        cli_misuse(&cli, "--every and --every-minutes are 0 or more");
    if (cfg->resume && !cfg->checkpoint)
        cli_misuse(&cli, "--resume goes on from --checkpoint, which is not given");
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Err e = {0};
    Run run = {.cfg = &cfg, .e = &e};

    cli_parse(&cli, &cfg, argc, argv);
    check(&cfg);
    cli_catch_stop();

    const ActivationsOptions o = {.hook = cfg.hook, .half = cfg.half};
    int failed = compute_backend(&cfg.c, &e)
              || activations_open(&run.in, cfg.c.inputs.items, cfg.c.inputs.count, &o, &e)
              || open_jobs(&run, &e)
              || resume(&run, &e);
    if (!failed) {
        run.progress = progress_start(&cli, "tokens", cfg.tokens*run.jobs);
        failed = (fit_all(&run, &e) && !cli_stop) || (e.text[0] && !cli_stop);
        progress_end(run.progress);
        if (!failed && cfg.checkpoint && cli_stop) {
            if (!run.stopped) {
                e = (Err){0};
                failed = write_checkpoint(&run, &e);
            } else
                failed = e.text[0] != 0;
            if (!failed)
                cli_note(&cli, "stopped; %s is written, and --resume goes on from it", cfg.checkpoint);
        } else if (!failed) {
            e = (Err){0};           /* an input that broke off because we were told to stop */
            failed = save_all(&run, &e);
            if (!failed && cfg.checkpoint)
                unlink(cfg.checkpoint);
        }
    }
    for (int j = 0; j < run.jobs; j++)
        fit_free(run.job[j].fit);
    free(run.job);
    if (run.log && run.log != stdout)
        fclose(run.log);
    activations_close(run.in);
    return failed ? cli_report(&cli, &e) : 0;
}
