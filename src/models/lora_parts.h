/* SPDX-License-Identifier: MIT */
/* lora_parts.h -- names in LoRA files, for lora.c. */
#ifndef SRC_MODELS_LORA_PARTS_H
#define SRC_MODELS_LORA_PARTS_H

#include "src/models/lora.h"

/* text: with underscores for dots */
typedef struct LoraName { char *text; PartKind part; size_t item; Naming naming; } LoraName;
typedef enum { ROLE_DOWN, ROLE_UP, ROLE_ALPHA, ROLES } Role;

enum { LORA_NAME_SIZE = 512 };
enum { LORA_NAME_GROWS = 16 };          /* letters that lora_find_module may add to a name */

/* Fills l->name, sorted, with the names of all layers that a LoRA may change. */
int lora_names_list(Loras *l, const Inventory v[PARTS], Err *e);
void lora_names_free(Loras *l);
/* Cuts off what follows the module in a tensor's name, and tells what it was; *projection: the module is called to_q
 * etc. after the processor of its attention. -1: no name of a LoRA's. */
int lora_take_role(char *name, Role *role, bool *projection);
/* The layers of the name that is left, which is changed: the first of *count in a row, several where LDM has them in
 * one. NULL where the model has no such layer. */
const LoraName *lora_find_module(const Loras *l, char *name, bool projection, size_t *count);

#endif
