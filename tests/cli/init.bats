#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# init.bats -- pictures that begin with others: which they are, how far back they go, what an inversion keeps; other
# texts; activations of pictures that exist; messages.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DIR="$BATS_FILE_TMPDIR"
    export PICTURES="$BATS_TEST_DIRNAME/../../data/pictures"
    cd "$DIR"
    grep -e '^{"id":"\(Cats\|Fishes\|Sea\)/plain' -e Cats/ "$PICTURES/prompts.jsonl" > prompts
    sd-encode-text -o cond.mpk.zst prompts
    sd-sample-hooked -q --steps 4 --init "$PICTURES" --inversion ddpm --hook up_blocks.1.attentions.1 \
        --images own.mpk.zst --latents own-latents.mpk.zst -o acts.mpk.zst cond.mpk.zst
    sae-fit -q -k 8 --features 256 --batch 128 --epochs 4 -o sae acts.mpk.zst
    sae-rank-concepts -q --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR"; }

draw() { sd-sample-hooked -q --no-activations "$@"; }

steer() { sd-steer -q --steps 4 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --top 20 --mode replace "$@"; }

# A stream's tensors of one record a line, without what tells of the run.
tensors() { tstream view --tensors "$1" | jq -c '[.id, .latent, .image]'; }

@test "an inversion keeps the pictures, as well as the VAE does" {
    [ "$(tstream view "$DIR/own.mpk.zst" | jq -r .id | LC_ALL=C sort | tr '\n' ' ')" = \
        "Cats/Pop Art Cats/plain Fishes/plain Sea/plain " ]
    sd-decode -q -o again.mpk.zst "$DIR/own-latents.mpk.zst"
    cmp <(tensors again.mpk.zst) <(tensors "$DIR/own.mpk.zst")
    sd-encode-image -q --net "$BATS_TEST_DIRNAME/../../data/minisd/judge.safetensors" "$DIR/own.mpk.zst" |
        sd-evaluate > table
    grep -q '^unsteered.concept.*100.00' table
}

@test "steered are those that show the label; where nothing is, the picture comes out bit for bit" {
    steer --init "$PICTURES" --inversion ddpm --gate 0.5 --multiplier -8 --unsteered --sweep concept=Cats \
        --latents l.mpk.zst -o s.mpk.zst "$DIR/cond.mpk.zst"
    of() {      # STEERED WHETHER-CATS [FILE]
        tstream view --tensors "${3:-l.mpk.zst}" |
            jq -c "select((.steered // \"\") == \"$1\" and (.concept == \"Cats\") == $2) | .latent"
    }
    cmp <(of "" true) <(of "" true "$DIR/own-latents.mpk.zst")
    cmp <(of Cats false) <(of "" false)
    run ! cmp -s <(of Cats true) <(of "" true)
    steer --init "$PICTURES" --inversion ddpm --concept Cats --multiplier -8 --when 3-2 --latents m.mpk.zst \
        -o t.mpk.zst "$DIR/cond.mpk.zst"
    cmp <(tensors m.mpk.zst) <(tensors "$DIR/own-latents.mpk.zst")
}

# A PNG of 128x128, black but for its right half.
right_half() {
    python3 - "$1" <<'EOF'
import struct, sys, zlib
def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
rows = (b"\0" + bytes(64) + b"\xff" * 64) * 128
open(sys.argv[1], "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 128, 128, 8, 0, 0, 0, 0))
                              + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
EOF
}

@test "outside --where the picture stays, bit for bit" {
    right_half right.png
    steer --init "$PICTURES" --inversion ddpm --concept Cats --multiplier -8 --where right.png --latents l.mpk.zst \
        -o s.mpk.zst "$DIR/cond.mpk.zst"
    half() { tstream view --tensors "$1" | jq -c "[.latent.values | to_entries[] | select(.key % 16 $2 8).value]"; }
    cmp <(half l.mpk.zst "<") <(half "$DIR/own-latents.mpk.zst" "<")
    run ! cmp -s <(half l.mpk.zst ">=") <(half "$DIR/own-latents.mpk.zst" ">=")
    [ "$(half l.mpk.zst "<" | jq length | sort -u)" = 512 ]
}

@test "the same bytes whatever the batch and the order, by noise and by an inversion" {
    tac "$DIR/prompts" | sd-encode-text -q -o back.mpk.zst
    for how in "--strength 0.5" "--inversion ddpm" "--inversion ddpm --strength 0.5" \
        "--sampler euler-a --strength 0.7" "--sampler lcm --strength 0.7"; do
        # shellcheck disable=SC2086
        for batch in 1 3; do
            steer --concept Cats --multiplier -4 $how --init "$PICTURES" --batch $batch --latents $batch.mpk.zst \
                -o $batch "$([ $batch = 1 ] && echo back.mpk.zst || echo "$DIR/cond.mpk.zst")"
        done
        cmp <(tensors 1.mpk.zst | sort) <(tensors 3.mpk.zst | sort)
        rm -r 1 3
    done
}

@test "strength says from which timestep on; what was done is in header and PNG" {
    draw --steps 10 --init "$PICTURES" --strength 0.39 --images out "$DIR/cond.mpk.zst"
    tstream text out/Cats/plain.png | grep -q strength
    run -0 tstream text out/Cats/plain.png
    [[ $output == *init*pictures* && $output == *'inversion'*none* ]]
    sd-sample-hooked -q --steps 10 --init "$PICTURES" --strength 0.39 -o acts.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view acts.mpk.zst | jq -r .t | sort -rnu | tr '\n' ' ')" = "201 101 1 " ]
    [ "$(tstream head -n 1 acts.mpk.zst | tstream info - | grep -c '^ *strength *0.39')" = 1 ]
}

@test "one file for all, a field init_image, pictures of other sizes, grey ones" {
    draw --steps 2 --strength 0.5 --init "$PICTURES/Sea/plain.png" --latents one.mpk.zst "$DIR/cond.mpk.zst"
    jq -c '.init_image = "Sea/plain.png"' "$DIR/prompts" | sd-encode-text -q |
        draw --steps 2 --strength 0.5 --init "$PICTURES" --latents own.mpk.zst
    cmp <(tensors one.mpk.zst) <(tensors own.mpk.zst)
    draw --steps 2 --strength 0.5 --init "$PICTURES" --latents each.mpk.zst "$DIR/cond.mpk.zst"
    run ! cmp -s <(tensors one.mpk.zst) <(tensors each.mpk.zst)
    head -1 "$DIR/prompts" | sd-encode-text -q | draw --steps 2 --width 192 --height 64 --inversion ddpm \
        --init "$PICTURES" --images wide.mpk.zst
    [ "$(tstream view wide.mpk.zst | jq -c .image)" = '"u8 (64, 192, 3)"' ] ||
        tstream info wide.mpk.zst | grep -q 'image u8 (64, 192, 3)'
}

@test "JPEG files, by their names and by what is in them" {
    python3 - "$BATS_TEST_DIRNAME/../golden-more/jpeg.safetensors" <<'EOF'
import json, os, sys
data = open(sys.argv[1], "rb").read()
n = int.from_bytes(data[:8], "little")
at, end = json.loads(data[8:8 + n])["0.file"]["data_offsets"]
os.makedirs("shot/Cats"), os.makedirs("named/Cats")
for path in "shot/Cats/plain.jpg", "named/Cats/plain.png":
    open(path, "wb").write(data[8 + n + at:8 + n + end])
EOF
    for folder in shot named shot/Cats/plain.jpg; do
        head -1 "$DIR/prompts" | sd-encode-text -q |
            draw --steps 2 --init $folder --inversion ddpm --latents $(basename $folder).mpk.zst
        cmp <(tensors shot.mpk.zst) <(tensors $(basename $folder).mpk.zst)
    done
    sd-encode-image -q -o e.mpk.zst shot
    [ "$(tstream view e.mpk.zst | jq -r .id)" = Cats/plain ]
}

@test "another text than the picture's: init_prompt" {
    jq -c '.init_prompt = .prompt' "$DIR/prompts" | sd-encode-text -q -o same.mpk.zst
    draw --steps 4 --init "$PICTURES" --inversion ddpm --latents same-l.mpk.zst same.mpk.zst
    cmp <(tensors same-l.mpk.zst) <(tensors "$DIR/own-latents.mpk.zst")
    jq -c '.init_prompt = .prompt | .prompt = "A dog."' "$DIR/prompts" | sd-encode-text -q -o dog.mpk.zst
    draw --steps 4 --init "$PICTURES" --inversion ddpm --latents dog-l.mpk.zst dog.mpk.zst
    run ! cmp -s <(tensors dog-l.mpk.zst) <(tensors same-l.mpk.zst)
    # steered too, and in chunks: the longer text's decide
    steer --init "$PICTURES" --inversion ddpm --gate 100 --concept Cats --latents d.mpk.zst -o d dog.mpk.zst
    cmp <(tensors d.mpk.zst) <(tensors dog-l.mpk.zst)
    long=$(printf 'a red cat %.0s' $(seq 40))
    jq -c --arg long "$long" '.init_prompt = $long' "$DIR/prompts" | sd-encode-text -q --chunks 2 -o long.mpk.zst
    tstream info long.mpk.zst | grep -q 'init_state f32 (154, 128)'
    draw --steps 2 --init "$PICTURES" --inversion ddpm --latents long-l.mpk.zst long.mpk.zst
}

@test "another text in a part of the picture" {
    right_half right.png
    jq -c '.init_prompt = .prompt | .prompt = "A dog."' "$DIR/prompts" | sd-encode-text -q -o dog.mpk.zst
    draw --steps 4 --init "$PICTURES" --inversion ddpm --where right.png --latents l.mpk.zst dog.mpk.zst
    half() { tstream view --tensors "$1" | jq -c "[.latent.values | to_entries[] | select(.key % 16 $2 8).value]"; }
    cmp <(half l.mpk.zst "<") <(half "$DIR/own-latents.mpk.zst" "<")
    run ! cmp -s <(half l.mpk.zst ">=") <(half "$DIR/own-latents.mpk.zst" ">=")
    run draw --steps 4 --where right.png --latents no.mpk.zst dog.mpk.zst
    says 2 "--inversion ddpm"
}

@test "a text steered, on pictures that exist" {
    sd-encode-text -q --hook text_encoder.text_model.encoder.layers.1 -o text.mpk.zst "$DIR/prompts"
    sae-fit -q -k 4 --features 128 --batch 32 --epochs 20 -o text-sae text.mpk.zst
    jq -c '.init_prompt = .prompt | .init_image = .id + ".png"' "$DIR/prompts" > told
    sd-steer-text -q --sae text-sae --feature 3=9 --mode set --sweep multiplier=1 -o steered.mpk.zst told
    draw --steps 3 --init "$PICTURES" --inversion ddpm --latents steered-l.mpk.zst steered.mpk.zst
    sd-steer-text -q --sae text-sae --feature 3=1 --mode scale -o left.mpk.zst told
    draw --steps 3 --init "$PICTURES" --inversion ddpm --latents left-l.mpk.zst left.mpk.zst
    cmp <(tstream view --tensors left-l.mpk.zst | jq -c .latent) \
        <(tstream view --tensors "$DIR/own-latents.mpk.zst" | jq -c .latent)
    run ! cmp -s <(tstream view --tensors steered-l.mpk.zst | jq -c .latent) \
        <(tstream view --tensors left-l.mpk.zst | jq -c .latent)
}

@test "an autoencoder in its module's place, on pictures that exist" {
    sae-splice -q --steps 3 --sae "$DIR/sae" --init "$PICTURES" --inversion ddpm --images s.mpk.zst -o t.tsv \
        "$DIR/cond.mpk.zst"
    cmp <(tstream view --tensors s.mpk.zst | jq -c 'select(.splice == "plain") | .image') \
        <(tstream view --tensors "$DIR/own.mpk.zst" | jq -c .image)
}

@test "what a run began with is told of autoencoders, features and figures of it" {
    jq -e '.strength == 1 and .inversion == "ddpm" and (.init | endswith("pictures"))' "$DIR/sae/cfg.json"
    sae-encode -q --sae "$DIR/sae" -o f.mpk.zst "$DIR/acts.mpk.zst"
    run -0 tstream info f.mpk.zst
    [[ $output == *"strength "*1.0*"inversion "*ddpm*"take "*output* ]]
    sae-splice -q --steps 2 --sae "$DIR/sae" --init "$PICTURES" --strength 0.7 --json -o s.json "$DIR/cond.mpk.zst"
    tail -1 s.json | jq -e '.strength == 0.7 and .inversion == "none"'
    run -0 tstream info <(draw --init "$PICTURES" --strength 0.35 --steps 4 --latents - "$DIR/cond.mpk.zst")
    [[ $output == *"strength "*0.35* && $output != *0.3499* ]]
}

@test "pictures to begin with are not written over" {
    mkdir -p mine/Cats; cp "$PICTURES/Cats/plain.png" mine/Cats; cp mine/Cats/plain.png before.png
    for init in mine ./mine/ mine/../mine; do
        run draw --init $init --images mine "$DIR/cond.mpk.zst"
        says 2 "would be written over"
    done
    cp before.png mine/one.png
    run draw --init mine/one.png --images ./mine "$DIR/cond.mpk.zst"
    says 2 "would be written over"
    cmp mine/Cats/plain.png before.png
    head -1 "$DIR/prompts" | sd-encode-text -q | draw --steps 2 --init mine --images mine/out
    [ -e mine/out/Cats/plain.png ]
}

@test "messages" {
    none() { refused "$@" -- draw --steps 2 --latents no.mpk.zst --init "$dir" "$DIR/cond.mpk.zst"; }
    dir=nowhere none "nowhere: no such folder"
    mkdir empty; dir=empty none cond.mpk.zst "record 1" "empty/Cats/plain.png" "No such file"
    mkdir -p bad/Cats; head -c 100 "$PICTURES/Cats/plain.png" > bad/Cats/plain.png
    dir=bad none cond.mpk.zst "record 1" bad/Cats/plain.png
    misused() { run draw --latents no.mpk.zst "$@" "$DIR/cond.mpk.zst"; [ "$status" = 2 ]; [ ! -e no.mpk.zst ]; }
    misused --strength 0.5;                                     [[ $output == *"give --init"* ]]
    misused --inversion ddpm;                                   [[ $output == *"give --init"* ]]
    misused --init "$PICTURES" --strength 1.5;                  [[ $output == *"--strength 1.5"* ]]
    misused --init "$PICTURES" --strength -1;                   [[ $output == *"--strength -1"* ]]
    misused --init "$PICTURES" --strength 0.1 --steps 5;        [[ $output == *"of 5 steps is none"* ]]
    misused --init "$PICTURES" --inversion ddim;                [[ $output == *"none of none|ddpm"* ]]
    misused --residual bf16;                                    [[ $output == *"none of auto|f32"* ]]
    misused --init "$PICTURES" --inversion ddpm --sampler euler;        [[ $output == *"--sampler ddim"* ]]
    misused --init "$PICTURES" --inversion ddpm --sampler lcm;          [[ $output == *"not lcm's"* ]]
    dir=nowhere.png none nowhere.png "no such picture"
    misused --init "$PICTURES" --strength 1.00000001;           [[ $output == *1.00000001* ]]
    run sd-steer -q --guidance 1 --half uncond --sae "$DIR/sae" --feature 1=0 --init "$PICTURES" -o no.mpk.zst \
        "$DIR/cond.mpk.zst"
    says 1 "no unconditional half"
    # streams of other writers
    head -2 "$DIR/prompts" | sd-encode-text -q --no-compress -o plain.mpk
    edited() {      # by jq, each record
        python3 "$BATS_TEST_DIRNAME/../read_stream.py" --values plain.mpk | jq -c "if .id then $1 else . end" |
            python3 "$BATS_TEST_DIRNAME/../write_stream.py" > edited.mpk
    }
    told() { refused edited.mpk "record 1" "$@" -- draw --steps 2 --latents no.mpk.zst --init "$PICTURES" \
        --inversion ddpm edited.mpk; }
    edited '.init_image = 5';                   told "init_image is not text"
    edited '.init_image = "a\u0000b"';          told "init_image is not text"
    edited '.id = 7';                           told "id is not text"
    edited 'del(.id)';                          told "neither an id nor an init_image"
    edited '.init_prompt = "a"';                told "no init_state"
    head -1 "$DIR/prompts" | jq -c '.init_prompt = "A dog."' | sd-encode-text -q -o dog.mpk.zst
    run -0 sd-sample-hooked --no-activations --steps 2 --images x dog.mpk.zst
    [[ $output == *"init_prompt plays no part"* ]]
    sed 's/}$/,"init_prompt":3}/' "$DIR/prompts" > three
    refused three "line 1" init_prompt -- sd-encode-text -o no.mpk.zst three
}

@test "pictures alike but for the text that they are traced by are drawn each by its own" {
    for told in "A cat." "A dog."; do
        jq -nc --arg told "$told" '{id: $told, prompt: "A fish.", seed: 3, init_prompt: $told,
            init_image: "Cats/plain.png"}'
    done >twins
    sd-encode-text -q -o twins.mpk.zst twins
    for batch in 1 2; do
        draw --steps 4 --init "$PICTURES" --inversion ddpm --batch $batch --latents $batch.mpk.zst twins.mpk.zst
    done
    cmp 1.mpk.zst 2.mpk.zst
    [ "$(tensors 1.mpk.zst | jq -c '.[1]' | sort -u | wc -l)" = 2 ]
}

@test "the VAE's log of variance is taken for 20 at most" {
    tests=$BATS_TEST_DIRNAME/..
    for bias in 200 1000; do
        cp -r "$tests/../data/minisd/model" "$bias"
        weights=$bias/vae/diffusion_pytorch_model.safetensors
        python3 "$tests/edit_tensors.py" "$weights" edited "
b = t['quant_conv.bias']
b[2] = b[2][:8] + struct.pack('<4e', *4*[$bias])"
        mv edited "$weights"
        head -1 "$DIR/prompts" | sd-encode-text -q --model "$bias" |
            draw --model "$bias" --init "$PICTURES" --strength 0.5 --steps 2 --latents "$bias.mpk"
    done
    cmp <(tensors 200.mpk) <(tensors 1000.mpk)
    tstream stat 200.mpk | awk -F '\t' '$1 == "latent" && $6 < -1000 && $7 > 1000 && $8 + $9 == 0 {found = 1}
        END {exit !found}'
}
