/* SPDX-License-Identifier: MIT */
/* sd-encode-text.c -- prompts to text states: the conditioning that the samplers read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/compute.h"
#include "src/models/conditioning.h"
#include "src/models/prompt_states.h"
#include "src/models/prompts.h"

enum { BATCH = 32 };

typedef struct Config {
    Common c;
    const char *negative, *state_type;
    int64_t chunks;
    int weights;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {'n', "negative", OPT_STR, offsetof(Config, negative), "",
     "TEXT  what the unconditional half is told; default: nothing", 0},
    {0, "chunks", OPT_INT, offsetof(Config, chunks), "1",
     "N  chunks of 75 tokens that a text may become, 1 to 64; what is beyond is cut", 0},
    {0, "weights", OPT_FLAG, offsetof(Config, weights), NULL,
     "read weights, (word:1.3), (word) for 1.1 and [word] for 1/1.1, and BREAK, which begins a chunk", 0},
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
    "A text of more than 75 tokens (the tokenizer's length less start and end) is cut, with one note at the end. With "
    "--chunks it becomes up to N chunks, each encoded with a start and an end of its own; S is then 77 times their "
    "number, and the pooled embedding is the first one's. Prompt and negative prompt get as many chunks, those of the "
    "empty text where one is shorter (zeros stay zeros); a record that has more than the header's uncond carries its "
    "own.\n"
    "With --weights brackets weigh what is in them, as in web UIs: each token's state is multiplied by its weight, and "
    "the text's then so that their mean is as before. \\( \\) \\[ \\] stand for brackets; one that is not closed holds "
    "to the end; a weight is at most 100 either way. [a:b:0.5] is no other prompt halfway, but text in brackets. "
    "Without the option brackets are text, as for diffusers. A record's prompt stays as it was written.\n"
    "A record's bytes do not depend on its neighbours. Memory does not depend on the number of prompts but for 16 "
    "bytes each, to know ids that come twice.",
    "# text states of two prompts\n"
    "printf '%s\\n' 'a red tower' 'A fish in Watercolor style.' | sd-encode-text -o conditioning.mpk.zst\n"
    "# a long prompt with weights\n"
    "echo '(a red tower:1.3) in [heavy] rain, ...' | sd-encode-text --weights --chunks 3 -o conditioning.mpk.zst\n"
    "# eight parts at once, then one stream\n"
    "split -n l/8 prompts.jsonl part. && parallel 'sd-encode-text -@1 {} -o {}.mpk.zst' ::: part.??\n"
    "cat part.??.mpk.zst > conditioning.mpk.zst"
};

typedef struct Item {
    Record record;
    PromptText text, negative;
    bool told;                      /* it has a negative prompt of its own */
} Item;

typedef struct Run {
    const Config *cfg;
    Compute compute;
    DType state_type;
    PromptEncoder *encoder;
    PromptStates *states;
    StreamOut *out;
    Progress *progress;
    int S, E, P;                    /* tokens of a chunk, widths */
    PromptText negative;            /* the header's */
    Item item[BATCH];
    int items;
    int32_t *tokens;                /* of a record */
    float *state, *pooled;          /* of one text */
    void *typed[2], *typed_pooled[2];           /* of a record's text and negative, in the stream's type */
    long cut, written;
    IdSet known;                    /* ids of all files */
    long lines;                     /* of those read */
    char first_cut[256];
} Run;

static int open_model(Run *r, Err *e)
{
    const int chunks = (int)r->cfg->chunks;
    if (prompt_encoder_load(&r->encoder, r->compute.model, r->compute.type, e)
        || prompt_states_create(&r->states, r->encoder, chunks, 2 * BATCH, r->cfg->weights, e))
        return -1;
    r->S = prompt_encoder_length(r->encoder);
    r->E = prompt_encoder_width(r->encoder);
    r->P = prompt_encoder_pooled(r->encoder);
    r->state_type = (DType)dtype_parse(r->cfg->state_type);
    if ((int64_t)r->S * chunks > COND_MOST_TOKENS)
        return err_set(e, "%s: %d chunks of %d tokens, expected at most %d tokens together", r->compute.model, chunks,
                       r->S, COND_MOST_TOKENS);
    const size_t state = (size_t)r->S * chunks * r->E, pooled = r->P + 1;       /* one more: not nothing */
    int failed = !(r->tokens = malloc((size_t)r->S * chunks * sizeof *r->tokens))
              || !(r->state = malloc(state * sizeof(float))) || !(r->pooled = malloc(pooled * sizeof(float)));
    for (int i = 0; i < 2; i++)
        failed |= !(r->typed[i] = malloc(state * sizeof(float)))
               || !(r->typed_pooled[i] = malloc(pooled * sizeof(float)));
    return failed ? err_set(e, "out of memory") : 0;
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

/* What the record has of its prompt, or of a negative one, in as many chunks as are wanted. */
static int add_text(const Run *r, Record *rec, bool negative, const PromptText *text, int chunks, Err *e)
{
    prompt_states_join(r->states, text, chunks, r->state, r->pooled);
    return add_tensor(r, rec, negative ? "uncond" : "state", 2, (int64_t[]){r->S * chunks, r->E}, r->typed[negative],
                      r->state, e)
        || (r->P && add_tensor(r, rec, negative ? "uncond_pooled" : "pooled", 1, (int64_t[]){r->P},
                               r->typed_pooled[negative], r->pooled, e)) ? -1 : 0;
}

static void count_cut(Run *r, const PromptText *text, const char *id)
{
    if (text->left > 0 && r->cut++ == 0)
        snprintf(r->first_cut, sizeof r->first_cut, "%s", id);
}

static int open_stream(Run *r, Err *e)
{
    const StreamOptions o = compute_stream_options(&r->cfg->c);
    Record header;
    Err why = {0};
    if (prompt_states_add(r->states, &r->negative, r->cfg->negative, true, true, &why))
        return err_misuse(e, "--negative: %s", why.text);
    if (prompt_states_encode(r->states, e))
        return -1;
    count_cut(r, &r->negative, "--negative");
    record_init(&header, "conditioning");
    record_set_text(&header, "model", r->compute.id);
    record_set_text(&header, "negative", r->cfg->negative);
    record_provenance(&header, NULL, cli_provenance(&cli));
    const int failed = add_text(r, &header, true, &r->negative, r->negative.chunks, e)
                    || stream_create(&r->out, r->cfg->c.output, &header, &o, e);
    record_clear(&header);
    prompt_states_next(r->states);
    return failed;
}

static int write_item(Run *r, const Item *item, Err *e)
{
    const PromptText *negative = item->told ? &item->negative : &r->negative;
    const int chunks = item->text.chunks > negative->chunks ? item->text.chunks : negative->chunks;
    Record rec;
    record_init(&rec, NULL);
    record_copy_fields(&rec, &item->record);
    prompt_states_tokens(r->states, &item->text, chunks, r->tokens);
    record_add_tensor(&rec, "tokens", I32, 1, (int64_t[]){r->S * chunks}, r->tokens);
    const int failed = add_text(r, &rec, false, &item->text, chunks, e)
                    || ((item->told || chunks != r->negative.chunks) && add_text(r, &rec, true, negative, chunks, e))
                    || stream_write(r->out, &rec, e) ? -1 : 0;
    record_clear(&rec);
    return failed;
}

static void clear_items(Run *r)
{
    for (int i = 0; i < r->items; i++) {
        record_clear(&r->item[i].record);
        prompt_text_clear(&r->item[i].text);
        prompt_text_clear(&r->item[i].negative);
    }
    r->items = 0;
}

/* Encodes and writes the records that wait. */
static int write_batch(Run *r, Err *e)
{
    int failed = prompt_states_encode(r->states, e);
    for (int i = 0; i < r->items && !failed; i++)
        failed = write_item(r, &r->item[i], e);
    r->written += r->items;
    clear_items(r);
    prompt_states_next(r->states);
    progress_set(r->progress, r->written);
    return failed;
}

static int add_record(Run *r, const Record *rec, Err *e)
{
    const char *id = record_text(rec, "id", ""), *negative = record_text(rec, "negative", NULL);
    Item *item = &r->item[r->items++];
    *item = (Item){.told = negative != NULL};
    record_init(&item->record, NULL);
    record_copy_fields(&item->record, rec);
    if (prompt_states_add(r->states, &item->text, record_text(rec, "prompt", ""), false, false, e)
        || (negative && prompt_states_add(r->states, &item->negative, negative, true, false, e)))
        return -1;
    count_cut(r, &item->text, id);
    count_cut(r, &item->negative, id);
    return 0;
}

static int take_record(Run *r, const Prompts *prompts, const Record *rec, Err *e)
{
    Err why = {0};
    if ((r->items == BATCH || !prompt_states_room(r->states, 2)) && write_batch(r, e))
        return -1;
    return add_record(r, rec, &why) ? err_set(e, "%s: line %ld: the text of '%.100s': %s", prompts_name(prompts),
                                              rec->number, record_text(rec, "id", ""), why.text) : 0;
}

static int encode_file(Run *r, const char *path, Err *e)
{
    Prompts *prompts = NULL;
    Record rec;
    int got = prompts_open(&prompts, path, (uint64_t)r->cfg->c.seed, e);
    if (prompts)
        prompts_follow(prompts, &r->known, r->lines);
    while (got >= 0 && (got = prompts_next(prompts, &rec, e)) > 0)
        if (take_record(r, prompts, &rec, e))
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
    char chunks[40] = "";
    if (r->cfg->chunks > 1)
        snprintf(chunks, sizeof chunks, "%d chunks of ", (int)r->cfg->chunks);
    if (r->cut)
        cli_note(&cli, "%ld %s longer than %s%d tokens and cut; the first is that of %s", r->cut,
                 r->cut == 1 ? "text was" : "texts were", chunks, r->S - 2, r->first_cut);
    return stream_finish(r->out, e);
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->out);
    id_set_free(&r->known);
    clear_items(r);
    prompt_text_clear(&r->negative);
    prompt_states_free(r->states);
    prompt_encoder_free(r->encoder);
    for (int i = 0; i < 2; i++) {
        free(r->typed[i]);
        free(r->typed_pooled[i]);
    }
    free(r->tokens);
    free(r->state);
    free(r->pooled);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.chunks < 1 || cfg.chunks > PROMPT_MOST_CHUNKS)
        cli_misuse(&cli, "--chunks %lld is not between 1 and %d", (long long)cfg.chunks, PROMPT_MOST_CHUNKS);

    int failed = compute_start(&r.compute, &cfg.c, &e)
              || open_model(&r, &e)
              || open_stream(&r, &e)
              || encode_all(&r, &e)
              || finish(&r, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
