"""Encoding, decoding and the legal ids of walks, compiled.

A word is what one id stands for: moves, one after another. The words are held twice: as `flat` and `ends` (the moves of word w are
flat[ends[w] : ends[w + 1]]), and as a tree that is a hash table from (node, move) to the next node.

A symbol is a coordinate's id, or 3 bins + a move; an id is a coordinate's, or 3 bins + a word. `rows` is the table of moves, whose first
two are to skip and to start.

The machine of `walk_machine.py` is all that knows what moves do.
"""

from __future__ import annotations

import numpy as np

from meshgpt.compiled import compiled

from .walk_machine import (
    ACROSS,
    BACK,
    BINS,
    CORNER_BACK,
    FACE,
    FACES,
    FINE,
    FROM,
    GATE,
    HOP,
    NEXT,
    RANGE,
    SKIP,
    STAGE,
    START,
    TO,
    UNFINISHED,
    A,
    B,
    coordinate,
    mixed,
    move,
    new_log,
    new_walk,
    place,
    reference,
    skip,
    start,
    undo,
    whole,
)

# Of the files whose loops are compiled into these: numba's cache is renewed when this file changes, and only then. A test compares.
COMPILED_WITH = "c81a49e608690d2e"
FAR = 8  # hops that are moves
SYMBOLS = 13  # of a face, at most: a start, its three vertices by coordinates, and three gates that are skipped


@compiled
def table_slot(keys, key):
    """Where a hash table (-1 is empty) holds the key, or would."""
    slot = mixed(key, np.int64(0), np.int64(0)) & (len(keys) - 1)
    while keys[slot] != -1 and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@compiled
def shift_key(kind, x, y, z):
    """Shifts are less than 4096, whichever way."""
    return ((np.int64(kind) * 8192 + x + 4096) * 8192 + y + 4096) * 8192 + z + 4096


@compiled
def index_of_moves(rows):
    """A hash table from what a move does to its number; earlier moves are the more frequent ones."""
    size = 64
    while size < 2 * len(rows):
        size *= 2
    keys, values = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int32)
    for number in range(len(rows)):
        kind, x, y, z = rows[number]
        key = shift_key(kind, x, y, z)
        slot = table_slot(keys, key)
        if keys[slot] == -1:
            keys[slot], values[slot] = key, number
    return keys, values


@compiled
def index_of_words(flat, ends):
    """The tree of words: hash table from node * 2^16 + move to node, and the word that ends in each node, or -1."""
    size = 64
    while size < 2 * len(flat):
        size *= 2
    keys, values = np.full(size, -1, dtype=np.int64), np.zeros(size, dtype=np.int32)
    word_at, nodes = np.full(len(flat) + 1, -1, dtype=np.int32), 1
    for word in range(len(ends) - 1):
        node = 0
        for at in range(ends[word], ends[word + 1]):
            slot = table_slot(keys, np.int64(node) << 16 | flat[at])
            if keys[slot] == -1:
                keys[slot], values[slot] = np.int64(node) << 16 | flat[at], nodes
                nodes += 1
            node = values[slot]
        word_at[node] = word
    return keys, values, word_at


@compiled
def known_move(walk, vertex, keys, values):
    """The most frequent move that leads to the vertex, or -1; the ends of the neighbouring gates come first."""
    best = len(keys)
    if walk[STAGE] == 0:
        back = ahead = walk[GATE]
        for count in range(1, FAR + 1):
            back, ahead = walk[walk[BACK] + back], walk[walk[NEXT] + ahead]
            for way in (-1, 1):
                if vertex == (walk[walk[FROM] + back] if way < 0 else walk[walk[TO] + ahead]):
                    slot = table_slot(keys, shift_key(HOP, way * count, 0, 0))
                    if keys[slot] != -1 and values[slot] < best:
                        best = values[slot]
            if count == 1 and best < len(keys):
                return best
    for kind in range(ACROSS, CORNER_BACK + 1):
        x, y, z = reference(walk, kind)
        slot = table_slot(keys, shift_key(kind, (vertex & 1023) - x, (vertex >> 20) - y, (vertex >> 10 & 1023) - z))
        if keys[slot] != -1 and values[slot] < best:
            best = values[slot]
    return best if best < len(keys) else -1


@compiled
def write_vertex(walk, vertex, keys, values, lone, symbols, count):
    """Symbols of a vertex: its move, or the coordinates in which it differs from the frame's A, always with x."""
    known = known_move(walk, vertex, keys, values)
    if known >= 0:
        symbols[count] = lone + known
        return count + 1
    if vertex >> 20 != walk[A] >> 20:
        symbols[count] = vertex >> 20
        count += 1
    if vertex >> 10 & 1023 != walk[A] >> 10 & 1023:
        symbols[count] = lone // 3 + (vertex >> 10 & 1023)
        count += 1
    symbols[count] = lone // 3 * 2 + (vertex & 1023)
    return count + 1


@compiled
def half_edges(faces):
    """The first half-edge of each directed edge in a hash table, half-edge + 1, and the next one on the same edge, or -1."""
    size = 16
    while size < 6 * len(faces):
        size *= 2
    table, after = np.zeros(size, dtype=np.int32), np.full(3 * len(faces), -1, dtype=np.int32)
    for half in range(3 * len(faces) - 1, -1, -1):
        slot = half_edge_slot(table, faces, faces[half // 3, half % 3], faces[half // 3, (half + 1) % 3])
        after[half] = table[slot] - 1
        table[slot] = half + 1
    return table, after


@compiled
def half_edge_slot(table, faces, tail, head):
    slot = mixed(np.int64(tail), np.int64(head), np.int64(0)) & (len(table) - 1)
    while table[slot]:
        half = table[slot] - 1
        if faces[half // 3, half % 3] == tail and faces[half // 3, (half + 1) % 3] == head:
            break
        slot = (slot + 1) & (len(table) - 1)
    return slot


@compiled
def face_over(walk, faces, table, after, done):
    """A half-edge, of a face not yet walked, that runs against the current gate, or -1; walked ones leave the table's chain."""
    slot = half_edge_slot(table, faces, walk[B], walk[A])
    half = table[slot] - 1
    while half >= 0 and done[half // 3] and after[half] >= 0:
        half = after[half]
        table[slot] = half + 1
    return half if half >= 0 and not done[half // 3] else -1


@compiled
def symbols_of(faces, bins, keys, values):
    """The walk over faces of vertices (y << 20 | z << 10 | x): its symbols; and what is wrong with which face, or FINE."""
    walk, log = new_walk(bins, len(faces)), new_log(1)
    table, after = half_edges(faces)
    done, symbols = np.zeros(len(faces), dtype=np.bool_), np.empty(SYMBOLS * len(faces) + 1, dtype=np.int32)
    count = skipped = seed = 0
    while True:
        log[0] = 0
        half = face_over(walk, faces, table, after, done) if walk[GATE] >= 0 else -1
        if walk[GATE] >= 0 and half < 0:
            skip(walk, log)
            symbols[count] = 3 * bins + SKIP
            count, skipped = count + 1, skipped + 1
            continue
        vertices = 1
        if half < 0:
            while seed < len(faces) and done[seed]:
                seed += 1
            count -= skipped
            if seed == len(faces):
                return symbols[:count], FINE, 0
            start(walk, log)
            symbols[count] = 3 * bins + START
            count, half, vertices = count + 1, 3 * seed + 1, 3
        skipped, face = 0, half // 3
        done[face] = True
        for turn in range(vertices):
            vertex = faces[face, (half % 3 + 2 + turn) % 3]
            count = write_vertex(walk, vertex, keys, values, 3 * bins, symbols, count)
            log[0] = 0
            wrong = place(walk, log, vertex)
            if wrong != FINE:
                return symbols[:count], wrong, face


@compiled
def fewest_ids(symbols, lone, keys, values, word_at):
    """The ids that write the symbols, as few as the words allow; of several ways the one with the longest words first."""
    total = len(symbols)
    cost, word, length = np.zeros(total + 1, np.int32), np.zeros(total + 1, np.int32), np.ones(total + 1, np.int32)
    for begin in range(total - 1, -1, -1):
        cost[begin], word[begin] = total + 1, symbols[begin]
        if symbols[begin] < lone:
            cost[begin] = cost[begin + 1] + 1
            continue
        node = 0
        for end in range(begin, total):
            if symbols[end] < lone:
                break
            slot = table_slot(keys, np.int64(node) << 16 | (symbols[end] - lone))
            if keys[slot] == -1:
                break
            node = values[slot]
            if word_at[node] >= 0 and cost[end + 1] + 1 <= cost[begin]:
                cost[begin], word[begin], length[begin] = cost[end + 1] + 1, lone + word_at[node], end + 1 - begin
    ids, at, count = np.empty(cost[0], np.int64), 0, 0
    while at < total:
        ids[count] = word[at]
        count, at = count + 1, at + length[at]
    return ids


@compiled
def room_for(ids, lone, flat, ends):
    """Faces that the ids can make, at most."""
    faces = 0
    for id in ids:
        if 0 <= id < lone:
            faces += 1
        elif lone <= id < lone + len(ends) - 1:
            faces += ends[id - lone + 1] - ends[id - lone]
    return faces


@compiled
def follow(walk, log, id, rows, flat, ends):
    """Do all that an id says; what is wrong with it."""
    lone = 3 * walk[BINS]
    if id < 0 or id >= lone + len(ends) - 1:
        return RANGE
    if id < lone:
        return coordinate(walk, log, id * 3 // lone, id % (lone // 3))
    for at in range(ends[id - lone], ends[id - lone + 1]):
        wrong = move(walk, log, rows[flat[at]])
        if wrong != FINE:
            return wrong
    return FINE


@compiled
def walked(bins, ids, rows, flat, ends, longest):
    """The walk after the ids, with room for one more; what is wrong with which id, or FINE; how many ids make whole faces."""
    walk, log = new_walk(bins, room_for(ids, 3 * bins, flat, ends) + longest), new_log(longest)
    valid = 0
    for at in range(len(ids)):
        log[0] = 0
        wrong = follow(walk, log, ids[at], rows, flat, ends)
        if wrong != FINE:
            undo(walk, log, 0)
            return walk, wrong, at, valid
        if whole(walk):
            valid = at + 1
    return walk, FINE if whole(walk) else UNFINISHED, len(ids), valid


@compiled
def faces_of(walk):
    """Faces x vertices."""
    return walk[walk[FACE] : walk[FACE] + 3 * walk[FACES]].copy().reshape(-1, 3)


@compiled
def within(walk, most):
    """Whether the walk can still end with so many faces."""
    return walk[FACES] < most or (walk[FACES] == most and whole(walk))


@compiled
def legal_ids(walk, rows, flat, ends, longest, order, shared, most):
    """One flag an id, and one for END, for meshes of at most so many faces. `order` sorts the words, `shared` holds how many moves each
    has in common with the one before."""
    log, marks, done = new_log(longest), np.zeros(longest + 1, dtype=np.int32), 0
    lone = 3 * walk[BINS]
    mask = np.zeros(lone + len(ends), dtype=np.bool_)
    mask[lone + len(ends) - 1] = whole(walk)
    if mask[lone + len(ends) - 1] and walk[FACES] >= most:
        return mask
    for id in range(lone):
        mask[id] = coordinate(walk, log, id * 3 // lone, id % (lone // 3)) == FINE and within(walk, most)
        undo(walk, log, 0)
    for at in range(len(order)):
        word = order[at]
        if done < shared[at]:
            continue
        done = shared[at]
        undo(walk, log, marks[done])
        while done < ends[word + 1] - ends[word] and move(walk, log, rows[flat[ends[word] + done]]) == FINE:
            done += 1
            marks[done] = log[0]
        mask[lone + word] = done == ends[word + 1] - ends[word] and within(walk, most)
    undo(walk, log, 0)
    return mask
