#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""compare.py -- what sd-convert makes of checkpoints and LoRA files, beside what diffusers makes of them.

    compare.py MINISD      sd-convert in PATH; works in the current folder; a line a case, exits 1 on a difference

Checkpoints: every tensor of from_single_file, bit for bit. LoRA: every tensor of load_lora_weights and fuse_lora in
f32, which rounds each product and the sum to f32 where sd-convert sums in f64, so that values may be some units in the
last place of the tensor's largest value apart; and of the same sum in f64, where all must be equal.
"""
import copy, os, sys
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from peft import LoraConfig
from safetensors.torch import save_file
import ldm
from beside import adapters, compare_lora, convert, drop_weights, failures, first_names, report, tensors

minisd = os.path.abspath(sys.argv[1])

# ---- checkpoints ----

shapes = {
    "sd1": (1, dict(widths=(8, 16, 24, 24), layers=2, vae_widths=(4, 8, 8, 12), vae_layers=2)),
    "sd2": (2, dict(widths=(8, 16, 24, 24), layers=2, vae_widths=(4, 8), linear=True, act="gelu", text=12,
                     text_layers=3)),
    "odd": (1, dict(widths=(8, 16, 16), layers=1, attention=[False, True, False], vae_widths=(8,), vae_layers=3)),
    "all": (2, dict(widths=(16, 8), layers=3, attention=[True, True])),
}
pipes = {name: (kind, ldm.pipeline(f"{minisd}/tokenizer", seed=i + 1, **shape))
         for i, (name, (kind, shape)) in enumerate(shapes.items())}
pipes["minisd"] = (1, StableDiffusionPipeline.from_pretrained(minisd, safety_checker=None,
                                                             torch_dtype=torch.float16))
for name, (kind, pipe) in pipes.items():
    pipe.save_pretrained(f"{name}-base")
    drop_weights(f"{name}-base", f"{name}-configs")
    for dtype in (torch.float32, torch.float16, torch.bfloat16) if name in ("sd1", "sd2") else (None,):
        label = f"{name} {str(dtype).removeprefix('torch.')}"
        state = ldm.checkpoint(pipe, kind, dtype)
        save_file(state, "one.safetensors")
        torch.save(ldm.lightning(state), "one.ckpt")
        theirs = StableDiffusionPipeline.from_single_file("one.safetensors", config=f"{name}-base",
                                                          local_files_only=True, torch_dtype=dtype or pipe.dtype,
                                                          safety_checker=None)
        want = tensors(theirs)
        for file in ("one.safetensors", "one.ckpt"):
            out = f"{name}-{dtype}-{file}"
            got = convert(f"{name}-configs", out, "--checkpoint", file)
            report(f"{label}, {file}", got, want)
        if dtype == torch.float32:
            for option in (torch.float16, torch.bfloat16):
                short = {torch.float16: "f16", torch.bfloat16: "bf16"}[option]
                got = convert(f"{name}-configs", f"{out}-{short}", "--checkpoint", "one.ckpt", "--dtype", short)
                report(f"{label} as {short}", got,
                       {p: {n: t.to(option) for n, t in of.items()} for p, of in want.items()})
    again = StableDiffusionPipeline.from_pretrained(out, safety_checker=None, torch_dtype=dtype or pipe.dtype)
    report(f"{name}, from_pretrained", tensors(again), want)

pipe = pipes["sd1"][1]
save_file(ldm.checkpoint(pipe, 1, ema=True), "ema.safetensors")
want = tensors(pipe)
report("running means not taken", convert("sd1-configs", "ema-no", "--checkpoint", "ema.safetensors"), want)
want["unet"] = {n: t*0.5 for n, t in want["unet"].items()}
report("running means taken", convert("sd1-configs", "ema-yes", "--checkpoint", "ema.safetensors", "--ema"), want)

other = ldm.pipeline(f"{minisd}/tokenizer", seed=9, **shapes["sd1"][1])
save_file(ldm.vae_tensors(other.vae), "vae.safetensors")
save_file({"first_stage_model." + n: t for n, t in ldm.vae_tensors(other.vae).items()}, "vae-prefix.safetensors")
want = tensors(pipe)
want["vae"] = {n: t for n, t in AutoencoderKL.from_single_file("vae.safetensors", config="sd1-base", subfolder="vae",
                                                                local_files_only=True).state_dict().items()}
for file in ("vae.safetensors", "vae-prefix.safetensors"):
    report(file, convert("sd1-base", f"out-{file}", "--vae", file), want)
other.vae.save_pretrained("vae-folder")
report("VAE in diffusers' names", convert("sd1-base", "out-vae", "--vae",
                                          "vae-folder/diffusion_pytorch_model.safetensors"), want)

want = tensors(pipe)
want["unet"] = dict(other.unet.state_dict())
state = ldm.checkpoint(other, 1)
save_file({n: t for n, t in state.items() if n.startswith("model.diff")}, "unet.safetensors")
save_file({n.removeprefix("model.diffusion_model."): t for n, t in state.items() if n.startswith("model.diff")},
          "unet-bare.safetensors")
save_file(dict(other.unet.state_dict()), "unet-diffusers.safetensors")
for file in ("unet.safetensors", "unet-bare.safetensors", "unet-diffusers.safetensors"):
    report(file, convert("sd1-base", f"out-{file}", "--checkpoint", file), want)

# ---- LoRA ----

def config(names):
    return LoraConfig(r=4, lora_alpha=6, target_modules=names, init_lora_weights="gaussian")


for name in ("sd1", "sd2"):
    pipe = pipes[name][1]
    attention = {"unet": ldm.changes(pipe.unet, ["attn1.to", "attn2.to"], [4], 1),
                 "te": ldm.changes(pipe.text_encoder, ["self_attn", "mlp"], [4], 2)}
    half = lambda n, r: 2
    save_file(ldm.kohya(attention, half), "kohya.safetensors")
    torch.save(ldm.kohya(attention, half), "kohya.pt")
    attention["scale"] = lambda n, r: 2/r
    compare_lora(f"{name} kohya", f"{name}-base", [("kohya.safetensors", 0.75)], [(0.75, attention)])
    whole = {"unet": ldm.changes(pipe.unet, ["attentions", "resnets", "samplers", "time_emb", "conv_in"], [2, 3, 8], 3)}
    save_file(ldm.kohya({"unet": whole["unet"]}, lambda n, r: 3), "locon.safetensors")
    whole["scale"] = lambda n, r: 3/r
    compare_lora(f"{name} convolutions", f"{name}-base", [("locon.safetensors", 1)], [(1, whole)])
    compare_lora(f"{name} two files", f"{name}-base", [("kohya.safetensors", -0.5), ("locon.safetensors", 0.25)],
                 [(-0.5, attention), (0.25, whole)])

    several = dict(whole)           # diffusers 0.42 loses the alpha of an attention's layer where there are several
    save_file(ldm.kohya({"unet": whole["unet"]}, lambda n, r: 1 + n % 3), "alphas.safetensors")
    several["scale"] = lambda n, r: (1 + n % 3)/r
    compare_lora(f"{name} several alphas", f"{name}-base", [("alphas.safetensors", 1)], [(1, several)], beside=False)

    adapted = copy.deepcopy(pipe)
    layers = {"unet": ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"],
              "te": ["q_proj", "k_proj", "v_proj", "out_proj"]}
    sides, pairs = adapters(adapted, layers, config)
    StableDiffusionPipeline.save_lora_weights("peft", unet_lora_layers=sides["unet"],
                                              text_encoder_lora_layers=sides["te"],
                                              unet_lora_adapter_metadata=config(layers["unet"]).to_dict(),
                                              text_encoder_lora_adapter_metadata=config(layers["te"]).to_dict())
    pairs["scale"] = lambda n, r: 1.5
    compare_lora(f"{name} PEFT", f"{name}-base", [("peft/pytorch_lora_weights.safetensors", 1)], [(1, pairs)])
    plain = {f"{'unet' if key == 'unet' else 'text_encoder'}.{n}": t for key, s in sides.items() for n, t in s.items()}
    save_file(plain, "plain.safetensors")
    pairs["scale"] = lambda n, r: 1
    compare_lora(f"{name} PEFT without alpha", f"{name}-base", [("plain.safetensors", 2)], [(2, pairs)])

    first = {"unet": ldm.changes(pipe.unet, ["attn1.to", "attn2.to"], [3], 5),
             "te": ldm.changes(pipe.text_encoder, ["q_proj", "out_proj"], [3], 6)}
    save_file(first_names(first), "first.safetensors")
    compare_lora(f"{name} diffusers' first", f"{name}-base", [("first.safetensors", 1)], [(1, first)])
sys.exit(bool(failures))
