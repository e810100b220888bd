#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- writes the reference values of this folder, with transformers 5, diffusers 0.42, Pillow 12 or
later, torch.

    tokens.json            hard texts and the ids that CLIPTokenizer gives them with minisd's vocabulary
    tokenizers/            minisd's tokenizer cut to 40 merges, with added tokens, as transformers 4 and as 5 write it
                           (NAME/tokenizer), and tokens.json: texts and the ids that CLIPTokenizer gives them by NAME
    noise.safetensors      torch.randn of many sizes and seeds: seedS.nN
    prepare.safetensors    pictures [H,W,3] u8 and what CLIPImageProcessor makes of them at size 32: N.image,
                           N.pixels [3,32,32]
    scheduler.json         runs: configs, steps, the timesteps of DDIMScheduler in StableDiffusionPipeline and
                           sqrt(a), sqrt(1-a), sqrt(a_prev), sqrt(1-a_prev) of each; moves: x, what was predicted, and
                           what DDIMScheduler.step makes of them, for each prediction_type
    text_names/            a tiny text encoder twice: names as transformers 4 and as 5 write them, hidden_act gelu;
                           its state
"""
import diffusers, json, os, numpy as np, torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from configs import sd14

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
model = "../../data/minisd/model"

texts = ["İstanbul'da KIRMIZI kule", "ΟΔΥΣΣΕΥΣ σίγμα ς", "Straße GROẞ ﬁsh", "Å vs Å vs Å", "ệ ệ ệ", "한국어 한국어 각",
         "가ᆧ이", "日本語のタワー、赤い魚", "العربية ١٢٣", "नमस्ते दुनिया", "ไทยแลนด์", "👩‍🎨🏽 draws 🐟🐠", "①②③ Ⅻ ½ ²", "x²+y³=z⁴",
         "a\u00a0b\u2003c\u3000d\u200be\ufeff", "\u180e\u2028\u2029\x85tower",
         "don't DON'T they'Ve we'RE o'clock 'sad 'tis",
         "<|endoftext|>", "a<|startoftext|>b<|endoftext|>c", "<|ENDOFTEXT|>!! <|StartOfText|>", "!<|endoftext|>!",
         "<|endoftext", "|>",
         "!!!???...", "''s'''t", "1234567890", "3.14e-5", "\t\n\r \x0b\x0c", "\x01\x02\x7f", "_under_score-dash",
         "𝕱𝖎𝖘𝖍 𝓽𝓸𝔀𝓮𝓻",
         "𐐀𐐁𐐂 Ⴀ Ꭰ ꭰ", "e\u0301\u0327 e\u0327\u0301", "\u0301fish", "ǅ ǈ ǋ ΐ ΰ", "\u09fe\u0952", "Ა ა Ɤ Ꟛ", "ſ K Ω",
         "a" * 300,
         "fish " * 100, "ß" * 90, "🐟" * 40, "\ud7a3\u11a8", "zalgo h̸̢̛e̷͜͝l̵̰̈p̶̡̕"]
tokenizer = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")
ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
with open("tokens.json", "w") as f:
    json.dump({"cases": [{"text": t, "ids": i} for t, i in zip(texts, ids)]}, f, separators=(",", ":"))

def cut_tokenizer():
    vocab = json.load(open(f"{model}/tokenizer/vocab.json"))
    merges = [line.split() for line in open(f"{model}/tokenizer/merges.txt", encoding="utf-8")][1:41]
    kept = sorted(vocab, key=vocab.get)[:512] + ["".join(pair) for pair in merges]
    return {t: i for i, t in enumerate(kept + ["<|startoftext|>", "<|endoftext|>"])}, [tuple(pair) for pair in merges]

vocab, merges = cut_tokenizer()
added = {"<My-Cat>": len(vocab), "<!>": len(vocab) + 1}
os.makedirs("tokenizers/4/tokenizer", exist_ok=True)
for name, content in (("vocab.json", vocab), ("added_tokens.json", added),
                      ("special_tokens_map.json", {"pad_token": "!"}),
                      ("tokenizer_config.json", {"model_max_length": 24, "bos_token": "<|startoftext|>",
                                                 "additional_special_tokens": ["<!>"]})):
    with open(f"tokenizers/4/tokenizer/{name}", "w") as f:
        json.dump(content, f, separators=(",", ":"))
with open("tokenizers/4/tokenizer/merges.txt", "w") as f:
    f.write("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges))
tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!", model_max_length=24)
tokenizer.add_tokens(["<My-Cat>"])
tokenizer.add_special_tokens({"additional_special_tokens": ["<!>"]})
tokenizer.save_pretrained("tokenizers/5/tokenizer")
texts = ["", "A tower in the Rain!", "a <my-cat> and <MY-CAT>s, <My-Cat>", "<!> wow <!!> !", "fish " * 20,
         "<|endoftext|>!<|startoftext|>"]
with open("tokenizers/tokens.json", "w") as f:
    json.dump({"texts": texts} | {version: CLIPTokenizer.from_pretrained(f"tokenizers/{version}/tokenizer")(
        texts, padding="max_length", max_length=24, truncation=True).input_ids for version in ("4", "5")}, f)

save_file({f"seed{s}.n{n}": torch.randn(n, generator=torch.Generator("cpu").manual_seed(s))
           for s in (0, 3, 2**32 - 1, 2**40 + 12345) for n in (1, 2, 7, 15, 16, 17, 31, 32, 33, 1000)},
          "noise.safetensors")

rng = np.random.RandomState(0)
processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
prepared = {}
for n, (H, W) in enumerate([(32, 32), (64, 64), (128, 128), (20, 20), (33, 50), (50, 40), (47, 32), (32, 61)]):
    image = rng.randint(0, 256, (H, W, 3)).astype(np.uint8)
    prepared[f"{n}.image"] = torch.from_numpy(image)
    pixels = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    prepared[f"{n}.pixels"] = torch.from_numpy(pixels.copy())
save_file(prepared, "prepare.safetensors")

plain = {"_class_name": "DDIMScheduler", "clip_sample": False}
solver = {"_class_name": "DPMSolverMultistepScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
          "beta_start": 0.00085, "clip_sample": False, "lambda_min_clipped": float("-inf"), "steps_offset": 1}
cases = [(sd14, n) for n in (1, 7, 20, 25, 50, 999)]
cases += [(dict(plain, timestep_spacing=s, beta_schedule=b, num_train_timesteps=T), n)
          for s in ("leading", "trailing", "linspace") for b in ("linear", "squaredcos_cap_v2")
          for T, n in ((1000, 48), (777, 10))]
cases += [(dict(plain, trained_betas=[0.001 * (i + 1) for i in range(20)], num_train_timesteps=20), 5),
          (dict(plain, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"), 20),
          (dict(plain, clip_sample=True, steps_offset=0), 7), ({"_class_name": "DDIMScheduler"}, 7), (solver, 12),
          ({k: v for k, v in sd14.items() if k != "steps_offset"}, 7),
          (dict(solver, _class_name="EulerDiscreteScheduler", timestep_spacing="linspace", steps_offset=0), 12),
          (dict(plain, prediction_type="sample", rescale_betas_zero_snr=True, timestep_spacing="trailing"), 6)]

def ddim(config):
    """DDIM in a pipeline whose folder has this config: what the pipeline changes in it is kept."""
    scheduler = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"))
    pipeline = StableDiffusionPipeline(**parts, scheduler=scheduler, requires_safety_checker=False)
    d = pipeline.scheduler
    return d if isinstance(d, DDIMScheduler) else DDIMScheduler.from_config(d.config)

runs, moves = [], []
for config, n in cases:
    d = ddim(config)
    d.set_timesteps(n)
    rows = []
    for t in d.timesteps.tolist():
        before = t - d.config.num_train_timesteps // n
        a = float(d.alphas_cumprod[t])
        b = float(d.alphas_cumprod[before] if before >= 0 else d.final_alpha_cumprod)
        rows.append([t] + [float(np.sqrt(np.float32(x)))
                           for x in (a, np.float32(1) - np.float32(a), b, np.float32(1) - np.float32(b))])
    runs.append({"config": config, "steps": n, "rows": rows})
for prediction in ("epsilon", "v_prediction", "sample"):
    d = ddim(dict(sd14, prediction_type=prediction))
    d.set_timesteps(4)
    x, out = torch.randn(2, 64, generator=torch.Generator().manual_seed(9))
    moves += [{"prediction_type": prediction, "step": i, "x": x.tolist(), "out": out.tolist(),
               "y": d.step(out, t, x).prev_sample.tolist()} for i, t in enumerate(d.timesteps)]
with open("scheduler.json", "w") as f:
    json.dump({"runs": runs, "moves": moves}, f, separators=(",", ":"))

torch.manual_seed(0)
tiny = CLIPTextConfig(vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                      max_position_embeddings=11, hidden_act="gelu", bos_token_id=48, eos_token_id=49, pad_token_id=0)
encoder = CLIPTextModel(tiny).eval()
weights = {k: (v + 0.05 * torch.randn_like(v)).contiguous() for k, v in encoder.state_dict().items()
           if "position_ids" not in k}
encoder.load_state_dict(weights, strict=False)
ids = torch.randint(0, 50, (3, 11))
with torch.no_grad():
    state = encoder(ids).last_hidden_state
for version in ("4", "5"):
    folder = f"text_names/{version}/text_encoder"
    os.makedirs(folder, exist_ok=True)
    bare = {k.removeprefix("text_model."): v for k, v in weights.items()}
    save_file({("text_model." if version == "4" else "") + k: v for k, v in bare.items()},
              f"{folder}/model.safetensors")
    with open(f"{folder}/config.json", "w") as f:
        json.dump(tiny.to_dict(), f, indent=1, default=str)
save_file({"ids": ids.int(), "state": state.contiguous()}, "text_names/expected.safetensors")
