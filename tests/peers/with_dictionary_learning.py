# SPDX-License-Identifier: MIT
"""with_dictionary_learning.py -- trains and loads with dictionary_learning: its trainSAE and trainers."""
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE, MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer
from dictionary_learning.training import trainSAE

PACKAGE = "dictionary-learning"
VARIANTS = ("topk", "batchtopk", "matryoshka")
LEAD = 102          # batches that trainSAE takes to learn the activations' scale
KINDS = {"topk": (TopKTrainer, AutoEncoderTopK), "batchtopk": (BatchTopKTrainer, BatchTopKSAE),
         "matryoshka": (MatryoshkaBatchTopKTrainer, MatryoshkaBatchTopKSAE)}


def settings(features, steps, batch, times):
    """Multiples of its rate; warm-up and threshold begin at 1000 steps, in so short a training earlier."""
    rate = 2e-4 / (features / 2**14) ** 0.5
    return [{"lr": rate * t, "warmup_steps": min(1000, steps // 20), "threshold_start_step": min(1000, steps // 2),
             "decay_start": steps * 4 // 5} for t in times]


def speed_settings():
    return [{"warmup_steps": 1}]


def fit(feed, variant, width, features, k, setting, autocast, folder):
    config = {"trainer": KINDS[variant][0], "steps": feed.steps, "activation_dim": width, "dict_size": features, "k": k,
              "layer": 0, "lm_name": "none", "device": "cpu", "seed": 0, **setting}
    if variant == "matryoshka":
        config["group_fractions"] = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32]
    scaled = "lr" in setting
    feed.lead = LEAD if scaled else 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        trainSAE(feed, [config], feed.steps, save_dir=folder, normalize_activations=scaled, device="cpu")


class Saved:
    def __init__(self, folder, variant):
        self.sae = KINDS[variant][1].from_pretrained(f"{folder}/trainer_0/ae.pt")
        decoder = self.sae.W_dec if variant == "matryoshka" else self.sae.decoder.weight.T
        self.decoder = decoder.detach()
        self.encode = self.sae.encode
        self.decode = self.sae.decode
