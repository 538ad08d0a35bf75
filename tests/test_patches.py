"""Patches: exact on any mesh, short on real ones, and a grammar that says precisely what decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_walks import legal_length, longest_walk, refusals, walks_give_distinct_whole_faces
from soups import soups

from meshgpt.mesh import canonical, corners_of, weld
from meshgpt.tokenizer.patches import PatchesTokenizer

ANY_BINS = [2, 3, 16, 17, 100, 128, 129, 256, 500, 1024]
TOKENIZER = PatchesTokenizer()
BLOCK = 16**3  # ids of offsets; then come 512 of rim blocks, and twice 512 of centre blocks
RIM, CENTRE, AFTER_RING, FAN, RING = BLOCK, BLOCK + 512, BLOCK + 1024, BLOCK + 1536, BLOCK + 1537


def column(*ids: int) -> np.ndarray:
    return np.array(ids, dtype=np.int64)[:, None]


def spelled(*cells: tuple[int, int, int]) -> list[int]:
    """The offsets of (x, y, z) in a block."""
    return [(y * 16 + z) * 16 + x for x, y, z in cells]


def on_a_line(*faces: tuple[int, int, int]) -> np.ndarray:
    """Corners on the x axis: vertex number n lies at x = n."""
    corners = np.zeros((len(faces), 3, 3), dtype=np.int64)
    corners[:, :, 0] = faces
    return canonical(corners)


def test_vocabularies_stay_small():
    assert TOKENIZER.vocab == 16**3 + 3 * 512 + 2
    assert max(PatchesTokenizer(bins).vocab for bins in range(2, 1025)) < 16384


def test_a_face_is_a_centre_and_a_rim_of_two():
    """The first vertex of all that have as many faces is the centre."""
    assert TOKENIZER.encode(on_a_line((0, 1, 2)))[:, 0].tolist() == [CENTRE, 0, 1, 2]
    assert TOKENIZER.encode(on_a_line((0, 2, 1)))[:, 0].tolist() == [CENTRE, 0, 2, 1]


def test_a_ring_is_closed_by_an_id_of_its_own_or_by_the_next_centre():
    pyramid = [(3, 0, 1), (3, 1, 2), (3, 2, 0)]
    assert TOKENIZER.encode(on_a_line(*pyramid))[:, 0].tolist() == [CENTRE, 3, 0, 1, 2, RING]
    far = [(5, 6, 7)]
    assert TOKENIZER.encode(on_a_line(*pyramid, *far))[:, 0].tolist() == [CENTRE, 3, 0, 1, 2, AFTER_RING, 5, 6, 7]


def test_fans_of_one_centre_are_set_apart():
    """Two fans that share the centre only; and two faces on one edge that face each other."""
    assert TOKENIZER.encode(on_a_line((2, 0, 1), (2, 3, 4)))[:, 0].tolist() == [CENTRE, 2, 0, 1, FAN, 3, 4]
    assert TOKENIZER.encode(on_a_line((0, 1, 2), (0, 1, 3)))[:, 0].tolist() == [CENTRE, 0, 1, 2, FAN, 1, 3]


def test_block_ids_are_left_out_where_the_block_stays():
    corners = on_a_line((14, 15, 17), (14, 17, 18))
    assert TOKENIZER.encode(corners)[:, 0].tolist() == [CENTRE, 14, 15, RIM + 1, 1, 2]


def test_a_ring_starts_where_it_costs_fewest_blocks():
    ring = [(14, 20, 15), (14, 15, 13), (14, 13, 21), (14, 21, 20)]
    assert TOKENIZER.encode(on_a_line(*ring))[:, 0].tolist() == [CENTRE, 14, 15, 13, RIM + 1, 5, 4, RING]


def test_above_128_bins_a_vertex_has_three_ids():
    tokenizer = PatchesTokenizer(1024)
    block, region, centre = 16**3, 2 * 16**3, 2 * 16**3 + 64
    corners = on_a_line((0, 17, 18), (0, 18, 256 + 17))
    ids = [centre, block, 0, block + 1, 1, 2, region + 1, block + 1, 1]
    assert tokenizer.encode(corners)[:, 0].tolist() == ids
    np.testing.assert_array_equal(tokenizer.decode(column(*ids)), corners)


def test_real_meshes_cost_at_most_2_2_ids_a_face(real, record_property):
    ids, faces = sum(len(TOKENIZER.encode(corners)) for corners in real), sum(map(len, real))
    record_property("ids per face", ids / faces)
    assert ids / faces <= 2.20


@pytest.mark.parametrize("bins", [16, 100, 200, 256, 1024])
def test_real_meshes_come_back_at_any_number_of_bins(val, bins):
    tokenizer = PatchesTokenizer(bins)
    for index in range(0, len(val), 6):
        corners = corners_of(val.mesh(index), bins)
        np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners, err_msg=f"mesh {index}")


@settings(max_examples=100)
@given(data=st.data(), bins=st.sampled_from(ANY_BINS))
def test_soups_come_back(data, bins):
    corners = data.draw(soups(bins))
    tokenizer = PatchesTokenizer(bins)
    ids = tokenizer.encode(corners)
    np.testing.assert_array_equal(tokenizer.decode(ids), corners)
    if len(ids) < 60:
        assert legal_length(tokenizer.grammar(), ids[:, 0].tolist()) == len(ids)


def test_the_order_of_what_comes_in_does_not_matter_for_what_comes_out(real):
    corners = real[3]
    shuffled = np.roll(np.random.default_rng(0).permutation(corners), 1, 1)
    np.testing.assert_array_equal(TOKENIZER.decode(TOKENIZER.encode(shuffled)), corners)


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


@pytest.mark.parametrize(
    ("ids", "kept", "message"),
    [
        ([3], 0, r"^id 3 at 0 comes before there is a centre, whose block begins a mesh; cut the sequence with ids\[:0\]$"),
        ([RING], 0, r"^id 5633 at 0 comes before there is a centre, whose block begins a mesh; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, 2, -1], 4, r"^id -1 at 4 is not in 0 \.\. 5633; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1, 2, RING + 1, 3], 4, r"^id 5634 at 4 is not in 0 \.\. 5633; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1, RING + 1], 0, r"^id 5634 at 3 is not in 0 \.\. 5633; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, 2, RIM], 4, r"^the end, at 5, comes inside a patch; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1, 2, CENTRE, 3], 4, r"^the end, at 6, comes inside a patch; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1, 2, FAN], 4, r"^the end, at 5, comes inside a patch; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1], 0, r"^the end, at 3, comes inside a patch; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, 2, RIM, RIM, 3], 4, r"^id 4096 at 5 comes inside a vertex, whose offset is still to come; cut"),
        ([CENTRE, 0, 1, FAN], 0, r"^id 5632 at 3 comes where the fan has no face yet; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, CENTRE, 0], 0, r"^id 4608 at 3 comes where the fan has no face yet; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, 2, RING], 4, r"^id 5633 at 4 closes a rim of fewer than three vertices; cut"),
        ([CENTRE, 0, 1, 2, AFTER_RING, 4], 4, r"^id 5120 at 4 closes a rim of fewer than three vertices; cut"),
        ([CENTRE, 0, 1, 2, 3, 1, RING], 6, r"^id 5633 at 6 ends a face that touches a vertex twice; cut the sequence with ids\[:6\]$"),
        ([CENTRE, 0, 1, 2, 2, 3], 4, r"^id 2 at 4 ends a face that touches a vertex twice; cut the sequence with ids\[:4\]$"),
        ([CENTRE, 0, 1, 0], 0, r"^id 0 at 3 ends a face that touches a vertex twice; cut the sequence with ids\[:0\]$"),
        ([CENTRE, 0, 1, 2, 3, CENTRE, 2, 1, 0, 5, -1], 5, r"^id 0 at 8 ends a face that is on the same three vertices as an earlier"),
        ([CENTRE, 0, 1, 2, 3, AFTER_RING, 9], 5, r"^the end, at 7, comes inside a patch; cut the sequence with ids\[:5\]$"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place_and_the_cure(ids, kept, message):
    with pytest.raises(ValueError, match=message):
        TOKENIZER.decode(column(*ids))
    np.testing.assert_array_equal(TOKENIZER.decode(column(*ids), strict=False), TOKENIZER.decode(column(*ids[:kept])))


def test_cells_outside_of_the_cube_are_refused():
    tokenizer = PatchesTokenizer(17)
    ids = [tokenizer.bases.centre + 1, *spelled((0, 0, 0), (1, 0, 0))]
    with pytest.raises(ValueError, match=r"^id 1 at 2 is a cell outside of the cube; cut the sequence with ids\[:0\]$"):
        tokenizer.decode(column(*ids))


@pytest.mark.parametrize("shape", [(4, 2), (0, 9), (3, 0)])
def test_ids_of_another_width_are_refused(shape):
    with pytest.raises(ValueError, match=rf"^ids of shape \({shape[0]}, {shape[1]}\) are no sequence with one id to a step; pass an array"):
        TOKENIZER.decode(np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("bins", [2, 17, 128, 256])
def test_decode_takes_what_the_grammar_allows_and_nothing_else(bins):
    """Of walks whose ids were damaged at random the longest sequence that the grammar lets end is kept."""
    refused = refusals(PatchesTokenizer(bins), np.random.default_rng(bins), walks=60, length=25, high=0.2)
    assert 20 < refused < 60


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8])
def test_noise_is_refused_or_decodes(dtype):
    rng = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    for _ in range(50):
        for low, high in ((limits.min, limits.max), (0, min(TOKENIZER.vocab, limits.max))):
            ids = rng.integers(low, high, (30, 1), dtype=dtype)
            corners = TOKENIZER.decode(ids, strict=False)
            np.testing.assert_array_equal(corners, canonical(corners))


@pytest.mark.parametrize("high", [0.0, 0.3])
@pytest.mark.parametrize("bins", [2, 3, 17, 128, 500, 1024])
def test_random_walks_end_with_distinct_whole_faces(bins, high):
    walks_give_distinct_whole_faces(PatchesTokenizer(bins), 12, 40, high)


def test_a_walk_through_few_vertices_ends_with_all_faces():
    """Eight vertices have 56 faces: the grammar finds them all, whichever way it goes, and then ends."""
    tokenizer = PatchesTokenizer(2)
    for seed in range(8):
        assert len(tokenizer.decode(longest_walk(tokenizer.grammar(), np.random.default_rng(seed)))) == 56


def test_every_real_mesh_is_legal(real):
    for corners in real[::40]:
        ids = TOKENIZER.encode(corners)[:, 0].tolist()
        assert legal_length(TOKENIZER.grammar(), ids) == len(ids)


def test_a_vertex_with_thousands_of_faces_comes_back():
    """A disc, and a book of pages on one edge."""
    at = np.arange(2, 3000)
    disc = np.stack([np.zeros_like(at), at, at + 1], 1)
    book = np.stack([np.zeros_like(at), np.ones_like(at), at], 1)
    for faces in (disc, book):
        corners = canonical(np.stack([faces % 128, faces // 128, 0 * faces], -1))
        np.testing.assert_array_equal(TOKENIZER.decode(TOKENIZER.encode(corners)), corners)


def test_orientation_survives_where_neighbours_disagree(tetrahedron):
    corners = corners_of(tetrahedron)
    for turned in range(4):
        mixed = corners.copy()
        mixed[turned] = mixed[turned, ::-1]
        mixed = canonical(mixed)
        back = TOKENIZER.decode(TOKENIZER.encode(mixed))
        np.testing.assert_array_equal(back, mixed)
        assert (weld(back)[1] != weld(corners)[1]).any()
