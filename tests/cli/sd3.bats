#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sd3.bats -- Stable Diffusion 3 through all programs, by the tiny model of tests/golden-more/make_sd3.py: from prompts
# to steered and decoded pictures, the same bytes whatever the batch; its text encoders; what of such folders, streams
# and options is refused.

bats_require_minimum_version 1.5.0

load says
load whole_model

setup_file() {
    export MODEL=$BATS_TEST_DIRNAME/../golden-more/sd3 HOOK=transformer_blocks.1
    make_all
}

states() { tstream view --tensors "$1" | jq -c '.state, .pooled'; }

@test "records have CLIP's rows, T5's behind them, and both pooled embeddings; empty negatives are encoded" {
    [ "$(tstream view "$DIR/cond.mpk.zst" | jq -c 'select(.id == "b") | .tokens, .state, .pooled, .uncond_pooled')" \
        = '{"type":"i32","shape":[16]}
{"type":"f32","shape":[272,48]}
{"type":"f32","shape":[36]}
{"type":"f32","shape":[36]}' ]
    encode -o empty.mpk.zst <<<'{"id":"x","prompt":""}'
    [ "$(states empty.mpk.zst)" = "$(tstream view --tensors -H empty.mpk.zst |
        jq -c 'select(.stream) | .uncond, .uncond_pooled')" ]
    [ "$(tstream view --tensors empty.mpk.zst | jq -c '.state.values | unique | length > 2')" = true ]
    [ "$(tstream view --tensors "$DIR/cond.mpk.zst" | jq -c 'select(.id == "c") | .uncond, .uncond_pooled')" = \
        "$(states empty.mpk.zst)" ]
    encode --t5-tokens 24 -o short.mpk.zst <<<fish
    [ "$(tstream view short.mpk.zst | jq -c .state.shape)" = '[40,48]' ]
}

@test "the same bytes whatever the batch and the neighbours; states in f16 are read too" {
    same_in_any_batch
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
    alike euler.mpk.zst "$DIR/plain.mpk.zst"
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

@test "the transformer's modules: listed, by a pipeline's path, the middle one unasked; sizes that it takes" {
    [ "$(sd-sample-hooked -m "$MODEL" --list-hooks | cut -d . -f 2- | xargs)" = \
        '0 0.attn 0.attn2 0.ff 1 1.attn 1.attn2 1.ff 2 2.attn 2.ff' ]
    draw() { sd-sample-hooked -q -m "$MODEL" --steps 3 -o "$1" "${@:2}" "$DIR/cond.mpk.zst"; }
    draw usual.mpk.zst
    cmp <(tstream view --tensors usual.mpk.zst) <(tstream view --tensors "$DIR/acts.mpk.zst")
    draw path.mpk.zst --hook transformer.transformer_blocks.1
    cmp <(tstream view --tensors usual.mpk.zst) <(tstream view --tensors path.mpk.zst)
    draw diff.mpk.zst --take diff --act-type f32 --hook 'transformer_blocks.*.attn2'
    [ "$(tstream view diff.mpk.zst | jq -c '[.hook, .act.shape]' | sort -u | xargs)" = \
        '[transformer_blocks.0.attn2,[4,4,16]] [transformer_blocks.1.attn2,[4,4,16]]' ]
    [ "$(sd-sample-hooked -q -m "$MODEL" --steps 3 --width 96 --dry-run "$DIR/cond.mpk.zst" | tail -2 | cut -f 2)" = \
        "$(printf '4x6x16\n-')" ]
    refused "a latent of 9 x 8" "multiples of 2" -- draw no.mpk.zst --height 72
    refused "a latent of 8 x 26" "to 24" -- draw no.mpk.zst --width 208
    refused "'up_blocks.1'" "nearest: transformer_blocks.1" -- draw no.mpk.zst --hook up_blocks.1
    [ ! -e no.mpk.zst ]
}

@test "begun with pictures: --strength rounds up, as its pipeline does" {
    sample --init "$DIR/plain" --strength 0.5 -o begun.mpk.zst --latents l.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view begun.mpk.zst | jq -c .t | sort -nu | xargs)" = "9 751" ]
    sample --init "$DIR/plain" --strength 0.01 -o last.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view last.mpk.zst | jq -c .t | sort -u)" = 9 ]
    sample --init "$DIR/plain" --strength 0.5 --batch 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    alike one.mpk.zst l.mpk.zst
}

@test "steered: nothing outside --when, pictures otherwise; --where, --gate, a sweep; decoded" { steered; }

@test "sae-splice draws them four times" { spliced; }

@test "an autoencoder of each text encoder: captured, and steered by; what changes nothing is the unsteered state" {
    [ "$(encode --list-hooks | grep -c '^text_encoder_3.encoder.block')" = 2 ]
    for hook in text_encoder.text_model.encoder.layers.0 text_encoder_2.text_model.encoder.layers.1 \
        text_encoder_3.encoder.block.1; do
        encode --hook $hook -o t.mpk.zst "$DIR/prompts"
        [ "$(tstream view t.mpk.zst | jq -c '.act.shape' | sort -u)" = "$(case $hook in
            text_encoder_3*) echo '[256,48]';; text_encoder_2*) echo '[15,24]';; *) echo '[15,16]';; esac)" ]
        rm -rf t
        sae-fit -q -k 4 --features 32 --batch 16 --epochs 4 -o t t.mpk.zst
        sae-rank-concepts -q --sae t --score difference -o r.mpk.zst t.mpk.zst
        text() {
            sd-steer-text -q -m "$MODEL" --sae t --ranks r.mpk.zst --concept Fishes --top 4 "$@" \
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
    sd-encode-text -q -m m -o null.mpk.zst "$DIR/prompts"
    [ "$(tstream view --tensors null.mpk.zst | jq -c '.state.values[16*48:] | unique' | sort -u)" = '[0]' ]
    copy
    rm -r m/text_encoder_3 m/tokenizer_3
    sd-encode-text -q -m m -o without.mpk.zst "$DIR/prompts"
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
    run --separate-stderr sd-encode-text -m "$MODEL" -o long.mpk.zst <<<"$long"
    [ -z "$stderr" ]
    run --separate-stderr sd-encode-text -m "$MODEL" --t5-tokens 20 -o long.mpk.zst <<<"$long"
    [[ $stderr == *"longer than 19 tokens"* ]]
}

@test "options that Stable Diffusion 3's texts do not have" {
    refused m "--chunks" "Stable Diffusion 3" -- encode --chunks 2 -o no.mpk.zst "$DIR/prompts"
    refused m "--weights" "Stable Diffusion 3" -- encode --weights -o no.mpk.zst "$DIR/prompts"
    refused m "--embedding" "Stable Diffusion 3" -- encode --embedding x=nowhere.pt -o no.mpk.zst "$DIR/prompts"
    for n in 0 513 x; do
        run sd-encode-text -m "$MODEL" --t5-tokens $n "$DIR/prompts"
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

@test "a folder may be renamed: what it was called before is the same model's" {
    copy
    sd-sample-hooked -q -m m --steps 3 --hook "$HOOK" --latents l.mpk.zst -o acts.mpk.zst "$DIR/cond.mpk.zst"
    alike l.mpk.zst "$DIR/plain.mpk.zst"
    sd-decode -q -m m "$DIR/plain.mpk.zst" | tstream check -
    sae-fit -q -k 4 --features 32 --batch 16 -o both "$DIR/acts.mpk.zst" acts.mpk.zst
    for acts in "$DIR/acts.mpk.zst" acts.mpk.zst; do
        sae-rank-concepts -q --sae both --statistics -o "part-${acts##*/}-${#acts}" "$acts"
    done
    sae-rank-concepts -q --merge -o whole.mpk.zst part-*
    tstream check whole.mpk.zst
}

@test "folders that lack a part, and parts that do not fit each other" {
    copy
    rm m/model_index.json
    sd-encode-text -q -m m "$DIR/prompts" | states - | cmp - <(states "$DIR/cond.mpk.zst")
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
