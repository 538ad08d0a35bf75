"""Holes in a mesh, and the best triangles to close them: along with faces at their border that are given up, where those cover each other.

A polygon is cut into triangles as in Barequet & Sharir, "Filling gaps in the boundary of a polyhedron" (1995), the cheapest way by dynamic
programming. A triangle costs what of its area lies on no point, and a little for all of its area, so that flat ones do not overlap.

It knows triangles and points. It does not know which other moves there are.

n  corners of a polygon
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from meshgpt.coverage import BIN
from meshgpt.face_graph import Face, FaceGraph, Side, sides_of
from meshgpt.mesh_cost import FLAT, STRAY, MeshCost, Move

# The longest hole, the longest one at which any two faces may be given up, and the longest polygon that is left by them.
HOLE, SHORT, POLYGON = 24, 8, 26
# What a square bin of a new triangle costs, beside what of it lies on no point.
AREA = 1.0


def fillings(work: MeshCost, loop: Sequence[Side]) -> Iterator[Move]:
    """Ways to close a hole: as it is, and with one face at its border, or two, or all around one of its corners given up."""
    graph, prices = work.graph, Prices(work)
    for gone in _to_give_up(graph, loop):
        polygons = polygons_without(graph, loop, gone)
        if polygons is None:
            continue
        new = [triangles_of(graph, prices, polygon, gone) for polygon in polygons]
        faces = list(itertools.chain(*new))
        if not all(new) or not graph.may_replace(gone, faces):
            continue
        # Where faces may face either way a sheet could be closed with its own back.
        if work.points.oriented or not any(work.is_there(face, gone) for face in faces):
            yield Move(list(gone), faces)


def _to_give_up(graph: FaceGraph, loop: Sequence[Side]) -> list[tuple[int, ...]]:
    beside = list(dict.fromkeys(graph.sides[side] for side in loop))
    pairs = itertools.combinations(beside, 2) if len(loop) <= SHORT else ()
    around = (tuple(sorted(graph.around[corner])) for corner, _ in loop)
    return list(dict.fromkeys([(), *((number,) for number in beside), *pairs, *around]))


def open_loops(graph: FaceGraph) -> list[list[Side]]:
    """The shortest loop along open sides through each of them, as far as it is short."""
    open_sides, following = graph.open_sides(), dict[int, list[int]]()
    for a, b in open_sides:
        following.setdefault(a, []).append(b)
    found: dict[frozenset[Side], list[Side]] = {}
    for a, b in open_sides:
        loop = _shortest(following, b, a)
        if loop is not None:
            sides = [(a, b), *itertools.pairwise(loop)]
            found.setdefault(frozenset(sides), sides)
    return list(found.values())


def _shortest(following: dict[int, list[int]], start: int, end: int) -> list[int] | None:
    """Corner by corner, from the one to the other."""
    before, front = {start: start}, [start]
    for _ in range(HOLE - 1):
        reached = [(a, b) for a in front for b in following.get(a, ()) if b not in before]
        for a, b in reached:
            before.setdefault(b, a)
        if end in before:
            way = [end]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        front = list(dict.fromkeys(b for _, b in reached))
    return None


def polygons_without(graph: FaceGraph, loop: Sequence[Side], gone: Collection[int]) -> list[list[int]] | None:
    """What is open when faces beside a hole are gone, corner by corner; None where that is more than polygons."""
    given_up = set(sides_of([graph.faces[number] for number in gone]))
    if any(side[::-1] not in graph.sides and side not in loop for side in given_up):
        return None
    border = [side for side in loop if side not in given_up]
    border += [(b, a) for a, b in given_up if (b, a) in graph.sides and (b, a) not in given_up]
    after = dict(border)
    if len(after) < len(border) or set(after) != set(after.values()):
        return None
    polygons = []
    while after:
        polygon = [next(iter(after))]
        while (corner := after.pop(polygon[-1])) != polygon[0]:
            polygon.append(corner)
        polygons.append(polygon)
    return polygons if all(3 <= len(polygon) <= POLYGON for polygon in polygons) else None


class Prices:
    """What each new triangle would cost, counted once; without end where it has no area."""

    def __init__(self, work: MeshCost) -> None:
        self.work, self.known = work, {}

    def of(self, faces: Sequence[Face]) -> list[float]:
        from meshgpt.tidy_kernels import across_and_areas

        faces = [_named(face) for face in faces]
        new = [face for face in faces if face not in self.known]
        if new:
            triangles = self.work.vertices[np.array(new)]
            across, areas = across_and_areas(triangles)
            prices = (STRAY * self.work.points.off(triangles, across, areas) + AREA * areas) / BIN**2
            self.known.update(zip(new, np.where(areas < FLAT, np.inf, prices).tolist(), strict=True))
        return [self.known[face] for face in faces]


def triangles_of(graph: FaceGraph, prices: Prices, polygon: Sequence[int], gone: Collection[int]) -> list[Face]:
    """The cheapest way to cut it into triangles, which walk its sides the other way round; nothing where there is none."""
    count = len(polygon)

    def is_free(i: int, k: int) -> bool:
        """Whether no face that stays is at the line between two corners."""
        return not any(graph.sides.get(side, -1) not in (-1, *gone) for side in ((polygon[i], polygon[k]), (polygon[k], polygon[i])))

    free = {(i, k) for i, k in itertools.combinations(range(count), 2) if k - i in (1, count - 1) or is_free(i, k)}
    threes = [(i, j, k) for i, j, k in itertools.combinations(range(count), 3) if {(i, j), (j, k), (i, k)} <= free]
    price = dict(zip(threes, prices.of([(polygon[k], polygon[j], polygon[i]) for i, j, k in threes]), strict=True))
    least = {(i, i + 1): (0.0, -1) for i in range(count - 1)}
    for length in range(2, count):
        for i in range(count - length):
            k = i + length
            ways = [(least[i, j][0] + least[j, k][0] + price[i, j, k], j) for j in range(i + 1, k) if (i, j, k) in price]
            least[i, k] = min(ways, default=(np.inf, -1))
    return _triangles(polygon, least) if np.isfinite(least[0, count - 1][0]) else []


def _named(face: Face) -> Face:
    """It has one name, wherever it begins."""
    a, b, c = face
    return min(face, (b, c, a), (c, a, b))


def _triangles(polygon: Sequence[int], least: dict[tuple[int, int], tuple[float, int]]) -> list[Face]:
    faces, left = [], [(0, len(polygon) - 1)]
    while left:
        i, k = left.pop()
        if k - i > 1:
            j = least[i, k][1]
            faces.append((polygon[k], polygon[j], polygon[i]))
            left += [(i, j), (j, k)]
    return faces
