"""Gate tokens: exact on any faces, never malformed by a legal walk, on the ground where they can be."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legal_walks import legal_length
from soups import soups

from meshgpt.mesh import canonical, corners_of, sample_surface, weld
from meshgpt.tokenizer import GatesTokenizer
from meshgpt.tokenizer.gate_grammar import CAPACITY, FACES, GATE, STAGE, GateGrammar, Ground
from meshgpt.tokenizer.gates import sides_of
from meshgpt.tokenizer.interface import Steering

TOKENIZER = GatesTokenizer()
PLACES = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
TETRAHEDRON = canonical(PLACES[np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])])


def test_the_grammar_reads_the_walk_where_the_machine_writes_it():
    from meshgpt.tokenizer import walk_machine

    assert (FACES, STAGE, GATE, CAPACITY) == (walk_machine.FACES, walk_machine.STAGE, walk_machine.GATE, walk_machine.CAPACITY)


@pytest.mark.parametrize(("bins", "sides"), [(128, (8, 4, 4)), (1024, (16, 8, 8)), (100, (8, 4, 4)), (2, (2, 1, 1)), (3, (4, 1, 1))])
def test_blocks_are_powers_of_two_that_hold_all_bins(bins, sides):
    assert sides_of(bins) == sides
    assert np.prod(sides) >= bins > np.prod(sides) / 2


@pytest.mark.parametrize("bins", [128, 100, 1024])
def test_real_meshes_come_back_exactly_and_are_legal(val, bins):
    for index in range(0, len(val), 12):
        comes_back(GatesTokenizer(bins), corners_of(val.mesh(index), bins))


def comes_back(tokenizer: GatesTokenizer, corners: np.ndarray) -> None:
    ids = tokenizer.encode(corners)
    np.testing.assert_array_equal(tokenizer.decode(ids), corners)
    assert legal_length(tokenizer.grammar(), ids.reshape(-1).tolist()) == ids.size


@given(st.data(), st.sampled_from([2, 3, 100, 128, 1024]))
@settings(max_examples=80)
def test_any_faces_come_back_exactly(data, bins):
    comes_back(GatesTokenizer(bins), data.draw(soups(bins)))


def test_a_face_shares_an_edge_with_one_before_or_takes_two_steps_more(real):
    from meshgpt.tokenizer.gate_kernels import walk_along
    from meshgpt.tokenizer.walk_kernels import faces_of

    for corners in real[::20]:
        ids = TOKENIZER.encode(corners)
        faces = faces_of(walk_along(TOKENIZER.places_of(ids)[0], TOKENIZER.bins, 0)[0]).tolist()
        edges: set[frozenset[int]] = set()
        alone = 0
        for face in faces:
            sides = {frozenset((face[turn], face[turn - 1])) for turn in range(3)}
            alone += not sides & edges
            edges |= sides
        skipped = int((ids[:, 0] == TOKENIZER.skip).sum())
        assert 1 <= alone <= (len(ids) - skipped - len(faces)) / 2


def test_a_tetrahedron_is_four_vertices_and_two_faces_that_close_it():
    ids = TOKENIZER.encode(TETRAHEDRON)
    assert len(ids) == 3 + 3
    assert len(np.unique(ids, axis=0)) == 4
    assert not (ids[:, 0] == TOKENIZER.skip).any()


def test_a_triangle_skips_its_three_gates():
    ids = TOKENIZER.encode(np.array([[[0, 0, 0], [9, 0, 0], [0, 9, 0]]]))
    assert ids[3:].tolist() == [[TOKENIZER.skip, 0, 0]] * 3


def test_what_makes_no_face_is_named_and_what_stands_before_it_kept(real):
    corners = real[0]
    ids = TOKENIZER.encode(corners)
    for at, vertex in ((4, ids[3]), (0, (TOKENIZER.skip, 0, 0))):
        wrong = ids.copy()
        wrong[at] = vertex
        with pytest.raises(ValueError, match=rf"of step {at} .*; cut the sequence with ids\[:{at}\]"):
            TOKENIZER.decode(wrong)
        assert len(TOKENIZER.decode(wrong, strict=False)) == max(0, at - 2)


def random_ids(grammar: GateGrammar, seed: int, steps: int, skips: float = 0.1) -> np.ndarray:
    rng, state, ids = np.random.default_rng(seed), grammar.start(), []
    while len(ids) < 3 * steps:
        choices = np.flatnonzero(grammar.legal(state)[:-1])
        if not len(choices):
            break
        skip = grammar.skip in choices and (len(choices) == 1 or rng.random() < skips)
        id = grammar.skip if skip else int(rng.choice(choices[choices < grammar.skip]))
        ids.append(id)
        state = grammar.advance(state, id)
    return np.array(ids, dtype=np.int64)[: len(ids) // 3 * 3].reshape(-1, 3)


@pytest.mark.parametrize("bins", [2, 3, 5, 128])
@pytest.mark.parametrize("manifold", [False, True])
def test_legal_walks_make_sound_meshes(bins, manifold):
    tokenizer = GatesTokenizer(bins)
    for seed in range(12):
        corners = tokenizer.decode(random_ids(tokenizer.grammar(manifold), seed, 150))
        _, faces = weld(corners)
        assert len(np.unique(np.sort(faces, 1), axis=0)) == len(faces), "a face is there twice"
        assert all(len(set(face)) == 3 for face in faces.tolist())
        edges = Counter((face[turn], face[(turn + 1) % 3]) for face in faces.tolist() for turn in range(3))
        assert not manifold or max(edges.values(), default=1) == 1


def test_without_manifold_edges_get_more_faces():
    edges = Counter()
    for seed in range(12):
        _, faces = weld(GatesTokenizer(3).decode(random_ids(GatesTokenizer(3).grammar(), seed, 150)))
        edges.update((seed, face[turn], face[(turn + 1) % 3]) for face in faces.tolist() for turn in range(3))
    assert max(edges.values()) > 1


def test_after_the_last_face_there_is_only_the_end():
    grammar = TOKENIZER.grammar(faces=5)
    ids = random_ids(grammar, 0, 100, skips=0.0)
    assert len(TOKENIZER.decode(ids)) == 5
    state = grammar.start()
    for id in ids.reshape(-1):
        state = grammar.advance(state, int(id))
    assert np.flatnonzero(grammar.legal(state)).tolist() == [TOKENIZER.vocab]


def test_a_state_is_not_changed_by_going_on():
    grammar = TOKENIZER.grammar()
    state = grammar.start()
    for id in TOKENIZER.encode(TETRAHEDRON).reshape(-1)[:11]:
        state = grammar.advance(state, int(id))
    before = state.walk.copy()
    for id in np.flatnonzero(grammar.legal(state))[:5]:
        grammar.advance(state, int(id))
    np.testing.assert_array_equal(state.walk, before)


def test_vertices_stay_on_the_ground(val):
    points = sample_surface(val.mesh(0), 4096, np.random.default_rng(0))[:, :3]
    ids = random_ids(TOKENIZER.grammar(points=points), 0, 60, skips=0.3)
    vertices = (weld(TOKENIZER.decode(ids))[0] + 0.5) / TOKENIZER.bins - 0.5
    apart = np.linalg.norm(vertices[:, None] - points, axis=-1).min(1)
    assert apart.max() < 8 / TOKENIZER.bins
    free = weld(TOKENIZER.decode(random_ids(TOKENIZER.grammar(), 0, 60)))[0]
    assert np.linalg.norm((free + 0.5)[:, None] / TOKENIZER.bins - 0.5 - points, axis=-1).min(1).max() > 10 / TOKENIZER.bins


@pytest.mark.parametrize("bins", [3, 100, 128, 1024])
def test_real_vertices_lie_on_their_ground(val, bins):
    sides = sides_of(bins)
    for index in range(0, len(val), 30):
        mesh = val.mesh(index)
        ground = Ground.around(sample_surface(mesh, 4096, np.random.default_rng(0))[:, :3].astype(np.float64), sides, bins)
        ids = GatesTokenizer(bins).encode(corners_of(mesh, bins))
        ids = ids[ids[:, 0] != GatesTokenizer(bins).skip]
        places, _ = GatesTokenizer(bins).places_of(ids)
        y, z, x = places >> 20, places >> 10 & 1023, places & 1023
        assert ground.blocks
        for level in range(len(ground.blocks)):
            above = math.prod(sides[level:])
            on = ground.blocks[level][y // above, z // above, x // above, ids[:, level]]
            assert np.mean(on) > 0.99, f"level {level}"


def test_a_face_of_its_own_begins_where_it_is_steered_to():
    grammar = TOKENIZER.grammar()
    state = grammar.steered(grammar.start(), Steering(spots=np.array([[40.0, 50.0, 60.0]]), reach=1.0))
    for _ in range(3):
        (choices,) = np.nonzero(grammar.legal(state)[:-1])
        state = grammar.advance(state, int(choices[0]))
    y, z, x = state.steps[0] >> 20, state.steps[0] >> 10 & 1023, state.steps[0] & 1023
    assert np.linalg.norm(np.array([x, y, z]) - (40, 50, 60)) <= 2
