# SPDX-License-Identifier: MIT
"""with_sparsify.py -- trains and loads with sparsify (eai-sparsify): its Trainer.fit on a module that yields tokens."""
import os

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"     # its sparse decode on a CPU
import torch
from sparsify import SparseCoder, SparseCoderConfig, TrainConfig, Trainer

PACKAGE = "eai-sparsify"
VARIANTS = ("topk",)


class TokenSource(torch.nn.Module):
    """A model as far as the trainer looks: its one module's output is the next batch."""

    def __init__(self, feed, width):
        super().__init__()
        self.feed, self.width = feed, width
        self.place = torch.nn.Identity()
        self.device = torch.device("cpu")
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

    @property
    def base_model(self):
        return self

    def forward(self, input_ids):
        return self.place(torch.zeros(1, 1, self.width) if input_ids.numel() == 1 else next(self.feed)[None])


def settings(features, steps, batch, times):
    """Its default optimizer; Adam at multiples of its rate; the last of them with the dead features' loss, which it has
    not by default, and fewer tokens until a feature is dead, since its ten million do not come here."""
    rate = 2e-4 / (features / 2**14) ** 0.5
    adam = [{"optimizer": "adam", "lr": rate * t, "lr_warmup_steps": min(1000, steps // 20)} for t in times]
    aux = {"auxk_alpha": 1 / 32, "dead_feature_threshold": 8192}
    return [{"optimizer": "signum"}, *adam, {**adam[-1], **aux}]


def speed_settings():
    return [{"optimizer": "adam"}]


def fit(feed, variant, width, features, k, setting, autocast, folder):
    config = TrainConfig(SparseCoderConfig(num_latents=features, k=k), batch_size=1, hookpoints=["place"],
                         save_every=10**9, save_dir=folder, run_name="fit", log_to_wandb=False, **setting)
    ids = torch.zeros(feed.batch, dtype=torch.long)
    trainer = Trainer(config, [{"input_ids": ids}] * feed.steps, TokenSource(feed, width))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        trainer.fit()


class Saved:
    def __init__(self, folder, variant):
        self.sae = SparseCoder.load_from_disk(f"{folder}/fit/place")
        self.decoder = self.sae.W_dec.detach()

    def encode(self, x):
        out = self.sae.encode(x)
        return torch.zeros(len(x), self.sae.num_latents).scatter_(1, out.top_indices, out.top_acts)

    def decode(self, f):
        values, index = f.topk(self.sae.cfg.k)
        return self.sae.decode(values, index)
