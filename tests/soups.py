"""Meshes that nobody would build, for hypothesis: what real meshes have by accident, all at once and on few places."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from meshgpt.mesh import BINS, canonical


def _fan(rng: np.random.Generator) -> np.ndarray:
    """Two to six faces on one edge, each whichever way round."""
    faces = [(0, 1, third) for third in range(2, int(rng.integers(4, 9)))]
    return np.array([face if rng.random() < 0.5 else face[::-1] for face in faces])


def _moebius(rng: np.random.Generator) -> np.ndarray:
    """A band that meets itself upside down."""
    count = int(rng.integers(3, 9))
    along = np.arange(count)
    low, high = 2 * along, 2 * along + 1
    low_after, high_after = np.roll(low, -1), np.roll(high, -1)
    low_after[-1], high_after[-1] = high[0], low[0]
    return np.concatenate([np.stack([low, low_after, high], 1), np.stack([high, low_after, high_after], 1)])


def _bow_tie(rng: np.random.Generator) -> np.ndarray:
    """Fans that share one vertex and no edge."""
    return np.concatenate([[(0, at, at + 1), (0, at + 1, at + 2)] for at in range(1, 3 * int(rng.integers(2, 5)), 3)])


def _grid(rng: np.random.Generator) -> np.ndarray:
    """An open sheet, some of it turned over."""
    rows, columns = rng.integers(2, 6, 2)
    at = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = at[:-1, :-1].ravel(), at[1:, :-1].ravel(), at[1:, 1:].ravel(), at[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    turned = rng.random(len(faces)) < rng.choice([0, 0.3])
    return np.where(turned[:, None], faces[:, ::-1], faces)


def _closed(rng: np.random.Generator) -> np.ndarray:
    """A tetrahedron, sometimes with a wall inside."""
    faces = np.array([(0, 1, 2), (0, 3, 1), (1, 3, 2), (2, 3, 0), (0, 1, 4)])
    return faces[: 4 + int(rng.integers(2))]


def _scattered(rng: np.random.Generator) -> np.ndarray:
    """Any three vertices of a few, twice now and then, and twins that look the other way."""
    faces = rng.integers(0, rng.integers(3, 12), (int(rng.integers(1, 25)), 3))
    return np.concatenate([faces, faces[::3], faces[::4, ::-1]])


PARTS = (_fan, _moebius, _bow_tie, _grid, _closed, _scattered)


@st.composite
def soups(draw: st.DrawFn, bins: int = BINS) -> np.ndarray:
    """Canonical corners, perhaps none: some parts, each on places of its own or on those of the others, of which there may be few."""
    parts = draw(st.lists(st.sampled_from(PARTS), max_size=5))
    reach = draw(st.sampled_from([min(3, bins), min(12, bins), bins]))
    joined = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return soup(parts, reach, joined, rng)


def soup(parts: list, reach: int, joined: bool, rng: np.random.Generator) -> np.ndarray:
    """The parts on random places below `reach`."""
    shared = rng.integers(0, reach, (200, 3))
    corners = [np.zeros((0, 3, 3), dtype=np.int64)]
    for part in parts:
        places = shared if joined else rng.integers(0, reach, (200, 3))
        corners.append(places[part(rng)])
    return canonical(np.concatenate(corners))
