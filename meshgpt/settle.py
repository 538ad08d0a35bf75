"""Vertices settle on the cloud: tokens put them into the middles of bins, and a cloud says where in between the surface is.

Each point pulls at the nearest face that faces its way, along the normal of that face or, beyond its edges, straight; vertices go where
all pulls together are least (weighted least squares, some rounds of it), but stay near where they were written. Faces stay faces.
It knows triangles and points. It does not know tokens.

n  points      v  vertices      f  faces
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from meshgpt.coverage import ANY_WAY, BIN, FACING, TOLERANCE
from meshgpt.mesh import Mesh, face_normals

ROUNDS = 6
# A vertex moves so far at most; points further than that from all faces pull at none (cube units).
REACH, FAR = TOLERANCE, 2 * TOLERANCE
# How much a vertex is held where it is in each round, measured by the pull of as many points as there are for each vertex.
HOLD = 0.1
# A face must not turn further than this (the cosine), nor be pressed to less than this share of its area. Its vertices move less far
# then, down to this share of the way, or not at all.
TURNED, PRESSED, LEAST = 0.5, 0.1, 0.1


def settled(mesh: Mesh, cloud: Float[np.ndarray, "n 6"], oriented: bool = True, rounds: int = ROUNDS) -> Mesh:
    """The mesh with its vertices on the cloud, both in the cube; normals of zeros mean that they are not known, and without `oriented`
    ones points pull at faces that face either way."""
    points, normals = cloud[:, :3].astype(np.float64), cloud[:, 3:].astype(np.float64)
    facing = FACING if normals.any() else ANY_WAY
    vertices = mesh.vertices
    for _ in range(rounds if len(mesh.faces) else 0):
        rows, pulls = _pulls(vertices[mesh.faces], mesh.faces, points, normals, facing, oriented)
        moved = vertices + _least_squares(rows, pulls, len(vertices), HOLD * len(points) / len(vertices))
        vertices = _still_faces(mesh, mesh.vertices + (moved - mesh.vertices).clip(-REACH, REACH))
    return Mesh(vertices, mesh.faces)


def _pulls(
    triangles: Float[np.ndarray, "f 3 3"],
    faces: Int[np.ndarray, "f 3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    facing: float,
    oriented: bool,
) -> tuple[tuple[Float[np.ndarray, "m 3 3"], Int[np.ndarray, "m 3"]], Float[np.ndarray, "m"]]:
    """For each point that pulls: what its equation says of the three vertices of its face (corners x axes), which these are, and how far
    they are pulled. Points that are far from their face count less."""
    from meshgpt.settle_kernels import nearest_faces

    across = _unit_normals(triangles)
    which, places = nearest_faces(points, normals, triangles, across, FAR, facing, oriented)
    points, places, which = points[which >= 0], places[which >= 0], which[which >= 0]
    apart = points - (places[:, :, None] * triangles[which]).sum(1)
    far = np.linalg.norm(apart, axis=1)
    ways = np.where((places.min(1) > 0)[:, None], across[which], apart / np.maximum(far, 1e-12)[:, None])
    weights = 1 / np.sqrt(1 + (far / BIN) ** 2)
    return ((places * weights[:, None])[:, :, None] * ways[:, None], faces[which]), (apart * ways).sum(1) * weights


def _least_squares(
    rows: tuple[Float[np.ndarray, "m 3 3"], Int[np.ndarray, "m 3"]],
    pulls: Float[np.ndarray, "m"],
    count: int,
    hold: float,
) -> Float[np.ndarray, "v 3"]:
    """How far each of so many vertices moves, held by its own weight (Levenberg, 1944)."""
    from scipy.sparse import csr_array, eye_array
    from scipy.sparse.linalg import spsolve

    says, which = rows
    columns = (3 * which[:, :, None] + np.arange(3)).reshape(-1)
    equations = csr_array((says.reshape(-1), columns, 9 * np.arange(len(says) + 1)), shape=(len(says), 3 * count))
    normal = equations.T @ equations + hold * eye_array(3 * count)
    return spsolve(normal.tocsc(), equations.T @ pulls).reshape(-1, 3)


def _still_faces(mesh: Mesh, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Vertices move half as far, again and again, where a face would not stay what it is."""
    before = face_normals(mesh.triangles())
    area = np.linalg.norm(before, axis=1)
    share = np.ones(len(vertices))
    while True:
        moved = mesh.vertices + share[:, None] * (vertices - mesh.vertices)
        after = face_normals(moved[mesh.faces])
        along = (before * after).sum(1) / np.maximum(area, 1e-18)
        wrong = (along < TURNED * np.linalg.norm(after, axis=1)) | (along < PRESSED * area)
        wrong &= (share[mesh.faces] > 0).any(1)
        if not wrong.any():
            return moved
        less = np.unique(mesh.faces[wrong])
        share[less] = np.where(share[less] > LEAST, share[less] / 2, 0)


def _unit_normals(triangles: Float[np.ndarray, "f 3 3"]) -> Float[np.ndarray, "f 3"]:
    normals = face_normals(triangles)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-18)
