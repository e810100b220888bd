#!/bin/bash
# SPDX-License-Identifier: MIT
# convert.sh -- sd-convert beside diffusers, tensor by tensor, by golden-more/convert/compare.py; skipped where PYTHON
# lacks it.
set -eu
# shellcheck source=tests/beside_python
. "$(dirname "$0")/beside_python" diffusers peft safetensors torch transformers
HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" -W ignore "$tests/golden-more/convert/compare.py" "$tests/../data/minisd/model"
