/* SPDX-License-Identifier: MIT */
/* stream_index.c -- the index of a stream: every record is reached by it, in joined files too; a damaged one is refused
 * or passed over, and one that lies with a good checksum crashes nothing and takes no memory. */
#include "formats/fnv.h"
#include "formats/seek_table.h"
#include "tests/unit/stream_test.h"

enum { RECORDS = 40, HEAD = 32, FOOTER = 9 };
static const StreamOptions indexed = {.index = true};

static uint32_t seed = 1;

static uint32_t dice(void)
{
    return seed = seed * 1664525u + 1013904223u, seed >> 8;
}

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

static void put(unsigned char *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (unsigned char)(value >> 8*i);
}

/* Where the index of a file begins: its table says how long it is. */
static size_t index_at(const Blob *b)
{
    const size_t entries = get(b->data + b->size - FOOTER, 4), table = 8 + 12*entries + FOOTER;
    return b->size - table - (HEAD + 8*(entries - 1));
}

/* Bytes that are changed keep a right checksum. */
static void sign(const Blob *b, size_t at)
{
    put(b->data + at + 16, fnv_bytes(FNV_BASIS, b->data + at + 24, b->size - at - 24), 8);
}

/* The seed of the record after `skipped` others; 0: the stream ends there; -1: error. */
static long long seed_after(const char *path, long skipped, Err *e)
{
    StreamIn *in;
    Record rec;
    long long found = -1;
    if (stream_open(&in, path, e))
        return -1;
    const long passed = stream_skip(in, skipped, e);
    if (passed >= 0) {
        const int got = stream_next(in, &rec, e);
        found = got > 0 ? record_int(&rec, "seed", -2) : got;
    }
    if (found > 0 && rec.number != passed + 1)
        found = -3;
    stream_close(in);
    return found;
}

static long count_checked(const char *path, Err *e)
{
    StreamIn *in;
    Record rec;
    int got;
    long count = 0;
    if (stream_open_checked(&in, path, e))
        return -1;
    while ((got = stream_next(in, &rec, e)) > 0)
        count++;
    stream_close(in);
    return got < 0 ? -1 : count;
}

static int test_reached(void)
{
    int failed = 0;
    Err e = {0};
    StreamIn *in;
    Record rec;
    const SeekTable *t;
    write_sample(scratch("i"), RECORDS, 50000, &indexed);           /* 100 KB a record: 11 of them a frame */
    write_sample(scratch("plain"), RECORDS, 50000, NULL);
    Blob i = slurp(scratch("i")), plain = slurp(scratch("plain"));
    const size_t at = index_at(&i);
    failed += test_ok("index/behind the same bytes", at == plain.size && memcmp(i.data, plain.data, at) == 0);
    failed += test_ok("index/read as a stream", read_all(scratch("i"), NULL, &e) == RECORDS);
    failed += test_ok("index/checked", count_checked(scratch("i"), &e) == RECORDS);
    if (stream_open(&in, scratch("i"), &e) || stream_index(in, &t, &e) != 1)
        return failed + test_ok(e.text, 0);
    failed += test_ok("index/says", t->records == RECORDS && t->count == 7 && t->frame[0].header && !t->frame[1].header
                      && t->frame[2].first == 11 && t->frame[5].packed + t->frame[6].packed == i.size - at);
    failed += test_ok("index/skip, read, skip", stream_skip(in, 20, &e) == 20 && stream_next(in, &rec, &e) == 1
                      && rec.number == 21 && stream_skip(in, 3, &e) == 3 && stream_skip(in, 12, &e) == 12
                      && stream_next(in, &rec, &e) == 1 && record_int(&rec, "seed", 0) == 5000000036);
    failed += test_ok("index/skip over the end", stream_skip(in, 100, &e) == RECORDS - 37
                      && stream_next(in, &rec, &e) == 0);
    stream_close(in);
    long wrong = 0;
    for (long k = 0; k < RECORDS; k++)
        wrong += seed_after(scratch("i"), k, &e) != 5000000000 + k
              || seed_after(scratch("plain"), k, &e) != 5000000000 + k;
    failed += test_ok("index/each record, with and without", wrong == 0 && seed_after(scratch("i"), RECORDS, &e) == 0);

    /* Three files joined, the second without an index, then all with one */
    unsigned char *joined = malloc(3*i.size);
    memcpy(joined, i.data, i.size);
    memcpy(joined + i.size, i.data, i.size);
    memcpy(joined + 2*i.size, plain.data, plain.size);
    wrong = 0;
    for (int n = 2; n <= 3; n++) {
        spill("j", joined, n == 2 ? 2*i.size : 2*i.size + plain.size);
        if (stream_open(&in, scratch("j"), &e))
            return failed + test_ok(e.text, 0);
        failed += test_ok("joined/has an index when all have", stream_index(in, &t, &e) == (n == 2));
        stream_close(in);
        for (long k = 0; k < n*RECORDS; k += 3)
            wrong += seed_after(scratch("j"), k, &e) != 5000000000 + k%RECORDS;
        failed += test_ok("joined/checked", count_checked(scratch("j"), &e) == n*RECORDS);
    }
    failed += test_ok("joined/each record", wrong == 0);
    free(joined);
    free(i.data);
    free(plain.data);
    return failed;
}

/* An index is read past by those who read through; by skipping, a record is the right one or is refused. */
static int test_damage(void)
{
    long wrong = 0, refused = 0, checked = 0, through = 0;
    write_sample(scratch("small"), 3, 40, &indexed);
    Blob b = slurp(scratch("small"));
    const size_t at = index_at(&b);
    for (size_t bit = 8*at; bit < 8*b.size; bit++) {
        Err e = {0};
        b.data[bit/8] ^= (unsigned char)(1u << bit%8);
        const char *path = spill_memory(b.data, b.size);
        const long long found = seed_after(path, 2, &e);
        wrong += found != -1 && found != 5000000002;
        refused += found == -1;
        e = (Err){0};
        through += read_all(path, NULL, &e) == 3;
        e = (Err){0};
        checked += count_checked(path, &e) == 3;
        b.data[bit/8] ^= (unsigned char)(1u << bit%8);
    }
    const size_t bits = 8*(b.size - at);
    test_note("of %zu bits flipped %ld are refused when records are skipped, %ld by a check, %ld when all is read",
              bits, refused, (long)bits - checked, (long)bits - through);
    int failed = test_ok("damage/no other record", wrong == 0 && refused > (long)bits/2 && through > (long)bits/2);
    long cut_wrong = 0;
    for (size_t n = at; n < b.size; n++) {
        Err e = {0};
        const long long found = seed_after(spill_memory(b.data, n), 2, &e);
        cut_wrong += found != -1 && found != 5000000002;
    }
    failed += test_ok("damage/cut", cut_wrong == 0);
    free(b.data);
    return failed;
}

/* A number of the index is another, under a checksum that is right. */
typedef struct Lie {
    const char *name;
    size_t place;
    uint64_t value;
    int bytes;
    const char *words;          /* of the message when 30 records are skipped; NULL: all is right all the same */
    long checked, read;         /* records by a check, and when all is read; -1: refused */
} Lie;

static int lies(const Blob *good, const Lie *lie)
{
    Err e = {0}, ignored = {0};
    char title[100];
    Blob b = {malloc(good->size), good->size};
    memcpy(b.data, good->data, b.size);
    put(b.data + lie->place, lie->value, lie->bytes);
    sign(&b, index_at(good));
    const char *path = spill_memory(b.data, b.size);
    snprintf(title, sizeof title, "lie/%s", lie->name);
    long last = -1, number = 0;
    StreamIn *in;
    Record rec;
    if (stream_open(&in, path, &e) == 0 && (number = stream_skip(in, 30, &e)) >= 0)
        while ((last = stream_next(in, &rec, &e)) > 0)
            number += record_int(&rec, "seed", 0) == 5000000000 + number;
    stream_close(in);
    const bool as_said = lie->words ? last == -1 && strstr(e.text, lie->words) : last == 0 && number == RECORDS;
    const long checked = count_checked(path, &ignored), read = read_all(path, NULL, &ignored);
    const int failed = test_ok(title, as_said && checked == lie->checked && read == lie->read);
    if (failed)
        printf("     %ld records, message: %s; checked: %ld, read: %ld\n", number, e.text, checked, read);
    free(b.data);
    return failed;
}

static int test_lies(void)
{
    int failed = 0;
    Blob b = slurp(scratch("i"));
    const size_t at = index_at(&b), list = at + HEAD, table = list + 8*5 + 8, footer = b.size - FOOTER;
    const uint64_t packed = get(b.data + table + 12*2, 4), plain = get(b.data + table + 12*3 + 4, 4);
    const Lie lie[] = {
        {"records in all", at + 24, RECORDS + 11, 8, NULL, -1, RECORDS},
        {"more records than bytes", at + 24, (uint64_t)1 << 62, 8, "where none can be", -1, RECORDS},
        {"records go backwards", list + 16, 2000, 8, "where none can be", -1, RECORDS},
        {"not from the first", list, 1, 8, "where none can be", -1, RECORDS},
        {"another record", list + 24, 20, 8, "the end record counts 40 records", -1, RECORDS},
        {"no header", list, 0, 8, NULL, -1, RECORDS},
        {"two headers", list + 24, 22 | (uint64_t)1 << 63, 8, "goes on after its end record", -1, RECORDS},
        {"frames end behind the file", table, get(b.data + table, 4) + 1, 4, "more bytes than the file", -1, RECORDS},
        {"a frame of 4 GB", table + 12, 0xffffffff, 4, "more bytes than the file has", -1, RECORDS},
        {"a frame that holds more", table + 12*3 + 4, plain + 1, 4, "no frame of", -1, RECORDS},
        {"frames begin too late: not of this file", table + 12*2, packed - 9, 4, NULL, RECORDS, RECORDS},
        {"a frame too many: not of this file", footer, 7, 4, NULL, RECORDS, RECORDS},
        {"as many frames as can be said", footer, 0xffffffff, 4, "larger than the file", -1, RECORDS},
        {"size of the list", at + 4, 0xfffffff0, 4, "sizes do not agree", -1, -1},
        {"size of the table", table - 4, 3, 4, "sizes do not agree", -1, -1},
    };
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++)
        failed += lies(&b, &lie[i]);
    put(b.data + table + 12*3, get(b.data + table + 12*3, 4) - 9, 4);
    failed += lies(&b, &(Lie){"frames elsewhere", table + 12*2, packed + 9, 4, "no frame of", -1, RECORDS});
    put(b.data + table + 12*3, get(b.data + table + 12*3, 4) + 9, 4);
    for (int round = 0; round < 1000; round++) {                    /* what is looked for here is a crash */
        Err e = {0};
        Blob bad = {malloc(b.size), b.size};
        memcpy(bad.data, b.data, b.size);
        for (unsigned n = dice()%4 + 1; n > 0; n--)
            bad.data[at + 24 + dice()%(b.size - at - 24)] = (unsigned char)dice();
        sign(&bad, at);
        seed_after(spill_memory(bad.data, bad.size), dice()%50, &e);
        free(bad.data);
    }
    failed += test_ok("lie/noise crashes nothing", 1);
    free(b.data);
    return failed;
}

/* Tables of the same frames differ where both say checksums and these do. */
static int test_difference(void)
{
    SeekFrame x[2] = {{.packed = 9, .plain = 20, .header = true, .checked = true, .checksum = 7},
                      {.at = 9, .packed = 9, .plain = 20, .first = 3, .checked = true, .checksum = 8}}, y[2];
    const SeekTable a = {.frame = x, .count = 2, .records = 5}, b = {.frame = y, .count = 2, .records = 5};
    memcpy(y, x, sizeof y);
    int failed = test_ok("difference/none", seek_table_difference(&a, &b) == -1);
    y[1].checksum = 9;
    failed += test_ok("difference/a checksum", seek_table_difference(&a, &b) == 1);
    y[1].checked = false;
    failed += test_ok("difference/one that is not said", seek_table_difference(&a, &b) == -1);
    return failed;
}

int main(void)
{
    int failed = test_reached();
    failed += test_damage() + test_lies() + test_difference();
    scratch_clear();
    return failed != 0;
}
