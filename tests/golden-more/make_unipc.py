#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_unipc.py -- writes unipc.json and unipc_runs.safetensors, with diffusers 0.42, transformers and torch.

    unipc.json      configs, steps; of each UniPCMultistepScheduler made from the config (from_config) as a pipeline
                    sets it, its timesteps, and x after each step from x = [2, -1, 0.5, 0] with the UNet's output
                    sin(t/100 + i), to 9 digits; begin: of a run that begins with a picture, the first step taken
    unipc_runs.safetensors
                    final latents of StableDiffusionPipeline with minisd and that scheduler, one a run: prompt, seed in
                    the file's metadata, there "runs": of each its scheduler_config.json, steps, guidance, timesteps
"""
import json, os, numpy as np, torch
from diffusers import StableDiffusionPipeline, UniPCMultistepScheduler
from configs import minisd, record_runs, sd14

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
model = "../../data/minisd/model"

plain = {"_class_name": "UniPCMultistepScheduler"}
cases = [(c, n, 0) for c in (sd14, minisd, dict(sd14, use_karras_sigmas=True)) for n in (1, 2, 3, 10, 20)]
least = {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}        # with a last sigma of 0 bh1 gives no numbers
cases += [(dict(plain, timestep_spacing=s, beta_schedule=b, num_train_timesteps=T, prediction_type=p, **k), n, 0)
          for s in ("leading", "trailing", "linspace") for b, k in (("linear", least), ("squaredcos_cap_v2", {}))
          for T, n, p in ((1000, 48, "epsilon"), (777, 10, "v_prediction"))]
cases += [(dict(plain, beta_start=0.002, use_karras_sigmas=True), 12, 0),
          (dict(plain, prediction_type="sample"), 12, 0),
          (dict(sd14, final_sigmas_type="sigma_min"), 20, 0),
          (dict(sd14, final_sigmas_type="sigma_min", lower_order_final=False), 9, 0),
          (dict(sd14, solver_type="midpoint", solver_order=2, algorithm_type="dpmsolver++"), 6, 0),
          (dict(plain, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"), 20,
           0),
          (sd14, 10, 4), (sd14, 5, 4), (dict(plain, **least), 12, 3)]

runs = []
for config, n, begin in cases:
    own = config["_class_name"] == plain["_class_name"] or "steps_offset" in config
    d = UniPCMultistepScheduler.from_config(dict(config, **({"steps_offset": 1} if own else {})))
    d.set_timesteps(n)
    d.set_begin_index(begin)
    x = torch.tensor([[2, -1, 0.5, 0]])
    rows = []
    for t in d.timesteps[begin:]:
        out = torch.from_numpy(np.sin(int(t) / 100 + np.arange(4)).astype(np.float32))[None]
        x = d.step(out, t, x).prev_sample
        rows.append([int(t)] + [float(f"{v:.9g}") for v in x[0].tolist()])
    runs.append({"config": config, "steps": n, "begin": begin, "rows": rows})
with open("unipc.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))

PROMPT, SEED = "A cat in Neon Lines style.", 42
pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
karras, bh1 = dict(sd14, use_karras_sigmas=True), dict(sd14, **least)
v = dict(sd14, prediction_type="v_prediction")
cases = [(sd14, n, 4.0) for n in (1, 2, 3, 4, 8)]
cases += [(sd14, 10, 1.0), (sd14, 6, 7.5), (karras, 7, 7.5), (karras, 3, 1.0), (v, 5, 4.0), (bh1, 6, 4.0),
          (minisd, 5, 4.0)]
record_runs("unipc_runs.safetensors", pipe, UniPCMultistepScheduler, cases, PROMPT, SEED)
