/* SPDX-License-Identifier: MIT */
/* sorter.c -- strings in the order of their keys, the same whatever memory there is: all of it, a part, so little that
 * runs are merged to runs; strings larger than memory, many of one key, none. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include "formats/sorter.h"
#include "tests/unit/test.h"

static uint32_t state;

static uint32_t dice(void)
{
    state = state*1664525u + 1013904223u;
    return state >> 8;
}

typedef struct Sum { uint64_t order; size_t count, bytes; bool sorted; } Sum;

/* Sorts `count` strings of up to `longest` bytes, with keys of `keys` values; what came out. */
static Sum sort(size_t memory, int count, size_t longest, uint32_t keys, Err *e)
{
    static unsigned char string[3 << 20];
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    Sum sum = {.order = 1, .sorted = true};
    Sorter *s;
    state = 5;
    int failed = sorter_create(&s, memory, folder, e);
    for (int i = 0; i < count && !failed; i++) {
        const uint32_t key = dice()%keys;
        const size_t n = key*2654435761u%longest + 1;       /* equal keys have equal strings */
        memset(string, (int)(key & 0xff), n);
        memcpy(string, &key, n < sizeof key ? n : sizeof key);
        failed = sorter_add(s, (SortKey){key*0x9e3779b97f4a7c15u, key}, string, n, e);
    }
    const void *data;
    uint64_t last = 0;
    int got = failed ? -1 : 0;
    for (size_t n; !failed && (got = sorter_next(s, &data, &n, e)) > 0;) {
        uint32_t key = 0;
        memcpy(&key, data, n < sizeof key ? n : sizeof key);
        if (n >= sizeof key) {
            sum.sorted &= last <= key*0x9e3779b97f4a7c15u && n == key*2654435761u%longest + 1;
            last = key*0x9e3779b97f4a7c15u;
        }
        sum.sorted &= n < 5 || ((const unsigned char *)data)[n - 1] == (key & 0xff);
        sum.order = sum.order*31 + key + n;
        sum.count++;
        sum.bytes += n;
    }
    sum.sorted &= got == 0;
    sorter_free(s);
    return sum;
}

static int same(const char *name, int count, size_t longest, uint32_t keys)
{
    static const size_t memory[] = {200 << 20, 20 << 20, 5000000, 1000000};
    int failed = 0;
    Sum first = {0};
    for (int i = 0; i < 4; i++) {
        Err e = {0};
        char title[100];
        const Sum sum = sort(memory[i], count, longest, keys, &e);
        if (i == 0)
            first = sum;
        snprintf(title, sizeof title, "%s, memory of %zu", name, memory[i]);
        failed += test_ok(title, sum.sorted && sum.count == (size_t)count && sum.bytes == first.bytes
                          && sum.order == first.order);
        if (e.set)
            printf("     %s\n", e.text);
    }
    return failed;
}

static int errors(void)
{
    Err e = {0};
    Sorter *s;
    static char string[400000];
    int failed = sorter_create(&s, 1000000, "/none/at/all", &e);
    for (int i = 0; i < 3 && !failed; i++)
        failed = sorter_add(s, (SortKey){(uint64_t)i, 0}, string, sizeof string, &e);
    int wrong = test_ok("no folder", failed && strstr(e.text, "/none/at/all: no file can be made in it"));
    sorter_free(s);

    signal(SIGXFSZ, SIG_IGN);                                   /* a full disk */
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = 3000000;
    setrlimit(RLIMIT_FSIZE, &limit);
    e = (Err){0};
    const Sum sum = sort(1000000, 200, 50000, 1 << 20, &e);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
    wrong += test_ok("full disk", !sum.sorted && strstr(e.text, "setting records aside: File too large"));
    return wrong;
}

int main(void)
{
    int failed = same("many", 30000, 2000, 1 << 24) + same("tiny", 200000, 6, 1 << 24) + same("one key", 3000, 9000, 1)
        + same("three keys", 3000, 9000, 3) + same("larger than memory", 40, 3 << 20, 1 << 24) + same("none", 0, 10, 1);
    failed += errors();
    return failed != 0;
}
