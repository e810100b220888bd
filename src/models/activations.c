/* SPDX-License-Identifier: MIT */
/* activations.c -- activation streams, read side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "src/models/activations.h"
#include "src/models/hooks.h"
#include "src/models/model.h"
#include "src/models/record_origin.h"
#include "src/models/sae.h"

enum { MAX_HOOKS = 256 };

typedef struct Input {
    const char *path;
    StreamIn *in;
    bool ended;
} Input;

struct Activations {
    ActivationsOptions options;
    Input *input;
    int inputs, turn;               /* turn: whose record is next */
    char *hook[MAX_HOOKS];
    int width[MAX_HOOKS];           /* of its tokens, 0 until one came */
    int hooks;
    json_t *provenance;             /* of each input */
    long chosen;                    /* records given so far */
    Record rec;
    float *floats;
    uint16_t *halves;               /* f16 of what came as i8 */
    size_t room, halves_room;
};

static int find_hook(const Activations *a, const char *hook)
{
    for (int h = 0; h < a->hooks; h++)
        if (strcmp(a->hook[h], hook_path(hook)) == 0)
            return h;
    return -1;
}

/* Adds the hooks of a header; all of them to `all`, for the message. */
static int add_hooks(Activations *a, const StreamIn *in, char *all, size_t size, Err *e)
{
    const json_t *hooks = json_object_get(stream_header(in)->fields, "hooks");
    size_t i;
    json_t *value;
    if (!json_is_array(hooks) || json_array_size(hooks) == 0)
        return err_set(e, "%s: header: hooks is missing, expected a list of module names", stream_name(in));
    json_array_foreach(hooks, i, value) {
        const char *hook = json_string_value(value);
        if (!hook)
            return err_set(e, "%s: header: hooks holds something that is not text", stream_name(in));
        const size_t used = strlen(all);
        snprintf(all + used, size - used, "%s%s", used ? ", " : "", hook);
        if (find_hook(a, hook) >= 0 || (a->options.hook && strcmp(hook_path(a->options.hook), hook_path(hook)) != 0))
            continue;
        if (a->hooks == MAX_HOOKS)
            return err_set(e, "%s: header: more than %d hooks", stream_name(in), MAX_HOOKS);
        if (!(a->hook[a->hooks] = strdup(hook_path(hook))))
            return err_set(e, "out of memory");
        a->hooks++;
    }
    return 0;
}

static int same_field(const Activations *a, const StreamIn *in, const char *name, Err *e)
{
    const StreamIn *first = a->input[0].in;
    const char *here = record_text(stream_header(in), name, ""), *there = record_text(stream_header(first), name, "");
    if (strcmp(here, there) == 0 || (strcmp(name, "model") == 0 && folder_same(here, there)))
        return 0;
    return err_set(e, "%s: header: %s is '%s', in %s it is '%s'", stream_name(in), name, here, stream_name(first),
                   there);
}

int activations_open(Activations **out, const char *const *paths, int count, const ActivationsOptions *options, Err *e)
{
    char all[1024] = "";
    *out = NULL;
    Activations *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(e, "out of memory");
    a->options = *options;
    a->inputs = count ? count : 1;
    a->provenance = json_array();
    int failed = !(a->input = calloc((size_t)a->inputs, sizeof *a->input)) ? err_set(e, "out of memory") : 0;
    for (int i = 0; i < a->inputs && !failed; i++) {
        a->input[i].path = count ? paths[i] : NULL;
        failed = stream_open_kind(&a->input[i].in, a->input[i].path, "activations", e)
              || same_field(a, a->input[i].in, "model", e) || same_field(a, a->input[i].in, "take", e)
              || add_hooks(a, a->input[i].in, all, sizeof all, e);
        if (!failed)
            json_array_append(a->provenance, json_object_get(stream_header(a->input[i].in)->fields, "provenance"));
    }
    if (!failed && a->hooks == 0)
        failed = err_set(e, "%s: header: no hook %s; there is %s", stream_name(a->input[0].in), options->hook, all);
    if (failed) {
        activations_close(a);
        return -1;
    }
    *out = a;
    return 0;
}

void activations_close(Activations *a)
{
    if (!a)
        return;
    for (int i = 0; a->input && i < a->inputs; i++)
        stream_close(a->input[i].in);
    for (int h = 0; h < a->hooks; h++)
        free(a->hook[h]);
    json_decref(a->provenance);
    free(a->input);
    free(a->floats);
    free(a->halves);
    free(a);
}

int activations_hooks(const Activations *a)
{
    return a->hooks;
}

const char *activations_hook(const Activations *a, int hook)
{
    return a->hook[hook];
}

const StreamIn *activations_stream(const Activations *a)
{
    return a->input[0].in;
}

json_t *activations_provenance(const Activations *a)
{
    return provenance_join(a->provenance, false);
}

bool activations_can_rewind(const Activations *a)
{
    struct stat st;
    for (int i = 0; i < a->inputs; i++)
        if (!a->input[i].path || strcmp(a->input[i].path, "-") == 0 || stat(a->input[i].path, &st)
            || !S_ISREG(st.st_mode))
            return false;
    return true;
}

int activations_rewind(Activations *a, Err *e)
{
    a->turn = 0;
    for (int i = 0; i < a->inputs; i++) {
        stream_close(a->input[i].in);
        a->input[i].in = NULL;
        a->input[i].ended = false;
        if (stream_open_kind(&a->input[i].in, a->input[i].path, "activations", e))
            return -1;
    }
    return 0;
}

/* Whether the record is of a chosen hook and half: 1 with act filled, 0, -1. */
static int choose(Activations *a, const StreamIn *in, Act *act, Err *e)
{
    const Record *rec = &a->rec;
    const char *only = a->hooks == 1 && !a->options.hook ? a->hook[0] : "";
    const char *hook = record_text(rec, "hook", only);
    const int h = find_hook(a, hook);
    if (h < 0) {
        if (a->options.hook && *hook)
            return 0;
        return err_set(e, "%s: record %ld: hook is '%s', which the header does not name", stream_name(in), rec->number,
                       hook);
    }
    if (!record_of_half(rec, a->options.half))
        return 0;
    ActTensor t;
    char text[128];
    if (act_tensor_need(&t, in, rec, e))
        return -1;
    if (a->width[h] == 0)
        a->width[h] = t.D;
    if (t.D != a->width[h])
        return err_set(e, "%s: record %ld: act is %s, those of %s before it have width %d", stream_name(in),
                       rec->number, tensor_shape_text(t.act, text), a->hook[h], a->width[h]);
    *act = (Act){.in = in, .rec = rec, .tensor = t, .hook = h};
    return 1;
}

int activations_next(Activations *a, Act *act, Err *e)
{
    for (int ended = 0; ended < a->inputs;) {
        Input *input = &a->input[a->turn];
        const int got = input->ended ? 0 : stream_next(input->in, &a->rec, e);
        if (got < 0)
            return -1;
        if (got == 0) {
            input->ended = true;
            ended++;
            a->turn = (a->turn + 1) % a->inputs;
            continue;
        }
        ended = 0;
        const int chosen = choose(a, input->in, act, e);
        if (chosen == 0)
            continue;
        a->turn = (a->turn + 1) % a->inputs;
        a->chosen++;
        return chosen;
    }
    if (a->chosen == 0)
        return err_set(e, "%s: no record of hook %s and half %s", stream_name(a->input[0].in),
                       a->options.hook ? a->options.hook : "(any)", a->options.half);
    return 0;
}

/* The message of a tensor that holds what is no number, with what tells which of many it was. */
static void say_which(const Activations *a, const Act *act, const Err *found, Err *e)
{
    err_set(e, "%s (hook %s, step %lld, t %lld)", found->text, a->hook[act->hook], record_int(act->rec, "step", -1),
            record_int(act->rec, "t", -1));
}

/* Memory of n values of `size` bytes at *p, which has room for *room. */
static int need(void **p, size_t *room, size_t n, size_t size, Err *e)
{
    if (n <= *room)
        return 0;
    free(*p);
    *p = malloc(n*size);
    *room = *p ? n : 0;
    return *p ? 0 : err_set(e, "out of memory for %zu activations", n);
}

const float *activations_floats(Activations *a, const Act *act, Err *e)
{
    Err found = {0};
    if (need((void **)&a->floats, &a->room, tensor_count(act->tensor.act), sizeof *a->floats, e))
        return NULL;
    if (act_tensor_floats(&act->tensor, act->in, act->rec, a->floats, &found) == 0)
        return a->floats;
    say_which(a, act, &found, e);
    return NULL;
}

const void *activations_tokens(Activations *a, const Act *act, DType *type, Err *e)
{
    const StreamTensor *t = act->tensor.act;
    const size_t n = tensor_count(t);
    Err found = {0};
    *type = t->type;
    if (!act->tensor.scale) {
        if (act_tensor_finite(&act->tensor, act->in, act->rec, &found) == 0)
            return t->data;
        say_which(a, act, &found, e);
        return NULL;
    }
    *type = F16;
    const float *x = activations_floats(a, act, e);
    if (!x || need((void **)&a->halves, &a->halves_room, n, sizeof *a->halves, e))
        return NULL;
    dtype_from_f32(a->halves, F16, x, n);
    if (dtype_finite(a->halves, F16, n))
        return a->halves;
    err_set(e, "%s: record %ld: act times act_scale does not fit f16", stream_name(act->in), act->rec->number);
    return NULL;
}
