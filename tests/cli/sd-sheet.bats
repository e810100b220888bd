#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-sheet.bats -- contact sheets: sizes, places, the same bytes again, and what it says of bad input.

bats_require_minimum_version 1.5.0

setup_file() {
    export DATA=$BATS_FILE_TMPDIR
    cd "$DATA" || return 1
    cat >prompts.jsonl <<'END'
{"id":"a","prompt":"A fish.","concept":"Fishes","seed":1}
{"id":"b","prompt":"A dog in Rust style.","concept":"Dogs","theme":"Rust","seed":2}
{"id":"c","prompt":"A dog.","concept":"Dogs","seed":3}
END
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 2 --no-activations --images images.mpk.zst cond.mpk.zst
    sd-sample-hooked --steps 2 --no-activations --images folder cond.mpk.zst
    export WRITE=$BATS_TEST_DIRNAME/../write_stream.py
}

setup() { cd "$DATA" || return 1; }

# small HEADER FIELDS...: an images stream of 8 x 8 pixels, a record for each of the JSON objects
small() {
    local header=$1
    shift
    printf '%s\n' "$@" | jq -c --argjson header "$header" -n '{stream: "images", version: 1} + $header,
        (foreach inputs as $x (0; . + 1; . as $n | $x + {image: {type: "u8", shape: [8, 8, 3],
            values: [range(192) | . * $n % 256]}}))' | python3 "$WRITE"
}

# The provenance of two sheets may differ, their pixels do not: put on sheets of their own, both come out alike.
same_pixels() {
    sd-sheet "$1" -o a.png
    sd-sheet "$2" -o b.png
    cmp a.png b.png
}

size() { od -An -tu4 --endian=big -j 16 -N 8 "$1" | tr -s ' '; }

@test "rows and columns have the size of their cells and labels" {
    # 2 columns of 128 + 4, margins of 8, row labels of 6 letters; 2 rows of 128 + 4, a line of 10 + 2 above
    sd-sheet --rows concept --columns theme images.mpk.zst -o sheet.png
    [ "$(size sheet.png)" = " $((8 + 36 + 4 + 128 + 4 + 128 + 8)) $((8 + 12 + 128 + 4 + 128 + 8))" ]
    sd-sheet --across 3 --cell 32 images.mpk.zst -o flow.png
    [ "$(size flow.png)" = " $((8 + 32 + 4 + 32 + 4 + 32 + 8)) $((8 + 32 + 8))" ]
}

@test "a stream and its PNG files make the same picture, every time" {
    sd-sheet --rows concept --columns theme --caption id images.mpk.zst -o stream.png
    sd-sheet --rows concept --columns theme --caption id <images.mpk.zst | cmp - stream.png
    sd-sheet --rows concept --columns theme --caption id folder -o folder.png
    same_pixels stream.png folder.png
}

@test "a sheet names the programs of all its streams" {
    small '{"provenance": [{"program": "first"}, {"program": "both"}]}' '{"id": "a"}' >first.mpk
    small '{"provenance": [{"program": "second"}, {"program": "both"}]}' '{"id": "b"}' >second.mpk
    small '{}' '{"id": "c"}' >third.mpk
    sd-sheet first.mpk third.mpk second.mpk -o sheet.png
    [ "$(tstream text sheet.png | jq -r '.provenance | fromjson | map(.program) | join(" ")')" \
        = "first both second sd-sheet" ]
}

@test "texts are compared whole, whatever is drawn of them" {
    long=$(printf 'a dog and a caf\303\251, %.0s' {1..60})
    for i in 1 2 3; do
        jq -nc --arg prompt "$long $i" --argjson i "$i" '{id: "\($i)", prompt: $prompt, concept: "Dogs"}'
    done >long.jsonl
    small '{}' "$(cat long.jsonl)" >long.mpk
    run -0 --separate-stderr sd-sheet --rows prompt --columns concept --cell 64 long.mpk -o rows.png
    [ -z "$stderr" ]
    [ "$(size rows.png)" = " $((8 + 24*6 + 4 + 64 + 8)) $((8 + 12 + 3*64 + 2*4 + 8))" ]
    run -0 --separate-stderr sd-sheet --rows concept --columns prompt --caption prompt long.mpk --cell 64 -o columns.png
    [ -z "$stderr" ]
    [ "$(size columns.png | cut -d ' ' -f 2)" = "$((8 + 4*6 + 4 + 3*64 + 2*4 + 8))" ]
    # commas and words of a value are no other field's, nor the lack of one
    small '{}' '{"a":"x, y","b":"z"}' '{"a":"x","b":"y, z"}' '{"b":"z"}' '{"a":"no a","b":"z"}' >comma.mpk
    sd-sheet --rows a,b --columns none -q --cell 64 comma.mpk -o comma.png
    [ "$(size comma.png | cut -d ' ' -f 3)" = "$((8 + 12 + 4*64 + 3*4 + 8))" ]
}

@test "values of any type, and what the header says of the run: a stream's sheet is that of its files" {
    jq -c '. + ({a: {flag: true, x: 2.0, list: [1, "b"], deep: {"in": {y: false}}},
                 b: {flag: false, x: 0.1, list: [], deep: {"in": {y: 7}}}}[.id] // {})' prompts.jsonl >typed.jsonl
    for guidance in 1 3.5; do
        sd-encode-text typed.jsonl |
            sd-sample-hooked -q --steps 1 --guidance $guidance --no-activations --images - >"run-$guidance.mpk.zst"
        sd-encode-text typed.jsonl |
            sd-sample-hooked -q --steps 1 --guidance $guidance --no-activations --images "run-$guidance"
    done
    for fields in flag:3 x:3 list:3 deep:3 deep.in.y:3 guidance:2 model,sampler,steps,guidance:2; do
        run -0 --separate-stderr sd-sheet --rows "${fields%:*}" --cell 16 run-*.mpk.zst -o stream.png
        [ -z "$stderr" ]
        sd-sheet --rows "${fields%:*}" --cell 16 run-1 run-3.5 -o folder.png
        echo "$fields"
        [ "$(size stream.png | cut -d ' ' -f 3)" = $((8 + ${fields#*:}*20 - 4 + 8)) ]
        same_pixels stream.png folder.png
    done
}

@test "a field that no picture has is a note" {
    small '{"guidance":2.5}' '{"id":"a","steering":{"multiplier":2}}' '{"id":"b","theme":null}' >some.mpk
    run -0 --separate-stderr sd-sheet --rows typo,id --columns steering.typo,steering.multiplier,theme \
        --caption guidance,idd some.mpk -o sheet.png
    [ "$stderr" = "sd-sheet: no picture has a field 'typo'
sd-sheet: no picture has a field 'steering.typo'
sd-sheet: no picture has a field 'idd'" ]
    run -0 --separate-stderr sd-sheet -q --rows typo some.mpk -o sheet.png
    [ -z "$stderr" ]
}

@test "hidden files of a folder are passed over, a folder that is named is not" {
    mkdir -p .shown/.thumbnails
    cp folder/*.png .shown
    : >.shown/.a.png
    : >.shown/.thumbnails/a.png
    sd-sheet .shown -o shown.png
    sd-sheet folder | cmp - shown.png
    run -1 sd-sheet .shown/.a.png -o never.png
    rm .shown/*.png
    run -1 sd-sheet .shown -o never.png
    [[ $output == *"no PNG or JPEG files"* ]]
}

@test "a name that says JPEG is misuse" {
    for name in k.jpg k.JPEG; do
        run -2 sd-sheet images.mpk.zst -o $name
        [[ $output == *"$name: a sheet is a PNG"* ]]
        [ ! -e $name ]
    done
    sd-sheet images.mpk.zst -o k.jpg.part
    cmp k.jpg.part <(sd-sheet images.mpk.zst)
}

@test "pictures whose cell is taken are counted" {
    cat images.mpk.zst images.mpk.zst >twice.mpk.zst
    run sd-sheet --rows concept --columns theme twice.mpk.zst -o sheet.png
    [ "$status" = 0 ]
    [[ $output == *"3 pictures are not shown"* ]]
}

@test "bad input: one message that names it, exit 1, no file" {
    run sd-sheet cond.mpk.zst -o never.png
    [ "$status" = 1 ]
    [[ $output == *cond.mpk.zst* ]]
    mkdir -p empty
    run sd-sheet empty -o never.png
    [ "$status" = 1 ]
    [[ $output == *"no PNG or JPEG files"* ]]
    run sd-sheet --columns prompt,id,seed --cell 4096 images.mpk.zst <(sed p images.mpk.zst) -o never.png
    [ "$status" = 1 ]
    [[ $output == */dev/fd/* ]]
    for i in 1 2 3 4 5; do echo "{\"id\":\"$i\",\"prompt\":\"\",\"seed\":1}"; done | sd-encode-text |
        sd-sample-hooked --steps 1 --no-activations --images five.mpk.zst
    run sd-sheet --columns id --cell 4096 five.mpk.zst -o never.png
    [ "$status" = 1 ]
    [[ $output == *16384* ]]
    [ ! -e never.png ]
    run sd-sheet --cell 5000 images.mpk.zst
    [ "$status" = 2 ]
}
