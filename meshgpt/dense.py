"""A dense mesh of a surface, as a scanner or a 3D generator would give it: the outside of a distance field.

The surface may be open, torn or in parts; only what can be reached from outside comes back. It knows meshes and distances.

n  points
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from meshgpt.cloud import import_open3d
from meshgpt.extras import import_extra
from meshgpt.mesh import LONGEST_SIDE, Fit, Mesh, face_normals

CELL = 1 / 128  # of the cube
KEPT = 1 / 8  # of a shell's distance: both sides of a sheet stay apart
BLOCK = 4  # cells along a side, which are looked at together first

Distance = Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n"]]


def dense_of(reference: Mesh) -> Mesh:
    """Tens of thousands of faces, closed, an eighth of a cell of a 128^3 grid from the reference, in its frame.

    Marching cubes at one cell of the unsigned distance (the watertight version that MeshAnything conditions on, Chen et al. 2024,
    section 3.1), without the inner side where the shape is closed, and moved back towards the reference: the offset of one cell is
    else all that a distance between the two would show. ValueError when the reference has no area.
    """
    triangles = reference.triangles().astype(np.float64)
    triangles = triangles[np.linalg.norm(face_normals(triangles), axis=1) > 0]
    if not len(triangles):
        raise ValueError(f"the {len(reference.faces)} faces have no area to make a dense mesh of; pass a mesh with a surface")
    fit = Fit.of(triangles.reshape(-1, 3))
    to_surface = _closest(fit.apply(triangles.reshape(-1, 3)))
    shell = outer_shell(lambda positions: np.linalg.norm(positions - to_surface(positions), axis=1), CELL, CELL)
    closest = to_surface(shell.vertices)
    return Mesh(fit.undo(closest + KEPT * (shell.vertices - closest)), shell.faces)


def double_shell(mesh: Mesh, cell: float) -> Mesh:
    """The surface one cell away from a mesh in the cube; of a closed mesh its inner side, too, which faces in."""
    to_surface = _closest(mesh.triangles().astype(np.float64).reshape(-1, 3))
    return _contour(_field(lambda positions: np.linalg.norm(positions - to_surface(positions), axis=1), cell, cell), cell, cell)


def outer_shell(distance: Distance, cell: float, level: float) -> Mesh:
    """The surface at `level` of a distance field in the cube, by marching cubes on cells of side `cell`.

    Counterclockwise from outside. What the field encloses is filled: the shell of a closed surface has no inner side.
    """
    from scipy.ndimage import label

    field = _field(distance, cell, level)
    regions, _ = label(field > level)
    field[(regions != 0) & (regions != regions[0, 0, 0])] = 0
    return _contour(field, cell, level)


def _contour(field: Float[np.ndarray, "side side side"], cell: float, level: float) -> Mesh:
    marching_cubes = import_extra("skimage.measure", "marching cubes").marching_cubes
    vertices, faces, _, _ = marching_cubes(field, level, gradient_direction="descent")
    return Mesh((vertices.astype(np.float64) + 0.5 - len(field) / 2) * cell, faces.astype(np.int64))


def _field(distance: Distance, cell: float, level: float) -> Float[np.ndarray, "side side side"]:
    """Distances at the centres of cells, exact within two cells of `level`; further away those of whole blocks."""
    blocks = int(np.ceil((LONGEST_SIDE / 2 + level + 2 * cell) * 2 / (cell * BLOCK)))
    coarse, fine = _centres(blocks, cell * BLOCK), _centres(blocks * BLOCK, cell)
    field = distance(np.stack(np.meshgrid(coarse, coarse, coarse, indexing="ij"), -1).reshape(-1, 3)).reshape([blocks] * 3)
    for axis in range(3):
        field = field.repeat(BLOCK, axis)
    near = np.nonzero(field <= level + 2 * cell + np.sqrt(3) / 2 * BLOCK * cell)
    field[near] = distance(np.stack([fine[index] for index in near], 1))
    return field


def _centres(count: int, size: float) -> Float[np.ndarray, "count"]:
    return (np.arange(count) + 0.5 - count / 2) * size


def _closest(corners: Float[np.ndarray, "n 3"]) -> Callable[[Float[np.ndarray, "n 3"]], Float[np.ndarray, "n 3"]]:
    """The nearest points on the triangles whose corners follow one another."""
    open3d = import_open3d("making a dense mesh")
    scene = open3d.t.geometry.RaycastingScene()
    faces = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
    scene.add_triangles(open3d.core.Tensor(corners.astype(np.float32)), open3d.core.Tensor(faces))

    def closest(positions: np.ndarray) -> np.ndarray:
        found = scene.compute_closest_points(open3d.core.Tensor(positions.astype(np.float32)))
        return found["points"].numpy().astype(np.float64)

    return closest
