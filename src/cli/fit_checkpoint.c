/* SPDX-License-Identifier: MIT */
/* fit_checkpoint.c -- a fit's checkpoint: what it must agree with, writing it, going on from it. */
#include <string.h>
#include <unistd.h>
#include "src/cli/fit.h"

/* What must be the same for a fit to go on from a checkpoint. */
static json_t *about_run(const FitRun *run)
{
    json_t *hooks = json_array(), *step = cli_provenance(run->cli);
    for (int j = 0; j < run->jobs; j++)
        json_array_append_new(hooks, json_string(run->job[j].hook));
    json_t *about = json_pack("{s:O, s:o, s:O}", "arguments", json_object_get(step, "arguments"), "hooks", hooks,
                              "input", stream_header(activations_stream(run->in))->fields);
    json_decref(step);
    return about;
}

static const char *part_of(char part[300], const FitJob *job)
{
    snprintf(part, 300, "fit/%s", job->hook);
    return part;
}

int fit_write_checkpoint(FitRun *run, Err *e)
{
    Checkpoint *c;
    char part[300];
    if (checkpoint_create(&c, e))
        return -1;
    int failed = json_object_set_new(checkpoint_fields(c), "about", about_run(run)) ? err_set(e, "out of memory") : 0;
    if (!failed && run->labels && json_object_set_new(checkpoint_fields(c), "labels", labels_store(run->labels)))
        failed = err_set(e, "out of memory");
    for (int j = 0; j < run->jobs && !failed; j++)
        failed = fit_store(run->job[j].fit, c, part_of(part, &run->job[j]), e);
    failed = failed || checkpoint_write(c, run->cfg->checkpoint, e);
    checkpoint_free(c);
    clock_gettime(CLOCK_MONOTONIC, &run->written);
    return failed ? -1 : 0;
}

static const char *argument_at(const json_t *arguments, size_t i)
{
    const char *text = json_string_value(json_array_get(arguments, i));
    return text ? text : "";
}

/* "--k=4" and "--k=8" are of one name. */
static bool same_name(const char *a, const char *b)
{
    const size_t n = strcspn(a, "=");
    return n == strcspn(b, "=") && strncmp(a, b, n) == 0;
}

/* Of `other` the argument that answers to arguments[i]: the n-th of its name for the n-th. NULL: it has none. */
static const char *counterpart(const json_t *other, const json_t *arguments, size_t i)
{
    const char *argument = argument_at(arguments, i);
    size_t n = 0;
    for (size_t k = 0; k < i; k++)
        n += same_name(argument_at(arguments, k), argument);
    for (size_t k = 0; k < json_array_size(other); k++)
        if (same_name(argument_at(other, k), argument) && n-- == 0)
            return argument_at(other, k);
    return NULL;
}

/* The first option that the two runs do not have alike. */
static int check_arguments(const char *file, const json_t *was, const json_t *now, Err *e)
{
    for (size_t i = 0; i < json_array_size(now); i++) {
        const char *here = argument_at(now, i), *then = counterpart(was, now, i);
        if (!then)
            return err_set(e, "%s: was made without %s, which is given here", file, here);
        if (strcmp(then, here) != 0)
            return err_set(e, "%s: was made with %s, this is %s", file, then, here);
    }
    for (size_t i = 0; i < json_array_size(was); i++)
        if (!counterpart(now, was, i))
            return err_set(e, "%s: was made with %s, which is not given here", file, argument_at(was, i));
    return 0;
}

/* The first thing in which the checkpoint's run was another. */
static int check_about(const FitRun *run, const json_t *was, Err *e)
{
    json_t *now = about_run(run);
    static const char *const what[] = {"hooks", "input"};
    int failed = check_arguments(run->cfg->checkpoint, json_object_get(was, "arguments"),
                                 json_object_get(now, "arguments"), e);
    for (int w = 0; w < 2 && !failed; w++)
        if (!json_equal(json_object_get(now, what[w]), json_object_get(was, what[w])))
            failed = err_set(e, "%s: was made of another input: its header differs in %s", run->cfg->checkpoint,
                             w ? "fields or provenance" : what[w]);
    json_decref(now);
    return failed;
}

int fit_resume(FitRun *run, Err *e)
{
    Checkpoint *c;
    char part[300];
    clock_gettime(CLOCK_MONOTONIC, &run->written);
    if (!run->cfg->resume || access(run->cfg->checkpoint, F_OK))
        return 0;
    if (checkpoint_open(&c, run->cfg->checkpoint, e))
        return -1;
    int failed = check_about(run, json_object_get(checkpoint_fields(c), "about"), e);
    if (!failed && run->labels)
        failed = labels_restore(run->labels, json_object_get(checkpoint_fields(c), "labels"), e);
    for (int j = 0; j < run->jobs && !failed; j++) {
        FitJob *job = &run->job[j];
        failed = fit_restore(job->fit, c, part_of(part, job), e);
        clock_gettime(CLOCK_MONOTONIC, &job->begun);
        job->before = fit_last(job->fit, 0)->tokens;
    }
    checkpoint_free(c);
    char file[4096];
    snprintf(file, sizeof file, "%s: ", run->cfg->checkpoint);
    err_move(e, "checkpoint: ", file);
    return failed ? -1 : 0;
}
