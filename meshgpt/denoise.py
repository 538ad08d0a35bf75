"""A cloud without what a scanner adds: points that float in the air go, and points that scatter about a surface are moved onto it.

What is clean stays as it is, to the last digit: both happen only where the cloud itself says so. It knows points, and knows nothing of
the shapes that they may show.

n  points      k  neighbours
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.cloud import Cloud

# Of a point that floats the fourth neighbour is so many times as far as is usual, and such points are at most this share of the cloud.
FOURTH, APART, FLOATING = 4, 4.0, 0.05
# The cloud is noisy, if points are usually as far from the planes of their neighbours, in units of their spacing.
NEAREST, NOISY = 8, 0.4
# Points that look the same way, up to this cosine, are on one surface.
ALIKE = 0.7
AROUND, ROUNDS = 40, 2


def without_floating(cloud: Cloud) -> Cloud:
    """The cloud without points that have hardly a neighbour; the cloud itself where it has none, or too many to be strays."""
    positions = cloud.positions
    if len(cloud) <= FOURTH:
        return cloud
    apart = _tree(positions).query(positions, k=FOURTH + 1)[0][:, FOURTH]
    kept = apart <= APART * np.median(apart)
    return cloud if kept.all() or (~kept).mean() > FLOATING else _only(cloud, kept)


def smoothed(cloud: Cloud) -> Cloud:
    """Each point of a noisy cloud on the mean plane of the points around it that look its way (bilateral, after Digne & de Franchis 2017);
    a cloud that is not noisy, or has no normals, as it is."""
    if cloud.normals is None or len(cloud) <= NEAREST:
        return cloud
    apart, which = _tree(cloud.positions).query(cloud.positions, k=min(AROUND, len(cloud)))
    noise = _noise(cloud, which)
    if noise < NOISY * float(np.median(apart[:, 1])):
        return cloud
    positions = cloud.positions
    for _ in range(ROUNDS):
        normals = _mean_normals(cloud.normals, which)
        positions = positions + _offsets(positions, normals, which, noise)[:, None] * normals
    return replace(cloud, positions=positions)


def _noise(cloud: Cloud, which: Int[np.ndarray, "n k"]) -> float:
    """How far points are from the planes of the nearest ones that look their way, usually."""
    near = which[:, 1 : NEAREST + 1]
    off = np.abs(np.einsum("nkd,nd->nk", cloud.positions[near] - cloud.positions[:, None], cloud.normals))
    alike = np.einsum("nkd,nd->nk", cloud.normals[near], cloud.normals) > ALIKE
    return float(np.median(off[alike])) if alike.any() else 0.0


def _mean_normals(normals: Float[np.ndarray, "n 3"], which: Int[np.ndarray, "n k"]) -> Float[np.ndarray, "n 3"]:
    """Of the points around that look alike."""
    around = normals[which]
    alike = np.einsum("nkd,nd->nk", around, normals) > ALIKE
    mean = (around * alike[..., None]).sum(1)
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def _offsets(
    positions: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"], which: Int[np.ndarray, "n k"], noise: float
) -> Float[np.ndarray, "n"]:
    """How far each point has to move along its normal; what is many times the noise away is another surface."""
    off = np.einsum("nkd,nd->nk", positions[which] - positions[:, None], normals)
    alike = np.einsum("nkd,nd->nk", normals[which], normals) > ALIKE
    weights = alike * np.exp(-0.5 * (off / (3 * noise)) ** 2)
    return (weights * off).sum(1) / weights.sum(1)


def _only(cloud: Cloud, kept: Bool[np.ndarray, "n"]) -> Cloud:
    return Cloud(cloud.positions[kept], None if cloud.normals is None else cloud.normals[kept])


def _tree(positions: Float[np.ndarray, "n 3"]) -> Any:
    from scipy.spatial import KDTree

    return KDTree(positions)
