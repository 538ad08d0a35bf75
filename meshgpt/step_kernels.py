"""One position more through the blocks of a small transformer, without the overhead of a hundred small operations. Compiled, and kept
on disk.

What a row becomes depends on nothing but the row: sums have the same order for one row and for many.

n  rows that are read      r  rows of the cache      h  heads      s  room for positions      e  width of a head      d  width of the model
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from meshgpt.compiled import compiled, compiled_in_order, compiled_loosely

# Outputs of which the sums of four rows are made at a time, so that these stay near.
TILE = 256


@compiled_loosely
def read_position(
    x: Float[np.ndarray, "n d"],
    attention_norm: Float[np.ndarray, "d"],
    project: Float[np.ndarray, "d 3d"],
    query_norm: Float[np.ndarray, "e"],
    key_norm: Float[np.ndarray, "e"],
    out: Float[np.ndarray, "d d"],
    mlp_norm: Float[np.ndarray, "d"],
    up: Float[np.ndarray, "d 2m"],
    down: Float[np.ndarray, "m d"],
    keys: Float[np.ndarray, "r h s e"],
    values: Float[np.ndarray, "r h s e"],
    rows: Int[np.ndarray, "n"],
    lengths: Int[np.ndarray, "n"],
    turns: Float[np.ndarray, "n e"],
    epsilon: float,
) -> None:
    """One block, in place: `x`, and the keys and values behind the `lengths` of the rows. Matrices are inputs x outputs; `turns` are
    the cosines and then the sines of rotary positions."""
    n, d = x.shape
    heads, width, hidden = keys.shape[1], keys.shape[3], down.shape[0]
    normed, projected, mixed = np.empty_like(x), np.empty((n, 3 * d), x.dtype), np.empty_like(x)
    for row in range(n):
        norm(x[row], attention_norm, normed[row], epsilon)
    times(normed, project, projected)
    for row in range(n):
        at, end = rows[row], lengths[row]
        for head in range(heads):
            query = projected[row, head * width : (head + 1) * width]
            norm(query, query_norm, query, epsilon)
            turn(query, turns[row])
            key = keys[at, head, end]
            norm(projected[row, d + head * width : d + (head + 1) * width], key_norm, key, epsilon)
            turn(key, turns[row])
            put(values[at, head, end], projected[row, 2 * d + head * width : 2 * d + (head + 1) * width])
            attend(query, keys[at, head, : end + 1], values[at, head, : end + 1], mixed[row, head * width : (head + 1) * width])
    times(mixed, out, normed)
    for row in range(n):
        add(x[row], normed[row])
        norm(x[row], mlp_norm, normed[row], epsilon)
    wide, bent = np.empty((n, 2 * hidden), x.dtype), np.empty((n, hidden), x.dtype)
    times(normed, up, wide)
    for row in range(n):
        for at in range(hidden):
            gate = wide[row, at]
            bent[row, at] = gate / (np.float32(1) + np.exp(-gate)) * wide[row, hidden + at]
    times(bent, down, normed)
    for row in range(n):
        add(x[row], normed[row])


@compiled
def put(to: Float[np.ndarray, "d"], vector: Float[np.ndarray, "d"]) -> None:
    """What `to[:] = vector` does, which takes numba a second to compile wherever it stands."""
    for at in range(len(to)):
        to[at] = vector[at]


@compiled
def add(to: Float[np.ndarray, "d"], vector: Float[np.ndarray, "d"]) -> None:
    """What `to += vector` does, compiled once."""
    for at in range(len(to)):
        to[at] += vector[at]


@compiled
def norm(x: Float[np.ndarray, "d"], weight: Float[np.ndarray, "d"], normed: Float[np.ndarray, "d"], epsilon: float) -> None:
    """RMSNorm (Zhang and Sennrich 2019)."""
    squares = np.float32(0)
    for at in range(len(x)):
        squares += x[at] * x[at]
    scale = np.float32(1 / np.sqrt(squares / len(x) + epsilon))
    for at in range(len(x)):
        normed[at] = x[at] * scale * weight[at]


@compiled
def turn(x: Float[np.ndarray, "e"], turns: Float[np.ndarray, "e"]) -> None:
    half = len(x) // 2
    for at in range(half):
        left, right = x[at], x[half + at]
        x[at] = left * turns[at] - right * turns[half + at]
        x[half + at] = right * turns[at] + left * turns[half + at]


@compiled_loosely
def attend(
    query: Float[np.ndarray, "e"], keys: Float[np.ndarray, "s e"], values: Float[np.ndarray, "s e"], mixed: Float[np.ndarray, "e"]
) -> None:
    """Of one head: what the query finds among the positions."""
    count, width = keys.shape
    shares = np.empty(count, query.dtype)
    scale = np.float32(1 / np.sqrt(width))
    most = np.float32(-np.inf)
    for at in range(count):
        score = np.float32(0)
        for part in range(width):
            score += query[part] * keys[at, part]
        shares[at] = score * scale
        most = max(most, shares[at])
    total = np.float32(0)
    for at in range(count):
        shares[at] = np.exp(shares[at] - most)
        total += shares[at]
    for part in range(width):
        mixed[part] = 0
    for at in range(count):
        share = shares[at] / total
        for part in range(width):
            mixed[part] += share * values[at, part]


@compiled_in_order
def times(x: Float[np.ndarray, "n i"], weights: Float[np.ndarray, "i o"], product: Float[np.ndarray, "n o"]) -> None:
    """Each row times the matrix: four rows at a time, which share the weights that are read. Every sum is made in the order of the
    inputs, however many rows there are."""
    n, outputs = len(x), weights.shape[1]
    together = n - n % 4
    for row in range(n):
        for at in range(outputs):
            product[row, at] = 0
    for begin in range(0, outputs if together else 0, TILE):
        end = min(begin + TILE, outputs)
        for row in range(0, together, 4):
            add_four(x, weights, product, row, begin, end)
    for row in range(together, n):
        add_one(x[row], weights, product[row])


@compiled_in_order
def add_four(
    x: Float[np.ndarray, "n i"], weights: Float[np.ndarray, "i o"], product: Float[np.ndarray, "n o"], row: int, begin: int, end: int
) -> None:
    """To a part of the columns of four rows."""
    inner = len(weights)
    p, q, r, s = product[row, begin:end], product[row + 1, begin:end], product[row + 2, begin:end], product[row + 3, begin:end]
    for at in range(0, inner - 1, 2):
        first, second = weights[at, begin:end], weights[at + 1, begin:end]
        a, b, c, d = x[row, at], x[row + 1, at], x[row + 2, at], x[row + 3, at]
        e, f, g, h = x[row, at + 1], x[row + 1, at + 1], x[row + 2, at + 1], x[row + 3, at + 1]
        for to in range(end - begin):
            u, v = first[to], second[to]
            p[to] = p[to] + a * u + e * v
            q[to] = q[to] + b * u + f * v
            r[to] = r[to] + c * u + g * v
            s[to] = s[to] + d * u + h * v
    if inner % 2:
        last = weights[inner - 1, begin:end]
        for to in range(end - begin):
            p[to] += x[row, inner - 1] * last[to]
            q[to] += x[row + 1, inner - 1] * last[to]
            r[to] += x[row + 2, inner - 1] * last[to]
            s[to] += x[row + 3, inner - 1] * last[to]


@compiled_in_order
def add_one(x: Float[np.ndarray, "i"], weights: Float[np.ndarray, "i o"], sums: Float[np.ndarray, "o"]) -> None:
    inner, outputs = weights.shape
    for at in range(0, inner - 3, 4):
        a, b, c, d = x[at], x[at + 1], x[at + 2], x[at + 3]
        first, second, third, fourth = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
        for to in range(outputs):
            sums[to] = sums[to] + a * first[to] + b * second[to] + c * third[to] + d * fourth[to]
    for at in range(inner - inner % 4, inner):
        a, last = x[at], weights[at]
        for to in range(outputs):
            sums[to] += a * last[to]
