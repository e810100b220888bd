/* SPDX-License-Identifier: MIT */
/* sd-encode-image.c -- pictures to embeddings, by CLIP's image tower or other networks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/cli/compute.h"
#include "src/models/labels.h"
#include "src/models/picture_net.h"
#include "src/models/picture_source.h"

enum { BATCH = 32, NETS = STREAM_MAX_TENSORS / 2 };

typedef struct Config {
    Common c;
    List nets;
    int64_t heads;
    int normalize;
} Config;

static const Opt options[] = {
    MODEL_OPTIONS,
    {0, "net", OPT_LIST, offsetof(Config, nets), NULL,
     "FILE  a judge's network in place of CLIP, safetensors (minisd's: data/minisd/judge.safetensors), or a vision "
     "transformer, safetensors or torch's .pth; KIND=FILE: one that tells the labels of a kind; again for more",
     OPT_NEUTRAL},
    {0, "heads", OPT_INT, offsetof(Config, heads), NULL,
     "N  heads of a vision transformer's attention, where they are not 64 wide", 0},
    {0, "normalize", OPT_FLAG, offsetof(Config, normalize), NULL, "embeddings of length 1", 0},
    COMPUTE_OPTIONS, STREAM_OPTIONS, COMMON_OPTIONS,
    {0}
};

static const Cli cli = {
    "sd-encode-image", "Encode pictures into embeddings, with CLIP's image tower or other networks.", options,
    "[FILE|FOLDER...]",
    "Reads images streams (no operand, or -, is standard input), PNG and JPEG files, and folders, whose files are "
    "taken in the order of their names, subfolders too, but for names that begin with a dot. Writes an embeddings "
    "stream: of each picture its fields and its embedding [P], the projected class token. The fields of a PNG file are "
    "its text chunks as sd-steer and sd-decode write them; a file's id, where it has none, is its path within the "
    "folder, without its ending.\n"
    "CLIP is the folder clip/ of the model (a CLIPModel). Pictures are resized (short side, bicubic) and cropped in "
    "the centre as CLIP wants them, and take the means and deviations of clip/preprocessor_config.json where there is "
    "one. With --net another network describes them instead. A plain convolutional one (its features, for "
    "a classifier trained on them) takes pictures of its own size only. A vision transformer as timm saves it "
    "(vit_large_patch16_224 and its like: one class token, layers with biases; in a .pth the dict model_state_dict, "
    "state_dict or model, or the file's own; nothing in it is run) takes any, stretched to its size by Pillow's "
    "bilinear, colours from -1 to 1; its embedding is the class token that its head takes.\n"
    "With KIND=FILE, where several networks may be given, each picture is described by all of them in one pass: KIND."
    "embedding [P] and, of a network with a head, KIND.logits [n], which sd-evaluate --names takes. Memory does not "
    "depend on the number of pictures.",
    "# embeddings of a folder of pictures\n"
    "sd-encode-image pictures/ -o embeddings.mpk.zst\n"
    "# straight from the sampler into the evaluation\n"
    "sd-steer --sae sae/ --ranks ranks.mpk.zst --concept Fishes conditioning.mpk.zst |\n"
    "  sd-encode-image --net data/minisd/judge.safetensors | sd-evaluate\n"
    "# by UnlearnCanvas's classifiers of styles and objects\n"
    "sd-encode-image --net theme=style50.pth --net concept=style50_cls.pth pictures/ -o classified.mpk.zst"
};

typedef struct Net {
    PictureNet *net;
    char kind[24];                  /* empty: its embedding is the record's */
    char embedding_name[40], logits_name[40];
    uint8_t *prepared;              /* [BATCH] pictures as it takes them */
    float *embedding, *logits;      /* [BATCH][P], [BATCH][classes] or NULL */
} Net;

typedef struct Run {
    const Config *cfg;
    Compute compute;
    Net net[NETS];
    int nets;
    PictureSource *source;
    StreamOut *out;
    Progress *progress;
    Record record[BATCH];           /* fields of the pictures that wait */
    int waiting;
    long written;
} Run;

/* Room for the batch, and the names of its tensors. */
static int finish_net(Net *n, Err *e)
{
    const size_t P = (size_t)picture_net_width(n->net), classes = (size_t)picture_net_classes(n->net);
    snprintf(n->embedding_name, sizeof n->embedding_name, "%s%sembedding", n->kind, *n->kind ? "." : "");
    snprintf(n->logits_name, sizeof n->logits_name, "%s.logits", n->kind);
    n->prepared = malloc(BATCH * picture_net_bytes(n->net));
    n->embedding = malloc(BATCH * P * sizeof *n->embedding);
    n->logits = *n->kind && classes ? malloc(BATCH * classes * sizeof *n->logits) : NULL;
    return n->prepared && n->embedding && (n->logits || !*n->kind || !classes) ? 0 : err_set(e, "out of memory");
}

static int open_nets(Run *r, Err *e)
{
    const List *list = &r->cfg->nets;
    bool heads = false;             /* some network takes --heads */
    if (!list->count) {
        r->nets = 1;
        return picture_net_clip(&r->net[0].net, r->compute.model, r->compute.type, e) || finish_net(&r->net[0], e);
    }
    for (int i = 0; i < list->count; i++) {
        Net *n = &r->net[r->nets++];
        const char *path = label_kind(list->items[i], n->kind);
        if (picture_net_open(&n->net, path ? path : list->items[i], (int)r->cfg->heads, r->compute.type, e)
            || finish_net(n, e))
            return -1;
        heads |= picture_net_heads(n->net);
    }
    return !r->cfg->heads || heads ? 0
         : err_misuse(e, "--heads is of a vision transformer's attention, and --net names none");
}

/* --net is what it should be: misuse otherwise. */
static void check_nets(const Config *cfg)
{
    char kind[NETS][24];
    if (cfg->nets.count > NETS)
        cli_misuse(&cli, "--net: %d networks, at most %d describe a picture in one pass", cfg->nets.count, NETS);
    for (int i = 0; i < cfg->nets.count; i++) {
        const char *path = label_kind(cfg->nets.items[i], kind[i]);
        if (!path)
            *kind[i] = 0;
        else if (!*path)
            cli_misuse(&cli, "--net %s: the name is empty", cfg->nets.items[i]);
        for (int j = 0; j < i; j++)
            if (strcmp(kind[i], kind[j]) == 0)
                cli_misuse(&cli, *kind[i] ? "--net: two networks for %s" : "--net: two networks%s without a kind: give "
                           "KIND=FILE", kind[i]);
    }
    if (cfg->heads < 0 || cfg->heads > 1 << 16)
        cli_misuse(&cli, "--heads is %lld, expected 1 to %d", (long long)cfg->heads, 1 << 16);
    if (cfg->heads && !cfg->nets.count)
        cli_misuse(&cli, "--heads is of a vision transformer's attention: give --net FILE");
}

static int open_stream(Run *r, Err *e)
{
    const StreamOptions o = cli_stream_options(&r->cfg->c);
    json_t *provenance = picture_source_provenance(r->source);
    char model[NETS * 300];
    size_t used = 0;
    Record header;
    for (int i = 0; i < r->nets; i++)
        used += (size_t)snprintf(model + used, sizeof model - used, "%s%s%s%s", i ? ", " : "", r->net[i].kind,
                                 *r->net[i].kind ? "=" : "", picture_net_id(r->net[i].net));
    json_array_append_new(provenance, cli_provenance(&cli));
    record_init(&header, "embeddings");
    record_set_text(&header, "model", model);
    record_set_json(&header, "provenance", provenance);
    const int failed = stream_create(&r->out, r->cfg->c.output, &header, &o, e);
    record_clear(&header);
    return failed;
}

static void normalize(float *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)y[i] * y[i];
    for (int i = 0; i < n && sum > 0; i++)
        y[i] = (float)(y[i] / sqrt(sum));
}

static int embed(Net *n, int count, bool to_length_1, Err *e)
{
    const int P = picture_net_width(n->net);
    if (picture_net_embed(n->net, n->prepared, count, n->embedding, n->logits, e))
        return -1;
    for (int i = 0; i < count && to_length_1; i++)
        normalize(n->embedding + (size_t)i * P, P);
    return 0;
}

/* Adds what a network says of picture i of the batch to its record. */
static int add_tensors(Record *rec, const Net *n, int i, Err *e)
{
    const int64_t P = picture_net_width(n->net), classes = picture_net_classes(n->net);
    const float *y = n->embedding + i * P, *z = n->logits ? n->logits + i * classes : NULL;
    if (!dtype_finite(y, F32, (size_t)P) || (z && !dtype_finite(z, F32, (size_t)classes)))
        return err_set(e, "the %s of %s is no number: values leave the range of --dtype", n->embedding_name,
                       record_text(rec, "id", "a picture"));
    record_add_tensor(rec, n->embedding_name, F32, 1, &P, y);
    if (z)
        record_add_tensor(rec, n->logits_name, F32, 1, &classes, z);
    return 0;
}

/* Encodes and writes the pictures that wait. */
static int write_batch(Run *r, Err *e)
{
    int failed = 0;
    for (int n = 0; n < r->nets && r->waiting && !failed; n++)
        failed = embed(&r->net[n], r->waiting, r->cfg->normalize, e);
    for (int i = 0; i < r->waiting; i++) {
        for (int n = 0; n < r->nets && !failed; n++)
            failed = add_tensors(&r->record[i], &r->net[n], i, e);
        failed = failed || stream_write(r->out, &r->record[i], e);
        record_clear(&r->record[i]);
    }
    r->written += r->waiting;
    r->waiting = 0;
    progress_set(r->progress, r->written);
    return failed ? -1 : 0;
}

/* Puts a picture with its fields in the queue; both are copied. */
static int add_picture(Run *r, const Picture *p, Err *e)
{
    char where[4200];
    for (int i = 0; i < r->nets; i++) {
        Net *n = &r->net[i];
        const int side = picture_net_side(n->net);
        if (side && (p->H != side || p->W != side))
            return err_set(e, "%s: the picture is %d x %d, the network takes %d x %d",
                           picture_source_where(r->source, where, sizeof where), p->W, p->H, side, side);
        if (picture_net_prepare(n->net, n->prepared + r->waiting * picture_net_bytes(n->net), p->rgb, p->H, p->W, e))
            return -1;
    }
    record_init(&r->record[r->waiting], NULL);
    record_copy_fields(&r->record[r->waiting], &p->record);
    r->waiting++;
    return r->waiting == BATCH ? write_batch(r, e) : 0;
}

static int encode_all(Run *r, Err *e)
{
    Picture p;
    int got;
    r->progress = progress_start(&cli, "pictures", 0);
    while ((got = picture_source_next(r->source, &p, e)) > 0)
        if (add_picture(r, &p, e))
            return -1;
    return got || write_batch(r, e);
}

static void release(Run *r)
{
    progress_end(r->progress);
    stream_abandon(r->out);
    picture_source_close(r->source);
    for (int i = 0; i < r->waiting; i++)
        record_clear(&r->record[i]);
    for (int i = 0; i < r->nets; i++) {
        picture_net_free(r->net[i].net);
        free(r->net[i].prepared);
        free(r->net[i].embedding);
        free(r->net[i].logits);
    }
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Run r = {.cfg = &cfg};
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_nets(&cfg);

    int failed = compute_start(&r.compute, &cfg.c, &e)
              || open_nets(&r, &e)
              || picture_source_open(&r.source, cfg.c.inputs.items, cfg.c.inputs.count, &e)
              || open_stream(&r, &e)
              || encode_all(&r, &e)
              || stream_finish(r.out, &e);

    release(&r);
    return failed ? cli_report(&cli, &e) : 0;
}
