/* SPDX-License-Identifier: MIT */
/* sae-fit.c -- fits sparse autoencoders to activation streams: one for each hook, in one reading. */
#include <string.h>
#include <sys/stat.h>
#include "src/cli/fit.h"

static const Opt options[] = {
    {'o', "output", OPT_STR, offsetof(FitConfig, c.output), NULL,
     "DIR  folder of the autoencoder; with several hooks DIR/HOOK", OPT_NEUTRAL | OPT_REQUIRED},
    {'k', "topk", OPT_INT, offsetof(FitConfig, k), "32", "N  features kept a token, or on the mean", 0},
    {0, "variant", OPT_STR, offsetof(FitConfig, variant), "topk",
     "topk|batchtopk|sampletopk|matryoshka|jumprelu|gated|relu  which features are kept; see below", 0},
    {0, "multi", OPT_FLAG, offsetof(FitConfig, multi), NULL,
     "topk: learn with the 4k largest too, at an eighth (MultiTopK)", 0},
    {0, "levels", OPT_STR, offsetof(FitConfig, levels), NULL,
     "N,N,...  matryoshka: features of its inner levels, at most all (default: 1/16, 1/8, 1/4 and 1/2 of all)", 0},
    {0, "sparsity", OPT_NUMBER, offsetof(FitConfig, sparsity), "0",
     "R  jumprelu, gated, relu: weight of the sparsity term; 0: found so that k features are kept on the mean", 0},
    {0, "width", OPT_NUMBER, offsetof(FitConfig, width), "0",
     "R  jumprelu: of the window around a threshold in which it learns; 0: 0.05", 0},
    {0, "labels", OPT_STR, offsetof(FitConfig, labels), NULL,
     "KIND,...  tie a feature to each label of these kinds (concept, theme, any field of the records); see below", 0},
    {0, "assign", OPT_NUMBER, offsetof(FitConfig, assign), "0.1", "R  weight of the labels' term, with --labels", 0},
    {0, "decorrelate", OPT_NUMBER, offsetof(FitConfig, decorrelate), "0.1",
     "R  weight of the term that holds the labels' decoder rows apart, with --labels", 0},
    {0, "expansion", OPT_INT, offsetof(FitConfig, expansion), "16", "N  features as a multiple of the width", 0},
    {'n', "features", OPT_INT, offsetof(FitConfig, features), "0", "N  features; 0: by --expansion", 0},
    {0, "hook", OPT_STR, offsetof(FitConfig, hook), NULL,
     "NAME  only this module's activations (default: an autoencoder for each in the stream)", 0},
    {0, "half", OPT_STR, offsetof(FitConfig, half), "cond",
     "cond|uncond|both  halves of classifier-free guidance to learn from", 0},
    {0, "batch", OPT_INT, offsetof(FitConfig, batch), "0", "N  tokens a step; 0: 1024, from 8192 features on 4096", 0},
    {0, "lr", OPT_NUMBER, offsetof(FitConfig, rate), "0", "R  learning rate; 0: 7e-4/sqrt(features/2^14)", 0},
    {0, "warmup", OPT_INT, offsetof(FitConfig, warmup), "0", "N  tokens over which the rate rises from 0", 0},
    {0, "decay", OPT_NUMBER, offsetof(FitConfig, decay), "0.2",
     "R  last part of the tokens over which the rate falls to 0", 0},
    {0, "epochs", OPT_INT, offsetof(FitConfig, epochs), "1",
     "N  passes over the input, from the buffer where it fits, else from the files", 0},
    {0, "tokens", OPT_INT, offsetof(FitConfig, tokens), "0",
     "N  train on N tokens, in as many passes as that takes; 0: by --epochs", 0},
    {0, "buffer", OPT_INT, offsetof(FitConfig, buffer), "0",
     "N  tokens mixed in memory, for each hook; 0: 2^20 or 512 MB, the smaller", 0},
    {0, "mix", OPT_STR, offsetof(FitConfig, mix), "tokens",
     "tokens|pictures  what the buffer mixes: pictures keeps a record's tokens together in a batch", 0},
    {0, "auxk", OPT_NUMBER, offsetof(FitConfig, auxk), "1", "R  weight of the dead features' loss; 0: none", 0},
    {0, "auxk-features", OPT_INT, offsetof(FitConfig, k_aux), "0",
     "N  dead features taken a token; 0: half the activation's width, at most 64", 0},
    {0, "resample", OPT_INT, offsetof(FitConfig, resample), "0",
     "N  every N tokens of the first half, begin dead features anew on what is reconstructed worst; 0: never", 0},
    {0, "dead", OPT_INT, offsetof(FitConfig, dead), "0",
     "N  tokens without firing after which a feature is dead; 0: 50 features/k", 0},
    {0, "clip", OPT_NUMBER, offsetof(FitConfig, clip), "1", "R  largest norm of the gradient; 0: any", 0},
    {0, "seed", OPT_INT, offsetof(FitConfig, c.seed), "0", "N  of the first weights, and of the order of tokens", 0},
    {0, "order", OPT_INT, offsetof(FitConfig, order), "-1", "N  seed of the order alone; -1: --seed", 0},
    {0, "grid", OPT_LIST, offsetof(FitConfig, grid), NULL,
     "NAME=V,V,...  an autoencoder for each value, in DIR/NAME=V; again, with another NAME, for a product. NAME: "
     FIT_AXES, 0},
    {0, "dtype", OPT_STR, offsetof(FitConfig, c.dtype), "f32",
     "auto|f32|bf16  type of the encoder's product; auto: bf16 where the processor has it", 0},
    {0, "moments", OPT_STR, offsetof(FitConfig, moments), "f32",
     "f32|bf16  type of Adam's moments; bf16, rounded by chance, takes half their memory and learns as well", 0},
    {0, "log", OPT_STR, offsetof(FitConfig, log), NULL,
     "FILE  one JSON line a report: hook, tokens, fvu, l0, dead, lr, ...", OPT_NEUTRAL},
    {0, "report", OPT_INT, offsetof(FitConfig, report), "50", "N  steps between reports", OPT_NEUTRAL},
    {0, "eval", OPT_STR, offsetof(FitConfig, eval), NULL,
     "FILE  held-out stream, read at each report of --log and at the end: fvu, cosine, l0, dead, ... in cfg.json; no "
     "pipe, which can be read once", 0},
    {0, "checkpoint", OPT_STR, offsetof(FitConfig, checkpoint), NULL,
     "FILE  from which --resume goes on; removed when the fit is complete", OPT_NEUTRAL},
    {0, "every-minutes", OPT_NUMBER, offsetof(FitConfig, minutes), "10",
     "R  minutes between checkpoints, with --checkpoint; 0: by --every alone", OPT_NEUTRAL},
    {0, "every", OPT_INT, offsetof(FitConfig, every), "0",
     "N  steps between checkpoints, with --checkpoint; 0: by time alone", OPT_NEUTRAL},
    {0, "resume", OPT_FLAG, offsetof(FitConfig, resume), NULL,
     "go on from --checkpoint, or begin where there is none yet", OPT_NEUTRAL},
    COMPUTE_OPTIONS,
    {0, "devices", OPT_INT, offsetof(FitConfig, devices), "1",
     "N  topk: GPUs from --backend's on, or parts of the processors with cpu; each has a part of the features", 0},
    COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-fit", "Fit sparse autoencoders to a stream of activations.", options, "[FILE...]",
    "Reads activation streams (sd-sample-hooked) from standard input, or several files or FIFOs side by side, a record "
    "of each in turn, and writes a folder with cfg.json and sae.safetensors, as sparsify and SAeUron read it. A stream "
    "of several hooks gives one autoencoder for each, in folders named after them.\n"
    "Loss: |x - x'|^2 / |x - mean|^2 summed over a batch (FVU), and for features that have not fired for --dead tokens "
    "the same of what is left over (AuxK). Adam, unit decoder rows, gradient clipping, the rate falling linearly to 0 "
    "at the end.\n"
    "--variant says which features are kept, and what is added to the loss:\n"
    "topk: the k largest of each token (Gao et al. 2024, arXiv 2406.04093); --multi: learn with the 4k largest too.\n"
    "batchtopk: the k largest a token on the mean of a batch (Bussmann et al. 2024, arXiv 2412.06410).\n"
    "sampletopk: the same over each picture (SAeUron, arXiv 2501.18052); takes --mix pictures.\n"
    "matryoshka: batchtopk, where the first features of each of --levels have to reconstruct alone (Bussmann et al. "
    "2025, arXiv 2503.17547).\n"
    "jumprelu: what exceeds a threshold that each feature learns; a penalty holds the mean at k, or --sparsity times "
    "the number kept is added (Rajamanoharan et al. 2024, arXiv 2407.14435; Gemma Scope 2).\n"
    "gated: a gate says which, a magnitude how much; --sparsity times the gate's sum (Rajamanoharan et al. 2024, "
    "arXiv 2404.16014). It has no term for dead features.\n"
    "relu: all above 0; --sparsity times their sum, which shrinks them too (Bricken et al. 2023, Towards "
    "Monosemanticity).\n"
    "All but topk keep k on the mean and not of each token: cfg.json then holds \"most\", what a token may keep, and "
    "the weights hold what sae-encode and the others need, a threshold (of batchtopk the mean of the least value "
    "kept, over some 100 steps) or scale and offset. The weight of the sparsity term is found while training, or is "
    "--sparsity in SAELens's measure: of mean |x - x'|^2, x scaled to a mean square length of its width. jumprelu, "
    "gated and relu hold all features of two or three batches in memory, and take some 3 times as long.\n"
    "--labels ties a feature to each label that the records carry (the idea of SAEmnesia, arXiv 2509.21379): feature f "
    "< labels is pushed above 0 on tokens of pictures with label f and below 0 on all others (logistic loss, "
    "--assign), their decoder rows are held apart (--decorrelate), and they have to reconstruct alone too, as an inner "
    "level of matryoshka's. cfg.json says which feature is whose (\"labels\"); sae-rank-concepts --score assigned "
    "ranks by that. All labels must come within the first --buffer tokens.\n"
    "Tokens of many pictures and timesteps are mixed in a buffer. An input that fits it is passed over --epochs times "
    "from memory, from a pipe too. A larger one is trained on as it comes, a random half of the buffer at a time, "
    "or somewhat less, in batches that may be smaller than --batch so that no token is left out; further passes read "
    "the files again, and a pipe ends with the first.\n"
    "--mix pictures keeps the tokens of a record together: a batch then holds a few whole pictures, as SAeUron trains; "
    "it learns worse, and is there to show that, and for --variant sampletopk.\n"
    "--grid trains several autoencoders on one reading of the stream, from one buffer. Each ends in the bytes of the "
    "run by itself with that option (of a grid over seeds: with --order at the grid's --seed). A value given twice, "
    "in whatever words, is misuse, as is an axis given twice, and features beside expansion.\n"
    "--eval is read through before the training. Should it break later, the log has null for its figures from then on, "
    "the folder is written without them, and the exit status is 1.\n"
    "Values that deviate by less than 1/64 from their mean are trained on times a power of two, which the saved biases "
    "undo: a rate that suits activations of any larger scale would drown them.\n"
    "The input is read by a thread of its own, into the places of tokens that have been trained on; from a program "
    "beside this one a pipe is fastest with that one's --no-compress.\n"
    "Memory is that of the buffer (--buffer), six batches, and for each autoencoder 6 times its weights (5 "
    "with --moments bf16) and a batch. "
    "The same input and options give the same bytes whatever --threads is. SIGINT and SIGTERM end the training; what "
    "was learned is written, and cfg.json says so.\n"
    "--devices N trains each autoencoder on N devices of this machine, each with an N-th of the features: memory and "
    "the time of a step fall with N, and what is learned differs from one device's only by the order of sums of N "
    "parts. The same N gives the same bytes. To write the folder the first device needs room for the weights of all "
    "features. SIGTERM is for the first process, whose children the others are; when one of them ends, all end, with a "
    "message.\n"
    "With --checkpoint the state of the training (weights, moments, buffer, place in the input) is written to FILE "
    "every few minutes, aside and renamed. After any end, even kill -9, the same command with --resume and the same "
    "input goes on from it, and ends in the same bytes as an undisturbed run; the input is read again from its "
    "beginning, and what was taken before is skipped. FILE has a checksum: one that was damaged is refused. SIGINT "
    "and SIGTERM then write FILE, not the folder, and exit 0. While it is written memory holds another copy of "
    "weights, moments and buffer. The log is appended to on --resume: the lines after the last checkpoint come "
    "again.",
    "# from prompts to an autoencoder, with nothing on disk between\n"
    "sd-assemble-prompts -n 2 | sd-encode-text | sd-sample-hooked --steps 25 | sae-fit -k 16 --epochs 4 -o sae/\n"
    "# two shards at once, with a log\n"
    "sae-fit -k 16 --log fit.jsonl -o sae/ a.mpk.zst b.mpk.zst\n"
    "# a long one that survives whatever ends it: the same line again goes on\n"
    "sae-fit -k 32 --epochs 20 --checkpoint fit.ckpt --resume -o sae/ acts.mpk.zst"
};

static void check(const FitConfig *cfg)
{
    struct stat st;
    const int64_t tokens[] = {cfg->tokens, cfg->warmup, cfg->dead, cfg->resample};
    for (size_t i = 0; i < sizeof tokens/sizeof *tokens; i++)
        if (tokens[i] < 0 || tokens[i] > MOST_TOKENS)
            cli_misuse(&cli, "--tokens, --warmup, --dead and --resample are 0 to 2^46, not %lld", (long long)tokens[i]);
    if (cfg->epochs < 1 || cfg->epochs > 1 << 20 || cfg->k_aux < 0 || cfg->k_aux > 1 << 16 || cfg->report < 1)
        cli_misuse(&cli, "--epochs is 1 to 2^20, --auxk-features 0 to 2^16, --report 1 or more");
    if (cfg->buffer < 0 || cfg->buffer > INT32_MAX)
        cli_misuse(&cli, "--buffer %lld: expected less than 2^31 tokens", (long long)cfg->buffer);
    if (!(cfg->decay >= 0 && cfg->decay <= 1 && cfg->clip >= 0))
        cli_misuse(&cli, "--clip is 0 or more, --decay is 0 to 1");
    if (cfg->every < 0 || !(cfg->minutes >= 0))
        cli_misuse(&cli, "--every and --every-minutes are 0 or more");
    if (cfg->devices < 1 || cfg->devices > TEAM_MOST)
        cli_misuse(&cli, "--devices %lld: expected 1 to %d", (long long)cfg->devices, TEAM_MOST);
    if (cfg->eval && (strcmp(cfg->eval, "-") == 0 || (stat(cfg->eval, &st) == 0 && !S_ISREG(st.st_mode))))
        cli_misuse(&cli, "--eval %s: expected a file, which is read again and again", cfg->eval);
    static const char *const of_checkpoint[] = {"resume", "every", "every-minutes"};
    for (int i = 0; i < 3 && !cfg->checkpoint; i++)
        if (cli_given(&cli, of_checkpoint[i]))
            cli_misuse(&cli, "--%s is of --checkpoint, which is not given", of_checkpoint[i]);
}

int main(int argc, char **argv)
{
    FitConfig cfg = {0};
    FitRun run = {0};
    Team *team;
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check(&cfg);

    const int failed = fit_devices(&team, &cli, &cfg, &e)
                    || fit_run(&run, &cli, &cfg, team, &e);

    fit_run_close(&run);
    fit_devices_end(team, failed);
    return failed ? cli_report(&cli, &e) : 0;
}
