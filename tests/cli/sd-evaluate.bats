#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-evaluate.bats -- the table of UA, IRA and CRA, and what it says of bad input.
# Numbers are checked by tests/unit/evaluate.c.

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR
    cd "$DATA" || return 1
    fish='"prompt":"A fish.","concept":"Fishes"' dog='"prompt":"A dog in Rust style.","concept":"Dogs","theme":"Rust"'
    steered='"steered":"Fishes","steered_kind":"concept","steering":{"mode":"scale","multiplier":-5}'
    cat >prompts.jsonl <<END
{"id":"a",$fish,"seed":1}
{"id":"b",$dog,"seed":2}
{"id":"c",$fish,"seed":3,$steered}
{"id":"d",$dog,"seed":4,$steered}
{"id":"e",$dog,"seed":4,"steered":"Rust","steered_kind":"theme"}
END
    cat >texts.jsonl <<'END'
{"prompt":"A fish.","concept":"Fishes"}
{"prompt":"fish","concept":"Fishes"}
{"prompt":"A dog.","concept":"Dogs"}
{"prompt":"A picture in Rust style.","theme":"Rust"}
{"prompt":"A picture.","kind":"theme","label":""}
END
    sd-encode-text prompts.jsonl | sd-sample-hooked --steps 4 --no-activations --images images.mpk.zst
    sd-encode-image images.mpk.zst -o embeddings.mpk.zst
}

setup() { cd "$DATA" || return 1; }

@test "rows, targets and counts of a zero-shot evaluation" {
    sd-evaluate --texts texts.jsonl embeddings.mpk.zst >table
    cut -f 1-4,15 table | cmp - <(printf '%b\n' 'row\tkind\ttarget\tpictures\tsteering' 'unsteered\tconcept\t-\t2\t-' \
        'unsteered\ttheme\t-\t2\t-' 'target\ttheme\tRust\t1\t-' 'overall\ttheme\t-\t1\t-' \
        'target\tconcept\tFishes\t2\tmode=scale multiplier=-5' 'overall\tconcept\t-\t2\tmode=scale multiplier=-5')
    sd-evaluate --texts texts.jsonl --json <embeddings.mpk.zst >lines
    [ "$(wc -l <lines)" = 6 ]
    grep -q '"row":"target","kind":"concept","target":"Fishes"' lines
}

@test "pictures of sd-steer --feature have rows of their own, from a stream and from PNG files" {
    sd-sample-hooked -q --steps 2 --hook up_blocks.0.attentions.1 -o acts.mpk.zst \
        <(head -2 prompts.jsonl | sd-encode-text)
    sae-fit -q -k 4 --features 64 --batch 16 -o sae acts.mpk.zst
    head -2 prompts.jsonl | sd-encode-text -o two.mpk.zst
    for out in steered.mpk.zst steered; do
        sd-steer -q --steps 2 --sae sae --feature 3=2.5 --feature 7=0 --mode add -o $out two.mpk.zst
    done
    for pictures in steered.mpk.zst steered/; do
        sd-encode-image $pictures | sd-evaluate --texts texts.jsonl >table
        cut -f 1-4 table | cmp - <(printf '%b\n' 'row\tkind\ttarget\tpictures' \
            'features\tconcept\t3:2.5+7:0\t2' 'features\ttheme\t3:2.5+7:0\t2')
        [ "$(cut -f 15 table | tail -1)" = "mode=add multiplier=-1 percentile=99.5 features=3:2.5+7:0" ]
    done
}

@test "predictions are one line a picture" {
    sd-evaluate --texts texts.jsonl embeddings.mpk.zst --predictions found.jsonl -o table
    [ "$(wc -l <found.jsonl)" = 5 ]
    [ "$(grep -c '"found":{"concept":"' found.jsonl)" = 5 ]
}

@test "parts of the pictures, in any order, joined: the same table" {
    sd-evaluate --texts texts.jsonl embeddings.mpk.zst >table
    for half in 3 2; do
        if [ $half = 3 ]; then tail -3 prompts.jsonl; else head -2 prompts.jsonl; fi |
            sd-encode-text | sd-sample-hooked --steps 4 --no-activations --images - |
                sd-encode-image -o part$half.mpk.zst
    done
    sd-evaluate --texts texts.jsonl part3.mpk.zst part2.mpk.zst | cmp - table
}

@test "bad input: one message that names it, exit 1, no file" {
    run sd-evaluate --texts texts.jsonl images.mpk.zst -o never
    says 1 images.mpk.zst images embeddings
    grep -v Dogs texts.jsonl >few.jsonl
    run sd-evaluate --texts few.jsonl embeddings.mpk.zst -o never
    says 1 few.jsonl concept
    grep -v '"theme"' texts.jsonl >few.jsonl
    run sd-evaluate --texts few.jsonl embeddings.mpk.zst -o never
    says 1 embeddings.mpk.zst "record 5" theme
    echo '{"prompt":"A fish in Rust style.","concept":"Fishes","theme":"Rust"}' >>few.jsonl
    run sd-evaluate --texts few.jsonl embeddings.mpk.zst -o never
    says 1 few.jsonl "line 4"
    run sd-evaluate --classifier texts.jsonl embeddings.mpk.zst -o never
    says 1 texts.jsonl
    head -c 700 embeddings.mpk.zst >cut.mpk.zst
    run sd-evaluate --texts texts.jsonl cut.mpk.zst -o never
    says 1 cut.mpk.zst
    [ ! -e never ]
}

@test "misuse: exit 2" {
    run sd-evaluate --texts texts.jsonl --classifier x embeddings.mpk.zst
    says 2 "--texts"
}

@test "CLIP score and distance to other pictures are columns of their own" {
    sd-evaluate --texts texts.jsonl --clip-score --reference embeddings.mpk.zst embeddings.mpk.zst >table
    head -1 table | cut -f 15-19 | cmp - <(printf 'CLIP\tCLIP_low\tCLIP_high\tfrechet\tsteering\n')
    awk -F '\t' 'NR > 1 && ($15 <= 0 || $15 > 100) {exit 1}' table
    run sd-evaluate --clip-score embeddings.mpk.zst
    says 1 2880 CLIP
}
