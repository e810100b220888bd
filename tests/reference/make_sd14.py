# SPDX-License-Identifier: MIT
"""A model of Stable Diffusion 1.4's full shape with random weights, and what diffusers computes with it in float32.

    python3 make_sd14.py OUT TOKENIZER     TOKENIZER: a folder of vocab.json, merges.txt, ...:
                                           data/minisd/model/tokenizer will do

Writes OUT/f32 and OUT/f16, model folders of the same values (weights are rounded to half precision first), and
OUT/reference.safetensors: ids [2,77], state [2,77,768], x [2,4,64,64], eps [2,4,64,64] at timestep 500, latent
[1,4,64,64], decoded [1,3,512,512] of latent / scaling_factor.
Weights are drawn as torch draws them for training, so that values neither vanish nor explode. Needs 8 GB of
memory and 6.5 GB of disk. Exits 77 where torch, diffusers or transformers are missing.
"""
import shutil
import sys
import time
from pathlib import Path

try:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
except ImportError:
    sys.exit(77)

UNET = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2)
VAE = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
           down_block_types=("DownEncoderBlock2D",)*4, up_block_types=("UpDecoderBlock2D",)*4)
TEXT = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768)
INDEX = """{"_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
 "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
 "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"], "safety_checker": [null, null],
 "feature_extractor": [null, null], "requires_safety_checker": false}
"""


def build(make, out, name, use):
    """Makes a part, rounds it, computes its references with use, saves it in both precisions, and lets its memory
    go."""
    model = make().eval()
    for p in model.parameters():
        p.data = p.data.half().float()
    start = time.time()
    values = use(model)
    print(f"{name}: {sum(p.numel() for p in model.parameters())/1e6:.1f} M parameters, {time.time() - start:.1f} s",
          flush=True)
    model.save_pretrained(out / "f32" / name)
    model.half().save_pretrained(out / "f16" / name)
    return values


def main(out, tokenizer):
    torch.manual_seed(14)
    ids = torch.tensor(CLIPTokenizer.from_pretrained(tokenizer)(["", "A fish in Watercolor style."],
                                                                padding="max_length", max_length=77,
                                                                truncation=True).input_ids)
    x, latent = torch.randn(2, 4, 64, 64), torch.randn(1, 4, 64, 64)
    state = build(lambda: CLIPTextModel(CLIPTextConfig(**TEXT)), out, "text_encoder",
                  lambda m: m(ids).last_hidden_state)
    eps = build(lambda: UNet2DConditionModel(**UNET), out, "unet",
                lambda m: m(x, 500, encoder_hidden_states=state).sample)
    decoded = build(lambda: AutoencoderKL(**VAE), out, "vae", lambda m: m.decode(latent/m.config.scaling_factor).sample)
    for precision in ("f32", "f16"):
        folder = out / precision
        (folder / "model_index.json").write_text(INDEX)
        shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
        DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                      set_alpha_to_one=False,
                      steps_offset=1).save_pretrained(folder / "scheduler")
    save_file({"ids": ids.int(), "state": state, "x": x, "eps": eps, "latent": latent, "decoded": decoded},
              out / "reference.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]), sys.argv[2])
