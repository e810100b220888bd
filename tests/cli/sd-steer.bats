#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-steer.bats -- what is steered, when, in which pictures; sweeps; messages.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DIR="$BATS_FILE_TMPDIR"
    sd-assemble-prompts --split gather -n 1 |
        jq -c 'select(.concept == "Fishes" or .concept == "Cats")
            | .mood = if .concept == "Cats" then "none" else "wet, cold" end' | head -6 > "$DIR/prompts"
    sd-encode-text -o "$DIR/cond.mpk.zst" "$DIR/prompts"
    sd-sample-hooked -q --steps 3 --latents "$DIR/plain.mpk.zst" -o "$DIR/acts.mpk.zst" "$DIR/cond.mpk.zst"
    sae-fit -q -k 8 --features 256 --batch 128 --epochs 4 -o "$DIR/sae" "$DIR/acts.mpk.zst"
    sae-rank-concepts -q --sae "$DIR/sae" --score difference -o "$DIR/ranks.mpk.zst" "$DIR/acts.mpk.zst"
}

# Final latents of a steering, as text without the fields that tell of it: the last argument names the file.
latents() {
    local out=${*: -1}
    sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" "${@:1:$#-1}" \
        --latents "$out.mpk.zst" -o "$out" "$DIR/cond.mpk.zst"
    tstream to-npy --tensor latent -o "$out.npy" "$out.mpk.zst"
}

plain() { tstream to-npy --tensor latent -o "$1.npy" "$DIR/plain.mpk.zst"; }

# FILTER SWEEP FILE: the records of a sweep that a filter of jq lets through have the latents of FILE's
part_is() {
    local want=$BATS_TEST_TMPDIR/part.want
    tstream view --tensors "$3" | jq -c .latent > "$want"
    [ -s "$want" ] || return 1
    tstream view --tensors "$2" | jq -c "$1 | .latent" | cmp - "$want"
}

@test "an autoencoder of diff: a steering that changes nothing leaves every bit, another does not" {
    cd "$BATS_TEST_TMPDIR"
    sd-sample-hooked -q --steps 3 --take diff -o acts.mpk.zst "$DIR/cond.mpk.zst"
    sae-fit -q -k 8 --features 256 --batch 128 --epochs 4 -o sae acts.mpk.zst
    [ "$(jq -r .take sae/cfg.json)" = diff ]
    sae-rank-concepts -q --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
    plain plain
    for multiplier in 1 -3; do
        sd-steer -q --steps 3 --sae sae --ranks ranks.mpk.zst --concept Fishes --top 20 --mode scale \
            --multiplier $multiplier --latents l.mpk.zst -o o "$DIR/cond.mpk.zst"
        tstream to-npy --tensor latent -o "by$multiplier.npy" l.mpk.zst
    done
    cmp by1.npy plain.npy
    differ by-3.npy plain.npy
}

@test "a steering changes the pictures" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    run ! cmp -s "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "outside --when nothing changes, bit for bit" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --when 5-2 "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    cmp "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "a --when that meets no step is a note, also in a sweep, and not with -q" {
    cd "$BATS_TEST_TMPDIR"
    steer() { sd-steer --steps 2 --sae "$DIR/sae" --feature 1=2 -o p.mpk.zst "$@" "$DIR/cond.mpk.zst"; }
    run -0 steer --when 900-890
    [ "$output" = "sd-steer: no step's timestep lies in --when 900-890: nothing is steered there" ]
    run -0 steer --sweep when=999-0,3-2
    [ "$output" = "sd-steer: no step's timestep lies in --when 3-2: nothing is steered there" ]
    run -0 steer -q --when 900-890
    [ -z "$output" ]
    run -2 steer --when late
    [[ "$output" == *"--when 'late' is not a range"* ]]
}

@test "a gate that nothing passes leaves all pictures, and the half gate only those that show the label" {
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --gate 1000 "$BATS_TEST_TMPDIR/shut"
    plain "$BATS_TEST_TMPDIR/plain"
    cmp "$BATS_TEST_TMPDIR/shut.npy" "$BATS_TEST_TMPDIR/plain.npy"
    latents --concept Fishes --top 20 --mode replace --multiplier -5 --gate 0.5 "$BATS_TEST_TMPDIR/half"
    of() { tstream view --tensors "$2" | jq -c "select(.concept == \"$1\") | .latent"; }
    cmp <(of Cats "$BATS_TEST_TMPDIR/half.mpk.zst") <(of Cats "$DIR/plain.mpk.zst")
    run ! cmp -s <(of Fishes "$BATS_TEST_TMPDIR/half.mpk.zst") <(of Fishes "$DIR/plain.mpk.zst")
}

@test "the gate looks at what the prompt shows, not at what the negative prompt does" {
    cd "$BATS_TEST_TMPDIR"
    jq -c '.negative = if .concept == "Fishes" then "A cat." else "A fish." end' "$DIR/prompts" |
        sd-encode-text -o cond.mpk.zst
    sd-sample-hooked -q --steps 3 --no-activations --latents plain.mpk.zst cond.mpk.zst
    sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept Fishes --top 20 --mode replace \
        --multiplier -5 --gate 0.5 --latents gated.mpk.zst -o gated cond.mpk.zst
    for name in plain gated; do
        for concept in Cats Fishes; do
            tstream view --tensors $name.mpk.zst |
                jq -c "select(.concept == \"$concept\") | .latent.values" > $name-$concept
            [ "$(wc -l < $name-$concept)" = 3 ]
        done
    done
    cmp gated-Cats plain-Cats
    differ gated-Fishes plain-Fishes
}

@test "a gate stands before the label, not before a feature given by hand" {
    cd "$BATS_TEST_TMPDIR"
    latents --feature 3=20 --mode add hand
    plain plain
    run ! cmp -s hand.npy plain.npy
    latents --feature 3=20 --mode add --concept Fishes --top 20 --gate 1000 both
    cmp both.npy hand.npy
    # it is added once, though there are two kinds of label
    theme=$(tstream view "$DIR/ranks.mpk.zst" | jq -r 'select(.kind == "theme").label' | sort -u | head -1)
    latents --feature 3=20 --mode add --concept Fishes --theme "$theme" --top 20 --gate 1000 kinds
    cmp kinds.npy hand.npy
    latents --feature 3=20 --mode add --concept Fishes --top 20 open
    run ! cmp -s open.npy hand.npy
}

@test "a sweep equals its runs one by one, whatever the batch, which several of its steerings share" {
    cd "$BATS_TEST_TMPDIR"
    for half in both cond; do
        steering=(--mode replace --top 20 --gate 0.5 --half $half)
        latents "${steering[@]}" --multiplier -5 --concept Cats one
        for batch in 2 5 64; do
            latents "${steering[@]}" --unsteered --sweep multiplier=-2,-5 --sweep concept=all --batch $batch sweep
            part_is 'select(.id | startswith("multiplier=-5/concept=Cats/"))' sweep.mpk.zst one.mpk.zst
            [ $batch = 2 ] || cmp sweep.npy before.npy
            mv sweep.npy before.npy
        done
    done
    run -0 ls sweep sweep/multiplier=-5
    [[ "$output" == *"multiplier=-2"*unsteered*"concept=Cats"*"concept=Fishes"* ]]
}

@test "steps before a --when are drawn once for a whole sweep, with the bytes of runs by themselves" {
    cd "$BATS_TEST_TMPDIR"
    for sampler in pndm euler-a; do
        steering=(--steps 5 --sampler $sampler --feature 3=40 --mode add)
        latents "${steering[@]}" --unsteered --sweep when=999-0,500-0,700-300,100-0 --batch 4 sweep
        for when in 999-0 500-0 700-300 100-0; do
            latents "${steering[@]}" --when $when one
            part_is "select(.id | startswith(\"when=$when/\"))" sweep.mpk.zst one.mpk.zst
        done
    done
    latents --concept Fishes --top 20 --mode replace --gate 0.5 --sweep when=700-0,300-0 gated
    latents --concept Fishes --top 20 --mode replace --gate 0.5 --when 300-0 one
    part_is 'select(.id | startswith("when=300-0/"))' gated.mpk.zst one.mpk.zst
}

# FILE WIDTH HEIGHT GREY: a grey PNG; GREY is an expression of x and y
mask() {
    python3 - "$@" <<'PY'
import struct, sys, zlib
path, width, height, grey = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), compile(sys.argv[4], "grey", "eval")
rows = b"".join(b"\0" + bytes(int(eval(grey, {"x": x, "y": y})) for x in range(width)) for y in range(height))
chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
                       + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PY
}

@test "--where: a black mask changes nothing, a white one nothing of the steering, bit for bit; half a mask its half" {
    cd "$BATS_TEST_TMPDIR"
    steering=(--concept Fishes --top 20 --mode replace --multiplier -5)
    mask black.png 3 5 0
    mask white.png 7 100 255
    mask left.png 64 64 "255 if x < 32 else 0"
    plain plain
    latents "${steering[@]}" whole
    for name in black white left; do latents "${steering[@]}" --where $name.png $name; done
    cmp black.npy plain.npy
    cmp white.npy whole.npy
    latents "${steering[@]}" --where left.png --batch 1 single
    cmp single.npy left.npy
    # squared changes of the left and the right half, over all pictures:
    # the right one is left to what attention carries over
    python3 - <<'PY'
import array, ast
def load(path):
    data = open(path, "rb").read()
    end = 10 + int.from_bytes(data[8:10], "little")
    return ast.literal_eval(data[10:end].decode())["shape"][-1], array.array("f", data[end:])
def changes(path):
    (W, y), (_, x) = load(path), load("plain.npy")
    change = [0, 0]
    for i in range(len(y)):
        change[i % W >= W // 2] += (y[i] - x[i]) ** 2
    return change
left, right = changes("left.npy")
_, steered = changes("whole.npy")
assert right < left / 1.5 and right < steered / 2, (left, right, steered)
PY
    [ "$(tstream view left.mpk.zst | jq -r .steering.where | sort -u)" = left.png ]
    run -0 tstream info left.mpk.zst
    [[ "$output" == *--where=left.png* ]]
    run -0 tstream text "$(find left -name '*.png' | head -1)"
    [[ "$output" == *where*left.png* ]]
}

@test "--where: no file, not a PNG, a cut one, one of hostile size: one message, no output" {
    cd "$BATS_TEST_TMPDIR"
    where() { sd-steer -q --steps 3 --sae "$DIR/sae" --feature 3=2 --where "$@" -o o.mpk.zst "$DIR/cond.mpk.zst"; }
    run where none.png
    says 1 none.png "No such file"
    echo hello, world > text.png
    run where text.png
    says 1 text.png "Not a PNG"
    mask m.png 40 40 "x * y % 256"
    head -c 100 m.png > cut.png
    run where cut.png
    says 1 cut.png cut
    python3 -c 'import struct, zlib
head = b"IHDR" + struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 6, 0, 0, 0)
open("huge.png", "wb").write(b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + struct.pack(">I", zlib.crc32(head))
                            + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))'
    run where huge.png
    says 1 huge.png "1048576 x 1048576" "expected sides of 16384"
    run where m.png --compat saeuron
    says 2 --where saeuron
    [ ! -e o.mpk.zst ]
}

@test "a feature by hand needs no ranks" {
    sd-steer -q --steps 3 --sae "$DIR/sae" --feature 3=2.5 --mode add \
        -o "$BATS_TEST_TMPDIR/out.mpk.zst" "$DIR/cond.mpk.zst"
    [ "$(tstream view "$BATS_TEST_TMPDIR/out.mpk.zst" | wc -l)" -eq 6 ]
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$DIR/sae" --feature 256=1 \
        -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"features 0 to 255"* ]]
}

@test "the steering is in the fields and in the PNG" {
    latents --concept Fishes --top 5 --mode ablate "$BATS_TEST_TMPDIR/a"
    [ "$(tstream view "$BATS_TEST_TMPDIR/a.mpk.zst" |
        jq -r '"\(.steered) \(.steered_kind) \(.steering.mode) \(.steering.top) \(.steering.multiplier)"' | sort -u)" \
        = "Fishes concept ablate 5 null" ]
    run -0 tstream text "$(find "$BATS_TEST_TMPDIR/a" -name '*.png' | head -1)"
    [[ "$output" == *ablate* ]]
}

@test "a sweep of features equals them one by one; what --mode only and it do not go with" {
    cd "$BATS_TEST_TMPDIR"
    latents --mode add --sweep feature=3=40,9=-5 --feature 4=1 --unsteered sweep
    latents --mode add --feature 9=-5 --feature 4=1 one
    part_is 'select(.id | startswith("feature=9=-5/"))' sweep.mpk.zst one.mpk.zst
    run -0 jq -c .steering.features <(tstream view sweep.mpk.zst | grep feature=9)
    jq -e '. == {"9": -5, "4": 1}' <<< "${lines[0]}"

    latents --mode only --feature 3=8 only
    latents --mode only --feature 3=9 more
    run ! cmp -s only.npy more.npy
    refused() {     # WORDS OPTION...
        run sd-steer -q --steps 1 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" -o o.mpk.zst "${@:2}" \
            "$DIR/cond.mpk.zst"
        says 2 "$1"
    }
    mask white.png 4 4 255
    refused "leaves nothing that is changed" --mode only --feature 3=8 --where white.png
    refused "leaves nothing of what --compat saeuron adds" --mode only --feature 3=8 --compat saeuron
    theme=$(jq -r .theme "$DIR/prompts" | head -1)
    refused "one kind of label: concept or theme" --mode only --concept Fishes --theme "$theme"
    refused "feature 3 comes by --feature and by --sweep" --feature 3=8 --sweep feature=4=1,3=2
    refused "'3' is not I=VALUE" --sweep feature=3
    refused "--sweep percentile sets anew what --sweep top has set" --concept Cats --sweep top=5,10 \
        --sweep percentile=99.9
    refused "--sweep mode sets anew what --sweep mode has set" --concept Cats --sweep mode=ablate,add --sweep mode=set
    [ ! -e o.mpk.zst ]
}

@test "labels called none, or with a comma: all has them, none is nothing of the sweep, and that is said" {
    cd "$BATS_TEST_TMPDIR"
    sae-rank-concepts -q --sae "$DIR/sae" --by mood -o ranks.mpk.zst "$DIR/acts.mpk.zst"
    moods() {
        sd-steer --steps 1 --sae "$DIR/sae" --ranks ranks.mpk.zst --sweep mood="$1" -o o.mpk.zst "$DIR/cond.mpk.zst"
        tstream view o.mpk.zst | jq -r '"\(.id | split("/")[0]): \(.steered)"' | sort -u
    }
    run -0 moods all
    [ "$output" = "mood=none: none"$'\n'"mood=wet, cold: wet, cold" ]
    run -0 moods 'wet\, cold,none'
    [ "${lines[0]}" = \
        "sd-steer: --sweep mood=none steers nothing of that sweep; the mood 'none' of the ranks is written None" ]
    [ "${lines[1]}, ${lines[2]}" = "mood=none: , mood=wet, cold: wet, cold" ]
    run -0 moods None
    [ "$output" = "mood=None: none" ]
}

@test "none in a sweep leaves what is given beside it, --unsteered nothing" {
    cd "$BATS_TEST_TMPDIR"
    ids() { part_is "select(.id | startswith(\"$1/\"))" sweep.mpk.zst "$2"; }
    latents --mode add --feature 3=40 --sweep concept=none,Cats --sweep feature=none,9=-5 --top 20 --unsteered sweep
    ids unsteered "$DIR/plain.mpk.zst"
    latents --mode add --feature 3=40 hand
    ids concept=none/feature=none hand.mpk.zst
    latents --mode add --feature 3=40 --feature 9=-5 --concept Cats --top 20 all
    ids concept=Cats/feature=9=-5 all.mpk.zst
    [ "$(tstream view sweep.mpk.zst | jq -c '[.steered, (.steering.features // {} | keys)]' | head -5)" = '["",[]]
["",["3"]]
["",["3","9"]]
["Cats",["3"]]
["Cats",["3","9"]]' ]
    latents --mode add --concept Fishes --sweep concept=none,Cats --top 20 --multiplier 2 sweep
    [ "$(tstream view sweep.mpk.zst | jq -r .steered | head -2 | xargs)" = "Fishes Fishes+Cats" ]
}

@test "a concept and a theme at once: the fields name the kind of each" {
    theme=$(tstream view "$DIR/ranks.mpk.zst" | jq -r 'select(.kind == "theme").label' | sort -u | head -1)
    latents --theme "$theme" --sweep concept=Fishes,Cats --top 5 --mode ablate "$BATS_TEST_TMPDIR/a"
    [ "$(tstream view "$BATS_TEST_TMPDIR/a.mpk.zst" | jq -r '"\(.steered) \(.steered_kind)"' | sort -u)" \
        = "Cats+$theme concept+theme"$'\n'"Fishes+$theme concept+theme" ]
    # however they are given, the pictures are the same
    latents --concept Cats --theme "$theme" --top 5 --mode ablate "$BATS_TEST_TMPDIR/b"
    part_is 'select(.steered[:4] == "Cats")' "$BATS_TEST_TMPDIR/a.mpk.zst" "$BATS_TEST_TMPDIR/b.mpk.zst"
    judge=$SDSTEER_TESTS/../data/minisd/judge.safetensors
    sd-encode-image -q --net "$judge" "$BATS_TEST_TMPDIR/a" | sd-evaluate --classifier "$judge" >"$BATS_TEST_TMPDIR/t"
    grep -P "^target\tconcept\+theme\tCats\+$theme\t6\t" "$BATS_TEST_TMPDIR/t"
}

@test "--compat saeuron differs even where it changes no feature" {
    latents --concept Fishes --top 5 --mode scale --multiplier 1 --compat saeuron "$BATS_TEST_TMPDIR/a"
    plain "$BATS_TEST_TMPDIR/plain"
    run ! cmp -s "$BATS_TEST_TMPDIR/a.npy" "$BATS_TEST_TMPDIR/plain.npy"
}

@test "--hook before what the autoencoder's folder, or its ranks, name: a note each" {
    cd "$BATS_TEST_TMPDIR"
    own=$(jq -r .hook "$DIR/sae/cfg.json")
    [ "$own" = up_blocks.1.attentions.1 ]
    cp -r "$DIR/sae" homeless
    jq 'del(.hook)' "$DIR/sae/cfg.json" > homeless/cfg.json
    hooked() { sd-steer --steps 1 --sae "$1" --hook "$2" "${@:3}" -o o.mpk.zst "$DIR/cond.mpk.zst"; }
    run -0 hooked "$DIR/sae" 'up_blocks.1.attentions.[0]' --ranks "$DIR/ranks.mpk.zst" --concept Fishes
    [ "$output" = "sd-steer: --hook up_blocks.1.attentions.0 goes before $own, which cfg.json of $DIR/sae names
sd-steer: --hook up_blocks.1.attentions.0 goes before $own, which $DIR/ranks.mpk.zst names" ]
    run -0 hooked homeless up_blocks.1.attentions.0 --feature 3=1
    [ -z "$output" ]
    for same in "$own" "unet.$own" 'up_blocks.1.attentions.[1]'; do
        run -0 hooked "$DIR/sae" "$same" --ranks "$DIR/ranks.mpk.zst" --concept Fishes
        [ -z "$output" ]
    done
}

@test "messages: an unknown concept, ranks of another autoencoder, too few ranks, nothing to steer" {
    steer() {
        sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$@" \
            "$DIR/cond.mpk.zst"
    }
    run -1 --separate-stderr steer --concept Dragons
    [[ "$stderr" == *Dragons*Cats*Fishes* ]]
    run -2 --separate-stderr steer --sweep multiplier=much --concept Fishes
    [[ "$stderr" == *much* ]]
    sae-fit -q -k 8 --features 256 --seed 5 --batch 128 -o "$BATS_TEST_TMPDIR/sae" "$DIR/acts.mpk.zst"
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$BATS_TEST_TMPDIR/sae" --ranks "$DIR/ranks.mpk.zst" \
        --concept Fishes -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"another"* || "$stderr" == *"made with"* ]]
    sae-rank-concepts -q --sae "$DIR/sae" --top 2 -o "$BATS_TEST_TMPDIR/few.mpk.zst" "$DIR/acts.mpk.zst"
    run -1 --separate-stderr sd-steer -q --steps 3 --sae "$DIR/sae" --ranks "$BATS_TEST_TMPDIR/few.mpk.zst" \
        --concept Fishes --top 9 -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/cond.mpk.zst"
    [[ "$stderr" == *"--top 9"* ]]
    run -2 --separate-stderr steer --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --hook mid_block --concept Fishes
    [[ "$stderr" == *"one autoencoder, not of 2"* ]]
    run -2 --separate-stderr steer --sae "$DIR/sae" --concept Fishes
    [[ "$stderr" == *"1 ranks for 2 autoencoders"*"after each --sae"* ]]
    run -2 --separate-stderr steer --feature 3=1 --feature 4=1 --feature 3=2
    [[ "$stderr" == *"--feature 3 is given twice"* ]]
    cp "$DIR/ranks.mpk.zst" "$BATS_TEST_TMPDIR/r.mpk.zst"
    for read in --ranks --where --init; do
        run -2 --separate-stderr sd-steer -q --sae "$DIR/sae" $read "$BATS_TEST_TMPDIR/r.mpk.zst" --feature 3=1 \
            --latents "$BATS_TEST_TMPDIR/../${BATS_TEST_TMPDIR##*/}/r.mpk.zst" -o "$BATS_TEST_TMPDIR/o.mpk.zst" \
            "$DIR/cond.mpk.zst"
        [[ "$stderr" == *"r.mpk.zst: that is a file that is read"* ]]
    done
    run -2 --separate-stderr sd-sample-hooked -q --latents "$BATS_TEST_TMPDIR/r.mpk.zst" "$BATS_TEST_TMPDIR/r.mpk.zst"
    [[ "$stderr" == *"r.mpk.zst: that is a file that is read"* ]]
    cmp "$DIR/ranks.mpk.zst" "$BATS_TEST_TMPDIR/r.mpk.zst"
    sd-steer -q --steps 1 --sae "$DIR/sae" --feature 3=1 --latents - -o "$BATS_TEST_TMPDIR/pictures" - \
        <"$DIR/cond.mpk.zst" | tstream check -
    run -2 steer
    run -2 steer --sae "$DIR/sae" --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --ranks "$DIR/ranks.mpk.zst" \
        --concept Cats
    [[ "$output" == *"is given twice"* ]]
    [ ! -e "$BATS_TEST_TMPDIR/o.mpk.zst" ]
}
