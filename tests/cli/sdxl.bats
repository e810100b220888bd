#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sdxl.bats -- Stable Diffusion XL through all programs, by the tiny model of tests/golden-more/make_sdxl.py: from
# prompts to steered and decoded pictures, the same bytes whatever the batch; what of such folders and streams is
# refused.

bats_require_minimum_version 1.5.0

load says
load whole_model

setup_file() {
    export MODEL=$BATS_TEST_DIRNAME/../golden-more/sdxl HOOK=down_blocks.2.attentions.0
    make_all
}

# changed FILE FILTER: the stream's lines as JSON go through jq, the header first
changed() { "$TESTS/read_stream.py" --values "$DIR/$1" | jq -c "$2" | "$TESTS/write_stream.py"; }

@test "records have both encoders' states side by side and a pooled embedding, negative ones too" {
    [ "$(tstream view "$DIR/cond.mpk.zst" | jq -c 'select(.id == "b") | .tokens, .state, .pooled, .uncond_pooled')" \
        = '{"type":"i32","shape":[16]}
{"type":"f32","shape":[16,40]}
{"type":"f32","shape":[20]}
{"type":"f32","shape":[20]}' ]
    [ "$(tstream view -H "$DIR/cond.mpk.zst" | jq -c 'select(.stream) | [.uncond, .uncond_pooled][].shape')" \
        = '[16,40]
[20]' ]
}

@test "no negative prompt is zeros where the model wants that, and else the empty text's state" {
    uncond() { tstream view --tensors -H "$1" | jq -c 'select(.stream) | .uncond, .uncond_pooled'; }
    zeros() { jq -s 'map(.values | flatten | unique) == [[0], [0]]'; }
    [ "$(uncond "$DIR/cond.mpk.zst" | zeros)" = true ]
    [ "$(tstream view --tensors "$DIR/cond.mpk.zst" | jq -c 'select(.id == "c") | .uncond, .uncond_pooled' | zeros)" \
        = true ]
    copy
    edit model_index.json '.force_zeros_for_empty_prompt = false'
    sd-encode-text -m m -o encoded.mpk.zst <<<'{"id":"x","prompt":""}'
    [ "$(uncond encoded.mpk.zst)" = "$(tstream view --tensors encoded.mpk.zst |
        jq -c 'select(.id == "x") | .state, .pooled')" ]
    sd-encode-text -m "$MODEL" -n 'a blurry fish' -o told.mpk.zst "$DIR/prompts"
    [ "$(uncond told.mpk.zst)" = "$(tstream view --tensors "$DIR/cond.mpk.zst" |
        jq -c 'select(.id == "b") | .uncond, .uncond_pooled')" ]
}

@test "the same bytes whatever the batch and the neighbours; states in f16 are read too" {
    same_in_any_batch
}

@test "--guidance 1 draws the prompt alone, as SDXL-Turbo is drawn; 0 draws the negative one, with a note" {
    sample --guidance 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    sd-encode-text -m "$MODEL" -n 'other' "$DIR/prompts" |
        sample --guidance 1 --no-activations --latents other.mpk.zst
    alike one.mpk.zst other.mpk.zst
    run --separate-stderr sd-sample-hooked -m "$MODEL" --steps 1 --guidance 0 --no-activations --latents zero.mpk.zst \
        "$DIR/cond.mpk.zst"
    [[ $stderr == *"--guidance 1"* ]]
}

@test "--tokens, --take diff and a nested path" {
    sample --tokens 3 --take diff --hook 'up_blocks.0.attentions.?.transformer_blocks.1' -o t.mpk.zst \
        "$DIR/cond.mpk.zst"
    [ "$(tstream view t.mpk.zst | jq -c '.act.shape' | sort -u)" = '[3,16]' ]
    [ "$(tstream view t.mpk.zst | jq -r .hook | sort -u | wc -l)" = 3 ]
}

@test "steered: nothing outside --when, pictures otherwise; --where, --gate, a sweep; decoded" { steered; }

@test "sae-splice draws them four times" { spliced; }

@test "texts of another kind of model are refused, both ways" {
    sd-encode-text -o plain.mpk.zst <<<'a red tower'
    refused plain.mpk.zst header "without a pooled embedding" "width 20" -- sample -o no.mpk.zst plain.mpk.zst
    refused cond.mpk.zst header "with a pooled embedding" "takes none" -- \
        sd-sample-hooked -q --steps 1 -o no.mpk.zst "$DIR/cond.mpk.zst"
    refused cond.mpk.zst "with a pooled embedding" -- \
        sd-steer -q --sae "$DIR/sae" --feature 1=0 -o no.mpk.zst "$DIR/cond.mpk.zst"
}

@test "records whose pooled embedding is missing, of another width or no number" {
    changed cond.mpk.zst 'if .id == "b" then del(.pooled) else . end' >no.mpk
    refused "no.mpk: record 2" pooled -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .id == "b" then del(.uncond_pooled) else . end' >no.mpk
    refused "no.mpk: record 2" uncond_pooled -- sample -o no.mpk.zst no.mpk
    changed cond.mpk.zst 'if .id == "c" then .pooled = .state else . end' >no.mpk
    refused "no.mpk: record 3" pooled "(16, 40)" "(20)" -- sample -o no.mpk.zst no.mpk
}

@test "refiners, other models of two text encoders, and folders that lack a part" {
    copy
    edit model_index.json '._class_name = "StableDiffusionXLImg2ImgPipeline"'
    sd-encode-text -q -m m -o img2img.mpk.zst <<<fish
    edit model_index.json '.requires_aesthetics_score = true'
    for program in 'sd-encode-text -m m -o no.mpk.zst' 'sd-sample-hooked -m m -o no.mpk.zst' \
        'sd-decode -m m -o no.mpk.zst'; do
        # shellcheck disable=SC2086
        refused m/model_index.json requires_aesthetics_score refiner -- $program
    done
    edit model_index.json '._class_name = "FluxPipeline"'
    refused m/model_index.json FluxPipeline -- sd-encode-text -m m -o no.mpk.zst
    rm m/model_index.json
    sd-encode-text -q -m m -o without.mpk.zst <<<fish
    rm -r m/tokenizer_2
    refused m/tokenizer_2 -- sd-encode-text -m m -o no.mpk.zst
    copy
    rm -r m/text_encoder_2
    refused m/text_encoder_2 -- sd-encode-text -m m -o no.mpk.zst
}

@test "configurations: the VAE's latents_mean, the UNet's added embedding, the encoders' lengths" {
    copy
    edit vae/config.json '.latents_mean = [0,0,0,0]'
    refused m/vae/config.json '"latents_mean"' -- sd-decode -m m --any-model -o no.mpk.zst "$DIR/plain.mpk.zst"
    for change in '.addition_embed_type = "image"' '.addition_embed_type = 3' 'del(.addition_time_embed_dim)' \
        '.projection_class_embeddings_input_dim = 48' '.projection_class_embeddings_input_dim = 69'; do
        copy
        edit unet/config.json "$change"
        refused m/unet -- sd-sample-hooked -m m -o no.mpk.zst "$DIR/cond.mpk.zst"
    done
    copy
    edit tokenizer_2/tokenizer_config.json '.model_max_length = 12'
    refused tokenizer_2 "12 tokens" -- sd-encode-text -m m -o no.mpk.zst
    edit text_encoder_2/config.json '.max_position_embeddings = 12'
    refused m/text_encoder_2 position_embedding -- sd-encode-text -m m -o no.mpk.zst
    copy
    edit text_encoder_2/config.json '.projection_dim = 19'
    refused m/text_encoder_2 text_projection.weight -- sd-encode-text -m m -o no.mpk.zst
}
