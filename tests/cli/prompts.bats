#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-assemble-prompts from outside: what its records are, and what must not change when options do.

bats_require_minimum_version 1.5.0

setup() {
    PATH=$BATS_TEST_DIRNAME/../../bin:$PATH
    cd "$BATS_TEST_TMPDIR"
}

@test "all pairs of 20 concepts and 9 themes, and none" {
    sd-assemble-prompts > a
    [ "$(wc -l < a)" = 200 ]
    [ "$(jq -r .concept a | sort -u | wc -l)" = 20 ]
    [ "$(jq -r .theme a | sort -u | wc -l)" = 10 ]
    [ "$(jq -r .id a | sort -u | wc -l)" = 200 ]
    sd-assemble-prompts --no-plain > b
    [ "$(wc -l < b)" = 180 ]
    [ "$(jq -r 'select(.theme == null) | .id' b)" = "" ]
}

@test "lists from which no prompt can be made are refused" {
    run -1 sd-assemble-prompts --concepts /dev/null
    [ "$output" = "sd-assemble-prompts: /dev/null: no concept in it" ]
    run -1 sd-assemble-prompts --themes /dev/null --no-plain
    [ "$output" = "sd-assemble-prompts: /dev/null: no theme in it, and --no-plain: there is no prompt to make" ]
    [ "$(sd-assemble-prompts --themes /dev/null | wc -l)" = 20 ]
}

@test "one record, byte for byte" {
    run sd-assemble-prompts --split generate --concept Fishes --theme Watercolor --no-plain
    fields='"prompt":"A fish in Watercolor style.","concept":"Fishes","theme":"Watercolor","seed":1598747077'
    [ "$output" = '{"id":"Fishes/Watercolor/1",'"$fields}" ]
}

@test "the article fits the noun, or is the list's own" {
    printf 'Apes\nOtters\totter\nHours\thour\tan\n' > concepts
    run sd-assemble-prompts --concepts concepts --themes /dev/null \
        --template '{Article} {concept}, {article} {concept}.'
    jq -r .prompt <<< "$output" | sort |
        cmp - <(printf '%s\n' 'An apes, an apes.' 'An hour, an hour.' 'An otter, an otter.')
}

@test "seeds and prompts do not depend on the count, on the other concepts, or on shards" {
    sd-assemble-prompts -n 5 | sort > all
    [ "$(wc -l < all)" = 1000 ]
    sd-assemble-prompts -n 5 --concept Sea --concept Dogs --theme Rust | sort > few
    [ "$(wc -l < few)" = 20 ]
    [ -z "$(comm -13 all few)" ]
    sd-assemble-prompts -n 2 | sort > two
    [ "$(wc -l < two)" = 400 ]
    [ -z "$(comm -13 all two)" ]
    for i in 1 2 3 4 5 6 7; do sd-assemble-prompts -n 5 --shard $i/7; done | sort | cmp - all
}

@test "another seed gives other seeds" {
    sd-assemble-prompts | jq -r .seed | sort > a
    sd-assemble-prompts --seed 1 | jq -r .seed | sort > b
    [ "$(cat a b | wc -l)" = 400 ]
    [ -z "$(comm -12 a b)" ]
}

@test "gather and generate share no prompt with its seed, not even a seed" {
    sd-assemble-prompts -n 20 | jq -r .seed | sort -u > gather
    sd-assemble-prompts -n 20 --split generate | jq -r .seed | sort -u > generate
    [ "$(cat gather generate | wc -l)" = 8000 ]
    [ -z "$(comm -12 gather generate)" ]
}

@test "seeds are in 0..2^31-1" {
    sd-assemble-prompts -n 20 | jq -es 'length == 4000 and all(.[]; .seed >= 0 and .seed < 2147483648)'
}

@test "neighbours differ in concept, and themes are mixed" {
    sd-assemble-prompts -n 5 > a
    [ -z "$(jq -r .concept a | uniq -d)" ]
    [ "$(jq -r .theme a | uniq | wc -l)" -gt 900 ]
}

@test "prompts of every template occur" {
    sd-assemble-prompts -n 2 --concept Fishes > a
    [ "$(jq -r 'select(.theme).prompt' a | sed 's/\(in\) .* style/\1 X style/' | sort -u | wc -l)" -ge 4 ]
}

@test "anchors take the place of templates for their concept" {
    printf 'concept,prompt\nFishes,"A ""big"" fish, swimming."\n' > anchors
    run sd-assemble-prompts --anchors anchors --concept Fishes --concept Dogs --theme Rust
    [ "$(jq -r 'select(.id == "Fishes/Rust/1").prompt' <<< "$output")" = 'A "big" fish, swimming in Rust style.' ]
    [ "$(jq -r 'select(.id == "Fishes/plain/1").prompt' <<< "$output")" = 'A "big" fish, swimming.' ]
    [[ "$(jq -r 'select(.id == "Dogs/Rust/1").prompt' <<< "$output")" == *dog* ]]
}

@test "-o writes the file whole, and leaves nothing when it fails" {
    sd-assemble-prompts -o out
    sd-assemble-prompts | cmp - out
    mkdir sub
    run -1 sd-assemble-prompts --template '{concept} in {theme}' -o sub/out
    [ -z "$(ls -A sub)" ]
    run -1 --separate-stderr sd-assemble-prompts -o nowhere/out
    [[ $stderr == *nowhere/out* ]]
}

@test "a closed pipe ends it quietly" {
    run --separate-stderr bash -c 'sd-assemble-prompts -n 10K | head -n 1; exit ${PIPESTATUS[0]}'
    [ "$status" = 0 ]
    [ -z "$stderr" ]
}

@test "a full disk is an error" {
    run -1 --separate-stderr bash -c 'sd-assemble-prompts > /dev/full'
    [[ $stderr == "sd-assemble-prompts: standard output: "* ]]
}

@test "bad lists and templates are named with file and line" {
    printf 'Cats\n# a comment\nCats\n' > twice
    run -1 sd-assemble-prompts --concepts twice
    [ "$output" = "sd-assemble-prompts: twice: line 3: Cats came before" ]
    printf 'a/b\n' > slash
    run -1 sd-assemble-prompts --concepts slash
    [[ $output == "sd-assemble-prompts: slash: line 1: 'a/b' is no name"* ]]
    printf 'gather\tA {cncept}\n' > templates
    run -1 sd-assemble-prompts --templates templates
    [[ $output == "sd-assemble-prompts: templates: line 1: '{cncept}' is no field"* ]]
    printf 'sometimes\tA {concept}\n' > templates
    run -1 sd-assemble-prompts --templates templates
    [[ $output == "sd-assemble-prompts: templates: line 1: expected gather, generate or both"* ]]
    for option in concepts themes templates anchors; do
        printf 'both\tA {concept}\nboth\tCaf\351 {concept}\n' > latin1
        run -1 sd-assemble-prompts --$option latin1
        [ "$output" = "sd-assemble-prompts: latin1: line 2: not UTF-8 text" ]
        printf 'both\tA {concept}\nboth\tB\0C {concept}\n' > zero
        run -1 sd-assemble-prompts --$option zero
        [ "$output" = "sd-assemble-prompts: zero: line 2: holds a zero byte; is this text?" ]
    done
    for template in $'Caf\351 {concept}' 'A {cncept}' 'A fish'; do
        run -2 sd-assemble-prompts --template "$template"
        [[ $output == "sd-assemble-prompts: --template: "* ]]
    done
    run -1 sd-assemble-prompts --concept Fish
    [ "$output" = "sd-assemble-prompts: --concept 'Fish' is not in the list of 20" ]
    run -1 sd-assemble-prompts --templates nowhere
    [ "$output" = "sd-assemble-prompts: nowhere: No such file or directory" ]
}

@test "lists as other systems write them: a byte order mark, lines that end in CR LF" {
    printf 'Cats\nDogs\n' > unix
    printf '\357\273\277Cats\r\nDogs\r\n' > other
    for option in concepts themes; do
        sd-assemble-prompts --$option unix | cmp - <(sd-assemble-prompts --$option other)
    done
    printf '\357\273\277# a comment\r\nCats\r\nDogs\r\n' > other
    sd-assemble-prompts --concepts unix | cmp - <(sd-assemble-prompts --concepts other)
}

@test "bad shards and counts are misuse" {
    for shard in 0/3 4/3 1 1/0 a/b 1/3x -1/3; do
        run -2 sd-assemble-prompts --shard "$shard"
    done
    run -2 sd-assemble-prompts -n -1
    run -2 sd-assemble-prompts -n 3.5
}

@test "SDSTEER_DATA names the data folder" {
    mkdir data
    echo "Kites" > data/concepts.txt
    echo "Noir" > data/themes.txt
    printf 'both\t{Article} {concept} in {theme} style.\nboth\t{concept}\n' > data/templates.txt
    SDSTEER_DATA=data run sd-assemble-prompts
    [ "$(jq -r .prompt <<< "$output" | sort)" = "$(printf '%s\n' "A kites in Noir style." kites)" ]
}
