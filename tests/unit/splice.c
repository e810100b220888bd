/* SPDX-License-Identifier: MIT */
/* splice.c -- distances worked by hand; an autoencoder that loses nothing, spliced into minisd, moves no picture, and
 * ablation does; what a module's output becomes, seen by a hook after the splice.
 *
 *     W_enc = W_dec = [I; -I], no biases, K = D:  a = relu(x), relu(-x)  and  x' = relu(x) - relu(-x) = x */
#include <sys/stat.h>
#include "kernels/op.h"
#include "src/models/distance.h"
#include "src/models/splice.h"
#include "tests/unit/test.h"

#define HOOK "up_blocks.1.attentions.1"
enum { SIDE = 7, VALUES = SIDE*SIDE*3, D = 128, PICTURES = 2, STEPS = 3 };

static int test_number(const char *name, double got, double want)
{
    return test_close(name, (float[]){(float)got}, (float[]){(float)want}, 1, 0, 1e-6f);
}

/* ---- distances ---- */

static int test_by_hand(void)
{
    const float z[] = {3, 4}, z1[] = {3, 3}, zero[] = {0, 2};
    uint8_t black[VALUES] = {0}, grey[VALUES], stripes[VALUES], other[VALUES];
    for (int i = 0; i < VALUES; i++) {
        grey[i] = 51;
        stripes[i] = i/3 % 2 ? 255 : 0;             /* 24 of 49 in each channel */
        other[i] = 255 - stripes[i];
    }
    Distance a = {0}, b = {0}, far = {0}, inverse = {0}, none = {0};
    distance_add(&a, z, z1, 2, black, grey, SIDE, SIDE);
    distance_add(&far, z, zero, 2, black, other, SIDE, SIDE);
    distance_add(&inverse, z, z, 2, stripes, other, SIDE, SIDE);
    distance_add(&none, z, z, 2, grey, grey, SIDE, SIDE);
    int failed = 0;
    DistanceFigures f = distance_figures(&a, &far);
    failed += test_number("latent_nmse: 1 / 25", f.latent_nmse, 0.04);
    failed += test_number("latent_cosine: 21 / (5 sqrt 18)", f.latent_cosine, 21/(5*sqrt(18)));
    failed += test_number("mse: 0.2^2", f.mse, 0.04);
    failed += test_number("psnr: -10 log10 0.04", f.psnr, 13.9794000867);
    failed += test_number("mad: 51 / 255", f.mad, 0.2);
    failed += test_number("ssim of flat windows: C1 / (51^2 + C1)", f.ssim, 6.5025/(2601 + 6.5025));
    failed += test_number("latent_recovered: 1 - 1/13", f.latent_recovered, 1 - 1.0/13);
    failed += test_number("picture_recovered: 1 - 0.04 / (25/49)", f.picture_recovered, 1 - 0.04*49/25);
    f = distance_figures(&far, &far);
    failed += test_ok("zero ablation recovers exactly nothing", f.latent_recovered == 0 && f.picture_recovered == 0);
    f = distance_figures(&inverse, &far);
    const double m = 255*24/49.0, m1 = 255*25/49.0, v = (255*255*24 - 49*m*m)/48, C1 = 6.5025, C2 = 58.5225;
    failed += test_number("ssim of inverse stripes", f.ssim, (2*m*m1 + C1)*(C2 - 2*v)/((m*m + m1*m1 + C1)*(2*v + C2)));
    f = distance_figures(&none, &far);
    failed += test_ok("equal: psnr infinite, ssim 1, all recovered", isinf(f.psnr) && f.psnr > 0
                      && fabs(f.ssim - 1) < 1e-12 && f.latent_recovered == 1 && f.picture_recovered == 1);
    f = distance_figures(&a, &none);
    failed += test_ok("zero ablation that moves nothing: no share", isnan(f.latent_recovered));
    distance_sum(&b, &a);
    distance_sum(&b, &none);
    f = distance_figures(&b, &far);
    failed += test_number("two pictures: nmse of the sums, 1 / 50", f.latent_nmse, 0.02);
    failed += test_number("two pictures: psnr of the mean mse", f.psnr, 16.9897000434);
    return failed;
}

/* ---- splices ---- */

/* Writes the autoencoder that loses nothing. */
static int make_perfect(const char *dir, const char *take, Err *e)
{
    Sae *s = NULL;
    float *W = calloc((size_t)2*D*D, sizeof *W);
    int failed = !W || sae_create(&s, D, 2*D, D, e);
    for (int d = 0; d < D && !failed; d++) {
        W[(size_t)d*D + d] = 1;
        W[(size_t)(D + d)*D + d] = -1;
    }
    if (!failed) {
        op->upload(s->W_enc, W, sizeof(float)*2*D*D);
        op->upload(s->W_dec, W, sizeof(float)*2*D*D);
        json_object_set_new(s->cfg, "hook", json_string(HOOK));
        json_object_set_new(s->cfg, "take", json_string(take));
        json_object_set_new(s->cfg, "d_in", json_integer(D));
        json_object_set_new(s->cfg, "num_latents", json_integer(2*D));
        json_object_set_new(s->cfg, "k", json_integer(D));
        failed = sae_save(s, dir, e);
    }
    free(W);
    sae_free(s);
    return failed;
}

typedef struct Watch {              /* of the module's output after the splice, summed over steps and pictures */
    Sampler *sampler;
    double uncond, cond, spread;    /* |x| in each half; |x - mean| within the pictures of cond */
    uint64_t silent;                /* steps at which all is 0, a bit each */
} Watch;

static int watch(void *context, const HookCall *call, Err *e)
{
    Watch *w = context;
    const int64_t HW = call->H*call->W, size = HW*call->C;
    float *x = malloc(sizeof(float)*(size_t)(call->B*size));
    const double before = w->uncond + w->cond;
    (void)e;
    op->download(x, call->act, sizeof(float)*(size_t)(call->B*size));
    for (int64_t i = 0; i < call->B*size; i++)
        *(i/size < w->sampler->n ? &w->uncond : &w->cond) += fabs((double)x[i]);
    for (int64_t i = w->sampler->n*size; i < call->B*size; i++)
        w->spread += fabs((double)x[i] - (double)x[i/size*size + i % call->C]);
    w->silent |= (uint64_t)(w->uncond + w->cond == before) << w->sampler->step;
    free(x);
    return 0;
}

typedef struct Bench {              /* two pictures of made-up text states */
    Sampler *sampler;
    Splice *splice;
    Watch watch;
    float *states, *latents;        /* (3,S,E); (SPLICES,PICTURES,C,H,W) */
    CondItem item[PICTURES];
    CondBatch batch;
} Bench;

static int bench_open_with(Bench *b, const SamplerOptions *o, const SpliceOptions *s, Err *e)
{
    *b = (Bench){0};
    if (sampler_create(&b->sampler, o, e) || splice_create(&b->splice, b->sampler, s, e))
        return -1;
    b->watch.sampler = b->sampler;
    const int S = 77, E = denoiser_text_width(b->sampler->denoiser);
    b->states = malloc(sizeof(float)*3*S*E);
    b->latents = malloc(sizeof(float)*SPLICES*PICTURES*b->sampler->C*b->sampler->H*b->sampler->W);
    for (int i = 0; i < 3*S*E; i++)
        b->states[i] = (float)sin(i*0.37 + i/(S*E));
    for (int i = 0; i < PICTURES; i++)
        b->item[i] = (CondItem){.seed = 7 + (uint64_t)i, .S = S, .state = b->states + (size_t)(i + 1)*S*E};
    b->batch = (CondBatch){.E = E, .uncond = b->states, .item = b->item, .count = PICTURES};
    return hooks_add(denoiser_hooks(b->sampler->denoiser), HOOK, false, watch, &b->watch, e) == 1 ? 0 : -1;
}

static int bench_open(Bench *b, const char *dir, const char *model, Half half, Err *e)
{
    const SamplerOptions o = {.model = model, .type = F32, .steps = STEPS, .guidance = 4, .batch = PICTURES};
    const SpliceOptions s = {.sae = dir, .half = half, .when = {999, 0}, .type = F32};
    return bench_open_with(b, &o, &s, e);
}

static void bench_close(Bench *b)
{
    splice_free(b->splice);
    sampler_free(b->sampler);
    free(b->states);
    free(b->latents);
}

/* Latents' distance of a kind from plain, drawn if need be; watch has what its module's output became. */
static int draw(Bench *b, SpliceKind kind, DistanceFigures *f, Err *e)
{
    static const uint8_t none[VALUES];
    const Sampler *s = b->sampler;
    const size_t n = (size_t)PICTURES*s->C*s->H*s->W;
    Distance d = {0};
    b->watch = (Watch){.sampler = b->sampler};
    if (splice_draw(b->splice, kind, &b->batch, b->latents + n*kind, e))
        return -1;
    distance_add(&d, b->latents, b->latents + n*kind, n, none, none, SIDE, SIDE);
    *f = distance_figures(&d, &d);
    return 0;
}

static int test_output(const char *dir, const char *model, Half half, Err *e)
{
    Bench b;
    DistanceFigures f[SPLICES];
    Watch w[SPLICES];
    int failed = bench_open(&b, dir, model, half, e);
    for (int k = 0; k < SPLICES && !failed; k++) {
        failed = draw(&b, k, &f[k], e);
        w[k] = b.watch;
    }
    if (!failed) {
        const bool both = half == HALF_BOTH;
        test_note("half %s: latent_nmse spliced %.3g, zero %.3g, mean %.3g", both ? "both" : "cond",
                  f[SPLICE_SPLICED].latent_nmse, f[SPLICE_ZERO].latent_nmse, f[SPLICE_MEAN].latent_nmse);
        failed += test_ok("nothing lost: no picture moves", f[SPLICE_SPLICED].latent_nmse < 1e-10);
        failed += test_ok("zero and mean ablation move them", f[SPLICE_ZERO].latent_nmse > 0.01
                          && f[SPLICE_MEAN].latent_nmse > 0.01);
        failed += test_ok("zero: the output is 0 in the halves asked for, and only there", w[SPLICE_ZERO].cond == 0
                          && (w[SPLICE_ZERO].uncond == 0) == both);
        failed += test_ok("mean: all tokens of a picture are equal, and not 0", w[SPLICE_MEAN].cond > 0
                          && w[SPLICE_MEAN].spread == 0 && w[SPLICE_PLAIN].spread > 0);
    }
    bench_close(&b);
    return failed;
}

/* A timestep that the sampler takes twice is in the window each time. */
static int test_window(const char *dir, const char *model, Err *e)
{
    enum { T = 501 };
    const SamplerOptions o = {.model = model, .type = F32, .method = "pndm", .steps = 4, .guidance = 4,
                              .batch = PICTURES};
    const SpliceOptions s = {.sae = dir, .half = HALF_BOTH, .when = {T, T}, .type = F32};
    Bench b;
    DistanceFigures f;
    int failed = bench_open_with(&b, &o, &s, e) || draw(&b, SPLICE_ZERO, &f, e), times = 0;
    uint64_t wanted = 0;
    for (int i = 0; !failed && i < b.sampler->scheduler->steps; i++)
        if (b.sampler->scheduler->step[i].t == T) {
            wanted |= (uint64_t)1 << i;
            times++;
        }
    if (!failed)
        failed = test_ok("a timestep that comes again is in the window again", times == 2 && b.watch.silent == wanted);
    bench_close(&b);
    return failed;
}

/* Of output - input: zero is the input, which no one sees; but the autoencoder that loses
 * nothing still loses nothing. */
static int test_difference(const char *dir, const char *model, Err *e)
{
    Bench b;
    DistanceFigures plain, spliced, zero;
    int failed = bench_open(&b, dir, model, HALF_BOTH, e) || draw(&b, SPLICE_PLAIN, &plain, e)
              || draw(&b, SPLICE_SPLICED, &spliced, e) || draw(&b, SPLICE_ZERO, &zero, e);
    if (!failed) {
        test_note("of output - input: latent_nmse spliced %.3g, zero %.3g", spliced.latent_nmse, zero.latent_nmse);
        failed += test_ok("output - input: only rounding moves", spliced.latent_nmse < 1e-9);
        failed += test_ok("output - input: zero leaves the input", zero.latent_nmse > 0.01 && b.watch.cond > 0);
    }
    bench_close(&b);
    return failed;
}

static int test_refused(const char *dir, const char *model, Err *e)
{
    Bench b;
    int failed = test_ok("an autoencoder of the module's input", bench_open(&b, dir, model, HALF_BOTH, e)
                         && strstr(e->text, "only an output can be changed"));
    *e = (Err){0};
    bench_close(&b);
    return failed;
}

int main(void)
{
    Err e = {0};
    char model[PATH_MAX], dir[3][PATH_MAX];
    static const char *const take[] = {"output", "diff", "input"};
    const char *tmp = getenv("TMPDIR");
    int failed = test_by_hand();
    snprintf(model, sizeof model, "%s/../../data/minisd/model", test_golden());
    if (backend_pick("cpu", 0, &e))
        return test_ok(e.text, 0);
    for (int i = 0; i < 3 && !e.set; i++) {
        snprintf(dir[i], PATH_MAX, "%s/perfect-%d-%s", tmp ? tmp : "/tmp", (int)getpid(), take[i]);
        make_perfect(dir[i], take[i], &e);
    }
    if (!e.set)
        failed += test_output(dir[0], model, HALF_BOTH, &e) + test_output(dir[0], model, HALF_COND, &e)
                + test_window(dir[0], model, &e)
                + test_difference(dir[1], model, &e) + test_refused(dir[2], model, &e);
    for (int i = 0; i < 3; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/cfg.json", dir[i]);
        remove(path);
        snprintf(path, sizeof path, "%s/sae.safetensors", dir[i]);
        remove(path);
        remove(dir[i]);
    }
    if (e.set)
        failed += test_ok(e.text, 0);
    return failed != 0;
}
