#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# tstream shuffle, and the examples of shuffle and index.

bats_require_minimum_version 1.5.0

load streams

@test "shuffle: the same bytes for any memory, order of shards and framing; another order for another seed" {
    many 1 300 30000 > a.mpk
    tstream shuffle --seed 5 a.mpk > want
    tstream check want
    [ "$(tstream view --tsv seed want | sort -n | xargs)" = "$(seq 300 | xargs)" ]
    order=$(tstream view --tsv seed want | xargs)
    [ "$order" != "$(seq 300 | xargs)" ]
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
    [ "$(tstream view --tsv seed other | xargs)" != "$order" ]
    # records come from everywhere: of 100 each third of the input gave about 33
    [ "$(tstream view --tsv seed want | head -n 100 | awk '{ n[int(($1 - 1)/100)]++ } END {
        print (n[0] > 15 && n[1] > 15 && n[2] > 15) }')" = 1 ]
}

@test "shuffle: by MurmurHash3 of a record's bytes, begun with the seed, its first word before its second" {
    records 1 9 > came
    for seed in 0 5; do
        tstream shuffle --seed $seed --no-compress came > went
        python3 - $seed <<'END'
import sys
ALL = 2**64 - 1
def rotate(x, bits): return (x << bits | x >> (64 - bits)) & ALL
def first(w): return rotate(w*0x87c37b91114253d5 & ALL, 31)*0x4cf5ad432745937f & ALL
def second(w): return rotate(w*0x4cf5ad432745937f & ALL, 33)*0x87c37b91114253d5 & ALL
def finish(x):
    x = (x ^ x >> 33)*0xff51afd7ed558ccd & ALL
    x = (x ^ x >> 33)*0xc4ceb9fe1a85ec53 & ALL
    return x ^ x >> 33
def murmur(data, seed):             # MurmurHash3_x64_128
    a = b = seed
    word = lambda at: int.from_bytes(data[at:at + 8], "little")
    tail = len(data)//16*16
    for at in range(0, tail, 16):
        a = ((rotate(a ^ first(word(at)), 27) + b)*5 + 0x52dce729) & ALL
        b = ((rotate(b ^ second(word(at + 8)), 31) + a)*5 + 0x38495ab5) & ALL
    a ^= first(word(tail)) ^ len(data)
    b ^= second(word(tail + 8)) ^ len(data)
    a = (a + b) & ALL
    b = (a + b) & ALL
    a, b = finish(a), finish(b)
    return (a + b) & ALL, (a + 2*b) & ALL
assert murmur(b"", 0) == (0, 0)
assert murmur(b"The quick brown fox jumps over the lazy dog", 0) == (0xe34bbc7bbc071b6c, 0x7a433ca9c49a9347)
def records(path):                  # each is a map of 7 fields that begins with its id
    data = open(path, "rb").read()
    assert data.endswith(b"\x81\xa3end\x09")
    return [b"\x87\xa2id" + part for part in data[:-6].split(b"\x87\xa2id")[1:]]
came, went = records("came"), records("went")
assert len(came) == 9 and went != came
assert went == sorted(came, key=lambda r: murmur(r, int(sys.argv[1])))
END
    done
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

@test "shuffle: shards of other steps, in any order: the same bytes, with the steps of all, each once" {
    records 1 9 > a
    one=$header
    header=${one/'--steps=2'/'--steps=10'}
    records 10 19 > b
    header=${one/'"program":"p"'/'"program":"a"'}
    records 20 21 > c
    tstream shuffle a b c > want
    for order in "b a c" "c b a" "a c a b"; do
        # shellcheck disable=SC2086  # files
        tstream shuffle $order > got
        tstream info -H --json got | jq -c '[.header.provenance[] | [.program, .arguments[]]]' |
            cmp - <(echo '[["a","--steps=2"],["p","--steps=10"],["p","--steps=2"],["tstream shuffle","--seed=0"]]')
        [ "$order" = "a c a b" ] || cmp got want
    done
    # of one provenance: as it is, whatever its order and though a step comes twice
    tstream shuffle c | tstream shuffle - > d
    tstream shuffle d d | tstream info -H --json - | jq -c '[.header.provenance[].program]' |
        cmp - <(echo '["a","tstream shuffle","tstream shuffle","tstream shuffle"]')
    tstream cat d | cmp - d
    tstream cat b a c | tstream info -H --json - | jq -c '[.header.provenance[].arguments[]]' |
        cmp - <(echo '["--steps=10","--steps=2","--steps=2"]')
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
