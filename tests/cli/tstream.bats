#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# tstream from outside: every subcommand but index and shuffle, its messages and exit codes,
# against an independent reader and writer in Python.

bats_require_minimum_version 1.5.0

load streams

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
    numbers='walk(if type == "number" then . + 0 else . end)'       # jq 1.7 leaves 1.0 as it is written
    tstream view -H -t a.mpk.zst | jq -c "$numbers" > c
    python3 "$tests/read_stream.py" --values a.mpk.zst | jq -c "$numbers" > python
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
    { echo "$header"; echo '{"id":"a\u001b[31mb\r\u007f"}'; } | python3 "$tests/write_stream.py" |
        tstream view --tsv id > got
    [ "$(cat got)" = 'a\x1b[31mb\x0d\x7f' ]
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
    fails "no record has a field none to split by" tstream split --by none -p x all.mpk.zst
    [ -z "$(ls x-*)" ]
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
    /usr/bin/python3 -c 'import numpy as n; assert n.load("a.npy").shape == (3, 2, 1, 2)'
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
    [ "$(od -An -tx1 -j16 -N8 maps/980.png | tr -d ' ')" = 0000000800000004 ]       # (C, H, W)
    fails "has 2 channels, --channel is 2" tstream to-png -t latent -N '{t}' --channel 2 -o maps b
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
    [ -L link ]
    tstream check real
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

@test "a number is told by the digits that it was given" {
    { echo "$header"; echo '{"id":"a","x":0.1}'; echo '{"id":"b","x":0.1}'; echo '{"id":"c","x":2e-5}'; } |
        python3 "$tests/write_stream.py" > reals
    [ "$(tstream view --tsv x reals | xargs)" = "0.1 0.1 2e-5" ]
    tstream split --by x -p real reals
    [ "$(echo real-*)" = "real-0.1.mpk.zst real-2e-5.mpk.zst" ]
}

@test "terminals are neither read nor written" {
    records 1 1 > a
    run script -qec "tstream cat a" /dev/null
    [[ $output == *"standard output: is a terminal"* ]]
    run script -qec "tstream view" /dev/null
    [[ $output == *"standard input: is a terminal"* ]]
    for to in /dev/stdout /dev/tty; do          # named as a file
        run script -qec "tstream cat a -o $to" /dev/null
        [[ $output == *"$to: is a terminal"* ]]
        run script -qec "tstream index a -o $to" /dev/null
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
