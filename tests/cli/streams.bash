# SPDX-License-Identifier: MIT
# streams.bash -- loaded by the bats files of tstream: streams by an independent writer, and what a failure looks like.

setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    tests=$PWD/tests
    PATH=$PWD/bin:$PATH
    cd "$BATS_TEST_TMPDIR"
    header='{"stream":"latents","version":1,"model":"m",'
    header+='"provenance":[{"program":"p","version":"1","arguments":["--steps=2"]}]}'
}

# records FIRST LAST: a stream of those records, plain, on stdout; concept alternates between two
records() {
    { echo "$header"
      for ((i = $1; i <= $2; i++)); do
          concept=Fishes; ((i % 2)) || concept='Cats & "dogs"'
          jq -nc --arg c "$concept" --argjson i "$i" '{id: "Fishes/Rust/\($i)", seed: (5000000000 + $i), concept: $c,
              t: (981 - $i), w: [0.25, null, true], latent: {type: "f32", shape: [2, 1, 2], values: [$i, -1.5, 0, 2]},
              half: {type: "bf16", shape: [2], values: [$i, -0.5]}}'
      done; } | python3 "$tests/write_stream.py"
}

# pictures N: a stream of N images
pictures() {
    { echo '{"stream":"images","version":1,"provenance":[]}'
      for ((i = 1; i <= $1; i++)); do
          jq -nc --argjson i "$i" '{id: "Fishes/\($i)", seed: $i, prompt: "A fish, \u00e9.", steering: {mode: "ablate"},
              image: {type: "u8", shape: [2, 3, 3], values: [range(18) * $i % 256]}}'
      done; } | python3 "$tests/write_stream.py"
}

# many FIRST LAST BYTES: a plain stream of those records, each with a tensor of BYTES bytes that do not compress
many() {
    python3 - "$@" <<'END'
import random, struct, sys
first, last, size = map(int, sys.argv[1:])
out = sys.stdout.buffer
text = lambda s: b"\xd9" + bytes([len(s)]) + s.encode()
key = lambda s: b"\xc4" + bytes([len(s)]) + s.encode()
out.write(b"\x83" + text("stream") + text("images") + text("version") + b"\x01" + text("provenance") + b"\x90")
for k in range(first, last + 1):
    out.write(b"\x83" + text("id") + text(f"Fishes/{k}") + text("seed") + b"\xce" + struct.pack(">I", k)
              + text("image") + b"\x85" + key("nd") + b"\xc3" + key("type") + text("|u1") + key("kind") + b"\xc4\x00"
              + key("shape") + b"\x93\x01\xce" + struct.pack(">I", size // 3) + b"\x03"
              + key("data") + b"\xc6" + struct.pack(">I", size // 3 * 3) + random.Random(k).randbytes(size // 3 * 3))
out.write(b"\x81" + text("end") + b"\xce" + struct.pack(">I", last - first + 1))
END
}

fails() {       # WORDS COMMAND...: exit 1, nothing on stdout, one line on stderr with the words
    local words=$1
    shift
    run --separate-stderr "$@"
    echo "status $status, stderr: $stderr"
    [ "$status" = 1 ] || return 1
    [ -z "$output" ] || return 1
    [ "$(wc -l <<< "$stderr")" = 1 ] || return 1
    [[ $stderr == *"$words"* ]] || return 1
}
