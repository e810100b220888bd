#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd-convert.bats -- checkpoints of one file and LoRA files: every tensor as diffusers loads it, and what is refused.
# tests/golden-more/convert/make.py made the files.

bats_require_minimum_version 1.5.0
load says
load conversion

setup_file() {
    export DATA=$BATS_FILE_TMPDIR MORE=$SDSTEER_TESTS/golden-more/convert MINISD=$SDSTEER_TESTS/../data/minisd/model
    export EXPECTED=$MORE/expected
    cd "$DATA" || return 1
    for file in 1.safetensors 1.ckpt 2.safetensors; do zstd -q -d "$MORE/$file.zst" -o $file; done
    for kind in 1 2; do
        cp -r "$MORE/$kind" "base$kind"
        cp -r "$MINISD/tokenizer" "$MINISD/scheduler" "base$kind"
    done
    sd-convert -q -m base1 --checkpoint 1.safetensors -o model1
}

setup() { cd "$DATA" || return 1; }

teardown() { rm -rf "$DATA"/out* "$DATA"/bad*; }

unet=model.diffusion_model.
text=cond_stage_model.transformer.text_model.

@test "Stable Diffusion 1 and 2: every tensor is the one that diffusers loads" {
    sd-convert -m base1 --checkpoint 1.safetensors -o out1
    is 1 out1
    sd-convert -m base2 --checkpoint 2.safetensors -o out2
    is 2 out2
}

@test "a trainer's .ckpt, whatever its name, is the same" {
    cp 1.ckpt bad.safetensors
    run sd-convert -m base1 --checkpoint bad.safetensors -o out
    [ "$status" = 0 ]
    [ -z "$output" ]
    is 1 out
}

@test "the folder is whole: what is copied, what is left out, what is written where" {
    cp -r base1 bad
    mkdir bad/safety_checker bad/feature_extractor
    echo '{"size": 8}' >bad/feature_extractor/preprocessor_config.json
    touch bad/safety_checker/model.safetensors bad/tokenizer/old.bin
    jq '.safety_checker = ["stable_diffusion", "StableDiffusionSafetyChecker"] | .requires_safety_checker = true |
        .feature_extractor = ["transformers", "CLIPImageProcessor"]' base1/model_index.json >bad/model_index.json
    run sd-convert -v --progress off -m bad --checkpoint 1.safetensors -o out
    [ "$status" = 0 ]
    [[ $output == *"left out: safety_checker"* ]]
    cmp <(jq -S . out/model_index.json) <(jq -S '.safety_checker = [null, null] | .requires_safety_checker = false' \
        bad/model_index.json)
    diff <(cd out && find . -type f | sort) - <<END
./feature_extractor/preprocessor_config.json
./model_index.json
./scheduler/scheduler_config.json
./text_encoder/config.json
./text_encoder/model.safetensors
./tokenizer/merges.txt
./tokenizer/special_tokens_map.json
./tokenizer/tokenizer_config.json
./tokenizer/vocab.json
./unet/config.json
./unet/diffusion_pytorch_model.safetensors
./vae/config.json
./vae/diffusion_pytorch_model.safetensors
END
    cmp out/unet/config.json base1/unet/config.json
}

@test "who made it stands in the files" {
    edit model1/unet/diffusion_pytorch_model.safetensors bad \
        'print(m["format"], m["program"], m["version"], m["arguments"])' >bad.txt
    [ "$(cat bad.txt)" = "pt sd-convert $(sd-convert --version | cut -d' ' -f3) $(printf %s \
        '["--model=base1","--checkpoint=1.safetensors","--dtype=keep"]')" ]
}

@test "the model opens and draws, and a second conversion changes nothing" {
    sd-convert -m model1 -o out
    is 1 out
    echo 'a cat' | sd-encode-text -m out |
        sd-sample-hooked -q -m out --steps 2 --no-activations --latents - | tstream check -
    sd-convert -m model1 --dtype f32 -o out-f32
    sd-convert -m out-f32 --dtype f16 -o out-f16
    is 1 out-f16
}

@test "an empty folder that is there is filled" {
    mkdir out
    sd-convert -m model1 -o out/
    is 1 out
}

@test "LoRA: kohya's names, PEFT's, diffusers' first, in f32 and f16; a strength" {
    for file in kohya=0.75 peft first=-1; do
        for type in f32 f16; do
            sd-convert -m model1 --lora "$MORE/${file/=/.safetensors=}$([[ $file == *=* ]] || echo .safetensors)" \
                --dtype $type -o "out-$file-$type"
            is "${file%=*}.$type" "out-$file-$type"
        done
    done
}

@test "LoRA: one and its opposite are none; the order of files changes nothing; on a checkpoint as on its folder" {
    kohya=$MORE/kohya.safetensors peft=$MORE/peft.safetensors
    sd-convert -m model1 --lora "$kohya=0.5" --lora "$kohya=-0.5" -o out
    is 1 out
    sd-convert -m model1 --lora "$kohya" --lora "$peft=2" -o out1
    sd-convert -m model1 --lora "$peft=2" --lora "$kohya" -o out2
    OMP_NUM_THREADS=1 sd-convert -m base1 --checkpoint 1.ckpt --lora "$peft=2" --lora "$kohya=1" -o out3
    for other in out2 out3; do
        diff <("$SDSTEER_TESTS/tensors.py" -v out1) <("$SDSTEER_TESTS/tensors.py" -v $other)
    done
}

@test "LoRA of PEFT with use_rslora: alpha by the root of the rank" {
    # of rank 2: 3 by 2 is 3 by the root of 2 twice
    edit "$MORE/peft.safetensors" bad.safetensors '
told = json.loads(m["lora_adapter_metadata"])
for part in "unet", "text_encoder":
    assert told[part + ".r"] == 2 and told[part + ".lora_alpha"] == 3
    told.update({part + ".use_rslora": True, part + ".lora_alpha": 3/2**0.5})
m["lora_adapter_metadata"] = json.dumps(told)'
    sd-convert -m model1 --lora bad.safetensors --dtype f16 -o out
    is peft.f16 out
}

@test "LoRA: LDM's names of the UNet's layers are as good" {
    edit "$MORE/kohya.safetensors" bad.safetensors '
names = {"down_blocks_0_attentions_0": "input_blocks_1_1", "down_blocks_0_downsamplers_0_conv": "input_blocks_2_0_op",
         "mid_block_resnets_1_conv1": "middle_block_2_in_layers_2", "up_blocks_1_attentions_1": "output_blocks_3_1",
         "up_blocks_0_upsamplers_0_conv": "output_blocks_1_1_conv"}
was = list(t)
for old, new in names.items():
    assert any(old in n for n in t), old
    t = {n.replace(old, new): v for n, v in t.items()}'
    sd-convert -m model1 --lora bad.safetensors=0.75 --dtype f16 -o out
    is kohya.f16 out
}

@test "LoRA on the small model: its picture of a seed is the one that diffusers draws with it" {
    sd-convert -m "$MINISD" --lora "$MORE/minisd.safetensors" --dtype f32 -o out
    for which in with without; do
        model=$([ $which = with ] && echo out || echo "$MINISD")
        jq -c '{prompt, seed}' "$MORE/minisd.json" | sd-encode-text -m "$model" |
            sd-sample-hooked -q -m "$model" --steps 4 --guidance 7.5 --no-activations --latents - |
            tstream view --tensors - | jq -c '.latent.values' >bad.$which
        jq -e --slurpfile got bad.$which --arg which $which \
            '[.[$which], $got[0]] | transpose | map(.[0] - .[1] | fabs) | max < 0.001' "$MORE/minisd.json"
    done
    jq -e -s 'transpose | map(.[0] - .[1] | fabs) | max > 0.3' bad.with bad.without
}

@test "a VAE, a UNet or a text encoder alone; what is not there comes from BASE, with a note" {
    edit 1.safetensors bad-vae 't = {n[18:]: v for n, v in t.items() if n.startswith("first_stage_model.")}'
    edit 1.safetensors bad-unet 't = {n: v for n, v in t.items() if n.startswith("model.")}'
    edit 1.safetensors bad-bare 't = {n[22:]: v for n, v in t.items() if n.startswith("model.")}'
    edit 1.safetensors bad-text 't = {n[29:]: v for n, v in t.items() if "cond_" in n}'
    edit model1/vae/diffusion_pytorch_model.safetensors bad-named 'pass'
    sd-convert -m model1 --dtype f32 -o out-base
    for file in vae named; do
        sd-convert -m out-base --vae bad-$file -o out-$file
        [ "$(line 3 out-$file)" = "$(sed -n '3s/^1 //p' "$MORE/expected")" ]
        [ "$(line 1,2 out-$file)" = "$(line 1,2 out-base)" ]
    done
    for file in unet bare; do
        run sd-convert -m out-base --checkpoint bad-$file -o out-$file
        [ "$status" = 0 ]
        [[ $output == *"bad-$file: no vae; it is taken from out-base"*"no text_encoder"* ]]
        [ "$(line 2 out-$file)" = "$(sed -n '2s/^1 //p' "$MORE/expected")" ]
    done
    sd-convert -q -m out-base --checkpoint bad-text -o out-text
    [ "$(line 1 out-text)" = "$(sed -n '1s/^1 //p' "$MORE/expected")" ]
    refused -m base1 --checkpoint bad-unet -- "base1/vae: no weights"
}

@test "running means are taken when they are asked for" {
    edit 1.safetensors bad 'for n in [n for n in t if n.startswith("model.")]:
    t["model_ema." + n[6:].replace(".", "")] = t[n]
    t[n] = [t[n][0], t[n][1], bytes(len(t[n][2]))]'
    sd-convert -m base1 --checkpoint bad --ema -o out
    is 1 out
    run sd-convert -m base1 --checkpoint bad -o out2
    [ "$status" = 0 ]
    [[ $output == "sd-convert: bad: running means of 208 tensors are not taken (--ema takes them)" ]]
    refused -m base1 --checkpoint 1.safetensors --ema -- "1.safetensors: holds no running means"
    run sd-convert -m model1 --ema -o out3
    [ "$status" = 2 ]
}

@test "tensors of no part are counted, and named with -v" {
    edit 1.safetensors bad 't["control_model.a"] = t["first_stage_model.extra"] = ["F32", [1], bytes(4)]
del t["first_stage_model.extra"]; t["global"] = t["control_model.a"]'
    run sd-convert -m base1 --checkpoint bad -o out
    [ "$status" = 0 ]
    [ "$output" = "sd-convert: bad: 2 tensors are of no part of the model (-v names them)" ]
    run sd-convert -v --progress off -m base1 --checkpoint bad -o out2
    [[ $output == *"control_model.a"*"global"* ]]
}

@test "refused: a tensor missing, of another shape or type, in no layer, or with NaN" {
    edit 1.safetensors bad "del t['${unet}output_blocks.1.1.conv.bias']"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}output_blocks.1.1.conv.bias is missing, expected (8)"
    edit 1.safetensors bad "t['${text}final_layer_norm.weight'][1:] = [[2], bytes(4)]"
    refused -m base1 --checkpoint bad -- "bad: tensor ${text}final_layer_norm.weight is f16 (2), expected" "(4)"
    edit 1.safetensors bad "v = t['${unet}out.2.bias']; v[0], v[2] = 'F8_E8M0', bytes(4)"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.bias is of type F8_E8M0"
    edit 1.safetensors bad "t['${unet}label_emb.0.0.bias'] = ['F16', [2], bytes(4)]"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}label_emb.0.0.bias is in no layer of base1/unet/config"
    edit 1.safetensors bad "t['${unet}out.2.bias'][2] = bytes([0, 60, 0, 124, 0, 0, 0, 0])"
    refused -m base1 --checkpoint bad -- "bad: tensor ${unet}out.2.bias has inf at value 1"
}

@test "a base that cannot be opened is named, and not the folder that goes" {
    cp -r base1 bad
    jq '.norm_num_groups = 3' base1/vae/config.json >bad/vae/config.json
    refused -m bad --checkpoint 1.safetensors -- "sd-convert: bad/vae/config.json: \"norm_num_groups\" is 3"
}

@test "an empty name is misuse" {
    for arguments in "-m=" "--lora=" "--lora==0.5" "--vae=" "--checkpoint="; do
        run sd-convert -m model1 "${arguments/#-m=/--model=}" -o no
        says 2 "the name is empty"
    done
}

@test "refused: a checkpoint of another model, of SDXL, of nothing, a value that f16 does not hold" {
    refused -m "$MINISD" --checkpoint 1.safetensors -- "tensor ${unet}" "unet/config.json: a checkpoint of another"
    edit 1.safetensors bad 't = {n.replace("cond_stage_model.", "conditioner.embedders.0."): v for n, v in t.items()}'
    refused -m base1 --checkpoint bad -- "bad: tensor conditioner.embedders.0." SDXL
    refused -m base1 --checkpoint "$MORE/kohya.safetensors" -- "none of its" "unet, vae, text_encoder"
    edit model1/unet/diffusion_pytorch_model.safetensors bad 'import array
for n in t: t[n] = ["F32", t[n][1], array.array("f", [1e5]*(len(t[n][2])//2)).tobytes()]'
    refused -m model1 --checkpoint bad --dtype f16 -- "bad: tensor " "a value that f16 does not hold"
}

@test "refused: files that are cut, legacy, or would run code; one that is not there" {
    head -c 30000 1.safetensors >bad
    refused -m base1 --checkpoint bad -- "bad: "
    head -c 100 1.safetensors >bad
    refused -m base1 --checkpoint bad -- "bad: the header should be" "it was cut"
    head -c 60000 1.ckpt >bad
    refused -m base1 --checkpoint bad -- "bad: has no end of a zip"
    torch=$SDSTEER_TESTS/golden-more/torch
    refused -m base1 --checkpoint "$torch/legacy.pth" -- "legacy.pth: is no zip: files of torch before"
    refused -m base1 --checkpoint "$torch/evil.pth" -- "data.pkl: byte" "names posix.system"
    refused -m model1 --lora "$torch/evil.pth" -- "names posix.system"
    refused -m base1 --checkpoint none -- "none: No such file"
    refused -m none -- "none: no such folder"
    : >bad
    refused -m base1 --checkpoint bad -- "bad: "
}

@test "refused: a base that is no such model" {
    cp -r model1 bad
    jq '.text_encoder_2 = ["transformers", "CLIPTextModelWithProjection"]' model1/model_index.json >bad/model_index.json
    refused -m bad -- 'bad/model_index.json: "text_encoder_2"'
    cp model1/model_index.json bad
    rm -r bad/scheduler
    refused -m bad -- "bad/scheduler: No such file"
    cp -r model1/scheduler bad
    jq '.in_channels = 9' model1/unet/config.json >bad/unet/config.json
    refused -m bad -- 'bad/unet/config.json: "in_channels" is 9'
    jq '.cross_attention_dim = 6' model1/unet/config.json >bad/unet/config.json
    refused -m bad -- "bad/unet/diffusion_pytorch_model.safetensors: tensor down_blocks.0.attentions.0" \
        "attn2.to_k.weight is f16 (4, 4)" "(4, 6)"
    cp model1/unet/config.json bad/unet
    echo '{' >bad/tokenizer/vocab.json
    refused -m bad -- "tokenizer/vocab.json"
}

@test "refused: LoRA of other kinds, by their names" {
    n=lora_unet_mid_block_attentions_0_proj_in
    for kind in "$n.dora_scale DoRA" "$n.hada_w1_a LoHa" "$n.lokr_w1 LoKr" "$n.lora_mid.weight lora_mid" \
        "$n.oft_blocks OFT" "$n.diff difference" "unet.mid_block.attentions.0.proj_in.lora_B.bias bias" \
        "unet.mid_block.attentions.0.proj_in.lora_magnitude_vector DoRA" "$n.weight lora_down"; do
        edit "$MORE/kohya.safetensors" bad "t['${kind% *}'] = ['F16', [4], bytes(8)]"
        refused -m model1 --lora bad -- "bad: tensor ${kind% *}: " "${kind#* }"
    done
}

@test "refused: LoRA that does not fit, in one message" {
    kohya=$MORE/kohya.safetensors n=lora_unet_mid_block_attentions_0_proj_in
    edit "$kohya" bad "t['lora_te2_x.alpha'] = ['F32', [], bytes(4)]"
    refused -m model1 --lora bad -- "bad: tensor lora_te2_x.alpha" SDXL
    edit "$kohya" bad "t['lora_unet_mid_block_attentions_0_transformer_blocks_9_ff_net_2.alpha'] = t['$n.alpha']"
    refused -m model1 --lora bad -- "transformer_blocks_9_ff_net_2.alpha: the model has no such layer"
    refused -m "$MINISD" --lora "$kohya" -- "kohya.safetensors: tensor lora_unet_" "the model has no such layer"
    edit "$kohya" bad "t['$n.lora_up.weight'][1].reverse()"
    refused -m model1 --lora bad -- "bad: tensors $n.lora_down.weight (" "$n.lora_up.weight (1, 1, " "of the model's"
    edit "$kohya" bad "del t['$n.lora_up.weight']"
    refused -m model1 --lora bad -- "bad: tensor $n.lora_down.weight has no other half"
    edit "$kohya" bad "del t['$n.lora_up.weight'], t['$n.lora_down.weight']"
    refused -m model1 --lora bad -- "bad: tensor $n.alpha has no other half"
    edit "$kohya" bad "t['$n.lora_up.weight'][2] = bytes([0, 126]*(len(t['$n.lora_up.weight'][2])//2))"
    refused -m model1 --lora bad -- "bad: tensor $n.lora_up.weight has nan at value 0"
    edit "$kohya" bad "t['$n.alpha'][2] = bytes([0, 0, 128, 127])"
    refused -m model1 --lora bad -- "bad: tensor $n.alpha is inf"
    edit "$kohya" bad "t['$n.alpha'] = ['F32', [2], bytes(8)]"
    refused -m model1 --lora bad -- "bad: tensor $n.alpha has 2 values"
    edit "$kohya" bad "t['unet.mid_block.attentions.0.proj_in.lora_A.weight'] = t['$n.lora_down.weight']"
    refused -m model1 --lora bad -- "are for the same layer"
    edit "$kohya" bad "t['$n.lora_up.weight'][0] = 'I16'"
    refused -m model1 --lora bad -- "bad: tensor $n.lora_up.weight is i16"
    edit "$kohya" bad "v = t['$n.lora_up.weight']; v[0], v[2] = 'F8_E5M2', bytes(len(v[2])//2)"
    refused -m model1 --lora bad -- "bad: tensor $n.lora_up.weight is of a type that is not read"
    edit "$kohya" bad 't = {}'
    refused -m model1 --lora bad -- "bad: holds no tensor"
    edit "$MORE/peft.safetensors" bad 'm["lora_adapter_metadata"] = "{"'
    refused -m model1 --lora bad -- "lora_adapter_metadata is no JSON"
    edit "$MORE/peft.safetensors" bad 'm["lora_adapter_metadata"] = json.dumps({"unet.use_dora": True})'
    refused -m model1 --lora bad -- '"unet.use_dora" is set'
}

@test "over the limit of a file's size, and on a full disk: a message, and no half folder" {
    run bash -c 'ulimit -f 20; exec sd-convert -m model1 -o out'
    says 1 out "File too large"
    [ -z "$(compgen -G 'out*')" ]
}

@test "refused: an output that is there" {
    mkdir out
    touch out/file
    run sd-convert -m model1 -o out
    says 1 "out: is there already"
    [ "$(ls out)" = file ]
    run sd-convert -m model1 -o 1.ckpt
    says 1 "1.ckpt: is there already"
}

@test "misuse: no base, no output, another type, an infinite strength" {
    for arguments in "-o out" "-m model1" "-m model1 -o out --dtype f64" "-m model1 -o out x" \
        "-m model1 -o out --lora kohya.safetensors=inf"; do
        # shellcheck disable=SC2086
        run sd-convert $arguments
        [ "$status" = 2 ]
        [ ! -e out ]
    done
}
