#!/bin/bash
# SPDX-License-Identifier: MIT
# device.sh -- the CUDA backend on an NVIDIA GPU: its ops against the CPU's, the models' recorded values, then speeds;
# leaves one report.
#
#     tests/device.sh         builds where it can, runs, and writes build/device.txt ($REPORT names another place)
#     tests/device.sh pack    where there is no GPU: builds, and fills build/device.tar.xz with what a machine needs
#                             that has a GPU but no packages: programs, tests, the libraries that they open; and
#                             build/device-run.tar.xz with that and all else that a run reads, to be unpacked into an
#                             empty folder and run there. Fails where that folder would hold over 60 MB.
#     tests/device.sh cpu     what can be run without a GPU, on the CPU, which tells whether all is there
#
# Exits 77 where there is no GPU, 1 when a test or a timing failed, with the report written either way. A packed archive
# is used where it lies, in place of a build. PARTS="tests pipeline speeds sd15 hopper peers" are the parts that run;
# sd15, hopper and peers need python3 with numpy, peers torch, diffusers and sparsify too, and say what is missing.
# Stable Diffusion 1.5's shape takes 2.1 GB in TMPDIR. hopper is for the kernels of compute capability 9 one by one, on
# a device of that kind: device-hopper beside this, where LIMIT=SECONDS leaves out what would end later. PARTS=profile,
# not run unasked, tells which kernels an evaluation spends its time in, by Nsight Compute (ncu) where it may read the
# device's counters; REPORT-profile.tar.xz has each kernel, and what ncu says of some.
set -u
tests=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$tests")
packed=$root/build/device
report=${REPORT:-$root/build/device.txt}
jobs=$(nproc)
pipeline="sd-encode-text sd-sample-hooked sae-fit sae-encode sd-steer"
# Beside what is packed; paths from the root.
reads="tests/device.sh tests/device-hopper tests/reference/random_sd15.py tests/bench/device_peers.py
    tests/bench/device_kernels.py data/minisd/model"
# Recorded values, packed with the programs; paths from here.
recorded="golden golden-more/text_names golden-more/prepare.safetensors golden-more/sdxl golden-more/sdxl.safetensors
    golden-more/dpm_run.safetensors golden-more/euler_run.safetensors golden-more/pndm_runs.safetensors
    golden-more/unipc_runs.safetensors
    golden-more/init.safetensors golden-more/lcm golden-more/lcm_init.safetensors golden-more/lcm_runs.safetensors
    golden-more/clip_skip.safetensors golden-more/long.safetensors golden-more/text_steer.safetensors
    golden-more/text_sae golden-more/vit golden-more/sd3 golden-more/sd3.safetensors golden-more/sd3_kinds
    golden-more/sd3_init.safetensors golden-more/t5"
most=60000000       # bytes of all of it
models="golden_text golden_clip golden_unet golden_unet_hooks golden_vae golden_run golden_saeuron golden_sdxl
    golden_pipeline golden_init golden_long golden_clip_skip golden_text_steer golden_vit golden_t5
    golden_mmdit golden_sd3 latent_texts waypoints capture"

if [ "${1-}" = pack ]; then
    set -e
    make -s -C "$root" -j"$jobs" all units benches cuda
    make -s -C "$root" -j"$jobs" cuda-watch >"$root/build/device-make.log" 2>&1
    rm -rf "$packed"
    mkdir -p "$packed/bin/watch" "$packed/tests" "$packed/bench" "$packed/lib"
    for program in $pipeline sdsteer-cuda.so; do cp "$root/bin/$program" "$packed/bin"; done
    cp "$root/bin/watch/sdsteer-cuda.so" "$packed/bin/watch"
    for test in $models kernel_alone; do cp "$root/build/tests/$test" "$packed/tests"; done
    cp "$root"/build/tests/*_cuda "$packed/tests"
    cp "$root/build/bench/device_speed" "$root/build/bench/sae_device_speed" "$root/build/bench/unet_speed" \
        "$root/build/bench/pipe_speed" "$packed/bench"
    for program in "$packed"/tests/* "$packed/bin/sae-fit"; do ldd "$program"; done |
        awk '$3 ~ /^\// && $1 !~ /^(libc|libm|libdl|libpthread|librt|libgcc_s)\./ {print $3}' | sort -u |
        xargs cp -L -t "$packed/lib"
    find "$packed/bin" "$packed/tests" "$packed/bench" -type f -exec strip {} +
    mkdir -p "$packed/recorded/tests"
    # shellcheck disable=SC2086
    (cd "$tests" && cp -R --parents -t "$packed/recorded/tests" $recorded)
    # programs first, most of whose text is the same; calls as absolute addresses, which repeat
    tar -C "$packed" -c tests bench bin lib recorded | xz --x86 --lzma2=preset=9e >"$packed.tar.xz"
    # shellcheck disable=SC2086
    bytes=$(cd "$root" && find $reads build/device.tar.xz -type f -printf '%s\n' | awk '{sum += $1} END {print sum}')
    # shellcheck disable=SC2086
    tar -C "$root" -c $reads build/device.tar.xz | xz -T0 >"$packed-run.tar.xz"
    printf '%s: %s bytes of programs and recorded values\n' build/device.tar.xz "$(stat -c %s "$packed.tar.xz")"
    printf '%s: %s bytes, for a folder of %s\n' build/device-run.tar.xz "$(stat -c %s "$packed-run.tar.xz")" "$bytes"
    if [ "$bytes" -gt $most ]; then
        echo "that is more than $most"
        exit 1
    fi
    exit 0
fi

backend=cuda
if [ "${1-}" = cpu ]; then
    backend=cpu
elif ! nvidia-smi -L >/dev/null 2>&1; then
    echo "no NVIDIA GPU answers here"
    exit 77
fi

mkdir -p "$(dirname "$report")"
failed=0

# Tests that skip where there is no NCCL, of which there is none without libraries.
of_nccl() { case $1 in comm_cuda | sae_shards_cuda) ;; *) return 1 ;; esac; }

say() { printf '%s\n' "$*" | tee -a "$report"; }

# COMMAND...: what it says goes to the report
measure() {
    timeout -k 5 150 "$@" 2>&1 | tee -a "$report"
    local status=${PIPESTATUS[0]}
    [ "$status" = 0 ] || { failed=1; say "FAIL  $(basename "$1"), exit $status"; }
}

# SECONDS WORD...: what takes so long, said and passed over where it would end after LIMIT
time_left() {
    [ -z "${LIMIT-}" ] || [ $((SECONDS + $1)) -le "$LIMIT" ] || { say "SKIP  ${*:2}: no time left"; return 1; }
}

# WORD...: what needs a GPU, said and passed over where there is to be none
on_gpu() {
    [ $backend = cuda ] || { say "SKIP  $*: on a GPU only"; return 1; }
}

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# NAME COMMAND...: begins a check, beside those that run
check() {
    local log
    checks=$((checks + 1))
    log=$results/$(printf '%03d' "$checks")
    echo "$1" >"$log.name"
    shift
    (
        start=$SECONDS
        timeout -k 5 120 "$@" >"$log" 2>&1
        echo "$? $((SECONDS - start))" >"$log.status"
    ) &
}
checks=0

# Waits for the checks: a line of the report each; what a failing one said follows it.
settle() {
    local log status seconds
    wait
    for log in "$results"/*.name; do
        log=${log%.name}
        status=lost seconds='?'
        [ ! -e "$log.status" ] || read -r status seconds <"$log.status"
        case $status in
            0) say "ok    $(cat "$log.name"), $seconds s" ;;
            77)             # where a GPU is, what it skips for is wrong, unless it is NCCL
                [ $backend = cpu ] || of_nccl "$(cat "$log.name")" || failed=1
                say "SKIP  $(cat "$log.name"): $(tail -n 1 "$log")"
                ;;
            *)
                failed=1
                say "FAIL  $(cat "$log.name"), exit $status, $seconds s"
                grep -v '^ok ' "$log" | head -n 30 | sed 's/^/      | /' | tee -a "$report"
                ;;
        esac
        rm -f "$log" "$log.name" "$log.status"
    done
}

before=${LD_LIBRARY_PATH-}
: >"$report"
say "== $(date -u +%Y-%m-%dT%H:%M:%SZ)"
if [ $backend = cuda ]; then
    say "$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader | head -n 1)"
else
    say "on the CPU"
fi
if [ -e "$packed.tar.xz" ]; then
    rm -rf "$packed"
    mkdir -p "$packed"
    if ! tar -C "$packed" -xJf "$packed.tar.xz"; then
        say "$packed.tar.xz cannot be unpacked"
        exit 1
    fi
    say "packed elsewhere"
    there=$packed programs=$packed/bin values=$packed/recorded/tests
    ln -s "$root/data" "$packed/recorded/data"
    export LD_LIBRARY_PATH=$packed/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
elif make -s -C "$root" -j"$jobs" all units benches cuda cuda-watch >"$root/build/device-make.log" 2>&1 &&
    [ -e "$root/bin/sdsteer-cuda.so" ]; then
    say "built here: $(PATH=$PATH:/usr/local/cuda/bin nvcc --version | tail -n 2 | head -n 1)"
    there=$root/build programs=$root/bin values=$tests
else
    say "cannot build: $(tail -n 3 "$root/build/device-make.log")"
    exit 1
fi
export SDSTEER_TESTS=$values SDSTEER_TEST_BACKEND=$backend PATH=$programs:$PATH LC_ALL=C.UTF-8 SDSTEER_DATA=$root/data
export LD_LIBRARY_PATH=$programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# cuDNN and cuBLASLt may lie where a Python package put them.
for folder in {/usr,/usr/local,/opt/*,/opt/*/.venv}/lib/python3*/*-packages/nvidia; do
    for lib in "$folder"/*/lib; do
        if [ -d "$lib" ]; then LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$lib; fi
    done
done

wanted() { case " ${PARTS-tests pipeline speeds sd15 hopper peers} " in *" $1 "*) ;; *) return 1 ;; esac; }

if wanted tests; then
    say "== ops against the CPU's: by the kernels of every device alone, by this one's and NVIDIA's libraries; models"
    export OMP_NUM_THREADS=4
    for test in "$there"/tests/*_cuda; do
        name=$(basename "$test")
        of_nccl "$name" ||
            check "$name, own kernels" env SDSTEER_CUDA_LIBRARIES=none SDSTEER_CUDA_KERNELS=portable "$test"
        check "$name" "$test"
    done
    for test in $models; do
        check "$test" "$there/tests/$test"
    done
    settle
    unset OMP_NUM_THREADS
fi

if wanted pipeline; then
    say "== the pipeline, as programs"
    work=$(mktemp -d)
    trap 'rm -rf "$results" "$work"' EXIT
    printf '%s\n' 'a red tower' 'a blue fish' >"$work/prompts.txt"
    cond=$work/cond.mpk.zst acts=$work/acts.mpk.zst
    check "sd-encode-text" sd-encode-text --backend $backend -o "$cond" "$work/prompts.txt"
    settle
    check "sd-sample-hooked" sd-sample-hooked --backend $backend --steps 10 --latents "$work/latents.mpk.zst" \
        -o "$acts" "$cond"
    check "sd-sample-hooked, picture by picture" \
        sd-sample-hooked --backend $backend --steps 10 --batch 1 -o "$work/one.mpk.zst" "$cond"
    settle
    check "the same bytes for any batch" cmp "$acts" "$work/one.mpk.zst"
    for run in sae again; do
        check "sae-fit" sae-fit --backend $backend --quiet --topk 16 --features 2048 -o "$work/$run" "$acts"
    done
    check "sae-fit, moments in bf16" sae-fit --backend $backend --quiet --topk 16 --features 2048 --moments bf16 \
        -o "$work/lean" "$acts"
    settle
    check "the same autoencoder twice" cmp "$work/sae/sae.safetensors" "$work/again/sae.safetensors"
    check "sae-encode" sae-encode --backend $backend -q --sae "$work/sae" -o "$work/features.mpk.zst" "$acts"
    check "sd-steer" sd-steer --backend $backend -q --steps 10 --sae "$work/sae" --feature 5=0 \
        -o "$work/pictures.mpk.zst" "$cond"
    if on_gpu "sd-steer in f16"; then
        check "sd-steer, f16" sd-steer --backend $backend -q --steps 10 --dtype f16 --sae "$work/sae" --feature 5=0 \
            -o "$work/pictures-f16.mpk.zst" "$cond"
    fi
    settle
fi

if wanted speeds; then
    say "== speeds"
    if on_gpu "the speed of each op and of autoencoders"; then
        for how in SDSTEER_CUDA_LIBRARIES=none SDSTEER_CUDA_LIBRARIES=all; do
            say "-- $how"
            export "${how?}"
            measure "$there/bench/device_speed" cuda 16
            SDSTEER_BACKEND=cuda measure "$there/bench/unet_speed" "$root/data/minisd/model"
        done
        unset SDSTEER_CUDA_LIBRARIES
        say "-- f16"
        measure "$there/bench/device_speed" cuda 16 f16
        measure "$there/bench/sae_device_speed" cuda
        measure "$there/bench/sae_device_speed" cuda 4096 1280 40960
    else
        SDSTEER_BACKEND=cpu measure "$there/bench/unet_speed" "$root/data/minisd/model"
    fi
    measure "$there/bench/pipe_speed"
fi

# As it was before the packed libraries were put in front.
python() { LD_LIBRARY_PATH=$before python3 "$@"; }

# The model of that shape, made once.
sd15_model() {
    [ ! -e "$results/sd15/made" ] || return 0
    mkdir -p "$results/sd15"
    python "$tests/reference/random_sd15.py" "$results/sd15" "$root/data/minisd/model" 2>"$results/python" &&
        touch "$results/sd15/made"
}

# "BATCH TYPE [f32]"...
sd15_speed() {
    local run
    if ! sd15_model; then
        say "no model: $(tail -n 1 "$results/python")"
        return
    fi
    for run; do
        # shellcheck disable=SC2086
        SDSTEER_BACKEND=cuda measure "$there/bench/unet_speed" "$results/sd15" ${run/ / 64 }
    done
}

if wanted sd15 && on_gpu "Stable Diffusion 1.5's shape"; then
    say "== Stable Diffusion 1.5's shape"
    sd15_speed "32 bf16" "32 f16" "2 bf16" "2 f16"
fi

if wanted hopper && on_gpu "kernels of compute capability 9"; then
    # shellcheck source=tests/device-hopper
    . "$tests/device-hopper"
fi

# FILE OPTION... -- COMMAND...: what ncu says of the kernels of a command
profile() {
    local file=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    timeout -k 5 90 ncu --clock-control none --log-file "$file" "${options[@]}" "${@:2}" >"$results/ncu" 2>&1 ||
        say "ncu: exit $?, $(tail -n 1 "$results/ncu")"
}

if wanted profile && on_gpu "kernels by ncu"; then
    say "== kernels of Stable Diffusion 1.5's shape, one by one: how many, microseconds, GB/s of device memory"
    mkdir -p "$results/profile"
    if ! command -v ncu >/dev/null; then
        say "no ncu here"
    elif ! sd15_model; then
        say "no model: $(tail -n 1 "$results/python")"
    else
        for batch in 2 32; do
            say "-- $batch images"
            csv=$results/profile/unet-$batch.csv
            metrics=gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum
            SDSTEER_BACKEND=cuda profile "$csv" --profile-from-start off --cache-control none --metrics $metrics \
                --csv --print-units base -- "$there/bench/unet_speed" "$results/sd15" $batch 64 bf16
            python "$tests/bench/device_kernels.py" "$csv" 2>&1 | head -n 25 | tee -a "$report"
            python "$tests/bench/device_kernels.py" --each "$csv" >"$results/profile/unet-$batch.tsv" 2>&1
        done
        for kernel in "attend_hopper attention 8x40 4096-4096" "norm_part group norm 320 at 64x64, SiLU, bf16 out" \
            "norm_part group norm 320 at 64x64, SiLU, bf16 in" "multiply linear 320-2560 of 64x64 bf16, gated"; do
            profile "$results/profile/${kernel//[ ,]/_}.txt" --set full -k "regex:${kernel%% *}" -s 2 -c 1 \
                --page details -- "$there/bench/device_speed" cuda 16 bf16 "${kernel#* }"
        done
        tar -C "$results/profile" -cJf "${report%.txt}-profile.tar.xz" .
        say "each, and what ncu says of some: ${report%.txt}-profile.tar.xz"
    fi
fi

if wanted peers && on_gpu "the peers"; then
    say "== the peers"
    for peer in "unet 32 2" "sae 1280 40960 32 4096"; do
        # shellcheck disable=SC2086
        if ! python "$tests/bench/device_peers.py" $peer 2>"$results/python" | tee -a "$report" | grep .; then
            say "$peer: python3, torch or the library is missing: $(tail -n 1 "$results/python")"
        fi
    done
fi
if [ $backend = cuda ]; then
    say "== clocks after: $(nvidia-smi --query-gpu=clocks.sm,temperature.gpu,power.draw --format=csv,noheader |
        head -n 1)"
fi
exit $failed
