#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-fit.bats -- fitting from pipes, files and FIFOs; same bytes; several hooks; halves; stopping; what it says of bad
# input.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR HOOK=up_blocks.1.attentions.1
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -6 >prompts.jsonl
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 4 --half both --hook $HOOK --hook up_blocks.0 cond.mpk.zst -o two.mpk.zst
    sd-sample-hooked --steps 4 --hook $HOOK cond.mpk.zst -o one.mpk.zst
    sd-sample-hooked --steps 4 --hook $HOOK --half both cond.mpk.zst -o both.mpk.zst
}

setup() {
    cd "$DATA" || return 1
    rm -rf out a b log
}

fit() { sae-fit -k 8 --expansion 4 --batch 128 "$@"; }

same() { cmp "$1/sae.safetensors" "$2/sae.safetensors"; }

@test "a folder as sparsify reads it, with hook, take, half, model and the training beside" {
    run fit -o out one.mpk.zst
    [ "$status" = 0 ]
    [ -z "$output" ]
    [ "$(ls out)" = $'cfg.json\nsae.safetensors' ]
    [ "$(jq -c '[.k, .d_in, .num_latents, .expansion_factor, .normalize_decoder, .hook, .take, .half]' out/cfg.json)" \
        = "[8,128,512,4,true,\"$HOOK\",\"output\",\"cond\"]" ]
    [ "$(jq '.training.tokens' out/cfg.json)" = 1536 ]
    [ "$(jq -r '.training.provenance[-1].program' out/cfg.json)" = sae-fit ]
    [[ $(jq -r '.model' out/cfg.json) == minisd-* ]]
    sae-eval --sae out one.mpk.zst | awk -F '\t' 'NR == 2 && $2 == 1536 && $3 > 0 && $3 < 1 {ok = 1} END {exit !ok}'
}

@test "same bytes: threads, pipe or file, compressed or not" {
    fit --epochs 3 -@ 1 -o a one.mpk.zst
    fit --epochs 3 -@ 2 -o b <one.mpk.zst
    same a b
    zstd -dc one.mpk.zst | fit --epochs 3 -o out
    same a out
    fit --epochs 3 --seed 1 -o out one.mpk.zst
    run ! same a out
}

@test "FIFOs side by side are files side by side" {
    head -3 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 4 -o h1.mpk.zst
    tail -3 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 4 -o h2.mpk.zst
    mkfifo f1 f2
    cat h1.mpk.zst >f1 & cat h2.mpk.zst >f2 &
    fit -o a f1 f2
    fit -o b h1.mpk.zst h2.mpk.zst
    same a b
}

@test "several files: cfg.json has the steps of all, each once, as the files come" {
    head -1 prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 4 --guidance 3 --hook $HOOK -o other.mpk.zst
    fit -o a one.mpk.zst other.mpk.zst
    fit -o b other.mpk.zst one.mpk.zst other.mpk.zst
    for folder in a b; do
        jq -c '[.training.provenance[] | .program, (.arguments[] | select(startswith("--guidance")))]' $folder/cfg.json
    done | cmp - <(cat <<'END'
["sd-encode-text","sd-sample-hooked","--guidance=4","sd-sample-hooked","--guidance=3","sae-fit"]
["sd-encode-text","sd-sample-hooked","--guidance=3","sd-sample-hooked","--guidance=4","sae-fit"]
END
)
}

@test "a hook of several, alone or with the others: the same autoencoder" {
    fit -o out two.mpk.zst
    [ "$(ls out)" = $'up_blocks.0\nup_blocks.1.attentions.1' ]
    fit --hook unet.$HOOK -o a two.mpk.zst
    same a out/$HOOK
    fit -o b one.mpk.zst
    same a b
    [ "$(jq .d_in out/up_blocks.0/cfg.json)" = 160 ]
}

@test "halves" {
    for half in cond uncond both; do fit --half $half -o $half both.mpk.zst; done
    fit -o a one.mpk.zst
    same a cond
    run ! same cond uncond
    [ "$(jq .training.tokens both/cfg.json)" = 3072 ]
}

@test "a buffer smaller than the input: files again, a pipe once with a note" {
    fit --epochs 3 --buffer 512 --log log -o a one.mpk.zst
    [ "$(jq .training.tokens a/cfg.json)" = 4608 ]
    run fit --epochs 3 --buffer 512 -o b <one.mpk.zst
    says 0 "larger than --buffer" "1536 tokens"
    fit --tokens 1000 --buffer 512 -o b one.mpk.zst
    [ "$(jq .training.tokens b/cfg.json)" = 1024 ]
}

@test "a buffer smaller than the input: no token is left out, and the rate ends at 0" {
    for settings in "--batch 96 --buffer 300 --epochs 3" "--batch 100 --buffer 777 --epochs 2" \
                    "--batch 128 --buffer 1000 --epochs 4" "--mix pictures --batch 256 --buffer 600 --epochs 2"; do
        # shellcheck disable=SC2086  # a list of options
        fit $settings --report 1 --log log -o a one.mpk.zst
        [ "$(jq .training.tokens a/cfg.json)" = $((1536*${settings##* })) ]
        # The last step's rate is what is left of the fall before it, a batch's part of a fifth of them.
        jq -se 'map(.lr) | .[-1] > 0 and .[-1] < 0.5*max and (.[-4:] | . == (sort | reverse))' log
    done
    # Of a pipe nothing is known before it ends: then too.
    fit --batch 96 --buffer 300 --tokens 1M --report 1 --log log -o a <one.mpk.zst
    [ "$(jq .training.tokens a/cfg.json)" = 1536 ]
    jq -se 'map(.lr) | .[-1] < 0.7*max' log
}

@test "a log: a line of JSON a report" {
    fit --epochs 4 --report 2 --log log -o out one.mpk.zst
    [ "$(wc -l <log)" = 24 ]
    jq -es 'length == 24 and all(.[]; .fvu > 0 and .l0 > 0 and .lr >= 0 and .dead >= 0
        and .tokens_per_second > 0)' log
    [ "$(tail -1 log | jq .tokens)" = 6144 ]
    fit --tokens 1000 --report 5 --log log -o out one.mpk.zst           # 8 batches: the last is told of too
    [ "$(jq .tokens log | xargs)" = '640 1024' ]
}

@test "a log that finds no room: the folder is there, and it is said once; one that nobody reads is let go" {
    run fit --report 2 --log /dev/full -o out one.mpk.zst
    says 1 "/dev/full" "No space left"
    fit -o a one.mpk.zst
    same a out
    fit --report 1 --log - -o b one.mpk.zst | true
    [ "${PIPESTATUS[0]}" = 0 ]
    same a b
}

@test "a held-out stream: figures in the log and in cfg.json, as sae-eval measures them; training is not touched" {
    fit --epochs 2 -o a one.mpk.zst
    fit --epochs 2 --eval both.mpk.zst --log log --report 8 -o b one.mpk.zst
    same a b
    [ "$(jq -s 'length' log)" = 3 ]
    jq -e --slurpfile c b/cfg.json -s '.[-1].eval.fvu - $c[0].training.eval.fvu | fabs < 1e-6' log
    sae-eval --sae b --json both.mpk.zst >figures
    jq -e --slurpfile f figures '.training.eval | (.fvu - $f[0].fvu | fabs) < 1e-6 and .tokens == $f[0].tokens
        and (.l0 - $f[0].l0 | fabs) < 1e-6' b/cfg.json
    sd-sample-hooked --steps 1 --tokens 1 --hook $HOOK <(tstream head -n 1 cond.mpk.zst) -o single.mpk.zst
    fit --epochs 2 --eval single.mpk.zst --log log --report 8 -o b one.mpk.zst      # one token has no variance
    same a b
    jq -e -s 'length == 3 and .[2].eval.fvu == null and .[2].eval.tokens == 1' log
}

@test "a held-out stream that cannot be used is refused before the training; one that fails at the end leaves the folder" {
    tstream head -n 0 -o none.mpk.zst one.mpk.zst
    head -c 20000 one.mpk.zst >cut.mpk.zst
    for bad in missing cond none cut; do
        run fit --tokens 1G --eval $bad.mpk.zst --log log -o out one.mpk.zst
        says 1 $bad.mpk.zst
        [ ! -e out ]
        [ ! -e log ]
    done
    cp one.mpk.zst held.mpk.zst
    for _ in {1..12}; do cat one.mpk.zst; done >many
    mkfifo slow
    sae-fit -k 8 --expansion 4 --batch 128 --eval held.mpk.zst -o out slow 2>said &
    exec 7>slow
    head -c -1000 many >&7          # more than pipes and buffers hold: held.mpk.zst has been read through
    cp cut.mpk.zst held.mpk.zst
    tail -c 1000 many >&7
    exec 7>&-
    status=0
    wait $! || status=$?
    [ "$status" = 1 ]
    grep 'held.mpk.zst.* was cut' said
    fit -o a many
    same a out
    jq -e '.training | has("eval") | not' out/cfg.json
}

@test "a held-out stream that fails at a report: the training goes on, and the folder is there" {
    cp one.mpk.zst held.mpk.zst
    for _ in {1..40}; do cat one.mpk.zst; done >many
    mkfifo slower
    sae-fit -k 8 --expansion 4 --batch 128 --eval held.mpk.zst --log reports --report 4 --buffer 2K \
        -o out slower 2>said &
    exec 7>slower
    head -c "$(($(stat -c %s many) / 2))" many >&7
    until [ -s reports ]; do kill -0 $!; sleep 0.05; done
    head -c 20000 one.mpk.zst >cut.mpk.zst
    mv cut.mpk.zst held.mpk.zst             # at once: a report may open it at any time
    tail -c "+$(($(stat -c %s many) / 2 + 1))" many >&7
    exec 7>&-
    status=0
    wait $! || status=$?
    cat said
    [ "$status" = 1 ]
    [ "$(grep -c 'held.mpk.zst.* was cut' said)" = 1 ]
    fit --buffer 2K -o a many
    same a out
    jq -e -s '.[0].eval.fvu > 0 and .[-1].eval == null and (.[-1] | has("eval"))' reports
}

@test "a held-out stream from a pipe is misuse, said before anything is read" {
    mkfifo fifo
    for bad in - fifo . /dev/null; do
        run timeout 20 sae-fit -k 8 --tokens 1G --eval $bad --log log -o out one.mpk.zst <one.mpk.zst
        says 2 "--eval $bad: expected a file"
    done
    run fit --tokens 1G --eval <(cat one.mpk.zst) -o out one.mpk.zst
    says 2 "expected a file"
    [ ! -e out ]
    [ ! -e log ]
}

@test "moments in bf16: as well as in f32, one autoencoder whatever the threads, of each variant's loop" {
    for variant in topk jumprelu; do
        fit --variant $variant --epochs 40 -o a one.mpk.zst
        for threads in 1 2; do
            fit --variant $variant --epochs 40 --moments bf16 -@ $threads -o b$threads one.mpk.zst
        done
        same b1 b2
        run ! same a b1
        jq -es '(.[1].training.fvu/.[0].training.fvu - 1) as $more | $more < 0.03 and $more > -0.03' \
            a/cfg.json b1/cfg.json
    done
}

@test "batchtopk: a threshold is saved, encodes about k a token, and as well as topk" {
    fit --epochs 100 -o a one.mpk.zst
    fit --epochs 100 --variant batchtopk -o b one.mpk.zst
    jq -e '.activation == "batchtopk" and .k == 8 and .most >= 32' b/cfg.json
    sae-eval --sae a --json one.mpk.zst >topk
    sae-eval --sae b --json one.mpk.zst >batch
    cat topk batch
    jq -e --slurpfile t topk '.l0 > 6 and .l0 < 10 and .fvu < 1.1*$t[0].fvu' batch
}

@test "a grid: an autoencoder for each cell, in the bytes of the run by itself" {
    fit --grid k=4,8 --grid batch=128,96 --epochs 2 --buffer 600 --log log --report 5 -o out one.mpk.zst
    [ "$(cd out && echo *)" = "k=4,batch=128 k=4,batch=96 k=8,batch=128 k=8,batch=96" ]
    fit --batch 96 -k 4 --epochs 2 --buffer 600 -o a one.mpk.zst
    same a out/k=4,batch=96
    jq -e '.k == 4 and .training.cell == "k=4,batch=96"' out/k=4,batch=96/cfg.json
    [ "$(jq -r .cell log | sort -u | wc -l)" = 4 ]
    fit --grid seed=3,4 --grid variant=topk,batchtopk two.mpk.zst -o b
    for cell in {up_blocks.0,$HOOK}/seed={3,4},variant={topk,batchtopk}; do
        [ -s "b/$cell/sae.safetensors" ]
    done
    fit --seed 4 --order 0 --variant batchtopk --hook $HOOK two.mpk.zst -o a
    same a "b/$HOOK/seed=4,variant=batchtopk"
    run fit --grid lr=1e-3,fast -o out one.mpk.zst
    says 2 fast
    run fit --grid colour=1 -o out one.mpk.zst
    says 2 colour features
    rm -rf out
    for values in , 4, 4,,8 ' 4' 0x4 4x; do
        run fit --grid "k=$values" -o out one.mpk.zst
        says 2 "--grid k: '" "is not a whole number"
        [ ! -e out ]
    done
    fit --grid features=1K --tokens 1K -o out one.mpk.zst
    [ "$(jq .num_latents out/features=1K/cfg.json)" = 1000 ]
    for empty in k= k=, k=4,,8 k=4, =4 k; do
        run fit --grid $empty -o out2 one.mpk.zst
        says 2 grid
    done
    [ ! -e out2 ]
}

@test "several autoencoders beside one that is there already: refused before the first token" {
    fit --tokens 1K -o out one.mpk.zst
    cp out/sae.safetensors before
    for several in "two.mpk.zst" "--grid k=4,8 one.mpk.zst"; do
        run fit --tokens 1K -o out $several
        says 1 "out/cfg.json: an autoencoder is there, which would be taken for out/"
        [ "$(cd out && echo *)" = "cfg.json sae.safetensors" ]
        cmp before out/sae.safetensors
    done
}

@test "a grid: an axis twice, features beside expansion, a value twice in other words are misuse" {
    while read -r words and axes; do
        # shellcheck disable=SC2086  # a list of options
        run fit $axes -o out2 one.mpk.zst
        says 2 "${words//_/ }" "$and"
    done <<'END'
k_is_given_twice k=V,V,... --grid k=4 --grid k=8
k_is_given_twice k=V,V,... --grid k=4,5 --grid batch=64 --grid k=4
expansion features --grid features=32,64 --grid expansion=2
0.001_and_1e-3 lr --grid lr=0.001,1e-3
1K_and_1000 features --grid features=32,1K,1000
topk_and_topk variant --grid variant=topk,relu,topk
assign_is_of_--labels --labels --grid assign=0.1,1
END
    [ ! -e out2 ]
    # What the help names is what there is.
    axes=$(sae-fit --help | tr -s ' \n' ' ' | grep -o 'product. NAME: [a-z0-9, ]*' | cut -d ' ' -f 3-)
    [ "$(wc -w <<<"$axes")" = 12 ]
    run fit --grid colour=1 -o out2 one.mpk.zst
    says 2 "there are ${axes% }"
    for axis in ${axes//,/}; do
        run fit --labels concept --grid "$axis=?,1" -o out2 one.mpk.zst
        says 2 "--grid $axis: '?' is not"
    done
    # An axis goes before the option of its name, and expansion before --features.
    fit --features 64 --tokens 1K --grid expansion=1,2 -o out2 one.mpk.zst
    [ "$(jq .num_latents out2/*/cfg.json | xargs)" = "128 256" ]
}

@test "options that have nothing to act on: --every without --checkpoint, weights without --labels" {
    for option in "--every 10" "--every-minutes 5"; do
        # shellcheck disable=SC2086  # an option and its value
        run fit $option -o out one.mpk.zst
        says 2 "${option% *} is of --checkpoint"
    done
    for option in "--assign 1" "--decorrelate 1"; do
        # shellcheck disable=SC2086  # an option and its value
        run fit $option -o out one.mpk.zst
        says 2 "${option% *} is of --labels"
    done
    [ ! -e out ]
}

@test "levels that -n cannot hold are misuse, in a grid too; with --expansion the stream decides" {
    run fit --variant matryoshka --levels 40 -n 32 -o out one.mpk.zst
    says 2 "--levels 40: a level of 40 of 32 features"
    run fit --variant matryoshka --levels 16,40 --grid features=64,32 -o out one.mpk.zst
    says 2 "--levels 16,40: a level of 40 of 32 features"
    run fit --variant matryoshka --levels 600 -o out one.mpk.zst
    says 1 "level of 600 features of 512"
    [ ! -e out ]
    fit --variant matryoshka --levels 16,32 -n 32 --tokens 1K -o out one.mpk.zst
    [ "$(jq -c .levels out/cfg.json)" = "[16,32]" ]
}

@test "whole pictures in a batch; sampletopk keeps k a token of each" {
    fit --mix pictures --buffer 512 --epochs 2 -o a one.mpk.zst
    fit --mix pictures --buffer 512 --epochs 2 -@ 1 -o b one.mpk.zst
    same a b
    fit --variant sampletopk --mix pictures --epochs 20 -o out one.mpk.zst
    jq -e '.activation == "sampletopk" and .sample_topk' out/cfg.json
    sae-eval --sae out --json one.mpk.zst | jq -e '.l0 > 6 and .l0 < 10'
    run fit --variant sampletopk -o out one.mpk.zst
    says 2 pictures
}

@test "matryoshka and multi: levels in cfg.json, an autoencoder that reconstructs" {
    fit --variant matryoshka --levels 32,128 --epochs 40 -o a one.mpk.zst
    jq -e '.levels == [32,128,512] and .activation == "matryoshka"' a/cfg.json
    sae-eval --sae a --json one.mpk.zst | jq -e '.l0 > 6 and .l0 < 10 and .fvu < 0.5'
    fit --multi --epochs 10 -o b one.mpk.zst
    jq -e '.multi_topk and .activation == "topk" and .k == 8' b/cfg.json
    sae-eval --sae b --json one.mpk.zst | jq -e '.l0 > 7 and .l0 <= 8 and .fvu < 0.5'
    for levels in 128,32 '' 32, ,32 32x; do
        run fit --variant matryoshka --levels "$levels" -o out one.mpk.zst
        says 2 rising
    done
    fit --variant matryoshka --features 2K --levels 1K --tokens 1K -o a one.mpk.zst
    jq -e '.levels == [1000,2000]' a/cfg.json
}

# A fit of the variant named, with its folder's fields, an l0 near k, and no more error than given.
settles_at_k() {
    local variant=$1 parts=$2 fvu=$3
    fit --epochs 100 --variant "$variant" --log log -o a one.mpk.zst
    jq -c '[.activation, .k, .most, .training.sparsity, .training.l0]' a/cfg.json
    jq -e --arg v "$variant" '.activation == $v and .k == 8 and .most >= 8 and .most % 8 == 0' a/cfg.json
    [ "$(sae_tensors a | grep -cxE 'threshold|scale|offset')" = "$parts" ]
    sae-eval --sae a --json one.mpk.zst >figures
    cat figures
    jq -e --argjson most "$fvu" '(.l0 - 8 | fabs) < 0.15*8 and .fvu < $most' figures
    fit --epochs 3 --variant "$variant" -@ 1 -o a one.mpk.zst
    fit --epochs 3 --variant "$variant" -@ 2 -o b one.mpk.zst
    same a b
}

sae_tensors() {
    python3 -c 'import json, sys
f = open(sys.argv[1], "rb")
print("\n".join(json.loads(f.read(int.from_bytes(f.read(8), "little")))))' "$1/sae.safetensors"
}

@test "jumprelu: thresholds, k on the mean, one autoencoder whatever the threads" { settles_at_k jumprelu 1 0.3; }

@test "gated: scale and offset, k on the mean, one autoencoder whatever the threads" { settles_at_k gated 2 0.3; }

@test "relu: no gate, k on the mean, one autoencoder whatever the threads" { settles_at_k relu 0 0.9; }

@test "--sparsity: more of it keeps fewer; of other variants it is misuse, as is --width" {
    fit --epochs 10 --variant jumprelu --sparsity 0.1 -o a one.mpk.zst
    fit --epochs 10 --variant jumprelu --sparsity 10 --width 0.1 -o b one.mpk.zst
    jq -e --slurpfile a a/cfg.json '.training.l0 < $a[0].training.l0 and .training.sparsity == 10' b/cfg.json
    run fit --sparsity 1 -o out one.mpk.zst
    says 2 --sparsity jumprelu
    run fit --variant relu --width 1 -o out one.mpk.zst
    says 2 --width jumprelu
}

@test "labels: a feature for each, which fires for its label and is ranked as its own" {
    fit --labels concept,theme --epochs 40 -o out one.mpk.zst
    concepts=$(jq -r .concept prompts.jsonl | sort -u | wc -l)
    [ "$(jq '.labels.concept | length' out/cfg.json)" = "$concepts" ]
    [ "$(jq -c '[.labels[][]] | sort == [range(length)]' out/cfg.json)" = true ]
    [ "$(jq -c '.labels.concept | [keys[] as $k | .[$k]] == [range(length)]' out/cfg.json)" = true ]
    sae-rank-concepts --sae out --by concept --score assigned --top 1 --json - one.mpk.zst >ranks.jsonl
    jq -es --slurpfile c out/cfg.json 'length > 0
        and all(.[]; .feature[0] == $c[0].labels.concept[.label] and .score[0] == 1)' ranks.jsonl
    # it sets its label apart better than any other feature does, at every timestep
    fit --labels concept --epochs 40 -o b one.mpk.zst
    sae-rank-concepts --sae b --by concept --score difference --top 1 --json - one.mpk.zst |
        jq -es --slurpfile c b/cfg.json 'length > 0 and all(.[]; .feature[0] == $c[0].labels.concept[.label])'
    run sae-rank-concepts --sae out --by seed --score assigned --table - one.mpk.zst
    says 1 tied seed
    for weight in assign decorrelate; do
        run fit --labels concept --$weight -1 -o a one.mpk.zst
        says 2 "$weight -1: expected 0 to"
    done
    fit --labels concept --grid assign=0.1,2 --tokens 1K -o a one.mpk.zst
    fit --labels concept --assign 2 --tokens 1K -o b one.mpk.zst
    same a/assign=2 b
    run ! same a/assign=0.1 b
    run fit --labels concept --features 1 -k 1 -o a one.mpk.zst
    says 1 "$concepts labels need a feature each, and there are 1"
    run fit --labels colour -o a one.mpk.zst
    says 1 colour
    run fit --labels concept --variant relu -o a one.mpk.zst
    says 2 labels
}

@test "resampling: some dead features come to life again, and it reconstructs no worse" {
    fit --auxk 0 --features 2048 --dead 3000 --epochs 40 -o a one.mpk.zst
    fit --auxk 0 --features 2048 --dead 3000 --epochs 40 --resample 6000 -o b one.mpk.zst
    sae-eval --sae a --json one.mpk.zst >never
    sae-eval --sae b --json one.mpk.zst >resampled
    cat never resampled
    jq -e --slurpfile n never '.dead < $n[0].dead and .fvu < $n[0].fvu' resampled
}

@test "SIGTERM: what was learned is saved, and says so" {
    sae-fit -k 8 --expansion 4 --batch 128 --tokens 1G --log log -o out one.mpk.zst &
    until [ -s log ]; do sleep 0.1; done
    kill -TERM $!
    wait $!
    [ "$(jq .training.stopped out/cfg.json)" = true ]
    sae-eval --sae out one.mpk.zst >/dev/null
}

@test "an output folder that is there is replaced, file by file; nothing else is left" {
    fit -o out one.mpk.zst
    fit -o a --seed 3 one.mpk.zst
    fit -o out --seed 3 one.mpk.zst
    same a out
    [ -z "$(find . -name '*.part*')" ]
}

@test "a folder that holds another layout is refused before the training, below -o too" {
    mkdir -p other mixed/up_blocks.1.attentions.1
    touch other/ae.pt mixed/up_blocks.1.attentions.1/sae_weights.safetensors
    run fit -o other one.mpk.zst
    says 1 "other: holds ae.pt, an autoencoder in dictionary_learning's layout"
    run fit --log log -o mixed two.mpk.zst
    says 1 "mixed/up_blocks.1.attentions.1: holds sae_weights.safetensors"
    [ ! -e log ]
    [ "$(find mixed -type f)" = mixed/up_blocks.1.attentions.1/sae_weights.safetensors ]
}

@test "a cut stream, a stream of another kind, an unknown hook: one message, exit 1, no folder" {
    head -c 20000 one.mpk.zst >cut.mpk.zst
    run fit -o out cut.mpk.zst
    says 1 cut.mpk.zst
    run fit -o out cond.mpk.zst
    says 1 conditioning activations
    run fit --hook mid_block -o out two.mpk.zst
    says 1 mid_block up_blocks.0 $HOOK
    run fit --half uncond -o out one.mpk.zst
    says 1 uncond
    [ ! -e out ]
}

@test "NaN is refused by record, hook and step" {
    zstd -dc one.mpk.zst >plain.mpk
    python3 - <<'END'
data = bytearray(open("plain.mpk", "rb").read())
at = data.find(b"data", data.find(b"act", data.find(b"attentions.1", 2000))) + 4 + 3
data[at + 64:at + 66] = b"\x00\x7e"
open("nan.mpk", "wb").write(data)
END
    run fit -o out nan.mpk
    says 1 nan.mpk record nan $HOOK step
}

@test "a loss that is no number any more stops the fit at once, naming step and tensor" {
    run fit --lr 1e9 -o out one.mpk.zst
    says 1 "step 2" "128 tokens" reconstruction --lr
    [ ! -e out ]
}

@test "misuse exits 2" {
    for wrong in "-k 0" "-k 12x" "--half left" "--features 4 -k 8" "--epochs 0" "--decay 2" "--moments f16"; do
        run sae-fit $wrong -o out one.mpk.zst
        says 2 sae-fit
    done
    run sae-fit one.mpk.zst
    says 2 output
}
