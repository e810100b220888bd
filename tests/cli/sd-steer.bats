#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-steer.bats -- what is steered, when, in which pictures; sweeps; messages.

bats_require_minimum_version 1.5.0

setup_file() {
    export DIR="$BATS_FILE_TMPDIR"
    sd-assemble-prompts --split gather -n 1 | jq -c 'select(.concept == "Fishes" or .concept == "Cats")' | head -6 > "$DIR/prompts"
    sd-encode-text -o "$DIR/cond.mpk.zst" "$DIR/prompts"
    sd-sample-hooked -q --steps 3 --latents "$DIR/plain.mpk.zst" -o "$DIR/acts.mpk.zst" "$DIR/cond.mpk.zst"
    sae-fit -q -k 8 --features 256 --batch 128 --epochs 4 -o "$DIR/sae" "$DIR/acts.mpk.zst"
    sae-rank-concepts -q --sae "$DIR/sae" --score difference -o "$DIR/ranks.mpk.zst" "$DIR/acts.mpk.zst"
}

# Final latents of a steering, as text without the fields that tell of it: the last argument names the file.
latents() {
    local out=${*: -1}
    sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" "${@:1:$#-1}" --latents "$out.mpk.zst" -o "$out" "$DIR/cond.mpk.zst"
    tstream to-npy --tensor latent -o "$out.npy" "$out.mpk.zst"
}

plain() { tstream to-npy --tensor latent -o "$1.npy" "$DIR/plain.mpk.zst"; }

@test "a steering changes the pictures" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    run ! cmp -s "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "outside --when nothing changes, bit for bit" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --when 5-2 "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    cmp "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "a gate that nothing passes leaves all pictures, and the half gate only those that show the label" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --gate 1000 "$BATS_TEST_TMPDIR/shut"
    plain "$BATS_TEST_TMPDIR/plain"
    cmp "$BATS_TEST_TMPDIR/shut.npy" "$BATS_TEST_TMPDIR/plain.npy"
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --gate 0.5 "$BATS_TEST_TMPDIR/half"
    cmp <(tstream view --tensors "$BATS_TEST_TMPDIR/half.mpk.zst" | jq -c 'select(.concept == "Cats") | .latent') \
        <(tstream view --tensors "$DIR/plain.mpk.zst" | jq -c 'select(.concept == "Cats") | .latent')
    run ! cmp -s <(tstream view --tensors "$BATS_TEST_TMPDIR/half.mpk.zst" | jq -c 'select(.concept == "Fishes") | .latent') \
        <(tstream view --tensors "$DIR/plain.mpk.zst" | jq -c 'select(.concept == "Fishes") | .latent')
}

@test "a sweep equals its runs one by one, whatever the batch" {
    latents --mode replace --top 20 --gate 0.5 --unsteered --sweep multiplier=-2,-5 --sweep concept=all --batch 2 "$BATS_TEST_TMPDIR/sweep"
    run -0 ls "$BATS_TEST_TMPDIR/sweep" "$BATS_TEST_TMPDIR/sweep/multiplier=-5"
    [[ "$output" == *"multiplier=-2"*unsteered*"concept=Cats"*"concept=Fishes"* ]]
    latents --mode replace --top 20 --gate 0.5 --multiplier -5 --concept Cats "$BATS_TEST_TMPDIR/one"
    cmp <(tstream view --tensors "$BATS_TEST_TMPDIR/sweep.mpk.zst" | jq -c 'select(.id | startswith("multiplier=-5/concept=Cats/")) | .latent') \
        <(tstream view --tensors "$BATS_TEST_TMPDIR/one.mpk.zst" | jq -c .latent)
}

@test "a feature by hand needs no ranks" {
    sd-steer -q --steps 3 --sae "$DIR/sae" --feature 3=2.5 --mode add -o "$BATS_TEST_TMPDIR/out.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(tstream view "$BATS_TEST_TMPDIR/out.mpk.zst" | wc -l)" -eq 6 ]
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$DIR/sae" --feature 256=1 -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"features 0 to 255"* ]]
}

@test "the steering is in the fields and in the PNG" {
    latents --concept Fishes --top 5 --mode ablate "$BATS_TEST_TMPDIR/a"
    [ "$(tstream view "$BATS_TEST_TMPDIR/a.mpk.zst" | jq -r '"\(.steered) \(.steered_kind) \(.steering.mode) \(.steering.top)"' | sort -u)" = "Fishes concept ablate 5" ]
    run -0 tstream text "$(find "$BATS_TEST_TMPDIR/a" -name '*.png' | head -1)"
    [[ "$output" == *ablate* ]]
}

@test "--compat saeuron differs even where it changes no feature" {
    latents --concept Fishes --top 5 --mode scale --multiplier 1 --compat saeuron "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    run ! cmp -s "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "messages: an unknown concept, ranks of another autoencoder, too few ranks, nothing to steer" {
    steer() { sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$@" "$DIR/cond.mpk.zst"; }
    run -1 --separate-stderr steer --concept Dragons
    [[ "$stderr" == *Dragons*Cats*Fishes* ]]
    run -1 --separate-stderr steer --sweep multiplier=much --concept Fishes
    [[ "$stderr" == *much* ]]
    sae-fit -q -k 8 --features 256 --seed 5 --batch 128 -o "$BATS_TEST_TMPDIR/sae" "$DIR/acts.mpk.zst"
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$BATS_TEST_TMPDIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept Fishes \
        -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"another"* || "$stderr" == *"made with"* ]]
    sae-rank-concepts -q --sae "$DIR/sae" --top 2 -o "$BATS_TEST_TMPDIR/few.mpk.zst" "$DIR/acts.mpk.zst"
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$BATS_TEST_TMPDIR/few.mpk.zst" --concept Fishes --top 9 \
        -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"--top 9"* ]]
    run -2 steer
    [ ! -e "$BATS_TEST_TMPDIR/o.mpk.zst" ]
}
