"""Train the judge of minisd's pictures, a small network that names object and style; write it as safetensors.

    python train_judge.py MODEL judge.safetensors      # needs torch, diffusers, skia-python; 10 to 20 minutes on two cores

It sees pictures that minicanvas.py draws, and a third of them again through the VAE, never what the UNet draws. Features: the last layer
averaged on a 4x4 grid (object), its mean and maximum (style). Batch normalisation is folded into the convolutions.
"""
import json
import sys
from multiprocessing import Pool

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn

import minicanvas

PLAN = [(3, 40, 6, 4), (40, 80, 3, 2), (80, 112, 3, 1), (112, 160, 3, 2)]      # in, out, kernel, stride; padding 1
GRID, PICTURES, EPOCHS, BATCH = 4, 12000, 6, 128


def draw(job):
    seed, index = job
    k = index % 200
    style = None if k // 20 == 9 else minicanvas.STYLES[k // 20]
    image, obj, number = minicanvas.sample(seed, index, minicanvas.OBJECTS[k % 20], style)[:3]
    return image, obj, number if number >= 0 else 9


def drawn(seed, count):
    with Pool() as pool:
        images, objects, styles = zip(*pool.map(draw, [(seed, i) for i in range(count)], chunksize=250))
    return np.stack(images), torch.tensor(objects), torch.tensor(styles)


@torch.inference_mode()
def through_vae(folder, images):
    vae, out = AutoencoderKL.from_pretrained(f"{folder}/vae").float().eval(), []
    for start in range(0, len(images), 50):
        x = torch.from_numpy(images[start:start + 50]).permute(0, 3, 1, 2).float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mean).sample
        out.append(((y / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(out)


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ModuleList(nn.Conv2d(i, o, k, s, 1, bias=False) for i, o, k, s in PLAN)
        self.norm = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _, _ in PLAN)
        width = PLAN[-1][1]
        self.object, self.style = nn.Linear(width * GRID * GRID, 20), nn.Linear(2 * width, 10)

    def forward(self, x):
        for conv, norm in zip(self.conv, self.norm):
            x = F.relu(norm(conv(x)))
        x = F.dropout(x, 0.1, self.training)
        grid = F.adaptive_avg_pool2d(x, GRID).permute(0, 2, 3, 1).flatten(1)
        return self.object(grid), self.style(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))

    def tensors(self):
        out, width = {}, PLAN[-1][1]
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm)):
            gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            out[f"conv.{i}.weight"] = (conv.weight * gain.view(-1, 1, 1, 1)).half()
            out[f"conv.{i}.bias"] = norm.bias - norm.running_mean * gain
        both = torch.zeros(2, 20, width * (GRID * GRID + 2))                    # each head over all features
        both[0, :, :width * GRID * GRID] = self.object.weight
        both[1, :10, width * GRID * GRID:] = self.style.weight
        out.update({"concept.weight": both[0].half(), "concept.bias": self.object.bias,
                    "theme.weight": both[1, :10].half(), "theme.bias": self.style.bias})
        return {name: value.detach().contiguous() for name, value in out.items()}


def augment(x, rng):
    """Shift, mirror, gain and offset a channel, blur, noise, a hidden square."""
    top, left = rng.integers(0, 13, 2)
    x = F.pad(x, (6, 6, 6, 6), mode="reflect")[:, :, top:top + 128, left:left + 128]
    n = len(x)
    x = torch.where((torch.rand(n) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)
    x = x * (1 + (torch.rand(n, 3, 1, 1) - 0.5) * 0.16) + (torch.rand(n, 3, 1, 1) - 0.5) * 0.1
    if rng.random() < 0.3:
        x = 0.6 * F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1) + 0.4 * x
    x = x + torch.randn_like(x) * torch.rand(n, 1, 1, 1) * 0.06
    side = int(rng.integers(0, 28))
    if rng.random() < 0.5 and side > 4:
        top, left = rng.integers(0, 128 - side, 2)
        x[:, :, top:top + side, left:left + side] = torch.rand(n, 3, 1, 1)
    return x.clamp(0, 1) * 2 - 1


def main(folder, out):
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    images, objects, styles = drawn(71001, PICTURES)
    again = rng.permutation(PICTURES)[:PICTURES // 3]
    images = np.concatenate([images, through_vae(folder, images[again])])
    objects, styles = torch.cat([objects, objects[again]]), torch.cat([styles, styles[again]])
    judge = Judge()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps, pct_start=0.15)
    for epoch in range(EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            pick = order[start:start + BATCH]
            x = augment(torch.from_numpy(images[pick]).permute(0, 3, 1, 2).float() / 255, rng)
            a, b = judge(x)
            loss = (F.cross_entropy(a, objects[pick], label_smoothing=0.05) + F.cross_entropy(b, styles[pick], label_smoothing=0.05))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}", flush=True)
    judge.eval()
    save_file(judge.tensors(), out, metadata={
        "size": "128", "grid": str(GRID), "conv": " ".join(f"{stride},1" for *_, stride in PLAN),
        "concept": json.dumps(minicanvas.OBJECTS), "theme": json.dumps([*minicanvas.STYLES, ""])})


if __name__ == "__main__":
    main(*sys.argv[1:3])
