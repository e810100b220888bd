#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# tutorial.bats -- pipelines/TUTORIAL.md: every command in it runs as it is written there, and does what is said; of the
# new prompts that have no style a part, so that it ends in time on machines of all kinds.

bats_require_minimum_version 1.5.0

# The commands of the page, one after another: what stands between ```sh and ```, but for the build and the place.
commands() {
    awk '/^```/ {shown = $0 == "```sh"; next} shown' "$1" | grep -v -e '^make ' -e '^    PICTURES=' -e '^mkdir '
}

@test "the tutorial's commands, in their order" {
    top=$BATS_TEST_DIRNAME/../..
    commands "$top/pipelines/TUTORIAL.md" | sed 's/ new.jsonl > plain.jsonl/ new.jsonl | head -8 > plain.jsonl/' \
        >"$BATS_TEST_TMPDIR/session"
    grep -q sae-fit "$BATS_TEST_TMPDIR/session"
    grep -q 'head -8' "$BATS_TEST_TMPDIR/session"
    mkdir "$BATS_TEST_TMPDIR/winter"
    cd "$BATS_TEST_TMPDIR/winter"
    JUDGE=$top/data/minisd/judge.safetensors PICTURES=$top/data/pictures bash -eu ../session

    awk -F '\t' '$1 == "all" {fvu = $3} END {exit !(fvu > 0.05 && fvu < 0.2)}' eval.tsv
    awk -F '\t' '$1 == "target" {ua[++n] = $5; kept += ($8 > 90 && $11 > 90)}
        END {exit !(n == 2 && kept == 2 && ua[1] >= 30 && ua[2] >= 80 && ua[2] >= ua[1])}' table.tsv
    awk -F '\t' '$1 == "overall" {cra = $11; brought = $14} END {exit !(cra > 90 && brought > 50)}' brought.tsv
    awk -F '\t' '$1 == "overall" {cra = $11; brought = $14} END {exit !(cra > 90 && brought > 90)}' told.tsv
    awk -F '\t' '$1 == "target" {n += $5 >= 90 && $8 > 90 && $11 > 90} END {exit n != 2}' kept.tsv
    awk -F '\t' '$1 == "overall" {cra = $11; brought = $14} END {exit !(cra > 85 && brought > 90)}' edited.tsv
    file_begins page.html '<!doctype html>'
    for picture in sweep.png brought.png told.png edited.png; do file_begins "$picture" $'\x89PNG'; done
}

file_begins() { [ "$(head -c "${#2}" "$1")" = "$2" ]; }
