"""Walks that have gone astray stay walks; what should be written leads back to the mesh."""

from __future__ import annotations

import numpy as np
import pytest

from meshgpt.mesh import corners_of
from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.train.missteps import Missteps, astray
from meshgpt.train.sources import MeshSet

TOKENIZER = GatesTokenizer(128)
ALWAYS = Missteps(share=1.0)


def walks(val: MeshSet) -> list[np.ndarray]:
    return [TOKENIZER.encode(corners_of(val.mesh(index), TOKENIZER.bins)) for index in range(0, len(val), 20)]


def test_the_steps_taken_are_those_of_a_mesh_with_as_many_faces(val: MeshSet) -> None:
    for seed, ids in enumerate(walks(val)):
        taken, _ = astray(ids, TOKENIZER, np.random.default_rng(seed), ALWAYS)
        assert len(TOKENIZER.decode(taken)) == len(TOKENIZER.decode(ids))
        assert (taken != ids).any()


def test_a_vertex_is_written_where_it_belongs_and_comes_again_where_it_lies(val: MeshSet) -> None:
    for seed, ids in enumerate(walks(val)):
        taken, written = (TOKENIZER.places_of(steps)[0] for steps in astray(ids, TOKENIZER, np.random.default_rng(seed), ALWAYS))
        steps, _ = TOKENIZER.places_of(ids)
        drawn = np.flatnonzero(steps >= 0)
        first = np.zeros(len(steps), dtype=bool)
        first[drawn[np.unique(steps[drawn], return_index=True)[1]]] = True
        np.testing.assert_array_equal(written[first], steps[first])
        np.testing.assert_array_equal(written[~first], taken[~first])


def test_vertices_move_by_less_the_shorter_their_edges_are(val: MeshSet) -> None:
    far = Missteps(share=1.0, reach=50.0, of_edge=0.1)
    for seed, ids in enumerate(walks(val)):
        taken, _ = astray(ids, TOKENIZER, np.random.default_rng(seed), far)
        before, after = TOKENIZER.decode(ids), TOKENIZER.decode(taken)
        edges = np.linalg.norm(before - np.roll(before, -1, 1), axis=2)
        assert np.abs(np.sort(after.reshape(-1)) - np.sort(before.reshape(-1))).max() <= 0.1 * 5 * edges.max() + 1


@pytest.mark.parametrize("how", [Missteps(share=0.0), Missteps(share=1.0, reach=0.0)])
def test_without_missteps_nothing_changes(val: MeshSet, how: Missteps) -> None:
    for ids in walks(val):
        taken, written = astray(ids, TOKENIZER, np.random.default_rng(0), how)
        np.testing.assert_array_equal(taken, ids)
        np.testing.assert_array_equal(written, ids)


def test_the_share_says_how_many_meshes_go_astray(val: MeshSet) -> None:
    ids = walks(val)[0]
    rng = np.random.default_rng(0)
    moved = [(astray(ids, TOKENIZER, rng, Missteps(share=0.3))[0] != ids).any() for _ in range(200)]
    assert 0.2 < np.mean(moved) < 0.4
