"""The inner loops of `tidy.py`: how far points are from a few triangles, and which part of a triangle is near to points. Compiled, and
kept on disk. Lengths are in cube units.

n  points      k  triangles      c  cells
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.compiled import compiled
from meshgpt.settle_kernels import nearest_place

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "15977651b8502dc7"

# The side of the cube that cells fill; what is outside is in the cells at its border.
REACH = 1.2
# Samples along a side of a triangle.
MOST = 12


@compiled
def cell_of(position: float, cells: int) -> int:
    return min(max(int((position / REACH + 0.5) * cells), 0), cells - 1)


@compiled
def across_and_areas(triangles: Float[np.ndarray, "k 3 3"]) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k"]]:
    """Unit normals and areas."""
    across, areas = np.empty((len(triangles), 3)), np.empty(len(triangles))
    for one in range(len(triangles)):
        x, y, z = normal_of(triangles[one])
        size = np.sqrt(x * x + y * y + z * z)
        areas[one] = size / 2
        size = max(size, 1e-18)
        across[one, 0], across[one, 1], across[one, 2] = x / size, y / size, z / size
    return across, areas


@compiled
def turned(before: Float[np.ndarray, "k 3 3"], after: Float[np.ndarray, "k 3 3"], least: float, small: float, flat: float) -> bool:
    """Whether the cosine between a triangle before and after is less than `least`, or one has less area than `flat` in the end; of those
    that had less than `small` the cosine does not matter."""
    for one in range(len(before)):
        x, y, z = normal_of(before[one])
        u, v, w = normal_of(after[one])
        size, left = np.sqrt(x * x + y * y + z * z), np.sqrt(u * u + v * v + w * w)
        if left < 2 * flat or (size > 2 * small and x * u + y * v + z * w < least * size * left):
            return True
    return False


@compiled
def bent(before: Float[np.ndarray, "m 3 3"], after: Float[np.ndarray, "k 3 3"], least: float, flat: float) -> bool:
    """Whether the cosine between one of the triangles after and all before, by their areas, is less than `least`, or it has less area than
    `flat`."""
    x = y = z = 0.0
    for one in range(len(before)):
        u, v, w = normal_of(before[one])
        x, y, z = x + u, y + v, z + w
    size = np.sqrt(x * x + y * y + z * z)
    for one in range(len(after)):
        u, v, w = normal_of(after[one])
        left = np.sqrt(u * u + v * v + w * w)
        if left < 2 * flat or x * u + y * v + z * w < least * size * left:
            return True
    return False


@compiled
def normal_of(triangle: Float[np.ndarray, "3 3"]) -> tuple[float, float, float]:
    """As long as twice the area."""
    a, b, c = triangle[0], triangle[1], triangle[2]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@compiled
def moved_to(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    which: Int[np.ndarray, "n"],
    squared: Float[np.ndarray, "n"],
    gone: Bool[np.ndarray, "f"],
    triangles: Float[np.ndarray, "k 3 3"],
    across: Float[np.ndarray, "k 3"],
    far: float,
    uncovered: float,
    facing: float,
    oriented: bool,
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Float[np.ndarray, "m"]]:
    """The points whose faces are `gone`, and those near the triangles that lie further than `uncovered` (squared) from their own; and the
    nearest of the triangles that faces each one's way, or -1, with its squared distance, `far` squared at most."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    middles, radii = np.zeros((len(triangles), 3)), np.zeros(len(triangles))
    for one in range(len(triangles)):
        for axis in range(3):
            for corner in range(3):
                low[axis] = min(low[axis], triangles[one, corner, axis])
                high[axis] = max(high[axis], triangles[one, corner, axis])
                middles[one, axis] += triangles[one, corner, axis] / 3
        for corner in range(3):
            radii[one] = max(radii[one], np.sqrt(((triangles[one, corner] - middles[one]) ** 2).sum()))
    found = np.empty(len(points), np.int64)
    nearest, least = np.empty(len(points), np.int64), np.empty(len(points))
    count = 0
    for point in range(len(points)):
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        if not gone[which[point]]:
            if squared[point] <= uncovered:
                continue
            if x < low[0] - far or y < low[1] - far or z < low[2] - far or x > high[0] + far or y > high[1] + far or z > high[2] + far:
                continue
        best, at = far * far, -1
        if not gone[which[point]]:
            best = squared[point]
        for one in range(len(triangles)):
            dx, dy, dz = x - middles[one, 0], y - middles[one, 1], z - middles[one, 2]
            if dx * dx + dy * dy + dz * dz >= (np.sqrt(best) + radii[one]) ** 2:
                continue
            cosine = normals[point, 0] * across[one, 0] + normals[point, 1] * across[one, 1] + normals[point, 2] * across[one, 2]
            if (cosine if oriented else abs(cosine)) <= facing:
                continue
            u, v, w = nearest_place(points[point], triangles[one])
            apart = 0.0
            for axis in range(3):
                apart += (
                    points[point, axis] - u * triangles[one, 0, axis] - v * triangles[one, 1, axis] - w * triangles[one, 2, axis]
                ) ** 2
            if apart < best:
                best, at = apart, one
        if at < 0 and not gone[which[point]]:
            continue
        found[count], nearest[count], least[count] = point, at, best
        count += 1
    return found[:count], nearest[:count], least[:count]


@compiled
def planes_around(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    which: Int[np.ndarray, "n"],
    chosen: Bool[np.ndarray, "f"],
    place: Float[np.ndarray, "3"],
    reach: float,
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"], float]:
    """The normal equations of where, from the place on, the planes of the points on the `chosen` faces meet that are within `reach` of it,
    the nearer ones above all; and what the points weigh together."""
    pulls, sums, total = np.zeros((3, 3)), np.zeros(3), 0.0
    for point in range(len(points)):
        if not chosen[which[point]]:
            continue
        x, y, z = points[point, 0] - place[0], points[point, 1] - place[1], points[point, 2] - place[2]
        nearness = 1 - (x * x + y * y + z * z) / (reach * reach)
        if nearness <= 0:
            continue
        weight = nearness * nearness
        along = normals[point, 0] * x + normals[point, 1] * y + normals[point, 2] * z
        for row in range(3):
            sums[row] += weight * along * normals[point, row]
            for column in range(3):
                pulls[row, column] += weight * normals[point, row] * normals[point, column]
        total += weight
    return pulls, sums, total


@compiled
def off_cloud(
    triangles: Float[np.ndarray, "k 3 3"],
    across: Float[np.ndarray, "k 3"],
    areas: Float[np.ndarray, "k"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    starts: Int[np.ndarray, "c"],
    order: Int[np.ndarray, "n"],
    cells: int,
    near: float,
    facing: float,
    oriented: bool,
) -> Float[np.ndarray, "k"]:
    """How much of each triangle's area has no point as `near` that faces its way; points are found by cells (`starts`, `order`) that are
    as wide at least, `cells` along a side of REACH."""
    off = np.zeros(len(triangles))
    for one in range(len(triangles)):
        a, b, c = triangles[one, 0], triangles[one, 1], triangles[one, 2]
        longest = max(((a - b) ** 2).sum(), max(((b - c) ** 2).sum(), ((c - a) ** 2).sum()))
        steps = min(max(int(np.sqrt(longest) / near) + 1, 2), MOST)
        missed, count = 0, 0
        for i in range(steps):
            for j in range(steps - i):
                u, v = (i + 1 / 3) / steps, (j + 1 / 3) / steps
                count += 1
                place = (1 - u - v) * a + u * b + v * c
                if not touched(place, across[one], points, normals, starts, order, cells, near, facing, oriented):
                    missed += 1
        off[one] = areas[one] * missed / count
    return off


@compiled
def touched(
    place: Float[np.ndarray, "3"],
    way: Float[np.ndarray, "3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    starts: Int[np.ndarray, "c"],
    order: Int[np.ndarray, "n"],
    cells: int,
    near: float,
    facing: float,
    oriented: bool,
) -> bool:
    """Whether a point as `near` faces that way."""
    x, y, z = cell_of(place[0], cells), cell_of(place[1], cells), cell_of(place[2], cells)
    for i in range(max(x - 1, 0), min(x + 2, cells)):
        for j in range(max(y - 1, 0), min(y + 2, cells)):
            for k in range(max(z - 1, 0), min(z + 2, cells)):
                cell = (i * cells + j) * cells + k
                for at in range(starts[cell], starts[cell + 1]):
                    point = order[at]
                    dx, dy, dz = points[point, 0] - place[0], points[point, 1] - place[1], points[point, 2] - place[2]
                    if dx * dx + dy * dy + dz * dz >= near * near:
                        continue
                    cosine = normals[point, 0] * way[0] + normals[point, 1] * way[1] + normals[point, 2] * way[2]
                    if (cosine if oriented else abs(cosine)) > facing:
                        return True
    return False
