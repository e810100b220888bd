#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-convert-xl.bats -- what sd-convert.bats shows, of Stable Diffusion XL: two text encoders, LDM's numbers in LoRA.
# tests/golden-more/convert/make_xl.py made the files.

bats_require_minimum_version 1.5.0
load says
load conversion

setup_file() {
    export DATA=$BATS_FILE_TMPDIR MORE=$SDSTEER_TESTS/golden-more/convert
    export EXPECTED=$MORE/xl/expected
    cd "$DATA" || return 1
    for file in xl 1; do zstd -q -d "$MORE/$file.safetensors.zst" -o $file.safetensors; done
    cp -r "$MORE/xl" base
    rm base/expected
    for part in tokenizer tokenizer_2 scheduler; do cp -r "$SDSTEER_TESTS/golden-more/sdxl/$part" base; done
    cp -r "$MORE/1" base1
    cp -r "$SDSTEER_TESTS/../data/minisd/model/tokenizer" "$SDSTEER_TESTS/../data/minisd/model/scheduler" base1
    sd-convert -m base --checkpoint xl.safetensors -o model
}

setup() { cd "$DATA" || return 1; }

teardown() { rm -rf "$DATA"/out* "$DATA"/bad*; }

unet=model.diffusion_model.
second=conditioner.embedders.1.model.

@test "every tensor is the one that diffusers loads, and the folder is whole" {
    run sd-convert -m base --checkpoint xl.safetensors -o out
    [ "$status" = 0 ]
    [ -z "$output" ]
    is xl out
    cmp <(jq -S . out/model_index.json) <(jq -S . base/model_index.json)
    diff <(cd out && find . -type f | sort) - <<END
./model_index.json
./scheduler/scheduler_config.json
./text_encoder/config.json
./text_encoder/model.safetensors
./text_encoder_2/config.json
./text_encoder_2/model.safetensors
./tokenizer/merges.txt
./tokenizer/special_tokens_map.json
./tokenizer/tokenizer_config.json
./tokenizer/vocab.json
./tokenizer_2/merges.txt
./tokenizer_2/special_tokens_map.json
./tokenizer_2/tokenizer_config.json
./tokenizer_2/vocab.json
./unet/config.json
./unet/diffusion_pytorch_model.safetensors
./vae/config.json
./vae/diffusion_pytorch_model.safetensors
END
}

@test "names below state_dict, and text_projection as a linear layer has it, are as good" {
    edit xl.safetensors bad "
kind, (E, P), data = t.pop('${second}text_projection')
turned = b''.join(data[2*(i*P + o):][:2] for o in range(P) for i in range(E))
t['${second}text_projection.weight'] = [kind, [P, E], turned]
t = {'state_dict.' + n: v for n, v in t.items()}"
    sd-convert -m base --checkpoint bad -o out
    is xl out
}

@test "the model opens and draws, and a second conversion changes nothing" {
    sd-convert -m model -o out
    is xl out
    echo 'a cat' | sd-encode-text -m out |
        sd-sample-hooked -q -m out --steps 2 --no-activations --latents - | tstream check -
    sd-convert -m model --dtype f32 -o out-f32
    sd-convert -m out-f32 --dtype f16 -o out-f16
    is xl out-f16
}

@test "LoRA: kohya's names with LDM's numbers, PEFT's, in f32 and f16" {
    for type in f32 f16; do
        sd-convert -m model --lora "$MORE/xl-ldm.safetensors=0.75" --dtype $type -o out-ldm-$type
        is xl-ldm.$type out-ldm-$type
        sd-convert -m base --checkpoint xl.safetensors --lora "$MORE/xl-peft.safetensors" --dtype $type \
            -o out-peft-$type
        is xl-peft.$type out-peft-$type
    done
}

@test "LoRA: kohya's names with diffusers' blocks are as good" {
    edit "$MORE/xl-ldm.safetensors" bad.safetensors '
names = {"input_blocks_3_1": "down_blocks_1_attentions_0", "input_blocks_2_0_op": "down_blocks_0_downsamplers_0_conv",
         "middle_block_2_in_layers_2": "mid_block_resnets_1_conv1", "output_blocks_2_1": "up_blocks_1_attentions_0",
         "output_blocks_1_2_conv": "up_blocks_0_upsamplers_0_conv", "label_emb_0_2": "add_embedding_linear_2"}
for old, new in names.items():
    assert any(old in n for n in t), old
    t = {n.replace(old, new): v for n, v in t.items()}'
    sd-convert -m model --lora bad.safetensors=0.75 --dtype f16 -o out
    is xl-ldm.f16 out
}

@test "one text encoder alone: the one whose width it has" {
    sd-convert -m model --dtype f32 -o out-base
    for part in 1 2; do
        folder=text_encoder$([ $part = 1 ] || echo _2)
        cp "model/$folder/model.safetensors" bad-$part
        run sd-convert -m out-base --checkpoint bad-$part -o out-$part
        [ "$status" = 0 ]
        [[ $output == *"bad-$part: no unet; it is taken from out-base"*"no vae;"*"no text_encoder"* ]]
        [ "$(line $part out-$part)" = "$(sed -n "${part}s/^xl //p" "$EXPECTED")" ]
        [ "$(line $((3 - part)) out-$part)" = "$(line $((3 - part)) out-base)" ]
    done
}

@test "running means are taken when they are asked for" {
    edit xl.safetensors bad 'for n in [n for n in t if n.startswith("model.")]:
    t["model_ema." + n[6:].replace(".", "")] = t[n]
    t[n] = [t[n][0], t[n][1], bytes(len(t[n][2]))]'
    sd-convert -m base --checkpoint bad --ema -o out
    is xl out
    run sd-convert -m base --checkpoint bad -o out2
    [ "$output" = "sd-convert: bad: running means of 408 tensors are not taken (--ema takes them)" ]
}

@test "a checkpoint that predicts v, and says so, takes a scheduler of its kind" {
    edit xl.safetensors bad 't["v_pred"] = t["ztsnr"] = ["F32", [0], b""]'
    refused -m base --checkpoint bad -- "bad: tensor v_pred" '"prediction_type" is "v_prediction"' \
        base/scheduler/scheduler_config.json
    cp -r base bad-base
    jq '.prediction_type = "v_prediction"' base/scheduler/scheduler_config.json \
        >bad-base/scheduler/scheduler_config.json
    refused -m bad-base --checkpoint bad -- "bad: tensor ztsnr" '"rescale_betas_zero_snr" is true'
    jq '.prediction_type = "v_prediction" | .rescale_betas_zero_snr = true' base/scheduler/scheduler_config.json \
        >bad-base/scheduler/scheduler_config.json
    run sd-convert -m bad-base --checkpoint bad -o out
    [ "$status" = 0 ]
    [ -z "$output" ]
    is xl out
}

@test "refused by name: a refiner, inpainting, Playground, CosXL, a checkpoint for a base of the other kind" {
    edit xl.safetensors bad 't = {n.replace("embedders.1.model", "embedders.0.model"): v for n, v in t.items()}'
    refused -m base --checkpoint bad -- "bad: tensor conditioner.embedders.0.model." "SDXL's refiner" \
        "as base/unet is of"
    for more in "5 inpainting" "4 InstructPix2Pix"; do
        edit xl.safetensors bad "v = t['${unet}input_blocks.0.0.weight']
v[2] += bytes(2*v[1][0]*${more% *}*9); v[1][1] += ${more% *}"
        refused -m base --checkpoint bad -- "bad: tensor ${unet}input_blocks.0.0.weight reads" "expected 4" \
            "${more#* }"
    done
    for name in "edm_mean Playground" "edm_vpred.sigma_max CosXL"; do
        edit xl.safetensors bad "t['${name% *}'] = ['F32', [1], bytes(4)]"
        refused -m base --checkpoint bad -- "bad: tensor ${name% *}: a checkpoint of ${name#* }"
    done
    refused -m base --checkpoint 1.safetensors -- "1.safetensors: tensor cond_stage_model." "expected one of SDXL"
    refused -m base1 --checkpoint xl.safetensors -- "xl.safetensors: tensor conditioner.embedders." \
        "a checkpoint of SDXL"
}

@test "refused: of the second text encoder a tensor missing, of another shape, in no layer, or with NaN" {
    edit xl.safetensors bad "del t['${second}text_projection']"
    refused -m base --checkpoint bad -- "bad: tensor ${second}text_projection is missing, expected (8, 6)"
    edit xl.safetensors bad "t['${second}text_projection'][1].reverse()"
    refused -m base --checkpoint bad -- "bad: tensor ${second}text_projection is f16 (6, 8), expected" "(8, 6)"
    edit xl.safetensors bad "v = t.pop('${second}text_projection'); t['${second}text_projection.weight'] = v"
    refused -m base --checkpoint bad -- "bad: tensor ${second}text_projection.weight is f16 (8, 6), expected" "(6, 8)"
    edit xl.safetensors bad "v = t['${second}transformer.resblocks.1.attn.in_proj_bias']; v[1], v[2] = [16], v[2][:32]"
    refused -m base --checkpoint bad -- "bad: tensor ${second}transformer.resblocks.1.attn.in_proj_bias is f16 (16)" \
        "(24)"
    edit xl.safetensors bad "t['${second}transformer.resblocks.2.ln_1.bias'] = ['F16', [8], bytes(16)]"
    refused -m base --checkpoint bad -- "bad: tensor ${second}transformer.resblocks.2.ln_1.bias is in no layer" \
        "base/text_encoder_2/config.json"
    edit xl.safetensors bad "v = t['${second}text_projection']; v[2] = v[2][:-2] + bytes([0, 126])"
    refused -m base --checkpoint bad -- "bad: tensor ${second}text_projection has nan at value 47"
    edit xl.safetensors bad "del t['${unet}label_emb.0.2.bias']"
    refused -m base --checkpoint bad -- "bad: tensor ${unet}label_emb.0.2.bias is missing, expected (16)"
    head -c 100000 xl.safetensors >bad
    refused -m base --checkpoint bad -- "bad: "
}

@test "refused: a base that is no such model" {
    cp -r model bad
    rm -r bad/tokenizer_2
    refused -m bad -- "bad/tokenizer_2: No such file"
    cp -r model/tokenizer_2 bad
    rm -r bad/text_encoder_2
    refused -m bad -- "bad/text_encoder_2: no such folder"
    cp -r model/text_encoder_2 bad
    jq '._class_name = "StableDiffusionPipeline"' model/model_index.json >bad/model_index.json
    refused -m bad -- 'bad/model_index.json: "_class_name" is "StableDiffusionPipeline"'
    jq '.requires_aesthetics_score = true' model/model_index.json >bad/model_index.json
    refused -m bad -- "this is a refiner"
    cp model/model_index.json bad
    jq '.projection_dim = 5' model/text_encoder_2/config.json >bad/text_encoder_2/config.json
    refused -m bad -- "bad/text_encoder_2/model.safetensors: tensor text_projection.weight is f16 (6, 8)" "(5, 8)"
    jq '.projection_dim = 0' model/text_encoder_2/config.json >bad/text_encoder_2/config.json
    refused -m bad -- 'bad/text_encoder_2/config.json: "projection_dim" is 0, expected 1'
    jq '.projection_dim = 5' model/text_encoder_2/config.json >bad/text_encoder_2/config.json
    edit model/text_encoder_2/model.safetensors bad/text_encoder_2/model.safetensors \
        'v = t["text_projection.weight"]; v[1], v[2] = [5, 8], v[2][:80]'
    refused -m bad -- "the text encoder pools 5 values (projection_dim), the UNet takes 6"
}

@test "refused: LoRA of another model" {
    edit "$MORE/xl-ldm.safetensors" bad '
t = {n.replace("middle_block_2_", "middle_block_3_"): v for n, v in t.items()}'
    refused -m model --lora bad -- "bad: tensor lora_unet_middle_block_3_" "the model has no such layer"
    refused -m base1 --checkpoint 1.safetensors --lora "$MORE/xl-peft.safetensors" -- "xl-peft.safetensors: tensor "
    edit "$MORE/xl-ldm.safetensors" bad 't = {n: v for n, v in t.items() if "_te2_" in n}'
    refused -m base1 --checkpoint 1.safetensors --lora bad -- "bad: tensor lora_te2_" "a LoRA for SDXL"
    refused -m model --lora "$MORE/kohya.safetensors" -- "kohya.safetensors: tensor"
}
