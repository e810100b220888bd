#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-steer-text.bats -- autoencoders of the text encoder, from capture to steered pictures: which texts change and
# which stay bit for bit, sweeps, halves, messages.

bats_require_minimum_version 1.5.0

load says

HOOK=text_encoder.text_model.encoder.layers.2

setup_file() {
    export DIR="$BATS_FILE_TMPDIR"
    sd-assemble-prompts -n 1 > "$DIR/all"
    jq -c 'select((.concept == "Fishes" or .concept == "Cats") and .theme != null)' "$DIR/all" |
        head -6 > "$DIR/prompts"
    sd-encode-text -q --hook "$HOOK" -o "$DIR/acts.mpk.zst" "$DIR/all"
    sae-fit -q -k 8 --features 512 --tokens 60K -o "$DIR/sae" "$DIR/acts.mpk.zst"
    sae-rank-concepts -q --sae "$DIR/sae" --score difference -o "$DIR/ranks.mpk.zst" "$DIR/acts.mpk.zst"
    sd-encode-text -q -o "$DIR/plain.mpk.zst" "$DIR/prompts"
}

steer() { sd-steer-text -q --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" "$@"; }

# Exit status, words of the message, then the command.
fails() {
    run "${@:3}"
    says "$1" "$2"
}

states() { tstream view --tensors "$1" | jq -c ".${2:-state}"; }

@test "a hooked layer's activations: a record a prompt and module, fields and all but the start token" {
    cd "$BATS_TEST_TMPDIR"
    head -2 "$DIR/prompts" | sd-encode-text --hook 'text_encoder.**.[02]' --act-type f32 -o a.mpk.zst
    [ "$(tstream view a.mpk.zst | jq -c '[.concept, .step, .t, .half, .hook[-8:], .act.shape]' | sed -n 1,2p)" = \
'["'"$(head -1 "$DIR/prompts" | jq -r .concept)"'",0,0,"cond","layers.0",[76,128]]
["'"$(head -1 "$DIR/prompts" | jq -r .concept)"'",0,0,"cond","layers.2",[76,128]]' ]
    [ "$(tstream view a.mpk.zst | wc -l)" = 4 ]
    [ "$(tstream view -H a.mpk.zst | head -1 | jq -c '[.take, (.hooks | length)]')" = '["output",2]' ]
    # what the last module computes is what the UNet is told
    head -2 "$DIR/prompts" | sd-encode-text --hook "text_encoder.**.final*" --act-type f32 -o last.mpk.zst
    sd-encode-text -o c.mpk.zst <(head -2 "$DIR/prompts")
    tstream to-npy --tensor act -o last.npy last.mpk.zst
    tstream to-npy --tensor state -o state.npy c.mpk.zst
    python3 - <<'PY'
import struct
def values(path, shape):
    raw = open(path, "rb").read()
    return raw[-4 * shape[0] * shape[1] * shape[2]:]
last, state = values("last.npy", (2, 76, 128)), values("state.npy", (2, 77, 128))
row, n = 128 * 4, 76 * 128 * 4
assert last[:n] == state[row:row + n] and last[n:] == state[2 * row + n:], "not the state"
PY
}

@test "capture: chunks one after another, shards equal the whole, a module is named or its neighbours are" {
    cd "$BATS_TEST_TMPDIR"
    { cat "$DIR/prompts"; printf 'a red tower %.0s' {1..40}; } > long
    sd-encode-text -q --chunks 2 --hook "$HOOK" -o whole.mpk.zst long
    [ "$(tstream view whole.mpk.zst | tail -1 | jq -c .act.shape)" = '[152,128]' ]
    head -3 "$DIR/prompts" | sd-encode-text --hook "$HOOK" -o a.mpk.zst
    tail -3 "$DIR/prompts" | sd-encode-text -@1 --hook "$HOOK" -o b.mpk.zst
    cmp <(cat a.mpk.zst b.mpk.zst | tstream view --tensors | jq -c .act) \
        <(tstream view --tensors whole.mpk.zst | head -6 | jq -c .act)
    fails 1 "nearest: text_encoder.text_model.encoder.layers" sd-encode-text --hook layers.7 "$DIR/prompts"
    [ "$(sd-encode-text --list-hooks | wc -l)" = 5 ]
    # a module that two names match is captured once
    head -2 "$DIR/prompts" | sd-encode-text --hook "$HOOK" --hook 'text_encoder.**.[12]' -o twice.mpk.zst
    [ "$(tstream view --tsv id,hook twice.mpk.zst | sort | uniq -c | awk '{print $1}' | xargs)" = "1 1 1 1" ]
    tstream view -H twice.mpk.zst | head -1 | jq -e '.hooks | length == 2'
}

@test "a steering that changes no feature gives the plain states, bit for bit; one that does gives others" {
    cd "$BATS_TEST_TMPDIR"
    for how in "--mode scale --multiplier 1" "--mode ablate --gate 1000"; do
        # shellcheck disable=SC2086
        steer --concept Fishes --top 20 $how -o same.mpk.zst "$DIR/prompts"
        cmp <(states same.mpk.zst) <(states "$DIR/plain.mpk.zst")
    done
    steer --concept Fishes --top 20 --mode replace -o other.mpk.zst "$DIR/prompts"
    run ! cmp -s <(states other.mpk.zst) <(states "$DIR/plain.mpk.zst")
    [ "$(tstream view other.mpk.zst | jq -c '[.steered, .steered_kind, .steering.mode]' | sort -u)" \
        = '["Fishes","concept","replace"]' ]
    # the start token is never steered
    tstream to-npy --tensor state -o a.npy other.mpk.zst
    tstream to-npy --tensor state -o b.npy "$DIR/plain.mpk.zst"
    cmp <(tail -c $((6*77*128*4)) a.npy | head -c 512) <(tail -c $((6*77*128*4)) b.npy | head -c 512)
}

@test "--clip-skip: the same change of nothing; layers that prompts then do not go through are not there" {
    cd "$BATS_TEST_TMPDIR"
    sd-encode-text -q --clip-skip 1 -o skipped.mpk.zst "$DIR/prompts"
    run ! cmp -s <(states skipped.mpk.zst) <(states "$DIR/plain.mpk.zst")
    for half in cond both; do
        steer --clip-skip 1 --half $half --concept Fishes --top 20 --mode scale --multiplier 1 -o same.mpk.zst \
            "$DIR/prompts"
        cmp <(states same.mpk.zst) <(states skipped.mpk.zst)
    done
    steer --clip-skip 1 --concept Fishes --top 20 --mode replace -o other.mpk.zst "$DIR/prompts"
    run ! cmp -s <(states other.mpk.zst) <(states skipped.mpk.zst)
    fails 1 "layers.2' matches no module that prompts go through with --clip-skip; nearest:" \
        steer --clip-skip 2 --concept Fishes -o no.mpk.zst "$DIR/prompts"
    [ ! -e no.mpk.zst ]
    fails 1 "matches no module that prompts" sd-encode-text --clip-skip 2 --hook "$HOOK" "$DIR/prompts"
    [ "$(sd-encode-text --clip-skip 2 --list-hooks)" \
        = "$(printf 'text_encoder.text_model.%s\n' encoder.layers.0 encoder.layers.1 final_layer_norm)" ]
    # what a hook sees is what is computed: the final norm stands behind the layers that are left
    head -1 "$DIR/prompts" | sd-encode-text --clip-skip 1 --hook 'text_encoder.**.final*' --act-type f32 -o last.mpk.zst
    cmp <(tstream view --tensors last.mpk.zst | jq -c .act.values) \
        <(tstream view --tensors skipped.mpk.zst | head -1 | jq -c '.state.values[128:]')
}

@test "a gate leaves the texts that do not show the label" {
    cd "$BATS_TEST_TMPDIR"
    steer --concept Fishes --top 5 --mode replace --gate 0.5 -o half.mpk.zst "$DIR/prompts"
    of() { tstream view --tensors "$2" | jq -c "select(.concept == \"$1\") | .state"; }
    cmp <(of Cats half.mpk.zst) <(of Cats "$DIR/plain.mpk.zst")
    run ! cmp -s <(of Fishes half.mpk.zst) <(of Fishes "$DIR/plain.mpk.zst")
}

@test "a sweep: by record, then steering; each as by itself, the whole as its shards" {
    cd "$BATS_TEST_TMPDIR"
    steer --sweep concept=Fishes,Cats --unsteered --top 20 --mode others -o all.mpk.zst "$DIR/prompts"
    [ "$(tstream view all.mpk.zst | jq -r .id | head -4 | cut -d/ -f1)" = "unsteered
concept=Fishes
concept=Cats
unsteered" ]
    of() { tstream view --tensors all.mpk.zst | jq -c "select(.steered == \"$1\") | .state"; }
    cmp <(of "") <(states "$DIR/plain.mpk.zst")
    steer --concept Cats --top 20 --mode others -o cats.mpk.zst "$DIR/prompts"
    cmp <(of Cats) <(states cats.mpk.zst)
    for part in head tail; do
        $part -3 "$DIR/prompts" |
            steer --sweep concept=Fishes,Cats --unsteered --top 20 --mode others -@1 -o $part.mpk.zst
    done
    cmp <(states all.mpk.zst) <(cat head.mpk.zst tail.mpk.zst | tstream view --tensors | jq -c .state)
}

@test "--half uncond steers the negative prompts, which each record then carries, and leaves the prompts" {
    cd "$BATS_TEST_TMPDIR"
    steer -n 'a fish' --half uncond --concept Fishes --top 20 --mode replace -o u.mpk.zst "$DIR/prompts"
    cmp <(states u.mpk.zst) <(states "$DIR/plain.mpk.zst")
    sd-encode-text -n 'a fish' -o plain.mpk.zst "$DIR/prompts"
    cmp <(tstream view -H --tensors u.mpk.zst | head -1 | jq -c .uncond) \
        <(tstream view -H --tensors plain.mpk.zst | head -1 | jq -c .uncond)
    [ "$(states u.mpk.zst uncond | sort -u | wc -l)" = 1 ]
    [ "$(states u.mpk.zst uncond | head -1)" != "$(tstream view -H --tensors u.mpk.zst | head -1 | jq -c .uncond)" ]
}

@test "pictures are drawn of steered states, and say of what steering they are" {
    cd "$BATS_TEST_TMPDIR"
    head -1 "$DIR/prompts" | steer --sweep concept=Fishes,Cats --top 20 --mode replace |
        sd-sample-hooked -q --steps 2 --no-activations --images out
    [ "$(find out -name '*.png' | wc -l)" = 2 ]
    picture=$(find out -path '*concept=Cats*' -name '*.png')
    [[ $(tstream text "$picture") == *steered*Cats* ]]
}

@test "ids that are long stay whole in a sweep" {
    cd "$BATS_TEST_TMPDIR"
    long=$(printf 'ü%.0s' {1..3000})
    printf '{"id":"%s","prompt":"a cat"}\n' "$long/1" "$long/2" | steer --sweep concept=Cats,Fishes -o long.mpk.zst
    [ "$(tstream view --tsv id long.mpk.zst)" = "concept=Cats/$long/1
concept=Fishes/$long/1
concept=Cats/$long/2
concept=Fishes/$long/2" ]
}

@test "pictures that are the same again are drawn once in a batch, and are those that are drawn alone" {
    cd "$BATS_TEST_TMPDIR"
    head -2 "$DIR/prompts" | steer --sweep concept=all --unsteered --top 5 --mode replace --gate 0.5 -o s.mpk.zst
    sd-sample-hooked -q --steps 2 --no-activations --latents together.mpk.zst s.mpk.zst
    sd-sample-hooked -q --steps 2 --no-activations --batch 1 --latents alone.mpk.zst s.mpk.zst
    [ "$(tstream view --tensors alone.mpk.zst | jq -c .latent | sort -u | wc -l)" -lt 10 ]
    cmp <(tstream view --tensors together.mpk.zst) <(tstream view --tensors alone.mpk.zst)
}

@test "sd-steer draws steered states, and what it says of its own steering leaves that of the text" {
    cd "$BATS_TEST_TMPDIR"
    sd-sample-hooked -q --steps 2 -o acts.mpk.zst "$DIR/plain.mpk.zst"
    sae-fit -q -k 4 --features 64 --tokens 1K -o unet acts.mpk.zst
    head -1 "$DIR/prompts" | steer --concept Fishes --top 20 --mode replace |
        sd-steer -q --sae unet --feature 3=2 --mode add --steps 2 -o out.mpk.zst
    [ "$(tstream view out.mpk.zst | jq -c '[.steering.mode, .text_steering.mode, .text_steering.steered]')" \
        = '["add","replace","Fishes"]' ]
}

@test "pictures that sd-steer leaves unsteered say so, whatever was done to their text" {
    cd "$BATS_TEST_TMPDIR"
    sd-sample-hooked -q --steps 2 -o acts.mpk.zst "$DIR/plain.mpk.zst"
    sae-fit -q -k 4 --features 64 --tokens 1K -o unet acts.mpk.zst
    head -2 "$DIR/prompts" | steer --feature 5=3 --concept Fishes --multiplier -4 --top 20 -o told.mpk.zst
    sd-steer -q --sae unet --mode add --sweep feature=none,3=2 --unsteered --steps 2 -o out told.mpk.zst
    [ "$(for place in unsteered feature=none feature=3=2; do
            tstream text "$(find "out/$place" -name '*.png' | head -1)" |
                jq -c 'with_entries(select(.key | contains("steer"))) | keys'
        done)" = '["steered","steered_kind","text_steering"]
["steered","steered_kind","text_steering"]
["steered","steered_kind","steering","text_steering"]' ]
    sd-encode-image -q --net "$SDSTEER_TESTS/../data/minisd/judge.safetensors" out | sd-evaluate | cut -f 1-4 |
        cmp - <(printf '%b\n' 'row\tkind\ttarget\tpictures' 'unsteered\tconcept\t-\t4' 'unsteered\ttheme\t-\t4' \
            'features\tconcept\t3:2\t2' 'features\ttheme\t3:2\t2')
}

@test "what does not fit is said" {
    cd "$BATS_TEST_TMPDIR"
    fails 2 "says nothing to steer" sd-steer-text --sae "$DIR/sae" "$DIR/prompts"
    fails 2 "for all timesteps" steer --concept Fishes --sweep when=999-500 "$DIR/prompts"
    fails 2 "--sweep says nothing to steer" steer --sweep multiplier=1,2 "$DIR/prompts"
    fails 2 "--gate -1 is below 0" steer --concept Fishes --gate -1 "$DIR/prompts"
    fails 1 "no label of the kind 'animal'" steer --label animal=Fishes "$DIR/prompts"
    fails 2 "that --hook NAME writes" sd-encode-text --take diff "$DIR/prompts"
    fails 1 "have no concept 'Whales'" steer --concept Whales "$DIR/prompts"
    fails 1 "matches no module" sd-steer --sae "$DIR/sae" --feature 1=2 "$DIR/plain.mpk.zst"
    fails 1 "matches no module" steer --concept Fishes --hook up_blocks.1.attentions.1 "$DIR/prompts"
    sae-fit -q -k 4 --features 128 --tokens 2K -o other "$DIR/acts.mpk.zst"
    fails 1 "these ranks were made with the autoencoder" \
        sd-steer-text --sae other --ranks "$DIR/ranks.mpk.zst" --concept Fishes "$DIR/prompts"
    jq '.take = "sideways"' "$DIR/sae/cfg.json" > other/cfg.json
    cp "$DIR/sae/sae.safetensors" other
    fails 1 "other: cfg.json: take is 'sideways', expected output or diff" \
        sd-steer-text --sae other --feature 1=2 "$DIR/prompts"
    [ "$(ls)" = other ]
}
