"""Changes of training meshes and clouds: the mesh stays a mesh in the cube, the cloud stays a cloud of the mesh."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.mesh import Mesh, face_normals, sample_surface
from meshgpt.train.augment import Augmentation, Degradation, _without_patch, augment, degrade

PLAIN = Augmentation(stretch=(1.0, 1.0), quarter_turns=0.0, mirror=0.0, shrink=0.0, shift=0.0)
CLEAN = Degradation(probability=0.0, no_normals=0.0)


def volume(mesh: Mesh) -> float:
    """Above zero where the faces are seen from outside."""
    a, b, c = mesh.triangles().transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def rngs(count: int = 100):
    return [np.random.default_rng(seed) for seed in range(count)]


def test_meshes_stay_in_the_cube(val):
    for index, rng in enumerate(rngs()):
        mesh = augment(val.mesh(index), rng, Augmentation())
        assert np.abs(mesh.vertices).max() <= 0.5
        assert np.ptp(mesh.vertices, axis=0).max() > 0.95 * 0.92 - 1e-9, "as large as it may be, but for the shrinking"


@pytest.mark.parametrize("mirror", [0.0, 0.5, 1.0])
def test_the_outside_stays_outside(tetrahedron, mirror):
    assert volume(tetrahedron) > 0
    how = Augmentation(mirror=mirror)
    for rng in rngs():
        assert volume(augment(tetrahedron, rng, how)) > 0.001


def test_mirroring_mirrors(tetrahedron):
    """No rotation makes the mirrored tetrahedron out of the other: the handedness of its numbered corners changes."""

    def hand(mesh: Mesh) -> float:
        return float(np.sign(np.linalg.det(mesh.vertices[1:] - mesh.vertices[0])))

    hands = [hand(augment(tetrahedron, rng, Augmentation())) for rng in rngs(200)]
    assert 0.4 < np.mean(np.array(hands) == hand(tetrahedron)) < 0.6
    assert {hand(augment(tetrahedron, rng, Augmentation(mirror=1.0))) for rng in rngs(20)} == {-hand(tetrahedron)}


def test_up_stays_up(val):
    """Turns are about y: the order of the heights is kept."""
    mesh = val.mesh(0)
    order = mesh.vertices[:, 1].argsort(kind="stable")
    for rng in rngs(20):
        assert (np.diff(augment(mesh, rng, Augmentation()).vertices[order, 1]) > -1e-9).all()


def test_quarter_turns_keep_walls_parallel_to_the_axes():
    x, y = np.array([[-0.4, 0, 0], [0.4, 0, 0]]), np.array([[0, -0.4, 0], [0, 0.4, 0]])
    mesh = Mesh(np.concatenate([x, y]), np.array([[0, 1, 2], [1, 0, 3]]))

    def along(how: Augmentation) -> list[bool]:
        edges = [np.diff(augment(mesh, rng, how).vertices[:2], axis=0)[0] for rng in rngs(300)]
        return [bool((np.abs(edge) > 1e-6).sum() == 1) for edge in edges]

    assert all(along(Augmentation(quarter_turns=1.0)))
    assert not any(along(Augmentation(quarter_turns=0.0)))
    assert 0.6 < np.mean(along(Augmentation())) < 0.8


def test_stretching_is_per_axis_and_within_its_bounds():
    box = Mesh(np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.3, 0.3) for z in (-0.3, 0.3)]), np.array([[0, 1, 2]]))
    for rng in rngs():
        size = np.ptp(augment(box, rng, Augmentation(quarter_turns=1.0)).vertices, axis=0)
        assert size.min() / size.max() >= 0.75 / 1.25 - 1e-9
    ratios = [size.min() / size.max() for rng in rngs() for size in [np.ptp(augment(box, rng, Augmentation()).vertices, axis=0)]]
    assert np.mean(np.array(ratios) < 0.8) > 0.3


def test_without_changes_only_the_turn_is_left(tetrahedron):
    for rng in rngs(10):
        turned = augment(tetrahedron, rng, PLAIN)
        np.testing.assert_array_equal(turned.faces, tetrahedron.faces)
        edges = [np.linalg.norm(mesh.vertices[1:] - mesh.vertices[0], axis=1) for mesh in (turned, tetrahedron)]
        assert np.ptp(edges[0] / edges[1]) < 1e-9


@pytest.mark.parametrize("change", [augment, degrade])
def test_changes_are_the_generators_and_leave_the_original(tetrahedron, change):
    original = tetrahedron if change is augment else sample_surface(tetrahedron, 1000, np.random.default_rng(0))
    how = Augmentation() if change is augment else Degradation()

    def numbers(result: Mesh | np.ndarray) -> np.ndarray:
        return result.vertices if isinstance(result, Mesh) else result

    before = numbers(original).copy()
    one, two, other = (numbers(change(original, np.random.default_rng(seed), how)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert one.shape != other.shape or (one != other).any()
    np.testing.assert_array_equal(numbers(original), before)


# Clouds


@pytest.fixture
def shown(tetrahedron) -> np.ndarray:
    return sample_surface(tetrahedron, 4096, np.random.default_rng(0))


def every(shown: np.ndarray, how: Degradation, count: int = 200) -> list[np.ndarray]:
    return [degrade(shown, rng, how) for rng in rngs(count)]


def test_enough_points_stay(shown):
    counts = [len(cloud) for cloud in every(shown, Degradation())]
    assert min(counts) >= Degradation().fewest_points
    assert max(counts) == 4096
    assert min(counts) < 1000


def test_small_clouds_stay_whole(shown):
    few = shown[::41]
    assert len(few) < Degradation().fewest_points
    for cloud in every(few, Degradation(probability=1.0)):
        assert len(cloud) == len(few)


def test_thinned_clouds_still_show_every_side(shown, tetrahedron):
    """The points of a surface come face by face: keeping the first few would show one side alone."""
    normals = face_normals(tetrahedron.triangles())
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for cloud in every(shown, Degradation(probability=1.0, patch=0.0, noise=0.0, normal_jitter=0.0, no_normals=0.0), 1000):
        sides = (cloud[:, 3:] @ normals.T).argmax(1)
        assert len(set(sides)) == 4, f"{len(cloud)} points show {len(set(sides))} of 4 sides"


def test_normals_have_length_one_or_are_missing_together(shown):
    without = 0
    for cloud in every(shown, Degradation()):
        lengths = np.linalg.norm(cloud[:, 3:], axis=1)
        without += not lengths.any()
        assert not lengths.any() or np.abs(lengths - 1).max() < 1e-6
    assert 0.1 < without / 200 < 0.3


def test_points_move_no_further_than_the_noise(shown, tetrahedron):
    normals = face_normals(tetrahedron.triangles())
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for cloud in every(shown, Degradation()):
        off = ((cloud[:, None, :3] - tetrahedron.triangles()[:, 0]) * normals).sum(-1).max(1)
        assert np.sqrt((off**2).mean()) < 2 * Degradation().noise


def test_a_missing_patch_is_a_ball(shown):
    few, missing = shown[::8], 0
    apart = np.linalg.norm(few[:, None, :3] - few[None, :, :3], axis=-1)
    for rng in rngs(50):
        kept = np.isin(few[:, 0], _without_patch(few, rng, Degradation())[:, 0])
        if not kept.all():
            missing += 1
            reach = apart[:, ~kept].max(1)
            assert (reach < apart[:, kept].min(1)).any(), "no point of the cloud is the centre of what is missing"
            assert reach.min() <= Degradation().patch
    assert missing > 25
    for rng in rngs(10):
        np.testing.assert_array_equal(_without_patch(few, rng, Degradation(fewest_points=len(few))), few)


def test_a_clean_cloud_stays_as_it_is(shown):
    for cloud in every(shown, CLEAN, 20):
        np.testing.assert_array_equal(cloud, shown)
