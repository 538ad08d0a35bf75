"""The surface guide: what lies on the cloud costs nothing, what leaves it or the order costs in proportion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshgpt.guide import UNIT, Spelling, SurfaceGuide
from meshgpt.mesh import sample_surface

BINS = 8


@pytest.fixture
def spelling() -> Spelling:
    """One id a vertex, each the centre of a cell of a coarse grid over the cube."""
    cells = np.stack(np.unravel_index(np.arange(BINS**3), (BINS, BINS, BINS)), -1)
    return Spelling(torch.zeros(3), torch.from_numpy((cells + 0.5) / BINS - 0.5).float(), (0.0,))


@pytest.fixture
def floor() -> np.ndarray:
    """Points of the square y = -0.0625 that fills the cube's width: the cells with y index 3 lie on it."""
    rng = np.random.default_rng(0)
    xz = rng.uniform(-0.5, 0.5, (40_000, 2))
    return np.stack([xz[:, 0], np.full(len(xz), -0.0625), xz[:, 1]], -1)


def id_of(x: int, y: int, z: int) -> int:
    return (x * BINS + y) * BINS + z


def test_distances_are_those_to_the_nearest_point(tetrahedron, spelling):
    cloud = sample_surface(tetrahedron, 4000, np.random.default_rng(0))[:, :3]
    asked = np.random.default_rng(1).uniform(-0.5, 0.5, (200, 3))
    found = SurfaceGuide(cloud, spelling, 1.0).distance(torch.from_numpy(asked).float()[None, None])[0, 0].numpy()
    true = np.linalg.norm(asked[:, None] - cloud[None], axis=-1).min(1)
    assert np.abs(found - true).max() < 0.02  # a cell of the field


def test_a_vertex_on_the_cloud_is_free_and_one_above_pays_for_its_distance(floor, spelling):
    bias = SurfaceGuide(floor, spelling, 2.0).bias(torch.zeros(1, 0, dtype=torch.long), None)[0]
    assert bias[id_of(4, 3, 4)] == 0
    two_cells = 2 / BINS
    torch.testing.assert_close(bias[id_of(4, 5, 4)], torch.tensor(-2.0 * two_cells / UNIT), rtol=0.05, atol=0.0)


def test_an_edge_through_empty_space_pays_though_its_ends_lie_on_the_cloud(spelling):
    """Two parallel walls: from one to the other there is nothing to stand on."""
    rng = np.random.default_rng(0)
    yz = rng.uniform(-0.5, 0.5, (40_000, 2))
    walls = np.concatenate(
        [np.column_stack([np.full(20_000, side), part]) for side, part in zip((-0.4375, 0.4375), np.split(yz, 2), strict=True)]
    )
    guide = SurfaceGuide(walls, spelling, 1.0)
    bias = guide.bias(torch.tensor([[id_of(0, 2, 2)]]), None)[0]
    assert bias[id_of(0, 5, 5)] == 0
    assert bias[id_of(7, 2, 2)] < -20
    triangle = guide.bias(torch.tensor([[id_of(0, 2, 2), id_of(0, 5, 5)]]), None)[0]
    assert triangle[id_of(0, 5, 2)] == 0
    assert triangle[id_of(7, 5, 2)] < -20


def test_what_lies_below_the_last_face_pays(floor, spelling):
    guide = SurfaceGuide(floor, spelling, 1.0)
    last = torch.tensor([[id_of(2, 3, 2), id_of(3, 3, 2), id_of(2, 3, 3)]])
    free, bound = (guide.bias(torch.zeros(1, 0, dtype=torch.long), before)[0] for before in (None, last))
    torch.testing.assert_close(bound[id_of(4, 3, 4)], free[id_of(4, 3, 4)])
    assert bound[id_of(4, 2, 4)] < free[id_of(4, 2, 4)] - 10


def test_no_strength_no_bias(floor, spelling):
    assert not SurfaceGuide(floor, spelling, 0.0).bias(torch.zeros(1, 0, dtype=torch.long), None).any()
