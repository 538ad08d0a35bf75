"""What the next vertex of a walk is placed upon: the gate, the border around it, and the vertices that the border offers.

    p --> a --> b --> n        the border; the next face stands over the gate a --> b, whose face's third corner is c
           \\   /
            \\ /
             c

It knows ids and positions, and asks the tokenizer's walk. It does not know networks.

b  rows      t  steps      k  candidates
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meshgpt.mesh import to_unit
from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.tokenizer.walk import cells_of_places

CANDIDATES = 16
STAGES = 4


class Border(NamedTuple):
    """Before each step. `stage` 0 is a vertex over a gate; 1, 2, 3 are those of a face of its own, whose earlier ones are a and b.

    corners     a, b, c, p, n in the cube
    candidates  ids of vertices of the border, the nearest ones, p and n first; `there` says which are real
    positions   theirs, in the cube
    """

    corners: Float[Tensor, "b t 5 3"]
    stage: Int[Tensor, "b t"]
    candidates: Int[Tensor, "b t k 3"]
    there: Bool[Tensor, "b t k"]
    positions: Float[Tensor, "b t k 3"]

    def to(self, device: torch.device) -> Border:
        return Border(*(part.to(device) for part in self))


def border_of(tokenizer: GatesTokenizer, frames: Int[np.ndarray, "b t 6"], found: Int[np.ndarray, "b t k"]) -> Border:
    """From what the walk says, in places."""
    there = found >= 0
    return Border(
        torch.from_numpy(_in_cube(frames[..., :5], tokenizer.bins)),
        torch.from_numpy(frames[..., 5].astype(np.int64)),
        torch.from_numpy(tokenizer.spelled(np.where(there, found, 0).reshape(-1)).reshape(*found.shape, 3)),
        torch.from_numpy(there),
        torch.from_numpy(_in_cube(np.where(there, found, 0), tokenizer.bins)),
    )


def _in_cube(places: Int[np.ndarray, "*n"], bins: int) -> Float[np.ndarray, "*n 3"]:
    return to_unit(cells_of_places(places), bins).astype(np.float32)


def borders_along(tokenizer: GatesTokenizer, ids: Int[Tensor, "b t 3"], lengths: Int[Tensor, "b"]) -> Border:
    """Before each of t + 1 steps of whole sequences; behind a row's end, what is there at its end."""
    from meshgpt.tokenizer.gate_kernels import frames_along

    rows, steps = ids.shape[:2]
    frames, found = np.zeros((rows, steps + 1, 6), np.int32), np.full((rows, steps + 1, CANDIDATES), -1, np.int32)
    for row, (sequence, length) in enumerate(zip(ids.cpu().numpy(), lengths.tolist(), strict=True)):
        places, _ = tokenizer.places_of(sequence[:length])
        frames[row, : length + 1], found[row, : length + 1] = frames_along(places, tokenizer.bins, CANDIDATES)
    return border_of(tokenizer, frames, found).to(ids.device)


class RunningBorder:
    """The same, step by step, for generation."""

    def __init__(self, tokenizer: GatesTokenizer, rows: int, faces: int, device: torch.device) -> None:
        from meshgpt.tokenizer.gate_kernels import beginning

        self.tokenizer, self.device = tokenizer, device
        self.walks = [beginning(tokenizer.bins, faces + 1) for _ in range(rows)]

    def begin(self, row: int, faces: int) -> None:
        """A new row in place of the one that was there."""
        from meshgpt.tokenizer.gate_kernels import beginning

        self.walks[row] = beginning(self.tokenizer.bins, faces + 1)

    def look(self, rows: Sequence[int]) -> Border:
        """Before the open steps of the given rows."""
        frames, found = self.frames(rows)
        return border_of(self.tokenizer, frames[:, None], found[:, None]).to(self.device)

    def frames(self, rows: Sequence[int]) -> tuple[Int[np.ndarray, "b 6"], Int[np.ndarray, "b k"]]:
        """The same, in places, as the walk says it."""
        from meshgpt.tokenizer.gate_kernels import frame_of

        frames, found = np.zeros((len(rows), 6), np.int32), np.full((len(rows), CANDIDATES), -1, np.int32)
        for at, row in enumerate(rows):
            frame_of(self.walks[row], frames[at], found[at])
        return frames, found

    def advance(self, ids: Int[np.ndarray, "b 3"], rows: Sequence[int]) -> None:
        """Take in a whole step of the given rows; a step that is no vertex and no SKIP is left out."""
        from meshgpt.tokenizer.gate_kernels import step
        from meshgpt.tokenizer.walk_machine import new_log

        log = new_log(2)
        for row, spelled in zip(rows, ids, strict=True):
            places, count = self.tokenizer.places_of(spelled[None])
            if count:
                step(self.walks[row], log, int(places[0]))
