/* SPDX-License-Identifier: MIT */
/* sd-assemble-prompts.c -- prompts of every concept in every theme, as text records.
 *
 * Records come in rounds of C*T pairs (T: the themes, and none). Round n deals concepts and themes in orders
 * p, q of its own:
 *     pair j = (concept p[j mod C], theme q[(j/C + j mod C) mod T])       0 <= j < C*T
 * a Latin square: C records in a row are of C concepts, so what is trained on them in order sees them mixed. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "formats/aside.h"
#include "formats/fdio.h"
#include "formats/number.h"
#include "src/cli/cli.h"
#include "src/models/prompts.h"
#include "src/models/templates.h"

typedef struct Config {
    Common c;
    const char *concepts, *themes, *templates, *anchors, *split, *shard;
    List concept, theme, text;
    int plain;
    int64_t count;
} Config;

static const Opt options[] = {
    {'n', "count", OPT_INT, offsetof(Config, count), "1", "N  prompts a pair of concept and theme", 0},
    {0, "split", OPT_STR, offsetof(Config, split), "gather",
     "gather|generate  to gather activations from, or to generate and evaluate with: "
     "the two never share a prompt with its seed", 0},
    {0, "concepts", OPT_STR, offsetof(Config, concepts), NULL,
     "FILE  list of concepts; default: concepts.txt of the data folder", 0},
    {0, "themes", OPT_STR, offsetof(Config, themes), NULL,
     "FILE  list of themes; default: themes.txt of the data folder", 0},
    {0, "concept", OPT_LIST, offsetof(Config, concept), NULL, "NAME  this concept of the list only; again for more", 0},
    {0, "theme", OPT_LIST, offsetof(Config, theme), NULL, "NAME  this theme of the list only; again for more", 0},
    {0, "plain", OPT_FLAG, offsetof(Config, plain), "1", "prompts without a theme too", 0},
    {0, "templates", OPT_STR, offsetof(Config, templates), NULL,
     "FILE  sentences; default: templates.txt of the data folder", 0},
    {0, "template", OPT_LIST, offsetof(Config, text), NULL,
     "TEXT  this sentence in place of the file's, with {concept}, {article} and {theme}; again for more", 0},
    {0, "anchors", OPT_STR, offsetof(Config, anchors), NULL,
     "FILE  sentences of single concepts, CONCEPT<TAB>sentence or CSV", 0},
    {0, "shard", OPT_STR, offsetof(Config, shard), NULL,
     "I/N  every N-th record from the I-th on; the N shards make the whole", 0},
    {0, "seed", OPT_INT, offsetof(Config, c.seed), "0", "N  of the records' seeds and their order", 0},
    OUTPUT_OPTIONS,
    COMMON_OPTIONS,
    {0}};

static const Cli cli = {
    "sd-assemble-prompts", "Write prompts for every pair of concept and theme, as JSON lines with ids and seeds.",
    options, NULL,
    "Writes one JSON object a line: id, prompt, concept, theme (left out of plain prompts) and seed. The id is "
    "CONCEPT/THEME/NUMBER, with plain for the theme where there is none.\n"
    "\n"
    "A record's seed is a hash of --seed, the split and its id, so it does not change when concepts, themes or --count "
    "do. Seeds of the split gather are even and those of generate odd: a picture of one never is a picture of the "
    "other.\n"
    "\n"
    "Records that follow each other have different concepts and mixed themes.\n"
    "\n"
    "A list has a name a line, for concepts followed by a TAB and the noun that stands in prompts, and by another TAB "
    "and the article where a or an by its first letter is wrong. A line of the templates is gather, generate or both, "
    "a TAB, and a sentence:\n"
    "\n"
    "    both<TAB>{Article} {concept} in {theme} style.\n"
    "    gather<TAB>A picture of {article} {concept}.\n"
    "\n"
    "Anchors are sentences about one concept, and take the place of the templates for it; in themed prompts their full "
    "stop becomes \" in THEME style.\"",
    "# ten prompts of each pair of the small model's 20 concepts and 9 themes\n"
    "sd-assemble-prompts -n 10 > prompts.jsonl\n"
    "# pictures of fishes to evaluate with, in two themes\n"
    "sd-assemble-prompts --split generate --concept Fishes --theme Watercolor --theme Rust --no-plain\n"
    "# a sentence of one's own\n"
    "sd-assemble-prompts --template 'A photo of {article} {concept}.' --themes /dev/null\n"};

typedef struct Plan {
    Names concepts, themes;
    Templates templates;
    int split;
    int64_t shard, shards;          /* from 0 */
} Plan;

static const char *in_data(const char *named, const char *name, char path[4096])
{
    if (named)
        return named;
    snprintf(path, 4096, "%s/%s", cli_data(), name);
    return path;
}

static int read_plan(Plan *plan, const Config *cfg, Err *e)
{
    char path[4096];
    plan->split = strcmp(cfg->split, "gather") == 0 ? SPLIT_GATHER : SPLIT_GENERATE;
    if (names_read(&plan->concepts, in_data(cfg->concepts, "concepts.txt", path), true, e)
        || names_read(&plan->themes, in_data(cfg->themes, "themes.txt", path), false, e)
        || (cfg->concept.count && names_keep(&plan->concepts, cfg->concept.items, cfg->concept.count, "--concept", e))
        || (cfg->theme.count && names_keep(&plan->themes, cfg->theme.items, cfg->theme.count, "--theme", e)))
        return -1;
    if (!plan->concepts.count)
        return err_set(e, "%s: no concept in it", in_data(cfg->concepts, "concepts.txt", path));
    if (!plan->themes.count && !cfg->plain)
        return err_set(e, "%s: no theme in it, and --no-plain: there is no prompt to make",
                       in_data(cfg->themes, "themes.txt", path));
    for (int i = 0; i < cfg->text.count; i++)
        if (templates_add(&plan->templates, cfg->text.items[i], SPLIT_GATHER | SPLIT_GENERATE, "--template", e)) {
            e->misuse = 1;
            return -1;
        }
    if (!cfg->text.count && templates_read(&plan->templates, in_data(cfg->templates, "templates.txt", path), e))
        return -1;
    return cfg->anchors ? anchors_read(&plan->templates, cfg->anchors, &plan->concepts, e) : 0;
}

/* Fisher and Yates, with the draws of prompt_seed on a text that no other shuffle has. */
static void shuffle(int *order, int n, const Config *cfg, const char *what, long long round)
{
    for (int i = 0; i < n; i++)
        order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        char text[64];
        snprintf(text, sizeof text, "%s %lld %d", what, round, i);
        const int j = (int)(prompt_seed((uint64_t)cfg->c.seed, text) % (i + 1));
        const int swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

/* theme: NULL for a plain prompt; number: of the record in its pair, from 1. */
static int write_record(FILE *f, const Config *cfg, const Plan *plan, const Name *concept, const Name *theme,
                        long long number, Err *e)
{
    char pair[512], id[576], hashed[640];
    snprintf(pair, sizeof pair, "%s/%s", concept->name, theme ? theme->name : "plain");
    snprintf(id, sizeof id, "%s/%lld", pair, number);
    snprintf(hashed, sizeof hashed, "%s/%s", cfg->split, id);
    const int64_t seed = (prompt_seed((uint64_t)cfg->c.seed, hashed) & ~INT64_C(1)) | (plan->split == SPLIT_GENERATE);

    /* Pairs start at different templates, so that few prompts a pair still use them all. */
    const size_t turn = (size_t)prompt_seed((uint64_t)cfg->c.seed, pair) + (size_t)number;
    const Template *t = template_pick(&plan->templates, plan->split, concept, theme != NULL, turn);
    if (!t)
        return err_set(e, "no %s template for the split %s: one %s {theme} is needed", theme ? "themed" : "plain",
                       cfg->split, theme ? "with" : "without");
    char *prompt = template_fill(t, concept, theme);
    json_t *record = json_pack("{s:s, s:s, s:s}", "id", id, "prompt", prompt, "concept", concept->name);
    if (record && theme)
        json_object_set_new(record, "theme", json_string(theme->name));
    int failed = !record || json_object_set_new(record, "seed", json_integer(seed));
    char *line = failed ? NULL : json_dumps(record, JSON_COMPACT);
    json_decref(record);
    free(prompt);
    if (!line)
        return err_set(e, "%s: out of memory", id);
    fprintf(f, "%s\n", line);
    free(line);
    return 0;
}

/* Records of round n that fall to this shard, as text. */
static int write_round(FILE *f, const Config *cfg, const Plan *plan, long long n, int *p, int *q, Err *e)
{
    const int C = plan->concepts.count, T = plan->themes.count + (cfg->plain != 0);
    shuffle(p, C, cfg, "concepts", n);
    shuffle(q, T, cfg, "themes", n);
    for (int j = 0; j < C*T; j++) {
        if (((n % plan->shards)*(C*T % plan->shards) + j) % plan->shards != plan->shard)
            continue;
        const int t = q[(j / C + j % C) % T];
        if (write_record(f, cfg, plan, &plan->concepts.item[p[j % C]],
                         t < plan->themes.count ? &plan->themes.item[t] : NULL, n + 1, e))
            return -1;
    }
    return 0;
}

static int write_all(int fd, const char *name, const Config *cfg, const Plan *plan, Err *e)
{
    int *order = malloc(sizeof *order * (plan->concepts.count + plan->themes.count + 1));
    int failed = order ? 0 : err_set(e, "out of memory");
    for (long long n = 0; !failed && n < cfg->count; n++) {
        char *text = NULL;
        size_t bytes = 0;
        FILE *f = open_memstream(&text, &bytes);
        failed = f ? write_round(f, cfg, plan, n, order, order + plan->concepts.count, e) : err_set(e, "out of memory");
        if (f && fclose(f))
            failed = err_set(e, "out of memory");
        failed = failed || fd_write(fd, name, text, bytes, e);
        free(text);
    }
    free(order);
    return failed;
}

/* I/N, I from 1 to N. */
static int parse_shard(Plan *plan, const char *text)
{
    char first[16];
    int64_t shard;
    const size_t n = strcspn(text, "/");
    if (n >= sizeof first || !text[n])
        return -1;
    snprintf(first, sizeof first, "%.*s", (int)n, text);
    if (number_whole(first, &shard) || number_whole(text + n + 1, &plan->shards) || shard < 1
        || shard > plan->shards || plan->shards > 1000000)
        return -1;
    plan->shard = shard - 1;
    return 0;
}

static void check_usage(const Config *cfg, Plan *plan)
{
    plan->shard = 0;
    plan->shards = 1;
    if (cfg->count < 0)
        cli_misuse(&cli, "--count: %lld, expected 0 or more", (long long)cfg->count);
    if (cfg->shard && parse_shard(plan, cfg->shard))
        cli_misuse(&cli, "--shard: '%s', expected I/N with I from 1 to N", cfg->shard);
}

int main(int argc, char **argv)
{
    Config cfg = {0};
    Plan plan = {0};
    Aside *out = NULL;
    Err e = {0};

    cli_parse(&cli, &cfg, argc, argv);
    check_usage(&cfg, &plan);

    const bool standard = strcmp(cfg.c.output, "-") == 0;
    int failed = read_plan(&plan, &cfg, &e)
              || (!standard && !(out = aside_open(cfg.c.output, &e)))
              || write_all(out ? aside_fd(out) : STDOUT_FILENO, out ? cfg.c.output : "standard output", &cfg, &plan,
                           &e);
    if (!failed && out) {
        failed = aside_commit(out, false, &e);
        out = NULL;
    } else if (!failed) {
        failed = fd_settle(STDOUT_FILENO, "standard output", &e);
    }
    aside_abandon(out);
    names_free(&plan.concepts);
    names_free(&plan.themes);
    templates_free(&plan.templates);
    return failed ? cli_report(&cli, &e) : 0;
}
