/* SPDX-License-Identifier: MIT */
/* run_fields.c -- what a header says of the run that its records were drawn in. */
#include <string.h>
#include "src/models/run_fields.h"

static const char *const fields[] = {"model", "sampler", "steps", "guidance", "init", "strength", "inversion"};
enum { FIELDS = sizeof fields/sizeof *fields };
const char *const run_fields_of_pictures[] = {"sae", "provenance", NULL};

static void copy(json_t *to, const json_t *from, const char *name)
{
    json_t *value = json_object_get(from, name);
    if (value && !json_object_get(to, name))
        json_object_set(to, name, value);
}

bool run_field(const char *name)
{
    int i = 0;
    while (i < FIELDS && strcmp(fields[i], name) != 0)
        i++;
    return i < FIELDS;
}

void run_fields_copy(json_t *to, const json_t *from, const char *const *also)
{
    for (int i = 0; i < FIELDS; i++)
        copy(to, from, fields[i]);
    for (; *also; also++)
        copy(to, from, *also);
}
