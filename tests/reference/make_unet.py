# SPDX-License-Identifier: MIT
"""Reference values for the UNet's hooks and for configurations that minisd does not have, computed with diffusers in
float32.

    python3 make_unet.py MODEL OUT          MODEL: data/minisd/model; OUT: tests/golden

Writes into OUT:
  unet_hooks.safetensors    x [1,4,16,16], state [1,77,128]; for each module M of MODULES its output M [B,H,W,C], its
                            input M.input where the shapes agree, and M.eps, the evaluation in which M's output was
                            multiplied by 1.5 in place
  variants/NAME             small models of random weights: unet (other heads, layers, projections, embeddings) and vae
                            (other names of layers, no quantisation layers, a shift); variants/NAME.safetensors: inputs
                            and outputs, of "narrow" also those of the first and the last convolution
"""
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

TIMESTEP = 500
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
MODULES = ["conv_in", "conv_out", "down_blocks.0", "down_blocks.1", "down_blocks.2", "down_blocks.1.resnets.0",
           "down_blocks.1.resnets.1", "down_blocks.1.attentions.0", "down_blocks.0.downsamplers.0", BLOCK,
           BLOCK + ".attn1", BLOCK + ".attn2", BLOCK + ".ff", "mid_block", "mid_block.attentions.0", "up_blocks.0",
           "up_blocks.0.upsamplers.0", "up_blocks.1.attentions.1", "up_blocks.2", "up_blocks.2.resnets.2"]


def rows(t):
    """Channels last, as the programs lay tokens and pixels out."""
    return (t.permute(0, 2, 3, 1) if t.ndim == 4 else t).contiguous().clone()


def first(t):
    return t[0] if isinstance(t, (tuple, list)) else t


def hooks(model, out):
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, 16, 16, generator=generator)
    state = load_file(out / "text.safetensors")["state"][1:2].contiguous()
    values = {"x": x, "state": state}
    for name in MODULES:
        def seen(module, inputs, output, name=name):
            act = first(output)
            values[name] = rows(act)
            if inputs and torch.is_tensor(inputs[0]) and inputs[0].shape == act.shape:
                values[name + ".input"] = rows(inputs[0])
            act.mul_(1.5)
        handle = unet.get_submodule(name).register_forward_hook(seen)
        values[name + ".eps"] = unet(x, TIMESTEP, encoder_hidden_states=state).sample.clone()
        handle.remove()
    save_file(values, out / "unet_hooks.safetensors")


UNETS = {
    "linear": ((13, 10), 24, dict(
        sample_size=12, block_out_channels=(16, 32), layers_per_block=(1, 2), norm_num_groups=4, norm_eps=1e-6,
        cross_attention_dim=24, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=(2, 4),
        use_linear_projection=True, transformer_layers_per_block=(1, 2), flip_sin_to_cos=False, freq_shift=1,
        upcast_attention=True)),
    "padding": ((16, 24), 16, dict(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(16, 16, 32), layers_per_block=1,
        norm_num_groups=8, cross_attention_dim=16, attention_head_dim=2, downsample_padding=0, conv_in_kernel=5,
        time_embedding_dim=48,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"))),
    "one": ((5, 7), 8, dict(
        sample_size=8, block_out_channels=(24,), layers_per_block=2, norm_num_groups=3, cross_attention_dim=8,
        attention_head_dim=3, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))),
    "narrow": ((6, 4), 8, dict(
        sample_size=8, in_channels=8, out_channels=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=2,
        cross_attention_dim=8, attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))),
}


def halved(model):
    """Weights as the file will hold them, with norms that are not the identity."""
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim == 1:
            p.data += 0.2*torch.randn(p.shape, generator=generator)
        p.data = p.data.half().float()
    return model.eval()


def save(model, folder):
    model.half().save_pretrained(folder)
    model.float()


def variants(out):
    for name, (size, width, config) in UNETS.items():
        torch.manual_seed(3)
        unet = halved(UNet2DConditionModel(**config))
        save(unet, out / "variants" / name / "unet")
        x, state = torch.randn(2, unet.config.in_channels, *size), torch.randn(2, 9, width)
        values = {"x": x, "state": state}
        if name == "narrow":
            for end in ("conv_in", "conv_out"):
                unet.get_submodule(end).register_forward_hook(
                    lambda m, inputs, output, end=end: values.update({end: rows(output),
                                                                      end + ".input": rows(inputs[0])}))
        values["eps"] = unet(x, 731, encoder_hidden_states=state).sample
        save_file(values, out / "variants" / f"{name}.safetensors")

    torch.manual_seed(4)
    vae = halved(AutoencoderKL(
        block_out_channels=(8, 16), layers_per_block=2, norm_num_groups=4, latent_channels=6, use_quant_conv=False,
        use_post_quant_conv=False, scaling_factor=0.7, shift_factor=0.3, down_block_types=("DownEncoderBlock2D",)*2,
        up_block_types=("UpDecoderBlock2D",)*2))
    image, latent = torch.rand(1, 3, 20, 28)*2 - 1, torch.randn(1, 6, 7, 9)
    values = {"image": image, "mean": vae.encode(image).latent_dist.mean, "latent": latent,
              "decoded": vae.decode(latent/0.7 + 0.3).sample}
    folder = out / "variants" / "names" / "vae"
    save(vae, folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    # and 1x1 convolutions, as in the first files
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for key, value in load_file(file).items():
        for new, name in old.items():
            if f".{new}." in key:
                key = key.replace(f".{new}.", f".{name}.")
                value = value[:, :, None, None] if value.ndim == 2 else value
        weights[key] = value.contiguous()
    save_file(weights, file)
    save_file({k: v.contiguous() for k, v in values.items()}, out / "variants" / "names.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        hooks(sys.argv[1], Path(sys.argv[2]))
        variants(Path(sys.argv[2]))
