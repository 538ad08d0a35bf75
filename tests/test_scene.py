"""A scene that is turned is the same scene in another frame."""

from __future__ import annotations

import numpy as np
import pytest
from test_scans import box

from meshgpt.mesh import Mesh
from meshgpt.scans import DepthCamera, seen_by, towards
from meshgpt.scene import INPUTS, TURNS, Frame, Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    out = towards(0.6, 0.5)
    moved = Mesh(box().vertices + np.array([0.05, 0.0, -0.02]), box().faces)
    seen = seen_by(DepthCamera(pixels=64), out, moved, np.random.default_rng(0))
    frame = Frame.of(seen)
    return Scene.of(frame.apply(seen), frame.apply(DepthCamera().distance * out))


@pytest.mark.parametrize("way", TURNS)
def test_images_turn_with_the_scene(way, scene):
    turned = scene.turned(way)
    for mirror in scene.mirrors:
        axis = int(np.abs(way[:, mirror.axis]).argmax())
        other = next(one for one in turned.mirrors if one.axis == axis)
        image = mirror.image(scene.points)
        expected = np.concatenate([image[:, :3] @ way.T, image[:, 3:] @ way.T], 1)
        np.testing.assert_allclose(other.image(turned.points), expected, atol=1e-12)
    np.testing.assert_allclose(turned.eye, way @ scene.eye)


def test_the_grid_holds_the_points(scene):
    grid = scene.grid(16)
    assert grid.shape == (8, 8, 8, 8 * INPUTS)
    counted = np.expm1(grid.reshape(8, 8, 8, 8, INPUTS)[..., :6]).sum()
    inside = (np.abs(scene.points[:, :3]) < 0.5).all(1).sum()
    assert counted == pytest.approx(inside, rel=1e-3)
