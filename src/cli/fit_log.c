/* SPDX-License-Identifier: MIT */
/* fit_log.c -- a fit's log: one JSON line a report, with the figures of a held-out stream where there is one. */
#include <errno.h>
#include <math.h>
#include "formats/json_file.h"
#include "src/cli/fit.h"
#include "src/models/model.h"
#include "src/models/sae_metrics.h"
#include "src/models/sae_stream.h"

int fit_check_held_out(const FitRun *run, const char *hook, Err *e)
{
    const ActivationsOptions o = {.hook = hook, .half = run->cfg->half};
    Activations *in = NULL;
    Act act;
    DType type;
    int got = activations_open(&in, (const char *const *)&run->cfg->eval, 1, &o, e) ? -1 : 1;
    while (got > 0 && (got = activations_next(in, &act, e)) > 0)
        if (!activations_tokens(in, &act, &type, e))
            got = -1;
    activations_close(in);
    return got;
}

json_t *fit_held_out(FitRun *run, const FitJob *job, int learner)
{
    Err *e = &run->unmeasured;
    Sae *sae;
    SaeStreamOptions o = {.paths = (const char *const *)&run->cfg->eval, .path_count = 1, .hook = job->hook,
                          .half = run->cfg->half};
    SaeStream s = {0};
    Metrics m = {0};
    Figures f;
    json_t *figures = NULL;
    if (!run->cfg->eval || e->set || fit_export(job->fit, learner, &sae, e))
        return json_null();
    o.borrowed = sae;
    int got = model_dtype(&o.type, run->cfg->c.dtype, e) || sae_stream_open(&s, &o, e)
           || metrics_create(&m, s.sae->D, s.sae->F, s.sae->K, e) ? -1 : 1;
    while (got > 0 && (got = sae_stream_next(&s, true, e)) == 1)
        if (metrics_add(&m, NULL, s.x, s.y, s.a, s.i, s.N, e))
            got = -1;
    if (got == 0 && group_figures(&m, &m.group[0], &f, e) == 0
        && (!isfinite(f.mse)
            || !(figures = json_pack("{s:I, s:o, s:o, s:o, s:o, s:f, s:f}", "tokens", (json_int_t)m.group[0].tokens,
                                     "fvu", json_real_or_null(f.fvu), "ev", json_real_or_null(f.ev),
                                     "cosine", json_real_or_null(f.cosine), "norm_ratio",
                                     json_real_or_null(f.norm_ratio), "l0", f.l0, "dead", f.dead))))
        err_set(e, "%s: a reconstruction is no number any more", run->cfg->eval);
    metrics_free(&m);
    sae_stream_close(&s);
    sae_free(sae);
    return figures ? figures : json_null();
}

void fit_write_log(FitRun *run, const FitJob *job, int learner, const FitReport *r)
{
    const double rate = (double)(r->tokens - job->before)/seconds_since(&job->begun);
    json_t *line = json_pack("{s:s, s:I, s:f, s:f, s:i, s:f, s:f, s:f}",
                             "hook", job->hook, "tokens", (json_int_t)r->tokens, "fvu", r->step.fvu, "l0", r->step.l0,
                             "dead", r->step.dead, "aux", r->step.aux,
                             "gradient", fit_gradient(job->fit, learner), "lr", r->rate);
    if (run->grid.cell[learner].name[0])
        json_object_set_new(line, "cell", json_string(run->grid.cell[learner].name));
    if (r->step.sparsity > 0)
        json_object_set_new(line, "sparsity", json_real(r->step.sparsity));
    if (run->labels)
        json_object_set_new(line, "supervised", json_real(r->step.supervised));
    if (run->grid.count == 1 && r->tokens > job->before)
        json_object_set_new(line, "tokens_per_second", json_real(rate));
    if (run->cfg->eval)
        json_object_set_new(line, "eval", fit_held_out(run, job, learner));
    if (line && json_dumpf(line, run->log, JSON_COMPACT | JSON_REAL_PRECISION(7)) == 0)
        fputc('\n', run->log);
    if (fflush(run->log) && !run->log_error)
        run->log_error = errno;
    json_decref(line);
}
