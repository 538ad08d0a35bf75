"""The law that every tokenizer obeys, and grammars that lead nowhere but to meshes."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
import torch
from soups import PARTS, soup, soups

from meshgpt.conditioners import PointCloudConfig
from meshgpt.memory import cells_of, shifted
from meshgpt.mesh import BINS, canonical, mesh_of, sample_surface, to_unit, weld
from meshgpt.model import read_tokenizer
from meshgpt.tokenizer import TOKENIZERS, CoordsTokenizer, MeshTokenizer, build, describe
from meshgpt.tokenizer.face_grammar import FaceGrammar
from meshgpt.tokenizer.interface import Grammar, Steering
from meshgpt.tokenizer.vqvae import VQVAE, VQVAETokenizer, pad_faces

NONE = np.zeros((0, 3, 3), dtype=np.int64)
WITHOUT_GRAMMAR = {"draco"}
LOSSLESS = [name for name in TOKENIZERS if not TOKENIZERS[name].lossy]


@pytest.fixture(params=["coords", "vqvae"])
def stepwise(request) -> MeshTokenizer:
    """Those whose step is a face."""
    return CoordsTokenizer() if request.param == "coords" else request.getfixturevalue("tiny_vqvae")


@pytest.fixture(scope="session")
def speaking(tokenizer) -> MeshTokenizer:
    """Those that have a grammar."""
    if describe(tokenizer)["name"] in WITHOUT_GRAMMAR:
        pytest.skip("it has no grammar; test_codec.py checks that it says so")
    return tokenizer


def test_tokenizers_are_what_the_interface_says(tokenizer):
    assert isinstance(tokenizer, MeshTokenizer)
    assert tokenizer.width % tokenizer.spell == 0
    assert (tokenizer.places is None) == (tokenizer.offsets is None)
    assert tokenizer.shifts.shape == (tokenizer.spell, tokenizer.vocab, 3)
    assert tokenizer.places is None or tokenizer.places.shape == tokenizer.offsets.shape == (tokenizer.vocab, 3)


def test_grammars_are_what_the_interface_says(speaking):
    assert isinstance(speaking.grammar(), Grammar)
    assert len(speaking.grammar().legal(speaking.grammar().start())) == speaking.vocab + 1


def test_decode_undoes_encode_or_the_loss_is_declared(tokenizer, real):
    for number, corners in enumerate(real if not tokenizer.lossy else real[::10]):
        back = tokenizer.decode(tokenizer.encode(corners))
        if not tokenizer.lossy:
            np.testing.assert_array_equal(back, corners, err_msg=f"mesh {number}")
        np.testing.assert_array_equal(back, canonical(back), err_msg=f"mesh {number} comes back out of order")
        assert back.min() >= 0
        assert back.max() < tokenizer.bins


def test_an_untrained_vqvae_is_off_by_some_bins(tiny_vqvae, real, record_property):
    """It starts as the identity, quantized to a first codebook of 256 places: far from exact, and far from chance (32 bins)."""
    assert tiny_vqvae.lossy
    faces = pad_faces(real[::10])
    network = tiny_vqvae.network
    off = (network.decode(network.encode(faces), faces.keep) - faces.corners).abs()[faces.keep].float()
    record_property("mean error in bins", float(off.mean()))
    assert 0.1 < off.mean() < 6
    assert off.median() <= 4


def test_ids_are_ids(tokenizer, real):
    for corners in real[::20]:
        ids = tokenizer.encode(corners)
        assert ids.shape == (len(ids), tokenizer.width)
        assert ids.dtype == np.int64
        assert ids.min() >= 0
        assert ids.max() < tokenizer.vocab
        np.testing.assert_array_equal(tokenizer.encode(corners), ids)
        np.testing.assert_array_equal(tokenizer.decode(ids), tokenizer.decode(ids))


def test_nothing_is_nothing(tokenizer):
    ids = tokenizer.encode(NONE)
    assert ids.shape == (0, tokenizer.width)
    np.testing.assert_array_equal(tokenizer.decode(ids), NONE)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bins", [2, 3, 16, 128, 257, 300, 1024])
def test_lossless_ones_are_exact_at_any_number_of_bins(name, bins, real):
    tokenizer = TOKENIZERS[name](bins)
    for corners in [*real[::40], real[0][:1], real[0][:2]]:
        finer = canonical(corners * (bins - 1) // (BINS - 1))
        np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(finer)), finer)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_ones_are_exact_on_large_meshes(name):
    """50,562 faces of a height field, and a part of them turned over."""
    along = np.arange(160)
    x, z = (axis.ravel() * 6 for axis in np.meshgrid(along, along, indexing="ij"))
    vertices = np.stack([x, 500 + (400 * np.sin(x / 130) * np.cos(z / 170)).astype(np.int64), z], 1)
    a = (along[:-1, None] * 160 + along[:-1]).ravel()
    faces = np.concatenate([np.stack([a, a + 160, a + 161], 1), np.stack([a, a + 161, a + 1], 1)])
    faces[::7] = faces[::7, ::-1]
    corners = canonical(vertices[faces])
    tokenizer = TOKENIZERS[name](1024)
    assert len(corners) == 50_562
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("bins", [8, BINS, 1024])
def test_lossless_ones_are_exact_on_soups(name, bins):
    tokenizer = TOKENIZERS[name](bins)

    @hypothesis.settings(max_examples=40)
    @hypothesis.given(soups(bins))
    def check(corners: np.ndarray) -> None:
        np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(corners)), corners)

    check()


def test_soups_hold_what_they_say():
    """Edges with six faces, bands with one side, fans that meet in a vertex."""
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}
    for _ in range(60):
        corners = soup([PARTS[rng.integers(len(PARTS))] for _ in range(3)], BINS, bool(rng.integers(2)), rng)
        faces = weld(corners)[1]
        _, counts = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0, return_counts=True)
        for name, there in (("border", 1 in counts), ("manifold", 2 in counts), ("crowded", counts.max(initial=0) >= 6)):
            found[name] = found.get(name, 0) + int(there)
    assert all(found[name] > 5 for name in ("border", "manifold", "crowded")), found


def test_a_vertex_has_the_same_ids_in_every_face(stepwise, real):
    for corners in real[::20]:
        ids = stepwise.encode(corners).reshape(-1, stepwise.spell).tolist()
        known: dict[tuple, list] = {}
        for vertex, spelled in zip(corners.reshape(-1, 3).tolist(), ids, strict=True):
            assert known.setdefault(tuple(vertex), spelled) == spelled


def test_other_meshes_of_a_batch_change_nothing(tiny_vqvae, real):
    few = real[3:7]
    faces = pad_faces(few)
    together = tiny_vqvae.network.encode(faces)
    for row, corners in enumerate(few):
        np.testing.assert_array_equal(together[row, : len(corners)], tiny_vqvae.encode(corners))
    decoded = tiny_vqvae.network.decode(together, faces.keep)
    for row, corners in enumerate(few):
        np.testing.assert_array_equal(canonical(decoded[row, : len(corners)].numpy()), tiny_vqvae.decode(tiny_vqvae.encode(corners)))


def test_a_tokenizer_is_described_and_built_again(tokenizer):
    again = build(describe(tokenizer))
    for name in ("bins", "vocab", "width", "spell", "lossy"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert describe(again) == describe(tokenizer)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "stroll"}, "the tokenizer 'stroll' is unknown; this meshgpt has coords, vqvae"),
        ({}, "the tokenizer None is unknown"),
        ({"name": "vqvae", "vqvae": {"dims": 3}}, "tokenizer.vqvae has the unknown field 'dims'"),
        ({"name": "coords", "bins": 1}, "1 bins do not fit; use 2 to 1024"),
        ({"name": "coords"}, "bins"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(description, message):
    with pytest.raises(ValueError, match=message):
        build(description)


@pytest.mark.parametrize("bins", [1, 0, 1025])
@pytest.mark.parametrize("name", LOSSLESS)
def test_bins_that_do_not_fit_are_refused(name, bins):
    with pytest.raises(ValueError, match=f"^{bins} bins do not fit; use 2 to 1024$"):
        TOKENIZERS[name](bins)


@pytest.mark.parametrize("low_high", [(-1, 5), (0, 128)])
def test_corners_outside_of_the_bins_are_refused(tokenizer, real, low_high):
    corners = real[0].copy()
    corners[2, 1, 0], corners[1, 0, 2] = low_high
    low, high = corners.min(), corners.max()
    with pytest.raises(ValueError, match=rf"^corners run from {low} to {high}; with 128 bins they must lie in 0 \.\. 127$"):
        tokenizer.encode(corners)


@pytest.mark.parametrize("wrong", [-1, "vocab"])
def test_a_wrong_id_is_named_with_its_place_and_the_cure(stepwise, real, wrong):
    ids = stepwise.encode(real[0])
    ids[5, 7] = ids[6, 0] = stepwise.vocab if wrong == "vocab" else wrong
    said = rf"END \(id {stepwise.vocab}\)" if wrong == "vocab" else "id -1"
    cure = r"cut the sequence there with ids\[:5\], or pass strict=False"
    with pytest.raises(ValueError, match=rf"^{said} of face 5, slot 7 is no (bin|code); {cure}$"):
        stepwise.decode(ids)
    np.testing.assert_array_equal(stepwise.decode(ids, strict=False), stepwise.decode(ids[:5]))


@pytest.mark.parametrize("wrong", [-1, "vocab", "more"])
def test_a_wrong_id_is_an_error_and_what_stands_before_it_is_kept(tokenizer, real, wrong):
    ids = tokenizer.encode(real[0])
    at = len(ids) * 2 // 3
    ids[at] = {"vocab": tokenizer.vocab, "more": tokenizer.vocab + 5, -1: -1}[wrong]
    with pytest.raises(ValueError, match=rf"{ids[at, 0]}.*\b{at}\b.*; "):
        tokenizer.decode(ids)
    kept = tokenizer.decode(ids, strict=False)
    np.testing.assert_array_equal(kept, canonical(kept))
    assert len(kept) < len(real[0])
    if not tokenizer.lossy:
        assert set(map(bytes, kept)) <= set(map(bytes, real[0]))


@pytest.mark.parametrize("shape", [(4, 8), (4, 10)])
def test_ids_of_another_width_are_refused(stepwise, shape):
    with pytest.raises(ValueError, match=rf"^ids of shape \(4, {shape[1]}\) are no faces of .*; pass an array of shape \(faces, 9\)$"):
        stepwise.decode(np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("more", [-1, 1])
def test_ids_of_any_other_width_are_refused(tokenizer, more):
    for strict in (True, False):
        with pytest.raises(ValueError, match=r"^ids of shape \(4, \d+\) .*; pass "):
            tokenizer.decode(np.zeros((4, tokenizer.width + more), dtype=np.int64), strict=strict)


# Grammars


def walk(grammar: Grammar, width: int, rng: np.random.Generator, faces: int, low: float = 0.0, ends: bool = False) -> np.ndarray:
    """Random legal ids, `low` of the time the lowest; END only where nothing else is left, unless `ends`."""
    state, ids = grammar.start(), []
    while len(ids) < faces * width:
        legal = grammar.legal(state)
        if (not legal[:-1].any() or ends) and rng.choice(np.flatnonzero(legal)) == len(legal) - 1:
            break
        choices = np.flatnonzero(legal[:-1])
        ids.append(int(choices[0] if rng.random() < low else rng.choice(choices)))
        state = grammar.advance(state, ids[-1])
    assert len(ids) % width == 0, "END came inside a step"
    return np.array(ids, dtype=np.int64).reshape(-1, width)


@pytest.mark.parametrize("low", [0.0, 0.9])
@pytest.mark.parametrize("bins", [2, 3, 16, BINS])
def test_random_walks_of_coords_are_canonical_meshes(bins, low):
    tokenizer = CoordsTokenizer(bins)
    for seed in range(25):
        ids = walk(tokenizer.grammar(), 9, np.random.default_rng(seed), 30, low)
        corners = tokenizer.decode(ids)
        np.testing.assert_array_equal(corners, canonical(corners))
        assert len(corners) == len(ids) > 0


@pytest.mark.parametrize("low", [0.0, 0.7])
@pytest.mark.parametrize(("vocab", "spell"), [(3, 1), (5, 1), (2, 2), (256, 3)])
def test_random_walks_of_faces_have_no_degenerate_and_no_repeated_face(vocab, spell, low):
    for seed in range(25):
        ids = walk(FaceGrammar(vocab, spell), 3 * spell, np.random.default_rng(seed), 30, low)
        faces = [frozenset(map(tuple, face)) for face in ids.reshape(-1, 3, spell).tolist()]
        assert all(len(face) == 3 for face in faces)
        assert len(set(faces)) == len(faces) > 0


def test_a_walk_through_few_vertices_ends_with_all_faces():
    """Four vertices have four faces, five have ten: the grammar must find every one of them and then end."""
    for vocab, spell, faces in ((3, 1, 1), (4, 1, 4), (2, 2, 4), (5, 1, 10)):
        for seed in range(20):
            assert len(walk(FaceGrammar(vocab, spell), 3 * spell, np.random.default_rng(seed), 99)) == faces


def test_random_walks_decode(stepwise):
    for seed in range(10):
        ids = walk(stepwise.grammar(), stepwise.width, np.random.default_rng(seed), 20)
        corners = stepwise.decode(ids)
        np.testing.assert_array_equal(corners, canonical(corners))


def walk_to_the_end(grammar: Grammar, rng: np.random.Generator, ids: int, low: float) -> list[int]:
    """Random legal ids, `low` of the time the lowest, until END comes; behind so many of them, END as soon as it is legal."""
    state, walked = grammar.start(), []
    while True:
        legal = grammar.legal(state)
        choices = np.flatnonzero(legal)
        assert len(choices), "the grammar leads nowhere"
        id = int(choices[0] if rng.random() < low else rng.choice(choices))
        if id == len(legal) - 1 or (legal[-1] and len(walked) >= ids):
            return walked
        walked.append(id)
        assert len(walked) < ids + 3000, "it does not end"
        state = grammar.advance(state, id)


@pytest.mark.parametrize("low", [0.0, 0.5])
@pytest.mark.parametrize("bins", [2, 3, BINS, 300])
@pytest.mark.parametrize("name", LOSSLESS)
def test_every_random_walk_ends_in_a_mesh(name, bins, low):
    """Decoding is strict: it refuses degenerate and repeated faces."""
    if name in WITHOUT_GRAMMAR:
        pytest.skip("it has no grammar")
    tokenizer, faces = TOKENIZERS[name](bins), 0
    for seed in range(3):
        ids = walk_to_the_end(tokenizer.grammar(), np.random.default_rng(seed), 90, low)
        corners = tokenizer.decode(np.array(ids, dtype=np.int64).reshape(-1, tokenizer.width))
        np.testing.assert_array_equal(corners, canonical(corners))
        faces += len(corners)
    assert faces or bins < 16, "on few places there may be no three different ones"


def test_walks_may_end_after_any_face():
    lengths = {len(walk(CoordsTokenizer(2).grammar(), 9, np.random.default_rng(seed), 60, ends=True)) for seed in range(40)}
    assert {0, 1, 2} <= lengths


def futures_of_coords(bins: int) -> list[np.ndarray]:
    """The ids of every face there is, in canonical order."""
    places = list(itertools.product(range(bins), repeat=3))
    triples = itertools.permutations(range(len(places)), 3)
    return [np.array([places[corner] for corner in face]).reshape(-1) for face in triples if face[0] == min(face)]


def allowed_ids(faces: list[np.ndarray], opened: list[int], vocab: int) -> np.ndarray:
    """Ids that some whole face goes on with."""
    mask = np.zeros(vocab + 1, dtype=bool)
    mask[[face[len(opened)] for face in faces if face[: len(opened)].tolist() == opened]] = True
    mask[vocab] = not opened
    return mask


Face = tuple[tuple[int, ...], ...]


def steps_with_futures(
    grammar: Grammar, faces: list[np.ndarray], fits: Callable[[Face, Face], bool], rng: np.random.Generator, low: float
) -> Iterator[tuple]:
    """Walk at random; at each id the grammar's answer, and that of looking at every face that could still come.

    `fits` says of two faces whether the second may come anywhere after the first.
    """
    state, vocab = grammar.start(), len(grammar.legal(grammar.start())) - 1
    spell = len(faces[0]) // 3
    while faces:
        opened: list[int] = []
        while len(opened) < 3 * spell:
            legal = grammar.legal(state)
            yield legal, allowed_ids(faces, opened, vocab)
            choices = np.flatnonzero(legal[:vocab])
            opened.append(int(choices[0] if rng.random() < low else rng.choice(choices)))
            state = grammar.advance(state, opened[-1])
        written = as_face(opened, spell)
        faces = [face for face in faces if fits(written, as_face(face, spell))]
    yield grammar.legal(state), allowed_ids([], [], vocab)


def as_face(ids: np.ndarray | list[int], spell: int) -> Face:
    return tuple(map(tuple, np.reshape(ids, (3, spell)).tolist()))


def other_corners(before: Face, after: Face) -> bool:
    return set(before) != set(after)


def in_order(before: Face, after: Face) -> bool:
    return before < after and other_corners(before, after)


def edges_of(face: Face) -> set[tuple]:
    return {(face[at], face[(at + 1) % 3]) for at in range(3)}


def other_edges(before: Face, after: Face) -> bool:
    return other_corners(before, after) and not edges_of(before) & edges_of(after)


@pytest.mark.parametrize("low", [0.0, 0.6, 0.9])
def test_coords_allow_exactly_what_leads_to_a_face(low):
    faces = futures_of_coords(2)
    for seed in range(3):
        for found, wanted in steps_with_futures(CoordsTokenizer(2).grammar(), faces, in_order, np.random.default_rng(seed), low):
            np.testing.assert_array_equal(found, wanted)


# A manifold walk of several ids to a vertex welds near vertices, which narrows the last id; so it is counted out for one id alone.
@pytest.mark.parametrize(
    ("vocab", "spell", "manifold"), [(4, 1, False), (2, 2, False), (6, 1, False), (2, 3, False), (4, 1, True), (5, 1, True), (7, 1, True)]
)
def test_faces_allow_exactly_what_leads_to_a_face(vocab, spell, manifold):
    vertices = list(itertools.product(range(vocab), repeat=spell))
    faces = [np.array(face).reshape(-1) for face in itertools.permutations(vertices, 3)]
    for seed in range(2):
        grammar, rng = FaceGrammar(vocab, spell, manifold), np.random.default_rng(seed)
        for found, wanted in steps_with_futures(grammar, faces, other_edges if manifold else other_corners, rng, 0.3):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("vocab", "spell"), [(5, 1), (9, 1), (3, 2), (2, 3), (256, 3)])
def test_manifold_walks_give_an_edge_two_faces_that_face_the_same_way(vocab, spell):
    for seed in range(6):
        ids = walk(FaceGrammar(vocab, spell, manifold=True), 3 * spell, np.random.default_rng(seed), 30, low=0.3)
        faces = [as_face(face, spell) for face in ids]
        edges = list(itertools.chain(*map(edges_of, faces)))
        assert len(set(edges)) == len(edges) > 0
        assert len(set(map(frozenset, faces))) == len(faces)
        assert all(len(set(face)) == 3 for face in faces)


@pytest.fixture(scope="session")
def shipped() -> MeshTokenizer:
    return read_tokenizer("vqvae")


def points_of(corners: np.ndarray) -> np.ndarray:
    """A cloud of the corners alone, in the cube."""
    return to_unit(corners.reshape(-1, 3))


def surface_of(corners: np.ndarray) -> np.ndarray:
    """A cloud of the whole surface, in the cube."""
    return sample_surface(mesh_of(corners, BINS), 4096, np.random.default_rng(0))[:, :3]


def test_shifts_say_where_vertices_are(shipped, real):
    """Exactly for coordinates; for codes nearly always to the bin, which is what sorts them."""
    for tokenizer, least in ((CoordsTokenizer(), 1.0), (shipped, 0.94)):
        exact = total = 0
        for corners in real[::10]:
            ids = torch.from_numpy(tokenizer.encode(corners))
            found = cells_of(ids, tokenizer.shifts, tokenizer.bins).transpose(-1, -2).numpy()
            exact, total = exact + (found == corners).sum(), total + corners.size
        assert exact / total >= least


def test_real_meshes_have_room_in_their_boxes(shipped, real):
    """Bounds bar hardly any id of a real mesh, and leave few of all ids."""
    barred = total = left = 0
    for corners in real[::60]:
        grammar = shipped.grammar(points=surface_of(corners))
        state = grammar.start()
        for id in shipped.encode(corners)[:60].flatten().tolist():
            roomy = grammar.room.within(state.open[len(state.open) // 3 * 3 :], state.last)
            barred, total, left = barred + (not grammar.legal(state)[id]), total + 1, left + roomy.mean()
            state = grammar.advance(state, id)
    assert barred / total < 0.01
    assert left / total < 0.7


def test_what_is_written_in_bounds_stays_on_the_surface_and_comes_bottom_up(shipped):
    box, rng = np.array([[-0.3, -0.1, -0.4], [0.2, 0.3, 0.1]]), np.random.default_rng(0)
    sides = rng.uniform(*box, (4000, 3))
    sides[np.arange(4000), np.arange(4000) % 3] = box[rng.integers(0, 2, 4000), np.arange(4000) % 3]
    grammar = shipped.grammar(manifold=True, points=sides)
    state, ids = grammar.start(), []
    for _ in range(40 * 9):
        ids.append(int(rng.choice(np.flatnonzero(grammar.legal(state)[:-1]))))
        state = grammar.advance(state, ids[-1])
    at = shifted(torch.tensor(ids).view(-1, 3, 3), shipped.shifts).numpy()
    low, high = (box + 0.5) * shipped.bins - 0.5
    off = np.minimum(np.abs(at - low), np.abs(at - high)).min(2)
    assert (((at >= low - 2) & (at <= high + 2)).all(2) & (off < 6)).mean() > 0.95, "where no id fits any more, any will"
    climbs = np.diff(at[:, 0, 1])
    assert (climbs >= -2).mean() > 0.95
    assert (at[:, 1:, 1] >= at[:, :1, 1] - 2).mean() > 0.95
    spots = np.unique(at.reshape(-1, 3), axis=0)
    apart = np.abs(spots[:, None] - spots).max(2) + 9 * np.eye(len(spots))
    assert (apart.min(1) >= 0.75).mean() > 0.95, "codes of the same place mean the same vertex"


def test_bounds_never_bar_everything(shipped):
    """A box without room, and a floor above it."""
    grammar = shipped.grammar(points=np.full((2, 3), 40.0))
    state = grammar.start()
    for _ in range(30):
        legal = grammar.legal(state)
        assert legal[:-1].any()
        state = grammar.advance(state, int(np.flatnonzero(legal[:-1])[-1]))


def test_a_grammar_needs_three_vertices():
    with pytest.raises(ValueError, match=r"^2 ids, 1 to a vertex, tell fewer than three vertices apart; use more of them$"):
        FaceGrammar(2, 1)


def test_advancing_leaves_the_given_state_as_it_was(speaking):
    grammar, rng = speaking.grammar(), np.random.default_rng(0)
    state = grammar.start()
    for _ in range(36):
        before = grammar.legal(state)
        one, two = rng.choice(np.flatnonzero(before[:-1]), 2)
        grammar.advance(state, int(one))
        after = grammar.advance(state, int(two))
        np.testing.assert_array_equal(grammar.legal(state), before)
        state = after


def written_faces(ids: np.ndarray, spell: int) -> np.ndarray:
    """Without the faces that a lossy tokenizer has made degenerate or equal to an earlier one."""
    seen: set[frozenset] = set()
    keep = []
    for step in ids:
        face = frozenset(map(tuple, step.reshape(-1, spell).tolist()))
        keep.append(len(face) == 3 and face not in seen)
        seen.add(face)
    return ids[keep]


def test_every_real_mesh_is_legal(speaking, real):
    few = real[:: 24 if not speaking.lossy else 48] if speaking.width > 1 else sorted(real, key=len)[:40:9]
    for number, corners in enumerate(few):
        ids = speaking.encode(corners)
        ids = written_faces(ids, speaking.spell) if speaking.lossy and speaking.width > 1 else ids
        grammar = speaking.grammar()
        state = grammar.start()
        for at, id in enumerate(ids.reshape(-1).tolist()):
            legal = grammar.legal(state)
            assert legal[id], f"mesh {number}: id {id} at {at} is refused"
            assert not legal[-1] or at % speaking.width == 0
            state = grammar.advance(state, id)
        assert grammar.legal(state)[-1]


# What only the VQ-VAE has


def test_corners_with_the_same_codes_are_one_vertex(tiny_vqvae, real):
    """So that no crack opens: what the decoder thinks of a vertex in one face, it thinks in all of them."""
    network = copy.deepcopy(tiny_vqvae.network)
    torch.nn.init.normal_(network.decoder.shift.weight, std=0.05)
    faces = pad_faces(real[2:4])
    ids = network.encode(faces)
    corners = network.decode(ids, faces.keep)
    for row in range(2):
        keep = faces.keep[row]
        codes = map(tuple, ids[row, keep].view(-1, tiny_vqvae.spell).tolist())
        seen: dict[tuple, list[int]] = {}
        for code, corner in zip(codes, corners[row, keep].view(-1, 3).tolist(), strict=True):
            assert seen.setdefault(code, corner) == corner


def test_a_decoder_without_a_shape_does_not_look_at_the_context(tiny_vqvae, real):
    ids = tiny_vqvae.encode(real[0])
    context = np.random.default_rng(0).random((50, 6)).astype(np.float32)
    np.testing.assert_array_equal(tiny_vqvae.decode(ids, context), tiny_vqvae.decode(ids))


def test_a_decoder_with_a_shape_does(tiny_vqvae, real):
    trained = tiny_vqvae.network.config
    network = VQVAE(replace(trained, shape=PointCloudConfig(vectors=4, dim=32, layers=1, heads=2, out=trained.dim))).eval()
    network.load_state_dict(tiny_vqvae.network.state_dict(), strict=False)
    torch.nn.init.normal_(network.decoder.shift.weight, std=0.05)
    tokenizer = VQVAETokenizer(network)
    ids = tokenizer.encode(real[0])
    one, two = (np.random.default_rng(seed).random((50, 6)).astype(np.float32) for seed in (0, 1))
    seen = [tokenizer.decode(ids, context) for context in (one, two, None)]
    assert all(len(a) != len(b) or (a != b).any() for a, b in itertools.combinations(seen, 2))
    np.testing.assert_array_equal(tokenizer.decode(ids, one), seen[0])


# Steering


def step_of(grammar: Grammar, state: object, width: int, rng: np.random.Generator) -> tuple[list[int], object]:
    """One random legal step."""
    ids: list[int] = []
    for _ in range(width):
        legal = grammar.legal(state)[:-1]
        assert legal.any()
        ids.append(int(rng.choice(np.flatnonzero(legal))))
        state = grammar.advance(state, ids[-1])
    return ids, state


@pytest.mark.parametrize("seed", range(5))
def test_steered_coords_begin_behind_what_is_passed_and_not_above_the_ceiling(seed):
    grammar, rng = CoordsTokenizer(8).grammar(), np.random.default_rng(seed)
    state, faces = grammar.start(), []
    for ceiling in (1.0, 3.2, 3.2, 5.9):
        first = (int(ceiling), 2, 3)
        ids, state = step_of(grammar, grammar.steered(state, Steering({first}, ceiling)), 9, rng)
        assert first < tuple(ids[:3])
        assert ids[0] <= ceiling
        faces.append(ids)
    corners = CoordsTokenizer(8).decode(np.array(faces))
    np.testing.assert_array_equal(corners, canonical(corners))


@pytest.mark.parametrize("edges", [{"manifold": False}, {"manifold": True}], ids=str)
def test_steered_faces_begin_with_nothing_that_is_passed(edges):
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (500, 3))
    tokenizer = read_tokenizer("vqvae")
    grammar, rng = tokenizer.grammar(points=points, **edges), np.random.default_rng(1)
    ids, state = step_of(grammar, grammar.start(), tokenizer.width, rng)
    first = tuple(ids[: tokenizer.spell])
    for _ in range(20):
        ids, _ = step_of(grammar, grammar.steered(state, Steering({first})), tokenizer.width, rng)
        assert tuple(ids[: tokenizer.spell]) != first


def test_steered_faces_begin_below_the_ceiling():
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (500, 3))
    tokenizer = read_tokenizer("vqvae")
    grammar, rng = tokenizer.grammar(True, points), np.random.default_rng(1)
    _, state = step_of(grammar, grammar.start(), tokenizer.width, rng)
    heights = {}
    for ceiling in (20.0, np.inf):
        steps = [step_of(grammar, grammar.steered(state, Steering(ceiling=ceiling)), tokenizer.width, rng)[0] for _ in range(20)]
        firsts = torch.tensor(steps)[:, : tokenizer.spell]
        heights[ceiling] = shifted(firsts, tokenizer.shifts)[:, 1].numpy()
    assert heights[20.0].max() <= 20
    assert heights[np.inf].max() > 40
