# SPDX-License-Identifier: MIT
# two_hooks.bash -- loaded by bats files: one.mpk.zst and two.mpk.zst in $DATA, six pictures' activations of one module
# and of two, and a folder free of what the last test left there.

# shellcheck shell=bash

setup_file() {
    export DATA=$BATS_FILE_TMPDIR HOOK=up_blocks.1.attentions.1 OMP_NUM_THREADS=1
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -6 >prompts.jsonl
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 4 --hook $HOOK --hook up_blocks.0 cond.mpk.zst -o two.mpk.zst
    sd-sample-hooked --steps 4 --hook $HOOK cond.mpk.zst -o one.mpk.zst
}

setup() {
    cd "$DATA" || return 1
    rm -rf out a b log ckpt*
}
