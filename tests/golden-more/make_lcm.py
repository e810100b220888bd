#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_lcm.py -- writes what belongs to latent consistency models, with diffusers 0.42, peft, transformers, torch.

    lcm.json        configs, steps, xl, begin; of each LCMScheduler as StableDiffusionPipeline has it, or XL's, or
                    from_config makes it of what they have: from step `begin` on its timesteps, and x before each step
                    and after the last, from [2, -1, 0.5, 0], with the UNet's output sin(t/100 + i) and the noise of a
                    generator of seed 7
    lcm/unet        a small UNet of random weights in half precision that is told its guidance ("time_cond_proj_dim")
    lcm_runs.safetensors
                    final latents of StableDiffusionPipeline and LCMScheduler, as pndm_runs.safetensors has them: with
                    minisd; with lcm/unet for its UNet where a run has "unet"; with the LoRA of lcm_lora.py, all of it,
                    where a run has "lora". guidance.G: what lcm/unet says of x and state at t = 499 with guidance G,
                    guidance.none without
    lcm_init.safetensors
                    runs that begin with a picture, as init.safetensors has them
"""
import json, os, subprocess, sys, tempfile, diffusers, numpy as np, torch
from diffusers import LCMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.configuration_utils import FrozenDict
from PIL import Image
from safetensors.torch import load_file, save_file
from configs import minisd, sd14

os.chdir(os.path.dirname(os.path.abspath(__file__)))
model = "../../data/minisd/model"
PROMPT, SEED = "A cat in Neon Lines style.", 42

# the schedule

own = {"_class_name": "LCMScheduler"}
dreamshaper = dict(own, beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, clip_sample=True,
                   clip_sample_range=1.0, num_train_timesteps=1000, original_inference_steps=50,
                   prediction_type="epsilon", rescale_betas_zero_snr=False, set_alpha_to_one=True, steps_offset=0,
                   thresholding=False, timestep_scaling=10.0, timestep_spacing="leading", trained_betas=None)
v = dict(own, prediction_type="v_prediction")
cases = [(dreamshaper, n, 0, False) for n in (1, 2, 3, 4, 7, 8, 25, 50)] + [(c, 4, 0, False) for c in (sd14, minisd)]
cases += [(own, 5, 0, False), (v, 4, 0, False), (v, 13, 0, False), (dict(own, prediction_type="sample"), 6, 0, False),
          (dict(v, rescale_betas_zero_snr=True), 6, 0, False),
          (dict(own, original_inference_steps=100, timestep_scaling=3.5), 9, 0, False),
          (dict(own, original_inference_steps=33, beta_schedule="squaredcos_cap_v2", num_train_timesteps=777), 10, 0,
           False),
          (dict(own, original_inference_steps=1000), 11, 0, False),
          (dict(own, timestep_scaling=0), 3, 0, False), (dict(own, timestep_spacing="trailing", steps_offset=4), 3, 0,
                                                         False),
          ({"_class_name": "DDIMScheduler"}, 4, 0, False), ({"_class_name": "EulerDiscreteScheduler"}, 4, 0, True),
          ({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}, 4, 0, True), (own, 4, 0, True)]
cases += [(dreamshaper, n, begin, False) for n, begin in ((4, 1), (4, 3), (8, 5), (10, 2))]
runs = []
for config, n, begin, xl in cases:
    d = getattr(diffusers, config["_class_name"]).from_config(config)
    if not xl:                                                          # what the pipeline sets
        d._internal_dict = FrozenDict(dict(d.config, steps_offset=1, clip_sample=False))
    d = d if isinstance(d, LCMScheduler) else LCMScheduler.from_config(d.config)
    d.set_timesteps(n)
    d.set_begin_index(begin)
    generator = torch.Generator("cpu").manual_seed(7)
    x = torch.tensor([2, -1, 0.5, 0])
    rows = []
    for t in d.timesteps[begin:]:
        rows.append([int(t)] + x.tolist())
        out = torch.from_numpy(np.sin(int(t) / 100 + np.arange(4)).astype(np.float32))
        x = d.step(out, t, x, generator=generator).prev_sample
    rows.append([0] + x.tolist())
    rows = [[r[0]] + [float(f"{value:.9g}") for value in r[1:]] for r in rows]
    runs.append({"config": config, "steps": n, "begin": begin, "xl": xl, "rows": rows})
with open("lcm.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

# a UNet that is told its guidance

torch.manual_seed(23)
told = UNet2DConditionModel(
    sample_size=16, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=128,
    attention_head_dim=2, time_cond_proj_dim=33, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
for p in told.parameters():
    p.data = (p.data + 0.1 * torch.randn(p.shape)).half().float() if p.ndim == 1 else (2 * p.data).half().float()
told.half().save_pretrained("lcm/unet")
told = told.float().eval()

# whole runs


@torch.no_grad()
def main():
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    small, latents, runs = pipe.unet, {}, []

    def draw(config, steps, guidance, **more):
        pipe.scheduler = LCMScheduler.from_config(config, clip_sample=False)        # as the pipeline sets it
        latents[str(len(runs))] = pipe(PROMPT, num_inference_steps=steps, guidance_scale=guidance,
                                       output_type="latent",
                                       generator=torch.Generator("cpu").manual_seed(SEED)).images[0].contiguous()
        runs.append(dict({"config": config, "steps": steps, "guidance": guidance,
                          "timesteps": pipe.scheduler.timesteps.tolist()}, **more))

    for config, steps, guidance in ((minisd, 1, 1.0), (minisd, 2, 1.5), (minisd, 4, 1.0), (minisd, 4, 1.5),
                                    (minisd, 8, 1.5), (dict(minisd, prediction_type="v_prediction"), 4, 1.5),
                                    (dreamshaper, 4, 2.0)):
        draw(config, steps, guidance)
    pipe.unet = told
    for steps, guidance in ((1, 7.5), (4, 8.5), (4, 1.0), (6, 2.0)):
        draw(dreamshaper, steps, guidance, unet="lcm")
    x, state = torch.randn(1, 4, 16, 16), pipe.encode_prompt(PROMPT, "cpu", 1, False)[0][:, :9]
    latents |= {"x": x, "state": state.contiguous()}
    for guidance in (None, 0.0, 8.5):
        cond = guidance if guidance is None else pipe.get_guidance_scale_embedding(torch.tensor([guidance - 1]), 33)
        latents[f"guidance.{'none' if guidance is None else guidance}"] = told(
            x, 499, encoder_hidden_states=state, timestep_cond=cond).sample.contiguous()
    pipe.unet = small
    with tempfile.TemporaryDirectory() as folder:
        lora = f"{folder}/pytorch_lora_weights.safetensors"
        subprocess.run([sys.executable, "lcm_lora.py", f"{model}/unet", lora], check=True)
        pipe.load_lora_weights(lora)
        pipe.fuse_lora()
        pipe.unload_lora_weights()
    draw(minisd, 4, 1.0, lora=True)
    draw(minisd, 4, 1.5, lora=True)
    save_file(latents, "lcm_runs.safetensors",
              {"prompt": PROMPT, "seed": str(SEED), "runs": json.dumps(runs, separators=(",", ":"))})

    # runs that begin with a picture

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None,
                                                          feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    c = load_file("../golden/run1.safetensors")["image"][30:78, 40:88].contiguous()
    start = Image.fromarray(c.numpy()).resize((128, 128), Image.BICUBIC)
    latents, runs = {"c": c}, []
    for steps, strength, guidance in ((4, 0.5, 1.5), (8, 0.8, 1.0), (4, 0.25, 1.0)):
        pipe.scheduler = LCMScheduler.from_config(minisd)
        latents[str(len(runs))] = pipe(PROMPT, image=start, strength=strength, num_inference_steps=steps,
                                       guidance_scale=guidance, output_type="latent",
                                       generator=torch.Generator("cpu").manual_seed(SEED)).images[0].contiguous()
        runs.append({"picture": "c", "sampler": "lcm", "steps": steps, "guidance": guidance, "strength": strength,
                     "inversion": "none", "push": 0,
                     "timesteps": pipe.scheduler.timesteps[steps - int(steps * strength):].tolist()})
    save_file(latents, "lcm_init.safetensors", {"prompt": PROMPT, "seed": str(SEED), "hook": "up_blocks.1.attentions.1",
                                                "runs": json.dumps(runs, separators=(",", ":"))})


main()
