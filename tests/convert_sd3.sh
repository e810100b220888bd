#!/bin/bash
# SPDX-License-Identifier: MIT
# convert_sd3.sh -- sd-convert beside diffusers, tensor by tensor, of Stable Diffusion 3, by
# golden-more/convert/compare_sd3.py; skipped where PYTHON lacks it.
set -eu
# shellcheck source=tests/beside_python
. "$(dirname "$0")/beside_python" diffusers peft safetensors sentencepiece torch transformers
HF_HUB_DISABLE_PROGRESS_BARS=1 "$python" -W ignore "$tests/golden-more/convert/compare_sd3.py" "$tests/golden-more/sd3"
