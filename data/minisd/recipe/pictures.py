"""Draws data/pictures: every object plain and in one style, of a seed that nothing was trained on, with prompts.

    python pictures.py OUT
"""
import json
import os
import sys

from PIL import Image

import minicanvas as m

SEED = 1000003

out, lines = sys.argv[1], []
for i, name in enumerate(m.OBJECTS):
    os.makedirs(f"{out}/{name}", exist_ok=True)
    for k, style in enumerate([None, m.STYLES[(i + 8) % len(m.STYLES)]]):
        id = f"{name}/{style or 'plain'}"
        Image.fromarray(m.sample(SEED, 2 * i + k, name, style)[0]).save(f"{out}/{id}.png", optimize=True)
        record = {"id": id, "prompt": f"A {m.NOUNS[name][0]}{f' in {style} style' if style else ''}.", "concept": name}
        lines.append(json.dumps(dict(record, theme=style) if style else record, separators=(",", ":")) + "\n")
with open(f"{out}/prompts.jsonl", "w") as f:
    f.writelines(lines)
