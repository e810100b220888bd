# SPDX-License-Identifier: MIT
"""ldm.py -- small random models, and the files in which people pass models on: one checkpoint in LDM's names, LoRA.

The names here are the inverse of diffusers' loaders/single_file_utils.py, for any config; that diffusers reads the
files back is what make.py and compare.py begin with.
"""
import numpy, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from vae_names import vae_name

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}


def layers_of(config):
    n = len(config["block_out_channels"])
    layers = config["layers_per_block"]
    return list(layers) if isinstance(layers, (list, tuple)) else [layers]*n


def unet_name(name, config):
    path, end = name.rsplit(".", 1)
    if path in UNET:
        return f"{UNET[path]}.{end}"
    if path.startswith("mid_block."):
        _, kind, j, rest = path.split(".", 3)
        if kind == "attentions":
            return f"middle_block.1.{rest}.{end}"
        return f"middle_block.{2*int(j)}.{RESNET[rest]}.{end}"
    way, i, kind, j, rest = path.split(".", 4)
    i, j, layers = int(i), int(j), layers_of(config)
    down = way == "down_blocks"
    counts = [n + 1 for n in (layers if down else layers[::-1])]
    first = sum(counts[:i]) + (1 if down else 0)
    side = "input_blocks" if down else "output_blocks"
    if kind == "resnets":
        return f"{side}.{first + j}.0.{RESNET[rest]}.{end}"
    if kind == "attentions":
        return f"{side}.{first + j}.1.{rest}.{end}"
    last = first + counts[i] - 1
    if down:
        return f"{side}.{last}.0.op.{end}"
    return f"{side}.{last}.{2 if 'CrossAttn' in config['up_block_types'][i] else 1}.conv.{end}"


def vae_tensors(vae):
    out = {}
    for name, t in vae.state_dict().items():
        ldm = vae_name(name, vae.config)
        out[ldm] = t[:, :, None, None] if ".attn_1." in ldm and t.ndim == 2 else t
    return out


def open_clip(state, layers):
    """OpenCLIP's names; without a projection a layer more than the model has, as in Stable Diffusion 2's files."""
    width = state["final_layer_norm.bias"].shape[0]
    projection = state.get("text_projection.weight")
    out = {"token_embedding.weight": state["embeddings.token_embedding.weight"],
           "positional_embedding": state["embeddings.position_embedding.weight"],
           "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"],
           "text_projection": torch.randn(width, width) if projection is None else projection.T,
           "logit_scale": torch.tensor(4.6)}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc",
             "mlp.fc2": "mlp.c_proj"}
    for i in range(layers):
        at, to = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for end in ("weight", "bias"):
            for name, other in names.items():
                out[f"{to}.{other}.{end}"] = state[f"{at}.{name}.{end}"]
            out[f"{to}.attn.in_proj_{end}"] = torch.cat([state[f"{at}.self_attn.{x}_proj.{end}"] for x in "qkv"])
    if projection is not None:
        return out
    last = f"transformer.resblocks.{layers - 1}."
    for name in [n for n in out if n.startswith(last)]:
        out[name.replace(last, f"transformer.resblocks.{layers}.")] = torch.randn_like(out[name].float())
    return out


def text_state(text):
    return {k.removeprefix("text_model."): v for k, v in text.state_dict().items() if not k.endswith("position_ids")}


def checkpoint(pipe, kind, dtype=None, ema=False):
    """A pipeline's weights as one file of kind 1 (transformers' names for the text encoder) or 2 (OpenCLIP's)."""
    out = {"model.diffusion_model." + unet_name(n, pipe.unet.config): t for n, t in pipe.unet.state_dict().items()}
    if ema:
        for name in list(out):
            out["model_ema." + name.removeprefix("model.").replace(".", "")] = out[name]*0.5
        out["model_ema.decay"] = torch.tensor(0.9999)
    out |= {"first_stage_model." + n: t for n, t in vae_tensors(pipe.vae).items()}
    text = text_state(pipe.text_encoder)
    if kind == 1:
        out |= {"cond_stage_model.transformer.text_model." + n: t for n, t in text.items()}
    else:
        out |= {"cond_stage_model.model." + n: t
                for n, t in open_clip(text, pipe.text_encoder.config.num_hidden_layers).items()}
    out = {n: t.to(dtype or t.dtype).contiguous().clone() for n, t in out.items()}
    out["betas"] = torch.linspace(0.00085, 0.012, 8)
    if kind == 1:
        out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return out


def lightning(state):
    """What a trainer's checkpoint has around the weights."""
    return {"epoch": 2, "global_step": 470000, "pytorch-lightning_version": "1.4.2", "state_dict": state,
            "callbacks": {"best": {"monitor": "val/loss", "best_model_score": torch.tensor(0.5),
                                   "current": numpy.float64(0.25), "seen": {1, 2}}},
            "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
                                  "param_groups": [{"lr": 1e-4}]}],
            "lr_schedulers": []}


def randomize(module, seed, size=0.2):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            p.copy_(torch.randn(p.shape, generator=g)*size + (1 if "norm" in name and name.endswith("weight") else 0))
    return module


def pipeline(tokenizer, seed=0, widths=(8, 16), layers=1, vae_widths=(4, 8), vae_layers=1, groups=4, text=8,
             text_layers=2, linear=False, attention=None, vocab=2050, act="quick_gelu", heads=2):
    """A StableDiffusionPipeline of random weights; attention: which levels have it, all but the last."""
    attention = attention or [i < len(widths) - 1 for i in range(len(widths))]
    down = ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]]
    n = len(vae_widths)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=widths, layers_per_block=layers,
                                down_block_types=down, up_block_types=up, cross_attention_dim=text,
                                attention_head_dim=heads,
                                norm_num_groups=groups, use_linear_projection=linear)
    vae = AutoencoderKL(block_out_channels=vae_widths, layers_per_block=vae_layers, norm_num_groups=groups,
                        down_block_types=["DownEncoderBlock2D"]*n, up_block_types=["UpDecoderBlock2D"]*n,
                        latent_channels=4, sample_size=8*2**(n - 1))
    encoder = CLIPTextModel(CLIPTextConfig(vocab_size=vocab, hidden_size=text, intermediate_size=2*text, hidden_act=act,
                                           num_hidden_layers=text_layers, num_attention_heads=2, bos_token_id=2048,
                                           eos_token_id=2049, pad_token_id=2049))
    for i, part in enumerate((unet, vae, encoder)):
        randomize(part, 100*seed + i)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
    return StableDiffusionPipeline(vae=vae, text_encoder=encoder, tokenizer=CLIPTokenizer.from_pretrained(tokenizer),
                                   unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)


# ---- LoRA ----

def changes(module, which, ranks, seed, size=0.3):
    """{path: (down, up)} for the layers whose path has one of the words in it; ranks are taken in turn."""
    g = torch.Generator().manual_seed(seed)
    out = {}
    for path, layer in module.named_modules():
        if not any(w in path for w in which) or not isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        w, r = layer.weight, ranks[len(out) % len(ranks)]
        out[path] = (torch.randn((r, *w.shape[1:]), generator=g)*size,
                     torch.randn((w.shape[0], r, *[1]*(w.ndim - 2)), generator=g)*size)
    return out


def kohya(parts, alpha=None, rename=lambda path: path):
    """parts: {"unet": changes, "te": changes}, for SDXL "te1", "te2"; alpha: of (number of the layer, rank), None: no
    such tensor; rename: paths of the UNet"""
    out = {}
    for part, of in parts.items():
        for n, (path, (down, up)) in enumerate(of.items()):
            if part == "unet":
                path = rename(path)
            elif not path.startswith("text_model."):
                path = "text_model." + path
            name = f"lora_{part}_" + path.replace(".", "_")
            out[name + ".lora_down.weight"], out[name + ".lora_up.weight"] = down, up
            if alpha:
                out[name + ".alpha"] = torch.tensor(float(alpha(n, down.shape[0])))
    return out


def merged(w, pairs):
    """pairs: [(scale, down, up)], summed in f64"""
    y = w.double()
    for scale, down, up in pairs:
        y = y + scale*(up.double().flatten(1) @ down.double().flatten(1)).reshape(w.shape)
    return y.float().to(w.dtype)
