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


@compiled
def held(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    origins: Float[np.ndarray, "f 3"],
    frames: Float[np.ndarray, "f 3 3"],
    face_normals: Float[np.ndarray, "f 3"],
    apart: float,
    facing: float,
) -> Bool[np.ndarray, "n"]:
    """Which points lie over one of the faces, less than `apart` from it, and look the way it does. `frames` turn what is between a point
    and a face's origin into shares of two edges, and the distance."""
    found = np.zeros(len(points), dtype=np.bool_)
    for one in range(len(points)):
        for face in range(len(origins)):
            x, y, z = points[one, 0] - origins[face, 0], points[one, 1] - origins[face, 1], points[one, 2] - origins[face, 2]
            frame = frames[face]
            if abs(x * frame[0, 2] + y * frame[1, 2] + z * frame[2, 2]) >= apart:
                continue
            along = x * frame[0, 0] + y * frame[1, 0] + z * frame[2, 0]
            across = x * frame[0, 1] + y * frame[1, 1] + z * frame[2, 1]
            if along <= 0 or across <= 0 or along + across >= 1:
                continue
            normal = face_normals[face]
            if normals[one, 0] * normal[0] + normals[one, 1] * normal[1] + normals[one, 2] * normal[2] > facing:
                found[one] = True
                break
    return found
