# SPDX-License-Identifier: MIT
"""A model folder of Stable Diffusion XL base 1.0's shape with random weights in half precision: 7 GB.

    python3 random_sdxl.py OUT MINISD       MINISD: data/minisd/model, whose tokenizer it takes twice

Shapes are diffusers' and transformers' own, of models that are made without memory; weights as random_sd15.py has them.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from random_sd15 import write

UNET = dict(sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2, attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 10), cross_attention_dim=2048, use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
VAE = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=1024,
           scaling_factor=0.13025, force_upcast=True, down_block_types=("DownEncoderBlock2D",)*4,
           up_block_types=("UpDecoderBlock2D",)*4)
TEXT = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=0, eos_token_id=2, pad_token_id=1)
FIRST = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768,
             hidden_act="quick_gelu")
SECOND = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
              projection_dim=1280, hidden_act="gelu")
SCHEDULER = {"_class_name": "EulerDiscreteScheduler", "beta_end": 0.012, "beta_schedule": "scaled_linear",
             "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear", "num_train_timesteps": 1000,
             "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True,
             "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False}


def part(out, name, file, model, config):
    write(out/name, config, file, {key: list(t.shape) for key, t in model.state_dict().items()})
    print(f"{name}: {sum(p.numel() for p in model.parameters())/1e6:.1f} M parameters", flush=True)


def tokenizers(out, minisd):
    """minisd's twice, the second of which pads otherwise"""
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(minisd/"tokenizer", out/name, dirs_exist_ok=True)
    config = json.loads((out/"tokenizer_2/tokenizer_config.json").read_text())
    (out/"tokenizer_2/tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "!"}))
    (out/"tokenizer_2/special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))


def main(out, minisd):
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
        first = CLIPTextModel(CLIPTextConfig(**FIRST, **TEXT))
        second = CLIPTextModelWithProjection(CLIPTextConfig(**SECOND, **TEXT))
    for name, model in (("unet", unet), ("vae", vae)):
        part(out, name, "diffusion_pytorch_model.safetensors", model, json.loads(model.to_json_string()))
    for name, model in (("text_encoder", first), ("text_encoder_2", second)):
        part(out, name, "model.safetensors", model, json.loads(model.config.to_json_string(use_diff=False)))
    tokenizers(out, minisd)
    (out/"scheduler").mkdir(exist_ok=True)
    (out/"scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (out/"model_index.json").write_text(json.dumps(
        {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
         "scheduler": ["diffusers", "EulerDiscreteScheduler"], "unet": ["diffusers", "UNet2DConditionModel"],
         "vae": ["diffusers", "AutoencoderKL"], "tokenizer": ["transformers", "CLIPTokenizer"],
         "tokenizer_2": ["transformers", "CLIPTokenizer"], "text_encoder": ["transformers", "CLIPTextModel"],
         "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
