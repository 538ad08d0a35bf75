"""From points to a surface, and from many faces to few, as well-kept libraries do it. It knows clouds and meshes, both in the cube.

Of points that are not finite or all the same, open3d crashes (Poisson) or hangs (ball pivoting): pass checked clouds.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from meshgpt.cloud import Cloud, import_open3d, with_normals
from meshgpt.dense import outer_shell
from meshgpt.mesh import Mesh
from meshgpt.silence import silent

POISSON_DEPTH = 7  # of the octree: 8,192 points fill no finer one
SPARSER = 1.0  # levels of the octree: where points are four times rarer than usual, the surface is a guess
BALLS = (1, 2, 4)  # radii, in median distances of neighbouring points
VOXEL = 1 / 64  # of the cube
REACH = 1.5  # voxels around the points that count as filled: gaps twice as wide are closed
KEPT = 1 / 8  # of that distance: both sides of a sheet stay apart


def decimate(mesh: Mesh, faces: int) -> Mesh:
    """Quadric edge collapse (Garland and Heckbert 1997) down to `faces` faces; the mesh itself when it has no more."""
    if len(mesh.faces) <= faces:
        return mesh
    open3d = import_open3d("decimation")
    vertices, triangles = open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    return _from_open3d(open3d.geometry.TriangleMesh(vertices, triangles).simplify_quadric_decimation(faces))


def poisson(cloud: Cloud) -> Mesh:
    """Screened Poisson reconstruction (Kazhdan and Hoppe 2013), cut off where the cloud is sparse."""
    open3d = import_open3d("Poisson reconstruction")
    points = _points(cloud, open3d)
    with silent():  # one thread: with several the result differs from run to run
        found, density = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(points, depth=POISSON_DEPTH, n_threads=1)
    density = np.asarray(density)
    if len(density):
        found.remove_vertices_by_mask(density < np.median(density) - SPARSER)
    return _from_open3d(found)


def ball_pivoting(cloud: Cloud) -> Mesh:
    """The cloud's points, joined wherever a ball rests on three (Bernardini et al. 1999)."""
    open3d = import_open3d("ball pivoting")
    points = _points(cloud, open3d)
    radius = float(np.median(points.compute_nearest_neighbor_distance()))
    radii = open3d.utility.DoubleVector([radius * times for times in BALLS])
    return _from_open3d(open3d.geometry.TriangleMesh.create_from_point_cloud_ball_pivoting(points, radii))


def marching_cubes(cloud: Cloud) -> Mesh:
    """The outside of the voxels around the cloud, moved onto the tangent planes of its nearest points."""
    from scipy.spatial import KDTree

    cloud = with_normals(cloud)
    tree = KDTree(cloud.positions)
    shell = outer_shell(lambda positions: tree.query(positions)[0], VOXEL, REACH * VOXEL)
    nearest = tree.query(shell.vertices)[1]
    normals = cloud.normals[nearest]
    height = ((shell.vertices - cloud.positions[nearest]) * normals).sum(1, keepdims=True)
    return Mesh(shell.vertices - (1 - KEPT) * height * normals, shell.faces)


def _points(cloud: Cloud, open3d: ModuleType) -> Any:
    cloud = with_normals(cloud)
    points = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(cloud.positions))
    points.normals = open3d.utility.Vector3dVector(cloud.normals)
    return points


def _from_open3d(mesh: Any) -> Mesh:
    return Mesh(np.array(mesh.vertices).reshape(-1, 3), np.array(mesh.triangles).reshape(-1, 3).astype(np.int64))
