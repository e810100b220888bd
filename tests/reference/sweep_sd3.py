# SPDX-License-Identifier: MIT
"""Random small Stable Diffusion 3s, drawn by StableDiffusion3Pipeline and by the programs, in float32.

    PATH=bin:$PATH python3 sweep_sd3.py FOLDER [FIRST [COUNT]]      FOLDER: for the models; tests/golden-more is read

Of each model, another config by its number (norms of q and k or not, dual attention in some blocks, with T5 or
without): states and pooled embeddings of two prompts, a hooked module and the final latents of a run at a size of its
own, with guidance, with a negative prompt, from pictures, or not.
Prints the largest error of each as a share of its range, and the worst of all. Exits 77 where torch, diffusers or
transformers are missing.
"""
import random
import shutil
import sys
from pathlib import Path

try:
    import torch
    from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel,
                           StableDiffusion3Img2ImgPipeline, StableDiffusion3Pipeline)
    from PIL import Image
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast
except ImportError:
    sys.exit(77)
from sweep_sdxl import NEGATIVE, PROMPTS, TESTS, beside, sweep, text_encoder, unsettle

MODEL = TESTS/"golden-more/sd3"


def t5(rng, vocab, width):
    heads, size = rng.choice(((2, 8), (3, 8), (4, 16)))
    return T5EncoderModel(T5Config(
        vocab_size=vocab, d_model=width, d_kv=size, num_heads=heads, d_ff=rng.choice((24, 64)),
        num_layers=rng.choice((1, 2, 4)), feed_forward_proj="gated-gelu", dropout_rate=0.0,
        relative_attention_num_buckets=rng.choice((4, 8, 32)), relative_attention_max_distance=rng.choice((16, 128))))


def transformer(rng, width, pooled, channels):
    heads, size, layers = rng.choice((1, 2, 3)), rng.choice((8, 16, 32)), rng.choice((1, 2, 3, 4))
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=channels, out_channels=channels, num_layers=layers,
        attention_head_dim=size, num_attention_heads=heads, joint_attention_dim=width, pooled_projection_dim=pooled,
        caption_projection_dim=heads*size, pos_embed_max_size=rng.choice((6, 9, 24)),
        qk_norm=rng.choice((None, "rms_norm")),
        dual_attention_layers=tuple(sorted(rng.sample(range(layers), rng.randint(0, layers)))))


def pipeline(rng):
    tokenizers = [CLIPTokenizer.from_pretrained(MODEL/f) for f in ("tokenizer", "tokenizer_2")]
    third = T5TokenizerFast.from_pretrained(MODEL/"tokenizer_3")
    first, width = text_encoder(rng, CLIPTextModelWithProjection, len(tokenizers[0]), 16)
    second, width2 = text_encoder(rng, CLIPTextModelWithProjection, len(tokenizers[0]), 16)
    width += width2 + rng.choice((0, 5, 16))
    channels = rng.choice((4, 16))
    vae = AutoencoderKL(block_out_channels=(4,)*4, layers_per_block=1, norm_num_groups=2, latent_channels=channels,
                        scaling_factor=1.5305, shift_factor=rng.choice((0.0609, -0.3)), use_quant_conv=False,
                        use_post_quant_conv=False, down_block_types=("DownEncoderBlock2D",)*4,
                        up_block_types=("UpDecoderBlock2D",)*4)
    parts = dict(text_encoder=first, text_encoder_2=second, vae=vae, text_encoder_3=t5(rng, 160, width),
                 transformer=transformer(rng, width, first.config.projection_dim + second.config.projection_dim,
                                         channels))
    unsettle(parts)
    if rng.random() < 0.3:
        parts["text_encoder_3"] = third = None
    made = StableDiffusion3Pipeline(tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], tokenizer_3=third,
                                    scheduler=FlowMatchEulerDiscreteScheduler(shift=rng.choice((1.0, 3.0, 6.5))),
                                    **parts)
    made.set_progress_bar_config(disable=True)
    return made


def modules(model):
    """Those whose outputs can be hooked, as diffusers names them."""
    for i, block in enumerate(model.transformer_blocks):
        yield f"transformer_blocks.{i}"
        yield f"transformer_blocks.{i}.attn"
        yield f"transformer_blocks.{i}.ff"
        if block.attn2 is not None:
            yield f"transformer_blocks.{i}.attn2"


def image_part(path, output):
    return (output[1] if path.count(".") == 1 else output[0]) if isinstance(output, tuple) else output


def compare(number, folder):
    rng = random.Random(number)
    torch.manual_seed(number)
    p = pipeline(rng)
    p.save_pretrained(folder)
    for f in ("tokenizer", "tokenizer_2", "tokenizer_3"):       # the files as they are
        shutil.rmtree(folder/f, ignore_errors=True)
        if f != "tokenizer_3" or p.tokenizer_3:
            shutil.copytree(MODEL/f, folder/f)
    guidance, negative, steps = rng.choice((1.0, 3.0, 7.5)), rng.choice((None, NEGATIVE)), rng.choice((2, 3, 5))
    most = 2*p.transformer.config.pos_embed_max_size*8
    height, width = (rng.choice([side for side in (32, 48, 64, 80, 96) if side <= most]) for _ in range(2))
    hook, length = rng.choice(list(modules(p.transformer))), rng.choice((20, 40))
    skip = rng.choice((0, 1)) if min(e.config.num_hidden_layers for e in (p.text_encoder, p.text_encoder_2)) > 1 else 0
    strength = rng.choice((None, None, 0.75))

    how = {"max_sequence_length": length, "clip_skip": skip}
    state, _, pooled, _ = p.encode_prompt(PROMPTS, None, None, do_classifier_free_guidance=False, **how)
    how |= {"negative_prompt": negative and [negative]*2, "guidance_scale": guidance, "num_inference_steps": steps,
            "output_type": "latent", "generator": [torch.Generator().manual_seed(s) for s in (1, 2)]}
    seen = []
    handle = p.transformer.get_submodule(hook).register_forward_hook(lambda m, i, o: seen.append(image_part(hook, o)))
    if strength:
        pixels = (torch.rand(height, width, 3)*255).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder/"begin.png")
        image = pixels.permute(2, 0, 1).float()/127.5 - 1
        latents = StableDiffusion3Img2ImgPipeline(**p.components)(
            PROMPTS, image=torch.stack([image]*2), strength=strength, height=height, width=width, **how).images
    else:
        latents = p(PROMPTS, height=height, width=width, **how).images
    handle.remove()
    acts = torch.stack([s.chunk(2)[1] if guidance > 1 else s for s in seen], 1)         # [picture, step, tokens, C]

    encode = (f"sd-encode-text -q --no-compress -m {folder} --clip-skip {skip} --t5-tokens {length}"
              + (f" -n '{negative}'" if negative else ""))
    sample = (f"sd-sample-hooked -q --no-compress -m {folder} --steps {steps} --guidance {guidance} --height {height} "
              f"--width {width} " + (f"--init {folder}/begin.png --strength {strength} " if strength else ""))
    errors = beside(encode, sample, hook, state, pooled, acts, latents)
    print(f"{number}: {height}x{width}, guidance {guidance}, {'negative, ' if negative else ''}clip skip {skip}, "
          f"{f'T5 of {length}' if p.text_encoder_3 else 'no T5'}, {'from a picture, ' if strength else ''}{hook}: "
          "states {:.1e}, pooled {:.1e}, activations {:.1e}, latents {:.1e}".format(*errors), flush=True)
    return errors


if __name__ == "__main__":
    with torch.no_grad():
        sweep(compare, Path(sys.argv[1]), *map(int, sys.argv[2:]))
