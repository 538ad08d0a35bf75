"""Canonical corners and their laws, bins, the fit to the cube and back, points on a surface."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from meshgpt.mesh import (
    BINS,
    LONGEST_SIDE,
    Fit,
    Mesh,
    canonical,
    canonical_of,
    corners_of,
    face_normals,
    mesh_of,
    sample_surface,
    to_bins,
    to_unit,
    weld,
)

# Three bins, so that equal vertices, degenerate faces, repeated faces and twins all turn up.
CORNERS = arrays(np.int64, st.tuples(st.integers(0, 12), st.just(3), st.just(3)), elements=st.integers(0, 2))
SEEDS = st.integers(0, 2**32 - 1)


def height(vertex: tuple[int, int, int]) -> tuple[int, int, int]:
    x, y, z = vertex
    return y, z, x


def canonical_in_words(corners: np.ndarray) -> np.ndarray:
    """The definition, one face at a time."""
    whole = set()
    for face in corners.tolist():
        vertices = [tuple(vertex) for vertex in face]
        if len(set(vertices)) == 3:
            lowest = min(range(3), key=lambda at: height(vertices[at]))
            whole.add((*vertices[lowest:], *vertices[:lowest]))
    kept = {}
    for face in sorted(whole, key=lambda face: [height(vertex) for vertex in face]):
        kept.setdefault(frozenset(face), face)
    return np.array(list(kept.values()), dtype=np.int64).reshape(-1, 3, 3)


@given(CORNERS)
def test_canonical_is_what_its_words_say(corners):
    np.testing.assert_array_equal(canonical(corners), canonical_in_words(corners))


@given(CORNERS)
def test_canonical_twice_is_canonical_once(corners):
    once = canonical(corners)
    np.testing.assert_array_equal(canonical(once), once)


@given(CORNERS, SEEDS)
def test_canonical_does_not_see_the_order_of_faces_or_where_they_begin(corners, seed):
    rng = np.random.default_rng(seed)
    mixed = corners[rng.permutation(len(corners))]
    turned = np.take_along_axis(mixed, ((rng.integers(3, size=(len(mixed), 1)) + np.arange(3)) % 3)[..., None], axis=1)
    np.testing.assert_array_equal(canonical(turned), canonical(corners))


def test_canonical_does_not_see_the_order_of_vertices(val, real):
    rng = np.random.default_rng(0)
    for index in range(0, len(val), 10):
        mesh = val.mesh(index)
        order = rng.permutation(len(mesh.vertices))
        mixed = Mesh(mesh.vertices[order], np.argsort(order)[mesh.faces])
        np.testing.assert_array_equal(corners_of(mixed), real[index])


def test_canonical_of_indexed_meshes_welds_and_forgets_unused_vertices(real):
    rng = np.random.default_rng(0)
    for corners in real[::30]:
        vertices, faces = weld(corners)
        vertices = np.concatenate([vertices, vertices, [[BINS - 1, BINS - 1, BINS - 1]]])
        twins = faces + len(vertices) // 2 * rng.integers(0, 2, faces.shape)
        shuffled = rng.permutation(len(vertices))
        found = canonical_of(vertices[shuffled], np.argsort(shuffled)[np.concatenate([twins, twins[:9, ::-1]])])
        np.testing.assert_array_equal(found, canonical(vertices[np.concatenate([faces, faces[:9, ::-1]])]))


def test_canonical_meshes_have_each_face_once_and_in_order(real):
    for corners in real:
        vertices, faces = weld(corners)
        assert (np.diff(vertices[:, [1, 2, 0]] @ [BINS**2, BINS, 1]) > 0).all()
        assert (faces[:, :1] < faces[:, 1:]).all()
        assert (faces[:, 1] != faces[:, 2]).all()
        np.testing.assert_array_equal(faces, sorted(faces.tolist()))
        assert len({frozenset(face) for face in faces.tolist()}) == len(faces)


def test_orientation_is_kept(tetrahedron):
    triangles = mesh_of(corners_of(tetrahedron)).triangles()
    outward = triangles.mean(1) - triangles.mean((0, 1))
    assert ((face_normals(triangles) * outward).sum(1) > 0).all()
    flipped = corners_of(Mesh(tetrahedron.vertices, tetrahedron.faces[:, ::-1]))
    assert sorted(map(str, flipped[:, [0, 2, 1]])) == sorted(map(str, corners_of(tetrahedron)))


def test_of_twins_seen_from_both_sides_one_stays(tetrahedron):
    corners = corners_of(tetrahedron)
    both = np.concatenate([corners[:, ::-1], corners, corners[:, [1, 2, 0]]])
    once = canonical(both)
    assert len(once) == 4
    np.testing.assert_array_equal(canonical(both[::-1]), once)


def test_faces_that_touch_a_vertex_twice_are_dropped(tetrahedron):
    corners = corners_of(tetrahedron)
    broken = corners[:, [0, 1, 1]]
    np.testing.assert_array_equal(canonical(np.concatenate([broken, corners, broken[:, [1, 0, 1]]])), corners)
    assert canonical(broken).shape == (0, 3, 3)


def test_collinear_faces_stay():
    line = np.array([[[0, 0, 0], [0, 1, 0], [0, 2, 0]]])
    np.testing.assert_array_equal(canonical(line), line)


def test_welding_keeps_every_face_as_it_is(tetrahedron):
    corners = np.repeat(to_bins(tetrahedron.triangles()), 2, axis=0)
    vertices, faces = weld(corners)
    assert len(vertices) == 4
    np.testing.assert_array_equal(vertices[faces], corners)


def test_a_mesh_and_its_corners_are_the_same(real):
    for corners in real[::10]:
        np.testing.assert_array_equal(corners_of(mesh_of(corners)), corners)
        np.testing.assert_array_equal(corners_of(mesh_of(corners, 1000), 1000), corners)


@pytest.mark.parametrize("bins", [2, 3, 128, 1000, 1024])
def test_bins_stand_for_the_centres_of_their_cells(bins):
    cells = np.arange(bins)
    np.testing.assert_array_equal(to_bins(to_unit(cells, bins), bins), cells)
    unit = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000)
    off = to_unit(to_bins(unit, bins), bins) - unit
    assert np.abs(off).max() <= 0.5 / bins + 1e-12
    assert abs(off.mean()) < 0.01 / bins  # no shift by half a cell, as a rounding too many makes


def test_what_lies_outside_goes_to_the_border():
    np.testing.assert_array_equal(to_bins(np.array([-9.0, -0.5, 0.5, 9.0]), 16), [0, 0, 15, 15])


def cloud(count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)) * [3.0, 1.0, 0.2] + [100, -7, 4]


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_fit_goes_there_and_back(up):
    points = cloud()
    fit = Fit.of(points, up)
    cube = fit.apply(points)
    np.testing.assert_allclose(fit.undo(cube), points, atol=1e-12)
    assert np.ptp(cube, axis=0).max() == pytest.approx(LONGEST_SIDE)
    np.testing.assert_allclose(cube.max(0) + cube.min(0), 0, atol=1e-12)


@pytest.mark.parametrize(("up", "above"), [("y", [0.0, 1, 0]), ("z", [0.0, 0, 1])])
def test_up_in_the_users_frame_is_y_in_the_cube(up, above):
    points = cloud()
    fit = Fit.of(points, up)
    np.testing.assert_allclose(fit.turn(np.array([above])), [[0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(fit.apply(points + above) - fit.apply(points), np.tile([0, 1 / fit.scale, 0], (50, 1)), atol=1e-12)
    assert np.linalg.det(fit.turn(np.eye(3))) == pytest.approx(1), "a turn, not a reflection"


def test_the_fit_nobody_asked_for_changes_nothing():
    np.testing.assert_array_equal(Fit().apply(cloud()), cloud())
    np.testing.assert_array_equal(Fit().undo(cloud()), cloud())


@pytest.mark.parametrize(
    ("points", "up", "message"),
    [
        (np.zeros((0, 3)), "y", "no points to fit; pass at least two different points"),
        (np.array([[0.0, 0, 0], [np.nan, 1, 1]]), "y", "NaN or infinite coordinates; remove them first"),
        (np.array([[0.0, 0, 0], [np.inf, 1, 1]]), "z", "NaN or infinite coordinates; remove them first"),
        (np.ones((5, 3)), "y", "all points are the same point; a shape needs an extent above zero"),
        (cloud(), "x", "the up-axis 'x' is unknown; use 'y' or 'z'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(points, up, message):
    with pytest.raises(ValueError, match=message):
        Fit.of(points, up)


def test_sampled_points_lie_on_the_surface_with_the_normals_of_their_faces(tetrahedron):
    points = sample_surface(tetrahedron, 500, np.random.default_rng(0))
    triangles = tetrahedron.triangles()
    normals = face_normals(triangles)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    height = ((points[:, None, :3] - triangles[:, 0]) * normals).sum(-1)
    face = np.abs(height).argmin(1)
    assert (height < 1e-12).all(), "outside of the tetrahedron"
    np.testing.assert_allclose(np.abs(height).min(1), 0, atol=1e-12)
    np.testing.assert_allclose(points[:, 3:], normals[face], atol=1e-12)


def test_sampled_points_are_spread_by_area():
    areas = np.array([1.0, 0.0, 5.0, 2.5, 0.02])
    triangles = np.array([[[at, 0, 0], [at, 2 * area, 0], [at, 0, 1]] for at, area in enumerate(areas)])
    mesh = Mesh(triangles.reshape(-1, 3), np.arange(15).reshape(-1, 3))
    points = sample_surface(mesh, 4000, np.random.default_rng(0))
    counts = np.bincount(points[:, 0].round().astype(int), minlength=5)
    np.testing.assert_allclose(counts, 4000 * areas / areas.sum(), atol=2)  # strata, so better than independent draws
    assert np.abs(np.linalg.norm(points[:, 3:], axis=1) - 1).max() < 1e-9


def test_sampled_points_are_spread_inside_a_face():
    mesh = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    points = sample_surface(mesh, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(points[:, :3].mean(0), [1 / 3, 1 / 3, 0], atol=0.005)
    assert (points[:, 0] + points[:, 1] < 0.5).mean() == pytest.approx(0.25, abs=0.01)
    assert (points[:, 1] > points[:, 0]).mean() == pytest.approx(0.5, abs=0.01)


def test_sampling_is_the_generators():
    mesh = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    one, two, other = (sample_surface(mesh, 9, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@pytest.mark.parametrize("faces", [np.zeros((0, 3), dtype=np.int64), np.array([[0, 1, 1]])])
def test_a_mesh_without_area_has_no_points(faces):
    with pytest.raises(ValueError, match=f"the {len(faces)} faces have no area to sample points on; pass a mesh with a surface"):
        sample_surface(Mesh(np.eye(3), faces), 10, np.random.default_rng(0))
