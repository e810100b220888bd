# SPDX-License-Identifier: MIT
"""Random small Stable Diffusion XLs, drawn by StableDiffusionXLPipeline and by the programs, in float32.

    PATH=bin:$PATH python3 sweep_sdxl.py FOLDER [FIRST [COUNT]]     FOLDER: for the models; tests/golden-more is read

Of each model, another config by its number: states and pooled embeddings of two prompts, a hooked transformer block and
the final latents of a run at a size of its own, by one of six samplers, with guidance, with a negative prompt, or not;
some UNets are told their guidance, some prompts taken a layer earlier.
Prints the largest error of each as a share of its range, and the worst of all. Exits 77 where torch, diffusers or
transformers are missing.
"""
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

try:
    import torch
    from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                           EulerDiscreteScheduler, LCMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel)
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
except ImportError:
    sys.exit(77)

TESTS = Path(__file__).resolve().parent.parent
SAMPLERS = {"ddim": (DDIMScheduler, {}), "dpm++2m": (DPMSolverMultistepScheduler, {}),
            "dpm++2m-karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
            "euler": (EulerDiscreteScheduler, {}), "euler-a": (EulerAncestralDiscreteScheduler, {}),
            "lcm": (LCMScheduler, {})}
PROMPTS, NEGATIVE = ["a red tower", "fish in the rain, fish in the rain, fish"], "a blurry fish"


def text_encoder(rng, kind, vocab, length):
    heads = rng.choice((1, 2, 3))
    width = heads*rng.choice((8, 12, 16))
    return kind(CLIPTextConfig(
        vocab_size=vocab, max_position_embeddings=length, hidden_size=width, num_attention_heads=heads,
        intermediate_size=rng.choice((24, 40)), num_hidden_layers=rng.choice((1, 2, 4)),
        projection_dim=rng.choice((5, 16, 24)), hidden_act=rng.choice(("gelu", "quick_gelu")), bos_token_id=0,
        eos_token_id=rng.choice((2, vocab - 1)), pad_token_id=1)), width


def unet(rng, width, pooled):
    levels = rng.choice((2, 3, 3, 4))
    with_text = [rng.random() < 0.7 for _ in range(levels)]
    heads = [rng.choice((1, 2, 4)) for _ in range(levels)]
    each = rng.choice((7, 8, 16))
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=[rng.choice((16, 24, 32, 64)) for _ in range(levels)],
        layers_per_block=rng.choice((1, 2)), norm_num_groups=rng.choice((2, 4, 8)), cross_attention_dim=width,
        transformer_layers_per_block=[rng.choice((1, 2, 3)) for _ in range(levels)], attention_head_dim=heads,
        use_linear_projection=rng.random() < 0.7, addition_embed_type="text_time", addition_time_embed_dim=each,
        projection_class_embeddings_input_dim=pooled + 6*each, flip_sin_to_cos=rng.random() < 0.8,
        freq_shift=rng.choice((0, 0, 1)), time_embedding_dim=rng.choice((None, 40)),
        time_cond_proj_dim=rng.choice((None, None, 33, 64)),
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in with_text],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(with_text)])


def unsettle(parts):
    """Weights that differ from a fresh model's: biases and scales that are not all alike, larger matrices."""
    for part in parts.values():
        for p in part.parameters():
            p.data = (p.data + 0.1*torch.randn(p.shape) if p.ndim == 1 else 1.5*p.data)
        part.eval()


def pipeline(rng):
    tokenizers = [CLIPTokenizer.from_pretrained(TESTS/"golden-more/sdxl"/f) for f in ("tokenizer", "tokenizer_2")]
    vocab, length = len(tokenizers[0]), tokenizers[0].model_max_length
    first, width = text_encoder(rng, CLIPTextModel, vocab, length)
    second, width2 = text_encoder(rng, CLIPTextModelWithProjection, vocab, length)
    vae = AutoencoderKL(block_out_channels=(4,)*4, layers_per_block=1, norm_num_groups=2, latent_channels=4,
                        down_block_types=("DownEncoderBlock2D",)*4, up_block_types=("UpDecoderBlock2D",)*4)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1,
                              prediction_type=rng.choice(("epsilon", "v_prediction")),
                              timestep_spacing=rng.choice(("leading", "trailing")))
    parts = dict(text_encoder=first, text_encoder_2=second, vae=vae,
                 unet=unet(rng, width + width2, second.config.projection_dim))
    unsettle(parts)
    made = StableDiffusionXLPipeline(tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], scheduler=scheduler,
                                     add_watermarker=False, force_zeros_for_empty_prompt=rng.random() < 0.7, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def records(command, text):
    out = subprocess.run(f"{command} | {TESTS}/read_stream.py --values", shell=True, input=text, capture_output=True,
                         check=True).stdout
    return [json.loads(line) for line in out.splitlines()][1:]


def tensor(t):
    return torch.tensor(t["values"]).reshape(t["shape"])


def error(got, want):
    return float((got - want).abs().max()/want.abs().max())


def beside(encode, sample, hook, state, pooled, acts, latents):
    """The programs' errors: of the prompts' states and pooled embeddings, the hooked module, the last latents."""
    lines = "".join(json.dumps({"prompt": t, "seed": i}) + "\n" for i, t in enumerate(PROMPTS, 1)).encode()
    texts = records(encode, lines)
    drawn = records(f"{encode} | {sample} --no-activations --latents -", lines)
    hooked = records(f"{encode} | {sample} --act-type f32 --hook {hook}", lines)
    got = torch.stack([tensor(r["act"]).flatten(0, 1) for r in hooked]).reshape(acts.shape)
    return (error(torch.stack([tensor(r["state"]) for r in texts]), state),
            error(torch.stack([tensor(r["pooled"]) for r in texts]), pooled), error(got, acts),
            error(torch.stack([tensor(r["latent"]) for r in drawn]), latents))


def compare(number, folder):
    rng = random.Random(number)
    torch.manual_seed(number)
    p = pipeline(rng)
    p.save_pretrained(folder)
    for f in ("tokenizer", "tokenizer_2"):              # the files as they are, whatever this transformers writes
        shutil.rmtree(folder/f)
        shutil.copytree(TESTS/"golden-more/sdxl"/f, folder/f)
    guidance, negative, steps = rng.choice((1.0, 3.0, 7.5)), rng.choice((None, NEGATIVE)), rng.choice((2, 3, 5))
    height, width = (rng.choice((32, 40, 64, 72)) for _ in range(2))
    names = [n for n, _ in p.unet.named_modules() if n.rpartition(".")[0].endswith("transformer_blocks")]
    hook, sampler = rng.choice(names), rng.choice(list(SAMPLERS))
    kind, options = SAMPLERS[sampler]
    p.scheduler = kind.from_config(p.scheduler.config, **options)

    skip = rng.choice((0, 1)) if min(e.config.num_hidden_layers for e in (p.text_encoder, p.text_encoder_2)) > 1 else 0
    told = p.unet.config.time_cond_proj_dim is not None

    state, _, pooled, _ = p.encode_prompt(PROMPTS, do_classifier_free_guidance=False, clip_skip=skip)
    seen = []
    handle = p.unet.get_submodule(hook).register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    latents = p(PROMPTS, negative_prompt=negative and [negative]*2, height=height, width=width, guidance_scale=guidance,
                num_inference_steps=steps, output_type="latent", clip_skip=skip,
                generator=[torch.Generator().manual_seed(s) for s in (1, 2)]).images
    handle.remove()
    acts = torch.stack([s.chunk(2)[1] if guidance > 1 and not told else s for s in seen], 1)
    # [picture, step, tokens, C]

    encode = (f"sd-encode-text -q --no-compress -m {folder} --clip-skip {skip}"
              + (f" -n '{negative}'" if negative else ""))
    sample = (f"sd-sample-hooked -q --no-compress -m {folder} --steps {steps} --guidance {guidance} --height {height} "
              f"--width {width} --sampler {sampler} ")
    errors = beside(encode, sample, hook, state, pooled, acts, latents)
    print(f"{number}: {height}x{width}, guidance {guidance}{' in the UNet' if told else ''}, "
          f"{'negative, ' if negative else ''}clip skip {skip}, {sampler}, {hook}: "
          "states {:.1e}, pooled {:.1e}, activations {:.1e}, latents {:.1e}".format(*errors), flush=True)
    return errors


def sweep(compare, folder, first=0, count=30):
    worst = (0,)*4
    for number in range(first, first + count):
        worst = tuple(map(max, worst, compare(number, folder/str(number))))
        shutil.rmtree(folder/str(number))
    print("worst: states {:.1e}, pooled {:.1e}, activations {:.1e}, latents {:.1e}".format(*worst))


if __name__ == "__main__":
    with torch.no_grad():
        sweep(compare, Path(sys.argv[1]), *map(int, sys.argv[2:]))
