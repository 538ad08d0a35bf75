"""What generation promises of a mesh, made true where ids alone cannot: faces with an area, none twice, on request manifold edges.

Faces that break the promise are left out, the later ones of those that contradict each other. It knows meshes only.

f  faces
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from meshgpt.mesh import Mesh, face_normals

FLAT = 1e-12  # twice the area from which on a face in the cube is one


def sound(mesh: Mesh, manifold: bool) -> Mesh:
    """Without degenerate and repeated faces, and without the vertices that only they used. With `manifold` no edge has more than two
    faces, and neighbours face the same way: a face that walks an edge in a direction in which it was walked before goes, too."""
    kept = mesh.faces[_large(mesh)]
    kept = kept[_first_ones(kept)]
    kept = kept[_uncrowded(kept)] if manifold else kept
    used, faces = np.unique(kept, return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3))


def _large(mesh: Mesh) -> Bool[np.ndarray, "f"]:
    return np.linalg.norm(face_normals(mesh.triangles()), axis=1) > FLAT if len(mesh.faces) else np.zeros(0, dtype=bool)


def _first_ones(faces: np.ndarray) -> Bool[np.ndarray, "f"]:
    """Of those on the same three vertices, whichever way round."""
    first = np.zeros(len(faces), dtype=bool)
    first[np.unique(np.sort(faces, 1), axis=0, return_index=True)[1]] = True
    return first


def _uncrowded(faces: np.ndarray) -> Bool[np.ndarray, "f"]:
    walked: set[tuple[int, int]] = set()
    kept = np.zeros(len(faces), dtype=bool)
    for number, (a, b, c) in enumerate(faces.tolist()):
        edges = {(a, b), (b, c), (c, a)}
        kept[number] = not edges & walked
        walked |= edges if kept[number] else set()
    return kept
