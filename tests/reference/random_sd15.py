# SPDX-License-Identifier: MIT
"""A model folder of Stable Diffusion 1.5's shape with random weights in half precision, for benchmarks: 2.1 GB.

    python3 random_sd15.py OUT MINISD       MINISD: data/minisd/model, whose tokenizer and scheduler it takes

The VAE has no encoder. numpy is enough. Weights are even in [-1, 1)/sqrt(inputs), as torch draws them, out of one
block of random numbers used again and again; norms are 1 and 0.
"""
import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np

WIDTHS, TEXT, TIME, LAYERS = (320, 640, 1280, 1280), 768, 1280, 2


def layer(name, out, into, kernel=1, bias=True, conv=False):
    yield name + ".weight", (out, into, kernel, kernel) if conv else (out, into)
    if bias:
        yield name + ".bias", (out,)


def norm(name, width):
    yield name + ".weight", (width,)
    yield name + ".bias", (width,)


def resnet(name, into, out, time=TIME):
    yield from norm(name + ".norm1", into)
    yield from layer(name + ".conv1", out, into, 3, conv=True)
    if time:
        yield from layer(name + ".time_emb_proj", out, time)
    yield from norm(name + ".norm2", out)
    yield from layer(name + ".conv2", out, out, 3, conv=True)
    if into != out:
        yield from layer(name + ".conv_shortcut", out, into, conv=True)


def transformer(name, width):
    block = name + ".transformer_blocks.0"
    yield from norm(name + ".norm", width)
    yield from layer(name + ".proj_in", width, width, conv=True)
    for n, into in ((1, width), (2, TEXT)):
        yield from layer(f"{block}.attn{n}.to_q", width, width, bias=False)
        yield from layer(f"{block}.attn{n}.to_k", width, into, bias=False)
        yield from layer(f"{block}.attn{n}.to_v", width, into, bias=False)
        yield from layer(f"{block}.attn{n}.to_out.0", width, width)
    yield from layer(block + ".ff.net.0.proj", 8 * width, width)
    yield from layer(block + ".ff.net.2", width, 4 * width)
    for n in (1, 2, 3):
        yield from norm(f"{block}.norm{n}", width)
    yield from layer(name + ".proj_out", width, width, conv=True)


def unet():
    last = len(WIDTHS) - 1
    yield from layer("conv_in", WIDTHS[0], 4, 3, conv=True)
    yield from layer("time_embedding.linear_1", TIME, WIDTHS[0])
    yield from layer("time_embedding.linear_2", TIME, TIME)
    skips, width = [WIDTHS[0]], WIDTHS[0]
    for i, out in enumerate(WIDTHS):
        for j in range(LAYERS):
            yield from resnet(f"down_blocks.{i}.resnets.{j}", width, out)
            if i < last:
                yield from transformer(f"down_blocks.{i}.attentions.{j}", out)
            width = out
            skips.append(out)
        if i < last:
            yield from layer(f"down_blocks.{i}.downsamplers.0.conv", out, out, 3, conv=True)
            skips.append(out)
    for j in (0, 1):
        yield from resnet(f"mid_block.resnets.{j}", width, width)
    yield from transformer("mid_block.attentions.0", width)
    for i, out in enumerate(reversed(WIDTHS)):
        for j in range(LAYERS + 1):
            yield from resnet(f"up_blocks.{i}.resnets.{j}", width + skips.pop(), out)
            if i > 0:
                yield from transformer(f"up_blocks.{i}.attentions.{j}", out)
            width = out
        if i < last:
            yield from layer(f"up_blocks.{i}.upsamplers.0.conv", out, out, 3, conv=True)
    yield from norm("conv_norm_out", WIDTHS[0])
    yield from layer("conv_out", 4, WIDTHS[0], 3, conv=True)


def vae_decoder():
    widths = (512, 512, 256, 128)
    yield from layer("post_quant_conv", 4, 4, conv=True)
    yield from layer("decoder.conv_in", 512, 4, 3, conv=True)
    for j in (0, 1):
        yield from resnet(f"decoder.mid_block.resnets.{j}", 512, 512, time=0)
    yield from norm("decoder.mid_block.attentions.0.group_norm", 512)
    for part in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from layer(f"decoder.mid_block.attentions.0.{part}", 512, 512)
    into = 512
    for i, out in enumerate(widths):
        for j in range(LAYERS + 1):
            yield from resnet(f"decoder.up_blocks.{i}.resnets.{j}", into, out, time=0)
            into = out
        if i < 3:
            yield from layer(f"decoder.up_blocks.{i}.upsamplers.0.conv", out, out, 3, conv=True)
    yield from norm("decoder.conv_norm_out", 128)
    yield from layer("decoder.conv_out", 3, 128, 3, conv=True)


def text_encoder():
    yield "text_model.embeddings.token_embedding.weight", (49408, TEXT)
    yield "text_model.embeddings.position_embedding.weight", (77, TEXT)
    for i in range(12):
        name = f"text_model.encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from layer(f"{name}.self_attn.{part}", TEXT, TEXT)
        yield from norm(name + ".layer_norm1", TEXT)
        yield from layer(name + ".mlp.fc1", 4 * TEXT, TEXT)
        yield from layer(name + ".mlp.fc2", TEXT, 4 * TEXT)
        yield from norm(name + ".layer_norm2", TEXT)
    yield from norm("text_model.final_layer_norm", TEXT)


UNET = {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": WIDTHS,
        "center_input_sample": False, "cross_attention_dim": TEXT,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": LAYERS,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
VAE = {"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "in_channels": 3,
       "down_block_types": ["DownEncoderBlock2D"] * 4, "latent_channels": 4, "layers_per_block": LAYERS,
       "norm_num_groups": 32, "out_channels": 3, "sample_size": 512, "scaling_factor": 0.18215,
       "up_block_types": ["UpDecoderBlock2D"] * 4}
CLIP = {"architectures": ["CLIPTextModel"], "hidden_act": "quick_gelu", "hidden_size": TEXT,
        "intermediate_size": 4 * TEXT, "layer_norm_eps": 1e-05, "max_position_embeddings": 77,
        "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 49408}


def write(folder, config, file, shapes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = np.random.default_rng(15).random(1 << 22, dtype=np.float32) * 2 - 1
    with open(folder / file, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            n = int(np.prod(shape))
            if "norm" in name and len(shape) == 1:
                f.write(np.full(n, name.endswith("weight"), dtype=np.float16).tobytes())
            else:
                inputs = int(np.prod(shape[1:])) if len(shape) > 1 else TIME
                scaled = (noise * inputs**-0.5).astype(np.float16)
                for start in range(0, n, len(scaled)):
                    f.write(scaled[:n - start].tobytes())


def main(out, minisd):
    write(out / "unet", UNET, "diffusion_pytorch_model.safetensors", dict(unet()))
    write(out / "vae", VAE, "diffusion_pytorch_model.safetensors", dict(vae_decoder()))
    write(out / "text_encoder", CLIP, "model.safetensors", dict(text_encoder()))
    shutil.copytree(minisd / "tokenizer", out / "tokenizer", dirs_exist_ok=True)
    shutil.copytree(minisd / "scheduler", out / "scheduler", dirs_exist_ok=True)
    shutil.copy(minisd / "model_index.json", out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
