"""Which ids of a walk may come next: those all of whose moves can be done from where the walk is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from .interface import UNLIMITED, Steering
from .walk_words import dictionary, walk_through, words


class WalkState(NamedTuple):
    """The ids so far: walking them again takes a third of a microsecond a face, less than asking which ids are legal."""

    ids: tuple[int, ...]


class WalkGrammar:
    """A walk stays in the cube, makes no face that touches a vertex twice or is there already, and may end after any face.

    Starts that lead nowhere are illegal too, so that there is always a legal id: it matters where places are few.
    After `most` faces there is only END.
    """

    def __init__(self, bins: int, most: int = UNLIMITED) -> None:
        self.bins, self.most = bins, most

    def start(self) -> WalkState:
        return WalkState(())

    def legal(self, state: WalkState) -> Bool[np.ndarray, "ids"]:
        """ValueError when the ids so far are no walk."""
        from .walk_kernels import legal_ids

        return legal_ids(self._walk(state), *words(), *dictionary(), self.most)

    def advance(self, state: WalkState, id: int) -> WalkState:
        return WalkState((*state.ids, int(id)))

    def steered(self, state: WalkState, steering: Steering) -> WalkState:
        """The state as it is: an id has no first corner that could be passed over."""
        return state

    def faces(self, state: WalkState) -> int:
        """ValueError when the ids so far are no walk."""
        from .walk_machine import FACES

        return int(self._walk(state)[FACES])

    def most_steps(self, faces: int) -> int:
        """A start, nine coordinates, and three gates that are skipped, a face."""
        return 13 * faces

    def _walk(self, state: WalkState) -> Int[np.ndarray, "n"]:
        walk, _, at, _ = walk_through(np.array(state.ids, dtype=np.int64), self.bins)
        if at < len(state.ids):
            raise ValueError(f"id {state.ids[at]} at place {at} was not legal there; go on from the state before it")
        return walk
