#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""vision.py -- a vision transformer of the shape of UnlearnCanvas's classifiers (ViT-L/16 at 224, random weights)
beside timm: largest errors of logits and embeddings, whether both name the same class, and pictures a second.

    python3 tests/peers/vision.py [PICTURES]        timm, torchvision and safetensors; 1.2 GB in a temporary folder

Rates are of both in turn, three times, the median: of sd-encode-image from what a run of more pictures takes beyond one
of fewer, so without loading; of timm with preparing and the network, in batches of 32. Exits 77 where timm is missing.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
try:
    import numpy as np
    import timm
    import torch
    from PIL import Image
    from torchvision import transforms
except ImportError as why:
    print(why)
    sys.exit(77)

PREPARE = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])


def make_network(path):
    """Random weights, larger than timm's start, so that attention attends; as a trainer saves them."""
    torch.manual_seed(0)
    model = timm.create_model("vit_large_patch16_224", num_classes=51).eval()
    with torch.no_grad():
        for name, w in model.named_parameters():
            if w.dim() == 1:
                w.add_(0.1 * torch.randn_like(w))
            elif "qkv" in name or "head" in name:
                w.copy_(torch.randn_like(w) * 0.05)
    torch.save({"epoch": 1, "model_state_dict": model.state_dict()}, path)
    return model


def make_pictures(folder, count):
    """Smooth noise, of 512 x 512 and every fourth 384 high."""
    rng = np.random.RandomState(0)
    os.makedirs(folder)
    for i in range(count):
        coarse = Image.fromarray(rng.randint(0, 256, (12, 12, 3)).astype(np.uint8))
        coarse.resize((512, 384 if i % 4 == 3 else 512), Image.BICUBIC).save(f"{folder}/{i:03}.png")


def theirs(model, folder, names):
    logits, embeddings = [], []
    for at in range(0, len(names), 32):
        x = torch.stack([PREPARE(Image.open(f"{folder}/{n}")) for n in names[at:at + 32]])
        with torch.inference_mode():
            y = model.forward_head(model.forward_features(x), pre_logits=True)
            embeddings.append(y)
            logits.append(model.head(y))
    return torch.cat(logits).float().numpy(), torch.cat(embeddings).float().numpy()


def ours(network, files, out, dtype):
    subprocess.run([f"{ROOT}/bin/sd-encode-image", "-q", "--backend", "cpu", "--dtype", dtype, "--net",
                    f"theme={network}", "-o", out] + files, check=True)


def read(stream):
    text = subprocess.run([sys.executable, f"{ROOT}/tests/read_stream.py", "--values", stream], check=True,
                          capture_output=True, text=True).stdout
    records = [json.loads(line) for line in text.splitlines()[1:]]
    return [np.array([r[f"theme.{part}"]["values"] for r in records], np.float32) for part in ("logits", "embedding")]


def seconds(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    with tempfile.TemporaryDirectory() as work:
        network, folder, out = f"{work}/style50.pth", f"{work}/pictures", f"{work}/e.mpk.zst"
        model = make_network(network)
        make_pictures(folder, count)
        names = sorted(os.listdir(folder))
        files = [f"{folder}/{n}" for n in names]
        logits, embeddings = theirs(model, folder, names)
        print(f"{count} pictures; logits to {abs(logits).max():.3g}, embeddings to {abs(embeddings).max():.3g}; "
              f"{torch.get_num_threads()} threads")
        for dtype in ("f32", "bf16"):
            ours(network, files, out, dtype)
            got_logits, got_embeddings = read(out)
            print(f"{dtype}: largest error of logits {abs(got_logits - logits).max():.3g}, of embeddings "
                  f"{abs(got_embeddings - embeddings).max():.3g}; the same class "
                  f"{(got_logits.argmax(1) == logits.argmax(1)).sum()} of {count}")
        rates = {"f32": [], "bf16": [], "timm f32": [], "timm bf16": []}
        few = count // 4
        for _ in range(3):
            for dtype in ("f32", "bf16"):
                extra = seconds(lambda: ours(network, files, out, dtype)) \
                      - seconds(lambda: ours(network, files[:few], out, dtype))
                rates[dtype].append((count - few) / extra)
            rates["timm f32"].append(count / seconds(lambda: theirs(model, folder, names)))
            with torch.autocast("cpu", torch.bfloat16):
                rates["timm bf16"].append(count / seconds(lambda: theirs(model, folder, names)))
        for name, found in rates.items():
            print(f"{name}: {statistics.median(found):.2f} pictures/s ({', '.join(f'{x:.2f}' for x in found)})")


if __name__ == "__main__":
    main()
