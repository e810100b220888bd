#!/bin/bash
# SPDX-License-Identifier: MIT
# device.sh -- the CUDA backend on an NVIDIA GPU: its ops against the CPU's, the models' recorded values, then speeds; leaves
# one report.
#
#     tests/device.sh            builds where it can, runs, and writes build/device.txt ($REPORT names another place)
#     tests/device.sh pack       where there is no GPU: builds, and fills build/device with what a machine needs that has
#                                a GPU but no compiler or packages: programs, tests, the libraries that they open
#
# Exits 77 where there is no GPU, 1 when a test failed, with the report written either way. A packed folder is used where
# `make` cannot build.
set -u
tests=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tests")
packed=$root/build/device
report=${REPORT:-$root/build/device.txt}
jobs=$(nproc)
pipeline="sd-encode-text sd-sample-hooked sae-fit sae-encode"
models="golden_text golden_clip golden_unet golden_unet_hooks golden_vae golden_run golden_saeuron sae_golden"

if [ "${1-}" = pack ]; then
    set -e
    make -s -C "$root" -j"$jobs" all units benches cuda
    rm -rf "$packed"
    mkdir -p "$packed/bin" "$packed/tests" "$packed/bench" "$packed/lib"
    for program in $pipeline sdsteer-cuda.so; do cp "$root/bin/$program" "$packed/bin"; done
    for test in $models; do cp "$root/build/tests/$test" "$packed/tests"; done
    cp "$root"/build/tests/op_*cuda "$packed/tests"
    cp "$root/build/bench/device_speed" "$root/build/bench/unet_speed" "$packed/bench"
    for program in "$packed"/tests/* "$packed/bin/sae-fit"; do ldd "$program"; done |
        awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libdl|libpthread|librt|libgcc_s)\./ {print $3}' | sort -u | xargs cp -L -t "$packed/lib"
    strip --strip-debug "$packed"/bin/* "$packed"/tests/* "$packed"/bench/*
    du -sh "$packed"
    exit 0
fi

if ! nvidia-smi -L >/dev/null 2>&1; then
    echo "no NVIDIA GPU answers here"
    exit 77
fi

mkdir -p "$(dirname "$report")"
failed=0

say() { printf '%s\n' "$*" | tee -a "$report"; }

# NAME COMMAND...: one line of the report; what a failing command said follows it
check() {
    local name=$1 log status start=$SECONDS
    shift
    log=$(mktemp)
    "$@" >"$log" 2>&1
    status=$?
    case $status in
        0) say "ok    $name, $((SECONDS - start)) s" ;;
        77)             # a GPU is here, so what it skips for is wrong
            failed=1
            say "SKIP  $name: $(tail -n 1 "$log")"
            ;;
        *)
            failed=1
            say "FAIL  $name, exit $status"
            grep -v '^ok ' "$log" | head -n 30 | sed 's/^/      | /' | tee -a "$report"
            ;;
    esac
    rm -f "$log"
}

: >"$report"
say "== $(date -u +%Y-%m-%dT%H:%M:%SZ)"
say "$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader | head -n 1)"
if command -v nvcc >/dev/null && make -s -C "$root" -j"$jobs" all units benches cuda >"$root/build/device-make.log" 2>&1; then
    say "built here: $(nvcc --version | tail -n 2 | head -n 1)"
    there=$root/build programs=$root/bin
elif [ -d "$packed" ]; then
    say "packed elsewhere; make here said: $(tail -n 1 "$root/build/device-make.log" 2>/dev/null)"
    there=$packed programs=$packed/bin
    export LD_LIBRARY_PATH=$packed/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
else
    say "cannot build: $(tail -n 3 "$root/build/device-make.log" 2>/dev/null)"
    exit 1
fi
export SDSTEER_TESTS=$tests SDSTEER_TEST_BACKEND=cuda LD_LIBRARY_PATH="$programs:${LD_LIBRARY_PATH-}" PATH=$programs:$PATH
export LC_ALL=C.UTF-8 SDSTEER_DATA=$root/data

# cuDNN and cuBLASLt may lie where a Python package put them.
for folder in {/usr,/usr/local,/opt/*}/lib/python3*/*-packages/nvidia; do
    for lib in "$folder"/*/lib; do
        if [ -d "$lib" ]; then LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$lib; fi
    done
done

say "== ops against the CPU's: own kernels alone, then with NVIDIA's libraries where they are found"
for test in "$there"/tests/op_*cuda; do
    check "$(basename "$test"), own kernels" env SDSTEER_CUDA_LIBRARIES=none "$test"
    check "$(basename "$test")" "$test"
done

say "== models against recorded values"
for test in $models; do
    check "$test" "$there/tests/$test"
done

say "== the pipeline, as programs"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' 'a red tower' 'a blue fish' >"$work/prompts.txt"
check "sd-encode-text" sd-encode-text --backend cuda -o "$work/cond.mpk.zst" "$work/prompts.txt"
check "sd-sample-hooked" sd-sample-hooked --backend cuda --steps 10 -o "$work/acts.mpk.zst" "$work/cond.mpk.zst"
check "sae-fit" sae-fit --backend cuda --quiet --topk 16 --features 2048 -o "$work/sae" "$work/acts.mpk.zst"
check "sae-encode" sae-encode --backend cuda -q --sae "$work/sae" -o "$work/features.mpk.zst" "$work/acts.mpk.zst"

say "== speeds"
for libraries in none all; do
    say "-- SDSTEER_CUDA_LIBRARIES=$libraries"
    SDSTEER_CUDA_LIBRARIES=$libraries "$there/bench/device_speed" cuda 16 2>&1 | tee -a "$report"
    SDSTEER_CUDA_LIBRARIES=$libraries SDSTEER_BACKEND=cuda "$there/bench/unet_speed" "$root/data/minisd/model" 2>&1 | tee -a "$report"
done
say "== clocks after: $(nvidia-smi --query-gpu=clocks.sm,temperature.gpu,power.draw --format=csv,noheader | head -n 1)"
exit $failed
