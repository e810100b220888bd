# SPDX-License-Identifier: MIT
"""Random small Stable Diffusions, drawn by StableDiffusionPipeline and by the programs, in float32.

    PATH=bin:$PATH python3 sweep_sd.py FOLDER [FIRST [COUNT]]       FOLDER: for the models; tests/golden-more is read

As sweep_sdxl.py, of models with one text encoder and a VAE of another config each; by one of nine samplers, from noise
or from pictures (StableDiffusionImg2ImgPipeline), and the errors of the pictures in place of the pooled embeddings'.
Exits 77 where torch, diffusers or transformers are missing.
"""
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

from sweep_sdxl import NEGATIVE, PROMPTS, TESTS, error, records, sweep, tensor, text_encoder, unsettle

try:
    import torch
    from PIL import Image
    from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                           EulerDiscreteScheduler, LCMScheduler, PNDMScheduler, StableDiffusionImg2ImgPipeline,
                           StableDiffusionPipeline, UNet2DConditionModel, UniPCMultistepScheduler)
    from transformers import CLIPTextModel, CLIPTokenizer
except ImportError:
    sys.exit(77)

SAMPLERS = {"ddim": (DDIMScheduler, {}), "pndm": (PNDMScheduler, {}),
            "dpm++2m": (DPMSolverMultistepScheduler, {}),
            "dpm++2m-karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
            "unipc": (UniPCMultistepScheduler, {}),
            "unipc-karras": (UniPCMultistepScheduler, {"use_karras_sigmas": True}),
            "euler": (EulerDiscreteScheduler, {}), "euler-a": (EulerAncestralDiscreteScheduler, {}),
            "lcm": (LCMScheduler, {})}


def unet(rng, width):
    levels = rng.choice((1, 2, 3, 3, 4))
    with_text = [rng.random() < 0.7 for _ in range(levels)]
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=[rng.choice((16, 24, 32, 64)) for _ in range(levels)],
        layers_per_block=rng.choice((1, 2, [rng.choice((1, 2, 3)) for _ in range(levels)])),
        norm_num_groups=rng.choice((2, 4, 8)), norm_eps=rng.choice((1e-5, 1e-6, 1e-4)), cross_attention_dim=width,
        transformer_layers_per_block=rng.choice((1, 2)), upcast_attention=rng.random() < 0.3,
        attention_head_dim=rng.choice((1, 2, 8, [rng.choice((1, 2, 4)) for _ in range(levels)])),
        use_linear_projection=rng.random() < 0.5, flip_sin_to_cos=rng.random() < 0.8, freq_shift=rng.choice((0, 0, 1)),
        time_embedding_dim=rng.choice((None, None, 40)), downsample_padding=rng.choice((1, 1, 0)),
        conv_in_kernel=rng.choice((3, 3, 1, 5)), conv_out_kernel=rng.choice((3, 3, 1, 5)),
        act_fn=rng.choice(("silu", "swish")), time_cond_proj_dim=rng.choice((None, None, None, 33)),
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in with_text],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(with_text)])


def autoencoder(rng):
    levels = rng.choice((1, 2, 3, 4))
    return AutoencoderKL(
        block_out_channels=[rng.choice((4, 8, 12)) for _ in range(levels)], layers_per_block=rng.choice((1, 2, 3)),
        norm_num_groups=rng.choice((1, 2, 4)), latent_channels=4, scaling_factor=rng.choice((0.18215, 0.13025, 1.5)),
        use_quant_conv=rng.random() < 0.7, use_post_quant_conv=rng.random() < 0.7,
        mid_block_add_attention=rng.random() < 0.7, down_block_types=("DownEncoderBlock2D",)*levels,
        up_block_types=("UpDecoderBlock2D",)*levels)


def pipeline(rng, tokenizer):
    text, width = text_encoder(rng, CLIPTextModel, len(tokenizer), tokenizer.model_max_length)
    scheduler = DDIMScheduler(
        num_train_timesteps=rng.choice((1000, 1000, 250)), beta_start=rng.choice((0.00085, 0.0001)),
        beta_end=rng.choice((0.012, 0.02)), beta_schedule=rng.choice(("scaled_linear", "linear", "squaredcos_cap_v2")),
        clip_sample=False, set_alpha_to_one=rng.random() < 0.3, steps_offset=rng.choice((0, 1)),
        prediction_type=rng.choice(("epsilon", "epsilon", "v_prediction")),
        timestep_spacing=rng.choice(("leading", "trailing")))
    parts = dict(text_encoder=text, vae=autoencoder(rng), unet=unet(rng, width))
    unsettle(parts)
    return StableDiffusionPipeline(tokenizer=tokenizer, scheduler=scheduler, safety_checker=None,
                                   feature_extractor=None, requires_safety_checker=False, **parts)


def compare(number, folder):
    rng = random.Random(number)
    torch.manual_seed(number)
    tokenizer = CLIPTokenizer.from_pretrained(TESTS/"golden-more/sdxl/tokenizer")
    p = pipeline(rng, tokenizer)
    p.save_pretrained(folder)
    shutil.rmtree(folder/"tokenizer")                   # the files as they are, whatever this transformers writes
    shutil.copytree(TESTS/"golden-more/sdxl/tokenizer", folder/"tokenizer")
    guidance, negative, steps = rng.choice((1.0, 3.0, 7.5)), rng.choice((None, NEGATIVE)), rng.choice((2, 3, 5, 16))
    cell = 2**(len(p.vae.config.block_out_channels) - 1)
    least = 2**(len(p.unet.config.block_out_channels) - 1)      # latents of other sizes are resized on the way up
    height, width = (cell*least*rng.choice((1, 2, 3, 5)) if least > 1 else cell*rng.choice((4, 5, 8))
                     for _ in range(2))
    height, width = (max(-(-s//8)*8, 8) for s in (height, width))       # diffusers draws multiples of 8
    names = [n for n, _ in p.unet.named_modules() if n.rpartition(".")[0].endswith(("attentions", "resnets"))]
    hook, sampler = rng.choice(names), rng.choice(list(SAMPLERS))
    init = rng.random() < 0.4 and sampler != "pndm"     # which begins anew there, where diffusers goes on
    strength = rng.choice((0.5, 0.8, 1.0))
    kind, options = SAMPLERS[sampler]
    p.scheduler = kind.from_config(p.scheduler.config, **options)
    can_skip = p.text_encoder.config.num_hidden_layers > 1 and hasattr(p.text_encoder, "text_model")
    skip = rng.choice((None, 1)) if can_skip else None          # the pipeline of diffusers 0.42 cannot with transformers 5
    told = p.unet.config.time_cond_proj_dim is not None
    about = f"{number}: {height}x{width}, guidance {guidance}{' in the UNet' if told else ''}, " \
            f"{'negative, ' if negative else ''}{'clip skip, ' if skip else ''}{steps} steps of {sampler}, {hook}" \
            f"{f', init {strength}' if init else ''}"

    state = p.encode_prompt(PROMPTS, "cpu", 1, False, clip_skip=skip)[0]
    seen = []
    handle = p.unet.get_submodule(hook).register_forward_hook(
        lambda m, i, o: seen.append((o[0] if isinstance(o, tuple) else o).clone()))
    seeds = [torch.Generator().manual_seed(s) for s in (1, 2)]
    says = dict(prompt=PROMPTS, negative_prompt=negative and [negative]*2, guidance_scale=guidance,
                num_inference_steps=steps, output_type="latent", clip_skip=skip, generator=seeds)
    start = ""
    if init:
        pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder/"start.png")
        drawer = StableDiffusionImg2ImgPipeline(**p.components, requires_safety_checker=False)
        start = f"--init {folder}/start.png --strength {strength} "
        says.update(image=Image.open(folder/"start.png"), strength=strength)
    else:
        drawer = p
        says.update(height=height, width=width)
    drawer.set_progress_bar_config(disable=True)
    try:
        latents = drawer(**says).images
    except Exception as why:                            # not every scheduler takes every config and number of steps
        print(f"{about}: diffusers: {why}", flush=True)
        return (0,)*4
    finally:
        handle.remove()
    picture = p.vae.decode(latents/p.vae.config.scaling_factor).sample.permute(0, 2, 3, 1)
    acts = torch.stack([s.chunk(2)[1] if guidance > 1 and not told else s for s in seen], 1).movedim(2, -1)

    lines = "".join(json.dumps({"prompt": t, "seed": i}) + "\n" for i, t in enumerate(PROMPTS, 1)).encode()
    encode = (f"sd-encode-text -q --no-compress -m {folder} --clip-skip {skip or 0}"
              + (f" -n '{negative}'" if negative else ""))
    sample = (f"sd-sample-hooked -q --no-compress -m {folder} --steps {steps} --guidance {guidance} --height {height} "
              f"--width {width} --sampler {sampler} {start}")
    try:
        texts = records(encode, lines)
        drawn = records(f"{encode} | {sample} --no-activations --latents -", lines)
        images = records(f"{encode} | {sample} --no-activations --images -", lines)
        hooked = records(f"{encode} | {sample} --act-type f32 --hook {hook}", lines)
    except subprocess.CalledProcessError as why:
        print(f"{about}: {why.stderr.decode().strip()}", flush=True)
        return (0,)*4
    got = torch.stack([tensor(r["act"]) for r in hooked]).reshape(acts.shape)
    pixels = (picture/2 + 0.5).clamp(0, 1)
    off = torch.stack([tensor(r["image"]) for r in images])/255 - pixels
    errors = (error(torch.stack([tensor(r["state"]) for r in texts]), state), float(off.abs().max()), error(got, acts),
              error(torch.stack([tensor(r["latent"]) for r in drawn]), latents))
    print(f"{about}: states {errors[0]:.1e}, pictures {errors[1]:.1e}, activations {errors[2]:.1e}, latents "
          f"{errors[3]:.1e}", flush=True)
    return errors


if __name__ == "__main__":
    with torch.no_grad():
        sweep(compare, Path(sys.argv[1]), *map(int, sys.argv[2:]))
