/* SPDX-License-Identifier: MIT */
/* golden_clip.c -- both towers of minisd's CLIP against transformers (within 1e-4, in bf16 0.03, in f16 an eighth of
 * it), and the preparation of pictures against CLIPImageProcessor on Pillow: within 1/255 before normalisation, that is
 * 1/(255 * 0.26) after. */
#include "src/models/clip_score.h"
#include "src/models/clip_text.h"
#include "src/models/image_encoder.h"
#include "src/models/text_encoder.h"
#include "tests/unit/golden.h"

static int fail(const Err *e)
{
    printf("FAIL clip: %s\n", e->text);
    return 1;
}

/* A fresh (B,H*W,3) of (B,3,H*W) */
static float *channels_last(const float *x, int64_t B, int64_t HW)
{
    float *y = malloc(B * HW * 3 * sizeof *y);
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < HW; i++)
            for (int c = 0; c < 3; c++)
                y[(b * HW + i) * 3 + c] = x[(b * 3 + c) * HW + i];
    return y;
}

static int check_images(const char *model, const Weights *w, DType type)
{
    const Weight *pixels = weights_find(w, "clip.pixels"), *want = weights_find(w, "clip.image");
    const int64_t B = pixels->dim[0], P = want->dim[1], values = pixels->dim[2] * pixels->dim[3] * 3;
    ImageEncoder *t = NULL;
    Err e = {0};
    enum { MANY = 37 };             /* more than a chunk */
    if (image_encoder_load(&t, model, type, &e))
        return fail(&e);
    float *x = channels_last(pixels->data, B, pixels->dim[2] * pixels->dim[3]), *y = malloc(MANY * P * sizeof *y);
    float *many = malloc(MANY * values * sizeof *many), *alone = malloc(B * P * sizeof *alone);
    for (int i = 0; i < MANY; i++)
        memcpy(many + i * values, x + i % B * values, values * sizeof *x);
    int failed = image_embed(t, x, B, alone, NULL, &e) || image_embed(t, many, MANY, y, NULL, &e) ? fail(&e) : 0;
    if (!failed) {
        failed += test_close("clip/image", alone, want->data, B * P, (float)limit_of(type, 1e-4, 0.03), 0);
        for (int i = 0; i < MANY; i++)
            if (memcmp(y + i * P, alone + i % B * P, P * sizeof *y) != 0)
                failed += test_ok("clip/image: same bytes in a larger batch", 0);
    }
    free(x);
    free(y);
    free(many);
    free(alone);
    image_encoder_free(t);
    return failed;
}

static int check_texts(const char *model, const Weights *w, const Weights *texts, DType type)
{
    const Weight *ids = weights_find(texts, "ids"), *want = weights_find(w, "clip.text");
    const int64_t P = want->dim[1];
    TextEncoder *t = NULL;
    Err e = {0};
    if (text_encoder_load(&t, model, 1, type, &e))
        return fail(&e);
    float *y = malloc(want->dim[0] * P * sizeof *y);
    const int failed = text_embed(t, (const int32_t *)ids->data + ids->dim[1], want->dim[0], y, &e)
                     ? fail(&e) : test_close("clip/text", y, want->data, want->dim[0] * P,
                                             (float)limit_of(type, 1e-4, 0.03), 0);
    free(y);
    text_encoder_free(t);
    return failed;
}

/* Scores are 100 cos of the picture's embedding and the prompt's, 0 where that is negative: of x or of -x. */
static int check_scores(const char *model, const Weights *w)
{
    static const char *const prompts[] = {"a photo of a cat", "a red square", ""};
    enum { PROMPTS = sizeof prompts / sizeof *prompts };
    const Weight *images = weights_find(w, "clip.image");
    const int64_t B = images->dim[0], P = images->dim[1];
    ClipScore *s = NULL;
    ClipText *t = NULL;
    Err e = {0};
    if (clip_score_create(&s, model, false, F32, &e) || clip_text_open(&t, model, F32, &e))
        return fail(&e);
    float *y = malloc(P * sizeof *y), *minus = malloc(P * sizeof *minus);
    int failed = test_ok("clip/score: width", clip_score_width(s) == P && clip_text_width(t) == P), wrong = 0;
    for (int k = 0; k < 2*PROMPTS && !failed; k++) {            /* each prompt twice: it is known then */
        failed += clip_text_embed(t, prompts[k % PROMPTS], y, &e) ? fail(&e) : 0;
        for (int64_t b = 0; b < B && !failed; b++) {
            const float *x = (const float *)images->data + b * P;
            double xx = 0, yy = 0, xy = 0, score = -1, opposite = -1;
            for (int64_t p = 0; p < P; p++) {
                xx += (double)x[p] * x[p];
                yy += (double)y[p] * y[p];
                xy += (double)x[p] * y[p];
                minus[p] = -x[p];
            }
            const double cosine = 100 * xy / (sqrt(xx) * sqrt(yy));
            failed += clip_score(s, prompts[k % PROMPTS], x, &score, &e)
                   || clip_score(s, prompts[k % PROMPTS], minus, &opposite, &e) ? fail(&e) : 0;
            wrong += !(fabs(score - fmax(cosine, 0)) < 1e-3 && fabs(opposite - fmax(-cosine, 0)) < 1e-3
                       && fabs(cosine) > 0.01);
        }
    }
    failed += test_ok("clip/score", B > 0 && !wrong);
    free(y);
    free(minus);
    clip_text_close(t);
    clip_score_free(s);
    return failed;
}

/* Configs that are refused by the key, and one whose means and deviations are taken. */
static int check_form(void)
{
    static const struct { const char *file, *text, *says; } cases[] = {
        {"preprocessor_config.json", "{\"do_resize\": false}", "\"do_resize\" is false"},
        {"preprocessor_config.json", "{\"resample\": 2}", "\"resample\" is 2"},
        {"preprocessor_config.json", "{\"rescale_factor\": 1}", "\"rescale_factor\" 1"},
        {"preprocessor_config.json", "{\"size\": 16}", "\"size\" is not shortest_edge 2"},
        {"preprocessor_config.json", "{\"size\": {\"height\": 2, \"width\": 2}}", "\"size\""},
        {"preprocessor_config.json", "{\"crop_size\": {\"height\": 2, \"width\": 3}}", "\"crop_size\""},
        {"preprocessor_config.json", "{\"image_mean\": [0.5]}", "\"image_mean\" is not three numbers"},
        {"preprocessor_config.json", "{\"image_std\": [0.5, 0, 1]}", "\"image_std\""},
        {"processor_config.json", "{\"image_processor\": {\"do_center_crop\": false}}", "\"do_center_crop\""},
        {"processor_config.json", "{\"image_processor\": {\"size\": {\"shortest_edge\": 2}, \"crop_size\": 2,"
         " \"image_mean\": [0.5, 0, 1], \"image_std\": [0.5, 1, 2]}}", NULL},
    };
    const uint8_t image[12] = {0, 255, 51, 255, 0, 255, 102, 51, 0, 51, 102, 255};
    const float want[12] = {-1, 1, -0.4f, 1, 0, 0, -0.2f, 0.2f, -0.5f, -0.6f, 0.4f, 0};
    char dir[] = "/tmp/golden_clip.XXXXXX", path[96];
    int failed = 0;
    if (!mkdtemp(dir))
        return test_ok("clip/a folder", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ImageForm f;
        Err e = {0};
        float y[12];
        snprintf(path, sizeof path, "%s/%s", dir, cases[i].file);
        FILE *out = fopen(path, "w");
        fputs(cases[i].text, out);
        fclose(out);
        const int refused = image_form_load(&f, dir, 2, &e);
        unlink(path);
        if (cases[i].says)
            failed += test_ok(cases[i].text, refused && strstr(e.text, cases[i].says) && strstr(e.text, dir));
        else if (!(failed += test_ok(cases[i].text, !refused))) {
            image_prepare(y, image, 2, 2, &f, &e);
            failed += test_close("clip/its own means and deviations", y, want, 12, 1e-6f, 0);
        }
    }
    rmdir(dir);
    return failed;
}

static int check_prepare(void)
{
    Weights *w = NULL;
    Err e = {0};
    ImageForm form;
    char name[64];
    int failed = 0, n = 0;
    if (weights_open(&w, test_path("golden-more/prepare.safetensors"), &e)
        || image_form_load(&form, test_path("golden-more"), 32, &e))
        return fail(&e);
    for (const Weight *image; snprintf(name, sizeof name, "%d.image", n), (image = weights_find(w, name)); n++) {
        enum { SIZE = 32 };
        float y[SIZE * SIZE * 3];
        snprintf(name, sizeof name, "%d.pixels", n);
        float *want = channels_last(weights_find(w, name)->data, 1, SIZE * SIZE);
        image_prepare(y, image->data, (int)image->dim[0], (int)image->dim[1], &form, &e);
        snprintf(name, sizeof name, "clip/prepare %d x %d", (int)image->dim[0], (int)image->dim[1]);
        failed += test_close(name, y, want, SIZE * SIZE * 3, 1 / (255 * 0.26f), 0);
        free(want);
    }
    weights_close(w);
    return failed + test_ok("clip/prepare: there are pictures", n > 0);
}

int main(void)
{
    const char *model = test_path("../data/minisd/model");
    Weights *w = NULL, *texts = NULL;
    Err e = {0};
    if (backend_pick(test_backend(), 0, &e) || weights_open(&w, test_path("golden/model.safetensors"), &e)
        || weights_open(&texts, test_path("golden/text.safetensors"), &e))
        return fail(&e);
    DType types[3];
    const int count = product_types(types);
    int failed = check_form() + check_prepare() + check_scores(model, w);
    for (int t = 0; t < count; t++)
        failed += check_images(model, w, types[t]) + check_texts(model, w, texts, types[t]);
    weights_close(w);
    weights_close(texts);
    return failed != 0;
}
