#!/bin/bash
# SPDX-License-Identifier: MIT
# sd14.sh -- Stable Diffusion 1.4's full shape against diffusers: errors, seconds an evaluation,
# a guided step, a picture.
#
#     SDSTEER_SD14=DIR tests/sd14.sh        DIR gets the model (6.5 GB) when it is not there yet; random weights, see
#                                           make_sd14.py
#
# Skipped (77) where SDSTEER_SD14 is not set, or torch and diffusers are missing.
# PYTHON names the interpreter that has them.
set -eu
tests=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tests")
if [ -z "${SDSTEER_SD14-}" ]; then
    echo "SDSTEER_SD14 does not name a folder for the model of 6.5 GB"
    exit 77
fi
if [ ! -e "$SDSTEER_SD14/reference.safetensors" ]; then
    mkdir -p "$SDSTEER_SD14"
    "${PYTHON:-python3}" "$tests/reference/make_sd14.py" "$SDSTEER_SD14" "$root/data/minisd/model/tokenizer" || {
        status=$?
        [ $status = 77 ] && echo "torch, diffusers or transformers are missing in ${PYTHON:-python3}"
        exit $status
    }
fi
for precision in f32 f16; do
    "$root/build/tests/golden_sd14" "$precision"
done
