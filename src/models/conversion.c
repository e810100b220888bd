/* SPDX-License-Identifier: MIT */
/* conversion.c -- where each tensor comes from, and its way into the new folder. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "formats/aside.h"
#include "formats/gguf_types.h"
#include "src/models/conversion.h"
#include "src/models/model_check.h"
#include "src/models/pipeline.h"

static const char *const written[PARTS] = {
    "unet/diffusion_pytorch_model.safetensors", "transformer/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "text_encoder_2/model.safetensors",
    "text_encoder_3/model.safetensors",
};

/* ---- opening ---- */

static int open_files(Conversion *c, Err *e)
{
    static const bool vae_alone[PARTS] = {[PART_VAE] = true};
    bool taken[PARTS] = {0};
    if (c->o.vae && single_file_open(&c->vae, c->o.vae, c->v, c->part, vae_alone, false, e))
        return -1;
    if (c->o.checkpoint && single_file_open(&c->checkpoint, c->o.checkpoint, c->v, c->part, c->has, c->o.ema, e))
        return -1;
    for (int p = 0; p < PARTS; p++) {
        const SingleFile *f = p == PART_VAE && c->o.vae ? &c->vae : &c->checkpoint;
        if (!c->has[p])
            continue;
        c->source[p] = f->source[p];
        c->from_base[p] = !f->source[p].files;
        taken[p] = f == &c->checkpoint;
    }
    if (c->o.vae && single_file_check(&c->vae, c->v, c->part, vae_alone, e))
        return -1;
    return c->o.checkpoint && (single_file_check(&c->checkpoint, c->v, c->part, taken, e)
                               || single_file_check_scheduler(&c->checkpoint, c->o.base, e)) ? -1 : 0;
}

/* Shapes and types of a part's tensors. */
static int check_part(const Conversion *c, int p, Err *e)
{
    Found found;
    for (size_t i = 0; i < c->v[p].count; i++)
        if (source_need(&c->source[p], &c->v[p].item[i], &found, e))
            return -1;
    return 0;
}

static int open_base(Conversion *c, int p, Err *e)
{
    Part *part = &c->part[p];
    if (part_open_weights(part, e))
        return -1;
    source_find(&c->source[p], &c->v[p], part->files, part->count);
    return c->source[p].files ? 0
        : err_set(e, "%s: holds none of the tensors that its config.json asks for", part->path);
}

/* What the base is made of. */
static int open_configs(Conversion *c, Err *e)
{
    const char *folder[PARTS], *file[PARTS];
    Pipeline pipeline;
    int parts = 0;
    if (pipeline_read(&pipeline, c->o.base, e))
        return -1;
    for (int p = 0; p < PARTS; p++) {
        if (!(c->has[p] = inventory_wants(&pipeline, (PartKind)p)))
            continue;
        folder[parts] = part_folders[p];
        file[parts++] = written[p];
    }
    if (model_folder_plan(&c->folder, c->o.base, folder, file, parts, e))
        return -1;
    for (int p = 0; p < PARTS; p++)
        if (c->has[p] && (part_open_config(&c->part[p], c->o.base, part_folders[p], e)
                          || inventory_read(&c->v[p], (PartKind)p, &pipeline, &c->part[p], e)))
            return -1;
    return 0;
}

int conversion_open(Conversion *c, const ConversionOptions *o, Err *e)
{
    *c = (Conversion){.o = *o};
    if (open_configs(c, e) || open_files(c, e))
        return -1;
    for (int p = 0; p < PARTS; p++)
        if (c->has[p] && ((c->from_base[p] && open_base(c, p, e)) || check_part(c, p, e)))
            return -1;
    if (loras_begin(&c->loras, c->v, e))
        return -1;
    for (int i = 0; i < o->loras; i++)
        if (loras_add(&c->loras, c->v, o->lora[i], o->strength[i], e))
            return -1;
    return 0;
}

size_t conversion_count(const Conversion *c)
{
    size_t n = 0;
    for (int p = 0; p < PARTS; p++)
        n += c->v[p].count;
    return n;
}

void conversion_free(Conversion *c)
{
    loras_free(&c->loras);
    single_file_close(&c->checkpoint);
    single_file_close(&c->vae);
    for (int p = 0; p < PARTS; p++) {
        inventory_free(&c->v[p]);
        part_close(&c->part[p]);
    }
    model_folder_free(&c->folder);
}

/* ---- writing ---- */

typedef struct Room { void *data; size_t size; } Room;

typedef struct Writing {
    const Conversion *c;
    int part;
    Weight *tensor;                 /* as they will be, without data */
    Found *found;
    const Delta **delta;
    size_t count;
    Room room, ordered, unpacked;   /* one tensor as it is written, in the order of its values, and as it is read */
    void (*done)(void *context, size_t n);
    void *context;
    size_t *written;                /* of all parts */
} Writing;

/* f32 in pieces to the type that is written. */
static void convert(char *y, DType type, const Weight *w)
{
    enum { PIECE = 4096 };
    float x[PIECE];
    const size_t n = weight_count(w), size = dtype_size(w->type), y_size = dtype_size(type);
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t k = n - i < PIECE ? n - i : PIECE;
        dtype_to_f32(x, (const char *)w->data + i*size, w->type, k);
        dtype_from_f32(y + i*y_size, type, x, k);
    }
}

static int need_room(Room *r, const Weight *w, Err *e)
{
    const size_t bytes = weight_count(w)*dtype_size(w->type);
    if (bytes <= r->size)
        return 0;
    free(r->data);
    r->data = malloc(bytes);
    r->size = r->data ? bytes : 0;
    return r->data ? 0 : err_set(e, "out of memory for tensor %s, %zu bytes", w->name, bytes);
}

/* The values of w's blocks, as f32, into r. */
static int unpack(Weight *w, Room *r, Err *e)
{
    const GgufType *t = w->blocks;
    w->blocks = NULL;
    w->type = F32;
    if (need_room(r, w, e))
        return -1;
    gguf_unpack(r->data, t, w->data, weight_count(w));
    w->data = r->data;
    return 0;
}

/* The data of w (out,in), which lie as (in,out), into r. */
static int turn(Weight *w, Room *r, Err *e)
{
    if (need_room(r, w, e))
        return -1;
    const size_t size = dtype_size(w->type), rows = (size_t)w->dim[0], columns = (size_t)w->dim[1];
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; i < columns; i++)
            memcpy((char *)r->data + (o*columns + i)*size, (const char *)w->data + (i*rows + o)*size, size);
    w->data = r->data;
    return 0;
}

/* The data of w with the two halves of its rows the other way round, into r. */
static int swap(Weight *w, Room *r, Err *e)
{
    if (need_room(r, w, e))
        return -1;
    const size_t half = weight_bytes(w)/2;
    memcpy(r->data, (const char *)w->data + half, half);
    memcpy((char *)r->data + half, w->data, half);
    w->data = r->data;
    return 0;
}

/* The identity as w's data, in r. */
static int make_identity(Weight *w, Room *r, Err *e)
{
    if (need_room(r, w, e))
        return -1;
    float *y = r->data;
    for (int64_t i = 0; i < w->dim[0]*w->dim[1]; i++)
        y[i] = i/w->dim[1] == i%w->dim[1];
    w->data = y;
    return 0;
}

/* Where the values of a tensor are, all of them numbers. */
static int read_values(Writing *g, const Found *found, Weight *w, Err *e)
{
    *w = found->w;
    if ((!w->data && make_identity(w, &g->unpacked, e)) || (w->blocks && unpack(w, &g->unpacked, e))
        || weights_finite(found->in, w, e) || (found->turned && turn(w, &g->ordered, e)))
        return -1;
    return found->swapped ? swap(w, &g->ordered, e) : 0;
}

static const void *tensor_data(void *context, size_t i, Err *e)
{
    Writing *g = context;
    const Weight *to = &g->tensor[i];
    Weight from;
    if (read_values(g, &g->found[i], &from, e))
        return NULL;
    if (g->done)
        g->done(g->context, ++*g->written);
    if (!g->delta[i] && to->type == from.type)
        return from.data;
    if (need_room(&g->room, to, e))
        return NULL;
    if (!g->delta[i])
        convert(g->room.data, to->type, &from);
    else if (lora_apply(g->room.data, to->type, &from, g->delta[i], e))
        return NULL;
    if (dtype_finite(g->room.data, to->type, weight_count(to)))
        return g->room.data;
    err_set(e, "%s: tensor %s: a value that %s does not hold%s", weights_path(g->found[i].in), from.name,
            dtype_name(to->type), g->delta[i] ? ", after what the LoRA adds" : "");
    return NULL;
}

/* Fills the lists; an optional tensor that is not there is left out. */
static int list_tensors(Writing *g, Err *e)
{
    const Inventory *v = &g->c->v[g->part];
    for (size_t i = 0; i < v->count; i++) {
        Found found;
        char *name;
        if (source_need(&g->c->source[g->part], &v->item[i], &found, e))
            return -1;
        if (!found.w.name)
            continue;
        if (asprintf(&name, "%s%s", v->item[i].outside ? "" : part_prefixes[g->part],
                     v->item[i].name[NAMES_DIFFUSERS]) < 0)
            return err_set(e, "out of memory");
        g->found[g->count] = found;
        g->delta[g->count] = g->c->loras.first[g->part][i];
        g->tensor[g->count] = found.w;
        g->tensor[g->count].name = name;
        g->tensor[g->count].blocks = NULL;
        if (!found.w.data && g->count)
            g->tensor[g->count].type = g->tensor[g->count - 1].type;        /* the identity, in its neighbours' */
        if (g->c->o.type >= 0)
            g->tensor[g->count].type = (DType)g->c->o.type;
        g->count++;
    }
    return 0;
}

static int write_part(Writing *g, const char *folder, const json_t *metadata, Err *e)
{
    const size_t most = g->c->v[g->part].count + 1;
    char *path = NULL;
    g->tensor = calloc(most, sizeof *g->tensor);
    g->found = calloc(most, sizeof *g->found);
    g->delta = calloc(most, sizeof *g->delta);
    int failed = !g->tensor || !g->found || !g->delta || asprintf(&path, "%s/%s", folder, written[g->part]) < 0
               ? err_set(e, "out of memory") : 0;
    failed = failed || list_tensors(g, e)
          || weights_write_each(path, g->tensor, g->count, metadata, tensor_data, g, e);
    for (size_t i = 0; i < g->count; i++)
        free((char *)g->tensor[i].name);
    free(g->tensor);
    free(g->found);
    free(g->delta);
    free(g->room.data);
    free(g->ordered.data);
    free(g->unpacked.data);
    free(path);
    return failed;
}

/* -1 where dir is there, and no empty folder. */
static int check_free(const char *dir, Err *e)
{
    struct stat st;
    struct dirent **list;
    if (stat(dir, &st))
        return errno == ENOENT ? 0 : err_set(e, "%s: %s", dir, strerror(errno));
    const int n = S_ISDIR(st.st_mode) ? scandir(dir, &list, NULL, NULL) : 0;
    if (n < 0)
        return err_set(e, "%s: the folder cannot be read: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++)
        free(list[i]);
    if (n)
        free(list);
    return n == 2 ? 0 : err_set(e, "%s: is there already, and is no empty folder", dir);
}

int conversion_write(const Conversion *c, const char *dir, const json_t *metadata,
                     void (*done)(void *context, size_t n), void *context, Err *e)
{
    size_t count = 0;
    if (check_free(dir, e))
        return -1;
    AsideFolder *f = aside_folder(dir, (const char *const *)c->folder.file, c->folder.files, e);
    if (!f)
        return -1;
    const char *part = aside_folder_part(f);
    int failed = model_folder_copy(&c->folder, part, e);
    for (int p = 0; p < PARTS && !failed; p++) {
        if (!c->has[p])
            continue;
        Writing g = {.c = c, .part = p, .done = done, .context = context, .written = &count};
        failed = write_part(&g, part, metadata, e);
    }
    if (!failed && model_check(part, e) == 0)
        return aside_folder_commit(f, e);
    if (!failed)                            /* what is wrong came from the base: part goes */
        err_move(e, part, c->o.base);
    aside_folder_abandon(f);
    return -1;
}
