"""What `gate_decoder.py` computes for a slot, one row after another and without a hundred small operations. Compiled, and kept on disk.

n  rows that are asked about      r  rows that are written      c  clouds      v  ids of the slot      e  width of the decoder      i  side
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.compiled import compiled, compiled_loosely
from meshgpt.gate_geometry_kernels import along_gate, nearness
from meshgpt.step_kernels import add, norm, put, times

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "02c4b940e209dfcd"


@compiled
def first_bins(ids: Int[np.ndarray, "n s"], sides: Int[np.ndarray, "levels"], blocks: Int[np.ndarray, "levels"]) -> Int[np.ndarray, "n 3"]:
    """The first corners, in bins, of the blocks that the ids so far stand for."""
    start = np.zeros((len(ids), 3), dtype=np.int64)
    for row in range(len(ids)):
        for level in range(ids.shape[1]):
            for axis in range(3):
                start[row, axis] += digit(ids[row, level], axis, sides[level]) * blocks[level]
    return start


@compiled
def digit(id: int, axis: int, side: int) -> int:
    """Which block on this axis an id stands for; ids count along x, then z, then y."""
    if axis == 0:
        return id % side
    return id // (side * side) % side if axis == 1 else id // side % side


@compiled
def middle_of(start: Int[np.ndarray, "3"], block: int, bins: int) -> Float[np.ndarray, "3"]:
    """Of a block, in the cube."""
    middle = np.empty(3, np.float32)
    for axis in range(3):
        middle[axis] = (start[axis] + (block - 1) / 2 + 0.5) / bins - 0.5
    return middle


@compiled_loosely
def think(
    x: Float[np.ndarray, "n e"],
    norms: Float[np.ndarray, "layers1 e"],
    ups: Float[np.ndarray, "layers e 2m"],
    downs: Float[np.ndarray, "layers m e"],
    epsilon: float,
) -> None:
    """The layers of the decoder, in place."""
    n, hidden = len(x), downs.shape[1]
    normed, wide, bent = np.empty_like(x), np.empty((n, 2 * hidden), x.dtype), np.empty((n, hidden), x.dtype)
    for layer in range(len(ups)):
        for row in range(n):
            norm(x[row], norms[layer], normed[row], epsilon)
        times(normed, ups[layer], wide)
        for row in range(n):
            for at in range(hidden):
                gate = wide[row, at]
                bent[row, at] = gate / (np.float32(1) + np.exp(-gate)) * wide[row, hidden + at]
        times(bent, downs[layer], normed)
        for row in range(n):
            add(x[row], normed[row])
    for row in range(n):
        norm(x[row], norms[-1], x[row], epsilon)


@compiled
def block_features(
    starts: Int[np.ndarray, "n 3"],
    block: int,
    bins: int,
    which: Int[np.ndarray, "n"],
    middles: Float[np.ndarray, "r 3"],
    axes: Float[np.ndarray, "r 3 3"],
    lengths: Float[np.ndarray, "r"],
    fields: Float[np.ndarray, "f g g g"],
    field_of: Int[np.ndarray, "n"],
    near: Float[np.ndarray, "m"],
) -> Float[np.ndarray, "n k"]:
    """How the blocks so far lie to the gates, and how near to the surface."""
    features = np.empty((len(starts), 6 + len(near)), np.float32)
    there = np.empty(3, np.float32)
    for row in range(len(starts)):
        at = which[row]
        middle = middle_of(starts[row], block, bins)
        along_gate(middle, middles[at], axes[at], there)
        for axis in range(3):
            features[row, axis] = np.tanh(there[axis] / lengths[at])
            features[row, 3 + axis] = there[axis] * 4
        nearness(fields[field_of[row]], middle[0], middle[1], middle[2], near, features[row, 6:])
    return features


@compiled_loosely
def add_digits(
    logits: Float[np.ndarray, "v"],
    absolute: Float[np.ndarray, "k"],
    apart: Float[np.ndarray, "l"],
    aligned: Float[np.ndarray, "q"],
    start: Int[np.ndarray, "3"],
    guess: Int[np.ndarray, "3"],
    references: Int[np.ndarray, "refs 3"],
    profile: Float[np.ndarray, "3 bins 4"],
    side: int,
    block: int,
) -> None:
    """Each axis by itself: where blocks are, how far from the guess, level with which corners, and what the cloud is like there."""
    bins = profile.shape[1]
    cells, width, kinds = bins // block, 2 * bins - 1, len(references) + 4
    scores = np.empty((3, side), np.float32)
    for axis in range(3):
        for step in range(side):
            begin = start[axis] + step * block
            cell = begin // block
            known = min(cell, cells - 1)
            far = min(max(begin + (block - 1) // 2 + bins - 1 - guess[axis], 0), width - 1)
            score = absolute[axis * cells + known] + apart[axis * width + far]
            for other in range(len(references)):
                if references[other, axis] // block == cell:
                    score += aligned[axis * kinds + other]
            for kind in range(4):
                mean = np.float32(0)
                for one in range(block):
                    mean += profile[axis, known * block + one, kind]
                score += mean / block * aligned[axis * kinds + len(references) + kind]
            scores[axis, step] = score
    for id in range(side * side * side):
        logits[id] += scores[0, id % side] + scores[1, id // (side * side)] + scores[2, id // side % side]


@compiled
def add_gate(
    logits: Float[np.ndarray, "v"],
    lie: Float[np.ndarray, "b"],
    support: Float[np.ndarray, "s"],
    start: Int[np.ndarray, "3"],
    middle: Float[np.ndarray, "3"],
    axes: Float[np.ndarray, "3 3"],
    length: float,
    field: Float[np.ndarray, "g g g"],
    near: Float[np.ndarray, "m"],
    side: int,
    block: int,
    bins: int,
) -> None:
    """Along the gate, across it, and with the surface between."""
    buckets = len(lie) // 3
    half = buckets // 2
    there, position, found = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(len(near), np.float32)
    for id in range(side * side * side):
        for axis in range(3):
            begin = start[axis] + digit(id, axis, side) * block
            position[axis] = np.float32((begin + (block - 1) / 2 + 0.5) / bins - 0.5)
        along_gate(position, middle, axes, there)
        score = np.float32(0)
        for axis in range(3):
            bucket = int(min(max(np.rint(there[axis] / length * 8), -half), half)) + half
            score += lie[axis * buckets + bucket]
        for part in range(3):
            share = np.float32((0.35, 0.7, 1.0)[part])
            x, y, z = (
                middle[0] + share * (position[0] - middle[0]),
                middle[1] + share * (position[1] - middle[1]),
                middle[2] + share * (position[2] - middle[2]),
            )
            nearness(field, x, y, z, near, found)
            for measure in range(len(near)):
                score += found[measure] * support[part * len(near) + measure]
        logits[id] += score


@compiled_loosely
def add_offers(
    logits: Float[np.ndarray, "v"],
    ask: Float[np.ndarray, "w"],
    plain: Float[np.ndarray, "w"],
    offers: Float[np.ndarray, "k w"],
    candidates: Int[np.ndarray, "k 3"],
    there: Bool[np.ndarray, "k"],
    ids: Int[np.ndarray, "s"],
    offered: float,
) -> None:
    """Vertices of the border that begin as this one does raise their next ids."""
    slot = len(ids)
    for one in range(len(offers)):
        fits = there[one]
        for level in range(slot):
            fits = fits and candidates[one, level] == ids[level]
        if fits:
            score = np.float32(offered)
            for part in range(len(ask)):
                score += offers[one, part] * (ask[part] + plain[part])
            logits[min(candidates[one, slot], len(logits) - 1)] += score


@compiled_loosely
def nearest(surface: Float[np.ndarray, "p 6"], position: Float[np.ndarray, "3"], count: int) -> Float[np.ndarray, "m 6"]:
    """Offsets and normals of the points nearest to a position, the nearest first."""
    count = min(count, len(surface))
    best, index = np.full(count, np.float32(np.inf)), np.zeros(count, np.int64)
    for point in range(len(surface)):
        x, y, z = surface[point, 0] - position[0], surface[point, 1] - position[1], surface[point, 2] - position[2]
        squared = x * x + y * y + z * z
        if squared < best[count - 1]:
            at = count - 1
            while at > 0 and best[at - 1] > squared:
                best[at], index[at] = best[at - 1], index[at - 1]
                at -= 1
            best[at], index[at] = squared, point
    near = np.empty((count, 6), np.float32)
    for one in range(count):
        for axis in range(3):
            near[one, axis] = surface[index[one], axis] - position[axis]
            near[one, 3 + axis] = surface[index[one], 3 + axis]
    return near


@compiled_loosely
def add_touching(
    logits: Float[np.ndarray, "v"],
    weights: Float[np.ndarray, "q"],
    near: Float[np.ndarray, "m 6"],
    offsets: Float[np.ndarray, "v 3"],
    nearest_few: int,
    touches: Float[np.ndarray, "t"],
    counts: Int[np.ndarray, "l"],
    plane_touches: Float[np.ndarray, "l"],
) -> None:
    """Where would each id put the vertex: on a point of the cloud, on the tangent planes of the points around? See `touching.py`."""
    few = quadric(near[:nearest_few])
    planes = np.empty((len(counts), 4, 4), np.float32)
    for one in range(len(counts)):
        plane = planes[one - 1] if one > 0 and counts[one] == counts[one - 1] else quadric(near[: counts[one]])
        for row in range(4):
            put(planes[one, row], plane[row])
    for id in range(len(offsets)):
        x, y, z = offsets[id]
        apart = np.float32(np.inf)
        for point in range(min(nearest_few, len(near))):
            u, v, w = x - near[point, 0], y - near[point, 1], z - near[point, 2]
            apart = min(apart, u * u + v * v + w * w)
        beside = squared_from_planes(few, x, y, z)
        score = np.float32(0)
        for one in range(len(touches)):
            scale = 1 / (-2 * touches[one] * touches[one])
            score += (weights[2 * one] + 1) * np.exp(apart * scale) + (weights[2 * one + 1] + 1) * np.exp(beside * scale)
        for one in range(len(counts)):
            scale = 1 / (-2 * plane_touches[one] * plane_touches[one])
            score += (weights[2 * len(touches) + one] + 1) * np.exp(squared_from_planes(planes[one], x, y, z) * scale)
        logits[id] += score


@compiled_loosely
def quadric(near: Float[np.ndarray, "m 6"]) -> Float[np.ndarray, "4 4"]:
    """The mean of the points' squared tangent planes (Garland & Heckbert 1997)."""
    total, plane = np.zeros((4, 4), np.float32), np.empty(4, np.float32)
    for point in range(len(near)):
        plane[3] = 0
        for axis in range(3):
            plane[axis] = near[point, 3 + axis]
            plane[3] -= near[point, axis] * near[point, 3 + axis]
        for row in range(4):
            for column in range(4):
                total[row, column] += plane[row] * plane[column]
    for row in range(4):
        for column in range(4):
            total[row, column] /= np.float32(len(near))
    return total


@compiled_loosely
def squared_from_planes(q: Float[np.ndarray, "4 4"], x: float, y: float, z: float) -> float:
    squared = q[0, 0] * x * x + q[1, 1] * y * y + q[2, 2] * z * z + q[3, 3]
    squared += 2 * (q[0, 1] * x * y + q[0, 2] * x * z + q[1, 2] * y * z + q[0, 3] * x + q[1, 3] * y + q[2, 3] * z)
    return max(squared, np.float32(0))


@compiled_loosely
def add_places(logits: Float[np.ndarray, "v1"], query: Float[np.ndarray, "p"], vectors: Float[np.ndarray, "v p"]) -> None:
    """What the surroundings of the ids' places answer."""
    for id in range(len(vectors)):
        score = np.float32(0)
        for part in range(len(query)):
            score += query[part] * vectors[id, part]
        logits[id] += score
