# SPDX-License-Identifier: MIT
"""with_sae_fit.py -- trains with sae-fit, as a program on a stream; its folder is encoded here, by sae.h's formula."""
import json
import subprocess

try:
    import torch
    from safetensors.torch import load_file
except ImportError:         # speed alone can be measured without
    torch = None

PACKAGE = None
VARIANTS = ("topk", "batchtopk", "matryoshka")        # what it refuses is said to be not there


class NotThere(Exception):
    """sae-fit does not know the variant."""


def settings(features, steps, batch, times):
    """As it is; then other rates."""
    rate = 7e-4 / (features / 2**14) ** 0.5
    return [{}, *({"lr": rate * t} for t in (0.5, 2, 4))]


def command(stream, variant, features, k, batch, tokens, folder, log=None, threads=0, type="f32", **more):
    options = {"variant": variant, "features": features, "topk": k, "batch": batch, "tokens": tokens,
               "threads": threads, "dtype": type, "buffer": "2M", "output": folder, **more}
    if log:
        options |= {"log": log, "report": 1}
    return ["sae-fit", "--quiet", *(f"--{name}={value}" for name, value in options.items()), stream]


def fit_stream(stream, variant, features, k, batch, tokens, setting, threads, folder):
    if variant == "matryoshka":         # as the others divide theirs
        setting = {**setting, "levels": ",".join(str(features * part // 32) for part in (1, 3, 7, 15))}
    done = subprocess.run(command(stream, variant, features, k, batch, tokens, folder, threads=threads, **setting),
                          stderr=subprocess.PIPE, text=True)
    if done.returncode == 2:
        raise NotThere(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


class Saved:
    """h = (x - b_dec) W_enc^T + b_enc      a = of its K largest those above their threshold, or 0"""

    def __init__(self, folder, variant):
        with open(f"{folder}/cfg.json") as file:
            cfg = json.load(file)
        self.weights = load_file(f"{folder}/sae.safetensors")
        self.most = cfg.get("most", cfg["k"])
        self.decoder = self.weights["W_dec"]

    def encode(self, x):
        w = self.weights
        h = (x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]
        index = h.topk(self.most, dim=1).indices
        kept = torch.zeros_like(h, dtype=torch.bool).scatter_(1, index, True)
        return h * (kept & (h > w.get("threshold", torch.zeros(1))))

    def decode(self, f):
        return f @ self.decoder + self.weights["b_dec"]
