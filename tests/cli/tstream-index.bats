#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# tstream index, --range and what becomes of indexed files.

bats_require_minimum_version 1.5.0

load streams

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
