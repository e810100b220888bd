#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-convert-gguf.bats -- checkpoints as GGUF: the same tensors as of safetensors, names that are met there alone,
# blocks. tests/golden-more/make_gguf.py made unet.gguf, and says what becomes of it.

bats_require_minimum_version 1.5.0
load says
load conversion

setup_file() {
    export DATA=$BATS_FILE_TMPDIR MORE=$SDSTEER_TESTS/golden-more/convert GGUF=$SDSTEER_TESTS/golden-more/gguf
    cd "$DATA" || return 1
    for file in 1 2 xl; do
        zstd -q -d "$MORE/$file.safetensors.zst" -o $file.safetensors
        cp -r "$MORE/$file" base$file
    done
    rm basexl/expected
    for kind in 1 2; do
        cp -r "$SDSTEER_TESTS/../data/minisd/model/tokenizer" "$SDSTEER_TESTS/../data/minisd/model/scheduler" base$kind
    done
    for part in tokenizer tokenizer_2 scheduler; do cp -r "$SDSTEER_TESTS/golden-more/sdxl/$part" basexl; done
    sd-convert -q -m base1 --checkpoint 1.safetensors -o model1
    write 1.safetensors 1.gguf
}

setup() { cd "$DATA" || return 1; }

teardown() { rm -rf "$DATA"/out* "$DATA"/bad*; }

write() { "$SDSTEER_TESTS/write_gguf.py" "$@"; }

unet=model.diffusion_model.
# What stable-diffusion.cpp calls OpenCLIP's tensors, below a prefix.
rename='
import re
def rename(t, before, after):
    out = {}
    for n, v in t.items():
        if n.startswith(before):
            n = n[len(before):]
            for a, b in (("ln_final", "final_layer_norm"), ("token_embedding", "embeddings.token_embedding"),
                         ("positional_embedding", "embeddings.position_embedding.weight"),
                         ("transformer.resblocks", "encoder.layers"),
                         (r"attn\.in_proj_", "self_attn.in_proj."), (r"attn\.out", "self_attn.out"),
                         ("ln_([12])", r"layer_norm\1"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                n = re.sub(a, b, n)
            n = after + n
        out[n] = v
    return out
'

@test "every tensor is that of the same file as safetensors, whatever its name" {
    run sd-convert -m base1 --checkpoint 1.gguf -o out1
    [ "$status" = 0 ]
    [ -z "$output" ]
    EXPECTED=$MORE/expected is 1 out1
    write 2.safetensors bad.safetensors
    sd-convert -m base2 --checkpoint bad.safetensors -o out2
    EXPECTED=$MORE/expected is 2 out2
    write xl.safetensors bad
    sd-convert -m basexl --checkpoint bad -o out3
    EXPECTED=$MORE/xl/expected is xl out3
}

@test "text encoders by stable-diffusion.cpp's names" {
    write 2.safetensors bad2 "$rename"'
t = rename(t, "cond_stage_model.model.", "cond_stage_model.transformer.text_model.")'
    run sd-convert -m base2 --checkpoint bad2 -o out2
    [ "$status" = 0 ]
    [ -z "$output" ]
    EXPECTED=$MORE/expected is 2 out2
    write xl.safetensors badxl "$rename"'
t = rename(t, "conditioner.embedders.1.model.", "cond_stage_model.1.transformer.text_model.")
t = {n.replace("conditioner.embedders.0.", "cond_stage_model."): v for n, v in t.items()}'
    run sd-convert -m basexl --checkpoint badxl -o outxl
    [ "$status" = 0 ]
    [ -z "$output" ]
    EXPECTED=$MORE/xl/expected is xl outxl
    refused -m base1 --checkpoint badxl -- "tensor cond_stage_model.1." "a checkpoint of SDXL, expected one of Stable"
    refused -m basexl --checkpoint bad2 -- "tensor cond_stage_model.tr" "of Stable Diffusion 1.x or 2.x, expected"
}

@test "quantised, in rows with their shapes beside: ggml's values, as f16 with a note, or as f32" {
    n=$(grep -ao comfy.gguf.orig_shape "$GGUF/unet.gguf" | wc -l)
    run sd-convert -m model1 --checkpoint "$GGUF/unet.gguf" -o out1
    [ "$status" = 0 ]
    [[ $output == *"unet.gguf: no vae; it is taken from model1"*"unet.gguf: $n tensors are quantised: they are "* ]]
    EXPECTED=$GGUF/expected is keep out1
    run sd-convert -m model1 --checkpoint "$GGUF/unet.gguf" --dtype f32 -o out2
    [ "$status" = 0 ]
    [[ $output != *quantised* ]]
    EXPECTED=$GGUF/expected is f32 out2
}

@test "q, k and v are thirds of the blocks of OpenCLIP's in_proj" {
    values='
n = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"
q = [(7*i) % 255 - 127 for i in range(24*8)]'
    write xl.safetensors bad.gguf "$values
t[n] = [8, [6, 32], b''.join(struct.pack('<e32b', 0.125, *q[i:i + 32]) for i in range(0, len(q), 32))]
m['comfy.gguf.orig_shape.' + n] = 9, struct.pack('<IQ2i', 5, 2, 24, 8)"
    edit xl.safetensors bad.plain "$values
t[n][2] = struct.pack('<192e', *(x/8 for x in q))"
    sd-convert -q -m basexl --checkpoint bad.gguf -o out1
    sd-convert -q -m basexl --checkpoint bad.plain -o out2
    diff <("$SDSTEER_TESTS/tensors.py" -v out1) <("$SDSTEER_TESTS/tensors.py" -v out2)
}

@test "LoRA is added to a quantised tensor's values" {
    sd-convert -q -m model1 --checkpoint "$GGUF/unet.gguf" --dtype f32 -o out
    sd-convert -q -m out --lora "$MORE/kohya.safetensors" --dtype f16 -o out1
    sd-convert -q -m model1 --checkpoint "$GGUF/unet.gguf" --lora "$MORE/kohya.safetensors" --dtype f16 -o out2
    diff <(line 2 out1) <(line 2 out2)
}

@test "refused: a tensor missing, of another shape, no float, or of blocks that are not read; NaN in a block" {
    write 1.safetensors bad "del t['${unet}out.2.bias']"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.bias is missing, expected (4)"
    write 1.safetensors bad "t['${unet}out.2.weight'] = [8, [4, 4, 1, 32], bytes(34*16)]"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.weight is q8_0 (4, 4, 1, 32), expected f32, f16"
    write 1.safetensors bad "t['${unet}out.2.bias'] = [27, [4], bytes(32)]"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.bias is i64 (4), expected"
    write 1.safetensors bad "t['${unet}out.2.weight'][0] = 17"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.weight is of type iq2_xs, expected plain values"
    write 1.safetensors bad "name = '${unet}output_blocks.0.0.in_layers.2.weight'
shape = t[name][1]
count = shape[0]*shape[1]*9
t[name] = [8, [count//32, 32], bytes(34*(count//32) - 34) + bytes([0, 126, 0]) + bytes([1]*31)]
m['comfy.gguf.orig_shape.' + name] = 9, struct.pack('<IQ4i', 5, 4, *shape)"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}output_blocks.0.0.in_layers.2.weight has nan at value"
}

@test "refused: files that are cut or claim too much; LoRA as GGUF" {
    head -c 40000 1.gguf >bad
    refused -m base1 --checkpoint bad -- "bad: tensor " "it was cut, or is damaged"
    head -c 12000 1.gguf >bad
    refused -m base1 --checkpoint bad -- "bad: " "the file ends after 12000: it was cut"
    { head -c 8 1.gguf; printf '\377\377\377\377\377\377\377\377'; tail -c +17 1.gguf; } >bad
    refused -m base1 --checkpoint bad -- "bad: claims 18446744073709551615 tensors"
    { printf 'GGUF\1'; tail -c +6 1.gguf; } >bad
    refused -m base1 --checkpoint bad -- "bad: is GGUF of version 1, expected 2 or 3"
    { printf 'GGML'; tail -c +5 1.gguf; } >bad
    refused -m base1 --checkpoint bad -- "bad: " "is this a safetensors file?"
    refused -m model1 --lora 1.gguf -- "1.gguf: is a GGUF file, expected safetensors or a file of torch.save"
}
