/* SPDX-License-Identifier: MIT */
/* cpu.h -- the CPU backend: its table, the level of the machine that it is filled for, memory.
 *
 * One program runs on every x86-64: what is worth it is compiled once a level, with vectors as wide as that level's
 * registers (level.h, vec.h), and the table has the functions of the machine's. */
#ifndef KERNELS_CPU_CPU_H
#define KERNELS_CPU_CPU_H

#include "kernels/op.h"

/* A machine of another kind than x86-64 is CPU_ANY. */
typedef enum { CPU_ANY, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16, CPU_AMX } CpuLevel;

/* What the table was filled for. */
extern CpuLevel cpu_level;

/* Fills and returns the CPU table. Every call returns the same one. */
const Ops *cpu_ops(void);

/* What SDSTEER_CPU asks for, where it is set: a level that is not above the machine's, "tiles", or both joined by +;
 * and oneDNN's code of that level, so that the bytes are those of a machine of it. Before anything is computed. */
int cpu_settle(Err *e);

/* For tests: fills the table anew for a level that is not above the machine's, and, with tiles, for products that are
 * not oneDNN's, as on machines that are no x86-64. What was made with the former functions must be gone. */
void cpu_choose(CpuLevel level, bool tiles);

/* One buffer for what an op needs while it runs: at least bytes, 64-byte aligned, not cleared, good until the next
 * call. It only grows, so that an op at a known shape allocates nothing. Ops are called from one thread, which calls
 * this. */
void *cpu_scratch(size_t bytes);

/* Values moved below which a parallel region costs more than it saves: for `#pragma omp parallel for if (...)`. */
enum { CPU_PARALLEL = 16384 };

/* Parts of the table that are the same at every level. */
void cpu_sae_code_ops(SaeOps *ops);         /* sae_codes.c */
void cpu_comm_ops(CommOps *ops);            /* comm.c */

/* The rest, of each level (level.c), the products by tiles. */
void cpu_level_ops_any(Ops *ops, bool tiles);
void cpu_level_ops_avx2(Ops *ops, bool tiles);
void cpu_level_ops_avx512(Ops *ops, bool tiles);
void cpu_level_ops_avx512_bf16(Ops *ops, bool tiles);

#endif
