/* SPDX-License-Identifier: MIT */
/* capture.c -- activations of a batch written while the next one is drawn, as on a device that works beside the host:
 * the same stream as written at once, and with no room for a second buffer, too. */
#include "kernels/op.h"
#include "src/models/capture.h"
#include "tests/unit/test.h"

enum { STEPS = 4, BATCH = 3, PICTURES = 7, TOKENS = 5, HOOKS = 2 };

/* The device at hand; the processor, with a download beside what is queued. */
static struct {
    Ops ops;
    const Ops *host;
    int early, during;              /* downloads of that kind, and those in capture_step */
    bool full;                      /* there is no memory left */
} device;

static void download_early(void *host, const void *from, size_t bytes)
{
    device.early++;
    (device.host->download_early ? device.host->download_early : device.host->download)(host, from, bytes);
}

static void *alloc(size_t bytes, Err *e)
{
    return device.full ? err_set(e, "full"), NULL : device.host->alloc(bytes, e);
}

static int step(void *context, Sampler *s, Err *e)
{
    const int before = device.early;
    const int failed = capture_step(context, s, e);
    device.during += device.early - before;
    return failed;
}

/* Pictures in batches, whose activations go to path. full: no memory for more buffers than one. */
static int capture(const char *path, int tokens, bool full, Err *e)
{
    static const char *const hooks[HOOKS] = {"up_blocks.0.attentions.1", "mid_block"};
    char model[PATH_MAX];
    snprintf(model, sizeof model, "%s", test_path("../data/minisd/model"));
    const SamplerOptions o = {.model = model, .type = F32, .steps = STEPS, .guidance = 3, .batch = BATCH};
    const CaptureOptions c = {.patterns = hooks, .pattern_count = HOOKS, .half = HALF_BOTH, .type = F16, .every = 2,
                              .when = {999, 0}, .tokens = tokens};
    Sampler *s = NULL;
    Capture *all = NULL;
    StreamOut *out = NULL;
    Record header;
    device.early = device.during = 0;
    record_init(&header, "activations");
    int failed = sampler_create(&s, &o, e) || capture_create(&all, s, &c, e)
              || stream_create(&out, path, &header, &(StreamOptions){0}, e);
    record_clear(&header);
    const int E = failed ? 0 : denoiser_text_width(s->denoiser);
    float *state = calloc((size_t)(PICTURES + 1)*TOKENS*(size_t)E + 1, sizeof *state);
    float *latents = failed ? NULL : calloc((size_t)BATCH*s->C*s->H*s->W, sizeof *latents);
    failed = failed || !state || !latents;
    for (int i = 0; i < (PICTURES + 1)*TOKENS*E && !failed; i++)
        state[i] = (float)(i*37%101)/50 - 1;
    for (int first = 0; first < PICTURES && !failed; first += BATCH) {
        CondItem item[BATCH] = {0};
        CondBatch batch = {.E = E, .uncond = state, .uncond_S = TOKENS, .item = item, .capacity = BATCH};
        for (int i = first; i < PICTURES && batch.count < BATCH; i++) {
            CondItem *x = &item[batch.count++];
            *x = (CondItem){.S = TOKENS, .seed = (uint64_t)i, .state = state + (size_t)(i + 1)*TOKENS*E};
            record_init(&x->record, NULL);
            record_set_int(&x->record, "id", i);
        }
        device.full = false;
        failed = sampler_run_plain(s, &batch, latents, step, all, e);
        device.full = full;
        failed = failed || capture_write(all, &batch, out, e);
        for (int i = 0; i < batch.count; i++)
            record_clear(&item[i].record);          /* the capture has its own */
    }
    device.full = false;
    failed = failed || capture_finish(all, e) || stream_finish(out, e);
    stream_abandon(out);
    capture_free(all);
    sampler_free(s);
    free(state);
    free(latents);
    return failed;
}

static int same_files(const char *name, const char *a, const char *b)
{
    char line[PATH_MAX*2];
    snprintf(line, sizeof line, "cmp %s %s", a, b);
    return test_ok(name, system(line) == 0);
}

int main(void)
{
    enum { RECORDS = STEPS/2*HOOKS*2 };             /* of a picture */
    const int before_last = PICTURES/BATCH*BATCH*RECORDS;           /* records of all batches but the last */
    Err e = {0};
    char once[PATH_MAX], beside[PATH_MAX], full[PATH_MAX];
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    snprintf(once, sizeof once, "%s/capture-%ld.once", folder, (long)getpid());
    snprintf(beside, sizeof beside, "%s/capture-%ld.beside", folder, (long)getpid());
    snprintf(full, sizeof full, "%s/capture-%ld.full", folder, (long)getpid());
    if (backend_pick(test_backend(), 0, &e)) {
        printf("%s\n", e.text);
        return TEST_SKIPPED;
    }
    device.host = op;
    device.ops = *op;
    device.ops.download_early = download_early;
    device.ops.alloc = alloc;
    int failed = 0;
    for (int tokens = 0; tokens < 4 && !e.set; tokens += 3) {
        Ops at_once = *device.host;
        at_once.download_early = NULL;
        op = &at_once;
        failed += test_ok("written at once", !capture(once, tokens, false, &e));
        op = &device.ops;
        failed += test_ok("written beside the next batch", !capture(beside, tokens, false, &e));
        failed += same_files("the same stream", once, beside);
        failed += test_ok("all by the download beside", device.early == PICTURES*RECORDS);
        failed += test_ok("all but the last batch in its steps", device.during == before_last);
        failed += test_ok("without room for another buffer", !capture(full, tokens, true, &e));
        failed += same_files("the same stream", once, full);
        failed += test_ok("none in a step", device.early == PICTURES*RECORDS && device.during == 0);
        op = device.host;
    }
    if (e.set)
        printf("FAIL %s\n", e.text);
    unlink(once);
    unlink(beside);
    unlink(full);
    return failed || e.set;
}
