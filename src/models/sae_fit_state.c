/* SPDX-License-Identifier: MIT */
/* sae_fit_state.c -- a fit's place in its input and rounds, its buffer and its learners, to a checkpoint and back. */
#include <stdio.h>
#include <string.h>
#include "src/models/sae_fit_parts.h"

enum { PLACES = 8 };
static const int64_t MOST_SEEN = (int64_t)1 << 42;          /* tokens of a pass */

static const char *learner_part_name(char name[512], const char *part, int learner)
{
    snprintf(name, 512, "%s/%d", part, learner);
    return name;
}

static int store(const Fit *f, Checkpoint *c, const char *part, Err *e)
{
    char name[512];
    if (!f->buffer)
        return json_object_set_new(checkpoint_fields(c), part, json_object());
    json_t *fields = json_pack("{s:s, s:i, s:i}", "type", dtype_name(f->type), "width", f->D, "unit", f->unit);
    const int64_t place[PLACES] = {f->seen, f->pass, f->memory_pass, f->in_round, f->again, f->last_round,
                                   f->overflowed, f->cut_short};
    if (!fields || json_object_set_new(checkpoint_fields(c), part, fields))
        return err_set(e, "out of memory");
    for (int l = 0; l < f->learners; l++)
        if (learner_store(&f->learner[l], c, learner_part_name(name, part, l), e))
            return -1;
    return checkpoint_put(c, part, "place", I64, place, PLACES, false, e) || token_buffer_store(f->buffer, c, part, e)
           ? -1 : 0;
}

int fit_store(const Fit *f, Checkpoint *c, const char *part, Err *e)
{
    fit_gate_lock(f->options.gate);
    const int failed = store(f, c, part, e);
    fit_gate_unlock(f->options.gate);
    return failed;
}

int fit_restore(Fit *f, Checkpoint *c, const char *part, Err *e)
{
    const json_t *fields = json_object_get(checkpoint_fields(c), part);
    const char *type_name = json_string_value(json_object_get(fields, "type"));
    const json_int_t D = json_integer_value(json_object_get(fields, "width"));
    const json_int_t unit = json_integer_value(json_object_get(fields, "unit"));
    char name[512];
    int64_t place[PLACES];
    bool done = true;
    if (!json_is_object(fields))
        return err_set(e, "checkpoint: holds no %s", part);
    if (!type_name)             /* no token had come */
        return 0;
    const DType type = strcmp(type_name, dtype_name(F16)) == 0 ? F16
                     : strcmp(type_name, dtype_name(BF16)) == 0 ? BF16 : F32;
    if (D < 1 || D > SAE_MAX_WIDTH || unit < 1 || unit > (f->options.pictures ? 1 << 24 : 1))
        return err_set(e, "checkpoint: %s: tokens of width %lld, %lld together, cannot be", part, (long long)D,
                       (long long)unit);
    Labels *labels = f->options.labels;
    if (fit_begin(f, type, (int)D, (int)unit, e) || checkpoint_get(c, part, "place", I64, place, PLACES, false, e)
        || token_buffer_restore(f->buffer, c, part, labels ? labels_tags(labels) : 1, e))
        return -1;
    for (int p = 0; p < PLACES; p++)
        if (place[p] < 0 || place[p] > MOST_SEEN)
            return err_set(e, "checkpoint: %s: place: value %d is %lld, expected 0 to %lld", part, p,
                           (long long)place[p], (long long)MOST_SEEN);
    for (int l = 0; l < f->learners; l++) {
        if (learner_restore(&f->learner[l], c, learner_part_name(name, part, l), labels ? labels_count(labels) : 0, e))
            return -1;
        if (!f->learner[l].trainer != !f->learner[0].trainer)
            return err_set(e, "checkpoint: %s: some autoencoders have begun, others have not", part);
        done &= f->learner[l].done;
    }
    f->seen = f->skip = place[0];
    f->pass = place[1];
    f->memory_pass = place[2];
    f->in_round = place[3];
    f->again = place[4];
    f->last_round = place[5];
    f->overflowed = place[6];
    f->cut_short = place[7];
    f->done = done;
    return 0;
}
