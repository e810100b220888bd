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
}

setup() { cd "$DATA" || return 1; }

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
    # the provenance differs, the pixels do not: put on sheets of their own, both come out alike but for the id
    sd-sheet stream.png -o a.png
    sd-sheet folder.png -o b.png
    cmp a.png b.png
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
