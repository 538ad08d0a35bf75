"""A vertex as one number, (y * bins + z) * bins + x, which sorts as canonical vertices do; and what ids and corners are checked for.

For tokenizers of one id to a step.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Integer

from meshgpt.mesh import weld


def number_of(cells: Integer[np.ndarray, "*n 3"], bins: int) -> Int[np.ndarray, "*n"]:
    x, y, z = np.moveaxis(cells.astype(np.int64), -1, 0)
    return (y * bins + z) * bins + x


def cells_of(numbers: Int[np.ndarray, "*n"], bins: int) -> Int[np.ndarray, "*n 3"]:
    return np.stack([numbers % bins, numbers // bins**2, numbers // bins % bins], -1)


def check_bins(bins: int) -> None:
    if not 2 <= bins <= 1024:
        raise ValueError(f"{bins} bins do not fit; use 2 to 1024")


def checked_faces(corners: Integer[np.ndarray, "f 3 3"], bins: int) -> tuple[Int[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices and faces, as `weld` gives them; ValueError for corners outside of the bins, degenerate and repeated faces."""
    if corners.size and not (corners.min() >= 0 and corners.max() < bins):
        raise ValueError(f"corners run from {corners.min()} to {corners.max()}; with {bins} bins they must lie in 0 .. {bins - 1}")
    vertices, faces = weld(corners)
    spoiled = first_spoiled(faces)
    if spoiled:
        raise ValueError(f"face {spoiled[0]} {spoiled[1]}; pass the corners through meshgpt.mesh.canonical first")
    return vertices, faces


def first_spoiled(faces: Int[np.ndarray, "f 3"]) -> tuple[int, str] | None:
    """The first face that is degenerate or on the same three vertices as an earlier one, and what is wrong with it.

    Vertices are numbers below 2^21, as `weld` gives them.
    """
    low, middle, high = np.sort(faces, 1).T
    touching = (low == middle) | (middle == high)
    keys = (low << 42) + (middle << 21) + high
    if not touching.any() and len(np.unique(keys)) == len(keys):
        return None
    fresh = np.zeros(len(faces), dtype=bool)
    fresh[np.unique(keys, return_index=True)[1]] = True
    first = int((touching | ~fresh).argmax())
    return first, "touches a vertex twice" if touching[first] else "is on the same three vertices as an earlier one"


def column(ids: Integer[np.ndarray, "n width"]) -> Int[np.ndarray, "n"]:
    """The ids of a sequence with one id to a step; ValueError on another width."""
    if ids.ndim != 2 or ids.shape[1] != 1:
        raise ValueError(f"ids of shape {ids.shape} are no sequence with one id to a step; pass an array of shape (steps, 1)")
    return np.ascontiguousarray(ids[:, 0], dtype=np.int64)
