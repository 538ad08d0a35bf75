"""Faces whose orientation is lost, made to face the same way as their neighbours, and outward.

f  faces      e  edges
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer

from meshgpt.mesh import canonical, weld


class FaceEdges(NamedTuple):
    """`edges`: the number of the edge across from each corner. The faces at edge e, in ascending order, are
    sharing[starts[e] : starts[e + 1]]."""

    edges: Int[np.ndarray, "f 3"]
    starts: Int[np.ndarray, "_"]
    sharing: Int[np.ndarray, "_"]


def edges_of(faces: Int[np.ndarray, "f 3"]) -> FaceEdges:
    ends = np.stack([np.roll(faces, -1, 1), np.roll(faces, 1, 1)], -1).reshape(-1, 2)
    keys = (ends.min(1) << 32) + ends.max(1)
    order = np.argsort(keys, kind="stable")
    new = np.diff(keys[order], prepend=-1) != 0
    edges = np.empty(len(keys), dtype=np.int64)
    edges[order] = np.cumsum(new) - 1
    return FaceEdges(edges.reshape(-1, 3), np.append(np.flatnonzero(new), len(keys)), order // 3)


def oriented(corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "f 3 3"]:
    """The same faces, in canonical order, with windings that agree across all edges of exactly two faces wherever that can be, and
    with each component turned so that it encloses a positive volume, seen from the middle of its bounding box; a flat one stays as it is.

    This is what trimesh's `fix_normals` does, in one pass and in whole numbers.
    """
    if not len(corners):
        return canonical(corners)
    from . import adjacent_kernels as kernels

    vertices, faces = weld(corners)
    flip, component = kernels.windings(faces, *edges_of(faces))
    triangles = _flipped(vertices[faces], flip)
    return canonical(_flipped(triangles, _inside_out(triangles, component)[component]))


def _flipped(triangles: Int[np.ndarray, "f 3 3"], flip: Bool[np.ndarray, "f"]) -> Int[np.ndarray, "f 3 3"]:
    return np.where(flip[:, None, None], triangles[:, ::-1], triangles)


def _inside_out(triangles: Int[np.ndarray, "f 3 3"], component: Int[np.ndarray, "f"]) -> Bool[np.ndarray, "_"]:
    """Which components enclose a negative volume. Doubled, the middle of a box of whole numbers is a whole number."""
    count = component.max() + 1
    low, high = np.full((count, 3), triangles.max()), np.zeros((count, 3), dtype=np.int64)
    np.minimum.at(low, component, triangles.min(1))
    np.maximum.at(high, component, triangles.max(1))
    a, b, c = (2 * triangles - (low + high)[component][:, None]).transpose(1, 0, 2)
    volumes = np.zeros(count, dtype=np.int64)
    np.add.at(volumes, component, (a * np.cross(b, c)).sum(1))
    return volumes < 0
