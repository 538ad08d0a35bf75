"""Adjacent Mesh Tokenization, as MeshAnythingV2 releases it (Chen et al., 2024, section 3.2): strips of faces over shared edges.

    x y z  x y z  x y z    x y z    x y z    BREAK    x y z  x y z  x y z    ...
    face 0                 face 1   face 2            a face with no edge in common with the last one

Each face after a strip's first one shares the edge of the two vertices named last, so that it costs one vertex. A strip goes on with the
lowest vertex that makes a face with that edge which was not named yet; where there is none it breaks off, and the next one starts with the
first face left. Vertices are ordered by (z, y, x), corners of a face and faces in that order: the orientation of faces is lost.

Ids 0 .. bins - 1 are bins; BREAK is the id `bins`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from meshgpt.mesh import BINS, canonical

from .checks import check_bins, checked_faces, column, first_spoiled
from .face_memory import FaceMemory
from .interface import UNLIMITED, Grammar, Steering
from .one_id import OneIdTokenizer
from .vertex_numbers import cells_of, number_of
from .winding import edges_of, oriented

# Released role ids: after the three special ones come BREAK, a strip's first three vertices (x, y, z) and the later ones.
BREAK_ROLE, START_ROLE, LATER_ROLE = 3, 4, 7
STRIP_START = 9  # ids of a strip's first face


class AdjacentTokenizer(OneIdTokenizer):
    """One id to a step, three for a face that continues a strip. Lossy: faces come back, their orientation does not.

    With `orient` decoding makes windings consistent and turns components outward (see `winding.oriented`); without, the corners of each
    face run from the lowest to the highest vertex.
    """

    lossy = True

    def __init__(self, bins: int = BINS, orient: bool = False) -> None:
        check_bins(bins)
        self.bins, self.vocab, self.orient = bins, bins + 1, orient

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n 1"]:
        """ValueError for corners outside of the bins, degenerate and repeated faces."""
        vertices, faces = checked_faces(corners, self.bins)
        if not len(faces):
            return np.zeros((0, 1), dtype=np.int64)
        from . import adjacent_kernels as kernels

        vertices, faces = _released_order(vertices, faces)
        strips = kernels.strips(faces, *edges_of(faces))
        ids = np.append(vertices, [[self.bins] * 3], axis=0)[strips]
        named = np.ones(ids.shape, dtype=bool)
        named[strips < 0, 1:] = False
        return ids[named][:, None]

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners; ValueError names the first id that does not fit. Without `strict` the longest sequence before that one which
        ends with a whole face is decoded instead."""
        sequence = column(ids)
        at, why = self._misplaced(sequence)
        faces, ends = self._faces(sequence[:at])
        corners = canonical(cells_of(np.sort(faces, 1), self.bins))
        if not why and len(corners) == len(faces):
            return oriented(corners) if self.orient else corners
        spoiled = first_spoiled(np.unique(faces, return_inverse=True)[1])
        if spoiled:
            at, why = int(ends[spoiled[0]]), f"ends a face that {spoiled[1]}"
        kept = int(ends[ends < at].max(initial=-1)) + 1
        if strict:
            subject = f"id {ids[at, 0]} at {at}" if at < len(ids) else f"the end, at {at},"
            raise ValueError(f"{subject} {why}; cut the sequence with ids[:{kept}]")
        return self.decode(ids[:kept])

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """The tokens do not say which way faces look: `manifold` edges, and the cloud's `points`, are not looked at."""
        return AdjacentGrammar(self.bins, faces)

    def _misplaced(self, sequence: Int[np.ndarray, "n"]) -> tuple[int, str]:
        """Where the first id is that does not fit (the end, if the sequence is cut inside a face), and what is wrong with it."""
        none = np.flatnonzero((sequence < 0) | (sequence > self.bins))
        sound = int(none[0]) if len(none) else len(sequence)
        stops = np.append(np.flatnonzero(sequence[:sound] == self.bins), sound)
        lengths = np.diff(stops, prepend=-1) - 1
        wrong = np.flatnonzero((lengths < STRIP_START) | (lengths % 3 > 0))
        if len(wrong) and wrong[0] < len(stops) - 1:
            return int(stops[wrong[0]]), f"breaks off a strip after {lengths[wrong[0]]} ids, inside a face"
        if len(none):
            return sound, f"is not in 0 .. {self.bins}"
        return sound, "comes inside a face" if len(wrong) and sound else ""

    def _faces(self, sequence: Int[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "f"]]:
        """Whole faces as vertex numbers, and the id that ends each of them; what is over at the end is left out."""
        breaks = sequence == self.bins
        at = np.flatnonzero(~breaks)
        at = at[: len(at) // 3 * 3]
        ends, strip = at[2::3], np.cumsum(breaks)[at[2::3]]
        numbers = number_of(sequence[at].reshape(-1, 3), self.bins)
        following = np.flatnonzero(strip[2:] == strip[:-2])
        return numbers[following[:, None] + np.arange(3)], ends[2:][following]


def _released_order(
    vertices: Int[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Int[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Vertices by (z, y, x), the corners of each face and the faces in that order."""
    order = np.lexsort(vertices.T)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    faces = np.sort(rank[faces], 1)
    return vertices[order], faces[np.lexsort(faces.T[::-1])]


def roles(ids: Integer[np.ndarray, "n"], bins: int = BINS) -> Int[np.ndarray, "n"]:
    """The role ids that are embedded beside the ids: 3 for BREAK, 4 5 6 for x y z of a strip's first three vertices, then 7 8 9."""
    breaks = ids == bins
    since = np.arange(len(ids)) - np.maximum.accumulate(np.where(breaks, np.arange(len(ids)) + 1, 0))
    return np.where(breaks, BREAK_ROLE, np.where(since < STRIP_START, START_ROLE, LATER_ROLE) + since % 3)


def as_released(ids: Integer[np.ndarray, "n"]) -> Float[np.ndarray, "f 3 3"]:
    """What MeshAnythingV2's own detokenizer makes of ids at 128 bins, well formed or not, in float32.

    -1 ends the mesh, and so does a BREAK that comes too early or inside a vertex. A bin is put at id / 128 - 0.5, the low edge of its cell.
    What is missing of the first face is taken from a dummy triangle, which is all that an empty sequence gives; other unfinished faces go.
    """
    filled = [-0.1, 0.0, 0.1, -0.1, 0.1, 0.2, -0.3, 0.3, 0.2]
    at = since = 0
    for id in ids.tolist():
        if id == -1 or (id == BINS and (since < STRIP_START or since % 3)):
            break
        if id == BINS:
            since = 0
            continue
        if since >= STRIP_START and since % 3 == 0:
            filled[at:] = filled[at - 6 : at]
            at += 6
        filled[at : at + 1] = [id / BINS - 0.5]
        at, since = at + 1, since + 1
    whole = len(filled) // 9 * 9
    return np.array(filled[:whole], dtype=np.float32).reshape(-1, 3, 3)


class AdjacentState(NamedTuple):
    """What decides the next id; vertices are numbers in the order of their ids, (x * bins + y) * bins + z."""

    opened: tuple[int, ...]  # ids of the open vertex
    second: int  # the vertices named last, -1 for none
    last: int
    named: int  # vertices of the strip
    whole: bool  # the mesh may end here
    faces: FaceMemory


class AdjacentGrammar:
    """Whatever `decode` takes, and nothing else: strips of at least one face, every face a new one with three vertices.

    Vertices none of whose faces is left can only run out where bins are few; then they are barred ahead of time, so that there always is
    a legal id. The order of faces is free. After `most` of them there is only END.
    """

    def __init__(self, bins: int, most: int = UNLIMITED) -> None:
        self.bins, self.most = bins, most

    def start(self) -> AdjacentState:
        return AdjacentState((), -1, -1, 0, True, FaceMemory(self.bins**3))

    def legal(self, state: AdjacentState) -> Bool[np.ndarray, "ids"]:
        mask = np.zeros(self.bins + 2, dtype=bool)
        if state.whole and state.faces.faces >= self.most:
            mask[-1] = True
            return mask
        mask[: self.bins] = self._free(state, self._barred(state))
        if not state.opened:
            mask[self.bins] = state.named > 2 and self._free(state, state.faces.used_up()).any()
            mask[self.bins + 1] = state.whole
        return mask

    def advance(self, state: AdjacentState, id: int) -> AdjacentState:
        if id == self.bins:
            return state._replace(named=0, whole=False)
        opened = (*state.opened, int(id))
        if len(opened) < 3:
            return state._replace(opened=opened, whole=False)
        vertex, (_, a, b, named, _, faces) = self._number(opened), state
        if named < 2:
            return AdjacentState((), b, vertex, named + 1, False, faces)
        return AdjacentState((), b, vertex, named + 1, True, faces.with_face(a, b, vertex))

    def steered(self, state: AdjacentState, steering: Steering) -> AdjacentState:
        """A strip is no face with a first corner, so there is nothing to steer."""
        return state

    def faces(self, state: AdjacentState) -> int:
        return state.faces.faces

    def most_steps(self, faces: int) -> int:
        """Nine ids a face, and one between two."""
        return (STRIP_START + 1) * faces

    def _barred(self, state: AdjacentState) -> set[int]:
        """Vertices that cannot come next."""
        if state.named == 0:
            return state.faces.used_up()
        if state.named == 1:
            return {state.last, *state.faces.used_up_with(state.last)}
        return {state.second, state.last, *state.faces.thirds(state.second, state.last)}

    def _free(self, state: AdjacentState, barred: set[int]) -> Bool[np.ndarray, "bins"]:
        """Which next ids lead to a vertex that is not barred."""
        span = self.bins ** (2 - len(state.opened))
        start = self._number(state.opened) * self.bins
        counts = Counter(number // span - start for number in barred)
        free = np.ones(self.bins, dtype=bool)
        free[[id for id, count in counts.items() if 0 <= id < self.bins and count >= span]] = False
        return free

    def _number(self, opened: tuple[int, ...]) -> int:
        number = 0
        for id in opened:
            number = number * self.bins + id
        return number
