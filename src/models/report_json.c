/* SPDX-License-Identifier: MIT */
/* report_json.c -- the figures of sae-report's page as one JSON object; what is not known is null. */
#include <stdlib.h>
#include "formats/json_file.h"
#include "src/models/report.h"

static json_t *numbers(const double *x, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_real_or_null(x[i]));
    return list;
}

static json_t *counts(const int64_t *x, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(x[i]));
    return list;
}

static json_t *training_json(const Curves *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->count; i++) {
        json_t *x = json_pack("{s:s}", "name", c->curve[i].name);
        for (int k = 0; k < FIT_FIGURES; k++) {
            char name[32];
            snprintf(name, sizeof name, "%s%s", fit_figure_name[k].eval ? "eval_" : "", fit_figure_name[k].name);
            json_object_set_new(x, name, numbers(c->curve[i].figure[k], c->curve[i].points));
        }
        json_array_append_new(list, x);
    }
    return list;
}

static json_t *concepts_json(const Leads *leads)
{
    json_t *list = json_array();
    for (int i = 0; i < leads->labels; i++) {
        const LeadLabel *l = &leads->label[i];
        json_t *features = json_array(), *t = json_array();
        for (int k = 0; k < l->leads; k++) {
            const Lead *x = &l->lead[k];
            json_array_append_new(features, json_pack("{s:i, s:o, s:o, s:o, s:i, s:o}", "feature", x->feature,
                                                      "score", json_real_or_null(x->score),
                                                      "mean", json_real_or_null(x->mean),
                                                      "mean_elsewhere", json_real_or_null(x->elsewhere), "t", x->t,
                                                      "score_by_t", numbers(x->by_t, l->times)));
        }
        for (int k = 0; k < l->times; k++)
            json_array_append_new(t, json_integer(l->t[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o}", "kind", l->kind, "label", l->label, "t", t,
                                              "features", features));
    }
    return list;
}

static json_t *name_json(const NameRow *name)
{
    return name ? json_pack("{s:s, s:s, s:o}", "kind", name->kind, "text", name->text, "score",
                            json_real_or_null(name->score)) : json_null();
}

static json_t *feature_json(const Report *r, const Chosen *c, const int *order)
{
    const Tally *y = r->tally;
    const int f = c->feature;
    json_t *pictures = json_array(), *means = json_array();
    for (int p = 0; p < c->peaks; p++) {
        json_t *x = json_copy(c->peak[p].fields);
        json_object_set_new(x, "value", json_real_or_null((double)c->peak[p].value));
        json_array_append_new(pictures, x);
    }
    for (int i = 0; i < y->times; i++)
        json_array_append_new(means, json_real_or_null(tally_sum(c->sum[order[i]])/(double)y->t_tokens[order[i]]));
    json_t *histogram = json_pack("{s:i, s:f, s:o}", "from", VALUE_LOWEST, "width", VALUE_WIDTH, "tokens",
                                  counts(c->bin, VALUE_BINS));
    const Icon *icon = r->icon ? &r->icon[c - y->chosen] : NULL;
    json_t *alone = icon && icon->id ? json_pack("{s:s, s:f}", "id", icon->id, "value", icon->value) : json_null();
    return json_pack("{s:i, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "feature", f,
                     "name", name_json(name_table_find(&r->names, f)), "tokens", (json_int_t)y->active[f],
                     "density", json_real_or_null((double)y->active[f]/(double)y->tokens),
                     "mean", json_real_or_null(tally_sum(y->sum[f])/(double)y->active[f]),
                     "largest", json_real_or_null((double)y->most[f]),
                     "mean_by_t", means, "values_log10", histogram, "icon", alone, "pictures", pictures);
}

static json_t *features_json(const Report *r, Err *e)
{
    const Tally *y = r->tally;
    int *order = report_times(y);
    json_t *list = json_array(), *t = json_array();
    long long never = 0;
    if (!order)
        err_set(e, "out of memory for %d timesteps", y->times);
    for (int j = 0; j < y->F; j++)
        never += !y->active[j];
    for (int i = 0; order && i < y->times; i++)
        json_array_append_new(t, json_integer(y->t[order[i]]));
    for (int i = 0; order && i < y->options.count; i++)
        json_array_append_new(list, feature_json(r, &y->chosen[i], order));
    free(order);
    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:o, s:o}", "hook", y->hook, "features", y->F, "records",
                     (json_int_t)y->records, "tokens", (json_int_t)y->tokens, "never_active", (json_int_t)never, "t", t,
                     "shown", list);
}

static json_t *steered_json(const Pairs *p)
{
    json_t *list = json_array();
    for (int g = 0; g < p->groups; g++) {
        const PairGroup *x = &p->group[g];
        json_t *ids = json_array();
        for (int own = 0; own < 2; own++)
            for (int i = 0; i < x->pairs[own]; i++) {
                json_t *id = json_object_get(x->pair[own][i].fields, "id");
                json_array_append_new(ids, id ? json_incref(id) : json_null());
            }
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I, s:o}", "kind", x->kind, "label", x->label,
                                              "steering", json_loads(x->steering, 0, NULL),
                                              "pictures", (json_int_t)x->pictures, "shown", ids));
    }
    return list;
}

json_t *report_json(const Report *r, Err *e)
{
    json_t *all = json_object();
    if (r->title)
        json_object_set_new(all, "title", json_string(r->title));
    if (r->sae)
        json_object_set_new(all, "autoencoder", json_pack("{s:s, s:i, s:i, s:O}", "id", r->sae->id, "d", r->sae->D,
                                                          "features", r->sae->F, "config", r->sae->cfg));
    if (r->curves.count)
        json_object_set_new(all, "training", training_json(&r->curves));
    if (r->leads.labels)
        json_object_set_new(all, "concepts", concepts_json(&r->leads));
    if (r->tally)
        json_object_set_new(all, "features", features_json(r, e));
    if (r->pairs.groups)
        json_object_set_new(all, "steered", steered_json(&r->pairs));
    json_object_set(all, "step", r->step);
    if (e->set || !all) {
        json_decref(all);
        err_set(e, "out of memory for the JSON");
        return NULL;
    }
    return all;
}
