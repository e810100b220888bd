/* SPDX-License-Identifier: MIT */
/* checkpoint_damage.c -- damaged checkpoints: numbers of every tensor replaced by extreme ones, digits of the header
 * and of the fields by others, cuts. Each is refused by its checksum. Where that is made to fit, as a program that is
 * wrong could, none may crash, in restoring or in the training that goes on from it (build with
 * -fsanitize=address,undefined to see more); some that would have are named. */
#include "formats/murmur.h"
#include "formats/weights.h"
#include "kernels/op.h"
#include "src/models/sae_fit.h"
#include "tests/unit/stream_test.h"

enum { D = 6, N = 4, BUFFER = 16, PASSES = 3 };

static uint32_t seed = 1;

static uint32_t dice(void)
{
    return seed = seed*1664525u + 1013904223u, seed >> 8;
}

static int ignore(void *context, int learner, const FitReport *report)
{
    (void)context;
    (void)learner;
    (void)report;
    return 0;
}

static Fit *make_fit(Labels **labels, Err *e)
{
    static const LearnerOptions learner = {
        .expansion = 2, .decay = 0.2, .train = {.K = 2, .batch = N, .auxk = 1, .clip = 1, .assign = 0.1,
                                                .decorrelate = 0.1}
    };
    const FitOptions o = {.learner = &learner, .learners = 1, .epochs = PASSES, .buffer = BUFFER};
    Fit *f = NULL;
    if (labels_create(labels, "concept", e))
        exit(2);
    FitOptions with = o;
    with.labels = *labels;
    if (fit_create(&f, &with, ignore, NULL, e))
        exit(2);
    return f;
}

/* Record number r of the input. -1: an error, 1: no more are wanted */
static int push(Fit *f, Labels *labels, int r, Err *e)
{
    float x[N*D];
    for (int i = 0; i < N*D; i++)
        x[i] = (float)(i*7 % 5 + r);
    json_t *fields = json_pack("{s:s}", "concept", r % 2 ? "Cats" : "Dogs");
    const int32_t tag = labels_tag(labels, fields, e);
    json_decref(fields);
    return tag < 0 ? -1 : fit_push(f, x, F32, D, tag, N, e);
}

/* A checkpoint after `records`, of which those that fill the buffer have been trained on. */
static Blob make_checkpoint(int records)
{
    Err e = {0};
    Labels *labels;
    Checkpoint *c;
    Fit *f = make_fit(&labels, &e);
    for (int r = 0; r < records; r++)
        if (push(f, labels, r, &e) < 0)
            exit(2);
    if (checkpoint_create(&c, &e) || json_object_set_new(checkpoint_fields(c), "labels", labels_store(labels))
        || fit_store(f, c, "fit/h", &e) || checkpoint_write(c, scratch("whole"), &e))
        exit(2);
    checkpoint_free(c);
    fit_free(f);
    labels_free(labels);
    return slurp(scratch("whole"));
}

/* Goes on from a checkpoint to the end. Whether it could. */
static bool go_on(const unsigned char *data, size_t size, Err *e)
{
    Checkpoint *c;
    Labels *labels;
    if (checkpoint_open(&c, spill_memory(data, size), e))
        return false;
    Fit *f = make_fit(&labels, e);
    int failed = labels_restore(labels, json_object_get(checkpoint_fields(c), "labels"), e)
              || fit_restore(f, c, "fit/h", e);
    for (int r = 0, more = 0; r < 12 && !failed && !more; r++)
        failed = (more = push(f, labels, r, e)) < 0;
    failed = failed || fit_input_ended(f, false, e);
    fit_free(f);
    labels_free(labels);
    checkpoint_free(c);
    return !failed;
}

static size_t data_begin(const Blob *b)
{
    size_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | b->data[i];
    return 8 + n;
}

/* Makes the checksum that of what is there, as checkpoint.c has it. What is no safetensors file any more stays. */
static void seal(unsigned char *data, size_t size)
{
    static const char key[] = "\"checksum\":\"";
    Err e = {0};
    Weights *w;
    char text[17];
    unsigned char *at = memmem(data, size, key, strlen(key));
    if (!at || weights_open(&w, spill_memory(data, size), &e))
        return;
    const char *fields = json_string_value(json_object_get(weights_metadata(w), "checkpoint"));
    uint64_t sum = fields ? murmur(fields, strlen(fields), 0).a : 0;
    for (size_t i = 0; i < weights_count(w); i++) {
        const Weight *t = weights_at(w, i);
        sum += murmur(t->data, weight_bytes(t), murmur(t->name, strlen(t->name), 0).a).a;
    }
    snprintf(text, sizeof text, "%016llx", (unsigned long long)sum);
    memcpy(at + strlen(key), text, 16);
    weights_close(w);
}

/* One number of 4 or 8 bytes somewhere in the tensors. */
static void damage_number(const Blob *b, unsigned char *data)
{
    static const int64_t extreme[] = {-1, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX, 1 << 20, 5, 0x7ff8000000000000};
    const size_t begin = data_begin(b), size = dice() % 2 ? 8 : 4, places = (b->size - begin)/size;
    memcpy(data + begin + dice() % places*size, &extreme[dice() % 8], size);
}

static void damage_digit(const Blob *b, unsigned char *data)
{
    for (int tries = 0; tries < 1000; tries++) {
        const size_t at = 8 + dice() % (data_begin(b) - 8);
        if (data[at] < '0' || data[at] > '9')
            continue;
        data[at] = "0123456789-"[dice() % 11];
        return;
    }
}

static int test_damage(const char *name, const Blob *b, void (*damage)(const Blob *, unsigned char *), int rounds)
{
    unsigned char *data = malloc(b->size);
    long went_on = 0, said = 0, passed = 0;
    for (int r = 0; r < rounds; r++) {
        Err e = {0};
        memcpy(data, b->data, b->size);
        for (unsigned i = dice() % 2; i < 2; i++)
            damage(b, data);
        if (memcmp(data, b->data, b->size) != 0) {
            passed += go_on(data, b->size, &e) || !e.set;
            e = (Err){0};
        }
        seal(data, b->size);
        const bool on = go_on(data, b->size, &e);
        went_on += on;
        said += !on && e.set;
    }
    free(data);
    test_note("%s: %ld went on, %ld were refused", name, went_on, said);
    return test_ok(name, went_on + said == rounds) + test_ok("none without another checksum", passed == 0);
}

static int test_cuts(const Blob *b)
{
    long passed = 0;
    for (size_t n = 0; n < b->size; n += n < 200 ? 1 : 37) {
        Err e = {0};
        passed += go_on(b->data, n, &e) || !e.set;
    }
    return test_ok("cuts are refused", passed == 0);
}

/* The 8 bytes at place `index` of tensor `name`. */
static int test_refused(const Blob *b, const char *name, size_t index, int64_t value, size_t size, const char *words)
{
    char key[100], title[200];
    unsigned char *data = malloc(b->size + 1);
    Err e = {0};
    memcpy(data, b->data, b->size);
    data[b->size] = 0;
    snprintf(key, sizeof key, "\"fit/h/%s\":", name);
    const char *entry = memmem(data, data_begin(b), key, strlen(key));
    const char *offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (!offsets)
        exit(2);
    memcpy(data + data_begin(b) + (size_t)atoi(strchr(offsets, '[') + 1) + index*size, &value, size);
    const bool passed = go_on(data, b->size, &e) || !strstr(e.text, "checksum");
    e = (Err){0};
    seal(data, b->size);
    const bool on = go_on(data, b->size, &e);
    snprintf(title, sizeof title, "refused: %s[%zu] = %lld", name, index, (long long)value);
    if (on || !strstr(e.text, words))
        test_note("%s", on ? "went on" : e.text);
    free(data);
    return test_ok(title, !passed && !on && strstr(e.text, words));
}

int main(void)
{
    Err e = {0};
    int failed = 0;
    if (backend_pick("cpu", 1, &e))
        return 1;
    Blob before = make_checkpoint(2), after = make_checkpoint(5);
    failed += test_ok("whole", go_on(before.data, before.size, &e) && go_on(after.data, after.size, &e));
    failed += test_cuts(&after);
    failed += test_refused(&after, "buffer.tag", 0, 1000, 4, "buffer.tag: value 0 is 1000");
    failed += test_refused(&after, "buffer.slot", 1, -1, 4, "buffer.slot: value 1 is -1");
    failed += test_refused(&after, "0/learner.place", 1, -8, 8, "learner.place");
    failed += test_refused(&after, "0/learner.place", 8, 0, 8, "0 labels, expected 2");
    failed += test_refused(&after, "0/fired", 3, INT64_MIN, 8, "fired: value 3");
    failed += test_refused(&after, "place", 0, INT64_MAX, 8, "place: value 0");
    failed += test_refused(&after, "0/W_dec", 5, 0x7fc00000, 4, "W_dec has nan at value 5");
    failed += test_refused(&after, "buffer.data", 2, 0x7fc00000, 4, "buffer.data holds values that are no numbers");
    failed += test_damage("numbers of a checkpoint before the first step", &before, damage_number, 300);
    failed += test_damage("numbers of a checkpoint", &after, damage_number, 3000);
    failed += test_damage("digits of a checkpoint's header", &after, damage_digit, 2000);
    free(before.data);
    free(after.data);
    scratch_clear();
    return failed != 0;
}
