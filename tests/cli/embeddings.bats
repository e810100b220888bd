#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# embeddings.bats -- words that a textual inversion has learned: in prompts and negative prompts, weighted, captured,
# steered, drawn; what the header says of them; files that are refused.

bats_require_minimum_version 1.5.0

load says

setup_file() {
    export TESTS=$BATS_TEST_DIRNAME/.. FILES=$BATS_TEST_DIRNAME/../golden-more/embeddings
    export XL=$BATS_TEST_DIRNAME/../golden-more/sdxl
}

setup() { cd "$BATS_TEST_TMPDIR" || return 1; }

state() { tstream view --tensors "$1" | jq -c "select(.id == \"$2\") | .${3:-state}.values"; }
tokens() { tstream view --tensors "$1" | jq -c ".tokens.values[:${2:-8}]"; }
encode() { sd-encode-text -q "$@"; }
export -f encode

# edited FILE CODE: a copy, changed (edit_tensors.py), as bad.safetensors
edited() { "$TESTS/edit_tensors.py" "$FILES/$1" bad.safetensors "$2"; }

# the words of the refusal, after --embedding VALUE
refuses() { refused "${@:2}" -- encode -o no.mpk.zst --embedding "$1" <<<'a cat'; }

@test "a word by its file's name for it, by the file's own name, by NAME=; several vectors are as many tokens" {
    echo 'a <cat-toy>, EasyNegative my toy' >p
    encode --embedding "$FILES/toy.safetensors" --embedding "$FILES/EasyNegative.safetensors" \
        --embedding "my toy=$FILES/charturner.pt" -o a.mpk.zst p
    [ "$(tokens a.mpk.zst 12)" = '[2048,320,2050,267,2051,2052,2053,2054,2055,2056,2049,2049]' ]
    echo 'charturnerv2' | encode --embedding "$FILES/charturner.pt" -o b.mpk.zst
    [ "$(tokens b.mpk.zst 4)" = '[2048,2050,2051,2049]' ]
}

@test "a word changes what says it, and nothing else: prompts, negative prompts, weights, chunks" {
    printf '%s\n' '{"id":"says","prompt":"a <cat-toy>"}' '{"id":"silent","prompt":"a red tower"}' \
        '{"id":"keeps","prompt":"a red tower","negative":"<CAT-TOY>"}' >p
    encode -o plain.mpk.zst p
    encode --embedding "$FILES/toy.safetensors" -o toy.mpk.zst p
    encode --embedding "<cat-toy>=$FILES/style.bin" -o style.mpk.zst p
    for word in toy style; do
        [ "$(state plain.mpk.zst says)" != "$(state $word.mpk.zst says)" ]
        [ "$(state plain.mpk.zst silent)" = "$(state $word.mpk.zst silent)" ]
        [ "$(state plain.mpk.zst keeps)" = "$(state $word.mpk.zst keeps)" ]
        [ "$(state plain.mpk.zst keeps uncond)" != "$(state $word.mpk.zst keeps uncond)" ]
    done
    [ "$(state toy.mpk.zst says)" != "$(state style.mpk.zst says)" ]

    encode -n '<cat-toy>' --embedding "$FILES/toy.safetensors" -o negative.mpk.zst p
    told() { tstream view -H --tensors "$1" | jq -c 'select(.stream) | .uncond.values'; }
    [ "$(told negative.mpk.zst)" = "$(state toy.mpk.zst keeps uncond)" ]

    for text in '<cat-toy>' '(<cat-toy>:1.3)' "<cat-toy>$(printf ' red%.0s' {1..90})"; do echo "$text"; done >p
    encode --weights --chunks 2 --embedding "$FILES/toy.safetensors" -o a.mpk.zst p
    [ "$(tstream view a.mpk.zst | jq -c '.tokens.shape[0]' | paste -sd ' ')" = '77 77 154' ]
    [ "$(tokens a.mpk.zst 3 | paste -sd ' ')" = '[2048,2050,2049] [2048,2050,2049] [2048,2050,670]' ]
    [ "$(state a.mpk.zst 1)" != "$(state a.mpk.zst 2)" ]
}

@test "the header says which vectors they were; streams with words and without join" {
    encode --embedding "$FILES/toy.safetensors" -o toy.mpk.zst <<<'a <cat-toy>'
    encode -o plain.mpk.zst <<<'a cat'
    words() { tstream view -H "$1" | jq -r 'select(.stream) | .provenance[0].embeddings[]?'; }
    edited toy.safetensors 't["<cat-toy>"][2] = bytes(512)'
    encode --embedding bad.safetensors -o other.mpk.zst <<<'a <cat-toy>'
    [[ $(words toy.mpk.zst) == '<cat-toy>-'* && $(words other.mpk.zst) == '<cat-toy>-'* ]]
    [ "$(words toy.mpk.zst)" != "$(words other.mpk.zst)" ]
    [ -z "$(words plain.mpk.zst)" ]
    cat toy.mpk.zst plain.mpk.zst | tstream check
}

@test "pictures: a word in the prompt and in the negative prompt changes them; steered and captured texts say it too" {
    printf '%s\n' '{"id":"a","prompt":"a <cat-toy>","seed":1}' '{"id":"b","prompt":"a red tower","seed":1}' >p
    draw() { sd-sample-hooked -q --no-activations --steps 2 --images "$1" --latents "$1.mpk.zst"; }
    latent() { state "$1.mpk.zst" "$2" latent; }
    encode p | draw plain
    encode --embedding "$FILES/toy.safetensors" p | draw toy
    encode --embedding "$FILES/toy.safetensors" -n '<cat-toy>' p | draw negative
    [ -s toy/a.png ]
    [ "$(latent plain b)" = "$(latent toy b)" ]
    [ "$(latent plain a)" != "$(latent toy a)" ]
    [ "$(latent toy a)" != "$(latent negative a)" ]
    [ "$(latent toy b)" != "$(latent negative b)" ]

    hook=text_encoder.text_model.encoder.layers.2
    sd-assemble-prompts -n 1 | head -60 | encode --hook $hook -o acts.mpk.zst
    sae-fit -q -k 4 --features 64 --batch 64 --tokens 4K -o sae acts.mpk.zst
    encode --embedding "$FILES/toy.safetensors" -o states.mpk.zst p
    sd-steer-text -q --sae sae --feature 1=0 --mode add --embedding "$FILES/toy.safetensors" -o same.mpk.zst p
    [ "$(state states.mpk.zst a)" = "$(state same.mpk.zst a)" ]
    encode --hook $hook p -o plain.mpk.zst
    encode --hook $hook --embedding "$FILES/toy.safetensors" p -o toy.mpk.zst
    [ "$(state plain.mpk.zst a act)" != "$(state toy.mpk.zst a act)" ]
    [ "$(state plain.mpk.zst b act)" = "$(state toy.mpk.zst b act)" ]
}

@test "Stable Diffusion XL: both encoders learn the word" {
    printf '%s\n' 'a xl tower' 'tower' >p
    encode -m "$XL" -o plain.mpk.zst p
    encode -m "$XL" --embedding "$FILES/xl.safetensors" -o xl.mpk.zst p
    [ "$(state plain.mpk.zst 2)" = "$(state xl.mpk.zst 2)" ]
    for column in 0 16; do                              # the first of each encoder's, of the third token
        [ "$(state plain.mpk.zst 1 | jq ".[2*40 + $column]")" != "$(state xl.mpk.zst 1 | jq ".[2*40 + $column]")" ]
    done
    [ "$(state plain.mpk.zst 1 pooled)" != "$(state xl.mpk.zst 1 pooled)" ]

    xl() { refused "${@:2}" -- encode -m "$XL" -o no.mpk.zst --embedding "$1" <<<'a'; }
    xl "$FILES/toy.safetensors" "toy.safetensors: no clip_l and clip_g"
    edited xl.safetensors 'del t["clip_g"]'
    xl bad.safetensors "bad.safetensors: holds clip_l and no clip_g: expected both"
    edited xl.safetensors 'del t["clip_l"]'
    xl bad.safetensors "bad.safetensors: holds clip_g and no clip_l: expected both"
    edited xl.safetensors 't["clip_g"] = ["F32", [1, 24], bytes(96)]'
    xl bad.safetensors "clip_l has 2 vectors and clip_g 1, expected as many"
    edited xl.safetensors 't["clip_g"] = ["F32", [2, 32], bytes(256)]'
    xl bad.safetensors "tensor clip_g is (2, 32), the text encoder takes vectors of 24"
    edited xl.safetensors 't["clip_g"][0] = "F8_E4M3"; t["clip_g"][2] = bytes(48)'
    xl bad.safetensors "tensor clip_g is of a type that is not read"
}

@test "files that hold no such word are refused: width, kind, numbers, sizes, names" {
    refuses none.pt "none.pt: No such file"
    refuses "$FILES/xl.safetensors" "holds clip_l: a textual inversion for SDXL, the model has one text encoder"
    edited toy.safetensors 't["<cat-toy>"] = ["F32", [768], bytes(3072)]'
    refuses bad.safetensors "bad.safetensors: tensor <cat-toy> is (768), the text encoder takes vectors of 128"
    edited toy.safetensors 't["<cat-toy>"] = ["F32", [1, 1, 128], bytes(512)]'
    refuses bad.safetensors "is (1, 1, 128), the text encoder takes vectors of 128: (n, 128) or (128)"
    edited toy.safetensors 't["<cat-toy>"] = ["F32", [], bytes(4)]'
    refuses bad.safetensors "the text encoder takes vectors of 128"
    edited toy.safetensors 't["<cat-toy>"] = ["F32", [0, 128], b""]'
    refuses bad.safetensors "has 0 vectors, expected 1 to 1024"
    edited toy.safetensors 't["<cat-toy>"] = ["F32", [1025, 128], bytes(1025*512)]'
    refuses bad.safetensors "has 1025 vectors, expected 1 to 1024"
    edited toy.safetensors 't["<cat-toy>"] = ["I32", [128], bytes(512)]'
    refuses bad.safetensors "tensor <cat-toy> is i32 (128), expected f32, f16 or bf16"
    edited toy.safetensors 't["<cat-toy>"] = ["F8_E4M3", [128], bytes(128)]'
    refuses bad.safetensors "tensor <cat-toy> is of a type that is not read"
    edited toy.safetensors 't["<cat-toy>"][2] = t["<cat-toy>"][2][:40] + b"\0\0\xc0\x7f" + t["<cat-toy>"][2][44:]'
    refuses bad.safetensors "bad.safetensors: tensor <cat-toy> has nan at value 10"
    edited toy.safetensors 't["other"] = t["<cat-toy>"]'
    refuses bad.safetensors "no textual inversion: it holds 2 tensors, expected one"
    edited toy.safetensors 't.clear()'
    refuses bad.safetensors "no textual inversion: it holds 0 tensors, expected one"
    edited toy.safetensors 't = {"a"*300: t["<cat-toy>"]}'
    refuses bad.safetensors "a word of 300 bytes"
    edited toy.safetensors 't = {"\x1b[2J": t["<cat-toy>"]}; m = {}'
    encode --embedding bad.safetensors -o a.mpk.zst <<<'a'              # odd, and a word
    refuses "$TESTS/golden-more/torch/evil.pth" "names posix.system: only tensors"
    head -c 1000 "$FILES/charturner.pt" >cut.pt
    refuses cut.pt "cut.pt: has no end of a zip"
    refuses "$TESTS/golden-more/torch/types.pth" "no textual inversion: it holds 23 tensors"
}

@test "words that are tokens already, or come twice" {
    toy=$FILES/toy.safetensors
    refuses "<|endoftext|>=$toy" "--embedding <|endoftext|>=" "the word '<|endoftext|>' is a token already" "NAME=FILE"
    refuses "fish</w>=$toy" "the word 'fish</w>' is a token already"
    refuses " =$toy" "a word of 1 bytes"
    refused "$toy: the word '<cat-toy>' is a token already" -- \
        encode -o no.mpk.zst --embedding "$toy" --embedding "$toy" <<<'a'
    refused "the word '<CAT-toy>' is '<cat-toy>' but for its letter case" -- \
        encode -o no.mpk.zst --embedding "$toy" --embedding "<CAT-toy>=$toy" <<<'a'
    refused "the word 'twice_1' is a token already" -- \
        encode -o no.mpk.zst --embedding "twice=$FILES/style.bin" --embedding "twice_1=$toy" <<<'a'
    for value in "=$toy" x= ''; do
        run encode -o no.mpk.zst --embedding "$value" <<<'a'
        says 2 "--embedding '$value' is not FILE or NAME=FILE"
    done
}

@test "a path may have an equals sign" {
    cp "$FILES/toy.safetensors" a=b.safetensors
    encode --embedding ./a=b.safetensors -o path.mpk.zst <<<'a <cat-toy>'
    encode --embedding "$FILES/toy.safetensors" -o plain.mpk.zst <<<'a <cat-toy>'
    [ "$(state path.mpk.zst 1)" = "$(state plain.mpk.zst 1)" ]
}

@test "a file of --embedding is not written over" {
    cp "$FILES/toy.safetensors" toy.safetensors
    ln -s toy.safetensors other
    run encode --embedding "word=toy.safetensors" -o other <<<'a cat'
    says 2 "--output other: that is a file of --embedding"
    cmp "$FILES/toy.safetensors" toy.safetensors
}

@test "a word that no text says is a note" {
    printf '%s\n' 'a <cat-toi>' '{"prompt":"a cat","negative":"EasyNegative"}' >p
    run -0 --separate-stderr sd-encode-text --embedding "$FILES/toy.safetensors" \
        --embedding "$FILES/EasyNegative.safetensors" -o a.mpk.zst p
    [ "$stderr" = "sd-encode-text: no text says the word of --embedding $FILES/toy.safetensors" ]
    run -0 --separate-stderr sd-encode-text -n 'my <CAT-TOY>_1' --embedding "$FILES/toy.safetensors" -o a.mpk.zst p
    [ -z "$stderr" ]
}
