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
import json, os, subprocess, sys, tempfile
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
import ldm

minisd = os.path.abspath(sys.argv[1])
here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
torch.manual_seed(0)
open("expected", "w").close()
NAMES = {"unet": "unet/diffusion_pytorch_model.safetensors", "vae": "vae/diffusion_pytorch_model.safetensors",
         "text_encoder": "text_encoder/model.safetensors"}


def pack(path):
    subprocess.run(["zstd", "-q", "-f", "-19", "--rm", path], check=True)


def tensors(pipe):
    return {p: {("text_model." if p == "text_encoder" else "") + n.removeprefix("text_model."): t
                for n, t in getattr(pipe, p).state_dict().items() if not n.endswith("position_ids")} for p in NAMES}


def listed(parts, name):
    """What tests/tensors.py says of a folder with these parts."""
    with tempfile.TemporaryDirectory() as folder:
        for part, file in NAMES.items():
            os.makedirs(f"{folder}/{part}")
            save_file({n: t.contiguous() for n, t in parts[part].items()}, f"{folder}/{file}")
        text = subprocess.run(["../../tensors.py", folder], check=True, capture_output=True, text=True).stdout
    with open("expected", "a") as f:
        f.writelines(f"{name} {line}\n" for line in text.splitlines())


def close(a, b):
    for part in a:
        for n in a[part]:
            x, y = a[part][n].float(), b[part][n].float()
            assert torch.allclose(x, y, rtol=0, atol=4e-6*float(x.abs().max())), n


tiny = dict(widths=(4, 8), groups=2, vae_widths=(4, 4), text=4, text_layers=2)
with tempfile.TemporaryDirectory() as work:
    for kind in (1, 2):
        pipe = ldm.pipeline(f"{minisd}/tokenizer", seed=kind, **tiny, linear=kind == 2,
                            act="gelu" if kind == 2 else "quick_gelu").to(torch.float16)
        base = f"{work}/{kind}"
        pipe.save_pretrained(base)
        for part in NAMES:
            os.makedirs(f"{kind}/{part}", exist_ok=True)
            with open(f"{base}/{part}/config.json") as f, open(f"{kind}/{part}/config.json", "w") as g:
                g.write(f.read())
        with open(f"{base}/model_index.json") as f, open(f"{kind}/model_index.json", "w") as g:
            g.write(f.read())
        state = ldm.checkpoint(pipe, kind)
        save_file(state, f"{kind}.safetensors")
        loaded = StableDiffusionPipeline.from_single_file(f"{kind}.safetensors", config=base, local_files_only=True,
                                                          torch_dtype=torch.float16)
        listed(tensors(loaded), kind)
        if kind == 1:
            torch.save(ldm.lightning(state), "1.ckpt")
            pack("1.ckpt")
            first = pipe
        pack(f"{kind}.safetensors")

    def lora(name, file, strength, changes, scale):
        """changes: {"unet": ..., "te": ...}; scale: alpha/rank by the layer's number and rank"""
        whole = StableDiffusionPipeline.from_pretrained(f"{work}/1", torch_dtype=torch.float32)
        want = tensors(whole)
        for part, key in (("unet", "unet"), ("text_encoder", "te")):
            for n, (path, pair) in enumerate(changes.get(key, {}).items()):
                path = ("text_model." if key == "te" else "") + path.removeprefix("text_model.") + ".weight"
                want[part][path] = ldm.merged(want[part][path], [(strength*scale(n, pair[0].shape[0]), *pair)])
        whole.load_lora_weights(file)
        whole.fuse_lora(lora_scale=strength)
        whole.unload_lora_weights()
        close(tensors(whole), want)
        listed(want, f"{name}.f32")
        listed({p: {n: t.half() for n, t in w.items()} for p, w in want.items()}, f"{name}.f16")

    half = lambda of: {k: {n: (d.half(), u.half()) for n, (d, u) in c.items()} for k, c in of.items()}
    changes = half({"unet": ldm.changes(first.unet, ["attentions", "resnets", "samplers"], [1, 2], 1),
                    "te": ldm.changes(first.text_encoder, ["self_attn", "mlp"], [2], 2)})
    save_file(ldm.kohya(changes, lambda n, r: 1.5), "kohya.safetensors")
    lora("kohya", "kohya.safetensors", 0.75, changes, lambda n, r: 1.5/r)

    changes = half({"unet": ldm.changes(first.unet, ["attn2.to", "conv1"], [2], 3),
                    "te": ldm.changes(first.text_encoder, ["q_proj"], [2], 4)})
    peft = {f"{'unet' if k == 'unet' else 'text_encoder'}.{n}.lora_{x}.weight": t
            for k, c in changes.items() for n, pair in c.items() for x, t in zip("AB", pair)}
    told = {f"{part}.{key}": value for part, layers in (("unet", ["to_q", "to_k", "to_v", "to_out.0", "conv1"]),
                                                        ("text_encoder", ["q_proj"]))
            for key, value in {"r": 2, "lora_alpha": 3, "target_modules": layers, "use_dora": False,
                               "use_rslora": False, "alpha_pattern": {}, "rank_pattern": {}}.items()}
    save_file(peft, "peft.safetensors", metadata={"format": "pt", "lora_adapter_metadata": json.dumps(told)})
    lora("peft", "peft.safetensors", 1, changes, lambda n, r: 1.5)

    changes = half({"unet": ldm.changes(first.unet, ["attn1.to"], [2], 5),
                    "te": ldm.changes(first.text_encoder, ["out_proj"], [2], 6)})
    old = {}
    for n, pair in changes["unet"].items():
        head, tail = n.split(".to_")
        for way, t in zip(("down", "up"), pair):
            old[f"unet.{head}.processor.to_{tail.removesuffix('.0')}_lora.{way}.weight"] = t
    for n, pair in changes["te"].items():
        for way, t in zip(("down", "up"), pair):
            old[f"text_encoder.text_model.{n.removeprefix('text_model.')}.lora_linear_layer.{way}.weight"] = t
    save_file(old, "first.safetensors")
    lora("first", "first.safetensors", -1, changes, lambda n, r: 1)

pipe = StableDiffusionPipeline.from_pretrained(minisd, torch_dtype=torch.float32)
changes = {"unet": ldm.changes(pipe.unet, ["up_blocks.0.attentions.1.transformer_blocks.0.attn2",
                                           "up_blocks.1.attentions.0.transformer_blocks.0.attn2"], [2], 7, 0.12),
           "te": ldm.changes(pipe.text_encoder, ["layers.1.self_attn"], [2], 8, 0.12)}
changes = {k: {n: (d.half(), u.half()) for n, (d, u) in c.items()} for k, c in changes.items()}
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
