#!/bin/bash
# SPDX-License-Identifier: MIT
# interchange.sh -- autoencoders from here in sae-lens and sparsify, and theirs here; skipped where PYTHON lacks them.
#
# An autoencoder is converted and loaded by each library, which encodes 256 activations; then each library's own file is
# converted back and loaded here. The same features must be found, values equal to 1e-4 of their size: sums over 128
# products in another order, in f32. Then SAELens's kinds with a gate, through our layout and back to theirs.
set -eu
export SPARSIFY_DISABLE_TRITON=1
# shellcheck source=tests/beside_python
. "$(dirname "$0")/beside_python" sae_lens sparsify safetensors torch
golden=$tests/golden/saeuron

cp -r "$golden/sae" sae
jq '.training = {"seed": 7}' "$golden/sae/cfg.json" >sae/cfg.json
sae-convert sae --to sparsify -o to-sparsify
sae-convert sae --to saelens -o to-saelens
sae-convert sae --to saeuron -o same
"$python" - "$golden/saeuron.safetensors" <<'END'
import sys, torch
from sae_lens import SAE
from safetensors.torch import load_file
from sparsify import SparseCoder

golden = load_file(sys.argv[1])
x = golden["act"].reshape(-1, 128).float()
index, value = golden["encode.index"].reshape(len(x), -1).long(), golden["encode.value"].reshape(len(x), -1).float()
want = torch.zeros(len(x), 2048).scatter(1, index, value)     # SAeUron's own code's, as in sae_golden.c

def check(name, got):
    other = int(((got != 0) != (want != 0)).sum())
    print(f"{name}: features that differ: {other} of {int((want != 0).sum())},",
          f"largest error {float((got - want).abs().max()):.2g}")
    assert other == 0 and torch.allclose(got, want, rtol=1e-4, atol=2e-4)

with torch.no_grad():
    theirs = SAE.load_from_disk("to-saelens")
    check("sae-lens", theirs.encode(x))
    theirs.save_model("from-saelens")
    coder = SparseCoder.load_from_disk("to-sparsify")
    e = coder.encode(x)
    check("sparsify", torch.zeros(len(x), 2048).scatter(1, e.top_indices, e.top_acts.float()))
    coder.save_to_disk("from-sparsify")
END
for of in saelens sparsify; do
    sae-convert from-$of --to saeuron -o back-$of
    cmp back-$of/sae.safetensors same/sae.safetensors
done
[ "$(jq -c .training back-saelens/cfg.json)" = '{"seed":7}' ]         # what SAELens does not know passed through it

layouts=$tests/golden-more/sae_layouts
for kind in standard jumprelu gated; do
    sae-convert "$layouts/saelens-$kind" --to ours -o "ours-$kind"
    sae-convert "ours-$kind" --to saelens -o "again-$kind"
done
"$python" - "$layouts" <<'END'
import sys, torch
from sae_lens import SAE
from safetensors.torch import load_file
expected = load_file(f"{sys.argv[1]}/expected.safetensors")
for kind in "standard", "jumprelu", "gated":
    with torch.no_grad():
        got = SAE.load_from_disk(f"again-{kind}").encode(expected["x"])
    want = expected[f"saelens-{kind}"]
    print(f"sae-lens {kind}: largest error {float((got - want).abs().max()):.2g}")
    assert torch.allclose(got, want, rtol=1e-5, atol=1e-5)
END
