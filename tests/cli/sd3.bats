#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd3.bats -- Stable Diffusion 3 through all programs, by the tiny model of tests/golden-more/make_sd3.py: from prompts
# to steered and decoded pictures, the same bytes whatever the batch; its text encoders; what of such folders, streams
# and options is refused.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export TESTS=$BATS_TEST_DIRNAME/.. DIR=$BATS_FILE_TMPDIR
    export SD3=$TESTS/golden-more/sd3 HOOK=transformer_blocks.1
    cd "$DIR" || return 1
    printf '%s\n' '{"id":"a","prompt":"a red tower","concept":"Towers"}' \
        '{"id":"b","prompt":"fish in the rain","concept":"Fishes","negative":"a blurry fish"}' \
        '{"id":"c","prompt":"fish","concept":"Fishes","negative":""}' \
        '{"id":"d","prompt":"two towers, one of them far away","concept":"Towers"}' >prompts
    encode -o cond.mpk.zst prompts
    sample -o acts.mpk.zst --latents plain.mpk.zst --images plain cond.mpk.zst
    sae-fit -q -k 4 --features 32 --batch 16 --epochs 4 -o sae acts.mpk.zst
    sae-rank-concepts -q --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return; }

encode() { sd-encode-text -q -m "$SD3" --t5-tokens 24 "$@"; }
sample() { sd-sample-hooked -q -m "$SD3" --steps 3 --hook "$HOOK" "$@"; }
steer() {
    sd-steer -q -m "$SD3" --steps 3 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept Fishes --top 4 "$@" \
        "$DIR/cond.mpk.zst"
}
latents() { tstream view --tensors "$1" | jq -c .latent; }
states() { tstream view --tensors "$1" | jq -c '.state, .pooled'; }
export -f encode sample

# A copy of the model, and a change of one of its files
copy() {
    rm -rf m
    cp -R "$SD3" m
    chmod -R u+w m
}
edit() {
    jq "$2" "m/$1" >new
    mv new "m/$1"
}

@test "records have CLIP's rows, T5's behind them, and both pooled embeddings; empty negatives are encoded" {
    [ "$(tstream view "$DIR/cond.mpk.zst" | jq -c 'select(.id == "b") | .tokens, .state, .pooled, .uncond_pooled')" \
        = '{"type":"i32","shape":[16]}
{"type":"f32","shape":[40,48]}
{"type":"f32","shape":[36]}
{"type":"f32","shape":[36]}' ]
    encode -o empty.mpk.zst <<<'{"id":"x","prompt":""}'
    [ "$(states empty.mpk.zst)" = "$(tstream view --tensors -H empty.mpk.zst |
        jq -c 'select(.stream) | .uncond, .uncond_pooled')" ]
    [ "$(tstream view --tensors empty.mpk.zst | jq -c '.state.values | unique | length > 2')" = true ]
    [ "$(tstream view --tensors "$DIR/cond.mpk.zst" | jq -c 'select(.id == "c") | .uncond, .uncond_pooled')" = \
        "$(states empty.mpk.zst)" ]
    sd-encode-text -q -m "$SD3" -o usual.mpk.zst <<<fish
    [ "$(tstream view usual.mpk.zst | jq -c .state.shape)" = '[272,48]' ]
}

@test "the same bytes whatever the batch and the neighbours; states in f16 are read too" {
    for batch in 1 3; do
        sample --batch $batch -o b.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
        cmp b.mpk.zst "$DIR/acts.mpk.zst"
        cmp l.mpk.zst "$DIR/plain.mpk.zst"
    done
    jq -c 'select(.id == "d")' "$DIR/prompts" | encode | sample --no-activations --latents d.mpk.zst
    [ "$(latents d.mpk.zst)" = "$(latents "$DIR/plain.mpk.zst" | tail -1)" ]
    encode --state-type f16 "$DIR/prompts" | sample --no-activations --latents half.mpk.zst
    [ "$(latents half.mpk.zst | wc -l)" = 4 ]
    # more prompts than are encoded at once
    seq 20 | sed 's/^/fish in rain /' | encode -o many.mpk.zst
    echo 'fish in rain 20' | encode -o one.mpk.zst
    [ "$(states many.mpk.zst | tail -2)" = "$(states one.mpk.zst)" ]
}

@test "times are not whole: t is the nearest, from 1000 on, and --at and --when hold it" {
    [ "$(tstream view "$DIR/acts.mpk.zst" | jq -c .t | uniq | head -3 | xargs)" = "1000 751 9" ]
    sample --at 1000 -o first.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view first.mpk.zst | jq -c .t | sort -u)" = 1000 ]
    [ "$(tstream view "$DIR/ranks.mpk.zst" | jq -c .t | sort -nu | xargs)" = "9 751 1000" ]
    steer --multiplier -8 --mode replace --when 1000 --latents first-l.mpk.zst -o first
    run ! cmp -s <(latents first-l.mpk.zst) <(latents "$DIR/plain.mpk.zst")
}

@test "--sampler auto is euler, and no other draws flows; no inversion" {
    sample --sampler euler --no-activations --latents euler.mpk.zst "$DIR/cond.mpk.zst"
    cmp <(latents euler.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    [ "$(tstream view -H "$DIR/plain.mpk.zst" | jq -r 'select(.stream) | .sampler')" = euler ]
    for sampler in ddim euler-a dpm++2m lcm; do
        refused scheduler_config.json "matches flows" "$sampler" -- \
            sample --sampler $sampler -o no.mpk.zst "$DIR/cond.mpk.zst"
    done
    refused "--inversion ddpm" "matches flows" -- \
        sample --init "$DIR/plain" --inversion ddpm -o no.mpk.zst "$DIR/cond.mpk.zst"
    copy
    edit scheduler/scheduler_config.json '._class_name = "EulerDiscreteScheduler"'
    refused m/scheduler/scheduler_config.json EulerDiscreteScheduler FlowMatchEulerDiscreteScheduler -- \
        sd-sample-hooked -q -m m -o no.mpk.zst "$DIR/cond.mpk.zst"
    copy
    edit scheduler/scheduler_config.json '.use_dynamic_shifting = true'
    refused m/scheduler/scheduler_config.json use_dynamic_shifting -- \
        sd-sample-hooked -q -m m -o no.mpk.zst "$DIR/cond.mpk.zst"
}

@test "begun with pictures: --strength rounds up, as its pipeline does" {
    sample --init "$DIR/plain" --strength 0.5 -o begun.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view begun.mpk.zst | jq -c .t | sort -nu | xargs)" = "9 751" ]
    sample --init "$DIR/plain" --strength 0.01 -o last.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view last.mpk.zst | jq -c .t | sort -u)" = 9 ]
    sample --init "$DIR/plain" --strength 0.5 --batch 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    cmp <(latents one.mpk.zst) <(latents l.mpk.zst)
}

@test "steered: nothing outside --when, pictures otherwise; --where, --gate, a sweep; decoded" {
    steering=(--mode replace --multiplier -8)
    steer "${steering[@]}" --latents s.mpk.zst -o s
    run ! cmp -s <(latents s.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    steer "${steering[@]}" --batch 1 --latents one.mpk.zst -o one
    cmp one.mpk.zst s.mpk.zst
    steer --mode scale --multiplier 1 --latents same.mpk.zst -o same
    cmp <(latents same.mpk.zst) <(latents "$DIR/plain.mpk.zst")
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
    sd-decode -q -m "$SD3" -o decoded.mpk.zst s.mpk.zst
    images() { tstream view --tensors "$1" | jq -c .image; }
    cmp <(images decoded.mpk.zst) <(images drawn.mpk.zst)
}

@test "sae-splice draws them four times" {
    sae-splice -q -m "$SD3" --steps 3 --sae "$DIR/sae" "$DIR/cond.mpk.zst" >table
    [ "$(wc -l <table)" = 16 ]
    sae-splice -q -m "$SD3" --steps 3 --sae "$DIR/sae" --batch 1 "$DIR/cond.mpk.zst" | cmp - table
}

@test "an autoencoder of each text encoder: captured, and steered by; what changes nothing is the unsteered state" {
    [ "$(encode --list-hooks | grep -c '^text_encoder_3.encoder.block')" = 2 ]
    for hook in text_encoder.text_model.encoder.layers.0 text_encoder_2.text_model.encoder.layers.1 \
        text_encoder_3.encoder.block.1; do
        encode --hook $hook -o t.mpk.zst "$DIR/prompts"
        [ "$(tstream view t.mpk.zst | jq -c '.act.shape' | sort -u)" = "$(case $hook in
            text_encoder_3*) echo '[24,48]';; text_encoder_2*) echo '[15,24]';; *) echo '[15,16]';; esac)" ]
        rm -rf t
        sae-fit -q -k 4 --features 32 --batch 16 --epochs 4 -o t t.mpk.zst
        sae-rank-concepts -q --sae t --score difference -o r.mpk.zst t.mpk.zst
        text() {
            sd-steer-text -q -m "$SD3" --t5-tokens 24 --sae t --ranks r.mpk.zst --concept Fishes --top 4 "$@" \
                "$DIR/prompts"
        }
        text --mode scale --multiplier 1 -o same.mpk.zst
        cmp <(states same.mpk.zst) <(states "$DIR/cond.mpk.zst")
        text --mode replace --multiplier -8 -o other.mpk.zst
        run ! cmp -s <(states other.mpk.zst) <(states "$DIR/cond.mpk.zst")
    done
    # by T5 its own rows change and no others
    rows() { tstream view --tensors "$1" | jq -c ".state.values$2, .pooled"; }
    cmp <(rows other.mpk.zst '[:16*48]') <(rows "$DIR/cond.mpk.zst" '[:16*48]')
}

@test "without T5: zeros in its rows, another model by name, its pictures" {
    copy
    edit model_index.json '.text_encoder_3 = [null, null] | .tokenizer_3 = [null, null]'
    sd-encode-text -q -m m --t5-tokens 24 -o null.mpk.zst "$DIR/prompts"
    [ "$(tstream view --tensors null.mpk.zst | jq -c '.state.values[16*48:] | unique' | sort -u)" = '[0]' ]
    copy
    rm -r m/text_encoder_3 m/tokenizer_3
    sd-encode-text -q -m m --t5-tokens 24 -o without.mpk.zst "$DIR/prompts"
    cmp <(states without.mpk.zst) <(states null.mpk.zst)
    refused "the model in use is" -- sample -o no.mpk.zst without.mpk.zst
    sd-sample-hooked -q -m m --steps 3 --no-activations --latents l.mpk.zst without.mpk.zst
    run ! cmp -s <(latents l.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    [ "$(sd-encode-text -m m --list-hooks | grep -c text_encoder_3)" = 0 ]
}

@test "--clip-skip takes prompts earlier, negative ones not; long texts are cut where T5 ends, with a note" {
    encode --clip-skip 1 -o skip.mpk.zst "$DIR/prompts"
    run ! cmp -s <(states skip.mpk.zst) <(states "$DIR/cond.mpk.zst")
    uncond() { tstream view --tensors -H "$1" | jq -c 'select(.stream) | .uncond, .uncond_pooled'; }
    cmp <(uncond skip.mpk.zst) <(uncond "$DIR/cond.mpk.zst")
    long=$(printf 'fish %.0s' {1..30})
    run --separate-stderr sd-encode-text -m "$SD3" -o long.mpk.zst <<<"$long"
    [ -z "$stderr" ]
    run --separate-stderr sd-encode-text -m "$SD3" --t5-tokens 20 -o long.mpk.zst <<<"$long"
    [[ $stderr == *"longer than 19 tokens"* ]]
}

@test "options that Stable Diffusion 3's texts do not have" {
    refused m "--chunks" "Stable Diffusion 3" -- encode --chunks 2 -o no.mpk.zst "$DIR/prompts"
    refused m "--weights" "Stable Diffusion 3" -- encode --weights -o no.mpk.zst "$DIR/prompts"
    refused m "--embedding" "Stable Diffusion 3" -- encode --embedding x=nowhere.pt -o no.mpk.zst "$DIR/prompts"
    for n in 0 513 x; do
        run sd-encode-text -m "$SD3" --t5-tokens $n "$DIR/prompts"
        says 2 --t5-tokens
    done
}

@test "texts of another kind of model are refused, both ways" {
    sd-encode-text -m "$TESTS/golden-more/sdxl" -o xl.mpk.zst <<<'a red tower'
    refused xl.mpk.zst header -- sample -o no.mpk.zst xl.mpk.zst
    sd-encode-text -o plain.mpk.zst <<<'a red tower'
    refused plain.mpk.zst header "without a pooled embedding" "width 36" -- sample -o no.mpk.zst plain.mpk.zst
    refused cond.mpk.zst header "with a pooled embedding" "takes none" -- \
        sd-sample-hooked -q --steps 1 -o no.mpk.zst "$DIR/cond.mpk.zst"
}

@test "folders that lack a part, and parts that do not fit each other" {
    copy
    rm m/model_index.json
    sd-encode-text -q -m m --t5-tokens 24 "$DIR/prompts" | states - | cmp - <(states "$DIR/cond.mpk.zst")
    edit_refused() {
        copy
        edit "$1" "$2"
        refused "${@:3}" -- sd-encode-text -m m -o no.mpk.zst "$DIR/prompts"
    }
    for part in text_encoder text_encoder_2 tokenizer tokenizer_2 tokenizer_3; do
        copy
        rm -r m/$part
        refused m/$part -- sd-encode-text -m m -o no.mpk.zst "$DIR/prompts"
    done
    edit_refused text_encoder/config.json '.projection_dim = 15' m/text_encoder text_projection.weight
    edit_refused tokenizer_2/tokenizer_config.json '.model_max_length = 12' tokenizer_2 "12 tokens"
    copy
    rm -r m/text_encoder_3
    edit transformer/config.json '.joint_attention_dim = 39'
    refused "40 wide together" "T5 39" -- sd-encode-text -m m -o no.mpk.zst "$DIR/prompts"
    edit transformer/config.json '.joint_attention_dim = 0'
    refused m/transformer/config.json joint_attention_dim -- sd-encode-text -m m -o no.mpk.zst "$DIR/prompts"
    for part in transformer vae scheduler; do
        copy
        rm -r m/$part
        refused m -- sd-sample-hooked -q -m m --steps 1 --images no -o no.mpk.zst "$DIR/cond.mpk.zst"
    done
}
