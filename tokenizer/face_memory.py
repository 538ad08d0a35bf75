"""Which faces a grammar has seen: which third vertices each pair of vertices already has, whichever way round.

A memory is never changed: adding a face gives another one, and both stay good. It is a few dictionaries of doubling sizes, so that
adding to it costs the logarithm of its size and not all of it.

Vertices are numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

Thirds = dict[tuple[int, int], frozenset[int]]


class FaceMemory(NamedTuple):
    """`layers`: the largest first; a pair may stand in several. `faces`: how many there are. `vertices`: how many could be used."""

    vertices: int
    layers: tuple[Thirds, ...] = ()
    faces: int = 0

    def thirds(self, a: int, b: int) -> set[int]:
        """Vertices that make a face with these two that is there already."""
        pair = (a, b) if a < b else (b, a)
        return set().union(*(layer.get(pair, ()) for layer in self.layers))

    def with_face(self, a: int, b: int, c: int) -> FaceMemory:
        pairs = ((a, b, c), (b, c, a), (c, a, b))
        newest = {(min(tail, head), max(tail, head)): frozenset((third,)) for tail, head, third in pairs}
        layers = list(self.layers)
        while layers and len(layers[-1]) <= 2 * len(newest):
            newest = _joined(layers.pop(), newest)
        return FaceMemory(self.vertices, (*layers, newest), self.faces + 1)

    def used_up_with(self, a: int) -> set[int]:
        """Vertices that, with this one, have a face with every other vertex."""
        if self.faces < self.vertices - 2:
            return set()
        return {b for b, count in self._full_pairs_of(a) if count >= self.vertices - 2}

    def used_up(self) -> set[int]:
        """Vertices that have a face with every two others."""
        if self.faces < (self.vertices - 1) * (self.vertices - 2) // 2:
            return set()
        known = {vertex for layer in self.layers for pair in layer for vertex in pair}
        return {vertex for vertex in known if len(self.used_up_with(vertex)) >= self.vertices - 1}

    def _full_pairs_of(self, a: int) -> Iterable[tuple[int, int]]:
        others = {pair[0] + pair[1] - a for layer in self.layers for pair in layer if a in pair}
        return ((b, len(self.thirds(a, b))) for b in others)


def _joined(older: Thirds, newer: Thirds) -> Thirds:
    joined = dict(older)
    for pair, thirds in newer.items():
        joined[pair] = joined.get(pair, frozenset()) | thirds
    return joined


def by_digit(numbers: Collection[int], span: int, digits: int) -> Counter[int]:
    """How many of the numbers have each digit, the one that counts `span`s."""
    return Counter(number // span % digits for number in numbers)
