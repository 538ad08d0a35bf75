"""Sparse clouds are made denser on the planes of their points, up to the edges and not beyond; dense ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from test_scans import box, to_surface

from meshgpt.cloud import Cloud, thinned
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.metrics import nearest
from meshgpt.upsample import FEW, upsampled


def sparse(mesh: Mesh, count: int) -> Cloud:
    """At random, and not spread evenly."""
    surface = sample_surface(mesh, 8192, np.random.default_rng(0))
    return thinned(Cloud(surface[:, :3], surface[:, 3:]), count, np.random.default_rng(1))


def gaps(mesh: Mesh, cloud: Cloud) -> float:
    """Mean distance from the surface to the cloud."""
    return float(nearest(sample_surface(mesh, 8192, np.random.default_rng(2))[:, :3], cloud.positions)[0].mean())


def test_a_box_is_filled_up_to_its_edges_and_hardly_a_point_lies_off_it():
    cloud = sparse(box(), 256)
    filled = upsampled(cloud)
    np.testing.assert_array_equal(filled.positions[:256], cloud.positions)
    off = to_surface(box(), filled.positions)
    assert np.quantile(off, 0.98) < 1e-6
    assert off.max() < 0.1
    assert gaps(box(), filled) < 0.45 * gaps(box(), cloud)
    before, after = (nearest(box().vertices, points.positions)[0].mean() for points in (cloud, filled))
    assert after < 0.6 * before, "corners"


def test_its_normals_are_those_of_the_sides():
    filled = upsampled(sparse(box(), 256))
    np.testing.assert_allclose(np.abs(filled.normals).max(1), 1)


@pytest.mark.parametrize("index", [0, 40, 80, 120, 160])
def test_real_shapes_are_filled_on_their_surface(index, val):
    mesh = val.mesh(index)
    cloud = sparse(mesh, 512)
    filled = upsampled(cloud)
    assert gaps(mesh, filled) < 0.45 * gaps(mesh, cloud)
    assert to_surface(mesh, filled.positions).mean() < 0.004


@pytest.mark.parametrize("count", [FEW, 4096])
def test_dense_clouds_stay_the_very_same(count, val):
    cloud = sparse(val.mesh(0), count)
    assert upsampled(cloud) is cloud


def test_points_without_normals_stay_as_they_are(val):
    cloud = Cloud(sparse(val.mesh(0), 256).positions)
    assert upsampled(cloud) is cloud
