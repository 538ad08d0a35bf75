"""Adjacent Mesh Tokenization: id for id as released, every face back, and orientation where it can be told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import mesh_of_solid
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_walks import legal_length, longest_walk, refusals, walks_give_distinct_whole_faces
from soups import PARTS, soup, soups

from meshgpt.mesh import canonical, corners_of, weld
from meshgpt.tokenizer import build, describe
from meshgpt.tokenizer.adjacent import AdjacentTokenizer, as_released, roles
from meshgpt.tokenizer.winding import oriented

GOLDEN = json.loads((Path(__file__).parent / "golden" / "adjacent.json").read_text())
RELEASED = Path(__file__).resolve().parents[2] / "shared" / "meshanything"
TOKENIZER = AdjacentTokenizer()
BREAK = 128


def column(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int64)[:, None]


def unoriented(corners: np.ndarray) -> np.ndarray:
    """Every face once, its corners in canonical order."""
    vertices, faces = weld(corners)
    return vertices[np.unique(np.sort(faces, 1), axis=0)]


def turned(corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """About half of the faces seen from behind."""
    flip = rng.random(len(corners)) < 0.5
    return canonical(np.where(flip[:, None, None], corners[:, ::-1], corners))


def as_published(mesh: dict) -> tuple[np.ndarray, list[int], list[int]]:
    """Corners, ids and role ids of a mesh in amt.json."""
    return canonical(np.array(mesh["sorted_vertices_q"])[np.array(mesh["sorted_faces"])]), mesh["sequence"], mesh["id_sequence"]


# What is released


@pytest.mark.parametrize("name", GOLDEN["meshes"])
def test_ids_and_roles_are_the_released_ones(name):
    mesh = GOLDEN["meshes"][name]
    ids = TOKENIZER.encode(canonical(np.array(mesh["vertices"])[np.array(mesh["faces"])]))[:, 0]
    assert ids.tolist() == mesh["ids"]
    assert roles(ids).tolist() == mesh["roles"]


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the larger published sequences are not part of the repository")
def test_larger_meshes_have_the_released_ids_too():
    published = json.loads((RELEASED / "amt.json").read_text())
    for name, mesh in published.items():
        corners, expected, expected_roles = as_published(mesh)
        ids = TOKENIZER.encode(corners)[:, 0]
        assert ids.tolist() == expected, name
        assert roles(ids).tolist() == expected_roles, name
        np.testing.assert_array_equal(as_released(ids), np.array(mesh["detok_faces"], dtype=np.float32))


@pytest.mark.parametrize("name", GOLDEN["malformed"])
def test_malformed_ids_give_what_the_released_detokenizer_gives(name):
    case = GOLDEN["malformed"][name]
    np.testing.assert_array_equal(as_released(np.array(case["ids"])), np.array(case["faces"], dtype=np.float32))


def test_the_released_detokenizer_puts_bins_at_the_low_edge_of_their_cells(real):
    corners = real[4]
    faces = as_released(TOKENIZER.encode(corners)[:, 0])
    np.testing.assert_array_equal(unoriented(((faces + 0.5) * 128).astype(np.int64)), unoriented(corners))


# Every face comes back


def test_faces_come_back_without_their_orientation(real):
    for corners in real[::3]:
        back = TOKENIZER.decode(TOKENIZER.encode(corners))
        np.testing.assert_array_equal(back, unoriented(corners))
        np.testing.assert_array_equal(back, canonical(back))


@settings(max_examples=60)
@given(data=st.data(), bins=st.sampled_from([2, 3, 16, 100, 128, 1024]))
def test_faces_of_soups_come_back(data, bins):
    corners = data.draw(soups(bins))
    tokenizer = AdjacentTokenizer(bins)
    ids = tokenizer.encode(corners)
    np.testing.assert_array_equal(tokenizer.decode(ids), unoriented(corners))
    assert legal_length(tokenizer.grammar(), ids[:, 0].tolist()) == len(ids)
    turning = AdjacentTokenizer(bins, orient=True)
    np.testing.assert_array_equal(unoriented(turning.decode(ids)), unoriented(corners))


def test_an_order_or_orientation_that_is_not_canonical_changes_nothing(real):
    shuffled = turned(real[3], np.random.default_rng(0))[::-1]
    np.testing.assert_array_equal(TOKENIZER.encode(shuffled), TOKENIZER.encode(real[3]))


@pytest.mark.parametrize(
    ("faces", "message"),
    [
        ([(0, 1, 2), (0, 3, 3)], "^face 1 touches a vertex twice; pass the corners through meshgpt.mesh.canonical first$"),
        ([(0, 1, 2), (3, 4, 5), (2, 1, 0)], "^face 2 is on the same three vertices as an earlier one; pass the corners through"),
    ],
)
def test_faces_that_cannot_come_back_are_refused(faces, message):
    corners = np.zeros((len(faces), 3, 3), dtype=np.int64)
    corners[:, :, 0] = faces
    with pytest.raises(ValueError, match=message):
        TOKENIZER.encode(corners)


FIRST = [1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("ids", "kept", "message"),
    [
        ([*FIRST, -1], 9, r"^id -1 at 9 is not in 0 \.\. 128; cut the sequence with ids\[:9\]$"),
        ([*FIRST, 4, 129, 4], 9, r"^id 129 at 10 is not in 0 \.\. 128; cut the sequence with ids\[:9\]$"),
        ([*FIRST, 4, BREAK, 4], 9, r"^id 128 at 10 breaks off a strip after 10 ids, inside a face; cut the sequence with ids\[:9\]$"),
        ([BREAK, *FIRST], 0, r"^id 128 at 0 breaks off a strip after 0 ids, inside a face; cut the sequence with ids\[:0\]$"),
        ([*FIRST, BREAK, BREAK, *FIRST], 9, r"^id 128 at 10 breaks off a strip after 0 ids, inside a face; cut the sequence with"),
        ([*FIRST, BREAK], 9, r"^the end, at 10, comes inside a face; cut the sequence with ids\[:9\]$"),
        ([*FIRST, 4, 4, 4, 5], 12, r"^the end, at 13, comes inside a face; cut the sequence with ids\[:12\]$"),
        (FIRST[:6], 0, r"^the end, at 6, comes inside a face; cut the sequence with ids\[:0\]$"),
        ([*FIRST, 2, 2, 2], 9, r"^id 2 at 11 ends a face that touches a vertex twice; cut the sequence with ids\[:9\]$"),
        ([*FIRST, 1, 1, 1, 4], 9, r"^id 1 at 11 ends a face that is on the same three vertices as an earlier one; cut the sequence with"),
        ([*FIRST, BREAK, *FIRST[::-1], BREAK], 9, r"^id 1 at 18 ends a face that is on the same three vertices as an earlier one; cut"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place_and_the_cure(ids, kept, message):
    with pytest.raises(ValueError, match=message):
        TOKENIZER.decode(column(ids))
    np.testing.assert_array_equal(TOKENIZER.decode(column(ids), strict=False), TOKENIZER.decode(column(ids[:kept])))


@pytest.mark.parametrize("shape", [(4, 2), (0, 9), (3, 0)])
def test_ids_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=rf"^ids of shape \({shape[0]}, {shape[1]}\) are no sequence with one id to a step; pass an array"):
        TOKENIZER.decode(np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8])
def test_noise_is_refused_or_decodes(dtype):
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    for _ in range(50):
        for low, high in ((limits.min, limits.max), (0, min(129, limits.max))):
            corners = TOKENIZER.decode(rng.integers(low, high, (40, 1), dtype=dtype), strict=False)
            np.testing.assert_array_equal(corners, canonical(corners))


# The grammar


@pytest.mark.parametrize("bins", [2, 17, 128])
def test_decode_takes_what_the_grammar_allows_and_nothing_else(bins):
    refused = refusals(AdjacentTokenizer(bins), np.random.default_rng(bins), walks=100, length=40, high=0.05)
    assert 30 < refused < 100


@pytest.mark.parametrize("high", [0.0, 0.1])
@pytest.mark.parametrize("bins", [2, 3, 16, 128, 1024])
def test_random_walks_end_with_distinct_whole_faces(bins, high):
    walks_give_distinct_whole_faces(AdjacentTokenizer(bins), 25, 60, high)


def test_a_walk_through_few_vertices_ends_with_all_faces():
    """Eight vertices have 56 faces: the grammar finds them all, whichever way it goes, and then ends."""
    tokenizer = AdjacentTokenizer(2)
    for seed in range(8):
        assert len(tokenizer.decode(longest_walk(tokenizer.grammar(), np.random.default_rng(seed)))) == 56


def test_every_real_mesh_is_legal(real):
    for corners in real[::40]:
        ids = TOKENIZER.encode(corners)[:, 0].tolist()
        assert legal_length(TOKENIZER.grammar(), ids) == len(ids)


# Orientation


def test_the_option_is_part_of_the_description():
    assert describe(AdjacentTokenizer(64, orient=True)) == {"name": "adjacent", "bins": 64, "orient": True}
    assert build({"name": "adjacent", "bins": 64, "orient": True}).orient
    assert not build({"name": "adjacent", "bins": 64}).orient


@pytest.mark.parametrize("kind", ["icosphere", "torus", "box", "cylinder"])
def test_closed_meshes_are_oriented_again(kind):
    """One inside the other and one beside it, half of the faces turned: each faces outward again."""
    shapes = {
        "icosphere": lambda: trimesh.creation.icosphere(2, 0.2),
        "torus": lambda: trimesh.creation.torus(0.15, 0.05, 12, 8),
        "box": lambda: trimesh.creation.box((0.3, 0.2, 0.1)),
        "cylinder": lambda: trimesh.creation.cylinder(0.1, 0.3, sections=12),
    }
    one, small, aside = (shapes[kind]() for _ in range(3))
    small.apply_scale(0.5)
    aside.apply_translation((0.25, 0.2, 0))
    together = trimesh.util.concatenate([one, small, aside])
    corners = corners_of(mesh_of_solid(together), 1024)
    tokenizer = AdjacentTokenizer(1024, orient=True)
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(turned(corners, np.random.default_rng(0)))), corners)


def test_orientation_is_what_trimesh_makes_of_it(real):
    """On real meshes that are closed and have two faces at each edge."""
    compared = 0
    for corners in real:
        vertices, faces = weld(corners)
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        if not mesh.is_watertight or len(faces) > 600:
            continue
        rng = np.random.default_rng(compared)
        mixed = turned(corners, rng)
        fixed = trimesh.Trimesh(*weld(mixed), process=False)
        trimesh.repair.fix_normals(fixed, multibody=True)
        np.testing.assert_array_equal(oriented(mixed), canonical(np.asarray(fixed.vertices, dtype=np.int64)[fixed.faces]))
        compared += 1
    assert compared > 5


def test_neighbours_agree_wherever_they_can():
    """Across edges of exactly two faces, on sheets; a Moebius strip has one seam where no choice fits."""
    rng = np.random.default_rng(0)
    _, moebius, _, grid, _, _ = PARTS
    for part, seams in ((grid, {0}), (moebius, {1})):
        for _ in range(20):
            corners = soup([part], 128, False, rng)
            vertices, faces = weld(oriented(turned(corners, rng)))
            directed = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2).tolist()
            assert len(directed) - len(set(map(tuple, directed))) in seams, (len(corners), len(vertices))


def test_orienting_is_done_once_for_all(real):
    for corners in real[::15]:
        once = oriented(corners)
        np.testing.assert_array_equal(oriented(once), once)
    nothing = np.zeros((0, 3, 3), dtype=np.int64)
    np.testing.assert_array_equal(oriented(nothing), nothing)


def test_a_flat_sheet_is_consistent():
    """It has no inside; the sheet's lowest face decides."""
    corners = np.array([[[0, 0, 0], [9, 0, 0], [0, 0, 9]], [[9, 0, 0], [9, 0, 9], [0, 0, 9]]])
    normals = np.cross(*(oriented(canonical(corners))[:, at] - oriented(canonical(corners))[:, 0] for at in (1, 2)))
    assert abs(np.sign(normals[:, 1]).sum()) == 2
