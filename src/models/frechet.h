/* SPDX-License-Identifier: MIT */
/* frechet.h -- Frechet distance between two sets of embeddings taken as normal distributions (Heusel et al. 2017, arXiv
 * 1706.08500).
 *
 *   d = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1^(1/2) S_2 S_1^(1/2))^(1/2)
 *
 * m mean, S covariance (divided by count - 1) of (count,P). On Inception's pool features this is the FID; on other
 * embeddings its values are not comparable with those. Roots of matrices by their eigenvalues, work of some P^3. */
#ifndef SRC_MODELS_FRECHET_H
#define SRC_MODELS_FRECHET_H

#include "formats/err.h"

enum { FRECHET_MAX_P = 2048 };

typedef struct Moments {
    int P;
    long count;
    double *sum, *products;         /* [P]; [P(P+1)/2], rows of the upper triangle */
} Moments;

typedef struct Frechet Frechet;     /* a reference: its moments and the root of its covariance */

int moments_create(Moments *m, int P, Err *e);
void moments_free(Moments *m);
void moments_add(Moments *m, const float *x);
void moments_merge(Moments *to, const Moments *from);

/* Fails with fewer than two embeddings, and over FRECHET_MAX_P values. */
int frechet_create(Frechet **f, const Moments *reference, Err *e);
void frechet_free(Frechet *f);
/* NaN with fewer than two embeddings. */
double frechet_distance(const Frechet *f, const Moments *m);

#endif
