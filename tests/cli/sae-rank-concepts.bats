#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-rank-concepts.bats -- ranks from activations: shards against the whole, tables, and what it says of bad input.

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR SAE=$SDSTEER_TESTS/golden/saeuron/sae HOOK=up_blocks.1.attentions.1
    cd "$DATA" || return 1
    cat >prompts.jsonl <<'END'
{"id":"a","prompt":"A fish in Rust style.","concept":"Fishes","theme":"Rust","seed":1}
{"id":"b","prompt":"A fish.","concept":"Fishes","seed":2}
{"id":"c","prompt":"A dog in Rust style.","concept":"Dogs","theme":"Rust","seed":3}
{"id":"d","prompt":"A dog in Winter style.","concept":"Dogs","theme":"Winter","seed":4}
END
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 2 --half both cond.mpk.zst -o acts.mpk.zst
    head -2 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 2 --half both -o acts1.mpk.zst
    tail -2 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 2 --half both -o acts2.mpk.zst
    sae-rank-concepts --sae "$SAE" --hook $HOOK acts.mpk.zst -o whole.mpk.zst
}

setup() { cd "$DATA" || return 1; }

@test "records in another order, another number of threads: the same bytes" {
    sae-rank-concepts --sae "$SAE" --hook $HOOK acts2.mpk.zst acts1.mpk.zst -@ 1 | cmp - whole.mpk.zst
}

@test "a module named as SAeUron does, with unet. before it, by --hook and in cfg.json" {
    sae-rank-concepts --sae "$SAE" --hook unet.$HOOK acts.mpk.zst | cmp - whole.mpk.zst
    rm -rf named
    cp -R "$SAE" named
    jq ".hook = \"unet.$HOOK\"" "$SAE/cfg.json" >named/cfg.json
    sae-rank-concepts --sae "$SAE" --hook $HOOK --table - acts.mpk.zst >table
    sae-rank-concepts --sae named --table - acts.mpk.zst | cmp - table
}

@test "statistics of shards, merged: the same bytes as one run" {
    for i in 1 2; do sae-rank-concepts --sae "$SAE" --hook $HOOK --statistics acts$i.mpk.zst -o part$i.mpk.zst; done
    sae-rank-concepts --merge part2.mpk.zst part1.mpk.zst | cmp - whole.mpk.zst
    cat part1.mpk.zst part2.mpk.zst | sae-rank-concepts --merge | cmp - whole.mpk.zst
    sae-rank-concepts --sae "$SAE" --hook $HOOK --statistics acts.mpk.zst -o part.mpk.zst
    sae-rank-concepts --merge --statistics part2.mpk.zst part1.mpk.zst | cmp - part.mpk.zst
}

@test "shards of other steps, in any order, and parts of parts: the same bytes, with the steps of all, each once" {
    head -1 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 2 --guidance 3 -o other1.mpk.zst
    sed -n 2p prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 2 --guidance 3.5 -o other2.mpk.zst
    rank() { sae-rank-concepts --sae "$SAE" --hook $HOOK "$@"; }
    rank acts2.mpk.zst other1.mpk.zst other2.mpk.zst -o three.mpk.zst
    rank other2.mpk.zst acts2.mpk.zst other1.mpk.zst | cmp - three.mpk.zst
    for i in acts2 other1 other2; do rank --statistics $i.mpk.zst -o of-$i; done
    sae-rank-concepts --merge of-other2 of-acts2 of-other1 | cmp - three.mpk.zst
    sae-rank-concepts --merge --statistics of-other2 of-other1 -o of-both
    sae-rank-concepts --merge of-acts2 of-both | cmp - three.mpk.zst
    [ "$(tstream info -H --json three.mpk.zst | jq -r '.header.provenance[].program' | xargs)" \
        = "sd-encode-text sd-sample-hooked sd-sample-hooked sd-sample-hooked sae-rank-concepts" ]
    [ "$(tstream info -H --json three.mpk.zst | jq -r '.header.provenance[].arguments[]' | grep guidance | sort | xargs)" \
        = "--guidance=3 --guidance=3.5 --guidance=4" ]
}

@test "a shard whose pictures have no label is a part like others" {
    echo '{"id":"e","prompt":"Nothing.","seed":5}' | sd-encode-text |
        sd-sample-hooked --steps 2 --half both -o none.mpk.zst
    for i in acts1 acts2 none; do
        sae-rank-concepts --sae "$SAE" --hook $HOOK --by concept --statistics $i.mpk.zst -o of-$i.mpk.zst
    done
    sae-rank-concepts --sae "$SAE" --hook $HOOK --by concept acts1.mpk.zst acts2.mpk.zst none.mpk.zst -o five.mpk.zst
    sae-rank-concepts --merge of-none.mpk.zst of-acts1.mpk.zst of-acts2.mpk.zst | cmp - five.mpk.zst
    run sae-rank-concepts --merge of-none.mpk.zst
    says 1 of-none.mpk.zst "no record has a label of concept"
}

@test "features give the ranks that activations give" {
    command -v sae-encode || skip "no sae-encode"
    sae-encode --sae "$SAE" --hook $HOOK acts.mpk.zst | sae-rank-concepts --table - >from-features
    sae-rank-concepts --sae "$SAE" --hook $HOOK acts.mpk.zst --table - | cmp - from-features
}

@test "a table: labels in order, timesteps falling, scores falling, as many as --top says" {
    sae-rank-concepts --sae "$SAE" acts.mpk.zst --top 3 --table - >table
    head -1 table | cmp - <(printf 'kind\tlabel\tt\trank\tfeature\tscore\tmean\tmean_all\n')
    cut -f 1-4 table | tail -n +2 | cmp - <(for label in concept/Dogs concept/Fishes theme/Rust theme/Winter; do
        for t in 501 1; do for i in 1 2 3; do printf '%s\t%s\t%d\t%d\n' ${label%/*} ${label#*/} $t $i; done; done; done)
    awk -F '\t' 'NR > 1 && $4 > 1 && $6 > last {exit 1} {last = $6}' table
}

@test "halves differ; --by takes any field" {
    sae-rank-concepts --sae "$SAE" acts.mpk.zst --half uncond -o uncond.mpk.zst
    differ uncond.mpk.zst whole.mpk.zst
    sae-rank-concepts --sae "$SAE" acts.mpk.zst --by id --top 1 --json - >lines
    [ "$(wc -l <lines)" = 8 ]
    grep -c '^{"kind":"id","label":"a","t":501,' lines
}

@test "every score ranks" {
    for score in saeuron difference effect ratio share frequency auroc; do
        sae-rank-concepts --sae "$SAE" acts.mpk.zst --score $score --top 1 --table - | tail -n +2 >$score.tsv
        [ "$(wc -l <$score.tsv)" = 8 ]
    done
    differ saeuron.tsv difference.tsv
}

@test "bad input: one message that names it, exit 1, no file" {
    run sae-rank-concepts --sae "$SAE" acts.mpk.zst --hook mid_block -o never.mpk.zst
    says 1 acts.mpk.zst mid_block $HOOK
    run sae-rank-concepts acts.mpk.zst -o never.mpk.zst
    says 1 acts.mpk.zst "--sae"
    run sae-rank-concepts --sae "$SAE" acts.mpk.zst --by colour -o never.mpk.zst
    says 1 acts.mpk.zst colour
    run sae-rank-concepts --sae "$SAE" cond.mpk.zst -o never.mpk.zst
    says 1 cond.mpk.zst conditioning
    run sae-rank-concepts --merge acts.mpk.zst -o never.mpk.zst
    says 1 acts.mpk.zst statistics activations
    head -1 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 2 --take diff -o diff.mpk.zst
    run sae-rank-concepts --sae "$SAE" --hook $HOOK diff.mpk.zst -o never.mpk.zst
    says 1 diff.mpk.zst "take is diff" output
    head -c 20000 acts.mpk.zst >cut.mpk.zst
    run sae-rank-concepts --sae "$SAE" cut.mpk.zst -o never.mpk.zst
    says 1 cut.mpk.zst
    run sae-rank-concepts --sae nowhere acts.mpk.zst -o never.mpk.zst
    says 1 nowhere
    [ ! -e never.mpk.zst ]
    run bash -c 'ls never* 2>/dev/null'
    [ -z "$output" ]
}

@test "parts that do not belong together are refused" {
    sae-rank-concepts --sae "$SAE" --statistics acts1.mpk.zst -o cond-part.mpk.zst
    sae-rank-concepts --sae "$SAE" --statistics --half uncond acts2.mpk.zst -o uncond-part.mpk.zst
    run sae-rank-concepts --merge cond-part.mpk.zst uncond-part.mpk.zst
    says 1 uncond-part.mpk.zst half '"cond"' '"uncond"'
}

@test "misuse: exit 2" {
    run sae-rank-concepts --score best acts.mpk.zst
    says 2 best
    run sae-rank-concepts --statistics --table - acts.mpk.zst
    says 2 "--statistics"
    for option in --top=5 --score=effect --json=x; do
        run sae-rank-concepts --sae "$SAE" --statistics $option acts.mpk.zst -o never.mpk.zst
        says 2 "--statistics writes no ranks: ${option%=*} goes with --merge"
    done
    sae-rank-concepts --sae "$SAE" --hook $HOOK --statistics acts.mpk.zst -o part.mpk.zst
    for option in --half=uncond --half=cond --hook=foo --by=id; do      # what is not theirs, and what happens to be
        run sae-rank-concepts --merge $option part.mpk.zst -o never.mpk.zst
        says 2 "${option%=*} is fixed in the statistics"
    done
    [ ! -e never.mpk.zst ]
    sae-rank-concepts --merge --top 0 --score effect part.mpk.zst -o theirs.mpk.zst
    sae-rank-concepts --sae "$SAE" --hook $HOOK --top 0 --score effect acts.mpk.zst | cmp - theirs.mpk.zst
    run sae-rank-concepts --top -2 acts.mpk.zst
    says 2 "--top"
    run sae-rank-concepts --table - --json - acts.mpk.zst
    says 2 "--table"
}

@test "a reader that goes away ends it quietly" {
    run bash -c 'set -o pipefail
        sae-rank-concepts --sae "$SAE" acts.mpk.zst --top 0 --table - | head -1
        echo ${PIPESTATUS[0]}'
    [ "${lines[1]}" = 0 ]
    [ "${#lines[@]}" = 2 ]
}

@test "a reader of the table that goes away takes no file with it" {
    ranks() { sae-rank-concepts --sae "$SAE" --hook $HOOK "$@" acts.mpk.zst; }
    { sleep 0.2; ranks --table - --json json -o ranks.mpk.zst; echo $? >status; } | true
    [ "$(cat status)" = 0 ]
    cmp ranks.mpk.zst whole.mpk.zst
    [ -s json ]
}

@test "labels of any type are the same to all: numbers, fractions, true and false; none" {
    jq -c '.night = (.seed > 2) | if .id != "d" then .size = .seed/2 else . end' prompts.jsonl | sd-encode-text |
        sd-sample-hooked --steps 2 -o typed.mpk.zst
    sae-rank-concepts --sae "$SAE" --hook $HOOK --by night --by size --table - typed.mpk.zst | cut -f 1,2 | sed 1d |
        sort -u | cmp - <(printf '%s\t%s\n' night false night true size 0.5 size 1 size 1.5)
    sae-eval --sae "$SAE" --hook $HOOK --by size typed.mpk.zst | cut -f 1,2 | sed 1,2d |
        cmp - <(printf '%s\t128\n' 1.5 1 0.5 '')
    sae-eval --sae "$SAE" --hook $HOOK --by night typed.mpk.zst | cut -f 1 | xargs | grep -qx 'night all false true'
    tstream split --by size -p size typed.mpk.zst
    [ "$(LC_ALL=C; echo size-*)" = 'size-%.mpk.zst size-0.5.mpk.zst size-1.5.mpk.zst size-1.mpk.zst' ]
    sae-fit -q --hook $HOOK -k 8 --features 64 --batch 64 --tokens 1K --labels night,size -o typed typed.mpk.zst
    jq -e '[.labels[] | keys[]] | sort == ["0.5", "1", "1.5", "false", "true"]' typed/cfg.json
}
