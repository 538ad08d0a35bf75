"""A vertex as one number, (y * bins + z) * bins + x, which sorts as canonical vertices do."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Integer


def number_of(cells: Integer[np.ndarray, "*n 3"], bins: int) -> Int[np.ndarray, "*n"]:
    x, y, z = np.moveaxis(cells.astype(np.int64), -1, 0)
    return (y * bins + z) * bins + x


def cells_of(numbers: Int[np.ndarray, "*n"], bins: int) -> Int[np.ndarray, "*n 3"]:
    return np.stack([numbers % bins, numbers // bins**2, numbers // bins % bins], -1)
