/* SPDX-License-Identifier: MIT */
/* hooks.h -- a network's modules by diffusers' path, and the functions that were hooked to them. */
#ifndef SRC_MODELS_HOOKS_H
#define SRC_MODELS_HOOKS_H

#include <string.h>
#include "src/models/unet.h"

/* A module's path as it is meant: SAeUron's names begin with "unet.". */
static inline const char *hook_path(const char *name)
{
    return strncmp(name, "unet.", 5) == 0 ? name + 5 : name;
}

typedef struct Hook {
    int module;
    bool need_input;
    HookFn fn;
    void *context;
} Hook;

typedef struct Hooks {
    char **module;                  /* paths, a block before its parts; NULL-terminated */
    int modules;
    Hook *hook;
    int count;
    unsigned char *wanted;          /* of each module: 0 no hook, 1 its output, 2 its input too */
} Hooks;

/* Returns the module's number, or -1 with e set. */
int hooks_add_module(Hooks *h, Err *e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* As unet_hook. */
int hooks_add(Hooks *h, const char *pattern, bool need_input, HookFn fn, void *context, Err *e);
void hooks_free(Hooks *h);

/* In the evaluation; a network without hooks passes NULL. */
bool hooks_want(const Hooks *h, int module);
bool hooks_want_input(const Hooks *h, int module);
/* Calls the module's hooks in the order they were added, call->path and index filled in here. Returns 0, or -1 with e
 * set. */
int hooks_call(const Hooks *h, int module, HookCall call, Err *e);

#endif
