/* SPDX-License-Identifier: MIT */
/* fit_save.c -- what a fit leaves: a folder for each autoencoder, and what its cfg.json says. */
#include <limits.h>
#include <string.h>
#include "formats/folder.h"
#include "src/cli/fit.h"
#include "src/models/run_fields.h"

static json_t *training_record(const FitRun *run, const FitJob *job, int learner)
{
    const FitReport *r = fit_last(job->fit, learner);
    json_t *steps = activations_provenance(run->in);
    json_array_append_new(steps, cli_provenance(run->cli));
    json_t *record = json_pack("{s:I, s:I, s:I, s:f, s:f, s:i, s:b, s:o}",
                               "seed", (json_int_t)fit_options(job->fit, learner)->train.seed,
                               "tokens", (json_int_t)r->tokens, "steps", (json_int_t)r->steps, "fvu", r->step.fvu,
                               "l0", r->step.l0, "dead", r->step.dead, "stopped", (int)fit_stopped(job->fit),
                               "provenance", steps);
    if (r->step.sparsity > 0)
        json_object_set_new(record, "sparsity", json_real(r->step.sparsity));
    if (run->grid.cell[learner].name[0])
        json_object_set_new(record, "cell", json_string(run->grid.cell[learner].name));
    return record;
}

static int describe(const FitRun *run, const FitJob *job, int learner, Sae *s, Err *e)
{
    const json_t *header = stream_header(activations_stream(run->in))->fields;
    const TrainOptions *t = &fit_options(job->fit, learner)->train;
    json_t *cfg = json_pack("{s:i, s:b, s:i, s:i, s:b, s:b, s:b, s:b, s:s, s:i}",
                            "expansion_factor", s->F/s->D, "normalize_decoder", 1, "num_latents", s->F, "k", t->K,
                            "batch_topk", t->variant == VARIANT_BATCHTOPK || t->variant == VARIANT_MATRYOSHKA,
                            "sample_topk", t->variant == VARIANT_SAMPLETOPK, "input_unit_norm", 0,
                            "multi_topk", (int)t->multi, "activation", sae_variant_name(t->variant), "d_in", s->D);
    if (!cfg)
        return err_set(e, "out of memory");
    if (s->K != t->K)
        json_object_set_new(cfg, "most", json_integer(s->K));
    if (t->levels) {
        json_t *levels = json_array();
        for (int l = 0; l < t->levels; l++)
            json_array_append_new(levels, json_integer(t->level[l]));
        json_object_set_new(cfg, "levels", levels);
    }
    if (run->labels)
        json_object_set_new(cfg, "labels", labels_json(run->labels));
    json_object_set_new(cfg, "hook", json_string(job->hook));
    run_fields_copy(cfg, header, (const char *const[]){"take", NULL});
    json_object_set_new(cfg, "half", json_string(run->cfg->half));
    json_object_set_new(cfg, "training", training_record(run, job, learner));
    json_decref(s->cfg);
    s->cfg = cfg;
    return 0;
}

/* Into s->cfg, where --eval is given. */
static void describe_held_out(FitRun *run, const FitJob *job, int learner, Sae *s)
{
    json_t *eval = fit_held_out(run, job, learner);
    if (!json_is_null(eval))
        json_object_set(json_object_get(s->cfg, "training"), "eval", eval);
    json_decref(eval);
}

/* -o, below it the hook where there are several, and below that the cell of a grid. */
static int folder_name(char dir[PATH_MAX], const FitRun *run, const char *hook, int learner, Err *e)
{
    const bool hooks = activations_hooks(run->in) > 1, cells = run->grid.cell[learner].name[0];
    if (snprintf(dir, PATH_MAX, "%s%s%s%s%s", run->cfg->c.output, hooks ? "/" : "", hooks ? hook : "",
                 cells ? "/" : "", run->grid.cell[learner].name) >= PATH_MAX)
        return err_set(e, "%.200s...: the folder's name is too long", dir);
    return 0;
}

int fit_check_folders(const FitRun *run, const char *hook, Err *e)
{
    char dir[PATH_MAX], alone[PATH_MAX];
    int failed = 0;
    for (int l = 0; l < run->grid.count && !failed; l++) {
        failed = folder_name(dir, run, hook, l, e) || sae_check_folder(dir, e);
        if (!failed && strcmp(dir, run->cfg->c.output) != 0 && folder_has(run->cfg->c.output, "cfg.json", alone))
            failed = err_set(e, "%s: an autoencoder is there, which would be taken for %s; another --output, or remove "
                             "it", alone, dir);
    }
    return failed;
}

static int save(FitRun *run, const FitJob *job, int learner, Err *e)
{
    const FitReport *r = fit_last(job->fit, learner);
    char dir[PATH_MAX];
    Sae *s;
    if (folder_name(dir, run, job->hook, learner, e))
        return -1;
    if (fit_export(job->fit, learner, &s, e))
        return -1;
    if (!s)
        return cli_stop ? err_set(e, "stopped before the first step on %s: nothing was learned", job->hook)
                        : err_set(e, "no token of %s came", job->hook);
    int failed = describe(run, job, learner, s, e);
    if (!failed) {
        describe_held_out(run, job, learner, s);
        failed = sae_save(s, dir, e);
    }
    sae_free(s);
    if (!failed && run->cfg->c.verbose)
        cli_note(run->cli, "%s: %lld tokens, fvu %.4f, l0 %.2f, %d dead", dir, (long long)r->tokens, r->step.fvu,
                 r->step.l0, r->step.dead);
    return failed ? -1 : 0;
}

int fit_save_all(FitRun *run, Err *e)
{
    for (int j = 0; j < run->jobs; j++) {
        const FitJob *job = &run->job[j];
        for (int l = 0; l < run->grid.count; l++)
            if (save(run, job, l, e))
                return -1;
        if (fit_cut_short(job->fit))
            cli_note(run->cli, "%s: the input is not a file and larger than --buffer: passed over once, %lld tokens",
                     job->hook, (long long)fit_last(job->fit, 0)->tokens);
    }
    return run->unmeasured.set ? err_set(e, "%s", run->unmeasured.text) : 0;
}
