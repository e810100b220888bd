# SPDX-License-Identifier: MIT
"""A model folder of Stable Diffusion 3's shape with random weights in half precision: medium 5.8 GB, 3.5-medium 7 GB,
3.5-large 18 GB; with T5 9.5 GB more.

    python3 random_sd3.py OUT MINISD [medium|3.5-medium|3.5-large] [t5]     MINISD: data/minisd/model, whose tokenizer
                                                                            it takes twice

Shapes are diffusers' and transformers' own, of models that are made without memory; weights as random_sd15.py has them.
T5's tokenizer is that of tests/golden-more/sd3, of few words.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from random_sdxl import FIRST, SECOND, TEXT, VAE, part, tokenizers

SHARED = dict(sample_size=128, patch_size=2, in_channels=16, out_channels=16, attention_head_dim=64,
              joint_attention_dim=4096, pooled_projection_dim=2048)
TRANSFORMERS = {
    "medium": dict(num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=192),
    "3.5-medium": dict(num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=384,
                       qk_norm="rms_norm", dual_attention_layers=tuple(range(13))),
    "3.5-large": dict(num_layers=38, num_attention_heads=38, caption_projection_dim=2432, pos_embed_max_size=192,
                      qk_norm="rms_norm")}
T5 = dict(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
          feed_forward_proj="gated-gelu")
SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def main(out, minisd, kind="medium", t5=None):
    with torch.device("meta"):
        transformer = SD3Transformer2DModel(**SHARED, **TRANSFORMERS[kind])
        vae = AutoencoderKL(**{**VAE, "latent_channels": 16, "scaling_factor": 1.5305, "shift_factor": 0.0609,
                               "use_quant_conv": False, "use_post_quant_conv": False})
        encoders = [CLIPTextModelWithProjection(CLIPTextConfig(**c, **TEXT)) for c in (FIRST, SECOND)]
        encoders += [T5EncoderModel(T5Config(**T5))] if t5 else []
    for name, model in (("transformer", transformer), ("vae", vae)):
        part(out, name, "diffusion_pytorch_model.safetensors", model, json.loads(model.to_json_string()))
    for name, model in zip(("text_encoder", "text_encoder_2", "text_encoder_3"), encoders):
        part(out, name, "model.safetensors", model, json.loads(model.config.to_json_string(use_diff=False)))
    tokenizers(out, minisd)
    if t5:
        shutil.copytree(Path(__file__).parent.parent/"golden-more/sd3/tokenizer_3", out/"tokenizer_3",
                        dirs_exist_ok=True)
    (out/"scheduler").mkdir(exist_ok=True)
    (out/"scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (out/"model_index.json").write_text(json.dumps(
        {"_class_name": "StableDiffusion3Pipeline", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
         "transformer": ["diffusers", "SD3Transformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
         "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
         "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
         "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
         "tokenizer_3": ["transformers", "T5TokenizerFast"] if t5 else [None, None],
         "text_encoder_3": ["transformers", "T5EncoderModel"] if t5 else [None, None]}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
