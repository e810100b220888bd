#!/bin/bash
# SPDX-License-Identifier: MIT
# msgpack_numpy.sh -- streams and the real msgpack + msgpack-numpy, both ways; skipped where PYTHON lacks them.
#
# Reads with them what tstream wrote, and writes with them, numpy scalars included, what tstream reads.
set -eu
# shellcheck source=tests/beside_python
PYTHON=${PYTHON:-/usr/bin/python3}       # which the package is for: another may come first in PATH
. "$(dirname "$0")/beside_python" msgpack msgpack_numpy numpy

"$python" - > theirs.mpk <<'END'
import sys, msgpack, msgpack_numpy, numpy as np
def put(o): sys.stdout.buffer.write(msgpack.packb(o, default=msgpack_numpy.encode))
put({"stream": "activations", "version": 1, "model": "m", "provenance": []})
rng = np.random.default_rng(0)
for i in range(20):
    put({"id": f"a/{i}", "seed": np.int64(i - 5), "score": np.float32(0.5 * i), "t": 981 - i,
         "act": rng.standard_normal((4, 3, 5)).astype(np.float16), "wide": rng.standard_normal((2, 3)),
         "index": rng.integers(-99, 99, (7,), dtype=np.int32),
         "pixels": rng.integers(0, 255, (2, 2, 3), dtype=np.uint8)})
put({"end": 20})
END
tstream check theirs.mpk
[ "$(tstream view theirs.mpk | jq -c '[.seed, .score]' | tail -n 1)" = '[14,9.5]' ]
tstream cat theirs.mpk > ours.mpk.zst
zstd -dcq ours.mpk.zst > ours.mpk

"$python" - <<'END'
import msgpack, msgpack_numpy, numpy as np
def records(name):
    with open(name, "rb") as f:
        return list(msgpack.Unpacker(f, object_hook=msgpack_numpy.decode))
theirs, ours = records("theirs.mpk"), records("ours.mpk")
assert len(theirs) == len(ours) == 22
for a, b in zip(theirs, ours):
    assert list(a) == list(b)
    for key in a:
        if isinstance(a[key], np.ndarray):
            assert a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key])
        else:
            assert a[key] == b[key], (key, a[key], b[key])
END
