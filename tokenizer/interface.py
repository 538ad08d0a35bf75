"""What a mesh tokenizer is: corners to ids and back, and which ids may come next.

    step 0                 step 1
    id id id ... id        id id id ... id        END          `width` ids stand in one step

END is the id `vocab`. It takes a step of its own, and it belongs to the model, not to the tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

State = Any
Vertex = tuple[int, ...]
# As good as no limit on faces.
UNLIMITED = 1 << 20


class Steering(NamedTuple):
    """How faces begin: with none of the `passed` vertices; and the next one with none that is higher than the `ceiling`, and with
    one that is within `reach` of the `spots` (all in bins; without spots, anywhere)."""

    passed: Set[Vertex] = frozenset()
    ceiling: float = math.inf
    spots: Float[np.ndarray, "n 3"] | None = None
    reach: float = 0.0


@runtime_checkable
class Grammar(Protocol):
    """Which ids may come next: a pure step function over plain values. Following it, every sequence decodes, and ends after so many
    faces at most as it was made for."""

    def start(self) -> State:
        """The state before the first id."""
        ...

    def legal(self, state: State) -> Bool[np.ndarray, "ids"]:
        """One flag for each id 0 .. vocab - 1 and, last, for END."""
        ...

    def advance(self, state: State, id: int) -> State:
        """The state after one more id; the given state stays as it was."""
        ...

    def steered(self, state: State, steering: Steering) -> State:
        """The state, between faces, from which on first corners are as the steering wants them, as long as any such are legal."""
        ...

    def faces(self, state: State) -> int | None:
        """How many whole faces there are; None where nobody counts them."""
        ...

    def most_steps(self, faces: int) -> int:
        """Steps that a mesh of so many faces can take, END left out: whoever follows the grammar is through by then."""
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

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """For meshes of so many `faces` at most. With `manifold` each edge is walked at most once in each direction, and with the
        `points` of a cloud (in the cube) vertices stay on it: both as far as ids can tell. Where they cannot, it is said there, and
        `validity.sound` mends what was decoded.

        ValueError where ids cannot be judged one by one (an entropy coder's bytes).
        """
        ...
