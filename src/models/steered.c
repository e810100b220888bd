/* SPDX-License-Identifier: MIT */
/* steered.c -- the labels a picture was steered by, from an array or from joined text. */
#include <string.h>
#include "src/models/steered.h"

static const char *text_of(const json_t *fields, const char *name, const char *usual)
{
    const char *text = json_string_value(json_object_get(fields, name));
    return text ? text : usual;
}

/* The next part of joined text from *rest on, and *rest behind it, NULL behind the last; then "" again and again. */
static json_t *next_part(const char **rest)
{
    const char *part = *rest ? *rest : "", *plus = strchr(part, '+');
    *rest = plus ? plus + 1 : NULL;
    return json_stringn(part, plus ? (size_t)(plus - part) : strlen(part));
}

static int add(json_t *list, json_t *kind, json_t *label)
{
    return json_array_append_new(list, json_pack("{s:o, s:o}", "kind", kind, "label", label));
}

/* Of several kinds each has a label, the empty one where there are fewer. */
static json_t *split(const char *kinds, const char *labels)
{
    json_t *list = json_array();
    const bool several = strchr(kinds, '+') != NULL;
    int failed = 0;
    if (!several && strchr(labels, '+'))
        failed = add(list, json_string(kinds), json_string(labels));
    while (!failed && (several ? kinds : labels))
        failed = add(list, several ? next_part(&kinds) : json_string(kinds), next_part(&labels));
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

/* An array whose items all have what they should. */
static bool is_list(const json_t *list)
{
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
        if (!json_is_string(json_object_get(item, "kind")) || !json_is_string(json_object_get(item, "label")))
            return false;
    return json_array_size(list) > 0;
}

json_t *steered_labels(const json_t *fields)
{
    json_t *list = json_object_get(json_object_get(fields, "steering"), "labels");
    return is_list(list) ? json_incref(list)
                         : split(text_of(fields, "steered_kind", "concept"), text_of(fields, "steered", ""));
}

bool steered_has(const json_t *labels, const char *kind, const char *label)
{
    const json_t *item;
    size_t i;
    json_array_foreach(labels, i, item)
        if (strcmp(json_string_value(json_object_get(item, "kind")), kind) == 0
            && (!label || (*label && strcmp(json_string_value(json_object_get(item, "label")), label) == 0)))
            return true;
    return false;
}
