/* SPDX-License-Identifier: MIT */
/* steer.c -- steering activations through an autoencoder; formulas in steer.h.
 *
 * Rows are taken in blocks: encoded on the device, their new values worked out on the host (K of F features a row, a
 * few comparisons each), the change decoded on the device. Rows that keep their values are not touched. */
#include <stdlib.h>
#include <string.h>
#include "kernels/op.h"
#include "src/models/model.h"
#include "src/models/steer_choose.h"
#include "src/models/workspace.h"

enum { BLOCK_ROWS = 4096, BLOCK_VALUES = 1 << 20 };

struct Steering {
    SteerSpec spec;
    Sae *sae;
    const Ranks *ranks;
    Choice choice;
    bool active;
    uint64_t now;                   /* labels of the rows in work */
    const float *mask;              /* [tokens], NULL: none */
    int64_t tokens;
    double *sum;                    /* [F] of a picture's kept values, by place in choice */
    char **labels;                  /* copies that spec points to */
    int32_t *feature;
    float *value;

    void *a, *s, *i, *recon, *steered;      /* device: (rows, width) each; (rows, D) for compat_saeuron */
    size_t a_bytes, s_bytes, i_bytes, recon_bytes, steered_bytes;
    float *host_a, *host_s;
    int32_t *host_i;
    int64_t room;                   /* values of each on the host */
};

static int copy_spec(Steering *s, const SteerSpec *spec, Err *e)
{
    s->spec = *spec;
    s->labels = calloc(spec->label_count + 1, sizeof *s->labels);
    s->feature = malloc(sizeof *s->feature * (spec->feature_count + 1));
    s->value = malloc(sizeof *s->value * (spec->feature_count + 1));
    if (!s->labels || !s->feature || !s->value)
        return err_set(e, "out of memory");
    for (int i = 0; i < spec->label_count; i++)
        if (!(s->labels[i] = strdup(spec->labels[i])))
            return err_set(e, "out of memory");
    for (int i = 0; i < spec->feature_count; i++) {
        s->feature[i] = spec->feature[i];
        s->value[i] = spec->value[i];
    }
    s->spec.labels = (const char *const *)s->labels;
    s->spec.feature = s->feature;
    s->spec.value = s->value;
    return 0;
}

static int check_spec(const Steering *s, Err *e)
{
    const SteerSpec *spec = &s->spec;
    const Sae *sae = s->sae;
    for (int i = 0; i < spec->feature_count; i++)
        if (spec->feature[i] < 0 || spec->feature[i] >= sae->F)
            return err_set(e, "feature %d: the autoencoder %s has features 0 to %d", spec->feature[i], sae->id,
                           sae->F - 1);
    if (spec->top <= 0 && !(spec->percentile >= 0 && spec->percentile <= 100))
        return err_misuse(e, "--percentile %g does not lie between 0 and 100", spec->percentile);
    if (!(spec->gate >= 0))
        return err_misuse(e, "--gate %g is below 0", spec->gate);
    if (!spec->label_count)
        return 0;
    if (spec->label_count > STEER_LABELS)
        return err_set(e, "%d labels are steered at once, at most %d can be", spec->label_count, STEER_LABELS);
    if (!s->ranks)
        return err_set(e, "%s '%s' is steered by its ranks, and there are none", spec->kind, spec->labels[0]);
    if (*ranks_sae(s->ranks) && *sae->id && !folder_same(ranks_sae(s->ranks), sae->id))
        return err_set(e, "%s: these ranks were made with the autoencoder %s, this one is %s", ranks_path(s->ranks),
                       ranks_sae(s->ranks), sae->id);
    if (ranks_features(s->ranks) != sae->F)
        return err_set(e, "%s: ranks of %d features, the autoencoder has %d", ranks_path(s->ranks),
                       ranks_features(s->ranks), sae->F);
    for (int i = 0; i < spec->label_count; i++)
        if (!ranks_find(s->ranks, spec->kind, spec->labels[i], 0)) {
            char *known = ranks_labels(s->ranks, spec->kind);
            err_set(e, "%s: no %s '%s'; there are: %s", ranks_path(s->ranks), spec->kind, spec->labels[i],
                    known && *known ? known : "none of that kind");
            free(known);
            return -1;
        }
    return 0;
}

int steering_create(Steering **out, const SteerSpec *spec, Sae *sae, const Ranks *ranks, Err *e)
{
    *out = NULL;
    Steering *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, "out of memory");
    s->sae = sae;
    s->ranks = ranks;
    s->sum = malloc(sizeof *s->sum * sae->F);
    if (!s->sum || copy_spec(s, spec, e) || check_spec(s, e) || choice_create(&s->choice, sae->F, e)) {
        err_set(e, "out of memory");
        steering_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void steering_free(Steering *s)
{
    if (!s)
        return;
    void *const device[] = {s->a, s->s, s->i, s->recon, s->steered};
    for (int k = 0; k < 5; k++)
        if (device[k])
            op->free(device[k]);
    free(s->host_a);
    free(s->host_s);
    free(s->host_i);
    choice_free(&s->choice);
    for (int i = 0; s->labels && i < s->spec.label_count; i++)
        free(s->labels[i]);
    free(s->labels);
    free(s->feature);
    free(s->value);
    free(s->sum);
    free(s);
}

/* Modes set and add reach features that a token does not keep: each row is widened by all chosen ones. */
static int width(const Steering *s)
{
    const bool all = s->spec.mode == STEER_SET || s->spec.mode == STEER_ADD;
    return s->sae->K + (all ? s->choice.count : 0);
}

static int need_buffers(Steering *s, int64_t rows, Err *e)
{
    const int64_t values = rows * width(s);
    const size_t bytes = sizeof(float) * values, whole = s->spec.compat_saeuron ? sizeof(float) * rows * s->sae->D : 0;
    if (device_grow(&s->a, &s->a_bytes, bytes, e) || device_grow(&s->s, &s->s_bytes, bytes, e)
        || device_grow(&s->i, &s->i_bytes, bytes, e) || device_grow(&s->recon, &s->recon_bytes, whole, e)
        || device_grow(&s->steered, &s->steered_bytes, whole, e))
        return -1;
    if (values <= s->room)
        return 0;
    free(s->host_a);
    free(s->host_s);
    free(s->host_i);
    s->host_a = malloc(bytes);
    s->host_s = malloc(bytes);
    s->host_i = malloc(bytes);
    s->room = s->host_a && s->host_s && s->host_i ? values : 0;
    return s->room ? 0 : err_set(e, "out of memory for steering %lld rows", (long long)rows);
}

int steering_set_step(Steering *s, int t, Err *e)
{
    s->active = false;
    if (choice_make(&s->choice, &s->spec, s->ranks, t, e))
        return -1;
    s->active = s->choice.count > 0 || (s->spec.compat_saeuron && t <= s->spec.t_high && t >= s->spec.t_low);
    return s->active;
}

static bool in_work(const Steering *s, const Chosen *x)
{
    return s->now >> x->label & 1;
}

void steering_mask(Steering *s, const float *mask, int64_t tokens)
{
    s->mask = mask;
    s->tokens = tokens;
}

/* From a value to its new one; at 0 and 1 exactly the one and the other. */
static float part_way(float old, float new, float m)
{
    return m >= 1 ? new : m > 0 ? old + m * (new - old) : old;
}

/* One row widened from K to `wide` values: a and i as encoded, out s as steered, m of the way. Chosen features that the
 * row does not keep have value 0 and stand behind the kept ones. Returns whether a value changed. */
static bool steer_row(const Steering *s, float *a, float *out, int32_t *i, int wide, float m)
{
    const int K = s->sae->K;
    bool changed = false;
    for (int c = K; c < wide; c++) {
        const Chosen *x = &s->choice.item[c - K];
        i[c] = x->feature;
        a[c] = 0;
        out[c] = in_work(s, x) ? part_way(0, steer_value(s->spec.mode, x, 0), m) : 0;
        changed |= out[c] != 0;
    }
    for (int k = 0; k < K; k++) {
        const int slot = s->choice.slot[i[k]];
        const Chosen *x = slot < 0 ? NULL : &s->choice.item[slot];
        out[k] = x && in_work(s, x) ? part_way(a[k], steer_value(s->spec.mode, x, a[k]), m) : a[k];
        changed |= out[k] != a[k];
        if (slot >= 0 && wide > K)
            out[K + slot] = 0;      /* kept: steered in its own place */
    }
    return changed;
}

/* Values of the block on the host, widened and steered; its first row is row `first` of all. The rows grow in place,
 * from the last one on. */
static bool steer_rows(Steering *s, int64_t first, int64_t rows, int wide)
{
    const int K = s->sae->K;
    bool changed = false;
    for (int64_t n = rows - 1; n >= 0; n--) {
        float *a = s->host_a + n*wide;
        int32_t *i = s->host_i + n*wide;
        memmove(a, s->host_a + n*K, sizeof *a * K);
        memmove(i, s->host_i + n*K, sizeof *i * K);
        changed |= steer_row(s, a, s->host_s + n*wide, i, wide, s->mask ? s->mask[(first + n) % s->tokens] : 1);
    }
    return changed;
}

/* x: the rows from number `first` of all. */
static int apply_block(Steering *s, float *x, int64_t first, int64_t rows, Err *e)
{
    const Sae *sae = s->sae;
    const int wide = width(s), D = sae->D;
    if (need_buffers(s, rows, e))
        return -1;
    const size_t values = (size_t)rows * wide;
    if (sae_encode_to_host(s->sae, s->host_a, s->host_i, s->a, s->i, x, rows, e))
        return -1;
    if (s->spec.compat_saeuron)
        op->sae.decode(s->recon, s->a, s->i, sae->W_dec, sae->b_dec, rows, D, sae->K);
    const bool changed = steer_rows(s, first, rows, wide);
    if (!changed && !s->spec.compat_saeuron)
        return 0;
    op->upload(s->a, s->host_a, values * sizeof(float));
    op->upload(s->s, s->host_s, values * sizeof(float));
    op->upload(s->i, s->host_i, values * sizeof(int32_t));
    if (!s->spec.compat_saeuron) {
        op->sae.steer(x, x, s->a, s->s, s->i, sae->W_dec, rows, D, wide);
        return 0;
    }
    op->sae.decode(s->steered, s->s, s->i, sae->W_dec, sae->b_dec, rows, D, wide);
    op->subtract(x, s->recon, x, rows * D);
    op->add(x, s->steered, rows * D);
    return 0;
}

static int64_t block_rows(const Steering *s)
{
    const int64_t most = BLOCK_VALUES / width(s);
    return most < 1 ? 1 : most < BLOCK_ROWS ? most : BLOCK_ROWS;
}

int steering_apply_labels(Steering *s, uint64_t labels, float *x, int64_t N, Err *e)
{
    const int64_t block = block_rows(s);
    if (!s->active || (!labels && s->spec.label_count && !s->spec.feature_count))
        return 0;
    s->now = labels | (uint64_t)1 << STEER_LABELS;
    for (int64_t n = 0; n < N; n += block)
        if (apply_block(s, x + n * s->sae->D, n, N - n < block ? N - n : block, e))
            return -1;
    return 0;
}

int steering_apply(Steering *s, float *x, int64_t N, Err *e)
{
    return steering_apply_labels(s, ~(uint64_t)0, x, N, e);
}

bool steering_gated(const Steering *s)
{
    return s->spec.gate > 0 && s->spec.label_count > 0;
}

bool steering_always(const Steering *s)
{
    return !steering_gated(s) || s->spec.feature_count > 0;
}

static void add_codes(Steering *s, const float *a, const int32_t *i, int64_t values)
{
    for (int64_t k = 0; k < values; k++)
        if (s->choice.slot[i[k]] >= 0)
            s->sum[s->choice.slot[i[k]]] += a[k];
}

/* shown |= labels whose features, summed over the kept values of a picture's tokens, pass the gate */
static void open_gates(const Steering *s, int64_t tokens, uint64_t *shown)
{
    for (int l = 0; l < s->spec.label_count; l++) {
        double found = 0, wanted = 0;
        for (int j = 0; j < s->choice.count; j++) {
            const Chosen *x = &s->choice.item[j];
            if (x->label != l)
                continue;
            found += s->sum[j] / (double)tokens;
            wanted += x->mean_rest + s->spec.gate * (x->mean - x->mean_rest);
        }
        if (found > wanted)
            *shown |= (uint64_t)1 << l;
    }
}

void steering_gate_codes(Steering *s, const float *a, const int32_t *i, int64_t pictures, int64_t tokens,
                         uint64_t *shown)
{
    const int64_t values = tokens * s->sae->K;
    for (int64_t p = 0; p < pictures && s->active; p++) {
        memset(s->sum, 0, sizeof *s->sum * s->choice.count);
        add_codes(s, a + p*values, i + p*values, values);
        open_gates(s, tokens, &shown[p]);
    }
}

int steering_gate(Steering *s, const float *x, int64_t pictures, int64_t tokens, uint64_t *shown, Err *e)
{
    const int K = s->sae->K, D = s->sae->D;
    const int64_t block = block_rows(s);
    if (!s->active)
        return 0;
    if (need_buffers(s, block < tokens ? block : tokens, e))
        return -1;
    for (int64_t p = 0; p < pictures; p++) {
        memset(s->sum, 0, sizeof *s->sum * s->choice.count);
        for (int64_t n = 0; n < tokens; n += block) {
            const int64_t rows = tokens - n < block ? tokens - n : block;
            if (sae_encode_to_host(s->sae, s->host_a, s->host_i, s->a, s->i, x + (p*tokens + n) * D, rows, e))
                return -1;
            add_codes(s, s->host_a, s->host_i, rows * K);
        }
        open_gates(s, tokens, &shown[p]);
    }
    return 0;
}

int steering_features(const Steering *s, int32_t *feature, int max)
{
    for (int j = 0; j < s->choice.count && j < max; j++)
        feature[j] = s->choice.item[j].feature;
    return s->choice.count;
}
