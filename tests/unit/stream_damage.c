/* SPDX-License-Identifier: MIT */
/* stream_damage.c -- damaged streams: a cut at every byte, every bit flipped, bytes replaced at random, garbage. None
 * may pass as whole with other contents, none may crash (build with -fsanitize=address,undefined to see more).
 *
 * A flipped bit in a zstd frame can leave what the frame decodes to the same, as where a match has two sources that
 * hold equal bytes. Such a frame is not refused, and need not be: what counts is that no other content passes. Both are
 * counted. */
#include "tests/unit/stream_test.h"

static uint32_t seed = 1;

static uint32_t dice(void)
{
    return seed = seed * 1664525u + 1013904223u, seed >> 8;
}

static int test_cuts(const char *name, const Blob *whole)
{
    long passed = 0;
    for (size_t n = 0; n < whole->size; n++) {
        Err e = {0};
        passed += read_all(spill_memory(whole->data, n), NULL, &e) >= 0 || !e.set;
    }
    char title[100];
    snprintf(title, sizeof title, "%s/a cut at each of %zu bytes is refused", name, whole->size);
    return test_ok(title, passed == 0);
}

/* Every bit flipped once. `exact`: what passes must not exist at all. */
static int test_flips(const char *name, const Blob *whole, uint64_t sum, bool exact)
{
    long wrong = 0, same = 0;
    for (size_t bit = 0; bit < whole->size * 8; bit++) {
        Err e = {0};
        uint64_t now = 0;
        whole->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (read_all(spill_memory(whole->data, whole->size), &now, &e) >= 0) {
            wrong += now != sum;
            same += now == sum;
        }
        whole->data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    char title[100];
    snprintf(title, sizeof title, "%s/each of %zu bits flipped", name, whole->size * 8);
    test_note("%s: %ld decode to the same records, %ld to others", name, same, wrong);
    return test_ok(title, wrong == 0 && (!exact || same == 0));
}

/* Some bytes at random places replaced; plain streams have no checksum, so only crashes are looked for there. */
static int test_noise(const char *name, const Blob *whole, int rounds)
{
    unsigned char *data = malloc(whole->size);
    for (int r = 0; r < rounds; r++) {
        Err e = {0};
        memcpy(data, whole->data, whole->size);
        for (unsigned i = dice() % 4; i < 4; i++)
            data[dice() % whole->size] = (unsigned char)dice();
        read_all(spill_memory(data, whole->size), NULL, &e);
    }
    free(data);
    return test_ok(name, 1);
}

static int test_garbage(void)
{
    long passed = 0;
    for (int r = 0; r < 1000; r++) {
        static const unsigned char begin[][16] = {"", "\x83\xa6stream\xa1" "a\xa7", "\x28\xb5\x2f\xfd\x24", "\xde",
                                                  "\x50\x2a\x4d\x18"};
        static const int length[] = {0, 11, 5, 1, 4};
        unsigned char data[300];
        Err e = {0};
        const unsigned kind = dice() % 5;
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (unsigned char)dice();
        memcpy(data, begin[kind], (size_t)length[kind]);
        passed += read_all(spill_memory(data, dice() % sizeof data), NULL, &e) >= 0;
    }
    return test_ok("garbage is refused", passed == 0);
}

int main(void)
{
    int failed = 0;
    Err e = {0};
    uint64_t sum = 0, plain_sum = 0;
    write_sample(scratch("z"), 3, 40, NULL);
    write_sample(scratch("p"), 3, 40, &(StreamOptions){.level = STREAM_NO_COMPRESS});
    Blob z = slurp(scratch("z")), p = slurp(scratch("p"));
    failed += test_ok("whole", read_all(scratch("z"), &sum, &e) == 3 && read_all(scratch("p"), &plain_sum, &e) == 3
                      && sum == plain_sum);
    failed += test_cuts("compressed", &z);
    failed += test_cuts("plain", &p);
    failed += test_flips("compressed", &z, sum, false);
    failed += test_noise("noise in a compressed stream does not crash", &z, 1000);
    failed += test_noise("noise in a plain stream does not crash", &p, 3000);
    failed += test_garbage();
    free(z.data);
    free(p.data);
    scratch_clear();
    return failed != 0;
}
