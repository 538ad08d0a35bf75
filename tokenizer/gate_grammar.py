"""The grammar of gate tokens: every vertex makes a face that is not there yet; on request manifold edges, and vertices on a cloud.

It knows blocks of bins and the walk. It does not know networks.

v  ids of a level
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from .interface import UNLIMITED, Steering
from .walk import places_of_cells

# The first numbers of a walk that are read here; see walk_machine.py.
FACES, STAGE, GATE, CAPACITY = 2, 4, 15, 28
# Up to so many vertices that there could be, they can be used up; there they are looked at one by one.
FEW = 4096
# Steps of a face of its own.
OWN = 3
# Cells on an axis of the ground, at most.
FINEST = 128
EVERYWHERE = np.zeros(0, dtype=bool)


class Ground(NamedTuple):
    """Where vertices lie: `blocks` says of each block of a level which of the blocks in it hold some of the cloud's surface."""

    blocks: tuple[Bool[np.ndarray, "_y _z _x _v"], ...]

    @classmethod
    def around(cls, points: Float[np.ndarray, "n 3"], sides: Sequence[int], bins: int) -> Ground:
        """Within three times the usual distance between points (and two cells) of one of them, so that hardly a real vertex is left out;
        points lie in the cube."""
        from scipy.spatial import KDTree

        from .gate_kernels import balls

        reach = math.prod(sides)
        cells = min(reach, FINEST)
        size = reach / cells / bins
        at = (points + 0.5) / size - 0.5
        taken = np.unique(at.round().astype(int).clip(0, cells - 1), axis=0)
        spacing = float(np.median(KDTree(at).query(at, k=2)[0][:, 1])) if len(at) > 1 else 0.0
        return cls(tuple(_blocks(balls(taken, cells, 2 + 3 * spacing), sides)))

    def on(self, level: int, block: tuple[int, int, int]) -> Bool[np.ndarray, "v"]:
        """Of no block, where all are."""
        return self.blocks[level][block] if level < len(self.blocks) else EVERYWHERE


def _blocks(cells: Bool[np.ndarray, "y z x"], sides: Sequence[int]) -> list[Bool[np.ndarray, "_y _z _x _v"]]:
    """Of each level whose blocks are not smaller than the cells."""
    levels, above = [], 1
    for side in sides:
        if above * side > len(cells):
            break
        size = len(cells) // (above * side)
        any_in = cells.reshape(above * side, size, above * side, size, above * side, size).any((1, 3, 5))
        within = any_in.reshape(above, side, above, side, above, side).transpose(0, 2, 4, 1, 3, 5)
        levels.append(within.reshape(above, above, above, side**3))
        above *= side
    return levels


def bins_of_block(sides: Sequence[int], level: int) -> int:
    """How many bins a block of this level has on an axis."""
    return math.prod(sides[level + 1 :])


class GateState(NamedTuple):
    """The walk so far and its steps (a walk is never changed), the ids of the open step, where a face of its own may begin, and what
    was found out about the open step: the states within it share that."""

    walk: Int[np.ndarray, "n"]
    steps: tuple[int, ...]
    opened: tuple[int, ...]
    steering: Steering
    found: dict[str, Any]

    @property
    def faces(self) -> int:
        return int(self.walk[FACES])

    @property
    def stage(self) -> int:
        """0: over a gate; 1, 2, 3: a vertex of a face of its own."""
        return int(self.walk[STAGE])


class GateGrammar:
    """A vertex over a gate, or SKIP, or END, after which no gate gets a face; when no gate is left, a face of its own, or END. After
    `faces` faces there is only END, and so there is when there are hardly steps left for another one.

    With `manifold` each edge is walked at most once in each direction: no edge has more than two faces, and neighbours face the same
    way. With `ground` vertices stay on it where they can. A first face that cannot be ended without breaking a rule is skipped.
    """

    def __init__(
        self, bins: int, sides: tuple[int, ...], manifold: bool = False, ground: Ground | None = None, faces: int = UNLIMITED
    ) -> None:
        self.bins, self.sides, self.manifold, self.ground, self.most = bins, sides, manifold, ground, faces
        self.skip = max(side**3 for side in sides)

    def start(self) -> GateState:
        from .gate_kernels import beginning

        return GateState(beginning(self.bins, 64), (), (), Steering(), {})

    def legal(self, state: GateState) -> Bool[np.ndarray, "ids"]:
        mask = np.zeros(self.skip + 2, dtype=bool)
        if state.opened and state.opened[0] == self.skip:
            mask[0] = True
            return mask
        if state.opened:
            self._mark_vertices(state, mask)
            return mask
        mask[-1] = state.stage <= 1
        used_up = state.stage == 0 and state.walk[GATE] < 0
        out_of_steps = len(state.steps) > self.most_steps(self.most) - OWN
        if used_up or (mask[-1] and (state.faces >= self.most or out_of_steps)):
            return mask
        self._mark_vertices(state, mask)
        mask[self.skip] = state.stage == 0 or (state.stage > 1 and not mask.any())
        return mask

    def advance(self, state: GateState, id: int) -> GateState:
        opened = (*state.opened, int(id))
        if len(opened) < len(self.sides):
            return state._replace(opened=opened)
        from .gate_kernels import step, walk_along
        from .walk_machine import new_log

        place = -1 if opened[0] == self.skip else self._place(opened)
        walk = state.walk.copy()
        if walk[FACES] == walk[CAPACITY]:
            walk = walk_along(np.array(state.steps, dtype=np.int32), self.bins, 2 * state.faces)[0]
        step(walk, new_log(2), int(place))
        return GateState(walk, (*state.steps, place), (), Steering(), {})

    def steered(self, state: GateState, steering: Steering) -> GateState:
        return state._replace(steering=steering, found={})

    def faces(self, state: GateState) -> int:
        return state.faces

    def most_steps(self, faces: int) -> int:
        """A mesh that skips more gates than it has faces ends there."""
        return 2 * faces + 64

    def _mark_vertices(self, state: GateState, mask: Bool[np.ndarray, "ids"]) -> None:
        """Ids that lead to vertices that may come: of those on the ground, and near the spots, where there are any."""
        from .gate_kernels import leading_on

        level, block = len(state.opened), self._block(state.opened)
        if "barred" not in state.found:
            state.found["barred"] = self._barred(state)
        side, size = self.sides[level], bins_of_block(self.sides, level)
        ground = EVERYWHERE if self.ground is None else self.ground.on(level, block)
        on = leading_on(state.found["barred"], block, side, size, self.bins, ground, level > 0 or state.stage > 0)
        if state.stage == 1 and state.steering.spots is not None and len(state.steering.spots):
            near = on & self._near(state, level, block)
            on = near if near.any() else on
        mask[: len(on)] = on

    def _block(self, opened: tuple[int, ...]) -> tuple[int, int, int]:
        """Which block of the level so far they stand for: y, z, x."""
        y = z = x = 0
        for id, side in zip(opened, self.sides, strict=False):
            y, z, x = y * side + id // side**2, z * side + id // side % side, x * side + id % side
        return y, z, x

    def _place(self, opened: tuple[int, ...]) -> int:
        y, z, x = self._block(opened)
        return y << 20 | z << 10 | x

    def _barred(self, state: GateState) -> Int[np.ndarray, "n"]:
        """Places that must not come next."""
        from .gate_kernels import barred
        from .walk_machine import FINE, placeable

        places = np.unique(barred(state.walk, self.manifold))
        if self.bins**3 > FEW or state.faces < self.bins**3 - 2:
            return places
        cells = np.indices((self.bins,) * 3).reshape(3, -1).T
        used_up = [place for place in places_of_cells(cells).tolist() if placeable(state.walk, place) != FINE]
        return np.union1d(places, np.array(used_up, dtype=np.int32))

    def _near(self, state: GateState, level: int, block: tuple[int, int, int]) -> Bool[np.ndarray, "v"]:
        """Which ids lead to within the steering's reach of its spots on each axis."""
        if "near" not in state.found:
            state.found["near"] = _around(state.steering)
        side, size = self.sides[level], bins_of_block(self.sides, level)
        x, y, z = (state.found["near"] // size).T
        y, z, x = (axis - at * side for axis, at in zip((y, z, x), block, strict=True))
        inside = (np.minimum(np.minimum(y, z), x) >= 0) & (np.maximum(np.maximum(y, z), x) < side)
        return np.bincount(((y * side + z) * side + x)[inside], minlength=side**3) > 0


def _around(steering: Steering) -> Int[np.ndarray, "n 3"]:
    """The bins within the steering's reach of its spots on each axis; each at least once."""
    along = np.linspace(-steering.reach, steering.reach, math.ceil(2 * steering.reach) + 1)
    steps = np.stack(np.meshgrid(along, along, along, indexing="ij"), -1).reshape(-1, 3)
    bins = (steering.spots[:, None] + steps).round().astype(np.int64).reshape(-1, 3)
    low = bins.min(0)
    width = bins.max(0) - low + 1
    flat = np.unique(np.ravel_multi_index(tuple((bins - low).T), tuple(width)))
    return np.stack(np.unravel_index(flat, tuple(width)), 1) + low
