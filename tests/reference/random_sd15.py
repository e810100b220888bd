# SPDX-License-Identifier: MIT
"""A UNet of Stable Diffusion 1.5's shape with random weights in half precision, for benchmarks: OUT/unet, 1.7 GB.

    python3 random_sd15.py OUT

numpy is enough. Weights are even in [-1, 1)/sqrt(inputs), as torch draws them, out of one block of random numbers used
again and again; norms are 1 and 0.
"""
import json
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


def resnet(name, into, out):
    yield from norm(name + ".norm1", into)
    yield from layer(name + ".conv1", out, into, 3, conv=True)
    yield from layer(name + ".time_emb_proj", out, TIME)
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


CONFIG = {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": WIDTHS,
          "center_input_sample": False, "cross_attention_dim": TEXT,
          "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
          "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": LAYERS,
          "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
          "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(CONFIG))
    shapes, header, at = dict(unet()), {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = np.random.default_rng(15).random(1 << 22, dtype=np.float32) * 2 - 1
    with open(out / "diffusion_pytorch_model.safetensors", "wb") as f:
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


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "unet")
