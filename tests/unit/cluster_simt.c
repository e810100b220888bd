/* SPDX-License-Identifier: MIT */
/* cluster_simt.c -- clusters of blocks and products of warps as tests/simt plays them: meetings, memory of other
 * blocks, boxes for several, arrivals from elsewhere, stages multiplied (tests/simt/clusters.cc); and that what a
 * device would leave undefined is refused. */
#include <sys/wait.h>
#include "tests/simt/clusters.h"
#include "tests/unit/op_test.h"

enum { ROUNDS = 5, CLUSTERS = 2, MOST = 8, STEPS = 7 };

/* Whether the sums are right. */
static int join(int blocks, Mistake mistake)
{
    const int all = blocks*CLUSTERS;
    static float x[CLUSTERS*MOST*JOIN_THREADS*ROUNDS], y[CLUSTERS*MOST*ROUNDS];
    for (int i = 0; i < all*JOIN_THREADS*ROUNDS; i++)
        x[i] = (float)(i*7%23);
    simt_join_sums(y, x, blocks, CLUSTERS, ROUNDS, mistake);
    int right = 1;
    for (int b = 0; b < all; b++)
        for (int r = 0; r < ROUNDS; r++) {
            float sum = 0;
            for (int n = 0; n < blocks*JOIN_THREADS; n++)
                sum += x[(b/blocks*blocks*JOIN_THREADS + n)*ROUNDS + r];
            right &= y[b*ROUNDS + r] == sum;
        }
    return right;
}

static int ring(int blocks, Mistake mistake)
{
    enum { DEPTH = STEPS*RING_DEPTH };
    const int all = blocks*CLUSTERS;
    static float x[CLUSTERS*MOST*RING_ROWS*DEPTH], W[MOST*RING_ROWS*DEPTH];
    static uint16_t x_half[CLUSTERS*MOST*RING_ROWS*DEPTH + 8], W_half[MOST*RING_ROWS*DEPTH + 8];
    uint16_t *const to_x = x_half + (-(uintptr_t)x_half & 15)/2, *const to_W = W_half + (-(uintptr_t)W_half & 15)/2;
    for (int i = 0; i < all*RING_ROWS*DEPTH; i++)
        x[i] = (float)(i*5%7 - 3);
    for (int i = 0; i < blocks*RING_ROWS*DEPTH; i++)
        W[i] = (float)(i*3%11 - 4);
    dtype_from_f32(to_x, BF16, x, (size_t)all*RING_ROWS*DEPTH);
    dtype_from_f32(to_W, BF16, W, (size_t)blocks*RING_ROWS*DEPTH);
    float y[CLUSTERS*MOST];
    simt_ring(y, to_x, to_W, blocks, CLUSTERS, STEPS, mistake);
    int right = 1;
    for (int b = 0; b < all; b++) {
        float sum = 0;
        for (int k = 0; k < DEPTH; k++) {
            float column = 0;
            for (int r = 0; r < blocks*RING_ROWS; r++)
                column += W[r*DEPTH + k];
            sum += x[b*RING_ROWS*DEPTH + k]*column;
        }
        right &= y[b] == sum;
    }
    return right;
}

/* blocks: 1 */
static int product(int blocks, Mistake mistake)
{
    enum { DEPTH = STEPS*RING_DEPTH };
    static float x[PRODUCT_ROWS*DEPTH], W[PRODUCT_COLUMNS*DEPTH], y[PRODUCT_ROWS*PRODUCT_COLUMNS];
    static _Alignas(16) uint16_t x_half[PRODUCT_ROWS*DEPTH], W_half[PRODUCT_COLUMNS*DEPTH];
    for (int i = 0; i < PRODUCT_ROWS*DEPTH; i++)
        x[i] = (float)(i*5%7 - 3);
    for (int i = 0; i < PRODUCT_COLUMNS*DEPTH; i++)
        W[i] = (float)(i*3%11 - 4);
    dtype_from_f32(x_half, BF16, x, PRODUCT_ROWS*DEPTH);
    dtype_from_f32(W_half, BF16, W, PRODUCT_COLUMNS*DEPTH);
    simt_product(y, x_half, W_half, STEPS, mistake);
    int right = blocks > 0;
    for (int m = 0; m < PRODUCT_ROWS; m++)
        for (int n = 0; n < PRODUCT_COLUMNS; n++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k++)
                sum += x[m*DEPTH + k]*W[n*DEPTH + k];
            right &= y[m*PRODUCT_COLUMNS + n] == sum;
        }
    return right;
}

/* blocks: 1 */
static int two_boxes(int blocks, Mistake mistake)
{
    static _Alignas(16) uint16_t y[2*BOX_ROWS*RING_DEPTH];
    simt_two_boxes(y, mistake);
    int right = blocks > 0;
    for (int i = 0; i < 2*BOX_ROWS*RING_DEPTH; i++)
        right &= y[i] == i;
    return right;
}

/* With a mistake the program is ended by tests/simt, which says `why`. */
static int refused(const char *name, int (*kernel)(int blocks, Mistake mistake), Mistake mistake, const char *why)
{
    char said[1024] = "";
    int ends[2], status = 0;
    if (pipe(ends))
        return test_ok(name, 0);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 2);
        kernel(2, mistake);
        _exit(0);
    }
    close(ends[1]);
    for (size_t n = 0; n < sizeof said - 1;) {
        const ssize_t got = read(ends[0], said + n, sizeof said - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(ends[0]);
    waitpid(pid, &status, 0);
    const int as_said = WIFSIGNALED(status) && strstr(said, why);
    if (!as_said)
        test_note("%s, said: %s", WIFSIGNALED(status) ? "ended" : "went on", said);
    return test_ok(name, as_said);
}

int main(void)
{
    int failed = 0;
    char name[160];
    for (int blocks = 1; blocks <= MOST; blocks *= 2) {
        failed += test_ok(op_name(name, "%d blocks join sums", blocks), join(blocks, NO_MISTAKE));
        failed += test_ok(op_name(name, "%d blocks share stages", blocks), ring(blocks, NO_MISTAKE));
    }
    failed += test_ok("stages are multiplied", product(1, NO_MISTAKE));
    failed += test_ok("two boxes to memory", two_boxes(1, NO_MISTAKE));
    failed += test_ok("one slot for two rounds is seen", !join(2, ONE_SLOT));
    failed += test_ok("a stage given back by half of its readers is seen", !ring(2, OWN_ARRIVALS));

    failed += refused("an odd grid", join, ODD_GRID, "in clusters of 2");
    failed += refused("a __shared__ variable", join, SHARED_VARIABLE, "a __shared__ variable in a cluster");
    failed += refused("no meeting at the beginning", ring, NO_BEGIN, "which has not begun");
    failed += refused("no meeting at the end: a load", join, NO_END, "which has ended");
    failed += refused("no meeting at the end: an arrival", ring, NO_END, "which has ended");
    failed += refused("a wait without an arrival", join, NO_ARRIVAL, "without barrier.cluster.arrive");
    failed += refused("two arrivals", join, TWO_ARRIVALS, "again before barrier.cluster.wait");
    failed += refused("an arrival without a wait", join, NO_WAIT, "has not waited at the cluster's barrier");
    failed += refused("a warp that does not come", join, LATE_WARP, "at the cluster's");
    failed += refused("a load beyond the cluster", join, OTHER_CLUSTER, "block 2 of a cluster of 2");
    failed += refused("a multicast beyond the cluster", ring, OUTSIDE, "block 2 of a cluster of 2");
    failed += refused("barriers without a fence", ring, NOT_SHOWN, "not shown to others");
    failed += refused("products without a fence", product, NO_FENCE, "without wgmma.fence");
    failed += refused("products of a stage that is not there", product, NOT_AWAITED,
                      "was written while it was under way");
    failed += refused("a stage given back before its products", product, GIVEN_BACK_EARLY,
                      "was written while it was under way");
    failed += refused("a warp with other operands", product, OTHER_OPERAND, "other products than its group");
    failed += refused("boxes to memory without a fence", two_boxes, BOXES_NOT_SHOWN, "has not shown to the copy engine");
    failed += refused("a box written after its fence", two_boxes, WRITTEN_LATE, "after it was shown");
    return failed != 0;
}
