"""The logits of a slot in one go: `gate_decoder_kernels.py`, one loop after another. Compiled, and kept on disk.

The tuples are those of `gate_loops.py`.

n  rows that are asked about      r  rows that are written      s  ids so far      e  width of the decoder      q  answers to questions
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from meshgpt.compiled import compiled
from meshgpt.gate_decoder_kernels import (
    add_digits,
    add_gate,
    add_offers,
    add_places,
    add_touching,
    block_features,
    first_bins,
    middle_of,
    nearest,
    think,
)
from meshgpt.step_kernels import add, put, times

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "0400521dd702fce4"


@compiled
def slot_logits(
    standing: Any, clouds: Any, decoder: Any, slot: Any, rows: Int[np.ndarray, "n"], ids: Int[np.ndarray, "n s"]
) -> Float[np.ndarray, "n v"]:
    """Of the slot after the ids, with SKIP and END behind those of slot 0; `rows` of what stands."""
    count, begun = ids.shape
    starts, size, ends = first_bins(ids, decoder.sides, decoder.blocks), len(slot.bias), slot.ends
    x = thought(standing, clouds, decoder, slot, rows, ids, starts)
    asked, answers = np.empty((count, slot.asks.shape[1]), np.float32), np.empty((count, size), np.float32)
    times(x, slot.asks, asked)
    direct = np.empty((count, ends[0]), np.float32)
    for row in range(count):
        put(direct[row], asked[row])
    times(direct, slot.answers, answers)
    logits = np.empty((count, size if begun else size + 2), np.float32)
    for row in range(count):
        at, to, to_ask = rows[row], logits[row, :size], asked[row]
        put(to, answers[row])
        add(to, slot.bias)
        add_geometry(to, to_ask, standing, clouds, decoder, slot, at, ids[row], starts[row])
        if begun:
            near = points_around(clouds, decoder, at, ids[row], starts[row])
            add_touching(to, to_ask[ends[6] :], near, slot.offsets, decoder.nearest, decoder.touches, decoder.counts, decoder.plane_touches)
        else:
            add_places(to, to_ask[ends[6] : ends[7]], clouds.vectors[at])
            for id in range(size):
                to[id] += to_ask[ends[7] + standing.uses[at, id]]
    if begun == 0:
        stops = np.empty((count, 2), np.float32)
        times(x, decoder.stop, stops)
        for row in range(count):
            for way in range(2):
                logits[row, size + way] = stops[row, way] + decoder.stop_bias[way]
    return logits


@compiled
def thought(
    standing: Any,
    clouds: Any,
    decoder: Any,
    slot: Any,
    rows: Int[np.ndarray, "n"],
    ids: Int[np.ndarray, "n s"],
    starts: Int[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n e"]:
    """The vectors of the slot."""
    count, begun = ids.shape
    x = np.empty((count, standing.base.shape[1]), np.float32)
    for row in range(count):
        put(x[row], standing.base[rows[row]])
        add(x[row], slot.own)
        for level in range(begun):
            add(x[row], decoder.codes[level][min(ids[row, level], decoder.sides[level] ** 3 - 1)])
    if begun:
        seen = np.empty((count, clouds.vectors.shape[2]), np.float32)
        for row in range(count):
            put(seen[row], clouds.vectors[rows[row], min(ids[row, 0], decoder.sides[0] ** 3 - 1)])
        gates = standing.middles, standing.axes, standing.lengths
        block = block_features(starts, decoder.blocks[begun - 1], decoder.bins, rows, *gates, clouds.fields, rows, decoder.near)
        place, around = np.empty_like(x), np.empty_like(x)
        times(seen, decoder.seen_place, place)
        times(block, decoder.seen_block, around)
        for row in range(count):
            for at in range(x.shape[1]):
                x[row, at] += place[row, at] + around[row, at] + decoder.seen_block_bias[at]
    think(x, decoder.norms, decoder.ups, decoder.downs, decoder.epsilon)
    return x


@compiled
def add_geometry(
    to: Float[np.ndarray, "v"],
    asked: Float[np.ndarray, "q"],
    standing: Any,
    clouds: Any,
    decoder: Any,
    slot: Any,
    at: int,
    ids: Int[np.ndarray, "s"],
    start: Int[np.ndarray, "3"],
) -> None:
    """By digits, by the gate, and by what the border offers."""
    ends, size = slot.ends, (slot.side, slot.block)
    absolute, apart, aligned = asked[ends[0] : ends[1]], asked[ends[1] : ends[2]], asked[ends[2] : ends[3]]
    lie, support, ask = asked[ends[3] : ends[4]], asked[ends[4] : ends[5]], asked[ends[5] : ends[6]]
    add_digits(to, absolute, apart, aligned, start, standing.guess[at], standing.references[at], clouds.profile[at], *size)
    gate = standing.middles[at], standing.axes[at], standing.lengths[at]
    add_gate(to, lie, support, start, *gate, clouds.fields[at], decoder.near, *size, decoder.bins)
    offers = standing.offers[at], standing.candidates[at], standing.there[at]
    add_offers(to, ask, slot.plain, *offers, ids, decoder.offered)


@compiled
def points_around(clouds: Any, decoder: Any, at: int, ids: Int[np.ndarray, "s"], start: Int[np.ndarray, "3"]) -> Float[np.ndarray, "m 6"]:
    """Of the cloud, around the block so far."""
    begun = len(ids)
    if begun == 1:
        return clouds.near[at, min(ids[0], decoder.sides[0] ** 3 - 1)]
    return nearest(clouds.surface[at], middle_of(start, decoder.blocks[begun - 1], decoder.bins), decoder.around)
