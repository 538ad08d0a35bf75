"""Surfaces in the cells of a grid, a sheet for each of six sides that it may face: along or against x, y or z, whichever is nearest.

So the two sides of a thin plate, and the faces around a corner, stay apart though they share a cell. Points lie in the cube [-0.5, 0.5]. It
knows points and cells. It does not know networks.

n  points      s  sides      c  cells along an axis
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SIDES = 6
FEWEST = 2  # points of a sheet


class Sheets(NamedTuple):
    """For each side and cell: whether there is a sheet, where its middle is (in cells, from the cell's), and its normal."""

    there: Bool[np.ndarray, "s c c c"]
    middle: Float[np.ndarray, "s 3 c c c"]
    normal: Float[np.ndarray, "s 3 c c c"]


def sides_of(normals: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n"]:
    """Which way normals face: 2 axis, and 1 more where it is against the axis."""
    axis = np.abs(normals).argmax(1)
    return 2 * axis + (np.take_along_axis(normals, axis[:, None], 1)[:, 0] < 0)


def places_of(points: Float[np.ndarray, "n 6"], cells: int) -> tuple[Int[np.ndarray, "m"], Float[np.ndarray, "m 6"]]:
    """Side and cell, as one number, of the points that lie in the cube; and these, as they lie in their cells."""
    at = np.floor((points[:, :3] + 0.5) * cells).astype(np.int64)
    inside = ((at >= 0) & (at < cells)).all(1)
    at, points = at[inside], points[inside]
    cell = (at[:, 0] * cells + at[:, 1]) * cells + at[:, 2]
    within = (points[:, :3] + 0.5) * cells - at - 0.5
    return sides_of(points[:, 3:]) * cells**3 + cell, np.concatenate([within, points[:, 3:]], 1)


def crowds(points: Float[np.ndarray, "n 6"], cells: int) -> Float[np.ndarray, "k c c c"]:
    """For each side and cell: log(1 + points), and how far along the side's axis they lie in the cell."""
    where, within = places_of(points, cells)
    total = SIDES * cells**3
    counts = np.bincount(where, minlength=total)
    along = np.take_along_axis(within, (where // cells**3 // 2)[:, None], 1)[:, 0]
    offsets = np.bincount(where, along, minlength=total) / np.maximum(counts, 1)
    return np.concatenate([np.log1p(counts), offsets]).astype(np.float32).reshape(2 * SIDES, cells, cells, cells)


def sheets_of(points: Float[np.ndarray, "n 6"], cells: int) -> Sheets:
    """The sheets that points lie on."""
    where, within = places_of(points, cells)
    total = SIDES * cells**3
    counts = np.bincount(where, minlength=total)
    sums = np.stack([np.bincount(where, column, minlength=total) for column in within.T])
    means = (sums / np.maximum(counts, 1)).astype(np.float32).reshape(2, 3, SIDES, cells, cells, cells)
    there = (counts >= FEWEST).reshape(SIDES, cells, cells, cells)
    normal = means[1] / np.maximum(np.linalg.norm(means[1], axis=0), 1e-6)
    return Sheets(there, means[0].swapaxes(0, 1), normal.swapaxes(0, 1))


def centres(cells: int) -> Float[np.ndarray, "n 3"]:
    """Of all cells, the last axis fastest."""
    at = (np.arange(cells) + 0.5) / cells - 0.5
    return np.stack(np.meshgrid(at, at, at, indexing="ij"), -1).reshape(-1, 3)


def points_on(sheets: Sheets, along: int) -> Float[np.ndarray, "n 6"]:
    """`along` x `along` points on each sheet: around its middle, as far as the cell goes on both sides of it."""
    cells = sheets.there.shape[-1]
    side, x, y, z = np.nonzero(sheets.there)
    middle, normal = sheets.middle[side, :, x, y, z], sheets.normal[side, :, x, y, z]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    axis = side // 2
    steps = (np.arange(along) + 0.5) / along - 0.5
    first, second = (grid.reshape(-1) for grid in np.meshgrid(steps, steps))
    offsets = np.zeros((len(side), along * along, 3))
    for turn, step in ((1, first), (2, second)):
        other = (axis + turn) % 3
        reach = 1 - 2 * np.abs(np.take_along_axis(middle, other[:, None], 1)[:, 0]).clip(0, 0.45)
        np.put_along_axis(
            offsets, np.broadcast_to(other[:, None, None], (len(side), along * along, 1)), (reach[:, None] * step)[..., None], 2
        )
    facing = np.take_along_axis(normal, axis[:, None], 1)[:, 0]
    drop = -np.einsum("nkd,nd->nk", offsets, normal) / np.where(np.abs(facing) < 0.3, np.where(facing < 0, -0.3, 0.3), facing)[:, None]
    np.put_along_axis(offsets, np.broadcast_to(axis[:, None, None], (len(side), along * along, 1)), drop[..., None], 2)
    corner = np.stack([x, y, z], 1)[:, None] + 0.5
    places = (corner + middle[:, None] + offsets) / cells - 0.5
    return np.concatenate([places, np.broadcast_to(normal[:, None], places.shape)], -1).reshape(-1, 6)
