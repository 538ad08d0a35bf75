"""Triangles without a common order to a mesh, the way both MeshAnything leave it to trimesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from meshgpt.mesh import Mesh


def mended(triangles: Float[np.ndarray, "f 3 3"]) -> Mesh:
    """Equal vertices merged, faces without area and repeated ones dropped, windings that agree and face outward."""
    import trimesh

    mesh = trimesh.Trimesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces())
    mesh.update_faces(mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    if len(mesh.faces):
        mesh.fix_normals()
    return Mesh(np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces, dtype=np.int64))
