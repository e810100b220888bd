/* SPDX-License-Identifier: MIT */
/* product_tile.cu -- which tile makes a product of product_hopper.cu: all give the same bytes.
 *
 * Cycles are estimated for each. Where they are many, the few best are timed when a shape is first met, and the fastest
 * makes it from then on. */
#include "kernels/cuda/hopper_map.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/product_tile.h"

enum { CANDIDATES = 5, TIMED = 3, BUCKETS = 64, NAME = 32 };
static const double worth_timing = 12000, near = 2;     /* cycles, so that starting takes less; beside the least */
static const int64_t hold_bytes = 256 << 20;

/* ROWSxCOLUMNSxACROSSxDOWN, or that and xSPLIT, or several joined by +, to measure one tile or another, and to test
 * them. */
#define WISH "SDSTEER_CUDA_TILE"

/* ---- boxes of points ---- */

static int64_t parts(int64_t n, int log)
{
    return ((n - 1) >> log) + 1;
}

static int64_t images(const Product *p)
{
    return p->M/((int64_t)p->Ho*p->Wo);
}

Cover product_cover(const Product *p, int rows)
{
    int log = 0;
    while (1 << log < rows)
        log++;
    Cover best = {};
    for (int w = log; w >= 0; w--)
        for (int h = log - w; h >= 0; h--) {
            const Cover c = {w, h, log - w - h, parts(p->Wo, w), parts(p->Ho, h), parts(images(p), log - w - h)};
            if (best.images == 0 || c.across*c.down*c.images < best.across*best.down*best.images)
                best = c;
        }
    return best;
}

Cover product_part(Cover c, int parts)
{
    for (; parts > 1; parts /= 2) {
        int *const log = c.log_b ? &c.log_b : c.log_h ? &c.log_h : &c.log_w;
        (*log)--;
    }
    return c;
}

/* ---- estimates ---- */

typedef void Launch(const Product *p);
typedef struct Candidate {
    const ProductTile *tile;
    Launch *launch;
    double cycles;
} Candidate;

/* Whether sums are made of slices: long ones of images of 8x8 points and little more, since one image keeps 16 of 132
 * multiprocessors busy there, for as long as its chain of products takes. (At 16x16 it keeps 64 busy, and twice as many
 * would get what they multiply half as fast.) Not unasked: it has not been timed. */
static bool sliced(const Product *p)
{
#ifdef SIMT
    const int least_k = 600;
#else
    const int least_k = 5760;
#endif
    const int most_points = 100;
    return p->kernel > 1 && p->act == ACT_NONE && (int64_t)p->Ho*p->Wo <= most_points && p->K >= least_k
        && gpu_wished("SDSTEER_CUDA_KERNELS", "slices");
}

/* NULL where the tile does not make it. */
static Launch *launch_of(const ProductTile *t, const Product *p, DType x_type, DType y_type)
{
    const TileKernels *k = &t->of[x_type == F16];
    const int to = y_type == F32 ? 0 : y_type == x_type ? 1 : 2;
    if (product_columns(p->out, t->columns)%t->across)
        return NULL;
    if (sliced(p))
        return k->sliced[to];
    return p->act == ACT_GEGLU ? k->gated : p->act == ACT_NONE ? k->plain[to] : k->activated[to];
}

/* A step is bound by the tensor cores, or by what comes from the second-level cache, 38 bytes a cycle, or by waiting; a
 * tile's values go out at 16 bytes a cycle. (As an H100 has it.) */
static double cycles(const ProductTile *t, const Product *p, DType y_type)
{
    const Cover box = product_cover(p, t->rows);
    const double steps = ceil((double)p->kernel*p->kernel*product_columns(p->in, 64)/t->split);
    const int64_t row_tiles = (box.across*box.down*box.images + t->down - 1)/t->down*t->down;
    const double tiles = (double)row_tiles*product_columns(p->out, t->columns)*t->split;
    const double arithmetic = t->rows*t->columns*64/2048, brought = (t->rows/t->across + t->columns/t->down)*128/38;
    const double step = fmax(300, fmax(arithmetic, brought));
    /* clusters of four do not fill every group of multiprocessors: of 132 they have 120 */
    const int cluster = t->across*t->down*t->split;
    const int usable = cluster > 2 ? max(gpu_processors/11*10, cluster) : gpu_processors;
    const double handed = 1000*(t->split - 1), made = t->rows*t->columns*(double)dtype_size(y_type);
    return ceil(tiles/usable)*(steps*step + 500 + handed + made/16);
}

static void name_of(char name[NAME], const ProductTile *t)
{
    const int used = snprintf(name, NAME, "%dx%dx%dx%d", t->rows, t->columns, t->across, t->down);
    if (t->split > 1)
        snprintf(name + used, NAME - (size_t)used, "x%d", t->split);
}

/* The best by estimate first; how many. Those that are wished for alone, where one can be taken. */
static int candidates(Candidate best[CANDIDATES], const Product *p, DType x_type, DType y_type)
{
    char name[NAME];
    int count = 0;
    bool wished = false;                /* one of them is there */
    for (const ProductTile *t = product_tiles; t < product_tiles + product_tile_count; t++) {
        const Candidate c = {t, launch_of(t, p, x_type, y_type), cycles(t, p, y_type)};
        if (!c.launch)
            continue;
        name_of(name, t);
        const bool wish = gpu_wished(WISH, name);
        if (wished && !wish)
            continue;
        if (wish && !wished)
            count = 0;
        wished = wish;
        int at = count < CANDIDATES ? count++ : CANDIDATES;
        for (; at > 0 && best[at - 1].cycles > c.cycles; at--)
            if (at < CANDIDATES)
                best[at] = best[at - 1];
        if (at < CANDIDATES)
            best[at] = c;
    }
    while (count > 1 && best[count - 1].cycles > near*best[0].cycles)
        count--;
    return best[0].cycles < worth_timing ? 1 : count;
}

/* ---- times ---- */

/* The product of as many whole images, or rows of a linear layer, as hold_bytes hold; each: of a row. */
static Product less(const Product *p, int64_t each)
{
    const int64_t points = (int64_t)p->Ho*p->Wo, fit = hold_bytes/(each*points);
    Product part = *p;
    if (points == p->M && p->Ho == 1) {
        part.M = p->M < hold_bytes/each ? p->M : hold_bytes/each;
        part.W = part.Wo = (int)part.M;
    } else if (fit < images(p)) {
        part.M = points*(fit ? fit : 1);
    }
    return part;
}

/* Milliseconds. What would be added to y is added to what lies elsewhere, a part where it is much. */
static float time_of(const Candidate *c, const Product *p, DType y_type)
{
    const int64_t each = p->out*(int64_t)dtype_size(y_type);
    Product timed = *p;
    if (p->add) {
        timed = less(p, each);
        timed.y = gpu_scratch(SCRATCH_LIBRARY, (size_t)(timed.M*each));
    }
    const float ms = gpu_milliseconds(TIMED, [&] { c->launch(&timed); });
    return ms*(float)p->M/(float)timed.M;
}

static Launch *fastest(const Product *p, DType x_type, DType y_type)
{
    Candidate c[CANDIDATES];
    const int count = candidates(c, p, x_type, y_type);
    int best = 0;
    float least = INFINITY;
    char times[CANDIDATES*2*NAME] = "", name[NAME];
    for (int i = 0; i < count && count > 1; i++) {
        const float ms = time_of(&c[i], p, y_type);
        const size_t used = strlen(times);
        if (ms < least) {
            least = ms;
            best = i;
        }
        name_of(name, c[i].tile);
        snprintf(times + used, sizeof times - used, ", %s %.1f us", name, 1e3*ms);
    }
    if (count > 1)
        library_trace("product %d-%d k%d %dx%d %s-%s act %d%s, %ld images: %.0f TFLOP/s%s", p->in, p->out, p->kernel,
                      p->Ho, p->Wo, dtype_name(x_type), dtype_name(y_type), p->act, p->add ? " added" : "",
                      (long)images(p), 2e-9*(double)p->M*p->out*p->K/least, times);
    return c[best].launch;
}

/* ---- shapes that were met ---- */

typedef struct Shape {                  /* without gaps: compared as bytes */
    int64_t M;
    int in, out, kernel, pad, H, W, Ho, Wo, act, add, x_type, y_type, sliced, zero;
} Shape;
static_assert(sizeof(Shape) == 8 + 14*4, "no gaps");

typedef struct Known {
    Shape shape;
    Launch *launch;
    struct Known *next;
} Known;

static unsigned bucket_of(const Shape *s)
{
    return (unsigned)(s->M*31 + s->in*7 + s->out*3 + s->kernel + s->W + s->act + s->add)%BUCKETS;
}

bool product_hopper_takes(const ConvSpec *s)
{
    return hopper_wanted("product") && s->x_type != F32 && s->stride == 1 && s->out%8 == 0
        && (s->y_type == F32 || s->y_type == s->x_type || (s->y_type == F16 && s->act == ACT_NONE))
        && (s->act != ACT_GEGLU || (s->y_type != F32 && s->out%16 == 0));
}

/* What was found is forgotten when other tiles are wished for. */
static void forget(Known *known[BUCKETS])
{
    static char last[256];
    const char *wish = getenv(WISH);
    if (strncmp(last, wish ? wish : "", sizeof last - 1) == 0)
        return;
    snprintf(last, sizeof last, "%s", wish ? wish : "");
    for (int i = 0; i < BUCKETS; i++)
        while (known[i]) {
            Known *const k = known[i];
            known[i] = k->next;
            free(k);
        }
}

void product_hopper(const Product *p, DType x_type, DType y_type)
{
    static Known *known[BUCKETS];
    forget(known);
    const Shape shape = {p->M, p->in, p->out, p->kernel, p->pad, p->H, p->W, p->Ho, p->Wo, p->act, p->add, x_type,
                         y_type, sliced(p), 0};
    Known **const at = &known[bucket_of(&shape)], *k = *at;
    while (k && memcmp(&k->shape, &shape, sizeof shape) != 0)
        k = k->next;
    if (k) {
        k->launch(p);
        return;
    }
    Launch *const launch = fastest(p, x_type, y_type);
    launch(p);
    if ((k = (Known *)malloc(sizeof *k))) {
        *k = {shape, launch, *at};
        *at = k;
    }
}
