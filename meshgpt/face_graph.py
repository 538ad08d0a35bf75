"""Faces that come and go: who shares an edge, and whether faces may take the place of others without an edge getting too many.

It knows vertex numbers. It does not know where vertices lie.

face    three vertex numbers, counterclockwise      side    (a, b): an edge, as one of its faces walks it
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from jaxtyping import Int

Face = tuple[int, int, int]
Side = tuple[int, int]


def sides_of(faces: Collection[Face]) -> list[Side]:
    """Face by face."""
    return [side for a, b, c in faces for side in ((a, b), (b, c), (c, a))]


class FaceGraph:
    """Faces by numbers, which are given once; no two faces walk a side alike."""

    def __init__(self, faces: Int[np.ndarray, "f 3"]) -> None:
        self.faces: dict[int, Face] = {}
        self.sides: dict[Side, int] = {}
        self.around: dict[int, set[int]] = {}
        self._corners: set[frozenset[int]] = set()
        self.given = len(faces)
        for number, (a, b, c) in enumerate(faces.tolist()):
            self._add(number, (a, b, c))

    def array(self) -> Int[np.ndarray, "f 3"]:
        return np.array(list(self.faces.values()), dtype=np.int64).reshape(-1, 3)

    def is_open(self, side: Side) -> bool:
        """Whether a face is on this side of it alone."""
        return side in self.sides and side[::-1] not in self.sides

    def open_sides(self) -> list[Side]:
        return [side for side in self.sides if side[::-1] not in self.sides]

    def is_border(self, vertex: int) -> bool:
        """Whether the vertex lies at an open side."""
        return any(True for _ in self.open_sides_at(vertex))

    def open_sides_at(self, vertex: int) -> Iterator[Side]:
        for number in self.around[vertex]:
            a, b, c = self.faces[number]
            before, after = (c, b) if a == vertex else (a, c) if b == vertex else (b, a)
            yield from (side for side in ((before, vertex), (vertex, after)) if side[::-1] not in self.sides)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share a face with it."""
        return {other for number in self.around[vertex] for other in self.faces[number]} - {vertex}

    def beside(self, a: int, b: int) -> list[int]:
        """The faces at an edge."""
        return [self.sides[side] for side in ((a, b), (b, a)) if side in self.sides]

    def beyond(self, numbers: Collection[int]) -> list[int]:
        """Faces that share an edge with one of these, and are none of them."""
        found = {self.sides.get((b, a), -1) for a, b in sides_of([self.faces[number] for number in numbers])}
        return sorted(found - {-1} - set(numbers))

    def ears(self) -> list[Face]:
        """Faces that would close two open sides that follow each other, or three."""
        after: dict[int, list[int]] = {}
        for a, b in self.open_sides():
            after.setdefault(a, []).append(b)
        return [(c, b, a) for a, following in after.items() for b in following for c in after.get(b, ()) if c != a]

    def may_join(self, a: int, b: int) -> bool:
        """Whether the ends of an edge can become one vertex, and the surface stay one (the link condition; Dey et al. 1999)."""
        beside = self.beside(a, b)
        if len(beside) == 2 and self.is_border(a) and self.is_border(b):
            return False
        opposite = {vertex for number in beside for vertex in self.faces[number]} - {a, b}
        return self.neighbours(a) & self.neighbours(b) == opposite

    def may_replace(self, gone: Collection[int], new: Collection[Face]) -> bool:
        """Whether no face would have a vertex twice, be there twice, or walk a side that another one walks as well."""
        sides, corners = sides_of(new), [frozenset(face) for face in new]
        left = {frozenset(self.faces[number]) for number in gone}
        if any(len(three) < 3 or (three in self._corners and three not in left) for three in corners):
            return False
        if len(set(sides)) < len(sides) or len(set(corners)) < len(corners):
            return False
        return all(side not in self.sides or self.sides[side] in gone for side in sides)

    def opened(self, gone: Collection[int], new: Collection[Face]) -> tuple[list[Side], list[Side]]:
        """The open sides that there are no more when faces take the place of others, and those that are there instead."""
        old, fresh = set(sides_of([self.faces[number] for number in gone])), set(sides_of(new))
        outside = {side for a, b in (*old, *fresh) if (side := (b, a)) in self.sides} - old
        before = [side for side in (*old, *outside) if side[::-1] not in self.sides]
        walked = fresh | outside
        return before, [side for side in walked if side[::-1] not in walked]

    def replace(self, gone: Collection[int], new: Collection[Face]) -> list[int]:
        """The numbers of the new faces."""
        for number in gone:
            self._remove(number)
        numbers = list(range(self.given, self.given + len(new)))
        self.given += len(new)
        for number, face in zip(numbers, new, strict=True):
            self._add(number, face)
        return numbers

    def restore(self, gone: Mapping[int, Face], new: Collection[int]) -> None:
        """As it was before `replace`."""
        for number in new:
            self._remove(number)
        for number, face in gone.items():
            self._add(number, face)

    def _add(self, number: int, face: Face) -> None:
        self.faces[number] = face
        self._corners.add(frozenset(face))
        for vertex, side in zip(face, sides_of([face]), strict=True):
            self.around.setdefault(vertex, set()).add(number)
            self.sides[side] = number

    def _remove(self, number: int) -> None:
        face = self.faces.pop(number)
        self._corners.discard(frozenset(face))
        for vertex, side in zip(face, sides_of([face]), strict=True):
            self.around[vertex].discard(number)
            del self.sides[side]
