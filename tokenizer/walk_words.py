"""The words of walks: what ids stand for that are no coordinates.

`walk.npz` holds `rows`, the moves, of which those with a shift are the 4,000 that came most often; and `pairs`, of moves or words that came
together most often, each of which is a word of its own, as in byte pair encoding (Sennrich et al., "Neural machine translation of rare
words with subword units", 2016). Both were counted on the train split of 7,697 meshes at 128 bins.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

TABLE = Path(__file__).with_name("walk.npz")


class Words(NamedTuple):
    """What ids say. A word's moves are flat[ends[word] : ends[word + 1]]; `rows` says what a move does (see walk_machine.py)."""

    rows: Int[np.ndarray, "moves 4"]
    flat: Int[np.ndarray, "length"]
    ends: Int[np.ndarray, "words+1"]
    longest: int


@cache
def words() -> Words:
    """The moves and words that ship."""
    with np.load(TABLE, allow_pickle=False) as table:
        rows, pairs = table["rows"], table["pairs"].tolist()
    spelled = [(move,) for move in range(len(rows))]
    for left, right in pairs:
        spelled.append(spelled[left] + spelled[right])
    lengths = [len(word) for word in spelled]
    flat = np.concatenate([np.array(word, dtype=np.int32) for word in spelled])
    return Words(rows.astype(np.int32), flat, np.cumsum([0, *lengths], dtype=np.int32), max(lengths))


@cache
def moves_by_shift() -> tuple[np.ndarray, ...]:
    """What `symbols_of` looks moves up in."""
    from .walk_kernels import index_of_moves

    return index_of_moves(words().rows)


@cache
def tree() -> tuple[np.ndarray, ...]:
    """What `fewest_ids` looks words up in."""
    from .walk_kernels import index_of_words

    return index_of_words(words().flat, words().ends)


@cache
def dictionary() -> tuple[np.ndarray, np.ndarray]:
    """The words in the order of their moves, and how many first moves each has in common with the one before."""
    _, flat, ends, _ = words()
    spelled = [flat[begin:end].tolist() for begin, end in pairwise(ends.tolist())]
    order = sorted(range(len(spelled)), key=spelled.__getitem__)
    shared = [0, *(_in_common(spelled[one], spelled[two]) for one, two in pairwise(order))]
    return np.array(order, dtype=np.int32), np.array(shared, dtype=np.int32)


def _in_common(one: list[int], two: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def walk_through(ids: Integer[np.ndarray, "n"], bins: int) -> tuple[np.ndarray, int, int, int]:
    """The walk after the ids; what is wrong (0 is nothing) with the id at which place; how many ids make whole faces."""
    from .walk_kernels import walked

    rows, flat, ends, longest = words()
    return walked(bins, np.ascontiguousarray(ids, dtype=np.int64), rows, flat, ends, longest)
