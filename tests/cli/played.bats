#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# played.bats -- whole programs on the GPU's code, which the host plays (tests/simt) in place of a device: what they
# queue, keep on it, bring back and write beside it is the CPU's, and the same whatever the batch. One step of small
# pictures: a device is played a hundred times as slowly as the processor computes.

bats_require_minimum_version 1.5.0

load says
load weights

small=(--features 512 -k 8 --batch 64 --epochs 6)       # an autoencoder

setup_file() {
    local root=$BATS_TEST_DIRNAME/../.. played
    played=$root/build/simt/sdsteer-cuda.so
    [ -e "$played" ] || skip "the kernels are not built for the host (no C++ compiler)"
    cd "$BATS_FILE_TMPDIR" || return
    # as installed where there is a device: the programs take the backend beside them, and look for a driver first
    mkdir bin
    cp "$root"/bin/sd-* "$root"/bin/sae-* "$played" bin/
    cp "$played" bin/libcuda.so.1
    export PATH=$PWD/bin:$PATH LD_LIBRARY_PATH=$PWD/bin SDSTEER_DATA=$root/data OMP_NUM_THREADS=1
    sd-assemble-prompts -n 1 | head -2 | sd-encode-text --backend cpu -o cond.mpk.zst
    sd-sample-hooked --backend cpu --steps 1 -o acts.mpk.zst --latents latents.mpk.zst cond.mpk.zst
    sae-fit --backend cpu "${small[@]}" -o sae acts.mpk.zst
    sae-rank-concepts --backend cpu --sae sae --score difference -o ranks.mpk.zst acts.mpk.zst
}

setup() { cd "$BATS_FILE_TMPDIR" || return; }

# npy FILE TENSOR: in FILE.npy
npy() { tstream to-npy -t "$2" -o "$1.npy" "$1"; }

# values FILE TENSOR [u1]: a line each, of f32 or bytes; an .npy file has its header's length at 8
values() {
    local type=${3:-f4} header
    npy "$1" "$2"
    header=$(od -An -j 8 -N 2 -t u2 "$1.npy")
    tail -c "+$((header + 11))" "$1.npy" | od -An -v "-w${type#?}" -t "$type"
}

# near SHARE A B: lists of values, apart by at most that share of B's largest
near() {
    paste "$2" "$3" | awk -v share="$1" '{d = $1 - $2; d = d < 0 ? -d : d; b = $2 < 0 ? -$2 : $2}
        d > worst {worst = d} b > most {most = b}
        END {print worst/most; exit !(NR > 100 && worst <= share*most)}'
}

@test "a capture, batch by batch: the CPU's latents; in bf16 the same bytes whatever the batch" {
    sd-sample-hooked --backend cuda --steps 1 --batch 1 -o a.mpk.zst --latents l.mpk.zst cond.mpk.zst
    near 1e-5 <(values l.mpk.zst latent) <(values latents.mpk.zst latent)
    for batch in 1 2; do
        sd-sample-hooked --backend cuda --dtype bf16 --steps 1 --batch $batch --act-type f32 -o $batch.mpk.zst \
            --latents l$batch.mpk.zst cond.mpk.zst
    done
    cmp 1.mpk.zst 2.mpk.zst
    near 0.01 <(values l1.mpk.zst latent) <(values latents.mpk.zst latent)
}

@test "a sweep with gates, unsteered pictures among them, in one batch" {
    for backend in cpu cuda; do
        head -1 <(sd-assemble-prompts -n 1) | sd-encode-text --backend cpu |
            sd-steer --backend $backend --sae sae --ranks ranks.mpk.zst --top 5 --mode replace --multiplier -9 \
                --gate 0.3 --unsteered --sweep concept=all --steps 1 --latents $backend.mpk.zst \
                -o pictures-$backend.mpk.zst
    done
    tstream view cpu.mpk.zst | jq -c 'del(.latent)' >of-cpu
    tstream view cuda.mpk.zst | jq -c 'del(.latent)' | diff of-cpu -
    [ "$(grep -c steering of-cpu)" = 2 ]
    near 1e-4 <(values cuda.mpk.zst latent) <(values cpu.mpk.zst latent)
    paste <(values pictures-cpu.mpk.zst image u1) <(values pictures-cuda.mpk.zst image u1) |
        awk '{d = $1 - $2; far += d < -1 || d > 1; apart += d != 0}
        END {print apart, "of", NR; exit !(NR == 3*128*128*3 && far == 0 && apart < NR/1000)}'
}

@test "autoencoders: fitted with either kind of moments, encoded and measured as on the CPU" {
    for moments in f32 bf16; do
        for backend in cpu cuda; do
            sae-fit --backend $backend "${small[@]}" --moments $moments -o $backend acts.mpk.zst
        done
        jq -es '(.[1].training.fvu/.[0].training.fvu - 1) as $d | $d < 1e-3 and $d > -1e-3' cpu/cfg.json cuda/cfg.json
    done
    for backend in cpu cuda; do
        sae-encode --backend $backend --sae sae acts.mpk.zst -o $backend.mpk.zst
        sae-eval --backend $backend --sae sae acts.mpk.zst | cut -f 1-5 >$backend.tsv
    done
    for backend in cpu cuda; do npy $backend.mpk.zst index; done
    cmp cpu.mpk.zst.npy cuda.mpk.zst.npy
    diff cpu.tsv cuda.tsv
}

# Each a process with a device of its own; NCCL is tests/simt/fake_nccl.cc. In 12 steps no choice falls otherwise.
@test "an autoencoder on two devices: what the CPU learns; killed and resumed, the same bytes; no fifth of four" {
    fit() { sae-fit --backend "$1" "${small[@]}" "${@:2}" acts.mpk.zst; }
    fit cpu -o one
    fit cuda --devices 2 -o two
    awk -v d="$(difference one two)" 'BEGIN {print d; exit !(d < 1e-5)}'
    sae-fit --backend cuda --devices 2 "${small[@]}" --checkpoint ckpt --every 2 -o killed acts.mpk.zst &
    until_there ckpt
    kill -9 $!
    wait $! || true
    fit cuda --devices 2 --checkpoint ckpt --resume --log log --report 1 -o resumed
    cmp two/sae.safetensors resumed/sae.safetensors
    wc -l log
    [ "$(wc -l <log)" -lt 12 ]
    run fit cuda:3 --devices 2 -o out
    says 1 "device 2 of 2" cuda:4 "among 4"
    [ ! -e out ]
}
