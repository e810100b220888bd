/* SPDX-License-Identifier: MIT */
/* stream.c -- tensor streams: bytes made by hand, round trips, joined streams, equal bytes, and what is refused with
 * which words. */
#include <dirent.h>
#include "formats/frame_writer.h"
#include "tests/unit/stream_test.h"

/* {"stream":"latents","version":1,"provenance":[]}  {"id":"a","latent":f32 (2) = 1, -2}  {"end":1} */
#define HEADER "\x83\xa6stream\xa7latents\xa7version\x01\xaaprovenance\x90"
static const unsigned char by_hand[] =
    HEADER
    "\x82\xa2id\xa1" "a\xa6latent\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f4\xc4\x04kind\xc4\x00\xc4\x05shape\x91\x02"
    "\xc4\x04" "data\xc4\x08\x00\x00\x80\x3f\x00\x00\x00\xc0"
    "\x81\xa3" "end\x01";
enum { BY_HAND = sizeof by_hand - 1, HEADER_SIZE = sizeof HEADER - 1 };

static int test_by_hand(void)
{
    int failed = 0;
    Err e = {0};
    StreamIn *in;
    Record rec;
    char text[128];
    failed += test_ok("by hand/open", stream_open_kind(&in, spill("hand", by_hand, BY_HAND), "latents", &e) == 0);
    if (failed) {
        printf("%s\n", e.text);
        return failed;
    }
    failed += test_ok("by hand/record", stream_next(in, &rec, &e) == 1 && rec.number == 1);
    failed += test_text("by hand/id", record_text(&rec, "id", ""), "a");
    const StreamTensor *t = stream_need(in, &rec, "latent", F32, 1, (int64_t[]){2}, &e);
    failed += test_text("by hand/shape", t ? tensor_shape_text(t, text) : "", "f32 (2)");
    failed += test_ok("by hand/aligned", t && (uintptr_t)t->data % 64 == 0);
    failed += test_same("by hand/values", t->data, (float[]){1, -2}, 8);
    failed += test_ok("by hand/need", !stream_need(in, &rec, "latent", -1, 2, (int64_t[]){4, -1}, &e));
    failed += test_ok("by hand/need text",
                      strstr(e.text, "record 1: latent is f32 (2), expected f32, f16 or bf16 (4, *)") != NULL);
    e = (Err){0};
    failed += test_ok("by hand/end", stream_next(in, &rec, &e) == 0 && stream_next(in, &rec, &e) == 0);
    failed += test_ok("by hand/bytes", stream_bytes_in(in) == BY_HAND && stream_bytes_total(in) == BY_HAND);
    stream_close(in);

    Record header;                                          /* the same stream, written: the same bytes */
    StreamOut *out;
    const float latent[] = {1, -2};
    record_init(&header, "latents");
    record_provenance(&header, NULL, NULL);
    int bad = stream_create(&out, scratch("written"), &header, &(StreamOptions){.level = STREAM_NO_COMPRESS}, &e);
    record_init(&rec, NULL);
    record_set_text(&rec, "id", "a");
    record_add_tensor(&rec, "latent", F32, 1, (int64_t[]){2}, latent);
    bad = bad || stream_write(out, &rec, &e) || stream_finish(out, &e);
    failed += test_ok("by hand/write", !bad);
    stream_abandon(out);
    record_clear(&rec);
    record_clear(&header);
    Blob b = slurp(scratch("written"));
    failed += test_ok("by hand/length", b.size == BY_HAND);
    failed += test_same("by hand/bytes written", b.data, by_hand, b.size < BY_HAND ? b.size : BY_HAND);
    free(b.data);
    return failed;
}

static int test_round_trip(void)
{
    int failed = 0;
    Err e = {0};
    StreamIn *in;
    Record rec;
    write_sample(scratch("s1"), 40, 50000, NULL);           /* 4 MB: several frames */
    write_sample(scratch("plain"), 40, 50000, &(StreamOptions){.level = STREAM_NO_COMPRESS});
    uint64_t one = 0, two = 1;
    failed += test_ok("round trip/compressed", read_all(scratch("s1"), &one, &e) == 40);
    failed += test_ok("round trip/plain", read_all(scratch("plain"), &two, &e) == 40);
    failed += test_ok("round trip/equal", one == two);
    if (stream_open(&in, scratch("s1"), &e) || stream_next(in, &rec, &e) != 1)
        return 1 + test_ok(e.text, 0);
    char *more = json_dumps(json_object_get(rec.fields, "more"), JSON_COMPACT);
    failed += test_text("round trip/nested", more, "{\"list\":[-7,0.25,null,true]}");
    free(more);
    failed += test_text("round trip/utf-8", record_text(&rec, "id", ""), "Fishes/\xc3\xa9/3");
    failed += test_ok("round trip/seed", record_int(&rec, "seed", 0) == 5000000000);
    failed += test_ok("round trip/fallbacks", record_int(&rec, "id", -3) == -3 && record_int(&rec, "none", -4) == -4
                      && strcmp(record_text(&rec, "seed", "x"), "x") == 0 && record_number(&rec, "seed", 0) == 5e9);
    const Record *header = stream_header(in);
    failed += test_ok("round trip/header", record_number(header, "guidance", 0) == 7.5 && header->tensors == 1
                      && header->number == 0);
    failed += test_same("round trip/uncond", record_tensor(header, "uncond")->data, (float[]){1, -2, 0.5f}, 12);
    float *y = malloc(50000 * sizeof *y);
    failed += test_ok("round trip/floats", stream_floats(in, &rec, &rec.tensor[0], y, &e) == 0);
    failed += test_ok("round trip/value", y[1] == 1 + 7.0f / 1024);
    free(y);
    stream_close(in);

    Blob a = slurp(scratch("s1"));
    write_sample(scratch("s2"), 40, 50000, &(StreamOptions){.level = 1, .threads = 2});
    Blob b = slurp(scratch("s2"));
    failed += test_ok("equal bytes/length", a.size == b.size);
    failed += test_same("equal bytes", a.data, b.data, a.size);

    unsigned char *joined = malloc(2*a.size);
    memcpy(joined, a.data, a.size);
    memcpy(joined + a.size, b.data, b.size);
    failed += test_ok("joined/two streams", read_all(spill("j", joined, 2*a.size), NULL, &e) == 80);
    failed += test_ok("joined/second cut", read_all(spill("j", joined, 2*a.size - 1), NULL, &e) == -1);
    e = (Err){0};
    /* A skippable frame of 4 bytes at the end, then only half of it */
    Blob skip = {joined, a.size + 12};
    memcpy(joined + a.size, "\x5e\x2a\x4d\x18\x04\0\0\0abcd", 12);
    failed += test_ok("skippable/read over", read_all(spill("j", skip.data, skip.size), NULL, &e) == 40);
    failed += test_ok("skippable/cut", read_all(spill("j", skip.data, skip.size - 2), NULL, &e) == -1);
    free(joined);
    free(a.data);
    free(b.data);
    return failed;
}

static int threads_now(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    for (const struct dirent *at; tasks && (at = readdir(tasks)); )
        count += at->d_name[0] != '.';
    if (tasks)
        closedir(tasks);
    return count;
}

/* FrameWrite */
static int collect(void *written, const void *data, size_t n, Err *e)
{
    Bytes *b = written;
    if (bytes_reserve(b, n))
        return err_set(e, "out of memory");
    memcpy(b->data + b->size, data, n);
    b->size += n;
    return 0;
}

/* A frame of each size; returns how many threads there are then beyond those before. */
static int write_frames(Bytes *written, const size_t *sizes, int count, int threads)
{
    Err e = {0};
    FrameWriter *f;
    Bytes frame = {0};
    const int before = threads_now();
    int failed = frame_writer_create(&f, 1, threads, "test", collect, written, &e);
    for (int i = 0; i < count && !failed; i++) {
        failed = bytes_reserve(&frame, sizes[i]);
        for (size_t k = 0; k < sizes[i] && !failed; k++)
            frame.data[k] = (uint8_t)(k * k / 7 + (size_t)i);
        frame.size = sizes[i];
        failed = failed || frame_writer_add(f, &frame, &e);
    }
    failed = failed || frame_writer_drain(f, &e);
    const int more = threads_now() - before;
    frame_writer_free(f);
    free(frame.data);
    return failed ? -1 : more;
}

static int test_threads(void)
{
    static const size_t sizes[] = {300, 5000, 1 << 20, 20, 1 << 20, 3 << 20, 7};
    int failed = 0;
    Bytes small = {0}, one = {0}, three = {0};
    failed += test_ok("threads/none for small frames", write_frames(&small, sizes, 2, 3) == 0);
    failed += test_ok("threads/none when not wanted", write_frames(&one, sizes, 7, 1) == 0);
    failed += test_ok("threads/at the first large frame", write_frames(&three, sizes, 7, 3) == 3);
    failed += test_ok("threads/length", one.size == three.size && small.size < one.size);
    failed += test_same("threads/bytes", three.data, one.data, one.size)
        + test_same("threads/begins alike", small.data, one.data, small.size);
    free(small.data);
    free(one.data);
    free(three.data);
    return failed;
}

/* Bytes that must be refused, and a part of the message. */
static int refused(const char *name, const void *data, size_t size, const char *words)
{
    Err e = {0};
    char title[200];
    snprintf(title, sizeof title, "refused/%s", name);
    const long count = read_all(spill("bad", data, size), NULL, &e);
    int failed = test_ok(title, count == -1 && strstr(e.text, words) != NULL);
    if (failed)
        printf("     %ld records; message: %s; expected: ...%s...\n", count, e.text, words);
    return failed;
}

/* Plain msgpack after a good header. */
static int refused_after(const char *name, const char *bytes, size_t n, const char *words)
{
    unsigned char data[1024];
    memcpy(data, by_hand, HEADER_SIZE);
    memcpy(data + HEADER_SIZE, bytes, n);
    return refused(name, data, HEADER_SIZE + n, words);
}
#define REFUSED(name, bytes, words) refused(name, bytes, sizeof bytes - 1, words)
#define REFUSED_AFTER(name, bytes, words) refused_after(name, bytes, sizeof bytes - 1, words)
#define TENSOR(type, shape, data) \
    "\x81\xa1x\x85\xc4\x02nd\xc3\xc4\x04type" type "\xc4\x04kind\xc4\x00\xc4\x05shape" shape "\xc4\x04" "data" data

static int test_refused(void)
{
    int failed = 0;
    failed += REFUSED("empty", "", "is empty");
    failed += REFUSED("text", "hello, world", "neither a zstd frame nor a msgpack map");
    failed += REFUSED("json", "{\"a\": 1}", "is JSON text");
    failed += REFUSED("gzip", "\x1f\x8b\x08\x00\x00", "is a gzip file");
    failed += REFUSED("png", "\x89PNG\r\n\x1a\n", "is a PNG picture");
    failed += REFUSED("magic only", "\x28\xb5\x2f\xfd", "cut inside a compressed frame");
    failed += REFUSED("empty map", "\x80", "is an empty map");
    failed += REFUSED("no header", "\x81\xa2id\xa1" "a", "expected {\"stream\": kind, ...}");
    failed += REFUSED("end as header", "\x81\xa3" "end\x00", "expected {\"stream\": kind, ...}");
    failed += REFUSED("no version", "\x81\xa6stream\xa1" "a", "has no version");
    failed += REFUSED("version", "\x82\xa6stream\xa1" "a\xa7version\x02", "is version 2 of the format");
    failed += REFUSED("kind", "\x82\xa6stream\x05\xa7version\x01", "not the name of a kind");
    failed += REFUSED_AFTER("no end", "", "stopped after record 0 without an end record");
    failed += REFUSED_AFTER("end count", "\x81\xa3" "end\x07", "counts 7 records, 0 came");
    failed += REFUSED_AFTER("end without count", "\x81\xa3" "end\xa1x", "end record without a count");
    failed += REFUSED_AFTER("after the end", "\x81\xa3" "end\x00\x81\xa1x\x01", "goes on after its end record");
    failed += REFUSED_AFTER("garbage after the end", "\x81\xa3" "end\x00\x00\x00", "is not a msgpack map");
    failed += REFUSED_AFTER("zstd after plain", "\x81\xa3" "end\x00\x28\xb5\x2f\xfd", "is not a msgpack map");
    failed += REFUSED_AFTER("header too soon", "\x82\xa6stream\xa7latents\xa7version\x01",
                            "a new header came before the end");
    failed += REFUSED_AFTER("other kind", "\x81\xa3" "end\x00\x82\xa6stream\xa6images\xa7version\x01",
                            "has another stream: \"images\", the first has \"latents\"");
    failed += REFUSED_AFTER("other field", "\x81\xa3" "end\x00\x83\xa6stream\xa7latents\xa7version\x01\xa1m\x05",
                            "another m: 5");
    failed += REFUSED_AFTER("text over 16 MiB", "\x81\xa1x\xdb\x7f\xff\xff\xff" "abc", "text of over 16 MiB");
    failed += REFUSED_AFTER("binary of 4 GiB", "\x81\xa1x\xc6\xff\xff\xff\xff" "abc", "over 1 GiB");
    failed += REFUSED_AFTER("array of 4 G", "\x81\xa1x\xdd\xff\xff\xff\xff\x01", "more than 1048576 values");
    failed += REFUSED_AFTER("map of 4 G", "\xdf\xff\xff\xff\xff\xa1x", "more than 1048576 values");
#define EIGHT "\x91\x91\x91\x91\x91\x91\x91\x91"
    failed += REFUSED_AFTER("deep", "\x81\xa1x" EIGHT EIGHT EIGHT EIGHT EIGHT "\x01", "over 32 deep");
    failed += REFUSED_AFTER("extension", "\x81\xa1x\xd4\x01\x01", "no value of this format");
    failed += REFUSED_AFTER("never used byte", "\x81\xa1x\xc1", "no value of this format");
    failed += REFUSED_AFTER("number key", "\x81\x01\x01", "a key that is not text");
    failed += REFUSED_AFTER("nested number key", "\x81\xa1x\x81\x01\x01", "with a key that is not text");
    failed += REFUSED_AFTER("twice", "\x82\xa1x\x01\xa1x\x02", "holds field x twice");
    failed += REFUSED_AFTER("no name twice", "\x82\xa0\x01\xa0\x02", "holds field  twice");
    failed += REFUSED_AFTER("zero byte", "\x81\xa2x\0\x01", "a field with a zero byte in its name");
    failed += REFUSED_AFTER("a kept name", "\x82\xa1x\x01\xa3" "end\x02", "a field named end, which the format");
    failed += REFUSED_AFTER("another", "\x82\xa1x\x01\xa6stream\x02", "a field named stream, which the format keeps");
    failed += REFUSED_AFTER("nan", "\x81\xa1x\xcb\x7f\xf8\0\0\0\0\0\0", "field x is not a finite number");
    failed += REFUSED_AFTER("large integer", "\x81\xa1x\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "integer over 2^63 - 1");
    failed += REFUSED_AFTER("not utf-8", "\x81\xa1x\xa2\xff\xfe", "field x is not UTF-8 text");
    failed += REFUSED_AFTER("binary field", "\x81\xa1x\xc4\x01z", "field x is binary");
    failed += REFUSED_AFTER("big endian", TENSOR("\xa3>f4", "\x91\x01", "\xc4\x04" "abcd"),
                            "tensor x has an element type");
    failed += REFUSED_AFTER("short data", TENSOR("\xa3<f4", "\x91\x02", "\xc4\x04" "abcd"),
                            "does not agree with its bytes");
    failed += REFUSED_AFTER("negative", TENSOR("\xa3<f4", "\x91\xff", "\xc4\x04" "abcd"),
                            "a dimension that is not a count");
#define LARGE "\xce\x40\0\0\0"
    failed += REFUSED_AFTER("overflow", TENSOR("\xa3<f4", "\x94" LARGE LARGE LARGE LARGE, "\xc4\x00"), "overflows");
    failed += REFUSED_AFTER("seven dimensions", TENSOR("\xa3<f4", "\x97\1\1\1\1\1\1\1", "\xc4\x04" "abcd"),
                            "more than 6 dimensions");
    failed += REFUSED_AFTER("pickle", "\x81\xa1x\x85\xc4\x02nd\xc3\xc4\x04type\xa1O\xc4\x04kind\xc4\x01O\xc4\x05shape"
                            "\x91\x01\xc4\x04" "data\xc4\x04" "abcd", "pickled array, which is never read");
    failed += REFUSED_AFTER("tensor, then field of its name", "\x82\xa1x\x85\xc4\x02nd\xc3\xc4\x04type\xa3|u1"
                            "\xc4\x04kind\xc4\x00"
                            "\xc4\x05shape\x91\x01\xc4\x04" "data\xc4\x01" "a\xa1x\x05", "holds x twice");
    failed += REFUSED_AFTER("cut object", "\x82\xa1x\x01\xa1", "cut in the middle of it");
    return failed;
}

/* A numpy scalar, as Python programs write by accident, is a number. */
static int test_scalar(void)
{
    static const char data[] = HEADER
        "\x82\xa1x\x83\xc4\x02nd\xc2\xc4\x04type\xa3<f4\xc4\x04" "data\xc4\x04\x00\x00\xc0\x3f"
        "\xa1y\x83\xc4\x02nd\xc2\xc4\x04type\xa3<i2\xc4\x04" "data\xc4\x02\xfe\xff\x81\xa3" "end\x01";
    Err e = {0};
    StreamIn *in;
    Record rec;
    if (stream_open(&in, spill("scalar", data, sizeof data - 1), &e) || stream_next(in, &rec, &e) != 1)
        return test_ok(e.text, 0);
    int failed = test_ok("scalar/f4", record_number(&rec, "x", 0) == 1.5);
    failed += test_ok("scalar/i2", record_int(&rec, "y", 0) == -2);
    stream_close(in);
    return failed;
}

/* A field without a name comes first: msgpack-c has no place for such a text then. */
static int test_nameless(void)
{
    static const char data[] = HEADER "\x82\xa0\x07\xa1x\x81\xa0\xa0\x81\xa3" "end\x01";
    Err e = {0};
    StreamIn *in;
    Record rec;
    if (stream_open(&in, spill("nameless", data, sizeof data - 1), &e) || stream_next(in, &rec, &e) != 1)
        return test_ok(e.text, 0);
    char *text = json_dumps(rec.fields, JSON_COMPACT);
    const int failed = test_ok("a field without a name", strcmp(text, "{\"\":7,\"x\":{\"\":\"\"}}") == 0);
    free(text);
    stream_close(in);
    return failed;
}

/* `value` in that many arrays in one another. */
static json_t *nested(json_t *value, int arrays)
{
    for (int i = 0; i < arrays; i++)
        value = json_pack("[o]", value);
    return value;
}

/* Field x of a stream's one record: what stream_write says, and with what is written the reader agrees. */
static int write_field(json_t *value, Err *e)
{
    Record header, rec;
    StreamOut *out;
    *e = (Err){0};
    record_init(&header, "latents");
    record_init(&rec, NULL);
    record_set_json(&rec, "x", value);
    int failed = stream_create(&out, scratch("field"), &header, NULL, e) || stream_write(out, &rec, e)
              || stream_finish(out, e);
    stream_abandon(out);
    if (!failed)
        failed = read_all(scratch("field"), NULL, e) != 1;
    record_clear(&rec);
    record_clear(&header);
    return failed;
}

/* The limits of a reader are those of the writer. */
static int test_limits(void)
{
    int failed = 0;
    Err e;
    const size_t most = 16 << 20;
    char *text = malloc(most + 2);
    json_t *many = json_array();
    memset(text, 'a', most + 1);
    text[most + 1] = 0;
    for (int i = 0; i < (1 << 20) - 4; i++)             /* the record, its key and the array are values too */
        json_array_append_new(many, json_null());
    failed += test_ok("write/32 deep", write_field(nested(json_integer(1), 31), &e) == 0);
    failed += test_ok("write/33 deep", write_field(nested(json_integer(1), 32), &e) != 0
                      && strstr(e.text, "field x is nested over 32 deep"));
    failed += test_ok("write/text of 16 MiB", write_field(json_stringn(text, most), &e) == 0);
    failed += test_ok("write/longer text", write_field(json_string(text), &e) != 0
                      && strstr(e.text, "field x claims a text of over 16 MiB"));
    failed += test_ok("write/1048576 values", write_field(json_copy(many), &e) == 0);
    json_array_append_new(many, json_null());
    json_array_append_new(many, json_null());
    failed += test_ok("write/more values", write_field(many, &e) != 0 && strstr(e.text, "more than 1048576 values"));
    free(text);
    return failed;
}

static int test_writing(void)
{
    int failed = 0;
    Err e = {0};
    Record header, rec;
    StreamOut *out;
    record_init(&header, "latents");
    failed += test_ok("write/full disk", stream_create(&out, "/dev/full", &header, NULL, &e) == -1
                      && strstr(e.text, "/dev/full: writing: No space left on device") && !e.closed);
    e = (Err){0};
    failed += test_ok("write/no folder", stream_create(&out, scratch("none/x"), &header, NULL, &e) == -1
                      && strstr(e.text, "No such file or directory"));
    e = (Err){0};
    failed += test_ok("write/abandoned", stream_create(&out, scratch("ab"), &header, NULL, &e) == 0);
    stream_abandon(out);
    failed += test_ok("write/abandoned leaves nothing", access(scratch("ab"), F_OK) != 0);

    if (stream_create(&out, scratch("big"), &header, NULL, &e))
        return failed + test_ok(e.text, 0);
    record_init(&rec, NULL);
    record_add_tensor(&rec, "huge", F32, 2, (int64_t[]){65536, 65536}, &e);
    failed += test_ok("write/over 1 GiB", stream_write(out, &rec, &e) == -1 && strstr(e.text, "larger than 1 GiB"));
    e = (Err){0};
    record_clear(&rec);
    record_init(&rec, NULL);
    record_set_int(&rec, "end", 3);
    failed += test_ok("write/reserved name", stream_write(out, &rec, &e) == -1
                      && strstr(e.text, "may not be named end"));
    e = (Err){0};
    record_clear(&rec);
    stream_abandon(out);

    /* Labels ride along, what a stage says of itself does not */
    record_init(&rec, NULL);
    Record from = {.fields = json_pack("{s:s, s:i, s:s, s:i, s:i, s:s}", "id", "a", "seed", 7, "theme", "Cubism", "t",
                                       981,
                                       "step", 2, "hook", "up")};
    record_copy_fields(&rec, &from);
    char *text = json_dumps(rec.fields, JSON_COMPACT);
    failed += test_text("labels", text, "{\"id\":\"a\",\"seed\":7,\"theme\":\"Cubism\"}");
    free(text);
    record_clear(&from);
    record_clear(&rec);
    record_clear(&header);
    return failed;
}

int main(void)
{
    int failed = 0;
    failed += test_by_hand();
    failed += test_round_trip() + test_threads();
    failed += test_refused();
    failed += test_scalar() + test_nameless();
    failed += test_writing() + test_limits();
    scratch_clear();
    return failed != 0;
}
