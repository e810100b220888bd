# SPDX-License-Identifier: MIT
"""fidelity.py -- one measure for every trainer's autoencoder, as it encodes once it is saved and loaded.

    fvu         sum |x - x'|^2 / sum |x - mean|^2 over the held-out tokens
    l0          features above 0, a token
    dead        share of the features above 0 in none of the held-out tokens
    recovered   share of the true features (T,D) whose largest |cosine| with a decoder row is over 0.9
    cosine      mean over the true features of that largest |cosine|
"""
import torch

from feed import as_float

CHUNK = 2048


def measure(saved, held, truth=None):
    """saved: encode (N,D) -> (N,F), decode (N,F) -> (N,D), decoder (F,D).  held: (N,D) as Feed takes it"""
    with torch.inference_mode():
        mean = sum(as_float(held[at:at + CHUNK]).double().sum(0) for at in range(0, len(held), CHUNK)) / len(held)
        error = spread = active = 0.0
        fired = torch.zeros(len(saved.decoder), dtype=torch.long)
        for at in range(0, len(held), CHUNK):
            x = as_float(held[at:at + CHUNK])
            f = saved.encode(x)
            error += (x - saved.decode(f)).double().square().sum().item()
            spread += (x.double() - mean).square().sum().item()
            fired += (f > 0).sum(0)
        active = fired.sum().item()
        figures = {"fvu": error / spread, "l0": active / len(held), "dead": (fired == 0).double().mean().item()}
        if truth is not None:
            unit = torch.nn.functional.normalize(saved.decoder.float(), dim=1)
            best = (torch.from_numpy(truth) @ unit.T).abs().max(1).values
            figures |= {"recovered": (best > 0.9).double().mean().item(), "cosine": best.mean().item()}
    return figures
