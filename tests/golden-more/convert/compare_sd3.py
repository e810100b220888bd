#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""compare_sd3.py -- what compare.py compares, of Stable Diffusion 3.

    compare_sd3.py SD3     a folder whose parts are taken, but for transformers; else as compare.py
"""
import copy, os, subprocess, sys
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.utils import logging
from peft import LoraConfig
from safetensors.torch import load_file, save_file
import ldm
from beside import adapters, compare_lora, convert, drop_weights, failures, report, tensors

sd3 = os.path.abspath(sys.argv[1])
logging.set_verbosity_error()
logging.disable_progress_bar()
write = os.path.join(os.path.dirname(os.path.abspath(__file__)), "write_sd3.py")


def transformer(seed, heads=2, size=8, **more):
    return ldm.randomize(SD3Transformer2DModel(**dict(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=3, attention_head_dim=size,
        num_attention_heads=heads, joint_attention_dim=48, caption_projection_dim=heads*size, pooled_projection_dim=36,
        pos_embed_max_size=12) | more), seed)


# ---- checkpoints ----

kinds = {
    "medium": {},
    "medium35": dict(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
    "large": dict(qk_norm="rms_norm", heads=3, num_layers=2, pos_embed_max_size=16),
    "odd": dict(heads=1, size=32, num_layers=5, dual_attention_layers=(1, 4), pos_embed_max_size=5),
    "one": dict(num_layers=1, qk_norm="rms_norm", size=16),
}
for i, (name, shape) in enumerate(kinds.items()):
    pipe = StableDiffusion3Pipeline.from_pretrained(sd3, transformer=transformer(i, **shape), torch_dtype=torch.float32)
    for dtype in (torch.float32, torch.float16, torch.bfloat16) if name == "medium35" else (torch.float16,):
        label, base = f"{name} {str(dtype).removeprefix('torch.')}", f"{name}-base"
        copy.deepcopy(pipe).to(dtype).save_pretrained(base)
        subprocess.run(["rm", "-rf", f"{name}-configs"], check=True)
        drop_weights(base, f"{name}-configs")
        subprocess.run([write, base, "one.safetensors"], check=True)
        subprocess.run([write, base, "alone.safetensors", "transformer"], check=True)
        theirs = StableDiffusion3Pipeline.from_single_file("one.safetensors", config=base, local_files_only=True,
                                                           torch_dtype=dtype)
        theirs.text_encoder_3.to(dtype)         # whose wo transformers keeps in f32 where it computes in f16
        want = tensors(theirs)
        report(f"{label}, from what was written", {"transformer": want["transformer"]},
               {"transformer": tensors(copy.deepcopy(pipe).to(dtype))["transformer"]})
        report(label, convert(f"{name}-configs", f"{label}-out", "--checkpoint", "one.safetensors"), want)
        torch.save(ldm.lightning(load_file("one.safetensors")), "one.ckpt")
        report(f"{label}, one.ckpt", convert(f"{name}-configs", f"{label}-ckpt", "--checkpoint", "one.ckpt"), want)
        bare = SD3Transformer2DModel.from_single_file("alone.safetensors", config=base, subfolder="transformer",
                                                      local_files_only=True, torch_dtype=dtype).state_dict()
        got = convert(base, f"{label}-alone", "--checkpoint", "alone.safetensors")
        report(f"{label}, transformer alone", {"transformer": got["transformer"]}, {"transformer": bare})
    again = StableDiffusion3Pipeline.from_pretrained(f"{label}-out", torch_dtype=dtype)
    again.text_encoder_3.to(dtype)
    report(f"{name}, from_pretrained", tensors(again), want)

# fp8, by torch's own conversion
state = load_file("one.safetensors")
for kind in (torch.float8_e4m3fn, torch.float8_e5m2):
    small = {n: t.to(kind) if t.ndim > 1 else t for n, t in state.items()}
    for dtype, option in ((torch.float16, "keep"), (torch.float32, "f32"), (torch.bfloat16, "bf16")):
        save_file(small, "small.safetensors")
        save_file({n: t.to(torch.float16 if option == "keep" else dtype) for n, t in small.items()}, "wide.safetensors")
        label = f"{str(kind).removeprefix('torch.')} as {option}"
        report(label, *(convert("one-configs", f"{label}-{file}", "--checkpoint", f"{file}.safetensors",
                                "--dtype", option) for file in ("small", "wide")))

# ---- LoRA ----


def config(names):
    return LoraConfig(r=4, lora_alpha=6, target_modules=names, init_lora_weights="gaussian")


base = "lora-base"
pipe = StableDiffusion3Pipeline.from_pretrained(sd3, torch_dtype=torch.float32)
pipe.save_pretrained(base)
layers = {"transformer": ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
                          "ff.net.0.proj", "ff_context.net.2", "norm1.linear", "norm1_context.linear",
                          "norm_out.linear"],
          "te1": ["q_proj", "k_proj", "v_proj", "out_proj"], "te2": ["q_proj", "v_proj", "fc1"]}
sides, pairs = adapters(copy.deepcopy(pipe), layers, config)
StableDiffusion3Pipeline.save_lora_weights(
    "peft", transformer_lora_layers=sides["transformer"], text_encoder_lora_layers=sides["te1"],
    text_encoder_2_lora_layers=sides["te2"], transformer_lora_adapter_metadata=config(layers["transformer"]).to_dict(),
    text_encoder_lora_adapter_metadata=config(layers["te1"]).to_dict(),
    text_encoder_2_lora_adapter_metadata=config(layers["te2"]).to_dict())
pairs["scale"] = lambda n, r: 1.5
compare_lora("PEFT", base, [("peft/pytorch_lora_weights.safetensors", 0.75)], [(0.75, pairs)])
sys.exit(bool(failures))
