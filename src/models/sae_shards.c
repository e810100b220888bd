/* SPDX-License-Identifier: MIT */
/* sae_shards.c -- a trainer's part of the features, what it exchanges with the other ranks, and rank 0's orders. */
#include <stdlib.h>
#include <string.h>
#include "src/models/sae_shards.h"
#include "src/models/sae_trainer.h"

/* ---- parts ---- */

const char *shards_refuse(const TrainOptions *o)
{
    if (o->variant != VARIANT_TOPK)
        return sae_variant_name(o->variant);
    return o->multi ? "multi" : o->labels > 0 ? "labels" : NULL;
}

static int first_of(const Trainer *t, int rank)
{
    return (int)((int64_t)t->all_features*rank/team_ranks(t->options.team));
}

int trainer_take_shard(Trainer *t, Err *e)
{
    TrainOptions *o = &t->options;
    static int created;
    t->all_features = o->F;
    if (!o->team)
        return 0;
    t->number = created++;
    trainer_order(t, ORDER_CREATE);
    const char *what = shards_refuse(o);
    if (what)
        return err_set(e, "%s is not trained in shards", what);
    const int ranks = team_ranks(o->team), rank = team_rank(o->team);
    if (o->K > o->F/ranks)
        return err_set(e, "%d features kept of the %d that each of %d devices has cannot be", o->K, o->F/ranks, ranks);
    t->first_feature = first_of(t, rank);
    o->F = first_of(t, rank + 1) - t->first_feature;
    return 0;
}

/* ---- memory that all ranks see: the same spaces in each, in the same order ---- */

typedef struct Space { char *at; size_t bytes; } Space;

static struct { Space *space; int count; } spaces;

static void *add_space(size_t bytes, Err *e)
{
    Space *more = realloc(spaces.space, sizeof *more*(size_t)(spaces.count + 1));
    if (!more) {
        err_set(e, "out of memory");
        return NULL;
    }
    spaces.space = more;
    spaces.space[spaces.count] = (Space){op->comm.share_host(bytes, e), bytes};
    return spaces.space[spaces.count].at ? spaces.space[spaces.count++].at : NULL;
}

/* Of the space that x is in; -1: of none */
static int space_of(const void *x)
{
    for (int s = 0; s < spaces.count; s++)
        if ((uintptr_t)x - (uintptr_t)spaces.space[s].at < spaces.space[s].bytes)
            return s;
    return -1;
}

int trainer_need_exchange(Trainer *t, Err *e)
{
    const TrainOptions *o = &t->options;
    if (!o->team)
        return 0;
    const size_t list = (size_t)o->batch*(size_t)(o->K > t->K_aux ? o->K : t->K_aux);
    t->room_bytes = sizeof(float)*(size_t)o->batch*(size_t)o->D;
    if (t->room_bytes < sizeof(int64_t))
        t->room_bytes = sizeof(int64_t);
    return (t->room = add_space(t->room_bytes, e))
        && (t->all_a = trainer_memory(t, sizeof(float)*list*(size_t)team_ranks(o->team), e)) ? 0 : -1;
}

bool trainer_leads(const Trainer *t)
{
    return !t->options.team || team_rank(t->options.team) == 0;
}

/* ---- in a step ---- */

void trainer_keep(Trainer *t, float *a, const int64_t *features, int64_t N, int keep)
{
    const int rank = team_rank(t->options.team), ranks = team_ranks(t->options.team);
    int K[TEAM_MOST], most = 0;
    for (int r = 0; r < ranks; r++) {
        K[r] = features && features[r] < keep ? (int)features[r] : keep;
        most = K[r] > most ? K[r] : most;
    }
    op->comm.all_gather(t->all_a, a, sizeof *a*(size_t)N*(size_t)most);
    if (K[rank] > 0)
        op->sae.keep_of_all(a, t->all_a, N*most, K, rank, ranks, N, keep);
}

void trainer_sum_floats(const Trainer *t, float *x, int64_t n)
{
    if (t->options.team)
        op->comm.sum_floats(x, n);
}

void trainer_sum_doubles(const Trainer *t, double *x, int64_t n)
{
    if (t->options.team)
        op->comm.sum_doubles(x, n);
}

int64_t trainer_gather(const Trainer *t, int64_t *of, int64_t mine)
{
    int64_t sum = 0;
    if (!t->options.team)
        return of[0] = mine;
    team_gather(t->options.team, of, mine);
    for (int r = 0; r < team_ranks(t->options.team); r++)
        sum += of[r];
    return sum;
}

void trainer_tell(const Trainer *t, void *value, size_t bytes)
{
    if (t->options.team)
        team_broadcast(t->options.team, value, bytes);
}

/* Through the room, some rows at a time, rank after rank. */
void trainer_pass_rows(const Trainer *t, void *all, void *mine, size_t bytes, bool device, bool to_all)
{
    Team *team = t->options.team;
    const int rank = team_rank(team);
    const size_t most = t->room_bytes/bytes;
    for (int r = 0; r < team_ranks(team); r++) {
        const size_t first = (size_t)first_of(t, r), rows = (size_t)first_of(t, r + 1) - first;
        for (size_t at = 0; at < rows; at += most) {
            const size_t n = bytes*(rows - at < most ? rows - at : most);
            char *here = (char *)mine + at*bytes, *there = rank == 0 ? (char *)all + (first + at)*bytes : NULL;
            const void *from = to_all ? here : there;
            if (to_all && device && rank == r)
                op->download(t->room, from, n);
            else if (rank == (to_all ? r : 0))
                memcpy(t->room, from, n);
            team_barrier(team);
            if (!to_all && device && rank == r)
                op->upload(here, t->room, n);
            else if (rank == (to_all ? 0 : r))
                memcpy(to_all ? there : here, t->room, n);
            team_barrier(team);
        }
    }
}

/* ---- orders ---- */

typedef struct Order {
    ShardOrder what;
    int trainer;                    /* by order of creation */
    TrainOptions options;           /* create */
    int space;                      /* step: x is there, */
    size_t bytes;                   /* so far into it; space: how large */
    int64_t N;
    double rate;
} Order;

static void give(Team *team, Order o)
{
    team_broadcast(team, &o, sizeof o);
}

void trainer_order(const Trainer *t, ShardOrder what)
{
    if (t->options.team && trainer_leads(t))
        give(t->options.team, (Order){.what = what, .trainer = t->number, .options = t->options});
}

const float *trainer_order_step(Trainer *t, const float *x, int64_t N, double rate)
{
    if (!t->options.team || !trainer_leads(t))
        return x;
    if (space_of(x) < 0)
        x = memcpy(t->room, x, sizeof *x*(size_t)N*(size_t)t->options.D);
    const int space = space_of(x);
    give(t->options.team, (Order){.what = ORDER_STEP, .trainer = t->number, .space = space,
                                  .bytes = (uintptr_t)x - (uintptr_t)spaces.space[space].at, .N = N, .rate = rate});
    return x;
}

void *shards_space(Team *team, size_t bytes, Err *e)
{
    give(team, (Order){.what = ORDER_SPACE, .bytes = bytes});
    return add_space(bytes, e);
}

void shards_end(Team *team)
{
    give(team, (Order){.what = ORDER_END});
}

typedef struct Served { Trainer **trainer; int count; } Served;

static int create(Served *s, Order *o, Team *team, Err *e)
{
    Trainer **more = realloc(s->trainer, sizeof *more*(size_t)(s->count + 1));
    if (!more)
        return err_set(e, "out of memory");
    s->trainer = more;
    o->options.team = team;
    return trainer_create(&s->trainer[s->count++], &o->options, e);
}

static int obey(Served *s, Order *o, Team *team, Err *e)
{
    TrainStep step;
    Sae *none;
    Trainer *t = o->what == ORDER_CREATE || o->what == ORDER_SPACE ? NULL : s->trainer[o->trainer];
    const void *x = o->what == ORDER_STEP ? spaces.space[o->space].at + o->bytes : NULL;
    switch (o->what) {
    case ORDER_SPACE:   return add_space(o->bytes, e) ? 0 : -1;
    case ORDER_CREATE:  return create(s, o, team, e);
    case ORDER_START:   return trainer_start(t, NULL, 0, e);
    case ORDER_STEP:    return trainer_step(t, x, NULL, o->N, o->rate, &step, e);
    case ORDER_EXPORT:  return trainer_export(t, &none, e);
    case ORDER_STORE:   return trainer_store(t, NULL, NULL, e);
    case ORDER_RESTORE: return trainer_restore(t, NULL, NULL, e);
    case ORDER_END:     break;
    }
    return 0;
}

int shards_serve(Team *team, Err *e)
{
    Served s = {0};
    Order o;
    int failed = 0;
    do {
        team_broadcast(team, &o, sizeof o);
        failed = o.what == ORDER_END ? 0 : obey(&s, &o, team, e);
    } while (!failed && o.what != ORDER_END);
    for (int j = 0; j < s.count; j++)
        trainer_free(s.trainer[j]);
    free(s.trainer);
    return failed ? -1 : 0;
}
