#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- losses and gradients of others' training code on small weights and one batch, for
tests/unit/sae_variants.c.

With sae-lens 6.54, eai-sparsify 1.3 and torch: one pass of SAELens's own training classes, and of sparsify's
SparseCoder for what that has alone (multi). Their loss is mean over tokens of |x - x'|^2 and the variant's own terms;
ours is the same divided by V/N, V = |x - mean|^2, so gradients differ by that factor, which the test takes out.
sparsify's is divided by V already, and multiplied by V/N here. Their W_enc is [D,F], turned here; x has a mean square
length of D, so that the scale of the variants which scale their input is 1; rows of W_dec have length 1.

What along a row of W_dec its gradient has is taken off: SAELens weighs |a|_1 with the rows' lengths, which ours are
held at.

Where ours differs on purpose, torch differentiates what ours means:
    gated       SAELens lets |x - x'_gate|^2 teach W_dec and b_dec; the paper (arXiv 2404.16014, section 3.2) holds both
                fixed
    multi, dead sparsify's fused encoder drops the gradient that comes through all of h, and so teaches the encoder by
                the K largest alone; a plain encoder is put in its place. (SAELens lets dead features below 0 take
                part.)
    jumprelu-dead   the same term beside SAELens's loss, which has none for jumprelu

    x [N,D], W_enc, W_dec [F,D], b_enc, threshold, r_mag, b_mag [F], b_dec [D]
    dead [1]: features from there on are dead
    NAME.square [1] |x - x'|^2 over N, NAME.l0 [1], NAME.PARAMETER gradients
"""
import os, torch
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"       # no GPU is needed
from safetensors.torch import save_file
import sparsify.sparse_coder
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.fused_encoder import EncoderOutput
from sae_lens.saes.sae import TrainStepInput
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedTrainingSAE, GatedTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(5)
N, D, F, K, DEAD = 48, 8, 24, 4, 18
SPARSITY, WIDTH, AUXK, LEVELS = 0.4, 0.5, 0.25, [6, 12, 24]

x = torch.randn(N, D) + 0.3
x = x * (D / x.square().sum(1).mean()).sqrt()
W = {"W_enc": torch.randn(F, D) / D**0.5, "W_dec": torch.nn.functional.normalize(torch.randn(F, D), dim=1),
     "b_enc": 0.3 * torch.randn(F), "b_dec": 0.3 * torch.randn(D), "threshold": 0.2 + 0.4 * torch.rand(F),
     "r_mag": 0.3 * torch.randn(F), "b_mag": 0.3 * torch.randn(F)}
out = {"x": x, "dead": torch.tensor([DEAD], dtype=torch.float32), **W}

def keep(name, square, l0, gradients):
    out[name + ".square"] = square.detach().reshape(1)
    out[name + ".l0"] = torch.as_tensor(float(l0)).reshape(1)
    for p, g in gradients.items():
        if p == "W_dec":
            g = g - (g * W["W_dec"]).sum(1, keepdim=True) * W["W_dec"]
        out[f"{name}.{p}"] = g.contiguous()

def lens(name, cls, config, coefficients={}, names={"b_enc": "b_enc"}, more=None):
    sae = cls(config)
    state = {"W_enc": W["W_enc"].T.contiguous(), "W_dec": W["W_dec"], "b_dec": W["b_dec"]}
    for theirs, ours in names.items():
        state[theirs] = W[ours]
    sae.load_state_dict(state, strict=False)
    step = sae.training_forward_pass(TrainStepInput(x, coefficients, None, 0, False))
    (more(sae, step) if more else step.loss).backward()
    g = {"W_enc": sae.W_enc.grad.T, "W_dec": sae.W_dec.grad, "b_dec": sae.b_dec.grad}
    for theirs, ours in names.items():
        g[ours] = getattr(sae, theirs).grad
    keep(name, step.losses["mse_loss"], (step.feature_acts > 0).sum() / N, g)

size = {"d_in": D, "d_sae": F}
top = {**size, "k": K, "rescale_acts_by_decoder_norm": False}
lens("topk", TopKTrainingSAE, TopKTrainingSAEConfig(**top))
lens("batchtopk", BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**top))
lens("matryoshka", MatryoshkaBatchTopKTrainingSAE,
     MatryoshkaBatchTopKTrainingSAEConfig(**top, matryoshka_widths=LEVELS))

def dead_term(sae, step):
    h = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc)[:, DEAD:]
    values, place = h.topk(D // 2)
    e_aux = torch.zeros_like(h).scatter(1, place, values) @ sae.W_dec[DEAD:]
    return step.loss + AUXK * (e_aux - (x - step.sae_out).detach()).square().sum(1).mean()
for name, more in (("jumprelu", None), ("jumprelu-dead", dead_term)):
    lens(name, JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig(**size, jumprelu_bandwidth=WIDTH), {"l0": SPARSITY},
         {"b_enc": "b_enc", "threshold": "threshold"}, more)
lens("relu", StandardTrainingSAE, StandardTrainingSAEConfig(**size), {"l1": SPARSITY})

def paper(sae, step):
    gate = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_gate)
    via_gate = gate @ sae.W_dec.detach() + sae.b_dec.detach()
    return step.losses["mse_loss"] + SPARSITY * gate.sum(1).mean() + (x - via_gate).square().sum(1).mean()
lens("gated", GatedTrainingSAE, GatedTrainingSAEConfig(**size), {"l1": SPARSITY},
     {"b_gate": "b_enc", "r_mag": "r_mag", "b_mag": "b_mag"}, paper)

def plain_encoder(x, weight, bias, k, activation):
    h = torch.relu(torch.nn.functional.linear(x, weight, bias))
    return EncoderOutput(*h.topk(k, sorted=False), h)
sparsify.sparse_coder.fused_encoder = plain_encoder

for name, multi, dead in (("multi", True, False), ("multi-dead", True, True), ("topk-dead", False, True)):
    sae = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K, multi_topk=multi), dtype=torch.float32)
    sae.load_state_dict({"encoder.weight": W["W_enc"], "encoder.bias": W["b_enc"], "W_dec": W["W_dec"],
                         "b_dec": W["b_dec"]})
    o = sae(x, dead_mask=torch.arange(F) >= DEAD if dead else None)
    scale = (x - x.mean(0)).square().sum() / N
    ((o.fvu + AUXK * o.auxk_loss + o.multi_topk_fvu / 8) * scale).backward()
    h = torch.relu((x - W["b_dec"]) @ W["W_enc"].T + W["b_enc"])
    keep(name, o.fvu * scale, (h.topk(K).values > 0).sum() / N,
         {"W_enc": sae.encoder.weight.grad, "b_enc": sae.encoder.bias.grad, "W_dec": sae.W_dec.grad,
          "b_dec": sae.b_dec.grad})

save_file(out, "expected.safetensors")
print({k: float(v) for k, v in out.items() if k.endswith((".l0", ".square"))})
