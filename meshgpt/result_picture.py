"""Results of a method from the nearest to the farthest, each beside the mesh that it should be, as one picture.

It knows rows of an evaluation and where their shapes come from. It does not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from meshgpt.contact_sheet import Shapes, problem_of
from meshgpt.evaluation import Row
from meshgpt.files import whole_file
from meshgpt.mesh import Mesh
from meshgpt.views import Camera, draw_mesh

# From the nearest (0) to the farthest (1).
PARTS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
ACROSS, SIZE, MARGIN = 2, 280, 10  # pairs beside each other; pixels


def save_result_picture(rows: Sequence[Row], method: str, shapes: Shapes, path: Path) -> None:
    """Eight pairs, of `rows` that are in order, the worst first; reference on the left, result on the right. Nothing is written where
    there are fewer results."""
    from PIL import Image

    kept = [(row["id"], result) for row in reversed(rows) if not (row["failed"] or problem_of(result := shapes.result(method, row["id"])))]
    if len(kept) < len(PARTS):
        return
    chosen = [kept[max(round(part * len(kept)), 1) - 1] for part in PARTS]
    pairs = [_pair(shapes.reference(id), result) for id, result in chosen]
    lines = [np.concatenate(pairs[start : start + ACROSS], 1) for start in range(0, len(pairs), ACROSS)]
    with whole_file(path) as part:
        Image.fromarray(np.concatenate(lines, 0)).save(part, format="PNG", optimize=True)


def _pair(reference: Mesh, result: Mesh) -> UInt8[np.ndarray, "h w 3"]:
    camera = Camera.of(np.concatenate([mesh.triangles().reshape(-1, 3) for mesh in (reference, result)]), SIZE)
    return np.concatenate([draw_mesh(mesh, camera=camera) for mesh in (reference, result)], 1)[MARGIN:-MARGIN]
