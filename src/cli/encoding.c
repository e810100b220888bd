/* SPDX-License-Identifier: MIT */
/* encoding.c -- prompts, batch by batch, to a conditioning stream.
 *
 * A batch is BATCH records, fewer where their states are large, or where each is written in several variants one, so
 * that the order, by record and then variant, does not depend on the batch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/encoding.h"
#include "src/models/conditioning.h"
#include "src/models/pipeline.h"
#include "src/models/prompts.h"
#include "src/models/textual_inversion.h"

enum { BATCH = 32 };

typedef struct Item {
    Record record;
    PromptText text[TEXT_KINDS];
    bool told[TEXT_KINDS];          /* which of them it has */
} Item;

struct Encoding {
    const Cli *cli;
    const EncodingConfig *cfg;
    const EncodingTask *task;
    Compute compute;
    DType state_type;
    PromptEncoder *encoder;
    PromptStates *states;
    StreamOut *out;
    Progress *progress;
    int S, R, E, P;                 /* tokens of a chunk, rows of its state, widths */
    PromptText negative;            /* the header's */
    Item item[BATCH];
    int batch, items;
    int32_t *tokens;                /* of a record */
    float *state, *pooled;          /* of one text */
    void *typed[TEXT_KINDS], *typed_pooled[TEXT_KINDS];         /* of a record's texts, in the stream's type */
    bool own_field;                 /* a record had a field that only streams have */
    long cut, written;
    bool *said;                     /* [embeddings] whether a text says the word */
    IdSet known;                    /* ids of all files */
    long lines;                     /* of those read */
    char first_cut[256];
};

void encoding_check(const Cli *cli, const EncodingConfig *cfg)
{
    if (cfg->chunks < 1 || cfg->chunks > PROMPT_MOST_CHUNKS)
        cli_misuse(cli, "--chunks %lld is not between 1 and %d", (long long)cfg->chunks, PROMPT_MOST_CHUNKS);
    if (cfg->clip_skip < 0 || cfg->clip_skip > INT32_MAX)
        cli_misuse(cli, "--clip-skip %lld: expected a number of layers", (long long)cfg->clip_skip);
    if (cfg->t5_tokens < 1 || cfg->t5_tokens > T5_MOST_TOKENS)
        cli_misuse(cli, "--t5-tokens %lld is not between 1 and %d", (long long)cfg->t5_tokens, T5_MOST_TOKENS);
    for (int i = 0; i < cfg->embeddings.count; i++)
        if (cli_same_file(learned_word_file(cfg->embeddings.items[i]), cfg->c.output))
            cli_misuse(cli, "--output %s: that is a file of --embedding", cfg->c.output);
}

/* Of Stable Diffusion 3 a text is one chunk, its words as they stand: T5 knows no weights, nor what CLIP learned. */
static int check_options(const Encoding *r, Err *e)
{
    const EncodingConfig *cfg = r->cfg;
    const char *option = cfg->chunks > 1 ? "--chunks" : cfg->weights ? "--weights"
                       : cfg->embeddings.count ? "--embedding" : NULL;
    Pipeline pipeline;
    if (pipeline_read(&pipeline, r->compute.model, e))
        return -1;
    return !option || !pipeline.sd3 ? 0 : err_set(e, "%s: %s is of models that only CLIP's text encoders tell what to "
                                                  "draw; this is a Stable Diffusion 3", r->compute.model, option);
}

static int open_model(Encoding *r, Err *e)
{
    const int chunks = (int)r->cfg->chunks;
    const List *words = &r->cfg->embeddings;
    if (check_options(r, e)
        || prompt_encoder_load(&r->encoder, r->compute.model, r->compute.type, (int)r->cfg->clip_skip,
                               (int)r->cfg->t5_tokens, e)
        || prompt_encoder_learn(r->encoder, words->items, words->count, e))
        return -1;
    const int at_once = prompt_encoder_at_once(r->encoder);
    r->batch = at_once < BATCH ? at_once : BATCH;
    r->S = prompt_encoder_length(r->encoder);
    r->R = prompt_encoder_rows(r->encoder);
    r->E = prompt_encoder_width(r->encoder);
    r->P = prompt_encoder_pooled(r->encoder);
    r->state_type = (DType)dtype_parse(r->cfg->state_type);
    if ((int64_t)r->R * chunks > COND_MOST_TOKENS)
        return err_set(e, "%s: %d chunks of %d tokens, expected at most %d tokens together", r->compute.model, chunks,
                       r->R, COND_MOST_TOKENS);
    if (prompt_states_create(&r->states, r->encoder, chunks, TEXT_KINDS * r->batch, r->cfg->weights, e))
        return -1;
    const size_t state = (size_t)r->R * chunks * r->E, pooled = r->P + 1;       /* one more: not nothing */
    int failed = !(r->said = calloc((size_t)words->count + 1, sizeof *r->said))
              || !(r->tokens = malloc((size_t)r->S * chunks * sizeof *r->tokens))
              || !(r->state = malloc(state * sizeof(float))) || !(r->pooled = malloc(pooled * sizeof(float)));
    for (int i = 0; i < TEXT_KINDS; i++)
        failed |= !(r->typed[i] = malloc(state * sizeof(float)))
               || !(r->typed_pooled[i] = malloc(pooled * sizeof(float)));
    return failed ? err_set(e, "out of memory") : 0;
}

int encoding_open(Encoding **out, const Cli *cli, const EncodingConfig *cfg, const EncodingTask *task, Err *e)
{
    Encoding *r = *out = calloc(1, sizeof *r);
    if (!r)
        return err_set(e, "out of memory");
    r->cli = cli;
    r->cfg = cfg;
    r->task = task;
    return compute_start(&r->compute, &cfg->c, e) || open_model(r, e) ? -1 : 0;
}

const Compute *encoding_compute(const Encoding *r)
{
    return &r->compute;
}

PromptEncoder *encoding_encoder(Encoding *r)
{
    return r->encoder;
}

PromptStates *encoding_states(Encoding *r)
{
    return r->states;
}

void encoding_header(const Encoding *r, Record *header, const char *kind)
{
    json_t *step = cli_provenance(r->cli), *words = prompt_encoder_words(r->encoder);
    if (words)                      /* a file may change under its name */
        json_object_set(step, "embeddings", words);
    record_init(header, kind);
    record_set_text(header, "model", r->compute.id);
    record_provenance(header, NULL, step);
}

/* Tensor `name` of x in the stream's type, made in `typed`. */
static int add_tensor(const Encoding *r, Record *rec, const char *name, int ndim, const int64_t *dim, void *typed,
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

/* What the record has of a text, in as many chunks as are wanted. */
static int add_text(const Encoding *r, Record *rec, const PromptText *text, int chunks, Err *e)
{
    static const char *const state[] = {"state", "uncond", "init_state"};
    static const char *const pooled[] = {"pooled", "uncond_pooled", "init_pooled"};
    const TextKind kind = text->kind;
    prompt_states_join(r->states, text, chunks, r->state, r->pooled);
    return add_tensor(r, rec, state[kind], 2, (int64_t[]){r->R * chunks, r->E}, r->typed[kind], r->state, e)
        || (r->P && add_tensor(r, rec, pooled[kind], 1, (int64_t[]){r->P}, r->typed_pooled[kind], r->pooled, e))
        ? -1 : 0;
}

/* For the notes at the end: texts that were cut, learned words that were said. */
static void count_text(Encoding *r, const PromptText *text, const char *id)
{
    if (text->left > 0 && r->cut++ == 0)
        snprintf(r->first_cut, sizeof r->first_cut, "%s", id);
    if (!r->cfg->embeddings.count || text->zeros)
        return;
    prompt_states_tokens(r->states, text, text->chunks, r->tokens);
    for (int i = 0; i < r->S * text->chunks; i++) {
        const int word = prompt_encoder_word(r->encoder, r->tokens[i]);
        if (word >= 0)
            r->said[word] = true;
    }
}

int encoding_begin(Encoding *r, const Record *more, Err *e)
{
    const StreamOptions o = cli_stream_options(&r->cfg->c);
    Record header;
    Err why = {0};
    if (prompt_states_add(r->states, &r->negative, r->cfg->negative, TEXT_NEGATIVE, true, &why))
        return err_misuse(e, "--negative: %s", why.text);
    if (prompt_states_encode(r->states, e))
        return -1;
    count_text(r, &r->negative, "--negative");
    prompt_states_next(r->states);
    if (r->task->write)
        return 0;
    encoding_header(r, &header, "conditioning");
    record_set_text(&header, "negative", r->cfg->negative);
    if (more)
        record_copy_fields(&header, more);
    const int failed = add_text(r, &header, &r->negative, r->negative.chunks, e)
                    || stream_create(&r->out, r->cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

static int write_states(Encoding *r, Record *rec, const Item *item, Err *e)
{
    const PromptText *text = item->text, *negative = item->told[TEXT_NEGATIVE] ? &text[TEXT_NEGATIVE] : &r->negative;
    const bool begins = item->told[TEXT_INIT];
    int chunks = text->chunks > negative->chunks ? text->chunks : negative->chunks;
    if (begins && text[TEXT_INIT].chunks > chunks)
        chunks = text[TEXT_INIT].chunks;
    const bool own = item->told[TEXT_NEGATIVE] || chunks != r->negative.chunks || r->task->own_uncond;
    prompt_states_tokens(r->states, text, chunks, r->tokens);
    record_add_tensor(rec, "tokens", I32, 1, (int64_t[]){r->S * chunks}, r->tokens);
    return add_text(r, rec, text, chunks, e) || (own && add_text(r, rec, negative, chunks, e))
        || (begins && add_text(r, rec, &text[TEXT_INIT], chunks, e)) || stream_write(r->out, rec, e) ? -1 : 0;
}

static int write_item(Encoding *r, const Item *item, int variant, Err *e)
{
    const EncodingTask *task = r->task;
    Record rec;
    record_init(&rec, NULL);
    record_copy_fields(&rec, &item->record);
    if (task->describe)
        task->describe(task->context, variant, &rec);
    const int failed = task->write ? task->write(task->context, &rec, item->text, e)
                                   : write_states(r, &rec, item, e);
    record_clear(&rec);
    return failed;
}

static void clear_items(Encoding *r)
{
    for (int i = 0; i < r->items; i++) {
        record_clear(&r->item[i].record);
        for (int k = 0; k < TEXT_KINDS; k++)
            prompt_text_clear(&r->item[i].text[k]);
    }
    r->items = 0;
}

static int write_variant(Encoding *r, int variant, Err *e)
{
    const EncodingTask *task = r->task;
    if (task->select && (task->variants > 1 || r->written == 0) && task->select(task->context, variant, e))
        return -1;
    int failed = prompt_states_encode(r->states, e);
    for (int i = 0; i < r->items && !failed; i++)
        failed = write_item(r, &r->item[i], variant, e);
    return failed;
}

/* Encodes and writes the records that wait. */
static int write_batch(Encoding *r, Err *e)
{
    int failed = 0;
    for (int variant = 0; variant < (r->task->variants ? r->task->variants : 1) && !failed; variant++)
        failed = write_variant(r, variant, e);
    r->written += r->items;
    clear_items(r);
    prompt_states_next(r->states);
    progress_set(r->progress, r->written);
    return failed;
}

static int add_record(Encoding *r, const Record *rec, Err *e)
{
    static const char *const field[] = {"prompt", "negative", "init_prompt"};
    Item *item = &r->item[r->items++];
    *item = (Item){0};
    record_init(&item->record, NULL);
    record_copy_fields(&item->record, rec);
    for (int k = 0; k < TEXT_KINDS; k++) {
        const char *text = record_text(rec, field[k], NULL);
        if (!text)
            continue;
        if (prompt_states_add(r->states, &item->text[k], text, (TextKind)k, false, e))
            return -1;
        item->told[k] = true;
        count_text(r, &item->text[k], record_text(rec, "id", ""));
    }
    return 0;
}

/* Of the first that there is. */
static void note_own_field(Encoding *r, const Prompts *prompts, const Record *rec)
{
    const char *name;
    json_t *value;
    json_object_foreach(rec->fields, name, value)
        if (!r->own_field && !record_is_label(name)) {
            r->own_field = true;
            cli_note(r->cli, "%s: line %ld: field %s is left out: streams keep that name for themselves",
                     prompts_name(prompts), rec->number, name);
        }
}

static int take_record(Encoding *r, const Prompts *prompts, const Record *rec, Err *e)
{
    Err why = {0};
    const int batch = r->task->variants > 1 ? 1 : r->batch;
    if ((r->items == batch || !prompt_states_room(r->states, TEXT_KINDS)) && write_batch(r, e))
        return -1;
    note_own_field(r, prompts, rec);
    return add_record(r, rec, &why) ? err_set(e, "%s: line %ld: the text of '%.100s': %s", prompts_name(prompts),
                                              rec->number, record_text(rec, "id", ""), why.text) : 0;
}

static int encode_file(Encoding *r, const char *path, Err *e)
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

int encoding_run(Encoding *r, Err *e)
{
    int failed = 0;
    r->progress = progress_start(r->cli, "prompts", 0);
    for (int i = 0; i < cli_input_count(&r->cfg->c) && !failed; i++)
        failed = encode_file(r, cli_input(&r->cfg->c, i), e);
    return failed || write_batch(r, e);
}

int encoding_finish(Encoding *r, Err *e)
{
    char chunks[40] = "";
    if (r->cfg->chunks > 1)
        snprintf(chunks, sizeof chunks, "%d chunks of ", (int)r->cfg->chunks);
    if (r->cut)
        cli_note(r->cli, "%ld %s longer than %s%d tokens and cut; the first is that of %s", r->cut,
                 r->cut == 1 ? "text was" : "texts were", chunks, prompt_encoder_most(r->encoder), r->first_cut);
    for (int i = 0; i < r->cfg->embeddings.count; i++)
        if (!r->said[i])
            cli_note(r->cli, "no text says the word of --embedding %s", r->cfg->embeddings.items[i]);
    return r->out ? stream_finish(r->out, e) : 0;
}

void encoding_close(Encoding *r)
{
    if (!r)
        return;
    progress_end(r->progress);
    stream_abandon(r->out);
    id_set_free(&r->known);
    clear_items(r);
    prompt_text_clear(&r->negative);
    prompt_states_free(r->states);
    prompt_encoder_free(r->encoder);
    for (int i = 0; i < TEXT_KINDS; i++) {
        free(r->typed[i]);
        free(r->typed_pooled[i]);
    }
    free(r->tokens);
    free(r->said);
    free(r->state);
    free(r->pooled);
    free(r);
}
