#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-eval.bats -- figures of an autoencoder: whole, by field, by feature, as JSON.

setup_file() {
    export DATA=$BATS_FILE_TMPDIR SAE=$SDSTEER_TESTS/golden/saeuron/sae HOOK=up_blocks.1.attentions.1
    cd "$DATA" || return 1
    sd-assemble-prompts -n 1 | head -4 | sd-encode-text |
        sd-sample-hooked --steps 5 --half both --hook $HOOK -o acts.mpk.zst
    sae-eval --sae "$SAE" acts.mpk.zst >all
}

setup() { cd "$DATA" || return 1; }

@test "one line for all, figures in bounds" {
    [ "$(wc -l <all)" = 2 ]
    head -1 all | tr '\t' ' ' |
        cmp - <(printf '%s %s\n' 'group tokens fvu ev mse cosine norm_ratio l0 dead density_median density_max' \
            'dead_1e4 dead_1e6 dead_1e7')
    awk -F '\t' 'NR == 2 && $2 == 1280 && $3 > 0.05 && $3 < 0.3 && $4 > 0.7 && $4 >= 1 - $3 && $6 > 0.8 && $6 < 1 &&
        $8 == 16 {ok = 1} END {exit !ok}' all
}

@test "by timestep: tokens add up, timesteps fall" {
    sae-eval --sae "$SAE" --by t acts.mpk.zst >t
    [ "$(sed -n 2p t | cut -f 2-)" = "$(sed -n 2p all | cut -f 2-)" ]
    awk -F '\t' 'NR == 2 {all = $2} NR > 2 {sum += $2} NR > 3 && $1 >= last {exit 1} {last = $1}
        END {exit sum != all || NR != 7}' t
}

@test "by a label; halves; a field that is missing" {
    [ "$(sae-eval --sae "$SAE" --by concept acts.mpk.zst | wc -l)" -ge 3 ]
    sae-eval --sae "$SAE" --by half --half both acts.mpk.zst |
        cut -f 1,2 | cmp - <(printf 'half\ttokens\nall\t2560\ncond\t1280\nuncond\t1280\n')
    run sae-eval --sae "$SAE" --by colour acts.mpk.zst
    [ "$status" = 1 ]
    [[ $output == *"no record has a field colour"* ]]
}

@test "of an option that comes again the last counts" {
    sae-eval --sae nowhere --by half --half uncond --by t --half cond --sae "$SAE" acts.mpk.zst |
        cmp - <(sae-eval --sae "$SAE" --by t acts.mpk.zst)
}

@test "JSON says what the table says" {
    sae-eval --sae "$SAE" --json acts.mpk.zst | jq -r '[.group, .tokens] | @tsv' | cmp - <(tail -1 all | cut -f 1,2)
}

@test "features: one line each, k a token" {
    sae-eval --sae "$SAE" --features acts.mpk.zst >f
    [ "$(wc -l <f)" = 2049 ]
    [ "$(awk -F '\t' 'NR > 1 {sum += $2} END {print sum}' f)" = $((1280*16)) ]
    sae-eval --sae "$SAE" --features --by t acts.mpk.zst >by_t
    head -1 by_t | cmp - <(printf 't\tfeature\ttokens\tdensity\tmean\n')
    [ "$(cut -f 1 by_t | uniq -c | awk 'NR > 1 {print $1}' | sort -u)" = 2048 ]
    sed 1d by_t | grep -P '^all\t' | cut -f 2- | cmp - <(sed 1d f)
    [ "$(awk -F '\t' 'NR > 1 && $1 != "all" {sum += $3} END {print sum}' by_t)" = $((1280*16)) ]
    sae-eval --sae "$SAE" --features --by t --json acts.mpk.zst |
        jq -r '[.t, .feature, .tokens] | @tsv' | cmp - <(sed 1d by_t | cut -f 1-3)
}

@test "the histogram has every feature once, the dead ones first; JSON has the same" {
    sae-eval --sae "$SAE" --density acts.mpk.zst >d
    head -1 d | cmp - <(printf 'group\tlog10_density\tfeatures\tbar\n')
    awk -F '\t' 'NR == 2 && $2 != "-inf" {exit 1} NR > 1 {sum += $3} NR > 3 && $2 != last + 0.5 {exit 1} {last = $2}
        END {exit sum != 2048}' d
    [ "$(sed 1,2d d | awk -F '\t' '{sum += $3} END {print sum}')" = \
        "$(sae-eval --sae "$SAE" --json acts.mpk.zst | jq '.density_log10.features | add')" ]
    run sae-eval --sae "$SAE" --density --features acts.mpk.zst
    [ "$status" = 2 ]
}

@test "dead shares at token counts that the stream does not reach are left out, not made up" {
    awk -F '\t' 'NR == 2 && $12 == "-" && $13 == "-" && $14 == "-" {ok = 1} END {exit !ok}' all
    [ "$(sae-eval --sae "$SAE" --json acts.mpk.zst | jq -c '[.dead_1e4, .dead_1e6, .dead_1e7]')" = "[null,null,null]" ]
    cat acts.mpk.zst acts.mpk.zst acts.mpk.zst acts.mpk.zst acts.mpk.zst acts.mpk.zst acts.mpk.zst acts.mpk.zst >more
    sae-eval --sae "$SAE" more | awk -F '\t' 'NR == 2 && $2 == 10240 && $12 == $9 && $13 == "-" {ok = 1} END {exit !ok}'
}

@test "tokens of length 0 are left out of cosine and norm_ratio, alone in them there is neither" {
    tokens() {      # how many of 1, -2, ..., how many of 0
        { echo "{\"stream\":\"activations\",\"version\":1,\"hooks\":[\"$HOOK\"],\"provenance\":[]}"
          jq -nc --arg h $HOOK --argjson n "$1" --argjson z "$2" '{id: "a", hook: $h, step: 0, t: 1, half: "cond", act:
            {type: "f32", shape: [$n + $z, 128], values: [range(($n + $z)*128) |
            if . < $n*128 then .%7 - 2 else 0 end]}}'
        } | python3 "$SDSTEER_TESTS/write_stream.py"
    }
    sae-eval --sae "$SAE" <(tokens 3 0) | cut -f 2,6,7 >without
    sae-eval --sae "$SAE" <(tokens 3 2) | cut -f 2,6,7 >with
    cat without with
    sed 's/^3\t/5\t/' without | cmp - with
    [ "$(sae-eval --sae "$SAE" --json <(tokens 0 2) | jq -c '[.tokens, .cosine, .norm_ratio, .mse > 0]')" \
        = '[2,null,null,true]' ]
    sae-eval --sae "$SAE" <(tokens 0 2) | cut -f 2,6,7 | sed 1d | cmp - <(printf '2\t-\t-\n')
    tokens 0 2 >zeros
    sae-fit -q --hook $HOOK -k 8 --features 64 --batch 64 --tokens 1K --eval zeros -o sae acts.mpk.zst
    jq -e '.training.eval | .tokens == 2 and .cosine == null and .norm_ratio == null' sae/cfg.json
}

@test "one token has no variance: neither fvu nor ev, in the table and in JSON" {
    sd-assemble-prompts -n 1 | head -1 | sd-encode-text | sd-sample-hooked --steps 1 --tokens 1 --hook $HOOK -o single
    sae-eval --sae "$SAE" single | awk -F '\t' 'NR == 2 && $2 == 1 && $3 == "-" && $4 == "-" && $5 > 0 {ok = 1}
        END {exit !ok}'
    [ "$(sae-eval --sae "$SAE" --json single | jq -c '[has("fvu"), .fvu, .ev]')" = "[true,null,null]" ]
}
