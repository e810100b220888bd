/* SPDX-License-Identifier: MIT */
/* golden_text.c -- text states against transformers: minisd's encoder, and a tiny one (gelu, three heads) whose tensors
 * are named as transformers 4 and as 5 name them. Sums in another order differ by some 1e-6; 1e-4 is asked for, of bf16
 * 0.05, of f16, which keeps three bits more, an eighth. */
#include "src/models/text_encoder.h"
#include "tests/unit/golden.h"

static int fail(const Err *e)
{
    printf("FAIL text: %s\n", e->text);
    return 1;
}

/* A batch beyond a chunk repeats the texts: every repetition must give the same bytes as the texts alone. */
static int check_batches(TextEncoder *t, const int32_t *ids, int64_t B, const float *alone, const char *label)
{
    enum { TIMES = 5 };
    const size_t S = (size_t)text_encoder_length(t), state = S * (size_t)text_encoder_width(t);
    int32_t *many = malloc(TIMES * B * S * sizeof *many);
    float *y = malloc(TIMES * B * state * sizeof *y);
    char name[96];
    Err e = {0};
    for (int i = 0; i < TIMES; i++)
        memcpy(many + i * B * S, ids, B * S * sizeof *ids);
    int failed = text_encode(t, many, TIMES * B, y, &e) ? fail(&e) : 0;
    for (int i = 0; i < TIMES && !failed; i++) {
        snprintf(name, sizeof name, "text/%s/same bytes in a larger batch, %d", label, i);
        failed += test_same(name, y + i * B * state, alone, B * state * sizeof *y);
    }
    for (int64_t b = 0; b < B && !failed; b++) {
        snprintf(name, sizeof name, "text/%s/same bytes alone, %lld", label, (long long)b);
        failed +=
            text_encode(t, ids + b * S, 1, y, &e) ? fail(&e) : test_same(name, y, alone + b * state, state * sizeof *y);
    }
    free(many);
    free(y);
    return failed;
}

static int check_encoder(const char *folder, const char *golden, const char *label, DType type)
{
    Weights *w = NULL;
    TextEncoder *t = NULL;
    Err e = {0};
    char name[96];
    if (weights_open(&w, golden, &e) || text_encoder_load(&t, folder, 0, type, &e))
        return fail(&e);
    const Weight *ids = weights_find(w, "ids"), *want = weights_find(w, "state");
    const int64_t B = ids->dim[0];
    const size_t state = weight_count(want) / B;
    float *got = malloc(weight_count(want) * sizeof *got);
    int failed = text_encode(t, ids->data, B, got, &e) ? fail(&e) : 0;
    for (int64_t b = 0; b < B && !failed; b++) {
        snprintf(name, sizeof name, "text/%s/%s/state %lld", label, dtype_name(type), (long long)b);
        failed += test_close(name, got + b * state, (const float *)want->data + b * state, state,
                             (float)limit_of(type, 1e-4, 0.05), 0);
    }
    if (!failed)
        failed = check_batches(t, ids->data, B, got, label);
    free(got);
    text_encoder_free(t);
    weights_close(w);
    return failed;
}

int main(void)
{
    Err e = {0};
    if (backend_pick(test_backend(), 0, &e))
        return fail(&e);
    DType types[3];
    const int count = product_types(types);
    int failed = 0;
    for (int t = 0; t < count; t++) {
        failed += check_encoder(test_path("../data/minisd/model"), test_path("golden/text.safetensors"), "minisd",
                                types[t]);
        failed += check_encoder(test_path("golden-more/text_names/4"),
                                test_path("golden-more/text_names/expected.safetensors"), "names of transformers 4",
                                types[t]);
    }
    failed += check_encoder(test_path("golden-more/text_names/5"),
                            test_path("golden-more/text_names/expected.safetensors"), "names of transformers 5", F32);
    return failed != 0;
}
