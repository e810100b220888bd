/* SPDX-License-Identifier: MIT */
/* sae-convert.c -- an autoencoder's folder in the layout of another program. */
#include <stdbool.h>
#include <string.h>
#include "kernels/op.h"
#include "src/cli/cli.h"
#include "src/models/capture.h"
#include "src/models/sae.h"

typedef struct Config {
    Common c;
    const char *to, *hook, *take;
} Config;

static const Opt options[] = {
    {'o', "output", OPT_STR, offsetof(Config, c.output), NULL, "DIR  folder to write", OPT_NEUTRAL | OPT_REQUIRED},
    {0, "to", OPT_STR, offsetof(Config, to), NULL, "ours|saeuron|sparsify|saelens  whose layout it gets", OPT_REQUIRED},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  module that it belongs to, where DIR does not say or errs", 0},
    {0, "take", OPT_STR, offsetof(Config, take), NULL,
     "output|input|diff  what it was trained on: the module's output, its input, or output - input", 0},
    COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-convert", "Write an autoencoder's folder in the layout of another program.", options, "DIR",
    "Reads folders of sae-fit, SAeUron and sparsify (cfg.json, sae.safetensors), SAELens 6 (cfg.json, "
    "sae_weights.safetensors), OpenAI's kind (config.json, state_dict.pth) and dictionary_learning (config.json, "
    "ae.pt), as all programs here do. Files of torch are read as data: nothing in them is executed.\n"
    "Kinds: the k largest features of each token (topk), those above a threshold (batchtopk, matryoshka, jumprelu), "
    "above 0 (relu, SAELens's standard), gated. SAeUron and sparsify hold only the first; SAELens all, thresholds as "
    "jumprelu. One that normalises its input is refused. Where SAELens does not take b_dec off the input, or scales "
    "features by their rows, that is folded into the weights. Weights are written as f32.\n"
    "A kind without a fixed k keeps all features above its threshold, but at most cfg.json's \"most\" of a token: 512 "
    "where a folder does not say.\n"
    "Autoencoders of SDXL's modules as sdxl-unbox publishes them are OpenAI's kind, trained on output - input, which "
    "their folders do not say: give --hook and --take diff, so that all programs know.\n"
    "A folder that is there is written into, file by file, unless it holds an autoencoder in another layout: readers "
    "would find two there.\n"
    "Memory is three times that of the weights.",
    "sae-convert sae/ --to saelens -o sae-lens/\n"
    "# one of sdxl-unbox\n"
    "sae-convert checkpoints/unet.down_blocks.2.attentions.1_k10_hidden5120_auxk256_bs4096_lr0.0001/final --to ours "
    "--hook down_blocks.2.attentions.1 --take diff -o down.2.1/"
};

int main(int argc, char **argv)
{
    Config cfg = {0};
    Sae *s = NULL;
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.c.inputs.count != 1)
        cli_misuse(&cli, "%d folders are named, expected 1", cfg.c.inputs.count);
    Take take;
    if (cfg.take && take_parse(&take, cfg.take, &e))
        return cli_report(&cli, &e);
    const bool ours = strcmp(cfg.to, "ours") == 0;
    const SaeFormat to = strcmp(cfg.to, "saelens") == 0 ? SAE_SAELENS
                       : strcmp(cfg.to, "sparsify") == 0 ? SAE_SPARSIFY : SAE_SAEURON;

    const int failed = backend_pick("cpu", 1, &e)
                    || sae_load(&s, cfg.c.inputs.items[0], &e)
                    || sae_set_place(s, cfg.hook, cfg.take, &e)
                    || (ours ? sae_save(s, cfg.c.output, &e) : sae_save_as(s, cfg.c.output, to, &e));

    sae_free(s);
    return failed ? cli_report(&cli, &e) : 0;
}
