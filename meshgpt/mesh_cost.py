"""What a mesh costs beside a cloud, and what a move, which puts faces in the place of others, saves of it.

The cost is how far the points lie from the mesh, squared, as in mesh optimization (Hoppe et al., SIGGRAPH 1993), so much for each face,
and, since generated meshes have them, for open edges by their length and for area that lies on no points. It is counted in bins: a square
bin of the surface that lies one bin off costs one.

It knows triangles and points. It does not know which moves there are.

n  points      f  faces      k  triangles
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.coverage import ANY_WAY, BIN, FACING
from meshgpt.face_graph import Face, FaceGraph, Side
from meshgpt.mesh import Mesh

# A point that is further from all faces counts no more for that. A point is near a face within NEAR and so many
# times the usual distance from one point to the next.
FAR, NEAR, SPACINGS = 4 * BIN, BIN, 2.5
# What a face costs, a bin of an open edge, and a square bin of area that lies on no point.
FACE, OPEN, STRAY = 10.0, 16.0, 16.0
# The area (square bins) of a mesh whose faces cost as much. Those of a smaller one cost less in proportion, of a larger one more, so that
# a face has to bring all points nearer by as much; down to, and up to, these shares.
USUAL, CHEAPEST, DEAREST = 30_000.0, 0.1, 1.5
# How much a vertex is held where it is when it moves to where planes meet, measured by their weight.
HELD = 0.001
# The area of a face that has none.
FLAT = 1e-9
# A face is there already if others have so much of it.
THERE = 0.7


class Move(NamedTuple):
    """Faces for others, by their numbers, and, where there is one, a vertex that comes to lie at another place."""

    gone: Collection[int]
    new: list[Face]
    vertex: int = -1
    place: Float[np.ndarray, "3"] | None = None


class _Made(NamedTuple):
    """What it takes to undo a move."""

    faces: dict[int, Face]
    off: dict[int, float]
    new: dict[int, Face]
    vertex: int
    place: Float[np.ndarray, "3"] | None
    points: Int[np.ndarray, "m"]
    which: Int[np.ndarray, "m"]
    squared: Float[np.ndarray, "m"]


class Points:
    """The points of a cloud, by cells. Normals of zeros mean that they are not known; without `oriented` ones faces may face either way.
    `gap` is how far apart the points were from which a sparse cloud has been filled up."""

    def __init__(self, cloud: Float[np.ndarray, "n 6"], oriented: bool, gap: float = 0.0) -> None:
        from scipy.spatial import KDTree

        from meshgpt.tidy_kernels import REACH

        self.places, self.normals = cloud[:, :3].astype(np.float64), cloud[:, 3:].astype(np.float64)
        self.facing, self.oriented = FACING if self.normals.any() else ANY_WAY, oriented
        spacing = float(np.median(KDTree(self.places).query(self.places, k=2)[0][:, 1]))
        self.near = NEAR + max(SPACINGS * spacing, 0.75 * gap)
        self.cells = int(REACH / max(self.near, REACH / 100))
        x, y, z = ((self.places / REACH + 0.5) * self.cells).astype(np.int64).clip(0, self.cells - 1).T
        cell = (x * self.cells + y) * self.cells + z
        self.order = np.argsort(cell, kind="stable")
        self.starts = np.searchsorted(cell[self.order], np.arange(self.cells**3 + 1))

    def off(
        self, triangles: Float[np.ndarray, "k 3 3"], across: Float[np.ndarray, "k 3"], areas: Float[np.ndarray, "k"]
    ) -> Float[np.ndarray, "k"]:
        """How much of the area of each triangle lies on none of them."""
        from meshgpt.tidy_kernels import off_cloud

        found = self.starts, self.order, self.cells
        return off_cloud(triangles, across, areas, self.places, self.normals, *found, self.near, self.facing, self.oriented)


class MeshCost:
    """A mesh whose faces come and go, `least` to `most` of them, and on which face each point lies. What is around the vertices in `due`
    has changed since it was looked at, or everything has."""

    def __init__(self, mesh: Mesh, points: Points, least: int, most: int, due: set[int] | None = None) -> None:
        from meshgpt.settle_kernels import nearest_faces
        from meshgpt.tidy_kernels import across_and_areas

        self.vertices, self.graph, self.points = mesh.vertices.copy(), FaceGraph(mesh.faces), points
        self.least, self.most, self.due = least, most, due
        triangles = mesh.triangles()
        across, areas = across_and_areas(triangles)
        self.which, at = nearest_faces(points.places, points.normals, triangles, across, FAR, points.facing, points.oriented)
        apart = points.places - (at[:, :, None] * triangles[self.which]).sum(1)
        self.squared = np.where(self.which >= 0, (apart**2).sum(1), FAR**2)
        self.off = dict(enumerate(points.off(triangles, across, areas).tolist()))
        # How many square bins a point stands for, and a bin in the distance squared.
        self.share = float(areas.sum()) / len(points.places) / BIN**4
        self.face = FACE * float(np.clip(areas.sum() / BIN**2 / USUAL, CHEAPEST, DEAREST))
        self._marks = np.zeros(4 * len(mesh.faces), dtype=bool)  # the last one stays false: that of points without a face
        self._made: list[_Made] = []

    def mesh(self) -> tuple[Mesh, set[int]]:
        """And its vertices that are at changed faces."""
        used, faces = np.unique(self.graph.array(), return_inverse=True)
        touched = {vertex for made in self._made for face in (*made.faces.values(), *made.new.values()) for vertex in face}
        return Mesh(self.vertices[used], faces.reshape(-1, 3)), set(np.flatnonzero(np.isin(used, list(touched))).tolist())

    def is_due(self, *vertices: int) -> bool:
        return self.due is None or not self.due.isdisjoint(vertices)

    def saved(self, move: Move) -> float:
        """How much less the mesh would cost; a mesh with too few or too many faces is no bargain."""
        if not self.least <= len(self.graph.faces) - len(move.gone) + len(move.new) <= self.most:
            return -np.inf
        before, after = self.graph.opened(move.gone, move.new)
        length = self._length(before)
        kept = self._put(move)
        length -= self._length(after)
        triangles, across, off, _ = self._looked_at(move)
        points, _, squared = self._points_of(move.gone, triangles, across)
        nearer = self.share * float((self.squared[points] - squared).sum())
        if kept is not None:
            self.vertices[move.vertex] = kept
        less = sum(self.off[number] for number in move.gone) - float(off.sum())
        return nearer + OPEN / BIN * length + STRAY / BIN**2 * less + self.face * (len(move.gone) - len(move.new))

    def make(self, move: Move) -> None:
        kept = self._put(move)
        triangles, across, off, beside = self._looked_at(move)
        points, nearest, squared = self._points_of(move.gone, triangles, across)
        gone = {number: self.graph.faces[number] for number in move.gone}
        left = {number: self.off.pop(number) for number in gone}
        numbers = self.graph.replace(gone, move.new)
        self._made.append(
            _Made(
                gone, left, dict(zip(numbers, move.new, strict=True)), move.vertex, kept, points, self.which[points], self.squared[points]
            )
        )
        self.off.update(zip(numbers, off.tolist(), strict=True))
        self.which[points] = np.array([*numbers, *beside, -1])[nearest]
        self.squared[points] = squared

    def undo(self) -> None:
        """The last move that is not undone."""
        made = self._made.pop()
        self.graph.restore(made.faces, made.new)
        for number in made.new:
            del self.off[number]
        self.off.update(made.off)
        self.which[made.points], self.squared[made.points] = made.which, made.squared
        if made.place is not None:
            self.vertices[made.vertex] = made.place

    def is_there(self, face: Face, gone: Collection[int] = ()) -> bool:
        """Whether most of the points where a face would be lie on other faces, which are not `gone` then; not where hardly any are."""
        from meshgpt.tidy_kernels import across_and_areas

        triangle = self.vertices[np.array([face])]
        across, _ = across_and_areas(triangle)
        there, _, _ = self._moved_to(triangle, across, np.full(len(self.squared), BIN**2), BIN, 0.0)
        covered = (self.squared[there] < (0.5 * BIN) ** 2) & ~np.isin(self.which[there], list(gone))
        return len(there) > 3 and float(covered.mean()) > THERE

    def meeting(self, numbers: Collection[int], place: Float[np.ndarray, "3"], reach: float) -> Float[np.ndarray, "3"] | None:
        """Where the planes of the points on these faces meet, of those that lie within twice the `reach`; None if that is further than the
        `reach` from the place. Quadric error metrics put vertices there (Garland & Heckbert, SIGGRAPH 1997)."""
        from meshgpt.tidy_kernels import planes_around

        with self._marked(numbers) as marked:
            pulls, sums, total = planes_around(self.points.places, self.points.normals, self.which, marked, place, 2 * reach)
        off = np.linalg.solve(pulls + (HELD * total + 1e-12) * np.eye(3), sums)
        return place + off if (off**2).sum() < reach**2 else None

    def new_vertex(self, place: Float[np.ndarray, "3"]) -> int:
        self.vertices = np.concatenate([self.vertices, place[None]])
        return len(self.vertices) - 1

    def _put(self, move: Move) -> Float[np.ndarray, "3"] | None:
        """Move the vertex; where it was."""
        if move.place is None:
            return None
        kept = self.vertices[move.vertex].copy()
        self.vertices[move.vertex] = move.place
        return kept

    def _length(self, sides: Collection[Side]) -> float:
        if not sides:
            return 0.0
        ends = self.vertices[np.array(sides)]
        return float(np.sqrt(((ends[:, 1] - ends[:, 0]) ** 2).sum(1)).sum())

    def _looked_at(self, move: Move) -> tuple[Float[np.ndarray, "k 3 3"], Float[np.ndarray, "k 3"], Float[np.ndarray, "m"], list[int]]:
        """The new triangles and those beside them, onto which points may fall; how much of each new one lies on none; those beside."""
        from meshgpt.tidy_kernels import across_and_areas

        beside, count = self.graph.beyond(move.gone), len(move.new)
        faces = [*move.new, *(self.graph.faces[number] for number in beside)]
        triangles = self.vertices[np.array(faces, dtype=np.int64).reshape(-1, 3)]
        across, areas = across_and_areas(triangles)
        return triangles, across, self.points.off(triangles[:count], across[:count], areas[:count]), beside

    def _points_of(
        self, gone: Collection[int], triangles: Float[np.ndarray, "k 3 3"], across: Float[np.ndarray, "k 3"]
    ) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Float[np.ndarray, "m"]]:
        with self._marked(gone):
            return self._moved_to(triangles, across, self.squared, FAR, BIN**2)

    @contextmanager
    def _marked(self, numbers: Collection[int]) -> Iterator[Bool[np.ndarray, "f"]]:
        """Which faces are among these, in the block."""
        if self.graph.given >= len(self._marks):
            self._marks = np.zeros(2 * self.graph.given, dtype=bool)
        self._marks[list(numbers)] = True
        yield self._marks
        self._marks[list(numbers)] = False

    def _moved_to(
        self,
        triangles: Float[np.ndarray, "k 3 3"],
        across: Float[np.ndarray, "k 3"],
        squared: Float[np.ndarray, "n"],
        far: float,
        uncovered: float,
    ) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Float[np.ndarray, "m"]]:
        from meshgpt.tidy_kernels import moved_to

        points = self.points
        own = points.places, points.normals, self.which, squared, self._marks
        return moved_to(*own, triangles, across, far, uncovered, points.facing, points.oriented)
