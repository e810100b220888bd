#!/bin/bash
# SPDX-License-Identifier: MIT
# convert_xl.sh -- sd-convert beside diffusers, tensor by tensor, of Stable Diffusion XL, by
# golden-more/convert/compare_xl.py; skipped where PYTHON lacks it.
set -eu
# shellcheck source=tests/beside_python
. "$(dirname "$0")/beside_python" diffusers peft safetensors torch transformers
HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" -W ignore "$tests/golden-more/convert/compare_xl.py" "$tests/golden-more/sdxl"
