#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-convert-sd3.bats -- what sd-convert.bats shows, of Stable Diffusion 3: a transformer and T5, fp8, positions, and
# layers that checkpoints have in one. tests/golden-more/convert/write_sd3.py makes the checkpoints of
# tests/golden-more/sd3; tests/convert_sd3.sh shows that diffusers reads them so.

bats_require_minimum_version 1.5.0
load says
load conversion

setup_file() {
    export DATA=$BATS_FILE_TMPDIR MORE=$SDSTEER_TESTS/golden-more
    export EXPECTED=$DATA/expected WRITE=$MORE/convert/write_sd3.py
    cd "$DATA" || return 1
    cp -r "$MORE/sd3" base
    chmod -R u+w base
    # what checkpoints do not project is the identity
    "$SDSTEER_TESTS/edit_tensors.py" "$MORE/sd3/text_encoder/model.safetensors" base/text_encoder/model.safetensors '
t["text_projection.weight"][2] = b"".join(struct.pack("<e", r == c) for r in range(16) for c in range(16))'
    "$SDSTEER_TESTS/tensors.py" base | sed 's/^/sd3 /' >expected
    "$SDSTEER_TESTS/tensors.py" "$MORE/sd3" | sed 's/^/folder /' >>expected
    "$WRITE" "$MORE/sd3" sd3.safetensors
    cp -r base configs
    rm configs/*/*.safetensors
    for kind in medium large; do
        cp -r base base-$kind
        cp "$MORE/sd3_kinds/$kind"/transformer/* base-$kind/transformer
        "$SDSTEER_TESTS/tensors.py" base-$kind | sed "s/^/$kind /" >>expected
    done
}

setup() { cd "$DATA" || return 1; }

teardown() { rm -rf "$DATA"/out* "$DATA"/bad*; }

net=model.diffusion_model.
clip_l=text_encoders.clip_l.transformer.
clip_g=text_encoders.clip_g.transformer.
t5=text_encoders.t5xxl.transformer.

same() { diff <("$SDSTEER_TESTS/tensors.py" -v "$1") <("$SDSTEER_TESTS/tensors.py" -v "$2"); }

@test "a folder comes through: every tensor, tokenizer and config; --dtype there and back; who made it" {
    run sd-convert -m "$MORE/sd3" -o out
    [ "$status" = 0 ]
    [ -z "$output" ]
    is folder out
    diff <(cd out && find . -type f | sort) <(cd "$MORE/sd3" && find . -type f | sort)
    cmp <(jq -S . out/model_index.json) <(jq -S . "$MORE/sd3/model_index.json")
    sd-convert -m out --dtype f32 -o out-f32
    sd-convert -m out-f32 --dtype f16 -o out-f16
    is folder out-f16
    edit out-f32/text_encoder_3/model.safetensors bad \
        'print(m["program"], m["arguments"], t["shared.weight"][0])' >bad.txt
    [ "$(cat bad.txt)" = 'sd-convert ["--model=out","--dtype=f32"] F32' ]
}

@test "a folder without T5 stays without, whatever the checkpoint has" {
    cp -r base bad
    rm -r bad/text_encoder_3 bad/tokenizer_3
    jq '.text_encoder_3 = [null, null] | .tokenizer_3 = [null, null]' base/model_index.json >bad/model_index.json
    run sd-convert -m bad --checkpoint sd3.safetensors -o out
    [ "$status" = 0 ]
    [ "$output" = "sd-convert: sd3.safetensors: 21 tensors are of no part of the model (-v names them)" ]
    [ ! -e out/text_encoder_3 ]
    [ ! -e out/tokenizer_3 ]
    cmp <(jq -S . out/model_index.json) <(jq -S . bad/model_index.json)
    diff <("$SDSTEER_TESTS/tensors.py" out) <("$SDSTEER_TESTS/tensors.py" bad)
}

@test "a checkpoint with all parts: every tensor is diffusers', and the model draws" {
    run sd-convert -m configs --checkpoint sd3.safetensors -o out
    [ "$status" = 0 ]
    [ -z "$output" ]
    is sd3 out
    edit sd3.safetensors bad 't = {"state_dict." + n: v for n, v in t.items()}'
    sd-convert -m configs --checkpoint bad -o out2
    is sd3 out2
    echo 'a red tower' | sd-encode-text -q -m out --t5-tokens 24 |
        sd-sample-hooked -q -m out --steps 2 --no-activations --latents - | tstream check -
}

@test "transformers alone, of the other kinds, with a prefix and without; in diffusers' names" {
    for kind in medium large; do
        "$WRITE" "$MORE/sd3_kinds/$kind" bad-$kind
        edit bad-$kind bad-bare "t = {n.removeprefix('$net'): v for n, v in t.items()}"
        # nothing of the base's own transformer may come through
        cp -r base-$kind bad-base
        edit base-$kind/transformer/diffusion_pytorch_model.safetensors \
            bad-base/transformer/diffusion_pytorch_model.safetensors 'for v in t.values(): v[2] = bytes(len(v[2]))'
        for file in bad-$kind bad-bare base-$kind/transformer/diffusion_pytorch_model.safetensors; do
            rm -rf out
            run sd-convert -m bad-base --checkpoint $file -o out
            [ "$status" = 0 ]
            [[ $output == *"$file: no vae; it is taken from bad-base"*"no text_encoder_3"* ]]
            is $kind out
        done
        rm -rf bad-base
    done
}

@test "CLIP's and T5's files alone" {
    cp "$MORE/sd3/text_encoder/model.safetensors" bad-l
    edit bad-l bad-unprojected 'del t["text_projection.weight"]'
    edit "$MORE/sd3/text_encoder_3/model.safetensors" bad-tied 't["encoder.embed_tokens.weight"] = t["shared.weight"]'
    edit bad-tied bad-untied 'del t["shared.weight"]'
    cp "$MORE/sd3/text_encoder_2/model.safetensors" bad-g
    sd-convert -m base --dtype f32 -o out-base
    for case in l:1:folder unprojected:1:sd3 g:2:sd3 tied:3:sd3 untied:3:sd3; do
        IFS=: read -r file part want <<<"$case"
        sd-convert -q -m out-base --checkpoint bad-$file -o out-$file
        [ "$(line "$part" out-$file)" = "$(sed -n "s/^$want //p" "$EXPECTED" | sed -n "${part}p")" ]
        [ "$(line 4 out-$file)" = "$(line 4 out-base)" ]
    done
}

@test "what CLIP's first encoder pools is not projected, whatever a checkpoint has there" {
    for change in "del t['${clip_l}text_projection.weight']" "t['${clip_l}text_projection.weight'][2] = bytes(512)"; do
        rm -rf out
        edit sd3.safetensors bad "$change"
        sd-convert -m configs --checkpoint bad -o out
        is sd3 out
    done
    sd-convert -m configs --checkpoint bad --dtype f32 -o out1
    sd-convert -m base --dtype f32 -o out2
    same out1 out2
}

@test "fp8: each value of both types, as f16 that holds it, or f32" {
    edit sd3.safetensors bad "
for i, (n, kind) in enumerate((('${net}joint_blocks.0.x_block.attn.qkv.weight', 'F8_E4M3'),
                               ('${net}final_layer.adaLN_modulation.1.weight', 'F8_E5M2'),
                               ('${t5}shared.weight', 'F8_E4M3'))):
    v = t[n]
    v[0] = kind
    most = 127 if kind == 'F8_E4M3' else 124
    v[2] = bytes(128*(b//most % 2) + b % most for b in range(len(v[2])//2))
t = {'odd': ['F8_E5M2', [1], bytes(1)], **t}; del t['${clip_l}text_projection.weight']"
    # by their definition: 1, 4 and 3 bits, 1, 5 and 2
    edit bad bad-f32 "
def value(b, exponent, mantissa, bias):
    e, m = b >> mantissa & (1 << exponent) - 1, b & (1 << mantissa) - 1
    y = (1 + m/2**mantissa)*2.0**(e - bias) if e else m/2**mantissa*2.0**(1 - bias)
    return -y if b & 128 else y
for n, v in t.items():
    if v[0].startswith('F8'):
        kind = (4, 3, 7) if v[0] == 'F8_E4M3' else (5, 2, 15)
        v[0], v[2] = 'F32', struct.pack(f'<{len(v[2])}f', *(value(b, *kind) for b in v[2]))"
    for type in f16 f32; do
        run sd-convert -m configs --checkpoint bad --dtype $type -o out-$type
        [ "$output" = "sd-convert: bad: 1 tensors are of no part of the model (-v names them)" ]
        sd-convert -q -m configs --checkpoint bad-f32 --dtype $type -o out-want-$type
        same out-$type out-want-$type
    done
    sd-convert -q -m configs --checkpoint bad -o out-keep
    same out-keep out-f16
    edit sd3.safetensors bad "v = t['${t5}shared.weight']; v[0], v[2] = 'F8_E4M3', bytes(len(v[2])//2 - 1) + b'\x7f'"
    refused -m configs --checkpoint bad -- "bad: tensor ${t5}shared.weight has nan at value 7679"
    edit sd3.safetensors bad "v = t['${t5}shared.weight']; v[0], v[2] = 'F8_E5M2', b'\xfc' + bytes(len(v[2])//2 - 1)"
    refused -m configs --checkpoint bad -- "bad: tensor ${t5}shared.weight has -inf at value 0"
    edit sd3.safetensors bad "v = t['${t5}shared.weight']; v[0] = 'F8_E5M2'"
    refused -m configs --checkpoint bad -- "bad: tensor ${t5}shared.weight: its shape takes 7680 bytes, its data"
    for name in ${t5}scaled_fp8 ${net}joint_blocks.0.x_block.mlp.fc1.scale_weight context_embedder.weight_scale; do
        edit sd3.safetensors bad "t['$name'] = ['F32', [], bytes(4)]"
        refused -m configs --checkpoint bad -- "bad: tensor $name: of weights that are scaled"
    done
    # nothing else reads them
    cp -r base bad-base
    edit base/text_encoder_3/model.safetensors bad-base/text_encoder_3/model.safetensors \
        'v = t["shared.weight"]; v[0], v[2] = "F8_E4M3", v[2][::2]'
    refused -m bad-base -- "bad-base/text_encoder_3/model.safetensors: tensor shared.weight is of type F8_E4M3"
}

@test "GGUF: a checkpoint, one that stable-diffusion.cpp renamed, a quantised T5 in llama.cpp's names" {
    "$SDSTEER_TESTS/write_gguf.py" sd3.safetensors bad1 "t['${net}pos_embed'][1].pop(0)"
    sd-convert -m configs --checkpoint bad1 -o out1
    is sd3 out1
    "$SDSTEER_TESTS/write_gguf.py" sd3.safetensors bad2 "
t = {n.replace('text_projection.weight', 'text_model.text_projection'): v for n, v in t.items()}"
    sd-convert -m configs --checkpoint bad2 -o out2
    is sd3 out2
    edit "$MORE/sd3/text_encoder_3/model.safetensors" bad3 '
names = {"encoder.block.": "enc.blk.", "encoder.final_layer_norm": "enc.output_norm", "shared": "token_embd",
         "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b", "layer.0.SelfAttention.q": "attn_q",
         "layer.0.SelfAttention.k": "attn_k", "layer.0.SelfAttention.v": "attn_v", "layer.0.SelfAttention.o": "attn_o",
         "layer.0.layer_norm": "attn_norm", "layer.1.layer_norm": "ffn_norm", "layer.1.DenseReluDense.wi_0": "ffn_gate",
         "layer.1.DenseReluDense.wi_1": "ffn_up", "layer.1.DenseReluDense.wo": "ffn_down"}
for old, new in names.items():
    t = {n.replace(old, new): v for n, v in t.items()}'
    "$SDSTEER_TESTS/write_gguf.py" bad3 bad4
    sd-convert -q -m base --checkpoint bad4 -o out4
    is sd3 out4
    values='
n = "enc.blk.1.ffn_down.weight"
q = [(7*i) % 255 - 127 for i in range(48*64)]'
    "$SDSTEER_TESTS/write_gguf.py" bad3 bad5 "$values
t[n] = [8, [48, 64], b''.join(struct.pack('<e32b', 0.125, *q[i:i + 32]) for i in range(0, len(q), 32))]"
    edit bad3 bad6 "$values
t[n][2] = struct.pack('<3072e', *(x/8 for x in q))"
    run sd-convert -m base --checkpoint bad5 -o out5
    [[ $output == *"bad5: 1 tensors are quantised: they are written as f16"* ]]
    sd-convert -q -m base --checkpoint bad6 -o out6
    same out5 out6
}

@test "refused: a tensor missing, of another shape, in no layer, or with NaN, of each part" {
    while read -r name shape; do
        edit sd3.safetensors bad "del t['$name']"
        refused -m configs --checkpoint bad -- "bad: tensor $name is missing, expected ($shape)"
        edit sd3.safetensors bad "v = t['$name']; v[1], v[2] = [1, *v[1]], v[2]"
        refused -m configs --checkpoint bad -- "bad: tensor $name is f16 (1, $shape), expected" "($shape)"
        edit sd3.safetensors bad "v = t['$name']; v[2] = v[2][:-2] + bytes([0, 126])"
        refused -m configs --checkpoint bad -- "bad: tensor $name has nan at value"
    done <<END
${net}pos_embed 1, 144, 16
${net}joint_blocks.1.x_block.attn2.qkv.weight 48, 16
${net}joint_blocks.2.context_block.attn.qkv.bias 48
${net}joint_blocks.2.context_block.adaLN_modulation.1.weight 32, 16
${net}joint_blocks.0.context_block.attn.ln_k.weight 8
${net}final_layer.adaLN_modulation.1.bias 32
first_stage_model.decoder.conv_in.bias 8
${clip_l}text_model.final_layer_norm.bias 16
${clip_g}text_projection.weight 20, 24
${t5}encoder.block.1.layer.1.DenseReluDense.wi_1.weight 64, 48
END
    for name in ${net}joint_blocks.3.x_block.attn.qkv.weight ${net}joint_blocks.2.x_block.attn2.qkv.weight \
        ${net}joint_blocks.2.context_block.attn.proj.bias ${clip_g}text_model.encoder.layers.3.mlp.fc1.bias \
        ${t5}encoder.block.2.layer.0.layer_norm.weight first_stage_model.quant_conv.weight; do
        edit sd3.safetensors bad "t['$name'] = ['F16', [8], bytes(16)]"
        refused -m configs --checkpoint bad -- "bad: tensor $name is in no layer of configs/"
    done
    "$WRITE" "$MORE/sd3_kinds/medium" bad
    refused -m base --checkpoint bad -- "bad: tensor ${net}joint_blocks.0.x_block.adaLN_modulation.1.weight" "(144, 16)"
    "$WRITE" "$MORE/sd3" bad transformer
    refused -m base-medium --checkpoint bad -- "bad: tensor ${net}joint_blocks."
    head -c 100000 sd3.safetensors >bad
    refused -m configs --checkpoint bad -- "bad: "
}

@test "refused by name: other architectures, both ways; running means" {
    for file in 1 2; do zstd -q -d "$MORE/convert/$file.safetensors.zst" -o bad$file; done
    zstd -q -d "$MORE/convert/xl.safetensors.zst" -o badxl
    edit bad1 bad-unet "t = {n[22:]: v for n, v in t.items() if n.startswith('model.')}"
    refused -m base --checkpoint bad1 -- "bad1: tensor ${net}input_blocks." "a checkpoint of a model with a UNet" \
        "expected one of Stable Diffusion 3, as base/transformer is of"
    refused -m base --checkpoint badxl -- "badxl: tensor ${net}input_blocks." "expected one of Stable Diffusion 3"
    refused -m base --checkpoint bad-unet -- "bad-unet: tensor input_blocks." "expected one of Stable Diffusion 3"
    edit badxl bad 't = {n: v for n, v in t.items() if "embedders.1" in n}'
    refused -m base --checkpoint bad -- "bad: tensor conditioner.embedders.1." "a checkpoint of SDXL"
    edit bad2 bad 't = {n: v for n, v in t.items() if "cond_" in n}'
    refused -m base --checkpoint bad -- "bad: tensor cond_stage_model." "a checkpoint of Stable Diffusion 1.x or 2.x"
    mini=$SDSTEER_TESTS/../data/minisd/model
    for prefix in "" "$net"; do
        edit sd3.safetensors bad "t = {n.replace('$net', '$prefix'): v for n, v in t.items() if n.startswith('$net')}"
        for base in "$mini" "$MORE/sdxl"; do
            refused -m "$base" --checkpoint bad -- "bad: tensor ${prefix}joint_blocks.0." \
                "a checkpoint of Stable Diffusion 3, expected one of S" "/unet is of"
        done
        edit bad bad-flux "t = {n.replace('joint_blocks', 'double_blocks'): v for n, v in t.items()}"
        for base in "$mini" base; do
            refused -m "$base" --checkpoint bad-flux -- "bad-flux: tensor ${prefix}double_blocks.0." "FLUX"
        done
    done
    edit sd3.safetensors bad 't = {n: v for n, v in t.items() if n.startswith("text_encoders.")}'
    refused -m "$mini" --checkpoint bad -- "bad: tensor text_encoders.clip_l." "a checkpoint of Stable Diffusion 3"
    refused -m base --checkpoint sd3.safetensors --ema -- "sd3.safetensors: holds no running means"
    refused -m base --checkpoint "$MORE/sd3.safetensors" -- "none of its" "one of transformer, vae, text_encoder, "
}

# LoRA in PEFT's names for layers of each kind, and the same in ComfyUI's and kohya's, by Stability's names: written out
# here, with up's rows as the layers in one have them.
lora() {
    edit "$MORE/sd3/vae/diffusion_pytorch_model.safetensors" bad-peft '
import random
random.seed(3)
def pair(name, out, inner, rank=2):
    def half(*shape):
        n = shape[0]*shape[1]
        return ["F16", shape, struct.pack(f"<{n}e", *(random.uniform(-1, 1) for _ in range(n)))]
    t[name + ".lora_A.weight"], t[name + ".lora_B.weight"] = half(rank, inner), half(out, rank)
t.clear()
b = "transformer.transformer_blocks."
for n in ("to_q", "to_k", "to_v"):
    pair(b + "0.attn." + n, 16, 16)
    pair(b + "1.attn2." + n, 16, 16)
    t[b + "0.attn." + n + ".lora_A.weight"] = t[b + "0.attn.to_q.lora_A.weight"]
    t[b + "1.attn2." + n + ".lora_A.weight"] = t[b + "1.attn2.to_q.lora_A.weight"]
pair(b + "0.attn.to_add_out", 16, 16)
pair(b + "2.norm1_context.linear", 32, 16)
pair(b + "1.norm1.linear", 144, 16)
pair(b + "1.ff_context.net.2", 16, 64)
pair("transformer.norm_out.linear", 32, 16)
pair("transformer.context_embedder", 16, 48)
pair("text_encoder.text_model.encoder.layers.1.self_attn.q_proj", 16, 16)
pair("text_encoder_2.text_model.encoder.layers.0.mlp.fc1", 48, 24)'
    edit bad-peft bad-comfy '
def move(old, new, swap=False):
    for end in ("A", "B"):
        v = t.pop(f"transformer.{old}.lora_{end}.weight")
        if swap and end == "B":
            v[2] = v[2][len(v[2])//2:] + v[2][:len(v[2])//2]
        t[f"diffusion_model.{new}.lora_{end}.weight"] = v
def join(old, new):
    up = [t.pop(f"transformer.{old}.{x}.lora_B.weight") for x in ("to_q", "to_k", "to_v")]
    down = [t.pop(f"transformer.{old}.{x}.lora_A.weight") for x in ("to_q", "to_k", "to_v")]
    t[f"diffusion_model.{new}.lora_A.weight"] = down[0]
    t[f"diffusion_model.{new}.lora_B.weight"] = ["F16", [48, 2], b"".join(v[2] for v in up)]
join("transformer_blocks.0.attn", "joint_blocks.0.x_block.attn.qkv")
join("transformer_blocks.1.attn2", "joint_blocks.1.x_block.attn2.qkv")
move("transformer_blocks.0.attn.to_add_out", "joint_blocks.0.context_block.attn.proj")
move("transformer_blocks.2.norm1_context.linear", "joint_blocks.2.context_block.adaLN_modulation.1", True)
move("transformer_blocks.1.norm1.linear", "joint_blocks.1.x_block.adaLN_modulation.1")
move("transformer_blocks.1.ff_context.net.2", "joint_blocks.1.context_block.mlp.fc2")
move("norm_out.linear", "final_layer.adaLN_modulation.1", True)
move("context_embedder", "context_embedder")'
    edit bad-comfy bad-kohya '
ends = {".lora_A.weight": ".lora_down.weight", ".lora_B.weight": ".lora_up.weight"}
prefixes = {"diffusion_model.": "lora_unet_", "text_encoder.": "lora_te1_", "text_encoder_2.": "lora_te2_"}
new = {}
for n, v in t.items():
    end = n[-len(".lora_A.weight"):]
    prefix = next(p for p in prefixes if n.startswith(p))
    path = prefixes[prefix] + n[len(prefix):-len(end)].replace(".", "_")
    new[path + ends[end]] = v
    new[path + ".alpha"] = ["F32", [], struct.pack("<f", 2)]
t = new'
}

@test "LoRA: PEFT's names, and the same in ComfyUI's and kohya's, where layers are one and halves swapped" {
    lora
    for kind in peft comfy kohya; do
        sd-convert -m base --lora "bad-$kind=0.75" --dtype f32 -o out-$kind
        same out-$kind out-peft
    done
    sd-convert -m base --dtype f32 -o out-base
    # the sum by hand, in a layer of each kind
    edit out-peft/transformer/diffusion_pytorch_model.safetensors bad-sums "
def read(path):
    with open(path, 'rb') as f:
        h = json.loads(f.read(int.from_bytes(f.read(8), 'little')))
        d = f.read()
    return {n: [x['dtype'], x['shape'], d[slice(*x['data_offsets'])]] for n, x in h.items() if 'shape' in x}
def floats(v):
    return struct.unpack('<%d%s' % (v[1][0]*v[1][1], 'f' if v[0] == 'F32' else 'e'), v[2])
was, low = read('out-base/transformer/diffusion_pytorch_model.safetensors'), read('bad-peft')
changed = [n for n in t if t[n][2] != was[n][2]]
assert len(changed) == 12, changed
for n in changed:
    p = 'transformer.' + n[:-len('.weight')]
    a, b, w, y = (floats(v) for v in (low[p + '.lora_A.weight'], low[p + '.lora_B.weight'], was[n], t[n]))
    rows, columns = t[n][1]
    for o in range(rows):
        for j in range(columns):
            want = w[o*columns + j] + 0.75*sum(b[2*o + r]*a[r*columns + j] for r in range(2))
            assert abs(want - y[o*columns + j]) < 1e-6, (n, o, j)"
    OMP_NUM_THREADS=1 sd-convert -m configs --checkpoint sd3.safetensors --lora bad-kohya=0.75 --dtype f32 -o out-one
    same out-one out-peft
    sd-convert -m base --lora bad-kohya --lora bad-peft=-1 -o out-none
    is sd3 out-none
}

@test "refused: LoRA for other models, halves of other shapes, a layer twice; other kinds, by their names" {
    lora
    layer=lora_unet_joint_blocks_0_x_block_attn_qkv
    edit bad-kohya bad "v = t['$layer.lora_up.weight']; v[1], v[2] = [16, 2], v[2][:64]"
    refused -m base --lora bad -- "bad: tensors $layer.lora_down.weight (2, 16)" "(16, 2)"
    edit bad-comfy bad "v = t['diffusion_model.context_embedder.lora_B.weight']; v[1], v[2] = [48, 2], 3*v[2]"
    refused -m base --lora bad -- "bad: tensors diffusion_model.context_embedder.lora_A.weight" "(48, 2)"
    layer=transformer.transformer_blocks.0.attn.to_k
    edit bad-comfy bad "t['$layer.lora_A.weight'] = ['F16', [2, 16], bytes(64)]
t['$layer.lora_B.weight'] = ['F16', [16, 2], bytes(64)]"
    refused -m base --lora bad -- "bad: tensors " "x_block.attn.qkv.lora_A.weight" "$layer.lora_A.weight are for"
    edit bad-kohya bad "del t['lora_unet_joint_blocks_1_x_block_attn2_qkv.lora_up.weight']"
    refused -m base --lora bad -- "bad: tensor lora_unet_joint_blocks_1_x_block_attn2_qkv.lora_down.weight has no other"
    edit bad-peft bad "t['$layer.lora_magnitude_vector'] = ['F16', [16], bytes(32)]"
    refused -m base --lora bad -- "bad: tensor $layer.lora_magnitude_vector: of DoRA"
    for kind in peft comfy kohya; do
        refused -m "$SDSTEER_TESTS/../data/minisd/model" --lora bad-$kind -- "bad-$kind: tensor "
    done
    for file in kohya peft xl-ldm xl-peft; do
        refused -m base --lora "$MORE/convert/$file.safetensors" -- "$file.safetensors: tensor " "no such layer"
    done
}
