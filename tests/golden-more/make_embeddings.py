#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_embeddings.py LPW -- writes embeddings/, embeddings.json and embeddings.safetensors: words that a textual
inversion has learned, with diffusers 0.42, transformers 5, torch and LPW (see make_long.py).

    embeddings/            a file of each kind, of random vectors: toy, style, EasyNegative, charturner, old, spaced for
                           minisd, xl for sdxl/
    embeddings.json        texts of minisd, with `words` loaded in turn, and the ids that CLIPTokenizer gives what
                           maybe_convert_prompt makes of them. That knows a word of several vectors only where its
                           name and the text are in lower case; such names are loaded, and `told` is the text so
    embeddings.safetensors state.N, uncond.N [rows, 128] of text N of TEXTS, each ROWSth row from row FIRST on: by
                           encode_prompt, those with "weights" by maybe_convert_prompt and LPW; xl.ids.1, xl.ids.2,
                           xl.state, xl.pooled of XL's texts, with the id of the end token in text_encoder_2 (its
                           config has 2, for which transformers takes the pooled embedding where a learned token is)
"""
import json, os, re, sys, torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

ROWS, FIRST = 7, 3
XL = ["a XL-word tower", "fish in the rain", "xl-word"]
TEXTS = [
    {"prompt": "a <cat-toy> in the rain, <my-style>", "negative": "EasyNegative, blurry"},
    {"prompt": "charturnerv2", "negative": "<cat-toy> old"},
    {"prompt": "a (<cat-toy>:1.4) in [<my-style> rain], (a red tower, charturnerv2:0.7)",
     "negative": "(EasyNegative:1.2), [dull]", "weights": True},
]
CASES = [
    "<cat-toy>", "<cat-toy> at the start", "at the end <cat-toy>", "a <CAT-TOY> and a <Cat-Toy>", "<cat-toy><cat-toy>",
    "a<cat-toy>b", "<<cat-toy>>", "(<cat-toy>)", "(<cat-toy>:1.2)", "<cat-toy>'s hat, <cat-toy>'S hat", "<cat-toy",
    "<cat toy>", "< cat-toy>", "\"<cat-toy>\".", "<cat-toy>,<cat-toy>;<cat-toy>", "<|endoftext|><cat-toy>",
    "<cat-toy><|ENDOFTEXT|>", "<cat-to\u0301y>", "caf\u0065\u0301<cat-toy>\u0301", "\U0001f408<cat-toy>\U0001f408",
    "<my-style>", "a fish in <my-style>", "<my-style> fish <my-style>", "x<my-style>y", "<my-style>_1", "<my-style>_2",
    "<my-style>_3", "<my-style>,<cat-toy>", "<my-style>\n\t<my-style>", "<my-style>1 <my-style>2", "<my-style>_",
    "EasyNegative", "EasyNegative, blurry, (dark:1.2)", "EasyNegatives", "notEasyNegative", "EasyNegative_3",
    "EasyNegative_4", "EasyNegative_12", "Easy Negative", "EasyNegative.EasyNegative", "123EasyNegative456",
    "charturnerv2, multiple views", "charturnerv2_1", "charturnerv1 charturnerv2", "charturnerv22",
    "old", "bold", "older, colder", "b old", "old old", "old_1", "cold_1", "a very old. old? old!",
    "two  words", "two words", "two\u2003\t words", "twowords two", "a two words b", "TWO WORDS", "\u00dcn\u00ef",
    "u\u0308n\u00ef", "\u00fcNI\u0308", "no word of them", "", "   ", "a" + " <my-style>" * 40,
    "easynegative", "a <MY-STYLE> fish", "EASYNEGATIVE, EasyNegative", "CHARTURNERV2.", "Old BOLD",
]


def random(*shape):
    return torch.randn(*shape) * 0.5


def files():
    """name in embeddings/, word given to diffusers, what it loads"""
    torch.manual_seed(5)
    os.makedirs("embeddings", exist_ok=True)
    toy, style, easy, turn, old, spaced, uni = (
        random(128), random(3, 128), random(4, 128), random(2, 128), random(2, 128), random(1, 128), random(128))
    old, spaced = old.half().float(), spaced.half()
    save_file({"<cat-toy>": toy}, "embeddings/toy.safetensors")
    torch.save({"<my-style>": style}, "embeddings/style.bin")
    save_file({"emb_params": easy}, "embeddings/EasyNegative.safetensors")
    token = torch.tensor(265)
    torch.save({"string_to_token": {"*": token}, "string_to_param": {"*": torch.nn.Parameter(turn)},
                "name": "charturnerv2", "step": 900, "sd_checkpoint": "9f2c0a", "sd_checkpoint_name": None},
               "embeddings/charturner.pt")
    torch.save({"string_to_token": {"*": token}, "string_to_param": torch.nn.ParameterDict({"*": old})},
               "embeddings/old.pt")
    torch.save(spaced, "embeddings/spaced.pt")
    save_file({"\u00dcn\u00ef": uni.bfloat16()}, "embeddings/unicode.safetensors")
    save_file({"clip_l": random(2, 16), "clip_g": random(2, 24)}, "embeddings/xl.safetensors")
    return [("toy.safetensors", None, "embeddings/toy.safetensors"), ("style.bin", None, "embeddings/style.bin"),
            ("EasyNegative.safetensors", "easynegative", "embeddings/EasyNegative.safetensors"),
            ("charturner.pt", None, "embeddings/charturner.pt"), ("old.pt", "old", {"old": old}),
            ("two words=spaced.pt", "two words", {"two words": spaced.float()}),
            ("unicode.safetensors", None, "embeddings/unicode.safetensors")]


def lower(text):
    """Words of several vectors in lower case."""
    return re.sub("EasyNegative|<my-style>|charturnerv2|old|xl-word", lambda m: m[0].lower(), text, flags=re.I)


def ids_of(pipe, text):
    told = pipe.maybe_convert_prompt(text, pipe.tokenizer)
    return pipe.tokenizer(told, padding="max_length", max_length=77, truncation=True).input_ids


def minisd(weighted):
    pipe = StableDiffusionPipeline.from_pretrained("../../data/minisd/model", torch_dtype=torch.float32)
    words = []
    for name, word, what in files():
        more = {"weight_name": os.path.basename(what)} if isinstance(what, str) else {}
        pipe.load_textual_inversion("embeddings" if more else what, token=word, **more)
        words.append(name)
    cases = []
    for text in CASES:
        told = lower(text)
        cases.append({"text": text, "ids": ids_of(pipe, told)} | ({"told": told} if told != text else {}))
    with open("embeddings.json", "w") as f:
        json.dump({"words": words, "cases": cases}, f, separators=(",", ":"))
    values = {}
    for n, text in enumerate(TEXTS):
        prompt, negative = lower(text["prompt"]), lower(text["negative"])
        if text.get("weights"):
            state, uncond = weighted(pipe, *(pipe.maybe_convert_prompt(t, pipe.tokenizer) for t in (prompt, negative)))
        else:
            state, uncond = pipe.encode_prompt(prompt, "cpu", 1, True, negative)
        values |= {f"state.{n}": state[0, FIRST::ROWS].contiguous(), f"uncond.{n}": uncond[0, FIRST::ROWS].contiguous()}
    return values


def sdxl():
    pipe = StableDiffusionXLPipeline.from_pretrained("sdxl", torch_dtype=torch.float32, add_watermarker=False)
    vectors = load_file("embeddings/xl.safetensors")
    pipe.load_textual_inversion(vectors["clip_l"], token="xl-word", tokenizer=pipe.tokenizer,
                                text_encoder=pipe.text_encoder)
    pipe.load_textual_inversion(vectors["clip_g"], token="xl-word", tokenizer=pipe.tokenizer_2,
                                text_encoder=pipe.text_encoder_2)
    second = pipe.text_encoder_2
    for module in second.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = pipe.tokenizer_2.eos_token_id
    texts = [lower(t) for t in XL]
    state, _, pooled, _ = pipe.encode_prompt(texts, do_classifier_free_guidance=False)
    values = {"xl.state": state.contiguous(), "xl.pooled": pooled.contiguous()}
    for i, tokenizer in enumerate((pipe.tokenizer, pipe.tokenizer_2)):
        values[f"xl.ids.{i + 1}"] = torch.tensor(
            [tokenizer(pipe.maybe_convert_prompt(t, tokenizer), padding="max_length", max_length=16,
                       truncation=True).input_ids for t in texts], dtype=torch.int32)
    return values


if __name__ == "__main__":
    lpw = os.path.abspath(sys.argv[1])
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, ".")
    with torch.no_grad():
        from make_long import functions
        values = minisd(functions(lpw)["get_weighted_text_embeddings"]) | sdxl()
    save_file(values, "embeddings.safetensors", {"texts": json.dumps(TEXTS), "xl": json.dumps(XL),
                                                 "every": str(ROWS), "first": str(FIRST)})
