"""Generated meshes are made tidy: fewer open edges and faces, no further from the cloud, and every promise is kept."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import mesh_of_solid
from trimesh.creation import box

from meshgpt.mesh import Fit, Mesh, corners_of, mesh_of, sample_surface
from meshgpt.metrics import fit_to_cloud
from meshgpt.settle import settled
from meshgpt.tidy import tidied
from meshgpt.topology import Edges
from meshgpt.validity import sound

REAL = (3, 26, 49, 72, 95)


def cloud_of(mesh: Mesh, count: int = 4096) -> np.ndarray:
    """Other points than those that `fit_to_cloud` draws."""
    return sample_surface(mesh, count, np.random.default_rng(1)).astype(np.float64)


def real(val, index: int) -> Mesh:
    mesh = val.mesh(index)
    return Mesh(Fit.of(mesh.vertices).apply(mesh.vertices), mesh.faces)


def untidy(mesh: Mesh, seed: int = 0) -> Mesh:
    """As the model writes it: in bins, some faces missing, some vertices of their own where faces should share one."""
    rng = np.random.default_rng(seed)
    mesh = sound(mesh_of(corners_of(mesh), 128), manifold=True)
    faces = mesh.faces[rng.random(len(mesh.faces)) > 0.08].copy()
    vertices = list(mesh.vertices)
    for number in rng.choice(len(faces), len(faces) // 10, replace=False):
        corner = rng.integers(3)
        vertices.append(vertices[faces[number, corner]] + rng.integers(-1, 2, 3) / 128)
        faces[number, corner] = len(vertices) - 1
    return sound(Mesh(np.array(vertices), faces), manifold=True)


def open_edges(mesh: Mesh) -> int:
    return int((Edges.of(mesh).uses == 1).sum())


@pytest.fixture(scope="module")
def made(val) -> dict[int, tuple[Mesh, np.ndarray, Mesh]]:
    """What came in, the cloud, and what came out."""
    found = {}
    for index in REAL:
        mesh = real(val, index)
        cloud = cloud_of(mesh)
        found[index] = untidy(mesh), cloud, tidied(untidy(mesh), cloud)
    return found


def test_slits_and_holes_close(made):
    before = sum(open_edges(rough) for rough, _, _ in made.values())
    after = sum(open_edges(done) for _, _, done in made.values())
    assert after < before / 3


def test_the_cloud_is_nearer_than_by_settling_alone(made):
    for rough, cloud, done in made.values():
        assert fit_to_cloud(done, cloud[:, :3]) < fit_to_cloud(settled(rough, cloud), cloud[:, :3])


@pytest.mark.parametrize("index", REAL)
def test_promises_are_kept(made, index):
    _, _, done = made[index]
    kept = sound(done, manifold=True)
    np.testing.assert_array_equal(kept.faces, done.faces)
    assert np.isfinite(done.vertices).all()


def test_a_box_that_is_cut_up_becomes_twelve_faces():
    """A grid on each side of a box says no more than two triangles do."""
    mesh = mesh_of_solid(box((0.9, 0.6, 0.4)).subdivide().subdivide())
    done = tidied(mesh, cloud_of(mesh, 8192))
    assert len(mesh.faces) == 192 and len(done.faces) == 12
    assert open_edges(done) == 0


def test_a_box_whose_corners_were_cut_off_gets_them_back():
    from trimesh import convex

    whole = mesh_of_solid(box((0.9, 0.6, 0.4)))
    corners = whole.vertices
    cut = corners[:, None] - np.sign(corners)[:, None] * np.eye(3) * 3 / 128
    hull = mesh_of_solid(convex.convex_hull(cut.reshape(-1, 3)))
    done = tidied(hull, cloud_of(whole, 8192))
    assert len(hull.faces) == 44 and len(done.faces) == 12 and open_edges(done) == 0
    apart = np.linalg.norm(corners[:, None] - done.vertices, axis=2).min(1)
    assert (apart < 0.25 / 128).all()


def test_a_sheet_stays_a_sheet():
    """An open border is no slit: nothing lies beyond it."""
    mesh = Mesh(np.array([(-0.4, 0, -0.4), (-0.4, 0, 0.4), (0.4, 0, 0.4), (0.4, 0, -0.4)]), np.array([(0, 1, 2), (0, 2, 3)]))
    done = tidied(mesh, cloud_of(mesh))
    assert len(done.faces) == 2 and open_edges(done) == 4


def test_faces_are_within_their_limits(val):
    mesh = real(val, 49)
    rough, cloud = untidy(mesh), cloud_of(mesh)
    count = len(rough.faces)
    fewer = tidied(rough, cloud, most=10)
    assert len(fewer.faces) <= count < len(tidied(rough, cloud).faces)
    assert len(tidied(rough, cloud, least=count + 5, most=count + 5).faces) >= count


def test_without_normals_it_does_no_harm(val):
    for index in REAL[:3]:
        mesh = real(val, index)
        cloud = cloud_of(mesh)
        cloud[:, 3:] = 0
        rough = untidy(mesh)
        done = tidied(rough, cloud, oriented=False)
        assert fit_to_cloud(done, cloud[:, :3]) < fit_to_cloud(settled(rough, cloud, False), cloud[:, :3]) * 1.02
        np.testing.assert_array_equal(sound(done, manifold=True).faces, done.faces)


def test_it_is_the_same_each_time(made):
    rough, cloud, done = made[REAL[0]]
    again = tidied(rough, cloud)
    np.testing.assert_array_equal(again.vertices, done.vertices)
    np.testing.assert_array_equal(again.faces, done.faces)


def test_nothing_stays_nothing():
    empty = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))
    assert len(tidied(empty, np.random.default_rng(0).random((64, 6)) - 0.5).faces) == 0
