#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_jpeg.py -- writes jpeg.safetensors: of each JPEG "N.file", its bytes, and "N.pixels" (H,W,C), the picture that
Pillow makes of it the right way up (ImageOps.exif_transpose): colours with and without subsampling, grey, progressive,
restart markers, all orientations, 1x1. "cmyk.file" is none to be read."""
import io, os, numpy as np, torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))
y, x = np.mgrid[0:37, 0:52]
waves = np.stack([128 + 100 * np.sin(x / 5 + c) * np.cos(y / 4 - c) for c in range(3)], -1).astype(np.uint8)
waves[5:20, 8:30] = (250, 30, 60)
colours, grey = Image.fromarray(waves), Image.fromarray(waves[..., 0])


def turned(way):
    exif = Image.Exif()
    exif[0x0112] = way
    return exif.tobytes()


cases = [(colours, {"quality": 85}), (colours, {"quality": 95, "subsampling": 0}), (grey, {"quality": 70}),
         (colours, {"progressive": True, "subsampling": 1}), (colours.crop((0, 0, 1, 1)), {}),
         (colours, {"restart_marker_blocks": 2})]
cases += [(colours, {"exif": turned(way)}) for way in range(1, 9)]
tensors = {}
for n, (picture, how) in enumerate(cases):
    file = io.BytesIO()
    picture.save(file, "JPEG", **how)
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))))
    tensors[f"{n}.file"] = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    tensors[f"{n}.pixels"] = torch.from_numpy(np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1)))
file = io.BytesIO()
colours.convert("CMYK").save(file, "JPEG")
tensors["cmyk.file"] = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
save_file(tensors, "jpeg.safetensors")
