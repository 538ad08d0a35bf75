"""Sheets in cells: what shares a cell and faces different sides stays apart, and comes back as points."""

from __future__ import annotations

import numpy as np
from test_scans import box, to_surface

from meshgpt.mesh import Mesh, sample_surface
from meshgpt.surface_grid import crowds, points_on, sheets_of, sides_of

CELLS = 16


def points_of(mesh: Mesh) -> np.ndarray:
    return sample_surface(mesh, 20_000, np.random.default_rng(0))


def test_sides_are_told_apart():
    normals = np.array([[1, 0.2, 0], [-1, 0, 0.1], [0, 2, 0], [0, -1, 0.5], [0.3, 0, 1], [0, 0, -1]])
    assert sides_of(normals.astype(float)).tolist() == [0, 1, 2, 3, 4, 5]


def test_both_sides_of_a_thin_plate_stay():
    thin = Mesh(box().vertices * [1, 0.01, 1] + 0.01, box().faces)
    sheets = sheets_of(points_of(thin), CELLS)
    up, down = sheets.there[2], sheets.there[3]
    assert up.sum() > 50
    np.testing.assert_array_equal(up, down)
    np.testing.assert_allclose(np.moveaxis(sheets.normal[2], 0, -1)[up], np.broadcast_to([0, 1, 0], (up.sum(), 3)), atol=1e-6)


def test_points_on_sheets_are_on_the_surface(val):
    mesh = val.mesh(40)
    back = points_on(sheets_of(points_of(mesh), CELLS), 3)
    assert np.quantile(to_surface(mesh, back[:, :3]), 0.9) < 0.25 / CELLS
    apart = to_surface(Mesh(box().vertices, box().faces), points_on(sheets_of(points_of(box()), CELLS), 3)[:, :3])
    assert np.quantile(apart, 0.9) < 1e-6, "planes come back exactly"


def test_points_beyond_the_cube_are_left_out():
    far = points_of(box()) + np.array([2.0, 0, 0, 0, 0, 0])
    assert not sheets_of(far, CELLS).there.any()
    assert not crowds(far, CELLS).any()
