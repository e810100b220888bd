#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-sample-hooked.bats -- hooks, what is taken of them, which steps and tokens, pictures and latents.

bats_require_minimum_version 1.5.0

setup_file() {
    export DIR="$BATS_FILE_TMPDIR"
    fields='"prompt":"A fish in Watercolor style.","concept":"Fishes","theme":"Watercolor","seed":188'
    printf '%s\n' '{"id":"a/fish",'"$fields}" 'a red tower' > "$DIR/prompts"
    sd-encode-text -o "$DIR/cond.mpk.zst" "$DIR/prompts"
    sample --act-type f32 -o "$DIR/acts.mpk.zst" "$DIR/cond.mpk.zst"
}

sample() { sd-sample-hooked -q --steps 4 "$@"; }
export -f sample

fields() { tstream view "$1" | jq -r "$2"; }

@test "--list-hooks names every module, and each can be hooked" {
    sd-sample-hooked --list-hooks -o "$BATS_TEST_TMPDIR/hooks"
    run -1 bash -c 'sd-sample-hooked --list-hooks >/dev/full'
    [[ $output == *"standard output: writing: No space left"* ]]
    run -0 sd-sample-hooked --list-hooks
    [ "$output" = "$(cat "$BATS_TEST_TMPDIR/hooks")" ]
    [[ "$output" == *up_blocks.1.attentions.1.transformer_blocks.0.attn2* ]]
    sample --steps 1 --hook '**' -o "$BATS_TEST_TMPDIR/all.mpk.zst" <(head -1 "$DIR/prompts" | sd-encode-text)
    [ "$(fields "$BATS_TEST_TMPDIR/all.mpk.zst" .hook | sort -u | wc -l)" -eq "$(echo "$output" | wc -l)" ]
}

@test "a glob hooks what it matches, in the order of the network" {
    sample --hook 'up_blocks.1.attentions.[01]' -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/o.mpk.zst" '"\(.id) \(.step) \(.hook) \(.half)"' | head -2 | tr '\n' ,)" = \
        "a/fish 0 up_blocks.1.attentions.0 cond,a/fish 0 up_blocks.1.attentions.1 cond," ]
}

@test "an unknown hook is refused with names that are near" {
    run -1 --separate-stderr sample --hook up_blocks.1.attention.1 -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *up_blocks.1.attentions.1* ]]
    [ ! -e "$BATS_TEST_TMPDIR/o.mpk.zst" ]
}

@test "diff is output less input" {
    for take in output input diff; do
        sample --act-type f32 --take $take -o "$BATS_TEST_TMPDIR/$take.mpk.zst" "$DIR/cond.mpk.zst"
        tstream view --tensors "$BATS_TEST_TMPDIR/$take.mpk.zst" > "$BATS_TEST_TMPDIR/$take"
    done
    python3 - "$BATS_TEST_TMPDIR" <<'PY'
import json, sys
def flat(x):
    return [v for y in x for v in flat(y)] if isinstance(x, list) else [x]
def values(name):
    for line in open(f"{sys.argv[1]}/{name}"):
        act = json.loads(line)["act"]
        yield flat(act["values"] if isinstance(act, dict) else act)
worst = max(abs(o - i - d) for a, b, c in zip(values("output"), values("input"), values("diff"))
            for o, i, d in zip(a, b, c))
print(worst)
sys.exit(worst > 1e-4)
PY
}

@test "--every and --at keep the steps they name" {
    sample --every 2 -o "$BATS_TEST_TMPDIR/every.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/every.mpk.zst" .step | sort -u | tr '\n' ,)" = 0,2, ]
    sample --at 600-200 -o "$BATS_TEST_TMPDIR/at.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/at.mpk.zst" .t | sort -un | tr '\n' ,)" = 251,501, ]
    run -1 sample --at 5-2 "$DIR/cond.mpk.zst"
}

@test "--half both writes uncond, then cond, and cond is what --half cond writes" {
    sample --act-type f32 --half both -o "$BATS_TEST_TMPDIR/both.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/both.mpk.zst" .half | head -2 | tr '\n' ,)" = uncond,cond, ]
    cmp <(tstream view --tensors "$BATS_TEST_TMPDIR/both.mpk.zst" | grep '"half":"cond"') \
        <(tstream view --tensors "$DIR/acts.mpk.zst")
}

@test "--tokens keeps rows of the whole, the same in any batch" {
    sample --act-type f32 --tokens 5 -o "$BATS_TEST_TMPDIR/some.mpk.zst" "$DIR/cond.mpk.zst"
    sample --act-type f32 --tokens 5 --batch 1 "$DIR/cond.mpk.zst" | cmp - "$BATS_TEST_TMPDIR/some.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/some.mpk.zst" .id | wc -l)" -eq 8 ]
}

@test "--dry-run says the records and bytes that come, and writes nothing else" {
    cd "$BATS_TEST_TMPDIR"
    for how in "--act-type f16" "--act-type i8 --half both" "--tokens 5 --act-type f32" \
        "--tokens 5 --act-type i8 --at 600-0"; do
        # shellcheck disable=SC2086
        sample $how --hook 'up_blocks.[01].attentions.1' --dry-run -o no.mpk.zst "$DIR/cond.mpk.zst" > sizes
        # shellcheck disable=SC2086
        sample $how --hook 'up_blocks.[01].attentions.1' -o acts.mpk.zst "$DIR/cond.mpk.zst"
        [ "$(tstream info --json acts.mpk.zst | jq -r '"\(.records) \(.tensor_bytes)"')" = \
            "$(awk '$1 == "all" {print $4, $5}' sizes)" ]
    done
    [ "$(wc -l < sizes)" = 4 ]
    [ ! -e no.mpk.zst ]
    run -2 sample --dry-run --no-activations --latents l.mpk.zst "$DIR/cond.mpk.zst"
}

@test "--act-type i8: each value within half a step of its token's scale, for every reader" {
    cd "$BATS_TEST_TMPDIR"
    sample --act-type i8 -o q.mpk.zst "$DIR/cond.mpk.zst"
    sample --act-type i8 --batch 1 "$DIR/cond.mpk.zst" | cmp - q.mpk.zst
    # the largest error, in steps of the scale
    jq -n --slurpfile x <(tstream view --tensors "$DIR/acts.mpk.zst") \
        --slurpfile q <(tstream view --tensors q.mpk.zst) '
        [range($q | length) as $r | $q[$r].act.shape[-1] as $C | $q[$r].act.values | to_entries[]
            | $q[$r].act_scale.values[.key / $C | floor] as $scale | (.value - $x[$r].act.values[.key] / $scale)
            | fabs] | max > 0.3 and max < 0.6' | grep -x true
    sae-fit -q -k 8 --features 64 --batch 64 --eval q.mpk.zst -o sae q.mpk.zst
    for read in sae-eval sae-encode sae-rank-concepts; do $read -q --sae sae q.mpk.zst > $read.out; done
    fvu() { sae-eval -q --sae sae "$1" | awk -F '\t' '$1 == "all" {printf "%.2f", $3}'; }
    [ "$(fvu q.mpk.zst)" = "$(fvu "$DIR/acts.mpk.zst")" ]
    sample --act-type i8 --tokens 5 "$DIR/cond.mpk.zst" | tstream info - | grep -q 'act_scale f32 (5)'
    python3 "$BATS_TEST_DIRNAME/../read_stream.py" --values q.mpk.zst | jq -c 'del(.act_scale)' |
        python3 "$BATS_TEST_DIRNAME/../write_stream.py" > without.mpk
    for read in "sae-fit -o no" "sae-eval --sae sae" "sae-rank-concepts --sae sae"; do
        run -1 --separate-stderr $read -q without.mpk
        [[ $stderr == *"without.mpk: record 1: tensor act_scale is missing, expected f32 ("* ]]
    done
}

@test "samplers: other pictures than DDIM's at other timesteps, the same in any batch, and the stream says so" {
    drawn() { sample --no-activations --latents "$BATS_TEST_TMPDIR/$1" "${@:2}" "$DIR/cond.mpk.zst"; }
    for sampler in dpm++2m dpm++2m-karras unipc unipc-karras euler euler-a lcm pndm ddim; do
        drawn "$sampler" --sampler "$sampler"
        drawn "$sampler-1" --sampler "$sampler" --batch 1
        cmp "$BATS_TEST_TMPDIR/$sampler" "$BATS_TEST_TMPDIR/$sampler-1"
        [ "$(tstream info --json "$BATS_TEST_TMPDIR/$sampler" | jq -r .header.sampler)" = "$sampler" ]
    done
    for sampler in dpm++2m-karras unipc unipc-karras euler euler-a lcm pndm ddim; do
        run ! cmp <(tstream view --tensors "$BATS_TEST_TMPDIR/dpm++2m") \
            <(tstream view --tensors "$BATS_TEST_TMPDIR/$sampler")
    done
    sample --sampler dpm++2m-karras -o "$BATS_TEST_TMPDIR/acts" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/acts" .t | sort -un | tr '\n' ,)" = 0,146,687,999, ]
    run -2 sample --sampler heun "$DIR/cond.mpk.zst"
}

@test "guidance 1 has one half" {
    sample --guidance 1 -o "$BATS_TEST_TMPDIR/one.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(fields "$BATS_TEST_TMPDIR/one.mpk.zst" .half | sort -u)" = cond ]
    run -1 --separate-stderr sample --guidance 1 --half uncond "$DIR/cond.mpk.zst"
    [[ "$stderr" == *guidance* ]]
}

@test "pictures carry their prompt, seed and provenance; --latents, decoded, are the same pictures" {
    sample --no-activations --images "$BATS_TEST_TMPDIR/out" --latents "$BATS_TEST_TMPDIR/lat.mpk.zst" \
        "$DIR/cond.mpk.zst"
    run -0 tstream text "$BATS_TEST_TMPDIR/out/a/fish.png"
    [[ "$output" == *"A fish in Watercolor style."* && "$output" == *188* && "$output" == *sd-sample-hooked* ]]
    sd-decode -q -o "$BATS_TEST_TMPDIR/dec" "$BATS_TEST_TMPDIR/lat.mpk.zst"
    pixels() {
        python3 -c 'import sys
d = open(sys.argv[1], "rb").read()
sys.stdout.buffer.write(d[d.index(b"IDAT"):])' "$1"
    }
    for f in a/fish 2; do
        cmp <(pixels "$BATS_TEST_TMPDIR/out/$f.png") <(pixels "$BATS_TEST_TMPDIR/dec/$f.png")
    done
}

@test "texts that another model encoded are refused" {
    zstd -dcq "$DIR/cond.mpk.zst" | sed 's/minisd-[0-9a-f]/minisd-x/' > "$BATS_TEST_TMPDIR/other.mpk"
    run -1 --separate-stderr sample -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$BATS_TEST_TMPDIR/other.mpk"
    [[ "$stderr" == *minisd-x* ]]
}

@test "an id that would leave the folder is refused" {
    echo '{"id":"../fish","prompt":"a fish"}' | sd-encode-text > "$BATS_TEST_TMPDIR/bad.mpk.zst"
    run -1 --separate-stderr sample --no-activations --images "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/bad.mpk.zst"
    [[ "$stderr" == *"../fish"* ]]
}

@test "an id too long for a file is refused by record, and leaves no folder" {
    for n in 238 239; do
        printf '{"id":"a/%s","prompt":"a fish"}\n' "$(printf "%${n}s" | tr ' ' y)" | sd-encode-text > "$BATS_TEST_TMPDIR/$n"
    done
    sample --no-activations --images "$BATS_TEST_TMPDIR/out" "$BATS_TEST_TMPDIR/238"
    run -1 --separate-stderr sample --no-activations --images "$BATS_TEST_TMPDIR/no" "$BATS_TEST_TMPDIR/239"
    [[ "$stderr" == *"/239: record 1: id 'a/yyyy"*"a part has 239 bytes, expected 238 at most" ]]
    [ ! -e "$BATS_TEST_TMPDIR/no" ]
}

@test "of one prompt and seed, each has the picture of its own negative prompt, in a batch as alone" {
    cd "$BATS_TEST_TMPDIR"
    printf '{"id":"%s","prompt":"A fish.","negative":"%s","seed":5}\n' a blurry b 'a dog' |
        sd-encode-text -o cond.mpk.zst
    sample --no-activations --latents l.mpk.zst cond.mpk.zst
    sample --no-activations --batch 1 --latents one.mpk.zst cond.mpk.zst
    cmp one.mpk.zst l.mpk.zst
    tstream view --tensors l.mpk.zst | jq -c .latent.values > latents
    [ "$(wc -l < latents)" = 2 ]
    [ "$(sort -u latents | wc -l)" = 2 ]
}

@test "--tokens: other places of each hook, over the whole picture" {
    cd "$BATS_TEST_TMPDIR"
    sample --tokens 4 --hook 'up_blocks.1.attentions.[01]' -o two.mpk.zst "$DIR/cond.mpk.zst"
    tstream view --tensors two.mpk.zst | jq -es 'length == 16 and (group_by([.id, .step])
        | length == 8 and all(.[]; length == 2 and .[0].token.values != .[1].token.values))'
    # the mean of 100 of 64 places is 31.5, give or take 1.9
    sample --tokens 1 --steps 50 -o places.mpk.zst "$DIR/cond.mpk.zst"
    tstream view --tensors places.mpk.zst |
        jq -es 'map(.token.values[]) | length == 100 and add/length > 24 and add/length < 40'
}
