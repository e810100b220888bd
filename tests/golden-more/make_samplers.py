#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_samplers.py -- writes dpm.json, euler.json, pndm.json and whole runs, with diffusers 0.42, transformers, torch.

    dpm.json        configs, steps, karras, v_prediction; of each DPMSolverMultistepScheduler made from the config
                    (from_config): its timesteps, and x after each step from x = [2, -1, 0.5, 0] with the UNet's output
                    sin(t/100 + i)
    euler.json      the same of EulerDiscreteScheduler and, ancestral, EulerAncestralDiscreteScheduler with the noise of
                    a generator of seed 7, for Stable Diffusion's pipeline and XL's; timesteps as the UNet is told them,
                    x as the UNet is given it (scale_model_input), also before the first step, from the same values
    pndm.json       as dpm.json, of PNDMScheduler as StableDiffusionPipeline has it, or XL's, or from_config makes it of
                    what they have; of each evaluation its timestep and x after it, to 9 digits
    dpm_run.safetensors, euler_run.safetensors
                    whole runs of minisd as tests/golden/run0.safetensors is one: dpm++2m-karras, 8 steps; euler-a, 6
    pndm_runs.safetensors
                    final latents of StableDiffusionPipeline with minisd and PNDMScheduler, one a run: prompt, seed in
                    the file's metadata, there "runs": of each its scheduler_config.json, steps, guidance, timesteps
"""
import json, os, diffusers, numpy as np, torch
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel)
from diffusers.configuration_utils import FrozenDict
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer
from configs import minisd, record_runs, sd14

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
model = "../../data/minisd/model"

plain = {"_class_name": "DPMSolverMultistepScheduler"}
cases = [(c, n, k) for c in (sd14, minisd) for n in (1, 2, 3, 14, 15, 20, 50) for k in (False, True)]
cases += [(dict(plain, timestep_spacing=s, beta_schedule=b, num_train_timesteps=T, prediction_type=p), n, False)
          for s in ("leading", "trailing", "linspace") for b in ("linear", "squaredcos_cap_v2")
          for T, n, p in ((1000, 48, "epsilon"), (777, 10, "v_prediction"))]
cases += [(dict(plain, beta_start=0.002), 12, True), (dict(plain, prediction_type="sample"), 12, False),
          (dict(sd14, final_sigmas_type="sigma_min"), 20, False),
          (dict(sd14, final_sigmas_type="sigma_min", lower_order_final=False), 10, True),
          (dict(sd14, final_sigmas_type="sigma_min", euler_at_final=True), 20, False),
          (dict(sd14, beta_schedule="squaredcos_cap_v2"), 2, True),
          (dict(plain, beta_schedule="squaredcos_cap_v2", num_train_timesteps=250), 4, True),
          (dict(sd14, final_sigmas_type="sigma_min"), 14, False), (dict(sd14, final_sigmas_type="sigma_min"), 15, False),
          (dict(sd14, solver_type="logrho", solver_order=2, algorithm_type="dpmsolver++"), 6, False),
          (dict(plain, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"), 20,
           False)]


def output(t, n):
    return torch.from_numpy(np.sin(t / 100 + np.arange(n)).astype(np.float32))


runs = []
for config, n, karras in cases:
    own = config["_class_name"] == plain["_class_name"] or "steps_offset" in config
    d = DPMSolverMultistepScheduler.from_config(dict(config, **({"steps_offset": 1} if own else {})),
                                                use_karras_sigmas=karras)        # as the pipeline sets it
    d.set_timesteps(n)
    x = torch.tensor([2, -1, 0.5, 0])
    rows = []
    for t in d.timesteps:
        x = d.step(output(int(t), 4), t, x).prev_sample
        rows.append([int(t)] + x.tolist())
    runs.append({"config": config, "steps": n, "karras": karras, "rows": rows})
with open("dpm.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

sdxl = dict(sd14, _class_name="EulerDiscreteScheduler", interpolation_type="linear", prediction_type="epsilon",
            sample_max_value=1.0, timestep_spacing="leading", use_karras_sigmas=False)
turbo = dict(sdxl, _class_name="EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
names = {False: "EulerDiscreteScheduler", True: "EulerAncestralDiscreteScheduler"}
cases = [(c, n, a, False) for c in (sd14, minisd) for n in (1, 2, 7, 20) for a in (False, True)]
cases += [(c, n, a, True) for c in (sdxl, turbo, dict(sdxl, steps_offset=3)) for n in (1, 4, 9) for a in (False, True)]
for s in ("leading", "trailing", "linspace"):
    for a in (False, True):
        own = {"_class_name": names[a], "timestep_spacing": s}
        cases += [(own, 13, a, False), (dict(own, beta_schedule="squaredcos_cap_v2", num_train_timesteps=777,
                                             prediction_type="v_prediction"), 10, a, False)]
cases += [(dict(sd14, final_sigmas_type="sigma_min"), 8, a, False) for a in (False, True)]
cases += [({"_class_name": names[a], "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
            "prediction_type": "v_prediction"}, 12, a, False) for a in (False, True)]

runs = []
for config, n, ancestral, xl in cases:
    kind = EulerAncestralDiscreteScheduler if ancestral else EulerDiscreteScheduler
    own = config["_class_name"] == names[ancestral] or "steps_offset" in config
    d = kind.from_config(dict(config, **({"steps_offset": 1} if own and not xl else {})))
    d.set_timesteps(n)
    generator = torch.Generator("cpu").manual_seed(7)
    x = torch.tensor([2, -1, 0.5, 0]) * d.init_noise_sigma
    rows = []
    for i, t in enumerate(d.timesteps):
        given = d.scale_model_input(x, t)
        rows.append([float(t)] + given.tolist())
        x = d.step(output(float(t), 4), t, x, generator=generator).prev_sample
    rows.append([0] + (x / (d.sigmas[-1] ** 2 + 1) ** 0.5).tolist())
    runs.append({"config": config, "steps": n, "ancestral": ancestral, "xl": xl, "rows": rows})
with open("euler.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

def of_pipeline(config, xl):
    """The PNDMScheduler that comes of a scheduler_config.json: StableDiffusionPipeline's, else made from its config."""
    d = getattr(diffusers, config["_class_name"]).from_config(config)
    if not xl:
        d._internal_dict = FrozenDict(dict(d.config, steps_offset=1))
    return d if isinstance(d, PNDMScheduler) else PNDMScheduler.from_config(d.config)


own = {"_class_name": "PNDMScheduler", "skip_prk_steps": True}
cases = [(sd14, n) for n in (1, 2, 3, 4, 5, 8, 20)] + [(minisd, n) for n in (4, 5, 9, 13)]
for s in ("leading", "trailing", "linspace"):
    cases += [(dict(sd14, timestep_spacing=s, set_alpha_to_one=a, prediction_type=p), n)
              for n, a, p in ((2, True, "epsilon"), (7, False, "v_prediction"))]
    cases += [(dict(own, timestep_spacing=s, beta_schedule="squaredcos_cap_v2", num_train_timesteps=777,
                    skip_prk_steps=skip), 6) for skip in (True, False)]
ddim, euler = ({"_class_name": name} for name in ("DDIMScheduler", "EulerDiscreteScheduler"))
cases += [(own, 3), (ddim, 6), (dict(euler, set_alpha_to_one=True), 6),
          (dict(own, skip_prk_steps=False, prediction_type="v_prediction", steps_offset=3), 5),
          (dict(ddim, thresholding=True, skip_prk_steps=True, timestep_spacing="trailing", rescale_betas_zero_snr=True,
                prediction_type="v_prediction"), 6),
          (dict(plain, beta_schedule="scaled_linear", steps_offset=0), 6),
          (dict(own, num_train_timesteps=8, trained_betas=[0.01 * i for i in range(1, 9)], timestep_spacing="linspace"),
           8)]
cases = [(c, n, False) for c, n in cases] + [(dict(sd14, steps_offset=3), 4, True), (euler, 5, True)]
runs = []
for config, n, xl in cases:
    d = of_pipeline(config, xl)
    d.set_timesteps(n)
    x = torch.tensor([2, -1, 0.5, 0])
    rows = []
    for t in d.timesteps:
        x = d.step(output(int(t), 4), int(t), x).prev_sample
        rows.append([int(t)] + [float(f"{v:.9g}") for v in x.tolist()])
    runs.append({"config": config, "steps": n, "xl": xl, "rows": rows})
with open("pndm.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

PROMPT, SEED, GUIDANCE, HOOK = "A cat in Neon Lines style.", 42, 4.0, "mid_block.attentions.0"
tokenizer = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")
encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder", torch_dtype=torch.float32).eval()
unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32).eval()
vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()
config = DDIMScheduler.from_pretrained(model, subfolder="scheduler").config
seen = []
unet.get_submodule(HOOK).register_forward_hook(
    lambda m, i, o: seen.append((o if torch.is_tensor(o) else o[0]).permute(0, 2, 3, 1).contiguous().clone()))


@torch.no_grad()
def whole_run(name, scheduler, steps, sampler, noisy):
    scheduler.set_timesteps(steps)
    seen.clear()
    ids = tokenizer(["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    states = encoder(ids).last_hidden_state
    generator = torch.Generator("cpu").manual_seed(SEED)
    x = torch.randn(1, 4, 16, 16, generator=generator) * scheduler.init_noise_sigma
    latents = [x]
    for t in scheduler.timesteps:
        given = scheduler.scale_model_input(x, t)
        uncond, cond = unet(torch.cat([given, given]), t, encoder_hidden_states=states).sample.chunk(2)
        x = scheduler.step(uncond + GUIDANCE * (cond - uncond), t, x,
                           **({"generator": generator} if noisy else {})).prev_sample
        latents.append(x)
    image = vae.decode(x / vae.config.scaling_factor).sample[0]
    image = ((image / 2 + 0.5).clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)
    save_file({"timesteps": scheduler.timesteps.round().int(), "latents": torch.cat(latents),
               "hook.output": torch.stack(seen), "image": image.contiguous()}, name,
              {"prompt": PROMPT, "seed": str(SEED), "steps": str(steps), "guidance": str(GUIDANCE), "hook": HOOK,
               "sampler": sampler})


whole_run("dpm_run.safetensors", DPMSolverMultistepScheduler.from_config(config, use_karras_sigmas=True), 8,
          "dpm++2m-karras", False)
whole_run("euler_run.safetensors", EulerAncestralDiscreteScheduler.from_config(config), 6, "euler-a", True)

pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
prk, v = dict(sd14, skip_prk_steps=False), dict(sd14, prediction_type="v_prediction")
cases = [(sd14, n, 4.0) for n in (1, 2, 3, 4, 5)]
cases += [(sd14, 9, 1.0), (sd14, 7, 7.5), (v, 5, 4.0), (prk, 4, 4.0), (prk, 6, 1.0),
          (dict(v, skip_prk_steps=False), 5, 4.0)]
record_runs("pndm_runs.safetensors", pipe, PNDMScheduler, cases, PROMPT, SEED)
