/* SPDX-License-Identifier: MIT */
/* steered.c -- the labels a picture was steered by, from joined text and from the array beside it. */
#include <jansson.h>
#include "src/models/steered.h"
#include "tests/unit/test.h"

/* Fields, and what they say: "kind=label" in their order. */
static const struct { const char *fields, *says; } cases[] = {
    {"{'steered': 'Cats', 'steered_kind': 'concept'}", "concept=Cats,"},
    {"{'steered': 'Cats'}", "concept=Cats,"},
    {"{'steered': 'Cats+Dogs', 'steered_kind': 'concept'}", "concept=Cats+Dogs,concept=Cats,concept=Dogs,"},
    {"{'steered': 'Cats+Rust', 'steered_kind': 'concept+theme'}", "concept=Cats,theme=Rust,"},
    {"{'steered': 'Cats', 'steered_kind': 'concept+theme'}", "concept=Cats,theme=,"},
    {"{'steered': 'Cats', 'steered_kind': 'concept+'}", "concept=Cats,=,"},
    {"{'steered': 'Cats', 'steered_kind': ''}", "=Cats,"},
    {"{'steered': 'A+B', 'steered_kind': 'concept', 'steering': {'labels': [{'kind': 'concept', 'label': 'A+B'}]}}",
     "concept=A+B,"},
    {"{'steered': 'A+B', 'steered_kind': 'concept', 'steering': {'labels': [{'kind': 'concept', 'label': 'A'},"
     "{'kind': 'concept', 'label': 'B'}]}}", "concept=A,concept=B,"},
    {"{'steered': 'Cats', 'steered_kind': 'concept', 'steering': {'labels': []}}", "concept=Cats,"},
    {"{'steered': 'Cats', 'steered_kind': 'concept', 'steering': {'labels': [{'kind': 'concept'}]}}", "concept=Cats,"},
    {"{'steered': 'Cats', 'steered_kind': 'concept', 'steering': 'labels'}", "concept=Cats,"},
};

static json_t *read_case(const char *text)
{
    char json[512];
    snprintf(json, sizeof json, "%s", text);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    return json_loads(json, 0, NULL);
}

int main(void)
{
    int failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char says[256] = "";
        json_t *fields = read_case(cases[i].fields), *labels = steered_labels(fields), *item;
        size_t k;
        json_array_foreach(labels, k, item)
            snprintf(says + strlen(says), sizeof says - strlen(says), "%s=%s,",
                     json_string_value(json_object_get(item, "kind")),
                     json_string_value(json_object_get(item, "label")));
        failed += test_ok("fields", fields != NULL) + test_text(cases[i].fields, says, cases[i].says);
        json_decref(labels);
        json_decref(fields);
    }
    json_t *fields = read_case(cases[4].fields), *labels = steered_labels(fields);
    failed += test_ok("a label of its kind alone", steered_has(labels, "concept", "Cats")
                                                   && !steered_has(labels, "theme", "Cats")
                                                   && !steered_has(labels, "concept", "Cat"));
    failed += test_ok("any of a kind", steered_has(labels, "theme", NULL) && !steered_has(labels, "mood", NULL));
    failed += test_ok("an empty label is none", !steered_has(labels, "theme", "") && !steered_has(NULL, "theme", NULL));
    json_decref(labels);
    json_decref(fields);
    return failed != 0;
}
