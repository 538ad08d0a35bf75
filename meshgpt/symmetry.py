"""In which upright planes a shape is its own mirror image, as far as one side of it says.

A good plane puts the mirrored points onto seen ones or where nothing was seen, and not into space that is free. It knows points and what an
eye sees. It does not know shapes.

n  points
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from meshgpt.cloud import Cloud, thinned
from meshgpt.viewpoint import Sight

ACROSS = (0, 2)  # x and z: planes are upright
FEW = 700  # points that are tried
# Planes that are tried lie up to so far outside of the points (in longest sides), so many of them, and then between these.
OUTSIDE, PLANES, ROUNDS = 0.3, 56, 3
# In cells of the eye's picture: how far mirrored points lie from seen ones, and how far before them space is free; and what a share of
# points in free space costs, where one on seen points is worth 1.
NEAR, FREE, COST = 1.5, 2.0, 3.0
ALIKE = 0.7  # the cosine of normals from which on they agree


class Mirror(NamedTuple):
    """A plane across an axis at a place; the shares of mirrored points that fall on seen ones, and into free space."""

    axis: int
    place: float
    matched: float
    free: float

    def image(self, points: Float[np.ndarray, "n 6"]) -> Float[np.ndarray, "n 6"]:
        """Positions and normals on the other side."""
        mirrored = points.copy()
        mirrored[:, self.axis] = 2 * self.place - mirrored[:, self.axis]
        mirrored[:, 3 + self.axis] *= -1
        return mirrored


def mirrors_of(cloud: Cloud, sight: Sight, points: int = FEW) -> tuple[Mirror, Mirror]:
    """The best plane across x, and across z; `cloud` has normals. So many of its points are tried."""
    from scipy.spatial import KDTree

    tree = KDTree(cloud.positions)
    some = thinned(cloud, points, np.random.default_rng(0))
    side = float(np.ptp(cloud.positions, axis=0).max())

    def best(axis: int) -> Mirror:
        low, high = cloud.positions[:, axis].min(), cloud.positions[:, axis].max()
        places = np.linspace(low - OUTSIDE * side, high + OUTSIDE * side, PLANES)
        step, found = places[1] - places[0], []
        for _ in range(ROUNDS + 1):
            found = [max([*found, *_tried(cloud, tree, some, sight, axis, places)], key=lambda one: one[0])]
            step /= 3
            places = found[0][1].place + step * np.array([-2, -1, 1, 2])
        return found[0][1]

    return best(ACROSS[0]), best(ACROSS[1])


def _tried(cloud: Cloud, tree: Any, some: Cloud, sight: Sight, axis: int, places: Float[np.ndarray, "k"]) -> list[tuple[float, Mirror]]:
    """Planes across an axis, by some of the points, and what they are worth: a match counts by how well it fits."""
    images = np.repeat(np.concatenate([some.positions, some.normals], 1)[None], len(places), 0)
    own = np.abs(images[:, :, axis] - places[:, None]) < NEAR * sight.grain  # such points match themselves
    images[:, :, axis] = 2 * places[:, None] - images[:, :, axis]
    images[:, :, 3 + axis] *= -1
    images = images.reshape(-1, 6)
    apart, which = tree.query(images[:, :3], distance_upper_bound=NEAR * sight.grain)
    on = np.isfinite(apart)
    on[on] = (cloud.normals[which[on]] * images[on, 3:]).sum(1) > ALIKE
    fit = on.astype(np.float64)
    off = ((images[on, :3] - cloud.positions[which[on]]) * cloud.normals[which[on]]).sum(1)
    fit[on] = 1 - (off / (NEAR * sight.grain)) ** 2
    free = (sight.behind(images[:, :3]) < -FREE * sight.grain) & ~on
    matched, fits = ((values.reshape(own.shape) * ~own).mean(1) for values in (on, fit))
    shares = free.reshape(own.shape).mean(1)
    found = (Mirror(axis, *map(float, one)) for one in zip(places, matched, shares, strict=True))
    return list(zip((fits - COST * shares).tolist(), found, strict=True))
