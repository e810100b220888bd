# SPDX-License-Identifier: MIT
"""Transformers of Stable Diffusion 3's shapes with random weights in half precision, for benchmarks.

    python3 random_sd3.py OUT [KIND [LAYERS]]       KIND: medium (3 medium, the default), medium35, large (3.5 large)

OUT has a transformer alone. LAYERS: how many of the blocks; all 24 of medium are 4.2 GB. Shapes are diffusers' own, of
a model that is made without memory; weights as random_sd15.py has them.
"""
import json
import sys
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel

from random_sd15 import write

MEDIUM = dict(sample_size=128, patch_size=2, in_channels=16, num_layers=24, attention_head_dim=64,
              num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536,
              pooled_projection_dim=2048, out_channels=16, pos_embed_max_size=192)
KINDS = {"medium": MEDIUM,
         "medium35": MEDIUM | dict(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
         "large": MEDIUM | dict(num_layers=38, num_attention_heads=38, caption_projection_dim=2432, qk_norm="rms_norm")}


def main(out, kind="medium", layers=None):
    config = KINDS[kind] | (dict(num_layers=int(layers)) if layers else {})
    with torch.device("meta"):
        model = SD3Transformer2DModel(**config)
    write(Path(out)/"transformer", json.loads(model.to_json_string()), "diffusion_pytorch_model.safetensors",
          {key: list(t.shape) for key, t in model.state_dict().items()})
    print(f"transformer: {sum(p.numel() for p in model.parameters())/1e6:.1f} M parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
