"""Going on behind a step: what the transformer reads of it, and what the next vertex is then written from. Compiled, and kept on disk.

The tuples are those of `gate_loops.py`; `frames` and `found` are those of `tokenizer/gate_kernels.py`.

n  rows that are read      r  rows that are written      k  candidates      d  width of the model
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from meshgpt.compiled import compiled
from meshgpt.gate_geometry_kernels import frames_of, gates_of, offers_of
from meshgpt.step_kernels import add, put, times

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "02c4b940e209dfcd"


@compiled
def enter(
    standing: Any, clouds: Any, reader: Any, decoder: Any, rows: Int[np.ndarray, "n"], ids: Int[np.ndarray, "n 3"], frames: Any
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]:
    """The vertex of each row and the gate that comes next as one vector, and the features of the gate; the gate is where it stands."""
    count = len(rows)
    corners, stages = corners_of(frames, decoder.bins), stages_of(frames)
    middles, axes = np.empty((count, 3), np.float32), np.empty((count, 3, 3), np.float32)
    lengths, guesses = np.empty(count, np.float32), np.empty((count, 3), np.float32)
    gates_of(corners, stages, reader.shortest, middles, axes, lengths, guesses)
    features = np.empty((count, reader.embed.enter.shape[0]), np.float32)
    fan = reader.turns, reader.scaled, reader.fixed
    fields = clouds.fields, rows
    frames_of(corners, stages, middles, axes, lengths, *fields, decoder.near, *fan, reader.frequencies, reader.stages, features)
    x = embedded(reader.embed, features)
    add_vertices(x, clouds, reader, rows, ids)
    for row in range(count):
        at = rows[row]
        standing.lengths[at] = lengths[row]
        put(standing.middles[at], middles[row])
        for axis in range(3):
            put(standing.axes[at, axis], axes[row, axis])
            standing.guess[at, axis] = in_bins(guesses[row, axis], decoder.bins)
    return x, features


@compiled
def corners_of(frames: Int[np.ndarray, "n 6"], bins: int) -> Float[np.ndarray, "n 5 3"]:
    corners = np.empty((len(frames), 5, 3), np.float32)
    for row in range(len(frames)):
        for corner in range(5):
            spread(frames[row, corner], bins, corners[row, corner])
    return corners


@compiled
def stages_of(frames: Int[np.ndarray, "n 6"]) -> Int[np.ndarray, "n"]:
    stages = np.empty(len(frames), np.int64)
    for row in range(len(frames)):
        stages[row] = frames[row, 5]
    return stages


@compiled
def spread(place: int, bins: int, to: Float[np.ndarray, "3"]) -> None:
    """A place in the cube."""
    to[0] = ((place & 1023) + 0.5) / bins - 0.5
    to[1] = ((place >> 20) + 0.5) / bins - 0.5
    to[2] = ((place >> 10 & 1023) + 0.5) / bins - 0.5


@compiled
def in_bins(position: float, bins: int) -> int:
    """The nearest one."""
    return int(np.rint((position + np.float32(0.5)) * np.float32(bins) - np.float32(0.5)))


@compiled
def embedded(embed: Any, features: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n d"]:
    """See `gate_decoder.GateEmbedding`."""
    inside = np.empty((len(features), embed.enter.shape[1]), np.float32)
    times(features, embed.enter, inside)
    for row in range(len(inside)):
        add(inside[row], embed.enter_bias)
    bend(inside)
    vectors = np.empty((len(features), embed.leave.shape[1]), np.float32)
    times(inside, embed.leave, vectors)
    for row in range(len(vectors)):
        add(vectors[row], embed.leave_bias)
    return vectors


@compiled
def bend(x: Float[np.ndarray, "n d"]) -> None:
    """SiLU, in place."""
    for row in range(len(x)):
        for at in range(x.shape[1]):
            x[row, at] = x[row, at] / (np.float32(1) + np.exp(-x[row, at]))


@compiled
def add_vertices(x: Float[np.ndarray, "n d"], clouds: Any, reader: Any, rows: Int[np.ndarray, "n"], ids: Int[np.ndarray, "n 3"]) -> None:
    """The vertices of the steps, and what lies around their coarse blocks; or that a gate was skipped."""
    count = len(rows)
    seen, around = np.empty((count, clouds.vectors.shape[2]), np.float32), np.empty_like(x)
    for row in range(count):
        put(seen[row], clouds.vectors[rows[row], min(ids[row, 0], clouds.vectors.shape[1] - 1)])
    times(seen, reader.place, around)
    for row in range(count):
        if ids[row, 0] == reader.skip:
            add(x[row], reader.skipped)
            continue
        for level in range(ids.shape[1]):
            add(around[row], reader.codes[level][min(ids[row, level], len(reader.codes[level]) - 1)])
        add(x[row], around[row])


@compiled
def leave(
    standing: Any,
    clouds: Any,
    reader: Any,
    decoder: Any,
    rows: Int[np.ndarray, "n"],
    frames: Int[np.ndarray, "n 6"],
    found: Int[np.ndarray, "n k"],
    hidden: Float[np.ndarray, "n d"],
    features: Float[np.ndarray, "n f"],
) -> None:
    """What the ids of the next step are written from; see `GateDecoder.stand`."""
    offers = offered(standing, clouds, reader, decoder, rows, frames, found)
    base, most = np.empty((len(rows), reader.base.shape[1]), np.float32), np.empty((len(rows), offers.shape[2]), np.float32)
    times(hidden, reader.base, base)
    gate = embedded(reader.gate, features)
    for row in range(len(rows)):
        for part in range(offers.shape[2]):
            most[row, part] = -np.inf
        for one in range(found.shape[1]):
            for part in range(offers.shape[2]):
                most[row, part] = max(most[row, part], offers[row, one, part] if found[row, one] >= 0 else np.float32(0))
    raised = np.empty_like(base)
    times(most, reader.offered, raised)
    for row in range(len(rows)):
        at = rows[row]
        for part in range(base.shape[1]):
            before = base[row, part] + (reader.base_bias[part] + gate[row, part])
            standing.base[at, part] = before + (raised[row, part] + reader.offered_bias[part])
        for one in range(found.shape[1]):
            put(standing.offers[at, one], offers[row, one])
        put_references(standing.references[at], frames[row], decoder.bins)
        put_candidates(standing.candidates[at], standing.there[at], found[row], decoder)


@compiled
def offered(
    standing: Any,
    clouds: Any,
    reader: Any,
    decoder: Any,
    rows: Int[np.ndarray, "n"],
    frames: Int[np.ndarray, "n 6"],
    found: Int[np.ndarray, "n k"],
) -> Float[np.ndarray, "n k w"]:
    """What face each candidate would make, as vectors."""
    count, candidates = found.shape
    positions = np.empty((count, candidates, 3), np.float32)
    for row in range(count):
        for one in range(candidates):
            spread(max(found[row, one], 0), decoder.bins, positions[row, one])
    features = np.empty((count, candidates, reader.offer.shape[0]), np.float32)
    gates = standing.middles, standing.axes, standing.lengths
    offers_of(corners_of(frames, decoder.bins), stages_of(frames), positions, *gates, clouds.fields, rows, decoder.near, features)
    offers = np.empty((count * candidates, reader.offer.shape[1]), np.float32)
    times(features.reshape(count * candidates, -1), reader.offer, offers)
    for one in range(len(offers)):
        add(offers[one], reader.offer_bias)
    bend(offers)
    return offers.reshape(count, candidates, -1)


@compiled
def put_references(to: Int[np.ndarray, "refs 3"], frame: Int[np.ndarray, "6"], bins: int) -> None:
    """Corners around the gate, and where parallelograms would put the next one."""
    for corner in range(5):
        to[corner, 0], to[corner, 1], to[corner, 2] = frame[corner] & 1023, frame[corner] >> 20, frame[corner] >> 10 & 1023
    for axis in range(3):
        a, b, c, p, n = to[0, axis], to[1, axis], to[2, axis], to[3, axis], to[4, axis]
        to[5, axis], to[6, axis], to[7, axis] = a + b - c, a + n - b, b + p - a


@compiled
def put_candidates(candidates: Int[np.ndarray, "k 3"], there: Any, found: Int[np.ndarray, "k"], decoder: Any) -> None:
    """The ids of the candidates, and which are real."""
    for one in range(len(found)):
        there[one] = found[one] >= 0
        place = max(found[one], 0)
        for level in range(candidates.shape[1]):
            side, block = decoder.sides[level], decoder.blocks[level]
            x, y, z = (place & 1023) // block % side, (place >> 20) // block % side, (place >> 10 & 1023) // block % side
            candidates[one, level] = (y * side + z) * side + x
