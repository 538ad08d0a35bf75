"""What a mesh tokenizer is: corners to ids and back, and which ids may come next.

    step 0                 step 1
    id id id ... id        id id id ... id        END          `width` ids stand in one step

END is the id `vocab`. It takes a step of its own, and it belongs to the model, not to the tokenizer.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Set
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

State = Any
Vertex = tuple[int, ...]
# Vertices that there are for each that is in use, from which on none can be used up: a vertex bars at most its neighbours.
MANY = 16
# Bins between where the first vertex is and where the cloud says that it is.
NEAR = 2


@runtime_checkable
class Grammar(Protocol):
    """Which ids may come next: a pure step function over plain values. Following it, every sequence decodes."""

    def start(self) -> State:
        """The state before the first id."""
        ...

    def legal(self, state: State) -> Bool[np.ndarray, "ids"]:
        """One flag for each id 0 .. vocab - 1 and, last, for END."""
        ...

    def advance(self, state: State, id: int) -> State:
        """The state after one more id; the given state stays as it was."""
        ...

    def steered(self, state: State, passed: Set[Vertex], ceiling: float) -> State:
        """The state, between faces, from which on faces begin with none of the `passed` vertices, and the next one with none that
        is higher than the `ceiling` (in bins), as long as others are legal."""
        ...


@runtime_checkable
class MeshTokenizer(Protocol):
    """Ids run 0 .. vocab - 1, `width` of them to a step.

    Law: decode(encode(c)) == c for canonical corners c, or `lossy` is true.

    `spell` ids, one after another, make one vertex. Where the first of them stands for a region of the cube, `places` holds
    the regions' centres and `offsets` how far from there the second one moves the vertex (vocab x 3 each), else both are None.
    `shifts` (spell x vocab x 3) holds how far each id moves the vertex, in bins, at each place in it: about where the vertex is;
    all zeros where no single id says where a vertex is.
    """

    bins: int
    vocab: int
    width: int
    spell: int
    lossy: bool

    @property
    def places(self) -> Any: ...

    @property
    def offsets(self) -> Any: ...

    @property
    def shifts(self) -> Any: ...

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]: ...

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Whole faces. ValueError says which id does not fit, where it is and what to do; when not `strict`, the faces before it."""
        ...

    def grammar(self) -> Grammar:
        """ValueError where ids cannot be judged one by one (an entropy coder's bytes)."""
        ...


def whole_steps(ids: Integer[np.ndarray, "n width"], vocab: int, what: str, strict: bool) -> Integer[np.ndarray, "m width"]:
    """For tokenizers whose step is a face: all steps, or ValueError at the first id that is no `what`; when not `strict`, those before."""
    wrong = (ids < 0) | (ids >= vocab)
    if not wrong.any():
        return ids
    face, slot = np.argwhere(wrong)[0]
    if strict:
        said = f"END (id {vocab})" if ids[face, slot] == vocab else f"id {ids[face, slot]}"
        raise ValueError(f"{said} of face {face}, slot {slot} is no {what}; cut the sequence there with ids[:{face}], or pass strict=False")
    return ids[:face]


class Room(NamedTuple):
    """Where vertices may lie, in bins: `shifts` says how far each id moves a vertex at each place in it, `slack` how far what is
    still to come (and rounding) may move it after each place, `low` and `high` are the corners of the box that it must end in,
    `start` is about where the first one of all is, and `gap` is how far, on some axis, a new vertex must be from all others."""

    shifts: Float[np.ndarray, "spell vocab 3"]
    slack: Float[np.ndarray, "spell"]
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    start: Float[np.ndarray, "3"]
    gap: float

    def at(self, opened: Vertex) -> Float[np.ndarray, "3"]:
        """Where a vertex, or its beginning, is."""
        return sum((self.shifts[place, id] for place, id in enumerate(opened)), np.zeros(3))

    def within(self, opened: Vertex, floor: Vertex) -> Bool[np.ndarray, "vocab"]:
        """Which next ids keep the vertex in the box, and not before the floor in canonical order; without a floor, near the start."""
        at, slack = self.at(opened) + self.shifts[len(opened)], self.slack[len(opened)]
        inside = ((at >= self.low - slack) & (at <= self.high + slack)).all(1)
        if not floor:
            return inside & (np.abs(at - self.start)[:, 1:] <= slack + NEAR).all(1)
        up, along, _ = (at - self.at(floor))[:, [1, 2, 0]].T
        level = (np.abs(up) < 0.5) & (len(opened) == len(self.shifts) - 1)
        return inside & (up >= -slack) & ~(level & (along < -slack))

    def below(self, opened: Vertex, ceiling: float) -> Bool[np.ndarray, "vocab"]:
        """Which next ids keep the vertex no higher than the ceiling."""
        up = (self.at(opened) + self.shifts[len(opened)])[:, 1] - ceiling
        return up <= (self.slack[len(opened)] if len(opened) < len(self.shifts) - 1 else 0)

    def order(self, vertex: Vertex) -> tuple[int, ...]:
        """What sorts vertices as canonical order does."""
        x, y, z = self.at(vertex).round().astype(int).tolist()
        return y, z, x

    def apart(self, opened: Vertex, others: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "vocab"]:
        """Which last ids put a vertex far enough from the others."""
        start, moves = self.at(opened), self.shifts[len(opened)]
        near = others[np.abs(others - start).max(1) < np.abs(moves).max() + self.gap]
        # Axis by axis: a maximum over the three of them takes five times as long.
        close = np.ones((len(moves), len(near)), dtype=bool)
        for axis in range(3):
            close &= np.abs(near[:, axis] - (start + moves)[:, None, axis]) < self.gap
        return ~close.any(1)


Neighbours = dict[Vertex, frozenset[Vertex]]


class FaceState(NamedTuple):
    """Ids of the open face, and of the whole ones: the thirds of each pair of vertices, how many faces each vertex has,
    where the edges of the faces lead, from each vertex and to it, the first vertex of the last one, where vertices are, first corners
    that are passed over, and above which height (in bins) the next one must not be."""

    open: tuple[int, ...]
    thirds: dict[frozenset[Vertex], frozenset[Vertex]]
    fans: dict[Vertex, int]
    ahead: Neighbours
    behind: Neighbours
    last: Vertex
    spots: dict[Vertex, Float[np.ndarray, "3"]]
    passed: Set[Vertex]
    ceiling: float


class FaceGrammar:
    """A step is a face, a face is three vertices of `spell` ids each: three different ones, and never the same three again.

    With `manifold` each edge is walked at most once in each direction: no edge has more than two faces, and neighbours face the
    same way; and vertices that differ in their last id only are one vertex, since that is less than a cell apart.

    With `room` vertices stay in its box, and come as canonical order wants them, as far as the ids tell: the first corner of a face
    is its lowest, and not lower than that of the face before. Where no id would do, any will.

    With `closed` edges that have one face only are closed from the bottom up, before the mesh goes on elsewhere or ends.

    END comes between faces only.
    """

    def __init__(self, vocab: int, spell: int, manifold: bool = False, room: Room | None = None, closed: bool = False) -> None:
        if vocab**spell < 3:
            raise ValueError(f"{vocab} ids, {spell} to a vertex, tell fewer than three vertices apart; use more of them")
        if closed and (room is None or not manifold):
            raise ValueError("closed meshes need manifold edges and bounds that say where vertices are; pass both, or not closed")
        self.vocab, self.spell, self.manifold, self.room, self.closed = vocab, spell, manifold, room, closed
        self._orders: dict[Vertex, tuple[int, ...]] = {}

    def start(self) -> FaceState:
        return FaceState((), {}, {}, {}, {}, (), {}, frozenset(), math.inf)

    def legal(self, state: FaceState) -> Bool[np.ndarray, "ids"]:
        whole, opened = self._split(state.open)
        mask = np.ones(self.vocab + 1, dtype=bool)
        mask[self.vocab] = not state.open
        ways = self.vocab ** (self.spell - len(opened) - 1)
        barred: dict[int, int] = {}
        for vertex in self._barred(state, whole):
            if vertex[: len(opened)] == opened:
                barred[vertex[len(opened)]] = barred.get(vertex[len(opened)], 0) + 1
        mask[[id for id, count in barred.items() if count >= ways]] = False
        if self.manifold and 0 < len(opened) == self.spell - 1:
            known = [vertex[-1] for vertex in state.fans if vertex[:-1] == opened and mask[vertex[-1]]]
            mask[: self.vocab] &= np.isin(np.arange(self.vocab), known) if known else True
        if self.room is not None:
            lowest = whole[0] if whole else state.last
            roomy = mask[: self.vocab] & self.room.within(opened, lowest)
            if len(opened) == self.spell - 1:
                roomy &= self._spaced(state, whole, opened)
            if self.closed:
                roomy &= self._closing(state, whole, opened)
            mask[: self.vocab] = roomy if roomy.any() else mask[: self.vocab]
        if not whole:
            left = mask[: self.vocab] & self._not_passed(state, opened)
            mask[: self.vocab] = left if left.any() else mask[: self.vocab]
            if self.room is not None and state.ceiling < math.inf:
                low = mask[: self.vocab] & self.room.below(opened, state.ceiling)
                mask[: self.vocab] = low if low.any() else mask[: self.vocab]
        if self.closed and not state.open and mask[: self.vocab].any():
            mask[self.vocab] = self._next_to_close(state) is None
        return mask

    def _not_passed(self, state: FaceState, opened: Vertex) -> Bool[np.ndarray, "vocab"]:
        """In manifold meshes all vertices that begin alike are one, so that it is passed over as soon as it is recognised."""
        enough = 1 if self.manifold and len(opened) == self.spell - 2 else self.vocab ** (self.spell - len(opened) - 1)
        counts = Counter(vertex[len(opened)] for vertex in state.passed if vertex[: len(opened)] == opened)
        free = np.ones(self.vocab, dtype=bool)
        free[[id for id, count in counts.items() if count >= enough]] = False
        return free

    def _closing(self, state: FaceState, whole: list[Vertex], opened: Vertex) -> Bool[np.ndarray, "vocab"]:
        """First corners: the lowest with an open edge, or a new one below it. Second ones: an open edge of the first, if it has any."""
        free = np.ones(self.vocab, dtype=bool)
        if not whole:
            first = self._next_to_close(state)
            if first is None:
                return free
            free = self.room.below(opened, self.room.at(first)[1])
            if len(opened) == self.spell - 1:
                free[[vertex[-1] for vertex in state.spots if vertex[:-1] == opened]] = False
            wanted = {first} if self.room.at(first)[1] <= state.ceiling else set()
        elif len(whole) == 1:
            wanted = state.behind.get(whole[0], frozenset()) - state.ahead.get(whole[0], frozenset())
            if wanted:
                free[:] = False
        else:
            return free
        free[[vertex[len(opened)] for vertex in wanted if vertex[: len(opened)] == opened]] = True
        return free

    def _next_to_close(self, state: FaceState) -> Vertex | None:
        """The lowest vertex, from the last first corner on, with an edge that has one face only."""
        if not state.last:
            return None
        floor = self._order(state.last)
        left = (vertex for vertex in state.spots if vertex not in state.passed)
        open_ones = (vertex for vertex in left if state.ahead.get(vertex) != state.behind.get(vertex))
        return min((vertex for vertex in open_ones if self._order(vertex) >= floor), key=self._order, default=None)

    def _order(self, vertex: Vertex) -> tuple[int, ...]:
        if vertex not in self._orders:
            self._orders[vertex] = self.room.order(vertex)
        return self._orders[vertex]

    def _spaced(self, state: FaceState, whole: list[Vertex], opened: Vertex) -> Bool[np.ndarray, "vocab"]:
        """Last ids of vertices that are there already, and of new ones that are not too near to them."""
        spots = state.spots | {vertex: self.room.at(vertex) for vertex in whole}
        if not spots:
            return np.ones(self.vocab, dtype=bool)
        spaced = self.room.apart(opened, np.array(list(spots.values())))
        spaced[[vertex[-1] for vertex in spots if vertex[:-1] == opened]] = True
        return spaced

    def advance(self, state: FaceState, id: int) -> FaceState:
        opened = (*state.open, int(id))
        if len(opened) < 3 * self.spell:
            return state._replace(open=opened)
        a, b, c = self._split(opened)[0]
        thirds, fans, ahead, behind = (dict(part) for part in state[1:5])
        for tail, head, third in ((a, b, c), (b, c, a), (c, a, b)):
            pair = frozenset((tail, head))
            thirds[pair] = thirds.get(pair, frozenset()) | {third}
            fans[third] = fans.get(third, 0) + 1
            ahead[tail] = ahead.get(tail, frozenset()) | {head}
            behind[head] = behind.get(head, frozenset()) | {tail}
        spots = state.spots
        if self.room is not None:
            spots = spots | {vertex: self.room.at(vertex) for vertex in (a, b, c) if vertex not in spots}
        return FaceState((), thirds, fans, ahead, behind, a, spots, state.passed, math.inf)

    def steered(self, state: FaceState, passed: Set[Vertex], ceiling: float) -> FaceState:
        return state._replace(passed=frozenset(passed), ceiling=ceiling)

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
        if self.vocab**self.spell <= MANY * (len(state.fans) + 1):
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
