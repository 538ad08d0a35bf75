"""The inner loops of `coverage.py`: which points of a cloud triangles lie over, and how near. Compiled, and kept on disk.

n  points      k  triangles      m  samples of all triangles
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

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
def counts_beneath(
    triangles: Float[np.ndarray, "k 3 3"],
    normals: Float[np.ndarray, "k 3"],
    points: Float[np.ndarray, "n 3"],
    directions: Float[np.ndarray, "n 3"],
    height: float,
    margin: float,
    facing: float,
    oriented: bool,
) -> Int[np.ndarray, "k"]:
    """How many points are beneath each triangle; those that are alike are looked at once."""
    counts = np.empty(len(triangles), np.int64)
    for one in range(len(triangles)):
        same = 0
        while same < one and (triangles[same] != triangles[one]).any():
            same += 1
        if same < one:
            counts[one] = counts[same]
        else:
            counts[one] = beneath(triangles[one], normals[one], points, directions, height, margin, facing, oriented).sum()
    return counts


@compiled
def depths(
    samples: Float[np.ndarray, "m 3"],
    ways: Float[np.ndarray, "k 3"],
    which: Int[np.ndarray, "m few"],
    points: Float[np.ndarray, "n 3"],
    directions: Float[np.ndarray, "n 3"],
    facing: float,
    oriented: bool,
) -> Float[np.ndarray, "m"]:
    """How far each sample is from the plane of the first of the points around it, nearest first, whose direction has a cosine of more than
    `facing` with the way of the sample's triangle; infinitely, where none has. Points that are none have the number n."""
    found, each = np.full(len(samples), np.inf), len(samples) // max(len(ways), 1)
    for one in range(len(samples)):
        way = ways[one // each]
        for near in range(which.shape[1]):
            point = which[one, near]
            if point == len(points):
                break
            normal = directions[point]
            cosine = normal[0] * way[0] + normal[1] * way[1] + normal[2] * way[2]
            if (cosine if oriented else abs(cosine)) > facing:
                x, y, z = samples[one, 0] - points[point, 0], samples[one, 1] - points[point, 1], samples[one, 2] - points[point, 2]
                found[one] = abs(x * normal[0] + y * normal[1] + z * normal[2])
                break
    return found


@compiled
def opened(bare: Bool[np.ndarray, "n"], around: Int[np.ndarray, "n few"], least: float) -> Bool[np.ndarray, "n"]:
    """Bare points around which so large a share is bare as well."""
    found = np.zeros(len(bare), dtype=np.bool_)
    for one in range(len(bare)):
        if bare[one]:
            count = 0
            for near in around[one]:
                count += bare[near]
            found[one] = count / around.shape[1] >= least
    return found


@compiled
def unit_normals(triangles: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "k 3"]:
    """Zeros where a triangle has no area."""
    normals = np.zeros((len(triangles), 3))
    for one in range(len(triangles)):
        a, b, c = triangles[one, 0], triangles[one, 1], triangles[one, 2]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = np.sqrt(x * x + y * y + z * z)
        if length > 1e-12:
            normals[one, 0], normals[one, 1], normals[one, 2] = x / length, y / length, z / length
    return normals


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
