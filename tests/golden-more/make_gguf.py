#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_gguf.py -- writes gguf/, with gguf 0.19: files for tests/unit/gguf.c and tests/cli/sd-convert-gguf.bats.

    types.gguf           metadata of every type, a tensor of each type that is read: random blocks of finite scales
    types.safetensors    what gguf.quants.dequantize makes of those in blocks
    unet.gguf            the UNet alone of convert/1, as ComfyUI-GGUF writes one: names bare, in rows of 256 (or 32)
                         with their shapes beside; the types in turn, random blocks
    expected             tests/tensors.py of what sd-convert (in PATH) makes of a safetensors file of the same values:
                         as f32, and f16 what was in blocks
"""
import os, shutil, subprocess, tempfile
import gguf, numpy as np
from gguf import GGMLQuantizationType as Type, GGUFWriter
from safetensors.numpy import load_file, save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(0)
# Where in a block its scales of f16 are.
SCALES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0], Type.IQ4_NL: [0],
          Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
          Type.IQ4_XS: [0]}


def blocks(kind, rows, values, largest):
    """(rows, bytes) of random blocks, and their values"""
    size, width = gguf.GGML_QUANT_SIZES[kind]
    b = rng.integers(0, 256, (rows*values//size, width), dtype=np.uint8)
    for at in SCALES[kind]:
        scale = (rng.standard_normal(len(b))*largest).astype(np.float16)
        b[:, at:at + 2] = scale.view(np.uint8).reshape(-1, 2)
    b = b.reshape(rows, -1)
    return b, gguf.quants.dequantize(b, kind)


os.makedirs("gguf", exist_ok=True)
writer = GGUFWriter("gguf/types.gguf", "sd1")
for name, value in {"uint8": 200, "int8": -3, "uint16": 60000, "int16": -300, "uint32": 1 << 31, "int32": -70000,
                    "float32": 0.5, "bool": True, "string": "text", "uint64": 1 << 63, "int64": -5, "float64": 0.25,
                    "array": ["one", "two", ""]}.items():
    getattr(writer, f"add_{name}")(f"a.{name}", value)
writer.add_array("more", [[1, 2], [3]])
writer.add_array("numbers", [0.5, 1.5])
writer.add_array("comfy.gguf.orig_shape.shaped", [2, 3, 4, 1])
m = np.arange(24, dtype=np.float32).reshape(4, 6) - 4
for name, kind in {"f32": np.float32, "f16": np.float16, "f64": np.float64, "i8": np.int8, "i16": np.int16,
                   "i32": np.int32, "i64": np.int64}.items():
    writer.add_tensor(name, m.astype(kind))
writer.add_tensor("bf16", gguf.quants.quantize(m, Type.BF16), raw_dtype=Type.BF16)
writer.add_tensor("shaped", m)
writer.add_tensor("row", m[0])
values = {}
for kind in SCALES:
    rows, width = (2, 512) if gguf.GGML_QUANT_SIZES[kind][0] == 256 else (4, 64)
    b, values[kind.name.lower()] = blocks(kind, rows, width, 2.0**rng.integers(-20, 4))
    writer.add_tensor(kind.name.lower(), b, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(values, "gguf/types.safetensors")

with tempfile.TemporaryDirectory() as work:
    subprocess.run(["zstd", "-q", "-d", "convert/1.safetensors.zst", "-o", f"{work}/1"], check=True)
    shutil.copytree("convert/1", f"{work}/base")
    for part in ("tokenizer", "scheduler"):
        shutil.copytree(f"../../data/minisd/model/{part}", f"{work}/base/{part}")
    whole = load_file(f"{work}/1")
    prefix = "model.diffusion_model."
    keep, full = dict(whole), dict(whole)
    writer = GGUFWriter("gguf/unet.gguf", "sd1")
    for i, name in enumerate(sorted(n for n in whole if n.startswith(prefix))):
        x, bare = whole[name], name.removeprefix(prefix)
        row = 256 if x.size % 256 == 0 else 32
        if x.ndim == 1 or x.size % row:
            writer.add_tensor(bare, x)
            continue
        kinds = [k for k in SCALES if gguf.GGML_QUANT_SIZES[k][0] in (row, 32)]
        b, y = blocks(kinds[i % len(kinds)], x.size//row, row, 1e-3)
        writer.add_array(f"comfy.gguf.orig_shape.{bare}", list(x.shape))
        writer.add_tensor(bare, b, raw_dtype=kinds[i % len(kinds)])
        full[name] = y.reshape(x.shape)
        keep[name] = full[name].astype(np.float16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open("gguf/expected", "w") as f:
        for kind, tensors, dtype in ("keep", keep, "keep"), ("f32", full, "f32"):
            save_file(tensors, f"{work}/{kind}")
            subprocess.run(["sd-convert", "-q", "-m", f"{work}/base", "--checkpoint", f"{work}/{kind}", "--dtype",
                            dtype, "-o", f"{work}/out-{kind}"], check=True)
            said = subprocess.run(["../tensors.py", f"{work}/out-{kind}"], check=True, capture_output=True, text=True)
            f.writelines(f"{kind} {line}\n" for line in said.stdout.splitlines())
