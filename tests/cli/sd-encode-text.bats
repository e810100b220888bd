#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-encode-text.bats -- prompts to text states: what a record has, that it depends on itself alone, negatives, types,
# cut prompts; what is refused.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PATH="$PWD/bin:$PATH"
    cd "$BATS_TEST_TMPDIR" || return
}

states() { tstream view --tensors "$@" | jq -c .state; }

refused() {     # exit status, what the message must hold, then the command
    local status=$1 expected=$2
    shift 2
    run "-$status" --separate-stderr "$@" || return 1
    [[ ${stderr_lines[0]} == *"$expected"* ]] || return 1
    [ "${#stderr_lines[@]}" = "$status" ] || return 1       # misuse points to --help in a second line
}

@test "plain lines and JSON lines: fields ride along, ids and seeds are given where they lack" {
    printf '%s\n' 'a red tower' '{"id":"x/1","prompt":"A fish.","concept":"Fishes","seed":188,"year":1907}' \
        '{"prompt":"a red tower","theme":"Rust"}' | sd-encode-text -o c.mpk.zst
    [ "$(tstream view --tsv id,prompt,concept,theme,year c.mpk.zst)" = "$(printf '%s\t%s\t%s\t%s\t%s\n' \
        1 'a red tower' '' '' '' x/1 'A fish.' Fishes '' 1907 3 'a red tower' '' Rust '')" ]
    [ "$(tstream view c.mpk.zst | jq -c 'select(.id == "x/1") | .seed, .tokens, .state')" = '188
{"type":"i32","shape":[77]}
{"type":"f32","shape":[77,128]}' ]
    [ "$(tstream view c.mpk.zst | jq .seed | sort -u | wc -l)" = 3 ]        # of --seed and the id
    [ "$(states c.mpk.zst | sort -u | wc -l)" = 2 ]                         # the same text, the same state
    [[ $(tstream view -H c.mpk.zst | head -1 | jq -r '.model + " " + .provenance[0].program') \
        == "minisd-"*" sd-encode-text" ]]
}

@test "a label of a tensor's name gives way to the tensor" {
    echo '{"prompt":"a fish","state":"calm","uncond":1,"pooled":2}' | sd-encode-text -o c.mpk.zst
    tstream check c.mpk.zst
    [ "$(tstream view c.mpk.zst | jq -c '[.state.shape, .uncond, .pooled]')" = '[[77,128],1,2]' ]
}

@test "a field that streams keep for themselves is left out, with one note" {
    printf '%s\n' '{"prompt":"a","year":1}' '{"prompt":"b","step":3,"half":"x","year":2}' '{"prompt":"c","t":1}' > p
    run --separate-stderr sd-encode-text p -o c.mpk.zst
    [ "$stderr" = "sd-encode-text: p: line 2: field step is left out: streams keep that name for themselves" ]
    [ "$(tstream view --tsv year,step,half,t c.mpk.zst | cut -f 1-4 | tr '\t' ,)" = $'1,,,\n2,,,\n,,,' ]
}

@test "--seed moves the seeds that it gives, and no state" {
    printf '%s\n' 'a tower' '{"id":"x","prompt":"A fish.","seed":188}' > p
    sd-encode-text --seed 7 p -o seven.mpk.zst
    sd-encode-text p -o none.mpk.zst
    cmp <(states seven.mpk.zst) <(states none.mpk.zst)
    [ "$(tstream view seven.mpk.zst | jq 'select(.id == "x") | .seed')" = 188 ]
    [ "$(tstream view seven.mpk.zst | jq 'select(.id == "1") | .seed')" \
        != "$(tstream view none.mpk.zst | jq 'select(.id == "1") | .seed')" ]
}

@test "a record's state does not depend on its neighbours, threads or files" {
    for i in $(seq 70); do echo "{\"id\":\"$i\",\"prompt\":\"picture $((i % 40)) of a fish\",\"seed\":$i}"; done > p
    sd-encode-text p -o all.mpk.zst
    sd-encode-text -@ 1 p | cmp - all.mpk.zst
    sd-encode-text < p | cmp - all.mpk.zst
    sd-encode-text <(head -33 p) <(tail -n +34 p) | cmp - all.mpk.zst
    sed -n 37p p | sd-encode-text | tstream view --tensors > alone
    tstream view --tensors all.mpk.zst | grep '"id":"37"' | cmp - alone
    shuf --random-source=p p | sd-encode-text | tstream view --tensors | sort |
        cmp - <(tstream view --tensors all.mpk.zst | sort)
}

@test "several files are read as one that cat has joined: their lines go on counting, no id comes twice" {
    printf '%s\n' 'a fish' 'a cat' > a
    printf '%s\n' 'a dog' > b
    sd-encode-text a b b > joined.mpk.zst
    cat a b b | sd-encode-text | cmp - joined.mpk.zst
    [ "$(tstream view joined.mpk.zst | jq -r .id | tr '\n' ' ')" = "1 2 3 4 " ]
    echo '{"id":"2","prompt":"x"}' > c
    run -1 --separate-stderr sd-encode-text a c -o no.mpk.zst
    [[ $stderr == *"c: line 1: id '2' came before"* ]]
    [ ! -e no.mpk.zst ]
}

@test "negative prompts: the header's, and a record's own" {
    printf '%s\n' '{"id":"a","prompt":"blurry","seed":1}' \
        '{"id":"b","prompt":"A fish.","negative":"blurry","seed":2}' > p
    sd-encode-text --negative blurry p -o told.mpk.zst
    sd-encode-text p -o plain.mpk.zst
    uncond() { tstream view --tensors -H "$1" | jq -c 'select(.stream) | .uncond'; }
    [ "$(uncond told.mpk.zst)" = "$(states told.mpk.zst | head -1)" ]
    [ "$(uncond told.mpk.zst)" != "$(uncond plain.mpk.zst)" ]
    [ "$(tstream view --tensors plain.mpk.zst | jq -c 'select(.id == "b") | .uncond')" \
        = "$(states plain.mpk.zst | head -1)" ]
    [ "$(tstream view plain.mpk.zst | jq -c 'select(.id == "a") | .uncond')" = null ]
    [ "$(echo '{"prompt":"a","negative":""}' | sd-encode-text -n blurry | tstream view --tensors | jq -c .uncond)" \
        = "$(uncond plain.mpk.zst)" ]
    # the record's own counts where it is drawn, and the same one in the header gives the same picture
    sd-sample-hooked -q --steps 2 --no-activations --latents a.mpk.zst plain.mpk.zst
    sd-sample-hooked -q --steps 2 --no-activations --latents b.mpk.zst told.mpk.zst
    latent() { tstream view --tensors "$1" | jq -c "select(.id == \"$2\") | .latent"; }
    [ "$(latent a.mpk.zst b)" = "$(latent b.mpk.zst b)" ]
    [ "$(latent a.mpk.zst a)" != "$(latent b.mpk.zst a)" ]
}

@test "--state-type rounds the states" {
    echo 'a red tower' > p
    for type in f32 f16 bf16; do
        sd-encode-text --state-type $type p -o $type.mpk.zst
        [ "$(tstream view $type.mpk.zst | jq -r .state.type)" = $type ]
        tstream to-npy -t state -o $type.npy $type.mpk.zst
    done
    python3 - <<'PY'
import array, struct
def data(name):
    raw = open(name + ".npy", "rb").read()
    return raw[10 + struct.unpack("<H", raw[8:10])[0]:]
exact = array.array("f", data("f32"))
assert struct.pack(f"<{len(exact)}e", *exact) == data("f16")
PY
}

@test "a long prompt is cut to the text encoder's length, with one note" {
    yes fish | head -100 | tr '\n' ' ' > long
    yes fish | head -75 | tr '\n' ' ' > fits
    run -0 --separate-stderr sd-encode-text long long -o long.mpk.zst
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == *"2 texts were longer than 75 tokens and cut; the first is that of 1"* ]]
    run -0 --separate-stderr sd-encode-text fits -o fits.mpk.zst
    [ -z "$stderr" ]
    [ "$(states long.mpk.zst | sort -u)" = "$(states fits.mpk.zst)" ]
    [ -z "$(sd-encode-text -q long 2>&1 > quiet.mpk.zst)" ]
}

@test "--clip-skip: other states of prompts, of whole chunks and weighted ones too; negative ones as they were" {
    printf '%s\n' '{"id":"a","prompt":"a cat"}' \
        '{"id":"b","prompt":"a dog","negative":"a cat","init_prompt":"a cat"}' >p
    sd-encode-text -n blurry -o whole.mpk.zst p
    of() { tstream view --tensors -H "$1" | jq -c "select($2) | .$3.values"; }
    for skip in 0 1 2 4; do
        sd-encode-text -n blurry --clip-skip $skip -o $skip.mpk.zst p
        of $skip.mpk.zst '.id == "a"' state >>prompts
        cmp <(of $skip.mpk.zst '.id == "a"' state) <(of $skip.mpk.zst '.id == "b"' init_state)
        cmp <(of $skip.mpk.zst '.id == "b"' uncond) <(of whole.mpk.zst '.id == "b"' uncond)
        cmp <(of $skip.mpk.zst .stream uncond) <(of whole.mpk.zst .stream uncond)
    done
    cmp <(head -1 prompts) <(of whole.mpk.zst '.id == "a"' state)
    [ "$(sort -u prompts | wc -l)" = 4 ]
    sd-encode-text --clip-skip 1 --chunks 2 --weights -o two.mpk.zst <<<'{"id":"a","prompt":"a cat BREAK a dog"}'
    sd-encode-text --clip-skip 1 --weights -o dog.mpk.zst <<<'{"id":"a","prompt":"a dog"}'
    [ "$(of two.mpk.zst '.id == "a"' 'state' | jq -c '.[9856:]')" = "$(of dog.mpk.zst '.id == "a"' state)" ]
    [ "$(of two.mpk.zst '.id == "a"' 'state' | jq -c '.[:9856]')" = "$(of 1.mpk.zst '.id == "a"' state)" ]
    refused 1 "5 layers to skip of the 4 of text_encoder: expected 4 at most" \
        sd-encode-text --clip-skip 5 -o no.mpk.zst p
    refused 1 "of text_encoder: expected 1 at most" sd-encode-text -m "$BATS_TEST_DIRNAME/../golden-more/sdxl" \
        --clip-skip 2 -o no.mpk.zst p
    for skip in -1 99999999999; do
        refused 2 "--clip-skip $skip" sd-encode-text --clip-skip $skip --list-hooks
        refused 2 "--clip-skip $skip" sd-encode-text --clip-skip $skip -o no.mpk.zst p
    done
    [ ! -e no.mpk.zst ]
}

@test "no prompts make a stream of none" {
    sd-encode-text -o none.mpk.zst < /dev/null
    tstream check none.mpk.zst
    [ -z "$(tstream view none.mpk.zst)" ]
}

@test "what is refused names file and line" {
    printf 'a\n{"prompt":\n' > bad
    refused 1 "bad: line 2" sd-encode-text -o no.mpk.zst bad
    printf '{"id":"x","prompt":"a"}\n{"id":"x","prompt":"b"}\n' > twice
    refused 1 "twice: line 2" sd-encode-text -o no.mpk.zst twice
    printf '{"id":"x"}\n' > without
    refused 1 "without: line 1" sd-encode-text -o no.mpk.zst without
    refused 1 nowhere sd-encode-text -o no.mpk.zst nowhere
    refused 1 nowhere sd-encode-text -m nowhere -o no.mpk.zst twice
    refused 2 "f32|f16|bf16" sd-encode-text --state-type f64 bad
    refused 2 seed sd-encode-text --seed 1.5 bad
    refused 2 --act-type sd-encode-text --hook 'text_encoder.**.1' --state-type f16 bad
    [ ! -e no.mpk.zst ]
}
