#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_text_steer.py -- writes text_steer.safetensors and text_sae/: what layers of text encoders compute, and states
of prompts whose layer is steered through an autoencoder, with transformers and torch hooks.

    ids.M [n S]         of model M (0: minisd; 1, 2: the two encoders of sdxl/), n prompts of metadata "prompts"
    layer.M, diff.M [n (S-1)/ROWS, E]
                        output, and output - input, of the model's layer in LAYERS, each ROWSth row from the first token behind the
                        start token on
    MODE [n 77/ROWS, 128]
                        minisd's states, its autoencoder of text_sae steered by features given by hand, by mode: ablate,
                        add, set; diff: add, with the autoencoder of output - input; each ROWSth row
    metadata            prompts, layers, features (feature, value), all JSON; rows

The start token is never steered. Formulas: src/models/steer.h.
"""
import json, os, torch
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

LAYERS, ROWS, F, K = [1, 0, 1], 7, 64, 8
PROMPTS = ["A fish in Watercolor style.", "a red tower, a dog", ""]
os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(5)
values, MINISD, XL = {}, "../../data/minisd/model", "sdxl"


def hidden(encoder, ids, layer, hook=None):
    layers = encoder.text_model.encoder.layers if hasattr(encoder, "text_model") else encoder.encoder.layers
    seen = {}

    def watch(module, inputs, kwargs, output):
        x = inputs[0] if inputs else kwargs["hidden_states"]
        y = output[0] if isinstance(output, tuple) else output
        seen["x"], seen["y"] = x.clone(), y.clone()
        if hook:
            y = hook(x, y)
            return (y, *output[1:]) if isinstance(output, tuple) else y

    handle = layers[layer].register_forward_hook(watch, with_kwargs=True)
    with torch.no_grad():
        state = encoder(ids).last_hidden_state
    handle.remove()
    return state, seen["x"], seen["y"]


def rows(x):
    return x[:, 1:].flatten(0, 1)[::ROWS].contiguous()


for m, (kind, part, tokens) in enumerate([(CLIPTextModel, f"{MINISD}/text_encoder", f"{MINISD}/tokenizer"),
                                          (CLIPTextModel, f"{XL}/text_encoder", f"{XL}/tokenizer"),
                                          (CLIPTextModelWithProjection, f"{XL}/text_encoder_2", f"{XL}/tokenizer_2")]):
    encoder = kind.from_pretrained(part, torch_dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(tokens)
    length = encoder.config.max_position_embeddings
    ids = tokenizer(PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    state, x, y = hidden(encoder, ids, LAYERS[m])
    values[f"ids.{m}"] = ids.flatten().int()
    values[f"layer.{m}"], values[f"diff.{m}"] = rows(y), rows(y - x)
    if m == 0:
        minisd, minisd_ids, outputs, diffs = encoder, ids, y[:, 1:].flatten(0, 1), (y - x)[:, 1:].flatten(0, 1)


def autoencoder(data):
    """Random directions, with the data's mean in the middle: features that fire on some tokens."""
    decoder = torch.nn.functional.normalize(torch.randn(F, data.shape[1]), dim=1)
    return {"encoder.weight": decoder.clone(), "encoder.bias": torch.zeros(F), "W_dec": decoder,
            "b_dec": data.mean(0).contiguous()}


def encode(sae, x):
    h = torch.relu((x - sae["b_dec"]) @ sae["encoder.weight"].T + sae["encoder.bias"])
    top = h.topk(K, dim=-1)
    return torch.zeros_like(h).scatter(-1, top.indices, top.values)


MODES = {"ablate": lambda a, v: torch.zeros_like(a), "add": lambda a, v: a + v, "set": lambda a, v: torch.full_like(a, v)}


def steer(sae, mode, features, difference):
    def hook(x, y):
        d = y - x if difference else y
        a = encode(sae, d)
        new = a.clone()
        for f, v in features:
            new[..., f] = MODES[mode](a[..., f], v)
        change = (new - a) @ sae["W_dec"]
        change[:, 0] = 0
        return y + change
    return hook


saes = {"output": autoencoder(outputs), "diff": autoencoder(diffs)}
often = {k: encode(s, outputs if k == "output" else diffs).gt(0).float().mean(0).topk(2).indices.tolist()
         for k, s in saes.items()}
features = {k: [[f, 1.5 + i] for i, f in enumerate(often[k])] for k in saes}
for take, sae in saes.items():
    folder = f"text_sae/{take}"
    os.makedirs(folder, exist_ok=True)
    save_file(sae, f"{folder}/sae.safetensors")
    cfg = {"expansion_factor": 0, "normalize_decoder": True, "num_latents": F, "k": K, "d_in": sae["b_dec"].shape[0],
           "hook": f"text_encoder.text_model.encoder.layers.{LAYERS[0]}", "take": take}
    json.dump(cfg, open(f"{folder}/cfg.json", "w"), indent=1)
for name, take, mode in [("ablate", "output", "ablate"), ("add", "output", "add"), ("set", "output", "set"),
                         ("diff", "diff", "add")]:
    hook = steer(saes[take], mode, features[take], take == "diff")
    values[name] = hidden(minisd, minisd_ids, LAYERS[0], hook)[0].flatten(0, 1)[::ROWS].contiguous()
save_file(values, "text_steer.safetensors",
          {"prompts": json.dumps(PROMPTS), "layers": json.dumps(LAYERS), "rows": str(ROWS), "features": json.dumps(features)})
