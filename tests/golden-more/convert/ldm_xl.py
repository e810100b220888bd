# SPDX-License-Identifier: MIT
"""ldm_xl.py -- small random Stable Diffusion XLs, and their checkpoints in one file, as ldm.py has others'."""
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
import ldm


def checkpoint(pipe, dtype=None, weight=False, below="", ema=False):
    """A pipeline's weights as one file; weight: text_projection as a linear layer's; below: before every name"""
    out = {"model.diffusion_model." + ldm.unet_name(n, pipe.unet.config): t for n, t in pipe.unet.state_dict().items()}
    if ema:
        for name in list(out):
            out["model_ema." + name.removeprefix("model.").replace(".", "")] = out[name]*0.5
        out["model_ema.num_updates"] = torch.tensor(7)
    out |= {"first_stage_model." + n: t for n, t in ldm.vae_tensors(pipe.vae).items()}
    out |= {"conditioner.embedders.0.transformer.text_model." + n: t
            for n, t in ldm.text_state(pipe.text_encoder).items()}
    second = ldm.open_clip(ldm.text_state(pipe.text_encoder_2), pipe.text_encoder_2.config.num_hidden_layers)
    if weight:
        second["text_projection.weight"] = second.pop("text_projection").T
    out |= {"conditioner.embedders.1.model." + n: t for n, t in second.items()}
    out = {n: t.to(dtype or t.dtype).contiguous().clone() for n, t in out.items()}
    length = pipe.text_encoder.config.max_position_embeddings
    out["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = torch.arange(length)[None]
    out["denoiser.sigmas"] = torch.linspace(0.03, 14.6, 8)
    out["alphas_cumprod"] = torch.linspace(1, 0, 8)
    return {below + n: t for n, t in out.items()}


def text_config(width, layers, act, vocab, length, heads, projection):
    return CLIPTextConfig(vocab_size=vocab, hidden_size=width, intermediate_size=2*width, num_hidden_layers=layers,
                          num_attention_heads=heads, hidden_act=act, projection_dim=projection, bos_token_id=0,
                          max_position_embeddings=length, eos_token_id=2, pad_token_id=1)


def pipeline(folder, seed=0, widths=(8, 16, 16), layers=2, depths=(1, 2, 10), attention=(False, True, True),
             linear=True, vae_widths=(4, 4, 8), vae_layers=2, groups=4, text=(8, 16), text_layers=(2, 3),
             projection=12, sizes=4):
    """A StableDiffusionXLPipeline of random weights; folder: whose tokenizer and tokenizer_2 it takes"""
    tokenizer, tokenizer_2 = (CLIPTokenizer.from_pretrained(f"{folder}/{t}") for t in ("tokenizer", "tokenizer_2"))
    vocab, length = len(tokenizer), tokenizer.model_max_length
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=widths, layers_per_block=layers, norm_num_groups=groups,
        cross_attention_dim=sum(text), transformer_layers_per_block=depths, attention_head_dim=2,
        use_linear_projection=linear, addition_embed_type="text_time", addition_time_embed_dim=sizes,
        projection_class_embeddings_input_dim=projection + 6*sizes,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]])
    n = len(vae_widths)
    vae = AutoencoderKL(block_out_channels=vae_widths, layers_per_block=vae_layers, norm_num_groups=groups,
                        down_block_types=["DownEncoderBlock2D"]*n, up_block_types=["UpDecoderBlock2D"]*n,
                        latent_channels=4, sample_size=8*2**(n - 1), scaling_factor=0.13025)
    first = CLIPTextModel(text_config(text[0], text_layers[0], "quick_gelu", vocab, length, 2, projection))
    second = CLIPTextModelWithProjection(text_config(text[1], text_layers[1], "gelu", vocab, length, 2, projection))
    for i, part in enumerate((unet, vae, first, second)):
        ldm.randomize(part, 100*seed + i)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionXLPipeline(vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=tokenizer,
                                     tokenizer_2=tokenizer_2, unet=unet, scheduler=scheduler, add_watermarker=False)


def kohya(parts, config, alpha=None):
    """LoRA as most are for SDXL: LDM's numbers of the UNet's blocks"""
    return ldm.kohya(parts, alpha, lambda path: ldm.unet_name(path + ".weight", config).removesuffix(".weight"))
