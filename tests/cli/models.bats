#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# models.bats -- folders as diffusers and transformers write them, by minisd with other configs: sizes of pictures, what
# the parts must agree in, what is refused.

bats_require_minimum_version 1.5.0
load says

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PATH="$PWD/bin:$PATH"
    minisd="$PWD/data/minisd/model"
    cd "$BATS_TEST_TMPDIR" || return
    mkdir m
    for part in "$minisd"/*/; do
        mkdir "m/$(basename "$part")"
        ln -s "$part"* "m/$(basename "$part")"
    done
}

edit() {        # file of the model, what jq makes of it
    jq "$2" "$minisd/$1" > new
    mv new "m/$1"
}

draw() { echo 'a red tower' | sd-encode-text -m m | sd-sample-hooked -q -m m --steps 1 --no-activations "$@"; }

latent() { tstream view "$1" | jq -c .latent.shape; }

@test "--height and --width are the picture's, whatever the VAE makes of a latent's cell" {
    draw --height 64 --width 128 --latents eight.mpk.zst
    [ "$(latent eight.mpk.zst)" = '[4,8,16]' ]
    edit vae/config.json '.block_out_channels = [32,64]'
    draw --height 64 --width 32 --latents two.mpk.zst
    [ "$(latent two.mpk.zst)" = '[4,32,16]' ]
    edit vae/config.json '.block_out_channels = [8,8,8,8,8]'
    run draw --height 72 --latents no.mpk.zst
    says 1 "--height 72" "steps of 16 pixels"
    run -2 draw --height 65 --latents no.mpk.zst
}

@test "sample_size is a side, or height and width" {
    edit unet/config.json '.sample_size = [8,12]'
    draw --latents two.mpk.zst --images out
    [ "$(latent two.mpk.zst)" = '[4,8,12]' ]
    edit unet/config.json '.sample_size = [8,12,16]'
    run draw --latents no.mpk.zst
    says 1 sample_size "3 values"
}

@test "a VAE of other latents than the UNet's is refused, not drawn with" {
    edit vae/config.json '.block_out_channels = [8,16] | .layers_per_block = 2 |
        .norm_num_groups = 4 | .down_block_types = ["DownEncoderBlock2D","DownEncoderBlock2D"] |
        .up_block_types = ["UpDecoderBlock2D","UpDecoderBlock2D"] | .latent_channels = 6 | .use_post_quant_conv = false'
    ln -sf "$BATS_TEST_DIRNAME"/../golden/variants/names/vae/*.safetensors m/vae/
    run draw --images out
    says 1 vae/config.json '"latent_channels" is 6, the latents drawn have 4'
    [ ! -e out ]
}

@test "a scheduler's config with -Infinity in it, as Python writes it" {
    edit scheduler/scheduler_config.json '._class_name = "DPMSolverMultistepScheduler"'
    sed -i '2i "lambda_min_clipped": -Infinity,' m/scheduler/scheduler_config.json
    draw --latents a.mpk.zst
    sd-encode-text -q <<< 'a red tower' | sd-sample-hooked -q --steps 1 --no-activations --latents b.mpk.zst
    cmp <(tstream view --tensors a.mpk.zst) <(tstream view --tensors b.mpk.zst)
}

@test "a text encoder that is no CLIPTextModel, or wants its padding masked, is refused" {
    edit text_encoder/config.json '.use_attention_mask = true'
    run sd-encode-text -m m -o no.mpk.zst <<< 'a red tower'
    says 1 text_encoder/config.json use_attention_mask
    edit text_encoder/config.json '.model_type = "xlm-roberta"'
    run sd-encode-text -m m -o no.mpk.zst <<< 'a red tower'
    says 1 text_encoder/config.json '"model_type" is "xlm-roberta"'
    [ ! -e no.mpk.zst ]
}

@test "a whole CLIPModel as text encoder is its text tower" {
    rm m/text_encoder/*
    ln -s "$minisd"/clip/* m/text_encoder
    sd-encode-text -m m -o c.mpk.zst <<< 'a red tower'
    width=$(jq .text_config.hidden_size "$minisd/clip/config.json")
    [ "$(tstream view c.mpk.zst | jq -c .state.shape)" = "[77,$width]" ]
}

@test "CLIP alone is enough for pictures, with what its preprocessor_config.json says" {
    mkdir alone
    cp -r m/clip alone
    draw --height 128 --images out
    embed() { sd-encode-image -m alone out | tstream view --tensors | jq -c .embedding; }
    embed > openai
    sd-encode-image -m m out | tstream view --tensors | jq -c .embedding | cmp - openai
    echo '{"size": 128, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}' \
        > alone/clip/preprocessor_config.json
    embed > half
    run -1 cmp openai half
    echo '{"size": 224}' > alone/clip/preprocessor_config.json
    run sd-encode-image -m alone -o no.mpk.zst out
    says 1 clip/preprocessor_config.json '"size"' 128
}

@test "a schedule that is none, or that another sampler draws by, is refused" {
    edit scheduler/scheduler_config.json '.beta_end = 5'
    run draw --latents no.mpk.zst
    says 1 scheduler_config.json "beta of timestep" "less than 1"
    edit scheduler/scheduler_config.json '.use_karras_sigmas = true'
    for sampler in dpm++2m unipc; do
        run draw --sampler $sampler --latents no.mpk.zst
        says 1 use_karras_sigmas "--sampler $sampler-karras draws by it"
        draw --sampler $sampler-karras --latents karras.mpk.zst
    done
    edit scheduler/scheduler_config.json '.lambda_min_clipped = -5.1'
    run draw --sampler dpm++2m --latents no.mpk.zst
    says 1 '"lambda_min_clipped" is -5.1'
}

@test "sizes that no model has are refused before memory is taken" {
    cp "$minisd/model_index.json" m
    edit unet/config.json '.transformer_layers_per_block = 1048576'
    run bash -c 'ulimit -v 2000000; exec sd-convert -m m -o no'
    says 1 unet/config.json '"transformer_layers_per_block"' "1 to 1000"
    edit vae/config.json '.use_quant_conv = "false"'
    ln -sf "$minisd/unet/config.json" m/unet/config.json
    run draw --images no
    says 1 vae/config.json '"use_quant_conv" is a string'
}

@test "a tokenizer of no length, and ids that no vocabulary has" {
    edit tokenizer/tokenizer_config.json '.model_max_length = 77'
    sed -i 's/\("model_max_length": \)77/\11000000000000000019884624838656/' m/tokenizer/tokenizer_config.json
    echo 'a red tower' | sd-encode-text -m m | tstream view --tensors >none
    echo 'a red tower' | sd-encode-text | tstream view --tensors | jq -c .state | cmp - <(jq -c .state none)
    rm m/tokenizer/tokenizer_config.json
    jq 'del(.added_tokens_decoder)' "$minisd/tokenizer/tokenizer_config.json" >m/tokenizer/tokenizer_config.json
    echo '{"<frog>": 4294967301}' >m/tokenizer/added_tokens.json
    run bash -c 'echo a | sd-encode-text -m m -o no.mpk.zst'
    says 1 added_tokens.json "'<frog>'" "out of range"
}
