/* SPDX-License-Identifier: MIT */
/* golden_t5.c -- T5's text states and what its blocks compute against transformers' T5EncoderModel: of the tiny Stable
 * Diffusion 3.5 (gated gelu), and of a tiny one of T5's first kind (relu, in two files, texts longer than its furthest
 * bucket). The same bytes whatever the number of texts. */
#include "formats/json_file.h"
#include "src/models/t5_encoder.h"
#include "src/models/unigram.h"
#include "tests/unit/golden.h"

typedef struct Seen {
    const Weights *golden;
    DType type;
    int calls, failed;
} Seen;

/* [blocks,B,S,E] of the golden file has what each block gives. */
static int look(void *context, const HookCall *call, Err *e)
{
    Seen *seen = context;
    const Weight *want = tensor(seen->golden, "blocks");
    const size_t n = (size_t)(call->B*call->W)*(size_t)call->C;
    float *got = malloc(n*sizeof *got);
    char path[60];
    (void)e;
    op->download(got, call->act, n*sizeof *got);
    snprintf(path, sizeof path, "text_encoder_3.encoder.block.%d", seen->calls);
    seen->failed += test_text("t5/path", call->path, path) + test_below(path, relative_l2(got,
        (const float *)want->data + n*(size_t)seen->calls, n), limit_of(seen->type, 2e-6, 2e-2));
    op->download(got, call->input, n*sizeof *got);
    if (seen->calls > 0)
        seen->failed += test_below("  its input", relative_l2(got, (const float *)want->data
            + n*(size_t)(seen->calls - 1), n), limit_of(seen->type, 2e-6, 2e-2));
    free(got);
    seen->calls++;
    return 0;
}

static int test_states(const char *dir, const int32_t *ids, int64_t B, int S, const float *want, DType type,
                       const Weights *blocks)
{
    T5Encoder *t = NULL;
    Hooks hooks = {0};
    Seen seen = {.golden = blocks, .type = type};
    die_if(t5_encoder_load(&t, dir, "text_encoder_3", type, &err)
           || t5_encoder_watch(t, &hooks, "text_encoder_3", &err)
           || (blocks && hooks_add(&hooks, "text_encoder_3.encoder.block.*", true, look, &seen, &err) < 0));
    const size_t n = (size_t)S*(size_t)t5_encoder_width(t);
    float *got = malloc(n*(size_t)B*sizeof *got), *alone = malloc(n*sizeof *alone);
    die_if(t5_encode(t, ids, B, S, got, &err));
    int failed = test_below(dtype_name(type), relative_l2(got, want, n*(size_t)B), limit_of(type, 2e-6, 2e-2));
    if (blocks)
        failed += seen.failed + test_ok("t5/calls of hooks", seen.calls == hooks.modules);
    seen.calls = 0;
    if (!blocks) {
        die_if(t5_encode(t, ids + (B - 1)*S, 1, S, alone, &err));
        failed += test_same("t5/the same bytes alone", alone, got + n*(size_t)(B - 1), n*sizeof *alone);
        Err e = {0};
        failed += test_ok("t5/an id beyond the vocabulary", t5_encode(t, &(int32_t){1 << 20}, 1, 1, alone, &e) == -1
                          && strstr(e.text, "token 1048576"));
    }
    free(got);
    free(alone);
    t5_encoder_free(t);
    hooks_free(&hooks);
    return failed;
}

/* Texts through the tokenizer to the T5 rows of the pipeline's states, behind CLIP's. */
static int test_sd3(DType type)
{
    Weights *w = NULL;
    Unigram *u = NULL;
    long left;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", test_path("golden-more/sd3"));
    die_if(weights_open(&w, test_path("golden-more/sd3.safetensors"), &err)
           || unigram_load(&u, dir, "tokenizer_3", &err));
    json_t *texts = json_loads(json_string_value(json_object_get(weights_metadata(w), "texts")), 0, NULL);
    const Weight *state = tensor(w, "state"), *want_ids = tensor(w, "ids.3");
    const int B = (int)want_ids->dim[0], S = (int)want_ids->dim[1], E = (int)state->dim[2], rows = (int)state->dim[1];
    int32_t *ids = malloc((size_t)(B*S)*sizeof *ids);
    float *want = malloc((size_t)(B*S*E)*sizeof *want);
    for (int b = 0; b < B; b++) {
        die_if(unigram_encode(u, json_string_value(json_array_get(texts, (size_t)b)), ids + b*S, S, &left, &err));
        memcpy(want + (size_t)b*S*E, (const float *)state->data + ((size_t)(b + 1)*rows - S)*E,
               (size_t)(S*E)*sizeof *want);
    }
    int failed = test_ok("t5/texts of the pipeline", B == 3) + test_same("t5/ids of the pipeline", ids, want_ids->data,
                                                                        (size_t)(B*S)*sizeof *ids);
    failed += test_states(dir, ids, B, S, want, type, NULL);
    json_decref(texts);
    free(ids);
    free(want);
    unigram_free(u);
    weights_close(w);
    return failed;
}

static int test_relu(DType type)
{
    Weights *w = NULL;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", test_path("golden-more/t5/relu"));
    die_if(weights_open(&w, test_path("golden-more/t5/relu.safetensors"), &err));
    const Weight *ids = tensor(w, "ids"), *state = tensor(w, "state");
    const int failed = test_states(dir, ids->data, ids->dim[0], (int)ids->dim[1], state->data, type, w);
    weights_close(w);
    return failed;
}

int main(void)
{
    DType types[3];
    die_if(backend_pick(test_backend(), 0, &err));
    const int count = product_types(types);
    int failed = 0;
    for (int i = 0; i < count; i++)
        failed += test_sd3(types[i]) + test_relu(types[i]);
    return failed != 0;
}
