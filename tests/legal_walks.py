"""Walks over the legal ids of a grammar with one id to a step, for the tests of such tokenizers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from meshgpt.mesh import canonical
from meshgpt.tokenizer.interface import Grammar, MeshTokenizer


def random_walk(grammar: Grammar, rng: np.random.Generator, length: int, high: float = 0.0) -> np.ndarray:
    """Legal ids, drawn evenly, but `high` of the time the highest, which are the rare ones; after `length` of them END as soon as it is
    legal, or earlier when it is drawn."""
    state, ids = grammar.start(), []
    while True:
        legal = grammar.legal(state)
        choices = np.flatnonzero(legal)
        assert len(choices), f"nothing is legal after {ids}"
        drawn = int(choices[-1 - legal[-1]] if rng.random() < high and len(choices) > 1 else rng.choice(choices))
        if drawn == len(legal) - 1 or (len(ids) >= length and legal[-1]):
            return np.array(ids, dtype=np.int64)[:, None]
        ids.append(drawn)
        state = grammar.advance(state, drawn)


def longest_walk(grammar: Grammar, rng: np.random.Generator) -> np.ndarray:
    """Legal ids, drawn evenly, until nothing but END is legal."""
    state, ids = grammar.start(), []
    while (legal := grammar.legal(state))[:-1].any():
        ids.append(int(rng.choice(np.flatnonzero(legal[:-1]))))
        state = grammar.advance(state, ids[-1])
    assert legal[-1]
    return np.array(ids, dtype=np.int64)[:, None]


def legal_length(grammar: Grammar, ids: Iterable[int]) -> int:
    """How many ids the longest beginning has that is legal and may end there."""
    state, kept = grammar.start(), 0
    legal = grammar.legal(state)
    for at, id in enumerate(ids):
        if not 0 <= id < len(legal) - 1 or not legal[id]:
            break
        state = grammar.advance(state, id)
        legal = grammar.legal(state)
        kept = at + 1 if legal[-1] else kept
    return kept


def damaged(ids: np.ndarray, vocab: int, rng: np.random.Generator) -> np.ndarray:
    """Some ids left out, said twice, or replaced by others, END and what is no id among them."""
    column = ids[:, 0].tolist()
    for _ in range(int(rng.integers(1, 4)) if column else 0):
        at = int(rng.integers(len(column)))
        others = ([], [column[at]] * 2, [int(rng.integers(-1, vocab + 1))], [vocab - 1], [column[int(rng.integers(len(column)))]])
        column[at : at + 1] = others[int(rng.integers(len(others)))] or column[-1:]
    return np.array(column, dtype=np.int64)[:, None]


def refusals(tokenizer: MeshTokenizer, rng: np.random.Generator, walks: int, length: int, high: float) -> int:
    """How many of so many damaged walks are refused: decode takes what the grammar allows, and nothing else."""
    refused = 0
    for _ in range(walks):
        ids = damaged(random_walk(tokenizer.grammar(), rng, length, high), tokenizer.vocab, rng)
        kept = legal_length(tokenizer.grammar(), ids[:, 0].tolist())
        if kept < len(ids):
            refused += 1
            with pytest.raises(ValueError, match=rf"cut the sequence with ids\[:{kept}\]$"):
                tokenizer.decode(ids)
        np.testing.assert_array_equal(tokenizer.decode(ids, strict=False), tokenizer.decode(ids[:kept]))
    return refused


def walks_give_distinct_whole_faces(tokenizer: MeshTokenizer, seeds: int, length: int, high: float) -> None:
    for seed in range(seeds):
        corners = tokenizer.decode(random_walk(tokenizer.grammar(), np.random.default_rng(seed), length, high))
        np.testing.assert_array_equal(corners, canonical(corners))
        assert distinct_faces(corners) == len(corners), f"seed {seed}"


def distinct_faces(corners: np.ndarray) -> int:
    """How many faces there are that no other one shares all three vertices with, and that touch no vertex twice."""
    faces = {frozenset(map(tuple, face)) for face in corners.tolist()}
    return sum(len(face) == 3 for face in faces)
