#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-encode.bats -- features of activations: shapes, fields, the same bytes however they come,
# and what it says of bad input.

setup_file() {
    export DATA=$BATS_FILE_TMPDIR SAE=$SDSTEER_TESTS/golden/saeuron/sae HOOK=up_blocks.1.attentions.1
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -2 | sd-encode-text -o cond.mpk.zst
    sd-sample-hooked --steps 2 --half both --hook $HOOK cond.mpk.zst -o acts.mpk.zst
    sd-sample-hooked --steps 2 --hook $HOOK --tokens 5 cond.mpk.zst -o few.mpk.zst
    sd-sample-hooked --steps 2 --hook up_blocks.0 cond.mpk.zst -o wide.mpk.zst
}

setup() { cd "$DATA" || return 1; }

@test "a record for a record: shapes, fields, header" {
    sae-encode --sae "$SAE" acts.mpk.zst -o f.mpk.zst
    tstream check f.mpk.zst
    [ "$(tstream view f.mpk.zst | wc -l)" = 8 ]
    tstream info f.mpk.zst >info
    grep -q features info
    tstream view f.mpk.zst | jq -se 'all(.[]; .id and .concept and .half and .hook and (.t | type == "number"))'
}

@test "same bytes: threads, a pipe" {
    sae-encode --sae "$SAE" -@ 1 acts.mpk.zst | cmp - f.mpk.zst
    zstd -dc acts.mpk.zst | sae-encode --sae "$SAE" -@ 2 | cmp - f.mpk.zst
}

@test "a subset of tokens, one half" {
    sae-encode --sae "$SAE" few.mpk.zst -o few-f.mpk.zst
    tstream check few-f.mpk.zst
    [ "$(sae-encode --sae "$SAE" --half cond acts.mpk.zst | tstream view - | wc -l)" = 4 ]
}

@test "another width is refused with both; a folder that is none too" {
    run sae-encode --sae "$SAE" wide.mpk.zst -o x.mpk.zst
    [ "$status" = 1 ] && [[ $output == *"record 1"*160*128* ]] && [ ! -e x.mpk.zst ]
    run sae-encode --sae . acts.mpk.zst -o x.mpk.zst
    [ "$status" = 1 ] && [[ $output == *cfg.json* ]]
}
