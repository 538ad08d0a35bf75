"""Vertices settle on the cloud: nearer to it than the middles of bins are, and faces stay what they are."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.mesh import Fit, Mesh, corners_of, face_normals, mesh_of, sample_surface
from meshgpt.metrics import fit_to_cloud
from meshgpt.settle import REACH, settled

BINS = 128


def box(half: float) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64) * half
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(corners, np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]))


def in_bins(val, index: int) -> tuple[Mesh, np.ndarray]:
    """A real mesh with its vertices in the middles of bins, and the cloud of what it was."""
    mesh = val.mesh(index)
    mesh = Mesh(Fit.of(mesh.vertices).apply(mesh.vertices), mesh.faces)
    return mesh_of(corners_of(mesh, BINS), BINS), sample_surface(mesh, 8192, np.random.default_rng(0)).astype(np.float64)


REAL = range(0, 160, 23)


def test_real_meshes_come_out_of_their_bins(val):
    """The distance of cloud and mesh, beyond what two samples of one surface have anyway, is at least halved in the median."""
    before, after = [], []
    for index in REAL:
        mesh, cloud = in_bins(val, index)
        original = val.mesh(index)
        least = fit_to_cloud(Mesh(Fit.of(original.vertices).apply(original.vertices), original.faces), cloud[:, :3])
        before.append(fit_to_cloud(mesh, cloud[:, :3]) - least)
        after.append(fit_to_cloud(settled(mesh, cloud), cloud[:, :3]) - least)
    assert np.median(np.array(after) / np.array(before)) < 0.5
    assert (np.array(after) < np.array(before)).all()


@pytest.mark.parametrize("index", REAL)
def test_faces_stay_faces_and_vertices_near(val, index):
    mesh, cloud = in_bins(val, index)
    rough = Mesh(mesh.vertices + np.random.default_rng(1).uniform(-1, 1, mesh.vertices.shape) / BINS, mesh.faces)
    done = settled(rough, cloud)
    np.testing.assert_array_equal(done.faces, rough.faces)
    assert np.abs(done.vertices - rough.vertices).max() <= REACH + 1e-12
    before, after = face_normals(rough.triangles()), face_normals(done.triangles())
    real = np.linalg.norm(before, axis=1) > 1e-12
    assert ((before * after).sum(1) > 0)[real].all()


@pytest.mark.parametrize("normals", ["known", "inside out", "unknown"])
def test_the_corners_of_a_box_are_found(normals):
    cloud = sample_surface(box(0.4), 8192, np.random.default_rng(0)).astype(np.float64)
    cloud[:, 3:] *= {"known": 1, "inside out": -1, "unknown": 0}[normals]
    rough = Mesh(box(0.4).vertices + np.random.default_rng(0).uniform(-1, 1, (8, 3)) / BINS, box(0.4).faces)
    assert np.abs(settled(rough, cloud, oriented=normals == "known").vertices - box(0.4).vertices).max() < 0.05 / BINS


def test_points_that_face_the_other_way_do_not_pull():
    cloud = sample_surface(box(0.4), 4096, np.random.default_rng(0)).astype(np.float64)
    cloud[:, 3:] *= -1
    smaller = box(0.395)
    np.testing.assert_array_equal(settled(smaller, cloud).vertices, smaller.vertices)


def test_noise_in_the_cloud_is_averaged():
    rng = np.random.default_rng(0)
    cloud = sample_surface(box(0.4), 8192, rng).astype(np.float64)
    cloud[:, :3] += rng.normal(0, 0.005, (len(cloud), 3))
    assert np.abs(settled(box(0.404), cloud).vertices - box(0.4).vertices).max() < 0.002


def test_what_is_far_from_the_cloud_stays_where_it_is():
    cloud = sample_surface(box(0.1), 1024, np.random.default_rng(0)).astype(np.float64)
    np.testing.assert_array_equal(settled(box(0.4), cloud).vertices, box(0.4).vertices)


def test_a_mesh_without_faces_stays_without():
    nothing = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    assert not len(settled(nothing, np.zeros((8, 6))).faces)
