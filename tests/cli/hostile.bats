#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# hostile.bats -- streams and models that are whole by their format and wrong in what they say: names that lead
# elsewhere, ids that come twice, numbers that are none, tensors of another type. Each is one message that names the
# file and the record or tensor, and nothing is written.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export TESTS=$BATS_TEST_DIRNAME/.. DIR=$BATS_FILE_TMPDIR MODEL=$BATS_TEST_DIRNAME/../../data/minisd/model
    cd "$DIR" || return 1
    sd-assemble-prompts -n 1 | head -2 >prompts.jsonl
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked -q --steps 2 --latents lat.mpk.zst --images img.mpk.zst cond.mpk.zst -o acts.mpk.zst
    sae-fit -q -k 8 --features 256 --batch 64 acts.mpk.zst -o sae
    sae-encode -q --sae sae acts.mpk.zst -o feat.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return 1; }

# changed FILE FILTER: the stream's lines as JSON go through jq, the header first
changed() { "$TESTS/read_stream.py" --values "$DIR/$1" | jq -c "$2" | "$TESTS/write_stream.py"; }

fails() {       # words of the message, --, command
    local words=()
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    run "${@:2}"
    says 1 "${words[@]}" || return 1
    [ "${#lines[@]}" = 1 ] || return 1
}

# weights PART NAME CODE: a copy of the model in whose part Python has changed tensor NAME: t, s, b are its type, shape
# and bytes, keep is whether it stays
weights() {
    rm -rf model
    cp -R "$MODEL" model
    python3 - model/"$1"/*.safetensors "$2" "$3" <<'PY'
import json, struct, sys
path, name, code = sys.argv[1:]
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, data, out, at = json.loads(data[8:8 + n]), data[8 + n:], {}, b""
for key, x in header.items():
    if key == "__metadata__":
        out[key] = x
        continue
    v = {"t": x["dtype"], "s": x["shape"], "b": data[slice(*x["data_offsets"])], "keep": True, "struct": struct}
    if key == name:
        exec(code, v)
    if v["keep"]:
        out[key] = {"dtype": v["t"], "shape": v["s"], "data_offsets": [len(at), len(at) + len(v["b"])]}
        at += v["b"]
text = json.dumps(out).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + at)
PY
}

@test "an id that comes twice does not take another picture's place" {
    changed cond.mpk.zst 'if .id then .id = "same" else . end' >twice.mpk
    fails "twice.mpk: record 2: id 'same' came before" -- \
        sd-sample-hooked -q --steps 1 --no-activations --images out twice.mpk
    [ "$(find out -type f | wc -l)" = 1 ]
    changed lat.mpk.zst 'if .id then .id = "same" else . end' >twice.mpk
    fails "twice.mpk: record 2: id 'same' came before" -- sd-decode -o decoded twice.mpk
}

@test "a picture's id leads out of no folder, and the message says whose it is" {
    for id in ../x /x x//y .hidden a/../../b ''; do
        changed lat.mpk.zst "if .id then .id = \"$id\" else . end" >out.mpk
        fails "out.mpk: record 1: id '$id' cannot name a file" -- sd-decode -o decoded out.mpk
    done
    [ ! -e decoded ]
}

@test "a hook's name leads out of no folder" {
    changed acts.mpk.zst \
        'if .hooks then .hooks += ["../../x"] elif .step == 1 then .hook = "../../x" else . end' >out.mpk
    mkdir -p a/b
    fails "out.mpk: header: hook '../../x' cannot name a folder" -- \
        sae-fit -q -k 8 --features 64 --batch 32 -o a/b/sae out.mpk
    [ -z "$(find a -type f)" ]
}

@test "a tensor of another type is not taken for numbers" {
    changed acts.mpk.zst 'if .act then .act |= (.type = "i32" | .values |= map(trunc)) else . end' >int.mpk
    for program in "sae-rank-concepts" "sae-encode" "sae-eval"; do
        fails "int.mpk: record 1: act is i32" -- "$program" -q --sae "$DIR/sae" -o out int.mpk
    done
    changed feat.mpk.zst 'if .value then .value |= (.type = "i8" | .values |= map(1)) else . end' >int.mpk
    fails "int.mpk: record 1: index and value" -- sae-rank-concepts -q -o out int.mpk
    fails "int.mpk: record 1: index and value" -- sae-report -q -o out int.mpk
    [ ! -e out ]
}

@test "what a fit cannot take is said with the record" {
    changed acts.mpk.zst 'if .step == 1 then .concept = [7] else . end' >label.mpk
    fails "label.mpk: record 2: field concept is an array, expected a label" -- \
        sae-fit -q -k 8 --features 64 --batch 32 --labels concept -o out label.mpk
    changed acts.mpk.zst 'if .step == 1 then .act.type = "f32" else . end' >type.mpk
    fails "type.mpk: record 2: activations change from f16 to f32" -- \
        sae-fit -q -k 8 --features 64 --batch 32 -o out type.mpk
    [ ! -e out ]
}

@test "a header's only hook that is no text" {
    changed feat.mpk.zst 'if .hooks then .hooks = [1] else . end' >hook.mpk
    fails "hook.mpk: header: hooks are ?" -- sae-rank-concepts -q -o out hook.mpk
}

@test "joined streams whose headers have other tensors" {
    for change in '.uncond.values[0] += 1:f32 (77, 128) of other values' \
        '.uncond.shape = [128, 77]:f32 (128, 77), the first has f32 (77, 128)' \
        'del(.uncond):none, the first has f32 (77, 128)'; do
        (changed cond.mpk.zst .; changed cond.mpk.zst "if .stream then ${change%%:*} else . end") >joined.mpk
        fails "joined.mpk: after record 2: a joined stream's header has another uncond: ${change#*:}" -- \
            sd-sample-hooked -q --steps 1 -o no.mpk.zst joined.mpk
    done
}

@test "numbers that leave f32's range on the way" {
    changed cond.mpk.zst 'if .state then .state.values |= map(3e38) else . end' >large.mpk
    fails "large.mpk: record 1: its latent has become no number" -- \
        sd-sample-hooked -q --steps 2 --no-activations --images out large.mpk
    fails "large.mpk: record 1: its latent has become no number" -- \
        sd-steer -q --steps 2 --sae "$DIR/sae" --feature 3=1 -o out large.mpk
    changed acts.mpk.zst 'if .act then .act |= (.type = "f32" | .values |= map(3e38)) else . end' >large.mpk
    fails "large.mpk: record 1: act is too large" -- sae-encode -q --sae "$DIR/sae" -o out large.mpk
    changed lat.mpk.zst 'if .latent then .latent.values |= map(3e38) else . end' >large.mpk
    fails "large.mpk: record 1: the VAE made pixels that are no numbers" -- sd-decode -q -o out large.mpk
    [ ! -e out ]
}

@test "weights with a NaN are named, with its place" {
    nan='b = b[:-4] + struct.pack("<f", float("nan")) if t == "F32" else b[:-2] + b"\xff\x7f"'
    weights text_encoder encoder.layers.1.mlp.fc1.weight "$nan"
    fails "model.safetensors: tensor encoder.layers.1.mlp.fc1.weight has nan at value" -- \
        sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    weights vae decoder.conv_norm_out.bias "$nan"
    fails "diffusion_pytorch_model.safetensors: tensor decoder.conv_norm_out.bias has nan at value" -- \
        sd-decode -m model --any-model -o out "$DIR/lat.mpk.zst"
    cp "$MODEL/../judge.safetensors" judge.safetensors
    python3 - <<'PY'
data = bytearray(open("judge.safetensors", "rb").read())
data[-4:] = b"\xff\xff\xff\x7f"
open("judge.safetensors", "wb").write(data)
PY
    run sd-encode-image --net judge.safetensors -o out "$DIR/img.mpk.zst"
    [ "$status" = 0 ] && run sd-evaluate --classifier judge.safetensors -o table out && rm -f out
    says 1 "judge.safetensors: tensor" "nan at value"
    [ ! -e out ]
    [ ! -e table ]
}

@test "a bias that is missing, or of a type that is not read, is not left out in silence" {
    weights text_encoder encoder.layers.1.mlp.fc1.bias 'keep = False'
    fails "tensor encoder.layers.1.mlp.fc1.bias is missing" -- sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    weights text_encoder encoder.layers.1.mlp.fc1.bias 't = "F8_E4M3"; b = b[:s[0]]'
    fails "tensor encoder.layers.1.mlp.fc1.bias is of type F8_E4M3" -- \
        sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    weights vae decoder.up_blocks.1.resnets.1.conv1.bias 'keep = False'
    fails "tensor decoder.up_blocks.1.resnets.1.conv1.bias is missing" -- \
        sd-decode -m model --any-model -o out "$DIR/lat.mpk.zst"
    [ ! -e out ]
}

@test "a picture of a hostile shape takes no more memory than its pixels" {
    { echo '{"stream":"images","version":1}'
      jq -nc '{id: "line", image: {type: "u8", shape: [1, 100000, 3], values: [range(300000) | 7]}}'
    } | "$TESTS/write_stream.py" >line.mpk
    (ulimit -v 400000 && sd-encode-image -@1 line.mpk -o out.mpk.zst)
    tstream check out.mpk.zst
}

# A scan of a progressive JPEG takes a few bytes, and goes over every pixel.
@test "a JPEG of a thousand scans is refused, one of as many as encoders make is read" {
    scans() {       # NUMBER FILE: 8 x 8 pixels, grey; scans of one bit of one coefficient each
        python3 - "$@" <<'END'
import struct, sys
def part(kind, data): return bytes([0xff, kind]) + struct.pack(">H", len(data) + 2) + data
codes = bytes([1] + [0]*15) + b"\0"             # one code, of one bit: the difference 0, or the end of the block
places = [(k, bit) for k in range(1, 64) for bit in range(13, -1, -1)]
with open(sys.argv[2], "wb") as f:
    f.write(b"\xff\xd8" + part(0xdb, b"\0" + bytes([1]*64)) + part(0xc2, struct.pack(">BHHB3B", 8, 8, 8, 1, 1, 0x11, 0))
            + part(0xc4, b"\0" + codes) + part(0xc4, b"\x10" + codes) + part(0xda, b"\1\1\0\0\0\0") + b"\x7f")
    for k, bit in places[:int(sys.argv[1])]:
        before = 0 if bit == 13 else bit + 1
        f.write(part(0xda, bytes([1, 1, 0, k, k, before << 4 | bit])) + b"\x7f")
    f.write(b"\xff\xd9")
END
    }
    scans 60 few.jpg
    sd-sheet few.jpg -o few.png
    scans 800 many.jpg
    fails "many.jpg: a progressive JPEG of over 100 scans" -- sd-sheet many.jpg -o never.png
    [ ! -e never.png ]
}

# libpng takes what a chunk says of its length, with a warning, if it is let.
@test "a PNG whose text says that it has 2 GB takes no more memory than another" {
    python3 - <<'END'
import resource, struct, subprocess, zlib
head = struct.pack(">I4s2I5B", 13, b"IHDR", 5, 4, 8, 2, 0, 0, 0)
for length in 100, 0x7fffffff:
    with open("text.png", "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + head + struct.pack(">2I", zlib.crc32(head[4:]), length) + b"tEXta")
    said = subprocess.run(["sd-sheet", "-o", "sheet.png", "text.png"], stderr=subprocess.PIPE).stderr
    assert b"text.png: the file ends in the middle" in said, said
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert most < 50000, f"{most} KB"
END
}

@test "values of configurations that would wrap around, or be passed over" {
    configure() {       # FILE FILTER
        rm -rf model
        cp -R "$MODEL" model
        jq "$2" "$MODEL/$1" >"model/$1"
    }
    configure scheduler/scheduler_config.json '.num_train_timesteps = 4294967297'
    fails "scheduler_config.json: \"num_train_timesteps\" is 4294967297" -- \
        sd-sample-hooked -q -m model --steps 2 -o out "$DIR/cond.mpk.zst"
    configure text_encoder/config.json '.hidden_act = 7'
    fails "text_encoder/config.json: \"hidden_act\" is an integer" -- \
        sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    configure text_encoder/config.json '.layer_norm_eps = -1'
    fails "text_encoder/config.json: \"layer_norm_eps\" is -1" -- sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    configure tokenizer/tokenizer_config.json '.model_max_length = "77"'
    fails "tokenizer_config.json: \"model_max_length\" is a string" -- \
        sd-encode-text -m model -o out "$DIR/prompts.jsonl"
    [ ! -e out ]
}

@test "a name longer than a message does not hide what is wrong" {
    name=$(printf 'x%.0s' {1..5000}) toy=$TESTS/golden-more/embeddings/toy.safetensors
    fails "sd-encode-text: xxx" "xxx ... xxx" "xxx: File name too long" -- sd-encode-text -o no.mpk.zst "$name"
    fails "--embedding xxx" "expected 1 to 255 that are no space; NAME=FILE gives another word" -- \
        sd-encode-text -o no.mpk.zst --embedding "$name=$toy" "$DIR/prompts.jsonl"
}
