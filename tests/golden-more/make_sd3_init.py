#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_sd3_init.py -- writes sd3_init.safetensors: pictures of sd3/ that begin with another one, by diffusers 0.42's
StableDiffusion3Img2ImgPipeline in float32.

    picture         (H,W,3) to begin with
    mean            (16,h,w) of the VAE's posterior for it, as it is
    0, 1, ...       final latents (16,h,w) of the runs in the file's metadata "runs": steps, strength, guidance
"""
import json, os, torch
from diffusers import StableDiffusion3Img2ImgPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))
PROMPT, SEED, HEIGHT, WIDTH, T5_LENGTH = "a red tower", 11, 64, 48, 32
pipe = StableDiffusion3Img2ImgPipeline.from_pretrained("sd3", torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
picture = load_file("../golden/run1.safetensors")["image"][:HEIGHT, :WIDTH].contiguous()
pixels = picture.float().permute(2, 0, 1)[None]/127.5 - 1
with torch.no_grad():
    values = {"picture": picture, "mean": pipe.vae.encode(pixels).latent_dist.mean[0].contiguous()}
runs = [dict(steps=n, strength=s, guidance=g) for n, s, g in
        ((4, 0.5, 5.0), (7, 0.55, 5.0), (5, 1.0, 5.0), (6, 0.3, 1.0))]
for i, run in enumerate(runs):
    values[str(i)] = pipe(PROMPT, image=Image.fromarray(picture.numpy()), height=HEIGHT, width=WIDTH,
                          num_inference_steps=run["steps"], strength=run["strength"], guidance_scale=run["guidance"],
                          max_sequence_length=T5_LENGTH, output_type="latent",
                          generator=torch.Generator("cpu").manual_seed(SEED)).images[0].contiguous()
    run["timesteps"] = [round(float(t)) for t in pipe.scheduler.timesteps[run["steps"] - len(pipe.get_timesteps(
        run["steps"], run["strength"], "cpu")[0]):]]
save_file(values, "sd3_init.safetensors", {"prompt": PROMPT, "seed": str(SEED), "runs": json.dumps(runs)})
