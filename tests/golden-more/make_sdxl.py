#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_sdxl.py -- writes sdxl/ and sdxl.safetensors, with diffusers 0.42 or later, transformers, torch.

    sdxl/                  a tiny Stable Diffusion XL of random weights in half precision: two tokenizers that pad
                           differently, two text encoders, a UNet whose levels have 0, 1 and 2 transformer blocks
    sdxl.safetensors       ids.1, ids.2, state, pooled of TEXTS; x, eps: one UNet evaluation at T = 500 of the first two
                           texts, told of a picture of 64 x 48; three runs of StableDiffusionXLPipeline by DDIM in STEPS
                           steps, by name: guided (no negative prompt), told (NEGATIVE), alone (no guidance); of each
                           the latents before and after each step, of the first also what HOOK computes in both halves
                           and the picture
"""
import json, os, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
TEXTS = ["a red tower", "fish in the rain, fish in the rain, fish in the rain", ""]
NEGATIVE, SEED, STEPS, GUIDANCE, HEIGHT, WIDTH = "a blurry fish", 7, 4, 5.0, 64, 48
HOOK = "up_blocks.0.attentions.1.transformer_blocks.1"
LENGTH = 16


def tokenizer(folder, pad):
    source = "tokenizers/4/tokenizer"
    os.makedirs(folder, exist_ok=True)
    vocab = json.load(open(f"{source}/vocab.json"))
    merges = open(f"{source}/merges.txt", encoding="utf-8").read()
    with open(f"{folder}/merges.txt", "w", encoding="utf-8") as f:
        f.write(merges)
    for name, content in (("vocab.json", vocab), ("special_tokens_map.json", {"pad_token": pad}),
                          ("tokenizer_config.json", {"model_max_length": LENGTH, "bos_token": "<|startoftext|>",
                                                     "pad_token": pad, "tokenizer_class": "CLIPTokenizer"})):
        with open(f"{folder}/{name}", "w") as f:
            json.dump(content, f, separators=(",", ":"))
    return CLIPTokenizer.from_pretrained(folder), len(vocab)


def halved(model):
    """Weights as the file will hold them, with norms that are not the identity."""
    for p in model.parameters():
        p.data = (p.data + 0.1*torch.randn(p.shape)).half().float() if p.ndim == 1 else (2*p.data).half().float()
    return model.eval()


def parts():
    first, vocab = tokenizer("sdxl/tokenizer", "<|endoftext|>")
    second, _ = tokenizer("sdxl/tokenizer_2", "!")
    text = dict(vocab_size=vocab, max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=2, pad_token_id=1)
    torch.manual_seed(17)
    return dict(
        tokenizer=first, tokenizer_2=second,
        text_encoder=halved(CLIPTextModel(CLIPTextConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=16,
            hidden_act="quick_gelu", **text))),
        text_encoder_2=halved(CLIPTextModelWithProjection(CLIPTextConfig(
            hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=3, projection_dim=20,
            hidden_act="gelu", **text))),
        unet=halved(UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4,
            cross_attention_dim=40, transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 2, 4),
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6*8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))),
        vae=halved(AutoencoderKL(
            block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=2, latent_channels=4,
            scaling_factor=0.13025, force_upcast=True, sample_size=64, down_block_types=("DownEncoderBlock2D",)*4,
            up_block_types=("UpDecoderBlock2D",)*4)),
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                                set_alpha_to_one=False, steps_offset=1))


def run(pipeline, name, values, **arguments):
    latents, seen = [], []
    hook = pipeline.unet.get_submodule(HOOK).register_forward_hook(lambda m, i, o: seen.append(o.clone()))

    def keep(p, step, t, tensors):
        latents.append(tensors["latents"].clone())
        return {}
    start = torch.randn(1, 4, HEIGHT//8, WIDTH//8, generator=torch.Generator("cpu").manual_seed(SEED))
    pipeline(TEXTS[0], height=HEIGHT, width=WIDTH, num_inference_steps=STEPS, output_type="latent",
             generator=torch.Generator("cpu").manual_seed(SEED), callback_on_step_end=keep, **arguments)
    hook.remove()
    values[f"{name}.latents"] = torch.cat([start] + latents).contiguous()
    return torch.stack(seen), latents[-1]


def main():
    made = parts()
    for name in ("text_encoder", "text_encoder_2", "unet", "vae"):
        made[name].half().save_pretrained(f"sdxl/{name}")
        made[name].float()
    made["scheduler"].save_pretrained("sdxl/scheduler")
    with open("sdxl/model_index.json", "w") as f:
        json.dump({"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
                   **{name: [type(p).__module__.split(".")[0], type(p).__name__] for name, p in made.items()}},
                  f, indent=1)
    pipeline = StableDiffusionXLPipeline.from_pretrained("sdxl", torch_dtype=torch.float32, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    values = {f"ids.{n}": pipeline_tokenizer(TEXTS, padding="max_length", max_length=LENGTH, truncation=True,
                                             return_tensors="pt").input_ids.int()
              for n, pipeline_tokenizer in ((1, pipeline.tokenizer), (2, pipeline.tokenizer_2))}
    state, _, pooled, _ = pipeline.encode_prompt(TEXTS, do_classifier_free_guidance=False)
    values |= {"state": state.contiguous(), "pooled": pooled.contiguous()}

    x = torch.randn(2, 4, HEIGHT//8, WIDTH//8)
    sizes = torch.tensor([[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]]*2, dtype=torch.float32)
    values["x"] = x
    values["eps"] = pipeline.unet(x, 500, encoder_hidden_states=state[:2],
                                  added_cond_kwargs={"text_embeds": pooled[:2], "time_ids": sizes}).sample.contiguous()

    seen, last = run(pipeline, "guided", values, guidance_scale=GUIDANCE)
    values["guided.hook"] = seen.contiguous()           # [steps, halves, tokens, C]
    image = pipeline.vae.decode(last / pipeline.vae.config.scaling_factor).sample[0]
    values["guided.image"] = ((image/2 + 0.5).clamp(0, 1).permute(1, 2, 0)*255).round().to(torch.uint8).contiguous()
    run(pipeline, "told", values, guidance_scale=GUIDANCE, negative_prompt=NEGATIVE)
    run(pipeline, "alone", values, guidance_scale=0.0)
    save_file(values, "sdxl.safetensors",
              {"texts": json.dumps(TEXTS), "negative": NEGATIVE, "seed": str(SEED), "steps": str(STEPS),
               "guidance": str(GUIDANCE), "hook": HOOK, "height": str(HEIGHT), "width": str(WIDTH)})


if __name__ == "__main__":
    with torch.no_grad():
        main()
