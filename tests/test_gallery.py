"""The nearest mesh is the one whose surface was sampled."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.gallery import Gallery
from meshgpt.mesh import sample_surface


@pytest.fixture(scope="module")
def gallery(val) -> Gallery:
    return Gallery([val.mesh(index) for index in range(20)], val.ids[:20])


@pytest.mark.parametrize("index", [0, 7, 19])
def test_a_cloud_finds_the_mesh_it_was_sampled_from(gallery, val, index):
    cloud = sample_surface(val.mesh(index), 3_000, np.random.default_rng(5))[:, :3]
    name, mesh = gallery.nearest(cloud)
    assert name == val.ids[index]
    np.testing.assert_array_equal(mesh.triangles(), val.mesh(index).triangles())


def test_a_few_points_are_enough(gallery, val):
    assert gallery.nearest(sample_surface(val.mesh(3), 100, np.random.default_rng(0))[:, :3])[0] == val.ids[3]


def test_every_mesh_has_one_id(val):
    with pytest.raises(ValueError, match=r"^2 ids came with 1 meshes; pass at least one mesh, and one id for each$"):
        Gallery([val.mesh(0)], val.ids[:2])
    with pytest.raises(ValueError, match=r"^0 ids came with 0 meshes"):
        Gallery([], [])
