#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""compare_xl.py -- what compare.py compares, of Stable Diffusion XL.

    compare_xl.py SDXL     a folder whose tokenizers are taken; else as compare.py
"""
import copy, os, sys
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from safetensors.torch import save_file
import ldm, ldm_xl
from beside import adapters, compare_lora, convert, drop_weights, failures, first_names, report, tensors

sdxl = os.path.abspath(sys.argv[1])

# ---- checkpoints ----

shapes = {
    "xl": {},
    "square": dict(widths=(8, 8, 16), layers=1, depths=(1, 1, 2), text=(8, 12), projection=12, sizes=6),
    "odd": dict(widths=(16, 8), layers=3, depths=(2, 1), attention=(True, True), linear=False, vae_widths=(8,),
                text=(16, 8), text_layers=(1, 1), projection=20),
}
pipes = {name: ldm_xl.pipeline(sdxl, seed=i + 1, **shape) for i, (name, shape) in enumerate(shapes.items())}
for name, pipe in pipes.items():
    pipe.save_pretrained(f"{name}-base")
    drop_weights(f"{name}-base", f"{name}-configs")
    for dtype in (torch.float32, torch.float16, torch.bfloat16) if name == "xl" else (torch.float16,):
        label = f"{name} {str(dtype).removeprefix('torch.')}"
        state = ldm_xl.checkpoint(pipe, dtype)
        save_file(state, "one.safetensors")
        torch.save(ldm.lightning(state), "one.ckpt")
        theirs = StableDiffusionXLPipeline.from_single_file("one.safetensors", config=f"{name}-base",
                                                            local_files_only=True, torch_dtype=dtype,
                                                            add_watermarker=False)
        want = tensors(theirs)
        for file in ("one.safetensors", "one.ckpt"):
            report(f"{label}, {file}", convert(f"{name}-configs", f"{label}-{file}", "--checkpoint", file), want)
        save_file(ldm_xl.checkpoint(pipe, dtype, weight=True, below="state_dict."), "one.safetensors")
        report(f"{label}, text_projection.weight", convert(f"{name}-configs", f"{label}-weight", "--checkpoint",
                                                           "one.safetensors"), want)
        if dtype == torch.float32:
            got = convert(f"{name}-configs", f"{label}-f16", "--checkpoint", "one.ckpt", "--dtype", "f16")
            report(f"{label} as f16", got, {p: {n: t.half() for n, t in of.items()} for p, of in want.items()})
    again = StableDiffusionXLPipeline.from_pretrained(f"{label}-one.ckpt", torch_dtype=dtype, add_watermarker=False)
    report(f"{name}, from_pretrained", tensors(again), want)

pipe = pipes["xl"]
save_file(ldm_xl.checkpoint(pipe, ema=True), "ema.safetensors")
want = tensors(pipe)
report("running means not taken", convert("xl-configs", "ema-no", "--checkpoint", "ema.safetensors"), want)
want["unet"] = {n: t*0.5 for n, t in want["unet"].items()}
report("running means taken", convert("xl-configs", "ema-yes", "--checkpoint", "ema.safetensors", "--ema"), want)

other = ldm_xl.pipeline(sdxl, seed=9)
for part in ("text_encoder", "text_encoder_2"):
    state = getattr(other, part).state_dict()
    state = {n if n.startswith("text_") else "text_model." + n: t for n, t in state.items() if "position_ids" not in n}
    save_file(state, f"{part}.safetensors")
    want = tensors(pipe)
    want[part] = tensors(other)[part]
    report(f"{part} alone", convert("xl-base", f"out-{part}", "--checkpoint", f"{part}.safetensors"), want)

# ---- LoRA ----


def config(names):
    return LoraConfig(r=4, lora_alpha=6, target_modules=names, init_lora_weights="gaussian")


base, pipe = "lora-base", ldm_xl.pipeline(sdxl, seed=7, depths=(1, 1, 2), vae_widths=(4,), vae_layers=1)
pipe.save_pretrained(base)
half = lambda n, r: 2
attention = {"unet": ldm.changes(pipe.unet, ["attn1.to", "attn2.to", "ff.net", "proj_"], [4], 1),
             "te1": ldm.changes(pipe.text_encoder, ["self_attn", "mlp"], [4], 2),
             "te2": ldm.changes(pipe.text_encoder_2, ["self_attn", "mlp"], [4], 3)}
save_file(ldm_xl.kohya(attention, pipe.unet.config, half), "ldm.safetensors")
save_file(ldm.kohya(attention, half), "kohya.safetensors")
attention["scale"] = lambda n, r: 2/r
for file in ("ldm", "kohya"):
    compare_lora(file, base, [(f"{file}.safetensors", 0.75)], [(0.75, attention)])

three = lambda n, r: 3
whole = {"unet": ldm.changes(pipe.unet, ["attentions", "resnets", "samplers", "emb", "conv_in", "conv_out"], [2, 3, 8],
                             3)}
save_file(ldm_xl.kohya(whole, pipe.unet.config, three), "ldm-locon.safetensors")
save_file(ldm.kohya(whole, three), "kohya-added.safetensors")
known = {"unet": {n: c for n, c in whole["unet"].items() if not n.startswith("add_embedding")}}
save_file(ldm.kohya(known, three), "kohya-locon.safetensors")
whole["scale"] = known["scale"] = lambda n, r: 3/r
compare_lora("ldm convolutions", base, [("ldm-locon.safetensors", 1)], [(1, whole)])
compare_lora("kohya convolutions", base, [("kohya-locon.safetensors", 1)], [(1, known)])
compare_lora("kohya added", base, [("kohya-added.safetensors", 1)], [(1, whole)], beside=False)     # not in diffusers
compare_lora("two files", base, [("ldm.safetensors", -0.5), ("kohya-locon.safetensors", 0.25)],
             [(-0.5, attention), (0.25, known)])

layers = {"unet": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"],
          "te1": ["q_proj", "k_proj", "v_proj", "out_proj"], "te2": ["q_proj", "v_proj", "fc1"]}
sides, pairs = adapters(copy.deepcopy(pipe), layers, config)
StableDiffusionXLPipeline.save_lora_weights(
    "peft", unet_lora_layers=sides["unet"], text_encoder_lora_layers=sides["te1"],
    text_encoder_2_lora_layers=sides["te2"], unet_lora_adapter_metadata=config(layers["unet"]).to_dict(),
    text_encoder_lora_adapter_metadata=config(layers["te1"]).to_dict(),
    text_encoder_2_lora_adapter_metadata=config(layers["te2"]).to_dict())
pairs["scale"] = lambda n, r: 1.5
compare_lora("PEFT", base, [("peft/pytorch_lora_weights.safetensors", 1)], [(1, pairs)])

first = {"unet": ldm.changes(pipe.unet, ["attn1.to", "attn2.to"], [3], 5),
         "te1": ldm.changes(pipe.text_encoder, ["q_proj", "out_proj"], [3], 6),
         "te2": ldm.changes(pipe.text_encoder_2, ["k_proj", "out_proj"], [3], 7)}
save_file(first_names(first), "first.safetensors")
compare_lora("diffusers' first", base, [("first.safetensors", 1)], [(1, first)])
sys.exit(bool(failures))
