"""Degraded clouds: what a camera sees lies on the shape, on the side that it looks at; and frames change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshgpt import MeshGPT
from meshgpt.cloud import Cloud, import_open3d
from meshgpt.files import read_points
from meshgpt.generate import Sampling
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.scans import CONDITIONS, DepthCamera, degraded, scan, spoiled

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
EXACT = DepthCamera(noise=0.0, flying=0.0)
IMAGES = {"near": np.full((200, 200), 1.0), "far": np.full((200, 200), 2.0)}


def box() -> Mesh:
    """The cube of side 0.8, closed."""
    corners = np.array([(x, y, z) for x in (-0.4, 0.4) for y in (-0.4, 0.4) for z in (-0.4, 0.4)])
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(corners, np.array([face for a, b, c, d in squares for face in ((a, b, c), (a, c, d))]))


def to_surface(mesh: Mesh, positions: np.ndarray) -> np.ndarray:
    """Distances."""
    open3d = import_open3d("a test")
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(open3d.core.Tensor(mesh.vertices.astype(np.float32)), open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    return scene.compute_distance(open3d.core.Tensor(positions.astype(np.float32))).numpy()


def sides(positions: np.ndarray) -> set[tuple[int, int]]:
    """Which sides of the box hold many of the points."""
    found = {(axis, sign): np.isclose(positions[:, axis], sign * 0.4, atol=1e-5).sum() for axis in range(3) for sign in (-1, 1)}
    return {side for side, count in found.items() if count > 50}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_each_condition_gives_points_around_the_surface_and_the_same_ones_again(condition, val):
    mesh = val.mesh(0)
    surface = sample_surface(mesh, 4096, np.random.default_rng(0))
    clean = Cloud(surface[:, :3], surface[:, 3:])
    cloud = degraded(condition, mesh, clean, np.random.default_rng(1))
    assert 200 < len(cloud) < 40_000
    assert np.median(to_surface(mesh, cloud.positions)) < 0.02
    np.testing.assert_array_equal(cloud.positions, degraded(condition, mesh, clean, np.random.default_rng(1)).positions)
    assert (cloud.normals is None) == (condition in ("no-normals", "scan", "scan-4"))


def test_an_unknown_condition_is_named(tetrahedron):
    cloud = Cloud(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"^the condition 'fog' is unknown; use clean, noise, points-512, points-256, no-normals, scan"):
        degraded("fog", tetrahedron, cloud, np.random.default_rng(0))


def test_a_camera_sees_the_sides_that_face_it_and_nothing_else():
    seen = scan(box(), 1, np.random.default_rng(0), EXACT).positions
    assert to_surface(box(), seen).max() < 1e-5
    found = sides(seen)
    assert 2 <= len(found) <= 3
    assert (1, -1) not in found, "the camera stands above the shape"
    assert not {(axis, -sign) for axis, sign in found} & found


def test_four_cameras_see_all_but_the_bottom():
    assert sides(scan(box(), 4, np.random.default_rng(0), EXACT).positions) == {(0, -1), (0, 1), (1, 1), (2, -1), (2, 1)}


def test_noise_grows_with_the_square_of_the_distance():
    camera, rng = DepthCamera(flying=0.0), np.random.default_rng(0)
    spread = {name: (spoiled(depth, camera, rng) - depth).std() for name, depth in IMAGES.items()}
    assert spread["near"] == pytest.approx(camera.noise, rel=0.05)
    assert spread["far"] == pytest.approx(4 * camera.noise, rel=0.05)


def test_flying_pixels_hang_between_a_surface_and_the_one_behind():
    camera = replace(EXACT, flying=0.5)
    depth = np.where(np.indices((200, 200)).sum(0) % 100 < 50, 1.0, 1.5)
    flown = spoiled(depth, camera, np.random.default_rng(0))
    moved = flown != depth
    assert 0.005 < moved.mean() < 0.015, "half of two pixels in a hundred"
    assert ((flown[moved] > 1) & (flown[moved] < 1.5)).all()


def test_pixels_that_see_nothing_stay_empty():
    depth = np.where(np.indices((50, 50))[0] < 25, 1.0, np.inf)
    flown = spoiled(depth, DepthCamera(flying=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(np.isfinite(flown), np.isfinite(depth))
    assert flown[np.isfinite(depth)].max() < 1.2


FRAMES = {
    "millimetres": (lambda xyz: xyz * 1000, "y"),
    "far from the origin": (lambda xyz: xyz + np.array([3e4, -2e4, 5e4]), "y"),
    "z up": (lambda xyz: np.stack([xyz[:, 0], -xyz[:, 2], xyz[:, 1]], 1), "z"),
}


@pytest.fixture(scope="module")
def shipped() -> MeshGPT:
    return MeshGPT.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def tent() -> Cloud:
    return read_points(EXAMPLES / "tent.glb", count=2048)


@pytest.fixture(scope="module")
def tent_mesh(shipped, tent) -> Mesh:
    return shipped.generate(tent, sampling=Sampling(max_faces=10, tries=4))


@pytest.mark.parametrize("frame", FRAMES)
def test_the_mesh_is_the_same_in_every_frame(frame, shipped, tent, tent_mesh):
    move, up = FRAMES[frame]
    turned = tent.normals if up == "y" else move(tent.normals)
    mesh = shipped.generate(Cloud(move(tent.positions), turned), up=up, sampling=Sampling(max_faces=10, tries=4))
    np.testing.assert_array_equal(mesh.faces, tent_mesh.faces)
    np.testing.assert_allclose(mesh.vertices, move(tent_mesh.vertices), rtol=1e-7, atol=1e-6)
