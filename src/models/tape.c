/* SPDX-License-Identifier: MIT */
/* tape.c -- recordings of a backend with hooks between them. */
#include <stdlib.h>
#include "kernels/op.h"
#include "src/models/tape.h"

typedef struct Cut { int module; HookCall call; } Cut;

struct Tape {
    Recording **part;               /* one more than cuts */
    Cut *cut;
    int cuts;
    bool broken;
};

Tape *tape_begin(void)
{
    Tape *t = op->record_begin ? calloc(1, sizeof *t) : NULL;
    if (t)
        op->record_begin();
    return t;
}

/* Ends the stretch after the last cut. */
static void end_part(Tape *t)
{
    Recording *r = op->record_end(), **part = realloc(t->part, sizeof *part*((size_t)t->cuts + 1));
    if (part)
        t->part = part;
    if (r && part)
        t->part[t->cuts] = r;
    else
        op->record_free(r);
    t->broken = t->broken || !r || !part;
}

void tape_cut(Tape *t, int module, const HookCall *call)
{
    if (!t->broken)
        end_part(t);
    Cut *cut = t->broken ? NULL : realloc(t->cut, sizeof *cut*((size_t)t->cuts + 1));
    if (!cut) {
        if (!t->broken)
            op->record_free(t->part[t->cuts]);
        t->broken = true;
        return;
    }
    t->cut = cut;
    t->cut[t->cuts++] = (Cut){module, *call};
    op->record_begin();
}

bool tape_end(Tape *t)
{
    if (!t->broken)
        end_part(t);
    return !t->broken;
}

void tape_free(Tape *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->cuts + !t->broken; i++)
        op->record_free(t->part[i]);
    free(t->part);
    free(t->cut);
    free(t);
}

int tape_play(const Tape *t, const Hooks *hooks, Err *e)
{
    for (int i = 0; i < t->cuts; i++) {
        op->replay(t->part[i]);
        if (hooks_call(hooks, t->cut[i].module, t->cut[i].call, e))
            return -1;
    }
    op->replay(t->part[t->cuts]);
    return 0;
}
