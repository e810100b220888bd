/* SPDX-License-Identifier: MIT */
/* sae_hook.h -- an autoencoder at its module of a network: what steering and splicing have in common. */
#ifndef SRC_MODELS_SAE_HOOK_H
#define SRC_MODELS_SAE_HOOK_H

#include "src/models/sae.h"
#include "src/models/hooks.h"

/* Loads the autoencoder of a folder, prepares it for products of `type` (of F32 for F16, which encoders do not
 * multiply), and hooks fn to the one module it belongs to: `hook`, or where that is NULL the one its cfg.json names.
 * One trained on output - input has the hook keep the input; one trained on a module's input is refused, since a hook
 * changes outputs. *s is the caller's even when this fails. */
int sae_hook(Sae **s, const char *dir, const char *hook, DType type, Hooks *h, HookFn fn, void *context, Err *e);
/* Whether it was trained on output - input. */
bool sae_of_difference(const Sae *s);
/* For the hook: that the module computes what the autoencoder takes. */
int sae_hook_check(const Sae *s, const HookCall *call, Err *e);

#endif
