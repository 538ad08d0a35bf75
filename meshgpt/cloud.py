"""A point cloud in its user's frame: what makes one usable, its normals, a thinner copy.

It knows points. It does not know files, the cube or networks; only normals that are missing call open3d, which is loaded then.

n  points
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Float

LEAST_POINTS = 64
THINNEST = 1e-6  # of the longest extent: below it, points lie on one line or in one plane
NEIGHBOURS = 30
VIEWS = 64
DOUBT = 0.15  # of the views: fewer more from outside than from inside do not say where a point faces
# What `readelf -d` names as needed by the library in the wheel of open3d 0.20, by the packages of Debian and Ubuntu.
SYSTEM_PACKAGES = "libegl1 libgl1 libidn2-0 libudev1 libusb-1.0-0 libx11-6"


@dataclass(frozen=True)
class Cloud:
    """Points on a surface and, where known, the directions it faces there."""

    positions: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"] | None = None

    def __len__(self) -> int:
        return len(self.positions)


def checked(cloud: Cloud) -> Cloud:
    """The cloud with normals of length one, or with none where one of them is zero or not finite; ValueError when it shows no surface."""
    positions = cloud.positions
    if len(positions) < LEAST_POINTS:
        raise ValueError(f"{len(positions)} points are too few to show a surface; pass at least {LEAST_POINTS}, better some thousands")
    broken = int((~np.isfinite(positions).all(1)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(positions)} points are NaN or infinite; keep the others with points[np.isfinite(points).all(1)]"
        )
    length, width, _ = _extents(positions)
    if not length > 0:
        raise ValueError(f"all {len(positions)} points are the same point; pass points that are spread over a surface")
    if width <= THINNEST * length:
        raise ValueError(f"all {len(positions)} points lie on one line; pass points that are spread over a surface, as columns x, y, z")
    return replace(cloud, normals=_unit(cloud))


def with_normals(cloud: Cloud) -> Cloud:
    """The cloud; where it has no normals, estimated ones, which face the side they are seen from or, in a flat cloud, up.

    Thin large clouds first: 8,192 points take half a second, 65,536 four. ImportError says what to install where open3d cannot be loaded.
    """
    if cloud.normals is not None:
        return cloud
    low, high = cloud.positions.min(0).astype(np.float64), cloud.positions.max(0)
    # Repeated points have no plane of neighbours, and qhull leaves them out of its graph.
    distinct, place = np.unique((cloud.positions - low) / (high - low).max(), axis=0, return_inverse=True)
    length, _, thickness = _extents(distinct)
    normals = _flat_normals(distinct) if thickness <= THINNEST * length else _visible_side(distinct, _neighbourly_normals(distinct))
    return replace(cloud, normals=normals[place.reshape(-1)])


def thinned(cloud: Cloud, most: int, rng: np.random.Generator) -> Cloud:
    """A random subset of `most` points, in their order; the cloud itself when it has no more."""
    if len(cloud) <= most:
        return cloud
    kept = np.sort(rng.choice(len(cloud), most, replace=False, shuffle=False))
    return Cloud(cloud.positions[kept], None if cloud.normals is None else cloud.normals[kept])


def surface(cloud: Cloud) -> Float[np.ndarray, "n 6"]:
    """Positions beside normals, which are estimated when the cloud has none."""
    return np.concatenate([cloud.positions, with_normals(cloud).normals], 1)


def import_open3d(purpose: str) -> ModuleType:
    """open3d, or an ImportError with the command that makes it work."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "open3d").split(".")[0]
        cure = f"pip install {missing}" if missing else f"apt-get install {SYSTEM_PACKAGES}"
        raise ImportError(f"{purpose} needs open3d, which cannot be loaded here ({error}); install what is missing: {cure}") from None
    return open3d


def _extents(positions: Float[np.ndarray, "n 3"]) -> tuple[float, float, float]:
    """Length, width and thickness: standard deviations along the principal axes, in units of the longest side; zeros without extent."""
    side = float((positions.max(0).astype(np.float64) - positions.min(0)).max())
    if not side > 0:
        return 0.0, 0.0, 0.0
    unit = (positions - positions.mean(0, dtype=np.float64)) / side
    thickness, width, length = np.sqrt(np.linalg.eigvalsh(unit.T @ unit / len(unit)).clip(0))
    return float(length), float(width), float(thickness)


def _unit(cloud: Cloud) -> Float[np.ndarray, "n 3"] | None:
    if cloud.normals is None:
        return None
    if len(cloud.normals) != len(cloud):
        raise ValueError(f"{len(cloud.normals)} normals do not fit {len(cloud)} points; pass one for each, or none")
    lengths = np.linalg.norm(cloud.normals.astype(np.float64), axis=1, keepdims=True)
    return cloud.normals / lengths if (np.isfinite(lengths) & (lengths > 0)).all() else None


def _flat_normals(positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Of points in one plane: its normal, along whichever axis it is nearest to."""
    centred = positions - positions.mean(0)
    normal = np.linalg.eigh(centred.T @ centred)[1][:, 0]
    return np.tile(normal * np.sign(normal[np.abs(normal).argmax()]), (len(positions), 1))


def _neighbourly_normals(positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Of points in the unit cube: normals of the planes through their neighbours, turned to the same side, whichever that is."""
    open3d = import_open3d("estimating normals")
    points = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(positions))
    points.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(NEIGHBOURS))
    # The graph of neighbours comes from qhull, which refuses corners of a box and points of a grid: they lie on one sphere.
    moved = positions + np.random.default_rng(0).normal(scale=THINNEST, size=positions.shape)
    points.points = open3d.utility.Vector3dVector(moved)
    points.orient_normals_consistent_tangent_plane(NEIGHBOURS)
    return np.array(points.normals)


def _visible_side(positions: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Normals turned to the side from which their points are seen, where this can be said; the others together.

    Neighbours alone agree on the wrong side wherever parts meet at sharp edges: on eleven artists' meshes they get 72 % of the points
    right, and this 93 %. On a sheet, which is seen from both sides alike, they are what there is to go by.
    """
    votes, views = np.zeros(len(positions)), np.zeros(len(positions))
    for direction in directions(VIEWS):
        facing = normals @ direction
        seen = _seen_from(positions, direction)
        votes += np.where(seen, facing, 0)
        views += np.where(seen, np.abs(facing), 0)
    if votes.sum() < 0:
        normals, votes = -normals, -votes
    return np.where(votes < -DOUBT * views, -1, 1)[:, None] * normals


def _seen_from(positions: Float[np.ndarray, "n 3"], direction: Float[np.ndarray, "3"]) -> Bool[np.ndarray, "n"]:
    """Points that lie no more than a cell behind the nearest point in their cell of a picture from far away."""
    across = np.linalg.svd(direction[None])[2][1:]
    flat = positions @ across.T
    low = flat.min(0)
    cells = max(int(np.sqrt(len(positions)) / 2), 4)
    side = (flat.max(0) - low).max() / cells
    column, row = ((flat - low) / side).astype(np.int64).T
    cell, depth = row * (cells + 1) + column, positions @ direction
    nearest = np.full((cells + 1) ** 2, -np.inf)
    np.maximum.at(nearest, cell, depth)
    return depth >= nearest[cell] - side


def directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Spread evenly, as seeds in a sunflower: each at the golden angle from the one before."""
    place = np.arange(count) + 0.5
    height, turn = 1 - 2 * place / count, np.pi * (1 + np.sqrt(5)) * place
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], 1)
