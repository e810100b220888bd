/* SPDX-License-Identifier: MIT */
/* sd-convert.c -- checkpoints of one file and LoRA files into a model folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/gguf_types.h"
#include "src/cli/cli.h"
#include "src/models/conversion.h"

typedef struct Config {
    Common c;
    const char *model, *checkpoint, *vae, *type;
    List lora;
    int ema;
} Config;

static const Opt options[] = {
    {'m', "model", OPT_STR, offsetof(Config, model), NULL,
     "BASE  model folder in diffusers layout, whose configs, tokenizer and scheduler the new one gets, and the weights "
     "that come from nowhere else", OPT_REQUIRED},
    {'o', "output", OPT_STR, offsetof(Config, c.output), NULL, "DIR  folder to write; one that is there must be empty",
     OPT_NEUTRAL | OPT_REQUIRED},
    {0, "checkpoint", OPT_STR, offsetof(Config, checkpoint), NULL,
     "FILE  .safetensors, .ckpt or .gguf with LDM's names, as on civitai; a UNet, a transformer, a VAE or a text "
     "encoder alone", 0},
    {0, "vae", OPT_STR, offsetof(Config, vae), NULL, "FILE  take the VAE from here", 0},
    {0, "lora", OPT_LIST, offsetof(Config, lora), NULL,
     "FILE[=STRENGTH]  add a LoRA's changes, 1 times or as often as said; may come again", 0},
    {0, "ema", OPT_FLAG, offsetof(Config, ema), NULL, "take the running means of the UNet's weights (model_ema.*)", 0},
    {0, "dtype", OPT_STR, offsetof(Config, type), "keep",
     "keep|f32|f16|bf16  type of the weights written; keep: that in which each comes, f16 of quantised and fp8 ones",
     0},
    COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-convert", "Make a model folder of a checkpoint in one file, and add LoRA files to a model.", options, NULL,
    "Reads checkpoints of Stable Diffusion 1.x, 2.x, XL, 3 and 3.5 as people have them: model.diffusion_model.*, "
    "first_stage_model.*, cond_stage_model.*, conditioner.embedders.*, text_encoders.*, below state_dict or not. A "
    "file of torch is read as data: nothing in it is executed, and what would run code is refused by its name. GGUF "
    "files are those of stable-diffusion.cpp, whose own names of text encoders are known too, and of ComfyUI-GGUF; "
    "what is quantised as q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k, iq4_nl or iq4_xs gets the values that ggml "
    "gives it. T5 alone may have llama.cpp's names. fp8 (F8_E4M3, F8_E5M2) is read from safetensors; where it comes "
    "with scales it is refused. What kind a file is, its first bytes tell. BASE must be of the same architecture: "
    "what each tensor is called and how large it is follows from its configs, and a tensor that is missing, of "
    "another shape or in no layer is an error. Refiners, checkpoints for inpainting, Playground 2.5, CosXL and FLUX "
    "are refused by name, and one that says it predicts v must find that in BASE's scheduler. What a checkpoint does "
    "not hold comes from BASE: T5 is taken where BASE has a text_encoder_3. What Stable Diffusion 3's first text "
    "encoder pools is not projected in such files: its text_projection becomes the identity. safety_checker and other "
    "parts that no program here reads are left out.\n"
    "LoRA files: kohya's names (lora_unet_ with diffusers' or LDM's blocks, lora_te_, lora_te1_ to lora_te3_; layers "
    "and convolutions), diffusers' and PEFT's (unet., transformer., text_encoder., text_encoder_2.), ComfyUI's "
    "(diffusion_model.). W + STRENGTH alpha/rank up down is summed in f64, and rounded to the type that is written; "
    "several add up. Each tensor of a file must fit a layer. DoRA, LoHa, LoKr and others are refused by name.\n"
    "Program, version and arguments stand in the metadata of each file of weights. At the end the folder is opened as "
    "the other programs open it, and only then it gets its name. Memory is that of the largest tensor, as f32 where "
    "it is quantised; a checkpoint is mapped.",
    "# the small model with weights in f32\n"
    "sd-convert -m data/minisd/model --dtype f32 -o minisd-f32\n"
    "sd-convert -m stable-diffusion-v1-5 --checkpoint dreams.safetensors --vae vae-ft-mse.safetensors -o dreams\n"
    "sd-convert -m stable-diffusion-xl-base-1.0 --checkpoint xl.safetensors --lora xl-style.safetensors -o xl\n"
    "sd-convert -m stable-diffusion-v1-5 --checkpoint dreams-q8_0.gguf -o dreams\n"
    "sd-convert -m stable-diffusion-3-medium-diffusers --checkpoint sd3_medium_incl_clips.safetensors -o sd3\n"
    "sd-convert -m stable-diffusion-v1-5 --lora style.safetensors=0.8 --lora detail.safetensors=-0.5 -o styled"
};

/* FILE=STRENGTH in place; what follows the last = is a strength when it is a number. */
static double take_strength(char *text)
{
    char *equals = strrchr(text, '='), *end;
    if (!equals)
        return 1;
    const double strength = strtod(equals + 1, &end);
    if (end == equals + 1 || *end)
        return 1;
    if (!isfinite(strength))
        cli_misuse(&cli, "--lora %s: the strength is not finite", text);
    *equals = 0;
    return strength;
}

typedef struct Run {
    Conversion conversion;
    char **lora;
    double *strength;
    Progress *progress;
} Run;

static int open_all(Run *r, const Config *cfg, Err *e)
{
    const int loras = cfg->lora.count, type = dtype_parse(cfg->type);
    r->lora = calloc((size_t)loras + 1, sizeof *r->lora);
    r->strength = calloc((size_t)loras + 1, sizeof *r->strength);
    for (int i = 0; i < loras && r->lora && r->strength; i++)
        if ((r->lora[i] = strdup(cfg->lora.items[i]))) {
            r->strength[i] = take_strength(r->lora[i]);
            if (!*r->lora[i])
                cli_misuse(&cli, "--lora %s: the name is empty", cfg->lora.items[i]);
        }
    if (!r->lora || !r->strength || (loras && !r->lora[loras - 1]))
        return err_set(e, "out of memory");
    const ConversionOptions o = {.base = cfg->model, .checkpoint = cfg->checkpoint, .vae = cfg->vae, .ema = cfg->ema,
                                 .type = type, .lora = (const char *const *)r->lora, .strength = r->strength,
                                 .loras = loras};
    return conversion_open(&r->conversion, &o, e);
}

/* f16 holds what lies value by value, as fp8. */
static bool is_quantised(const Weight *t)
{
    return t->blocks && t->blocks->values > 1 && t->type == F16;
}

static void say_quantised(const SingleFile *f, const char *path)
{
    size_t n = 0;
    for (size_t i = 0; f->w && i < weights_count(f->w); i++)
        n += is_quantised(weights_at(f->w, i));
    if (n)
        cli_note(&cli, "%s: %zu tensors are quantised: they are written as f16 (--dtype f32 rounds nothing)", path, n);
}

/* What a user would not expect, and with -v what is where it should be. */
static void say_what(const Run *r, const Config *cfg)
{
    const Conversion *c = &r->conversion;
    const SingleFile *f = &c->checkpoint;
    for (int p = 0; p < PARTS; p++)
        if (c->from_base[p] && cfg->checkpoint)
            cli_note(&cli, "%s: no %s; it is taken from %s", cfg->checkpoint, part_folders[p], cfg->model);
    if (c->o.type < 0) {
        say_quantised(f, cfg->checkpoint);
        say_quantised(&c->vae, cfg->vae);
    }
    if (f->means && !cfg->ema)
        cli_note(&cli, "%s: running means of %zu tensors are not taken (--ema takes them)", cfg->checkpoint, f->means);
    if (f->lefts)
        cli_note(&cli, "%s: %zu tensors are of no part of the model%s", cfg->checkpoint, f->lefts,
                 cfg->c.verbose ? ":" : " (-v names them)");
    for (size_t i = 0; i < f->lefts && cfg->c.verbose; i++)
        cli_note(&cli, "  %s", f->left[i]);
    if (*c->folder.dropped && cfg->c.verbose)
        cli_note(&cli, "%s: left out: %s", cfg->model, c->folder.dropped);
}

/* Text alone, as safetensors has it; "format" is what transformers asks for. */
static json_t *make_metadata(void)
{
    json_t *run = cli_provenance(&cli);
    char *arguments = json_dumps(json_object_get(run, "arguments"), JSON_COMPACT);
    json_t *metadata = json_pack("{s:s, s:O, s:O, s:s}", "format", "pt", "program", json_object_get(run, "program"),
                                 "version", json_object_get(run, "version"), "arguments", arguments ? arguments : "[]");
    free(arguments);
    json_decref(run);
    return metadata;
}

static void tell(void *context, size_t n)
{
    progress_set(context, (long long)n);
}

static int write_all(Run *r, const Config *cfg, Err *e)
{
    json_t *metadata = make_metadata();
    if (!metadata)
        return err_set(e, "out of memory");
    r->progress = progress_start(&cli, "tensors", (long long)conversion_count(&r->conversion));
    const int failed = conversion_write(&r->conversion, cfg->c.output, metadata, tell, r->progress, e);
    progress_end(r->progress);
    json_decref(metadata);
    return failed;
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {0};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.ema && !cfg.checkpoint)
        cli_misuse(&cli, "--ema is of a --checkpoint's weights");

    int failed = open_all(&r, &cfg, &e);
    if (!failed) {
        say_what(&r, &cfg);
        failed = write_all(&r, &cfg, &e);
    }

    conversion_free(&r.conversion);
    for (int i = 0; r.lora && i < cfg.lora.count; i++)
        free(r.lora[i]);
    free(r.lora);
    free(r.strength);
    return failed ? cli_report(&cli, &e) : 0;
}
