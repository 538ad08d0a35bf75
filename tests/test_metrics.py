"""Metrics of a pair against point-cloud-utils, brute force and closed forms; and that worse meshes score worse."""

from __future__ import annotations

import numpy as np
import point_cloud_utils as pcu
import pytest
from conftest import mesh_of_solid
from scipy.spatial.distance import cdist

from meshgpt.mesh import Mesh, face_normals, sample_surface
from meshgpt.metrics import (
    Compared,
    Pairing,
    absnc_tree,
    cd_bpt1024_l2,
    cd_ma100k,
    ecd_ma100k,
    f_1pct_ma100k,
    f_2pct_ma100k,
    face_ratio,
    fit_to_cloud,
    hd_bpt1024,
    nc_ma100k,
    nc_tree,
    near_edge,
    nearest,
    vertex_ratio,
)


def square(height: float, size: float = 1.0) -> Mesh:
    corners = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]) * size / 2 + [0, height, 0]
    return Mesh(corners, np.array([[0, 2, 1], [0, 3, 2]]))


def cube(size: float = 1.0, move: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    vertices = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3) - 0.5
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return Mesh(vertices * size + move, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def moved(mesh: Mesh, scale: float, by: float) -> Mesh:
    return Mesh(mesh.vertices * scale + [by, 2 * by, -by], mesh.faces)


@pytest.fixture
def few_points(monkeypatch) -> None:
    """A tenth of the 100,000 points, where what is tested does not rest on how many there are."""
    monkeypatch.setattr("meshgpt.metrics.MESHANYTHING_POINTS", 10_000)


@pytest.fixture(scope="module")
def clouds(val) -> tuple[np.ndarray, np.ndarray]:
    """Fixed samples of two real meshes, with their normals."""
    return tuple(sample_surface(val.mesh(index), 700 + index, np.random.default_rng(index)) for index in (3, 50))


@pytest.fixture(scope="module")
def worse(val) -> dict[str, Compared]:
    """A real mesh beside itself, as it is and made worse."""
    mesh = val.mesh(10)
    noise = np.random.default_rng(0).normal(0, 0.02, mesh.vertices.shape)
    flipped = np.where(np.arange(len(mesh.faces))[:, None] % 2, mesh.faces, mesh.faces[:, ::-1])
    return {
        "same": Compared(mesh, mesh),
        "noise": Compared(Mesh(mesh.vertices + noise, mesh.faces), mesh),
        "holes": Compared(Mesh(mesh.vertices, mesh.faces[::2]), mesh),
        "flipped": Compared(Mesh(mesh.vertices, flipped), mesh),
    }


def test_nearest_is_that_of_all_pairs():
    one, two = (np.random.default_rng(seed).random((300, 3)) for seed in (0, 1))
    distance, which = nearest(one, two)
    np.testing.assert_allclose(distance, cdist(one, two).min(1))
    np.testing.assert_array_equal(which, cdist(one, two).argmin(1))


def test_distances_agree_with_point_cloud_utils_and_all_pairs(clouds):
    one, two = clouds
    pairing, apart = Pairing.of(one, two), cdist(one[:, :3], two[:, :3])
    positions = [np.ascontiguousarray(each[:, :3]) for each in clouds]
    assert pairing.mean_distance() == pytest.approx(pcu.chamfer_distance(*positions), rel=1e-6)
    assert pairing.mean_distance() == pytest.approx(apart.min(1).mean() + apart.min(0).mean(), rel=1e-12)
    assert pairing.largest_distance() == pytest.approx(pcu.hausdorff_distance(*positions), rel=1e-6)
    assert pairing.largest_distance() == pytest.approx(max(apart.min(1).max(), apart.min(0).max()), rel=1e-12)


def test_bpt_distances_agree_with_point_cloud_utils_on_the_samples_they_took(val):
    compared = Compared(val.mesh(3), val.mesh(50), seed=2)
    positions = [np.ascontiguousarray(each[:, :3]) for each in (compared.boxed.one, compared.boxed.two)]
    assert [each.shape for each in positions] == [(1024, 3), (1024, 3)]
    assert cd_bpt1024_l2(compared) == pytest.approx(pcu.chamfer_distance(*positions), rel=1e-6)
    assert hd_bpt1024(compared) == pytest.approx(pcu.hausdorff_distance(*positions), rel=1e-6)


def test_f_scores_and_normals_agree_with_all_pairs(clouds):
    one, two = clouds
    pairing, apart = Pairing.of(one, two), cdist(one[:, :3], two[:, :3])
    precision, recall = (apart.min(1) < 0.05).mean(), (apart.min(0) < 0.05).mean()
    assert pairing.f_score(0.05) == pytest.approx(2 / (1 / precision + 1 / recall), rel=1e-12)
    assert pairing.f_score(1e-9) == 0
    there, back = pairing.cosines()
    np.testing.assert_allclose(there, (one[:, 3:] * two[apart.argmin(1), 3:]).sum(1))
    np.testing.assert_allclose(back, (two[:, 3:] * one[apart.argmin(0), 3:]).sum(1))


def test_points_near_edges_agree_with_all_pairs():
    points = sample_surface(cube(0.05), 2_000, np.random.default_rng(0))
    near = (cdist(points[:, :3], points[:, :3]) <= 0.004) & (np.abs(points[:, 3:] @ points[:, 3:].T) < 0.2)
    np.testing.assert_array_equal(near_edge(points), near.any(1))
    assert 0 < near.any(1).mean() < 1


def test_where_points_are_dense_edges_are_still_found(monkeypatch):
    points = sample_surface(cube(0.05), 20_000, np.random.default_rng(0))
    every = near_edge(points)
    monkeypatch.setattr("meshgpt.metrics.MOST_NEIGHBOURS", 500_000)
    some = near_edge(points)
    assert not (some & ~every).any()
    assert 0.9 * every.sum() < some.sum() < every.sum()


def test_two_parallel_squares_are_twice_their_distance_apart(few_points):
    compared = Compared(square(0.1), square(0.0))
    assert cd_ma100k(compared) == pytest.approx(0.2, rel=4e-3)  # there and back; sideways the points are 0.005 apart
    assert nc_ma100k(compared) == pytest.approx(1.0)
    assert f_2pct_ma100k(compared) == 0


def test_f_scores_change_at_their_thresholds():
    close, apart, away = (Compared(square(height), square(0.0)) for height in (0.006, 0.016, 0.021))
    assert f_1pct_ma100k(close) > 0.99
    assert f_1pct_ma100k(apart) == 0
    assert f_2pct_ma100k(apart) > 0.99
    assert f_2pct_ma100k(away) == 0


def test_what_is_measured_in_longest_sides_does_not_change_with_size_and_place(few_points):
    shapes, others = (cube(), cube(0.8)), (moved(cube(), 1e3, 7.0), moved(cube(0.8), 1e3, 7.0))
    here, there = Compared(*shapes), Compared(*others)
    for metric in (cd_ma100k, nc_ma100k, cd_bpt1024_l2, hd_bpt1024, nc_tree):
        assert metric(here) == pytest.approx(metric(there), rel=1e-6)


def test_a_smaller_cube_inside_a_cube_has_known_distances():
    """From the inner cube every point is 0.1 from the outer one; back it is more near edges and corners, so integrate."""
    grid = (np.arange(400) + 0.5) / 400 - 0.5
    outside = np.maximum(np.abs(grid) - 0.4, 0)
    back = np.sqrt(0.1**2 + outside[:, None] ** 2 + outside[None] ** 2).mean()
    edge = np.sqrt(0.02 + outside**2).mean()  # from the outer edges to the inner ones
    compared = Compared(cube(0.8), cube())
    assert cd_ma100k(compared) == pytest.approx(0.1 + back, rel=3e-3)
    assert ecd_ma100k(compared) == pytest.approx(np.sqrt(0.02) + edge, rel=0.04)  # edge points are up to 0.004 from their edge
    assert len(compared.surfaces.one) == len(compared.surfaces.two) == 100_000


def test_bpt_distances_forget_size_and_place(few_points):
    same, other = Compared(cube(), cube()), Compared(moved(cube(), 3.0, 5.0), cube())
    assert cd_bpt1024_l2(other) == pytest.approx(cd_bpt1024_l2(same), rel=1e-9)
    assert hd_bpt1024(other) == pytest.approx(hd_bpt1024(same), rel=1e-9)
    assert cd_ma100k(other) > 1


def test_the_hausdorff_distance_of_a_square_to_its_half_is_half_a_side():
    """By itself the half is twice as long as it is wide, and lies along the middle of the square once both are centred."""
    half = Mesh(square(0.0).vertices * [1, 1, 0.5], square(0.0).faces)
    assert hd_bpt1024(Compared(half, square(0.0))) == pytest.approx(1.9 / 4, rel=0.05)


def test_a_cube_and_a_ball_without_edges(icosphere):
    points = np.ones((10_000, 1)) * [0.0, 1.0, 0.0]
    assert not near_edge(np.concatenate([np.random.default_rng(0).random((10_000, 3)) * 0.1 * [1, 0, 1], points], 1)).any()
    assert ecd_ma100k(Compared(cube(), icosphere)) == 0  # the reference has no edges
    edge = (np.arange(1000) + 0.5) / 1000 - 0.5
    to_centre = np.sqrt(0.5 + edge**2).mean()
    assert ecd_ma100k(Compared(icosphere, cube())) == pytest.approx(to_centre + np.sqrt(0.5), rel=0.01)  # there: to the nearest edge


@pytest.fixture(scope="module")
def icosphere() -> Mesh:
    import trimesh

    return mesh_of_solid(trimesh.creation.icosphere(4, radius=0.5))


def test_normals_at_right_angles_do_not_agree(few_points):
    wall = Mesh(square(0.0).vertices[:, [1, 0, 2]], square(0.0).faces)
    for metric in (nc_ma100k, nc_tree, absnc_tree):
        assert metric(Compared(wall, square(0.0))) == pytest.approx(0.0, abs=1e-9)


def test_turned_faces_count_with_their_sign_only(few_points):
    back = Mesh(cube().vertices, cube().faces[:, ::-1])
    compared = Compared(back, cube())
    assert nc_tree(compared) == pytest.approx(-1)
    assert absnc_tree(compared) == pytest.approx(1)
    assert nc_ma100k(compared) == pytest.approx(nc_ma100k(Compared(cube(), cube())), abs=3e-3)


def test_tree_normals_agree_with_all_pairs(val):
    one, two = val.mesh(3), val.mesh(50)
    normals = [face_normals(mesh.triangles()) for mesh in (one, two)]
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in normals]
    apart = cdist(one.triangles().mean(1), two.triangles().mean(1))
    there = (units[0] * units[1][apart.argmin(1)]).sum(1)
    back = (units[1] * units[0][apart.argmin(0)]).sum(1)
    assert nc_tree(Compared(one, two)) == pytest.approx((there.mean() + back.mean()) / 2, rel=1e-9)
    assert absnc_tree(Compared(one, two)) == pytest.approx((np.abs(there).mean() + np.abs(back).mean()) / 2, rel=1e-9)


def test_faces_without_area_have_no_normal():
    mesh = cube()
    flat = Mesh(mesh.vertices, np.concatenate([mesh.faces, [[0, 0, 1]]]))
    assert nc_tree(Compared(flat, mesh)) == pytest.approx(1)
    with pytest.raises(ValueError, match="none of the 1 faces has an area"):
        nc_tree(Compared(Mesh(mesh.vertices, np.array([[0, 0, 1]])), mesh))


def test_ratios_count_what_is_there():
    mesh = cube()
    torn = Mesh(mesh.triangles().reshape(-1, 3), np.arange(36).reshape(-1, 3))
    twice = Mesh(np.concatenate([mesh.vertices, mesh.vertices + 3]), np.concatenate([mesh.faces, mesh.faces + 8]))
    assert vertex_ratio(Compared(torn, mesh)) == 1
    assert vertex_ratio(Compared(twice, mesh)) == 2
    assert face_ratio(Compared(twice, mesh)) == 2
    assert face_ratio(Compared(mesh, twice)) == 0.5


def test_the_same_seed_gives_the_same_number(val, few_points):
    one, two, other = (Compared(val.mesh(3), val.mesh(4), seed) for seed in (1, 1, 2))
    for metric in (cd_ma100k, nc_ma100k, cd_bpt1024_l2, hd_bpt1024):
        assert metric(one) == metric(two) != metric(other)


@pytest.mark.parametrize("metric", [cd_ma100k, ecd_ma100k, cd_bpt1024_l2, hd_bpt1024])
def test_noise_and_holes_make_distances_larger(worse, metric):
    assert metric(worse["same"]) < min(metric(worse["noise"]), metric(worse["holes"]))


@pytest.mark.parametrize("metric", [nc_ma100k, nc_tree, absnc_tree, f_1pct_ma100k, f_2pct_ma100k])
def test_noise_and_holes_make_agreement_smaller(worse, metric):
    assert metric(worse["same"]) > max(metric(worse["noise"]), metric(worse["holes"]))


def test_flipped_faces_make_signed_agreement_smaller(worse):
    assert nc_tree(worse["same"]) == pytest.approx(1)
    assert abs(nc_tree(worse["flipped"])) < 0.2
    assert absnc_tree(worse["flipped"]) == pytest.approx(1)


def test_holes_show_in_the_ratios(worse):
    assert face_ratio(worse["holes"]) == pytest.approx(0.5, abs=0.01)
    assert vertex_ratio(worse["holes"]) <= 1


def test_the_fit_to_a_cloud_sees_what_is_missing(val):
    mesh = val.mesh(10)
    cloud = sample_surface(mesh, 4_096, np.random.default_rng(0))[:, :3]
    half = Mesh(mesh.vertices, mesh.faces[: len(mesh.faces) // 2])
    assert fit_to_cloud(mesh, cloud) < 0.5 * fit_to_cloud(half, cloud)
