#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-fit-resume.bats -- killed at random moments and resumed, a fit ends in the bytes of an undisturbed one; 20 kills a
# case with SLOW=1, else 4.

bats_require_minimum_version 1.5.0

load two_hooks

fit() { sae-fit -k 8 --expansion 4 --batch 128 "$@"; }

# Kills the fit given some times, more where none left a checkpoint (a machine that others keep busy, so that it takes
# longer than it did), then lets it end; compares with the undisturbed one.
killed() {
    local kills=4 done=0 begun took
    [ -z "${SLOW-}" ] || kills=20
    begun=${EPOCHREALTIME/./}
    fit "$@" -o a
    took=$(( (${EPOCHREALTIME/./} - begun)/1000 ))      # ms
    for ((n = 0; n < kills || (done == 0 && n < 40); n++)); do
        sae-fit -k 8 --expansion 4 --batch 128 "$@" --checkpoint ckpt --every 3 --resume -o b &
        [ $n -lt $kills ] || took=$((took*3/2))
        sleep "$(awk -v r=$RANDOM -v t=$took 'BEGIN {print r/32768*t/1000}')"
        kill -9 $! 2>/dev/null || true
        wait $! 2>/dev/null || true
        [ ! -e ckpt ] || done=$((done + 1))
        rm -rf b b.part-*
    done
    echo "$done of $n kills left a checkpoint, after a run of $took ms"
    [ "$done" -gt 0 ]
    fit "$@" --checkpoint ckpt --every 3 --resume -o b
    diff -r a b
    [ ! -e ckpt ]
}

@test "killed: many passes from memory" { killed --epochs 60 one.mpk.zst; }

@test "killed: a buffer smaller than the input, several readings" { killed --epochs 40 --buffer 512 one.mpk.zst; }

@test "killed: two hooks, a number of tokens, dead features" {
    killed --tokens 60000 --buffer 700 --dead 2000 two.mpk.zst;
}

@test "killed: batchtopk" { killed --variant batchtopk --epochs 60 one.mpk.zst; }

@test "killed: jumprelu, its thresholds" { killed --variant jumprelu --epochs 30 one.mpk.zst; }

@test "killed: moments in bf16, dead features, some begun anew" {
    killed --moments bf16 --epochs 40 --dead 2000 --resample 8K one.mpk.zst;
}

@test "killed: labels" { killed --labels concept,theme --epochs 30 --buffer 1400 one.mpk.zst; }

@test "killed: a grid, several readings" {
    killed --grid k=4,8 --grid batch=128,96 --epochs 15 --buffer 700 one.mpk.zst;
}

@test "killed at its first checkpoint, which comes after 1 to 12 steps" {
    fit --epochs 2 --buffer 512 --seed 4 -o a one.mpk.zst
    for ((n = 0; n < 12; n++)); do
        sae-fit -k 8 --expansion 4 --batch 128 --epochs 2 --buffer 512 --seed 4 --checkpoint ckpt --every $((n + 1)) \
            -o b one.mpk.zst &
        until [ -e ckpt ] || ! kill -0 $! 2>/dev/null; do :; done
        kill -9 $! 2>/dev/null || true
        wait $! 2>/dev/null || true
        [ ! -e ckpt ] || cp ckpt kept.$n
        rm -rf b b.part-* ckpt ckpt.part-*
    done
    compgen -G "kept.*" >/dev/null
    for c in kept.*; do
        fit --epochs 2 --buffer 512 --seed 4 --checkpoint "$c" --resume -o b one.mpk.zst
        diff -r a b
        rm -rf b
    done
}

# Tells a fit, of 100 epochs and these options, to stop when FILE is there, and lets it go on; a is the undisturbed one.
told_to_stop() {
    local file=$1
    rm -rf b "$file"
    sae-fit -k 8 --expansion 4 --batch 128 --epochs 100 --checkpoint ckpt "${@:2}" -o b one.mpk.zst &
    until [ -s "$file" ]; do sleep 0.01; done
    kill -TERM $!
    wait $!
    [ -s ckpt ]
    [ ! -e b ]
    fit --epochs 100 --checkpoint ckpt --resume -o b one.mpk.zst
    diff -r a b
}

@test "SIGTERM writes the checkpoint, no folder, and exits 0; --resume goes on to the same bytes" {
    fit --epochs 100 -o a one.mpk.zst
    told_to_stop log --log log --report 1
    for ((n = 0; n < 6; n++)); do       # while a checkpoint is written, as one is after every step
        told_to_stop ckpt --every 1
    done
}

@test "other options, another input, a cut checkpoint: one message each, exit 1; --resume alone is misuse" {
    sae-fit -k 8 --expansion 4 --batch 128 --tokens 1G --log log --report 1 --checkpoint ckpt -o b one.mpk.zst &
    until [ -s log ]; do sleep 0.02; done
    kill -TERM $!
    wait $!
    run fit --tokens 1G --seed 9 --checkpoint ckpt --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *ckpt*seed=0*seed=9* ]]
    # by name: an option that only one of them has shifts no others
    run fit --tokens 1G --eval one.mpk.zst --checkpoint ckpt --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [ "$output" = "sae-fit: ckpt: was made without --eval=one.mpk.zst, which is given here" ]
    run fit --tokens 1G --multi --checkpoint ckpt --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [ "$output" = "sae-fit: ckpt: was made without --multi, which is given here" ]
    run fit --tokens 1G --checkpoint ckpt --resume -o b two.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *"another input"* ]]
    sae-fit -k 8 --expansion 4 --batch 128 --tokens 1G --grid k=4,8 --grid batch=64,128 --eval one.mpk.zst \
        --log grid.log --report 1 --checkpoint grid.ckpt -o b one.mpk.zst &
    until [ -s grid.log ]; do sleep 0.02; done
    kill -TERM $!
    wait $!
    run fit --tokens 1G --grid k=4,8 --grid batch=64,128 --checkpoint grid.ckpt --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [ "$output" = "sae-fit: grid.ckpt: was made with --eval=one.mpk.zst, which is not given here" ]
    run fit --tokens 1G --grid batch=64,128 --grid k=4,8 --checkpoint grid.ckpt --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [ "$output" = "sae-fit: grid.ckpt: was made with --grid=k=4,8, this is --grid=batch=64,128" ]
    head -c 5000 ckpt >ckpt.cut
    run fit --tokens 1G --checkpoint ckpt.cut --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *ckpt.cut* ]]
    sum=$("$SDSTEER_TESTS/edit_tensors.py" ckpt ckpt.same 'print(m["checksum"])')
    [[ $sum =~ ^[0-9a-f]{16}$ ]]
    flip='def flip(end):
    n = next(n for n in t if n.endswith(end))
    t[n][2] = bytes([t[n][2][0] ^ 1]) + t[n][2][1:]
'
    for change in 'flip("/W_dec")' 'flip("/buffer.data")' 'flip("/learner.place")' \
        'm["checkpoint"] = m["checkpoint"].replace("--lr=0", "--lr=1")'; do
        "$SDSTEER_TESTS/edit_tensors.py" ckpt ckpt.bit "$flip$change"
        run fit --tokens 1G --checkpoint ckpt.bit --resume -o b one.mpk.zst
        [ "$status" = 1 ]
        [[ $output == "sae-fit: ckpt.bit: the checksum is "*", expected $sum: the file was damaged" ]]
    done
    "$SDSTEER_TESTS/edit_tensors.py" ckpt ckpt.old 'del m["checksum"]'
    run fit --tokens 1G --checkpoint ckpt.old --resume -o b one.mpk.zst
    [ "$status" = 1 ]
    [[ $output == "sae-fit: ckpt.old: its metadata has no field 'checksum'"* ]]
    run fit --resume -o b one.mpk.zst
    [ "$status" = 2 ]
    [[ $output == *checkpoint* ]]
}
