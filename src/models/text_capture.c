/* SPDX-License-Identifier: MIT */
/* text_capture.c -- activations of the text encoders' modules: kept chunk by chunk, written prompt by prompt. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/act_tensor.h"
#include "src/models/text_capture.h"

typedef struct Site {               /* one hooked module */
    TextTokens tokens;
    size_t at, size;                /* its place among what is kept of a chunk; (S - start)*E */
    float *data;                    /* (at once,S,E) what it computed last */
} Site;

struct TextCapture {
    TextCaptureOptions options;
    const Hooks *hooks;
    const PromptStates *states;
    Site *site;
    int sites;
    float *input;                   /* (at once,S,E) of the widest, for differences */
    float *rows;                    /* one record's, as f32 and in the stream's type */
    void *typed;
    size_t rows_room;
    ActRoom room;                   /* the same as I8 */
};

static int on_hook(void *context, const HookCall *call, Err *e)
{
    TextCapture *c = context;
    Site *site = &c->site[call->index];
    const size_t n = (size_t)(call->B*call->W)*(size_t)call->C;
    (void)e;
    op->download(site->data, c->options.take == TAKE_INPUT ? call->input : call->act, n*sizeof(float));
    if (c->options.take != TAKE_DIFF)
        return 0;
    op->download(c->input, call->input, n*sizeof(float));
    for (size_t i = 0; i < n; i++)
        site->data[i] -= c->input[i];
    return 0;
}

static void keep(void *context, int n, float *kept)
{
    const TextCapture *c = context;
    for (int k = 0; k < c->sites; k++) {
        const Site *site = &c->site[k];
        const size_t skipped = (size_t)(site->tokens.start*site->tokens.E), chunk = site->size + skipped;
        memcpy(kept + site->at, site->data + chunk*(size_t)n + skipped, sizeof *kept*site->size);
    }
}

static int open_sites(TextCapture *c, const PromptEncoder *encoder, size_t *kept, Err *e)
{
    size_t widest = 0;
    c->sites = c->hooks->count;
    if (!(c->site = calloc((size_t)c->sites, sizeof *c->site)))
        return err_set(e, "out of memory");
    for (int k = 0; k < c->sites; k++) {
        Site *site = &c->site[k];
        site->tokens = prompt_encoder_tokens(encoder, hooks_path(c->hooks, k));
        site->at = *kept;
        site->size = (size_t)(site->tokens.S - site->tokens.start)*(size_t)site->tokens.E;
        *kept += site->size;
        const size_t values = (size_t)(prompt_encoder_at_once(encoder)*site->tokens.S)*(size_t)site->tokens.E;
        widest = values > widest ? values : widest;
        if (!(site->data = malloc(sizeof *site->data*values)))
            return err_set(e, "out of memory for the activations of %s", hooks_path(c->hooks, k));
    }
    c->input = malloc(sizeof *c->input*widest);
    return c->input ? 0 : err_set(e, "out of memory for activations");
}

int text_capture_create(TextCapture **out, PromptEncoder *encoder, PromptStates *states,
                        const TextCaptureOptions *options, Err *e)
{
    TextCapture *c = *out = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "out of memory");
    Hooks *hooks = prompt_encoder_hooks(encoder);
    *c = (TextCapture){.options = *options, .hooks = hooks, .states = states};
    int failed = 0;
    for (int i = 0; i < options->pattern_count && !failed; i++)
        failed = hooks_add(hooks, options->patterns[i], options->take != TAKE_OUTPUT, on_hook, c, e) < 0;
    ChunkWatch watch = {.keep = keep, .context = c};
    if (failed || open_sites(c, encoder, &watch.keeps, e)) {
        text_capture_free(c);
        *out = NULL;
        return -1;
    }
    prompt_states_watch(states, &watch);
    return 0;
}

void text_capture_free(TextCapture *c)
{
    if (!c)
        return;
    for (int k = 0; c->site && k < c->sites; k++)
        free(c->site[k].data);
    free(c->site);
    free(c->input);
    free(c->rows);
    free(c->typed);
    act_room_free(&c->room);
    free(c);
}

void text_capture_describe(const TextCapture *c, Record *header)
{
    json_t *hooks = json_array();
    for (int k = 0; k < c->sites; k++)
        json_array_append_new(hooks, json_string(hooks_path(c->hooks, k)));
    record_set_json(header, "hooks", hooks);
    record_set_text(header, "take", take_name(c->options.take));
    record_set_text(header, "half", "cond");
}

static int need_rows(TextCapture *c, size_t values, Err *e)
{
    if (values <= c->rows_room)
        return 0;
    free(c->rows);
    free(c->typed);
    c->rows = malloc(sizeof *c->rows*values);
    c->typed = malloc(sizeof *c->rows*values);
    c->rows_room = c->rows && c->typed ? values : 0;
    return c->rows_room ? 0 : err_set(e, "out of memory for the activations of a text");
}

static int check_fit(const TextCapture *c, int k, const Record *rec, DType type, size_t n, Err *e)
{
    size_t i = 0;
    if (dtype_finite(c->typed, type, n))
        return 0;
    while (i < n && dtype_finite((const char *)c->typed + i*dtype_size(type), type, 1))
        i++;
    return err_set(e, "%s: '%.100s': activation %g does not fit %s%s", hooks_path(c->hooks, k),
                   record_text(rec, "id", ""), (double)c->rows[i], dtype_name(type),
                   isfinite(c->rows[i]) ? "; use --act-type bf16" : "");
}

/* The tokens of c->rows, dim [tokens,E], in the stream's type. */
static int add_act(TextCapture *c, int k, Record *rec, const int64_t *dim, Err *e)
{
    const DType type = c->options.type == I8 ? F32 : c->options.type;
    const size_t n = (size_t)(dim[0]*dim[1]);
    dtype_from_f32(c->typed, type, c->rows, n);
    if (check_fit(c, k, rec, type, n, e))
        return -1;
    if (c->options.type == I8)
        return act_tensor_quantize(rec, &c->room, c->typed, type, 2, dim, e);
    record_add_tensor(rec, "act", type, 2, dim, c->typed);
    return 0;
}

int text_capture_write(TextCapture *c, const PromptText *text, const Record *rec, StreamOut *out, Err *e)
{
    Record copy;
    int failed = 0;
    record_init(&copy, NULL);
    record_copy_fields(&copy, rec);
    record_set_int(&copy, "step", 0);
    record_set_int(&copy, "t", 0);
    record_set_text(&copy, "half", "cond");
    for (int k = 0; k < c->sites && !failed; k++) {
        const Site *site = &c->site[k];
        const size_t n = site->size*(size_t)text->chunks;
        if ((failed = need_rows(c, n, e)))
            break;
        for (int i = 0; i < text->chunks; i++)
            memcpy(c->rows + site->size*(size_t)i, prompt_states_watched(c->states, text, i) + site->at,
                   sizeof *c->rows*site->size);
        copy.tensors = 0;
        record_set_text(&copy, "hook", hooks_path(c->hooks, k));
        failed = add_act(c, k, &copy, (int64_t[]){(int64_t)n/site->tokens.E, site->tokens.E}, e)
              || stream_write(out, &copy, e) ? -1 : 0;
    }
    record_clear(&copy);
    return failed;
}
