/* SPDX-License-Identifier: MIT */
/* sd-evaluate.c -- what steering took away and left alone: UA, IRA and CRA of classified pictures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "formats/text_out.h"
#include "src/cli/compute.h"
#include "src/cli/evaluate_rows.h"
#include "src/models/clip_score.h"
#include "src/models/evaluate.h"

typedef struct Config {
    Common c;
    const char *classifier, *texts, *predictions, *reference, *plain;
    List names;
    int json, clip_score, weights, brought;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "classifier", OPT_STR, offsetof(Config, classifier), NULL,
     "FILE  classes of the embeddings, safetensors (default: minisd's judge, for sd-encode-image --net)", 0},
    {0, "texts", OPT_STR, offsetof(Config, texts), NULL, "FILE  classify by these texts instead (zero-shot), with the "
                                                         "model's CLIP", 0},
    {0, "names", OPT_LIST, offsetof(Config, names), NULL,
     "KIND=FILE  classify by the logits of sd-encode-image --net KIND=...; FILE names their classes; again for the "
     "other kind", 0},
    {0, "plain", OPT_STR, offsetof(Config, plain), "class",
     "class|others|none  a picture without a label of a kind counts in that kind too, where a class is named \"\"; in "
     "the other kind alone; or not at all", 0},
    {0, "brought", OPT_FLAG, offsetof(Config, brought), NULL,
     "add the share of other pictures that are taken for the target: of steering that brings one", 0},
    {0, "clip-score", OPT_FLAG, offsetof(Config, clip_score), NULL,
     "add the CLIP score of pictures and prompts; the embeddings are CLIP's", 0},
    {0, "weights", OPT_FLAG, offsetof(Config, weights), NULL,
     "with --clip-score: prompts were written for sd-encode-text --weights; their words are scored, not the marks", 0},
    {0, "reference", OPT_STR, offsetof(Config, reference), NULL,
     "FILE  embeddings of other pictures: add the Frechet distance to them", 0},
    {0, "json", OPT_FLAG, offsetof(Config, json), NULL, "a JSON object a row instead of a table", 0},
    {0, "predictions", OPT_STR, offsetof(Config, predictions), NULL,
     "FILE  what each picture was taken for, a JSON object a line", OPT_NEUTRAL},
    COMPUTE_OPTIONS, OUTPUT_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-evaluate", "Measure what a steering took away and what it left alone, from embeddings of the pictures.",
    options, "[FILE...]",
    "Reads embeddings (sd-encode-image) of pictures that sd-steer drew and classifies each. For every steered target, "
    "over the pictures drawn under that steering: UA, the share of the target's pictures not taken for the target "
    "(several labels steered at once: for their own, though maybe for another of them); IRA, the share of the pictures "
    "of other labels of its kind taken for what they are; CRA, the share of all of them whose label of the other kind "
    "is found. Of labels of both kinds steered at once a picture counts for UA or IRA in each kind, and there is no "
    "CRA. An overall row is the mean over targets; 95 % intervals are Wilson's, those of a mean by MOVER. Shares "
    "are of pictures: UnlearnCanvas's means over labels where each label has as many. Unsteered pictures have a row a "
    "kind, with the accuracy in that kind under IRA and in the other under CRA; so have those steered by features "
    "alone (sd-steer --feature), for each set of features, FEATURE:VALUE joined by +.\n"
    "The table is tab-separated, in percent: row (unsteered, features, target, overall), kind, target, pictures, then "
    "each measure with its limits, "
    "the mean of the three, and the steering. - stands for a measure without pictures.\n"
    "--brought adds, of a target that is to come and not to go, the share of the pictures of other labels of its kind, "
    "or of none, that are taken for it; CRA then says whether the rest stayed.\n"
    "--clip-score adds 100 cos(picture, prompt) with its interval; with --weights of a prompt as sd-encode-text "
    "--weights reads it, its words without brackets, numbers and BREAK, but for those of weight 0 or less. --reference "
    "adds the Frechet distance between the embeddings of a row's pictures and those of FILE, of at most 2048 values: "
    "the FID's formula, on these embeddings.\n"
    "--texts: lines like {\"prompt\":\"A fish.\",\"concept\":\"Fishes\"}, {\"prompt\":\"A picture in Rust "
    "style.\",\"theme\":\"Rust\"} or, for pictures "
    "without a theme, {\"prompt\":\"A plain picture.\",\"kind\":\"theme\",\"label\":\"\"}; several of a class are "
    "averaged.\n"
    "--names: a line for each output of the network, in their order: NAME, or NAME<TAB>LABEL where the pictures' label "
    "is another (Van_Gogh<TAB>Van Gogh); labels are compared byte for byte. One line may have an empty LABEL "
    "(Seed_Images<TAB>): the class of pictures without one.\n"
    "--plain: UnlearnCanvas asks for photos by a 51st style, Seed_Images, and its accuracy.py counts them among styles "
    "and among objects, once each; where they are pictures without a theme, class does that with the line "
    "Seed_Images<TAB>. SAeUron's scripts draw them without a style and count them among objects alone: others, which "
    "is what class does where no class is named \"\". These scripts counted each 50 times until they were corrected in "
    "2025 (name a file of plain pictures so often for that).",
    "# the whole measure of one concept\n"
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes conditioning.mpk.zst |\n"
    "  sd-encode-image --net data/minisd/judge.safetensors | sd-evaluate\n"
    "# zero-shot, with CLIP scores\n"
    "sd-encode-image pictures/ | sd-evaluate --texts texts.jsonl --clip-score\n"
    "# how often a style comes to pictures that are told none\n"
    "sd-encode-text plain.jsonl |\n"
    "  sd-steer --sae sae/ --ranks ranks.mpk.zst --mode add --half cond --multiplier 1 --sweep theme=all |\n"
    "  sd-encode-image --net data/minisd/judge.safetensors | sd-evaluate --brought\n"
    "# by UnlearnCanvas's classifiers\n"
    "sd-encode-image --net theme=style50.pth --net concept=style50_cls.pth pictures/ |\n"
    "  sd-evaluate --names theme=styles.txt --names concept=objects.txt"
};

typedef struct Run {
    const Config *cfg;
    Classifier *classifier;
    Evaluation *evaluation;
    ClipScore *clip;
    Frechet *reference;
    float *embedding;               /* or the logits of one kind */
    TextOut out, predictions;
    Progress *progress;
    long long done;
} Run;

static int open_classifier(Run *r, const Compute *compute, Err *e)
{
    const Config *cfg = r->cfg;
    char usual[4096];
    if (cfg->names.count)
        return classifier_names(&r->classifier, cfg->names.items, cfg->names.count, e);
    if (cfg->texts)
        return classifier_zero_shot(&r->classifier, cfg->texts, compute->model, compute->type, e);
    snprintf(usual, sizeof usual, "%s/minisd/judge.safetensors", cli_data());
    return classifier_load(&r->classifier, cfg->classifier ? cfg->classifier : usual, e);
}

static int open_clip(Run *r, const Compute *compute, Err *e)
{
    if (!r->cfg->clip_score)
        return 0;
    if (clip_score_create(&r->clip, compute->model, r->cfg->weights, compute->type, e))
        return -1;
    const int P = clip_score_width(r->clip);
    return P == r->classifier->P ? 0
         : err_set(e, "%s classifies embeddings of %d values, --clip-score takes CLIP's of %d: classify by "
                      "--texts", r->classifier->name, r->classifier->P, P);
}

/* The next embedding of a stream into r->embedding: 1, 0 at the end, -1 on error. */
static int next_embedding(Run *r, StreamIn *in, Record *rec, Err *e)
{
    const int got = stream_next(in, rec, e);
    if (got <= 0 || !r->classifier->P)
        return got;
    const StreamTensor *x = stream_need(in, rec, "embedding", -1, 1, (int64_t[]){r->classifier->P}, e);
    return x && !stream_floats(in, rec, x, r->embedding, e) ? 1 : -1;
}

/* What the picture is taken for: by its embedding in r->embedding, or by its logits. */
static int classify(Run *r, const StreamIn *in, const Record *rec, int *predicted, Err *e)
{
    const Classifier *c = r->classifier;
    for (int i = 0; i < c->domains; i++) {
        const Domain *d = &c->domain[i];
        char name[40];
        if (d->weight) {
            predicted[i] = classifier_predict(c, d, r->embedding);
            continue;
        }
        snprintf(name, sizeof name, "%s.logits", d->name);
        if (!record_tensor(rec, name))
            return err_set(e, "%s: record %ld: no tensor %s, which sd-encode-image --net %s=FILE writes",
                           stream_name(in), rec->number, name, d->name);
        const StreamTensor *z = stream_need(in, rec, name, -1, 1, (int64_t[]){-1}, e);
        if (!z)
            return -1;
        if (z->dim[0] != d->classes)
            return err_set(e, "%s: record %ld: %s is of %lld classes, %s names %d", stream_name(in), rec->number, name,
                           (long long)z->dim[0], d->names, d->classes);
        if (stream_floats(in, rec, z, r->embedding, e))
            return -1;
        predicted[i] = classifier_largest(r->embedding, d->classes);
    }
    return 0;
}

static int open_reference(Run *r, Err *e)
{
    StreamIn *in = NULL;
    Moments moments = {0};
    Record rec;
    if (!r->cfg->reference)
        return 0;
    int got = stream_open_kind(&in, r->cfg->reference, "embeddings", e) || moments_create(&moments, r->classifier->P, e)
        ? -1 : 1;
    while (got > 0 && (got = next_embedding(r, in, &rec, e)) > 0)
        moments_add(&moments, r->embedding);
    if (got == 0)
        got = frechet_create(&r->reference, &moments, e);
    moments_free(&moments);
    stream_close(in);
    return got;
}

static int open_all(Run *r, Err *e)
{
    Compute compute = {0};
    if (((r->cfg->texts || r->cfg->clip_score) && compute_start(&compute, &r->cfg->c, e))
        || open_classifier(r, &compute, e)
        || open_clip(r, &compute, e))
        return -1;
    const char *how = r->cfg->plain;
    const Plain plain = strcmp(how, "none") == 0 ? PLAIN_NONE : strcmp(how, "others") == 0 ? PLAIN_OTHERS : PLAIN_CLASS;
    int width = r->classifier->P;
    for (int i = 0; i < r->classifier->domains; i++)
        if (!r->classifier->domain[i].weight && r->classifier->domain[i].classes > width)
            width = r->classifier->domain[i].classes;
    if (!(r->embedding = malloc(sizeof(float) * width)))
        return err_set(e, "out of memory");
    return open_reference(r, e) || evaluation_create(&r->evaluation, r->classifier, r->reference, plain, e)
        || text_open(&r->out, r->cfg->c.output, e) || text_open(&r->predictions, r->cfg->predictions, e);
}

static void print_prediction(const Run *r, const Record *rec, const int *predicted)
{
    static const char *const kept[] = {"id", "concept", "theme", "steered", "steered_kind", "steering"};
    json_t *line = json_object(), *found = json_object();
    for (int i = 0; i < 6; i++)
        if (json_object_get(rec->fields, kept[i]))
            json_object_set(line, kept[i], json_object_get(rec->fields, kept[i]));
    for (int i = 0; i < r->classifier->domains; i++) {
        const Domain *d = &r->classifier->domain[i];
        json_object_set_new(found, d->name, json_string(d->label[predicted[i]]));
    }
    json_object_set_new(line, "found", found);
    json_dumpf(line, r->predictions.file, JSON_COMPACT);
    fputc('\n', r->predictions.file);
    json_decref(line);
}

/* Whether the stream says that its prompts were read with weights; one of PNG files does not say. */
static bool has_weights(const StreamIn *in)
{
    json_t *step, *argument;
    size_t i, k;
    json_array_foreach(json_object_get(stream_header(in)->fields, "provenance"), i, step)
        json_array_foreach(json_object_get(step, "arguments"), k, argument)
            if (json_is_string(argument) && strcmp(json_string_value(argument), "--weights") == 0)
                return true;
    return false;
}

static int score(Run *r, const StreamIn *in, const Record *rec, double *clip, Err *e)
{
    const char *prompt = record_text(rec, "prompt", "");
    Err why = {0};
    if (!r->clip || clip_score(r->clip, prompt, r->embedding, clip, &why) == 0)
        return 0;
    return err_set(e, "%s: record %ld: the prompt '%.100s': %s", stream_name(in), rec->number, prompt, why.text);
}

static int read_stream(Run *r, StreamIn *in, Err *e)
{
    Record rec;
    int got, predicted[DOMAINS];
    if (r->clip && !r->cfg->weights && has_weights(in))
        cli_note(&cli, "%s: its prompts were read with weights; --weights scores their words without the marks",
                 stream_name(in));
    while ((got = next_embedding(r, in, &rec, e)) > 0) {
        double clip = NAN;
        if (score(r, in, &rec, &clip, e)
            || classify(r, in, &rec, predicted, e)
            || evaluation_add(r->evaluation, stream_name(in), &rec, r->embedding, clip, predicted, e))
            return -1;
        if (r->predictions.file)
            print_prediction(r, &rec, predicted);
        progress_set(r->progress, ++r->done);
    }
    return got;
}

static int read_inputs(Run *r, Err *e)
{
    int failed = 0;
    r->progress = progress_start(&cli, "pictures", 0);
    for (int i = 0; i < cli_input_count(&r->cfg->c) && !failed; i++) {
        StreamIn *in = NULL;
        failed = stream_open_kind(&in, cli_input(&r->cfg->c, i), "embeddings", e)
            || read_stream(r, in, e);
        stream_close(in);
    }
    return failed ? -1 : 0;
}

static int print_rows(Run *r, Err *e)
{
    const EvaluateColumns columns = {.brought = r->cfg->brought, .clip = r->clip != NULL,
                                     .frechet = r->reference != NULL};
    EvalRow *rows = NULL;
    const int count = evaluation_rows(r->evaluation, &rows, e);
    if (count > 0 && !r->cfg->json)
        evaluate_print_names(r->out.file, &columns);
    for (int i = 0; i < count; i++)
        (r->cfg->json ? evaluate_print_json : evaluate_print_row)(r->out.file, &columns, &rows[i]);
    free(rows);
    return count < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    if (cfg.classifier && cfg.texts)
        cli_misuse(&cli, "--classifier and --texts exclude each other");
    if (cfg.weights && !cfg.clip_score)
        cli_misuse(&cli, "--weights says how --clip-score reads prompts, which is not asked for");
    if (cfg.names.count && (cfg.classifier || cfg.texts || cfg.clip_score || cfg.reference))
        cli_misuse(&cli, "--names reads logits: --classifier, --texts, --clip-score and --reference, which read "
                   "embeddings, are measured apart");
    if (cfg.predictions && strcmp(cfg.predictions, "-") == 0 && strcmp(cfg.c.output, "-") == 0)
        cli_misuse(&cli, "--predictions - and the table would both go to standard output: give -o FILE");

    int failed = open_all(&r, &e)
              || read_inputs(&r, &e)
              || print_rows(&r, &e)
              || text_finish_file(&r.predictions, &e)
              || text_finish(&r.out, &e)
              || text_finish(&r.predictions, &e);

    progress_end(r.progress);
    text_abandon(&r.predictions);
    text_abandon(&r.out);
    free(r.embedding);
    evaluation_free(r.evaluation);
    frechet_free(r.reference);
    clip_score_free(r.clip);
    classifier_free(r.classifier);
    return failed ? cli_report(&cli, &e) : 0;
}
