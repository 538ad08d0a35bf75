"""The points that both MeshAnything are shown, drawn, rounded and scaled as they publish it.

    of a mesh   drawn evenly by area, with the normals of the faces, and rounded to float16
    of a cloud  a random part
    then        to the middle of their box, the largest coordinate to 0.9995, in float16

With marching cubes a mesh is first replaced by both sides of a shell around it, which is what these models were trained on. It knows points
and meshes. It does not know networks.

p  points
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float16, Shaped

from meshgpt.cloud import Cloud
from meshgpt.dense import double_shell
from meshgpt.mesh import Fit, Mesh, face_normals

LARGEST = 0.9995


def points_of_mesh(mesh: Mesh, count: int, seed: int = 0) -> Float16[np.ndarray, "p 6"]:
    """Drawn as trimesh 4 does after `numpy.random.seed`: the faces first, then two numbers for the place in each."""
    triangles = mesh.triangles()
    normals = face_normals(triangles)
    areas = np.linalg.norm(normals, axis=1)
    if not areas.sum() > 0:
        raise ValueError(f"the {len(mesh.faces)} faces have no area to draw points on; pass a mesh with a surface")
    rng, cumulated = np.random.RandomState(seed), np.cumsum(areas / 2)
    faces = np.searchsorted(cumulated, rng.random_sample(count) * cumulated[-1])
    place = rng.random_sample((count, 2, 1))
    place = np.where(place.sum(1, keepdims=True) > 1, np.abs(place - 1), place)
    start = triangles[faces, 0]
    positions = (place * (triangles[faces, 1:] - start[:, None])).sum(1) + start
    return np.concatenate([positions, normals[faces] / areas[faces, None]], 1).astype(np.float16)


def points_of_cloud(cloud: Cloud, count: int, seed: int = 0) -> Shaped[np.ndarray, "p 6"]:
    """ValueError where there are too few points, or no normals."""
    if len(cloud) < count or cloud.normals is None:
        raise ValueError(
            f"as released, the model takes clouds of at least {count} points with normals, and this one has {len(cloud)} "
            f"{'without' if cloud.normals is None else 'with'} normals; leave --as-released away, which takes any"
        )
    np.random.seed(seed)
    kept = np.random.choice(len(cloud), count, replace=False)
    return np.concatenate([cloud.positions, cloud.normals], 1)[kept]


def as_shown(points: Shaped[np.ndarray, "p 6"]) -> Float16[np.ndarray, "p 6"]:
    """Coordinates from -0.9995 to 0.9995; in the arithmetic of the points' own kind."""
    positions, normals = points[:, :3], points[:, 3:]
    positions = positions - (positions.min(0) + positions.max(0)) / 2
    positions = positions / np.abs(positions).max() * LARGEST
    return np.concatenate([positions, normals], 1, dtype=np.float16)


def cloud_as_shown(points: Shaped[np.ndarray, "p 6"]) -> Cloud:
    """In the cube, which is half as large."""
    shown = as_shown(points).astype(np.float64)
    return Cloud(shown[:, :3] / 2, shown[:, 3:])


def shell_of(mesh: Mesh, longest_side: float, level: int) -> Mesh:
    """Marching cubes at one cell of the distance to the mesh, on 2^level cells a side of a cube in which its longest side takes up that
    share: an outer surface that faces out and, of a closed mesh, an inner one that faces in. In the mesh's frame."""
    fit = Fit.of(mesh.vertices[np.unique(mesh.faces)])
    fit = Fit(fit.centre, fit.scale * 0.95 / longest_side)
    shell = double_shell(Mesh(fit.apply(mesh.vertices), mesh.faces), 2.0**-level)
    return Mesh(fit.undo(shell.vertices), shell.faces)
