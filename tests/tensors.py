#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tensors.py -- what is in safetensors files, a line a tensor: FILE NAME TYPE SHAPE SHA256, sorted by name.

    tensors.py DIR        those of unet, vae and text_encoder of a model folder
    tensors.py FILE...
"""
import glob, hashlib, json, os, sys


def lines(path, label):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        begin = f.tell()
        for name in sorted(n for n in header if n != "__metadata__"):
            at = header[name]["data_offsets"]
            f.seek(begin + at[0])
            digest = hashlib.sha256(f.read(at[1] - at[0])).hexdigest()[:16]
            yield f"{label} {name} {header[name]['dtype']} {','.join(map(str, header[name]['shape']))} {digest}"


for argument in sys.argv[1:]:
    files = sorted(p for part in ("text_encoder", "unet", "vae") for p in glob.glob(f"{argument}/{part}/*.safetensors")) \
        if os.path.isdir(argument) else [argument]
    for file in files:
        for line in lines(file, os.path.relpath(file, argument) if os.path.isdir(argument) else os.path.basename(file)):
            print(line)
