"""The inner loop of `coverage.py`: which points of a cloud a triangle lies over. Compiled, and kept on disk.

n  points
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from meshgpt.compiled import compiled


@compiled
def beneath(
    triangle: Float[np.ndarray, "3 3"],
    normal: Float[np.ndarray, "3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    height: float,
    margin: float,
    facing: float,
    oriented: bool,
) -> Bool[np.ndarray, "n"]:
    """Points less than `height` off the triangle's plane, over it or less than `margin` beside it, whose normals have a cosine of more
    than `facing` with its own; without `oriented` their sign does not matter. All lengths are in cube units."""
    over = np.zeros(len(points), dtype=np.bool_)
    inward = np.empty((3, 3))
    least = np.empty(3)
    for edge in range(3):
        tail, head = triangle[edge], triangle[(edge + 1) % 3]
        inward[edge] = np.cross(normal, head - tail)
        least[edge] = (inward[edge] * tail).sum() - margin * np.sqrt((inward[edge] ** 2).sum())
    level = (normal * triangle[0]).sum()
    for one in range(len(points)):
        x, y, z = points[one]
        if abs(normal[0] * x + normal[1] * y + normal[2] * z - level) >= height:
            continue
        if (
            inward[0, 0] * x + inward[0, 1] * y + inward[0, 2] * z <= least[0]
            or inward[1, 0] * x + inward[1, 1] * y + inward[1, 2] * z <= least[1]
            or inward[2, 0] * x + inward[2, 1] * y + inward[2, 2] * z <= least[2]
        ):
            continue
        cosine = normal[0] * normals[one, 0] + normal[1] * normals[one, 1] + normal[2] * normals[one, 2]
        over[one] = (cosine if oriented else abs(cosine)) > facing
    return over
