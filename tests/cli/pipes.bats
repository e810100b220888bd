#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# pipes.bats -- large records through pipes and from files whose frames are decoded by threads: the same bytes whoever
# stands between, and what is said when an end is killed or a frame damaged.

bats_require_minimum_version 1.5.0
export BATS_TEST_TIMEOUT=100

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR HOOK=up_blocks.1.attentions.1
    cd "$DATA" || return 1
    # 40 records of (32, 32, 640) f16, 1.3 MB each; the values count up, so that a page in a wrong place shows
    python3 - >big.mpk <<'PYTHON'
import sys, struct
out = sys.stdout.buffer
text = lambda t: bytes([0xa0 | len(t)]) + t.encode()
binary = lambda t: b"\xc4" + bytes([len(t)]) + t.encode()
hook = "up_blocks.1.attentions.1"
out.write(b"\x85" + text("stream") + text("activations") + text("version") + b"\x01" + text("model") + text("m")
          + text("hooks") + b"\x91" + text(hook) + text("provenance") + b"\x90")
for r in range(40):
    values = struct.pack("<655360H", *((0x3800 + (i * 7 + r * 131 + (i >> 11)) % 1024) for i in range(655360)))
    out.write(b"\x84" + text("id") + text("a" * (r % 30)) + text("hook") + text(hook) + text("step") + bytes([r])
              + text("act") + b"\x85" + binary("nd") + b"\xc3" + binary("type") + text("<f2") + binary("kind")
              + b"\xc4\x00" + binary("shape") + b"\x93\x20\x20\xcd\x02\x80" + binary("data") + b"\xc6"
              + struct.pack(">I", len(values)) + values)
out.write(b"\x81" + text("end") + bytes([40]))
PYTHON
}

setup() {
    cd "$DATA" || return 1
    rm -rf a b c fifo
}

plain() { tstream cat --no-compress "$@"; }

@test "a pipe between two programs, and between others: the same bytes" {
    plain big.mpk | plain | cmp - big.mpk
    plain big.mpk | plain | plain | plain | cmp - big.mpk
    plain big.mpk | cat | plain | cat | cmp - big.mpk
    plain big.mpk | tee a | plain >b
    cmp a big.mpk
    cmp b big.mpk
    plain big.mpk | dd bs=12345 status=none | plain | cmp - big.mpk
    tstream cat big.mpk | tstream cat --no-compress | cmp - big.mpk
    plain -o - big.mpk | python3 -c 'import os, sys
while data := os.read(0, 54321): os.write(1, data)' | plain - | cmp - big.mpk
}

@test "a FIFO, and two of them side by side" {
    mkfifo fifo
    plain big.mpk >fifo &
    plain fifo | cmp - big.mpk
    wait $!
    plain big.mpk >fifo &
    tstream cat --no-compress fifo big.mpk >a
    wait $!
    tstream cat --no-compress big.mpk big.mpk | cmp - a
}

@test "sae-fit ends in the same bytes from a pipe, a file, and behind cat" {
    fit() { OMP_NUM_THREADS=1 sae-fit -k 4 --features 64 --batch 512 --buffer 8192 "$@"; }
    fit -o a big.mpk
    plain big.mpk | fit -o b 2>/dev/null
    plain big.mpk | cat | fit -o c 2>/dev/null
    cmp a/sae.safetensors b/sae.safetensors
    cmp a/sae.safetensors c/sae.safetensors
}

@test "a reader that ends early or is killed ends the writer quietly" {
    run bash -c 'tstream cat --no-compress big.mpk big.mpk | tstream head -n 1 >a; echo "${PIPESTATUS[@]}"'
    [ "$status" = 0 ]
    [[ $output =~ ^(0|141)\ 0$ ]]
    mkfifo fifo
    tstream cat --no-compress big.mpk big.mpk >fifo 2>a &
    writer=$!
    sae-fit -k 4 --features 64 --tokens 1G --checkpoint ckpt -o b fifo 2>/dev/null &
    sleep 0.3
    kill -9 $!
    wait $writer || true
    [ ! -s a ]
}

@test "a writer that is killed leaves a cut stream, and the reader says so" {
    mkfifo fifo
    tstream cat --no-compress big.mpk >fifo &
    exec 4<fifo
    sleep 0.2                       # the pipe is full
    kill -9 $!
    wait $! || true
    run tstream check <&4
    exec 4<&-
    says 1 "cut"
    head -c 20000000 big.mpk >a
    run bash -c 'tstream cat --no-compress <a 2>/dev/null | tstream check'
    says 1 "cut" "after record 15"
    run bash -c 'tstream cat --no-compress <a 2>/dev/null | sae-fit -k 4 --features 64 --buffer 4096 -o b'
    says 1 "cut"
    [ ! -e b ]
}

# The same bytes by their name and through a pipe, which decodes them as they come: the same words, but for the name.
@test "frames of a file that are damaged, cut, lie or hold too much: what a pipe's are said to be" {
    tstream cat big.mpk -o big.mpk.zst
    python3 - <<'PYTHON'
import struct
whole = open("big.mpk.zst", "rb").read()
flipped = bytearray(whole)
flipped[-2000] ^= 16
def frame(said, blocks):        # blocks of 128 KiB of zeros
    rle = lambda last: struct.pack("<I", 131072 << 3 | 2 | last)[:3] + b"\0"
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", said) + rle(0)*(blocks - 1) + rle(1)
broken = {"flipped": flipped, "cut": whole[:-2000], "cut-head": whole + frame(1 << 20, 8)[:9], "junk": whole + b"junk",
          "zeros": whole + frame(64 << 20, 512)*9, "more": whole + frame(1 << 20, 9), "less": whole + frame(1 << 20, 7),
          "huge": whole + frame(1 << 62, 8)}
for name, data in broken.items():
    open(name + ".broken", "wb").write(data)
PYTHON
    for file in *.broken; do
        run tstream cat -o a $file
        says 1 $file "record 40"
        of_file=${output/$file/standard input}
        run bash -c "cat $file | tstream cat -o a"
        says 1
        [ "$output" = "$of_file" ]
        [ -z "$(ls -d a* 2>/dev/null)" ]
    done
    run bash -c 'tstream cat big.mpk.zst big.mpk.zst >/dev/full'
    says 1 "No space left"
}

@test "told to stop while it waits for the first byte, sae-fit ends, on two devices too" {
    for devices in 1 2; do
        rm -f fifo
        mkfifo fifo
        sae-fit --backend cpu --devices $devices --checkpoint ckpt -o a fifo 4>&- &
        exec 4>fifo
        sleep 0.5
        kill -TERM $!
        status=0
        wait $! || status=$?
        exec 4>&-
        [ "$status" = 143 ]
        [ -z "$(ls -d a* ckpt* 2>/dev/null)" ]
    done
}

@test "sae-fit that has all it wants, or is told to stop, does not wait for more" {
    mkfifo fifo
    sae-fit -k 4 --features 64 --buffer 4096 --tokens 8192 -o a fifo 4>&- &
    exec 4>fifo
    head -c 20000000 big.mpk >&4 2>/dev/null || true
    wait $!                         # the FIFO is still open
    [ "$(jq .training.tokens a/cfg.json)" = 8192 ]
    exec 4>&-
    sae-fit -k 4 --features 64 --buffer 4096 -o c fifo 4>&- &
    exec 4>fifo
    head -c 20000000 big.mpk >&4
    sleep 0.5
    kill -TERM $!
    wait $!
    [ "$(jq .training.stopped c/cfg.json)" = true ]
    exec 4>&-
}
