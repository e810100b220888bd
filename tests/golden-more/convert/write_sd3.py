#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""write_sd3.py DIR OUT [PART...] -- a Stable Diffusion 3 folder's weights as one file, such as people pass on; of the
transformer alone where PART is transformer, ..., and all parts that are there without.

The names are those that diffusers' loaders/single_file_utils.py reads; that it reads such files back is what
compare_sd3.py begins with.
"""
import json, os, re, struct, sys
from vae_names import vae_name

TOP = {"pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder",
       "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
       "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
       "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
       "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
       "norm_out.linear": "final_layer.adaLN_modulation.1", "proj_out": "final_layer.linear"}
BLOCK = {"norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
         "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
         "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
         "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
         "attn2.to_out.0": "x_block.attn2.proj", "attn2.norm_q": "x_block.attn2.ln_q",
         "attn2.norm_k": "x_block.attn2.ln_k", "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
         "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2"}
JOINED = {"attn.to_q": ("x_block.attn.qkv", ["attn.to_q", "attn.to_k", "attn.to_v"]),
          "attn2.to_q": ("x_block.attn2.qkv", ["attn2.to_q", "attn2.to_k", "attn2.to_v"]),
          "attn.add_q_proj": ("context_block.attn.qkv", ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"])}
PREFIX = {"transformer": "model.diffusion_model.", "vae": "first_stage_model.",
          "text_encoder": "text_encoders.clip_l.transformer.", "text_encoder_2": "text_encoders.clip_g.transformer.",
          "text_encoder_3": "text_encoders.t5xxl.transformer."}


def read(folder):
    """{name: (type, shape, bytes)}, and the config"""
    path = next(f"{folder}/{f}" for f in sorted(os.listdir(folder)) if f.endswith(".safetensors"))
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    header.pop("__metadata__", None)
    return ({n: (h["dtype"], h["shape"], data[slice(*h["data_offsets"])]) for n, h in header.items()},
            json.load(open(f"{folder}/config.json")))


def swapped(tensor):
    kind, shape, data = tensor
    return kind, shape, data[len(data)//2:] + data[:len(data)//2]


def transformer(tensors, config):
    out = {"pos_embed": tensors["pos_embed.pos_embed"]}
    for name, tensor in tensors.items():
        path, end = name.rsplit(".", 1)
        if path in TOP:
            out[f"{TOP[path]}.{end}"] = swapped(tensor) if path == "norm_out.linear" else tensor
        block = re.match(r"transformer_blocks\.(\d+)\.(.*)$", path)
        if not block:
            continue
        i, layer = block.groups()
        if layer in BLOCK:
            last = layer == "norm1_context.linear" and int(i) == config["num_layers"] - 1
            out[f"joint_blocks.{i}.{BLOCK[layer]}.{end}"] = swapped(tensor) if last else tensor
        elif layer in JOINED:
            to, layers = JOINED[layer]
            thirds = [tensors[f"transformer_blocks.{i}.{one}.{end}"] for one in layers]
            out[f"joint_blocks.{i}.{to}.{end}"] = (tensor[0], [3*tensor[1][0], *tensor[1][1:]],
                                                   b"".join(t[2] for t in thirds))
    return out


def vae(tensors, config):
    out = {}
    for name, (kind, shape, data) in tensors.items():
        ldm = vae_name(name, config)
        out[ldm] = (kind, shape + [1, 1] if ".attn_1." in ldm and len(shape) == 2 else shape, data)
    return out


def main(folder, path, *parts):
    out = {}
    for part in PREFIX:
        if (part in parts or not parts) and os.path.exists(f"{folder}/{part}"):
            tensors, config = read(f"{folder}/{part}")
            made = {"transformer": transformer, "vae": vae}.get(part, lambda t, c: t)(tensors, config)
            out |= {PREFIX[part] + n: t for n, t in made.items()}
            if part in ("text_encoder", "text_encoder_2"):
                out[PREFIX[part].replace("transformer.", "logit_scale")] = ("F32", [], struct.pack("<f", 4.6))
    header, at = {}, 0
    for name, (kind, shape, data) in out.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in out.values()))


main(*sys.argv[1:])
