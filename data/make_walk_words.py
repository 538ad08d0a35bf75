"""Count the moves and words of the tokenizer `walk`, and write them as tokenizer/walk.npz.

    python data/make_walk_words.py CORPUS/train.parquet tokenizer/walk.npz

A vertex can be reached by several moves. Which of them it counts for is settled in rounds: for the one that has the highest count so far.
Then all meshes are walked, and the pairs of moves or words that come together most often become words, many at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numba import njit

# Run as a script: the checkout, not data/, is where the package is.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from meshgpt.mesh import BINS, corners_of
from meshgpt.tokenizer.walk import places_of_cells
from meshgpt.tokenizer.walk_kernels import FAR, index_of_moves, shift_key, symbols_of
from meshgpt.tokenizer.walk_machine import (
    ACROSS,
    CORNER_BACK,
    GATE,
    GIVEN,
    HOP,
    SKIP,
    START,
    A,
    Y,
    Z,
    coordinate,
    hop,
    new_log,
    new_walk,
    place_of,
    reference,
    skip,
    start,
)
from meshgpt.train.sources import read_parquet

FIRST = [(SKIP, 0, 0, 0), (START, 0, 0, 0), (HOP, -1, 0, 0), (HOP, 1, 0, 0)]
SHIFTS, WORDS, LONGEST, ROUNDS = 4000, 7808, 16, 6
# Pairs become words together when they are nearly as frequent as the first of them.
NEARLY, AT_ONCE = 0.93, 100
WAYS = 2 * (FAR - 1) + CORNER_BACK - ACROSS + 1


@njit
def ways_to_vertices(symbols, faces):
    """For each vertex of a walk in coordinates that no neighbouring gate ends in, the keys of all moves that lead to it, or -1."""
    walk, log = new_walk(BINS, faces), new_log(1)
    ways, count = np.full((len(symbols), WAYS), -1, np.int64), 0
    for symbol in symbols:
        log[0] = 0
        if symbol == 3 * BINS + SKIP:
            skip(walk, log)
            continue
        if symbol == 3 * BINS + START:
            start(walk, log)
            continue
        if symbol >= 2 * BINS:
            y = walk[Y] if walk[GIVEN] else walk[A] >> 20
            z = walk[Z] if walk[GIVEN] == 2 else walk[A] >> 10 & 1023
            count += list_ways(walk, symbol % BINS, y, z, ways[count])
        coordinate(walk, log, symbol // BINS, symbol % BINS)
    return ways[:count]


@njit
def list_ways(walk, x, y, z, ways):
    """1, or 0 for a vertex that one of the neighbouring gates ends in."""
    vertex, at = place_of(x, y, z), 0
    if walk[GATE] >= 0:
        if hop(walk, 1) == vertex or hop(walk, -1) == vertex:
            return 0
        for count in range(2, FAR + 1):
            for way in (-count, count):
                ways[at] = shift_key(HOP, way, 0, 0) if hop(walk, way) == vertex else -1
                at += 1
    at = 2 * (FAR - 1)
    for kind in range(ACROSS, CORNER_BACK + 1):
        from_x, from_y, from_z = reference(walk, kind)
        ways[at] = shift_key(kind, x - from_x, y - from_y, z - from_z)
        at += 1
    return 1


def most_frequent(ways: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The moves that most vertices are reached by."""
    keys, inverse = np.unique(ways, return_inverse=True)
    inverse = inverse.reshape(ways.shape)
    counts = np.bincount(inverse.ravel()).astype(float)
    for _ in range(ROUNDS):
        counts[keys < 0] = 0
        best = counts[inverse].argmax(1)
        counts = np.bincount(inverse[np.arange(len(inverse)), best], minlength=len(keys)).astype(float)
    chosen = keys[np.argsort(-counts, kind="stable")[:SHIFTS]].tolist()
    return [(key >> 39, (key >> 26 & 8191) - 4096, (key >> 13 & 8191) - 4096, (key & 8191) - 4096) for key in chosen]


def pairs_of(walks: list[np.ndarray], moves: int) -> list[tuple[int, int]]:
    """Pairs that become words, the most frequent first; walks are moves, with -1 where no word may reach across."""
    stream = np.concatenate([np.append(walk, -1) for walk in walks])
    lengths, pairs = np.ones(WORDS, dtype=np.int64), []
    while moves + len(pairs) < WORDS:
        left, right = stream[:-1], stream[1:]
        whole = (left >= 0) & (right >= 0)
        whole[whole] = lengths[left[whole]] + lengths[right[whole]] <= LONGEST
        keys, counts = np.unique(left[whole] << 16 | right[whole], return_counts=True)
        order = np.argsort(-counts, kind="stable")[: 3 * AT_ONCE]
        chosen = apart(keys[order][counts[order] >= NEARLY * counts.max()].tolist())[: min(AT_ONCE, WORDS - moves - len(pairs))]
        first = moves + len(pairs)
        for key in chosen:
            lengths[moves + len(pairs)] = lengths[key >> 16] + lengths[key & 65535]
            pairs.append((key >> 16, key & 65535))
        order = np.argsort(chosen)
        stream = stream[: merge(stream, np.array(chosen)[order], first + order)]
    return pairs


def apart(keys: list[int]) -> list[int]:
    """Those of the pairs that cannot overlap with one chosen before."""
    chosen: list[int] = []
    firsts: set[int] = set()
    seconds: set[int] = set()
    for key in keys:
        left, right = key >> 16, key & 65535
        if left in seconds or right in firsts or (left == right and left in firsts | seconds):
            continue
        firsts.add(left)
        seconds.add(right)
        chosen.append(key)
    return chosen


@njit
def merge(stream, keys, words):
    """Write the words over their pairs, in place, from left to right; the new length."""
    at = end = 0
    while at < len(stream):
        stream[end] = stream[at]
        if at + 1 < len(stream) and stream[at] >= 0 and stream[at + 1] >= 0:
            key = stream[at] << 16 | stream[at + 1]
            slot = np.searchsorted(keys, key)
            if slot < len(keys) and keys[slot] == key:
                stream[end] = words[slot]
                at += 1
        at, end = at + 1, end + 1
    return end


def main(corpus: Path, out: Path) -> None:
    meshes, faces = read_parquet(corpus), []
    for index in range(len(meshes)):
        faces.append(places_of_cells(corners_of(meshes.mesh(index)).astype(np.int32)))
    # Without moves, all vertices are written in coordinates.
    bare = index_of_moves(np.array(FIRST[:2]))
    ways = [ways_to_vertices(symbols_of(mesh, BINS, *bare)[0], len(mesh)) for mesh in faces]
    rows = np.array([*FIRST, *most_frequent(np.concatenate(ways))], dtype=np.int16)
    known = index_of_moves(rows.astype(np.int32))
    walks = [symbols_of(mesh, BINS, *known)[0].astype(np.int64) - 3 * BINS for mesh in faces]
    pairs = pairs_of([np.maximum(walk, -1) for walk in walks], len(rows))
    np.savez_compressed(out, rows=rows, pairs=np.array(pairs, dtype=np.uint16))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
