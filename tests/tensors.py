#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tensors.py -- what is in safetensors files, whatever its order: a line a file, FILE COUNT SHA256 of names, types,
shapes and bytes.

    tensors.py DIR        those of unet or transformer, vae and the text encoders of a model folder
    tensors.py FILE...
    tensors.py -v ...     before each a line a tensor, FILE NAME TYPE SHAPE SHA256
"""
import glob, hashlib, json, os, sys


def lines(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        begin = f.tell()
        for name in sorted(n for n in header if n != "__metadata__"):
            at = header[name]["data_offsets"]
            f.seek(begin + at[0])
            digest = hashlib.sha256(f.read(at[1] - at[0])).hexdigest()[:16]
            yield f"{name} {header[name]['dtype']} {','.join(map(str, header[name]['shape']))} {digest}"


verbose = sys.argv[1:2] == ["-v"]
for argument in sys.argv[1 + verbose:]:
    folder = os.path.isdir(argument)
    parts = [f"{argument}/{part}/*.safetensors"
             for part in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "unet", "vae")]
    for file in [p for part in parts for p in sorted(glob.glob(part))] if folder else [argument]:
        label, said = os.path.relpath(file, argument) if folder else os.path.basename(file), list(lines(file))
        for line in said if verbose else []:
            print(label, line)
        print(label, len(said), hashlib.sha256("\n".join(said).encode()).hexdigest()[:32])
