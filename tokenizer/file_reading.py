"""What reading the bytes of a mesh file comes to, whole or broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer


class Problem(NamedTuple):
    """What is wrong with the bytes, and the first byte that is."""

    at: int
    said: str


class Reading(NamedTuple):
    """The mesh up to the problem, if there is one. `start` gives the byte at which a face begins; it may be slow."""

    vertices: Integer[np.ndarray, "v 3"]
    faces: Integer[np.ndarray, "f 3"]
    problem: Problem | None
    start: Callable[[int], int]


def nothing(problem: Problem) -> Reading:
    """No mesh at all."""
    return Reading(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), problem, lambda face: 0)
