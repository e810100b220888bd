#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sae-report.bats -- the page of a small real run: what stands in it, hostile labels, the same bytes in any order,
# nothing from outside, and what is said of bad input.

load says

setup_file() {
    export DATA=$BATS_FILE_TMPDIR HOOK=up_blocks.0.attentions.1
    export STEER="--steps 3 --sae sae --ranks ranks.mpk.zst --top 4 --multiplier -4 --gate 0.5"
    cd "$DATA" || return 1
    cat >prompts.jsonl <<'END'
{"id":"a","prompt":"A fish in Rust style.","concept":"Fishes","theme":"Rust","seed":1}
{"id":"b","prompt":"A fish.","concept":"Fishes","seed":2}
{"id":"c/<b>&\"x'","prompt":"A dog </style><script>alert(1)</script> in Rust style.","concept":"<img src=x onerror=alert(1)>","theme":"Rust","seed":3}
{"id":"d","prompt":"A dog & \"a cat\".","concept":"<img src=x onerror=alert(1)>","note":"' onload='x","seed":4}
END
    sd-encode-text prompts.jsonl -o cond.mpk.zst
    sd-sample-hooked --steps 3 --hook $HOOK --images images.mpk.zst cond.mpk.zst -o acts.mpk.zst
    sae-fit --progress off --hook $HOOK -k 8 --features 64 --batch 32 --tokens 2K --report 5 --log fit.jsonl -o sae \
        acts.mpk.zst
    sae-encode --sae sae acts.mpk.zst -o features.mpk.zst
    sae-rank-concepts --sae sae --score difference acts.mpk.zst -o ranks.mpk.zst
    # shellcheck disable=SC2086  # a list of options
    sd-steer $STEER --sweep concept=all --unsteered -o steered.mpk.zst cond.mpk.zst
    sae-report --sae sae --log fit.jsonl --ranks ranks.mpk.zst --images images.mpk.zst --steered steered.mpk.zst \
        --json page.json -o page.html features.mpk.zst
}

setup() { cd "$DATA" || return 1; }

check_page() { python3 "$SDSTEER_TESTS/check_page.py" "$@"; }

@test "one page with all parts, without scripts or anything from outside" {
    check_page page.html
    for part in autoencoder training concepts features sheets provenance; do grep -q "id=$part" page.html; done
    grep -q '<title>Sparse autoencoder sae-' page.html
    grep -q "Content-Security-Policy content=\"default-src 'none'" page.html
}

@test "text of the data is escaped wherever it stands" {
    grep -q '&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt; in Rust' page.html
    grep -q '&lt;img src=x onerror=alert(1)&gt;</th>' page.html
    grep -q 'c/&lt;b&gt;&amp;&quot;x&#39;' page.html
    run grep -cE '<img src=x|onload=.x|</script>' page.html
    [ "$output" = 0 ]
    sae-report --title '"><i>&' --sae sae -o titled.html
    grep -q '<title>&quot;&gt;&lt;i&gt;&amp;</title>' titled.html
    check_page titled.html
}

@test "what features draw by themselves, from a stream as from a folder, in any order" {
    list=$(jq -r '[.features.shown[] | select(.tokens > 0) | "\(.feature)=\(2 * .mean)"] | join(",")' page.json)
    [[ $list == *,* ]]
    echo '{"id":"icon<","prompt":"","seed":3}' | sd-encode-text -o icon.mpk.zst
    sd-steer --steps 2 --sae sae --mode only --sweep "feature=$list" -o icons.mpk.zst icon.mpk.zst
    sd-steer --steps 2 --sae sae --mode only --sweep "feature=$list" -o icons icon.mpk.zst
    sae-report --ranks ranks.mpk.zst --images images.mpk.zst --icons icons.mpk.zst --json with.json -o with.html \
        features.mpk.zst
    check_page with.html
    [ "$(grep -c '<b>by itself</b>, at ' with.html)" = "$(tr , '\n' <<<"$list" | wc -l)" ]
    grep -q 'icon&lt;</figcaption>' with.html
    jq -e '.features.shown | all((.tokens == 0) == (.icon == null))
        and all(.[] | select(.icon); .icon.id == "feature=\(.feature)=\(2 * .mean)/icon<"
            and ((.icon.value - 2 * .mean) | fabs) < 1e-5 * .icon.value)' with.json
    # steered pictures are no icons; of two of a feature the first by id is taken
    sd-steer --steps 1 --sae sae --mode only --sweep "feature=${list%%,*}" -o other.mpk.zst \
        <(echo '{"id":"later","prompt":"","seed":5}' | sd-encode-text)
    for icons in "other.mpk.zst steered.mpk.zst icons" "icons other.mpk.zst"; do
        # shellcheck disable=SC2086  # a list
        sae-report --ranks ranks.mpk.zst --images images.mpk.zst $(printf -- '--icons %s ' $icons) features.mpk.zst |
            sed '/<section id=provenance/,$d' | cmp - <(sed '/<section id=provenance/,$d' with.html)
    done
    run sae-report --ranks ranks.mpk.zst --icons steered.mpk.zst -o none.html features.mpk.zst
    [[ $output == *"--icons: 0 of "*" features are there by themselves"* ]]
}

@test "the figures are those of sae-eval and of the ranks" {
    [ "$(jq '.features | .tokens, .records' page.json | paste -sd' ')" = "192 12" ]
    sae-eval --sae sae --features --json acts.mpk.zst >eval.jsonl
    jq -es --slurpfile page page.json '
        . as $eval | $page[0].features.shown | length > 0 and all(. as $f | $eval[$f.feature] |
            .tokens == $f.tokens and ($f.tokens == 0 or ((.mean - $f.mean) | fabs) < 1e-5 * $f.mean)
            and ((.density - $f.density) | fabs) < 1e-6)' eval.jsonl
    read -r feature score <<<"$(jq -r '.concepts[] | select(.label == "Fishes") | .features[0]
        | "\(.feature) \(.score)"' page.json)"
    sae-rank-concepts --sae sae --score difference acts.mpk.zst --table - |
        awk -F'\t' -v f="$feature" -v s="$score" '$2 == "Fishes" && $5 == f { sum += $6 }
            END { d = sum/3 - s; exit !(sum > 0 && d < 1e-6 && d > -1e-6) }'
}

@test "means by timestep and the share of tokens, from the values themselves, in the JSON and on the page" {
    python3 "$SDSTEER_TESTS/read_stream.py" --values features.mpk.zst >values
    python3 - <<'END'
import json, re
page = json.load(open("page.json"))["features"]
tokens, sums, active = {}, {}, {}
for r in map(json.loads, open("values")):
    if "index" in r and r["half"] == "cond":
        *places, k = r["index"]["shape"]
        tokens[r["t"]] = tokens.get(r["t"], 0) + len(r["index"]["values"])//k
        for i, v in zip(r["index"]["values"], r["value"]["values"]):
            sums[i, r["t"]] = sums.get((i, r["t"]), 0) + v
            active[i] = active.get(i, 0) + (v > 0)
assert page["t"] == sorted(tokens, reverse=True) and len(page["t"]) == 3
assert page["tokens"] == sum(tokens.values())
html = open("page.html").read()
assert page["shown"]
for f in page["shown"]:
    i = f["feature"]
    assert len(f["mean_by_t"]) == 3
    for t, mean in zip(page["t"], f["mean_by_t"]):
        want = sums.get((i, t), 0)/tokens[t]
        assert abs(mean - want) <= 1e-6*want, (i, t, mean, want)
    assert abs(f["density"] - active.get(i, 0)/page["tokens"]) < 1e-8
    said, = re.findall(f"<article class=feature id=f{i}>.*?active in</span> ([0-9.e-]+) % <", html, re.DOTALL)
    assert abs(float(said) - 100*f["density"]) <= 0.006*100*f["density"], (i, said, f["density"])
END
}

@test "the strongest picture is where the largest value is" {
    jq -r '.features.shown[] | select(.tokens > 0) |
        "\(.feature) \(.largest) \(.pictures[0].t) \(.pictures[0].value) \(.pictures[0].id)"' page.json >peaks
    [ -s peaks ]
    python3 "$SDSTEER_TESTS/read_stream.py" --values features.mpk.zst | python3 -c '
import sys, json
def flat(x): return [v for row in x for v in flat(row)] if isinstance(x, list) else [x]
largest = {}
for r in map(json.loads, sys.stdin):
    if "index" in r and r["half"] == "cond":
        for i, v in zip(flat(r["index"]["values"]), flat(r["value"]["values"])):
            largest[i] = max(largest.get(i, (0,)), (v, r["id"], r["t"]))
for line in open("peaks"):
    feature, most, t, value, id = line.rstrip("\n").split(" ", 4)
    assert float(most) == float(value), line
    v, want_id, want_t = largest[int(feature)]
    assert abs(v - float(value)) < 1e-6*v and (id, int(t)) == (want_id, want_t), line'
}

@test "records and files in any order, pictures from a folder: the same bytes" {
    for i in 1 2 3 4; do
        sed -n ${i}p prompts.jsonl | sd-encode-text | sd-sample-hooked --steps 3 --hook $HOOK |
            sae-encode --sae sae -o f$i.mpk.zst
    done
    sd-sample-hooked --steps 3 --no-activations --images plain.mpk.zst cond.mpk.zst
    sed 's/"id":"c[^ ]*"x..,/"id":"c",/' prompts.jsonl | tac | sd-encode-text >backwards.mpk.zst
    # shellcheck disable=SC2086  # a list of options
    sd-steer $STEER --sweep concept=all -o some.mpk.zst backwards.mpk.zst
    # what comes before the provenance
    parts() { sed '/id=provenance/,$d' "$1"; }
    sae-report --sae sae --log fit.jsonl --ranks ranks.mpk.zst --images plain.mpk.zst --steered some.mpk.zst \
        --steered plain.mpk.zst f3.mpk.zst f1.mpk.zst f4.mpk.zst f2.mpk.zst -o other.html
    cmp <(parts page.html) <(parts other.html)
    sae-report --sae sae --log fit.jsonl --ranks ranks.mpk.zst --images images.mpk.zst --steered steered.mpk.zst - \
        <features.mpk.zst | cmp - page.html
}

@test "pictures from a folder of PNG files" {
    # ids that may name files
    sed '3,4s/"id":"[^ ]*",\("prompt\)/"id":"cd",\1/; 4s/"cd"/"d"/' prompts.jsonl | sd-encode-text -o plain_ids.mpk.zst
    sd-sample-hooked --steps 3 --hook $HOOK --images folder plain_ids.mpk.zst -o plain_acts.mpk.zst
    sd-sample-hooked --steps 3 --no-activations --images folder.mpk.zst plain_ids.mpk.zst
    for images in folder folder.mpk.zst; do
        sae-encode --sae sae plain_acts.mpk.zst | sae-report --ranks ranks.mpk.zst --images $images - -o of-$images.html
    done
    check_page of-folder.html
    grep -q 'id=i1 width=128' of-folder.html
    cmp of-folder.html of-folder.mpk.zst.html
    # shellcheck disable=SC2086
    sd-steer $STEER --sweep concept=none,Fishes -o steered plain_ids.mpk.zst
    # shellcheck disable=SC2086
    sd-steer $STEER --sweep concept=none,Fishes -o steered-folder.mpk.zst plain_ids.mpk.zst
    sae-report --steered steered | cmp - <(sae-report --steered steered-folder.mpk.zst)
}

@test "a steering of a concept and a theme: named above, how below, and its pictures are of either" {
    # shellcheck disable=SC2086
    sd-steer $STEER --concept Fishes --theme Rust -o both.mpk.zst cond.mpk.zst
    sae-report --steered both.mpk.zst -o both.html
    grep -q '">Steered: concept+theme Fishes+Rust</a>' both.html
    grep -q '>mode multiply, multiplier -4, top 4, gate 0.5. 4 of 4 pictures, 3 of them of this' both.html
}

@test "each part alone; features without ranks, pictures or a grid" {
    sae-report --log fit.jsonl -o a.html
    sae-report --ranks ranks.mpk.zst -o b.html
    sae-report --steered steered.mpk.zst -o c.html
    sae-report features.mpk.zst -o d.html
    sae-report --feature 3 --feature 5 --feature 3 --at 999-500 --pictures 1 features.mpk.zst -o e.html
    sd-sample-hooked --steps 2 --hook $HOOK --tokens 4 cond.mpk.zst | sae-encode --sae sae |
        sae-report --ranks ranks.mpk.zst - -o f.html
    for page in a b c d e f; do check_page $page.html; done
    grep -q 'None is shown by itself' d.html
    [ "$(grep -c 'class=feature' e.html)" = 2 ]
    grep -q 'neither picture nor heat map' f.html
    sae-report --feature 3 --json - features.mpk.zst |
        jq -e '.features.shown[0].feature == 3 and (has("concepts") | not)'
}

@test "the page's size is bounded, and what is left out is said" {
    run sae-report --sae sae --ranks ranks.mpk.zst --images images.mpk.zst --limit 40K -o small.html features.mpk.zst
    [ "$status" = 0 ]
    [[ $output == *"pictures are left out"* ]]
    grep -q 'left out of this page' small.html
    check_page small.html
    zstd -dcq images.mpk.zst | head -c 120000 >few.mpk || true
    run sae-report --sae sae --images few.mpk --feature 1 --side 32 -o tiny.html features.mpk.zst
    says 1 few.mpk
    sae-report --sae sae --images images.mpk.zst --ranks ranks.mpk.zst --side 32 -o tiny.html features.mpk.zst
    grep -q 'width=32 height=32 href' tiny.html
}

@test "bad input: one message that names it, exit 1, no page" {
    run sae-report --sae none -o never.html; says 1 none
    run sae-report --log none -o never.html; says 1 "none: No such file"
    run sae-report --log prompts.jsonl -o never.html; says 1 "prompts.jsonl: line 1: hook or tokens is missing"
    run sae-report acts.mpk.zst -o never.html; says 1 acts.mpk.zst activations features
    run sae-report --ranks features.mpk.zst -o never.html; says 1 features.mpk.zst ranks
    head -c 3000 features.mpk.zst >cut.mpk.zst
    run sae-report --feature 1 cut.mpk.zst -o never.html; says 1 cut.mpk.zst
    run sae-report --steered images.mpk.zst -o never.html; says 1 "no steered picture"
    run sae-report --feature 1 --images <(echo) features.mpk.zst -o never.html; says 1 /dev/fd/
    write() { { echo "$1"; echo "$2"; } | python3 "$BATS_TEST_DIRNAME/../write_stream.py"; }
    twice='"shape":[1,3],"values":[3,1,3]}'
    header='{"stream":"features","version":1,"sae":"s","features":8,"hooks":["h"]}'
    record='{"t":1,"hook":"h","half":"cond","index":{"type":"i32",'"$twice"',"value":{"type":"f32",'
    write "$header" "$record$twice}" >twice.mpk
    run sae-report --feature 3 twice.mpk -o never.html; says 1 "twice.mpk: record 1: token 0 has feature 3 twice"
    write "$header" "$record"'"shape":[1,3],"values":[0,1,3]}}' >once.mpk       # a value of 0 keeps no feature
    sae-report --feature 3 --json - once.mpk | jq -e '.features.shown[0].tokens == 1'
    twice='"shape":[3],"values":[3,1,3]}'
    same='{"type":"f32","shape":[3],"values":[1,1,1]}'
    write '{"stream":"ranks","version":1,"sae":"x","features":8}' '{"kind":"concept","label":"Cats","t":1,'\
'"feature":{"type":"i32",'"$twice"',"score":'"$same"',"mean":'"$same"',"mean_all":'"$same"'}' >ranked.mpk
    run sae-report --ranks ranked.mpk -o never.html; says 1 "ranked.mpk: record 1: feature 3 comes twice"
    run sae-report --ranks ranks.mpk.zst --at 5-3 -o never.html; says 1 "no ranks at timesteps from 5 to 3"
    sae-fit -q --progress off --hook $HOOK -k 4 --features 32 --batch 32 --tokens 1K -o other acts.mpk.zst
    run sae-report --sae other features.mpk.zst -o never.html; says 1 "made with the autoencoder sae-" "expected other-"
    run sae-report --sae other --ranks ranks.mpk.zst -o never.html; says 1 ranks.mpk.zst "--sae is other-"
    run sae-report --sae sae -o /dev/full; says 1 /dev/full
    [ ! -e never.html ]
}

@test "misuse exits 2; a reader that goes away ends it quietly" {
    run sae-report; says 2 "nothing to show"
    run sae-report --sae sae --feature 1; says 2 "stream of features"
    run sae-report --sae sae --feature 64 features.mpk.zst; says 2 "'64': expected 0 to 63"
    run sae-report --feature x features.mpk.zst; says 2 "'x'"
    run sae-report --sae sae --top 0; says 2 --top
    run bash -c 'set -o pipefail
                 sae-report --ranks ranks.mpk.zst --images images.mpk.zst features.mpk.zst 2>&1 | head -c 9'
    [ "$status" = 0 ]
    [ "$output" = '<!doctype' ]
}

@test "a reader of the JSON, or of the page, that goes away takes no file with it" {
    { sleep 0.2; sae-report --sae sae --log fit.jsonl --json - -o page-alone.html; } | true
    { sleep 0.2; sae-report --sae sae --log fit.jsonl --json alone.json; } | true
    grep -q '</html>' page-alone.html
    sae-report --sae sae --log fit.jsonl --json - | cmp - alone.json
}

@test "a module named as SAeUron does, with unet. before it, in the records" {
    cat >rename.py <<'END'
import sys, msgpack         # of Debian: the python3 that comes first in PATH may be another
for record in msgpack.Unpacker(sys.stdin.buffer):
    if "hook" in record:
        record["hook"] = "unet." + record["hook"]
    sys.stdout.buffer.write(msgpack.packb(record))
END
    zstd -dcq acts.mpk.zst | /usr/bin/python3 rename.py >renamed.mpk
    zstd -dcq features.mpk.zst | /usr/bin/python3 rename.py >renamed-features.mpk
    sae-encode --sae sae renamed.mpk | tstream view --tsv id,t,hook >renamed.tsv
    grep -q "$(printf '\tunet.%s' $HOOK)" renamed.tsv
    sae-encode --sae sae renamed.mpk | sae-report --sae sae -o renamed.html --json renamed.json -
    sae-report --sae sae -o as-is.html --json as-is.json features.mpk.zst
    cmp <(jq -S 'del(.provenance)' renamed.json) <(jq -S 'del(.provenance)' as-is.json)
    sae-report --sae sae --json - -o renamed.html renamed-features.mpk | jq -e '.features != []'
}
