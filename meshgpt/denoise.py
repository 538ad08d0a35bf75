"""A cloud without what a scanner adds: points that float in the air go, and points that scatter about a surface are moved onto it.

What is clean stays as it is, to the last digit: both happen only where the cloud itself says so. It knows points, and knows nothing of
the shapes that they may show.

A noisy cloud is smoothed in three steps. Normals become the mean of those around them that are alike, and points go to the mean
of the planes around them (bilateral filters: Fleishman et al. 2003, Digne & de Franchis 2017). Then points that noise
has carried along their own plane, over the edge where it ends at another one, go back to that edge.

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
# Normals differ by noise, or by a bend: how much, as they usually do between neighbours that look the same way up to this cosine, but no
# less and no more than so much (radians).
ALIKE, LEAST_TURN, MOST_TURN = 0.7, np.radians(5), np.radians(20)
# How many neighbours tell the normal of a point, and how many its plane.
LOOKED_AT, AROUND = 40, 120
ROUNDS_OF_NORMALS = 2
# A plane that lies so many times the noise off counts less for a point, in one round after the other; for its normal.
REACHES, REACH_OF_NORMALS = (2.0, 1.5, 1.0), 2.0
# A neighbour is on another plane, if its normal turns further than this cosine, and on the same one up to this; a point goes back to an
# edge from so many times the noise, unless the two planes are so nearly the same (squared sine) that there is no telling where it is.
OTHER, SAME, OVERSHOT, SHALLOW = 0.85, 0.97, 4.0, 0.1


def without_floating(cloud: Cloud) -> Cloud:
    """The cloud without points that have hardly a neighbour; the cloud itself where it has none, or too many to be strays."""
    positions = cloud.positions
    if len(cloud) <= FOURTH:
        return cloud
    apart = _tree(positions).query(positions, k=FOURTH + 1)[0][:, FOURTH]
    kept = apart <= APART * np.median(apart)
    return cloud if kept.all() or (~kept).mean() > FLOATING else _only(cloud, kept)


def smoothed(cloud: Cloud) -> Cloud:
    """A noisy cloud with its points on the surface that they are scattered about, and normals that agree with those around them; a cloud
    that is not noisy, or has no normals, as it is."""
    if cloud.normals is None or len(cloud) <= NEAREST:
        return cloud
    apart, which = _tree(cloud.positions).query(cloud.positions, k=min(AROUND, len(cloud)))
    noise, turn = _noise(cloud, which[:, 1 : NEAREST + 1])
    # Points that are there twice say nothing of how far it is to the next one.
    spacing = np.where(apart > 0, apart, np.inf).min(1)
    if noise < NOISY * float(np.median(spacing)):
        return cloud
    for _ in range(ROUNDS_OF_NORMALS):
        cloud = replace(cloud, normals=_mean_normals(cloud, which[:, :LOOKED_AT], noise, turn))
    return _back_to_edges(replace(cloud, positions=_on_mean_planes(cloud, which, noise, turn)), noise)


def _noise(cloud: Cloud, near: Int[np.ndarray, "n k"]) -> tuple[float, float]:
    """How far points are from the planes of the nearest ones that look their way, usually, and how far their normals turn (radians)."""
    off = np.abs(np.einsum("nkd,nd->nk", cloud.positions[near] - cloud.positions[:, None], cloud.normals))
    cosines = np.einsum("nkd,nd->nk", cloud.normals[near], cloud.normals)
    alike = cosines > ALIKE
    if not alike.any():
        return 0.0, LEAST_TURN
    return float(np.median(off[alike])), float(np.median(np.arccos(cosines[alike].clip(-1, 1))).clip(LEAST_TURN, MOST_TURN))


def _mean_normals(cloud: Cloud, which: Int[np.ndarray, "n k"], noise: float, turn: float) -> Float[np.ndarray, "n 3"]:
    """Of the points around, by how alike they are and how nearly in one plane."""
    around = cloud.normals[which]
    off = np.einsum("nkd,nd->nk", cloud.positions[which] - cloud.positions[:, None], cloud.normals)
    weights = _alike(around, cloud.normals, turn) * _bell(off / (REACH_OF_NORMALS * noise))
    return _unit(np.einsum("nk,nkd->nd", weights, around))


def _on_mean_planes(cloud: Cloud, which: Int[np.ndarray, "n k"], noise: float, turn: float) -> Float[np.ndarray, "n 3"]:
    """Points moved along their normals. The way to a neighbour is measured along the mean of both normals, so that on what is
    evenly round nothing moves."""
    positions, around = cloud.positions, cloud.normals[which]
    alike = _alike(around, cloud.normals, turn)
    between = _unit(around + cloud.normals[:, None])
    for reach in REACHES:
        off = np.einsum("nkd,nkd->nk", positions[which] - positions[:, None], between)
        weights = alike * _bell(off / (reach * noise))
        positions = positions + ((weights * off).sum(1) / weights.sum(1))[:, None] * cloud.normals
    return positions


def _back_to_edges(cloud: Cloud, noise: float) -> Cloud:
    """Points that lie beyond the plane of the nearest neighbour that is on another one: outside of it, where the edge between the two
    sticks out, inside, where it is a fold."""
    positions, normals = cloud.positions, cloud.normals
    which = _tree(positions).query(positions, k=min(LOOKED_AT, len(cloud)))[1]
    cosines = np.einsum("nkd,nd->nk", normals[which], normals)
    same, other = cosines > SAME, cosines < OTHER
    middles = np.einsum("nk,nkd->nd", same, positions[which]) / same.sum(1)[:, None]
    far = which[np.arange(len(which)), other.argmax(1)]
    beyond = ((positions - positions[far]) * normals[far]).sum(1)
    sticks_out = ((normals - normals[far]) * (middles - middles[far])).sum(1) > 0
    along = normals[far] - (normals * normals[far]).sum(1)[:, None] * normals
    steep = (along**2).sum(1)
    goes = other.any(1) & ((beyond > 0) == sticks_out) & (np.abs(beyond) < OVERSHOT * noise) & (steep > SHALLOW)
    return replace(cloud, positions=positions - (goes * beyond / np.maximum(steep, SHALLOW))[:, None] * along)


def _alike(around: Float[np.ndarray, "n k 3"], normals: Float[np.ndarray, "n 3"], turn: float) -> Float[np.ndarray, "n k"]:
    return _bell(np.arccos(np.einsum("nkd,nd->nk", around, normals).clip(-1, 1)) / turn)


def _bell(deviations: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return np.exp(-0.5 * deviations**2)


def _unit(vectors: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _only(cloud: Cloud, kept: Bool[np.ndarray, "n"]) -> Cloud:
    return Cloud(cloud.positions[kept], None if cloud.normals is None else cloud.normals[kept])


def _tree(positions: Float[np.ndarray, "n 3"]) -> Any:
    from scipy.spatial import KDTree

    return KDTree(positions)
