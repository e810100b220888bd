# SPDX-License-Identifier: MIT
"""The peers on a GPU, at the shapes that unet_speed and sae_device_speed take: TSV lines of what and how fast.

    python3 device_peers.py unet [BATCH...]       diffusers' UNet of Stable Diffusion 1.5's shape (64x64 latents, bf16,
                                                  channels last), as it is and by torch.compile
    python3 device_peers.py sae D F K BATCH       sparsify's whole training step with Adam, f32 and bf16 by autocast

READY=FILE is made when all is compiled, HOLD=FILE is waited for before the times are taken: what compiles for minutes
can do so beside something else. Exits 77 where torch, a GPU or the library is missing.
"""
import os
import sys
import tempfile
import time

try:
    import torch
except ImportError:
    sys.exit(77)


def meet():
    if "READY" in os.environ:
        open(os.environ["READY"], "w").close()
    while "HOLD" in os.environ and not os.path.exists(os.environ["HOLD"]):
        time.sleep(0.1)


def seconds(run, times=10):
    """Least of three means."""
    best = 1e9
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - start) / times)
    return best


def unet(batches):
    from diffusers import UNet2DConditionModel
    with torch.device("cuda"):
        net = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8, layers_per_block=2,
                                   block_out_channels=(320, 640, 1280, 1280))
    net = net.to(torch.bfloat16).to(memory_format=torch.channels_last).eval()
    compiled = torch.compile(net, mode="reduce-overhead")
    runs = []
    for batch in batches:
        x = torch.randn(batch, 4, 64, 64, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        text = torch.randn(batch, 77, 768, device="cuda", dtype=torch.bfloat16)
        t = torch.tensor(500, device="cuda")
        for name, model in (("diffusers", net), ("diffusers, torch.compile", compiled)):
            runs.append((name, batch, lambda model=model, x=x, t=t, text=text:
                         model(x, t, encoder_hidden_states=text).sample))
    for _, _, run in runs:
        for _ in range(3):
            run()
    meet()
    for name, batch, run in runs:
        print(f"{name} bf16, batch {batch}\t{batch / seconds(run):.1f}\tevaluations/s", flush=True)


def sae(width, features, k, batch, warm=10, steps=40):
    from sparsify import SparseCoderConfig, TrainConfig, Trainer

    x = torch.randn(8 * batch, width, device="cuda")

    class Source(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Identity()
            self.device = torch.device("cuda")
            self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}
            self.step, self.stamp = 0, {}

        @property
        def base_model(self):
            return self

        def forward(self, input_ids):
            if input_ids.numel() == 1:
                return self.place(torch.zeros(1, 1, width, device="cuda"))
            if self.step in (warm, warm + steps):
                torch.cuda.synchronize()
                self.stamp[self.step] = time.perf_counter()
            start = self.step % 8 * batch
            self.step += 1
            return self.place(x[None, start:start + batch])

    for name, autocast in (("f32", False), ("bf16", True)):
        torch.set_float32_matmul_precision("high")
        source = Source()
        with tempfile.TemporaryDirectory() as folder:
            config = TrainConfig(SparseCoderConfig(num_latents=features, k=k), batch_size=1, hookpoints=["place"],
                                 optimizer="adam", save_every=10**9, save_dir=folder, run_name="fit",
                                 log_to_wandb=False)
            ids = torch.zeros(batch, dtype=torch.long)
            trainer = Trainer(config, [{"input_ids": ids}] * (warm + steps + 1), source)
            with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
                trainer.fit()
        took = source.stamp[warm + steps] - source.stamp[warm]
        print(f"sparsify {name}, d {width} n {features} k {k}, batch {batch}\t{steps * batch / took:.0f}\ttokens/s",
              flush=True)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit(77)
    with torch.no_grad() if sys.argv[1] == "unet" else torch.enable_grad():
        if sys.argv[1] == "unet":
            unet([int(b) for b in sys.argv[2:]] or [2, 32])
        else:
            sae(*(int(v) for v in sys.argv[2:6]))
