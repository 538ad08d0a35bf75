"""The inner loops of `room.py`: over all next ids of a vertex, and what they would come near to. Compiled, and kept on disk.

v  next ids      n  vertices that are there
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from meshgpt.compiled import compiled


@compiled
def inside(
    at: Float[np.ndarray, "v 3"],
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    off: Float[np.ndarray, "bins bins bins"],
    reach: float,
) -> Bool[np.ndarray, "v"]:
    """Which positions are in the box, and no farther than `reach` from the surface, by the table of how far each bin is."""
    fits = np.zeros(len(at), dtype=np.bool_)
    last = len(off) - 1
    for one in range(len(at)):
        x, y, z = at[one]
        if not (low[0] <= x <= high[0] and low[1] <= y <= high[1] and low[2] <= z <= high[2]):
            continue
        i, j, k = (min(max(int(np.rint(x)), 0), last), min(max(int(np.rint(y)), 0), last), min(max(int(np.rint(z)), 0), last))
        fits[one] = off[i, j, k] <= reach
    return fits


@compiled
def apart(at: Float[np.ndarray, "v 3"], others: Float[np.ndarray, "n 3"], gap: float) -> Bool[np.ndarray, "v"]:
    """Which positions are `gap` from all others, on some axis."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for one in range(len(at)):
        for axis in range(3):
            low[axis], high[axis] = min(low[axis], at[one, axis] - gap), max(high[axis], at[one, axis] + gap)
    fits = np.ones(len(at), dtype=np.bool_)
    for x, y, z in others:
        if not (low[0] < x < high[0] and low[1] < y < high[1] and low[2] < z < high[2]):
            continue
        for one in range(len(at)):
            if abs(at[one, 0] - x) < gap and abs(at[one, 1] - y) < gap and abs(at[one, 2] - z) < gap:
                fits[one] = False
    return fits
