"""What a network is told about a shape: which points, in no order, and nothing where it shall see nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import TINY_CLOUD, TINY_SURROUNDINGS

from meshgpt.conditioners import FAR_AWAY, PointCloud, Surroundings, fourier, pick_points, profile


@pytest.fixture
def cloud() -> PointCloud:
    torch.manual_seed(0)
    return PointCloud(TINY_CLOUD).eval()


@pytest.fixture
def surroundings() -> Surroundings:
    torch.manual_seed(0)
    network = Surroundings(TINY_SURROUNDINGS).eval()
    torch.nn.init.normal_(network.nothing)
    return network


def test_prepare_takes_as_many_points_as_the_config_says(cloud):
    points = np.arange(600.0).reshape(100, 6)
    taken = cloud.prepare(points, np.random.default_rng(0))
    assert taken.shape == (64, 6)
    assert taken.dtype == np.float32
    assert len(np.unique(taken[:, 0])) == 64, "each point once while there are enough"
    assert np.isin(taken[:, 0], points[:, 0]).all()
    np.testing.assert_array_equal(taken[:, 1:], taken[:, :1] + [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(taken, cloud.prepare(points, np.random.default_rng(0)))
    assert (taken != cloud.prepare(points, np.random.default_rng(1))).any()


def test_few_points_are_taken_more_than_once():
    taken = pick_points(np.arange(60.0).reshape(10, 6), 64, np.random.default_rng(0))
    assert taken.shape == (64, 6)
    assert np.isin(taken[:, 0], np.arange(0, 60, 6)).all()


@torch.no_grad()
@pytest.mark.parametrize("points", [1, 17, 64, 300])
def test_any_number_of_points_becomes_so_many_vectors(cloud, surface, points):
    vectors, keep = cloud(surface(3, points))
    assert vectors.shape == (3, TINY_CLOUD.vectors, TINY_CLOUD.out)
    assert keep.shape == vectors.shape[:2]
    assert keep.all()
    assert torch.isfinite(vectors).all()


@torch.no_grad()
def test_the_order_of_points_does_not_matter_and_the_points_do(cloud, surroundings, surface):
    points, places = surface(2), torch.rand(9, 3) - 0.5
    mixed = points[:, torch.randperm(64)]
    torch.testing.assert_close(cloud(mixed).vectors, cloud(points).vectors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(surroundings(mixed, places), surroundings(points, places), rtol=1e-4, atol=1e-5)
    assert ((cloud(points).vectors - cloud(surface(2, seed=1)).vectors).abs().amax((1, 2)) > 1e-3).all()


@torch.no_grad()
def test_rows_do_not_see_each_other(cloud, surroundings, surface):
    points, places = surface(3), torch.rand(9, 3) - 0.5
    torch.testing.assert_close(cloud(points[1:2]).vectors, cloud(points).vectors[1:2], rtol=1e-4, atol=1e-5)
    for alone, together in zip(surroundings(points[1:2], places), surroundings(points, places), strict=True):
        torch.testing.assert_close(alone, together[1:2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_normals_of_zeros_are_fine_and_say_something_else(cloud, surface):
    points = surface(2)
    without = torch.cat([points[..., :3], torch.zeros(2, 64, 3)], -1)
    assert torch.isfinite(cloud(without).vectors).all()
    assert (cloud(without).vectors - cloud(points).vectors).abs().max() > 1e-3


def test_dropped_rows_get_the_learned_nothing(cloud, surface):
    vectors, keep = cloud(surface(3), torch.tensor([False, True, False]))
    torch.testing.assert_close(vectors[1], cloud.nothing)
    torch.testing.assert_close(vectors[[0, 2]], cloud(surface(3)).vectors[[0, 2]])
    assert keep.all()
    vectors[1].sum().backward()
    assert cloud.nothing.grad.all()
    assert not cloud.queries.grad.any()


def test_fourier_features_are_the_formula():
    x = torch.tensor([[0.25, -0.5]])
    features = fourier(x, 2)
    angles = [np.pi * 2**i * value for value in (0.25, -0.5) for i in range(2)]
    np.testing.assert_allclose(features, [[0.25, -0.5, *np.sin(angles), *np.cos(angles)]], atol=1e-6)


@torch.no_grad()
def test_surroundings_are_the_nearest_points(surroundings, surface):
    points, places = surface(2), torch.rand(20, 3) - 0.5
    _, near = surroundings(points, places)
    for row in range(2):
        for place in range(20):
            offset = points[row, :, :3] - places[place]
            order = offset.norm(dim=-1).argsort()[: TINY_SURROUNDINGS.around]
            torch.testing.assert_close(near[row, place], torch.cat([offset[order], points[row, order, 3:]], -1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_surroundings_of_a_dropped_row_are_nothing_and_far_away(surroundings, surface):
    places = torch.rand(9, 3) - 0.5
    vectors, near = surroundings(surface(2), places, torch.tensor([True, False]))
    torch.testing.assert_close(vectors[0], surroundings.nothing.expand(9, -1))
    assert (near[0] == FAR_AWAY).all()
    for dropped, kept in zip((vectors, near), surroundings(surface(2), places), strict=True):
        torch.testing.assert_close(dropped[1], kept[1])
    assert vectors.shape == (2, 9, TINY_SURROUNDINGS.out)


def test_a_profile_shows_the_sides_of_a_box():
    """Points on a box, 16 bins to the cube: as many in each bin as lie there, planes where the box ends, and nothing elsewhere."""
    rng = torch.Generator().manual_seed(0)
    points, side = torch.rand(4000, 3, generator=rng) - 0.5, torch.randint(3, (4000,), generator=rng)
    normals = torch.nn.functional.one_hot(side, 3) * (2.0 * torch.randint(2, (4000, 1), generator=rng) - 1)
    points = torch.where(normals != 0, normals / 2, points) * torch.tensor([0.7, 0.45, 0.3])
    seen = profile(torch.cat([points, normals], 1)[None], 16)
    assert seen.shape == (1, 3, 16, 4)
    counts, planes, first, last = seen[0].unbind(-1)
    for axis in range(3):
        cells = ((points[:, axis] + 0.5) * 16).floor().long()
        torch.testing.assert_close(counts[axis], torch.bincount(cells, minlength=16).float().log1p())
        ends = {int(cells.min()), int(cells.max())}
        assert set(planes[axis].nonzero()[:, 0].tolist()) == ends
        assert (int(first[axis].argmax()), int(last[axis].argmax())) == (min(ends), max(ends))


def test_a_profile_of_a_dropped_row_is_nothing():
    seen = profile(torch.rand(2, 50, 6) - 0.5, 8, torch.tensor([True, False]))
    assert not seen[0].any()
    assert seen[1].any()
