/* SPDX-License-Identifier: MIT */
/* record_origin.c -- where the values of a record come from. */
#include <string.h>
#include "src/models/hooks.h"
#include "src/models/record_origin.h"

bool record_of_half(const Record *rec, const char *half)
{
    return strcmp(half, "both") == 0 || strcmp(record_text(rec, "half", "cond"), half) == 0;
}

bool record_of(const Record *rec, const char *hook, const char *half)
{
    return strcmp(hook_path(record_text(rec, "hook", hook)), hook) == 0 && record_of_half(rec, half);
}

int record_timestep(const StreamIn *in, const Record *rec, int *t, Err *e)
{
    const long long found = record_int(rec, "t", -1);
    if (found < 0 || found > INT32_MAX)
        return err_set(e, "%s: record %ld: timestep t is missing or not a number from 0 on", stream_name(in),
                       rec->number);
    *t = (int)found;
    return 0;
}
