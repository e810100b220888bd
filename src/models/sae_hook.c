/* SPDX-License-Identifier: MIT */
/* sae_hook.c -- an autoencoder at its module. */
#include <string.h>
#include "src/models/sae_hook.h"

bool sae_of_difference(const Sae *s)
{
    return strcmp(s->take, "diff") == 0;
}

int sae_hook(Sae **s, const char *dir, const char *hook, DType type, Hooks *h, HookFn fn, void *context, Err *e)
{
    if (sae_load(s, dir, e) || sae_prepare(*s, type == F16 ? F32 : type, e))
        return -1;
    const char *path = hook ? hook : (*s)->hook;
    if (!*path)
        return err_set(e, "%s: cfg.json does not say which module it belongs to; give --hook", dir);
    if (strcmp((*s)->take, "input") == 0)
        return err_set(e, "%s: cfg.json: trained on the module's input, and only an output can be changed", dir);
    if (strcmp((*s)->take, "output") != 0 && !sae_of_difference(*s))
        return err_set(e, "%s: cfg.json: take is '%s', expected output or diff", dir, (*s)->take);
    const int got = hooks_add(h, path, sae_of_difference(*s), fn, context, e);
    if (got > 1)
        return err_set(e, "hook '%s' matches %d modules; an autoencoder belongs to one", path, got);
    return got < 0 ? -1 : 0;
}

int sae_hook_check(const Sae *s, const HookCall *call, Err *e)
{
    if (call->C != s->D)
        return err_set(e, "%s: the module computes %d values a token, the autoencoder takes %d", call->path, call->C,
                       s->D);
    if (sae_of_difference(s) && !call->input)
        return err_set(e, "%s: the autoencoder was trained on output - input, and the module's shapes differ",
                       call->path);
    return 0;
}
