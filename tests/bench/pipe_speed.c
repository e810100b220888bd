/* SPDX-License-Identifier: MIT */
/* pipe_speed.c -- GB/s between two programs: what the pipe passes on, then records of a stream written and read,
 * what each end can do by itself, and sae-fit's way from records to batches.
 *
 *     build/bench/pipe_speed [GB]      moved in each row, 4 when not given
 *
 * Records are (32, 32, 1280) of f16, as Stable Diffusion's hooks give them; GB are of the payload, 10^9 bytes. A
 * copy moves as many bytes as memcpy is asked to; "of a copy" is the share of its speed. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "formats/fdio.h"
#include "formats/pipe.h"
#include "formats/stream.h"
#include "kernels/op.h"
#include "src/models/batches.h"
#include "tests/bench/peak.h"

enum { H = 32, W = 32, C = 1280, BYTES = H*W*C*2, PLACES = 8 };

static size_t total;                    /* bytes of a row */
static double copy_speed;
static char *payload;                   /* PLACES records' tensors */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9*(double)t.tv_nsec;
}

static void die_if(int failed, const char *what)
{
    if (failed) {
        fprintf(stderr, "pipe_speed: %s\n", what);
        exit(1);
    }
}

static void say(const char *name, size_t bytes, double seconds)
{
    const double speed = 1e-9*(double)bytes/seconds;
    printf("%-44s %14.2f  GB/s (%.0f%% of a copy)\n", name, speed, 100*speed/copy_speed);
    fflush(stdout);
}

/* Ends in a child process; the parent gets the descriptor to read from. */
static int in_child(void (*write_all)(int fd), int pipe_size)
{
    int fd[2];
    die_if(pipe(fd), "pipe");
    fcntl(fd[1], F_SETPIPE_SZ, pipe_size);
    const pid_t child = fork();
    die_if(child < 0, "fork");
    if (child == 0) {
        close(fd[0]);
        write_all(fd[1]);
        _exit(0);
    }
    close(fd[1]);
    return fd[0];
}

/* ---- the pipe alone ---- */

static void write_plain(int fd)
{
    Err e = {0};
    for (size_t done = 0; done < total; done += BYTES)
        die_if(fd_write(fd, "pipe", payload + done/BYTES % PLACES*BYTES, BYTES, &e), e.text);
}

static void write_lent(int fd)
{
    Err e = {0};
    PipeOut *out = pipe_out_create(fd);
    for (size_t done = 0; done < total; done += BYTES)
        die_if(pipe_write(out, "pipe", payload + done/BYTES % PLACES*BYTES, BYTES, &e), e.text);
}

static void pass(const char *name, void (*write_all)(int fd), int pipe_size, bool announced)
{
    Err e = {0};
    char *to = malloc(BYTES);
    memset(to, 1, BYTES);
    const double start = now();
    const int fd = in_child(write_all, pipe_size);
    if (announced)
        pipe_announce(fd);
    size_t got = 0;
    for (ssize_t n; (n = fd_read(fd, "pipe", to + got % BYTES, BYTES - got % BYTES, &e)) > 0;)
        got += (size_t)n;
    say(name, got, now() - start);
    close(fd);
    wait(NULL);
    free(to);
}

/* ---- records ---- */

static int level;                       /* of the writer */
static const char *path;                /* it writes to */

static void write_records(int fd)
{
    Err e = {0};
    Record header, rec;
    StreamOut *out;
    if (fd >= 0)
        dup2(fd, STDOUT_FILENO);
    record_init(&header, "activations");
    record_set_json(&header, "hooks", json_pack("[s]", "mid_block"));
    die_if(stream_create(&out, path, &header, &(StreamOptions){.level = level}, &e), e.text);
    for (size_t done = 0; done < total; done += BYTES) {
        record_init(&rec, NULL);
        record_set_text(&rec, "id", "a");
        record_set_text(&rec, "hook", "mid_block");
        record_add_tensor(&rec, "act", F16, 3, (int64_t[]){H, W, C}, payload + done/BYTES % PLACES*BYTES);
        die_if(stream_write(out, &rec, &e), e.text);
        record_clear(&rec);
    }
    die_if(stream_finish(out, &e), e.text);
    stream_abandon(out);
    record_clear(&header);
}

/* with check: as sae-fit reads, found finite and, where there is a buffer, put there */
static void read_records(const char *name, const char *from, bool check, TokenBuffer *buffer)
{
    Err e = {0};
    StreamIn *in;
    Record rec;
    size_t got = 0;
    int more;
    const double start = now();
    die_if(stream_open(&in, from, &e), e.text);
    while ((more = stream_next(in, &rec, &e)) > 0) {
        got += rec.tensor[0].bytes;
        if (check)
            die_if(stream_finite(in, &rec, &rec.tensor[0], &e), e.text);
        if (buffer && token_buffer_room(buffer) < H*W)
            token_buffer_drop(buffer, token_buffer_held(buffer));
        if (buffer)
            token_buffer_add(buffer, rec.tensor[0].data, 0, H*W);
    }
    die_if(more < 0, e.text);
    say(name, got, now() - start);
    stream_close(in);
}

static void through_pipe(const char *name, int its_level, bool check, TokenBuffer *buffer)
{
    char from[64];
    level = its_level;
    path = NULL;
    const int fd = in_child(write_records, 64 << 10);
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    read_records(name, from, check, buffer);
    close(fd);
    wait(NULL);
}

/* A writer of compressed records has no pipe to wait for; a plain one does next to nothing by itself. */
static void ends_alone(void)
{
    static char file[] = "/dev/shm/pipe_speed-XXXXXX";
    const size_t all = total;
    total = all < (size_t)1 << 30 ? all : (size_t)1 << 30;
    const int fd = mkstemp(file);
    die_if(fd < 0, "/dev/shm");
    path = file;
    level = STREAM_NO_COMPRESS;
    write_records(-1);
    read_records("reader alone, plain, from memory", file, false, NULL);
    level = 1;
    const double start = now();
    write_records(-1);
    say("writer alone, zstd 1, to memory", total, now() - start);
    read_records("reader alone, zstd 1, from memory", file, false, NULL);
    unlink(file);
    close(fd);
    total = all;
}

enum { BUFFER = 200*1024, BATCH = 4096 };

static TokenBuffer *full_buffer(void)
{
    Err e = {0};
    TokenBuffer *b;
    const BufferOptions o = {.capacity = BUFFER, .D = C, .unit = 1, .type = F16, .seed = 1};
    die_if(token_buffer_create(&b, &o, &e), e.text);
    for (int r = 0; r < BUFFER/(H*W); r++)
        token_buffer_add(b, payload + (size_t)(r % PLACES)*BYTES, 0, H*W);
    return b;
}

static void gathered(const TokenBuffer *b)
{
    Err e = {0};
    Batches *batches;
    size_t tokens = 0;
    die_if(batches_create(&batches, b, NULL, NULL, C, BATCH, &e), e.text);
    double start = 0;
    for (int round = 0; round < 4; round++) {       /* the first touches the memory */
        if (round == 1)
            start = now();
        die_if(batches_begin(batches, 0, BUFFER, BATCH, &e), e.text);
        for (const Batch *batch; (batch = batches_next(batches));)
            tokens += round > 0 ? (size_t)batch->n : 0;
        batches_end(batches);
    }
    const double seconds = now() - start;
    say("batches gathered, to f32 (GB of f16)", tokens*C*2, seconds);
    printf("%-44s %14.0f  tokens/s of width %d\n", "", (double)tokens/seconds, C);
    batches_free(batches);
}

int main(int argc, char **argv)
{
    Err e = {0};
    die_if(backend_pick("cpu", 0, &e), e.text);         /* whose memory batches are gathered into */
    total = (size_t)((argc > 1 ? atof(argv[1]) : 4)*1e9)/BYTES*BYTES;
    payload = aligned_alloc(4096, (size_t)PLACES*BYTES);
    uint32_t state = 1;
    uint16_t *half = (uint16_t *)payload;
    for (size_t i = 0; i < (size_t)PLACES*BYTES/2; i++) {      /* bell-shaped, as activations are */
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)((state = state*1664525u + 1013904223u) >> 8)*0x1p-24f - 0.5f;
        dtype_from_f32(half + i, F16, &sum, 1);
    }
    omp_set_num_threads(1);
    copy_speed = 0.5e-9*peak_copy((size_t)64 << 20);
    printf("%-44s %14.2f  GB/s\n", "copy, one thread", copy_speed);
    pass("pipe of 64 KB", write_plain, 64 << 10, false);
    pass("pipe of 1 MB", write_plain, PIPE_SIZE, false);
    pass("pipe of 1 MB, pages lent", write_lent, PIPE_SIZE, true);
    through_pipe("records, written and read", STREAM_NO_COMPRESS, false, NULL);
    through_pipe("records, written, read, found finite", STREAM_NO_COMPRESS, true, NULL);
    TokenBuffer *buffer = full_buffer();
    through_pipe("records, ..., and put into sae-fit's buffer", STREAM_NO_COMPRESS, true, buffer);
    through_pipe("records, zstd 1, written and read", 1, false, NULL);
    token_buffer_free(buffer);
    ends_alone();
    buffer = full_buffer();
    token_buffer_shuffle(buffer);
    gathered(buffer);
    token_buffer_free(buffer);
    free(payload);
    return 0;
}
