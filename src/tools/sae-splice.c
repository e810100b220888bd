/* SPDX-License-Identifier: MIT */
/* sae-splice.c -- how far pictures move when an autoencoder's reconstruction stands in for what it was trained on,
 * against zero and mean ablation. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "formats/json_file.h"
#include "formats/tame.h"
#include "formats/text_out.h"
#include "src/cli/hook_note.h"
#include "src/cli/sampling.h"
#include "src/models/distance.h"
#include "src/models/latent.h"
#include "src/models/pictures.h"
#include "src/models/splice.h"

typedef struct Config {
    SamplingConfig s;
    const char *sae, *hook, *half, *when, *images;
    int json;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {'s', "sae", OPT_STR, offsetof(Config, sae), NULL, "DIR  autoencoder, as sae-fit or SAeUron wrote it",
     OPT_REQUIRED},
    {0, "hook", OPT_STR, offsetof(Config, hook), NULL,
     "NAME  module of the autoencoder (default: the one its folder names)", 0},
    {0, "half", OPT_STR, offsetof(Config, half), "both",
     "cond|uncond|both  halves of classifier-free guidance to replace in", 0},
    {0, "when", OPT_STR, offsetof(Config, when), "",
     "HIGH-LOW  replace where the timestep lies in between (default: always)", 0},
    {0, "json", OPT_FLAG, offsetof(Config, json), NULL, "lines of JSON instead of a table", 0},
    {0, "images", OPT_STR, offsetof(Config, images), NULL,
     "DIR  write the pictures: PNG files in a folder, or a stream named *.mpk.zst", OPT_NEUTRAL},
    SAMPLING_OPTIONS,
    OUTPUT_OPTIONS, COMPUTE_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sae-splice", "Measure how far pictures move when an autoencoder stands in for its module.", options, "[FILE]",
    "Reads a conditioning stream (sd-encode-text) and draws each picture four times from the same noise, or with "
    "--init from the same picture: plain; spliced, with the module's output x replaced by the autoencoder's "
    "reconstruction at every step, and nothing of its error added back; zero, with x replaced by 0; and mean, with x "
    "replaced by its mean over the picture's own tokens. For an autoencoder of output - input, that difference is "
    "what is replaced, so that zero skips the module.\n"
    "Writes a tab-separated table, three lines a picture and three for all of them, or JSON, a line a picture and a "
    "last one for all. Columns, with z, p the plain latent and picture, z', p' the others, p in [0,1]:\n"
    "latent_nmse = sum |z' - z|^2 / sum |z|^2. latent_cosine = mean of z.z' / (|z| |z'|). mse = mean (p' - p)^2. psnr "
    "= -10 log10(mse), in dB. mad = mean |p' - p|. ssim = structural similarity of 7 x 7 windows. latent_recovered = 1 "
    "- latent_nmse / latent_nmse of zero; picture_recovered = 1 - mse / mse of zero: 1 where nothing is lost, 0 where "
    "zero ablation is as near, below 0 where it is nearer. - (in JSON null) where zero ablation moves nothing, and inf "
    "(null) is the psnr of equal pictures. For all: of the sums over pictures.\n"
    "By default both halves of guidance are replaced: the network computes both, and an error made in both alike is "
    "not multiplied by guidance, as one in a single half is. --half cond and uncond replace in one of them, zero and "
    "mean too; compare figures of the same halves, steps and guidance only.\n"
    "Pictures of --images have ids spliced/ID and fields splice (plain, spliced, zero, mean) and of (ID).\n"
    "With --dtype f16 the autoencoder's products are made in f32, with bf16 in bf16.\n"
    "Memory: a batch's latents, four times.",
    "# over twenty pictures\n"
    "sd-assemble-prompts -n 1 | head -20 | sd-encode-text | sae-splice --sae sae/ | tail -3\n"
    "# to look at, a row a prompt: plain, spliced, zero, mean\n"
    "sd-assemble-prompts -n 1 | head -5 | sd-encode-text | "
    "sae-splice --sae sae/ --images splice.mpk.zst -o splice.tsv\n"
    "sd-sheet --rows of --columns splice splice.mpk.zst -o sheet.png"
};

static const struct { const char *name, *format; size_t at; } columns[] = {
    {"latent_nmse", "\t%.6g", offsetof(DistanceFigures, latent_nmse)},
    {"latent_cosine", "\t%.6f", offsetof(DistanceFigures, latent_cosine)},
    {"mse", "\t%.6g", offsetof(DistanceFigures, mse)},
    {"psnr", "\t%.3f", offsetof(DistanceFigures, psnr)},
    {"mad", "\t%.6g", offsetof(DistanceFigures, mad)},
    {"ssim", "\t%.6f", offsetof(DistanceFigures, ssim)},
    {"latent_recovered", "\t%.6f", offsetof(DistanceFigures, latent_recovered)},
    {"picture_recovered", "\t%.6f", offsetof(DistanceFigures, picture_recovered)},
};
enum { COLUMNS = sizeof columns/sizeof *columns };

typedef struct Run {
    const Config *cfg;
    Sampling s;
    Splice *splice;
    Pictures *pictures;
    TextOut out;
    Progress *progress;
    long long done;                 /* pictures drawn */
    float *latents;                 /* (SPLICES,batch,C,H,W) */
    float *rows, *pixels;           /* one latent as rows; one decoded picture */
    uint8_t *image[SPLICES];        /* (H,W,3) */
    Distance all[SPLICES];
} Run;

static int open_splice(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    SpliceOptions o = {.sae = cfg->sae, .hook = cfg->hook, .type = r->s.compute.type};
    if (half_parse(&o.half, cfg->half, e) || t_range_parse(&o.when, "--when", cfg->when, e)
        || splice_create(&r->splice, r->s.sampler, &o, e))
        return -1;
    if (cfg->hook)
        hook_note(&cli, splice_module(r->splice), cfg->sae, splice_sae(r->splice), NULL);
    return 0;
}

static int open_pictures(Run *r, Err *e)
{
    const StreamOptions o = {.threads = (int)r->cfg->s.c.threads};
    Record header;
    if (!r->cfg->images)
        return 0;
    sampling_header(&r->s, &cli, &header, "images");
    record_set_text(&header, "sae", splice_sae(r->splice)->id);
    const int failed = pictures_open(&r->pictures, r->cfg->images, r->s.vae, r->s.in, &header, &o, e);
    record_clear(&header);
    return failed;
}

static int make_room(Run *r, Err *e)
{
    const Sampler *s = r->s.sampler;
    const size_t latent = (size_t)s->C*s->H*s->W, scale = (size_t)vae_scale(r->s.vae), pixels = scale*scale*s->H*s->W;
    r->latents = malloc(sizeof(float)*latent*SPLICES*s->options.batch);
    r->rows = malloc(sizeof(float)*latent);
    r->pixels = malloc(sizeof(float)*pixels*3);
    int failed = !r->latents || !r->rows || !r->pixels;
    for (int k = 0; k < SPLICES; k++)
        failed |= !(r->image[k] = malloc(pixels*3));
    return failed ? err_set(e, "out of memory for %d pictures of %zu pixels", s->options.batch, pixels) : 0;
}

static int open_outputs(Run *r, Err *e)
{
    return sampling_vae(&r->s, e)
        || make_room(r, e) || open_pictures(r, e) || text_open(&r->out, r->cfg->s.c.output, e);
}

static int decode(Run *r, uint8_t *image, const float *latent, Err *e)
{
    const Sampler *s = r->s.sampler;
    const int64_t scale = vae_scale(r->s.vae);
    latent_to_rows(r->rows, latent, s->C, (size_t)s->H*s->W);
    if (vae_decode(r->s.vae, r->rows, 1, s->H, s->W, r->pixels, e))
        return -1;
    vae_to_u8(image, r->pixels, scale*scale*s->H*s->W*3);
    return 0;
}

static int write_picture(Run *r, const Record *of, SpliceKind kind, int H, int W, Err *e)
{
    const char *name = record_text(of, "id", "");
    char id[4096];
    Record rec;
    record_init(&rec, NULL);
    rec.number = of->number;
    record_copy_fields(&rec, of);
    snprintf(id, sizeof id, "%s/%s", splice_names[kind], name);
    record_set_text(&rec, "id", id);
    record_set_text(&rec, "of", name);
    record_set_text(&rec, "splice", splice_names[kind]);
    const int failed = pictures_write_rgb(r->pictures, &rec, r->image[kind], H, W, e);
    record_clear(&rec);
    return failed;
}

static void print_rows(const Run *r, const char *id, const Distance d[SPLICES])
{
    FILE *f = r->out.file;
    for (int k = SPLICE_SPLICED; k < SPLICES; k++) {
        const DistanceFigures v = distance_figures(&d[k], &d[SPLICE_ZERO]);
        tame_print(f, id, ' ');
        fprintf(f, "\t%s", splice_names[k]);
        for (int c = 0; c < COLUMNS; c++) {
            const double value = *(const double *)((const char *)&v + columns[c].at);
            if (isnan(value))
                fputs("\t-", f);
            else
                fprintf(f, columns[c].format, value);
        }
        fputc('\n', f);
    }
}

/* Prints line, which is let go, with the figures added. */
static void print_json(const Run *r, json_t *line, const Distance d[SPLICES])
{
    for (int k = SPLICE_SPLICED; k < SPLICES; k++) {
        const DistanceFigures v = distance_figures(&d[k], &d[SPLICE_ZERO]);
        json_t *figures = json_object();
        for (int c = 0; c < COLUMNS; c++) {
            const double value = *(const double *)((const char *)&v + columns[c].at);
            json_object_set_new(figures, columns[c].name, json_real_or_null(value));
        }
        json_object_set_new(line, splice_names[k], figures);
    }
    json_dumpf(line, r->out.file, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', r->out.file);
    json_decref(line);
}

/* Picture i of the batch: decoded, compared, printed, and written where asked for. */
static int measure(Run *r, int i, Err *e)
{
    const Sampler *s = r->s.sampler;
    const Record *rec = &r->s.batch->item[i].record;
    const size_t latent = (size_t)s->C*s->H*s->W;
    const int H = s->H*vae_scale(r->s.vae), W = s->W*vae_scale(r->s.vae);
    const float *z[SPLICES];
    Distance d[SPLICES] = {0};
    for (int k = 0; k < SPLICES; k++) {
        z[k] = r->latents + latent*((size_t)s->options.batch*k + i);
        if (decode(r, r->image[k], z[k], e) || (r->pictures && write_picture(r, rec, k, H, W, e)))
            return -1;
        distance_add(&d[k], z[SPLICE_PLAIN], z[k], latent, r->image[SPLICE_PLAIN], r->image[k], H, W);
        distance_sum(&r->all[k], &d[k]);
    }
    if (r->cfg->json) {
        Record line;
        record_init(&line, NULL);
        record_copy_fields(&line, rec);
        print_json(r, json_incref(line.fields), d);
        record_clear(&line);
    } else
        print_rows(r, record_text(rec, "id", ""), d);
    return 0;
}

static int measure_all(Run *r, Err *e)
{
    const Sampler *s = r->s.sampler;
    const CondBatch *batch = r->s.batch;
    const size_t latents = (size_t)s->options.batch*s->C*s->H*s->W;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = sampling_next(&r->s, e)) > 0) {
        for (int k = 0; k < SPLICES; k++) {
            if (splice_draw(r->splice, k, batch, r->latents + latents*k, e))
                return -1;
            progress_set(r->progress, r->done += batch->count);
        }
        for (int i = 0; i < batch->count; i++)
            if (measure(r, i, e))
                return -1;
    }
    return got < 0 || r->done ? got : err_set(e, "%s: no records: no picture to draw", stream_name(r->s.in));
}

/* The figures over all pictures, in JSON with what they are of. */
static int finish(Run *r, Err *e)
{
    const Config *cfg = r->cfg;
    if (cfg->json) {
        json_t *line = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:f}", "pictures",
                                 (json_int_t)r->all[0].pictures, "model", r->s.compute.id, "sae",
                                 splice_sae(r->splice)->id, "hook", splice_module(r->splice), "half", cfg->half,
                                 "when", cfg->when, "sampler", cfg->s.sampler, "steps", (json_int_t)cfg->s.steps,
                                 "guidance", cfg->s.guidance);
        if (!line)
            return err_set(e, "%s: cannot be written as JSON", cfg->sae);
        sampling_describe_init(&r->s, line);
        print_json(r, line, r->all);
    } else
        print_rows(r, "all", r->all);
    return (r->pictures && pictures_finish(r->pictures, e)) || text_finish(&r->out, e);
}

static void print_header(const Run *r)
{
    if (r->cfg->json)
        return;
    fputs("id\tsplice", r->out.file);
    for (int c = 0; c < COLUMNS; c++)
        fprintf(r->out.file, "\t%s", columns[c].name);
    fputc('\n', r->out.file);
}

static void release(Run *r)
{
    progress_end(r->progress);
    text_abandon(&r->out);
    pictures_abandon(r->pictures);
    splice_free(r->splice);
    sampling_close(&r->s);
    free(r->latents);
    free(r->rows);
    free(r->pixels);
    for (int k = 0; k < SPLICES; k++)
        free(r->image[k]);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    sampling_check(&cli, &cfg.s);
    if (cfg.images && strcmp(cfg.images, "-") == 0 && strcmp(cfg.s.c.output, "-") == 0)
        cli_misuse(&cli, "--images - and the table would both go to standard output: give -o FILE");

    int failed = sampling_check_pictures(&cfg.s, cfg.images, &e)
              || sampling_open(&r.s, &cli, &cfg.s, &e)
              || open_splice(&r, &e)
              || open_outputs(&r, &e);
    if (!failed) {
        print_header(&r);
        failed = measure_all(&r, &e) || finish(&r, &e);
    }
    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
