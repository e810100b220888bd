# SPDX-License-Identifier: MIT
"""beside.py -- tensors that sd-convert writes beside those that diffusers loads, for compare.py, compare_xl.py and
compare_sd3.py; and what make.py and make_xl.py record of the latter."""
import json, os, shutil, subprocess, tempfile
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file
import ldm

PARTS = {"unet": "unet/diffusion_pytorch_model.safetensors", "vae": "vae/diffusion_pytorch_model.safetensors",
         "transformer": "transformer/diffusion_pytorch_model.safetensors",
         "text_encoder": "text_encoder/model.safetensors", "text_encoder_2": "text_encoder_2/model.safetensors",
         "text_encoder_3": "text_encoder_3/model.safetensors"}
PART_OF = {"unet": "unet", "transformer": "transformer", "te": "text_encoder", "te1": "text_encoder",
           "te2": "text_encoder_2"}         # in LoRA's names
failures = []


def convert(base, out, *options):
    subprocess.run(["sd-convert", "-q", "-m", base, "-o", out, *options], check=True)
    return {part: {n.removeprefix("text_model."): t for n, t in load_file(f"{out}/{file}").items()}
            for part, file in PARTS.items() if os.path.exists(f"{out}/{file}")}


def tensors(pipe):
    return {part: {n.removeprefix("text_model."): t for n, t in getattr(pipe, part).state_dict().items()
                   if not n.endswith(("position_ids", "embed_tokens.weight"))}
            for part in PARTS if getattr(pipe, part, None)}


def report(case, got, want, ulps=0):
    different, largest, count = 0, 0.0, 0
    if got.keys() != want.keys():
        print(case, "has", *got, "expected", *want)
        failures.append(case)
        return
    for part in want:
        if got[part].keys() != want[part].keys():
            print(case, part, "names differ:", sorted(got[part].keys() ^ want[part].keys())[:4])
            failures.append(case)
            return
        for name, w in want[part].items():
            g = got[part][name]
            count += 1
            if g.dtype != w.dtype or g.shape != w.shape:
                print(f"{case}: {name} is {g.dtype} {tuple(g.shape)}, expected {w.dtype} {tuple(w.shape)}")
                failures.append(case)
                return
            if torch.equal(g, w):
                continue
            different += int((g != w).sum())
            place = w.double().abs().max()*torch.finfo(w.dtype).eps
            largest = max(largest, float((g.double() - w.double()).abs().max()/place))
    bad = largest > ulps
    if bad:
        failures.append(case)
    print(f"{case}: {count} tensors, {different} values differ, by {largest:.2f} of the last place of the tensor's "
          "largest" + (f", at most {ulps} expected" if bad else ""))


def drop_weights(base, out):
    """The folder's configs, without weights: all must come from the checkpoint."""
    subprocess.run(["cp", "-r", base, out], check=True)
    for file in PARTS.values():
        if os.path.exists(f"{out}/{file}"):
            os.remove(f"{out}/{file}")


def load(base, type):
    if os.path.exists(f"{base}/transformer"):
        return StableDiffusion3Pipeline.from_pretrained(base, torch_dtype=type)
    if os.path.exists(f"{base}/text_encoder_2"):
        return StableDiffusionXLPipeline.from_pretrained(base, torch_dtype=type, add_watermarker=False)
    return StableDiffusionPipeline.from_pretrained(base, safety_checker=None, torch_dtype=type)


def fuse(base, files):
    pipe = load(base, torch.float32)
    for i, (file, strength) in enumerate(files):
        pipe.load_lora_weights(file, adapter_name=f"a{i}")
    pipe.set_adapters([f"a{i}" for i in range(len(files))], [s for _, s in files])
    pipe.fuse_lora(adapter_names=[f"a{i}" for i in range(len(files))])
    pipe.unload_lora_weights()
    return tensors(pipe)


def as_type(parts, type):
    return {p: {n: t.to(type) for n, t in of.items()} for p, of in parts.items()}


def sums(base, of):
    """The base's tensors in f32 with what is added to them, summed in f64. of: [(strength, {"unet": changes, "te":
    changes, "scale": of (number of the layer, rank), alpha/rank; none: 1})]"""
    want = tensors(load(base, torch.float32))
    for key, part in PART_OF.items():
        for path in {p for _, c in of for p in c.get(key, {})}:
            pairs = [(s*c.get("scale", lambda n, r: 1)(n, c[key][path][0].shape[0]), *c[key][path])
                     for s, c in of for n, p in enumerate(c.get(key, {})) if p == path]
            name = path.removeprefix("text_model.") + ".weight"
            want[part][name] = ldm.merged(want[part][name], pairs)
    return want


def compare_lora(case, base, files, of, beside=True):
    """of: as in sums"""
    options = [f"--lora={file}={strength}" for file, strength in files]
    if beside:
        report(f"{case}, fuse_lora", convert(base, f"out-{case}", *options), fuse(base, files), 4)
    want = sums(base, of)
    for type_name, type in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        got = convert(base, f"out-{case}-{type_name}", *options, "--dtype", type_name)
        report(f"{case}, f64 as {type_name}", got, as_type(want, type))


def adapters(pipe, parts, config):
    """Random adapters by PEFT in the modules of each part: {part: {name: tensor}} as it names them, and {part: {path:
    (down, up)}}. parts: {"unet": names}; config: of names. The pipeline is changed."""
    from peft import inject_adapter_in_model
    torch.manual_seed(0)
    sides, pairs = {}, {}
    for part, names in parts.items():
        module = getattr(pipe, PART_OF[part])
        inject_adapter_in_model(config(names), module)
        for n, p in module.named_parameters():
            if "lora_B" in n:
                torch.nn.init.normal_(p, std=0.3)
        side = {n.replace(".default.", "."): p.detach() for n, p in module.named_parameters() if ".lora_" in n}
        sides[part] = side
        pairs[part] = {n.removesuffix(".lora_A.weight"): (t, side[n.replace("lora_A", "lora_B")])
                       for n, t in side.items() if "lora_A" in n}
    return sides, pairs


def first_names(pipe_changes):
    """Attention layers' changes under the names that diffusers first gave them: {"unet": changes, "te": changes}"""
    out = {}
    for part, changes in pipe_changes.items():
        for n, (down, up) in changes.items():
            if part == "unet":
                head, tail = n.split(".to_")
                name = f"unet.{head}.processor.to_{tail.removesuffix('.0')}_lora"
            else:
                name = f"{PART_OF[part]}.text_model.{n.removeprefix('text_model.')}.lora_linear_layer"
            out |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    return out


# ---- for make.py, make_xl.py ----

def pack(path):
    subprocess.run(["zstd", "-q", "-f", "-19", "--rm", path], check=True)


def listed(parts, name, path):
    """Adds to the file what tests/tensors.py says of a folder with these parts, NAME before each line."""
    with tempfile.TemporaryDirectory() as folder:
        for part, of in parts.items():
            os.makedirs(f"{folder}/{part}")
            before = "text_model." if part.startswith("text_encoder") else ""
            save_file({n if n.startswith("text_projection.") else before + n: t.contiguous() for n, t in of.items()},
                      f"{folder}/{PARTS[part]}")
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tensors.py")
        text = subprocess.run([script, folder], check=True, capture_output=True, text=True).stdout
    with open(path, "a") as f:
        f.writelines(f"{name} {line}\n" for line in text.splitlines())


def list_lora(base, name, file, strength, changes, path):
    """The sums to f32 and to f16, which fuse_lora's are near to."""
    want = sums(base, [(strength, changes)])
    fused = fuse(base, [(file, strength)])
    for part in want:
        for n, w in want[part].items():
            assert torch.allclose(w, fused[part][n], rtol=0, atol=4e-6*float(w.abs().max())), n
    listed(want, f"{name}.f32", path)
    listed(as_type(want, torch.float16), f"{name}.f16", path)


def halves(of):
    return {k: {n: (d.half(), u.half()) for n, (d, u) in c.items()} for k, c in of.items()}


def save_peft(path, changes, alpha, layers):
    """As save_lora_weights has PEFT's adapters of rank 2; layers: {part: names that PEFT was told}"""
    tensors = {f"{PART_OF[k]}.{n}.lora_{x}.weight": t
               for k, c in changes.items() for n, pair in c.items() for x, t in zip("AB", pair)}
    told = {f"{PART_OF[k]}.{key}": value for k, names in layers.items()
            for key, value in {"r": 2, "lora_alpha": alpha, "target_modules": names, "use_dora": False,
                               "use_rslora": False, "alpha_pattern": {}, "rank_pattern": {}}.items()}
    save_file(tensors, path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(told)})


def copy_configs(base, out):
    """Of each part, and model_index.json."""
    for part in PARTS:
        if os.path.exists(f"{base}/{part}"):
            os.makedirs(f"{out}/{part}", exist_ok=True)
            shutil.copyfile(f"{base}/{part}/config.json", f"{out}/{part}/config.json")
    shutil.copyfile(f"{base}/model_index.json", f"{out}/model_index.json")
