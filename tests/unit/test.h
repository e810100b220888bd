/* SPDX-License-Identifier: MIT */
/* test.h -- what the unit tests share: comparisons that print one line each and return 1 when they fail.
 *
 *     int failed = 0;
 *     failed += test_close("steer/reversed", y, want, N*D, 1e-6f, 0);
 *     return failed != 0;                       (77 instead: skipped, no device)
 *
 * |got - want| <= atol + rtol*|want| is close; a NaN is never close. */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEST_SKIPPED = 77, TEST_KEPT = 4, TEST_KEPT_BYTES = 100 << 10, TEST_PLACES = 12 };

/* What a failed comparison compared, as $SDSTEER_TEST_KEEP/PROCESS-NUMBER.got and .want: of the first TEST_KEPT, and no
 * more of each than TEST_KEPT_BYTES. */
__attribute__((unused)) static void test_keep(const void *got, const void *want, size_t bytes)
{
    static int kept;
    const char *folder = getenv("SDSTEER_TEST_KEEP");
    if (!folder || kept == TEST_KEPT)
        return;
    const char *const end[] = {"got", "want"};
    const void *const from[] = {got, want};
    char path[PATH_MAX];
    kept++;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%ld-%d.%s", folder, (long)getpid(), kept, end[i]);
        FILE *f = fopen(path, "wb");
        if (!f)
            return;
        fwrite(from[i], 1, bytes < TEST_KEPT_BYTES ? bytes : TEST_KEPT_BYTES, f);
        fclose(f);
    }
    printf("     kept as %ld-%d\n", (long)getpid(), kept);
}

__attribute__((unused)) static int test_ok(const char *name, int ok)
{
    printf("%s %s\n", ok ? "ok  " : "FAIL", name);
    fflush(stdout);
    return !ok;
}

__attribute__((unused)) static int test_close(const char *name, const float *got, const float *want, size_t n,
                                              float atol, float rtol)
{
    size_t worst = 0, wrong = 0, place[TEST_PLACES], last = 0;
    double most = -1;           /* error of the worst place; a NaN counts as infinite */
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)got[i] - want[i]);
        if (isinf(want[i]) && got[i] == want[i])
            error = 0;
        if (isnan(error))
            error = INFINITY;
        if (!(error <= (double)atol + (double)rtol*fabs((double)want[i])) || isinf(error)) {
            if (wrong < TEST_PLACES)
                place[wrong] = i;
            wrong++;
            last = i;
        }
        if (error > most) {
            most = error;
            worst = i;
        }
    }
    if (n == 0) {
        printf("FAIL %s: no values to compare\n", name);
        return 1;
    }
    printf("%s %s: largest error %.3g at %zu (got %.9g, expected %.9g), %zu of %zu outside %g + %g*|x|\n",
           wrong ? "FAIL" : "ok  ", name, most, worst, (double)got[worst], (double)want[worst], wrong, n,
           (double)atol, (double)rtol);
    if (wrong) {
        printf("     at");
        for (size_t i = 0; i < wrong && i < TEST_PLACES; i++)
            printf(" %zu (%.6g for %.6g)", place[i], (double)got[place[i]], (double)want[place[i]]);
        printf(" ... %zu\n", last);
        test_keep(got, want, n*sizeof *got);
    }
    fflush(stdout);
    return wrong != 0;
}

__attribute__((unused)) static int test_same(const char *name, const void *got, const void *want, size_t bytes)
{
    const unsigned char *a = got, *b = want;
    size_t first = bytes, last = 0, wrong = 0;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i]) {
            first = wrong++ ? first : i;
            last = i;
        }
    if (bytes == 0) {
        printf("FAIL %s: no bytes to compare\n", name);
        return 1;
    }
    if (wrong == 0)
        return test_ok(name, 1);
    printf("FAIL %s: byte %zu of %zu is %02x, expected %02x; so %zu, the last is %zu\n", name, first, bytes, a[first],
           b[first], wrong, last);
    test_keep(got, want, bytes);
    fflush(stdout);
    return 1;
}

__attribute__((unused)) static int test_text(const char *name, const char *got, const char *want)
{
    if (got && want && strcmp(got, want) == 0)
        return test_ok(name, 1);
    printf("FAIL %s: got \"%s\", expected \"%s\"\n", name, got ? got : "(null)", want ? want : "(null)");
    fflush(stdout);
    return 1;
}

__attribute__((unused, format(printf, 1, 2))) static void test_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("     ", stdout);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    fflush(stdout);
}

/* The backend that the tests of models run on: $SDSTEER_TEST_BACKEND, as tests/device.sh sets it, else the CPU. */
__attribute__((unused)) static const char *test_backend(void)
{
    const char *name = getenv("SDSTEER_TEST_BACKEND");
    return name ? name : "cpu";
}

/* Path of a file under tests/ ("golden/text.safetensors"): in $SDSTEER_TESTS, else beside the program
 * (build/tests/NAME). Good until the eighth next call. */
__attribute__((unused)) static const char *test_path(const char *name)
{
    static char text[8][PATH_MAX + 256];
    static int next;
    char *path = text[next++ % 8];
    const char *folder = getenv("SDSTEER_TESTS");
    if (folder) {
        snprintf(path, sizeof text[0], "%s/%s", folder, name);
        return path;
    }
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(self, '/');
        if (slash)
            *slash = 0;
    }
    snprintf(path, sizeof text[0], "%s/tests/%s", self, name);
    return path;
}

/* The folder of golden values. */
__attribute__((unused)) static const char *test_golden(void)
{
    return test_path("golden");
}

#endif
