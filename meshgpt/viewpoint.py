"""Where a cloud was seen from, if it was seen from one place, and what is known from there about the space around it.

A camera sees as many points in every direction, and none behind another. So the eye is where the points, seen from there, are spread most
evenly and hide each other least; of a cloud of a whole shape there is no such place. It knows points. It does not know shapes.

n  points      h, w  cells of the picture
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.cloud import Cloud, directions

# Points to a cell of the picture that is judged, and at most so many points are looked at, first and then.
CROWD, FEW, ENOUGH = 6.0, 1_000, 4_000
# Eyes that are tried first: directions, and how many longest sides away; then, around the best ones, steps (in radians) and distances.
DIRECTIONS, DISTANCES, BEST = 300, (2.0, 5.0), 4
STEPS, AROUND, NEARER = (0.12, 0.07, 0.04, 0.025, 0.015), 8, (0.8, 1.25)
# A point is hidden, if it lies so many cells behind the nearest one in its cell; and how much hidden points count.
BEHIND, HIDING = 4.0, 2.0
# One side was seen, if what is uneven and what is hidden are less; and if so many normals, where they are known, face the eye.
ONE_SIDED, FACING = 0.16, 0.95
# Normals that face an eye nearby look away from its direction by this cosine at most; of a whole shape many look away further.
AWAY = -0.35
LEAST_DEPTH = 0.05  # of the longest side: an eye is not among the points
NEIGHBOURS = 16
WAYS = 64


class Viewpoint(NamedTuple):
    """An eye; how unevenly the points are spread from there (variance of the counts of cells over their squared mean), and which share of
    them is hidden."""

    eye: Float[np.ndarray, "3"]
    uneven: float
    hidden: float

    @property
    def cost(self) -> float:
        return self.uneven + HIDING * self.hidden


def only_eye_of(cloud: Cloud) -> Viewpoint | None:
    """The eye that has seen the cloud, if a single one has."""
    normals = cloud.normals
    if normals is not None and max((normals @ way > AWAY).mean() for way in directions(WAYS)) < FACING:
        return None
    found = viewpoint_of(cloud.positions)
    faces = normals is None or (((found.eye - cloud.positions) * normals).sum(1) > 0).mean() >= FACING
    return found if faces and found.uneven + found.hidden < ONE_SIDED else None


def viewpoint_of(positions: Float[np.ndarray, "n 3"]) -> Viewpoint:
    """The likeliest eye."""
    few, points = _fewer(positions, FEW), _fewer(positions, ENOUGH)
    middle, side = (points.min(0) + points.max(0)) / 2, float(np.ptp(points, axis=0).max())
    tried = [judged(few, middle + far * side * way) for way in directions(DIRECTIONS) for far in DISTANCES]
    best = sorted(tried, key=lambda one: one.cost)[:BEST]
    found = min((_refined(points, middle, judged(points, one.eye)) for one in best), key=lambda one: one.cost)
    return judged(positions, found.eye)


def _refined(points: Float[np.ndarray, "n 3"], middle: Float[np.ndarray, "3"], best: Viewpoint) -> Viewpoint:
    for step in STEPS:
        out = best.eye - middle
        _, across, up = frame_of(out)
        far = float(np.linalg.norm(out))
        turns = 2 * np.pi * np.arange(AROUND) / AROUND
        eyes = [out + step * far * (np.cos(turn) * across + np.sin(turn) * up) for turn in turns]
        eyes = [eye * far / np.linalg.norm(eye) for eye in eyes] + [out * share for share in NEARER]
        best = min([best, *(judged(points, middle + eye) for eye in eyes)], key=lambda one: one.cost)
    return best


def judged(positions: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"]) -> Viewpoint:
    """How well an eye explains the points."""
    middle, side = (positions.min(0) + positions.max(0)) / 2, float(np.ptp(positions, axis=0).max())
    flat, depth = seen_from(positions, eye, middle)
    if depth.min() < LEAST_DEPTH * side:
        return Viewpoint(eye, np.inf, 1.0)
    cells, width, cell = _cells(flat)
    counts = np.bincount(cells, minlength=width * width).reshape(width, width).astype(np.float64)
    filled = counts > 0
    inner = filled & np.roll(filled, 1, 0) & np.roll(filled, -1, 0) & np.roll(filled, 1, 1) & np.roll(filled, -1, 1)
    kept = counts[inner if inner.sum() > 20 else filled]
    nearest = np.full(width * width, np.inf)
    np.minimum.at(nearest, cells, depth)
    hidden = depth > nearest[cells] + BEHIND * cell * np.median(depth)
    return Viewpoint(eye, float(kept.var() / kept.mean() ** 2), float(hidden.mean()))


def frame_of(out: Float[np.ndarray, "3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Unit vectors along a direction, and across it: level, and up."""
    out = out / np.linalg.norm(out)
    across = np.cross([0.0, 1.0, 0.0] if abs(out[1]) < 0.99 else [1.0, 0.0, 0.0], out)
    across /= np.linalg.norm(across)
    return out, across, np.cross(out, across)


def seen_from(
    positions: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"], middle: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
    """Places on a picture that is one unit before an eye which looks at the middle, and depths."""
    out, across, up = frame_of(eye - middle)
    away = positions - eye
    depth = -away @ out
    return np.stack([away @ across, away @ up], 1) / np.where(depth > 0, depth, 1e-9)[:, None], depth


def _cells(flat: Float[np.ndarray, "n 2"]) -> tuple[Int[np.ndarray, "n"], int, float]:
    """The cell of each place, the cells of a row, and their side, such that a filled one holds CROWD points."""
    low = flat.min(0)
    side = float((flat.max(0) - low).max()) / max(8.0, len(flat) ** 0.5)
    side *= (CROWD * len(np.unique(((flat - low) / side).astype(np.int64) @ [100_003, 1])) / len(flat)) ** 0.5
    at = ((flat - low) / side).astype(np.int64) + 1
    width = int(at.max()) + 2
    return at[:, 0] * width + at[:, 1], width, side


def _fewer(positions: Float[np.ndarray, "n 3"], most: int) -> Float[np.ndarray, "m 3"]:
    if len(positions) <= most:
        return positions
    return positions[np.random.default_rng(0).choice(len(positions), most, replace=False)]


@dataclass(frozen=True, eq=False)
class Sight:
    """What an eye knows: space before the points that it sees is free, and so is what lies beside them all."""

    positions: Float[np.ndarray, "n 3"]
    eye: Float[np.ndarray, "3"]

    @cached_property
    def _middle(self) -> Float[np.ndarray, "3"]:
        return (self.positions.min(0) + self.positions.max(0)) / 2

    @cached_property
    def _picture(self) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "2"], float]:
        """The least depth in each cell, infinite where nothing was seen; where its corner is, and the side of a cell. Single holes are
        filled up."""
        flat, depth = seen_from(self.positions, self.eye, self._middle)
        cells, width, side = _cells(flat)
        nearest = np.full(width * width, np.inf)
        np.minimum.at(nearest, cells, depth)
        picture = nearest.reshape(width, width)
        around = np.stack([np.roll(picture, way, axis) for axis in (0, 1) for way in (-1, 1)])
        filled = np.isinf(picture) & (np.isfinite(around).sum(0) >= 3)
        deepest = np.where(np.isfinite(around), around, -np.inf).max(0)
        return np.where(filled, deepest, picture), flat.min(0) - side, side

    def behind(self, places: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
        """How far places lie behind what was seen in their direction: less than zero where space is free; minus infinity beside all."""
        picture, low, side = self._picture
        flat, depth = seen_from(places, self.eye, self._middle)
        at = np.floor((flat - low) / side).astype(np.int64)
        inside = ((at >= 0) & (at < len(picture))).all(1) & (depth > 0)
        row, column = at.clip(0, len(picture) - 1).T
        return np.where(inside, depth - picture[row, column], -np.inf)

    @property
    def grain(self) -> float:
        """How wide a cell of the picture is, at the depth of the points."""
        return self._picture[2] * float(np.linalg.norm(self.eye - self._middle))


def facing(positions: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"]) -> Cloud:
    """Points with the normals of the planes through their neighbours, on the side that the eye sees."""
    from scipy.spatial import KDTree

    which = KDTree(positions).query(positions, k=min(NEIGHBOURS, len(positions)))[1]
    around = positions[which] - positions[which].mean(1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nkd,nke->nde", around, around))[1][:, :, 0]
    away: Bool[np.ndarray, "n"] = ((eye - positions) * normals).sum(1) < 0
    return Cloud(positions, np.where(away[:, None], -normals, normals))
