/* SPDX-License-Identifier: MIT */
/* golden_vit.c -- a tiny vision transformer, from both kinds of file, against timm: pictures as Pillow resizes them,
 * byte for byte; embeddings and logits within 2e-5 of values up to 7 (in bf16 0.15, in f16 an eighth of it). Then files
 * that are refused, and with which words. */
#include "formats/torch_zip.h"
#include "src/models/image_encoder.h"
#include "tests/unit/golden.h"
#include "tests/unit/stream_test.h"

enum { SIDE = 16, VALUES = SIDE * SIDE * 3, WIDTH = 64, CLASSES = 7, MANY = 37, TENSORS = 40 };

static const char *in_tests(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_path("golden-more/vit"), name);
    return path;
}

/* pixels (n,SIDE,SIDE,3) of the recorded pictures; returns n. */
static int prepare(const Weights *expected, float *pixels, int *failed)
{
    const ImageForm form = {.size = SIDE, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}, .fit = FIT_STRETCH};
    const Weight *image;
    char name[32];
    int n = 0;
    for (; snprintf(name, sizeof name, "%d.image", n), (image = weights_find(expected, name)); n++) {
        float want[VALUES], *y = pixels + n * VALUES;
        snprintf(name, sizeof name, "%d.resized", n);
        const uint8_t *resized = tensor(expected, name)->data;
        for (int i = 0; i < VALUES; i++)
            want[i] = ((float)resized[i] / 255 - 0.5f) / 0.5f;
        die_if(image_prepare(y, image->data, (int)image->dim[0], (int)image->dim[1], &form, &err));
        snprintf(name, sizeof name, "vit/resized %d x %d", (int)image->dim[0], (int)image->dim[1]);
        *failed += test_same(name, y, want, sizeof want);
    }
    return n;
}

static int check_network(const Weights *expected, const float *pixels, int n, const char *file, int heads, DType type)
{
    static float many[MANY * VALUES], embedding[MANY * WIDTH], logits[MANY * CLASSES];
    static float alone[WIDTH], alone_logits[CLASSES];
    const float limit = (float)limit_of(type, 2e-5, 0.15);
    char name[3][64];
    ImageEncoder *t = NULL;
    snprintf(name[0], sizeof name[0], "embedding.%d", heads);
    snprintf(name[1], sizeof name[1], "logits.%d", heads);
    snprintf(name[2], sizeof name[2], "vit/%s, %d heads, %s", file, heads, dtype_name(type));
    die_if(image_encoder_open(&t, in_tests(file), heads == 1 ? 0 : heads, type, &err));
    int failed = test_ok(name[2], image_encoder_projection(t) == WIDTH && image_encoder_classes(t) == CLASSES
                                  && image_encoder_form(t)->size == SIDE);
    for (int i = 0; i < MANY; i++)
        memcpy(many + i * VALUES, pixels + i % n * VALUES, VALUES * sizeof *many);
    die_if(image_embed(t, many, MANY, embedding, logits, &err));
    failed += test_close("embedding", embedding, tensor(expected, name[0])->data, (size_t)n * WIDTH, limit, 0);
    failed += test_close("logits", logits, tensor(expected, name[1])->data, (size_t)n * CLASSES, limit, 0);
    for (int i = 0; i < MANY; i += 9) {
        die_if(image_embed(t, pixels + i % n * VALUES, 1, alone, alone_logits, &err));
        failed += test_same("alone and among others", alone, embedding + i * WIDTH, sizeof alone);
        failed += test_same("its logits", alone_logits, logits + i * CLASSES, sizeof alone_logits);
    }
    die_if(image_embed(t, pixels, 1, alone, NULL, &err));
    failed += test_same("without logits", alone, embedding, sizeof alone);
    image_encoder_free(t);
    return failed;
}

/* ---- what is refused ---- */

typedef struct Change { const char *tensor, *renamed; int ndim; int64_t dim[4]; float value; } Change;

/* tiny.safetensors with one tensor left out (no more than its name given), renamed, or with another shape or first
 * value; a tensor that it has not is added. */
static int refused(const Weights *tiny, const Change *c, int heads, const char *says)
{
    static float data[1 << 16];
    Weight w[TENSORS];
    size_t count = 0;
    bool there = false;
    char path[] = "/tmp/golden_vit.XXXXXX";
    const int fd = mkstemp(path);
    for (size_t i = 0; i <= weights_count(tiny); i++) {
        const Weight *from = weights_at(tiny, i);
        const bool changed = !from ? !there : strcmp(from->name, c->tensor) == 0;
        there = there || changed;
        if (from)
            w[count] = *from;
        if (changed && c->ndim) {
            w[count] = (Weight){c->renamed ? c->renamed : c->tensor, F32, c->ndim, {0}, data, NULL};
            memcpy(w[count].dim, c->dim, sizeof c->dim);
            data[0] = c->value;
        }
        count += (from || changed) && (!changed || c->ndim);
    }
    ImageEncoder *t = NULL;
    Err e = {0};
    die_if(fd < 0 || weights_write(path, w, count, NULL, &err));
    const int opened = image_encoder_open(&t, path, heads, F32, &e) == 0;
    const int failed = test_ok(says, !opened && !t && strstr(e.text, says) && strstr(e.text, path));
    if (failed)
        test_note("message: %s", e.text);
    image_encoder_free(t);
    close(fd);
    unlink(path);
    return failed;
}

static int check_refused(const Weights *tiny)
{
    static const struct { Change change; int heads; const char *says; } cases[] = {
        {{.tensor = "cls_token"}, 0, "neither a judge's network"},
        {{.tensor = "pos_embed"}, 0, "pos_embed is missing"},
        {{.tensor = "blocks.0.attn.qkv.bias"}, 0, "blocks.0.attn.qkv.bias is missing"},
        {{.tensor = "blocks.1.norm1.weight"}, 0, "blocks.1.norm1.weight is missing"},
        {{.tensor = "norm.bias"}, 0, "norm.bias is missing"},
        {{.tensor = "head.bias"}, 0, "head.bias is missing"},
        {{"cls_token", NULL, 3, {1, 1, 32}, 0}, 0, "patch_embed.proj.weight is f16 (64, 3, 4, 4)"},
        {{"pos_embed", NULL, 3, {1, 16, 64}, 0}, 0, "16 positions"},
        {{"pos_embed", NULL, 3, {1, 10, 64}, NAN}, 0, "pos_embed has nan at value 0"},
        {{"patch_embed.proj.weight", NULL, 4, {64, 3, 4, 2}, 0}, 0, "patches of 4 x 2"},
        {{"patch_embed.proj.weight", NULL, 4, {64, 1, 4, 4}, 0}, 0, "expected f32, f16 or bf16 (64, 3, *, *)"},
        {{"blocks.1.attn.qkv.weight", NULL, 2, {64, 64}, 0}, 0, "(64, 64), expected f32, f16 or bf16 (192, 64)"},
        {{"blocks.0.mlp.fc2.weight", NULL, 2, {64, 16}, INFINITY}, 0, "blocks.0.mlp.fc2.weight has inf at value 0"},
        {{"head.weight", NULL, 2, {6, 64}, 0}, 0, "head.bias is f16 (7), expected f32, f16 or bf16 (6)"},
        {{"head.weight", NULL, 2, {7, 32}, 0}, 0, "head.weight is f32 (7, 32)"},
        {{"blocks.0.ls1.gamma", NULL, 1, {64}, 0}, 0, "blocks.0.ls1.gamma is none of a plain vision transformer"},
        {{"reg_token", NULL, 3, {1, 4, 64}, 0}, 0, "reg_token is none of"},
        {{"blocks.12345.norm1.weight", NULL, 1, {64}, 0}, 0, "is none of"},
        {{"blocks.999.norm1.weight", NULL, 1, {64}, 0}, 0, "blocks.2.norm1.weight is missing"},
        {{"other", "other", 1, {64}, 0}, 0, "other is none of"},
        {{.tensor = "head.bias"}, 3, "3 heads do not divide a width of 64"},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        failed += refused(tiny, &cases[i].change, cases[i].heads, cases[i].says);
    return failed;
}

/* Its first n bytes, every so many: each is refused with the file's name. */
static int check_cut(const char *file)
{
    static char data[1 << 17];
    FILE *f = fopen(in_tests(file), "rb");
    const size_t size = fread(data, 1, sizeof data, f);
    int opened = 0;
    fclose(f);
    for (size_t n = 0; n < size; n += n < 4096 ? 512 : 8191) {
        ImageEncoder *t = NULL;
        Err e = {0};
        const char *path = spill_memory(data, n);
        opened += image_encoder_open(&t, path, 0, F32, &e) == 0 || !strstr(e.text, path);
        image_encoder_free(t);
    }
    return test_ok(file, opened == 0);
}

/* A width of 64 n is taken for heads of 64 up to 1024 only. */
static int check_width(void)
{
    static const struct { int width; const char *says; } cases[] = {
        {96, "how many heads a width of 96 has"}, {1280, "how many heads a width of 1280 has"}};
    static float zeros[4 * 1280 * 3];
    int failed = 0;
    for (int i = 0; i < 2; i++) {
        const int E = cases[i].width;
        const Weight w[] = {{"cls_token", F32, 3, {1, 1, E}, zeros, NULL},
                            {"pos_embed", F32, 3, {1, 2, E}, zeros, NULL},
                            {"patch_embed.proj.weight", F32, 4, {E, 3, 1, 1}, zeros, NULL},
                            {"blocks.0.mlp.fc1.weight", F32, 2, {1, E}, zeros, NULL}};
        char path[] = "/tmp/golden_vit.XXXXXX";
        const int fd = mkstemp(path);
        ImageEncoder *t = NULL;
        Err e = {0};
        die_if(fd < 0 || weights_write(path, w, 4, NULL, &err));
        failed += test_ok(cases[i].says, image_encoder_open(&t, path, 0, F32, &e) && strstr(e.text, cases[i].says));
        image_encoder_free(t);
        close(fd);
        unlink(path);
    }
    return failed;
}

int main(void)
{
    static float pixels[MANY * VALUES];
    static const char *const files[] = {"tiny.pth", "tiny.safetensors"};
    Weights *expected = NULL, *tiny = NULL;
    die_if(backend_pick(test_backend(), 0, &err) || weights_open(&expected, in_tests("expected.safetensors"), &err)
           || weights_open(&tiny, in_tests("tiny.safetensors"), &err));
    DType types[3];
    const int count = product_types(types);
    int failed = 0;
    const int n = prepare(expected, pixels, &failed);
    for (int f = 0; f < 2; f++)
        for (int heads = 1; heads <= 2; heads++)
            for (int t = 0; t < count; t++)
                failed += check_network(expected, pixels, n, files[f], heads, types[t]);
    failed += check_refused(tiny) + check_cut("tiny.pth") + check_cut("tiny.safetensors") + check_width();
    weights_close(expected);
    weights_close(tiny);
    return failed != 0;
}
