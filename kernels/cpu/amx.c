/* SPDX-License-Identifier: MIT */
/* amx.c -- the products of amx.h.
 *
 * Of the eight registers four hold the sums of 32 rows x 32 columns, two 32 rows of 32 values of x, two 32 values of 32
 * columns: a step is 4 loads of 1 KB (8 cycles each) and 4 products of 16 cycles. Both operands from the second-level
 * cache would take longer than the products: the panel comes from there, asked for a step ahead; rows are near where
 * they are some 20 KB, as those of a convolution whose taps read the same ones. (48 rows at a time, which read a panel
 * less often, were no faster.) A call's first and last loads and stores take as long as three steps. In assembly, since
 * the compiler's own functions (amxtileintrin.h) do not say that they read and write memory. */
#include <sys/syscall.h>
#include <unistd.h>
#include "kernels/cpu/amx.h"

#ifdef __x86_64__
#include <cpuid.h>

bool amx_usable(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };           /* arch_prctl, the kernel's state component */
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };                /* cpuid 7, edx */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (AMX_BF16 | AMX_TILE)) != (AMX_BF16 | AMX_TILE))
        return false;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

void amx_begin(void)
{
    /* palette 1: eight registers of 16 rows of 64 bytes */
    static const struct {
        uint8_t palette, first_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" :: "m"(shape));
}

void amx_end(void)
{
    __asm__ volatile("tilerelease");
}

#define LOAD(register, from, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" register :: "r"(from), "r"(stride) : "memory")
#define STORE(register, to, stride) \
    __asm__ volatile("tilestored %%tmm" register ", (%0,%1,1)" :: "r"(to), "r"(stride) : "memory")
#define ZERO(register) __asm__ volatile("tilezero %tmm" register)
#define MULTIPLY(sum, x, panel) __asm__ volatile("tdpbf16ps %tmm" panel ", %tmm" x ", %tmm" sum)

/* Asks for half of the next step's words, which lie one after another where the panel is packed. */
#define ASK(panel, half) \
    _Pragma("GCC unroll 16") \
    for (int line = 16*(half); line < 16*(half) + 16; line++) \
        __builtin_prefetch((const char *)(panel) + 2048 + 64*line)

/* Sums 0 and 1 of 16 rows. */
static void one_tile(const char *low, size_t x_stride, const int32_t *at, const uint32_t *panel, size_t panel_stride,
                     int steps)
{
    const size_t words = sizeof *panel*panel_stride;
    for (int s = 0; s < steps; s++, panel += AMX_STEP_WORDS*panel_stride) {
        LOAD("4", low + at[s], x_stride);
        LOAD("6", panel, words);
        MULTIPLY("0", "4", "6");
        LOAD("7", panel + 16, words);
        MULTIPLY("1", "4", "7");
    }
}

/* And 2 and 3 of 16 more. */
static void two_tiles(const char *low, const char *high, size_t x_stride, const int32_t *at, const uint32_t *panel,
                      size_t panel_stride, int steps, const char *soon, int lines)
{
    const size_t words = sizeof *panel*panel_stride;
    for (int s = 0; s < steps; s++, panel += AMX_STEP_WORDS*panel_stride) {
        LOAD("4", low + at[s], x_stride);
        LOAD("6", panel, words);
        MULTIPLY("0", "4", "6");
        LOAD("7", panel + 16, words);
        ASK(panel, 0);
        MULTIPLY("1", "4", "7");
        LOAD("5", high + at[s], x_stride);
        ASK(panel, 1);
        MULTIPLY("2", "5", "6");
        MULTIPLY("3", "5", "7");
        for (int l = 0; l < lines; l++, soon += 64)
            __builtin_prefetch(soon, 0, 2);
    }
}

void amx_product(float *h, size_t stride, const void *low, const void *high, size_t x_stride, const int32_t *at,
                 const uint32_t *panel, size_t panel_stride, const float *start, size_t start_stride, int steps,
                 const void *soon, int lines)
{
    const size_t sums = sizeof *h*stride, starts = sizeof *start*start_stride;
    const float *start_1 = start + AMX_ROWS*start_stride;
    float *h_1 = h + AMX_ROWS*stride;
    if (start) {
        LOAD("0", start, starts);
        LOAD("1", start + 16, starts);
    } else {
        ZERO("0");
        ZERO("1");
    }
    if (high) {
        if (start) {
            LOAD("2", start_1, starts);
            LOAD("3", start_1 + 16, starts);
        } else {
            ZERO("2");
            ZERO("3");
        }
        two_tiles(low, high, x_stride, at, panel, panel_stride, steps, soon, lines);
        STORE("2", h_1, sums);
        STORE("3", h_1 + 16, sums);
    } else {
        one_tile(low, x_stride, at, panel, panel_stride, steps);
    }
    STORE("0", h, sums);
    STORE("1", h + 16, sums);
}

#else
bool amx_usable(void)
{
    return false;
}

void amx_begin(void) {}
void amx_end(void) {}

void amx_product(float *h, size_t stride, const void *low, const void *high, size_t x_stride, const int32_t *at,
                 const uint32_t *panel, size_t panel_stride, const float *start, size_t start_stride, int steps,
                 const void *soon, int lines)
{
    (void)h, (void)stride, (void)low, (void)high, (void)x_stride, (void)at, (void)panel, (void)panel_stride;
    (void)start, (void)start_stride, (void)steps, (void)soon, (void)lines;
}
#endif
