#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# backend.bats -- --backend: what is unknown, a machine without a GPU, and that auto goes on there in silence. A machine
# that has a GPU is tests/device.sh's.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PATH="$PWD/bin:$PATH"
    load says
    root=$PWD
    cd "$BATS_TEST_TMPDIR" || return
    if nvidia-smi -L >/dev/null 2>&1; then skip "a GPU answers here"; fi
}

encode() { sd-encode-text "$@" -o "$BATS_TEST_TMPDIR/c.mpk.zst" <<<"a fish"; }

@test "without a driver --backend cuda says so, once, and what there is" {
    if ldconfig -p 2>/dev/null | grep -q libcuda.so.1; then skip "a driver is installed here"; fi
    for name in cuda cuda:0 cuda:3; do
        run -1 encode --backend "$name"
        says 1 "sd-encode-text: backend cuda: no NVIDIA driver here" "there is: cpu"
    done
}

@test "auto goes on with the processor, and says nothing" {
    run -0 --separate-stderr encode --backend auto
    [ -z "$output$stderr" ]
    tstream check -q c.mpk.zst
}

@test "a driver that answers for no device is an error for cuda, and none for auto" {
    [ -e "$root/bin/sdsteer-cuda.so" ] || skip "the GPU backend is not built (make cuda)"
    mkdir -p driver
    echo 'int nothing;' | gcc -shared -fPIC -x c - -o driver/libcuda.so.1
    export LD_LIBRARY_PATH=$PWD/driver
    run -1 encode --backend cuda
    says 1 "backend cuda:0: " "there is: cpu"
    run -0 --separate-stderr encode --backend auto
    [ -z "$output$stderr" ]
}

@test "an unknown backend is refused by name" {
    run encode --backend gpu
    says "$status" "'gpu'" "auto, cpu, cuda"
    [ "$status" != 0 ]
}

@test "f16 is refused where it is not multiplied, and by programs that multiply by an autoencoder alone" {
    run encode --backend cpu --dtype f16
    says 1 "sd-encode-text: --dtype f16: the CPU makes no products in f16"
    [ "${#lines[@]}" = 1 ]
    [ ! -e c.mpk.zst ]
    run sae-encode --sae nowhere --dtype f16
    says 2 "--dtype" "auto|f32|bf16"
}

# image FILE: the values of its one picture
image() { tstream to-npy -t image "$1" -o image.npy && tail -c $((128 * 128 * 3)) image.npy | od -An -v -t u1 -w1; }

@test "bf16 of each level that has it draws the picture of f32 to a few of 255, in the same bytes whatever the batch" {
    grep -qw avx512_bf16 /proc/cpuinfo || skip "this processor multiplies no bf16"
    printf '%s\n' "a fish" "a castle in Van Gogh style" "two dogs" | sd-encode-text --backend cpu -o c.mpk.zst
    draw() { sd-sample-hooked --backend cpu --no-activations --steps 8 "${@:2}" --images "$1.mpk.zst" c.mpk.zst; }
    draw usual
    image usual.mpk.zst > usual
    for level in avx512_bf16 $(grep -qw amx_bf16 /proc/cpuinfo && echo amx); do
        SDSTEER_CPU=$level draw level --dtype bf16
        image level.mpk.zst | paste usual - | awk '{ d = $1 - $2; s += d * d } END { exit !(NR == 49152 && s / NR < 9) }'
        OMP_NUM_THREADS=1 SDSTEER_CPU=$level draw again --dtype bf16 --batch 1
        cmp level.mpk.zst again.mpk.zst
    done
}

@test "each level of the processor, and products by tiles, draw the same picture within 1/255" {
    encode --backend cpu
    draw() { sd-sample-hooked --backend cpu --no-activations --steps 8 --images "$1.mpk.zst" c.mpk.zst; }
    draw usual
    image usual.mpk.zst > usual
    [ "$(wc -l < usual)" = $((128 * 128 * 3)) ]
    for level in any any+tiles $(grep -qw avx2 /proc/cpuinfo && echo avx2 avx2+tiles); do
        SDSTEER_CPU=$level draw level
        image level.mpk.zst | paste usual - | awk '{ d = $1 - $2; if (d < -1 || d > 1) exit 1 }'
        SDSTEER_CPU=$level draw again
        cmp level.mpk.zst again.mpk.zst
        [ "$(tstream view -H level.mpk.zst | jq -r '.provenance[-1].SDSTEER_CPU // empty')" = "$level" ]
    done
    SDSTEER_CPU=avx3 run draw level
    says 1 "SDSTEER_CPU: 'avx3' is unknown" "any, avx2, avx512"
}
