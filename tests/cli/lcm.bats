#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# lcm.bats -- models of few steps: --sampler lcm, UNets that are told their guidance, LCM-LoRA. Values are recorded by
# tests/golden-more/make_lcm.py; golden_scheduler, golden_pipeline, golden_init and golden_unet look at the others.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DIR=$BATS_FILE_TMPDIR TESTS=$BATS_TEST_DIRNAME/..
    export MINISD=$TESTS/../data/minisd/model MORE=$TESTS/golden-more
    cd "$DIR" || return 1
    cp -R "$MINISD" told
    chmod -R u+w told
    rm -r told/unet
    cp -R "$MORE/lcm/unet" told/unet
    # as LCM_Dreamshaper_v7's folder has them
    jq '._class_name = "LatentConsistencyModelPipeline"' "$MINISD/model_index.json" >told/model_index.json
    jq '._class_name = "LCMScheduler" | .clip_sample = true | .original_inference_steps = 50 | .timestep_scaling = 10' \
        "$MINISD/scheduler/scheduler_config.json" >told/scheduler/scheduler_config.json
    printf '%s\n' '{"id":"a","prompt":"A cat in Neon Lines style.","concept":"Cats","seed":42}' \
        '{"id":"b","prompt":"A fish.","concept":"Fishes","negative":"blurry","seed":7}' >prompts
    sd-encode-text -m told -o cond.mpk.zst prompts
    told -o acts.mpk.zst --act-type f32 --latents plain.mpk.zst cond.mpk.zst
    sae-fit -q -k 4 --features 16 --batch 16 --epochs 2 -o sae acts.mpk.zst
}

setup() { cd "$BATS_TEST_TMPDIR" || return; }

told() { sd-sample-hooked -q -m "$DIR/told" --sampler lcm --steps 4 --guidance 8.5 --hook mid_block "$@"; }
export -f told
latents() { tstream view --tensors "$1" | jq -c .latent; }
acts() { tstream view --tensors "$1" | jq -c '[.t, .half, .act]'; }

# Run N of those recorded, as JSON
recorded() {
    python3 - "$MORE/lcm_runs.safetensors" "$1" <<'END'
import json, struct, sys
with open(sys.argv[1], "rb") as f:
    header, data = json.loads(f.read(int.from_bytes(f.read(8), "little"))), f.read()
start, end = header[sys.argv[2]]["data_offsets"]
print(json.dumps(struct.unpack(f"<{(end - start) // 4}f", data[start:end])))
END
}

# Whether the first latent of a stream is the recorded run N
is_recorded() {
    jq -n -e --slurpfile want <(recorded "$2") --slurpfile got <(latents "$1" | head -1 | jq -c .values) \
        '[$want[0], $got[0]] | transpose | map(.[0] - .[1] | fabs) | length == 1024 and max < 0.001'
}

@test "a UNet that is told its guidance: diffusers' latent, others for another guidance, any batch the same" {
    is_recorded "$DIR/plain.mpk.zst" 8
    told --guidance 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    is_recorded one.mpk.zst 9
    run ! is_recorded one.mpk.zst 8
    told --batch 1 --act-type f32 -o single.mpk.zst --latents single-l.mpk.zst "$DIR/cond.mpk.zst"
    cmp single.mpk.zst "$DIR/acts.mpk.zst"
    cmp single-l.mpk.zst "$DIR/plain.mpk.zst"
}

@test "it has one half, and a negative prompt plays no part" {
    [ "$(tstream view "$DIR/acts.mpk.zst" | jq -r '"\(.half) \(.t)"' | sort -u | xargs)" \
        = "cond 259 cond 499 cond 759 cond 999" ]
    told --half both --act-type f32 -o both.mpk.zst "$DIR/cond.mpk.zst"
    cmp <(acts both.mpk.zst) <(acts "$DIR/acts.mpk.zst")
    [ "$(tstream info --json both.mpk.zst | jq -r .header.half)" = cond ]
    jq -c 'del(.negative)' "$DIR/prompts" | sd-encode-text -m "$DIR/told" -n 'a dog' |
        told --no-activations --latents other.mpk.zst
    cmp <(latents other.mpk.zst) <(latents "$DIR/plain.mpk.zst")
}

@test "it is steered: in the half that there is, and by a steering that changes nothing not at all" {
    steer() {
        sd-steer -q -m "$DIR/told" --sampler lcm --steps 4 --guidance 8.5 --sae "$DIR/sae" --hook mid_block \
            --latents s.mpk.zst -o out "$@" "$DIR/cond.mpk.zst"
    }
    for half in both cond; do
        steer --half $half --feature 1=5 --feature 3=5 --mode set
        run ! cmp -s <(latents s.mpk.zst) <(latents "$DIR/plain.mpk.zst")
        cp s.mpk.zst $half.mpk.zst
    done
    cmp <(latents both.mpk.zst) <(latents cond.mpk.zst)
    steer --when 5-2 --feature 1=5
    cmp <(latents s.mpk.zst) <(latents "$DIR/plain.mpk.zst")
}

@test "what asks for its unconditional half is told that there is none" {
    words=("told: a UNet that is told its guidance" "no unconditional half")
    refused "${words[@]}" captured -- told --half uncond -o no.mpk.zst "$DIR/cond.mpk.zst"
    refused "${words[@]}" steered -- sd-steer -q -m "$DIR/told" --sae "$DIR/sae" --hook mid_block --feature 1=0 \
        --half uncond -o no.mpk.zst "$DIR/cond.mpk.zst"
    refused "${words[@]}" replaced -- sae-splice -q -m "$DIR/told" --sae "$DIR/sae" --half uncond -o no.mpk.zst \
        "$DIR/cond.mpk.zst"
}

@test "lcm: as many steps as the model was distilled for at most; any folder's config will do" {
    refused "51 steps: lcm takes at most 50" original_inference_steps -- told --steps 51 -o no.mpk.zst \
        "$DIR/cond.mpk.zst"
    for sampler in ddim euler pndm; do
        told --sampler $sampler --no-activations --latents $sampler.mpk.zst "$DIR/cond.mpk.zst"
    done
    run ! cmp -s <(latents ddim.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    head -1 "$DIR/prompts" | sd-encode-text | sd-sample-hooked -q --sampler lcm --steps 4 --guidance 1.5 \
        --no-activations --latents small.mpk.zst
    is_recorded small.mpk.zst 3
}

@test "begun with a picture: the last of the steps, by --strength" {
    told --no-activations --images drawn "$DIR/cond.mpk.zst"
    told --init drawn --strength 0.5 -o acts.mpk.zst --latents half.mpk.zst "$DIR/cond.mpk.zst"
    [ "$(tstream view acts.mpk.zst | jq -r .t | sort -rnu | xargs)" = "499 259" ]
    told --init drawn --strength 0.5 --batch 1 --no-activations --latents one.mpk.zst "$DIR/cond.mpk.zst"
    cmp <(latents one.mpk.zst) <(latents half.mpk.zst)
}

@test "sd-convert keeps what the guidance goes through, and says where it lacks" {
    sd-convert -q -m "$DIR/told" --dtype f32 -o out
    sd-encode-text -m out -o out.mpk.zst "$DIR/prompts"
    sd-sample-hooked -q -m out --sampler lcm --steps 4 --guidance 8.5 --no-activations --latents l.mpk.zst out.mpk.zst
    cmp <(latents l.mpk.zst) <(latents "$DIR/plain.mpk.zst")
    cp -R "$DIR/told" bare
    "$TESTS/edit_tensors.py" "$DIR/told/unet/diffusion_pytorch_model.safetensors" \
        bare/unet/diffusion_pytorch_model.safetensors 'del t["time_embedding.cond_proj.weight"]'
    run sd-convert -q -m bare -o no
    says 1 "time_embedding.cond_proj.weight"
}

@test "LCM-LoRA: every layer that such a file names is merged, and the picture is the one that diffusers draws" {
    python3 "$MORE/lcm_lora.py" "$MINISD/unet" lora.safetensors
    sd-convert -q -m "$MINISD" --lora lora.safetensors --dtype f32 -o with
    sd-convert -q -m "$MINISD" --dtype f32 -o without
    python3 - lora.safetensors {with,without}/unet/diffusion_pytorch_model.safetensors <<'END'
import json, sys
def read(path):
    with open(path, "rb") as f:
        header, data = json.loads(f.read(int.from_bytes(f.read(8), "little"))), f.read()
    header.pop("__metadata__", None)
    return {n: data[h["data_offsets"][0]:h["data_offsets"][1]] for n, h in header.items()}
lora, new, old = (read(path) for path in sys.argv[1:])
named = {n.split(".")[0] for n in lora}
changed = {"lora_unet_" + n.removesuffix(".weight").replace(".", "_") for n in new if new[n] != old[n]}
assert changed == named and len(named) > 100, (len(named), sorted(changed ^ named))
END
    head -1 "$DIR/prompts" | sd-encode-text -m with -o cond.mpk.zst
    for guidance in 1 1.5; do
        sd-sample-hooked -q -m with --sampler lcm --steps 4 --guidance $guidance --no-activations \
            --latents $guidance.mpk.zst cond.mpk.zst
    done
    is_recorded 1.mpk.zst 11
    is_recorded 1.5.mpk.zst 12
    run ! is_recorded 1.5.mpk.zst 3
}
