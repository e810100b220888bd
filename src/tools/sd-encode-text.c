/* SPDX-License-Identifier: MIT */
/* sd-encode-text.c -- prompts to text states: the conditioning that the samplers read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/compute.h"
#include "src/models/prompt_encoder.h"
#include "src/models/prompts.h"

enum {
    BATCH = 32,
    CACHE = 4 * BATCH,              /* a batch has two texts a record at most, so the cache holds any batch */
    ZEROS = CACHE                   /* the place of no negative prompt where that is zeros, not a text */
};

typedef struct Config {
    Common c;
    const char *negative, *state_type;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {'n', "negative", OPT_STR, offsetof(Config, negative), "",
     "TEXT  what the unconditional half is told; default: nothing", 0},
    {0, "state-type", OPT_STR, offsetof(Config, state_type), "f32",
     "f32|f16|bf16  type of the states in the stream", 0},
    {0, "seed", OPT_INT, offsetof(Config, c.seed), "0",
     "N  of records without a seed, whose own comes from N and their id", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-encode-text", "Encode prompts into text states, which pictures are drawn from.", options, "[FILE...]",
    "Reads prompts, one a line: a line that begins with { is a JSON object with prompt and, where wanted, id, "
    "negative, concept, theme, seed and any other field; any other line is a prompt. Writes a conditioning stream: the "
    "header has the model's id and the state [S,E] of --negative, each record its fields, its tokens [S] and its state "
    "[S,E]. A record with a negative of its own, an empty one too, has that one's state as uncond. Of Stable Diffusion "
    "XL states are those of both text encoders side by side, each comes with a pooled embedding [P] (pooled, "
    "uncond_pooled), and an empty negative prompt is zeros where model_index.json has "
    "force_zeros_for_empty_prompt.\n"
    "A prompt longer than the tokenizer's length (77 tokens with start and end) is cut, with one note at the end. A "
    "record's bytes do not depend on its neighbours. Memory does not depend on the number of prompts but for 16 bytes "
    "each, to know ids that come twice.",
    "# text states of two prompts\n"
    "printf '%s\\n' 'a red tower' 'A fish in Watercolor style.' | sd-encode-text -o conditioning.mpk.zst\n"
    "# eight parts at once, then one stream\n"
    "split -n l/8 prompts.jsonl part. && parallel 'sd-encode-text -@1 {} -o {}.mpk.zst' ::: part.??\n"
    "cat part.??.mpk.zst > conditioning.mpk.zst"
};

typedef struct Text {               /* a cached text */
    int32_t *ids;                   /* [I] */
    float *state, *pooled;          /* [S,E], [P] */
    long used;                      /* batch that used it last, 0: empty */
    int encoded;
} Text;

typedef struct Item {
    Record record;
    int text, negative;             /* places in the cache, ZEROS; negative -1: the header's */
} Item;

typedef struct Run {
    const Config *cfg;
    Compute compute;
    DType state_type;
    PromptEncoder *encoder;
    StreamOut *out;
    Progress *progress;
    int S, I, E, P;                 /* tokens, ids of a text (those of all tokenizers), widths */
    Text cache[CACHE + 1];
    Item item[BATCH];
    int items;
    long batch;
    int32_t *ids;                   /* [CACHE][I], those to encode */
    float *states, *pooled;         /* [CACHE][S,E], [CACHE][P], theirs */
    void *typed[2], *typed_pooled[2];           /* of a record's text and negative, in the stream's type */
    long cut, written;
    IdSet known;                    /* ids of all files */
    long lines;                     /* of those read */
    char first_cut[256];
} Run;

static int open_model(Run *r, Err *e)
{
    if (prompt_encoder_load(&r->encoder, r->compute.model, r->compute.type, e))
        return -1;
    r->S = prompt_encoder_length(r->encoder);
    r->I = prompt_encoder_ids(r->encoder);
    r->E = prompt_encoder_width(r->encoder);
    r->P = prompt_encoder_pooled(r->encoder);
    r->state_type = (DType)dtype_parse(r->cfg->state_type);
    const size_t state = (size_t)r->S * r->E, pooled = r->P + 1;        /* one more: not nothing */
    int failed = !(r->ids = malloc(CACHE * r->I * sizeof *r->ids))
              || !(r->states = malloc(CACHE * state * sizeof *r->states))
              || !(r->pooled = malloc(CACHE * pooled * sizeof *r->pooled));
    for (int i = 0; i < 2; i++)
        failed |= !(r->typed[i] = malloc(state * sizeof(float)))
               || !(r->typed_pooled[i] = malloc(pooled * sizeof(float)));
    for (int i = 0; i < CACHE + 1; i++) {
        Text *t = &r->cache[i];
        failed |= !(t->ids = malloc(r->I * sizeof *t->ids)) || !(t->state = calloc(state, sizeof *t->state))
               || !(t->pooled = calloc(pooled, sizeof *t->pooled));
    }
    return failed ? err_set(e, "out of memory") : 0;
}

/* Place in the cache of a text, which takes that of the longest unused where it is not there yet. -1 on error. */
static int place_text(Run *r, const char *text, const char *id, Err *e)
{
    int oldest = 0;
    const int count = prompt_tokenize(r->encoder, text, r->ids, e);
    if (count < 0)
        return -1;
    if (count > r->S - 2 && r->cut++ == 0)
        snprintf(r->first_cut, sizeof r->first_cut, "%s", id);
    for (int i = 0; i < CACHE; i++) {
        Text *t = &r->cache[i];
        if (t->used && memcmp(t->ids, r->ids, r->I * sizeof *r->ids) == 0) {
            t->used = r->batch;
            return i;
        }
        if (t->used < r->cache[oldest].used)
            oldest = i;
    }
    memcpy(r->cache[oldest].ids, r->ids, r->I * sizeof *r->ids);
    r->cache[oldest].used = r->batch;
    r->cache[oldest].encoded = 0;
    return oldest;
}

static int place_negative(Run *r, const char *text, const char *id, Err *e)
{
    return !*text && prompt_encoder_zeros(r->encoder) ? ZEROS : place_text(r, text, id, e);
}

static int encode_cache(Run *r, Err *e)
{
    const size_t state = (size_t)r->S * r->E;
    int place[CACHE], n = 0;
    for (int i = 0; i < CACHE; i++)
        if (r->cache[i].used && !r->cache[i].encoded) {
            memcpy(r->ids + (size_t)n * r->I, r->cache[i].ids, r->I * sizeof *r->ids);
            place[n++] = i;
        }
    if (n > 0 && prompt_encode(r->encoder, r->ids, n, r->states, r->pooled, e))
        return -1;
    for (int k = 0; k < n; k++) {
        Text *t = &r->cache[place[k]];
        memcpy(t->state, r->states + k * state, state * sizeof *r->states);
        memcpy(t->pooled, r->pooled + (size_t)k * r->P, r->P * sizeof *r->pooled);
        t->encoded = 1;
    }
    return 0;
}

/* Tensor `name` of x in the stream's type, made in `typed`. */
static int add_tensor(const Run *r, Record *rec, const char *name, int ndim, const int64_t *dim, void *typed,
                      const float *x, Err *e)
{
    record_add_tensor(rec, name, r->state_type, ndim, dim, typed);
    const size_t n = tensor_count(record_tensor(rec, name));
    dtype_from_f32(typed, r->state_type, x, n);
    if (dtype_finite(typed, r->state_type, n))
        return 0;
    return err_set(e, "the text state of '%.100s' does not fit %s: %s", record_text(rec, "id", "--negative"),
                   dtype_name(r->state_type), dtype_finite(x, F32, n) ? "try another --state-type"
                   : "it has become no number, values leave the range of --dtype");
}

/* What the record has of its prompt, or of a negative one. */
static int add_text(const Run *r, Record *rec, bool negative, const Text *text, Err *e)
{
    return add_tensor(r, rec, negative ? "uncond" : "state", 2, (int64_t[]){r->S, r->E}, r->typed[negative],
                      text->state, e)
        || (r->P && add_tensor(r, rec, negative ? "uncond_pooled" : "pooled", 1, (int64_t[]){r->P},
                               r->typed_pooled[negative], text->pooled, e)) ? -1 : 0;
}

static int open_stream(Run *r, Err *e)
{
    const StreamOptions o = compute_stream_options(&r->cfg->c);
    Record header;
    r->batch = 1;
    const int place = place_negative(r, r->cfg->negative, "--negative", e);
    if (place < 0 || encode_cache(r, e))
        return -1;
    record_init(&header, "conditioning");
    record_set_text(&header, "model", r->compute.id);
    record_set_text(&header, "negative", r->cfg->negative);
    record_provenance(&header, NULL, cli_provenance(&cli));
    const int failed = add_text(r, &header, true, &r->cache[place], e)
                    || stream_create(&r->out, r->cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

/* Encodes and writes the records that wait. */
static int write_batch(Run *r, Err *e)
{
    int failed = encode_cache(r, e);
    for (int i = 0; i < r->items; i++) {
        Item *item = &r->item[i];
        const Text *text = &r->cache[item->text];
        Record rec;
        record_init(&rec, NULL);
        record_copy_fields(&rec, &item->record);
        record_add_tensor(&rec, "tokens", I32, 1, (int64_t[]){r->S}, text->ids);
        failed = failed || add_text(r, &rec, false, text, e)
              || (item->negative >= 0 && add_text(r, &rec, true, &r->cache[item->negative], e))
              || stream_write(r->out, &rec, e);
        record_clear(&rec);
        record_clear(&item->record);
    }
    r->written += r->items;
    r->items = 0;
    r->batch++;
    progress_set(r->progress, r->written);
    return failed ? -1 : 0;
}

static int take_record(Run *r, const Record *rec, Err *e)
{
    const char *id = record_text(rec, "id", ""), *negative = record_text(rec, "negative", NULL);
    Item *item = &r->item[r->items];
    item->text = place_text(r, record_text(rec, "prompt", ""), id, e);
    item->negative = negative && item->text >= 0 ? place_negative(r, negative, id, e) : -1;
    if (item->text < 0 || (negative && item->negative < 0))
        return -1;
    record_init(&item->record, NULL);
    record_copy_fields(&item->record, rec);
    r->items++;
    return r->items == BATCH ? write_batch(r, e) : 0;
}

static int encode_file(Run *r, const char *path, Err *e)
{
    Prompts *prompts = NULL;
    Record rec;
    int got = prompts_open(&prompts, path, (uint64_t)r->cfg->c.seed, e);
    if (prompts)
        prompts_follow(prompts, &r->known, r->lines);
    while (got >= 0 && (got = prompts_next(prompts, &rec, e)) > 0)
        if (take_record(r, &rec, e))
            got = -1;
    r->lines = prompts ? prompts_lines(prompts) : r->lines;
    prompts_close(prompts);
    return got;
}

static int encode_all(Run *r, Err *e)
{
    const List *files = &r->cfg->c.inputs;
    r->progress = progress_start(&cli, "prompts", 0);
    int failed = files->count == 0 ? encode_file(r, "-", e) : 0;
    for (int i = 0; i < files->count && !failed; i++)
        failed = encode_file(r, files->items[i], e);
    return failed || write_batch(r, e);
}

static int finish(Run *r, Err *e)
{
    if (r->cut)
        cli_note(&cli, "%ld %s longer than %d tokens and cut; the first is that of %s", r->cut,
                 r->cut == 1 ? "text was" : "texts were", r->S - 2, r->first_cut);
    return stream_finish(r->out, e);
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->out);
    id_set_free(&r->known);
    prompt_encoder_free(r->encoder);
    for (int i = 0; i < r->items; i++)
        record_clear(&r->item[i].record);
    for (int i = 0; i < CACHE + 1; i++) {
        free(r->cache[i].ids);
        free(r->cache[i].state);
        free(r->cache[i].pooled);
    }
    for (int i = 0; i < 2; i++) {
        free(r->typed[i]);
        free(r->typed_pooled[i]);
    }
    free(r->ids);
    free(r->states);
    free(r->pooled);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);

    int failed = compute_start(&r.compute, &cfg.c, &e)
              || open_model(&r, &e)
              || open_stream(&r, &e)
              || encode_all(&r, &e)
              || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
