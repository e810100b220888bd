/* SPDX-License-Identifier: MIT */
/* timesteps.h -- a run's timesteps beside those that were recorded. */
#ifndef TESTS_UNIT_TIMESTEPS_H
#define TESTS_UNIT_TIMESTEPS_H

#include <jansson.h>
#include <stdbool.h>
#include "src/models/scheduler.h"

static bool same_timesteps(const Scheduler *s, const json_t *want)
{
    bool same = json_array_size(want) == (size_t)s->steps;
    for (int i = 0; i < s->steps && same; i++)
        same = s->step[i].t == (int)json_integer_value(json_array_get(want, (size_t)i));
    return same;
}

#endif
