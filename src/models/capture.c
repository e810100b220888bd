/* SPDX-License-Identifier: MIT */
/* capture.c -- activations of hooked modules, buffered for a batch and written picture by picture.
 *
 * A device that works beside the host has two buffers: while it draws the next batch into the one, the other is brought
 * to the host and written, some of it at each step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/act_tensor.h"
#include "src/models/capture.h"
#include "src/models/splitmix.h"
#include "src/models/workspace.h"

typedef struct Site {               /* one hooked module */
    int64_t H, W;
    int C;
    size_t size;                    /* values of one activation */
    char *data[2];                  /* device: [kept steps][halves kept][batch][H*W*C] of the type kept; NULL: none */
} Site;

/* A batch that was drawn, in data[from], and how many of its records were written. */
typedef struct Drawn {
    int from;
    Record *record;                 /* [batch] fields of its pictures, */
    uint64_t *seed;                 /* [batch] and their seeds */
    int pictures;
    long long written;
} Drawn;

struct Capture {
    CaptureOptions options;
    Sampler *sampler;
    DType kept_as;                  /* on the device: the stream's type, F16 where that is I8 */
    Site *site;
    int sites;
    int turn;                       /* the batch at work goes to data[turn] */
    bool alone;                     /* there are no other buffers */
    Drawn drawn;
    StreamOut *out;
    int kept;                       /* steps that are kept */
    int *slot;                      /* [steps] place of a step among the kept, -1: not kept */
    int *step;                      /* [kept] its inverse */
    uint64_t *unfit, *host_unfit;   /* [sites][kept steps][halves kept] first value that does not fit (op->store) */
    void *device;                   /* scratch for diff */
    size_t device_size;
    char *record;                   /* one record's activation, of op->alloc_host */
    size_t record_size;
    char *subset;                   /* one activation's chosen tokens */
    int32_t *token;
    ActRoom room;                   /* one activation as I8 */
};

static const char *const take_names[] = {"output", "input", "diff"};

const char *take_name(Take take)
{
    return take_names[take];
}

int take_parse(Take *take, const char *name, Err *e)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(name, take_names[i]) == 0) {
            *take = (Take)i;
            return 0;
        }
    return err_misuse(e, "take '%s' is not output, input or diff", name);
}

static const char *path_of(const Capture *c, int site)
{
    return hooks_path(denoiser_hooks(c->sampler->denoiser), site);
}

static int half_count(const Capture *c)
{
    return c->options.half == HALF_BOTH && c->sampler->halves == 2 ? 2 : 1;
}

static const char *half_name(const Capture *c, int half)
{
    const bool uncond = half_count(c) == 2 ? half == 0 : c->options.half == HALF_UNCOND;
    return uncond ? "uncond" : "cond";
}

static size_t place(const Capture *c, const Site *site, int slot, int half, int image)
{
    return (((size_t)slot * half_count(c) + half) * c->sampler->options.batch + image) * site->size;
}

static size_t site_bytes(const Capture *c, const Site *site)
{
    return place(c, site, c->kept, 0, 0) * dtype_size(c->kept_as);
}

static int site_open(Capture *c, Site *site, const HookCall *call, Err *e)
{
    const size_t bytes = site->size * dtype_size(c->kept_as);
    if (bytes > c->record_size) {
        op->free_host(c->record);
        c->record = op->alloc_host(bytes);
        c->record_size = c->record ? bytes : 0;
    }
    Err why = {0};
    site->data[c->turn] = c->record ? op->alloc(site_bytes(c, site), &why) : NULL;
    if (!site->data[c->turn])
        return err_set(e, "out of memory for the activations of %s: %d pictures x %d steps; try a smaller --batch",
                       call->path, c->sampler->options.batch, c->kept);
    return 0;
}

static void free_buffer(Capture *c, int which)
{
    for (int k = 0; c->site && k < c->sites; k++) {
        if (c->site[k].data[which])
            op->free(c->site[k].data[which]);
        c->site[k].data[which] = NULL;
    }
}

/* Turns to the other buffer, if there is room for one. */
static bool other_buffer(Capture *c)
{
    Err why = {0};
    const int other = !c->turn;
    c->alone = c->alone || !op->download_early;
    for (int k = 0; k < c->sites && !c->alone; k++) {
        Site *site = &c->site[k];
        if (!site->data[other] && !(site->data[other] = op->alloc(site_bytes(c, site), &why)))
            c->alone = true;
    }
    if (c->alone)
        free_buffer(c, other);
    else
        c->turn = other;
    return !c->alone;
}

static size_t unfit_place(const Capture *c, int site, int slot, int half)
{
    return ((size_t)site * c->kept + slot) * half_count(c) + half;
}

static size_t unfit_bytes(const Capture *c)
{
    return sizeof *c->unfit * unfit_place(c, c->sites, 0, 0);
}

static void reset_unfit(Capture *c)
{
    memset(c->host_unfit, 0xff, unfit_bytes(c));
    op->upload(c->unfit, c->host_unfit, unfit_bytes(c));
}

/* What does not fit the stream's type is said here, with the step, and not found out by a trainer. */
static int check_fit(Capture *c, Err *e)
{
    const Scheduler *plan = c->sampler->scheduler;
    op->download(c->host_unfit, c->unfit, unfit_bytes(c));
    for (int step = 0; step < plan->steps; step++)
        for (int k = 0; k < c->sites && c->slot[step] >= 0; k++)
            for (int h = 0; h < half_count(c); h++) {
                const uint64_t first = c->host_unfit[unfit_place(c, k, c->slot[step], h)];
                const uint32_t bits = (uint32_t)first;
                float x;
                if (first == UINT64_MAX)
                    continue;
                memcpy(&x, &bits, sizeof x);
                return err_set(e, "%s: step %d (t %d): activation %g does not fit %s%s",
                               path_of(c, k), step, plan->step[step].t, (double)x,
                               dtype_name(c->kept_as), isfinite(x) ? "; use --act-type bf16" : "");
            }
    return 0;
}

static int on_hook(void *context, const HookCall *call, Err *e)
{
    Capture *c = context;
    const Sampler *s = c->sampler;
    const int slot = c->slot[s->step];
    Site *site = &c->site[call->index];
    site->H = call->H;
    site->W = call->W;
    site->C = call->C;
    site->size = (size_t)(call->H * call->W * call->C);
    if (slot < 0)
        return 0;
    if (c->options.take != TAKE_OUTPUT && !call->input)
        return err_set(e, "%s: its input has another shape than its output, only --take output is possible",
                       call->path);
    if (!site->data[c->turn] && site_open(c, site, call, e))
        return -1;

    int first, count;
    sampler_half(s, c->options.half, &first, &count);
    const size_t offset = site->size * first, values = site->size * count;
    const float *from = c->options.take == TAKE_INPUT ? call->input + offset : call->act + offset;
    if (c->options.take == TAKE_DIFF) {
        if (device_grow(&c->device, &c->device_size, values * sizeof(float), e))
            return -1;
        op->subtract(c->device, call->act + offset, call->input + offset, (int64_t)values);
        from = c->device;
    }
    const size_t value = dtype_size(c->kept_as), half = site->size * s->n;
    for (int h = 0; h < half_count(c); h++)
        for (int i = 0, run; i < s->n; i += run) {          /* pictures that are neighbours in the batch too */
            for (run = 1; i + run < s->n && s->picture[i + run] == s->picture[i] + run; run++)
                ;
            op->store(site->data[c->turn] + place(c, site, slot, h, s->picture[i]) * value, c->kept_as,
                      from + half * h + site->size * i, (int64_t)site->size * run,
                      c->unfit + unfit_place(c, call->index, slot, h));
        }
    return 0;
}

static int plan_steps(Capture *c, Err *e)
{
    const Scheduler *plan = c->sampler->scheduler;
    c->slot = malloc(plan->steps * sizeof *c->slot);
    c->step = malloc(plan->steps * sizeof *c->step);
    if (!c->slot || !c->step)
        return err_set(e, "out of memory");
    for (int i = 0; i < plan->steps; i++) {
        const int t = plan->step[i].t;
        const int keep = i % c->options.every == 0 && t_range_has(c->options.when, t);
        c->slot[i] = keep ? c->kept : -1;
        if (keep)
            c->step[c->kept++] = i;
    }
    return c->kept ? 0 : err_set(e, "no step's timestep lies in %d-%d: nothing would be kept", c->options.when.high,
                                 c->options.when.low);
}

int capture_create(Capture **out, Sampler *s, const CaptureOptions *options, Err *e)
{
    *out = NULL;
    Capture *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, "out of memory");
    c->options = *options;
    c->kept_as = options->type == I8 ? F16 : options->type;
    c->sampler = s;
    Hooks *hooks = denoiser_hooks(s->denoiser);
    int failed = plan_steps(c, e) || sampler_check_half(s, options->half, "captured", e) ? -1 : 0;
    for (int i = 0; i < options->pattern_count && !failed; i++)
        failed = hooks_add(hooks, options->patterns[i], options->take != TAKE_OUTPUT, on_hook, c, e) < 0;
    c->sites = hooks->count;
    if (!failed && (!(c->site = calloc(c->sites, sizeof *c->site)) || !(c->host_unfit = malloc(unfit_bytes(c)))))
        failed = err_set(e, "out of memory");
    const size_t batch = s->options.batch;
    c->drawn.record = malloc(batch * sizeof *c->drawn.record);
    c->drawn.seed = malloc(batch * sizeof *c->drawn.seed);
    if (!failed && (!c->drawn.record || !c->drawn.seed))
        failed = err_set(e, "out of memory");
    failed = failed || !(c->unfit = op->alloc(unfit_bytes(c), e));
    if (failed) {
        capture_free(c);
        return -1;
    }
    reset_unfit(c);
    *out = c;
    return 0;
}

static void forget_drawn(Drawn *d)
{
    for (int b = 0; b < d->pictures; b++)
        record_clear(&d->record[b]);
    d->pictures = 0;
}

void capture_free(Capture *c)
{
    if (!c)
        return;
    free_buffer(c, 0);
    free_buffer(c, 1);
    forget_drawn(&c->drawn);
    free(c->drawn.record);
    free(c->drawn.seed);
    free(c->site);
    free(c->slot);
    free(c->step);
    op->free_host(c->record);
    free(c->host_unfit);
    if (c->unfit)
        op->free(c->unfit);
    if (c->device)
        op->free(c->device);
    free(c->subset);
    free(c->token);
    act_room_free(&c->room);
    free(c);
}

void capture_describe(const Capture *c, Record *header)
{
    static const char *const halves[] = {"cond", "uncond", "both"};
    json_t *hooks = json_array();
    for (int i = 0; i < c->sites; i++)
        json_array_append_new(hooks, json_string(path_of(c, i)));
    record_set_json(header, "hooks", hooks);
    record_set_text(header, "take", take_name(c->options.take));
    record_set_text(header, "half", c->sampler->halves == 1 ? "cond" : halves[c->options.half]);
}

void capture_print_sizes(const Capture *c, long long pictures, FILE *f)
{
    const long long records = pictures * c->kept * half_count(c);
    long long all = 0;
    fputs("hook\tshape\ttype\trecords\tbytes\n", f);
    for (int k = 0; k < c->sites; k++) {
        const Site *s = &c->site[k];
        const bool some = c->options.tokens > 0 && c->options.tokens < s->H * s->W;
        const long long tokens = some ? c->options.tokens : s->H * s->W;
        const long long token = s->C * (long long)dtype_size(c->options.type) + (c->options.type == I8 ? 4 : 0)
                              + (some ? 4 : 0);     /* its scale, its place */
        fprintf(f, "%s\t", path_of(c, k));
        if (some)
            fprintf(f, "%lldx%d", tokens, s->C);
        else
            fprintf(f, "%lldx%lldx%d", (long long)s->H, (long long)s->W, s->C);
        fprintf(f, "\t%s\t%lld\t%lld\n", dtype_name(c->options.type), records, records * tokens * token);
        all += records * tokens * token;
    }
    fprintf(f, "all\t-\t-\t%lld\t%lld\n", records * c->sites, all);
}

static uint64_t token_key(uint64_t seed, long long step, int hook)
{
    return splitmix(seed + SPLITMIX_STEP) ^ splitmix(((uint64_t)step << 16 | (unsigned)hook) + SPLITMIX_STEP);
}

/* The tokens kept of an activation: a choice fixed by seed, step and hook, in rising order (selection sampling, Knuth
 * 3.4.2 S). */
static void choose_tokens(int32_t *token, int wanted, int total, uint64_t key)
{
    int taken = 0;
    for (int i = 0; i < total && taken < wanted; i++) {
        key = splitmix(key + SPLITMIX_STEP);
        if (key % (uint64_t)(total - i) < (uint64_t)(wanted - taken))
            token[taken++] = i;
    }
}

/* The record with tokens x, of the type kept, in the stream's. */
static int write_act(Capture *c, StreamOut *out, Record *rec, int ndim, const int64_t *dim, const void *x, Err *e)
{
    if (c->options.type != I8)
        record_add_tensor(rec, "act", c->kept_as, ndim, dim, x);
    else if (act_tensor_quantize(rec, &c->room, x, c->kept_as, ndim, dim, e))
        return -1;
    return stream_write(out, rec, e);
}

/* from: in device memory, where it has been since before what is at work now */
static int write_one(Capture *c, Record *rec, int index, const char *from, uint64_t seed, Err *e)
{
    const Site *site = &c->site[index];
    const char *data = c->record;
    const int HW = (int)(site->H * site->W), wanted = c->options.tokens;
    const size_t row = site->C * dtype_size(c->kept_as);
    rec->tensors = 0;
    (op->download_early ? op->download_early : op->download)(c->record, from, site->size * dtype_size(c->kept_as));
    if (wanted == 0 || wanted >= HW)
        return write_act(c, c->out, rec, 3, (int64_t[]){site->H, site->W, site->C}, data, e);
    free(c->subset);
    free(c->token);
    c->subset = malloc(row * wanted);
    c->token = malloc(sizeof *c->token * wanted);
    if (!c->subset || !c->token)
        return err_set(e, "out of memory for %d tokens", wanted);
    choose_tokens(c->token, wanted, HW, token_key(seed, record_int(rec, "step", 0), index));
    for (int i = 0; i < wanted; i++)
        memcpy(c->subset + row*i, data + row*c->token[i], row);
    record_add_tensor(rec, "token", I32, 1, (int64_t[]){wanted}, c->token);
    return write_act(c, c->out, rec, 2, (int64_t[]){wanted, site->C}, c->subset, e);
}

static long long drawn_records(const Capture *c)
{
    return (long long)c->drawn.pictures * c->kept * c->sites * half_count(c);
}

/* The batch's records up to `end` of them. */
static int write_until(Capture *c, long long end, Err *e)
{
    Drawn *d = &c->drawn;
    for (; d->written < end; d->written++) {
        const int halves = half_count(c), h = (int)(d->written % halves), k = (int)(d->written / halves % c->sites);
        const int slot = (int)(d->written / halves / c->sites % c->kept);
        const int b = (int)(d->written / halves / c->sites / c->kept);
        const Site *site = &c->site[k];
        Record *rec = &d->record[b];
        record_set_int(rec, "step", c->step[slot]);
        record_set_int(rec, "t", c->sampler->scheduler->step[c->step[slot]].t);
        record_set_text(rec, "hook", path_of(c, k));
        record_set_text(rec, "half", half_name(c, h));
        if (write_one(c, rec, k, site->data[d->from] + place(c, site, slot, h, b) * dtype_size(c->kept_as),
                      d->seed[b], e))
            return -1;
    }
    return 0;
}

int capture_step(void *context, Sampler *s, Err *e)
{
    Capture *c = context;
    const int steps = s->scheduler->steps;
    return steps > 1 ? write_until(c, drawn_records(c) * s->step / (steps - 1), e) : 0;
}

int capture_finish(Capture *c, Err *e)
{
    const int failed = write_until(c, drawn_records(c), e);
    forget_drawn(&c->drawn);
    return failed;
}

int capture_write(Capture *c, const CondBatch *batch, StreamOut *out, Err *e)
{
    Drawn *d = &c->drawn;
    if (check_fit(c, e) || capture_finish(c, e))
        return -1;
    reset_unfit(c);
    c->out = out;
    for (int b = 0; b < batch->count; b++) {
        record_init(&d->record[b], NULL);
        record_copy_fields(&d->record[b], &batch->item[b].record);
        d->seed[b] = batch->item[b].seed;
    }
    d->pictures = batch->count;
    d->written = 0;
    d->from = c->turn;
    return other_buffer(c) ? 0 : capture_finish(c, e);
}
