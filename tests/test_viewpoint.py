"""Where a camera was is found from what it saw; a whole shape was seen from nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from test_scans import box

from meshgpt.cloud import Cloud
from meshgpt.mesh import sample_surface
from meshgpt.scans import DepthCamera, noisy, seen_by, towards
from meshgpt.viewpoint import Sight, facing, only_eye_of, viewpoint_of

OUT = towards(0.6, 0.5)


def whole(mesh, count: int = 8192) -> Cloud:
    surface = sample_surface(mesh, count, np.random.default_rng(0))
    return Cloud(surface[:, :3], surface[:, 3:])


def from_one_side(mesh) -> np.ndarray:
    return seen_by(DepthCamera(), OUT, mesh, np.random.default_rng(0))


@pytest.mark.parametrize("index", [20, 60, 100, 140])
def test_the_eye_is_found(index, val):
    seen = from_one_side(val.mesh(index))
    found = only_eye_of(Cloud(seen))
    assert found is not None, "one side was seen"
    middle = (seen.min(0) + seen.max(0)) / 2
    true, way = DepthCamera().distance * OUT - middle, found.eye - middle
    assert true @ way / np.linalg.norm(true) / np.linalg.norm(way) > np.cos(np.radians(15))


@pytest.mark.parametrize("index", [20, 60, 100, 140])
def test_a_whole_shape_was_not_seen_from_one_side(index, val):
    cloud = whole(val.mesh(index))
    assert only_eye_of(cloud) is None
    assert only_eye_of(Cloud(cloud.positions)) is None, "without normals"
    assert only_eye_of(noisy(cloud, 0.01, np.random.default_rng(0))) is None


def test_normals_that_look_away_from_the_eye_are_not_from_one_side():
    seen = from_one_side(box())
    normals = facing(seen, DepthCamera().distance * OUT).normals
    assert only_eye_of(Cloud(seen, normals)) is not None
    assert only_eye_of(Cloud(seen, -normals)) is None


def test_normals_face_the_eye():
    seen = from_one_side(box())
    cloud = facing(seen, DepthCamera().distance * OUT)
    assert (np.abs(cloud.normals).max(1) > 0.97).mean() > 0.8
    assert (((DepthCamera().distance * OUT - seen) * cloud.normals).sum(1) >= 0).all()


def test_space_is_free_before_what_was_seen_and_beside_it():
    eye = DepthCamera().distance * OUT
    seen = seen_by(DepthCamera(noise=0.0, flying=0.0), OUT, box(), np.random.default_rng(0))
    sight = Sight(seen, eye)
    some = seen[:: len(seen) // 50]
    towards_eye = (eye - some) / np.linalg.norm(eye - some, axis=1, keepdims=True)
    assert np.abs(sight.behind(some)).max() < 6 * sight.grain
    assert (sight.behind(some + 0.2 * towards_eye) < 0).all()
    assert (sight.behind(some - 0.2 * towards_eye) > 0).mean() > 0.9
    assert (sight.behind(seen.mean(0) + np.array([[0.0, 2.0, 0.0]])) == -np.inf).all()


def test_the_eye_is_the_likelier_the_fewer_points_it_hides(val):
    seen = from_one_side(val.mesh(60))
    assert viewpoint_of(seen).hidden < 0.05
