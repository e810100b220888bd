/* SPDX-License-Identifier: MIT */
/* hooks.h -- a network's modules by diffusers' path, and the functions that were hooked to them. */
#ifndef SRC_MODELS_HOOKS_H
#define SRC_MODELS_HOOKS_H

#include <stdbool.h>
#include <stdint.h>
#include "formats/affix.h"
#include "formats/err.h"

/* A module's path as it is meant: SAeUron's names begin with "unet.", as paths from a pipeline on do, or with
 * "transformer.". */
static inline const char *hook_path(const char *name)
{
    return name + (starts_with(name, "unet.") ? 5 : starts_with(name, "transformer.") ? 12 : 0);
}

/* Called with the module's output `act` (B,H,W,C) f32 rows in device memory, which it may change in place (the change
 * goes on through the network), and the module's input of the same shape (NULL where the shapes differ or the module is
 * not hooked with input). For attn, attn1, attn2 and ff that is what the module itself reads, after the norm. Returns
 * 0, or -1 with e set. */
typedef struct HookCall {
    const char *path;           /* "up_blocks.1.attentions.1" */
    int index;                  /* of the hook, in the order they were added */
    float *act;
    const float *input;
    int64_t B, H, W;            /* tokens of attention and ff are laid out as the H x W they stand for */
    int C;
} HookCall;
typedef int (*HookFn)(void *context, const HookCall *call, Err *e);

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
    const char *why_few;            /* for messages: " that ...", which of the network's modules are there; NULL: all */
} Hooks;

/* Returns the module's number, or -1 with e set. */
int hooks_add_module(Hooks *h, Err *e, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Hooks every module whose path matches pattern, a shell glob whose stars stay within one part of the path, as in file
 * names, unless two of them ("**.attn2") go over the dots; pattern is a hook_path. One that fn and context hook already
 * stays hooked once. Returns how many matched, or -1 with an error that lists the nearest names. need_input: keep the
 * input too. */
int hooks_add(Hooks *h, const char *pattern, bool need_input, HookFn fn, void *context, Err *e);
const char *hooks_path(const Hooks *h, int index);        /* of a hook's module */
void hooks_free(Hooks *h);

/* In the evaluation; a network without hooks passes NULL. */
bool hooks_want(const Hooks *h, int module);
bool hooks_want_input(const Hooks *h, int module);
bool hooks_want_within(const Hooks *h, int module);       /* it, or a part of it */
/* Calls the module's hooks in the order they were added, call->path and index filled in here. Returns 0, or -1 with e
 * set. */
int hooks_call(const Hooks *h, int module, HookCall call, Err *e);

#endif
