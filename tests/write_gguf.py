#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""write_gguf.py IN OUT [CODE] -- a safetensors file as GGUF, changed by a line of Python, for tests.

    t   {name: [ggml's number of the type, shape in torch's order, bytes]}
    m   {key: (type, bytes of the value)}, metadata
"""
import json, struct, sys

TYPES = {"F32": 0, "F16": 1, "I64": 27, "BF16": 30}
with open(sys.argv[1], "rb") as f:
    header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    data = f.read()
header.pop("__metadata__", None)
t = {n: [TYPES[h["dtype"]], h["shape"], data[h["data_offsets"][0]:h["data_offsets"][1]]] for n, h in header.items()}
m = {}


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


exec(sys.argv[3] if len(sys.argv) > 3 else "")
out, body = b"GGUF" + struct.pack("<IQQ", 3, len(t), len(m)), b""
for key, (kind, value) in m.items():
    out += text(key) + struct.pack("<I", kind) + value
for name, (kind, shape, raw) in t.items():
    out += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1]) + struct.pack("<IQ", kind, len(body))
    body += raw + bytes(-len(raw) % 32)
with open(sys.argv[2], "wb") as f:
    f.write(out + bytes(-len(out) % 32) + body)
