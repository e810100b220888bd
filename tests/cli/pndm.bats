#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# pndm.bats -- a sampler that evaluates a timestep more than once: records, windows, ranks, figures, the same bytes.

bats_require_minimum_version 1.5.0

load says

# The small model with Stable Diffusion 1.x's scheduler.
setup_file() {
    export DIR="$BATS_FILE_TMPDIR" SAE=$SDSTEER_TESTS/golden/saeuron/sae HOOK=up_blocks.1.attentions.1
    mkdir -p "$DIR/model/scheduler"
    for part in unet vae text_encoder tokenizer model_index.json; do
        ln -s "$(realpath "$SDSTEER_TESTS/../data/minisd/model/$part")" "$DIR/model/$part"
    done
    cat >"$DIR/model/scheduler/scheduler_config.json" <<'END'
{"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
 "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
 "clip_sample": false}
END
    cd "$DIR" || return 1
    cat >prompts.jsonl <<'END'
{"id":"a","prompt":"A fish in Rust style.","concept":"Fishes","seed":1}
{"id":"b","prompt":"A dog in Rust style.","concept":"Dogs","seed":2}
{"id":"c","prompt":"A dog in Winter style.","concept":"Dogs","seed":3}
END
    sd-encode-text -q -m model -o cond.mpk.zst prompts.jsonl
    sample --latents plain.mpk.zst -o acts.mpk.zst cond.mpk.zst
    for i in 1 2 3; do sed -n ${i}p prompts.jsonl | sd-encode-text -q -m model | sample -o shard$i.mpk.zst; done
    sae-rank-concepts -q --sae "$SAE" --hook $HOOK --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$DIR" || return 1; }

sample() { sd-sample-hooked -q -m model --sampler pndm --steps 3 --hook $HOOK "$@"; }
export -f sample

fields() { tstream view "$1" | jq -c "$2"; }

@test "three steps are four evaluations, the second timestep twice, each with a record of its own" {
    [ "$(fields acts.mpk.zst 'select(.id == "a") | [.step, .t]' | tr -d '\n')" = '[0,667][1,334][2,334][3,1]' ]
    [ "$(tstream info --json acts.mpk.zst | jq -c '[.header.sampler, .header.steps]')" = '["pndm",3]' ]
    sample --steps 1 -o one.mpk.zst cond.mpk.zst
    [ "$(fields one.mpk.zst 'select(.id == "a") | [.step, .t]')" = '[0,1]' ]
}

@test "the same bytes in any batch and shard" {
    sample --batch 1 --latents batch.mpk.zst cond.mpk.zst | cmp - acts.mpk.zst
    cmp batch.mpk.zst plain.mpk.zst
    tstream cat shard[123].mpk.zst | cmp - acts.mpk.zst
}

@test "--at keeps a timestep's evaluations all or not at all, --every counts evaluations, --tokens chooses for each" {
    sample --at 334 -o at.mpk.zst cond.mpk.zst
    [ "$(fields at.mpk.zst .step | sort -u | tr -d '\n')" = 12 ]
    sample --at 999-335 -o high.mpk.zst cond.mpk.zst
    [ "$(fields high.mpk.zst .step | sort -u)" = 0 ]
    sample --every 2 -o every.mpk.zst cond.mpk.zst
    [ "$(fields every.mpk.zst 'select(.id == "a") | [.step, .t]' | tr -d '\n')" = '[0,667][2,334]' ]
    sample --at 334 --tokens 4 -o some.mpk.zst cond.mpk.zst
    run ! cmp -s <(tstream view --tensors some.mpk.zst | jq -c 'select(.step == 1).token.values') \
        <(tstream view --tensors some.mpk.zst | jq -c 'select(.step == 2).token.values')
}

@test "ranks and statistics have a timestep once, with both evaluations in it" {
    [ "$(fields ranks.mpk.zst 'select(.label == "Dogs").t' | tr '\n' ,)" = 667,334,1, ]
    sae-rank-concepts -q --sae "$SAE" --hook $HOOK --statistics -o whole.mpk.zst acts.mpk.zst
    [ "$(fields whole.mpk.zst 'select(.label == "Dogs") | [.t, .pictures, .tokens]' | tr -d '\n')" = \
        '[667,2,128][334,4,256][1,2,128]' ]
    for i in 1 2 3; do
        sae-rank-concepts -q --sae "$SAE" --hook $HOOK --statistics -o part$i.mpk.zst shard$i.mpk.zst
    done
    sae-rank-concepts -q --merge --statistics part3.mpk.zst part1.mpk.zst part2.mpk.zst | cmp - whole.mpk.zst
}

@test "figures by timestep hold both evaluations, by step one each" {
    tokens() { sae-eval -q --sae "$SAE" --by "$1" acts.mpk.zst | cut -f 1,2 | tail -n +3 | tr '\t\n' ' ,'; }
    [ "$(tokens t)" = '667 192,334 384,1 192,' ]
    [ "$(tokens step)" = '3 192,2 192,1 192,0 192,' ]
}

steer() {
    sd-steer -q -m model --sampler pndm --steps 3 --sae "$SAE" --hook $HOOK --ranks ranks.mpk.zst --concept Dogs \
        --top 20 --mode replace "${@:2}" --latents "$1.mpk.zst" -o "$1" cond.mpk.zst
    tstream to-npy --tensor latent -o "$1.npy" "$1.mpk.zst"
}

@test "steered in a window of timesteps; a steering that changes nothing leaves every bit" {
    tstream to-npy --tensor latent -o plain.npy plain.mpk.zst
    steer all --multiplier -5
    steer wide --multiplier -5 --when 667-1
    steer second --multiplier -5 --when 334 --batch 1
    steer none --multiplier -5 --when 666-335
    steer same --mode scale --multiplier 1
    cmp all.npy wide.npy
    cmp none.npy plain.npy
    cmp same.npy plain.npy
    run ! cmp -s second.npy all.npy
    run ! cmp -s second.npy plain.npy
}

@test "a config without skip_prk_steps begins with Runge-Kutta steps, as diffusers' from_config does, from 4 steps on" {
    sd-encode-text -q -o own.mpk.zst prompts.jsonl
    sd-sample-hooked -q --sampler pndm --steps 4 -o rk.mpk.zst own.mpk.zst
    [ "$(fields rk.mpk.zst 'select(.id == "a").t' | tr '\n' ,)" = 751,626,626,501,501,376,376,251,251,126,126,1,1, ]
    sd-sample-hooked -q --sampler pndm --steps 4 --batch 2 own.mpk.zst | cmp - rk.mpk.zst
    run sd-sample-hooked -q --sampler pndm --steps 3 -o never.mpk.zst own.mpk.zst
    says 1 skip_prk_steps "expected 4 or more"
    [ ! -e never.mpk.zst ]
}
