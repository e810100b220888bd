#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# long-prompts.bats -- texts of several chunks and with weights, from prompts to pictures: what a record has, that its
# bytes depend on itself alone though its neighbours have other lengths, what is cut, what is refused.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export TESTS=$BATS_TEST_DIRNAME/.. DIR=$BATS_FILE_TMPDIR XL=$BATS_TEST_DIRNAME/../golden-more/sdxl
    cd "$DIR" || return 1
    red() { yes red | head -"$1" | tr '\n' ' '; }
    jq -nc --arg two "$(red 100)" --arg three "$(red 160)" '
        {id: "short", prompt: "A fish in Watercolor style.", concept: "Fishes"},
        {id: "two", prompt: ("a cat, " + $two), concept: "Cats"},
        {id: "told", prompt: "a (fish:1.4) in [rain]", negative: "blurry", concept: "Fishes"},
        {id: "three", prompt: "a cat", negative: ("(grey:1.2) " + $three), concept: "Cats"},
        {id: "break", prompt: "a cat BREAK [a fish]", concept: "Cats"},
        {id: "empty", prompt: $two, negative: "", concept: "Fishes"},
        {id: "last", prompt: "a fish", concept: "Fishes"} | .seed = (.id | length)' >prompts
    encode -o cond.mpk.zst prompts
    sample -o acts.mpk.zst --latents plain.mpk.zst cond.mpk.zst
    sae-fit -q -k 4 --features 64 --batch 64 --epochs 1 -o sae acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return 1; }

encode() { sd-encode-text -q --chunks 3 --weights "$@"; }
sample() { sd-sample-hooked -q --steps 2 --hook mid_block "$@"; }
export -f encode sample

# of STREAM, the field of record ID
field() { tstream view --tensors "$1" | jq -c "select(.id == \"$2\") | .$3"; }
shapes() { tstream view "$1" | jq -r '[.id, .tokens.shape[0], .state.shape[0], (.uncond.shape[0] // 0)] | @tsv'; }

# changed FILE FILTER: the stream's lines as JSON go through jq, the header first
changed() { "$TESTS/read_stream.py" --values "$DIR/$1" | jq -c "$2" | "$TESTS/write_stream.py"; }

@test "as many chunks as a text needs, prompt and negative alike; an uncond of its own where the header's is shorter" {
    [ "$(shapes "$DIR/cond.mpk.zst")" = "$(printf '%s\t%s\t%s\t%s\n' short 77 77 0 two 154 154 154 told 77 77 77 \
        three 231 231 231 break 154 154 154 empty 154 154 154 last 77 77 0)" ]
    encode -n "a cat BREAK a dog" -o long.mpk.zst "$DIR/prompts"
    [ "$(shapes long.mpk.zst)" = "$(printf '%s\t%s\t%s\t%s\n' short 154 154 0 two 154 154 0 told 77 77 77 \
        three 231 231 231 break 154 154 0 empty 154 154 154 last 154 154 0)" ]
    [ "$(tstream view -H long.mpk.zst | jq -c 'select(.stream) | .uncond.shape')" = '[154,128]' ]
    # a shorter text is padded by the empty one's chunk
    [ "$(field long.mpk.zst short 'state.values')" != "$(field "$DIR/cond.mpk.zst" short 'state.values')" ]
    [ "$(field long.mpk.zst last 'state.values[9856:]')" = "$(field "$DIR/cond.mpk.zst" empty 'uncond.values[:9856]')" ]
    [ "$(field long.mpk.zst last 'state.values[:9856]')" = "$(field "$DIR/cond.mpk.zst" last 'state.values')" ]
    [ "$(field "$DIR/cond.mpk.zst" told prompt)" = '"a (fish:1.4) in [rain]"' ]        # as it was written
}

@test "without weights in it a text is the same with --weights; without --weights brackets are text" {
    printf '%s\n' 'a red tower, far away: 3 o'\''clock' 'Two  fish' > p
    sd-encode-text -o plain.mpk.zst p
    sd-encode-text --weights --chunks 2 -o weights.mpk.zst p
    cmp <(tstream view --tensors plain.mpk.zst) <(tstream view --tensors weights.mpk.zst)
    printf '%s\n' '(a cat:1.5)' 'a cat' '\(a cat\)' > p
    sd-encode-text -o plain.mpk.zst p
    sd-encode-text --weights -o weights.mpk.zst p
    tokens() { tstream view --tensors "$1" | jq -c "select(.id == \"$2\") | .tokens.values"; }
    [ "$(tokens weights.mpk.zst 1)" = "$(tokens plain.mpk.zst 2)" ]
    [ "$(tokens plain.mpk.zst 1)" != "$(tokens plain.mpk.zst 2)" ]
    [ "$(tokens weights.mpk.zst 3)" != "$(tokens weights.mpk.zst 2)" ]
    [ "$(field weights.mpk.zst 1 state.values)" != "$(field weights.mpk.zst 2 state.values)" ]
    [ "$(field weights.mpk.zst 2 state.values)" = "$(field plain.mpk.zst 2 state.values)" ]
}

@test "what is beyond the chunks is cut, with one note; the rest is as without it" {
    yes red | head -151 | tr '\n' ' ' >long
    yes red | head -150 | tr '\n' ' ' >fits
    run -0 --separate-stderr sd-encode-text --chunks 2 long -o long.mpk.zst
    [ "$stderr" = "sd-encode-text: 1 text was longer than 2 chunks of 75 tokens and cut; the first is that of 1" ]
    run -0 --separate-stderr sd-encode-text --chunks 2 fits -o fits.mpk.zst
    [ -z "$stderr" ]
    [ "$(field long.mpk.zst 1 state.values)" = "$(field fits.mpk.zst 1 state.values)" ]
    [ "$(shapes long.mpk.zst)" = "$(printf '1\t154\t154\t154')" ]
    run -0 --separate-stderr sd-encode-text --weights -o break.mpk.zst <<<'a cat BREAK a dog'
    [[ $stderr == *"1 text was longer than 75 tokens and cut"* ]]
}

@test "a record's bytes do not depend on its neighbours, threads or shards: text states" {
    for i in $(seq 50); do jq -c ".id += \"/$i\" | .prompt += \" $i\"" "$DIR/prompts"; done >many
    encode -o many.mpk.zst many
    encode -@ 1 < many | cmp - many.mpk.zst
    head -123 many | encode -o a.mpk.zst
    tail -n +124 many | encode -o b.mpk.zst
    tstream cat a.mpk.zst b.mpk.zst | cmp - many.mpk.zst
    shuf --random-source=many many | encode | tstream view --tensors | sort |
        cmp - <(tstream view --tensors many.mpk.zst | sort)
    sd-encode-text -q --chunks 64 --weights many | tstream view --tensors |
        cmp - <(tstream view --tensors many.mpk.zst)
}

@test "a record's bytes do not depend on its batch, neighbours or shard: pictures and activations" {
    for batch in 1 2 3; do
        sample --batch $batch -o b.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
        cmp b.mpk.zst "$DIR/acts.mpk.zst"
        cmp l.mpk.zst "$DIR/plain.mpk.zst"
    done
    tstream split -n 3 -p part "$DIR/cond.mpk.zst"
    for part in part-*.mpk.zst; do sample -o "acts-$part" "$part"; done
    tstream cat acts-part-*.mpk.zst | cmp - "$DIR/acts.mpk.zst"
    latents() { tstream view --tensors "$1" | jq -c '[.id, .latent]' | sort; }
    sort "$DIR/prompts" | encode | sample --no-activations --latents sorted.mpk.zst
    cmp <(latents sorted.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    [ "$(latents sorted.mpk.zst | wc -l)" = 7 ]
    sample --guidance 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    sample --guidance 1 --no-activations --batch 1 --latents l.mpk.zst "$DIR/cond.mpk.zst"
    cmp l.mpk.zst one.mpk.zst
}

@test "sd-steer and sae-splice: batches of records of several lengths" {
    steer() { sd-steer -q --steps 2 --sae "$DIR/sae" --hook mid_block "$@" "$DIR/cond.mpk.zst"; }
    steer --feature 3=1 --latents s.mpk.zst -o steered
    steer --feature 3=1 --batch 1 --latents one.mpk.zst -o one
    cmp one.mpk.zst s.mpk.zst
    sae-rank-concepts -q --sae "$DIR/sae" -o ranks.mpk.zst "$DIR/acts.mpk.zst"
    gated() { steer --ranks ranks.mpk.zst --sweep concept=all --gate 0.5 --top 4 --mode replace -o - "$@"; }
    gated >all
    gated --batch 1 | cmp - all
    sae-splice -q --steps 2 --sae "$DIR/sae" "$DIR/cond.mpk.zst" >table
    [ "$(wc -l <table)" = 25 ]
    sae-splice -q --steps 2 --sae "$DIR/sae" --batch 1 "$DIR/cond.mpk.zst" | cmp - table
}

@test "Stable Diffusion XL: pooled of the first chunk, zeros for no negative prompt as long as the prompt" {
    encode -m "$XL" -o xl.mpk.zst "$DIR/prompts"
    [ "$(tstream view xl.mpk.zst | jq -c 'select(.id == "break") | [.tokens, .state, .uncond, .pooled][].shape')" = '[32]
[32,40]
[32,40]
[20]' ]
    [ "$(field xl.mpk.zst break uncond | jq -c '.values | flatten | unique')" = '[0]' ]
    echo 'a cat' | sd-encode-text -m "$XL" -o cat.mpk.zst
    [ "$(field xl.mpk.zst break pooled)" = "$(field cat.mpk.zst 1 pooled)" ]
    sd-sample-hooked -q -m "$XL" --steps 2 --no-activations --latents all.mpk.zst xl.mpk.zst
    sd-sample-hooked -q -m "$XL" --steps 2 --batch 1 --no-activations --latents one.mpk.zst xl.mpk.zst
    cmp one.mpk.zst all.mpk.zst
}

@test "CLIP score: with --weights of the words alone; without, it is noted that the prompts have weights" {
    jq -nc '{id: "1", prompt: "(a fish:1.3) in [winter] (grey:0)", concept: "Fishes", seed: 1},
        {id: "2", prompt: "a cat", concept: "Cats", seed: 2}' >marked
    encode marked | sample --no-activations --images - | sd-encode-image -o "$DIR/marked.mpk.zst" -
    changed marked.mpk.zst 'if .id == "1" then .prompt = "a fish in winter " else . end' >words.mpk
    jq -nc '{concept: "Fishes", prompt: "a fish"}, {concept: "Cats", prompt: "a cat"}' >texts
    score() { sd-evaluate --texts texts --clip-score "$@"; }
    score --weights "$DIR/marked.mpk.zst" >said 2>&1
    score --weights words.mpk | cmp - said
    score -q words.mpk 2>&1 | cmp - said
    score -q "$DIR/marked.mpk.zst" >unsaid 2>&1
    run ! cmp -s said unsaid
    score "$DIR/marked.mpk.zst" 2>&1 >/dev/null | grep "marked.mpk.zst: its prompts were read with weights; --weights"
    changed marked.mpk.zst 'if .id == "2" then .prompt = "(a cat:1.2.3)" else . end' >no.mpk
    run score --weights no.mpk
    says 1 "no.mpk: record 2: the prompt '(a cat:1.2.3)': weight '1.2.3' is no number"
    run score --weights --predictions no.mpk.zst no.mpk
    [ ! -e no.mpk.zst ]
    run -2 sd-evaluate --weights words.mpk
    says 2 "--weights says how --clip-score"
}

@test "weights that are refused name file, line and record; those of --negative are misuse" {
    printf '%s\n' 'a' '{"id":"x","prompt":"fine","negative":"(a cat:1.2.3)"}' >bad
    refused "bad: line 2: the text of 'x': weight '1.2.3' is no number" -- sd-encode-text --weights -o no.mpk.zst bad
    echo '((a cat:50):50)' >bad
    refused "bad: line 1: the text of '1': 'a cat' has weight 2500" -- sd-encode-text --weights -o no.mpk.zst bad
    run -2 sd-encode-text --weights -n '(a:1000)' -o no.mpk.zst bad
    [[ $output == *"--negative: 'a' has weight 1000"* ]]
    for chunks in 0 65 -1; do
        run -2 sd-encode-text --chunks "$chunks" -o no.mpk.zst bad
    done
    [ ! -e no.mpk.zst ]
}

@test "streams whose texts have lengths that do not agree, or that no text has" {
    changed cond.mpk.zst 'if .id == "two" then del(.uncond) else . end' >no.mpk
    refused "no.mpk: record 2: state has 154 tokens and the header's uncond 77" -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .id == "told" then .uncond = .state | .uncond.shape = [154,64] else . end' >no.mpk
    refused "no.mpk: record 3: uncond is f32 (154, 64), expected" "(77, 128)" -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .id == "short" then .state |= (.shape = [0,128] | .values = []) else . end' >no.mpk
    refused "no.mpk: record 1: state is f32 (0, 128), expected 1 to 4928 tokens" -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .id == "short" then .state |= (.shape = [4929,128] | .values = [range(630912) | 0])
                          else . end' >no.mpk
    refused "no.mpk: record 1: state is f32 (4929, 128), expected 1 to 4928" -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .stream then .uncond |= (.shape = [4929,128] | .values = [range(630912) | 0])
                          else . end' >no.mpk
    refused "no.mpk: header: uncond is f32 (4929, 128), expected 1 to 4928" -- sample -o no.mpk.zst no.mpk
    refused "no.mpk: header: uncond" -- sd-steer -q --steps 2 --sae "$DIR/sae" --hook mid_block --feature 1=1 \
        -o no.mpk.zst no.mpk
    refused "no.mpk: header: uncond" -- sae-splice -q --steps 2 --sae "$DIR/sae" -o no.mpk.zst no.mpk
}
