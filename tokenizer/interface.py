"""What a mesh tokenizer is: corners to ids and back, and which ids may come next.

    step 0                 step 1
    id id id ... id        id id id ... id        END          `width` ids stand in one step

END is the id `vocab`. It takes a step of its own, and it belongs to the model, not to the tokenizer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Integer

State = Any
# Vertices that there are for each that is in use, from which on none can be used up: a vertex bars at most its neighbours.
MANY = 16


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


@runtime_checkable
class MeshTokenizer(Protocol):
    """Ids run 0 .. vocab - 1, `width` of them to a step.

    Law: decode(encode(c)) == c for canonical corners c, or `lossy` is true.

    `spell` ids, one after another, make one vertex. Where the first of them stands for a region of the cube, `places` holds
    the regions' centres and `offsets` how far from there the second one moves the vertex (vocab x 3 each), else both are None.
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

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]: ...

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None) -> Int[np.ndarray, "f 3 3"]: ...

    def grammar(self) -> Grammar: ...


Vertex = tuple[int, ...]
Neighbours = dict[Vertex, frozenset[Vertex]]


class FaceState(NamedTuple):
    """Ids of the open face, and of the whole ones: the thirds of each pair of vertices, how many faces each vertex has,
    and where the edges of the faces lead, from each vertex and to it."""

    open: tuple[int, ...]
    thirds: dict[frozenset[Vertex], frozenset[Vertex]]
    fans: dict[Vertex, int]
    ahead: Neighbours
    behind: Neighbours


class FaceGrammar:
    """A step is a face, a face is three vertices of `spell` ids each: three different ones, and never the same three again.

    With `manifold` each edge is walked at most once in each direction: no edge has more than two faces, and neighbours face the
    same way; and vertices that differ in their last id only are one vertex, since that is less than a cell apart.

    END comes between faces only. In which order vertices and faces come is left open.
    """

    def __init__(self, vocab: int, spell: int, manifold: bool = False) -> None:
        if vocab**spell < 3:
            raise ValueError(f"{vocab} ids, {spell} to a vertex, tell fewer than three vertices apart; use more of them")
        self.vocab, self.spell, self.manifold = vocab, spell, manifold

    def start(self) -> FaceState:
        return FaceState((), {}, {}, {}, {})

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
        return mask

    def advance(self, state: FaceState, id: int) -> FaceState:
        opened = (*state.open, int(id))
        if len(opened) < 3 * self.spell:
            return state._replace(open=opened)
        a, b, c = self._split(opened)[0]
        thirds, fans, ahead, behind = (dict(part) for part in state[1:])
        for tail, head, third in ((a, b, c), (b, c, a), (c, a, b)):
            pair = frozenset((tail, head))
            thirds[pair] = thirds.get(pair, frozenset()) | {third}
            fans[third] = fans.get(third, 0) + 1
            ahead[tail] = ahead.get(tail, frozenset()) | {head}
            behind[head] = behind.get(head, frozenset()) | {tail}
        return FaceState((), thirds, fans, ahead, behind)

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
