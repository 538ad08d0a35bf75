"""What tokenizers refuse: bins, corners, faces and ids that do not fit. ValueErrors of one sentence, the same for all of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Integer

from meshgpt.mesh import weld


def check_bins(bins: int) -> None:
    if not 2 <= bins <= 1024:
        raise ValueError(f"{bins} bins do not fit; use 2 to 1024")


def check_corners(corners: Integer[np.ndarray, "f 3 3"], bins: int) -> None:
    if corners.size and not (corners.min() >= 0 and corners.max() < bins):
        raise ValueError(f"corners run from {corners.min()} to {corners.max()}; with {bins} bins they must lie in 0 .. {bins - 1}")


def checked_faces(corners: Integer[np.ndarray, "f 3 3"], bins: int) -> tuple[Int[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices and faces, as `weld` gives them; ValueError for corners outside of the bins, degenerate and repeated faces."""
    check_corners(corners, bins)
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


def check_width(ids: Integer[np.ndarray, "..."], width: int, what: str, steps: str) -> None:
    """`what` the ids should be, and what their steps are, in words."""
    if ids.ndim != 2 or ids.shape[1] != width:
        raise ValueError(f"ids of shape {ids.shape} are no {what}; pass an array of shape ({steps}, {width})")


def column(ids: Integer[np.ndarray, "n width"]) -> Int[np.ndarray, "n"]:
    """The ids of a sequence with one id to a step; ValueError on another width."""
    check_width(ids, 1, "sequence with one id to a step", "steps")
    return np.ascontiguousarray(ids[:, 0], dtype=np.int64)


def whole_steps(ids: Integer[np.ndarray, "n width"], vocab: int, what: str, strict: bool) -> Integer[np.ndarray, "m width"]:
    """For tokenizers whose step is a face: all steps, or ValueError at the first id that is no `what`; when not `strict`, those before."""
    wrong = (ids < 0) | (ids >= vocab)
    if not wrong.any():
        return ids
    face, slot = np.argwhere(wrong)[0]
    if strict:
        said = f"END (id {vocab})" if ids[face, slot] == vocab else f"id {ids[face, slot]}"
        raise ValueError(f"{said} of face {face}, slot {slot} is no {what}; cut the sequence there with ids[:{face}], or pass strict=False")
    return ids[:face]
