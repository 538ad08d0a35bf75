"""The inner loop of `settle.py`: which face of a mesh each point of a cloud lies nearest to. Compiled, and kept on disk.

n  points      f  triangles
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from meshgpt.compiled import compiled


@compiled
def nearest_faces(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    triangles: Float[np.ndarray, "f 3 3"],
    face_normals: Float[np.ndarray, "f 3"],
    far: float,
    facing: float,
    oriented: bool,
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n 3"]]:
    """The face at most `far` from each point that faces its way (the cosine is above `facing`), or -1; and the barycentric coordinates
    of the nearest place on it."""
    which, places = np.full(len(points), -1), np.zeros((len(points), 3))
    middles, radii = np.empty((len(triangles), 3)), np.zeros(len(triangles))
    for face in range(len(triangles)):
        for axis in range(3):
            middles[face, axis] = (triangles[face, 0, axis] + triangles[face, 1, axis] + triangles[face, 2, axis]) / 3
        for corner in range(3):
            radii[face] = max(radii[face], np.sqrt(((triangles[face, corner] - middles[face]) ** 2).sum()))
    last = 0
    for one in range(len(points)):
        x, y, z = points[one]
        least = far
        # The face of the point before is looked at first: mostly it is near, and few others need be looked at then.
        for turn in range(-1, len(triangles)):
            face = last if turn < 0 else turn
            if turn == last:
                continue
            dx, dy, dz = x - middles[face, 0], y - middles[face, 1], z - middles[face, 2]
            if dx * dx + dy * dy + dz * dz >= (least + radii[face]) ** 2:
                continue
            cosine = (
                normals[one, 0] * face_normals[face, 0] + normals[one, 1] * face_normals[face, 1] + normals[one, 2] * face_normals[face, 2]
            )
            if (cosine if oriented else abs(cosine)) <= facing:
                continue
            u, v, w = nearest_place(points[one], triangles[face])
            squared = 0.0
            for axis in range(3):
                at = u * triangles[face, 0, axis] + v * triangles[face, 1, axis] + w * triangles[face, 2, axis]
                squared += (points[one, axis] - at) ** 2
            if squared < least * least:
                least, which[one] = np.sqrt(squared), face
                places[one, 0], places[one, 1], places[one, 2] = u, v, w
        last = max(which[one], 0)
    return which, places


@compiled
def nearest_place(point: Float[np.ndarray, "3"], triangle: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """Barycentric coordinates, by the region that the point lies in (Ericson, Real-Time Collision Detection, 2005, 5.1.5)."""
    # No array is made in between: each would cost as much as all else here.
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for axis in range(3):
        a, b, c, x = triangle[0, axis], triangle[1, axis], triangle[2, axis], point[axis]
        d1, d2 = d1 + (b - a) * (x - a), d2 + (c - a) * (x - a)
        d3, d4 = d3 + (b - a) * (x - b), d4 + (c - a) * (x - b)
        d5, d6 = d5 + (b - a) * (x - c), d6 + (c - a) * (x - c)
    if d1 <= 0 and d2 <= 0:
        return 1.0, 0.0, 0.0
    if d3 >= 0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    if d6 >= 0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    on_c, on_b, on_a = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if on_c <= 0 and d1 >= 0 and d3 <= 0:
        share = d1 / (d1 - d3)
        return 1 - share, share, 0.0
    if on_b <= 0 and d2 >= 0 and d6 <= 0:
        share = d2 / (d2 - d6)
        return 1 - share, 0.0, share
    if on_a <= 0 and d4 >= d3 and d5 >= d6:
        share = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 0.0, 1 - share, share
    whole = on_a + on_b + on_c
    if whole <= 0:
        return 1.0, 0.0, 0.0
    return on_a / whole, on_b / whole, on_c / whole
