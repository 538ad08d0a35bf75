"""Clouds: which ones are refused and in which words, normals that face outwards, thinning."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from meshgpt.cloud import SYSTEM_PACKAGES, Cloud, _visible_side, checked, import_open3d, surface, thinned, with_normals
from meshgpt.files import read_points

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def sphere(count: int = 2000, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def turned(points: np.ndarray) -> np.ndarray:
    return points @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].T


def flat(count: int = 500) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3)) * [1, 0, 1]


NAN_IN_THREE = np.where(np.isin(np.arange(2000), [5, 7, 1999])[:, None], [0, np.nan, 0], sphere())


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (sphere(63), "^63 points are too few to show a surface; pass at least 64, better some thousands$"),
        (sphere(1)[:0], "^0 points are too few"),
        (NAN_IN_THREE, r"^3 of 2000 points are NaN or infinite; keep the others with points\[np.isfinite\(points\).all\(1\)\]$"),
        (sphere() * [1, 1, np.inf], "^2000 of 2000 points are NaN or infinite"),
        (np.full((100, 3), 7.0), "^all 100 points are the same point; pass points that are spread"),
        (turned(np.linspace(0, 1, 99)[:, None] * [1.0, 0, 0]) + 5, "^all 99 points lie on one line; pass points that are spread"),
        (np.linspace(0, 1, 99, dtype=np.float32)[:, None] * np.float32([1, 2, 3]), "^all 99 points lie on one line"),
    ],
)
def test_clouds_without_a_surface_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        checked(Cloud(points))


@pytest.mark.parametrize("points", [flat(), turned(flat()), flat().astype(np.float32), flat() + 1e5, flat() * [1, 0, 1e-3], sphere(64)])
def test_flat_thin_and_small_clouds_are_fine(points):
    cloud = checked(Cloud(points))
    assert cloud.positions is points
    normals = with_normals(cloud).normals
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-9)


def test_normals_are_brought_to_length_one():
    np.testing.assert_allclose(checked(Cloud(sphere(), 3 * sphere())).normals, sphere())


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_normals_of_which_one_is_missing_count_as_missing(bad):
    normals = sphere()
    normals[3] = bad
    assert checked(Cloud(sphere(), normals)).normals is None


def test_as_many_normals_as_points():
    cloud = Cloud(sphere())
    object.__setattr__(cloud, "normals", sphere(10))  # past the shape checker, which only the tests have
    with pytest.raises(ValueError, match=r"^10 normals do not fit 2000 points; pass one for each, or none$"):
        checked(cloud)


@pytest.mark.parametrize(
    "place", [lambda p: p, lambda p: p * 1e-4 + 2e3, lambda p: (p * 50).astype(np.float32)], ids=["unit", "far", "single"]
)
def test_estimated_normals_face_outwards(place):
    normals = with_normals(Cloud(place(sphere()))).normals
    assert ((normals * sphere()).sum(1) > 0.95).all()


def test_estimated_normals_agree_with_those_of_a_real_mesh():
    couch = read_points(EXAMPLES / "couch.ply")
    estimated = with_normals(Cloud(couch.positions)).normals
    alike = (estimated * couch.normals).sum(1)
    assert np.median(np.abs(alike)) > 0.95
    assert (alike > 0).mean() > 0.75  # neighbours alone get 0.63 right


def sheet() -> np.ndarray:
    along, across = np.random.default_rng(0).random((2, 3000))
    return np.stack([along, 0.1 * np.sin(6 * along) * np.cos(5 * across), across], 1)


def test_the_normals_of_a_sheet_agree():
    up = (with_normals(Cloud(sheet())).normals[:, 1] > 0).mean()
    assert max(up, 1 - up) > 0.95


def test_it_does_not_matter_which_side_the_neighbours_chose():
    normals = with_normals(Cloud(sheet())).normals
    np.testing.assert_array_equal(_visible_side(sheet(), normals), _visible_side(sheet(), -normals))


def test_repeated_points_get_the_same_good_normal():
    repeated = np.repeat(sphere(300), 40, axis=0)
    normals = with_normals(Cloud(repeated)).normals
    assert ((normals * repeated).sum(1) > 0.8).all()
    np.testing.assert_array_equal(normals[::40], normals[39::40])


def test_corners_of_a_box_have_normals():
    corners = np.array(np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1])).reshape(3, -1).T  # all on one sphere: qhull refuses them
    assert np.isfinite(with_normals(Cloud(np.repeat(corners, 10, axis=0))).normals).all()


def test_flat_clouds_face_up():
    np.testing.assert_allclose(with_normals(Cloud(flat())).normals, np.tile([0.0, 1, 0], (500, 1)), atol=1e-12)


def test_known_normals_are_kept():
    cloud = Cloud(sphere(), -sphere())
    assert with_normals(cloud) is cloud


def test_estimating_changes_neither_the_cloud_nor_its_points():
    cloud, before = Cloud(sphere()), sphere()
    again = with_normals(cloud)
    assert cloud.normals is None
    assert again.positions is cloud.positions
    np.testing.assert_array_equal(cloud.positions, before)
    np.testing.assert_array_equal(again.normals, with_normals(cloud).normals)


def test_a_missing_system_library_is_named_with_its_packages(tmp_path, monkeypatch):
    (tmp_path / "open3d.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    with pytest.raises(
        ImportError, match=r"^estimating normals needs open3d.*libGL.so.1.*apt-get install libegl1 .*libgl1.*libx11-6$"
    ) as caught:
        with_normals(Cloud(sphere()))
    assert caught.value.__suppress_context__
    assert len(SYSTEM_PACKAGES.split()) == 6


def test_a_missing_open3d_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(ImportError, match=r"^this test needs open3d.*pip install open3d$"):
        import_open3d("this test")


def test_thinned_is_a_random_subset_in_order_without_repetition():
    points, normals = np.arange(3000.0).reshape(-1, 3), np.arange(3000.0).reshape(-1, 3) + 0.5
    cloud = thinned(Cloud(points, normals), 100, np.random.default_rng(0))
    assert len(cloud) == len(np.unique(cloud.positions, axis=0)) == 100
    assert (np.diff(cloud.positions[:, 0]) > 0).all()
    assert np.isin(cloud.positions[:, 0], points[:, 0]).all()
    np.testing.assert_array_equal(cloud.normals, cloud.positions + 0.5)
    again, other = (thinned(Cloud(points), 100, np.random.default_rng(seed)).positions for seed in (0, 1))
    np.testing.assert_array_equal(again, cloud.positions)
    assert (other != again).any()


def test_thinned_leaves_small_clouds_alone():
    cloud = Cloud(sphere(100))
    assert thinned(cloud, 100, np.random.default_rng(0)) is cloud


def test_surface_is_positions_beside_normals():
    np.testing.assert_array_equal(surface(Cloud(sphere(), -sphere())), np.concatenate([sphere(), -sphere()], 1))
    assert surface(read_points(EXAMPLES / "ribcage.ply")).shape == (8192, 6)
