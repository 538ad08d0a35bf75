"""What tells a good next face from a bad one: real meshes pass, and what is off the surface, double or left below is found."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from meshgpt.coverage import BIN, Coverage
from meshgpt.gate_judge import FINE, WRONG
from meshgpt.mesh import Fit, Mesh, corners_of, sample_surface
from meshgpt.train.evaluate import spread

POINTS, DENSE = 16384, 65536


def strip(width: int = 4) -> np.ndarray:
    """A square in the plane z = 0, facing +z, as rows of squares of two triangles, bottom up."""
    at = np.linspace(-0.4, 0.4, width + 1)
    squares = [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)] for y0, y1 in pairwise(at) for x0, x1 in pairwise(at)]
    flat = [[square[0], square[a], square[a + 1]] for square in squares for a in (1, 2)]
    return np.concatenate([np.array(flat), np.zeros((len(flat), 3, 1))], 2)


def cloud_of(triangles: np.ndarray) -> np.ndarray:
    mesh = Mesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))
    return sample_surface(mesh, DENSE, np.random.default_rng(0))


@pytest.fixture
def coverage() -> Coverage:
    return Coverage(cloud_of(strip()))


def test_faces_of_real_meshes_lie_on_their_cloud_and_on_no_other_face_and_leave_nothing_below(val):
    meshes = spread(val.at_most(120), 8)
    wrong, lost, covered = [], [], []
    for number in range(len(meshes)):
        mesh = meshes.mesh(number)
        fit = Fit.of(mesh.vertices)
        mesh = Mesh(fit.apply(mesh.vertices), mesh.faces)
        coverage = Coverage(sample_surface(mesh, POINTS, np.random.default_rng(number)))
        for triangle in (corners_of(mesh) + 0.5) * BIN - 0.5:
            weights = coverage.weigh(triangle[None])
            wrong.append(weights.off[0] + weights.double[0])
            lost.append(weights.lost[0])
            coverage.take(triangle)
        covered.append(coverage.covered)
    assert np.mean(np.array(wrong) < FINE) > 0.85
    assert np.mean(np.array(wrong) < WRONG) > 0.95
    assert np.mean(np.array(lost) < 1e-4) > 0.995
    assert min(covered) > 0.995


def test_each_face_gains_its_share_and_all_together_the_whole(coverage):
    triangles = strip()
    for triangle in triangles:
        weights = coverage.weigh(triangle[None])
        assert weights.off[0] == weights.double[0] == weights.lost[0] == 0
        assert weights.gain[0] < 3 / len(triangles)
        covered = coverage.covered
        coverage.take(triangle)
        assert coverage.covered == pytest.approx(covered + weights.gain[0])
    assert coverage.covered == 1
    assert coverage.lost == 0


def test_what_stands_off_the_surface_is_off(coverage):
    triangle = strip(1)[0]
    assert coverage.weigh(triangle[None] + [0, 0, 0.2]).off[0] == 2
    assert coverage.weigh(triangle[None, ::-1]).off[0] == 1, "its edges are on the surface, but it faces away"
    overhanging = triangle + np.array([0.4, 0, 0])
    assert 0.3 < coverage.weigh(overhanging[None]).off[0] < 1.5
    assert coverage.weigh(overhanging[None]).gain[0] < coverage.weigh(triangle[None]).gain[0]


def test_without_orientation_a_face_may_look_either_way_and_without_normals_any():
    triangle = strip(1)[0]
    cloud = cloud_of(strip())
    unoriented = Coverage(cloud, oriented=False)
    assert unoriented.weigh(triangle[None, ::-1]).off[0] == 0
    across = np.array([[-0.4, -0.4, 0], [0.4, -0.4, 0], [0, -0.4, 0.005]])
    assert unoriented.weigh(across[None]).off[0] == 1, "it stands across the surface"
    cloud[:, 3:] = 0
    assert Coverage(cloud).weigh(across[None]).off[0] == 0


def test_a_face_on_another_one_is_double_unless_it_is_the_other_side(coverage):
    triangle = strip(1)[0]
    coverage.take(triangle)
    assert coverage.weigh(triangle[None]).double[0] == 1
    assert coverage.weigh(triangle[None]).gain[0] == 0
    assert coverage.weigh(triangle[None, ::-1]).double[0] == 0
    assert coverage.weigh(strip(1)[1][None]).double[0] == 0
    smaller = triangle.mean(0) + 0.5 * (triangle - triangle.mean(0))
    assert coverage.weigh(smaller[None] + [0, 0, 0.5 * BIN]).double[0] == 1
    assert coverage.weigh(smaller[None] + [0, 0, 4 * BIN]).double[0] == 0


def test_bare_points_below_a_face_are_lost(coverage):
    rows = strip()
    upper = rows[16:17]
    assert coverage.weigh(upper).lost[0] == pytest.approx(0.5, abs=0.03)
    coverage.take(upper[0])
    assert coverage.lost == pytest.approx(0.5, abs=0.03)
    assert coverage.weigh(rows[17:18]).lost[0] == 0, "what is lost is lost only once"
    assert coverage.weigh(rows[24:25]).lost[0] == pytest.approx(0.25 - 1 / 32, abs=0.03)


def test_a_face_without_area_gains_nothing(coverage):
    flat = np.zeros((1, 3, 3))
    assert coverage.weigh(flat).gain[0] == 0
    coverage.take(flat[0])
    assert coverage.covered == 0


@pytest.mark.parametrize("points", [1, 2, 5])
def test_few_points_do(points):
    assert Coverage(cloud_of(strip())[:points]).weigh(strip(1)).gain.shape == (2,)


def test_the_largest_open_piece_comes_first_and_what_is_passed_over_is_open_no_longer():
    left, right = strip() * [0.4, 1, 1] - [0.3, 0, 0], strip() * [0.2, 1, 1] + [0.3, 0, 0]
    coverage = Coverage(cloud_of(np.concatenate([left, right])), bottom_up=False)
    assert (coverage.widely_open_points()[:, 0] < 0).all()
    for triangle in left:
        coverage.take(triangle)
    there = coverage.widely_open_points()
    assert len(there) and (there[:, 0] > 0).all()
    before, at = coverage.rest, there.mean(0)
    coverage.pass_over(at)
    left_over = coverage.widely_open_points()
    assert coverage.rest < before and np.linalg.norm(left_over - at, axis=1).min() > 2 * BIN
    for triangle in right[:4]:
        coverage.take(triangle)
    assert not coverage.near_open(at[None]).any()
