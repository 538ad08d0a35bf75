"""Closed forms, and that worse meshes score worse."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.mesh import Mesh, sample_surface
from meshgpt.metrics import cd_nc_ma100k, covered_share, fit_to_cloud, nearest


def square(height: float, size: float = 1.0) -> Mesh:
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]) * size / 2 + [0, height, 0]
    return Mesh(corners, np.array([[0, 2, 1], [0, 3, 2]]))


def test_nearest_is_that_of_all_pairs():
    one, two = (np.random.default_rng(seed).random((50, 3)) for seed in (0, 1))
    distance, which = nearest(one, two)
    all_pairs = np.linalg.norm(one[:, None] - two[None], axis=-1)
    np.testing.assert_allclose(distance, all_pairs.min(1))
    np.testing.assert_array_equal(which, all_pairs.argmin(1))


def test_two_parallel_squares_are_twice_their_distance_apart():
    chamfer, consistency = cd_nc_ma100k(square(0.1), square(0.0), points=20_000)
    assert chamfer == pytest.approx(0.2, rel=2e-3)  # there and back; sideways the points are 0.004 apart
    assert consistency == pytest.approx(1.0)


def test_distance_is_in_units_of_the_longest_side():
    small = cd_nc_ma100k(square(0.1), square(0.0), points=5_000)[0]
    large = cd_nc_ma100k(square(100.0, 1000.0), square(0.0, 1000.0), points=5_000)[0]
    assert large == pytest.approx(small, rel=1e-3)


def test_normals_at_right_angles_do_not_agree():
    wall = Mesh(square(0.0).vertices[:, [1, 0, 2]], square(0.0).faces)
    assert cd_nc_ma100k(wall, square(0.0), points=5_000)[1] == pytest.approx(0.0, abs=1e-9)


def test_the_same_seed_gives_the_same_number(val):
    meshes = val.mesh(3), val.mesh(4)
    assert cd_nc_ma100k(*meshes, seed=1, points=2_000) == cd_nc_ma100k(*meshes, seed=1, points=2_000)


def test_missing_faces_and_noise_make_it_worse(val):
    reference = val.mesh(10)
    own = cd_nc_ma100k(reference, reference, points=10_000)
    holes = cd_nc_ma100k(Mesh(reference.vertices, reference.faces[::2]), reference, points=10_000)
    noise = np.random.default_rng(0).normal(0, 0.02, reference.vertices.shape)
    rough = cd_nc_ma100k(Mesh(reference.vertices + noise, reference.faces), reference, points=10_000)
    assert own[0] < min(holes[0], rough[0])
    assert own[1] > max(holes[1], rough[1])


def test_the_fit_to_a_cloud_sees_what_is_missing(val):
    mesh = val.mesh(10)
    cloud = sample_surface(mesh, 4_096, np.random.default_rng(0))[:, :3]
    half = Mesh(mesh.vertices, mesh.faces[: len(mesh.faces) // 2])
    assert fit_to_cloud(mesh, cloud) < 0.5 * fit_to_cloud(half, cloud)


def test_a_mesh_covers_what_lies_on_it():
    """All of its own points, half of them with every second face gone from a strip, and none of a cloud elsewhere."""
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 21), [0.0, 0.1], indexing="ij"), -1).reshape(-1, 2)
    strip = Mesh(np.pad(grid, ((0, 0), (0, 1))), np.array([[2 * i, 2 * i + 2, 2 * i + 1] for i in range(20)]))
    points = sample_surface(strip, 3000, np.random.default_rng(1))[:, :3]
    assert covered_share(strip, points) == 1
    half = Mesh(strip.vertices, strip.faces[:10])
    assert 0.5 <= covered_share(half, points) < 0.6
    assert covered_share(strip, points + np.array([0, 0, 5])) == 0
