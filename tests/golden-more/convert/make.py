#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py MINISD -- the files of tests/cli/sd-convert.bats, with torch 2.15, diffusers 0.42, peft 0.21.

    1/, 2/             configs of two tiny random models, of Stable Diffusion 1's kind and of 2's
    1.safetensors.zst  1 in one file, LDM's names, f16           1.ckpt.zst    the same as a trainer saves it
    2.safetensors.zst  2 in one file, text encoder as OpenCLIP has it
    kohya.safetensors, peft.safetensors, first.safetensors       LoRA for 1, under three kinds of names
    expected           what becomes of them, "NAME " before what tests/tensors.py says: 1, 2 as from_single_file loads
                       them; kohya.f32 etc. the sums, in f64, to f32 and to f16
    minisd.safetensors, minisd.json    LoRA for minisd, and the latents that StableDiffusionPipeline draws with it in 4
                       steps (prompt, seed and guidance beside them), and without

zstd of the command line compresses. What from_single_file and fuse_lora load is compared with the f64 sums here.
"""
import json, os, sys, tempfile
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
import ldm
from beside import copy_configs, first_names, halves, list_lora, listed, pack, save_peft, tensors

minisd = os.path.abspath(sys.argv[1])
here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
torch.manual_seed(0)
open("expected", "w").close()
tiny = dict(widths=(4, 8), groups=2, vae_widths=(4, 4), text=4, text_layers=2)
with tempfile.TemporaryDirectory() as work:
    for kind in (1, 2):
        pipe = ldm.pipeline(f"{minisd}/tokenizer", seed=kind, **tiny, linear=kind == 2,
                            act="gelu" if kind == 2 else "quick_gelu").to(torch.float16)
        base = f"{work}/{kind}"
        pipe.save_pretrained(base)
        copy_configs(base, str(kind))
        state = ldm.checkpoint(pipe, kind)
        save_file(state, f"{kind}.safetensors")
        loaded = StableDiffusionPipeline.from_single_file(f"{kind}.safetensors", config=base, local_files_only=True,
                                                          torch_dtype=torch.float16)
        listed(tensors(loaded), kind, "expected")
        if kind == 1:
            torch.save(ldm.lightning(state), "1.ckpt")
            pack("1.ckpt")
            first = pipe
        pack(f"{kind}.safetensors")

    def lora(name, strength, changes, scale):
        """scale: alpha/rank by the layer's number and rank"""
        list_lora(f"{work}/1", name, f"{name}.safetensors", strength, changes | {"scale": scale}, "expected")

    changes = halves({"unet": ldm.changes(first.unet, ["attentions", "resnets", "samplers"], [1, 2], 1),
                      "te": ldm.changes(first.text_encoder, ["self_attn", "mlp"], [2], 2)})
    save_file(ldm.kohya(changes, lambda n, r: 1.5), "kohya.safetensors")
    lora("kohya", 0.75, changes, lambda n, r: 1.5/r)

    changes = halves({"unet": ldm.changes(first.unet, ["attn2.to", "conv1"], [2], 3),
                      "te": ldm.changes(first.text_encoder, ["q_proj"], [2], 4)})
    save_peft("peft.safetensors", changes, 3, {"unet": ["to_q", "to_k", "to_v", "to_out.0", "conv1"], "te": ["q_proj"]})
    lora("peft", 1, changes, lambda n, r: 1.5)

    changes = halves({"unet": ldm.changes(first.unet, ["attn1.to"], [2], 5),
                      "te": ldm.changes(first.text_encoder, ["out_proj"], [2], 6)})
    save_file(first_names(changes), "first.safetensors")
    lora("first", -1, changes, lambda n, r: 1)

pipe = StableDiffusionPipeline.from_pretrained(minisd, torch_dtype=torch.float32)
changes = halves({"unet": ldm.changes(pipe.unet, ["up_blocks.0.attentions.1.transformer_blocks.0.attn2",
                                                  "up_blocks.1.attentions.0.transformer_blocks.0.attn2"], [2], 7, 0.12),
                  "te": ldm.changes(pipe.text_encoder, ["layers.1.self_attn"], [2], 8, 0.12)})
save_file(ldm.kohya(changes, lambda n, r: 1), "minisd.safetensors")
draw = {"prompt": "A cat in Van Gogh style.", "seed": 7, "steps": 4, "guidance": 7.5}


def latent():
    x = pipe(draw["prompt"], num_inference_steps=draw["steps"], guidance_scale=draw["guidance"], output_type="latent",
             generator=torch.Generator("cpu").manual_seed(draw["seed"])).images[0]
    return [float(f"{v:.6g}") for v in x.flatten().tolist()]


draw["without"] = latent()
pipe.load_lora_weights("minisd.safetensors")
pipe.fuse_lora(lora_scale=1.0)
draw["with"] = latent()
with open("minisd.json", "w") as f:
    json.dump(draw, f)
    f.write("\n")
for file in os.listdir("."):
    if "safetensors" in file:
        os.chmod(file, 0o644)
