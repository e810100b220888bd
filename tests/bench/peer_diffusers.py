"""The peer of the capture stage: diffusers on torch draws pictures of minisd and hooks one module, as SAeUron's code
does.

    python3 peer_diffusers.py MODEL PICTURES BATCH     ->  TSV: what, UNet evaluations a second

Classifier-free guidance, 25 DDIM steps. One warm-up batch is not counted. Exits 77 where torch or diffusers are
missing.
"""
import sys
import time

try:
    import torch
    from diffusers import StableDiffusionPipeline
except ImportError:
    sys.exit(77)

STEPS = 25


def speed(pipe, pictures, batch, dtype):
    seen = []
    pipe.to(dtype)
    handle = pipe.unet.get_submodule("up_blocks.1.attentions.1").register_forward_hook(
        lambda module, inputs, output: seen.append(output[0].to(torch.float16)))
    prompts = ["A fish in Watercolor style."] * batch

    def draw():
        seen.clear()
        noise = torch.randn(batch, 4, 16, 16, dtype=dtype)
        with torch.inference_mode():
            pipe(prompts, num_inference_steps=STEPS, guidance_scale=4.0, latents=noise, output_type="latent")

    draw()
    rounds = max(1, pictures // batch)
    start = time.time()
    for _ in range(rounds):
        draw()
    handle.remove()
    return rounds * batch * STEPS * 2 / (time.time() - start)


def main(model, pictures, batch):
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    print(f"diffusers f32\t{speed(pipe, pictures, batch, torch.float32):.1f}", flush=True)
    print(f"diffusers bf16\t{speed(pipe, pictures, batch, torch.bfloat16):.1f}", flush=True)
    pipe.unet.to(memory_format=torch.channels_last)
    print(f"diffusers bf16 channels-last\t{speed(pipe, pictures, batch, torch.bfloat16):.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
