#!/bin/bash
# SPDX-License-Identifier: MIT
# convert.sh -- sd-convert beside diffusers, tensor by tensor, by golden-more/convert/compare.py; skipped where PYTHON
# lacks it.
set -eu
python=${PYTHON:-python3}
"$python" -c 'import diffusers, peft, safetensors, torch, transformers' >/dev/null 2>&1 || {
    echo "skipped: $python has no diffusers, peft, safetensors, torch and transformers"
    exit 77
}
tests=$(cd "$(dirname "$0")" && pwd)
PATH=$tests/../bin:$PATH
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
cd "$folder"
HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" -W ignore "$tests/golden-more/convert/compare.py" "$tests/../data/minisd/model"
