#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-encode-image.bats -- pictures to embeddings: streams, PNG files and folders alike, in order, with their fields;
# CLIP, a judge's network and vision transformers; what is refused.

bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PATH="$PWD/bin:$PATH" DIR="$BATS_FILE_TMPDIR" JUDGE="$PWD/data/minisd/judge.safetensors"
    export VIT="$PWD/tests/golden-more/vit"
    cd "$DIR" || return
    printf '%s\n' '{"id":"b/2","prompt":"A dog.","concept":"Dogs","seed":9007199254740993}' \
        '{"id":"a","prompt":"A fish in Watercolor style.","concept":"Fishes","theme":"Watercolor","seed":188}' \
        '{"id":"b/10","prompt":"a red tower","seed":3}' | sd-encode-text -o cond.mpk.zst
    sd-sample-hooked -q --steps 2 --no-activations --images images.mpk.zst cond.mpk.zst
    sd-sample-hooked -q --steps 2 --no-activations --images pictures cond.mpk.zst
    sd-encode-image images.mpk.zst -o e.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return; }

view() { tstream view --tensors "$@"; }

refused() {     # exit status, what the message must hold, then the command
    local status=$1 expected=$2
    shift 2
    run "-$status" --separate-stderr "$@" || return 1
    [[ ${stderr_lines[0]} == *"$expected"* ]] || return 1
    [ "${#stderr_lines[@]}" = "$status" ] || return 1       # misuse points to --help in a second line
}

@test "a stream: fields and embeddings in its order, provenance handed on" {
    [ "$(tstream view --tsv id,prompt,concept,theme,seed "$DIR/e.mpk.zst")" = "$(printf '%s\t%s\t%s\t%s\t%s\n' \
        b/2 'A dog.' Dogs '' 9007199254740993 a 'A fish in Watercolor style.' Fishes Watercolor 188 \
        b/10 'a red tower' '' '' 3)" ]
    [ "$(tstream view "$DIR/e.mpk.zst" | jq -c .embedding | sort -u)" = '{"type":"f32","shape":[128]}' ]
    [ "$(tstream view -H "$DIR/e.mpk.zst" | head -1 | jq -r '.provenance | map(.program) | join(" ")')" \
        = "sd-encode-text sd-sample-hooked sd-encode-image" ]
    sd-encode-image < "$DIR/images.mpk.zst" | cmp - "$DIR/e.mpk.zst"
    sd-encode-image -@ 1 - < "$DIR/images.mpk.zst" | cmp - "$DIR/e.mpk.zst"
}

@test "a folder of the same pictures: the same records, in the order of their names" {
    sd-encode-image "$DIR/pictures" -o f.mpk.zst
    [ "$(tstream view --tsv id f.mpk.zst | tr '\n' ' ')" = "a b/10 b/2 " ]
    cmp <(view f.mpk.zst | sort) <(view "$DIR/e.mpk.zst" | sort)
    sd-encode-image "$DIR/pictures/" | cmp - f.mpk.zst
    [ "$(tstream view -H f.mpk.zst | head -1 | jq -r '.provenance | map(.program) | join(" ")')" = sd-encode-image ]
}

@test "hidden files of a folder are passed over" {
    cp -R "$DIR/pictures" hidden
    mkdir hidden/.thumbnails
    : >hidden/.a.png
    : >hidden/.thumbnails/a.png
    sd-encode-image hidden | cmp - <(sd-encode-image "$DIR/pictures")
}

@test "operands of all sorts follow each other" {
    sd-encode-image "$DIR/pictures/a.png" "$DIR/images.mpk.zst" "$DIR/pictures/b" -o all.mpk.zst
    [ "$(tstream view --tsv id all.mpk.zst | tr '\n' ' ')" = "a b/2 a b/10 b/10 b/2 " ]
    cmp <(view all.mpk.zst | head -1) <(view all.mpk.zst | sed -n 3p)
}

@test "a PNG file without text chunks is named by its path within the folder" {
    mkdir -p plain/deep
    python3 - <<'PY'
import struct, zlib
def chunk(name, data): return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
def png(path, kind, channels):
    rows = b"".join(b"\0" + bytes((3*x + y) % 256 for x in range(20) for _ in range(channels)) for y in range(10))
    open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 10, 8, kind, 0, 0, 0))
                           + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
png("plain/deep/grey.png", 0, 1)
png("plain/colour.png", 2, 3)
open("plain/deep/notes.txt", "w").write("not a picture")
PY
    sd-encode-image plain -o p.mpk.zst
    [ "$(tstream view --tsv id p.mpk.zst | tr '\n' ' ')" = "colour deep/grey " ]
    [ "$(view p.mpk.zst | jq -c .embedding | sort -u | wc -l)" = 1 ]     # grey is what equal colours are
    [ "$(sd-encode-image plain/deep/grey.png | tstream view --tsv id -)" = grey ]
}

@test "a picture's embedding does not depend on the batch that it is in" {
    # 33 pictures in batches of 32: the last one is alone in its batch
    for _ in $(seq 11); do cat "$DIR/images.mpk.zst"; done > many.mpk.zst
    sd-encode-image many.mpk.zst | view | sort -u | cmp - <(view "$DIR/e.mpk.zst" | sort)
}

@test "--normalize gives length 1" {
    sd-encode-image --normalize "$DIR/images.mpk.zst" | view > one
    of_length_1='.embedding.values | map(. * .) | add | . > 0.99999 and . < 1.00001'
    [ "$(jq -c "$of_length_1" one | uniq -c | tr -s ' ')" = " 3 true" ]
    [ "$(view "$DIR/e.mpk.zst" | jq -c "$of_length_1" | sort -u)" = false ]
}

@test "--net: features of a judge's network, of pictures of its size" {
    sd-encode-image --net "$JUDGE" "$DIR/images.mpk.zst" -o n.mpk.zst
    [ "$(tstream view -H n.mpk.zst | head -1 | jq -r .model)" = judge.safetensors ]
    [ "$(tstream view n.mpk.zst | jq -c '.embedding.shape[0] > 128' | sort -u)" = true ]
    cmp <(sd-encode-image --net "$JUDGE" "$DIR/pictures" | view | sort) <(view n.mpk.zst | sort)
    sd-sample-hooked -q --steps 1 --height 64 --width 64 --no-activations --images small.mpk.zst "$DIR/cond.mpk.zst"
    refused 1 "small.mpk.zst: record 1: the picture is 64 x 64, the network takes 128 x 128" \
        sd-encode-image --net "$JUDGE" small.mpk.zst -o no.mpk.zst
    unet=$BATS_TEST_DIRNAME/../../data/minisd/model/unet/diffusion_pytorch_model.safetensors
    refused 1 unet sd-encode-image --net "$unet" -o no.mpk.zst "$DIR/images.mpk.zst"
    [ ! -e no.mpk.zst ]
}

@test "--net KIND=FILE: vision transformers, several in one pass, each as it is by itself" {
    sd-encode-image --net theme="$VIT/tiny.pth" --net concept="$VIT/tiny.safetensors" --net "$JUDGE" \
        "$DIR/images.mpk.zst" -o n.mpk.zst
    [ "$(tstream view -H n.mpk.zst | head -1 | jq -r .model)" = \
        "theme=tiny.pth, concept=tiny.safetensors, judge.safetensors" ]
    [ "$(tstream view n.mpk.zst | jq -c '[to_entries[] | select(.value | type == "object") | [.key, .value.shape[0]]]' |
        sort -u)" = '[["theme.embedding",64],["theme.logits",7],["concept.embedding",64],["concept.logits",7],'\
'["embedding",2880]]' ]
    # the same weights from either kind of file, the same bytes alone or beside others
    view n.mpk.zst | jq -es 'length > 0 and all(.[]; .["theme.logits"] != null and .["theme.embedding"] != null
        and .["theme.logits"] == .["concept.logits"] and .["theme.embedding"] == .["concept.embedding"])'
    cmp <(view n.mpk.zst | jq -c .embedding) \
        <(sd-encode-image --net "$JUDGE" "$DIR/images.mpk.zst" | view | jq -c .embedding)
    sd-encode-image --net "$VIT/tiny.pth" "$DIR/images.mpk.zst" -o one.mpk.zst
    cmp <(view n.mpk.zst | jq -c '.["theme.embedding"]') <(view one.mpk.zst | jq -c .embedding)
    [ "$(tstream view one.mpk.zst | jq -c '.embedding.shape, has("logits")' | sort -u | tr '\n' ' ')" = "[64] false " ]
    [ "$(tstream view -H one.mpk.zst | head -1 | jq -r .model)" = tiny.pth ]
    # whatever the batch and the order
    cmp <(sd-encode-image --net theme="$VIT/tiny.pth" -@ 1 "$DIR/pictures" | view | jq -c '.["theme.logits"]' | sort) \
        <(view n.mpk.zst | jq -c '.["theme.logits"]' | sort)
    # pictures of another size are resized
    sd-sample-hooked -q --steps 1 --height 64 --width 96 --no-activations --images other.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(sd-encode-image --net "$VIT/tiny.pth" other.mpk.zst | tstream view | wc -l)" = 3 ]
}

@test "--heads is another network, and is told" {
    sd-encode-image --net theme="$VIT/tiny.pth" "$DIR/images.mpk.zst" -o one.mpk.zst
    sd-encode-image --net theme="$VIT/tiny.pth" --heads 2 "$DIR/images.mpk.zst" -o two.mpk.zst
    arguments() { tstream view -H "$1" | head -1 | jq -c '.provenance[-1].arguments'; }
    [ "$(arguments one.mpk.zst)" = '["--dtype=f32","--backend=auto"]' ]
    [ "$(arguments two.mpk.zst)" = '["--dtype=f32","--heads=2","--backend=auto"]' ]
    run cmp <(view one.mpk.zst) <(view two.mpk.zst)
    [ "$status" = 1 ]
    refused 1 "3 heads" sd-encode-image --net "$VIT/tiny.pth" --heads 3 -o no.mpk.zst "$DIR/images.mpk.zst"
}

@test "networks that are refused" {
    head -c 60000 "$VIT/tiny.pth" > cut.pth
    refused 1 cut.pth sd-encode-image --net theme=cut.pth -o no.mpk.zst "$DIR/images.mpk.zst"
    refused 1 "evil.pth: data.pkl: byte 181: names posix.system" \
        sd-encode-image --net "$VIT/../torch/evil.pth" -o no.mpk.zst "$DIR/images.mpk.zst"
    refused 1 "types.pth: neither" sd-encode-image --net "$VIT/../torch/types.pth" -o no.mpk.zst "$DIR/images.mpk.zst"
    refused 1 nowhere.pth sd-encode-image --net theme=nowhere.pth -o no.mpk.zst "$DIR/images.mpk.zst"
    refused 2 "--net theme=: the name is empty" sd-encode-image --net theme= "$DIR/images.mpk.zst"
    refused 2 "two networks for a" sd-encode-image --net a=x --net a=y "$DIR/images.mpk.zst"
    refused 2 "two networks without a kind" sd-encode-image --net x --net y "$DIR/images.mpk.zst"
    refused 2 "5 networks" sd-encode-image --net a=x --net b=x --net c=x --net d=x --net e=x "$DIR/images.mpk.zst"
    refused 2 "--heads is -1" sd-encode-image --net x --heads -1 "$DIR/images.mpk.zst"
    [ ! -e no.mpk.zst ]
}

@test "no pictures make a stream of none" {
    tstream head -n 0 "$DIR/images.mpk.zst" > none.mpk.zst
    sd-encode-image none.mpk.zst -o e.mpk.zst
    tstream check e.mpk.zst
    [ -z "$(tstream view e.mpk.zst)" ]
}

@test "what is refused names the file, exit 1, and leaves none" {
    refused 1 cond.mpk.zst sd-encode-image -o no.mpk.zst "$DIR/cond.mpk.zst"
    refused 1 nowhere sd-encode-image -o no.mpk.zst nowhere
    refused 1 nowhere.png sd-encode-image -o no.mpk.zst nowhere.png
    refused 2 "--heads is of a vision transformer" sd-encode-image --heads 4 -o no.mpk.zst "$DIR/images.mpk.zst"
    refused 2 "--net names none" sd-encode-image --heads 4 --net "$JUDGE" -o no.mpk.zst "$DIR/images.mpk.zst"
    mkdir empty
    refused 1 "empty: no PNG or JPEG files" sd-encode-image -o no.mpk.zst empty
    refused 1 "empty: no PNG or JPEG files" sd-encode-image -o no.mpk.zst "$DIR/pictures" empty
    mkdir cut
    head -c 2000 "$DIR/pictures/a.png" > cut/a.png
    refused 1 cut/a.png sd-encode-image -o no.mpk.zst cut
    head -c 3000 "$DIR/images.mpk.zst" > cut.mpk.zst
    refused 1 cut.mpk.zst sd-encode-image -o no.mpk.zst cut.mpk.zst
    cp -R "$BATS_TEST_DIRNAME/../../data/minisd/model" bare
    for width in -128 0 1000000; do
        jq ".projection_dim = $width" bare/clip/config.json >config && mv config bare/clip/config.json
        refused 1 "bare/clip/config.json: \"projection_dim\" is $width, expected 1 to 65536" \
            sd-encode-image -m bare -o no.mpk.zst "$DIR/images.mpk.zst"
    done
    rm -r bare/clip
    refused 1 bare/clip sd-encode-image -m bare -o no.mpk.zst "$DIR/images.mpk.zst"
    [ ! -e no.mpk.zst ]
}
