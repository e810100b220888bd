# SPDX-License-Identifier: MIT
"""activation_stream.py -- tokens to an activation stream and back (formats/STREAM.md), for the trainers compared here.

    write_tokens("acts.mpk", "<f4", blocks, width)       blocks: bytes of whole tokens, a record for each
    for type, data in read_tokens("acts.mpk"): ...       type and bytes of each record's act

Plain msgpack without zstd, which such streams may be: noise does not get smaller. Python's own modules are enough.
"""
import struct
import subprocess

BYTES = {"<f4": 4, "bfloat16": 2, "<f2": 2}


def sized(n, short, marks):
    """A head that holds n: in its own byte up to short's limit, else after one of marks (for 8, 16, 32 bits)."""
    mark, limit = short
    if n < limit:
        return bytes([mark | n])
    for mark, code, bits in zip(marks, "BHI", (8, 16, 32)):
        if mark and n < 1 << bits:
            return bytes([mark]) + struct.pack(">" + code, n)
    raise ValueError(f"{n} is too large")


def pack(v):
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        return sized(v, (0, 128), (0xcc, 0xcd, 0xce))
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, bytes):
        return sized(len(v), (0, 0), (0xc4, 0xc5, 0xc6)) + v
    if isinstance(v, str):
        text = v.encode()
        return sized(len(text), (0xa0, 32), (0xd9, 0xda, 0xdb)) + text
    if isinstance(v, list):
        return sized(len(v), (0x90, 16), (0, 0xdc, 0xdd)) + b"".join(map(pack, v))
    return sized(len(v), (0x80, 16), (0, 0xde, 0xdf)) + b"".join(pack(k) + pack(x) for k, x in v.items())


def write_tokens(path, type, blocks, width):
    with open(path, "wb") as out:
        out.write(pack({"stream": "activations", "version": 1, "model": "none", "sampler": "none", "steps": 1,
                        "guidance": 1.0, "hooks": ["x"], "take": "output", "half": "cond", "provenance": []}))
        count = 0
        for data in blocks:
            shape = [1, len(data) // (BYTES[type] * width), width]
            act = {b"nd": True, b"type": type, b"kind": b"", b"shape": shape, b"data": data}
            out.write(pack({"id": str(count), "seed": count, "hook": "x", "step": 0, "t": 0, "half": "cond",
                            "act": act}))
            count += 1
        out.write(pack({"end": count}))


def read_tokens(path):
    import msgpack
    plain = subprocess.Popen(["tstream", "cat", "--no-compress", path], stdout=subprocess.PIPE)
    for record in msgpack.Unpacker(plain.stdout, max_buffer_size=2**30, raw=False, strict_map_key=False):
        if "act" in record:
            yield record["act"][b"type"], record["act"][b"data"]
    if plain.wait():
        raise SystemExit(f"{path}: no whole stream")
