#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_clip_skip.py -- writes clip_skip.safetensors: what pipelines' encode_prompt makes of a text with clip_skip, with
diffusers 0.42, transformers, torch.

    minisd.N [rows, 128]    of minisd (StableDiffusionPipeline) with clip_skip N, 0 to all its layers: each EVERYth row
                            of the state of PROMPT
    minisd.uncond           that of NEGATIVE, which is the same with any
    sdxl.N [16, 40], pooled, uncond
                            of sdxl/ (StableDiffusionXLPipeline), which has layers for N = 0 and 1; the pooled embedding
                            and the state of NEGATIVE are the same with both
    latent                  what StableDiffusionPipeline draws of PROMPT and NEGATIVE with minisd and clip_skip 2
"""
import os, torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from transformers import CLIPTextModel

if not hasattr(CLIPTextModel, "text_model"):        # of transformers 5 it is its own; diffusers asks for its final norm
    CLIPTextModel.text_model = property(lambda self: self)
os.chdir(os.path.dirname(os.path.abspath(__file__)))
PROMPT, NEGATIVE, EVERY, SEED, STEPS, GUIDANCE, SKIP = "A cat in Neon Lines style.", "A blurry fish.", 19, 42, 4, 4.0, 2
values = {}
with torch.no_grad():
    pipe = StableDiffusionPipeline.from_pretrained("../../data/minisd/model", torch_dtype=torch.float32)
    layers = pipe.text_encoder.config.num_hidden_layers
    unconds = []
    for n in range(layers + 1):
        state, uncond = pipe.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt=NEGATIVE, clip_skip=n)
        values[f"minisd.{n}"] = state[0, ::EVERY].contiguous()
        unconds.append(uncond[0, ::EVERY].contiguous())
        assert n or torch.equal(state, pipe.encode_prompt(PROMPT, "cpu", 1, False)[0])
    assert all(torch.equal(u, unconds[0]) for u in unconds)
    values["minisd.uncond"] = unconds[0]
    values["latent"] = pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                            clip_skip=SKIP, generator=torch.Generator("cpu").manual_seed(SEED),
                            output_type="latent").images[0].contiguous()
    pipe = StableDiffusionXLPipeline.from_pretrained("sdxl", torch_dtype=torch.float32, add_watermarker=False)
    for n in range(2):
        state, uncond, pooled, _ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=True,
                                                      negative_prompt=NEGATIVE, clip_skip=n)
        values[f"sdxl.{n}"] = state[0].contiguous()
        assert n == 0 or torch.equal(uncond[0], values["uncond"]) and torch.equal(pooled[0], values["pooled"])
        values |= {"uncond": uncond[0].contiguous(), "pooled": pooled[0].contiguous()}
save_file(values, "clip_skip.safetensors",
          {"prompt": PROMPT, "negative": NEGATIVE, "every": str(EVERY), "layers": str(layers), "seed": str(SEED),
           "steps": str(STEPS), "guidance": str(GUIDANCE), "skip": str(SKIP)})
