"""How like two sets of meshes are, as PivotMesh measures its samples: coverage, minimum matching distance, 1-NN accuracy.

All three rest on one distance between two meshes, `cd_pivot1024_sq`; the protocol goes back to PointFlow and HyperDiffusion.

g  generated meshes      r  reference meshes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from meshgpt.mesh import Mesh, sample_surface

PIVOT_POINTS = 1_024
MOST_MESHES = 1_000
WITHOUT_SURFACE = (ValueError, IndexError)


class SetScores(NamedTuple):
    """Of `compared` generated and as many reference meshes, of which `failures` generated ones have no surface to sample.

    coverage   share of the references that are nearest to some generated mesh; larger is better
    distance   minimum matching distance: mean over the references of the distance to the nearest generated mesh; smaller is better
    accuracy   share of all meshes whose nearest other mesh is of their own set; 0.5 is best, 1 is told apart at a glance
    """

    coverage: float
    distance: float
    accuracy: float
    compared: int
    failures: int


class PointSet(NamedTuple):
    """Points of a shape, centred and scaled, and their KD-tree."""

    points: Float[np.ndarray, "n 3"]
    tree: Any

    @classmethod
    def on(cls, mesh: Mesh, rng: np.random.Generator) -> PointSet:
        """1,024 points on the surface, centred at their mean and divided by the largest norm; ValueError without a finite surface."""
        points = sample_surface(mesh, PIVOT_POINTS, rng)[:, :3]
        return cls.of(points)

    @classmethod
    def of(cls, points: Float[np.ndarray, "n 3"]) -> PointSet:
        from scipy.spatial import KDTree

        if not np.isfinite(points).all():
            raise ValueError("the mesh has vertices that are NaN or infinite; remove them first")
        centred = points - points.mean(0)
        centred = centred / np.linalg.norm(centred, axis=1).max()
        return cls(centred, KDTree(centred, leafsize=32, balanced_tree=False, compact_nodes=False))

    def squared_distance(self, other: PointSet) -> float:
        """Mean of the squared distances to the nearest point of the other, plus the same back."""
        there, back = other.tree.query(self.points)[0], self.tree.query(other.points)[0]
        return float((there**2).mean() + (back**2).mean())


def cd_pivot1024_sq(one: Mesh, other: Mesh, seed: int = 0) -> float:
    """Chamfer distance of PivotMesh's `evaluate.py`: mean of squared nearest distances there plus mean of those back.

    1,024 points each, each centred at the mean of its points and divided by their largest norm, so place and size do not count.
    """
    parts = (PointSet.on(mesh, np.random.default_rng((seed, part))) for part, mesh in enumerate((one, other)))
    return next(parts).squared_distance(next(parts))


def set_scores(generated: Sequence[Mesh], references: Sequence[Mesh], seed: int = 0) -> SetScores:
    """COV, MMD and 1-NNA by `cd_pivot1024_sq`, of n = min(generated, references, 1000) meshes of each set, picked at random.

    A generated mesh without a finite surface is a failure: it is infinitely far from every mesh, covers none and is told apart. It takes
    about 3 ms x n x n on one core (half a minute for 100 meshes) and, beside the meshes, 30 n kB + 24 n x n bytes of memory. ValueError
    when a set is empty or a reference has no finite surface.
    """
    count = min(len(generated), len(references), MOST_MESHES)
    if not count:
        raise ValueError(f"{len(generated)} generated and {len(references)} reference meshes cannot be compared; pass one of each at least")
    rng = np.random.default_rng(seed)
    made = [_attempt(generated[index], rng) for index in rng.permutation(len(generated))[:count]]
    asked = [PointSet.on(references[index], rng) for index in rng.permutation(len(references))[:count]]
    across = _distances(made, asked)
    coverage, distance = cov_mmd(across)
    accuracy = one_nna(_distances_within(made), across, _distances_within(asked))
    return SetScores(coverage, distance, accuracy, count, sum(each is None for each in made))


def _attempt(mesh: Mesh, rng: np.random.Generator) -> PointSet | None:
    own = rng.spawn(1)[0]  # a failure leaves the draws of the others as they are
    try:
        with np.errstate(all="ignore"):
            return PointSet.on(mesh, own)
    except WITHOUT_SURFACE:
        return None


def _distances(one: Sequence[PointSet | None], other: Sequence[PointSet | None]) -> Float[np.ndarray, "g r"]:
    return np.array([[_distance(a, b) for b in other] for a in one])


def _distances_within(shapes: Sequence[PointSet | None]) -> Float[np.ndarray, "g g"]:
    apart = np.zeros((len(shapes), len(shapes)))
    for row, shape in enumerate(shapes):
        apart[row, :row] = [_distance(shape, each) for each in shapes[:row]]
    return apart + apart.T


def _distance(one: PointSet | None, other: PointSet | None) -> float:
    return float("inf") if one is None or other is None else one.squared_distance(other)


def cov_mmd(across: Float[np.ndarray, "g r"]) -> tuple[float, float]:
    """Coverage and minimum matching distance, of the distances from each generated mesh to each reference; infinite ones cover nothing."""
    reached = across.argmin(1)[np.isfinite(across.min(1))]
    return len(np.unique(reached)) / across.shape[1], float(across.min(0).mean())


def one_nna(within: Float[np.ndarray, "g g"], across: Float[np.ndarray, "g r"], asked: Float[np.ndarray, "r r"]) -> float:
    """1-NN accuracy over the joint set, leaving each mesh out in turn; a mesh that is infinitely far from all others is told apart."""
    apart = np.block([[within, across], [across.T, asked]])
    np.fill_diagonal(apart, np.inf)
    of_generated = np.arange(len(apart)) < len(within)
    told = (of_generated[apart.argmin(1)] == of_generated) | ~np.isfinite(apart.min(1))
    return float(told.mean())
