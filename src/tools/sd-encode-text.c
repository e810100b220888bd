/* SPDX-License-Identifier: MIT */
/* sd-encode-text.c -- prompts to text states: the conditioning that the samplers read. */
#include <string.h>
#include "formats/text_out.h"
#include "src/cli/encoding.h"
#include "src/models/text_capture.h"

typedef struct Config {
    EncodingConfig e;
    List hooks;
    const char *take, *act_type;
    int list_hooks;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    ENCODING_OPTIONS,
    {0, "hook", OPT_LIST, offsetof(Config, hooks), NULL,
     "NAME  write what this module of the text encoder computes of the prompts instead, a stream for sae-fit; by path, "
     "text_encoder.text_model.encoder.layers.9, or a glob; again for more", 0},
    {0, "list-hooks", OPT_FLAG, offsetof(Config, list_hooks), NULL,
     "print the modules that can be hooked, and end", OPT_NEUTRAL},
    {0, "take", OPT_STR, offsetof(Config, take), "output",
     "output|input|diff  of the module; diff is output - input", 0},
    {0, "act-type", OPT_STR, offsetof(Config, act_type), "f16",
     "f32|f16|bf16|i8  type of the activations written; i8: with a scale a token", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-encode-text", "Encode prompts into text states, which pictures are drawn from.", options, "[FILE...]",
    "Reads prompts, one a line: a line that begins with { is a JSON object with prompt and, where wanted, id, "
    "negative, init_prompt, init_image, concept, theme, seed and any other field; any other line is a prompt. Writes "
    "a conditioning stream: the header has the model's id and the state [S,E] of --negative, each record its fields, "
    "its tokens [S] and its state [S,E]. A record with a negative of its own, an empty one too, has that one's state "
    "as uncond; an init_prompt, what the picture that it begins with shows (sd-sample-hooked --inversion), is its "
    "init_state, and init_image names that picture where it is not ID.png. Of Stable Diffusion XL states are those "
    "of both text encoders side by side, each comes with a pooled embedding [P] (pooled, uncond_pooled, "
    "init_pooled), and an empty negative prompt is zeros where model_index.json has force_zeros_for_empty_prompt. Of "
    "Stable Diffusion 3 those states are S of CLIP's rows, with zeros beside them, and T5's --t5-tokens rows follow; "
    "zeros, where model_index.json has null for text_encoder_3 or there is no such folder. What is pooled is both "
    "embeddings of CLIP, and negative prompts are encoded, empty ones too.\n"
    "A text of more than 75 tokens (the tokenizer's length less start and end) is cut, with one note at the end, which "
    "of Stable Diffusion 3 counts texts that are too long for T5: CLIP takes the first 75 tokens of any. With "
    "--chunks it becomes up to N chunks, each encoded with a start and an end of its own; S is then 77 times their "
    "number, and the pooled embedding is the first one's. Prompt and negative prompt get as many chunks, those of the "
    "empty text where one is shorter (zeros stay zeros); a record that has more than the header's uncond carries its "
    "own.\n"
    "With --weights brackets weigh what is in them, as in web UIs: each token's state is multiplied by its weight, and "
    "the text's then so that their mean is as before. \\( \\) \\[ \\] stand for brackets; one that is not closed holds "
    "to the end; a weight is at most 100 either way. [a:b:0.5] is no other prompt halfway, but text in brackets. "
    "Without the option brackets are text, as for diffusers. A record's prompt stays as it was written.\n"
    "With --embedding prompts and negative prompts may say a word that a textual inversion has learned, from files of "
    "diffusers, web UIs (.pt, .bin, .safetensors) or SDXL (clip_l and clip_g); nothing in them is executed. The word "
    "is found in any letter case, inside a longer word too, and counts as many tokens as it has vectors.\n"
    "With --clip-skip prompts, and not negative ones, are taken from so many layers earlier, as diffusers has it; a "
    "module that they do not go through then cannot be hooked.\n"
    "With --hook the stream is one of activations, a record a prompt and module, of step 0 and t 0: act [tokens,E] "
    "has the prompt's tokens without the start token, whose state is the same in every text (T5's modules, "
    "text_encoder_3.encoder.block.9, have none). Padding counts, for what draws reads it too; negative prompts are "
    "left out. sae-fit, sae-encode and sae-rank-concepts read it as any other, and sd-steer-text steers by what they "
    "find.\n"
    "A record's bytes do not depend on its neighbours. Memory does not depend on the number of prompts but for 16 "
    "bytes each, to know ids that come twice.",
    "# text states of two prompts\n"
    "printf '%s\\n' 'a red tower' 'A fish in Watercolor style.' | sd-encode-text -o conditioning.mpk.zst\n"
    "# a long prompt with weights\n"
    "echo '(a red tower:1.3) in [heavy] rain, ...' | sd-encode-text --weights --chunks 3 -o conditioning.mpk.zst\n"
    "# words learned by textual inversion\n"
    "echo 'a <cat-toy> in the rain' | sd-encode-text --embedding '<cat-toy>=learned_embeds.bin' "
    "--embedding EasyNegative.safetensors -n EasyNegative -o conditioning.mpk.zst\n"
    "# an autoencoder of the text encoder, from prompts alone\n"
    "sd-assemble-prompts -n 5 | sd-encode-text --hook text_encoder.text_model.encoder.layers.2 | "
    "sae-fit -k 8 --tokens 500K -o text-sae/\n"
    "# eight parts at once, then one stream; prompts without ids of their own are given them before (number-prompts)\n"
    "split -n l/8 prompts.jsonl part. && parallel 'sd-encode-text -@1 {} -o {}.mpk.zst' ::: part.??\n"
    "cat part.??.mpk.zst > conditioning.mpk.zst"
};

typedef struct Run {
    const Config *cfg;
    EncodingTask task;
    Encoding *encoding;
    TextCapture *capture;
    StreamOut *activations;
} Run;

static int print_hooks(const Config *cfg, Err *e)
{
    Compute compute;
    PromptEncoder *encoder = NULL;
    const int failed = compute_start(&compute, &cfg->e.c, e)
                    || prompt_encoder_load(&encoder, compute.model, compute.type, (int)cfg->e.clip_skip,
                                           (int)cfg->e.t5_tokens, e)
                    || text_list(cfg->e.c.output, prompt_encoder_hooks(encoder)->module, e);
    prompt_encoder_free(encoder);
    return failed;
}

static int write_activations(void *context, const Record *rec, const PromptText *text, Err *e)
{
    const Run *r = context;
    return text_capture_write(r->capture, text, rec, r->activations, e);
}

static int open_capture(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    TextCaptureOptions o = {.patterns = cfg->hooks.items, .pattern_count = cfg->hooks.count,
                            .type = (DType)dtype_parse(cfg->act_type)};
    const StreamOptions stream = cli_stream_options(&cfg->e.c);
    Record header;
    if (!cfg->hooks.count)
        return 0;
    if (take_parse(&o.take, cfg->take, e)
        || text_capture_create(&r->capture, encoding_encoder(r->encoding), encoding_states(r->encoding), &o, e))
        return -1;
    r->task = (EncodingTask){.context = r, .write = write_activations};
    encoding_header(r->encoding, &header, "activations");
    text_capture_describe(r->capture, &header);
    const int failed = stream_create(&r->activations, cfg->e.c.output, &header, &stream, e);
    record_clear(&header);
    return failed;
}

static void release(Run *r)
{
    encoding_close(r->encoding);
    stream_abandon(r->activations);
    text_capture_free(r->capture);
}

static void check_usage(const Config *cfg)
{
    if (!cfg->hooks.count && (strcmp(cfg->take, "output") != 0 || strcmp(cfg->act_type, "f16") != 0))
        cli_misuse(&cli, "--take and --act-type are of the activations that --hook NAME writes");
    if (cfg->hooks.count && strcmp(cfg->e.state_type, "f32") != 0)
        cli_misuse(&cli, "--state-type is of text states, and --hook NAME writes activations: --act-type");
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    encoding_check(&cli, &cfg.e);
    if (cfg.list_hooks)
        return print_hooks(&cfg, &e) ? cli_report(&cli, &e) : 0;
    check_usage(&cfg);

    int failed = encoding_open(&r.encoding, &cli, &cfg.e, &r.task, &e)
              || open_capture(&r, &e)
              || encoding_begin(r.encoding, NULL, &e)
              || encoding_run(r.encoding, &e)
              || encoding_finish(r.encoding, &e)
              || (r.activations && stream_finish(r.activations, &e));

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
