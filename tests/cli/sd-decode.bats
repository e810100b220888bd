#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-decode.bats -- latents to pictures: the same as the sampler's own, as files and as a stream; what is refused.

bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export DIR="$BATS_FILE_TMPDIR"
    printf '%s\n' '{"id":"a/1","prompt":"A fish in Watercolor style.","concept":"Fishes","seed":188}' \
        '{"id":"b","prompt":"a red tower"}' |
        sd-encode-text -o "$DIR/cond.mpk.zst"
    sd-sample-hooked -q --no-activations --steps 2 --latents "$DIR/latents.mpk.zst" --images "$DIR/drawn" \
        "$DIR/cond.mpk.zst"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
}

refused() {     # what the message must hold, then the command
    local expected=$1
    shift
    run -1 --separate-stderr "$@" || return 1
    [ "${#stderr_lines[@]}" = 1 ] || return 1
    [[ ${stderr_lines[0]} == *"$expected"* ]] || return 1
}

pixels() { tail -c +"$(grep -abo IDAT "$1" | head -1 | cut -d: -f1)" "$1"; }

@test "a folder of PNG files named by id, with the pixels that the sampler wrote" {
    sd-decode -q -o "$DIR/decoded" "$DIR/latents.mpk.zst"
    for id in a/1 b; do         # their text chunks, before the pixels, differ
        pixels "$DIR/decoded/$id.png" > "$DIR/pixels"
        [ -s "$DIR/pixels" ]
        pixels "$DIR/drawn/$id.png" | cmp - "$DIR/pixels"
    done
}

@test "text chunks hold the record's fields and what ran" {
    sd-decode -q -o "$DIR/chunks" "$DIR/latents.mpk.zst"
    grep -aq Fishes "$DIR/chunks/a/1.png"
    grep -aq sd-sample-hooked "$DIR/chunks/a/1.png"
    grep -aq sd-decode "$DIR/chunks/a/1.png"
}

@test "a stream of images, from a pipe, by its header and records" {
    sd-decode -q < "$DIR/latents.mpk.zst" > "$DIR/images.mpk.zst"
    tstream info --json "$DIR/images.mpk.zst" 2> /dev/null | grep -q images ||
        tstream info "$DIR/images.mpk.zst" | grep -q images
    tstream check "$DIR/images.mpk.zst"
    sd-decode -q -@ 1 "$DIR/latents.mpk.zst" | cmp - "$DIR/images.mpk.zst"
}

# of SHAPE...: latents of 512 zeros
zeros() {
    { echo '{"stream":"latents","version":1}'
      for shape; do
          jq -nc --argjson shape "$shape" '{id: "\($shape)", latent: {type: "f32", shape: $shape,
              values: [range($shape[0]*$shape[1]*$shape[2]) | 0]}}'
      done
    } | tests/write_stream.py
}

@test "latents of the same values in other shapes are other pictures; one without any is refused by its record" {
    zeros '[4,8,16]' '[4,16,8]' '[4,16,8]' | sd-decode -q --any-model -o "$DIR/shapes.mpk"
    zeros '[4,16,8]' | sd-decode -q --any-model -o "$DIR/shape.mpk"
    cmp <(tstream tail -n 1 "$DIR/shape.mpk" | tstream view --tensors) \
        <(tstream head -n 2 "$DIR/shapes.mpk" | tstream tail -n 1 | tstream view --tensors)
    [ "$(tstream view "$DIR/shapes.mpk" | jq -c .image.shape | xargs)" = "[64,128,3] [128,64,3] [128,64,3]" ]
    for empty in '[4,0,16]' '[4,16,0]'; do
        refused "record 2: a latent of" sd-decode -q --any-model -o "$DIR/never.mpk" <(zeros '[4,8,16]' "$empty")
        refused "record 1: a latent of" sd-decode -q --any-model -o "$DIR/never.mpk" <(zeros "$empty")
    done
    [ ! -e "$DIR/never.mpk" ]
}

@test "another kind of stream is refused" {
    refused conditioning sd-decode -q -o "$DIR/no" "$DIR/cond.mpk.zst"
    [ ! -e "$DIR/no" ]
}

@test "a cut stream is refused, and leaves no stream" {
    head -c 600 "$DIR/latents.mpk.zst" > "$DIR/cut.mpk.zst"
    refused cut.mpk.zst sd-decode -q -o "$DIR/cut-images.mpk.zst" "$DIR/cut.mpk.zst"
    [ ! -e "$DIR/cut-images.mpk.zst" ]
}

@test "latents of another model are refused, unless asked for" {
    cp -R data/minisd/model "$DIR/other"
    sed -i 's/"sample_size": 16/"sample_size": 24/' "$DIR/other/unet/config.json"
    refused any-model sd-decode -q -m "$DIR/other" -o "$DIR/other-images" "$DIR/latents.mpk.zst"
    sd-decode -q -m "$DIR/other" --any-model -o "$DIR/other-images" "$DIR/latents.mpk.zst"
    [ -s "$DIR/other-images/b.png" ]
}

@test "a picture's name is none of a folder, whoever writes pictures" {
    for name in "$DIR/x.png" "$DIR/Y.PNG"; do
        run -2 --separate-stderr sd-decode -q -o "$name" "$DIR/latents.mpk.zst"
        [[ "$stderr" == *"$name: pictures go to a folder"* ]]
        run -2 --separate-stderr sd-sample-hooked -q --no-activations --steps 2 --images "$name" "$DIR/cond.mpk.zst"
        [[ "$stderr" == *"$name: pictures go to a folder"* ]]
        [ ! -e "$name" ]
    done
}
