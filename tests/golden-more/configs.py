# SPDX-License-Identifier: MIT
"""configs.py -- scheduler_config.json of Stable Diffusion 1.4 and of minisd, and runs with many such, for the scripts
beside this one."""
import json, os

sd14 = {"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "trained_betas": None, "clip_sample": False}
minisd = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                     "../../data/minisd/model/scheduler/scheduler_config.json")))


def record_runs(path, pipe, scheduler, cases, prompt, seed):
    """To path, final latents of the pipeline with the scheduler made from each case's config; a case is (config, steps,
    guidance). Metadata: prompt, seed, "runs", of each its config, steps, guidance, timesteps."""
    import torch
    from safetensors.torch import save_file
    latents, runs = {}, []
    for config, n, guidance in cases:
        pipe.scheduler = scheduler.from_config(config)
        latents[str(len(runs))] = pipe(prompt, num_inference_steps=n, guidance_scale=guidance, output_type="latent",
                                       generator=torch.Generator("cpu").manual_seed(seed)).images[0].contiguous()
        runs.append({"config": config, "steps": n, "guidance": guidance,
                     "timesteps": pipe.scheduler.timesteps.tolist()})
    save_file(latents, path, {"prompt": prompt, "seed": str(seed), "runs": json.dumps(runs, separators=(",", ":"))})
