"""Sets of meshes against distance matrices written out, and known answers: equal sets, one shape only, sets far apart."""

from __future__ import annotations

import numpy as np
import point_cloud_utils as pcu
import pytest
from scipy.spatial.distance import cdist

from meshgpt.mesh import Mesh, sample_surface
from meshgpt.shape_sets import PIVOT_POINTS, PointSet, cd_pivot1024_sq, cov_mmd, one_nna, set_scores

NOTHING = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))


@pytest.fixture(scope="module")
def shapes(val) -> list[Mesh]:
    return [val.mesh(index) for index in range(0, 96, 8)]


@pytest.fixture(scope="module")
def boards() -> list[Mesh]:
    """Upright rectangles of a few heights, unlike anything in the validation split."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    return [Mesh(corners * [1, height, 1], np.array([[0, 1, 2], [0, 2, 3]])) for height in (20, 21, 22, 23, 24, 25)]


def test_the_distance_agrees_with_all_pairs_and_point_cloud_utils(val):
    one, two = (PointSet.of(sample_surface(val.mesh(index), 1024, np.random.default_rng(index))[:, :3]) for index in (3, 50))
    apart = cdist(one.points, two.points, "sqeuclidean")
    assert one.squared_distance(two) == pytest.approx(apart.min(1).mean() + apart.min(0).mean(), rel=1e-9)
    there, back = (pcu.k_nearest_neighbors(a.points, b.points, 1)[0] for a, b in ((one, two), (two, one)))
    assert one.squared_distance(two) == pytest.approx((there**2).mean() + (back**2).mean(), rel=1e-6)


def test_points_are_brought_into_the_unit_ball(val):
    on = PointSet.on(val.mesh(3), np.random.default_rng(0))
    assert on.points.shape == (PIVOT_POINTS, 3) == (1024, 3)
    np.testing.assert_allclose(on.points.mean(0), 0, atol=1e-12)
    assert np.linalg.norm(on.points, axis=1).max() == pytest.approx(1)


def test_size_and_place_do_not_count_but_shape_does(val):
    one, other = val.mesh(3), val.mesh(50)
    moved = Mesh(one.vertices * 7 + [1, 2, 3], one.faces)
    assert cd_pivot1024_sq(moved, other) == pytest.approx(cd_pivot1024_sq(one, other), rel=1e-9)
    assert cd_pivot1024_sq(one, one) < 0.1 * cd_pivot1024_sq(one, other)
    noise = Mesh(one.vertices + np.random.default_rng(0).normal(0, 0.05, one.vertices.shape), one.faces)
    holes = Mesh(one.vertices, one.faces[::2])
    assert cd_pivot1024_sq(one, one) < min(cd_pivot1024_sq(noise, one), cd_pivot1024_sq(holes, one))


def test_coverage_and_matching_distance_by_hand():
    across = np.array([[1.0, 5.0, 9.0], [2.0, 4.0, 8.0], [7.0, 3.0, 6.0]])  # nearest references: 0, 0, 1
    assert cov_mmd(across) == pytest.approx((2 / 3, (1 + 3 + 6) / 3))


def test_nearest_neighbour_accuracy_by_hand():
    """On a line, two of each set: 0 g, 1 g, 1.5 r, 9 r; only the first is nearest to its own and the last two are told wrong or right."""
    at = np.array([0.0, 1.0, 1.5, 9.0])
    apart = np.abs(at[:, None] - at)
    assert one_nna(apart[:2, :2], apart[:2, 2:], apart[2:, 2:]) == pytest.approx(2 / 4)  # 0 and 9 right; 1 and 1.5 are each other's


def test_set_scores_are_those_of_the_whole_matrix(shapes):
    generated, references = shapes[:7], shapes[5:12]
    rng = np.random.default_rng(3)
    made, asked = [], []
    for index in rng.permutation(7):
        made.append(PointSet.on(generated[index], rng.spawn(1)[0]).points)
    for index in rng.permutation(7):
        asked.append(PointSet.on(references[index], rng).points)
    both = made + asked
    squared = [[cdist(a, b, "sqeuclidean") for b in both] for a in both]
    apart = np.array([[each.min(0).mean() + each.min(1).mean() for each in row] for row in squared])
    scores = set_scores(generated, references, seed=3)
    assert scores.coverage == len(set(apart[:7, 7:].argmin(1))) / 7
    assert scores.distance == pytest.approx(apart[:7, 7:].min(0).mean(), rel=1e-6)
    np.fill_diagonal(apart, np.inf)
    assert scores.accuracy == ((apart.argmin(1) < 7) == (np.arange(14) < 7)).mean()
    assert scores[3:] == (7, 0)


def test_a_set_beside_itself_is_covered_and_cannot_be_told_apart(shapes):
    scores = set_scores(shapes, shapes)
    assert scores.coverage == 1
    assert scores.accuracy == 0  # each mesh is nearest to its twin in the other set
    assert scores.distance < 0.1 * set_scores(shapes[:6], shapes[6:]).distance


def test_one_shape_over_and_over_covers_little_and_is_told_apart(shapes):
    scores = set_scores([shapes[0]] * 6, shapes[1:7])
    assert scores.coverage == 1 / 6
    assert scores.accuracy > 0.7


def test_sets_of_other_shapes_are_told_apart(boards, shapes):
    scores = set_scores(boards, shapes)
    assert scores.compared == 6
    assert scores.accuracy > 0.9


def test_meshes_without_a_surface_count_as_failures(shapes):
    nowhere = Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    astray = Mesh(np.eye(3), np.array([[0, 1, 7]]))
    whole, torn = set_scores(shapes[:6], shapes[:6]), set_scores([*shapes[:3], NOTHING, nowhere, astray], shapes[:6])
    assert torn.failures == 3
    assert torn.coverage == 0.5 < whole.coverage
    assert torn.distance > whole.distance
    assert torn.accuracy > whole.accuracy
    nothing = set_scores([NOTHING, NOTHING], shapes[:2])
    assert nothing == (0, np.inf, 1, 2, 2)


def test_references_without_a_surface_and_empty_sets_are_refused(shapes):
    with pytest.raises(ValueError, match="no area"):
        set_scores(shapes[:2], [NOTHING, shapes[0]])
    with pytest.raises(ValueError, match="0 generated and 12 reference meshes cannot be compared"):
        set_scores([], shapes)


def test_the_same_seed_gives_the_same_scores(shapes):
    first, again, other = (set_scores(shapes[:4], shapes[2:], seed) for seed in (1, 1, 2))
    assert first == again != other
