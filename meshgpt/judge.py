"""Which of several ways to go on with a mesh is taken: the one that suits the cloud best, among those that the network proposes.

The network has seen what artists do; the coverage knows where the surface is. Ways are weighed by how much of the cloud they
newly cover (few, large faces), by how many edges they close, and by what must not be: area off the surface and its planes, on
other faces, or bare points left below.

It knows triangles, ids and how first corners are steered. It does not know networks.

k  ways      w  ids of a step      s  ids so far      c  corners
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.coverage import TOLERANCE, Coverage, Weights
from meshgpt.generate import Verdict
from meshgpt.mesh import in_bins
from meshgpt.tokenizer.interface import Steering

# How much a wrong share counts, and how much (the logarithm of) a gain; each edge of an earlier face that is closed, and each bin
# that a face is off the surface's planes.
STRICTNESS, GREED = 40.0, 2.0
CLOSING, PRECISION = 8.0, 12.0
# What is left bare can never be covered again: 3 % of the cloud weigh as much as a face that is wrong all over and half as much again.
LOSS, MOST_LOSS = 50.0, 1.5
# A gain of nothing counts like this one.
LEAST_GAIN = 3e-5
# As little may be wrong that no more ways are asked for; as much that none of them will do: shares, and bins off the planes.
FINE, WRONG = 0.15, 0.5
PRECISE, MISSED = 0.7, 2.0
ROUNDS = 3
# So many faces on one first corner may cover nothing new; so many first corners may be passed over before the floor rises.
IDLE, PASSES = 4, 3
# So many faces are planned for a mesh, or fewer, where the limit is lower: a higher limit alone does not make faces smaller.
PLANNED = 400
# A face must gain this share of what each face that is left would have to, for the whole cloud to be covered.
PACE = 0.25
# So often in a row the floor may rise without a face: longer tries no model that knows what it does.
RISES = 16
# As small a share of the cloud may stay bare below the next face without keeping it down, and so far above the rest it may begin.
CRUMBS, HEADROOM = 0.003, 1.5 * TOLERANCE
GAINED = 1e-4
# The mesh is whole when as little of the cloud can still be covered, and may end when as little is.
REST, LAST = 0.02, 0.04


class CloudJudge:
    """Judges one mesh, step by step. `corners` says where the corners of steps are, in the cube; `faces` is how many there may be,
    so that large shapes get larger faces rather than no top."""

    def __init__(
        self,
        coverage: Coverage,
        corners: Callable[[Int[np.ndarray, "k s"]], Float[np.ndarray, "k c 3"]],
        spell: int,
        bins: int,
        faces: int,
    ) -> None:
        self.coverage, self.corners, self.spell, self.bins, self.left = coverage, corners, spell, bins, min(faces, PLANNED)
        self.passed: set[tuple[int, ...]] = set()
        self.idle: dict[tuple[int, ...], int] = {}
        self.ways: list[Weights] = []
        self.passes = self.rises = 0
        self.edges: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()

    @property
    def steering(self) -> Steering:
        """A face that begins higher than the ceiling would leave something bare for good; one begins where something is bare."""
        top = self.coverage.lowest_bare(CRUMBS) + HEADROOM
        spots = self.coverage.open_points(top + self.coverage.near)
        return Steering(self.passed, in_bins(top, self.bins), in_bins(spots, self.bins), self.coverage.near * self.bins)

    @property
    def whole(self) -> bool:
        return self.coverage.rest <= REST

    @property
    def unfinished(self) -> bool:
        return False

    def promising(self, ids: Int[np.ndarray, "k s"], ended: Bool[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        """A face begins where something is bare, and its edges lie on the surface; the mesh ends where little is bare."""
        corners = self.corners(ids)
        if corners.shape[1] == 1:
            good = self.coverage.near_open(corners[:, 0]) & ~self._passed(ids)
        else:
            good = self.coverage.edges_off(corners[:, :2]) < WRONG
        return np.where(ended, self.coverage.rest <= LAST, good)

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        weights = self._weighed(ids)
        wrong = weights.off + weights.double
        passed = self._passed(ids) & ~ended
        may_end = ended & (self.coverage.rest <= LAST)
        large = weights.gain >= PACE * self.coverage.rest / max(self.left, 1)
        right = (wrong < WRONG) & (weights.miss < MISSED) & (weights.lost < CRUMBS)
        usable = may_end | ~ended & ~passed & large & right
        fine = usable & (may_end | (wrong < FINE) & (weights.miss < PRECISE) & (weights.lost < GAINED))
        if not fine.any() and len(self.ways) < ROUNDS:
            return Verdict("again")
        self.ways = []
        if not usable.any():
            return self._pass(ids, ended | passed)
        costs = self._costs(ids, weights)
        way = drawn(np.where(usable, np.where(ended, costs.min(), costs), np.inf), uniform)
        return Verdict("end") if ended[way] else self._take(ids, way, fine & ~ended)

    def _weighed(self, ids: Int[np.ndarray, "k w"]) -> Weights:
        """All ways of this step; those of earlier rounds have been weighed before."""
        new = slice(sum(len(part.off) for part in self.ways), None)
        self.ways.append(self.coverage.weigh(self.corners(ids[new])))
        return Weights(*(np.concatenate(part) for part in zip(*self.ways, strict=True)))

    def _costs(self, ids: Int[np.ndarray, "k w"], weights: Weights) -> Float[np.ndarray, "k"]:
        wrong = weights.off + weights.double + np.minimum(LOSS * weights.lost, MOST_LOSS)
        return STRICTNESS * wrong + PRECISION * weights.miss - GREED * np.log(weights.gain + LEAST_GAIN) - CLOSING * self._closed(ids)

    def _closed(self, ids: Int[np.ndarray, "k w"]) -> Int[np.ndarray, "k"]:
        """How many edges of each way are those of a face that is there, the other way round."""
        return np.array([sum((head, tail) in self.edges for tail, head in self._edges(face)) for face in ids])

    def _edges(self, face: Int[np.ndarray, "w"]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        corners = [tuple(corner) for corner in face.reshape(-1, self.spell).tolist()]
        return [(tail, head) for tail, head in zip(corners, corners[1:] + corners[:1], strict=True)]

    def _passed(self, ids: Int[np.ndarray, "k s"]) -> Bool[np.ndarray, "k"]:
        return np.array([first in self.passed for first in self._firsts(ids)])

    def _firsts(self, ids: Int[np.ndarray, "k w"]) -> list[tuple[int, ...]]:
        return [tuple(first) for first in ids[:, : self.spell].tolist()]

    def _take(self, ids: Int[np.ndarray, "k w"], way: int, fine: Bool[np.ndarray, "k"]) -> Verdict:
        covered, first = self.coverage.covered, self._firsts(ids)[way]
        self.coverage.take(self.corners(ids[way : way + 1])[0])
        self.passes = self.rises = 0
        self.left -= 1
        self.edges.update(self._edges(ids[way]))
        self.idle[first] = self.idle.get(first, 0) + 1 if self.coverage.covered < covered + GAINED else 0
        if self.idle[first] >= IDLE:
            self.passed.add(first)
        return Verdict("take", way, tuple(other for other in np.flatnonzero(fine).tolist() if other != way))

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


def drawn(costs: Float[np.ndarray, "k"], uniform: float) -> int:
    """One of the ways: the less it costs, the likelier. `uniform` in [0, 1) decides."""
    share = np.exp(costs.min() - costs)
    return min(int(np.searchsorted(np.cumsum(share), uniform * share.sum(), side="right")), int(np.flatnonzero(share)[-1]))
