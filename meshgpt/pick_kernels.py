"""The inner loop of `generate.pick`: ids by their shares. Compiled, and kept on disk.

n  different rows of logits      o  ways that are open
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.compiled import compiled


@compiled
def picked(
    logits: Float[np.ndarray, "n ids"],
    legal: Bool[np.ndarray, "n ids"],
    which: Int[np.ndarray, "o"],
    uniform: Float[np.ndarray, "o"],
    temperature: float,
    top_k: int,
    top_p: float,
) -> Int[np.ndarray, "o"]:
    """One id for each uniform number in [0, 1), by the row that `which` names."""
    ids, reached = np.empty(logits.shape, np.int64), np.empty(logits.shape, np.float64)
    counts, found = np.empty(len(logits), np.int64), np.empty(len(which), np.int64)
    for row in range(len(logits)):
        counts[row] = order(logits[row], legal[row], ids[row])
        if temperature > 0:
            counts[row] = reach(logits[row], ids[row, : counts[row]], temperature, top_k, top_p, reached[row])
    for way in range(len(which)):
        row = which[way]
        at = 0
        if temperature > 0:
            sums = reached[row, : counts[row]]
            at = min(np.searchsorted(sums, uniform[way] * sums[-1], side="right"), counts[row] - 1)
        found[way] = ids[row, at]
    return found


@compiled
def order(logits: Float[np.ndarray, "ids"], legal: Bool[np.ndarray, "ids"], ids: Int[np.ndarray, "ids"]) -> int:
    """The legal ids, the likeliest first; how many there are."""
    known = np.flatnonzero(legal)
    ids[: len(known)] = known[np.argsort(-logits[known], kind="mergesort")]
    return len(known)


@compiled
def reach(
    logits: Float[np.ndarray, "ids"],
    ids: Int[np.ndarray, "m"],
    temperature: float,
    top_k: int,
    top_p: float,
    reached: Float[np.ndarray, "ids"],
) -> int:
    """The sums of the shares up to each of the ids, which are in order; how many of them have a share at all."""
    total, most = 0.0, np.float32(logits[ids[0]] / np.float32(temperature))
    for at in range(len(ids)):
        reached[at] = np.exp(np.float64(np.float32(logits[ids[at]] / np.float32(temperature))) - most)
        total += reached[at]
    last = len(ids) if top_k == 0 else min(top_k, len(ids))
    within = 0.0
    for at in range(last):
        within += reached[at] / total
    so_far, count = 0.0, 0
    for at in range(last):
        share = reached[at] / total
        if share == 0 or (top_p < 1 and so_far >= top_p * within):
            break
        so_far += share
        reached[at] = so_far
        count = at + 1
    return count
