#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-convert.bats -- layouts of autoencoders from outside: the same features whatever the layout, and what it refuses.

setup_file() {
    export DATA=$BATS_FILE_TMPDIR MORE=$SDSTEER_TESTS/golden-more SAE=$SDSTEER_TESTS/golden/saeuron/sae
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -1 | sd-encode-text |
        sd-sample-hooked --steps 2 --hook up_blocks.1.attentions.1 -o acts.mpk.zst
    sae-encode --sae "$SAE" acts.mpk.zst | tstream view - >features
}

setup() { cd "$DATA" || return 1; }

@test "the same features from each layout, and back" {
    for to in saeuron sparsify saelens; do
        sae-convert "$SAE" --to $to -o "$to/sae"
        sae-encode --sae $to acts.mpk.zst --hook up_blocks.1.attentions.1 | tstream view - | cmp - features
        sae-convert "$to/sae" --to saeuron -o "back-$to"
        cmp "back-$to/sae.safetensors" saeuron/sae/sae.safetensors
    done
    [ "$(ls saelens/sae)" = "cfg.json
sae_weights.safetensors" ]
    [ "$(jq -r .architecture,.d_in,.d_sae,.k saelens/sae/cfg.json | xargs)" = "topk 128 2048 16" ]
    jq -e 'has("transcode") and (has("batch_topk") | not)' sparsify/sae/cfg.json
    jq -e 'has("batch_topk") and (has("transcode") | not)' saeuron/sae/cfg.json
}

@test "folders of torch are read; where they came from is written down" {
    sae-convert "$MORE/sae_layouts/openai" --to saeuron -o openai
    [ "$(jq -r .origin.layout,.num_latents,.k,.d_in openai/cfg.json | xargs)" = "OpenAI 24 4 8" ]
    sae-convert "$MORE/sae_layouts/dictionary_learning" --to saelens -o dl
    jq -e '.metadata.sdsteer.origin.config.trainer.dict_class == "AutoEncoderTopK"' dl/cfg.json
}

@test "--hook and --take say what a folder does not" {
    sae-convert "$MORE/sae_layouts/openai" --to ours --hook mid_block.attentions.0 --take diff -o placed
    [ "$(jq -r .hook,.take placed/cfg.json | xargs)" = "mid_block.attentions.0 diff" ]
    sae-convert placed --to saelens -o placed-lens
    [ "$(jq -r .metadata.sdsteer.take placed-lens/cfg.json)" = diff ]
    sae-convert placed-lens --to ours -o placed-back
    [ "$(jq -r .hook,.take placed-back/cfg.json | xargs)" = "mid_block.attentions.0 diff" ]
    run sae-convert placed --to ours --take both -o x
    [ "$status" = 2 ]
    [ ! -e x ]
}

@test "a folder that holds another layout is refused as output, and stays as it is; its own layout is replaced" {
    folder() { rm -rf it; cp -r "$1" it; sha256sum it/* >sums; }
    sae-convert "$SAE" --to saelens -o lens
    sae-convert "$SAE" --to saeuron -o plain
    for layout in "lens --to ours" "lens --to sparsify" "plain --to saelens" \
        "$MORE/sae_layouts/openai --to saelens" "$MORE/sae_layouts/dictionary_learning --to ours"; do
        folder "${layout% --to *}"
        run sae-convert it --to "${layout##* }" -o it
        [ "$status" = 1 ]
        [[ $output == *"it: holds "*" layout"* ]]
        [ "$(sha256sum it/*)" = "$(<sums)" ]
    done
    folder plain
    sae-convert it --to ours --hook mid_block -o it
    [ "$(jq -r .hook it/cfg.json)" = mid_block ]
    cmp it/sae.safetensors plain/sae.safetensors
    folder lens
    sae-convert plain --to saelens -o it
    cmp it/sae_weights.safetensors lens/sae_weights.safetensors
    [ "$(find it -type f | wc -l)" = 2 ]
}

@test "a pickle that would run a command is refused, and no folder is left" {
    mkdir evil
    cp "$MORE/torch/evil.pth" evil/state_dict.pth
    echo '{"k": 4, "d_model": 8, "n_dirs_local": 24}' >evil/config.json
    run sae-convert evil --to saeuron -o out
    [ "$status" = 1 ]
    [[ $output == *"evil/state_dict.pth: data.pkl: byte "*"names posix.system"* ]]
    [ ! -e out ]
}

@test "misuse: no folder, two, another layout, no output" {
    run sae-convert --to saelens -o x
    [ "$status" = 2 ]
    run sae-convert a b --to saelens -o x
    [ "$status" = 2 ]
    run sae-convert a --to torch -o x
    [ "$status" = 2 ]
    run sae-convert a --to saelens
    [ "$status" = 2 ]
}
