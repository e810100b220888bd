#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_long.py LPW -- writes long.safetensors: long and weighted prompts of minisd, with diffusers 0.42, transformers,
torch and LPW, examples/community/lpw_stable_diffusion.py of diffusers' sources.

    ids.N [77 c], state.N, uncond.N [rows, 128]
                    of text N the first ids, and each ROWSth row of both states, from row FIRST on, as
                    get_weighted_text_embeddings gives them with three chunks at most
    latent.N, image.N
                    the picture that StableDiffusionPipeline draws from these states, of the texts that are drawn
    metadata        texts (JSON: prompt, negative, drawn), every, first, seed, steps, guidance

Of LPW only the functions are run that these states come from: it asks for parts of diffusers that come and go.
"""
import ast, json, logging, os, re, sys, typing, torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

WANTED = {"re_attention", "parse_prompt_attention", "get_prompts_with_weights", "pad_tokens_and_weights",
          "get_unweighted_text_embeddings", "get_weighted_text_embeddings"}
ROWS, FIRST, SEED, STEPS, GUIDANCE = 7, 3, 11, 8, 4.0
RAIN = ", ".join(f"a red tower in the rain, seen from street {i}" for i in range(9))
TEXTS = [
    {"prompt": r"a (cat:1.4) in [heavy] rain, ((neon lines)) \(at night\), (a: b), weight:1.2)",
     "negative": "(blurry:1.2), [dull", "drawn": True},
    {"prompt": f"(A fish:1.3) in Watercolor style. {RAIN}", "negative": "", "drawn": True},
    {"prompt": "A dog in Rust style.", "negative": f"{RAIN}, (dark:1.5) {RAIN}", "drawn": False},
    {"prompt": f"{RAIN} {RAIN} {RAIN}", "negative": "(((grey))) (sky:0.3), (cut:-0.5)", "drawn": True},
]


def functions(path):
    tree = ast.parse(open(path).read())
    tree.body = [n for n in tree.body if getattr(n, "name", None) in WANTED
                 or isinstance(n, ast.Assign) and getattr(n.targets[0], "id", None) in WANTED]
    space = {**vars(typing), "re": re, "torch": torch, "DiffusionPipeline": StableDiffusionPipeline,
             "logger": logging.getLogger("lpw")}
    exec(compile(tree, path, "exec"), space)
    return space


def main():
    lpw = functions(sys.argv[1])
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    pipe = StableDiffusionPipeline.from_pretrained("../../data/minisd/model", torch_dtype=torch.float32)
    values = {}
    with torch.no_grad():
        for n, text in enumerate(TEXTS):
            state, uncond = lpw["get_weighted_text_embeddings"](pipe, text["prompt"], text["negative"])
            tokens, weights = lpw["get_prompts_with_weights"](pipe, [text["prompt"]], 3 * 75)
            chunks = state.shape[1] // 77
            rows = [tokens[0][75 * i:75 * (i + 1)] for i in range(chunks)]
            start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
            values[f"ids.{n}"] = torch.tensor([[start] + r + [end] * (76 - len(r)) for r in rows]).flatten().int()
            values[f"state.{n}"] = state[0, FIRST::ROWS].contiguous()
            values[f"uncond.{n}"] = uncond[0, FIRST::ROWS].contiguous()
            if text["drawn"]:
                drawn = pipe(prompt_embeds=state, negative_prompt_embeds=uncond, num_inference_steps=STEPS,
                             guidance_scale=GUIDANCE, generator=torch.Generator("cpu").manual_seed(SEED),
                             output_type="latent").images
                image = pipe.vae.decode(drawn / pipe.vae.config.scaling_factor).sample[0]
                image = ((image / 2 + 0.5).clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8)
                values |= {f"latent.{n}": drawn[0].contiguous(), f"image.{n}": image.contiguous()}
    save_file(values, "long.safetensors",
              {"texts": json.dumps(TEXTS), "every": str(ROWS), "first": str(FIRST), "seed": str(SEED),
               "steps": str(STEPS), "guidance": str(GUIDANCE)})


if __name__ == "__main__":
    main()
