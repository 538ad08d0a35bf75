"""Gate tokens: faces in the order of a walk over shared edges, and a step is a vertex.

    vertex vertex vertex     a face of its own: the lowest that is left; its three sides become gates
    vertex                   the face over the current gate; its other two sides are the next gates, the right one first
    SKIP                     no face over this gate

When no gate is left, a face of its own follows, or END. So a face is mostly one vertex, and shares an edge with a face before.

A vertex is three ids, coarse to fine: the block of the cube that it is in, the block of that block, and the place in that one.

    bins of an axis      4096 <- 512 <- 64          of 128: blocks of 16, of 4, of 1
    id                   (y * side + z) * side + x

It is the walk of `walk.py` with the same order of faces; nothing is foretold there, so that a network can say how likely each is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from meshgpt.mesh import BINS

from .checks import check_bins, check_corners, check_width
from .gate_grammar import GateGrammar, Ground, bins_of_block
from .interface import UNLIMITED, Grammar
from .walk import WRONGS, cells_of_places, corners_in_order, places_of_cells

LEVELS = 3


def sides_of(bins: int) -> tuple[int, int, int]:
    """Blocks on an axis at each level, coarse to fine; powers of two."""
    bits = (bins - 1).bit_length()
    fine = bits // LEVELS
    return 2 ** (bits - 2 * fine), 2**fine, 2**fine


class GatesTokenizer:
    """Lossless. `skip` is the id that stands first in the step of a gate that gets no face; fillers (0) follow it."""

    width = LEVELS
    spell = LEVELS
    lossy = False
    places = None
    offsets = None

    def __init__(self, bins: int = BINS) -> None:
        check_bins(bins)
        self.bins, self.sides = bins, sides_of(bins)
        self.sizes = tuple(side**3 for side in self.sides)
        self.skip = max(self.sizes)
        self.vocab = self.skip + 1
        # How far an id moves a vertex, in bins: to the first corner of its block.
        self._corners = self._first_corners()
        self.shifts = torch.from_numpy(self._corners).float()

    @property
    def middles(self) -> Float[Tensor, "blocks 3"]:
        """Of the coarse blocks, in the cube."""
        middles = self.shifts[0, : self.sizes[0]] + (bins_of_block(self.sides, 0) - 1) / 2
        return (middles + 0.5) / self.bins - 0.5

    def _first_corners(self) -> Int[np.ndarray, "spell vocab 3"]:
        corners = np.zeros((LEVELS, self.vocab, 3), dtype=np.int64)
        for level, side in enumerate(self.sides):
            ids = np.arange(side**3)
            corners[level, ids] = np.stack([ids % side, ids // side**2, ids // side % side], 1) * bins_of_block(self.sides, level)
        return corners

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]:
        """ValueError on corners out of range, and on a face that is degenerate or was there before."""
        from .gate_kernels import steps_of

        check_corners(corners, self.bins)
        steps, wrong, face = steps_of(places_of_cells(corners.astype(np.int32)), self.bins)
        if wrong:
            raise ValueError(f"face {face} {WRONGS[wrong]}; pass canonical corners, see meshgpt.mesh.canonical")
        return self.spelled(steps)

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners. ValueError on a wrong width, an id out of range, and a vertex that makes no face where it stands.

        Not `strict`: the faces before that.
        """
        from .gate_kernels import walk_along
        from .walk_kernels import faces_of

        check_width(ids, self.width, "vertices", "steps")
        steps, whole = self.places_of(ids)
        walk, wrong, at = walk_along(steps, self.bins, 0)
        if strict and (wrong or whole < len(ids)):
            said = WRONGS[wrong] if wrong else f"lies in none of the bins 0 .. {self.bins - 1}, and is not SKIP ({self.skip})"
            step = ", ".join(map(str, ids[at].tolist()))
            raise ValueError(f"the vertex {step} of step {at} {said}; cut the sequence with ids[:{at}], or pass strict=False")
        return corners_in_order(faces_of(walk))

    def spelled(self, steps: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n 3"]:
        """The ids of steps (places, or -1 to skip)."""
        ids = np.zeros((len(steps), LEVELS), dtype=np.int64)
        axes = cells_of_places(steps).T
        for level, side in enumerate(self.sides):
            x, y, z = axes // bins_of_block(self.sides, level) % side
            ids[:, level] = (y * side + z) * side + x
        ids[steps < 0] = self.skip, 0, 0
        return ids

    def places_of(self, ids: Integer[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "m"], int]:
        """The steps up to the first one that is neither a vertex in the cube nor SKIP, and how many these are."""
        skipped = ids[:, 0] == self.skip
        inside = ((ids >= 0) & (ids < np.array(self.sizes))).all(1)
        known = np.where(inside[:, None], ids, 0)
        cells = sum(self._corners[level][known[:, level]] for level in range(LEVELS))
        good = skipped | inside & (cells < self.bins).all(1)
        count = len(ids) if good.all() else int(good.argmin())
        return np.where(skipped, -1, places_of_cells(cells))[:count].astype(np.int32), count

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """With the `points` of a cloud (in the cube) vertices stay on it."""
        ground = None if points is None else Ground.around(points, self.sides, self.bins)
        return GateGrammar(self.bins, self.sides, manifold, ground, faces)
