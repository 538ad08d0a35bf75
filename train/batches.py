"""Which meshes go together: batches of similar length under a budget of faces, the same for the same seed.

Meshes of similar length are padded little; the order is a pure function of (seed, epoch), so that a resumed run
continues with the batch that would have come. It knows lengths. It does not know meshes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

WINDOW = 4096


@dataclass(frozen=True)
class Batches:
    """Batches of indices over `lengths`. A batch of k meshes of at most m steps has k x m <= budget (one mesh always fits)."""

    lengths: Integer[np.ndarray, "n"]
    budget: int
    seed: int = 0
    share: int = 0
    shares: int = 1

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of an epoch; with several shares (processes), this share's, as many as every other's."""
        rng = np.random.default_rng((self.seed, number))
        order = rng.permutation(len(self.lengths))
        batches: list[list[int]] = []
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            batches += self._filled(window[np.argsort(self.lengths[window], kind="stable")])
        shuffled = [batches[at] for at in rng.permutation(len(batches))]
        even = len(shuffled) - len(shuffled) % self.shares
        return shuffled[self.share : even : self.shares] or shuffled[:1]

    def _filled(self, order: Integer[np.ndarray, "n"]) -> list[list[int]]:
        batches: list[list[int]] = [[]]
        for index in order:
            longest = int(self.lengths[index])
            if batches[-1] and longest * (len(batches[-1]) + 1) > self.budget:
                batches.append([])
            batches[-1].append(int(index))
        return batches

    def endless(self, skip: int = 0) -> Iterator[tuple[int, list[int]]]:
        """(epoch, indices) for ever, without the first `skip` batches."""
        epoch = 0
        while True:
            batches = self.epoch(epoch)
            for indices in batches[skip:]:
                yield epoch, indices
            skip = max(0, skip - len(batches))
            epoch += 1

    def padding(self, epoch: int = 0) -> float:
        """The share of padded steps in an epoch."""
        batches = self.epoch(epoch)
        real = sum(int(self.lengths[indices].sum()) for indices in batches)
        padded = sum(len(indices) * int(self.lengths[indices].max()) for indices in batches)
        return 1 - real / padded
