"""Which of several vertices over a gate is taken: the network proposes, and the cloud says how well their faces lie on it.

Faces come in the order of a walk over shared edges, so that nothing is lost when a gate is skipped: a face of its own, or one over
another gate, may still cover what is open there. It knows triangles and walks. It does not know networks.

k  ways
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.coverage import Coverage, Weights
from meshgpt.generate import Verdict
from meshgpt.judge import PLANNED, drawn
from meshgpt.mesh import in_bins, to_unit
from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.tokenizer.interface import Steering
from meshgpt.tokenizer.walk import cells_of_places

# How much a share that is off the surface or on other faces counts, a bin off the surface's planes, and (the logarithm of) a gain.
STRICTNESS, PRECISION, GREED = 40.0, 4.0, 3.0
# Gains are measured by what each face that is left would have to gain for all to be covered; one of nothing counts like this one.
LEAST_GAIN = 0.01
# What it costs to leave a gate without a face, and more so where the cloud goes on; what closing one is worth; and how wrong a face
# may be that is still better than none.
SKIPPING, LEAVING, CLOSING = 8.0, 10.0, 10.0
WRONG, MISSED = 0.35, 2.5
# As little may be wrong that no more ways are asked for.
FINE, PRECISE = 0.1, 0.8
ROUNDS = 3
# The mesh is whole when as little of the cloud is open, and may end when little more is; so many faces of their own in a row may cover
# less than that share of it, and more of them, where more than so much is open.
REST, ENOUGH, CRUMB, IDLE, MUCH = 0.01, 0.03, 0.001, 6, 0.05
# So many faces are left at least, as far as gains are measured by them.
LAST = 40


class GateJudge:
    """Judges one mesh, step by step."""

    def __init__(self, coverage: Coverage, tokenizer: GatesTokenizer, faces: int) -> None:
        from meshgpt.tokenizer.gate_kernels import beginning

        self.coverage, self.tokenizer = coverage, tokenizer
        self.walk, self.left = beginning(tokenizer.bins, faces + 1), min(faces, PLANNED)
        # What was weighed in this step, by place.
        self.weighed: dict[int, tuple[float, ...]] = {}
        self.rounds = self.idle = 0
        # What was open when the last face of its own was begun, and where that was.
        self.begun: float = 1.0
        self.seed: Float[np.ndarray, "3"] | None = None

    @property
    def stage(self) -> int:
        from meshgpt.tokenizer.walk_machine import STAGE

        return int(self.walk[STAGE])

    @property
    def steering(self) -> Steering:
        """A face of its own begins where much is open; elsewhere nobody asks."""
        if self.stage != 1:
            return Steering()
        spots = in_bins(self.coverage.widely_open_points(), self.tokenizer.bins)
        return Steering(frozenset(), math.inf, spots, 1.0)

    @property
    def whole(self) -> bool:
        return self.stage == 1 and (self.coverage.rest <= REST or self.idle >= IDLE * max(1.0, self.coverage.rest / MUCH))

    @property
    def unfinished(self) -> bool:
        return self.stage == 1 and self.coverage.rest > ENOUGH and not self.whole

    def promising(self, ids: Int[np.ndarray, "k s"], ended: Bool[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        return np.ones(len(ids), dtype=bool)

    def judge(self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], uniform: float) -> Verdict:
        """Of all ways of this step so far, the latest ones last; `ended` ones are END. `uniform` in [0, 1) decides between good ones."""
        self.rounds += 1
        skipped = ids[:, 0] == self.tokenizer.skip
        costs, fine, usable = self._costs(ids, ended, skipped)
        if not fine.any() and self.rounds < ROUNDS:
            return Verdict("again")
        self.rounds, self.weighed = 0, {}
        if not usable.any():
            usable = skipped if skipped.any() else np.ones(len(ids), dtype=bool)
        way = drawn(np.where(usable, costs, np.inf), uniform)
        if ended[way]:
            return Verdict("end")
        self._take(ids[way])
        return Verdict("take", way)

    def _costs(
        self, ids: Int[np.ndarray, "k w"], ended: Bool[np.ndarray, "k"], skipped: Bool[np.ndarray, "k"]
    ) -> tuple[Float[np.ndarray, "k"], Bool[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
        """What each way costs, whether it is good enough to stop looking, and whether it will do."""
        places = self._places(ids)
        if self.stage == 1:
            good = self.coverage.near_open(self._in_cube(places)) & ~ended
            return np.zeros(len(ids)), good, good | ended & (self.coverage.rest <= ENOUGH)
        if self.stage == 2:
            at = self._in_cube(places)
            good = self.coverage.edges_off(np.stack([np.broadcast_to(self._corners()[0], at.shape), at], 1)) < WRONG
            return np.zeros(len(ids)), good & ~skipped, good & ~skipped
        weights = self._weights(places)
        wrong = weights.off + weights.double
        gains, closed = self._gains(places, weights)
        costs = STRICTNESS * wrong + PRECISION * weights.miss - GREED * np.log(gains + LEAST_GAIN) - CLOSING * closed
        goes_on = bool(self.coverage.near_open(self._corners().sum(0, keepdims=True) / 2)[0])
        fine = ~ended & np.where(skipped, not goes_on, (wrong < FINE) & (weights.miss < PRECISE))
        usable = ~ended & (skipped | (wrong < WRONG) & (weights.miss < MISSED))
        return np.where(skipped, SKIPPING + LEAVING * goes_on, costs), fine, usable

    def _weights(self, places: Int[np.ndarray, "k"]) -> Weights:
        """Of the faces over the gate; each place is weighed once, however often and in however many rounds it is proposed."""
        new = np.array([place for place in dict.fromkeys(places.tolist()) if place not in self.weighed], dtype=np.int64)
        if len(new):
            at, (a, b) = self._in_cube(new), self._corners()
            triangles = np.stack([np.broadcast_to(b, at.shape), np.broadcast_to(a, at.shape), at], 1)
            self.weighed.update(zip(new.tolist(), zip(*self.coverage.weigh(triangles), strict=True), strict=True))
        return Weights(*np.array([self.weighed[place] for place in places.tolist()]).T)

    def _gains(self, places: Int[np.ndarray, "k"], weights: Weights) -> tuple[Float[np.ndarray, "k"], Int[np.ndarray, "k"]]:
        """What the face of each way gains, and how many gates it closes: one that does gains as much as is its share at least."""
        from meshgpt.tokenizer.gate_kernels import closed_by

        closed = np.array([closed_by(self.walk, place) for place in places.tolist()])
        gains = weights.gain * max(self.left, LAST) / max(self.coverage.rest, REST)
        return np.where(closed > 0, np.maximum(gains, 1.0), gains), closed

    def _corners(self) -> Float[np.ndarray, "2 3"]:
        """The last vertex of the gate or of the face that is begun, and the one before it: a and b of the border."""
        from meshgpt.tokenizer.walk_machine import A, B

        return self._in_cube(np.array([self.walk[A], self.walk[B]]))

    def _in_cube(self, places: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n 3"]:
        return to_unit(cells_of_places(places), self.tokenizer.bins)

    def _places(self, ids: Int[np.ndarray, "k w"]) -> Int[np.ndarray, "k"]:
        """Of the vertices that the ways would add; a corner of the cube where they skip or end."""
        return self.tokenizer.places_of(np.where(ids[:, :1] < self.tokenizer.skip, ids, 0))[0]

    def _take(self, ids: Int[np.ndarray, "w"]) -> None:
        from meshgpt.tokenizer.gate_kernels import step
        from meshgpt.tokenizer.walk_machine import new_log

        stage, corners = self.stage, self._corners()
        (place,), _ = self.tokenizer.places_of(ids[None])
        step(self.walk, new_log(2), int(place))
        if place < 0:
            return
        if stage == 1:
            idle = self.seed is not None and self.begun - self.coverage.rest < CRUMB
            self.idle = self.idle + 1 if idle else 0
            if idle:
                self.coverage.pass_over(self.seed)
            self.begun, self.seed = self.coverage.rest, self._in_cube(np.array([place]))[0]
        if stage in (0, 3):
            a, b = corners
            self.left -= 1
            self.coverage.take(np.stack([b, a, self._in_cube(np.array([place]))[0]]))
