"""The planes that mirror a shape are found from one side of it."""

from __future__ import annotations

import numpy as np
import pytest
from test_scans import box

from meshgpt.mesh import Mesh
from meshgpt.scans import DepthCamera, seen_by, towards
from meshgpt.symmetry import Mirror, mirrors_of
from meshgpt.viewpoint import Sight, facing

MOVED = np.array([0.03, 0.0, -0.05])


@pytest.fixture(scope="module")
def mirrors() -> tuple[Mirror, Mirror]:
    """Of a box that is not in the middle."""
    out, rng = towards(0.6, 0.5), np.random.default_rng(0)
    seen = seen_by(DepthCamera(), out, Mesh(box().vertices + MOVED, box().faces), rng)
    eye = DepthCamera().distance * out
    return mirrors_of(facing(seen, eye), Sight(seen, eye))


def test_both_planes_of_a_box_go_through_its_middle(mirrors):
    for mirror, axis in zip(mirrors, (0, 2), strict=True):
        assert mirror.axis == axis
        middle = (box().vertices[:, axis].min() + box().vertices[:, axis].max()) / 2 + MOVED[axis]
        assert mirror.place == pytest.approx(middle, abs=0.02)
        assert mirror.matched > 0.2
        assert mirror.free < 0.05


def test_an_image_of_an_image_is_the_shape(mirrors):
    points = np.random.default_rng(0).normal(size=(20, 6))
    for mirror in mirrors:
        image = mirror.image(points)
        assert np.abs(image - points)[:, mirror.axis].max() > 0.1
        np.testing.assert_allclose(mirror.image(image), points)
