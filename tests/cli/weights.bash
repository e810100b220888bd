# SPDX-License-Identifier: MIT
# weights.bash -- two autoencoders' weights beside each other, and runs that are killed on the way to them.

# shellcheck shell=bash

# Waits until a file has something in it, half a minute at most.
until_there() { for _ in {1..600}; do [ ! -s "$1" ] || return 0; sleep 0.05; done; false; }

# The largest difference of two folders' weights, which hold the same tensors; with a third word the share that differs
# by more than it.
difference() {
    python3 - "$1/sae.safetensors" "$2/sae.safetensors" "${@:3}" <<'END'
import array, json, sys
def read(path):
    data = open(path, "rb").read()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + size]), array.array("f", data[8 + size:])
(of_a, a), (of_b, b) = map(read, sys.argv[1:3])
assert of_a == of_b and len(a) == len(b)
apart = [abs(x - y) for x, y in zip(a, b)]
print(max(apart) if len(sys.argv) == 3 else sum(x > float(sys.argv[3]) for x in apart)/len(apart))
END
}
