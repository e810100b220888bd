#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# promises.bats -- what every program promises, seen from outside: the same bytes whatever the batch, threads and
# shards; a broken input gives one message and exit 1; a closed pipe is quiet;
# nothing half-written stays under its name.

bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    export PATH="$PWD/bin:$PATH"
    export DIR="$BATS_FILE_TMPDIR"
    sd-assemble-prompts --split gather -n 1 --seed 3 | head -6 > "$DIR/prompts.jsonl"
    sd-encode-text -o "$DIR/cond.mpk.zst" "$DIR/prompts.jsonl"
    sample < "$DIR/cond.mpk.zst" > "$DIR/acts.mpk.zst"
    sae-fit -q -k 8 --features 256 --batch 256 --epochs 1 -o "$DIR/sae" "$DIR/acts.mpk.zst"
    sae-rank-concepts -q --sae "$DIR/sae" -o "$DIR/ranks.mpk.zst" "$DIR/acts.mpk.zst"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
}

sample() { sd-sample-hooked -q --steps 4 "$@"; }
export -f sample

first_concept() { head -1 "$DIR/prompts.jsonl" | jq -r .concept; }

# ---- the same bytes ----

@test "sd-sample-hooked: batch 1, 3 and 8 give the same bytes" {
    for batch in 1 3 8; do
        sample --batch "$batch" "$DIR/cond.mpk.zst" | cmp - "$DIR/acts.mpk.zst"
    done
}

@test "sd-sample-hooked: 1 and 2 threads give the same bytes" {
    for threads in 1 2; do
        sample --threads "$threads" "$DIR/cond.mpk.zst" | cmp - "$DIR/acts.mpk.zst"
    done
}

@test "sd-encode-text: any split of the prompts joins to the same bytes" {
    head -2 "$DIR/prompts.jsonl" | sd-encode-text -o "$BATS_TEST_TMPDIR/a.mpk.zst"
    tail -n +3 "$DIR/prompts.jsonl" | sd-encode-text -o "$BATS_TEST_TMPDIR/b.mpk.zst"
    tstream cat "$BATS_TEST_TMPDIR"/[ab].mpk.zst | cmp - "$DIR/cond.mpk.zst"
}

@test "fan-out: two shards of parallel, joined, equal one run" {
    pipelines/fan-out "$DIR/prompts.jsonl" 2 "$BATS_TEST_TMPDIR/shards" 'sd-encode-text | sd-sample-hooked -q --steps 4'
    [ "$(find "$BATS_TEST_TMPDIR/shards" -name '*.mpk.zst' | wc -l)" -eq 2 ]
    tstream cat "$BATS_TEST_TMPDIR"/shards/*.mpk.zst | cmp - "$DIR/acts.mpk.zst"
    cat "$BATS_TEST_TMPDIR"/shards/*.mpk.zst | tstream check -
}

@test "fan-out: prompts without ids have those of one run" {
    printf '%s\n' 'a dog' '' '{"prompt":"a cat","seed":9007199254740993}' 'a fish' '{"id":"own","prompt":"a bird"}' \
        '{"id":null,"prompt":"a fox","year":1907}' >"$BATS_TEST_TMPDIR/lines"
    pipelines/fan-out "$BATS_TEST_TMPDIR/lines" 3 "$BATS_TEST_TMPDIR/shards" sd-encode-text
    sd-encode-text "$BATS_TEST_TMPDIR/lines" -o "$BATS_TEST_TMPDIR/one.mpk.zst"
    tstream cat "$BATS_TEST_TMPDIR"/shards/*.mpk.zst | cmp - "$BATS_TEST_TMPDIR/one.mpk.zst"
    [ "$(tstream view --tsv id "$BATS_TEST_TMPDIR/one.mpk.zst" | xargs)" = "1 3 4 own 6" ]
}

@test "capture: prompts that cannot be read end it, and leave nothing" {
    cd "$BATS_TEST_TMPDIR"
    cp "$DIR/prompts.jsonl" "my prompts.jsonl"
    "$BATS_TEST_DIRNAME/../../pipelines/capture" "my prompts.jsonl" -- --steps 4 -o a.mpk.zst
    cmp a.mpk.zst "$DIR/acts.mpk.zst"
    run -1 "$BATS_TEST_DIRNAME/../../pipelines/capture" gone.jsonl -- --steps 4 -o b.mpk.zst
    run -1 "$BATS_TEST_DIRNAME/../../pipelines/capture" "my prompts.jsonl" gone.jsonl -- --steps 4 -o b.mpk.zst
    [ ! -e b.mpk.zst ]
    run -2 "$BATS_TEST_DIRNAME/../../pipelines/capture" --help
}

@test "fan-out: a second call does only what failed" {
    out="$BATS_TEST_TMPDIR/shards"
    run -1 pipelines/fan-out "$DIR/prompts.jsonl" 2 "$out" "test -e $BATS_TEST_TMPDIR/ready && sd-encode-text"
    run ! ls "$out"/*.mpk.zst
    touch "$BATS_TEST_TMPDIR/ready"
    pipelines/fan-out "$DIR/prompts.jsonl" 2 "$out" "test -e $BATS_TEST_TMPDIR/ready && sd-encode-text"
    tstream cat "$out"/*.mpk.zst | cmp - "$DIR/cond.mpk.zst"
}

@test "sae-fit: 1 and 2 threads give the same autoencoder" {
    for threads in 1 2; do
        sae-fit -q -k 8 --features 256 --batch 256 --epochs 1 --threads "$threads" \
            -o "$BATS_TEST_TMPDIR/$threads" "$DIR/acts.mpk.zst"
        cmp "$BATS_TEST_TMPDIR/$threads/sae.safetensors" "$DIR/sae/sae.safetensors"
    done
}

@test "sae-rank-concepts: statistics of two shards, merged, equal one run" {
    tstream split -n 2 -p "$BATS_TEST_TMPDIR/part" "$DIR/acts.mpk.zst"
    for part in "$BATS_TEST_TMPDIR"/part-*.mpk.zst; do
        sae-rank-concepts -q --sae "$DIR/sae" --statistics -o "$BATS_TEST_TMPDIR/stat-$(basename "$part")" "$part"
    done
    sae-rank-concepts -q --merge -o "$BATS_TEST_TMPDIR/ranks.mpk.zst" "$BATS_TEST_TMPDIR"/stat-*.mpk.zst
    cmp <(tstream view --tensors "$BATS_TEST_TMPDIR/ranks.mpk.zst") <(tstream view --tensors "$DIR/ranks.mpk.zst")
}

@test "sd-steer: batch and threads do not change the pictures" {
    steer() {
        sd-steer -q --steps 4 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --top 4 --concept "$(first_concept)" "$@" \
            "$DIR/cond.mpk.zst"
    }
    steer --batch 1 > "$BATS_TEST_TMPDIR/1.mpk.zst"
    steer --batch 4 --threads 1 | cmp - "$BATS_TEST_TMPDIR/1.mpk.zst"
}

@test "sd-steer: a steering that changes no feature gives the unsteered pictures bit for bit" {
    sample --no-activations --latents "$BATS_TEST_TMPDIR/plain.mpk.zst" "$DIR/cond.mpk.zst"
    sd-steer -q --steps 4 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" --concept "$(first_concept)" --top 4 \
        --mode scale --multiplier 1 \
        --latents "$BATS_TEST_TMPDIR/noop.mpk.zst" -o "$BATS_TEST_TMPDIR/noop" "$DIR/cond.mpk.zst"
    for f in plain noop; do
        tstream to-npy --tensor latent -o "$BATS_TEST_TMPDIR/$f.npy" "$BATS_TEST_TMPDIR/$f.mpk.zst"
    done
    cmp "$BATS_TEST_TMPDIR/plain.npy" "$BATS_TEST_TMPDIR/noop.npy"
}

# ---- broken input: one message that names the input, exit 1, no file ----

fails_with() {          # PATTERN COMMAND...
    pattern=$1
    shift
    run -1 --separate-stderr "$@" || return 1
    echo "$stderr" >&2
    [ "$(echo "$stderr" | wc -l)" -eq 1 ] || return 1
    [[ "$stderr" == *$pattern* ]] || return 1
}

@test "a cut stream" {
    size=$(stat -c %s "$DIR/cond.mpk.zst")
    for keep in 10 $((size / 2)) $((size - 1)); do
        head -c "$keep" "$DIR/cond.mpk.zst" > "$BATS_TEST_TMPDIR/cut.mpk.zst"
        fails_with cut.mpk.zst sample -o "$BATS_TEST_TMPDIR/out.mpk.zst" "$BATS_TEST_TMPDIR/cut.mpk.zst"
        [ -z "$(ls "$BATS_TEST_TMPDIR"/out* 2>/dev/null)" ]
    done
}

@test "a flipped bit" {
    python3 - "$DIR/acts.mpk.zst" "$BATS_TEST_TMPDIR/flip.mpk.zst" <<'PY'
import sys
data = bytearray(open(sys.argv[1], "rb").read())
data[len(data) // 2] ^= 16
open(sys.argv[2], "wb").write(data)
PY
    fails_with flip.mpk.zst tstream check "$BATS_TEST_TMPDIR/flip.mpk.zst"
    fails_with flip.mpk.zst sae-fit -q -k 8 --features 256 -o "$BATS_TEST_TMPDIR/sae" "$BATS_TEST_TMPDIR/flip.mpk.zst"
    [ ! -e "$BATS_TEST_TMPDIR/sae" ]
}

@test "a stream of another kind, and one whose shape the model does not take" {
    fails_with "conditioning" sample -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$DIR/acts.mpk.zst"
    fails_with "activations" sae-fit -q -o "$BATS_TEST_TMPDIR/sae" "$DIR/cond.mpk.zst"
    sample --hook up_blocks.0.attentions.1 "$DIR/cond.mpk.zst" > "$BATS_TEST_TMPDIR/wide.mpk.zst"
    fails_with "160" sae-encode -q --hook up_blocks.0.attentions.1 --sae "$DIR/sae" \
        -o "$BATS_TEST_TMPDIR/f.mpk.zst" "$BATS_TEST_TMPDIR/wide.mpk.zst"
}

@test "a missing tensor" {
    python3 - "$BATS_TEST_TMPDIR/missing.mpk" <<'PY'
import struct, sys
def text(s): return bytes([0xa0 + len(s)]) + s.encode()
def bin8(b): return bytes([0xc4, len(b)]) + b
def tensor(n): return (b"\x85" + bin8(b"nd") + b"\xc3" + bin8(b"type") + text("<f4") + bin8(b"kind") + bin8(b"")
                       + bin8(b"shape") + b"\x92\x01\xcc\x80" + bin8(b"data") + b"\xc5" + struct.pack(">H", 4 * n)
                       + bytes(4 * n))
header = (b"\x84" + text("stream") + text("conditioning") + text("version") + b"\x01" + text("uncond") + tensor(128)
          + text("provenance") + b"\x90")
record = b"\x82" + text("id") + text("a") + text("seed") + b"\x07"
open(sys.argv[1], "wb").write(header + record + b"\x81" + text("end") + b"\x01")
PY
    fails_with "state" sample -o "$BATS_TEST_TMPDIR/o.mpk.zst" "$BATS_TEST_TMPDIR/missing.mpk"
}

@test "a full disk" {
    [ -w /dev/full ] || skip "no /dev/full"
    run -1 --separate-stderr bash -c 'sd-encode-text "$DIR/prompts.jsonl" > /dev/full'
    [[ "$stderr" == *"No space left"* ]]
    run -1 --separate-stderr bash -c 'sample "$DIR/cond.mpk.zst" > /dev/full'
    [[ "$stderr" == *"No space left"* ]]
}

@test "a closed pipe ends a program quietly" {
    run -0 --separate-stderr bash -c '
        sd-sample-hooked --steps 4 --no-compress "$DIR/cond.mpk.zst" | head -c 100 > /dev/null
        exit ${PIPESTATUS[0]}'
    [ -z "$stderr" ]
}

@test "misuse exits 2" {
    run -2 sd-sample-hooked --steps 12x
    run -2 sd-sample-hooked --steps 0
    run -2 sd-steer
    run -2 sae-fit --nonsense
}

@test "misuse of a value that is looked at late exits 2 too" {
    steer() { sd-steer -q --steps 2 --sae "$DIR/sae" --ranks "$DIR/ranks.mpk.zst" "$@" "$DIR/cond.mpk.zst"; }
    for when in foo 5-x -5--10 99999999999-0 7-; do
        run -2 sample --at="$when" "$DIR/cond.mpk.zst"
    done
    run -2 steer --concept "$(first_concept)" --when 9-x
    run -2 steer --concept "$(first_concept)" --percentile 101
    run -2 steer --concept "$(first_concept)" --gate -1
    for sweep in x x= multiplier=x mode=none top=1.5 when=x; do
        run -2 steer --concept "$(first_concept)" --sweep "$sweep"
    done
    run -2 sd-encode-text --backend abacus "$DIR/prompts.jsonl"
    run -2 sae-fit -q -k 8 --grid k=8,16,8 -o "$BATS_TEST_TMPDIR/sae" "$DIR/acts.mpk.zst"
}

@test "threads, levels and counts out of any range are misuse" {
    for threads in -1 1025 100000 4294967297; do
        run -2 sd-encode-text -@"$threads" "$DIR/prompts.jsonl"
    done
    for level in 0 20 -1000 4294967297; do
        run -2 sd-encode-text --level "$level" "$DIR/prompts.jsonl"
        run -2 tstream cat --level "$level" "$DIR/acts.mpk.zst"
    done
    run -2 sample --every 4294967297 "$DIR/cond.mpk.zst"
    run -2 sample --tokens 4294967297 "$DIR/cond.mpk.zst"
}

@test "an empty name is misuse" {
    run -2 sample --no-activations --images '' "$DIR/cond.mpk.zst"
    run -2 sd-encode-text -o '' "$DIR/prompts.jsonl"
    run -2 sd-encode-text ''
    run -2 tstream split -n 2 -p '' "$DIR/acts.mpk.zst"
}

@test "names out of data stay on the message's line" {
    printf '{"id":"a\\n\\u001b[2Jb/..","prompt":"x"}\n' | sd-encode-text -o "$BATS_TEST_TMPDIR/c.mpk.zst"
    fails_with "id 'a??[2Jb/..'" sample --no-activations --images "$BATS_TEST_TMPDIR/i" "$BATS_TEST_TMPDIR/c.mpk.zst"
}

@test "labels out of data stay in their cell of a table" {
    cd "$BATS_TEST_TMPDIR"
    printf '%s\n' '{"prompt":"x","concept":"a\tb\n\u001b[2Jc\u007f"}' '{"prompt":"y","concept":"d"}' |
        sd-encode-text | sample -o acts.mpk.zst --images images.mpk.zst
    cells() { awk -F '\t' -v want="$1" 'NR == 1 {n = NF} NF != n {exit 1} $0 ~ want {found = 1} END {exit !found}'; }
    sae-rank-concepts -q --sae "$DIR/sae" --table - acts.mpk.zst | cells 'concept\ta b  .2Jc '
    sae-eval -q --sae "$DIR/sae" --by concept acts.mpk.zst | cells '^a b  .2Jc '
    sae-eval -q --sae "$DIR/sae" --by concept --density acts.mpk.zst | cells '^a b  .2Jc '
    tstream stat --by concept acts.mpk.zst | cells '^a b  .2Jc '
    printf '%s\n' '{"prompt":"x","concept":"a\tb\n\u001b[2Jc\u007f"}' '{"prompt":"y","concept":"d"}' >texts
    sae-rank-concepts -q --sae "$DIR/sae" -o ranks.mpk.zst acts.mpk.zst
    printf '{"prompt":"x","concept":"d"}' | sd-encode-text |
        sd-steer -q --steps 2 --sae "$DIR/sae" --ranks ranks.mpk.zst --sweep concept=all | sd-encode-image |
        sd-evaluate --texts texts | cells 'target\tconcept\ta b  .2Jc '
}

@test "Ctrl-C leaves no half file" {
    sd-sample-hooked -q --steps 500 -o "$BATS_TEST_TMPDIR/out.mpk.zst" "$DIR/cond.mpk.zst" &
    sleep 1
    kill -TERM $!
    status=0
    wait $! || status=$?
    [ "$status" = $((128 + $(kill -l TERM))) ]
    [ -z "$(ls "$BATS_TEST_TMPDIR"/out* 2>/dev/null)" ]
}
