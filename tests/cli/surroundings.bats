#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# surroundings.bats -- what programs are started in: closed descriptors, limits, links and pipes as outputs, OpenMP's
# environment.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -3 >prompts.jsonl
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 2 cond.mpk.zst -o acts.mpk.zst
    sae-fit -k 8 --features 256 --batch 64 acts.mpk.zst -o sae
    sae-eval --sae sae --features acts.mpk.zst -o table
}

setup() { cd "$BATS_TEST_TMPDIR" || return 1; }

nothing_left() { [ -z "$(ls -A)" ]; }

@test "what is said does not get into an output where standard error is closed" {
    yes 'a cat' | head -100 | tr '\n' ' ' >"$DATA/long.txt"
    sd-encode-text -o said.mpk.zst "$DATA/long.txt"
    sd-encode-text -o unsaid.mpk.zst "$DATA/long.txt" 2>&-
    cmp said.mpk.zst unsaid.mpk.zst
}

@test "what goes to standard output does not get into a file where that is closed" {
    run -1 bash -c 'sd-sample-hooked -q --steps 2 --no-activations --latents l.mpk.zst --images - "$DATA/cond.mpk.zst" \
        <&- >&-'
    says 1 "standard output" "Bad file descriptor"
    nothing_left
}

@test "a closed standard input is no file that is opened" {
    run bash -c 'sd-sample-hooked -q --steps 2 <&-'
    says 1 "standard input" "Bad file descriptor"
}

@test "over the limit of a file's size: a message, and no half file" {
    for command in "sd-encode-text $DATA/prompts.jsonl" "sae-eval --sae $DATA/sae --features $DATA/acts.mpk.zst" \
        "tstream cat $DATA/acts.mpk.zst" "sae-convert --to saelens $DATA/sae"; do
        run bash -c "ulimit -f 1; exec $command -o out"
        says 1 out "File too large"
        nothing_left
    done
}

@test "folders that were made for what did not become whole are not left" {
    for command in "sd-steer -q --steps 2 --sae $DATA/sae --feature 1=1 $DATA/cond.mpk.zst" \
        "sae-fit -k 8 --features 256 --batch 64 $DATA/acts.mpk.zst" "sae-convert --to saelens $DATA/sae"; do
        run bash -c "ulimit -f 1; exec $command -o new/out"
        says 1 new/out "File too large"
        nothing_left
    done
}

@test "what is known only when a descriptor is closed is said of standard output too" {
    strace -qq -o /dev/null true || skip "strace is not there, or may not trace"
    settled() {
        run bash -c 'exec strace -f -qq -o trace -P "$PWD/out" -e inject=close:error=EDQUOT:when=1 "$@" >out' - "$@"
        grep -q INJECTED trace
        says 1 "standard output: writing: Disk quota exceeded"
    }
    for command in cat index view info stat; do settled tstream $command "$DATA/acts.mpk.zst"; done
    settled sd-assemble-prompts -n 1
    settled sae-eval --sae "$DATA/sae" --features "$DATA/acts.mpk.zst"
}

@test "a table appears whole or not at all" {
    echo old >out
    run bash -c 'ulimit -f 1; exec sae-eval --sae "$DATA/sae" --features "$DATA/acts.mpk.zst" -o out'
    [ "$(cat out)" = old ]
    sae-eval --sae "$DATA/sae" --features "$DATA/acts.mpk.zst" -o out
    cmp out "$DATA/table"
}

@test "a symbolic link as output stays one, whether its target is there or not" {
    mkdir below
    echo old >below/there
    for target in there not-there ../below/second; do
        ln -sf "$target" below/link
        [ "$target" = ../below/second ] && ln -s second-target below/second
        tstream cat "$DATA/acts.mpk.zst" -o below/link
        [ -L below/link ]
        cmp below/link "$DATA/acts.mpk.zst"
    done
    [ -L below/second ]
    ln -sf loop below/loop
    run tstream cat "$DATA/acts.mpk.zst" -o below/loop
    says 1 below/loop "symbolic links"
}

@test "one name for two outputs is refused, and neither is there half" {
    ln -s . other
    for latents in same.mpk.zst ./same.mpk.zst other/same.mpk.zst; do
        run sd-sample-hooked -q --steps 1 --latents "$latents" -o same.mpk.zst "$DATA/cond.mpk.zst"
        says 1 "same.mpk.zst" "it is an output already"
        [ "$(ls)" = other ]
    done
    for folder in same same/; do        # a stream of that name, and a folder
        run sd-sample-hooked -q --steps 1 --images $folder -o same "$DATA/cond.mpk.zst"
        says 1 "$folder: cannot be a folder of pictures: it is an output already"
        run sd-steer -q --steps 1 --sae "$DATA/sae" --feature 3=1 --latents same -o $folder "$DATA/cond.mpk.zst"
        says 1 "$folder: cannot be a folder of pictures: it is an output already"
        [ "$(ls)" = other ]
    done
    echo text >there
    run sd-sample-hooked -q --steps 1 --no-activations --images there "$DATA/cond.mpk.zst"
    says 1 "there: is there, and is not a folder"
    rm there
    run sae-rank-concepts -q --sae "$DATA/sae" --table t -o t "$DATA/acts.mpk.zst"
    says 1 "t: cannot be written" "it is an output already"
    [ "$(ls)" = other ]
}

@test "what a killed program left does not stand in the way of one that gets its number" {
    bash -c 'touch out.part-$BASHPID && exec tstream cat "$DATA/acts.mpk.zst" -o out'
    cmp out "$DATA/acts.mpk.zst"
    [ "$(ls)" = out ]
}

@test "two outputs do not share standard output" {
    run -2 sd-sample-hooked --steps 1 --latents - "$DATA/cond.mpk.zst"
    run -2 sd-sample-hooked --steps 1 --no-activations --latents - --images - "$DATA/cond.mpk.zst"
    run -2 sd-steer --steps 1 --sae "$DATA/sae" --feature 1=1 --latents - "$DATA/cond.mpk.zst"
    run -2 sd-evaluate --predictions - "$DATA/cond.mpk.zst"
    sd-sample-hooked -q --steps 1 --no-activations --latents - "$DATA/cond.mpk.zst" | tstream check -
}

@test "a fit's log and checkpoint are no file that it reads, and not its folder" {
    cp "$DATA/acts.mpk.zst" .
    ln acts.mpk.zst link.mpk.zst
    for log in acts.mpk.zst ./link.mpk.zst; do
        run sae-fit -q -k 8 --features 64 --batch 64 --log $log -o sae acts.mpk.zst
        says 2 "--log $log: that is an input"
    done
    run sae-fit -q -k 8 --features 64 --batch 64 --log fit.ckpt --checkpoint fit.ckpt -o sae acts.mpk.zst
    says 2 "--log fit.ckpt"
    for checkpoint in acts.mpk.zst ./link.mpk.zst; do
        run sae-fit -q -k 8 --features 64 --batch 64 --every 1 --checkpoint $checkpoint -o sae acts.mpk.zst
        says 2 "--checkpoint $checkpoint: that is an input"
    done
    cp acts.mpk.zst held-out.mpk.zst
    for option in log checkpoint; do
        run sae-fit -q -k 8 --features 64 --eval held-out.mpk.zst --$option held-out.mpk.zst -o sae acts.mpk.zst
        says 2 "--$option held-out.mpk.zst: that is the file of --eval"
        run sae-fit -q -k 8 --features 64 --batch 64 --$option sae -o sae acts.mpk.zst
        says 2 "--$option sae: that is the folder of --output"
    done
    cmp acts.mpk.zst held-out.mpk.zst
    run sae-fit -q -k 8 --features 64 --batch 64 --log fit.jsonl -o held-out.mpk.zst acts.mpk.zst
    says 1 "held-out.mpk.zst: is there, and is not a folder"
    [ ! -e fit.jsonl ]          # it was said before the training
    cmp acts.mpk.zst "$DATA/acts.mpk.zst"
}

@test "folders and files whose names are long, or no UTF-8" {
    for name in "a$(printf '\u732b%.0s' {1..30})" $'b\xff'; do
        cp -r "$DATA/sae" "$name"
        sae-rank-concepts -q --sae "$name" -o ranks "$DATA/acts.mpk.zst"
        id=$(tstream info -j ranks | jq -r .header.sae)
        [[ $id == [ab]*-???????????? ]]
        sae-encode --sae "$name" -o feats "$DATA/acts.mpk.zst"
        [ "$(tstream info -j feats | jq -r .header.sae)" = "$id" ]
        sd-steer -q --steps 1 --sae "$name" --ranks ranks --sweep concept=all -o "$name.mpk" "$DATA/cond.mpk.zst"
        tstream info "$name.mpk" >/dev/null
        mkdir "$name.d"
        tstream to-png -N x -o "$name.d" <(tstream head -n 1 "$name.mpk")
        mv "$name.d/x.png" "$name.d/$name.png"
        sd-encode-image -o "$name.e" "$name.d"
        tstream check "$name.e"
    done
}

@test "a fit that could not be written is refused before it begins" {
    touch file
    for place in file/sae /proc/sae; do
        run sae-fit -k 8 --log log --tokens 1G -o $place "$DATA/acts.mpk.zst"
        says 1 "${place%/sae}"
        run sae-fit -k 8 --tokens 1G --checkpoint $place -o sae "$DATA/acts.mpk.zst"
        says 1 "$place: cannot be written"
    done
    mkdir folder
    run sae-fit -k 8 --tokens 1G --checkpoint folder -o sae "$DATA/acts.mpk.zst"
    says 1 "folder: is a folder"
    mkdir sae sae/sae.safetensors
    run sae-fit -k 8 --tokens 1G -o sae "$DATA/acts.mpk.zst"
    says 1 "sae/sae.safetensors: is a folder"
    [ "$(ls)" = "file
folder
sae" ]
}

@test "a pipe of the shell as output" {
    tstream cat "$DATA/acts.mpk.zst" -o >(cat >piped)
    for _ in {1..50}; do cmp -s piped "$DATA/acts.mpk.zst" && break; sleep 0.1; done
    cmp piped "$DATA/acts.mpk.zst"
}

@test "whatever signal ends a program, nothing half-written is left" {
    for signal in TERM HUP XCPU ABRT BUS SEGV; do
        sd-sample-hooked -q --steps 900 -o out "$DATA/cond.mpk.zst" &
        for _ in {1..100}; do [ -n "$(ls -A)" ] && break; sleep 0.1; done
        kill -s $signal $!
        status=0
        wait $! || status=$?            # not by run, whose shell has no child to wait for
        [ "$status" = $((128 + $(kill -l $signal))) ]
        nothing_left
    done
}

@test "a program goes by its name, though it starts itself anew" {
    mkfifo input
    sae-fit -k 8 -o sae input &
    exec {writer}>input             # open at both ends: it has started, and waits
    [ "$(cat /proc/$!/comm)" = sae-fit ]
    exec {writer}>&-
    wait $! || [ $? = 1 ]
}

@test "limits of OpenMP's threads in the environment do not change what is learned" {
    fit() { sae-fit -k 8 --features 256 --batch 64 --variant gated -o "$1" "$DATA/acts.mpk.zst"; }
    fit one
    OMP_THREAD_LIMIT=1 fit two
    OMP_DYNAMIC=true fit three
    cmp one/sae.safetensors two/sae.safetensors
    cmp one/sae.safetensors three/sae.safetensors
}

@test "an input is no output; a stream of tstream may take its own place" {
    cp "$DATA/acts.mpk.zst" own
    run sae-eval --sae "$DATA/sae" own -o ./own
    says 2 "--output ./own" input
    run sd-encode-text own -o own
    says 2 "--output own" input
    cmp own "$DATA/acts.mpk.zst"
    tstream cat own -o own
    cmp own "$DATA/acts.mpk.zst"
}
