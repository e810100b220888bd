#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_t5.py -- writes t5/, with transformers 5, sentencepiece, torch.

    t5/NAME/tokenizer_3    a unigram model of the project's own words with a few rules of a normal form (RULES): five,
                           as transformers 5 writes it; four, as 4 does, with tokens that take white space beside
                           them; model, spiece.model alone
    t5/tokens.json         texts and the ids that T5TokenizerFast gives them by NAME, with how many it left out
    t5/relu/text_encoder_3, t5/relu.safetensors
                           a tiny encoder of T5's first kind in two files, of random weights, in half precision; ids of
                           two texts, its state, and what each block gives: blocks [blocks,B,S,E]
"""
import json, os, shutil, tempfile, torch
import sentencepiece
from make_sdxl import halved
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

here = os.path.dirname(os.path.abspath(__file__))
LENGTH = 40
RULES = [("\t", " "), ("\n", " "), ("\r", " "), ("\u00a0", " "), ("\u3000", " "), ("\u200b", " "), ("\u2028", " "),
         ("\x01", ""), ("\x7f", ""), ("\ufeff", ""), ("e\u0301", "é"), ("a\u0308", "ä"), ("ﬁ", "fi"), ("™", "TM"),
         ("①", "1"), ("½", "1⁄2"), ("²", "2"), ("\u2126", "Ω"), ("\u2026", "..."), ("\u00b4", " \u0301"),
         ("\u0958", "\u0915\u093c"), ("\ufdfa", "صلى الله عليه وسلم"),
         ("が", "か\u3099"), ("か\u3099", "が"),
         *((chr(0xff01 + i), chr(0x21 + i)) for i in range(94))]
TEXTS = [
    "", " ", "   \t\n ", "a red tower", "A fish in Watercolor style.", "  leading and   many    spaces  ",
    "tabs\tand\nlines\r\nhere", "UPPER lower MiXeD", "fish, fish; fish: fish! (fish) [fish] {fish} \"fish\" 'fish'",
    "don't it's we're 3.14e-5 1234567890 #$%&*+=<>~^|\\/@_`", "café naïve Å œuvre Straße",
    "cafe\u0301 a\u0308 A\u0308 e\u0301\u0327", "ﬁsh\u0301 ™\u0301 ①\u0301 ½ x²+y³",
    "Ａ ｆｉｓｈ，　ｗｉｄｅ！",
    "＜ｐａｄ＞ ＜／ｓ＞ ＜ｕｎｋ＞ ＜ｅｘｔｒａ＿ｉｄ＿０＞",
    "日本語のタワー、赤い魚", "が か\u3099 \u304b\u3099x", "한국어 각 \u1112\u1161\u11ab",
    "العربية ١٢٣ ﷺ", "नमस्ते \u0958\u0301 क्\u0958", "ไทยแลนด์",
    "👩‍🎨🏽 draws 🐟🐠 🇫🇷🇩🇪", "©\u200d® ©\ufe0f a\u200db",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff\u2028g\u0085h\u1680i", "\x01a\x02b\x7fc\x1f",
    "a\u2581b \u2581 \u2581\u2581c d\u2581", "\u2581fish \u2581\u2581 fish", "</s>", "<pad><pad> a <unk> b",
    "fish</s>tower<extra_id_0>rain", "fish </s> tower <extra_id_0> rain",
    "<extra_id_0><extra_id_1> <extra_id_99><extra_id_100>", "<extra_id_0 <extra_id_> </s <</s>> <EXTRA_ID_0>",
    "<extra_id_1>\u3000\t<extra_id_2>\u0301x", "xyzzyqqq", "\u0301fish \u0897a a\u0897 ﬁ\u0897 ﬁ\U0001e5ee",
    "\u0600a \u0600① \U000113d1① \U00011a3a①", "zalgo h̸̢̛e̷͜͝l̵̰̈p̶̡̕", "ǅ ǈ Ω \u2126 \u00b4x",
    "😀😀😀 😀a😀 a😀", "fish " * 60, "a" * 500, "unbreakable" * 40, "ß" * 90, "🐟" * 40,
    "\ud7a3\u11a8 가\u11a7이", "<MY-Cat> <my-cat> a<My-Cat>b  <My-Cat>",
    "＜Ｍｙ-Ｃａｔ＞ <My\u2026Cat> <My...Cat>", "\ue000\uf8ff\U0010ffff\ufffe",
]


def train(path, vocabulary, normalizer):
    """spiece.model at `path`, as T5's is: <pad>, </s> and <unk> first."""
    with tempfile.TemporaryDirectory() as scratch:
        text = f"{scratch}/text"
        with open(text, "w", encoding="utf-8") as f:
            for name in ("concepts", "themes", "templates"):
                f.write(open(f"{here}/../../data/{name}.txt", encoding="utf-8").read())
            f.write("\n".join(t.replace("\0", " ") for t in TEXTS[:20]*3))
        if isinstance(normalizer, str):
            rule = {"normalization_rule_name": normalizer}
        else:
            with open(f"{scratch}/rules.tsv", "w") as f:
                for key, value in normalizer:
                    f.write("\t".join(" ".join(f"{ord(c):X}" for c in s) for s in (key, value)) + "\n")
            rule = {"normalization_rule_tsv": f"{scratch}/rules.tsv"}
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=f"{scratch}/spiece", vocab_size=vocabulary, pad_id=0, eos_id=1, unk_id=2,
            bos_id=-1, hard_vocab_limit=False, character_coverage=0.9995, num_threads=1, minloglevel=2, **rule)
        model = sentencepiece_model_pb2.ModelProto()
        with open(f"{scratch}/spiece.model", "rb") as f:
            model.ParseFromString(f.read())
    model.trainer_spec.ClearField("input")
    model.trainer_spec.ClearField("model_prefix")
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())


def compact(path):
    value = json.load(open(path, encoding="utf-8"))
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))


def as_four(whole, extra):
    """tokenizer.json and tokenizer_config.json of transformers 4, which has other steps and names all added tokens."""
    whole["normalizer"] = {"type": "Sequence", "normalizers": [
        whole["normalizer"], {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]}
    whole["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True,
                              "prepend_scheme": "first"}
    pieces = [piece for piece, _ in whole["model"]["vocab"]]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokens = {i: {"content": pieces[i], **flags} for i in range(3)}
    tokens |= {i: {"content": p, **flags, "lstrip": True, "rstrip": True} for i, p in enumerate(pieces)
               if p.startswith("<extra_id_")}
    tokens[len(pieces)] = {"content": "<My-Cat>", **flags, "special": False}
    tokens[len(pieces) + 1] = {"content": "<My\u2026Cat>", **flags, "special": False, "normalized": True}
    whole["added_tokens"] = [{"id": i, **t} for i, t in sorted(tokens.items())]
    return whole, {"added_tokens_decoder": {str(i): t for i, t in tokens.items()},
                   "additional_special_tokens": [f"<extra_id_{i}>" for i in range(extra)], "eos_token": "</s>",
                   "extra_ids": extra, "legacy": True, "model_max_length": 512, "pad_token": "<pad>",
                   "tokenizer_class": "T5Tokenizer", "unk_token": "<unk>"}


def folders(root, vocabulary, normalizer):
    extra = 3
    shutil.rmtree(root, ignore_errors=True)
    train(f"{root}/model/tokenizer_3/spiece.model", vocabulary, normalizer)
    made = T5TokenizerFast.from_pretrained(f"{root}/model/tokenizer_3", extra_ids=extra)
    made.model_max_length = 512
    made.save_pretrained(f"{root}/five/tokenizer_3")
    if os.path.exists(f"{root}/five/tokenizer_3/spiece.model"):
        os.remove(f"{root}/five/tokenizer_3/spiece.model")
    compact(f"{root}/five/tokenizer_3/tokenizer.json")
    os.makedirs(f"{root}/four/tokenizer_3")
    whole, config = as_four(json.load(open(f"{root}/five/tokenizer_3/tokenizer.json", encoding="utf-8")), extra)
    for name, value in (("tokenizer.json", whole), ("tokenizer_config.json", config)):
        with open(f"{root}/four/tokenizer_3/{name}", "w", encoding="utf-8") as f:
            json.dump(value, f, ensure_ascii=False, separators=(",", ":"))


def ids_of(folder, texts, length):
    tokenizer = T5TokenizerFast.from_pretrained(f"{folder}/tokenizer_3")
    ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
    whole = tokenizer(texts).input_ids
    return [{"ids": i, "left": max(0, len(w) - length)} for i, w in zip(ids, whole)]


def encoder():
    torch.manual_seed(5)
    model = halved(T5EncoderModel(T5Config(
        vocab_size=90, d_model=20, d_kv=8, d_ff=36, num_layers=3, num_heads=3, feed_forward_proj="relu",
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-5)))
    model.half().save_pretrained("t5/relu/text_encoder_3", max_shard_size="12KB")
    model.float()
    ids = torch.randint(0, 90, (2, 150))
    seen = []
    for block in model.encoder.block:
        block.register_forward_hook(lambda module, inputs, output: seen.append(
            (output[0] if isinstance(output, tuple) else output).clone()))
    state = model(ids).last_hidden_state
    save_file({"ids": ids.int(), "state": state.contiguous(), "blocks": torch.stack(seen).contiguous()},
              "t5/relu.safetensors")


def main():
    os.chdir(here)
    folders("t5", 260, RULES)
    with open("t5/tokens.json", "w", encoding="utf-8") as f:
        json.dump({"texts": TEXTS, **{n: ids_of(f"t5/{n}", TEXTS, LENGTH) for n in ("five", "four", "model")}}, f,
                  separators=(",", ":"))
    encoder()


if __name__ == "__main__":
    with torch.no_grad():
        main()
