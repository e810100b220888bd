#!/bin/bash
# SPDX-License-Identifier: MIT
# nvcc.sh -- where the CUDA toolkit is, every kernel passes its compiler for both kinds of device, without a warning.
# Nothing is optimised or assembled, so that it takes a minute; make cuda does all of it, spilled registers too.
set -u
nvcc=$(command -v "${NVCC:-nvcc}" || command -v /usr/local/cuda/bin/nvcc)
if [ -z "$nvcc" ]; then
    echo "no nvcc here"
    exit 77
fi
failed=0
for source in kernels/cuda/*.cu; do
    for arch in compute_80 compute_90a; do
        "$nvcc" -std=c++17 -ptx -gencode arch=$arch,code=$arch -Xcicc -O0 -Xcompiler -Wall,-Wextra -I. \
            -Werror all-warnings -o "${TMPDIR:-/tmp}/kernel.ptx" "$source" || failed=1
    done
done
exit $failed
