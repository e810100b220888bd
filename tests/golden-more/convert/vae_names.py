# SPDX-License-Identifier: MIT
"""vae_names.py -- what LDM calls the tensors of a VAE."""
import re


def vae_name(name, config):
    """LDM's name of diffusers' tensor"""
    levels = len(config["block_out_channels"])
    name = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    for old, new in ((r"down_blocks\.", "down."), (r"\.resnets\.(\d+)", r".block.\1"),
                     (r"conv_shortcut", "nin_shortcut"),
                     (r"(down|up)samplers\.0", r"\1sample"), (r"conv_norm_out", "norm_out"),
                     (r"mid_block\.block\.0", "mid.block_1"), (r"mid_block\.block\.1", "mid.block_2"),
                     (r"mid_block\.attentions\.0", "mid.attn_1"), (r"group_norm", "norm"), (r"to_out\.0", "proj_out"),
                     (r"to_([qkv])", r"\1")):
        name = re.sub(old, new, name)
    return name
