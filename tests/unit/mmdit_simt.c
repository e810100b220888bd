/* SPDX-License-Identifier: MIT */
/* mmdit_simt.c -- Stable Diffusion 3's transformer against diffusers, in bf16, f16 and f32, on the CUDA backend's
 * kernels played on the host (tests/simt): what the ops' own tests cannot see, that they are called and joined as the
 * model calls them. Then evaluations as graphs with hooks between them, which must give the bytes of the first, also
 * with other texts in the graph's memory, and of another size.
 *
 * Tolerances: as golden_mmdit.c has them. */
#include "src/models/mmdit.h"
#include "tests/unit/golden.h"

const Ops *sdsteer_backend(int device, Err *e);

extern int simt_graph_launches;

enum { H = 8, W = 6, C = 16, N = 2*C*H*W, S = 48, E = 48, P = 36 };

static const Weights *golden;

/* The recorded pair of texts, or the two in the other order. */
static void set_texts(MMDiT *m, bool turned)
{
    const int32_t index[] = {turned, !turned};
    die_if(mmdit_set_text(m, tensor(golden, "state")->data, 2, S, index, 2, &err)
           || mmdit_set_added(m, tensor(golden, "pooled")->data, &err));
}

static int add_nothing(void *context, const HookCall *call, Err *e)
{
    (void)call;
    (void)e;
    ++*(int *)context;
    return 0;
}

/* Run, taken down and played, played of the texts in the other order and of these again; half of the rows between. */
static int replayed(DType type, const char *kernels)
{
    enum { TIMES = 6 };
    static const bool turned[TIMES] = {false, false, true, true, false, false};
    MMDiT *m = NULL;
    float eps[TIMES][N], planes[N];
    char name[96];
    int calls = 0;
    setenv("SDSTEER_CUDA_KERNELS", kernels, 1);
    die_if(mmdit_load(&m, test_path("golden-more/sd3"), type, &err)
           || hooks_add(mmdit_hooks(m), "transformer_blocks.1.attn*", true, add_nothing, &calls, &err) != 2);
    float *rows = rows_of(tensor(golden, "x")->data, 2, C, H*W);
    float *dx = op->alloc(sizeof planes, &err), *dy = op->alloc(sizeof planes, &err);
    die_if(!dx || !dy);
    op->upload(dx, rows, sizeof planes);
    const int before = simt_graph_launches;
    for (int i = 0; i < TIMES; i++) {
        set_texts(m, turned[i]);
        if (i == 4)
            die_if(mmdit_eval(m, dy, dx, 2, H/2, W, 20, &err));
        die_if(mmdit_eval(m, dy, dx, 2, H, W, 500.25f, &err));
        op->download(eps[i], dy, sizeof planes);
    }
    to_planes(planes, eps[0], 2, C, H*W);
    snprintf(name, sizeof name, "%s, %s: largest error, of the range", dtype_name(type), kernels);
    int failed = test_below(name, range_error(planes, tensor(golden, "v")->data, N), limit_of(type, 1e-4, 0.03));
    failed += test_ok("three stretches, played five times", simt_graph_launches == before + 3*5);
    failed += test_ok("hooks are called in every evaluation", calls == 2*(TIMES + 1));
    for (int i = 1; i < TIMES; i++)
        failed += turned[i] ? test_ok("another text gives another v", memcmp(eps[i], eps[0], sizeof planes) != 0)
                            : test_same("played", eps[i], eps[0], sizeof planes);
    failed += test_same("the other order, twice", eps[3], eps[2], sizeof planes);
    op->free(dx);
    op->free(dy);
    free(rows);
    mmdit_free(m);
    return failed;
}

int main(void)
{
    Weights *w = NULL;
    op = sdsteer_backend(0, &err);
    die_if(!op || weights_open(&w, test_path("golden-more/sd3.safetensors"), &err));
    golden = w;
    const int failed = replayed(BF16, "libraries") + replayed(F16, "libraries") + replayed(F32, "libraries")
        + replayed(BF16, "hopper");
    weights_close(w);
    return failed;
}
