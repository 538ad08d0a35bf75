"""The walk: exact on anything, short on real meshes, and a grammar that leads nowhere but to meshes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshgpt.mesh import canonical, corners_of, weld
from meshgpt.tokenizer import WalkTokenizer, build, describe
from meshgpt.tokenizer.interface import Grammar, MeshTokenizer
from meshgpt.tokenizer.walk_words import words

ROOT = Path(__file__).resolve().parents[1]
NONE = np.zeros((0, 3, 3), dtype=np.int64)


@pytest.fixture(scope="module")
def walk() -> WalkTokenizer:
    return WalkTokenizer()


def faces_of(corners: np.ndarray) -> list[frozenset]:
    return [frozenset(map(tuple, face)) for face in corners.tolist()]


def pointed(faces: list[tuple[int, int, int]], points: np.ndarray) -> np.ndarray:
    return canonical(points[np.array(faces)])


def test_it_is_what_the_interface_says(walk):
    assert isinstance(walk, MeshTokenizer)
    assert isinstance(walk.grammar(), Grammar)
    assert walk.shifts.shape == (1, walk.vocab, 3)
    assert not walk.lossy
    for bins in (2, 128, 1024):
        again = build(describe(WalkTokenizer(bins)))
        assert isinstance(again, WalkTokenizer)
        assert (again.bins, again.vocab) == (bins, WalkTokenizer(bins).vocab)
        assert again.vocab < 16_384


@pytest.mark.parametrize("bins", [1, 0, 1025])
def test_bins_that_do_not_fit_are_refused(bins):
    with pytest.raises(ValueError, match=f"^{bins} bins do not fit; use 2 to 1024$"):
        WalkTokenizer(bins)


def test_real_meshes_come_back_from_few_ids(walk, real):
    tokens = 0
    for number, corners in enumerate(real):
        ids = walk.encode(corners)
        np.testing.assert_array_equal(walk.decode(ids), corners, err_msg=f"mesh {number}")
        assert ids.min() >= 0
        assert ids.max() < walk.vocab
        tokens += len(ids)
    assert tokens / sum(map(len, real)) < 1.0


@pytest.mark.parametrize("bins", [2, 16, 1000, 1024])
def test_real_meshes_come_back_at_other_bins(val, bins):
    tokenizer = WalkTokenizer(bins)
    for index in range(0, len(val), 3):
        corners = corners_of(val.mesh(index), bins)
        np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners, err_msg=f"mesh {index}")


def test_encoding_looks_at_faces_and_not_at_their_order(walk, real):
    """Only the first face of a component is picked by its place in the order."""
    for corners in real[::10]:
        turned = np.roll(corners, 1, axis=1)
        np.testing.assert_array_equal(walk.decode(walk.encode(turned)), corners)
        np.testing.assert_array_equal(walk.decode(walk.encode(turned[::-1])), corners)


@st.composite
def soups(draw, bins: int = 128, most: int = 40) -> np.ndarray:
    """Faces on few vertices: edges of many faces, both orientations, bow-ties, components and, sometimes, few places."""
    high = draw(st.sampled_from([1, 2, 5, bins - 1]))
    points = draw(st.lists(st.tuples(*[st.integers(0, high)] * 3), min_size=3, max_size=14))
    corner = st.integers(0, len(points) - 1)
    faces = draw(st.lists(st.tuples(corner, corner, corner), max_size=most))
    return canonical(np.array(points)[np.array(faces, dtype=np.int64).reshape(-1, 3)])


@settings(max_examples=150)
@given(soups())
def test_soups_come_back(corners):
    tokenizer = WalkTokenizer()
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)


@settings(max_examples=60)
@given(soups(bins=1024), st.sampled_from([1024, 1023]))
def test_soups_come_back_at_many_bins(corners, bins):
    tokenizer = WalkTokenizer(bins)
    corners = np.minimum(corners, bins - 1)
    corners = canonical(corners)
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)


def fan(count: int) -> list[tuple[int, int, int]]:
    """So many faces on one edge, every other one seen from the other side."""
    return [(0, 1, 2 + face) if face % 2 else (1, 0, 2 + face) for face in range(count)]


def strip(count: int, twists: bool) -> list[tuple[int, int, int]]:
    """A band of 2 `count` faces that closes with or without a twist."""
    faces = []
    for step in range(count):
        a, b = 2 * step, 2 * step + 1
        last = step == count - 1
        c, d = ((1, 0) if twists else (0, 1)) if last else (a + 2, b + 2)
        faces += [(a, b, c), (b, d, c)]
    return faces


@pytest.mark.parametrize(
    "faces",
    [
        pytest.param([(0, 1, 2)], id="one face"),
        pytest.param(fan(6), id="six faces on an edge"),
        pytest.param(fan(40), id="forty faces on an edge"),
        pytest.param(strip(9, twists=True), id="Moebius strip"),
        pytest.param(strip(9, twists=False), id="band"),
        pytest.param([(0, 1, 2), (0, 3, 4), (0, 5, 6)], id="bow-tie"),
        pytest.param([(0, 1, 2), (1, 0, 3), (2, 1, 3), (0, 2, 3), (4, 5, 6)], id="tetrahedron and a face"),
    ],
)
def test_odd_meshes_come_back(walk, faces):
    points = np.random.default_rng(0).permutation(128**3)[:64]
    points = np.stack(np.unravel_index(points, (128, 128, 128)), 1)
    for corners in (pointed(faces, points), pointed([face[::-1] for face in faces], points)):
        assert len(corners) == len(faces)
        np.testing.assert_array_equal(walk.decode(walk.encode(corners)), corners)


def test_every_face_of_five_vertices_comes_back():
    """All ten faces there are, each in either orientation, in a cube of two bins."""
    tokenizer, rng = WalkTokenizer(2), np.random.default_rng(0)
    places = np.array([[x, y, z] for x in range(2) for y in range(2) for z in range(2)])
    every = [(a, b, c) for a in range(8) for b in range(a) for c in range(b)]
    for _ in range(20):
        corners = canonical(places[np.array([rng.permutation(face) for face in every])])
        assert len(corners) == 56
        np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)


def test_a_large_mesh_comes_back():
    """A grid of 50,000 faces on a bumpy sheet."""
    side = 159
    z, x = np.mgrid[:side, :side]
    y = (400 + 50 * np.sin(x / 9) + 30 * np.cos(z / 7)).astype(int)
    points, at = np.stack([6 * x, y, 6 * z], -1).reshape(-1, 3), np.arange(side * side).reshape(side, side)
    quads = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    corners = canonical(points[np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])])
    assert len(corners) == 49_928
    tokenizer = WalkTokenizer(1024)
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)


def test_nothing_is_nothing(walk):
    assert walk.encode(NONE).shape == (0, 1)
    np.testing.assert_array_equal(walk.decode(walk.encode(NONE)), NONE)


# What does not fit


def test_corners_that_do_not_fit_are_refused(walk, real):
    corners = real[0].copy()
    corners[2, 1, 0] = 128
    with pytest.raises(ValueError, match=r"^corners run from \d+ to 128; with 128 bins they must lie in 0 \.\. 127$"):
        walk.encode(corners)
    with pytest.raises(ValueError, match=r"^face 5 makes a face that is there already; pass canonical corners"):
        walk.encode(np.concatenate([real[0][:5], real[0][2:3, ::-1]]))
    with pytest.raises(ValueError, match=r"^face \d+ makes a face that touches a vertex twice; pass canonical corners"):
        walk.encode(np.concatenate([real[0][:5], real[0][2:3][:, [0, 0, 1]]]))


Y, Z, X = 0, 128, 256
START, SKIP = 385, 384
TRIANGLE = [START, Y + 1, Z + 1, X + 1, Y + 1, Z + 1, X + 9, Y + 9, Z + 1, X + 1]


def test_the_ids_of_a_face_are_a_start_and_coordinates(walk):
    expected = canonical(np.array([[[1, 1, 1], [9, 1, 1], [1, 9, 1]]]))
    np.testing.assert_array_equal(walk.decode(np.array(TRIANGLE)[:, None]), expected)
    # A y or z that is left out is that of the gate's first end.
    np.testing.assert_array_equal(walk.decode(np.array([START, Y + 1, Z + 1, X + 1, X + 9, Y + 9, X + 1])[:, None]), expected)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-1], "id -1 at place 0 is no id of 0 .. LAST; cut the sequence with ids[:0]"),
        ([*TRIANGLE, "vocab"], "id VOCAB at place 10 is no id of 0 .. LAST; cut the sequence with ids[:10]"),
        ([*TRIANGLE, SKIP, Y + 5, "vocab"], "id VOCAB at place 12 is no id of 0 .. LAST; cut the sequence with ids[:11]"),
        ([10**12], "id 1000000000000 at place 0 is no id"),
        ([Y + 1], "id 1 at place 0 needs an open gate, and there is none"),
        ([SKIP], "id 384 at place 0 needs an open gate, and there is none"),
        ([*TRIANGLE, SKIP, SKIP, SKIP, SKIP], "id 384 at place 13 needs an open gate, and there is none; cut the sequence with ids[:13]"),
        ([START, Y + 1, Y + 1], "id 1 at place 2 comes between the coordinates of a vertex, or after a later one of them"),
        ([START, Z + 1, Y + 1], "id 1 at place 2 comes between the coordinates of a vertex, or after a later one of them"),
        ([START, Y + 1, START], "id 385 at place 2 comes between the coordinates of a vertex"),
        ([START, X + 1, START], "id 385 at place 2 comes inside a face"),
        ([*TRIANGLE, START, X + 1, SKIP], "id 384 at place 12 comes inside a face; cut the sequence with ids[:10]"),
        ([START, X + 1, X + 1], "id 257 at place 2 makes a face that touches a vertex twice; cut the sequence with ids[:0]"),
        ([*TRIANGLE, *TRIANGLE], "id 257 at place 19 makes a face that is there already; cut the sequence with ids[:10]"),
        (TRIANGLE[:-1], "the 9 ids end inside a face; go on, or cut the sequence with ids[:0]"),
        ([*TRIANGLE, START], "the 11 ids end inside a face; go on, or cut the sequence with ids[:10]"),
        ([*TRIANGLE, Z + 3], "the 11 ids end inside a face; go on, or cut the sequence with ids[:10]"),
    ],
)
def test_a_wrong_id_is_named_with_its_place_and_the_cure(walk, ids, message):
    given = np.array([walk.vocab if id == "vocab" else id for id in ids], dtype=np.int64)[:, None]
    with pytest.raises(ValueError) as caught:
        walk.decode(given)
    assert str(caught.value).startswith(message.replace("LAST", str(walk.vocab - 1)).replace("VOCAB", str(walk.vocab)))
    cut = int(str(caught.value).rsplit("ids[:", 1)[1][:-1])
    np.testing.assert_array_equal(walk.decode(given, strict=False), walk.decode(given[:cut]))


def test_a_move_out_of_the_cube_is_wrong(walk):
    shift = 3 * 128 + int(np.flatnonzero((words().rows == (4, 0, -1, 0)).all(1))[0])
    ids = [START, Y, Z, X, Y, Z, X + 9, Y + 9, Z, X]
    with pytest.raises(ValueError, match=rf"^id {shift} at place 1 leads out of the cube; cut the sequence with ids\[:0\]$"):
        walk.decode(np.array([START, shift])[:, None])
    assert len(walk.decode(np.array([*ids, shift, *ids])[:, None], strict=False)) == 1


@pytest.mark.parametrize("shape", [(4, 2), (4, 0)])
def test_ids_of_another_width_are_refused(walk, shape):
    with pytest.raises(ValueError, match=rf"^ids of shape \(4, {shape[1]}\) are no walk; pass an array of shape \(ids, 1\)$"):
        walk.decode(np.zeros(shape, dtype=np.int64))


@settings(max_examples=150)
@given(st.sampled_from([2, 128]), st.lists(st.integers(-2, 10_000), max_size=30), st.integers(0, 10**6))
def test_noise_gives_its_longest_whole_beginning(bins, noise, cut):
    tokenizer = WalkTokenizer(bins)
    ids = np.array([*TRIANGLE, *noise] if bins == 128 else noise, dtype=np.int64)[:, None] % (tokenizer.vocab + 1)
    kept = tokenizer.decode(ids, strict=False)
    np.testing.assert_array_equal(kept, canonical(kept))
    longest = next(length for length in range(len(ids), -1, -1) if decodes(tokenizer, ids[:length]))
    np.testing.assert_array_equal(kept, tokenizer.decode(ids[:longest]))


def decodes(tokenizer: WalkTokenizer, ids: np.ndarray) -> bool:
    try:
        tokenizer.decode(ids)
    except ValueError:
        return False
    return True


# Grammar


def test_real_meshes_are_legal_walks(walk, real):
    grammar = walk.grammar()
    for corners in sorted(real, key=len)[:40:2]:
        state = grammar.start()
        for id in walk.encode(corners).flatten().tolist():
            before = state
            assert grammar.legal(state)[id]
            state = grammar.advance(state, id)
            assert before == before._replace()
        assert grammar.legal(state)[walk.vocab]


@pytest.mark.parametrize(("bins", "walks"), [(128, 12), (2, 40), (3, 20), (1024, 3)])
def test_random_legal_walks_are_meshes(bins, walks):
    tokenizer, longest = WalkTokenizer(bins), 40
    grammar = tokenizer.grammar()
    for seed in range(walks):
        rng, state = np.random.default_rng(seed), grammar.start()
        for step in range(longest):
            legal = grammar.legal(state)
            assert legal.any()
            assert legal[tokenizer.vocab] == decodes(tokenizer, np.array(state.ids, dtype=np.int64)[:, None])
            choices = np.flatnonzero(legal[:-1])
            if not len(choices):
                break
            # Coordinates and starts come more often than among all ids, so that they are seen too.
            few = choices[choices < 3 * bins + 2]
            state = grammar.advance(state, int(rng.choice(few if len(few) and step % 3 == 0 else choices)))
        corners = tokenizer.decode(np.array(state.ids)[:, None], strict=False)
        faces = faces_of(corners)
        assert all(len(face) == 3 for face in faces)
        assert len(set(faces)) == len(faces)
        np.testing.assert_array_equal(corners, canonical(corners))


@pytest.mark.parametrize("bins", [2, 128])
def test_legal_ids_are_those_that_decode_goes_on_with(bins):
    """Every id, tried one by one after random walks; those inside a face may need up to nine coordinates to end it."""
    tokenizer = WalkTokenizer(bins)
    grammar, rng = tokenizer.grammar(), np.random.default_rng(bins)
    for length in (0, 1, 2, 3, 5, 9):
        state = grammar.start()
        for _ in range(length):
            state = grammar.advance(state, int(rng.choice(np.flatnonzero(grammar.legal(state)[:-1]))))
        legal = grammar.legal(state)
        sample = {*rng.choice(tokenizer.vocab, 300).tolist(), *range(0, 3 * bins + 40, 1 + bins // 16)}
        for id in sample:
            assert legal[id] == can_end(tokenizer, (*state.ids, id)), (state.ids, id)


def can_end(tokenizer: WalkTokenizer, ids: tuple[int, ...], deep: int = 7) -> bool:
    """Whether coordinates can end the ids: found by trying low ones."""
    if decodes(tokenizer, np.array(ids)[:, None]):
        return True
    if deep == 0 or error_place(tokenizer, ids) < len(ids):
        return False
    low = [axis * tokenizer.bins + bin for axis in (2, 1, 0) for bin in range(min(tokenizer.bins, 4))]
    return any(can_end(tokenizer, (*ids, id), deep - 1) for id in low)


def error_place(tokenizer: WalkTokenizer, ids: tuple[int, ...]) -> int:
    try:
        tokenizer.decode(np.array(ids)[:, None])
    except ValueError as error:
        return len(ids) if "end inside" in str(error) else int(str(error).split(" at place ")[1].split()[0])
    return -1


def test_a_cube_of_two_bins_is_filled_and_then_ends():
    """Eight places have 56 faces: the grammar must find every one of them, and then leave END alone."""
    tokenizer = WalkTokenizer(2)
    for seed in range(3):
        rng, grammar = np.random.default_rng(seed), tokenizer.grammar()
        state = grammar.start()
        while (legal := np.flatnonzero(grammar.legal(state)[:-1])).size:
            coordinates = legal[legal < 6]
            state = grammar.advance(state, int(rng.choice(coordinates if len(coordinates) else legal)))
        corners = tokenizer.decode(np.array(state.ids)[:, None])
        assert len(corners) == 56
        assert len(weld(corners)[0]) == 8
        assert grammar.legal(state)[tokenizer.vocab]


def test_a_state_that_is_no_walk_is_refused(walk):
    grammar = walk.grammar()
    with pytest.raises(ValueError, match=r"^id 384 at place 0 was not legal there"):
        grammar.legal(grammar.advance(grammar.start(), SKIP))


def test_numba_is_loaded_when_it_is_used():
    code = "import sys, meshgpt.tokenizer as t; w = t.WalkTokenizer(); w.grammar(); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
