"""How close a mesh comes to another, or to a cloud; every number has a name that says how it is measured.

Shapes are compared in one frame, scaled so that the longest side of the reference is 1. It knows meshes and points only.

n, m  points
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from meshgpt.mesh import Mesh, sample_surface

MESHANYTHING_POINTS = 100_000
FIT_POINTS = 4_096
COVERS = 0.03


def nearest(points: Float[np.ndarray, "n 3"], others: Float[np.ndarray, "m 3"]) -> tuple[np.ndarray, np.ndarray]:
    """For each point the Euclidean distance to the nearest of the others, and which one that is."""
    from scipy.spatial import KDTree

    return KDTree(others).query(points)


def cd_nc_ma100k(mesh: Mesh, reference: Mesh, seed: int = 0, points: int = MESHANYTHING_POINTS) -> tuple[float, float]:
    """Chamfer distance and normal consistency as MeshAnything measures them.

    Chamfer: mean distance from result to reference plus mean distance back, over 100,000 surface points each, in units of the
    reference's longest side. Normal consistency: mean absolute cosine between the normals of nearest points, mean of both ways.
    """
    size = float(np.ptp(reference.vertices, axis=0).max())
    one, two = (sample_surface(shape, points, np.random.default_rng((seed, part))) for part, shape in enumerate((mesh, reference)))
    there, other = nearest(one[:, :3], two[:, :3])
    back, own = nearest(two[:, :3], one[:, :3])
    chamfer = (there.mean() + back.mean()) / size
    consistency = [np.abs((one[:, 3:] * two[other, 3:]).sum(1)).mean(), np.abs((two[:, 3:] * one[own, 3:]).sum(1)).mean()]
    return float(chamfer), float(np.mean(consistency))


def fit_to_cloud(mesh: Mesh, positions: Float[np.ndarray, "n 3"], seed: int = 0) -> float:
    """Mean distance from 4,096 surface points to the cloud plus mean distance back, in units of the cloud's longest side."""
    surface = sample_surface(mesh, FIT_POINTS, np.random.default_rng(seed))[:, :3]
    size = float(np.ptp(positions, axis=0).max())
    return float((nearest(surface, positions)[0].mean() + nearest(positions, surface)[0].mean()) / size)


def covered_share(mesh: Mesh, positions: Float[np.ndarray, "n 3"], seed: int = 0) -> float:
    """Share of the cloud's points with one of 4,096 surface points within 3 % of the cloud's longest side."""
    surface = sample_surface(mesh, FIT_POINTS, np.random.default_rng(seed))[:, :3]
    size = float(np.ptp(positions, axis=0).max())
    return float((nearest(positions, surface)[0] <= COVERS * size).mean())
