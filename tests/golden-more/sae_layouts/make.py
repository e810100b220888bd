#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- small autoencoders in the layouts of others, and the features these find, for tests/unit/sae_layouts.c.

With sae-lens 6.54, eai-sparsify 1.3 and torch. saelens, saelens-whole (b_dec left on, features scaled by rows) and sparsify are
written and encoded by those libraries. openai and dictionary_learning are written from their formulas, which are
relu(topk((x - b) W^T + c)), with the names and files that the libraries use.

    NAME/ ...               the folder
    expected.safetensors    x [32,8], NAME [32,24] features, NAME.decoded [32,8]
"""
import json, os, torch
os.environ["SPARSIFY_DISABLE_TRITON"] = "1"       # no GPU is needed
from safetensors.torch import save_file
from sae_lens import SAE
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig
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

for name, file, config, names in (
        ("openai", "state_dict.pth", {"n_dirs_local": F, "d_model": D, "k": K, "auxk": 8, "dead_steps_threshold": 100},
         ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias")),
        ("dictionary_learning", "ae.pt",
         {"trainer": {"trainer_class": "TopKTrainer", "dict_class": "AutoEncoderTopK", "activation_dim": D, "dict_size": F, "k": K,
                      "layer": 3, "lm_name": "none", "submodule_name": "up_blocks.1"}, "buffer": {"d_submodule": D}},
         ("encoder.weight", "encoder.bias", "decoder.weight", "b_dec"))):
    W_enc, b_enc, W_dec, b_dec = fresh()
    os.makedirs(name, exist_ok=True)
    json.dump(config, open(f"{name}/config.json", "w"))
    state = dict(zip(names, (W_enc, b_enc, W_dec.T, b_dec)))        # W_dec.T: column-major, as OpenAI's trainer leaves it
    if name == "openai":
        state = {"state_dict": dict(state, stats_last_nonzero=torch.zeros(F, dtype=torch.long))}
    else:
        state |= {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(-1.0)}
    torch.save(state, f"{name}/{file}")
    values, indices = ((x - b_dec) @ W_enc.T + b_enc).topk(K)
    expected[name] = dense(values.relu(), indices)
    expected[name + ".decoded"] = expected[name] @ W_dec + b_dec
save_file(expected, "expected.safetensors")
