/* SPDX-License-Identifier: MIT */
/* rank_leads.h -- the features that lead each label's ranks over all timesteps.
 *
 * A feature's place is by the mean of its scores over the label's timesteps, one where it is not among the ranked
 * counting 0; ties go to the lower feature. */
#ifndef SRC_MODELS_RANK_LEADS_H
#define SRC_MODELS_RANK_LEADS_H

#include "src/models/ranks.h"
#include "src/models/t_range.h"

typedef struct Lead {
    int feature;
    double score;                   /* mean over the timesteps */
    double mean, elsewhere;         /* on the label, and on the rest (where the ranks have no mean_rest: on all labels);
                                     * means over the timesteps where it is ranked */
    double *by_t;                   /* [times] scores, NaN where it is not ranked */
    int t;                          /* where its score is highest, the larger t on a tie */
} Lead;

typedef struct LeadLabel {
    const char *kind, *label;       /* the ranks' */
    int *t;                         /* [times] falling */
    int times;
    Lead *lead;                     /* best first */
    int leads;
} LeadLabel;

typedef struct Leads {
    LeadLabel *label;               /* by kind in the order of the ranks, then in their order */
    int labels;
    int *feature;                   /* all that lead a label, once each, in the order of the labels */
    int features;
} Leads;

/* The `top` first features of each label at those timesteps. ranks must outlive the leads. Memory: 12
 * bytes a feature, and a few numbers a lead and timestep. */
int leads_build(Leads *l, const Ranks *ranks, int top, TRange when, Err *e);
void leads_free(Leads *l);          /* zeroed memory is fine */

#endif
