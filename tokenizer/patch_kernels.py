"""The loops of `patches`, compiled: which vertex gathers which faces, the fans around it, ids written and read.

Plain int64 arrays in and out.
"""

from __future__ import annotations

import heapq

import numpy as np

from meshgpt.compiled import compiled

# A vertex with all of its faces around it, none of them taken, saves the rim vertex that closes its fan.
WHOLE, BROKEN = 3, 2
# Vertices with more faces are left as they are, so that the time stays in proportion to the faces.
CROWDED = 48
ROUNDS = 2
# What `parse` may find wrong.
SOUND, RANGE, START, MIDDLE, FACELESS, UNCLOSABLE, OUTSIDE, TRUNCATED = range(8)


@compiled
def incidence(faces, count):
    """Faces around each vertex: those of vertex v are around[starts[v] : starts[v + 1]]."""
    starts = np.zeros(count + 1, np.int64)
    for vertex in faces.flat:
        starts[vertex + 1] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    around = np.empty(faces.size, np.int64)
    for face in range(len(faces)):
        for corner in range(3):
            vertex = faces[face, corner]
            around[free[vertex]] = face
            free[vertex] += 1
    return starts, around


@compiled
def onward(faces, face, centre):
    """The other two corners, in the direction in which the face runs around the centre."""
    if faces[face, 0] == centre:
        return faces[face, 1], faces[face, 2]
    if faces[face, 1] == centre:
        return faces[face, 2], faces[face, 0]
    return faces[face, 0], faces[face, 1]


@compiled
def extra(before, vertex, spelling):
    """How many ids more than its offset a vertex takes after another one."""
    regions, blocks, levels = spelling
    if regions[before] != regions[vertex]:
        return levels
    return 1 if blocks[before] != blocks[vertex] else 0


@compiled
def price_of(faces, mine, owner, centre, excess, spelling):
    """How many ids the patch around the centre takes, nearly, and how many open fans it has. `excess` is zero, before and after."""
    ids = fans = 0
    for face in mine:
        if owner[face] == centre:
            tail, head = onward(faces, face, centre)
            ids += 1 + extra(tail, head, spelling)
            excess[tail] += 1
            excess[head] -= 1
    if ids == 0:
        return 0, 0
    for face in mine:
        if owner[face] == centre:
            for vertex in onward(faces, face, centre):
                if excess[vertex] > 0:
                    fans += excess[vertex]
                    ids += excess[vertex] * (2 + extra(centre, vertex, spelling))
                excess[vertex] = 0
    return ids + spelling[2] + (1 if fans == 0 else 0), fans


@compiled
def gather(faces, starts, around, spelling):
    """The centre of each face: time and again the vertex with the most faces left takes them all; the first one if several do."""
    count = len(starts) - 1
    excess = np.zeros(count, np.int64)
    left = starts[1:] - starts[:-1]
    weight = np.full(count, BROKEN)
    owner = np.empty(len(faces), np.int64)
    queue = [0 for _ in range(0)]
    for vertex in range(count):
        mine = around[starts[vertex] : starts[vertex + 1]]
        owner[mine] = vertex
        if price_of(faces, mine, owner, vertex, excess, spelling)[1] == 0:
            weight[vertex] = WHOLE
        queue.append(vertex - weight[vertex] * left[vertex] * count)
    heapq.heapify(queue)
    owner[:] = -1
    remaining = len(faces)
    while remaining:
        entry = heapq.heappop(queue)
        centre = entry % count
        if left[centre] == 0 or entry != centre - weight[centre] * left[centre] * count:
            continue
        mine = around[starts[centre] : starts[centre + 1]]
        mine = mine[owner[mine] == -1]
        for face in mine:
            owner[face] = centre
            remaining -= 1
            for vertex in faces[face]:
                left[vertex] -= 1
                weight[vertex] = BROKEN
        for face in mine:
            for vertex in faces[face]:
                if left[vertex]:
                    heapq.heappush(queue, vertex - weight[vertex] * left[vertex] * count)
    return owner


@compiled
def rivals(owner, mine, vertex):
    """Each of the faces' centres once, but for the vertex itself."""
    found = np.empty(len(mine), np.int64)
    count = 0
    for face in mine:
        known = owner[face] == vertex
        for at in range(count):
            known = known or found[at] == owner[face]
        if not known:
            found[count] = owner[face]
            count += 1
    return found[:count]


@compiled
def annex(faces, starts, around, owner, spelling):
    """Let vertices take all of their faces from other centres wherever that shortens the sequence; `owner` is changed in place."""
    count = len(starts) - 1
    excess = np.zeros(count, np.int64)
    prices = np.zeros(count, np.int64)
    for centre in range(count):
        prices[centre] = price_of(faces, around[starts[centre] : starts[centre + 1]], owner, centre, excess, spelling)[0]
    for _ in range(ROUNDS):
        for vertex in range(count):
            mine = around[starts[vertex] : starts[vertex + 1]]
            if len(mine) > CROWDED:
                continue
            others = rivals(owner, mine, vertex)
            crowd = 0
            for other in others:
                crowd = max(crowd, starts[other + 1] - starts[other])
            if len(others) == 0 or crowd > CROWDED:
                continue
            before = np.empty(len(mine), np.int64)
            for at, face in enumerate(mine):
                before[at], owner[face] = owner[face], vertex
            price = price_of(faces, mine, owner, vertex, excess, spelling)[0]
            gain = prices[vertex] - price
            after = np.empty(len(others), np.int64)
            for at, other in enumerate(others):
                after[at] = price_of(faces, around[starts[other] : starts[other + 1]], owner, other, excess, spelling)[0]
                gain += prices[other] - after[at]
            if gain > 0:
                prices[vertex] = price
                for at, other in enumerate(others):
                    prices[other] = after[at]
            else:
                for at, face in enumerate(mine):
                    owner[face] = before[at]


@compiled
def cover(faces, spelling):
    """The centre of each face, one of its three vertices: few centres, with few and long fans, and rims that stay in a block.

    `spelling`: the region and the block of each vertex, and how many ids a vertex takes besides its offset when it is spelled in full.
    """
    starts, around = incidence(faces, len(spelling[0]))
    owner = gather(faces, starts, around, spelling)
    annex(faces, starts, around, owner, spelling)
    return owner


@compiled
def trails(faces, owner, count):
    """The rims of all fans, one after another, for faces that are sorted by their centres.

    Returns rim vertices, where each fan starts in them (and the end), its centre, and whether its rim closes. An open rim starts at a
    vertex that more of the patch's faces leave than reach; what is left over then are rings.
    """
    rims = np.empty(2 * len(faces), np.int64)
    starts = np.zeros(len(faces) + 1, np.int64)
    centres = np.empty(len(faces), np.int64)
    closed = np.zeros(len(faces), np.bool_)
    heads = np.empty(len(faces), np.int64)
    following = np.empty(len(faces), np.int64)
    first = np.full(count, -1)
    excess = np.zeros(count, np.int64)
    fans = written = low = 0
    while low < len(faces):
        centre, high = owner[low], low
        while high < len(faces) and owner[high] == centre:
            high += 1
        for face in range(high - 1, low - 1, -1):
            tail, heads[face] = onward(faces, face, centre)
            following[face], first[tail] = first[tail], face
            excess[tail] += 1
            excess[heads[face]] -= 1
        for rings in range(2):
            for face in range(low, high):
                tail = onward(faces, face, centre)[0]
                while first[tail] >= 0 and (rings or excess[tail] > 0):
                    at, begin = tail, written
                    while first[at] >= 0:
                        rims[written] = at
                        written += 1
                        step = first[at]
                        first[at], at = following[step], heads[step]
                    if not rings:
                        rims[written] = at
                        written += 1
                        excess[tail] -= 1
                        excess[at] += 1
                    starts[fans], centres[fans], closed[fans] = begin, centre, rings == 1
                    fans += 1
        low = high
    starts[fans] = written
    return rims[:written], starts[: fans + 1], centres[:fans], closed[:fans]


@compiled
def beginning(rim, before, spelling):
    """Where a ring starts with the fewest ids, and with the lowest vertex if several places do."""
    best, least = 0, 2 * spelling[2] + 1
    for at in range(len(rim)):
        cost = extra(before, rim[at], spelling) - extra(rim[at - 1], rim[at], spelling)
        if cost < least or (cost == least and rim[at] < rim[best]):
            best, least = at, cost
    return best


@compiled
def spell(rims, starts, centres, closed, spelling, offsets, bases):
    """The ids of all patches. `bases`: the first ids of blocks, of regions on the rim, of centres after an open fan and after a ring,
    and the id that begins another fan."""
    block_base, region_base, centre_base, after_ring, fan_id = bases
    regions, blocks, levels = spelling
    ids = np.empty((levels + 1) * (len(rims) + len(centres)) + len(centres) + 1, np.int64)
    n, ring, before = 0, False, -1
    for fan in range(len(centres)):
        centre = centres[fan]
        if fan and centre == centres[fan - 1]:
            ids[n] = fan_id + ring
            n += 1
        else:
            ids[n] = (after_ring if ring else centre_base) + regions[centre]
            if levels == 2:
                ids[n + 1] = block_base + blocks[centre]
            ids[n + levels] = offsets[centre]
            n += levels + 1
            before = centre
        ring = closed[fan]
        rim = rims[starts[fan] : starts[fan + 1]]
        shift = beginning(rim, before, spelling) if ring else 0
        for at in range(len(rim)):
            vertex = rim[(at + shift) % len(rim)]
            if regions[vertex] != regions[before]:
                ids[n] = region_base + regions[vertex]
                n += 1
            if levels == 2 and extra(before, vertex, spelling):
                ids[n] = block_base + blocks[vertex]
                n += 1
            ids[n] = offsets[vertex]
            n += 1
            before = vertex
    if ring:
        ids[n] = fan_id + 1
        n += 1
    return ids[:n]


@compiled
def place(top, sub, offset, sides):
    """The number (y * bins + z) * bins + x of a spelled vertex, or -1 outside of the cube."""
    bins, top_side, sub_side, side = sides
    number, high, middle, low = 0, top_side * top_side, sub_side * sub_side, side * side
    for _ in range(3):
        digit = ((top // high) % top_side * sub_side + (sub // middle) % sub_side) * side + (offset // low) % side
        if digit >= bins:
            return -1
        number = number * bins + digit
        high, middle, low = max(high // top_side, 1), max(middle // sub_side, 1), max(low // side, 1)
    return number


@compiled
def fault_of(id, bases, missing, centre, rim, whole):
    """Why the id cannot come next, or SOUND. `missing`: ids still to come of the open vertex; `rim`: vertices on the rim."""
    block, region, centre_base, after_ring, fan = bases
    if id < 0 or id > fan + 1:
        return RANGE
    if missing:
        expected = id < block if missing == 1 else block <= id < region
        return SOUND if expected else MIDDLE
    if centre < 0:
        return SOUND if centre_base <= id < after_ring else START
    if (id == fan and rim < 2) or (centre_base <= id < after_ring and not whole):
        return FACELESS
    if id >= after_ring and id != fan and rim < 3:
        return UNCLOSABLE
    return SOUND


@compiled
def parse(ids, sides, bases):
    """Faces as vertex numbers, the id that finished each of them, and up to where the ids are sound.

    Returns faces, ends, the fault, the id it was found at, and how many ids the longest sequence before it has that may end there.
    """
    block_base, region_base, centre_base, after_ring, fan_id = bases
    faces, ends = np.empty((len(ids), 3), np.int64), np.empty(len(ids), np.int64)
    count = kept = region = block = missing = rim = fault = 0
    centre = first = last = vertex = -1
    to_centre, whole = False, True
    for at in range(len(ids)):
        id = ids[at]
        fault = fault_of(id, bases, missing, centre, rim, whole)
        if fault == SOUND and id < block_base:
            vertex = place(region, block, id, sides)
            fault = OUTSIDE if vertex < 0 else SOUND
        if fault:
            return faces[:count], ends[:count], fault, at, kept
        whole = False
        if id < block_base:
            if to_centre:
                centre, rim = vertex, 0
            else:
                if rim:
                    faces[count] = centre, last, vertex
                    ends[count] = at
                    count, whole = count + 1, True
                else:
                    first = vertex
                last, rim = vertex, rim + 1
            missing, to_centre = 0, False
        elif id < region_base:
            block, missing = id - block_base, 1
        else:
            if id >= after_ring and id != fan_id:
                faces[count] = centre, last, first
                ends[count] = at
                count += 1
            if id >= fan_id:
                rim, whole = 0, id > fan_id
            else:
                to_centre = id >= centre_base
                region = id - (after_ring if id >= after_ring else centre_base if to_centre else region_base)
                missing = 1 if block_base == region_base else 2
        if whole:
            kept = at + 1
    return faces[:count], ends[:count], SOUND if whole else TRUNCATED, len(ids), kept
