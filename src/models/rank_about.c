/* SPDX-License-Identifier: MIT */
/* rank_about.c -- what a stream's statistics are of, by its header and the options. */
#include <stdlib.h>
#include <string.h>
#include "src/models/hooks.h"
#include "src/models/model.h"
#include "src/models/rank_about.h"

static const char *const usual_kinds[] = {"concept", "theme"};

static json_t *kinds_json(const RankFeedOptions *o)
{
    const char *const *kinds = o->kind_count ? o->kinds : usual_kinds;
    json_t *by = json_array();
    for (int i = 0; i < (o->kind_count ? o->kind_count : 2); i++)
        json_array_append_new(by, json_string(kinds[i]));
    return by;
}

/* The module counted of a stream of activations or features: what the options say, else the autoencoder's own, else
 * the only one there is. */
static const char *pick_hook(const RankFeedOptions *o, const Sae *sae, const StreamIn *in, Err *e)
{
    const json_t *hooks = json_object_get(stream_header(in)->fields, "hooks");
    const char *wanted = hook_path(o->hook ? o->hook : sae ? sae->hook : "");
    char list[1024] = "";
    if (!json_is_array(hooks))
        return *wanted ? wanted : hook_path(record_text(stream_header(in), "hook", ""));
    for (size_t i = 0; i < json_array_size(hooks); i++) {
        const char *name = json_string_value(json_array_get(hooks, i));
        if (name && strcmp(hook_path(name), wanted) == 0)
            return wanted;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", name ? name : "?");
    }
    const char *only = json_array_size(hooks) == 1 ? json_string_value(json_array_get(hooks, 0)) : NULL;
    if (!*wanted && only)
        return hook_path(only);
    if (*wanted)
        err_set(e, "%s: header: hooks are %s; the one to count is %s", stream_name(in), list, wanted);
    else
        err_set(e, "%s: header: hooks are %s; say which one to count with --hook", stream_name(in), list);
    return NULL;
}

static int check_take(const Sae *sae, const StreamIn *in, Err *e)
{
    const char *take = record_text(stream_header(in), "take", "");
    if (!*take || !*sae->take || strcmp(take, sae->take) == 0)
        return 0;
    return err_set(e, "%s: header: take is %s, the autoencoder %s was trained on %s", stream_name(in), take, sae->id,
                   sae->take);
}

/* Which autoencoder's features are counted, and how many it has: of activations the options', else what the header
 * says, which must not be another. */
static int pick_sae(const Sae *sae, const StreamIn *in, const char **id, long long *features, Err *e)
{
    const char *kind = stream_kind(in);
    *id = record_text(stream_header(in), "sae", "");
    *features = record_int(stream_header(in), "features", 0);
    if (strcmp(kind, "activations") == 0) {
        if (!sae)
            return err_set(e, "%s: activations are ranked by the features of an autoencoder: give --sae DIR",
                           stream_name(in));
        *id = sae->id;
        *features = sae->F;
        return check_take(sae, in, e);
    }
    if (strcmp(kind, "statistics") != 0 && strcmp(kind, "features") != 0)
        return err_set(e, "%s: a stream of %s, expected activations, features or statistics", stream_name(in), kind);
    if (sae && **id && !folder_same(*id, sae->id))
        return err_set(e, "%s: header: made with the autoencoder %s, --sae is %s", stream_name(in), *id, sae->id);
    if (*features < 1 || *features > SAE_MAX_FEATURES)
        return err_set(e, "%s: header: features is missing or not a number from 1 to %d", stream_name(in),
                       SAE_MAX_FEATURES);
    return 0;
}

json_t *rank_about(const RankFeedOptions *o, const Sae *sae, const StreamIn *in, Err *e)
{
    const Record *header = stream_header(in);
    const bool statistics = strcmp(stream_kind(in), "statistics") == 0;
    const char *id, *hook;
    long long features;
    if (pick_sae(sae, in, &id, &features, e)
        || !(hook = statistics ? record_text(header, "hook", "") : pick_hook(o, sae, in, e)))
        return NULL;
    json_t *by = statistics ? json_object_get(header->fields, "by") : NULL;
    json_t *assigned = sae ? json_object_get(sae->cfg, "labels") : json_object_get(header->fields, "assigned");
    json_t *about = json_pack("{s:s, s:I, s:s, s:s, s:s}", "sae", id, "features", (json_int_t)features, "hook", hook,
                              "take", record_text(header, "take", "output"),
                              "half", statistics ? record_text(header, "half", "cond") : o->half);
    json_object_set_new(about, "by", json_is_array(by) ? json_incref(by) : kinds_json(o));
    if (json_is_object(assigned))
        json_object_set(about, "assigned", assigned);
    if (json_object_get(header->fields, "model"))
        json_object_set(about, "model", json_object_get(header->fields, "model"));
    if (!about)
        err_set(e, "%s: header: sae, hook, take or half is no text", stream_name(in));
    return about;
}

int rank_about_agree(const json_t *about, const StreamIn *in, const json_t *of_first, const char *first, Err *e)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)about, name, value) {
        const json_t *other = json_object_get(of_first, name);
        const bool is_id = strcmp(name, "sae") == 0 || strcmp(name, "model") == 0;
        if (json_equal(value, (json_t *)other)
            || (is_id && json_is_string(value) && json_is_string(other)
                && folder_same(json_string_value(value), json_string_value(other))))
            continue;
        char *found = json_dumps(value, JSON_ENCODE_ANY), *expected = json_dumps(other, JSON_ENCODE_ANY);
        err_set(e, "%s: %s is %s, and %s in %s: they cannot be counted together", stream_name(in), name,
                found ? found : "?", expected ? expected : "missing", first);
        free(found);
        free(expected);
        return -1;
    }
    return 0;
}
