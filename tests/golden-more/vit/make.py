#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make.py -- a tiny vision transformer and what timm 1.0 makes of some pictures with it, for tests/unit/golden_vit.c;
torchvision's transforms on Pillow 12 (13 resizes pictures taller than wide in another order).

    tiny.pth                as a training saves it: weights under "model_state_dict", beside what is no weight of it
    tiny.safetensors        the same weights by themselves
    expected.safetensors    N.image [H,W,3], N.resized [16,16,3], both u8; embedding.H [B,64] and logits.H [B,7] with H
                            heads of attention
"""
import os, numpy as np, PIL, timm, torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms

assert int(PIL.__version__.split(".")[0]) < 13, "Pillow 12 or older"
os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(0)
rng = np.random.RandomState(0)

def vit(heads):
    return timm.models.VisionTransformer(img_size=16, patch_size=4, embed_dim=64, depth=2, num_heads=heads,
                                         mlp_ratio=0.25, num_classes=7).eval()

weights = {k: (torch.randn_like(v) * (0.2 if v.dim() > 1 else 0.5) + (k.endswith("weight") and v.dim() == 1)).half()
           for k, v in vit(1).state_dict().items()}
weights["cls_token"] *= 3
# Adam's moments of one parameter, as large as it
moments = {0: {"step": torch.tensor(9.0), "exp_avg": torch.zeros(1, 1, 64), "exp_avg_sq": torch.zeros(1, 1, 64)}}
group = {"lr": 1e-5, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None, "params": [0]}
torch.save({"epoch": 3, "model_state_dict": weights, "loss": 0.25, "best": torch.tensor(0.875),
            "optimizer_state_dict": {"state": moments, "param_groups": [group]}}, "tiny.pth")
save_file(weights, "tiny.safetensors")

resize = transforms.Resize((16, 16))
prepare = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
expected, pixels = {}, []
for n, (H, W) in enumerate([(16, 16), (40, 40), (9, 5), (23, 51), (60, 31), (16, 33), (100, 16)]):
    image = rng.randint(0, 256, (H, W, 3)).astype(np.uint8)
    expected[f"{n}.image"] = torch.from_numpy(image)
    expected[f"{n}.resized"] = torch.from_numpy(np.array(resize(Image.fromarray(image))))
    pixels.append(prepare(Image.fromarray(image)))
for heads in (1, 2):
    model = vit(heads)
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    with torch.no_grad():
        tokens = model.forward_features(torch.stack(pixels))
        expected[f"embedding.{heads}"] = model.forward_head(tokens, pre_logits=True).contiguous()
        expected[f"logits.{heads}"] = model.forward_head(tokens).contiguous()
save_file(expected, "expected.safetensors")
