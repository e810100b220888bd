#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""read_stream.py -- an independent reader of tensor streams, written from formats/STREAM.md and from nothing else.

    read_stream.py [--values] [FILE]      prints a stream as JSON lines; exits 1 with a reason

Needs Python alone, and the zstd program for compressed streams. Tensors are printed as {"type", "shape", "sha256"},
with --values as {"type", "shape", "values"}; the first line is the header, "end" records are checked and not printed.
"""
import hashlib
import json
import math
import struct
import subprocess
import sys

TYPES = {"<f4": ("f32", "f", 4), "<f2": ("f16", "e", 2), "bfloat16": ("bf16", "H", 2), "<f8": ("f64", "d", 8),
         "|i1": ("i8", "b", 1), "|u1": ("u8", "B", 1), "<i2": ("i16", "h", 2), "<i4": ("i32", "i", 4),
         "<i8": ("i64", "q", 8)}


class Bad(Exception):
    pass


class Msgpack:
    """Decodes what a stream may hold: nil, bool, int, float, str, bin, array, map. Maps become lists of pairs."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Bad("the stream was cut in the middle of a value")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(code)))[0]

    def value(self, depth=0):
        if depth > 32:
            raise Bad("nested over 32 deep")
        b = self.number("B")
        if b < 0x80:
            return b
        if b >= 0xe0:
            return b - 0x100
        if b < 0x90:
            return self.map(b & 15, depth)
        if b < 0xa0:
            return self.array(b & 15, depth)
        if b < 0xc0:
            return self.text(b & 31)
        plain = {0xc0: None, 0xc2: False, 0xc3: True}
        if b in plain:
            return plain[b]
        numbers = {0xca: "f", 0xcb: "d", 0xcc: "B", 0xcd: "H", 0xce: "I", 0xcf: "Q",
                   0xd0: "b", 0xd1: "h", 0xd2: "i", 0xd3: "q"}
        if b in numbers:
            return self.number(numbers[b])
        counted = {0xc4: ("B", bytes), 0xc5: ("H", bytes), 0xc6: ("I", bytes), 0xd9: ("B", self.text),
                   0xda: ("H", self.text), 0xdb: ("I", self.text), 0xdc: ("H", self.array), 0xdd: ("I", self.array),
                   0xde: ("H", self.map),
                   0xdf: ("I", self.map)}
        if b not in counted:
            raise Bad(f"byte {b:#04x} is no value of this format")
        size, make = counted[b]
        n = self.number(size)
        if make is bytes:
            return bytes(self.take(n))
        return make(n) if make == self.text else make(n, depth)

    def text(self, n):
        return self.take(n).decode("utf-8")

    def array(self, n, depth):
        return [self.value(depth + 1) for _ in range(n)]

    def map(self, n, depth):
        return Map((self.value(depth + 1), self.value(depth + 1)) for _ in range(n))


class Map(list):
    """The pairs of a map, in order."""

    def plain(self):
        keys = [k for k, _ in self]
        if not all(isinstance(k, str) for k in keys) or len(set(keys)) != len(keys):
            raise Bad("a map of small fields needs text keys, each once")
        return {k: plain(v) for k, v in self}


def plain(v):
    if isinstance(v, Map):
        return v.plain()
    if isinstance(v, list):
        return [plain(x) for x in v]
    if isinstance(v, bytes):
        raise Bad("binary where a small field is expected")
    if isinstance(v, float) and not math.isfinite(v):
        raise Bad("a small field is not finite")
    return v


def tensor(m, with_values):
    if [k for k, _ in m] != [b"nd", b"type", b"kind", b"shape", b"data"]:
        raise Bad(f"a tensor's keys are {[k for k, _ in m]}")
    t = dict(m)
    if t[b"nd"] is not True or t[b"kind"] != b"" or t[b"type"] not in TYPES:
        raise Bad(f"a tensor of type {t[b'type']}, kind {t[b'kind']}")
    name, code, size = TYPES[t[b"type"]]
    shape, data = t[b"shape"], t[b"data"]
    if not isinstance(data, bytes) or math.prod(shape) * size != len(data):
        raise Bad(f"shape {shape} of {name} does not agree with {len(data)} bytes")
    if not with_values:
        return {"type": name, "shape": shape, "sha256": hashlib.sha256(data).hexdigest()}
    values = list(struct.unpack(f"<{len(data) // size}{code}", data))
    if name == "bf16":
        values = [struct.unpack("<f", struct.pack("<I", v << 16))[0] for v in values]
    return {"type": name, "shape": shape, "values": [v if math.isfinite(v) else None for v in values]}


def record(m, with_values):
    out, tensors_begun = {}, False
    for key, v in m:
        if not isinstance(key, str) or key in out:
            raise Bad(f"key {key!r} is not text, or comes twice")
        is_tensor = isinstance(v, Map) and any(k == b"nd" for k, _ in v)
        if tensors_begun and not is_tensor:
            raise Bad(f"field {key} comes after a tensor")
        tensors_begun |= is_tensor
        out[key] = tensor(v, with_values) if is_tensor else plain(v)
    return out


def read(data, with_values):
    unpacker = Msgpack(data)
    first, count, ended = None, 0, True
    while unpacker.at < len(data):
        m = unpacker.value()
        if not isinstance(m, Map) or not m:
            raise Bad("an object is not a map, or empty")
        key = m[0][0]
        if ended and key != "stream":
            raise Bad("expected a header")
        if not ended and key == "stream":
            raise Bad("a header before the end record")
        if key == "end":
            if len(m) != 1 or m[0][1] != count:
                raise Bad(f"the end record says {m[0][1]}, {count} records came")
            ended = True
            continue
        out = record(m, with_values)
        if key == "stream":
            provenance = out.get("provenance", [])
            if out.get("version") != 1 or not isinstance(out["stream"], str) or not isinstance(provenance, list):
                raise Bad("the header is not of version 1")
            same = {k: v for k, v in out.items() if k != "provenance"}
            if first is not None and same != first:
                raise Bad("a joined stream's header differs")
            ended, count = False, 0
            if first is None:
                first = same
                yield out
        else:
            if "stream" in out or "end" in out:
                raise Bad("a record has a field named stream or end")
            count += 1
            yield out
    if first is None or not ended:
        raise Bad("the stream stops without an end record")


def main():
    arguments = sys.argv[1:]
    with_values = "--values" in arguments
    names = [a for a in arguments if a != "--values"]
    data = open(names[0], "rb").read() if names else sys.stdin.buffer.read()
    if data[:1] and (data[0] & 0xf0 != 0x80 and data[0] not in (0xde, 0xdf)):
        done = subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise Bad("zstd refuses it")
        data = done.stdout
    for line in read(data, with_values):
        print(json.dumps(line, ensure_ascii=False))


try:
    main()
except (Bad, UnicodeDecodeError) as why:
    sys.exit(f"read_stream.py: {why}")
