#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-splice.bats -- the table and its JSON, what is replaced and where, pictures, same bytes, messages.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR
    cd "$DATA" || return 1
    sd-assemble-prompts --split gather -n 1 | head -3 >prompts
    sd-encode-text -o cond.mpk.zst prompts
    sd-sample-hooked -q --steps 3 --half both --latents plain.mpk.zst --images plain -o acts.mpk.zst cond.mpk.zst
    sae-fit -q -k 8 --features 256 --half both --batch 128 --epochs 8 -o sae acts.mpk.zst
    splice --images pictures.mpk.zst cond.mpk.zst >table
    splice --json cond.mpk.zst >json
}

setup() { cd "$DATA" || return 1; }

splice() { sae-splice -q --steps 3 --sae sae "$@"; }
export -f splice

all() { awk -F '\t' -v kind="$2" -v column="$3" '$1 == "all" && $2 == kind {print $column}' "$1"; }
above() { awk -v x="$1" -v y="$2" 'BEGIN {exit !(x > y)}'; }

@test "three lines a picture and three for all, figures in bounds" {
    head -1 table | tr '\t' ' ' |
        cmp - <(echo 'id splice latent_nmse latent_cosine mse psnr mad ssim latent_recovered picture_recovered')
    [ "$(cut -f 2 table | sed 1d | uniq | tr '\n' ,)" = "$(for _ in 1 2 3 4; do printf 'spliced,zero,mean,'; done)" ]
    [ "$(tail -3 table | cut -f 1 | uniq)" = all ]
    [ "$(wc -l <table)" = 13 ]
    awk -F '\t' 'NR > 1 && ($3 <= 0 || $4 > 1 || $5 <= 0 || $7^2 > $5 || $8 > 1 || $9 > 1) {exit 1}' table
    awk -F '\t' 'NR > 1 && ($6 + 10*log($5)/log(10))^2 > 1e-5 {exit 1}' table
}

@test "zero ablation recovers nothing, and the reconstruction more than it" {
    [ "$(awk -F '\t' '$2 == "zero" {print $9, $10}' table | sort -u)" = "0.000000 0.000000" ]
    above "$(all table spliced 9)" 0.2
    above 1 "$(all table spliced 9)"
}

@test "recovered shares and sums over pictures are as their formulas say" {
    jq -se '.[-1] as $all | .[:-1] | length == $all.pictures and all(.[];
            (1 - .spliced.latent_nmse/.zero.latent_nmse - .spliced.latent_recovered | fabs) < 1e-6
            and (1 - .mean.mse/.zero.mse - .mean.picture_recovered | fabs) < 1e-6)
        and (map(.zero.mad) | add/length - $all.zero.mad | fabs) < 1e-7
        and (map(.spliced.mse) | add/length - $all.spliced.mse | fabs) < 1e-7
        and (1 - $all.spliced.mse/$all.zero.mse - $all.spliced.picture_recovered | fabs) < 1e-6' json
}

@test "an id with a tab, a line's end or an escape breaks no row, and stays in JSON" {
    head -1 prompts | jq -c '.id = "a\tb\nc\u001b[31m"' | sd-encode-text -o odd.mpk.zst
    splice odd.mpk.zst >odd
    [ "$(wc -l <odd)" = 7 ]
    awk -F '\t' 'NF != 10 {exit 1}' odd
    [ "$(cut -f 1 odd | sed -n 2p)" = "a b c [31m" ]
    splice --json odd.mpk.zst | head -1 | jq -e '.id == "a\tb\nc\u001b[31m"'
}

@test "JSON says what the table says, keeps the labels, and the last line what it is of" {
    jq -r 'select(.id) | [.id, .spliced.latent_nmse] | @tsv' json | awk -F '\t' '{printf "%s\t%.6g\n", $1, $2}' |
        cmp - <(awk -F '\t' '$2 == "spliced" && $1 != "all" {print $1 "\t" $3}' table)
    [ "$(jq -r 'select(.id) | .concept' json)" = "$(jq -r .concept prompts)" ]
    [ "$(tail -1 json | jq -c '[.pictures, .hook, .half, .steps, .guidance + 0]')" \
        = '[3,"up_blocks.1.attentions.1","both",3,4]' ]
    [[ $(tail -1 json | jq -r .sae) == sae-* ]]
}

@test "the same bytes whatever the batch, the threads, and the other records" {
    for options in "--batch 1" "--batch 2" "-@ 1"; do
        # shellcheck disable=SC2086
        splice $options --images p.mpk.zst cond.mpk.zst | cmp - table
        cmp p.mpk.zst pictures.mpk.zst
    done
    sed -n 2p prompts | sd-encode-text | splice --json | head -1 | cmp - <(sed -n 2p json)
}

@test "the pictures: four of each, plain ones as sd-sample-hooked draws them, named by what was done" {
    [ "$(tstream view pictures.mpk.zst | jq -r .splice | head -4 | tr '\n' ,)" = plain,spliced,zero,mean, ]
    splice --images out -o t cond.mpk.zst
    cmp t table
    [ "$(echo out/*)" = "out/mean out/plain out/spliced out/zero" ]
    id=$(jq -r .id prompts | head -1)
    pixels() {
        python3 -c 'import sys
d = open(sys.argv[1], "rb").read()
sys.stdout.buffer.write(d[d.index(b"IDAT"):])' "$1"
    }
    cmp <(pixels "out/plain/$id.png") <(pixels "plain/$id.png")
    run ! cmp -s <(pixels "out/zero/$id.png") <(pixels "plain/$id.png")
    run -0 tstream text "out/spliced/$id.png"
    [[ $output == *sae-splice*  && $output == *"$id"* ]]
}

@test "--half and --when: fewer replaced, other figures; a range with no step is an error" {
    splice --half uncond cond.mpk.zst >other
    run ! cmp -s other table
    splice --when 400-0 cond.mpk.zst >late
    above "$(all table zero 3)" "$(all late zero 3)"        # the last step alone moves them less
    run splice --when 5-2 cond.mpk.zst
    says 1 "5-2" "nothing would be replaced"
    run splice --guidance 1 --half uncond cond.mpk.zst
    says 1 "guidance 1" "nothing would be replaced"
    splice --guidance 1 --half cond cond.mpk.zst >alone
    [ "$(awk -F '\t' '$2 == "zero" && $3 > 0' alone | wc -l)" = 4 ]
}

@test "more features kept: pictures move less" {
    sae-fit -q -k 32 --features 512 --half both --batch 128 --epochs 8 -o sae32 acts.mpk.zst
    sae-splice -q --steps 3 --sae sae32 cond.mpk.zst >better
    above "$(all better spliced 9)" "$(all table spliced 9)"
    cmp <(grep zero better) <(grep zero table)
}

@test "messages: no folder, no module, a module of another width, no records, two outputs on one pipe" {
    run sae-splice -q --sae nowhere cond.mpk.zst
    says 1 nowhere
    run splice --hook up_blocks.1.attention.1 cond.mpk.zst
    says 1 up_blocks.1.attention.1 up_blocks.1.attentions.1
    run splice --hook 'up_blocks.1.attentions.*' cond.mpk.zst
    says 1 "matches 3 modules"
    run splice --hook up_blocks.0.attentions.1 cond.mpk.zst
    says 1 "up_blocks.0.attentions.1" 160 128
    run -0 sae-splice --steps 1 --sae sae --hook up_blocks.1.attentions.0 -o out.tsv cond.mpk.zst
    at=up_blocks.1.attentions
    [ "$output" = "sae-splice: --hook $at.0 goes before $at.1, which cfg.json of sae names" ]
    rm out.tsv
    cp -r sae homeless
    jq 'del(.hook)' sae/cfg.json >homeless/cfg.json
    run sae-splice -q --sae homeless cond.mpk.zst
    says 1 homeless --hook
    sae-splice -q --steps 3 --sae homeless --hook up_blocks.1.attentions.1 cond.mpk.zst | cmp - table
    sd-encode-text </dev/null >none.mpk.zst
    run splice -o out.tsv none.mpk.zst
    says 1 none.mpk.zst "no records"
    [ ! -e out.tsv ]
    run splice acts.mpk.zst
    says 1 acts.mpk.zst conditioning
    run splice --images - cond.mpk.zst
    says 2 --images
    run sae-splice cond.mpk.zst
    says 2 --sae
}
