"""Scanned clouds are mended, clean ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.cloud import Cloud, import_open3d, with_normals
from meshgpt.denoise import smoothed, without_floating
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.scans import noisy

SOME = [0, 40, 80, 120, 160]
THIN = 40  # its sheets are about as far apart as the noise is wide


def cloud_of(mesh: Mesh, count: int = 8192) -> Cloud:
    surface = sample_surface(mesh, count, np.random.default_rng(0))
    return Cloud(surface[:, :3], surface[:, 3:])


def mean_distance(mesh: Mesh, cloud: Cloud) -> float:
    open3d = import_open3d("a test")
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(open3d.core.Tensor(mesh.vertices.astype(np.float32)), open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    return float(scene.compute_distance(open3d.core.Tensor(cloud.positions.astype(np.float32))).numpy().mean())


@pytest.mark.parametrize("index", SOME)
@pytest.mark.parametrize("count", [512, 8192])
def test_clean_clouds_stay_the_very_same(index, count, val):
    cloud = cloud_of(val.mesh(index), count)
    assert smoothed(cloud) is cloud
    assert without_floating(cloud).positions.shape[0] >= count - 2


@pytest.mark.parametrize("index", SOME)
def test_noise_of_a_hundredth_falls(index, val):
    mesh = val.mesh(index)
    scattered = noisy(cloud_of(mesh), 0.01, np.random.default_rng(1))
    mended = smoothed(scattered)
    np.testing.assert_array_equal(mended.normals, scattered.normals)
    assert mean_distance(mesh, mended) < (0.7 if index == THIN else 0.5) * mean_distance(mesh, scattered)


def test_noise_falls_where_normals_are_estimated_too(val):
    mesh = val.mesh(80)
    scattered = with_normals(Cloud(noisy(cloud_of(mesh), 0.01, np.random.default_rng(1)).positions))
    assert mean_distance(mesh, smoothed(scattered)) < 0.8 * mean_distance(mesh, scattered)


def test_both_sides_of_a_noisy_sheet_stay_apart():
    rng = np.random.default_rng(0)
    side = np.repeat([1.0, -1.0], 3000)
    flat = np.stack([rng.random(6000), 0.02 * side, rng.random(6000)], 1)
    sheet = noisy(Cloud(flat, np.stack([0 * side, side, 0 * side], 1)), 0.005, rng)
    heights = smoothed(sheet).positions[:, 1]
    assert np.abs(heights - 0.02 * side).mean() < 0.002
    assert np.abs(sheet.positions[:, 1] - 0.02 * side).mean() > 0.0035


def test_points_that_float_go_and_all_others_stay(val):
    cloud = cloud_of(val.mesh(0))
    strays = np.random.default_rng(0).uniform(1, 3, (30, 3))
    mended = without_floating(Cloud(np.concatenate([cloud.positions, strays])))
    np.testing.assert_array_equal(mended.positions, cloud.positions)


def test_a_cloud_that_is_dense_in_places_only_stays_whole():
    rng = np.random.default_rng(0)
    uneven = Cloud(np.concatenate([rng.random((4000, 3)) * 0.1, rng.random((1000, 3)) * 5]))
    assert without_floating(uneven) is uneven


def test_a_cloud_without_normals_is_not_smoothed():
    cloud = Cloud(np.random.default_rng(0).random((200, 3)))
    assert smoothed(cloud) is cloud
