#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-fit-devices.bats -- one autoencoder on several devices, which are processes on the CPU here: what one device
# learns, the same bytes twice, an end of all when one ends.

bats_require_minimum_version 1.5.0

load says
load two_hooks
load weights

small=(--backend cpu -k 8 --expansion 4 --batch 128)
fit() { sae-fit "${small[@]}" "$@"; }

same() { cmp "$1/sae.safetensors" "$2/sae.safetensors"; }

# Sums in another order change last bits; within 60 steps no choice between two features falls otherwise by that.
@test "60 steps on two and three devices: one's weights to 1e-5, and the same bytes twice" {
    fit --epochs 5 -o a one.mpk.zst
    for devices in 2 3; do
        fit --epochs 5 --devices $devices -o b one.mpk.zst
        difference a b
        awk -v d="$(difference a b)" 'BEGIN {exit !(d < 1e-5)}'
        fit --epochs 5 --devices $devices -o out one.mpk.zst
        same b out
    done
    jq -S 'del(.training.provenance, .training.fvu, .training.l0)' a/cfg.json >of-one
    jq -S 'del(.training.provenance, .training.fvu, .training.l0)' b/cfg.json | diff of-one -
}

# Sums' last bits round a few the other way, by which a choice falls otherwise sooner: of some rows within 12 steps.
@test "moments in bf16: a value is rounded the same way whichever device has it" {
    fit --epochs 1 --moments bf16 -o a one.mpk.zst
    fit --epochs 1 --moments bf16 --devices 3 -o b one.mpk.zst
    awk -v share="$(difference a b 1e-5)" 'BEGIN {exit !(share < 0.1)}'
}

@test "480 steps, with dead features: fvu and dead as one device has them, but for a few choices" {
    fit --epochs 40 --eval one.mpk.zst -o a one.mpk.zst
    fit --epochs 40 --eval one.mpk.zst --devices 3 -o b one.mpk.zst
    jq -c '.training | [.fvu, .l0, .dead, .eval.fvu]' a/cfg.json b/cfg.json
    jq -es 'def near($x; $y; $most): ($x - $y | fabs) <= $most*$x;
        map(.training) | near(.[0].fvu; .[1].fvu; 0.01) and near(.[0].eval.fvu; .[1].eval.fvu; 0.02)
        and (.[0].dead - .[1].dead | fabs <= 10) and .[1].l0 == 8' a/cfg.json b/cfg.json
}

@test "clipping at every step, a pipe larger than the buffer, several hooks, a grid" {
    fit --clip 0.01 --buffer 512 --epochs 1 -o a <two.mpk.zst
    fit --clip 0.01 --buffer 512 --epochs 1 --devices 2 -o b <two.mpk.zst
    for hook in up_blocks.0 $HOOK; do
        awk -v d="$(difference a/$hook b/$hook)" 'BEGIN {exit !(d < 1e-5)}'
    done
    fit --devices 2 --grid k=4,8 --log log --report 2 -o out one.mpk.zst
    fit --devices 2 -k 4 -o a one.mpk.zst
    same a out/k=4
    [ "$(jq -s 'map(select(.gradient > 0 and .fvu > 0)) | length' log)" = 12 ]
}

@test "a device that is killed ends all: one message, exit 1, no folder" {
    sae-fit "${small[@]}" --devices 3 --tokens 1G --log log -o out one.mpk.zst 2>err &
    until_there log
    kill -9 "$(pgrep -P $! | tail -1)"
    status=0
    wait $! || status=$?
    cat err
    [ "$status" = 1 ]
    [ "$(wc -l <err)" = 1 ]
    grep -q 'sae-fit: the process of device . of 3 was ended by signal 9' err
    [ -z "$(ls -d out* 2>/dev/null)" ]
}

@test "killed itself it leaves no process behind" {
    sae-fit "${small[@]}" --devices 3 --tokens 1G --log log -o out one.mpk.zst 2>/dev/null &
    until_there log
    others=$(pgrep -P $!)
    kill -9 $!
    wait $! || true
    for _ in {1..50}; do
        [ -n "$(ps -o stat= -p "$(echo $others | tr ' ' ,)" | grep -v Z)" ] || return 0
        sleep 0.1
    done
    false
}

@test "SIGTERM: what was learned is saved; with --checkpoint it goes on, in the same bytes" {
    sae-fit "${small[@]}" --devices 2 --tokens 1G --log log -o out one.mpk.zst &
    until_there log
    kill -TERM $!
    wait $!
    [ "$(jq .training.stopped out/cfg.json)" = true ]
    fit --devices 2 --epochs 40 -o a one.mpk.zst
    sae-fit "${small[@]}" --devices 2 --epochs 40 --checkpoint ckpt --every 5 -o b one.mpk.zst &
    until_there ckpt
    kill -9 $! 2>/dev/null || true
    wait $! || true
    rm -rf b
    fit --devices 2 --epochs 40 --checkpoint ckpt --every 5 --resume -o b one.mpk.zst
    same a b
}

@test "what cannot be is said: a loss that is no number, variants, too few features a device, too many devices" {
    run fit --devices 2 --lr 1e9 -o out one.mpk.zst
    says 1 "step 2" "128 tokens" reconstruction --lr
    for wrong in "--variant batchtopk" --multi "--labels concept" "--resample 1000" "--grid variant=topk,relu"; do
        run fit --devices 2 $wrong -o out one.mpk.zst
        says 2 topk devices
    done
    run fit --devices 2 --features 14 -o out one.mpk.zst
    says 1 "8 features" "7 that each of 2 devices"
    run fit --devices 65 -o out one.mpk.zst
    says 2 --devices 64
    run fit --devices 2 -o out missing.mpk.zst
    says 1 missing.mpk.zst
    [ ! -e out ]
}
