# SPDX-License-Identifier: MIT
"""sets.py -- the activations that the trainers are compared on, made once and kept in CACHE (default build/peers).

    minisd      600 pictures of the small model, 25 steps, up_blocks.1.attentions.1: 960,000 tokens of width 128, passed
                over twice; held out are 200 pictures of other prompts, 16 tokens of each step
    synthetic   524,288 tokens of width 1280 from 2,048 known features, passed over once, and 32,768 held out:

                    x = b + sum over 16 of a_f u_f + noise        u_f random unit vectors, a = |normal| + 0.5

                a token's features are drawn without replacement with weights 1/(rank + 10); noise is a twentieth of the
                features' energy, b is normal, 0.1 in each dimension. Rounded to bfloat16, as in the stream.
"""
import os
import subprocess
from dataclasses import dataclass

import numpy as np

from activation_stream import read_tokens, write_tokens

TESTS = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("CACHE", os.path.join(TESTS, "..", "..", "build", "peers"))
TRUE, ACTIVE = 2048, 16


@dataclass
class Set:
    width: int
    features: int
    k: int
    batch: int
    tokens: int             # trained on
    stream: str             # of train, for sae-fit
    train: np.ndarray       # (N,D) as Feed takes it
    held: np.ndarray
    truth: np.ndarray       # (TRUE,D) or None


def capture(path, prompts, options):
    line = f"sd-assemble-prompts {prompts} | sd-encode-text --no-compress | " \
           f"sd-sample-hooked --quiet --dtype auto --no-compress {options} -o {path}"
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)


def minisd(folder):
    arrays = []
    for name, prompts, options in (("train", "--split gather --count 3", ""),
                                   ("held", "--split generate --count 1", "--tokens 16")):
        stream, array = f"{folder}/{name}.mpk", f"{folder}/{name}.npy"
        if not os.path.exists(stream):
            capture(stream, prompts, options)
        if not os.path.exists(array):
            np.save(array, np.concatenate([np.frombuffer(data, "<f2").reshape(-1, 128)
                                           for _, data in read_tokens(stream)]))
        arrays.append(np.load(array, mmap_mode="r"))
    return Set(128, 2048, 16, 1024, 1875 * 1024, f"{folder}/train.mpk", *arrays, None)


def as_bfloat16(x):
    """float32 to the nearest bfloat16, ties to even, as uint16."""
    bits = x.view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def draw(rng, u, b, n):
    weight = 1 / (np.arange(TRUE, dtype=np.float32) + 10)
    arrival = rng.standard_exponential((n, TRUE), dtype=np.float32) / weight    # the first 16 to arrive
    chosen = np.argpartition(arrival, ACTIVE, axis=1)[:, :ACTIVE]
    a = np.zeros((n, TRUE), np.float32)
    strength = np.abs(rng.standard_normal((n, ACTIVE), dtype=np.float32)) + np.float32(0.5)
    np.put_along_axis(a, chosen, strength, axis=1)
    signal = a @ u
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    return as_bfloat16(signal + b + noise * np.sqrt(0.05 * ACTIVE * 2.048 / u.shape[1]).astype(np.float32))


def synthetic(folder, width=1280):
    stream, truth = f"{folder}/train.mpk", f"{folder}/truth.npy"
    if not os.path.exists(stream):
        rng = np.random.default_rng(7)
        u = rng.standard_normal((TRUE, width), dtype=np.float32)
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        b = 0.1 * rng.standard_normal(width, dtype=np.float32)
        np.save(truth, u)
        np.save(f"{folder}/held.npy", np.concatenate([draw(rng, u, b, 4096) for _ in range(8)]))
        train = np.concatenate([draw(rng, u, b, 4096) for _ in range(128)])
        np.save(f"{folder}/train.npy", train)
        write_tokens(stream + ".new", "bfloat16", (part.tobytes() for part in np.split(train, 512)), width)
        os.rename(stream + ".new", stream)
    train, held = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("train", "held"))
    return Set(width, 4096, 16, 512, 1024 * 512, stream, train, held, np.load(truth))


def get(name):
    folder = os.path.join(CACHE, name)
    os.makedirs(folder, exist_ok=True)
    return {"minisd": minisd, "synthetic": synthetic}[name](folder)
