/* SPDX-License-Identifier: MIT */
/* hooks.c -- modules by path, globs over them, and the calls of what was hooked. */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "src/models/hooks.h"

enum { PATH_SIZE = 160, NEAREST = 5 };

int hooks_add_module(Hooks *h, Err *e, const char *format, ...)
{
    char path[PATH_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);

    char **module = realloc(h->module, ((size_t)h->modules + 2)*sizeof *module);
    if (module)
        h->module = module;
    unsigned char *wanted = realloc(h->wanted, (size_t)h->modules + 1);
    if (wanted)
        h->wanted = wanted;
    char *copy = strdup(path);
    if (!module || !wanted || !copy) {
        free(copy);
        return err_set(e, "out of memory");
    }
    wanted[h->modules] = 0;
    module[h->modules] = copy;
    module[h->modules + 1] = NULL;
    return h->modules++;
}

void hooks_free(Hooks *h)
{
    for (int i = 0; i < h->modules; i++)
        free(h->module[i]);
    free(h->module);
    free(h->wanted);
    free(h->hook);
    *h = (Hooks){0};
}

/* A star stays within one part of the path, as in file names; ** goes over the dots. */
static bool matches(const char *pattern, const char *path)
{
    if (strstr(pattern, "**"))
        return fnmatch(pattern, path, 0) == 0;
    char a[PATH_SIZE], b[PATH_SIZE];
    snprintf(a, sizeof a, "%s", pattern);
    snprintf(b, sizeof b, "%s", path);
    for (char *p = a; *p; p++)
        *p = *p == '.' ? '/' : *p;
    for (char *p = b; *p; p++)
        *p = *p == '.' ? '/' : *p;
    return fnmatch(a, b, FNM_PATHNAME) == 0;
}

/* Letters to insert, delete or change to get from a to b (Levenshtein). */
static int distance(const char *a, const char *b)
{
    int row[PATH_SIZE + 1];
    const int n = (int)strnlen(a, PATH_SIZE), m = (int)strnlen(b, PATH_SIZE);
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int change = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            row[j] = row[j - 1] + 1 < row[j] + 1 ? row[j - 1] + 1 : row[j] + 1;
            if (change < row[j])
                row[j] = change;
        }
    }
    return row[m];
}

static int no_module(const Hooks *h, const char *pattern, Err *e)
{
    char names[NEAREST*(PATH_SIZE + 2)] = "";
    int last = -1, last_index = -1;             /* the one listed before: distance, then index, rise */
    for (int k = 0; k < NEAREST && k < h->modules; k++) {
        int best = -1, best_distance = 0;
        for (int i = 0; i < h->modules; i++) {
            const int d = distance(pattern, h->module[i]);
            const bool listed = d < last || (d == last && i <= last_index);
            if (!listed && (best < 0 || d < best_distance)) {
                best = i;
                best_distance = d;
            }
        }
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", k ? ", " : "", h->module[best]);
        last = best_distance;
        last_index = best;
    }
    return err_set(e, "hook '%s' matches no module%s; nearest: %s", pattern, h->why_few ? h->why_few : "", names);
}

static bool hooked(const Hooks *h, int module, HookFn fn, const void *context)
{
    int i = 0;
    while (i < h->count && (h->hook[i].module != module || h->hook[i].fn != fn || h->hook[i].context != context))
        i++;
    return i < h->count;
}

int hooks_add(Hooks *h, const char *pattern, bool need_input, HookFn fn, void *context, Err *e)
{
    int matched = 0;
    pattern = hook_path(pattern);
    for (int i = 0; i < h->modules; i++) {
        if (!matches(pattern, h->module[i]))
            continue;
        matched++;
        if (hooked(h, i, fn, context))
            continue;
        Hook *hook = realloc(h->hook, ((size_t)h->count + 1)*sizeof *hook);
        if (!hook)
            return err_set(e, "out of memory");
        hook[h->count++] = (Hook){i, need_input, fn, context};
        h->hook = hook;
        if (h->wanted[i] < 1 + need_input)
            h->wanted[i] = (unsigned char)(1 + need_input);
    }
    return matched ? matched : no_module(h, pattern, e);
}

bool hooks_want(const Hooks *h, int module)
{
    return h && h->wanted[module];
}

bool hooks_want_input(const Hooks *h, int module)
{
    return h && h->wanted[module] > 1;
}

bool hooks_want_within(const Hooks *h, int module)
{
    const char *block = h->module[module];
    const size_t length = strlen(block);
    for (int i = module; i < h->modules && strncmp(h->module[i], block, length) == 0; i++)
        if (h->wanted[i] && (i == module || h->module[i][length] == '.'))
            return true;
    return false;
}

int hooks_call(const Hooks *h, int module, HookCall call, Err *e)
{
    if (!hooks_want(h, module))
        return 0;
    const float *input = call.input;
    call.path = h->module[module];
    for (int i = 0; i < h->count; i++) {
        if (h->hook[i].module != module)
            continue;
        call.index = i;
        call.input = h->hook[i].need_input ? input : NULL;
        if (h->hook[i].fn(h->hook[i].context, &call, e))
            return err_set(e, "the hook of %s failed", call.path);
    }
    return 0;
}

const char *hooks_path(const Hooks *h, int index)
{
    return h->module[h->hook[index].module];
}
