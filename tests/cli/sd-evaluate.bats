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
        [ "$(cut -f 15 table | tail -1)" = "mode=add features=3:2.5+7:0" ]
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
    LC_ALL=C sed 's/Bears/Birds/' "$SDSTEER_TESTS/../data/minisd/judge.safetensors" >twice.safetensors
    run sd-evaluate --classifier twice.safetensors embeddings.mpk.zst -o never
    says 1 twice.safetensors "concept: 'Birds' comes twice"
    head -c 700 embeddings.mpk.zst >cut.mpk.zst
    run sd-evaluate --texts texts.jsonl cut.mpk.zst -o never
    says 1 cut.mpk.zst
    [ ! -e never ]
}

@test "--names: what networks with heads say, named by files; --plain counts pictures without a theme" {
    vit=$BATS_TEST_DIRNAME/../golden-more/vit
    sd-encode-image --net theme="$vit/tiny.pth" --net concept="$vit/tiny.safetensors" images.mpk.zst -o logits.mpk.zst
    printf '%s\n' A B C D E Dogs $'Fish\tFishes' >objects.txt
    printf '%b\n' A B C D E Rust 'Seed_Images\t' >styles.txt
    sd-evaluate --names theme=styles.txt --names concept=objects.txt --predictions found.jsonl logits.mpk.zst >table
    cut -f 1-4,15 table | cmp - <(printf '%b\n' 'row\tkind\ttarget\tpictures\tsteering' 'unsteered\tconcept\t-\t2\t-' \
        'unsteered\ttheme\t-\t2\t-' 'target\ttheme\tRust\t1\t-' 'overall\ttheme\t-\t1\t-' \
        'target\tconcept\tFishes\t2\tmode=scale multiplier=-5' 'overall\tconcept\t-\t2\tmode=scale multiplier=-5')
    # the line of the largest logit
    for kind in theme=styles.txt concept=objects.txt; do
        cmp <(jq -r ".found.${kind%=*}" found.jsonl) \
            <(tstream view --tensors logits.mpk.zst | jq ".[\"${kind%=*}.logits\"].values | index(max) + 1" |
                while read -r line; do sed -n "${line}p" "${kind#*=}" | sed 's/.*\t//'; done)
    done
    counted() { sd-evaluate --json --names theme=styles.txt --names concept=objects.txt "$@" logits.mpk.zst |
        jq -r 'select(.kind == "concept") | [.row, .pictures, .IRA.of, .CRA.of] | join(" ")' | tr '\n' ,; }
    [ "$(counted)" = "unsteered 2 2 2,target 2 1 2,overall 2 1 2," ]
    [ "$(counted --plain others)" = "unsteered 2 2 1,target 2 1 1,overall 2 1 1," ]
    [ "$(counted --plain none)" = "unsteered 1 1 1,target 1 1 1,overall 1 1 1," ]
    sed -i 's/\t$//' styles.txt                     # no class is theirs: class is others
    [ "$(counted)" = "unsteered 2 2 1,target 2 1 1,overall 2 1 1," ]
    # of one kind alone: pictures steered away from it
    run sd-evaluate --names theme=styles.txt logits.mpk.zst -o never
    says 1 logits.mpk.zst "record 3" concept
    head -5 styles.txt >short.txt
    run sd-evaluate --names theme=short.txt logits.mpk.zst -o never
    says 1 "record 1" "theme.logits is of 7 classes" "short.txt names 5"
    sed 's/Rust/Iron/' styles.txt >other.txt
    run sd-evaluate --names theme=other.txt --names concept=objects.txt logits.mpk.zst -o never
    says 1 "record 2" "theme 'Rust'" "7 that other.txt knows"
    run sd-evaluate --names theme=styles.txt --names concept=objects.txt embeddings.mpk.zst -o never
    says 1 embeddings.mpk.zst theme.logits "--net theme=FILE"
    [ ! -e never ]
}

@test "misuse: exit 2" {
    run sd-evaluate --texts texts.jsonl --classifier x embeddings.mpk.zst
    says 2 "--texts"
    run sd-evaluate --names theme= embeddings.mpk.zst
    says 2 "--names theme=: expected KIND=FILE"
    run sd-evaluate --names styles.txt embeddings.mpk.zst
    says 2 "KIND=FILE"
    run sd-evaluate --names theme=x --clip-score embeddings.mpk.zst
    says 2 "--names"
}

@test "--brought: how many of the others are taken for the target, in the table and in JSON" {
    sd-evaluate --texts texts.jsonl --brought embeddings.mpk.zst >table
    [ "$(head -1 table | cut -f 13-18)" = $'CRA_high\tbrought\tbrought_low\tbrought_high\tmean\tsteering' ]
    cut -f 1-13,17- table | cmp - <(sd-evaluate --texts texts.jsonl embeddings.mpk.zst)
    sd-evaluate --texts texts.jsonl --brought --json --predictions found embeddings.mpk.zst >lines
    [ "$(jq -c 'select(.target == "Fishes") | [.UA.of, .brought.of]' lines)" = '[1,1]' ]
    [ "$(jq -c 'select(.target == "Fishes") | .brought.hits' lines)" = \
        "$(jq -s 'map(select(.id == "d" and .found.concept == "Fishes")) | length' found)" ]
    [ "$(jq -c 'select(.row == "unsteered") | .brought' lines | sort -u)" = null ]
}

@test "CLIP score and distance to other pictures are columns of their own" {
    sd-evaluate --texts texts.jsonl --clip-score --reference embeddings.mpk.zst embeddings.mpk.zst >table
    head -1 table | cut -f 15-19 | cmp - <(printf 'CLIP\tCLIP_low\tCLIP_high\tfrechet\tsteering\n')
    awk -F '\t' 'NR > 1 && $15 > 0 && $15 <= 100 {rows++} END {exit !(NR > 1 && rows == NR - 1)}' table
    run sd-evaluate --clip-score embeddings.mpk.zst
    says 1 2880 CLIP --texts
}

@test "a reader of the predictions, or of the table, that goes away takes no file with it" {
    evaluate() { sd-evaluate --texts texts.jsonl embeddings.mpk.zst "$@"; }
    evaluate --predictions said.tsv -o table.tsv
    { sleep 0.2; evaluate --predictions - -o table; } | true
    { sleep 0.2; evaluate --predictions said; } | true
    cmp table table.tsv
    cmp said said.tsv
}

@test "steerings of many features that differ in the last are two" {
    for last in 1 2; do
        zstd -dcq embeddings.mpk.zst | /usr/bin/python3 -c '
import sys, msgpack
for record in msgpack.Unpacker(sys.stdin.buffer):
    if "id" in record:
        record["steered"] = record["steered_kind"] = ""
        record["steering"] = {"mode": "set", "features": {str(1000 + f): 0.5 for f in range(900)}}
        record["steering"]["features"]["7"] = float(sys.argv[1])
    sys.stdout.buffer.write(msgpack.packb(record))' $last >features-$last.mpk
    done
    sd-evaluate --texts texts.jsonl features-1.mpk features-2.mpk >table
    [ "$(grep -c '^features.concept' table)" = 2 ]
}
