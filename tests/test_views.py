"""Pictures: what hides what, from where it is seen, and that files of them are whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meshgpt.cloud import Cloud
from meshgpt.files import read_mesh, read_points
from meshgpt.mesh import Mesh
from meshgpt.views import AXES, Camera, draw_cloud, draw_mesh, save_picture

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOWARDS = AXES[2]  # from the middle of the cube to the camera


def facing_camera(corners: list[tuple[float, float]], nearness: float | list[float] = 0.0) -> np.ndarray:
    """Places given by how far they are to the right and up in the picture, and how far towards the camera."""
    return np.column_stack([np.array(corners), np.broadcast_to(nearness, len(corners))]) @ AXES


def meshes(*parts: tuple[np.ndarray, list[list[int]]]) -> Mesh:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [np.array(each) + start for (_, each), start in zip(parts, starts, strict=False)]
    return Mesh(np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces))


SQUARE = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
OUTSIDE, INSIDE = [[0, 1, 2], [0, 2, 3]], [[0, 2, 1], [0, 3, 2]]


def is_blue(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 2].astype(int) > pixels[..., 0].astype(int) + 5


def is_orange(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0].astype(int) > pixels[..., 2].astype(int) + 5


def is_white(pixels: np.ndarray) -> np.ndarray:
    return (pixels == 255).all(-1)


def off_the_lines(picture: np.ndarray) -> np.ndarray:
    """Four places of a square that fills the picture which are on none of its lines."""
    at, middle, to = int(len(picture) * 0.25), len(picture) // 2, int(len(picture) * 0.75)
    return picture[[at, middle, middle, to], [middle, at, to, middle]]


# What hides what


@pytest.mark.parametrize("first", [0, 1], ids=["near drawn first", "far drawn first"])
def test_the_nearer_triangle_hides_the_farther(first):
    near = (facing_camera(SQUARE, 0.5), OUTSIDE)
    far = (facing_camera(SQUARE, -0.5), INSIDE)
    assert is_blue(off_the_lines(draw_mesh(meshes(*[near, far][:: 1 - 2 * first]), 96))).all()
    near, far = (near[0], INSIDE), (far[0], OUTSIDE)
    assert is_orange(off_the_lines(draw_mesh(meshes(*[near, far][:: 1 - 2 * first]), 96))).all()


def test_triangles_that_cross_hide_each_other_in_part():
    """One leans to the left, the other to the right; each is in front on its own side."""
    leaning = (facing_camera(SQUARE, [0.6, -0.6, -0.6, 0.6]), OUTSIDE)
    other = (facing_camera(SQUARE, [-0.6, 0.6, 0.6, -0.6]), INSIDE)
    picture = draw_mesh(meshes(leaning, other), 128)
    assert is_blue(picture[56:72, 20:30]).mean() > 0.9
    assert is_orange(picture[56:72, 98:108]).mean() > 0.9
    turn = np.flatnonzero(is_orange(picture[40]))[0]
    assert abs(turn - 64) <= 3


def test_lines_behind_a_face_are_hidden():
    fan = facing_camera([(0.0, 0.0), *((np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False))], -0.5)
    spokes = [[0, i + 1, (i + 1) % 24 + 1] for i in range(24)]
    frame = (facing_camera(SQUARE, 0.5), OUTSIDE)
    hidden, alone = draw_mesh(meshes((fan, spokes), frame), 128), draw_mesh(meshes(frame), 128)
    inner = np.s_[80:110, 70:110]  # within one half of the square
    assert len(np.unique(alone[inner].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(hidden[inner].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(draw_mesh(meshes((fan, spokes)), 128)[inner].reshape(-1, 3), axis=0)) > 5


def test_lines_are_dark_and_thin():
    picture = draw_mesh(meshes((facing_camera(SQUARE), OUTSIDE)), 200).astype(int).sum(-1)
    face = np.median(picture)
    diagonal = picture[np.arange(60, 140), 199 - np.arange(60, 140)]
    assert (diagonal < 0.75 * face).all()
    assert (picture[60:140, 60:140] < 0.95 * face).sum() < 4 * 80


def test_faces_that_share_edges_leave_no_holes():
    side = 24
    steps = np.linspace(-1, 1, side + 1)
    corners = [(x, y) for y in steps for x in steps]
    cells = [(y * (side + 1) + x) for y in range(side) for x in range(side)]
    faces = [face for c in cells for face in ([c, c + 1, c + side + 2], [c, c + side + 2, c + side + 1])]
    rough = 0.2 * np.random.default_rng(0).random(len(corners))
    picture = draw_mesh(meshes((facing_camera(corners, list(rough)), faces)), 128)
    assert not is_white(picture[14:-14, 14:-14]).any()


def test_both_sides_are_drawn_in_their_own_colours():
    bottle = read_mesh(EXAMPLES / "WaterBottle_3.glb")
    picture, inside_out = draw_mesh(bottle, 96), draw_mesh(Mesh(bottle.vertices, bottle.faces[:, ::-1]), 96)
    np.testing.assert_array_equal(is_white(picture), is_white(inside_out))
    shown = ~is_white(picture)
    assert is_blue(picture)[shown].mean() > 0.97
    assert not is_orange(picture).any()
    assert is_orange(inside_out)[shown].mean() > 0.8
    bucket = draw_mesh(read_mesh(EXAMPLES / "bucket.glb"), 96)
    assert is_blue(bucket).any() or is_orange(bucket).any()


def test_faces_towards_the_light_are_brighter():
    cube = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    faces = [[2, 3, 7], [2, 7, 6], [1, 5, 7], [1, 7, 3], [4, 6, 7], [4, 7, 5]]  # top, front, right
    picture = draw_mesh(Mesh(cube, np.array(faces)), 128)
    colours, counts = np.unique(picture[~is_white(picture)].reshape(-1, 3), axis=0, return_counts=True)
    top, front, right = sorted((int(each.sum()) for each in colours[np.argsort(-counts)[:3]]), reverse=True)
    assert top > front + 30
    assert front > right + 30
    assert picture[30, 64].astype(int).sum() > picture[80, 96].astype(int).sum()


# From where it is seen


@pytest.mark.parametrize("name", ["sedan-sports.glb", "bucket.glb", "tent.glb", "WaterBottle_3.glb"])
@pytest.mark.parametrize("size", [96, 129])
def test_shapes_fill_a_white_picture(name, size):
    picture = draw_mesh(read_mesh(EXAMPLES / name), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    rows, columns = (np.flatnonzero(~is_white(picture).all(axis)) for axis in (1, 0))
    low, high = min(rows[0], columns[0]), max(rows[-1], columns[-1])
    assert 0.03 * size < low < 0.09 * size
    assert 0.91 * size < high < 0.97 * size
    assert abs(rows[0] + rows[-1] - (size - 1)) <= 2  # in the middle
    assert abs(columns[0] + columns[-1] - (size - 1)) <= 2


def test_the_frame_of_the_user_does_not_matter():
    mesh = read_mesh(EXAMPLES / "tent.glb")
    picture = draw_mesh(mesh, 128)
    moved = draw_mesh(Mesh(1000 * mesh.vertices + [5e4, -3e4, 7e4], mesh.faces), 128)
    assert (np.abs(moved.astype(int) - picture).max(-1) > 8).mean() < 1e-3
    z_up = np.stack([mesh.vertices[:, 0], -mesh.vertices[:, 2], mesh.vertices[:, 1]], 1)
    np.testing.assert_array_equal(draw_mesh(Mesh(z_up, mesh.faces), 128, up="z"), picture)
    assert (draw_mesh(Mesh(z_up, mesh.faces), 128) != picture).any()


def test_what_is_near_looks_larger():
    close, distant = ((facing_camera([(x - 0.2, 0.0), (x + 0.2, 0.0), (x, 0.4)], z), [[0, 1, 2]]) for x, z in ((-0.5, 0.8), (0.5, -0.8)))
    shown = ~is_white(draw_mesh(meshes(close, distant), 128))
    left, right = (np.ptp(np.flatnonzero(each.any(0))) for each in (shown[:, :64], shown[:, 64:]))
    assert left > 1.15 * right


def test_above_is_above_and_right_is_right():
    right, up, _ = np.eye(3)
    camera = Camera.of(np.concatenate([np.eye(3), -np.eye(3)]), 100)
    (x0, y0, near0), (x1, y1, _), (x2, _, _) = camera.project(np.stack([np.zeros(3), 0.3 * up, 0.3 * right]))
    assert y1 < y0 - 10
    assert abs(x1 - x0) < 1e-6
    assert x2 > x0 + 10
    assert camera.project(0.3 * TOWARDS[None])[0, 2] > near0


def test_a_camera_keeps_the_view_of_another_shape():
    whole = read_mesh(EXAMPLES / "sedan-sports.glb")
    part = Mesh(whole.vertices, whole.faces[:400])
    camera = Camera.of(whole.triangles().reshape(-1, 3), 96)
    outside = is_white(draw_mesh(whole, camera=camera)) & ~is_white(draw_mesh(part, camera=camera))
    assert not outside.any()
    assert (draw_mesh(part, 96) != draw_mesh(part, camera=camera)).any()


@pytest.mark.parametrize("faces", [[[0, 1, 2]], [[0, 0, 1]], [[0, 1, 3]]], ids=["a triangle", "degenerate", "edge-on"])
def test_single_and_flat_faces_can_be_drawn(faces):
    vertices = np.stack([np.zeros(3), np.eye(3)[0], np.eye(3)[1], np.eye(3)[0] / 2 + TOWARDS / 4 * 0])
    picture = draw_mesh(Mesh(vertices, np.array(faces)), 64)
    assert is_white(picture).all() == (faces != [[0, 1, 2]])


def test_a_line_along_the_view_can_be_drawn():
    assert draw_mesh(Mesh(np.stack([np.zeros(3), TOWARDS, 2 * TOWARDS]), np.array([[0, 1, 2]])), 64).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("mesh", "size", "message"),
    [
        (Mesh(np.eye(3), np.zeros((0, 3), int)), 64, "there are no points to fit"),
        (Mesh(np.eye(3) * np.nan, np.array([[0, 1, 2]])), 64, "NaN or infinite"),
        (Mesh(np.eye(3), np.array([[0, 1, 2]])), 4, "^a picture of 4 x 4 pixels cannot be drawn; sizes from 8 to 2048 fit$"),
    ],
)
def test_what_cannot_be_drawn_is_refused(mesh, size, message):
    with pytest.raises(ValueError, match=message):
        draw_mesh(mesh, size)


def test_drawing_is_quick():
    """0.2 s at 512 pixels; ten times that would be a loop over faces or samples."""
    mesh = read_mesh(EXAMPLES / "sedan-sports.glb")
    draw_mesh(mesh, 16)
    start = time.process_time()
    draw_mesh(Mesh(mesh.vertices, mesh.faces[:800]), 512)
    assert time.process_time() - start < 1


def test_dense_meshes_can_be_drawn():
    """Their lines are too many to be seen: they tint the faces and do not blacken them."""
    picture = draw_mesh(read_mesh(EXAMPLES / "crypt.ply"), 128)
    shown = picture[~is_white(picture)]
    assert len(shown) > 0.3 * 128 * 128
    assert (shown.astype(int).sum(-1) > 250).mean() > 0.95


# Clouds


def test_every_point_is_shown():
    corners = facing_camera(SQUARE)
    picture = draw_cloud(Cloud(corners), 100)
    camera = Camera.of(corners, 100)
    for x, y, _ in camera.project(corners) / 3:
        assert is_blue(picture[int(y), int(x)])
    assert is_white(picture).mean() > 0.95


def test_the_nearer_ball_hides_the_farther():
    """Of two in one place, the one whose normal is known to face away is pale."""
    places = facing_camera([(0.0, 0.0), (0.0, 0.0), (1.0, 0.0), (-1.0, 0.0)], [0.4, -0.4, 0.0, 0.0])
    normals = np.stack([TOWARDS, -TOWARDS, TOWARDS, TOWARDS])
    camera = Camera.of(places, 100)
    x, y = (camera.project(places[:1])[0, :2] / 3).astype(int)
    near_faces, near_turned = draw_cloud(Cloud(places, normals), camera=camera), draw_cloud(Cloud(places, -normals), camera=camera)
    assert near_faces[y, x].astype(int).sum() + 100 < near_turned[y, x].astype(int).sum()
    reordered = draw_cloud(Cloud(places[::-1], normals[::-1]), camera=camera)
    np.testing.assert_array_equal(reordered, near_faces)


@pytest.mark.parametrize("name", ["couch.ply", "ribcage.ply", "rocketlauncher.ply"])
def test_clouds_are_drawn(name):
    cloud = read_points(EXAMPLES / name)
    picture = draw_cloud(cloud, 128)
    assert picture.shape == (128, 128, 3)
    assert 0.1 < (~is_white(picture)).mean() < 0.8
    np.testing.assert_array_equal(picture, draw_cloud(cloud, 128))


def test_a_cloud_of_a_million_points_is_drawn():
    points = np.random.default_rng(0).random((1_000_000, 3))
    start = time.process_time()
    assert (~is_white(draw_cloud(Cloud(points), 128))).mean() > 0.3
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", ["bucket.glb", "couch.ply"])
def test_a_transparent_picture_on_white_is_the_picture(name):
    shape = read_mesh(EXAMPLES / name) if name.endswith("glb") else read_points(EXAMPLES / name)
    draw = draw_mesh if isinstance(shape, Mesh) else draw_cloud
    clear = draw(shape, 96, transparent=True).astype(float)
    cover = clear[..., 3:] / 255
    on_white = clear[..., :3] * cover + 255 * (1 - cover)
    assert np.abs(on_white - draw(shape, 96)).max() < 2
    assert clear[0, 0, 3] == 0
    assert clear[..., 3].max() == 255 or name == "couch.ply"  # far balls let white through


# Files


def test_a_picture_is_saved(tmp_path):
    mesh = read_mesh(EXAMPLES / "bucket.glb")
    save_picture(mesh, tmp_path / "bucket.png", size=80)
    with Image.open(tmp_path / "bucket.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), draw_mesh(mesh, 80))


def test_a_cloud_stands_to_the_left_seen_from_the_same_place(tmp_path):
    mesh = read_mesh(EXAMPLES / "sedan-sports.glb")
    cloud = read_points(EXAMPLES / "sedan-sports.glb", 4096)
    save_picture(mesh, str(tmp_path / "both.PNG"), cloud, size=128)
    with Image.open(tmp_path / "both.PNG") as picture:
        both = np.asarray(picture)
    assert both.shape == (128, 256, 3)
    left, right = ~is_white(both[:, :128]), ~is_white(both[:, 128:])
    assert (left & right).sum() > 0.8 * left.sum()
    assert (left & right).sum() > 0.5 * right.sum()


def test_a_mesh_without_faces_leaves_its_half_white(tmp_path):
    save_picture(Mesh(np.zeros((0, 3)), np.zeros((0, 3), int)), tmp_path / "none.png", read_points(EXAMPLES / "couch.ply"), size=64)
    with Image.open(tmp_path / "none.png") as picture:
        assert is_white(np.asarray(picture)[:, 64:]).all()
        assert not is_white(np.asarray(picture)[:, :64]).all()


def test_a_picture_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_picture(read_mesh(EXAMPLES / "bucket.glb"), tmp_path / "bucket.png", size=16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("car.jpg", ValueError, r"^car\.jpg ends in \.jpg; pictures are written as \.png$"),
        ("nowhere/car.png", FileNotFoundError, "^the folder .*nowhere does not exist; make it first, or write elsewhere$"),
    ],
)
def test_pictures_have_a_place_and_an_ending(tmp_path, name, kind, message):
    with pytest.raises(kind, match=message):
        save_picture(read_mesh(EXAMPLES / "bucket.glb"), tmp_path / name, size=16)
