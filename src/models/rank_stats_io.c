/* SPDX-License-Identifier: MIT */
/* rank_stats_io.c -- statistics as a stream: one record a label and timestep, added up when they are read. */
#include <string.h>
#include "src/models/rank_stats.h"
#include "src/models/record_origin.h"

static const char *const names[STATS] = {"sum", "square", "active", "present"};

int rank_stats_write(const RankStats *s, StreamOut *out, Err *e)
{
    for (size_t i = 0; i < s->cells; i++) {
        const RankCell *c = s->cell[i];
        Record rec;
        record_init(&rec, NULL);
        record_set_text(&rec, "kind", s->kind[c->kind]);
        record_set_text(&rec, "label", c->label);
        record_set_int(&rec, "t", c->t);
        record_set_int(&rec, "tokens", c->tokens);
        record_set_int(&rec, "pictures", c->pictures);
        for (int j = 0; j < STATS; j++)
            record_add_tensor(&rec, names[j], I64, 1, (int64_t[]){s->F}, c->stat[j]);
        int failed = stream_write(out, &rec, e);
        record_clear(&rec);
        if (failed)
            return -1;
    }
    return 0;
}

static int find_kind(const RankStats *s, const char *kind)
{
    for (int k = 0; k < s->kinds; k++)
        if (strcmp(s->kind[k], kind) == 0)
            return k;
    return -1;
}

/* Numbers that could not come of a sum of activations are refused: they would turn into scores unseen. */
static int check_part(const StreamIn *in, const Record *rec, const RankCell *part, int F, Err *e)
{
    if (part->tokens < 1 || part->pictures < 1)
        return err_set(e, "%s: record %ld: statistics of %lld tokens and %lld pictures", stream_name(in), rec->number,
                       (long long)part->tokens, (long long)part->pictures);
    for (int j = 0; j < STATS; j++)
        for (int f = 0; f < F; f++)
            if (part->stat[j][f] < 0)
                return err_set(e, "%s: record %ld: %s: feature %d is %lld, expected 0 or more", stream_name(in),
                               rec->number, names[j], f, (long long)part->stat[j][f]);
    return 0;
}

int rank_stats_read(RankStats *s, StreamIn *in, Err *e)
{
    Record rec;
    int got;
    while ((got = stream_next(in, &rec, e)) > 0) {
        const char *kind = record_text(&rec, "kind", ""), *label = record_text(&rec, "label", "");
        const int k = find_kind(s, kind);
        if (k < 0)
            return err_set(e, "%s: record %ld: kind of label is '%s', the header names others", stream_name(in),
                           rec.number, kind);
        int t;
        if (record_timestep(in, &rec, &t, e))
            return -1;
        RankCell part = {
            .kind = k, .tokens = record_int(&rec, "tokens", 0), .pictures = record_int(&rec, "pictures", 0)
        };
        for (int j = 0; j < STATS; j++) {
            const StreamTensor *x = stream_need(in, &rec, names[j], I64, 1, (int64_t[]){s->F}, e);
            if (!x)
                return -1;
            part.stat[j] = (int64_t *)x->data;      /* only read: rank_cell_add takes it as const */
        }
        Err why = {0};
        RankCell *c = check_part(in, &rec, &part, s->F, e) ? NULL : rank_stats_cell(s, k, label, t, e);
        if (!c)
            return -1;
        if (rank_cell_add(c, &part, s->F, &why))
            return stream_blame(in, rec.number, &why, e);
    }
    return got;
}
