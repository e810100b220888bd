#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trial.py -- one training by one library, in a process of its own. Prints one line of JSON.

    trial.py speed LIBRARY D F K BATCH f32|bf16 STEPS   {"version", "tries": [{"setting", "seconds": [of each step]}]}
    trial.py fit LIBRARY SET VARIANT SETTING            {"version", "fvu", "l0", ...} on held-out tokens

LIBRARY names one of with_LIBRARY.py; SETTING is what it takes, in JSON. OMP_NUM_THREADS is the number of threads.
Exits 77 where the library is missing, 3 where it has no such variant.
"""
import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time


sys.dont_write_bytecode = True


def version(package):
    return importlib.metadata.version(package) if package else \
        os.popen("sae-fit --version").read().split()[-1]


def speed(library, width, features, k, batch, type, steps):
    import numpy as np
    from feed import Feed
    x = np.random.default_rng(0).standard_normal((8 * batch, width), dtype=np.float32)
    tries = []
    for setting in library.speed_settings():
        feed = Feed(x, batch, (steps + 1) * batch)
        try:
            with tempfile.TemporaryDirectory() as folder:
                library.fit(feed, "topk", width, features, k, setting, type == "bf16", folder)
        except RuntimeError as why:
            sys.stderr.write(f"{setting}: {why}\n")
            continue
        seconds = [b - a for a, b in zip(feed.stamps, feed.stamps[1:])][:steps]
        tries.append({"setting": setting, "seconds": seconds})
    return {"tries": tries}


def fit(library, name, variant, setting):
    import sets
    from feed import Feed
    from fidelity import measure
    s = sets.get(name)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if library.PACKAGE:
            library.fit(Feed(s.train, s.batch, s.tokens), variant, s.width, s.features, s.k, setting, False, folder)
        else:
            library.fit_stream(s.stream, variant, s.features, s.k, s.batch, s.tokens, setting,
                               os.environ.get("OMP_NUM_THREADS", "0"), folder)
        seconds = time.perf_counter() - begun
        figures = measure(library.Saved(folder, variant), s.held, s.truth)
    return {**figures, "tokens": s.tokens, "seconds": round(seconds)}


def main(what, library, *rest):
    out = os.dup(1)                 # the libraries print as they please
    os.dup2(2, 1)
    try:
        library = importlib.import_module(f"with_{library}")
    except ImportError as why:
        sys.stderr.write(f"{why}\n")
        return 77
    import torch
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    if what == "speed":
        width, features, k, batch, type, steps = rest
        result = speed(library, int(width), int(features), int(k), int(batch), type, int(steps))
    else:
        name, variant, setting = rest
        try:
            result = fit(library, name, variant, json.loads(setting))
        except getattr(library, "NotThere", ()) as why:
            sys.stderr.write(f"{why}\n")
            return 3
    os.write(out, (json.dumps({"version": version(library.PACKAGE), **result}) + "\n").encode())
    return 0


sys.exit(main(*sys.argv[1:]))
