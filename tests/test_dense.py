"""Dense meshes of closed, open and broken surfaces: closed, outside, near the surface, in its frame."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from meshgpt.dense import dense_of, outer_shell
from meshgpt.mesh import Mesh, face_normals

CUBE = Mesh(
    np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]),
    np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    ),
)
SHEET = Mesh(np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]), np.array([[0, 2, 1], [0, 3, 2]]))


def volume(mesh: Mesh) -> float:
    triangles = mesh.triangles()
    return float((triangles[:, 0] * face_normals(triangles)).sum() / 6)


def area(mesh: Mesh) -> float:
    return float(np.linalg.norm(face_normals(mesh.triangles()), axis=1).sum() / 2)


def edges_are_shared_by_two(mesh: Mesh) -> bool:
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    return bool((np.unique(edges, axis=0, return_counts=True)[1] == 2).all())


def test_a_cube_has_its_volume_and_its_outside_only():
    dense = dense_of(CUBE)
    assert volume(dense) == pytest.approx(8, rel=0.01)
    assert area(dense) == pytest.approx(24, rel=0.01)  # with an inner side it would be 48
    assert len(dense.faces) > 50_000
    assert edges_are_shared_by_two(dense)


def test_which_way_the_faces_are_seen_does_not_matter():
    inside_out = Mesh(CUBE.vertices, CUBE.faces[:, ::-1])
    np.testing.assert_allclose(volume(dense_of(inside_out)), volume(dense_of(CUBE)))


def test_a_sheet_becomes_a_thin_closed_slab():
    dense = dense_of(SHEET)
    assert edges_are_shared_by_two(dense)
    assert area(dense) == pytest.approx(8, rel=0.02)
    assert 0 < np.ptp(dense.vertices[:, 1]) < 2 * 2 / 0.95 / 128 / 4  # an eighth of a cell on either side


def test_it_lies_where_the_reference_lies():
    moved = Mesh(SHEET.vertices * 50 + [1000, -7, 3], SHEET.faces)
    dense = dense_of(moved)
    np.testing.assert_allclose(dense.vertices.min(0), moved.vertices.min(0), atol=0.15)
    np.testing.assert_allclose(dense.vertices.max(0), moved.vertices.max(0), atol=0.15)


def test_faces_without_area_change_nothing():
    flat = np.concatenate([SHEET.faces, [[0, 0, 1], [0, 1, 1]]])
    np.testing.assert_array_equal(dense_of(Mesh(SHEET.vertices, flat)).vertices, dense_of(SHEET).vertices)


def test_a_mesh_without_area_is_refused():
    with pytest.raises(ValueError, match=r"^the 1 faces have no area to make a dense mesh of; pass a mesh with a surface$"):
        dense_of(Mesh(SHEET.vertices, np.array([[0, 0, 1]])))
    with pytest.raises(ValueError, match=r"^the 0 faces have no area"):
        dense_of(Mesh(SHEET.vertices, np.zeros((0, 3), dtype=np.int64)))


def test_the_shell_of_a_ball_is_a_larger_ball():
    """Of its surface alone: what it encloses counts as inside, whatever the distance says there."""
    shell = outer_shell(lambda positions: np.abs(np.linalg.norm(positions, axis=1) - 0.3), 1 / 32, 1.5 / 32)
    np.testing.assert_allclose(np.linalg.norm(shell.vertices, axis=1), 0.3 + 1.5 / 32, atol=0.002)
    assert volume(shell) > 0


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(ImportError, match=r"^marching cubes needs skimage.measure.*pip install 'meshgpt\[evaluate\]'$"):
        outer_shell(lambda positions: np.linalg.norm(positions, axis=1), 1 / 16, 1 / 4)
