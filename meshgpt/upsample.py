"""A sparse cloud with normals made denser: each point becomes a disc in its plane, cut where the planes of its neighbours cross it.

Where two planes meet there is an edge, which hardly a point of a sparse cloud lies on; without this a mesh ends short of it. What is dense
stays as it is. It knows points and planes.

n  points      k  neighbours      a  directions      r  steps outwards
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.cloud import Cloud

FEW = 2_048  # points: from here on a cloud is dense
AROUND, DIRECTIONS, STEPS = 48, 16, 6
# In units of the spacing: how far a disc goes where no point of its plane follows, and how far at most; how far it goes to where another
# plane ends it, and how far from its point a plane is believed; and how far off a plane its points are at most.
ALONE, RADIUS, REACH, BELIEVED, FLAT = 0.7, 6.0, 5.0, 6.0, 0.35
AHEAD = 0.7  # the cosine from which on a point follows in a direction
OTHER = 0.97  # the cosine below which a neighbour lies on another plane


def spacing_of(cloud: Cloud) -> float:
    """How far it usually is from a point to the nearest other one."""
    from scipy.spatial import KDTree

    return float(np.median(KDTree(cloud.positions).query(cloud.positions, k=2)[0][:, 1]))


def upsampled(cloud: Cloud) -> Cloud:
    """A sparse cloud with more points, the given ones first; a dense one, or one without normals, as it is."""
    if cloud.normals is None or not AROUND < len(cloud) < FEW:
        return cloud
    from scipy.spatial import KDTree

    which = KDTree(cloud.positions).query(cloud.positions, k=AROUND)[1]
    ends, ways = _ends(cloud, which, spacing_of(cloud))
    shares = (np.arange(STEPS) + 1) / STEPS
    places = cloud.positions[:, None, None] + (ends[..., None] * shares)[..., None] * ways[:, :, None]
    normals = np.broadcast_to(cloud.normals[:, None, None], places.shape)
    return Cloud(np.concatenate([cloud.positions, places.reshape(-1, 3)]), np.concatenate([cloud.normals, normals.reshape(-1, 3)]))


def _directions(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n a 3"]:
    """Unit vectors in the plane of each point, all around."""
    least = np.eye(3)[np.abs(normals).argmin(1)]
    first = np.cross(normals, least)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return np.cos(angles)[:, None] * first[:, None] + np.sin(angles)[:, None] * np.cross(normals, first)[:, None]


def _ends(cloud: Cloud, which: Int[np.ndarray, "n k"], spacing: float) -> tuple[Float[np.ndarray, "n a"], Float[np.ndarray, "n a 3"]]:
    """How far each disc goes in each direction, and the directions."""
    ways, offsets = _directions(cloud.normals), cloud.positions[which] - cloud.positions[:, None]
    other = np.einsum("nkd,nd->nk", cloud.normals[which], cloud.normals) < OTHER
    level = ~other & (np.abs(np.einsum("nkd,nd->nk", offsets, cloud.normals)) < FLAT * spacing)
    along = np.einsum("nad,nkd->nak", ways, offsets)
    follows = level[:, None] & (along > AHEAD * np.linalg.norm(offsets, axis=2)[:, None])
    next_one = np.where(follows, along, np.inf).min(2)
    ends = np.where(next_one < RADIUS * spacing, np.maximum(next_one, ALONE * spacing), ALONE * spacing)
    cut = _cuts(cloud, which, other, ways, BELIEVED * spacing)
    return np.where(cut < np.maximum(ends, REACH * spacing), cut, ends), ways


def _cuts(
    cloud: Cloud, which: Int[np.ndarray, "n k"], other: Bool[np.ndarray, "n k"], ways: Float[np.ndarray, "n a 3"], believed: float
) -> Float[np.ndarray, "n a"]:
    """How far it is, from each point in each direction, to the first plane of another kind of neighbour; infinite where there is none."""
    height = np.einsum("nkd,nkd->nk", cloud.positions[which] - cloud.positions[:, None], cloud.normals[which])
    rise = np.einsum("nad,nkd->nak", ways, cloud.normals[which])
    far = height[:, None] / np.where(rise == 0, 1e-12, rise)
    meeting = cloud.positions[:, None, None] + far[..., None] * ways[:, :, None]
    near = np.linalg.norm(meeting - cloud.positions[which][:, None], axis=-1) < believed
    return np.where(other[:, None] & (far > 0) & near, far, np.inf).min(2)
