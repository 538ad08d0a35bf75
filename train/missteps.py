"""Walks that have gone astray: earlier vertices lie a little off, and the next one is still where it belongs.

A model that only ever sees the borders of real meshes does not know how to go on from its own misplaced vertices; here it learns to
(the idea of DAgger: Ross, Gordon and Bagnell, 2011). A vertex that comes again comes where it came to lie. It knows gate tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.tokenizer.walk import cells_of_places, places_of_cells


@dataclass(frozen=True)
class Missteps:
    """`share` of the meshes have vertices that lie off, by a normal of up to `reach` bins, at most `of_edge` of their shortest edge."""

    share: float = 0.5
    reach: float = 3.0
    of_edge: float = 0.25


def astray(
    ids: Int[np.ndarray, "n 3"], tokenizer: GatesTokenizer, rng: np.random.Generator, how: Missteps
) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "n 3"]]:
    """The steps as they were taken, and beside each of them what should have been written there."""
    if rng.random() >= how.share:
        return ids, ids
    steps, _ = tokenizer.places_of(ids)
    drawn = np.flatnonzero(steps >= 0)
    places, first, which = np.unique(steps[drawn], return_index=True, return_inverse=True)
    sizes = np.minimum(rng.uniform(0, how.reach), how.of_edge * _shortest_edges(tokenizer.decode(ids), places))
    # Drawn in the order y, z, x.
    moves = np.roll(rng.normal(0, 1, (len(places), 3)), 1, 1) * sizes[:, None]
    moved = _apart(places, (cells_of_places(places) + moves).round().clip(0, tokenizer.bins - 1).astype(np.int32))
    taken, written = steps.copy(), steps.copy()
    taken[drawn] = written[drawn] = moved[which]
    written[drawn[first]] = places
    return tokenizer.spelled(taken), tokenizer.spelled(written)


def _shortest_edges(corners: Int[np.ndarray, "f 3 3"], places: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Of the edges at each place, in bins."""
    at = np.searchsorted(places, places_of_cells(corners))
    lengths = np.linalg.norm(corners - np.roll(corners, -1, 1), axis=2)
    shortest = np.full(len(places), np.inf)
    np.minimum.at(shortest, at, lengths)
    np.minimum.at(shortest, np.roll(at, -1, 1), lengths)
    return shortest


def _apart(places: Int[np.ndarray, "n"], cells: Int[np.ndarray, "n 3"]) -> Int[np.ndarray, "n"]:
    """Vertices that would come to lie on one another, or where another one was, stay where they are."""
    moved = places_of_cells(cells)
    _, which, counts = np.unique(moved, return_inverse=True, return_counts=True)
    return np.where((counts[which] > 1) | np.isin(moved, places), places, moved)
