#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""write_stream.py -- an independent writer of tensor streams: JSON lines, as read_stream.py --values prints.

    read_stream.py --values a.mpk.zst | write_stream.py > a.mpk

The first line is the header. An object with exactly the keys type, shape and values is a tensor. Integers take their
shortest form, as every msgpack writer's do, so equal records make equal bytes.
"""
import json
import struct
import sys

TYPES = {"f32": ("<f4", "f"), "f16": ("<f2", "e"), "bf16": ("bfloat16", None), "f64": ("<f8", "d"), "i8": ("|i1", "b"),
         "u8": ("|u1", "B"), "i16": ("<i2", "h"), "i32": ("<i4", "i"), "i64": ("<i8", "q")}


def sized(n, forms):
    for limit, head, code in forms:
        if n < limit:
            return bytes([head]) + struct.pack(">" + code, n) if code else bytes([head | n])
    raise ValueError(f"{n} is too large")


def pack(v):
    if v is None:
        return b"\xc0"
    if v is True or v is False:
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        if v >= 0:
            return sized(v, [(128, 0, ""), (1 << 8, 0xcc, "B"), (1 << 16, 0xcd, "H"), (1 << 32, 0xce, "I"),
                             (1 << 64, 0xcf, "Q")])
        for limit, head, code in [(-32, None, "b"), (-128, 0xd0, "b"), (-(1 << 15), 0xd1, "h"), (-(1 << 31), 0xd2, "i"),
                                  (-(1 << 63), 0xd3, "q")]:
            if v >= limit:
                return (bytes([head]) if head else b"") + struct.pack(">" + code, v)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, bytes):
        return sized(len(v), [(1 << 8, 0xc4, "B"), (1 << 16, 0xc5, "H"), (1 << 32, 0xc6, "I")]) + v
    if isinstance(v, str):
        b = v.encode()
        return sized(len(b), [(32, 0xa0, ""), (1 << 8, 0xd9, "B"), (1 << 16, 0xda, "H"), (1 << 32, 0xdb, "I")]) + b
    if isinstance(v, list):
        return sized(len(v), [(16, 0x90, ""), (1 << 16, 0xdc, "H"), (1 << 32, 0xdd, "I")]) + b"".join(map(pack, v))
    if set(v) == {"type", "shape", "values"}:
        return pack_tensor(v)
    return map_of(v.items())


def map_of(pairs):
    pairs = list(pairs)
    head = sized(len(pairs), [(16, 0x80, ""), (1 << 16, 0xde, "H"), (1 << 32, 0xdf, "I")])
    return head + b"".join(pack(k) + pack(x) for k, x in pairs)


def pack_tensor(t):
    name, code = TYPES[t["type"]]
    if code:
        data = struct.pack(f"<{len(t['values'])}{code}", *t["values"])
    else:
        data = b"".join(struct.pack("<f", x)[2:] for x in t["values"])
    return map_of([(b"nd", True), (b"type", name), (b"kind", b""), (b"shape", t["shape"]), (b"data", data)])


count = -1
for line in sys.stdin:
    sys.stdout.buffer.write(pack(json.loads(line)))
    count += 1
sys.stdout.buffer.write(pack({"end": count}))
