#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sdxl.bats -- Stable Diffusion XL through all programs, by the tiny model of tests/golden-more/make_sdxl.py: from
# prompts to steered and decoded pictures, the same bytes whatever the batch; what of such folders and streams is
# refused.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export TESTS=$BATS_TEST_DIRNAME/.. DIR=$BATS_FILE_TMPDIR
    export XL=$TESTS/golden-more/sdxl HOOK=down_blocks.2.attentions.0
    cd "$DIR" || return 1
    printf '%s\n' '{"id":"a","prompt":"a red tower","concept":"Towers"}' \
        '{"id":"b","prompt":"fish in the rain","concept":"Fishes","negative":"a blurry fish"}' \
        '{"id":"c","prompt":"fish","concept":"Fishes","negative":""}' \
        '{"id":"d","prompt":"two towers, one of them far away","concept":"Towers"}' >prompts
    sd-encode-text -m "$XL" -o cond.mpk.zst prompts
    sample -o acts.mpk.zst --latents plain.mpk.zst --images plain cond.mpk.zst
    sae-fit -q -k 4 --features 32 --batch 16 --epochs 4 -o sae acts.mpk.zst
    sae-rank-concepts -q --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return; }

sample() { sd-sample-hooked -q -m "$XL" --steps 3 --hook "$HOOK" "$@"; }
steer() {
    sd-steer -q -m "$XL" --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept Fishes --top 4 "$@" \
        "$DIR/cond.mpk.zst"
}
latents() { tstream view --tensors "$1" | jq -c .latent; }
export -f sample

# changed FILE FILTER: the stream's lines as JSON go through jq, the header first
changed() { "$TESTS/read_stream.py" --values "$DIR/$1" | jq -c "$2" | "$TESTS/write_stream.py"; }

# A copy of the model, and a change of one of its files
copy() {
    rm -rf m
    cp -R "$XL" m
    chmod -R u+w m
}
edit() {
    jq "$2" "m/$1" >new
    mv new "m/$1"
}

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
    sd-encode-text -m "$XL" -n 'a blurry fish' -o told.mpk.zst "$DIR/prompts"
    [ "$(uncond told.mpk.zst)" = "$(tstream view --tensors "$DIR/cond.mpk.zst" |
        jq -c 'select(.id == "b") | .uncond, .uncond_pooled')" ]
}

@test "the same bytes whatever the batch and the neighbours; states in f16 are read too" {
    for batch in 1 3; do
        sample --batch $batch -o b.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
        cmp b.mpk.zst "$DIR/acts.mpk.zst"
        cmp l.mpk.zst "$DIR/plain.mpk.zst"
    done
    jq -c 'select(.id == "d")' "$DIR/prompts" | sd-encode-text -m "$XL" | sample --no-activations --latents d.mpk.zst
    [ "$(latents d.mpk.zst)" = "$(latents "$DIR/plain.mpk.zst" | tail -1)" ]
    sd-encode-text -m "$XL" --state-type f16 "$DIR/prompts" | sample --no-activations --latents half.mpk.zst
    [ "$(latents half.mpk.zst | wc -l)" = 4 ]
}

@test "--guidance 1 draws the prompt alone, as SDXL-Turbo is drawn; 0 draws the negative one, with a note" {
    sample --guidance 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    sd-encode-text -m "$XL" -n 'other' "$DIR/prompts" |
        sample --guidance 1 --no-activations --latents other.mpk.zst
    cmp <(latents one.mpk.zst) <(latents other.mpk.zst)
    run --separate-stderr sd-sample-hooked -m "$XL" --steps 1 --guidance 0 --no-activations --latents zero.mpk.zst \
        "$DIR/cond.mpk.zst"
    [[ $stderr == *"--guidance 1"* ]]
}

@test "--tokens, --take diff and a nested path" {
    sample --tokens 3 --take diff --hook 'up_blocks.0.attentions.?.transformer_blocks.1' -o t.mpk.zst \
        "$DIR/cond.mpk.zst"
    [ "$(tstream view t.mpk.zst | jq -c '.act.shape' | sort -u)" = '[3,16]' ]
    [ "$(tstream view t.mpk.zst | jq -r .hook | sort -u | wc -l)" = 3 ]
}

@test "steered: nothing outside --when, pictures otherwise; --where, --gate, a sweep; decoded" {
    steering=(--mode replace --multiplier -8)
    steer "${steering[@]}" --latents s.mpk.zst -o s
    run ! cmp -s <(latents s.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    steer "${steering[@]}" --batch 1 --latents one.mpk.zst -o one
    cmp one.mpk.zst s.mpk.zst
    steer "${steering[@]}" --when 5-2 --latents none.mpk.zst -o none
    cmp <(latents none.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    steer "${steering[@]}" --gate 1000 --latents shut.mpk.zst -o shut
    cmp <(latents shut.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    steer "${steering[@]}" --where "$DIR/plain/a.png" --latents where.mpk.zst -o where
    run ! cmp -s <(latents where.mpk.zst) <(latents s.mpk.zst)
    steer --mode replace --sweep multiplier=-8,2 --latents sweep.mpk.zst -o sweep
    cmp <(tstream view --tensors sweep.mpk.zst | jq -c 'select(.id | startswith("multiplier=-8/")) | .latent') \
        <(latents s.mpk.zst)
    steer "${steering[@]}" -o drawn.mpk.zst
    sd-decode -q -m "$XL" -o decoded.mpk.zst s.mpk.zst
    images() { tstream view --tensors "$1" | jq -c .image; }
    cmp <(images decoded.mpk.zst) <(images drawn.mpk.zst)
}

@test "sae-splice draws them four times" {
    sae-splice -q -m "$XL" --steps 3 --sae "$DIR/sae" "$DIR/cond.mpk.zst" >table
    [ "$(wc -l <table)" = 16 ]
    sae-splice -q -m "$XL" --steps 3 --sae "$DIR/sae" --batch 1 "$DIR/cond.mpk.zst" | cmp - table
}

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
