#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_sd3.py -- writes sd3/, sd3_kinds/ and sd3.safetensors, with diffusers 0.42, transformers, torch, sentencepiece.

    sd3/                   a tiny Stable Diffusion 3.5 (medium: two blocks of dual attention, norms of q and k) of
                           random weights in half precision: two tokenizers and text encoders of CLIP, T5's, a
                           transformer
    sd3_kinds/medium, large    transformers alone: of Stable Diffusion 3 medium's kind (no norms of q and k), and of
                           3.5 large's (norms, no dual attention, another patch count)
    sd3.safetensors        ids.1, ids.2, ids.3, state, pooled of TEXTS, T5's of T5_LENGTH tokens; state.bare of the
                           first without T5; x, v: one evaluation at T = 500.25 of the first two texts, and medium.x,
                           medium.v, large.x, large.v; runs of StableDiffusion3Pipeline in STEPS steps by name: guided
                           (no negative prompt), told (NEGATIVE), alone (no guidance), bare (without T5); of each the
                           latents before and after each step, of the first also what HOOKS compute in both halves and
                           the picture
"""
import json, os, shutil, tempfile, torch
import sentencepiece
from diffusers import (AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline)
from make_sdxl import halved
from safetensors.torch import save_file
from transformers import (CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel,
                          T5TokenizerFast)

here = os.path.dirname(os.path.abspath(__file__))
os.chdir(here)
TEXTS = ["a red tower", "fish in the rain, fish in the rain, fish in the rain", ""]
NEGATIVE, SEED, STEPS, GUIDANCE, HEIGHT, WIDTH = "a blurry fish", 7, 4, 5.0, 64, 48
HOOKS = ["transformer_blocks.1", "transformer_blocks.0.attn", "transformer_blocks.0.attn2", "transformer_blocks.2.ff"]
LENGTH, T5_LENGTH, WIDE = 16, 32, 48


def t5_tokenizer(folder, vocabulary):
    """A unigram model of the project's own words, as SentencePiece makes one for T5."""
    with tempfile.TemporaryDirectory() as scratch:
        text = f"{scratch}/text"
        with open(text, "w") as f:
            for name in ("concepts", "themes", "templates"):
                f.write(open(f"../../data/{name}.txt").read())
            f.write("".join(f"{t}\n{NEGATIVE}\n" for t in TEXTS*20))
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=f"{scratch}/spiece", vocab_size=vocabulary, pad_id=0, eos_id=1, unk_id=2,
            bos_id=-1, normalization_rule_name="identity", hard_vocab_limit=False, character_coverage=1.0,
            num_threads=1, minloglevel=2)
        os.makedirs(folder, exist_ok=True)
        shutil.copy(f"{scratch}/spiece.model", f"{folder}/spiece.model")
        made = T5TokenizerFast.from_pretrained(folder, extra_ids=4)
        made.model_max_length = 512
        made.save_pretrained(folder)
    return T5TokenizerFast.from_pretrained(folder)


def transformer(**more):
    return halved(SD3Transformer2DModel(**{**dict(
        sample_size=8, patch_size=2, in_channels=16, num_layers=3, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDE, caption_projection_dim=16, pooled_projection_dim=36, out_channels=16,
        pos_embed_max_size=12), **more}))


def clip_text(folder, pad, hidden, layers, heads, projection, act):
    name = folder.replace("text_encoder", "tokenizer")
    shutil.copytree(name.replace("sd3/", "sdxl/"), name, dirs_exist_ok=True)
    vocab = len(json.load(open(f"{name}/vocab.json")))
    return CLIPTokenizer.from_pretrained(name), halved(CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=vocab, max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=2, pad_token_id=1,
        hidden_size=hidden, intermediate_size=2*hidden, num_hidden_layers=layers, num_attention_heads=heads,
        projection_dim=projection, hidden_act=act)))


def parts():
    third = t5_tokenizer("sd3/tokenizer_3", 150)
    torch.manual_seed(35)
    first, text_encoder = clip_text("sd3/text_encoder", "<|endoftext|>", 16, 2, 2, 16, "quick_gelu")
    second, text_encoder_2 = clip_text("sd3/text_encoder_2", "!", 24, 3, 3, 20, "gelu")
    return dict(
        tokenizer=first, tokenizer_2=second, tokenizer_3=third,
        text_encoder=text_encoder, text_encoder_2=text_encoder_2,
        text_encoder_3=halved(T5EncoderModel(T5Config(
            vocab_size=160, d_model=WIDE, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
            relative_attention_num_buckets=8, relative_attention_max_distance=20, tie_word_embeddings=False,
            dropout_rate=0.0))),
        transformer=transformer(qk_norm="rms_norm", dual_attention_layers=(0, 1)),
        vae=halved(AutoencoderKL(
            block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=2, latent_channels=16,
            scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False,
            force_upcast=True, sample_size=64, down_block_types=("DownEncoderBlock2D",)*4,
            up_block_types=("UpDecoderBlock2D",)*4)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))


def save(model, folder):
    model.half().save_pretrained(folder)
    model.float()


def evaluate(model, prefix, values, state, pooled, height, width):
    x = torch.randn(2, 16, height, width)
    values[f"{prefix}x"] = x
    values[f"{prefix}v"] = model(x, timestep=torch.tensor([500.25]*2), encoder_hidden_states=state[:2],
                                 pooled_projections=pooled[:2]).sample.contiguous()


def run(pipeline, name, values, hooks=(), **arguments):
    latents, seen = [], {h: [] for h in hooks}

    def hook(path):
        def take(module, inputs, output):
            image = output[1] if path.count(".") == 1 else output[0] if isinstance(output, tuple) else output
            seen[path].append(image.clone())
        return pipeline.transformer.get_submodule(path).register_forward_hook(take)

    def keep(p, step, t, tensors):
        latents.append(tensors["latents"].clone())
        return {}
    handles = [hook(h) for h in hooks]
    start = torch.randn(1, 16, HEIGHT//8, WIDTH//8, generator=torch.Generator("cpu").manual_seed(SEED))
    pipeline(TEXTS[0], height=HEIGHT, width=WIDTH, num_inference_steps=STEPS, output_type="latent",
             max_sequence_length=T5_LENGTH, generator=torch.Generator("cpu").manual_seed(SEED),
             callback_on_step_end=keep, **arguments)
    for h in handles:
        h.remove()
    values[f"{name}.latents"] = torch.cat([start] + latents).contiguous()
    for h in hooks:
        values[f"{name}.{h}"] = torch.stack(seen[h]).contiguous()       # [steps, halves, tokens, C]
    return latents[-1]


def main():
    made = parts()
    for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"):
        save(made[name], f"sd3/{name}")
    made["scheduler"].save_pretrained("sd3/scheduler")
    kinds = {"medium": transformer(), "large": transformer(qk_norm="rms_norm", num_layers=2, pos_embed_max_size=16,
                                                           num_attention_heads=3, caption_projection_dim=24)}
    for name, model in kinds.items():
        save(model, f"sd3_kinds/{name}/transformer")
    with open("sd3/model_index.json", "w") as f:
        json.dump({"_class_name": "StableDiffusion3Pipeline",
                   **{name: [type(p).__module__.split(".")[0], type(p).__name__] for name, p in made.items()}},
                  f, indent=1)
    pipeline = StableDiffusion3Pipeline.from_pretrained("sd3", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    values = {}
    for n, (tokenizer, length) in enumerate(((pipeline.tokenizer, LENGTH), (pipeline.tokenizer_2, LENGTH),
                                             (pipeline.tokenizer_3, T5_LENGTH)), 1):
        values[f"ids.{n}"] = tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True,
                                       return_tensors="pt").input_ids.int()
    encode = dict(prompt_2=None, prompt_3=None, do_classifier_free_guidance=False, max_sequence_length=T5_LENGTH)
    state, _, pooled, _ = pipeline.encode_prompt(TEXTS, **encode)
    values |= {"state": state.contiguous(), "pooled": pooled.contiguous()}
    evaluate(pipeline.transformer, "", values, state, pooled, 8, 6)
    for name, model in kinds.items():
        evaluate(model, f"{name}.", values, state, pooled, 6, 10)
    last = run(pipeline, "guided", values, HOOKS, guidance_scale=GUIDANCE)
    vae = pipeline.vae
    image = vae.decode(last / vae.config.scaling_factor + vae.config.shift_factor).sample[0]
    values["guided.image"] = ((image/2 + 0.5).clamp(0, 1).permute(1, 2, 0)*255).round().to(torch.uint8).contiguous()
    run(pipeline, "told", values, guidance_scale=GUIDANCE, negative_prompt=NEGATIVE)
    run(pipeline, "alone", values, guidance_scale=1.0)
    bare = StableDiffusion3Pipeline.from_pretrained("sd3", text_encoder_3=None, tokenizer_3=None,
                                                    torch_dtype=torch.float32)
    bare.set_progress_bar_config(disable=True)
    values["state.bare"] = bare.encode_prompt(TEXTS[:1], **encode)[0].contiguous()
    run(bare, "bare", values, guidance_scale=GUIDANCE)
    save_file(values, "sd3.safetensors",
              {"texts": json.dumps(TEXTS), "negative": NEGATIVE, "seed": str(SEED), "steps": str(STEPS),
               "guidance": str(GUIDANCE), "hooks": json.dumps(HOOKS), "height": str(HEIGHT), "width": str(WIDTH),
               "t5": str(T5_LENGTH)})


if __name__ == "__main__":
    with torch.no_grad():
        main()
