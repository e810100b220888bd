#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_flow.py -- writes flow.json, with diffusers 0.42, torch.

    flow.json       configs, steps, strength; of each FlowMatchEulerDiscreteScheduler made of the config: from where
                    StableDiffusion3Img2ImgPipeline.get_timesteps begins by the strength (0: at the start) its
                    timesteps, and x before each step and after the last, to 9 digits, from [2, -1, 0.5, 0], with a
                    strength the noise of the picture [0.25, 1.5, -3, 0], with the network's output sin(t/100 + i)
"""
import json, os, numpy as np, torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Img2ImgPipeline

os.chdir(os.path.dirname(os.path.abspath(__file__)))
sd3 = json.load(open("sd3/scheduler/scheduler_config.json"))
own = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
cases = [(sd3, n, 0) for n in (1, 2, 3, 4, 7, 28, 50, 61)]
cases += [(own, n, 0) for n in (1, 5, 13)]
cases += [(dict(own, shift=k, num_train_timesteps=T), n, 0)
          for k, T, n in ((1.15, 1000, 9), (0.5, 1000, 10), (6.0, 777, 12), (12.5, 100, 100), (3.0, 1, 1), (7.3, 2, 2))]
cases += [(sd3, n, s) for n, s in ((10, 0.8), (10, 0.55), (7, 0.5), (4, 1.0), (28, 0.6), (25, 0.01), (9, 0.9999))]


def output(t, n):
    return torch.from_numpy(np.sin(t / 100 + np.arange(n)).astype(np.float32))


class Pipeline:
    """What get_timesteps asks of one."""
    get_timesteps = StableDiffusion3Img2ImgPipeline.get_timesteps


runs = []
for config, n, strength in cases:
    pipeline, d = Pipeline(), FlowMatchEulerDiscreteScheduler.from_config(config)
    pipeline.scheduler = d
    d.set_timesteps(n)
    timesteps, x = d.timesteps, torch.tensor([2, -1, 0.5, 0])
    if strength:
        timesteps, _ = pipeline.get_timesteps(n, strength, "cpu")
        x = d.scale_noise(torch.tensor([0.25, 1.5, -3, 0]), timesteps[:1], x)
    rows = []
    for t in timesteps:
        rows.append([float(t)] + x.tolist())
        x = d.step(output(float(t), 4), t, x).prev_sample
    rows.append([0.0] + x.tolist())
    runs.append({"config": config, "steps": n, "strength": strength,
                 "rows": [[float(f"{v:.9g}") for v in row] for row in rows]})
with open("flow.json", "w") as f:
    json.dump({"runs": runs}, f, separators=(",", ":"))
