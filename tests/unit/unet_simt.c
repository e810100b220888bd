/* SPDX-License-Identifier: MIT */
/* unet_simt.c -- UNet evaluations of minisd against diffusers, in bf16 and f16, on the CUDA backend's kernels played on
 * the host (tests/simt): what the ops' own tests cannot see, that they are called and joined as the models call them.
 * By the libraries' fakes, and by all kernels for compute capability 9. Then evaluations as graphs with hooks between
 * them, which must give the bytes of the first; of Stable Diffusion XL also with other texts in the graph's memory.
 *
 * Tolerances: as golden_unet.c has them. */
#include "kernels/op.h"
#include "src/models/sae_hook.h"
#include "src/models/unet.h"
#include "src/models/vae.h"
#include "tests/unit/golden.h"

const Ops *sdsteer_backend(int device, Err *e);

extern int simt_graph_launches;

/* act += act at a step that is told; counts its calls */
typedef struct Double { bool now; int calls; } Double;

static int twice(void *context, const HookCall *call, Err *e)
{
    Double *d = context;
    (void)e;
    d->calls++;
    if (d->now)
        op->add(call->act, call->act, call->B*call->H*call->W*call->C);
    return 0;
}

/* Two images of 8x8: run, taken down and played, played at another t and back again. */
static int replayed(UNet *u)
{
    enum { SIDE = 8, N = 2*SIDE*SIDE*4, TIMES = 5 };
    const int t[TIMES] = {500, 500, 20, 500, 500};
    const bool doubled[TIMES] = {false, false, false, true, false};
    const int before = simt_graph_launches;
    Double d = {0};
    float x[N], *eps = malloc(sizeof(float)*N*TIMES);
    float *dx = op->alloc(sizeof x, &err), *dy = op->alloc(sizeof x, &err), *state = calloc(2*77*128, sizeof *state);
    for (int i = 0; i < N; i++)
        x[i] = sinf((float)i);
    for (int i = 0; state && i < 2*77*128; i++)
        state[i] = cosf((float)i);
    die_if(!eps || !dx || !dy || !state || hooks_add(unet_hooks(u), "mid_block", false, twice, &d, &err) < 0
           || hooks_add(unet_hooks(u), "up_blocks.1.attentions.1.**.ff", true, twice, &d, &err) < 0
           || unet_set_text(u, state, 2, 77, (int32_t[]){0, 1}, 2, &err));
    op->upload(dx, x, sizeof x);
    for (int i = 0; i < TIMES; i++) {
        d.now = doubled[i];
        die_if(unet_eval(u, dy, dx, 2, SIDE, SIDE, t[i], &err));
        op->download(eps + i*N, dy, sizeof x);
    }
    int failed = test_ok("three stretches, played four times", simt_graph_launches == before + 3*4);
    failed += test_ok("hooks are called in every evaluation", d.calls == 2*TIMES);
    failed += test_same("played once", eps + N, eps, sizeof x);
    failed += test_ok("another t gives another eps", memcmp(eps + 2*N, eps, sizeof x) != 0);
    failed += test_ok("what a hook changes goes on", memcmp(eps + 3*N, eps, sizeof x) != 0);
    failed += test_same("and leaves no trace", eps + 4*N, eps, sizeof x);
    op->free(dx);
    op->free(dy);
    free(state);
    free(eps);
    return failed;
}

/* One image of 4x4, with two texts of one chunk and with one of two by turns, whose keys and values lie alike: what is
 * played is what was taken down with as many tokens. */
static int several_lengths(UNet *u)
{
    enum { SIDE = 4, N = SIDE*SIDE*4, TIMES = 6, S = 77, E = 128 };
    static const int chunks[TIMES] = {1, 1, 2, 2, 1, 2};
    float x[N], eps[TIMES][N], *state = malloc(sizeof *state*2*S*E);
    float *dx = op->alloc(sizeof x, &err), *dy = op->alloc(sizeof x, &err);
    die_if(!dx || !dy || !state);
    for (int i = 0; i < N; i++)
        x[i] = sinf((float)i);
    for (int i = 0; i < 2*S*E; i++)
        state[i] = cosf((float)i);
    op->upload(dx, x, sizeof x);
    const int before = simt_graph_launches;
    for (int i = 0; i < TIMES; i++) {
        die_if(unet_set_text(u, state, 3 - chunks[i], S*chunks[i], (int32_t[]){0}, 1, &err)
               || unet_eval(u, dy, dx, 1, SIDE, SIDE, 500, &err));
        op->download(eps[i], dy, sizeof x);
    }
    int failed = test_ok("chunks: played by turns, four times", simt_graph_launches == before + 4);
    failed += test_ok("chunks: a longer text is another", memcmp(eps[0], eps[2], sizeof x) != 0);
    for (int i = 1; i < TIMES; i++)
        failed += test_same("chunks: a text's bytes whatever came before", eps[i], eps[chunks[i] == 1 ? 0 : 2],
                            sizeof x);
    op->free(dx);
    op->free(dy);
    free(state);
    return failed;
}

/* No encoder multiplies f16: beside a UNet that does, it is made for f32. */
static int with_autoencoder(UNet *u)
{
    Sae *s = NULL;
    Double d = {0};
    const int failed = sae_hook(&s, test_path("golden/saeuron/sae"), "mid_block", F16, unet_hooks(u), twice, &d, &err);
    sae_free(s);
    return test_ok(failed ? err.text : "an autoencoder beside f16", !failed);
}

/* The tiny Stable Diffusion XL: run, taken down, played; then played with the texts in the other order, and with other
 * pooled embeddings. */
static int replayed_xl(DType type)
{
    enum { H = 8, W = 6, C = 4, N = 2*C*H*W, S = 16, E = 40, P = 20 };
    Weights *w = NULL;
    UNet *u = NULL;
    float eps[4][N], planes[N], state[2*S*E], pooled[2*P];
    die_if(weights_open(&w, test_path("golden-more/sdxl.safetensors"), &err)
           || unet_load(&u, test_path("golden-more/sdxl"), type, op->residual, &err));
    const float *states = tensor(w, "state")->data, *embeddings = tensor(w, "pooled")->data;
    float *rows = rows_of(tensor(w, "x")->data, 2, C, H*W);
    float *dx = op->alloc(sizeof planes, &err), *dy = op->alloc(sizeof planes, &err);
    die_if(!dx || !dy);
    op->upload(dx, rows, sizeof planes);
    const int before = simt_graph_launches;
    for (int i = 0; i < 5; i++) {
        const int32_t index[] = {i == 3, i != 3};
        for (int k = 0; k < 2; k++) {
            memcpy(state + k*S*E, states + index[k]*S*E, sizeof state/2);
            memcpy(pooled + k*P, embeddings + index[k]*P, sizeof pooled/2);
        }
        pooled[0] += (float)(i == 4);
        if (i == 0 || i > 2)
            die_if(unet_set_text(u, state, 2, S, index, 2, &err) || unet_set_added(u, pooled, 8*H, 8*W, &err));
        die_if(unet_eval(u, dy, dx, 2, H, W, 500, &err));
        op->download(eps[i > 1 ? i - 1 : 0], dy, sizeof planes);
    }
    to_planes(planes, eps[0], 2, C, H*W);
    int failed = test_below("sdxl: largest error, of the range", range_error(planes, tensor(w, "eps")->data, N),
                            limit_of(type, 1e-4, 0.05));         /* few channels: bf16 shows */
    failed += test_ok("played four times", simt_graph_launches == before + 4);
    failed += test_same("played", eps[1], eps[0], sizeof planes);
    failed += test_same("texts in the other order", eps[2], eps[0], sizeof planes);
    failed += test_ok("another pooled embedding moves its image", memcmp(eps[3], eps[0], sizeof planes/2) != 0);
    failed += test_same("and no other", eps[3] + N/2, eps[0] + N/2, sizeof planes/2);
    op->free(dx);
    op->free(dy);
    free(rows);
    unet_free(u);
    weights_close(w);
    return failed;
}

/* Its VAE, whose values leave f16's range when it is SDXL's own, computes in f32 all the same. */
static int upcast(void)
{
    enum { H = 8, W = 6, C = 4, N = C*H*W, PIXELS = 64*48*3 };
    static const DType types[] = {F32, F16};
    Weights *w = NULL;
    float *pixels[2];
    die_if(weights_open(&w, test_path("golden-more/sdxl.safetensors"), &err));
    float *latent = rows_of((const float *)tensor(w, "guided.latents")->data + 4*N, 1, C, H*W);
    for (int i = 0; i < 2; i++) {
        Vae *v = NULL;
        pixels[i] = malloc(sizeof(float)*PIXELS);
        die_if(!pixels[i] || vae_load(&v, test_path("golden-more/sdxl"), types[i], &err)
               || vae_decode(v, latent, 1, H, W, pixels[i], &err));
        vae_free(v);
    }
    const int failed = test_same("sdxl: a picture in f16", pixels[1], pixels[0], sizeof(float)*PIXELS);
    free(pixels[0]);
    free(pixels[1]);
    free(latent);
    weights_close(w);
    return failed;
}

/* wide: the residual stream is f32. */
static int evaluated(const Weights *w, DType type, const char *kernels, bool wide, bool graphs)
{
    enum { C = 4, HW = 256, N = C*HW };
    UNet *u = NULL;
    char name[160];
    setenv("SDSTEER_CUDA_KERNELS", kernels, 1);
    die_if(!(op = sdsteer_backend(0, &err)));
    const DType residual = wide ? F32 : op->residual;
    die_if(unet_load(&u, test_path("../data/minisd/model"), type, residual, &err)
           || unet_set_text(u, tensor(w, "state")->data, 1, 77, (int32_t[]){0}, 1, &err));

    /* the first of the recorded pair; the other half is another text */
    float *rows = rows_of(tensor(w, "x")->data, 1, C, HW), eps[N];
    float *dx = op->alloc(sizeof eps, &err), *dy = op->alloc(sizeof eps, &err);
    die_if(!dx || !dy);
    op->upload(dx, rows, sizeof eps);
    die_if(unet_eval(u, dy, dx, 1, 16, 16, 500, &err));
    op->download(rows, dy, sizeof eps);
    to_planes(eps, rows, 1, C, HW);
    snprintf(name, sizeof name, "unet.t500, %s, residual stream %s, %s: largest error, of the range", dtype_name(type),
             dtype_name(residual), kernels);
    int failed = test_below(name, range_error(eps, tensor(w, "unet.t500")->data, N), limit_of(type, 1e-4, 0.01));
    if (graphs)
        failed += several_lengths(u) + replayed(u);
    if (type == F16)
        failed += with_autoencoder(u);
    op->free(dx);
    op->free(dy);
    free(rows);
    unet_free(u);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    op = sdsteer_backend(0, &err);
    die_if(!op || weights_open(&w, test_path("golden/model.safetensors"), &err));
    const int failed = evaluated(w, BF16, "libraries", false, false) + evaluated(w, F16, "libraries", false, false)
        + evaluated(w, BF16, "hopper", true, false) + evaluated(w, BF16, "hopper", false, true)
        + evaluated(w, F16, "hopper", false, false)
        + replayed_xl(BF16) + replayed_xl(F32) + upcast();
    weights_close(w);
    return failed;
}
