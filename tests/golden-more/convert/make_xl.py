#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_xl.py -- the files of tests/cli/sd-convert-xl.bats, with what make.py is made with.

    xl/                   configs of a tiny random Stable Diffusion XL; ../sdxl has its tokenizers and scheduler
    xl.safetensors.zst    it in one file, LDM's names, f16
    xl-ldm.safetensors, xl-peft.safetensors     LoRA for it: kohya's names with LDM's blocks, PEFT's; f16
    xl/expected           as expected of make.py: xl, xl-ldm.f32 etc.
"""
import os, tempfile
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
import ldm, ldm_xl
from beside import copy_configs, halves, list_lora, listed, pack, save_peft, tensors

os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(0)
os.makedirs("xl", exist_ok=True)
open("xl/expected", "w").close()
pipe = ldm_xl.pipeline("../sdxl", seed=3, widths=(4, 4, 8), layers=1, depths=(1, 1, 2), vae_widths=(4, 4), vae_layers=1,
                       groups=2, text=(4, 8), text_layers=(1, 2), projection=6, sizes=2).to(torch.float16)
with tempfile.TemporaryDirectory() as base:
    pipe.save_pretrained(base)
    copy_configs(base, "xl")
    save_file(ldm_xl.checkpoint(pipe), "xl.safetensors")
    loaded = StableDiffusionXLPipeline.from_single_file("xl.safetensors", config=base, local_files_only=True,
                                                        torch_dtype=torch.float16, add_watermarker=False)
    listed(tensors(loaded), "xl", "xl/expected")
    pack("xl.safetensors")

    changes = halves({"unet": ldm.changes(pipe.unet, ["attentions.0", "resnets.1", "samplers", "add_"], [1, 2], 1),
                      "te1": ldm.changes(pipe.text_encoder, ["self_attn", "mlp"], [2], 2),
                      "te2": ldm.changes(pipe.text_encoder_2, ["self_attn", "mlp"], [1], 3)})
    save_file(ldm_xl.kohya(changes, pipe.unet.config, lambda n, r: 1.5), "xl-ldm.safetensors")
    list_lora(base, "xl-ldm", "xl-ldm.safetensors", 0.75, changes | {"scale": lambda n, r: 1.5/r}, "xl/expected")

    changes = halves({"unet": ldm.changes(pipe.unet, ["attn2.to", "add_"], [2], 4),
                      "te1": ldm.changes(pipe.text_encoder, ["q_proj"], [2], 5),
                      "te2": ldm.changes(pipe.text_encoder_2, ["q_proj", "fc1"], [2], 6)})
    save_peft("xl-peft.safetensors", changes, 3, {"unet": ["to_q", "to_k", "to_v", "to_out.0", "linear_1", "linear_2"],
                                                  "te1": ["q_proj"], "te2": ["q_proj", "fc1"]})
    list_lora(base, "xl-peft", "xl-peft.safetensors", 1, changes | {"scale": lambda n, r: 1.5}, "xl/expected")
for file in ("xl.safetensors.zst", "xl-ldm.safetensors", "xl-peft.safetensors"):
    os.chmod(file, 0o644)
