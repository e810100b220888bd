# SPDX-License-Identifier: MIT
# whole_model.bash -- loaded by bats files: the tiny model $MODEL through all programs, with four prompts; the module
# $HOOK, of as many values as $DIR/acts.mpk.zst has, $DIR/sae and $DIR/ranks.mpk.zst.

# shellcheck shell=bash

# In setup_file, with MODEL and HOOK set: prompts, states, activations, latents, pictures, an autoencoder and its ranks.
make_all() {
    export TESTS=$BATS_TEST_DIRNAME/.. DIR=$BATS_FILE_TMPDIR
    export -f encode sample
    cd "$DIR" || return 1
    printf '%s\n' '{"id":"a","prompt":"a red tower","concept":"Towers"}' \
        '{"id":"b","prompt":"fish in the rain","concept":"Fishes","negative":"a blurry fish"}' \
        '{"id":"c","prompt":"fish","concept":"Fishes","negative":""}' \
        '{"id":"d","prompt":"two towers, one of them far away","concept":"Towers"}' >prompts
    encode -o cond.mpk.zst prompts
    sample -o acts.mpk.zst --latents plain.mpk.zst --images plain cond.mpk.zst
    sae-fit -q -k 4 --features 32 --batch 16 --epochs 4 -o sae acts.mpk.zst
    sae-rank-concepts -q --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return; }

encode() { sd-encode-text -q -m "$MODEL" "$@"; }
sample() { sd-sample-hooked -q -m "$MODEL" --steps 3 --hook "$HOOK" "$@"; }
steer() {
    sd-steer -q -m "$MODEL" --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept Fishes --top 4 "$@" \
        "$DIR/cond.mpk.zst"
}
of() { tstream view --tensors "$1" | jq -c "$2" | grep .; }     # fails where there is nothing
latents() { of "$1" .latent; }

# of two streams, which have records: their latents, or what else is named, are the same
alike() { of "$1" "${3-.latent}" >one.values && of "$2" "${3-.latent}" >other.values && cmp one.values other.values; }

# A copy of the model, and a change of one of its files
copy() {
    rm -rf m
    cp -R "$MODEL" m
    chmod -R u+w m
}
edit() {
    jq "$2" "m/$1" >new
    mv new "m/$1"
}

same_in_any_batch() {
    for batch in 1 3; do
        sample --batch $batch -o b.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
        cmp b.mpk.zst "$DIR/acts.mpk.zst"
        cmp l.mpk.zst "$DIR/plain.mpk.zst"
    done
    jq -c 'select(.id == "d")' "$DIR/prompts" | encode | sample --no-activations --latents d.mpk.zst
    [ "$(latents d.mpk.zst)" = "$(latents "$DIR/plain.mpk.zst" | tail -1)" ]
    encode --state-type f16 "$DIR/prompts" | sample --no-activations --latents half.mpk.zst
    [ "$(latents half.mpk.zst | wc -l)" = 4 ]
}

# Nothing outside --when, pictures otherwise; --where, --gate, a sweep; decoded.
steered() {
    local steering=(--mode replace --multiplier -8)
    steer "${steering[@]}" --latents s.mpk.zst -o s
    run ! cmp -s <(latents s.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    steer "${steering[@]}" --batch 1 --latents one.mpk.zst -o one
    cmp one.mpk.zst s.mpk.zst
    steer --mode scale --multiplier 1 --latents same.mpk.zst -o same
    alike same.mpk.zst "$DIR/plain.mpk.zst"
    steer "${steering[@]}" --when 5-2 --latents none.mpk.zst -o none
    alike none.mpk.zst "$DIR/plain.mpk.zst"
    steer "${steering[@]}" --gate 1000 --latents shut.mpk.zst -o shut
    alike shut.mpk.zst "$DIR/plain.mpk.zst"
    steer "${steering[@]}" --where "$DIR/plain/a.png" --latents where.mpk.zst -o where
    run ! cmp -s <(latents where.mpk.zst) <(latents s.mpk.zst)
    steer --mode replace --sweep multiplier=-8,2 --latents sweep.mpk.zst -o sweep
    latents s.mpk.zst >s.latents
    of sweep.mpk.zst 'select(.id | startswith("multiplier=-8/")) | .latent' | cmp - s.latents
    steer "${steering[@]}" -o drawn.mpk.zst
    sd-decode -q -m "$MODEL" -o decoded.mpk.zst s.mpk.zst
    alike decoded.mpk.zst drawn.mpk.zst .image
}

spliced() {
    sae-splice -q -m "$MODEL" --steps 3 --sae "$DIR/sae" "$DIR/cond.mpk.zst" >table
    [ "$(wc -l <table)" = 16 ]
    sae-splice -q -m "$MODEL" --steps 3 --sae "$DIR/sae" --batch 1 "$DIR/cond.mpk.zst" | cmp - table
}
