/* SPDX-License-Identifier: MIT */
/* comm_device.h -- what ranks do together: gathered bytes, sums by rank to the last bit, in all ranks, whatever the
 * size; what passes between processes; and that all end when one does. comm.c runs it on the CPU, comm_simt.c on the
 * CUDA backend's calls of NCCL, played on the host, comm_cuda.c on GPUs. */
#ifndef TESTS_UNIT_COMM_DEVICE_H
#define TESTS_UNIT_COMM_DEVICE_H

#include <signal.h>
#include "tests/unit/device.h"
#include "tests/unit/team_test.h"

/* One line for all ranks. */
static int in_all(const char *name, int64_t n, int ok)
{
    char title[160];
    int64_t of[TEAM_MOST], failed = 0;
    team_gather(team, of, !ok);
    for (int r = 0; r < team_ranks(team); r++)
        failed += of[r];
    snprintf(title, sizeof title, "%d ranks/%s %ld", team_ranks(team), name, (long)n);
    return team_rank(team) == 0 ? test_ok(title, failed == 0) : 0;
}

static int sum_of_floats(int64_t n)
{
    float *want = op_values((size_t)n, 1), *got = op_space(sizeof *got*(size_t)n);
    float *mine = op_values((size_t)n, 1 + team_rank(team));
    float *x = to_device(mine, sizeof *x*(size_t)n);
    for (int r = 1; r < team_ranks(team); r++) {
        float *other = op_values((size_t)n, 1 + r);
        for (int64_t j = 0; j < n; j++)
            want[j] += other[j];
        free(other);
    }
    gpu->comm.sum_floats(x, n);
    gpu->download(got, x, sizeof *got*(size_t)n);
    const int same = memcmp(got, want, sizeof *got*(size_t)n) == 0;
    gpu->free(x);
    free(want); free(got); free(mine);
    return in_all("sum of floats", n, same);
}

static double value(int rank, int64_t j)
{
    return 1/(1.0 + (double)rank*7 + (double)j);
}

static int sum_of_doubles(int64_t n)
{
    double *x = op_space(sizeof *x*(size_t)n);
    int same = 1;
    for (int64_t j = 0; j < n; j++)
        x[j] = value(team_rank(team), j);
    double *device = to_device(x, sizeof *x*(size_t)n);
    gpu->comm.sum_doubles(device, n);
    gpu->download(x, device, sizeof *x*(size_t)n);
    for (int64_t j = 0; j < n; j++) {
        double want = value(0, j);
        for (int r = 1; r < team_ranks(team); r++)
            want += value(r, j);
        same &= x[j] == want;
    }
    gpu->free(device);
    free(x);
    return in_all("sum of doubles", n, same);
}

static int gathered(int64_t n)
{
    const int ranks = team_ranks(team);
    char *mine = op_space((size_t)n), *all = op_space((size_t)(n*ranks));
    int same = 1;
    for (int64_t j = 0; j < n; j++)
        mine[j] = (char)(team_rank(team)*31 + j*7);
    char *from = to_device(mine, (size_t)n), *to = device_space((size_t)(n*ranks));
    gpu->comm.all_gather(to, from, (size_t)n);
    gpu->download(all, to, (size_t)(n*ranks));
    for (int r = 0; r < ranks; r++)
        for (int64_t j = 0; j < n; j++)
            same &= all[r*n + j] == (char)(r*31 + j*7);
    gpu->free(from);
    gpu->free(to);
    free(mine); free(all);
    return in_all("gathered bytes", n, same);
}

static int between_hosts(void)
{
    Err e = {0};
    char told[3000];
    int same = 1;
    memset(told, team_rank(team) == 0 ? 'x' : 0, sizeof told);
    team_broadcast(team, told, sizeof told);
    for (size_t j = 0; j < sizeof told; j++)
        same &= told[j] == 'x';
    int failed = in_all("broadcast bytes", sizeof told, same);
    int *one = gpu->comm.share_host(sizeof *one, &e), *two = gpu->comm.share_host(100000, &e);
    if (!one || !two)
        die(&e);
    same = *one == 0 && two[24999] == 0;
    team_barrier(team);
    if (team_rank(team) == team_ranks(team) - 1) {
        *one = 5;
        two[24999] = 6;
    }
    team_barrier(team);
    return failed + in_all("shared memory", 0, same && *one == 5 && two[24999] == 6);
}

/* Few values, which every rank sums; many, of which each sums a piece; sizes that no number of ranks divides */
static int exchanges(void *context)
{
    (void)context;
    gpu = op;
    int failed = between_hosts();
    static const int64_t sizes[] = {1, 1000, 300001};
    for (int s = 0; s < 3; s++)
        failed += sum_of_floats(sizes[s]) + sum_of_doubles(sizes[s]) + gathered(4*sizes[s] - 1);
    return failed;
}

static int dies(void *context)
{
    (void)context;
    if (team_rank(team) == 1)
        raise(SIGKILL);
    team_barrier(team);
    return 0;
}

static int fails(void *context)
{
    (void)context;
    Err e = {0};
    err_set(&e, "no memory");
    if (team_rank(team) == 1)
        team_fail(team, &e);
    team_barrier(team);
    return 0;
}

__attribute__((unused)) static int comm_tests(const Ops *(*backend)(void))
{
    int failed = 0;
    for (int ranks = 1; ranks <= 3; ranks++)
        failed += in_team(ranks, backend, exchanges, NULL) != 0;
    failed += test_ok("a rank that dies ends all", in_team(3, backend, dies, NULL) == 1);
    failed += test_ok("a rank that fails ends all", in_team(2, backend, fails, NULL) == 1);
    return failed;
}

#endif
