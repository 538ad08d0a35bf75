"""The boundary of the mesh so far, and so which vertices probably come next.

Faces come in canonical order: lowest vertex first in each, sorted by their vertices. So the first corner is mostly the last one
again, or the next higher one that still misses a face; and most other corners close an edge that has one face only.

It knows vertices by what sorts them. It does not know positions or networks.
"""

from __future__ import annotations

from bisect import bisect_right, insort

EXPECTED = 5

Vertex = tuple[int, ...]
Expected = tuple[Vertex | None, Vertex | None, Vertex | None, Vertex | None, Vertex | None]


class Boundary:
    """Vertices are tuples that sort as canonical order sorts them. An edge from u to v waits until one from v to u has come."""

    def __init__(self) -> None:
        # Where edges must lead from a vertex, and where they must come from, to close what waits at it.
        self.onward: dict[Vertex, set[Vertex]] = {}
        self.inward: dict[Vertex, set[Vertex]] = {}
        self.known: list[Vertex] = []
        self.last: tuple[Vertex, Vertex, Vertex] | None = None

    def add(self, a: Vertex, b: Vertex, c: Vertex) -> None:
        """Take in the next face."""
        self.last = (a, b, c)
        for vertex in self.last:
            if vertex not in self.onward:
                self.onward[vertex], self.inward[vertex] = set(), set()
                insort(self.known, vertex)
        for tail, head in ((a, b), (b, c), (c, a)):
            if head in self.onward[tail]:
                self.onward[tail].remove(head)
                self.inward[head].remove(tail)
            else:
                self.onward[head].add(tail)
                self.inward[tail].add(head)

    def firsts(self) -> Expected:
        """The last first corner (with edges that wait; without), the next two with edges that wait, the next one at all."""
        if self.last is None:
            return (None,) * EXPECTED
        a = self.last[0]
        higher = bisect_right(self.known, a)
        waiting: list[Vertex | None] = []
        for vertex in self.known[higher:]:
            if self._waits(vertex):
                waiting.append(vertex)
                if len(waiting) == 2:
                    break
        waiting += [None] * (2 - len(waiting))
        again, anew = (a, None) if self._waits(a) else (None, a)
        return again, anew, waiting[0], waiting[1], self.known[higher] if higher < len(self.known) else None

    def seconds(self, a: Vertex) -> Expected:
        """The three lowest that an edge must lead to, the last second corner on the same first one, the last third corner."""
        least, again, third = a, None, None
        if self.last is not None:
            third = self.last[2]
            if self.last[0] == a:
                least = again = self.last[1]
        lowest: list[Vertex | None] = sorted(vertex for vertex in self.onward.get(a, ()) if vertex > a and vertex >= least)[:3]
        lowest += [None] * (3 - len(lowest))
        return lowest[0], lowest[1], lowest[2], again, third

    def thirds(self, a: Vertex, b: Vertex) -> Expected:
        """The lowest that closes both open edges, then the two lowest that close the one at `a`, and those that close the one at `b`."""
        into, out = self.inward.get(a, set()), self.onward.get(b, set())
        both = min((vertex for vertex in into & out if vertex > a), default=None)
        at_a, at_b = ([*sorted(v for v in side if v > a and v not in (b, both))[:2], None, None] for side in (into, out))
        return both, at_a[0], at_a[1], at_b[0], at_b[1]

    def _waits(self, vertex: Vertex) -> bool:
        return bool(self.onward[vertex] or self.inward[vertex])
