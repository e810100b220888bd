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
    [ "$status" = 1 ]
    [[ $output == *"record 1"*160*128* ]]
    [ ! -e x.mpk.zst ]
    run sae-encode --sae . acts.mpk.zst -o x.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *cfg.json* ]]
}

# How many tokens of a stream of features have a value above the one before it.
rising() {
    tstream to-npy --tensor value -o value.npy "$1"
    python3 -c 'import struct, sys
data = open("value.npy", "rb").read()
header = 10 + struct.unpack("<H", data[8:10])[0]
K = eval(data[10:header])["shape"][-1]
v = struct.unpack("<%df" % ((len(data) - header)//4), data[header:])
print(sum(any(v[n + k] > v[n + k - 1] for k in range(1, K)) for n in range(0, len(v), K)))'
}

@test "largest first where features share a threshold; in no order of jumprelu and gated, as the manual says" {
    page=$(sae-encode --man | tr '\n' ' ')
    [[ $page =~ "Of topk, batchtopk, sampletopk, matryoshka and relu,"[^\;]*" the largest value first;" ]]
    [[ $page =~ "of jumprelu and gated,"[^.]*" the values are in no order." ]]
    for variant in topk batchtopk sampletopk matryoshka relu jumprelu gated; do
        sae-fit -q -k 4 --features 64 --batch 64 --epochs 60 --mix pictures --variant $variant -o $variant acts.mpk.zst
        sae-encode --sae $variant acts.mpk.zst -o by-$variant.mpk.zst
        case $variant in
            jumprelu | gated) [ "$(rising by-$variant.mpk.zst)" -gt 0 ] ;;
            *) [ "$(rising by-$variant.mpk.zst)" = 0 ] ;;
        esac
    done
}

# A ReLU autoencoder of 600 features that are all above 0 in every token.
whole() {       # folder
    mkdir -p "$1"
    echo '{"d_in": 128, "num_latents": 600, "k": 1, "activation": "relu"}' > "$1/cfg.json"
    python3 - "$1" <<'PY'
import json, struct, sys
F, D = 600, 128
tensors = {"encoder.weight": ([F, D], b"\0"*4*F*D), "encoder.bias": ([F], struct.pack("<f", 1)*F),
           "W_dec": ([F, D], struct.pack("<f", 0.1)*F*D), "b_dec": ([D], b"\0"*4*D)}
at, header = 0, {}
for name, (shape, data) in tensors.items():
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
    at += len(data)
text = json.dumps(header).encode()
with open(sys.argv[1] + "/sae.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, data in tensors.values()))
PY
}

@test "features beyond what is kept are not dropped in silence, unless most says so" {
    whole relu
    for run in "sae-encode few.mpk.zst" "sae-eval few.mpk.zst" "sae-rank-concepts few.mpk.zst" \
        "sae-splice --hook $HOOK cond.mpk.zst" "sd-steer --hook $HOOK --feature 3=1 --steps 1 cond.mpk.zst"; do
        # shellcheck disable=SC2086         # words
        run ${run%% *} --sae relu -o no.mpk.zst ${run#* }
        [ "$status" = 1 ]
        [[ $output == *"512 features above 0 or more"*most* ]]
        [ ! -e no.mpk.zst ]
    done
    sae-convert relu --to ours -o ours
    run sae-encode --sae ours few.mpk.zst -o no.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *"512 features above 0 or more"* ]]
    jq '.most = 600' relu/cfg.json > cfg.json
    mv cfg.json relu/
    sae-encode --sae relu few.mpk.zst -o all.mpk.zst
    [ "$(tstream view all.mpk.zst | jq -c .value.shape | sort -u)" = "[5,600]" ]
}
