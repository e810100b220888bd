#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-name-features.bats -- features of a small real run named: the labels' own features by their labels, the same
# bytes in any order, and what is said of bad input. Scores are checked by tests/unit/naming.c.

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR
    cd "$DATA" || return 1
    for i in 1 2 3; do
        printf '{"id":"%s","prompt":"%s","concept":"%s","seed":%d}\n' "f$i" "A fish." Fishes "$i" \
            "t$i" "A tower." Towers "$i" "j$i" "A jellyfish." Jellyfish "$i"
    done >prompts.jsonl
    sd-encode-text prompts.jsonl | sd-sample-hooked --steps 8 --hook up_blocks.0.attentions.1 \
        --images images.mpk.zst -o acts.mpk.zst
    sae-fit -q -k 8 --features 128 --batch 64 --tokens 20K -o sae acts.mpk.zst
    sae-encode --sae sae acts.mpk.zst -o features.mpk.zst
    sd-encode-image images.mpk.zst -o emb.mpk.zst
    cat >texts.jsonl <<'END'
{"prompt":"A fish.","concept":"Fishes"}
{"prompt":"fish","concept":"Fishes"}
{"prompt":"A tower.","concept":"Towers"}
{"prompt":"A jellyfish.","kind":"concept","label":"Jellyfish"}
A dog.
END
    sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl features.mpk.zst -o names.tsv
}

setup() { cd "$DATA" || return 1; }

@test "a table: three texts a feature, places by falling score, kinds and labels" {
    head -1 names.tsv | cmp - <(printf 'feature\tpictures\tdensity\tplace\tscore\tkind\ttext\n')
    awk -F '\t' 'NR > 1 && (NF != 7 || $4 != (NR - 2) % 3 + 1 || $2 < 1 || $2 > 9 || $3 <= 0 || $3 > 1 ||
            $4 > 1 && ($1 != f || $5 > score)) {exit 1} {f = $1; score = $5} END {exit NR < 30}' names.tsv
    [ "$(tail -n +2 names.tsv | cut -f 6,7 | sort -u | tr '\t\n' ' ,')" = \
        "- A dog.,concept Fishes,concept Jellyfish,concept Towers," ]
}

@test "the feature that leads a label's ranks has its name" {
    sae-rank-concepts --score difference features.mpk.zst -o ranks.mpk.zst
    sae-report --ranks ranks.mpk.zst --top 1 --json - |
        jq -r '.concepts[] | [.features[0].feature, .label] | @tsv' >leads
    [ "$(wc -l <leads)" = 3 ]
    while IFS=$'\t' read -r feature label; do
        [ "$(awk -F '\t' -v f="$feature" '$1 == f && $4 == 1 {print $7}' names.tsv)" = "$label" ]
    done <leads
}

@test "any order of records, files and embeddings gives the same bytes" {
    tstream split --parts 3 -p f features.mpk.zst
    tstream split --parts 2 -p e emb.mpk.zst
    sae-name-features --embeddings e-01.mpk.zst --embeddings e-00.mpk.zst --texts texts.jsonl \
        f-02.mpk.zst f-00.mpk.zst f-01.mpk.zst | cmp - names.tsv
    cat f-01.mpk.zst f-02.mpk.zst f-00.mpk.zst |
        sae-name-features --embeddings <(cat e-01.mpk.zst e-00.mpk.zst) --texts texts.jsonl - | cmp - names.tsv
}

@test "JSON says what the table says; --top, --min, --feature" {
    sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl --json features.mpk.zst >names.jsonl
    jq -r '.feature as $f | .names | to_entries[] | [$f, .key + 1, .value.text] | @tsv' names.jsonl |
        cmp - <(tail -n +2 names.tsv | cut -f 1,4,7)
    jq -es 'all(.density > 0 and .pictures > 0 and (.names | length) == 3)' names.jsonl
    sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl --top 0 features.mpk.zst >all.tsv
    awk -F '\t' 'NR == 1 || $4 <= 3' all.tsv | cmp - names.tsv
    [ "$(tail -n +2 all.tsv | wc -l)" = $((4 * $(wc -l <names.jsonl))) ]
    sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl --min 4 features.mpk.zst |
        cmp - <(awk -F '\t' 'NR == 1 || $2 >= 4' names.tsv)
    feature=$(sed -n 5p names.tsv | cut -f 1)
    sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl --feature "$feature" --feature "$feature" \
        features.mpk.zst | cmp - <(awk -F '\t' -v f="$feature" 'NR == 1 || $1 == f' names.tsv)
}

@test "names on the page of sae-report, escaped, and in its JSON" {
    feature=$(awk -F '\t' 'NR == 2 {print $1}' names.tsv)
    sed "s/A dog\.\|Fishes\|Towers\|Jellyfish/<b>\&/" names.tsv >odd.tsv
    sae-report --names odd.tsv --feature "$feature" --json page.json -o page.html features.mpk.zst
    grep -q "Named <b>&lt;b&gt;&amp;</b> (" page.html
    jq -e '.features.shown[0].name | .text == "<b>&" and .score <= 1' page.json
    printf 'no names\n' >bad.tsv
    run sae-report --names bad.tsv -o no.html features.mpk.zst
    says 1 bad.tsv "line 1"
    [ ! -e no.html ]
    run sae-report --names odd.tsv --sae sae
    says 2 --names
}

named() { sae-name-features --embeddings emb.mpk.zst --texts texts.jsonl -o no.mpk.zst "$@"; }

@test "bad input: one message that names it, exit 1, no file" {
    tstream head -n 8 emb.mpk.zst -o few.mpk.zst
    refused features.mpk.zst record embeddings -- sae-name-features --embeddings few.mpk.zst --texts texts.jsonl \
        -o no.mpk.zst features.mpk.zst
    refused emb.mpk.zst "second embedding" -- sae-name-features --embeddings emb.mpk.zst --embeddings emb.mpk.zst \
        --texts texts.jsonl -o no.mpk.zst features.mpk.zst
    refused acts.mpk.zst activations features -- named acts.mpk.zst
    refused images.mpk.zst images embeddings -- sae-name-features --embeddings images.mpk.zst --texts texts.jsonl \
        -o no.mpk.zst features.mpk.zst
    sd-encode-image --net "$SDSTEER_TESTS/../data/minisd/judge.safetensors" images.mpk.zst -o judge.mpk.zst
    refused judge.mpk.zst judge minisd -- sae-name-features --embeddings judge.mpk.zst --texts texts.jsonl \
        -o no.mpk.zst features.mpk.zst
    refused features.mpk.zst "no record" -- named --at 3-2 features.mpk.zst
    refused features.mpk.zst 128 4000 -- named --feature 4000 features.mpk.zst
    echo fish >one
    refused one "one label" -- sae-name-features --embeddings emb.mpk.zst --texts one -o no.mpk.zst features.mpk.zst
    refused "no texts" -- sae-name-features --embeddings emb.mpk.zst --texts /dev/null -o no.mpk.zst features.mpk.zst
    head -c 3000 features.mpk.zst >cut.mpk.zst
    refused cut.mpk.zst -- named cut.mpk.zst
}

@test "misuse: exit 2" {
    run sae-name-features --texts texts.jsonl features.mpk.zst
    says 2 --embeddings
    run named --feature x features.mpk.zst
    says 2 "'x'"
    run named --top -1 features.mpk.zst
    says 2 --top
    run sae-name-features --embeddings emb.mpk.zst --texts - <texts.jsonl
    says 2 "standard input"
}
