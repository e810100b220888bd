/* SPDX-License-Identifier: MIT */
/* seek_table.c -- the index at a file's end, to bytes and back. Little-endian; n frames come before it:
 *
 *     5d 2a 4d 18   u32 size   "records" 01   u64 FNV-1a of all that follows, to the end of the index
 *                   u64 records   n x u64: records before those that begin in the frame; bit 63: a header begins it
 *     5e 2a 4d 18   u32 size   n + 1 x {u32 packed, u32 plain [, u32 checksum]}
 *                   u32 n + 1   u8 flags   b1 ea 92 8f
 *
 * The latter is the seek table of zstd's published seekable format 0.1.0 (facebook/zstd,
 * contrib/seekable_format/zstd_seekable_compression_format.md) and counts the former as one more frame. It says where
 * it begins only by its sums, so that files that were joined are read from the last index to the first.
 *
 * No memory is taken for a size before that many bytes are seen to be in the file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "formats/fdio.h"
#include "formats/fnv.h"
#include "formats/little.h"
#include "formats/seek_table.h"

enum { SKIP_HEAD = 8, RECORDS_HEAD = SKIP_HEAD + 24, FOOTER = 9, CHECKED = 0x80, RESERVED = 0x7c };
static const uint32_t RECORDS_SKIP = 0x184d2a5d, TABLE_SKIP = 0x184d2a5e, TABLE_MAGIC = 0x8f92eab1;
static const uint32_t NOTHING = 0x51d8e999;                     /* lower half of XXH64 of no bytes */
static const uint64_t HEADER_BIT = (uint64_t)1 << 63;
static const char RECORDS_MAGIC[8] = {'r', 'e', 'c', 'o', 'r', 'd', 's', 1};
static const size_t MOST_FRAMES = (size_t)1 << 27;              /* that zstd's own reader takes */
static const uint64_t LARGEST = (uint64_t)64 << 20;             /* bytes in a frame of several records */

SeekFrame *seek_table_add(SeekTable *t)
{
    if (t->count == t->room) {
        const size_t room = t->room ? 2*t->room : 64;
        SeekFrame *more = realloc(t->frame, room * sizeof *more);
        if (!more)
            return NULL;
        t->frame = more;
        t->room = room;
    }
    SeekFrame *f = &t->frame[t->count++];
    *f = (SeekFrame){0};
    return f;
}

void seek_table_clear(SeekTable *t)
{
    free(t->frame);
    *t = (SeekTable){0};
}

/* ---- to bytes ---- */

const char *seek_table_unfit(const SeekTable *t)
{
    if (t->header_inside)
        return "a header lies inside a frame";
    if (t->count >= MOST_FRAMES)                    /* the list of records is one more */
        return "it has more frames than a seek table takes";
    for (size_t i = 0; i < t->count; i++) {
        const SeekFrame *f = &t->frame[i];
        const uint64_t next = i + 1 < t->count ? f[1].first : t->records;
        if (f->plain > 0 && !f->whole)
            return "a frame begins inside a record";
        if (f->plain > LARGEST && next > f->first + 1)
            return "a frame of over 64 MiB holds several records";
        if (f->packed > UINT32_MAX || f->plain > UINT32_MAX)
            return "a frame is over 4 GiB";
    }
    return NULL;
}

static uint8_t *put(uint8_t *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (uint8_t)(value >> 8*i);
    return p;
}

int seek_table_pack(const SeekTable *t, Bytes *b, const char *name, Err *e)
{
    bool checked = true;                            /* the flag is one for all */
    for (size_t i = 0; i < t->count; i++)
        checked &= t->frame[i].plain == 0 || t->frame[i].checked;
    const size_t entry = checked ? 12 : 8, n = t->count;
    const size_t records = RECORDS_HEAD + 8*n, table = SKIP_HEAD + entry*(n + 1) + FOOTER;
    if (n >= MOST_FRAMES || bytes_reserve(b, records + table))
        return err_set(e, "%s: its index of %zu frames does not fit into memory or the format", name, n);
    uint8_t *begin = b->data + b->size, *p = begin;
    p = put(p, RECORDS_SKIP, 4);
    p = put(p, records - SKIP_HEAD, 4);
    memcpy(p, RECORDS_MAGIC, sizeof RECORDS_MAGIC);
    p += sizeof RECORDS_MAGIC + 8;
    p = put(p, t->records, 8);
    for (size_t i = 0; i < n; i++)
        p = put(p, t->frame[i].first | (t->frame[i].header ? HEADER_BIT : 0), 8);
    p = put(p, TABLE_SKIP, 4);
    p = put(p, table - SKIP_HEAD, 4);
    for (size_t i = 0; i <= n; i++) {
        const SeekFrame *f = i < n ? &t->frame[i] : &(SeekFrame){.packed = records};
        p = put(p, f->packed, 4);
        p = put(p, f->plain, 4);
        if (checked)
            p = put(p, f->plain ? f->checksum : NOTHING, 4);
    }
    p = put(p, n + 1, 4);
    p = put(p, checked ? CHECKED : 0, 1);
    p = put(p, TABLE_MAGIC, 4);
    put(begin + SKIP_HEAD + 8, fnv_bytes(FNV_BASIS, begin + SKIP_HEAD + 16, (size_t)(p - begin) - SKIP_HEAD - 16), 8);
    b->size += records + table;
    return 0;
}

/* ---- from bytes ---- */

static int read_at(int fd, void *data, size_t n, uint64_t at, const char *name, Err *e)
{
    return fd_read_at(fd, data, n, at) == 0 ? 0
        : err_set(e, "%s: reading its index: %s", name, errno ? strerror(errno) : "the file became shorter");
}

static bool is_records(const uint8_t *p)
{
    return little(p, 4) == RECORDS_SKIP && memcmp(p + SKIP_HEAD, RECORDS_MAGIC, sizeof RECORDS_MAGIC) == 0;
}

static int damaged(const char *name, const char *why, Err *e)
{
    return err_set(e, "%s: its index is damaged: %s (tstream index makes another)", name, why);
}

/* The frames of one index, the last first: the two frames of the index itself, then those that it lists. */
static int add_backwards(SeekTable *t, const uint8_t *records, const uint8_t *table, size_t n, size_t entry,
                         const char *name, Err *e)
{
    const uint64_t total = little(records + RECORDS_HEAD - 8, 8);
    uint64_t after = total;
    for (size_t i = n + 2; i-- > 0;) {
        SeekFrame *f = seek_table_add(t);
        if (!f)
            return err_set(e, "%s: out of memory for its index", name);
        const uint8_t *said = table + SKIP_HEAD + entry*i;
        f->packed = i <= n ? little(said, 4) : SKIP_HEAD + entry*(n + 1) + FOOTER;
        f->plain = i <= n ? little(said + 4, 4) : 0;
        f->checked = f->plain > 0 && entry == 12;
        f->checksum = f->checked ? (uint32_t)little(said + 8, 4) : 0;
        const uint64_t place = i < n ? little(records + RECORDS_HEAD + 8*i, 8) : total;
        f->first = place & ~HEADER_BIT;
        f->header = place & HEADER_BIT;
        f->whole = f->plain > 0;
        /* Each record takes a byte or more of the frame in which it begins. */
        if (f->first > after || after - f->first > f->plain || (f->header && f->plain == 0) || (i >= n && f->plain))
            return damaged(name, "it counts records where none can be", e);
        after = f->first;
    }
    return after == 0 ? 0 : damaged(name, "it counts records where none can be", e);
}

/* The index that ends at byte `end`. 1: its frames were added, the last first; 0: none is there. */
static int read_one(SeekTable *t, int fd, uint64_t begin, uint64_t end, const char *name, Err *e)
{
    uint8_t footer[FOOTER], head[RECORDS_HEAD];
    if (end - begin < RECORDS_HEAD + SKIP_HEAD + FOOTER)
        return 0;
    if (read_at(fd, footer, FOOTER, end - FOOTER, name, e))
        return -1;
    if (little(footer + 5, 4) != TABLE_MAGIC || (footer[4] & RESERVED))
        return 0;
    const uint64_t count = little(footer, 4), entry = footer[4] & CHECKED ? 12 : 8;
    const uint64_t table_size = SKIP_HEAD + entry*count + FOOTER;
    if (count == 0 || table_size > end - begin - RECORDS_HEAD)
        return count == 0 ? 0 : damaged(name, "it claims to be larger than the file", e);
    if (read_at(fd, head, entry, end - FOOTER - entry, name, e))
        return -1;
    const uint64_t size = little(head, 4), n = count - 1;      /* the last entry: the list of records, if it is ours */
    if (size < RECORDS_HEAD || size > end - begin - table_size)
        return 0;
    if (read_at(fd, head, RECORDS_HEAD, end - table_size - size, name, e))
        return -1;
    if (!is_records(head))
        return 0;
    if (size != RECORDS_HEAD + 8*n || little(head + 4, 4) != size - SKIP_HEAD)
        return damaged(name, "its sizes do not agree", e);
    uint8_t *all = malloc(size + table_size);
    if (!all)
        return err_set(e, "%s: out of memory for its index", name);
    const uint8_t *table = all + size;
    int failed = read_at(fd, all, size + table_size, end - table_size - size, name, e);
    if (!failed
        && fnv_bytes(FNV_BASIS, all + SKIP_HEAD + 16, size + table_size - SKIP_HEAD - 16) != little(head + 16, 8))
        failed = damaged(name, "its checksum is wrong", e);
    if (!failed && (little(table, 4) != TABLE_SKIP || little(table + 4, 4) != table_size - SKIP_HEAD))
        failed = damaged(name, "its sizes do not agree", e);
    failed = failed || add_backwards(t, all, table, n, entry, name, e);
    free(all);
    return failed ? -1 : 1;
}

/* The last first to the first first, and the sums of what comes before each. */
static void put_in_order(SeekTable *t, uint64_t begin)
{
    for (size_t i = 0; i < t->count/2; i++) {
        const SeekFrame other = t->frame[i];
        t->frame[i] = t->frame[t->count - 1 - i];
        t->frame[t->count - 1 - i] = other;
    }
    uint64_t at = begin, plain_at = 0, records = 0, before = 0;
    for (size_t i = 0; i < t->count; i++) {
        SeekFrame *f = &t->frame[i];
        if (i > 0 && f->first < before)             /* counts begin anew: the part before ended with its index */
            records += before;
        before = f->first;
        f->first += records;
        f->at = at;
        f->plain_at = plain_at;
        at += f->packed;
        plain_at += f->plain;
    }
    t->records = records + before;
}

int seek_table_read(SeekTable *t, int fd, uint64_t begin, uint64_t end, const char *name, Err *e)
{
    int got = 1;
    *t = (SeekTable){0};
    for (uint64_t at = end; at > begin && got > 0;) {
        const size_t have = t->count;
        got = read_one(t, fd, begin, at, name, e);
        uint64_t covered = 0;
        for (size_t i = have; i < t->count; i++)
            covered += t->frame[i].packed;
        if (got > 0 && covered > at - begin)
            got = damaged(name, "its frames take more bytes than the file has", e);
        at -= covered;
    }
    if (got > 0)
        put_in_order(t, begin);
    else
        seek_table_clear(t);
    return got;
}

bool seek_table_owns(int fd, const SeekFrame *f)
{
    uint8_t p[RECORDS_HEAD];
    Err ignored = {0};
    if (f->plain > 0 || f->packed < SKIP_HEAD + FOOTER || read_at(fd, p, SKIP_HEAD + FOOTER, f->at, "", &ignored))
        return false;
    if (is_records(p))
        return true;
    return little(p, 4) == TABLE_SKIP && read_at(fd, p, FOOTER, f->at + f->packed - FOOTER, "", &ignored) == 0
        && little(p + 5, 4) == TABLE_MAGIC;
}

/* ---- looking up ---- */

size_t seek_table_find(const SeekTable *t, uint64_t record)
{
    size_t low = 0, high = t->count;                /* frame[low].first < record; frame[high].first is not, or none */
    while (high - low > 1) {
        const size_t middle = low + (high - low)/2;
        if (t->frame[middle].first < record)
            low = middle;
        else
            high = middle;
    }
    while (low > 0 && t->frame[low].plain == 0)
        low--;
    return low;
}

size_t seek_table_header(const SeekTable *t, size_t frame)
{
    while (frame > 0 && !t->frame[frame].header)
        frame--;
    return frame;
}

long seek_table_difference(const SeekTable *a, const SeekTable *b)
{
    const size_t n = a->count < b->count ? a->count : b->count;
    for (size_t i = 0; i < n; i++) {
        const SeekFrame *x = &a->frame[i], *y = &b->frame[i];
        if (x->at != y->at || x->packed != y->packed || x->plain != y->plain || x->first != y->first
            || x->header != y->header || (x->checked && y->checked && x->checksum != y->checksum))
            return (long)i;
    }
    return a->count == b->count && a->records == b->records ? -1 : (long)n;
}
