#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lcm_lora.py UNET OUT -- a LoRA file shaped as LCM-LoRA's is: of a UNet's folder, kohya's names and an alpha for every
attention, feed-forward, convolution and time projection but those at both ends, of rank 2, f16; small numbers of a
linear congruence, the same everywhere. Needs no library, so that a test can make what values were recorded of."""
import json, struct, sys

RANK, ALPHA, LARGEST = 2, 1.0, 0.04
ENDS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
        "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")

with open(f"{sys.argv[1]}/diffusion_pytorch_model.safetensors", "rb") as f:
    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
state = 1


def numbers(n):
    global state
    values = []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(LARGEST * (state / 2**31 - 1))
    return struct.pack(f"<{n}e", *values)


out, data = {}, b""
for name in sorted(header):
    module = name.removesuffix(".weight")
    if module == name or not module.endswith(ENDS):
        continue
    rows, columns, *kernel = header[name]["shape"]
    flat = "lora_unet_" + module.replace(".", "_")
    one = [1] * len(kernel)
    for end, shape in (("lora_down.weight", [RANK, columns, *kernel]), ("lora_up.weight", [rows, RANK, *one]),
                       ("alpha", [])):
        size = 1
        for n in shape:
            size *= n
        raw = numbers(size) if shape else struct.pack("<e", ALPHA)
        out[f"{flat}.{end}"] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
text = json.dumps(out).encode()
with open(sys.argv[2], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
