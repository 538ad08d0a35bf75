"""What a mesh tokenizer is: corners to ids and back, and which ids may come next.

    step 0                 step 1
    id id id ... id        id id id ... id        END          `width` ids stand in one step

END is the id `vocab`. It takes a step of its own, and it belongs to the model, not to the tokenizer.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Integer

State = Any


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
    the regions' centres (vocab x 3), else it is None.
    """

    bins: int
    vocab: int
    width: int
    spell: int
    lossy: bool

    @property
    def places(self) -> Any: ...

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]: ...

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None) -> Int[np.ndarray, "f 3 3"]: ...

    def grammar(self) -> Grammar: ...



class FaceState(NamedTuple):
    """Ids of the open face, and for each pair of vertices (as tuples of ids) the thirds with which they make a face already."""

    open: tuple[int, ...]
    thirds: dict[frozenset[tuple[int, ...]], frozenset[tuple[int, ...]]]
    fans: dict[tuple[int, ...], int]


class FaceGrammar:
    """A step is a face, a face is three vertices of `spell` ids each: three different ones, and never the same three again.

    END comes between faces only. In which order vertices and faces come is left open.
    """

    def __init__(self, vocab: int, spell: int) -> None:
        if vocab**spell < 3:
            raise ValueError(f"{vocab} ids, {spell} to a vertex, tell fewer than three vertices apart; use more of them")
        self.vocab, self.spell = vocab, spell

    def start(self) -> FaceState:
        return FaceState((), {}, {})

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
        return mask

    def advance(self, state: FaceState, id: int) -> FaceState:
        opened = (*state.open, int(id))
        if len(opened) < 3 * self.spell:
            return state._replace(open=opened)
        a, b, c = self._split(opened)[0]
        thirds, fans = dict(state.thirds), dict(state.fans)
        for pair, third in (((a, b), c), ((b, c), a), ((c, a), b)):
            thirds[frozenset(pair)] = thirds.get(frozenset(pair), frozenset()) | {third}
            fans[third] = fans.get(third, 0) + 1
        return FaceState((), thirds, fans)

    def _split(self, opened: tuple[int, ...]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        whole = [opened[at : at + self.spell] for at in range(0, len(opened) - self.spell + 1, self.spell)]
        return whole, opened[len(whole) * self.spell :]

    def _barred(self, state: FaceState, whole: list[tuple[int, ...]]) -> set[tuple[int, ...]]:
        """Vertices that cannot come next: used up, or already in this face, or closing a face that exists."""
        others = self.vocab**self.spell - 1
        if not whole:
            return {vertex for vertex, faces in state.fans.items() if faces >= others * (others - 1) // 2} if self._small(state) else set()
        if len(whole) == 1:
            full = {vertex for vertex in state.fans if len(state.thirds.get(frozenset((whole[0], vertex)), ())) >= others - 1}
            return {whole[0]} | (full if self._small(state) else set())
        return {*whole, *state.thirds.get(frozenset(whole), ())}

    def _small(self, state: FaceState) -> bool:
        """Only where vertices are few can one be used up."""
        return self.vocab**self.spell <= len(state.thirds) + 3
