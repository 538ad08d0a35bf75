"""What one move of a walk does, compiled; encoding, decoding and legal ids are made of it in `walk_kernels.py`.

A walk is one array of whole numbers, `walk`, so that all of it can be undone: its head (the names below), and after it, at
the places that the head holds, the parts that grow with the mesh.

    gates     half-edges of the faces so far: from, to, and the third corner of the face; `next` and `back` link them around the border
    stack     gates still to be asked for a face; the current gate is the last one that is open
    edges     hash table of directed edges, gate + 1
    faces     three vertices each, and a hash table of them, face + 1, that forgets orientation

A vertex is its place, y << 20 | z << 10 | x, which sorts as canonical order does, so that equal places are one vertex.
"""

from __future__ import annotations

import numpy as np

from meshgpt.compiled import compiled, compiled_for

# The head. A to N are the frame: the gate A -> B, the corner opposite it, and the ends of the gates before and after it.
BINS, GATES, FACES, STACKED, STAGE, A, B, C, P, N, SEED, LAST, GIVEN, Y, Z, GATE = range(16)
FROM, TO, THIRD, NEXT, BACK, OPEN, STACK, EDGES, EDGE_MASK, FACE, KEYS, KEY_MASK, CAPACITY, HEAD = range(16, 30)

# What a move does; a row of the table of moves is a kind and three numbers.
SKIP, START, HOP, ACROSS, BESIDE_A, BESIDE_B, CORNER_NEXT, CORNER_BACK = range(8)

# What is wrong with an id.
FINE, RANGE, NO_GATE, OUTSIDE, DEGENERATE, REPEATED, ORDER, UNFINISHED, FULL, NOWHERE = range(10)

WRITES = 80  # of one move, at most


@compiled
def place_of(x, y, z):
    return y << 20 | z << 10 | x


@compiled
def new_walk(bins, capacity):
    """An empty walk with room for `capacity` faces."""
    edges, keys = 16, 16
    while edges < 6 * capacity:
        edges *= 2
    while keys < 2 * capacity:
        keys *= 2
    walk = np.zeros(HEAD + 24 * capacity + edges + keys, dtype=np.int32)
    for number, part in enumerate((FROM, TO, THIRD, NEXT, BACK, OPEN, STACK, FACE, EDGES)):
        walk[part] = HEAD + 3 * capacity * number
    walk[KEYS] = walk[EDGES] + edges
    walk[EDGE_MASK], walk[KEY_MASK] = edges - 1, keys - 1
    walk[BINS], walk[CAPACITY], walk[GATE] = bins, capacity, -1
    return walk


@compiled
def new_log(moves):
    """Where the writes of so many moves are noted: how many there are, then pairs of place and old value."""
    return np.zeros(1 + 2 * WRITES * moves, dtype=np.int32)


@compiled_for("(i4[::1], i4[::1], i8, i8)")
def put(walk, log, at, value):
    count = log[0]
    log[2 * count + 1], log[2 * count + 2] = at, walk[at]
    log[0] = count + 1
    walk[at] = value


@compiled
def undo(walk, log, mark):
    """Back to when the log held `mark` writes."""
    for count in range(log[0] - 1, mark - 1, -1):
        walk[log[2 * count + 1]] = log[2 * count + 2]
    log[0] = mark


@compiled
def mixed(a, b, c):
    """A hash, below 2^40; unsigned, since numba's compiler may take it that products of signed numbers never wrap around."""
    sums = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F)
    return np.int64((sums + np.uint64(c) * np.uint64(0x165667B19E3779F9)) >> np.uint64(24))


@compiled_for("(i4[::1], i8, i8)")
def edge_slot(walk, tail, head):
    """Where the table of directed edges holds this one, or would."""
    slot = mixed(np.int64(tail), np.int64(head), np.int64(0)) & walk[EDGE_MASK]
    while True:
        gate = walk[walk[EDGES] + slot] - 1
        if gate < 0 or (walk[walk[FROM] + gate] == tail and walk[walk[TO] + gate] == head):
            return walk[EDGES] + slot
        slot = (slot + 1) & walk[EDGE_MASK]


@compiled_for("(i4[::1], i8, i8, i8)")
def face_slot(walk, a, b, c):
    """Where the table of faces holds the one on these vertices, or would."""
    low, high = min(a, b, c), max(a, b, c)
    middle = a ^ b ^ c ^ low ^ high
    slot = mixed(np.int64(low), np.int64(middle), np.int64(high)) & walk[KEY_MASK]
    while True:
        face = walk[walk[KEYS] + slot] - 1
        if face < 0:
            return walk[KEYS] + slot
        at = walk[FACE] + 3 * face
        x, y, z = walk[at], walk[at + 1], walk[at + 2]
        if min(x, y, z) == low and max(x, y, z) == high and x ^ y ^ z ^ low ^ high == middle:
            return walk[KEYS] + slot
        slot = (slot + 1) & walk[KEY_MASK]


@compiled_for("(i4[::1], i8, i8)")
def faces_on(walk, a, b):
    """How many faces have both vertices."""
    count = 0
    for at in range(walk[FACE], walk[FACE] + 3 * walk[FACES], 3):
        x, y, z = walk[at], walk[at + 1], walk[at + 2]
        count += (x == a or y == a or z == a) and (x == b or y == b or z == b)
    return count


@compiled
def placeable(walk, vertex):
    """What is wrong with the vertex as the next one: it must make a face, or lead to one that is not there yet."""
    stage, every = walk[STAGE], np.int64(walk[BINS]) ** 3
    if stage == 1:
        rest = (every - 1) * (every - 2) // 2
        return NOWHERE if walk[FACES] >= rest and faces_on(walk, vertex, vertex) >= rest else FINE
    if stage == 0 and walk[GATE] < 0:
        return NO_GATE
    if vertex == walk[A] or vertex == walk[B]:
        return DEGENERATE
    if stage == 2:
        return NOWHERE if walk[FACES] >= every - 2 and faces_on(walk, vertex, walk[A]) >= every - 2 else FINE
    return REPEATED if walk[face_slot(walk, walk[A], walk[B], vertex)] else FINE


@compiled_for("(i4[::1], i4[::1], i8, i8, i8, i8, i8)")
def frame(walk, log, a, b, c, p, n):
    put(walk, log, A, a)
    put(walk, log, B, b)
    put(walk, log, C, c)
    put(walk, log, P, p)
    put(walk, log, N, n)


@compiled
def settle(walk, log):
    """Go to the last gate of the stack that is open."""
    stacked = walk[STACKED]
    while stacked > 0 and not walk[walk[OPEN] + walk[walk[STACK] + stacked - 1]]:
        stacked -= 1
    put(walk, log, STACKED, stacked)
    gate = walk[walk[STACK] + stacked - 1] if stacked else -1
    put(walk, log, GATE, gate)
    if gate >= 0:
        start, end = walk[FROM], walk[TO]
        before, after = walk[walk[BACK] + gate], walk[walk[NEXT] + gate]
        frame(walk, log, walk[start + gate], walk[end + gate], walk[walk[THIRD] + gate], walk[start + before], walk[end + after])


@compiled
def link(walk, log, before, after):
    put(walk, log, walk[NEXT] + before, after)
    put(walk, log, walk[BACK] + after, before)


@compiled_for("(i4[::1], i4[::1], i8, i8, i8)")
def add_gate(walk, log, tail, head, third):
    gate = walk[GATES]
    put(walk, log, GATES, gate + 1)
    put(walk, log, walk[FROM] + gate, tail)
    put(walk, log, walk[TO] + gate, head)
    put(walk, log, walk[THIRD] + gate, third)
    put(walk, log, walk[OPEN] + gate, 1)
    return gate


@compiled
def close(walk, log, gate):
    """Sew a new gate to the open one that runs the other way, if there is one; else remember it."""
    tail, head = walk[walk[FROM] + gate], walk[walk[TO] + gate]
    twin = walk[edge_slot(walk, head, tail)] - 1
    if twin < 0 or not walk[walk[OPEN] + twin]:
        put(walk, log, edge_slot(walk, tail, head), gate + 1)
        return
    put(walk, log, walk[OPEN] + gate, 0)
    put(walk, log, walk[OPEN] + twin, 0)
    before, after = walk[walk[BACK] + gate], walk[walk[NEXT] + gate]
    before_twin, after_twin = walk[walk[BACK] + twin], walk[walk[NEXT] + twin]
    if after_twin != gate:
        link(walk, log, before, after_twin)
    if after != twin:
        link(walk, log, before_twin, after)


@compiled
def push(walk, log, gate):
    put(walk, log, walk[STACK] + walk[STACKED], gate)
    put(walk, log, STACKED, walk[STACKED] + 1)


@compiled
def add_face(walk, log, a, b, c):
    face = walk[FACES]
    put(walk, log, face_slot(walk, a, b, c), face + 1)
    at = walk[FACE] + 3 * face
    put(walk, log, at, a)
    put(walk, log, at + 1, b)
    put(walk, log, at + 2, c)
    put(walk, log, FACES, face + 1)


@compiled
def first_face(walk, log, vertex):
    """The third vertex of a start: all three sides become gates."""
    a, b = walk[B], walk[A]
    add_face(walk, log, a, b, vertex)
    one, two, three = add_gate(walk, log, a, b, vertex), add_gate(walk, log, b, vertex, a), add_gate(walk, log, vertex, a, b)
    link(walk, log, one, two)
    link(walk, log, two, three)
    link(walk, log, three, one)
    put(walk, log, STACKED, 0)
    for gate in (three, two, one):
        push(walk, log, gate)
    for gate in (one, two, three):
        close(walk, log, gate)
    put(walk, log, SEED, a)


@compiled
def next_face(walk, log, vertex):
    """A face over the current gate: its other two sides take the gate's place in the border."""
    a, b, gate = walk[A], walk[B], walk[GATE]
    add_face(walk, log, b, a, vertex)
    put(walk, log, walk[OPEN] + gate, 0)
    put(walk, log, STACKED, walk[STACKED] - 1)
    before, after = walk[walk[BACK] + gate], walk[walk[NEXT] + gate]
    left, right = add_gate(walk, log, a, vertex, b), add_gate(walk, log, vertex, b, a)
    link(walk, log, left, right)
    link(walk, log, right if before == gate else before, left)
    link(walk, log, right, left if after == gate else after)
    push(walk, log, left)
    push(walk, log, right)
    close(walk, log, left)
    close(walk, log, right)


@compiled
def place(walk, log, vertex):
    """The next vertex; what is wrong with it, and then nothing has changed."""
    wrong = placeable(walk, vertex)
    stage = walk[STAGE]
    if wrong == FINE and (stage == 0 or stage == 3) and walk[FACES] == walk[CAPACITY]:
        wrong = FULL
    if wrong != FINE:
        return wrong
    put(walk, log, LAST, vertex)
    put(walk, log, GIVEN, 0)
    put(walk, log, STAGE, (stage + 1) % 4 if stage else 0)
    if stage == 1:
        frame(walk, log, vertex, vertex, vertex, vertex, vertex)
    elif stage == 2:
        frame(walk, log, vertex, walk[A], walk[A], vertex, walk[A])
    else:
        if stage == 3:
            first_face(walk, log, vertex)
        else:
            next_face(walk, log, vertex)
        settle(walk, log)
    return FINE


@compiled
def start(walk, log):
    """Leave all gates, and begin a face of its own; its first vertex is seen from the last such face."""
    every = float(walk[BINS]) ** 3
    if walk[STAGE]:
        return UNFINISHED
    if walk[FACES] >= every * (every - 1) * (every - 2) / 6:
        return NOWHERE
    put(walk, log, STAGE, 1)
    put(walk, log, GATE, -1)
    put(walk, log, STACKED, 0)
    frame(walk, log, walk[SEED], walk[LAST], walk[LAST], walk[SEED], walk[SEED])
    return FINE


@compiled
def skip(walk, log):
    """No face over this gate."""
    if walk[STAGE]:
        return UNFINISHED
    if walk[GATE] < 0:
        return NO_GATE
    put(walk, log, STACKED, walk[STACKED] - 1)
    settle(walk, log)
    return FINE


@compiled
def hop(walk, count):
    """The vertex so many gates after the current one along the border, or before it."""
    gate = walk[GATE]
    for _ in range(abs(count)):
        gate = walk[walk[NEXT if count > 0 else BACK] + gate]
    return walk[walk[TO if count > 0 else FROM] + gate]


@compiled
def reference(walk, kind):
    """From where a move's shift is counted; its coordinates may lie outside of the cube."""
    a, b = walk[A], walk[B]
    one, two, less = a, a, a
    if kind == ACROSS:
        two, less = b, walk[C]
    elif kind == BESIDE_B:
        one = b
    elif kind == CORNER_NEXT:
        two, less = walk[N], b
    elif kind == CORNER_BACK:
        one, two = b, walk[P]
    x = (one & 1023) + (two & 1023) - (less & 1023)
    y = (one >> 20) + (two >> 20) - (less >> 20)
    z = (one >> 10 & 1023) + (two >> 10 & 1023) - (less >> 10 & 1023)
    return x, y, z


@compiled
def move(walk, log, row):
    """Do what a row of the table of moves says; what is wrong with it, and then nothing has changed."""
    kind = row[0]
    if walk[GIVEN]:
        return ORDER
    if kind == SKIP:
        return skip(walk, log)
    if kind == START:
        return start(walk, log)
    if walk[GATE] < 0 and (kind == HOP or walk[STAGE] == 0):
        return NO_GATE
    if kind == HOP:
        return place(walk, log, hop(walk, row[1]))
    x, y, z = reference(walk, kind)
    x, y, z = x + row[1], y + row[2], z + row[3]
    bins = walk[BINS]
    if min(x, y, z) < 0 or max(x, y, z) >= bins:
        return OUTSIDE
    return place(walk, log, place_of(x, y, z))


@compiled
def lying(walk, y, z):
    """Whether a vertex may lie at this height (and depth, unless it is negative)."""
    for deep in range(walk[BINS] if z < 0 else 1):
        for x in range(walk[BINS]):
            if placeable(walk, place_of(x, y, deep if z < 0 else z)) == FINE:
                return True
    return False


@compiled
def coordinate(walk, log, axis, value):
    """One of y, z, x; a y or z that is left out is that of the frame's A. What is wrong, and then nothing has changed."""
    if walk[STAGE] == 0 and walk[GATE] < 0:
        return NO_GATE
    if axis < walk[GIVEN]:
        return ORDER
    y = walk[Y] if walk[GIVEN] else walk[A] >> 20
    z = walk[Z] if walk[GIVEN] == 2 else walk[A] >> 10 & 1023
    if axis == 2:
        return place(walk, log, place_of(value, y, z))
    if not lying(walk, value if axis == 0 else y, -1 if axis == 0 else value):
        return NOWHERE
    put(walk, log, Y, value if axis == 0 else y)
    put(walk, log, Z, value)
    put(walk, log, GIVEN, axis + 1)
    return FINE


@compiled
def whole(walk):
    """Whether END may stand here."""
    return walk[STAGE] == 0 and walk[GIVEN] == 0
