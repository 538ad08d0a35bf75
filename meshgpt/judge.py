"""Which of several ways to go on with a mesh is taken: the one that suits the cloud best, among those that the network proposes.

The network has seen what artists do; the coverage knows where the surface is. Ways are weighed by how much of the cloud they
newly cover (few, large faces) and by what must not be: area off the surface, on other faces, or bare points left below.

It knows triangles and ids. It does not know networks.

k  ways      w  ids of a step
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.coverage import TOLERANCE, Coverage, Weights
from meshgpt.generate import Verdict

# How much a wrong share counts, and how much (the logarithm of) a gain.
STRICTNESS, GREED = 40.0, 3.0
# What is left bare can never be covered again: 3 % of the cloud weigh as much as a face that is wrong all over and half as much again.
LOSS, MOST_LOSS = 50.0, 1.5
# A gain of nothing counts like this one.
LEAST_GAIN = 3e-5
# As little may be wrong that no more ways are asked for; as much that none of them will do.
FINE, WRONG = 0.15, 0.5
ROUNDS = 3
# So many faces on one first corner may cover nothing new; so many first corners may be passed over before the floor rises.
IDLE, PASSES = 4, 3
# A face must gain this share of what each face that is left would have to, for the whole cloud to be covered.
PACE = 0.25
# So often in a row the floor may rise without a face: longer tries no model that knows what it does.
RISES = 8
# As small a share of the cloud may stay bare below the next face without keeping it down, and so far above the rest it may begin.
CRUMBS, HEADROOM = 0.003, 1.5 * TOLERANCE
GAINED = 1e-4
# The mesh is whole when as little of the cloud can still be covered, and may end when as little is.
REST, LAST = 0.02, 0.04


class CloudJudge:
    """Judges one mesh, step by step. `triangles` says where the corners of steps are, in the cube; `faces` is how many there may be,
    so that large shapes get larger faces rather than no top."""

    def __init__(
        self,
        coverage: Coverage,
        triangles: Callable[[Int[np.ndarray, "k w"]], Float[np.ndarray, "k 3 3"]],
        spell: int,
        bins: int,
        faces: int,
    ) -> None:
        self.coverage, self.triangles, self.spell, self.bins, self.left = coverage, triangles, spell, bins, faces
        self.passed: set[tuple[int, ...]] = set()
        self.idle: dict[tuple[int, ...], int] = {}
        self.ways: list[Weights] = []
        self.passes = self.rises = 0

    @property
    def rest(self) -> float:
        """Share of the cloud that is bare, and can still be covered."""
        return 1 - self.coverage.covered - self.coverage.lost

    @property
    def ceiling(self) -> float:
        """In bins: a face that begins higher would leave something bare for good."""
        return (self.coverage.lowest_bare(CRUMBS) + HEADROOM + 0.5) * self.bins - 0.5

    @property
    def whole(self) -> bool:
        return self.rest <= REST

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        new = slice(sum(len(part.off) for part in self.ways), None)
        self.ways.append(self.coverage.weigh(self.triangles(ids[new])))
        weights = Weights(*(np.concatenate(part) for part in zip(*self.ways, strict=True)))
        wrong = weights.off + weights.double
        passed = np.array([first in self.passed for first in self._firsts(ids)]) & ~ended
        may_end = ended & (self.rest <= LAST)
        large = weights.gain >= PACE * self.rest / max(self.left, 1)
        usable = may_end | ~ended & ~passed & large & (wrong < WRONG) & (weights.lost < CRUMBS)
        fine = usable & (may_end | (wrong < FINE) & (weights.lost < GAINED))
        if not fine.any() and len(self.ways) < ROUNDS:
            return Verdict("again")
        self.ways = []
        if not usable.any():
            return self._pass(ids, ended | passed)
        cost = STRICTNESS * (wrong + np.minimum(LOSS * weights.lost, MOST_LOSS)) - GREED * np.log(weights.gain + LEAST_GAIN)
        way = _drawn(np.where(usable, np.where(ended, cost.min(), cost), np.inf), uniform)
        return Verdict("end") if ended[way] else self._take(ids, way)

    def _firsts(self, ids: Int[np.ndarray, "k w"]) -> list[tuple[int, ...]]:
        return [tuple(first) for first in ids[:, : self.spell].tolist()]

    def _take(self, ids: Int[np.ndarray, "k w"], way: int) -> Verdict:
        covered, first = self.coverage.covered, self._firsts(ids)[way]
        self.coverage.take(self.triangles(ids[way : way + 1])[0])
        self.passes = self.rises = 0
        self.left -= 1
        self.idle[first] = self.idle.get(first, 0) + 1 if self.coverage.covered < covered + GAINED else 0
        if self.idle[first] >= IDLE:
            self.passed.add(first)
        return Verdict("take", way)

    def _pass(self, ids: Int[np.ndarray, "k w"], unfit: Bool[np.ndarray, "k"]) -> Verdict:
        """Over the first corner that most ways begin with, since none of its faces is any good; or over what is bare at this height."""
        self.passes += 1
        firsts = [first for first, out in zip(self._firsts(ids), unfit, strict=True) if not out]
        if firsts and self.passes <= PASSES:
            self.passed.add(max(dict.fromkeys(firsts), key=firsts.count))
            return Verdict("pass")
        self.passes, self.rises = 0, self.rises + 1
        self.coverage.rise(self.coverage.lowest_bare(CRUMBS) + HEADROOM)
        return Verdict("end") if self.whole or self.rises > RISES else Verdict("pass")


def _drawn(costs: Float[np.ndarray, "k"], uniform: float) -> int:
    """The less a way costs, the likelier."""
    share = np.exp(costs.min() - costs)
    return min(int(np.searchsorted(np.cumsum(share), uniform * share.sum(), side="right")), int(np.flatnonzero(share)[-1]))
