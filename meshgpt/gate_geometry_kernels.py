"""What `gate_geometry.py` and the features of `gate_decoder.py` compute, one row after another. Compiled, and kept on disk.

n  rows      k  candidates      g  cells of the distance field
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from meshgpt.compiled import compiled

# As torch normalizes.
LEAST = 1e-12


@compiled
def length_of(x: Float[np.ndarray, "d"]) -> float:
    squared = np.float32(0)
    for at in range(len(x)):
        squared += x[at] * x[at]
    return np.sqrt(squared)


@compiled
def normalize(x: Float[np.ndarray, "d"]) -> None:
    length = max(length_of(x), np.float32(LEAST))
    for at in range(len(x)):
        x[at] /= length


@compiled
def dot(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def difference(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"], to: Float[np.ndarray, "3"]) -> None:
    for axis in range(3):
        to[axis] = a[axis] - b[axis]


@compiled
def cross(a: Float[np.ndarray, "3"], b: Float[np.ndarray, "3"], to: Float[np.ndarray, "3"]) -> None:
    to[0] = a[1] * b[2] - a[2] * b[1]
    to[1] = a[2] * b[0] - a[0] * b[2]
    to[2] = a[0] * b[1] - a[1] * b[0]


@compiled
def along_gate(
    position: Float[np.ndarray, "3"], middle: Float[np.ndarray, "3"], axes: Float[np.ndarray, "3 3"], to: Float[np.ndarray, "3"]
) -> None:
    """Along e, o and m from the middle of the gate."""
    for way in range(3):
        to[way] = 0
        for axis in range(3):
            to[way] += axes[way, axis] * (position[axis] - middle[axis])


@compiled
def look_up(field: Float[np.ndarray, "g g g"], x: float, y: float, z: float) -> float:
    """The field between the middles of its cells; outside of the cube as on its border."""
    side = len(field)
    last = np.float32(side - 1)
    x = min(max((x + np.float32(0.5)) * side - np.float32(0.5), np.float32(0)), last)
    y = min(max((y + np.float32(0.5)) * side - np.float32(0.5), np.float32(0)), last)
    z = min(max((z + np.float32(0.5)) * side - np.float32(0.5), np.float32(0)), last)
    i, j, k = min(int(x), side - 2), min(int(y), side - 2), min(int(z), side - 2)
    u, v, w = x - i, y - j, z - k
    low, high = field[k], field[k + 1]
    below = (low[j, i] * (1 - u) + low[j, i + 1] * u) * (1 - v) + (low[j + 1, i] * (1 - u) + low[j + 1, i + 1] * u) * v
    above = (high[j, i] * (1 - u) + high[j, i + 1] * u) * (1 - v) + (high[j + 1, i] * (1 - u) + high[j + 1, i + 1] * u) * v
    return below * (1 - w) + above * w


@compiled
def nearness(
    field: Float[np.ndarray, "g g g"], x: float, y: float, z: float, near: Float[np.ndarray, "m"], to: Float[np.ndarray, "m"]
) -> None:
    """1 on the surface, 0 far from it, by several measures."""
    far = look_up(field, x, y, z)
    for measure in range(len(near)):
        to[measure] = np.exp(far * far / (-2 * near[measure] * near[measure]))


@compiled
def gates_of(
    corners: Float[np.ndarray, "n 5 3"],
    stages: Int[np.ndarray, "n"],
    shortest: float,
    middles: Float[np.ndarray, "n 3"],
    axes: Float[np.ndarray, "n 3 3"],
    lengths: Float[np.ndarray, "n"],
    guesses: Float[np.ndarray, "n 3"],
) -> None:
    """See `gate_geometry.gate_of`."""
    least, other = np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(len(corners)):
        a, b, c = corners[row, 0], corners[row, 1], corners[row, 2]
        over, first = stages[row] == 0, 0 < stages[row] <= 2
        e, o, m = axes[row, 0], axes[row, 1], axes[row, 2]
        difference(b, a, e)
        lengths[row] = np.float32(0.1) if first else max(length_of(e), np.float32(shortest))
        if first:
            e[0], e[1], e[2] = 1, 0, 0
        normalize(e)
        shortest_axis = 0
        for axis in range(3):
            least[axis] = 0
            shortest_axis = axis if abs(e[axis]) < abs(e[shortest_axis]) else shortest_axis
        least[shortest_axis] = 1
        difference(c, a, other)
        cross(e, other, m)
        if not over or length_of(m) < np.float32(1e-6):
            cross(e, least, m)
            if not over:
                m[0], m[1], m[2] = least[0], least[1], least[2]
        normalize(m)
        along = dot(m, e)
        for axis in range(3):
            m[axis] -= along * e[axis]
        normalize(m)
        cross(e, m, o)
        for axis in range(3):
            middles[row, axis] = a[axis] if first else (a[axis] + b[axis]) / 2
            guesses[row, axis] = a[axis] + b[axis] - c[axis] if over else middles[row, axis]


@compiled
def frames_of(
    corners: Float[np.ndarray, "n 5 3"],
    stages: Int[np.ndarray, "n"],
    middles: Float[np.ndarray, "n 3"],
    axes: Float[np.ndarray, "n 3 3"],
    lengths: Float[np.ndarray, "n"],
    fields: Float[np.ndarray, "f g g g"],
    field_of: Int[np.ndarray, "n"],
    near: Float[np.ndarray, "m"],
    turns: Float[np.ndarray, "w 2"],
    scaled: Float[np.ndarray, "s"],
    fixed: Float[np.ndarray, "s2"],
    frequencies: int,
    kinds: int,
    features: Float[np.ndarray, "n k"],
) -> None:
    """See `gate_decoder.frame_features`; `turns` are cosines and sines of the fan's directions."""
    there = np.empty((3, 3), np.float32)
    for row in range(len(corners)):
        to, middle, length = features[row], middles[row], lengths[row]
        for axis in range(3):
            to[axis] = 2 * middle[axis]
            for step in range(frequencies):
                angle = np.float32(np.pi * 2.0**step) * to[axis]
                to[3 + axis * frequencies + step] = np.sin(angle)
                to[3 + (3 + axis) * frequencies + step] = np.cos(angle)
        at = 3 + 6 * frequencies
        for way in range(3):
            for axis in range(3):
                to[at] = axes[row, way, axis]
                at += 1
        to[at] = np.log(length)
        at += 1
        for corner in range(3):
            along_gate(corners[row, 2 + corner], middle, axes[row], there[corner])
            for way in range(3):
                to[at] = np.tanh(there[corner, way] / length)
                at += 1
        for corner in range(1, 3):
            for way in range(3):
                to[at] = there[corner, way] * 4
                at += 1
        for kind in range(kinds):
            to[at + kind] = 0
        to[at + min(stages[row], kinds - 1)] = 1
        at += kinds
        for step in range(len(scaled) + len(fixed)):
            far = scaled[step] * length if step < len(scaled) else fixed[step - len(scaled)]
            for turn in range(len(turns)):
                out, up = turns[turn, 0] * far, turns[turn, 1] * far
                x = middle[0] + out * axes[row, 1, 0] + up * axes[row, 2, 0]
                y = middle[1] + out * axes[row, 1, 1] + up * axes[row, 2, 1]
                z = middle[2] + out * axes[row, 1, 2] + up * axes[row, 2, 2]
                nearness(fields[field_of[row]], x, y, z, near, to[at : at + len(near)])
                at += len(near)


@compiled
def offers_of(
    corners: Float[np.ndarray, "n 5 3"],
    stages: Int[np.ndarray, "n"],
    candidates: Float[np.ndarray, "n k 3"],
    middles: Float[np.ndarray, "r 3"],
    axes: Float[np.ndarray, "r 3 3"],
    lengths: Float[np.ndarray, "r"],
    fields: Float[np.ndarray, "r g g g"],
    rows: Int[np.ndarray, "n"],
    near: Float[np.ndarray, "m"],
    features: Float[np.ndarray, "n k o"],
) -> None:
    """See `gate_decoder.offer_features`."""
    there, from_a, from_b = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(len(corners)):
        stands = rows[row]
        a, b, e, length, field = corners[row, 0], corners[row, 1], axes[stands, 0], lengths[stands], fields[stands]
        for one in range(candidates.shape[1]):
            at, to = candidates[row, one], features[row, one]
            along_gate(at, middles[stands], axes[stands], there)
            difference(at, a, from_a)
            difference(at, b, from_b)
            normalize(from_a)
            normalize(from_b)
            for way in range(3):
                to[way] = np.tanh(there[way] / length)
                to[3 + way] = there[way] * 4
            far, high = length_of(there), np.sqrt(there[1] * there[1] + there[2] * there[2])
            to[6] = np.log(max(far, np.float32(1e-3)))
            to[7] = np.log1p(far / length)
            to[8] = np.log1p(high / length)
            to[9] = there[1] / max(high, np.float32(LEAST))
            to[10] = there[2] / max(high, np.float32(LEAST))
            to[11] = dot(from_a, e)
            to[12] = -dot(from_b, e)
            to[13] = dot(from_a, from_b)
            for which in range(2):
                difference(at, corners[row, 3 + which], there)
                to[14 + which] = max(abs(there[0]), abs(there[1]), abs(there[2])) < 1e-6
            to[16] = to[14] * to[15]
            to[17] = stages[row] == 0
            end, m = 18, len(near)
            nearness(field, (at[0] + a[0] + b[0]) / 3, (at[1] + a[1] + b[1]) / 3, (at[2] + a[2] + b[2]) / 3, near, to[end : end + m])
            end += m
            nearness(field, (at[0] + a[0]) / 2, (at[1] + a[1]) / 2, (at[2] + a[2]) / 2, near, to[end : end + m])
            end += m
            nearness(field, (at[0] + b[0]) / 2, (at[1] + b[1]) / 2, (at[2] + b[2]) / 2, near, to[end : end + m])
