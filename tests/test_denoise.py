"""Scanned clouds are mended, clean ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.cloud import Cloud, import_open3d, with_normals
from meshgpt.denoise import smoothed, without_floating
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.scans import noisy

SOME = [0, 40, 80, 120, 160]


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
def test_clean_points_that_are_there_twice_stay_as_well(index, val):
    once = cloud_of(val.mesh(index), 2048)
    twice = Cloud(np.repeat(once.positions, 2, 0), np.repeat(once.normals, 2, 0))
    assert smoothed(twice) is twice


@pytest.mark.parametrize("index", SOME)
def test_noise_of_a_hundredth_falls(index, val):
    mesh = val.mesh(index)
    cloud = cloud_of(mesh)
    scattered = noisy(cloud, 0.01, np.random.default_rng(1))
    mended = smoothed(scattered)
    assert ((mended.normals * cloud.normals).sum(1) > 0.99).mean() > 0.9
    assert mean_distance(mesh, mended) < 0.2 * mean_distance(mesh, scattered)


def test_noisy_normals_become_those_of_the_surface_and_noise_falls_all_the_same(val):
    mesh = val.mesh(80)
    cloud, rng = cloud_of(mesh), np.random.default_rng(1)
    normals = cloud.normals + rng.normal(scale=0.15, size=(len(cloud), 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    scattered = noisy(Cloud(cloud.positions, normals), 0.01, rng)
    mended = smoothed(scattered)
    assert (mended.normals * cloud.normals).sum(1).mean() > (1 + (normals * cloud.normals).sum(1).mean()) / 2
    assert mean_distance(mesh, mended) < 0.4 * mean_distance(mesh, scattered)


@pytest.mark.parametrize("fold", [False, True])
def test_points_that_noise_carried_over_an_edge_go_back_to_it(fold):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3000, 2)) * [0.2, 1.0]
    level = np.stack([first[:, 0], 0 * first[:, 0], first[:, 1]], 1)
    upright = np.stack([0 * second[:, 0], (1 if fold else -1) * second[:, 0], second[:, 1]], 1)
    normals = np.repeat([[0.0, 1.0, 0.0], [1.0 if fold else -1.0, 0.0, 0.0]], 3000, 0)
    scattered = noisy(Cloud(np.concatenate([level, upright]), normals), 0.01, rng)
    over = scattered.positions[:3000, 0]
    kept = smoothed(scattered).positions[:3000, 0]
    assert (over < -0.004).sum() > 30
    assert (kept < -0.004).sum() < 3
    np.testing.assert_allclose(kept[over > 0.05], over[over > 0.05], atol=1e-6)


def test_noise_falls_where_normals_are_estimated_too(val):
    mesh = val.mesh(80)
    scattered = with_normals(Cloud(noisy(cloud_of(mesh), 0.01, np.random.default_rng(1)).positions))
    assert mean_distance(mesh, smoothed(scattered)) < 0.6 * mean_distance(mesh, scattered)


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
