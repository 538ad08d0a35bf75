"""The model card of a model of ours: what it is, where it is from, how to use it, and under which licence.

It reads config.json and the header of the weights.
"""

from __future__ import annotations

from meshgpt.checkpoint import Checkpoint
from meshgpt.families import FAMILIES


def card_of(found: Checkpoint, name: str = "", licence: str = "") -> str:
    """Markdown with the hub's YAML at its head. `name` is that of its repository; `licence` an SPDX name, for a model trained by you."""
    config = found.read_config()
    family = next((family for family in FAMILIES if family.repository == config.get("converted_from")), None)
    licence = licence if family is None else "other"
    head = ["---", "library_name: meshgpt", "tags: [3d, mesh, point-cloud]"]
    head += [f"license: {licence}"] if licence else []
    head += [f"license_name: {family.licence.split(':')[0]}", f"base_model: {family.repository}"] if family else []
    size = found.weights.stat().st_size / 1e6
    tokenizer = config.get("tokenizer", {}).get("name", "")
    what = f"It is {family.name} ({family.repository}) in the format of meshgpt; its weights are unchanged." if family else ""
    lines = [
        *head,
        "---",
        "",
        f"# {name or (family.name if family else 'A meshgpt model')}",
        "",
        "Point clouds in, low-poly triangle meshes out.",
        *([what] if what else []),
        f"Tokenizer `{tokenizer}`, {size:,.0f} MB in `{found.weights.name}`.",
        *([f"Licence: {family.licence}."] if family else []),
        "",
        "```bash",
        f"meshgpt sample --cond chair.ply --model {name or 'FOLDER'}",
        "```",
        "",
    ]
    return "\n".join(lines)
