#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""edit_tensors.py IN OUT CODE -- a safetensors file changed by a line of Python, for tests of files that are wrong.

    t   {name: [type, shape, bytes]}, in the order of the file       m   its metadata
"""
import json, struct, sys

with open(sys.argv[1], "rb") as f:
    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    data = f.read()
m = header.pop("__metadata__", {})
t = {n: [h["dtype"], h["shape"], data[h["data_offsets"][0]:h["data_offsets"][1]]] for n, h in header.items()}
exec(sys.argv[3])
out, at = {"__metadata__": m}, 0
for name, (dtype, shape, raw) in t.items():
    out[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
    at += len(raw)
text = json.dumps(out).encode()
with open(sys.argv[2], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in t.values()))
