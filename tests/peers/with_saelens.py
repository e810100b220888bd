# SPDX-License-Identifier: MIT
"""with_saelens.py -- trains and loads with SAELens (sae-lens): its training SAEs and SAETrainer.fit."""
import torch
from sae_lens import SAE
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (MatryoshkaBatchTopKTrainingSAE,
                                                    MatryoshkaBatchTopKTrainingSAEConfig)
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer

PACKAGE = "sae-lens"
VARIANTS = ("topk", "batchtopk", "matryoshka")
LEAD = 64           # batches from which the activations' scale is learned
KINDS = {"topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
         "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
         "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig)}


def settings(features, steps, batch, times):
    """Activations scaled and the rate falling at the end, as its guide trains; its own rate, then multiples of it with
    fewer steps until a feature is dead, since its thousand are most of the training here; the last with 8192 tokens."""
    common = {"lr_decay_steps": steps // 5, "scale": True}
    soon = {"dead_feature_window": min(1000, steps // 8)}
    tries = [{"lr": 3e-4 * t, **(soon if t > 1 else {}), **common} for t in times]
    return [*tries, {**tries[-1], "dead_feature_window": 8192 // batch}]


def speed_settings():
    """Dense; sparse, whose gradient torch has not on a CPU; and sparse where the decoder's norm stays out of it."""
    sparse = {"use_sparse_activations": True}
    unscaled = {**sparse, "rescale_acts_by_decoder_norm": False}
    return [{"lr": 3e-4}, {"lr": 3e-4, "sae": sparse}, {"lr": 3e-4, "sae": unscaled}]


def fit(feed, variant, width, features, k, setting, autocast, folder):
    setting = dict(setting)
    sae_class, config_class = KINDS[variant]
    options = {"normalize_activations": "expected_average_only_in" if setting.pop("scale", False) else "none"}
    options |= setting.pop("sae", {})
    if variant == "matryoshka":
        options["matryoshka_widths"] = [features // 32, features * 3 // 32, features * 7 // 32, features * 15 // 32,
                                        features]
    torch.manual_seed(0)
    sae = sae_class(config_class(d_in=width, d_sae=features, k=k, device="cpu", **options))
    feed.lead = LEAD if options["normalize_activations"] != "none" else 0
    config = SAETrainerConfig(total_training_samples=feed.steps * feed.batch, train_batch_size_samples=feed.batch,
                              autocast=autocast, logger=LoggingConfig(log_to_wandb=False),
                              n_batches_for_norm_estimate=LEAD, lr_end=setting["lr"], **setting)
    SAETrainer(config, sae, feed).fit()
    sae.save_inference_model(folder)


class Saved:
    def __init__(self, folder, variant):
        self.sae = SAE.load_from_disk(folder)
        self.decoder = self.sae.W_dec.detach()
        self.encode = self.sae.encode
        self.decode = self.sae.decode
