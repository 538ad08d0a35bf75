"""Where in the cube the vertices of a mesh may lie, when they are written id by id: on the surface of a cloud, in canonical order.

It knows positions in bins, and how ids move a vertex. It does not know faces.

v  next ids      n  points or vertices
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from meshgpt.mesh import in_bins

from .interface import Steering, Vertex

# Bins between where the first vertex is and where the cloud says that it is.
NEAR = 2
# Bins; codes that end nearer to a vertex mean that vertex.
GAP = 0.75


class Room(NamedTuple):
    """`shifts` says how far each id moves a vertex at each place in it, `slack` how far what is still to come (and rounding) may
    move it after each place, `low` and `high` are the corners of the box that it must end in, and `start` is about where the first
    one of all is. `off` says how far each bin is from the surface, from which vertices keep within `reach`."""

    shifts: Float[np.ndarray, "spell v 3"]
    slack: Float[np.ndarray, "spell"]
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    start: Float[np.ndarray, "3"]
    off: Float[np.ndarray, "bins bins bins"]
    reach: float

    @classmethod
    def around(
        cls, points: Float[np.ndarray, "n 3"], bins: int, shifts: Float[np.ndarray, "spell v 3"], slack: Float[np.ndarray, "spell"]
    ) -> Room:
        """The room that a cloud in the cube leaves."""
        from scipy.ndimage import distance_transform_edt
        from scipy.spatial import KDTree

        at = in_bins(points, bins)
        ground = at[at[:, 1] <= at[:, 1].min() + 1.5]
        free = np.ones((bins,) * 3, dtype=bool)
        free[tuple(at.round().astype(int).clip(0, bins - 1).T)] = False
        spacing = float(np.median(KDTree(at).query(at, k=2)[0][:, 1]))
        off = distance_transform_edt(free).astype(np.float32)
        return cls(shifts, slack, at.min(0), at.max(0), ground.min(0), off, 1 + 1.5 * spacing)

    def at(self, opened: Vertex) -> Float[np.ndarray, "3"]:
        """Where a vertex, or its beginning, is."""
        position = np.zeros(3)
        for place, id in enumerate(opened):
            position += self.shifts[place, id]
        return position

    def next(self, opened: Vertex) -> Float[np.ndarray, "v 3"]:
        """Where each next id moves a vertex that begins so."""
        return self.at(opened) + self.shifts[len(opened)]

    def within(self, opened: Vertex, floor: Vertex) -> Bool[np.ndarray, "v"]:
        """Which next ids keep the vertex in the room, and not before the floor in canonical order; without a floor, near the start."""
        from .room_kernels import inside

        at, slack = self.next(opened), self.slack[len(opened)]
        fits = inside(at, self.low - slack, self.high + slack, self.off, slack + self.reach)
        if not floor:
            return fits & (np.abs(at - self.start)[:, 1:] <= slack + NEAR).all(1)
        _, y, z = self.at(floor)
        level = (np.abs(at[:, 1] - y) < 0.5) & (len(opened) == len(self.shifts) - 1)
        return fits & (at[:, 1] >= y - slack) & ~(level & (at[:, 2] < z - slack))

    def below(self, opened: Vertex, ceiling: float) -> Bool[np.ndarray, "v"]:
        """Which next ids keep the vertex no higher than the ceiling."""
        return self.next(opened)[:, 1] <= ceiling + (self.slack[len(opened)] if len(opened) < len(self.shifts) - 1 else 0)

    def beside(self, opened: Vertex, steering: Steering) -> Bool[np.ndarray, "v"]:
        """Which next ids leave the vertex within the steering's reach of its spots."""
        from scipy.spatial import KDTree

        reach = steering.reach + self.slack[len(opened)]
        return KDTree(steering.spots).query(self.next(opened), distance_upper_bound=reach)[0] <= reach

    def apart(self, opened: Vertex, others: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "v"]:
        """Which last ids put a vertex far enough from the others."""
        from .room_kernels import apart

        return apart(self.next(opened), others, GAP)
