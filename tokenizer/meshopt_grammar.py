"""Which bytes may come next in the file of `meshopt_file`: every one of those ends in a mesh.

    count of vertices -> first vertex -> planes (modes, packed deltas, too large ones) -> faces (a code and its data) -> END

Inside the planes a byte holds several deltas, and too large ones are told later. So the grammar keeps, as the bits of a number, the set
of values that a coordinate can still have: a byte is legal while that set is not empty. Vertices may share a place; faces are told apart
by places, so that none is degenerate and none comes twice, whichever way round.

Codes as in meshoptimizer's index codec, version 1 (after Giesen 2013 and Stokes 2014): `edges` and `recent` are its two queues.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from .interface import UNLIMITED, Steering
from .meshopt_file import GROUP, PAIRS, two_bytes
from .meshopt_planes import Planes, advanced, legal_bytes, opened

VOCAB = 256
TOLD = -1  # a corner whose number stands in the data
QUEUE = 16


class Count(NamedTuple):
    """The bytes of the count so far, added up."""

    total: int


class First(NamedTuple):
    """The bytes of the first vertex so far."""

    count: int
    written: bytes


class Places(NamedTuple):
    """Of all vertices: the first one at the same place; and those that are the first at theirs, in order."""

    place: tuple[int, ...]
    firsts: tuple[int, ...]

    def below(self, reach: int) -> tuple[int, ...]:
        return self.firsts[: bisect_left(self.firsts, reach)]


class Faces(NamedTuple):
    """The queues, latest first; the next new vertex and the last one told by a number; faces by their places; bytes of the open face."""

    places: Places
    edges: tuple[tuple[int, int], ...]
    recent: tuple[int, ...]
    next: int
    last: int
    written: frozenset[frozenset[int]]
    open: bytes


State = Count | First | Planes | Faces
Corners = tuple[int, int, int]


class MeshoptGrammar:
    """See the top of the file. END comes at the start, or between faces; after `most` faces there is only END, and vertices are at most as
    many as these have corners."""

    def __init__(self, bins: int, most: int = UNLIMITED) -> None:
        self.bins, self.most = bins, most

    def start(self) -> State:
        return Count(0)

    def legal(self, state: State) -> Bool[np.ndarray, "ids"]:
        mask = np.zeros(VOCAB + 1, dtype=bool)
        match state:
            case Count(total):
                mask[0 if total else 3 : min(VOCAB, 3 * self.most - total + 1)] = True  # three vertices, at least, to a face
                mask[VOCAB] = not total
            case First(_, written):
                mask[: self._highest(written) + 1] = True
            case Planes():
                mask[legal_bytes(state)] = True
            case Faces(open=b"") if len(state.written) >= self.most:
                mask[VOCAB] = True
            case Faces(open=b""):
                mask[list(_codes(state))] = True
                mask[VOCAB] = bool(state.written) or not mask.any()
            case Faces():
                mask[list(_data_bytes(state))] = True
        return mask

    def advance(self, state: State, id: int) -> State:
        match state:
            case Count(total):
                return Count(total + 255) if id == 255 else First(total + int(id), b"")
            case First(count, written):
                written += bytes([id])
                return opened(count, written, self.bins) if len(written) == (6 if two_bytes(self.bins) else 3) else First(count, written)
            case Planes():
                after = advanced(state, int(id))
                return after if isinstance(after, Planes) else Faces(_places(after), (), (), 0, 0, frozenset(), b"")
        state = state._replace(open=state.open + bytes([id]))
        return state if _missing(state.open) else _closed(state)

    def steered(self, state: State, steering: Steering) -> State:
        return state

    def faces(self, state: State) -> int:
        return len(state.written) if isinstance(state, Faces) else 0

    def most_steps(self, faces: int) -> int:
        """Of planes a byte and its mode at least, packed or not; of faces their codes, and three numbers of up to five bytes."""
        vertices, width = 3 * faces, 2 if two_bytes(self.bins) else 1
        planes = 4 * width * 2 * GROUP * -(-vertices // GROUP)
        return vertices // 255 + 2 + 3 * width + planes + 17 * faces

    def _highest(self, written: bytes) -> int:
        if not two_bytes(self.bins):
            return self.bins - 1
        return (self.bins - 1 - written[-1]) >> 8 if len(written) % 2 else 255


def _places(vertices: list[tuple[int, ...]]) -> Places:
    seen: dict[tuple[int, ...], int] = {}
    place = tuple(seen.setdefault(vertex, number) for number, vertex in enumerate(vertices))
    return Places(place, tuple(seen.values()))


# The bytes of a face


def _pair(open: bytes) -> int | None:
    """What tells the second and third corner, where the first byte does not go on from an edge; None while it is not there."""
    if open[0] < 254:
        return PAIRS[open[0] & 15]
    return open[1] if len(open) > 1 else None


def _told(open: bytes) -> int | None:
    """How many corners stand in the data; None while that is not known."""
    if open[0] < 240:
        return int(open[0] & 15 == 15)
    pair = _pair(open)
    return None if pair is None else (pair >> 4 == 15) + (pair & 15 == 15) + (open[0] == 255)


def _data(open: bytes) -> bytes:
    return open[2 if open[0] >= 254 else 1 :]


def _missing(open: bytes) -> bool:
    told = _told(open)
    return told is None or sum(byte < 128 for byte in _data(open)) < told


def _corners(state: Faces, open: bytes) -> tuple[Corners, int] | None:
    """The corners, TOLD where the data says which, and the next new vertex after them; None where one is not there."""
    reach = state.next
    if open[0] < 240:
        edge, third = open[0] >> 4, open[0] & 15
        if edge >= len(state.edges):
            return None
        if third in (13, 14):
            corner = state.last + (1 if third == 14 else -1)
            return ((*state.edges[edge], corner), reach) if 0 <= corner < reach else None
        halves, known, corners = (third,), state.recent, list(state.edges[edge])
    else:
        pair = _pair(open)
        halves, known, corners = (pair >> 4, pair & 15), (None, *state.recent), [TOLD if open[0] == 255 else reach]
        reach += open[0] != 255
        if open[0] >= 254 and not pair:
            return None  # it would start the count of new vertices again
    for half in halves:
        if half and half != 15 and half >= len(known):
            return None
        corners.append(TOLD if half == 15 else known[half] if half else reach)
        reach += not half
    return ((corners[0], corners[1], corners[2]), reach) if reach <= len(state.places.place) else None


def _filled(state: Faces, open: bytes) -> tuple[list[int], int, int, bytes]:
    """The corners as far as the data says them, the next new vertex, the last one told, and the bytes of an open number."""
    corners, reach = _corners(state, open)
    corners, last, start = list(corners), state.last, 0
    data = _data(open)
    for at, byte in enumerate(data):
        if byte < 128:
            value = sum((part & 127) << 7 * place for place, part in enumerate(data[start : at + 1]))
            last += value >> 1 ^ -(value & 1)
            corners[corners.index(TOLD)], start = last, at + 1
    return corners, reach, last, data[start:]


def _codes(state: Faces) -> Iterator[int]:
    """First bytes of faces that are not there yet."""
    place, written, reach = state.places.place, state.written, state.next
    near = [corner if 0 <= corner < reach else None for corner in (state.last - 1, state.last + 1)]
    recent = [*state.recent[1:13], *(None,) * (12 - len(state.recent[1:13]))]
    thirds = [reach if reach < len(place) else None, *recent, *near]
    for edge, (a, b) in enumerate(state.edges[:15]):
        ends = place[a], place[b]
        for third, corner in enumerate(thirds):
            if corner is not None and place[corner] not in ends and frozenset((*ends, place[corner])) not in written:
                yield edge << 4 | third
        if any(corner not in ends and frozenset((*ends, corner)) not in written for corner in state.places.below(reach)):
            yield edge << 4 | 15
    yield from (code for code in range(240, VOCAB) if _leads_on(state, bytes([code])))


def _leads_on(state: Faces, open: bytes) -> bool:
    """Whether some face begins so."""
    if _told(open) is None:
        return any(_leads_on(state, open + bytes([pair])) for pair in range(1, VOCAB))
    found = _corners(state, open)
    return found is not None and _fits(state, *found)


def _fits(state: Faces, corners: Corners, reach: int) -> bool:
    """Whether the corners, with others for those not yet told, are a new face."""
    places = [state.places.place[corner] for corner in corners if corner != TOLD]
    if len(set(places)) < len(places):
        return False
    if len(places) == 3:
        return frozenset(places) not in state.written
    at = corners.index(TOLD)
    return any(_fits(state, (*corners[:at], corner, *corners[at + 1 :]), reach) for corner in state.places.below(reach))


def _data_bytes(state: Faces) -> Iterator[int]:
    if _told(state.open) is None:
        yield from (pair for pair in range(VOCAB) if _leads_on(state, state.open + bytes([pair])))
        return
    corners, reach, last, begun = _filled(state, state.open)
    at = corners.index(TOLD)
    for corner in state.places.below(reach):
        number = _number(corner - last)
        if number.startswith(begun) and _fits(state, (*corners[:at], corner, *corners[at + 1 :]), reach):
            yield number[len(begun)]


def _number(difference: int) -> bytes:
    value = difference << 1 if difference >= 0 else ~(difference << 1)
    written = b""
    while value > 127:
        written, value = written + bytes([value & 127 | 128]), value >> 7
    return written + bytes([value])


def _closed(state: Faces) -> Faces:
    """The state after the open face, both queues moved on as the codec moves them."""
    (a, b, c), reach, last, _ = _filled(state, state.open)
    code = state.open[0]
    if code < 240:
        new = (c,) if code & 15 in (0, 13, 14, 15) else ()
        edges = ((a, c), (c, b))
        last = c if code & 15 >= 13 else last
    else:
        pair = _pair(state.open)
        new = (*((c,) if pair & 15 in (0, 15) else ()), *((b,) if pair >> 4 in (0, 15) else ()), a)
        edges = ((a, c), (c, b), (b, a))
    face = frozenset(state.places.place[corner] for corner in (a, b, c))
    recent = (*new, *state.recent)[:QUEUE]
    return Faces(state.places, (*edges, *state.edges)[:QUEUE], recent, reach, last, state.written | {face}, b"")
