#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# tstream from outside: every subcommand, its messages and exit codes,
# against an independent reader and writer in Python.

bats_require_minimum_version 1.5.0

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
    [ "$status" = 1 ]
    [ -z "$output" ]
    [ "$(wc -l <<< "$stderr")" = 1 ]
    [[ $stderr == *"$words"* ]]
}

@test "cat: compressed and plain hold what an independent writer wrote" {
    records 1 5 > a.mpk
    tstream cat a.mpk > a.mpk.zst
    [ "$(head -c 4 a.mpk.zst | od -An -tx1 | tr -d ' ')" = 28b52ffd ]
    zstd -dcq a.mpk.zst | cmp - a.mpk
    tstream cat --no-compress a.mpk.zst | cmp - a.mpk
    tstream cat < a.mpk.zst | cmp - a.mpk.zst
    tstream cat -o b.mpk.zst - < a.mpk
    cmp a.mpk.zst b.mpk.zst
    [ "$(echo b.mpk.zst*)" = b.mpk.zst ]
}

@test "view prints what an independent reader prints" {
    records 1 5 | tstream cat > a.mpk.zst
    tstream view -H -t a.mpk.zst | jq -c . > c
    python3 "$tests/read_stream.py" --values a.mpk.zst | jq -c . > python
    diff c python
    [ "$(tstream view a.mpk.zst | jq -r .latent.shape[2] | uniq)" = 2 ]
    fields='{"id":"Fishes/Rust/1","seed":5000000001,"concept":"Fishes","t":980,"w":[0.25,null,true],'
    fields+='"latent":{"type":"f32","shape":[2,1,2]},"half":{"type":"bf16","shape":[2]}}'
    [ "$(tstream view a.mpk.zst | head -n 1)" = "$fields" ]
}

@test "view --tsv prints columns, escaped" {
    records 2 3 | tstream view --tsv id,concept,none,t > got
    printf 'Fishes/Rust/2\tCats & "dogs"\t\t979\nFishes/Rust/3\tFishes\t\t978\n' | diff - got
    { echo "$header"; echo '{"id":"a\tb\nc\\"}'; } | python3 "$tests/write_stream.py" | tstream view --tsv id > got
    [ "$(cat got)" = 'a\tb\nc\\' ]
}

@test "view --tsv and stat --by: a field that no record has is a note; one that some lack is none" {
    records 1 2 > some
    { cat some; { echo "$header"; echo '{"id":"x","extra":1}'; } | python3 "$tests/write_stream.py"; } > mixed
    run -0 --separate-stderr tstream view --tsv id,extra,concept,wrong mixed
    [ "$stderr" = "tstream view: no record has a field 'wrong'" ]
    [ "${#lines[@]}" = 3 ]
    run -0 --separate-stderr tstream stat --by hok,t some
    [ "$stderr" = "tstream stat: no record has a field 'hok'" ]
    run -0 --separate-stderr tstream stat -q --by hok some
    [ -z "$stderr" ]
    run -0 --separate-stderr tstream view --tsv wrong <({ echo "$header"; } | python3 "$tests/write_stream.py")
    [ -z "$stderr" ]
}

@test "info for people and for programs" {
    records 1 5 | tstream cat > a.mpk.zst
    run -0 tstream info a.mpk.zst
    [[ $output == "a.mpk.zst: latents"* ]]
    [[ $output == *"5 records with"* && $output == *"latent f32 (2, 1, 2)"* && $output == *"1. p 1 --steps=2"* ]]
    run -0 tstream info --json a.mpk.zst
    [ "$(jq -c '[.kind, .records, .tensors["half bf16 (2)"], .header.model, .fields.seed, .tensor_bytes]' \
        <<< "$output")" = '["latents",5,5,"m",5,100]' ]
    [ "$(jq .bytes <<< "$output")" = "$(stat -c %s a.mpk.zst)" ]
    run -0 tstream info -H a.mpk.zst
    [[ $output != *records* ]]
}

@test "info: no name or text of a stream gives a terminal orders" {
    printf '%s\n' \
        '{"stream":"la\u001btents","version":1,"mo\u001bdel":"m\u0007","provenance":[{"program":"p\u001b"}]}' \
        '{"i\u001bd":"a","la\u001btent":{"type":"f32","shape":[1],"values":[1]}}' |
        python3 "$tests/write_stream.py" > a
    run -0 tstream info a
    [[ $output == *"la?tents"*"mo?del           m?"*"1. p? ?"*"i?d"*"la?tent f32 (1)"* ]]
    run ! grep -q '[[:cntrl:]]' <<< "$output"
}

@test "head takes the first records over several inputs" {
    records 1 3 > a.mpk
    records 4 6 > b.mpk
    records 1 5 | tstream cat > want
    tstream head -n 5 a.mpk b.mpk | cmp - want
    [ "$(tstream head -n 0 a.mpk | tstream view | wc -l)" = 0 ]
    [ "$(tstream head a.mpk | tstream view | wc -l)" = 3 ]
    run -2 --separate-stderr tstream head -n -1 a.mpk
    run -2 --separate-stderr tstream head -n 3x a.mpk
}

@test "cat of shards is the stream of one run, byte for byte; so is cat(1) once read" {
    records 1 40 | tstream cat > whole
    records 1 13 | tstream cat > a
    records 14 14 | tstream cat > b
    records 15 40 | tstream cat > c
    tstream cat a b c | cmp - whole
    cat a b c | tstream cat | cmp - whole
    tstream cat a <(cat b) c | cmp - whole
}

@test "cat merges provenance where it differs, and refuses other headers" {
    records 1 1 > a
    header=${header/steps=2/steps=3}
    records 2 2 > b
    [ "$(tstream cat a b a | tstream info -H --json | jq -c '[.header.provenance[].arguments[0]]')" \
        = '["--steps=2","--steps=3"]' ]
    header=${header/'"model":"m"'/'"model":"other"'}
    records 3 3 > c
    fails "tstream cat: c: header: its model differs from that of a" tstream cat a c -o out
    [ ! -e out ]
    cat a c > joined
    fails 'joined: after record 1: a joined stream'\''s header has another model: "other", the first has "m"' \
        tstream check joined
}

@test "split by count, by turns and by a field" {
    records 1 7 | tstream cat > all.mpk.zst
    tstream split -n 3 -p n all.mpk.zst
    [ "$(echo n-*)" = "n-00.mpk.zst n-01.mpk.zst n-02.mpk.zst" ]
    tstream cat n-* | cmp - all.mpk.zst
    tstream split --parts 2 -p turn < all.mpk.zst
    [ "$(tstream view --tsv t turn-01.mpk.zst | xargs)" = "979 977 975" ]
    tstream split --by concept -p by --no-compress all.mpk.zst
    [ "$(ls by-* | xargs)" = "by-Cats%20%26%20%22dogs%22.mpk by-Fishes.mpk" ]
    [ "$(tstream view --tsv concept by-Fishes.mpk | sort | uniq -c | xargs)" = "4 Fishes" ]
    tstream check turn-* by-* n-*
    fails "has no field none to split by" tstream split --by none -p x all.mpk.zst
    run -2 tstream split all.mpk.zst
    run -2 tstream split -n 3 --by t all.mpk.zst
}

@test "stat: count, mean, deviation, extremes" {
    records 1 3 | tstream stat > got
    printf 'tensor\trecords\tvalues\tmean\tstd\tmin\tmax\tnan\tinf\n' > want
    printf 'latent\t3\t12\t0.625\t1.52923\t-1.5\t3\t0\t0\nhalf\t3\t6\t0.75\t1.37689\t-0.5\t3\t0\t0\n' >> want
    diff want got
    [ "$(records 1 4 | tstream stat --by concept | cut -f 1,2,3 | tail -n +2 | xargs -d '\n')" \
        = $'Fishes\tlatent\t2 Fishes\thalf\t2 Cats & "dogs"\tlatent\t2 Cats & "dogs"\thalf\t2' ]
    { echo "$header"; echo '{"id":"a","x":{"type":"f32","shape":[4],"values":[NaN,Infinity,1,3]}}'; } |
        python3 "$tests/write_stream.py" > nan
    [ "$(tstream stat nan | tail -n 1)" = $'x\t1\t4\t2\t1\t1\t3\t1\t1' ]
    tstream check nan
    fails "record 1: x has nan at value 0 (2 of 4 are not finite)" tstream check --finite nan
    for values in 1e300,1 2,-Infinity; do
        printf '%s\n' "$header" \
            '{"i":{"type":"i32","shape":[1],"values":[-1]},"x":{"type":"f64","shape":[2],"values":['$values']}}' |
            python3 "$tests/write_stream.py" > "f64-$values"
    done
    tstream check --finite f64-1e300,1
    fails "record 1: x has -inf at value 1 (1 of 2 are not finite)" tstream check --finite f64-2,-Infinity
}

@test "check names the damaged files, goes on, and exits 1" {
    records 1 5 | tstream cat > good.mpk.zst
    head -c 200 good.mpk.zst > cut.mpk.zst
    records 1 2 | head -c -6 > plain-cut.mpk
    echo hello > text
    : > empty
    run --separate-stderr tstream check good.mpk.zst
    [ "$status" = 0 ]
    [ -z "$output$stderr" ]
    run -1 --separate-stderr tstream check good.mpk.zst cut.mpk.zst plain-cut.mpk text empty none good.mpk.zst
    [ -z "$output" ]
    [ "$(sed 's/^tstream check: //' <<< "$stderr")" = "\
cut.mpk.zst: record 1: the stream was cut inside a compressed frame
plain-cut.mpk: stopped after record 2 without an end record: the stream was cut
text: is not a tensor stream: it begins with byte 0x68, neither a zstd frame nor a msgpack map
empty: is empty, expected a tensor stream (did the program before it fail?)
none: No such file or directory" ]
    run -1 --separate-stderr tstream check -q text
    [ -z "$output$stderr" ]
    run -0 --separate-stderr tstream check -v good.mpk.zst
    [ "$stderr" = "tstream check: good.mpk.zst: ok, 5 records" ]
}

@test "a flipped bit is found by every subcommand, which then writes no file" {
    records 1 50 | tstream cat > a
    python3 -c 'import sys; b = bytearray(open("a", "rb").read()); b[len(b) // 2] ^= 4; open("bad", "wb").write(b)'
    run -1 tstream info bad
    run -1 --separate-stderr tstream view bad
    run -1 --separate-stderr tstream cat -o out bad
    run -1 --separate-stderr tstream to-npy -t latent -o out bad
    run -1 --separate-stderr tstream split -n 100 -p out bad
    [ "$(echo out*)" = "out*" ]
}

@test "to-npy: what numpy's format says" {
    records 1 3 > a
    tstream to-npy -t latent -o a.npy a
    tstream to-npy -t half -o h.npy a
    python3 - <<'END'
import ast, struct
for name, shape, first in (("a.npy", (3, 2, 1, 2), [1, -1.5, 0, 2, 2, -1.5]),
                           ("h.npy", (3, 2), [1, -.5, 2, -.5, 3, -.5])):
    b = open(name, "rb").read()
    assert b[:8] == b"\x93NUMPY\x01\x00"
    n = struct.unpack("<H", b[8:10])[0]
    assert (10 + n) % 64 == 0 and b[9 + n] == 10
    h = ast.literal_eval(b[10:10 + n].decode())
    assert h == {"descr": "<f4", "fortran_order": False, "shape": shape}, h
    data = b[10 + n:]
    values = list(struct.unpack(f"<{len(data) // 4}f", data))
    assert values[:6] == first, values
END
    python3 -c 'import numpy as n; assert n.load("a.npy").shape == (3, 2, 1, 2)' ||
        ! python3 -c 'import numpy' 2> /dev/null
    fails "has no tensor x" tstream to-npy -t x -o x.npy a
    { echo "$header"; echo '{"x":{"type":"u8","shape":[1],"values":[1]}}'
      echo '{"x":{"type":"u8","shape":[2],"values":[1,2]}}'; } | python3 "$tests/write_stream.py" > uneven
    fails "record 2: x is u8 (2), the records before it have u8 (1)" tstream to-npy -o x.npy uneven
    [ ! -e x.npy ]
    run -2 tstream to-npy -t latent a
    run -2 tstream to-npy -o - a
}

@test "to-png and text: pictures with their fields" {
    pictures 2 > a
    tstream to-png -o out a
    [ "$(find out -type f | sort | xargs)" = "out/Fishes/1.png out/Fishes/2.png" ]
    [ "$(tstream text out/Fishes/2.png)" \
        = '{"id":"Fishes/2","seed":"2","prompt":"A fish, é.","steering":"{\"mode\":\"ablate\"}"}' ]
    cp out/Fishes/1.png first.png
    tstream to-png -o out a
    cmp first.png out/Fishes/1.png
    fails "was written by a record before it" tstream to-png -o out a a
    fails "has no field none" tstream to-png -N '{none}' -o out a
    records 1 1 > b
    mkdir mine
    fails "record 1: image is missing" tstream to-png -o new/out b          # folders made for it go again
    fails "record 1: image is missing" tstream to-png -o mine/out b
    [ ! -e new ]
    [ -z "$(ls mine)" ]
    fails "b: is there, and is not a folder" tstream to-png -o b a
    jq -nc '{stream: "images", version: 1, provenance: []}, ("a/1", "b/\("y" * 300)")
        | if type == "string" then {id: ., image: {type: "u8", shape: [1, 1, 3], values: [1, 2, 3]}} else . end' |
        python3 "$tests/write_stream.py" > long
    fails "File name too long" tstream to-png -o new/out long               # not what holds a picture
    [ "$(find new | sort | xargs)" = "new new/out new/out/a new/out/a/1.png" ]
    tstream to-png -t latent -N '{t}' --zoom 4 -o maps b
    [ "$(od -An -tx1 -j16 -N8 maps/980.png | tr -d ' ')" = 0000000400000008 ]
    fails "cut" tstream text <(head -c 60 first.png)
}

@test "no id leads out of the folder" {
    mkdir in
    for id in ../../x /etc/x a/../../../x . .. a//./b 'c
d'; do
        { echo '{"stream":"images","version":1,"provenance":[]}'
          jq -nc --arg id "$id" '{id: $id, image: {type: "u8", shape: [1, 1, 3], values: [1, 2, 3]}}'; } |
            python3 "$tests/write_stream.py" > s
        tstream to-png -o in/out s || [ "$id" = . ]
    done
    [ "$(find . -name '*.png' | sort | xargs)" = "./in/out/_.png ./in/out/_/_/x.png ./in/out/a/_/_/_/x.png \
./in/out/a/b.png ./in/out/c_d.png ./in/out/etc/x.png" ]
}

@test "index: zstd's seek table covers every frame, and records lie where the list says" {
    many 1 200 30000 | tstream cat > a
    tstream index a -o i
    tstream index --list i > places
    cat i | tstream index --list | cmp - places
    python3 - <<'END'
import struct, subprocess
a, i = open("a", "rb").read(), open("i", "rb").read()
assert i[:len(a)] == a and len(i) - len(a) < 400
count, flags, magic = struct.unpack("<IBI", i[-9:])
assert (magic, flags) == (0x8F92EAB1, 0x80)
table = i[-9 - 12 * count:-9]
assert struct.unpack("<II", i[-17 - 12 * count:-9 - 12 * count]) == (0x184D2A5E, 12 * count + 9)
at, frames, whole = 0, {}, b""
for packed, plain, checksum in struct.iter_unpack("<III", table):
    frame = i[at:at + packed]
    if plain:
        assert struct.unpack("<I", frame[-4:])[0] == checksum
        frames[at] = subprocess.run(["zstd", "-dcq"], input=frame, stdout=subprocess.PIPE, check=True).stdout
        assert len(frames[at]) == plain
        whole += frames[at]
    else:
        assert (frame[0] & 0xf0, frame[1:4], checksum) == (0x50, b"\x2a\x4d\x18", 0x51d8e999)
    at += packed
assert at == len(i) - 17 - 12 * count and len(frames) > 4
assert whole == subprocess.run(["zstd", "-dcq", "i"], stdout=subprocess.PIPE, check=True).stdout
lines = open("places").read().split("\n")
assert lines[0] == "record\tframe\toffset\tbytes" and len(lines) == 202
for line in lines[1:-1]:
    number, frame, offset, size = map(int, line.split("\t"))
    record = frames[frame][offset:offset + size]
    assert record[0] == 0x83 and f"Fishes/{number}".encode() in record[:20] and len(record) == size > 30000
END
    [ "$(tstream index --list --json --range 7 i | jq -c '[.record, .bytes > 30000]')" = '[7,true]' ]
    zstd -dcq i | tstream index --list > plain
    [ "$(sed -n 3p plain | cut -f 1,2,4)" = $'2\t0\t'"$(sed -n 3p places | cut -f 4)" ]
}

@test "index: an indexed file is a stream to everything, and the same however it was made" {
    many 1 200 30000 > a.mpk
    tstream cat a.mpk > a
    tstream index a > i
    tstream index < a | cmp - i
    tstream index a.mpk | cmp - i
    tstream cat --index a.mpk | cmp - i
    tstream index i | cmp - i
    cp a in
    tstream index in -o in
    cmp in i
    zstd -dcq i | cmp - <(zstd -dcq a)
    tstream cat i | cmp - a
    tstream check a i
    [ "$(tstream info -H --json i | jq .index.records)" = 200 ]
    many 201 250 30000 | tstream cat > b
    cat i <(tstream index b) i > joined
    tstream check joined
    zstd -tq joined
    tstream cat joined | cmp - <(tstream cat a b a)
    tstream index joined -o all
    tstream check all
    [ "$(tstream view --range 260 --tsv id all)" = Fishes/10 ]
    head -c -100 all > cut
    fails "cut: after record 450: the stream was cut inside a compressed frame" tstream check cut
    run -2 --separate-stderr tstream cat --index --no-compress a
}

@test "index: what another program framed is framed anew" {
    many 1 30 3000 > a.mpk
    zstd -q a.mpk -o one
    tstream index one -o i
    tstream check i
    [ "$(tstream view --range 20 --tsv seed i)" = 20 ]
    { head -c 5000 a.mpk | zstd -q; tail -c +5001 a.mpk | zstd -q; } > two
    fails "two: cannot be indexed as it is: a frame begins inside a record" tstream index --in-place two
    run -0 --separate-stderr tstream index -v two -o i
    [[ $stderr == *"two: is framed anew: a frame begins inside a record"* ]]
    tstream cat two | cmp - <(tstream cat i)
    zstd -tq i
    [ "$(tstream view --range 20 --tsv seed i)" = 20 ]
    fails "is not compressed" tstream index -i a.mpk
}

@test "--range takes with an index what it takes without, and does not look at what comes before" {
    many 1 200 30000 | tstream cat > a
    tstream index a > i
    for range in 1 3-5 120-170 150- 200 190-300; do
        tstream cat --range $range a > want
        tstream cat --range $range i | cmp - want
        tstream view --range $range i | cmp - <(tstream view want)
        tstream stat --range $range i | cmp - <(tstream stat want)
        tstream to-npy --range $range -o got.npy i
        tstream to-npy -o want.npy want
        cmp got.npy want.npy
    done
    tstream to-png --range 77-78 -o out i
    [ "$(find out -type f | sort | xargs)" = "out/Fishes/77.png out/Fishes/78.png" ]
    [ "$(tstream view --range 201- i | wc -l)" = 0 ]
    [ "$(tstream view --range 151 --tsv id < i)" = Fishes/151 ]
    [ "$(tstream view --range 151 --tsv id <(cat i))" = Fishes/151 ]
    python3 -c 'b = bytearray(open("i", "rb").read()); b[500000] ^= 4; open("bad", "wb").write(b)'
    [ "$(tstream view --range 151 --tsv id bad)" = Fishes/151 ]
    fails "the checksum is wrong: the data was damaged" tstream view --range 20 bad
    for range in 0 -3 5-4 3x 2-3- 2--3 x -; do
        run -2 --separate-stderr tstream view --range=$range i
        [[ $stderr == "tstream view: --range: '$range' "* ]]
    done
}

@test "--range counts through several inputs" {
    many 1 100 30000 | tstream index > a
    many 101 150 30000 | tstream cat > b
    many 151 250 30000 | tstream index > c
    [ "$(tstream cat --range 99-153 a b c | tstream view --tsv seed | xargs)" = "$(seq 99 153 | xargs)" ]
    cat a c > ac
    cat a b c > abc
    [ "$(tstream view --range 245- --tsv seed a b c | xargs)" = "$(seq 245 250 | xargs)" ]
    [ "$(tstream view --range 195- --tsv seed ac | xargs)" = "$(seq 245 250 | xargs)" ]
    [ "$(tstream view --range 245- --tsv seed abc | xargs)" = "$(seq 245 250 | xargs)" ]
    python3 -c 'b = bytearray(open("ac", "rb").read()); b[500000] ^= 4; open("bad", "wb").write(b)'
    [ "$(tstream view --range 198- --tsv seed bad | xargs)" = "248 249 250" ]
    many 1 3 30000 | sed 's/images/pixels/' | tstream index > other         # another kind: found when it is entered
    cat a other > joined
    fails 'a joined stream'\''s header has another stream: "pixels"' tstream view --range 102 joined
}

@test "index --in-place writes behind all else, once, or not at all" {
    many 1 200 30000 | tstream cat > a
    tstream index a > want
    cp a i
    tstream index --in-place i
    cmp i want
    run -0 --separate-stderr tstream index -iv i
    [[ $stderr == "tstream index: i: has an index" ]]
    cmp i want
    cat i i a > joined
    tstream index -i joined
    tstream check joined
    [ "$(tstream view --range 401 --tsv seed joined)" = 1 ]
    cp a full
    fails "full: writing: File too large" \
        bash -c "trap '' XFSZ; ulimit -f $(($(stat -c %s a) / 1024)); tstream index -i full"
    cmp full a
    head -c 100000 a > cut
    cp cut before
    fails "cut inside" tstream index -i cut
    cmp cut before
    fails "none: is no file" tstream index -i none
    run -2 --separate-stderr tstream index -i
    run -2 --separate-stderr tstream index -i -o x a
    run -2 --separate-stderr tstream index -i --list a
    run -2 --separate-stderr tstream index --range 3 a
}

@test "a damaged index is said where it is used, and does not matter elsewhere" {
    many 1 200 30000 | tstream index > i
    python3 -c 'b = bytearray(open("i", "rb").read()); b[-150] ^= 4; open("bad", "wb").write(b)'
    fails "bad: its index is damaged: its checksum is wrong" tstream view --range 150 bad
    fails "bad: its index is damaged: its checksum is wrong" tstream check bad
    fails "bad: its index is damaged: its checksum is wrong" tstream index --parts 3 bad
    [[ $(tstream info -H bad) == *"the index is damaged"* ]]
    tstream cat bad | cmp - <(tstream cat i)
    tstream index bad | cmp - i
    tstream index -i bad
    tstream check bad
    [ "$(tstream view --range 150 --tsv seed bad)" = 150 ]
}

@test "index --parts shares a file out: the parts joined are the whole" {
    many 1 200 30000 | tstream cat > a
    tstream index a > i
    [ "$(tstream index --parts 3 i | xargs)" = "1-67 68-134 135-200" ]
    [ "$(tstream index --parts 3 a | xargs)" = "1-67 68-134 135-200" ]
    [ "$(zstd -dcq a | tstream index -p 1)" = 1-200 ]
    [ "$(tstream index --parts 1000 i | wc -l)" = 200 ]
    [ "$(tstream head -n 0 a | tstream index -p 4 | wc -l)" = 0 ]
    tstream index --parts 5 i | parallel -k -j 2 tstream cat --range {} i | tstream cat | cmp - a
}

@test "shuffle: the same bytes for any memory, order of shards and framing; another order for another seed" {
    many 1 300 30000 > a.mpk
    tstream shuffle --seed 5 a.mpk > want
    tstream check want
    [ "$(tstream view --tsv seed want | sort -n | xargs)" = "$(seq 300 | xargs)" ]
    ! tstream view --tsv seed want | sort -nc 2> /dev/null
    tstream cat a.mpk | tstream shuffle --seed 5 --memory 1M | cmp - want          # nine runs
    tstream shuffle --seed 5 --memory 2500K -o got a.mpk
    cmp got want
    tstream split -n 70 -p part a.mpk
    tstream shuffle --seed 5 --memory 3M part-02* part-00* part-04* part-01* part-03* | cmp - want
    cat part-* | TMPDIR=$PWD tstream shuffle --seed 5 --memory 1M - | cmp - want
    tstream shuffle --seed 5 --no-compress --memory 1M a.mpk | cmp - <(zstd -dcq want)
    tstream shuffle --seed 5 --index --memory 1M a.mpk | cmp - <(tstream index want)
    tstream shuffle --seed 6 a.mpk > other
    [ "$(tstream view --tsv seed other | sort -n | xargs)" = "$(seq 300 | xargs)" ]
    ! cmp -s <(tstream view --tsv seed want) <(tstream view --tsv seed other)
    # records come from everywhere: of 100 each third of the input gave about 33
    [ "$(tstream view --tsv seed want | head -n 100 | awk '{ n[int(($1 - 1)/100)]++ } END {
        print (n[0] > 15 && n[1] > 15 && n[2] > 15) }')" = 1 ]
}

@test "shuffle: header, provenance and tensors" {
    records 1 9 > a
    tstream shuffle --seed 3 --memory 2G a > b
    [ "$(tstream info -H --json b | jq -c '[.header.model, .header.provenance[].arguments]')" \
        = '["m",["--steps=2"],["--seed=3"]]' ]
    [ "$(tstream info -H --json b | jq -r '.header.provenance[1].program')" = "tstream shuffle" ]
    cmp <(tstream view -t a | sort) <(tstream view -t b | sort)
    tstream head -n 0 a | tstream shuffle | tstream check -
    header=${header/'"model":"m"'/'"model":"other"'}
    records 10 12 > c
    fails "c: header: its model differs from that of a" tstream shuffle -o out a c
    head -c 300 a > cut
    fails "cut: record 2: the stream was cut" tstream shuffle -o out cut
    [ ! -e out ]
    run -2 --separate-stderr tstream shuffle --memory 10K a
    [[ $stderr == *"--memory: '10000' is less than 1M"* ]]
}

@test "shuffle: memory is --memory and a little, not the size of the stream" {
    many 1 1500 30000 > a.mpk
    [ "$(stat -c %s a.mpk)" -gt 40000000 ]
    python3 - > most <<'END'
import resource, subprocess
subprocess.run(["tstream", "shuffle", "--memory", "2M", "-o", "out", "a.mpk"], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
END
    echo "$(cat most) KB"
    [ "$(cat most)" -lt 36000 ]
    [ "$(tstream info --json out | jq .records)" = 1500 ]
}

@test "shuffle: a full disk, and no folder for what is set aside" {
    many 1 200 30000 > a.mpk
    mkdir aside
    fails "aside: setting records aside: File too large" \
        bash -c "trap '' XFSZ; ulimit -f 2000; TMPDIR=aside tstream shuffle --memory 1M -o out a.mpk"
    fails "none: no file can be made in it: No such file or directory" \
        env TMPDIR=none tstream shuffle --memory 1M -o out a.mpk
    fails "/dev/full: writing: No space left on device" tstream shuffle --memory 1M -o /dev/full a.mpk
    [ "$(echo out* aside/*)" = "out* aside/*" ]
}

@test "shuffle: what is set aside lies beside the output, and is gone with the program" {
    many 1 200 30000 > a.mpk
    mkfifo slow
    mkdir here
    exec 7<> slow
    env -u TMPDIR tstream shuffle --memory 1M -o here/out slow 3>&- 7>&- & pid=$!
    head -c 4000000 a.mpk >&7
    aside() { find "/proc/$pid/fd" -lname "$PWD/here/*(deleted)" | wc -l; }
    for i in {1..50}; do [ "$(aside)" = 1 ] && break; sleep 0.1; done
    [ "$(aside)" = 1 ]
    [ "$(ls here)" = "out.part-$pid" ]
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    [ "$status" = 143 ]
    exec 7>&-
    [ -z "$(ls here)" ]
}

@test "the examples of index and shuffle do what they say" {
    many 1 1100 3000 | tstream cat > acts.mpk.zst
    tstream split -n 300 -p shard acts.mpk.zst
    for sub in index shuffle; do
        tstream $sub --help | sed -n '/^Examples:/,/^More:/s/^  //p' | grep -v 'sae-\|#\||$' > examples
        [ "$(wc -l < examples)" -ge 2 ]
        while read -r line; do
            echo "$line"
            bash -o pipefail -c "$line"
        done < examples
    done
    tstream check *.mpk.zst
    cmp indexed.mpk.zst acts.mpk.zst
}

@test "a closed pipe ends a program quietly" {
    records 1 300 | tstream cat > a
    for i in {1..300}; do echo a; done > many
    run -0 --separate-stderr bash -o pipefail -c 'tstream view $(cat many) | head -n 1 > /dev/null'
    [ -z "$stderr" ]
    run -0 --separate-stderr bash -o pipefail -c 'tstream cat --no-compress $(cat many) | head -c 10 > /dev/null'
    [ -z "$stderr" ]
    run -0 --separate-stderr bash -o pipefail -c 'tstream info --json $(cat many) | head -n 1 > /dev/null'
    [ -z "$stderr" ]
}

@test "a full disk is said" {
    records 1 3 > a
    fails "standard output: writing: No space left on device" bash -c 'tstream cat a > /dev/full'
    fails "/dev/full: writing: No space left on device" tstream cat -o /dev/full a
    fails "standard output: writing: No space left on device" bash -c 'tstream view a > /dev/full'
    fails "standard output: writing: No space left on device" bash -c 'tstream stat a > /dev/full'
    fails "standard output: writing: No space left on device" bash -c 'tstream info a > /dev/full'
    fails "/dev/full: writing: No space left on device" tstream to-npy -o /dev/full a
}

@test "an output appears whole or not at all, and over a file only when done" {
    records 1 3 > a
    echo keep > out
    head -c 100 a > cut
    run -1 tstream cat -o out cut
    [ "$(cat out)" = keep ]
    ln -s real link
    tstream cat -o link a
    [ -L link ] && tstream check real
    fails "No such file or directory" tstream cat -o none/out a
    mkdir dir
    fails "dir: is a folder" tstream cat -o dir a
    mkfifo pipe
    timeout 20 tstream cat --no-compress -o pipe a 3>&- &
    timeout 20 cmp pipe a
    wait $!
    [ -p pipe ]
}

@test "SIGTERM leaves no half-written file" {
    records 1 3 > a
    mkfifo slow
    exec 7<> slow                   # both ends: opening one would wait for the other
    tstream cat -o out slow 3>&- 7>&- & pid=$!
    cat a >&7
    for i in {1..50}; do [ -e "out.part-$pid" ] && break; sleep 0.1; done
    [ -e "out.part-$pid" ]
    kill -TERM $pid
    status=0
    wait $pid || status=$?
    [ "$status" = 143 ]
    exec 7>&-
    [ "$(echo out*)" = "out*" ]
}

@test "terminals are neither read nor written" {
    records 1 1 > a
    run script -qec "tstream cat a" /dev/null
    [[ $output == *"standard output is a terminal"* ]]
    run script -qec "tstream view" /dev/null
    [[ $output == *"standard input: is a terminal"* ]]
    for to in /dev/stdout /dev/tty; do          # named as a file
        run script -qec "tstream cat a -o $to" /dev/null
        [[ $output == *"$to: is a terminal"* ]]
    done
    bash -c 'tstream to-npy -o /dev/stdout a 2>error | cat >said'
    [[ $(cat error) == *"/dev/stdout: a NumPy file needs a regular file"* ]]
    [ ! -s said ]
}

@test "misuse" {
    run -2 --separate-stderr tstream
    [[ $stderr == "tstream: needs a subcommand"* ]]
    run -2 --separate-stderr tstream frob
    [[ $stderr == "tstream: 'frob' is none of "* ]]
    run -2 --separate-stderr tstream -q info
    [[ $stderr == "tstream: the subcommand comes first: tstream info"* ]]
    run -2 --separate-stderr tstream view --frob
    [[ $stderr == "tstream view: unknown option --frob"* ]]
    for sub in info head view stat check cat split shuffle index to-npy to-png text; do
        run -0 --separate-stderr tstream $sub --help
        [[ $output == "usage: tstream $sub"* ]]
        [ -z "$(grep -E '^.{121}' <<< "$output")" ]
    done
}
