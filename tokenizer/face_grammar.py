"""The grammar of steps that are faces: three different vertices, never the same three again; on request, manifold edges, and
vertices where there is room for them.

It knows ids, and through its room where they put vertices. It does not know networks or clouds.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .interface import UNLIMITED, Steering, Vertex
from .room import Room

# Vertices that there are for each that is in use, from which on none can be used up: a vertex bars at most its neighbours.
MANY = 16

Neighbours = dict[Vertex, frozenset[Vertex]]


class FaceState(NamedTuple):
    """Ids of the open face, and of the whole ones: the thirds of each pair of vertices, where the edges of the faces lead, from each
    vertex and to it, the first vertex of the last one, the last ids of the vertices by what they begin with, where they are, and
    how first corners are steered; and how many faces there are."""

    open: tuple[int, ...]
    thirds: dict[frozenset[Vertex], frozenset[Vertex]]
    ahead: Neighbours
    behind: Neighbours
    last: Vertex
    ends: dict[Vertex, frozenset[int]]
    spots: Float[np.ndarray, "n 3"]
    steering: Steering
    faces: int = 0


class FaceGrammar:
    """A step is a face, a face is three vertices of `spell` ids each: three different ones, and never the same three again.

    With `manifold` each edge is walked at most once in each direction: no edge has more than two faces, and neighbours face the
    same way; and vertices that differ in their last id only are one vertex, since that is less than a cell apart.

    With `room` vertices stay in its box, and come as canonical order wants them, as far as the ids tell: the first corner of a face
    is its lowest, and not lower than that of the face before. Where no id would do, any will.

    END comes between faces only, and after `faces` of them nothing else. A `step` holds so many ids.
    """

    def __init__(
        self, vocab: int, spell: int, manifold: bool = False, room: Room | None = None, faces: int = UNLIMITED, step: int = 0
    ) -> None:
        if vocab**spell < 3:
            raise ValueError(f"{vocab} ids, {spell} to a vertex, tell fewer than three vertices apart; use more of them")
        self.vocab, self.spell, self.manifold, self.room = vocab, spell, manifold, room
        self.most, self.steps = faces, 3 * spell // (step or 3 * spell)

    def start(self) -> FaceState:
        return FaceState((), {}, {}, {}, (), {}, np.zeros((0, 3)), Steering())

    def legal(self, state: FaceState) -> Bool[np.ndarray, "ids"]:
        whole, opened = self._split(state.open)
        mask = np.ones(self.vocab + 1, dtype=bool)
        mask[self.vocab] = not state.open
        free = mask[: self.vocab]
        if not state.open and state.faces >= self.most:
            free[:] = False
            return mask
        self._bar(free, state, whole, opened)
        for wanted in self._wanted(state, whole, opened):
            if (free & wanted).any():
                free &= wanted
        return mask

    def _bar(self, free: Bool[np.ndarray, "vocab"], state: FaceState, whole: list[Vertex], opened: Vertex) -> None:
        """Without what can lead to nothing but vertices that must not come. In manifold meshes vertices that begin alike are one."""
        ways = self.vocab ** (self.spell - len(opened) - 1)
        counts = Counter(vertex[len(opened)] for vertex in self._barred(state, whole) if vertex[: len(opened)] == opened)
        free[[id for id, count in counts.items() if count >= ways]] = False
        if self.manifold and 0 < len(opened) == self.spell - 1:
            known = [id for id in self._ends(state, whole, opened) if free[id]]
            if known:
                free[:] = False
                free[known] = True

    def _ends(self, state: FaceState, whole: list[Vertex], opened: Vertex) -> list[int]:
        """The last ids of the vertices that are there and begin so."""
        return [*state.ends.get(opened, ()), *(vertex[-1] for vertex in whole if vertex[:-1] == opened)]

    def _wanted(self, state: FaceState, whole: list[Vertex], opened: Vertex) -> Iterator[Bool[np.ndarray, "vocab"]]:
        """What is to be so where it can, the most important first."""
        if self.room is not None:
            fits = self.room.within(opened, whole[0] if whole else state.last)
            yield fits & self._spaced(state, whole, opened) if len(opened) == self.spell - 1 else fits
        if not whole:
            yield from self._steered(state, opened)

    def _steered(self, state: FaceState, opened: Vertex) -> Iterator[Bool[np.ndarray, "vocab"]]:
        """What is wanted of first corners, the most important first."""
        yield self._not_passed(state, opened)
        if self.room is not None and state.steering.ceiling < math.inf:
            yield self.room.below(opened, state.steering.ceiling)
        if self.room is not None and state.steering.spots is not None and len(state.steering.spots):
            yield self.room.beside(opened, state.steering)

    def _not_passed(self, state: FaceState, opened: Vertex) -> Bool[np.ndarray, "vocab"]:
        """In manifold meshes all vertices that begin alike are one, so that it is passed over as soon as it is recognised."""
        enough = 1 if self.manifold and len(opened) == self.spell - 2 else self.vocab ** (self.spell - len(opened) - 1)
        counts = Counter(vertex[len(opened)] for vertex in state.steering.passed if vertex[: len(opened)] == opened)
        free = np.ones(self.vocab, dtype=bool)
        free[[id for id, count in counts.items() if count >= enough]] = False
        return free

    def _spaced(self, state: FaceState, whole: list[Vertex], opened: Vertex) -> Bool[np.ndarray, "vocab"]:
        """Last ids of vertices that are there already, and of new ones that are not too near to them."""
        spaced = self.room.apart(opened, np.concatenate([state.spots, *(self.room.at(vertex)[None] for vertex in whole)]))
        spaced[self._ends(state, whole, opened)] = True
        return spaced

    def advance(self, state: FaceState, id: int) -> FaceState:
        opened = (*state.open, int(id))
        if len(opened) < 3 * self.spell:
            return state._replace(open=opened)
        a, b, c = self._split(opened)[0]
        thirds, ahead, behind = (dict(part) for part in (state.thirds, state.ahead, state.behind))
        for tail, head, third in ((a, b, c), (b, c, a), (c, a, b)):
            pair = frozenset((tail, head))
            thirds[pair] = thirds.get(pair, frozenset()) | {third}
            ahead[tail] = ahead.get(tail, frozenset()) | {head}
            behind[head] = behind.get(head, frozenset()) | {tail}
        ends, spots = self._placed(state, [vertex for vertex in (a, b, c) if vertex not in state.ahead])
        return FaceState((), thirds, ahead, behind, a, ends, spots, Steering(state.steering.passed), state.faces + 1)

    def _placed(self, state: FaceState, vertices: list[Vertex]) -> tuple[dict[Vertex, frozenset[int]], Float[np.ndarray, "n 3"]]:
        """What begins how, and where everything is, with some new vertices."""
        ends = dict(state.ends)
        for vertex in vertices:
            ends[vertex[:-1]] = ends.get(vertex[:-1], frozenset()) | {vertex[-1]}
        return ends, state.spots if self.room is None else np.concatenate(
            [state.spots, *(self.room.at(vertex)[None] for vertex in vertices)]
        )

    def steered(self, state: FaceState, steering: Steering) -> FaceState:
        return state._replace(steering=steering._replace(passed=frozenset(steering.passed)))

    def faces(self, state: FaceState) -> int:
        return state.faces

    def most_steps(self, faces: int) -> int:
        return self.steps * faces

    def _split(self, opened: tuple[int, ...]) -> tuple[list[Vertex], tuple[int, ...]]:
        whole = [opened[at : at + self.spell] for at in range(0, len(opened) - self.spell + 1, self.spell)]
        return whole, opened[len(whole) * self.spell :]

    def _barred(self, state: FaceState, whole: list[Vertex]) -> set[Vertex]:
        """Vertices that cannot come next: already in this face, closing a face or an edge that exists, or leading nowhere."""
        if len(whole) == 2:
            return self._barred_thirds(state, *whole)
        barred: set[Vertex] = set()
        if whole:
            barred |= {whole[0], *(state.ahead.get(whole[0], ()) if self.manifold else ())}
        if self.vocab**self.spell <= MANY * (len(state.ahead) + 1):
            barred |= {vertex for vertex in self._every() if vertex not in barred and self._leads_nowhere(state, [*whole, vertex])}
        return barred

    def _every(self) -> Iterator[Vertex]:
        return itertools.product(range(self.vocab), repeat=self.spell)

    def _barred_thirds(self, state: FaceState, a: Vertex, b: Vertex) -> set[Vertex]:
        barred = {a, b, *state.thirds.get(frozenset((a, b)), ())}
        return barred | {*state.ahead.get(b, ()), *state.behind.get(a, ())} if self.manifold else barred

    def _leads_nowhere(self, state: FaceState, whole: list[Vertex]) -> bool:
        """Only where vertices are few can the ways on be used up; there they are counted out."""
        if len(whole) == 2:
            return len(self._barred_thirds(state, *whole)) >= self.vocab**self.spell
        barred = self._barred(state, whole)
        return all(vertex in barred or self._leads_nowhere(state, [*whole, vertex]) for vertex in self._every())
