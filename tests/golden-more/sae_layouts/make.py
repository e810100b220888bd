#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- small autoencoders in the layouts of others, and the features these find, for tests/unit/sae_layouts.c.

With sae-lens 6.54, eai-sparsify 1.3, dictionary-learning 0.1 and torch: all are written and encoded by those libraries
(saelens-whole: b_dec left on, features scaled by rows), but for openai, which is written from its formula,
relu(topk((x - b) W^T + c)), with the names and files of its trainer.

    NAME/ ...               the folder
    expected.safetensors    x [32,8], NAME [32,24] features, NAME.decoded [32,8]
"""
import json, os, torch
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"       # no GPU is needed
from safetensors.torch import save_file
from sae_lens import SAE
from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
from dictionary_learning.dictionary import AutoEncoder, GatedAutoEncoder, JumpReluAutoEncoder
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sparsify import SparseCoder, SparseCoderConfig

os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(3)
N, D, F, K = 32, 8, 24, 4
x = torch.randn(N, D)
expected = {"x": x}

def fresh():
    return torch.randn(F, D) / D**0.5, 0.3 * torch.randn(F), torch.randn(F, D) / D**0.5, 0.5 * torch.randn(D)

def dense(values, indices):
    return torch.zeros(N, F).scatter(1, indices, values)

for name, more in (("saelens", {"rescale_acts_by_decoder_norm": False}),
                   ("saelens-whole", {"rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False})):
    sae = TopKSAE(TopKSAEConfig(d_in=D, d_sae=F, k=K, **more))
    W_enc, b_enc, W_dec, b_dec = fresh()
    sae.load_state_dict({"W_enc": W_enc.T.contiguous(), "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec})
    sae.cfg.metadata.hook_name = "up_blocks.1.attentions.1"
    sae.save_model(name)
    with torch.no_grad():
        expected[name] = sae.encode(x)
        expected[name + ".decoded"] = sae.decode(expected[name])

sae = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K), dtype=torch.float32)
W_enc, b_enc, W_dec, b_dec = fresh()
sae.load_state_dict({"encoder.weight": W_enc, "encoder.bias": b_enc, "W_dec": W_dec, "b_dec": b_dec})
sae.save_to_disk("sparsify")
with torch.no_grad():
    e = sae.encode(x)
    expected["sparsify"] = dense(e.top_acts, e.top_indices)
    expected["sparsify.decoded"] = sae.decode(e.top_acts, e.top_indices)

W_enc, b_enc, W_dec, b_dec = fresh()
os.makedirs("openai", exist_ok=True)
json.dump({"n_dirs_local": F, "d_model": D, "k": K, "auxk": 8, "dead_steps_threshold": 100},
          open("openai/config.json", "w"))
# W_dec column-major, as there
state = {"encoder.weight": W_enc, "latent_bias": b_enc, "decoder.weight": W_dec.T, "pre_bias": b_dec,
         "stats_last_nonzero": torch.zeros(F, dtype=torch.long)}
torch.save({"state_dict": state}, "openai/state_dict.pth")
values, indices = ((x - b_dec) @ W_enc.T + b_enc).topk(K)
expected["openai"] = dense(values.relu(), indices)
expected["openai.decoded"] = expected["openai"] @ W_dec + b_dec

def fill(module):
    """Every parameter random, of a size that keeps some features of each token."""
    W_enc, b_enc, W_dec, b_dec = fresh()
    with torch.no_grad():
        for name, p in list(module.named_parameters()) + list(module.named_buffers()):
            if name in ("encoder.weight", "W_enc", "decoder.weight", "W_dec"):
                w = W_enc if "enc" in name else W_dec
                p.copy_(w if p.shape == w.shape else w.T)
            elif name in ("threshold", "topk_threshold"):
                p.copy_(0.2 + torch.rand(p.shape))
            elif p.shape == (F,):
                p.copy_(0.3 * torch.randn(F))
            elif p.shape == (D,):
                p.copy_(b_dec)

for name, sae in (("saelens-standard", StandardSAE(StandardSAEConfig(d_in=D, d_sae=F))),
                  ("saelens-jumprelu", JumpReLUSAE(JumpReLUSAEConfig(d_in=D, d_sae=F, apply_b_dec_to_input=False))),
                  ("saelens-gated", GatedSAE(GatedSAEConfig(d_in=D, d_sae=F)))):
    fill(sae)
    sae.save_model(name)
    with torch.no_grad():
        expected[name] = sae.encode(x)
        expected[name + ".decoded"] = sae.decode(expected[name])

for name, sae in (("dictionary_learning", AutoEncoderTopK(D, F, K)),
                  ("dictionary_learning-batchtopk", BatchTopKSAE(D, F, K)),
                  ("dictionary_learning-matryoshka", MatryoshkaBatchTopKSAE(D, F, K, [8, 16])),
                  ("dictionary_learning-jumprelu", JumpReluAutoEncoder(D, F)),
                  ("dictionary_learning-gated", GatedAutoEncoder(D, F)),
                  ("dictionary_learning-relu", AutoEncoder(D, F))):
    fill(sae)
    os.makedirs(name, exist_ok=True)
    trainer = {"dict_class": type(sae).__name__, "activation_dim": D, "dict_size": F, "layer": 3, "lm_name": "none",
               "submodule_name": "up_blocks.1"}
    if hasattr(sae, "k"):
        trainer["k"] = K
    json.dump({"trainer": trainer, "buffer": {"d_submodule": D}}, open(f"{name}/config.json", "w"))
    torch.save(sae.state_dict(), f"{name}/ae.pt")
    with torch.no_grad():
        expected[name] = sae.encode(x)
        expected[name + ".decoded"] = sae.decode(expected[name])
save_file(expected, "expected.safetensors")
