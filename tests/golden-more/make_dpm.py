#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_dpm.py -- writes dpm.json and dpm_run.safetensors, with diffusers 0.42 or later, transformers, torch.

    dpm.json               configs, steps, karras, v_prediction; of each DPMSolverMultistepScheduler made from the config
                           (from_config): its timesteps, and x after each step from x = [2, -1, 0.5, 0] with the UNet's
                           output sin(t/100 + i)
    dpm_run.safetensors    a whole run of minisd as tests/golden/run0.safetensors is one, by dpm++2m-karras, 8 steps
"""
import json, os, numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
model = "../../data/minisd/model"

sd14 = {"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "trained_betas": None, "clip_sample": False}
minisd = json.load(open(f"{model}/scheduler/scheduler_config.json"))
plain = {"_class_name": "DPMSolverMultistepScheduler"}
cases = [(c, n, k) for c in (sd14, minisd) for n in (1, 2, 3, 14, 15, 20, 50) for k in (False, True)]
cases += [(dict(plain, timestep_spacing=s, beta_schedule=b, num_train_timesteps=T, prediction_type=p), n, False)
          for s in ("leading", "trailing", "linspace") for b in ("linear", "squaredcos_cap_v2")
          for T, n, p in ((1000, 48, "epsilon"), (777, 10, "v_prediction"))]
cases += [(dict(plain, beta_start=0.002), 12, True),
          (dict(sd14, final_sigmas_type="sigma_min"), 20, False),
          (dict(sd14, final_sigmas_type="sigma_min", lower_order_final=False), 10, True),
          (dict(sd14, final_sigmas_type="sigma_min", euler_at_final=True), 20, False),
          (dict(sd14, solver_type="logrho", solver_order=2, algorithm_type="dpmsolver++"), 6, False),
          (dict(plain, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"), 20,
           False)]


def output(t, n):
    return torch.from_numpy(np.sin(t / 100 + np.arange(n)).astype(np.float32))


runs = []
for config, n, karras in cases:
    d = DPMSolverMultistepScheduler.from_config(dict(config), use_karras_sigmas=karras)
    d.set_timesteps(n)
    x = torch.tensor([2, -1, 0.5, 0])
    rows = []
    for t in d.timesteps:
        x = d.step(output(int(t), 4), t, x).prev_sample
        rows.append([int(t)] + x.tolist())
    runs.append({"config": config, "steps": n, "karras": karras, "rows": rows})
with open("dpm.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

PROMPT, SEED, STEPS, GUIDANCE, HOOK = "A cat in Neon Lines style.", 42, 8, 4.0, "mid_block.attentions.0"
tokenizer = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")
encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder", torch_dtype=torch.float32).eval()
unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32).eval()
vae = AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=torch.float32).eval()
scheduler = DPMSolverMultistepScheduler.from_config(DDIMScheduler.from_pretrained(model, subfolder="scheduler").config,
                                                    use_karras_sigmas=True)
scheduler.set_timesteps(STEPS)
seen = []
unet.get_submodule(HOOK).register_forward_hook(
    lambda m, i, o: seen.append((o if torch.is_tensor(o) else o[0]).permute(0, 2, 3, 1).contiguous().clone()))
with torch.no_grad():
    ids = tokenizer(["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    states = encoder(ids).last_hidden_state
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator("cpu").manual_seed(SEED))
    latents = [x]
    for t in scheduler.timesteps:
        uncond, cond = unet(torch.cat([x, x]), t, encoder_hidden_states=states).sample.chunk(2)
        x = scheduler.step(uncond + GUIDANCE * (cond - uncond), t, x).prev_sample
        latents.append(x)
    image = vae.decode(x / vae.config.scaling_factor).sample[0]
image = ((image / 2 + 0.5).clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)
save_file({"timesteps": scheduler.timesteps.int(), "latents": torch.cat(latents), "hook.output": torch.stack(seen),
           "image": image.contiguous()}, "dpm_run.safetensors",
          {"prompt": PROMPT, "seed": str(SEED), "steps": str(STEPS), "guidance": str(GUIDANCE), "hook": HOOK,
           "sampler": "dpm++2m-karras"})
