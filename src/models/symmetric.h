/* SPDX-License-Identifier: MIT */
/* symmetric.h -- eigenvalues and eigenvectors of a symmetric matrix in f64: Householder's reflections make it
 * tridiagonal, Givens' rotations with implicit shifts diagonal (Golub & Van Loan 2013, sections 8.3.1 and 8.3.3). */
#ifndef SRC_MODELS_SYMMETRIC_H
#define SRC_MODELS_SYMMETRIC_H

/* y += s x, n values */
static inline void add_scaled(double *y, double s, const double *x, int n)
{
    #pragma omp simd
    for (int i = 0; i < n; i++)
        y[i] += s * x[i];
}

/* A (P,P) is taken apart: value [P] becomes its eigenvalues, in no order, and row k of V (P,P) the eigenvector of
 * value[k], of length 1; V NULL: eigenvalues only, 4/3 P^3 of work, else 8 P^3 or so. Scratch [2P]. Not finite values
 * give values that are none. */
void symmetric_eigen(double *A, double *value, double *V, double *scratch, int P);

#endif
