"""Coordinate tokens: a face is its nine bins, and a step is a face.

    face 0                  face 1
    y z x  y z x  y z x     y z x  y z x  y z x     END
    -----  -----  -----
    corner corner corner

The axes of a corner come in the order in which canonical corners are sorted, so that the order can be kept id by id.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from meshgpt.mesh import BINS

from .checks import check_bins, check_corners, check_width, whole_steps
from .interface import UNLIMITED, Grammar, Steering

SORTED_AXES = (1, 2, 0)
AXES_BACK = (2, 0, 1)


class CoordsTokenizer:
    """Nine ids a face, each a bin; lossless."""

    width = 9
    spell = 3
    lossy = False
    places = None
    offsets = None

    def __init__(self, bins: int = BINS) -> None:
        check_bins(bins)
        self.bins = self.vocab = bins

    @property
    def shifts(self) -> Float[Tensor, "3 bins 3"]:
        """Each id is the bin on its axis."""
        shifts = torch.zeros(3, self.bins, 3)
        for place, axis in enumerate(SORTED_AXES):
            shifts[place, :, axis] = torch.arange(self.bins)
        return shifts

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]:
        check_corners(corners, self.bins)
        return corners[:, :, SORTED_AXES].reshape(-1, 9).astype(np.int64)

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """ValueError on a wrong width, or on an id out of range; when not `strict`, the faces before that id."""
        check_width(ids, self.width, "faces of nine coordinates", "faces")
        ids = whole_steps(ids, self.vocab, "bin", strict)
        return ids.reshape(-1, 3, 3)[:, :, AXES_BACK].astype(np.int64)

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """Sorted faces can run out of legal corners when `manifold` edges bar some, which is not foreseen: these, and the cloud's
        `points`, are not looked at."""
        return CoordsGrammar(self.bins, faces)


class CoordsState(NamedTuple):
    """What decides the next id; corners are numbered in their sorted order, (y * bins + z) * bins + x."""

    last: tuple[int, int, int] | None  # the last whole face
    fan: frozenset[tuple[int, int]]  # second and third corners of all faces on the last face's first corner
    open: tuple[int, ...]  # ids of the open face
    passed: int  # the highest first corner that is passed over, or -1
    ceiling: int  # the highest first corner that the next face may have
    faces: int = 0


class CoordsGrammar:
    """Canonical order, held id by id, so that every path ends in whole, distinct, sorted faces.

    A face a b c has a < b, a < c and b != c (its lowest corner is first), follows the last face in lexicographic order, and does not
    stand on the corners of an earlier face; such a twin could only be the earlier face seen from behind, so only the faces on the
    same first corner need to be remembered. END comes between faces only, and after `faces` of them nothing else.
    """

    def __init__(self, bins: int, faces: int = UNLIMITED) -> None:
        self.bins, self.corners, self.most = bins, bins**3, faces

    def start(self) -> CoordsState:
        return CoordsState(None, frozenset(), (), -1, self.corners)

    def legal(self, state: CoordsState) -> Bool[np.ndarray, "ids"]:
        done = [self._corner(state.open[at : at + 3]) for at in range(0, len(state.open) - 2, 3)]
        low, excluded = (self._firsts, self._seconds, self._thirds)[len(done)](state, *done)
        high = self.corners - 1 if done else self.corners - 3
        if not done and low <= state.ceiling and not excluded:
            high = min(high, state.ceiling)
        mask = np.zeros(self.bins + 1, dtype=bool)
        if state.open or state.faces < self.most:
            mask[: self.bins] = self._reachable(state.open[3 * len(done) :], low, high, excluded)
        mask[self.bins] = not state.open
        return mask

    def advance(self, state: CoordsState, id: int) -> CoordsState:
        opened = (*state.open, int(id))
        if len(opened) < 9:
            return state._replace(open=opened)
        a, b, c = (self._corner(opened[at : at + 3]) for at in (0, 3, 6))
        fan = state.fan if state.last and state.last[0] == a else frozenset()
        return CoordsState((a, b, c), fan | {(b, c)}, (), state.passed, self.corners, state.faces + 1)

    def steered(self, state: CoordsState, steering: Steering) -> CoordsState:
        """Faces are sorted by their first corners, so ones that are lower than those passed over are passed over as well. Spots
        are not looked at."""
        highest = self.corners if steering.ceiling >= self.bins else (max(int(steering.ceiling), 0) + 1) * self.bins**2 - 1
        return state._replace(passed=max((self._corner(first) for first in steering.passed), default=-1), ceiling=highest)

    def faces(self, state: CoordsState) -> int:
        return state.faces

    def most_steps(self, faces: int) -> int:
        return faces

    def _corner(self, ids: tuple[int, ...]) -> int:
        return (ids[0] * self.bins + ids[1]) * self.bins + ids[2]

    def _firsts(self, state: CoordsState) -> tuple[int, set[int]]:
        """The lowest first corner, and which of those above it are barred."""
        above = state.passed + 1
        if state.last is None or state.last[0] < above <= self.corners - 3:
            return min(above, self.corners - 3), set()
        a = state.last[0]
        low, barred = self._seconds(state, a)
        return a, {a} if self.corners - low <= len(barred) else set()

    def _seconds(self, state: CoordsState, a: int) -> tuple[int, set[int]]:
        low = state.last[1] if state.last and state.last[0] == a else a + 1
        room_is_short = self.corners - a - 2 <= len(state.fan)
        suspects = range(low, self.corners) if room_is_short else range(low, min(low + 1, self.corners))
        return low, {b for b in suspects if not self._has_third(state, a, b)}

    def _has_third(self, state: CoordsState, a: int, b: int) -> bool:
        low, barred = self._thirds(state, a, b)
        return self.corners - low > len(barred)

    def _thirds(self, state: CoordsState, a: int, b: int) -> tuple[int, set[int]]:
        on_last = state.last is not None and state.last[0] == a
        low = state.last[2] + 1 if on_last and state.last[1] == b else a + 1
        twins = {first for first, second in state.fan if second == b} if on_last else set()
        return low, {c for c in twins | {b} if c >= low}

    def _reachable(self, opened: tuple[int, ...], low: int, high: int, excluded: set[int]) -> Bool[np.ndarray, "bins"]:
        """Which next ids of a corner lead to a corner in low .. high that is not excluded."""
        span = self.bins ** (2 - len(opened))
        base = 0
        for id in opened:
            base = (base + id) * self.bins
        starts = (base + np.arange(self.bins)) * span
        room = np.minimum(starts + span - 1, high) - np.maximum(starts, low) + 1
        for corner in excluded:
            if low <= corner <= high and 0 <= corner // span - base < self.bins:
                room[corner // span - base] -= 1
        return room > 0
