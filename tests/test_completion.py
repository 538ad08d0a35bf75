"""What a camera did not see is added; what was seen, and whole clouds, stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshgpt.cloud import Cloud
from meshgpt.completion import whole_of
from meshgpt.generate import Sampling
from meshgpt.mesh import sample_surface
from meshgpt.metrics import nearest
from meshgpt.model import MeshGPT
from meshgpt.scans import degraded
from meshgpt.scene import in_eights, out_of_eights
from meshgpt.train.sources import evenly, read_parquet

TEST = Path(__file__).resolve().parents[1] / "data" / "artist-kits" / "test.parquet"
WHOLE = ("clean", "noise", "points-512", "no-normals")


def shown(mesh, condition: str) -> Cloud:
    rng = np.random.default_rng(0)
    surface = sample_surface(mesh, 8192, rng)
    return degraded(condition, mesh, Cloud(surface[:, :3], surface[:, 3:]), rng)


def test_eights_come_back():
    grid = np.random.default_rng(0).normal(size=(5, 8, 8, 8))
    np.testing.assert_array_equal(out_of_eights(in_eights(grid)), grid)
    assert in_eights(grid)[0, 0, 0, :5].tolist() == grid[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module", params=[20, 90, 130])
def scanned(request, val) -> tuple:
    mesh = val.mesh(request.param)
    cloud = shown(mesh, "scan")
    return mesh, cloud, whole_of(cloud)


def test_the_rest_of_a_shape_is_added(scanned):
    mesh, cloud, whole = scanned
    surface = sample_surface(mesh, 8192, np.random.default_rng(1))[:, :3]
    before = nearest(surface, cloud.positions)[0].mean()
    after = nearest(surface, np.concatenate([cloud.positions, whole.added.positions]))[0].mean()
    assert after < 0.6 * before


def test_what_was_seen_stays_where_it_was(scanned):
    _, cloud, whole = scanned
    np.testing.assert_array_equal(whole.seen.positions, cloud.positions)
    np.testing.assert_allclose(np.linalg.norm(whole.seen.normals, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(whole.added.normals, axis=1), 1)


def test_a_shape_is_completed_alike_in_every_frame(scanned):
    _, cloud, whole = scanned
    moved = 1000 * cloud.positions + np.array([3e3, -2e3, 5e3])
    again = whole_of(Cloud(np.stack([moved[:, 0], -moved[:, 2], moved[:, 1]], 1)), up="z")
    assert abs(len(again.added) - len(whole.added)) < 0.02 * len(whole.added)
    back = np.stack([again.added.positions[:, 0], again.added.positions[:, 2], -again.added.positions[:, 1]], 1)
    assert np.quantile(nearest((back - np.array([3e3, -2e3, 5e3])) / 1000, whole.added.positions)[0], 0.95) < 0.01


@pytest.mark.parametrize("condition", WHOLE)
def test_whole_clouds_are_left_alone(condition):
    meshes = read_parquet(TEST).at_most(800)
    for index in evenly(len(meshes), 8):
        assert whole_of(shown(meshes.mesh(index), condition)) is None, meshes.ids[index]


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["clean", "noise", "points-512", "marching-cubes"])
def test_a_hundred_whole_clouds_are_left_alone(condition):
    meshes = read_parquet(TEST).at_most(800)
    taken = [meshes.ids[index] for index in evenly(len(meshes), 100) if whole_of(shown(meshes.mesh(index), condition)) is not None]
    assert not taken


def test_only_scans_are_looked_at_otherwise(val):
    model, mesh = MeshGPT.from_pretrained(device="cpu"), val.mesh(90)
    clean, scan = shown(mesh, "clean"), shown(mesh, "scan")
    without = Sampling(complete="none")
    for cloud, same in ((clean, True), (scan, False)):
        with_it, left = model.look(cloud), model.look(cloud, sampling=without)
        assert np.array_equal(with_it.points, left.points) == same
        assert np.array_equal(with_it.dense.positions, left.dense.positions) == same
    assert len(model.look(scan).known) < len(model.look(scan).dense), "vertices settle on what was seen"
