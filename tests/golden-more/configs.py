# SPDX-License-Identifier: MIT
"""configs.py -- scheduler_config.json of Stable Diffusion 1.4 and of minisd, for the scripts beside this one."""
import json, os

sd14 = {"_class_name": "PNDMScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "trained_betas": None, "clip_sample": False}
minisd = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                     "../../data/minisd/model/scheduler/scheduler_config.json")))
