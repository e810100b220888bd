#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_init.py -- writes init.safetensors: minisd's pictures that begin with other pictures, with diffusers 0.42 in
float32.

    a, b            pictures (H,W,3) to begin with: a is run1's, b is a part of it blown up, so that it must be brought to
                    128x128 (Pillow, bicubic: the least that covers that, its middle)
    0, 1, ...       final latents (4,16,16) of the runs in the file's metadata "runs": picture, sampler, steps, guidance,
                    strength, inversion, push, timesteps

Without an inversion they are StableDiffusionImg2ImgPipeline's. With "ddpm" they are of Huberman-Spiegelglas et al. 2024
(arXiv 2304.06140), section 3.1, taken literally: noise maps are worked out of the picture's own noised latents, step by
step with eta = 1, and then sampled with; at the end, where there is no noise, the map is what is missing to the picture.
While sampling, `push` times a fixed vector is added to the conditional half of HOOK's output, as a steering would.
"""
import json, os, numpy as np, torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline)
from PIL import Image
from safetensors.torch import load_file, save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))
model = "../../data/minisd/model"
PROMPT, SEED, HOOK = "A dog in Winter style.", 11, "up_blocks.1.attentions.1"

pipe = StableDiffusionImg2ImgPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None,
                                                      feature_extractor=None, requires_safety_checker=False)
pipe.set_progress_bar_config(disable=True)
config = pipe.scheduler.config
samplers = {"ddim": lambda: DDIMScheduler.from_config(config),
            "dpm++2m": lambda: DPMSolverMultistepScheduler.from_config(config),
            "dpm++2m-karras": lambda: DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True),
            "euler": lambda: EulerDiscreteScheduler.from_config(config),
            "euler-a": lambda: EulerAncestralDiscreteScheduler.from_config(config)}

a = load_file("../golden/run1.safetensors")["image"].contiguous()
b = torch.from_numpy(np.asarray(Image.fromarray(a.numpy()).crop((10, 20, 110, 100)).resize((250, 200)))).contiguous()


def covering(image, size):
    """Pillow's, bicubic: the least that covers size x size, and its middle."""
    picture = Image.fromarray(image.numpy())
    W, H = picture.size
    W, H = (int(size * W / H), size) if H < W else (size, int(size * H / W))
    picture = picture.resize((W, H), Image.BICUBIC)
    left, top = (W - size) // 2, (H - size) // 2
    return picture.crop((left, top, left + size, top + size))


@torch.no_grad()
def edit_friendly(picture, steps, guidance, strength, push):
    d, n = DDIMScheduler.from_config(config), int(steps * strength)
    d.set_timesteps(steps)
    timesteps = d.timesteps[steps - n:]
    states = torch.cat(pipe.encode_prompt(PROMPT, "cpu", 1, True)[::-1])
    x = torch.from_numpy(np.asarray(picture)).float().permute(2, 0, 1)[None] / 127.5 - 1
    z0 = pipe.vae.encode(x).latent_dist.mode() * pipe.vae.config.scaling_factor
    generator = torch.Generator("cpu").manual_seed(SEED)
    own = [d.add_noise(z0, torch.randn(z0.shape, generator=generator), t) for t in timesteps] + [z0]

    def mean(x, t):
        """of the step before, and the deviation of its noise"""
        before = int(t) - d.config.num_train_timesteps // steps
        a_t, a_before = d.alphas_cumprod[t], d.alphas_cumprod[before] if before >= 0 else d.final_alpha_cumprod
        uncond, cond = pipe.unet(torch.cat([x, x]), t, encoder_hidden_states=states).sample.chunk(2)
        eps = uncond + guidance * (cond - uncond)
        x0 = (x - (1 - a_t) ** 0.5 * eps) / a_t ** 0.5
        variance = (1 - a_before) / (1 - a_t) * (1 - a_t / a_before)
        return a_before ** 0.5 * x0 + (1 - a_before - variance) ** 0.5 * eps, variance ** 0.5

    maps = []
    for i, t in enumerate(timesteps):
        mu, sigma = mean(own[i], t)
        maps.append((own[i + 1] - mu) / (sigma if sigma > 0 else 1))
    vector = torch.sin(torch.arange(pipe.unet.get_submodule(HOOK).in_channels).float())[:, None, None] * push
    handle = pipe.unet.get_submodule(HOOK).register_forward_hook(
        lambda m, i, o: (torch.cat([o[0][:1], o[0][1:] + vector]),))
    x = own[0]
    for i, t in enumerate(timesteps):
        mu, sigma = mean(x, t)
        x = mu + (sigma if sigma > 0 else 1) * maps[i]
    handle.remove()
    return x[0], timesteps


latents, runs = {"a": a, "b": b}, []
cases = [("a", s, n, 4.0, strength, "none", 0) for s in samplers for n, strength in ((10, 0.8), (7, 0.5), (6, 1.0))]
cases += [("a", "ddim", 10, 1.0, 0.29, "none", 0), ("b", "ddim", 10, 4.0, 0.6, "none", 0)]
cases += [("a", "ddim", 10, g, strength, "ddpm", push) for g, strength, push in
          ((4.0, 1.0, 0), (4.0, 1.0, 1.5), (4.0, 0.6, 3), (1.0, 1.0, 1.5), (7.5, 0.5, -2))]
cases += [("b", "ddim", 5, 4.0, 1.0, "ddpm", 1)]
for picture, sampler, steps, guidance, strength, inversion, push in cases:
    start = covering(latents[picture], 128)
    if inversion == "ddpm":
        latent, timesteps = edit_friendly(start, steps, guidance, strength, push)
    else:
        pipe.scheduler = samplers[sampler]()
        latent = pipe(PROMPT, image=start, strength=strength, num_inference_steps=steps, guidance_scale=guidance,
                      output_type="latent", generator=torch.Generator("cpu").manual_seed(SEED)).images[0]
        timesteps = pipe.scheduler.timesteps[steps - int(steps * strength):]
    latents[str(len(runs))] = latent.contiguous()
    runs.append({"picture": picture, "sampler": sampler, "steps": steps, "guidance": guidance, "strength": strength,
                 "inversion": inversion, "push": push, "timesteps": [round(float(t)) for t in timesteps]})
save_file(latents, "init.safetensors",
          {"prompt": PROMPT, "seed": str(SEED), "hook": HOOK, "runs": json.dumps(runs, separators=(",", ":"))})
