"""A triangle mesh, the frame it lives in, and its corners: the one currency between data, tokenizers, generation and metrics.

Frame     x, y, z in the cube [-0.5, 0.5], y up.
Bin       an integer 0 .. bins - 1 on one axis; it stands for the centre of its cell.
Corners   faces x corners x (x, y, z) bins.

It knows numbers. It does not know files, tokens or networks.

v  vertices      f  faces      n  points
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, Real

LONGEST_SIDE = 0.95
BINS = 128


@dataclass(frozen=True)
class Mesh:
    """Vertices in any frame and triangles as vertex numbers; a face is seen from outside when its corners run counterclockwise."""

    vertices: Float[np.ndarray, "v 3"]
    faces: Integer[np.ndarray, "f 3"]

    def save(self, path: str | Path) -> None:
        """Write .glb, .obj, .ply or .stl; see `meshgpt.files.write_mesh`."""
        from meshgpt.files import write_mesh

        write_mesh(self, path)

    def triangles(self) -> Float[np.ndarray, "f 3 3"]:
        """Faces x corners x (x, y, z), in the mesh's own frame."""
        return self.vertices[self.faces]


@dataclass(frozen=True)
class Fit:
    """The invertible map from the user's frame into the cube: turned so that y is up, centred, longest side 0.95.

    `centre` and `scale` are in the user's units, after the turn: cube = (turned - centre) / scale.
    """

    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0
    up: str = "y"

    @classmethod
    def of(cls, positions: Float[np.ndarray, "n 3"], up: str = "y") -> Fit:
        """The fit of the bounding box of `positions`; ValueError when it is empty, not finite or has no extent."""
        if not len(positions):
            raise ValueError("there are no points to fit; pass at least two different points")
        turned = _turn(np.asarray(positions, dtype=np.float64), up)
        low, high = turned.min(0), turned.max(0)
        extent = float((high - low).max())
        if not np.isfinite(extent):
            raise ValueError("the points hold NaN or infinite coordinates; remove them first")
        if extent <= 0:
            raise ValueError("all points are the same point; a shape needs an extent above zero")
        centre = (low + high) / 2
        return cls((float(centre[0]), float(centre[1]), float(centre[2])), extent / LONGEST_SIDE, up)

    def apply(self, positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """User's frame to cube."""
        return (_turn(np.asarray(positions, dtype=np.float64), self.up) - np.array(self.centre)) / self.scale

    def undo(self, positions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Cube to user's frame."""
        return _turn_back(np.asarray(positions, dtype=np.float64) * self.scale + np.array(self.centre), self.up)

    def turn(self, directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Directions (normals) of the user's frame in the cube's."""
        return _turn(np.asarray(directions, dtype=np.float64), self.up)


def _turn(xyz: np.ndarray, up: str) -> np.ndarray:
    if up == "y":
        return xyz
    if up == "z":
        return np.stack([xyz[..., 0], xyz[..., 2], -xyz[..., 1]], -1)
    raise ValueError(f"the up-axis {up!r} is unknown; use 'y' or 'z'")


def _turn_back(xyz: np.ndarray, up: str) -> np.ndarray:
    return xyz if up == "y" else np.stack([xyz[..., 0], -xyz[..., 2], xyz[..., 1]], -1)


def to_bins(unit: Float[np.ndarray, "*n"], bins: int = BINS) -> Int[np.ndarray, "*n"]:
    """Cube coordinates to bins; what lies outside the cube is moved to its border."""
    return np.floor((unit + 0.5) * bins).clip(0, bins - 1).astype(np.int64)


def to_unit(cells: Real[np.ndarray, "*n"], bins: int = BINS) -> Float[np.ndarray, "*n"]:
    """Bins to the cube coordinates of their cells' centres."""
    return (cells + 0.5) / bins - 0.5


def in_bins(unit: Float[np.ndarray, "*n"] | float, bins: int = BINS) -> Float[np.ndarray, "*n"] | float:
    """The inverse of `to_unit`: cube coordinates in bins, not rounded."""
    return (unit + 0.5) * bins - 0.5


def weld(corners: Integer[np.ndarray, "f 3 3"]) -> tuple[Integer[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Distinct vertices ordered by (y, z, x), and the faces as numbers of them; no face is dropped or turned."""
    vertices, numbers = _distinct(corners.reshape(-1, 3))
    return vertices, numbers.reshape(-1, 3)


def _distinct(points: Integer[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "v 3"], Int[np.ndarray, "n"]]:
    """Ordered by (y, z, x), and which of them each point is."""
    points = points.astype(np.int64)
    reach = int(points.max(initial=0)) + 1
    _, first, numbers = np.unique(_keys(points[:, 1], points[:, 2], points[:, 0], reach), return_index=True, return_inverse=True)
    return points[first], numbers


def canonical(corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "g 3 3"]:
    """The canonical order: vertices by (y, z, x), lowest vertex first in each face, faces by their vertex numbers.

    Faces that touch a vertex twice are dropped, and of the faces on the same three vertices only one stays, whichever way they
    are seen (the one that sorts first). Faces are rotated, never flipped. Collinear faces stay: they carry the topology.
    """
    return _in_order(*weld(corners))


def canonical_of(vertices: Integer[np.ndarray, "v 3"], faces: Integer[np.ndarray, "f 3"]) -> Int[np.ndarray, "g 3 3"]:
    """canonical(vertices[faces]), in less time; vertices may be repeated, or in no face."""
    distinct, numbers = _distinct(vertices)
    return _in_order(distinct, numbers[faces])


def _in_order(vertices: Int[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "g 3 3"]:
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    turn = (faces.argmin(1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turn, 1)
    # Sorting one number a face takes less time than sorting by three columns.
    faces = faces[np.argsort(_keys(*faces.T, len(vertices)))]
    low, second, third = faces.T
    unoriented = _keys(low, np.minimum(second, third), np.maximum(second, third), len(vertices))
    ranked = np.sort(unoriented)
    if (ranked[1:] == ranked[:-1]).any():
        faces = faces[np.sort(np.unique(unoriented, return_index=True)[1])]
    return vertices[faces]


def _keys(first: np.ndarray, second: np.ndarray, third: np.ndarray, reach: int) -> np.ndarray:
    return (first * reach + second) * reach + third


def corners_of(mesh: Mesh, bins: int = BINS) -> Int[np.ndarray, "f 3 3"]:
    """The canonical corners of a mesh that lies in the cube."""
    return canonical(to_bins(mesh.vertices, bins)[mesh.faces])


def mesh_of(corners: Integer[np.ndarray, "f 3 3"], bins: int = BINS) -> Mesh:
    """The welded mesh, in the cube, of corners."""
    vertices, faces = weld(corners)
    return Mesh(to_unit(vertices, bins), faces)


def face_normals(triangles: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3"]:
    """Normals as long as twice the face's area, in the triangles' frame; counterclockwise is outside."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 6"]:
    """`count` points spread evenly by area, with the unit normals of their faces, in the mesh's frame.

    Stratified over the cumulated area, which spreads points better than independent draws. ValueError without area.
    """
    triangles = mesh.triangles()
    normals = face_normals(triangles)
    doubled_areas = np.linalg.norm(normals, axis=1)
    total = doubled_areas.sum()
    if not total > 0:
        raise ValueError(f"the {len(mesh.faces)} faces have no area to sample points on; pass a mesh with a surface")
    at = (np.arange(count) + rng.random(count)) / count * total
    face = np.searchsorted(np.cumsum(doubled_areas), at).clip(max=len(mesh.faces) - 1)
    root, along = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    a, b, c = triangles[face].transpose(1, 0, 2)
    points = (1 - root) * a + root * (1 - along) * b + root * along * c
    return np.concatenate([points, normals[face] / np.maximum(doubled_areas[face, None], 1e-30)], 1)
