#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- files of torch.save for tests/unit/torch_zip.c, with torch 2.15.

    types.pth      a nested dict: every number type, views with strides, a parameter, a scalar, values
                   that are no tensors
    legacy.pth     the format before torch 1.6
    evil.pth       a pickle that would run a command
"""
import collections, os, torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(0)
m = torch.arange(12, dtype=torch.float32).reshape(3, 4)
values = {
    "f32": m, "f16": m.half(), "bf16": m.bfloat16(), "f64": m.double(), "i8": m.to(torch.int8), "u8": m.to(torch.uint8),
    "i16": m.to(torch.int16), "i32": m.int(), "i64": m.long(), "bool": m > 5,
    "across": m.T, "part": m[1:, 1:3], "every": m.flatten()[1::3], "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "parameter": torch.nn.Parameter(m + 1), "k": 32, "name": "text", "none": None, "rate": 0.5, "big": 1 << 40,
    "flag": True, "list": [m[0], m[1], 3], "pair": (m[2], "x"),
    "layer": torch.nn.Linear(2, 2).state_dict(), "ordered": collections.OrderedDict(a=m[:1].clone()),
    "step": {0: m[:, :1]},
}
torch.save(values, "types.pth")
torch.save({"f32": m}, "legacy.pth", _use_new_zipfile_serialization=False)

class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/executed",)
torch.save({"weight": m, "evil": Evil()}, "evil.pth")
