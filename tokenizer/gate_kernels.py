"""Walking over faces gate by gate, compiled: which vertices come in which order, and what each of them is placed upon.

It drives the machine of `walk_machine.py`. A step is a vertex (y << 20 | z << 10 | x), or SKIP where no face stands over the gate.
"""

from __future__ import annotations

import numpy as np

from meshgpt.compiled import compiled

from .walk_kernels import face_over, half_edges
from .walk_machine import (
    FACE,
    FACES,
    FINE,
    FROM,
    GATE,
    GATES,
    OPEN,
    STAGE,
    TO,
    A,
    B,
    C,
    N,
    P,
    edge_slot,
    new_log,
    new_walk,
    place,
    put,
    skip,
    start,
)

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "537803de3be2b0a6"
SKIPPED = -1


@compiled
def beginning(bins, capacity):
    """A walk that waits for its first vertex."""
    walk = new_walk(bins, capacity)
    start(walk, new_log(1))
    return walk


@compiled
def step(walk, log, vertex):
    """Place the vertex, or skip the gate (or leave a first face that is not whole); what is wrong with it, and then nothing has changed."""
    log[0] = 0
    if vertex != SKIPPED:
        wrong = place(walk, log, vertex)
    elif walk[STAGE] >= 2:
        put(walk, log, STAGE, 0)
        wrong = FINE
    else:
        wrong = skip(walk, log)
    if wrong == FINE and walk[STAGE] == 0 and walk[GATE] < 0:
        start(walk, log)
    return wrong


@compiled
def steps_of(faces, bins):
    """The steps that write faces of vertices; and what is wrong with which face, or FINE."""
    walk, log = beginning(bins, len(faces)), new_log(2)
    table, after = half_edges(faces)
    done, steps = np.zeros(len(faces), dtype=np.bool_), np.empty(6 * len(faces), dtype=np.int32)
    count = seed = 0
    while True:
        half = face_over(walk, faces, table, after, done) if walk[GATE] >= 0 else -1
        vertices = 1
        if half < 0 and walk[GATE] >= 0:
            step(walk, log, SKIPPED)
            steps[count] = SKIPPED
            count += 1
            continue
        if half < 0:
            while seed < len(faces) and done[seed]:
                seed += 1
            if seed == len(faces):
                return steps[:count], FINE, 0
            half, vertices = 3 * seed + 1, 3
        face = half // 3
        done[face] = True
        for turn in range(vertices):
            steps[count] = faces[face, (half % 3 + 2 + turn) % 3]
            wrong = step(walk, log, np.int64(steps[count]))
            if wrong != FINE:
                return steps[:count], wrong, face
            count += 1


@compiled
def walk_along(steps, bins, capacity):
    """The walk after the steps, with room for so many faces in all; and what is wrong with which of the steps, or FINE."""
    walk, log = beginning(bins, max(capacity, len(steps) + 1)), new_log(2)
    for at in range(len(steps)):
        wrong = step(walk, log, np.int64(steps[at]))
        if wrong != FINE:
            return walk, wrong, at
    return walk, FINE, len(steps)


@compiled
def runs(walk, tail, head):
    """Whether an edge of a face runs this way, as far as the table of edges tells."""
    there = walk[edge_slot(walk, tail, head)] - 1
    if there >= 0:
        return True
    twin = walk[edge_slot(walk, head, tail)] - 1
    return twin >= 0 and not walk[walk[OPEN] + twin]


@compiled
def closed_by(walk, vertex):
    """How many gates that wait a face on this vertex would close, beside the one that it stands over."""
    ahead, behind = walk[edge_slot(walk, vertex, walk[A])] - 1, walk[edge_slot(walk, walk[B], vertex)] - 1
    return int(ahead >= 0 and walk[walk[OPEN] + ahead] != 0) + int(behind >= 0 and walk[walk[OPEN] + behind] != 0)


@compiled
def barred(walk, manifold):
    """Vertices that must not come next: of the gate, of a face that is there; in manifold meshes those of an edge that is there."""
    stage, a, b = walk[STAGE], walk[A], walk[B]
    found = np.empty(4 + 3 * walk[FACES] + walk[GATES], dtype=np.int32)
    count = 0
    if stage == 1:
        return found[:0]
    found[0] = a
    count = 1
    if stage != 2:
        found[1] = b
        count = 2
        for at in range(walk[FACE], walk[FACE] + 3 * walk[FACES], 3):
            x, y, z = walk[at], walk[at + 1], walk[at + 2]
            if (x == a or y == a or z == a) and (x == b or y == b or z == b):
                found[count] = x ^ y ^ z ^ a ^ b
                count += 1
    if manifold:
        for gate in range(walk[GATES]):
            tail, head, closed = walk[walk[FROM] + gate], walk[walk[TO] + gate], not walk[walk[OPEN] + gate]
            if tail == a or (closed and stage != 2 and tail == b):
                found[count] = head
                count += 1
            elif (stage != 2 and head == b) or (closed and head == a):
                found[count] = tail
                count += 1
    return found[:count]


@compiled
def candidates(walk, found):
    """The ends of the neighbouring gates, then the vertices of the border that are nearest to the gate; -1 for none."""
    stage, a, b, c = walk[STAGE], walk[A], walk[B], walk[C]
    most, count = len(found), 0
    found[:] = -1
    if stage == 1:
        return
    apart = np.empty(most, dtype=np.int64)
    x, y, z = (a & 1023) + (b & 1023), (a >> 20) + (b >> 20), (a >> 10 & 1023) + (b >> 10 & 1023)
    for turn in range(walk[GATES] + 2):
        if turn < 2:
            if stage:
                continue
            vertex, squared = walk[P] if turn == 0 else walk[N], np.int64(turn - 2)
        else:
            if not walk[walk[OPEN] + turn - 2]:
                continue
            vertex = walk[walk[FROM] + turn - 2]
            dx, dy, dz = 2 * (vertex & 1023) - x, 2 * (vertex >> 20) - y, 2 * (vertex >> 10 & 1023) - z
            squared = np.int64(dx * dx + dy * dy + dz * dz)
        if vertex in (a, b) or (stage == 0 and vertex == c) or (count == most and squared >= apart[most - 1]):
            continue
        known = False
        for other in range(count):
            known = known or found[other] == vertex
        if known or runs(walk, a, vertex) or (stage != 2 and runs(walk, vertex, b)):
            continue
        at = min(count, most - 1)
        while at > 0 and apart[at - 1] > squared:
            found[at], apart[at] = found[at - 1], apart[at - 1]
            at -= 1
        found[at], apart[at] = vertex, squared
        count = min(count + 1, most)


@compiled
def frame_of(walk, frame, found):
    """What the next vertex is placed upon: A, B, C, P, N and the stage; and the candidates for it."""
    frame[0], frame[1], frame[2], frame[3], frame[4], frame[5] = walk[A], walk[B], walk[C], walk[P], walk[N], walk[STAGE]
    candidates(walk, found)


@compiled
def frames_along(steps, bins, most):
    """The frames and candidates before each step and behind the last one."""
    walk, log = beginning(bins, len(steps) + 1), new_log(2)
    frames, found = np.empty((len(steps) + 1, 6), dtype=np.int32), np.empty((len(steps) + 1, most), dtype=np.int32)
    for at in range(len(steps)):
        frame_of(walk, frames[at], found[at])
        step(walk, log, np.int64(steps[at]))
    frame_of(walk, frames[len(steps)], found[len(steps)])
    return frames, found


@compiled
def balls(cells, side, reach):
    """Which of side^3 cells (y, z, x) have one of the given cells (x, y, z) within reach; distances are those of their middles."""
    found = np.zeros((side, side, side), dtype=np.bool_)
    most = int(reach)
    for at in range(len(cells)):
        x, y, z = cells[at]
        for down in range(max(-most, -y), min(most, side - 1 - y) + 1):
            for deep in range(max(-most, -z), min(most, side - 1 - z) + 1):
                rest = reach * reach - down * down - deep * deep
                if rest >= 0:
                    wide = int(np.sqrt(rest))
                    found[y + down, z + deep, max(x - wide, 0) : x + wide + 1] = True
    return found


@compiled
def leading_on(places, block, side, size, bins, ground, needed):
    """Which of side^3 blocks of `size` bins, within a block of the level above (y, z, x), hold more bins than places that are barred,
    and are on the ground (where something is said of it); where none of them is and one is `needed`, wherever.

    The ids of blocks count along x, then z, then y.
    """
    counts = np.zeros(side * side * side, dtype=np.int64)
    for at in range(len(places)):
        y, z, x = places[at] >> 20, places[at] >> 10 & 1023, places[at] & 1023
        y, z, x = y // size - block[0] * side, z // size - block[1] * side, x // size - block[2] * side
        if 0 <= y < side and 0 <= z < side and 0 <= x < side:
            counts[(y * side + z) * side + x] += 1
    free = np.empty(len(counts), dtype=np.bool_)
    for id in range(len(counts)):
        y, z, x = id // (side * side), id // side % side, id % side
        y, z, x = bins - (block[0] * side + y) * size, bins - (block[1] * side + z) * size, bins - (block[2] * side + x) * size
        free[id] = max(min(y, size), 0) * max(min(z, size), 0) * max(min(x, size), 0) > counts[id]
    on = free & ground if len(ground) else free
    return free if needed and not on.any() else on
