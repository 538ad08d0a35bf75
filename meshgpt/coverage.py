"""How well a face lies on a cloud, and which part of the cloud the faces so far cover.

A face of a mesh that has the cloud's surface lies on that surface, lies on no other face, and, since faces come bottom up, leaves
nothing below it bare. On real meshes (tests/test_coverage.py) all three hold as good as exactly, so they tell a good next face
from a bad one without knowing the mesh. It knows points and triangles only; everything lies in the cube, y up.

n  points      k  triangles      s  samples of a triangle
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# One bin of 128. Corners are rounded to bins, and clouds lie a little off the mesh.
BIN = 1 / 128
TOLERANCE = 2 * BIN
# A face is on the surface where a point is as near, the usual distance between points added. With two bins for it narrow gaps are bridged;
# clouds without normals, whose points mostly are measured, need them.
NEAR = BIN
# The cosine from which on a face and a point face the same way.
FACING = 0.5
# A cosine that is below all: where the cloud has no normals.
ANY_WAY = -2.0
# How many points around a sample are asked whether they face its way.
NEIGHBOURS = 6
# A bare point is open, if so many of so many points around it that face its way are bare as well: elsewhere faces leave slits that
# none fits in.
AROUND, OPEN = 8, 5


class Weights(NamedTuple):
    """For each triangle: the share of it that is off the surface (its edges count once more), how far from the surface's planes it is
    on average (in bins, beyond what the cloud itself is), the share that lies on faces that are there, the share of the cloud that
    it would newly cover, and the share that it would leave bare below it."""

    off: Float[np.ndarray, "k"]
    miss: Float[np.ndarray, "k"]
    double: Float[np.ndarray, "k"]
    gain: Float[np.ndarray, "k"]
    lost: Float[np.ndarray, "k"]


class Coverage:
    """Takes in a mesh face by face. `cloud` holds positions and unit normals (or zeros where they are not known); with `oriented`
    normals a face must look the same way as its points, without, the way they point along. Only where faces come `bottom_up` is
    anything below the last one lost. `gap` is how far apart the points were from which a sparse cloud has been filled up."""

    def __init__(self, cloud: Float[np.ndarray, "n 6"], oriented: bool = True, bottom_up: bool = True, gap: float = 0.0) -> None:
        from scipy.spatial import KDTree

        self.points, normals = cloud[:, :3].astype(np.float64), cloud[:, 3:].astype(np.float64)
        self.normals = normals if np.abs(normals).any() else None
        self.oriented, self.bottom_up = oriented, bottom_up
        self.tree = KDTree(self.points)
        spacing = float(np.median(self.tree.query(self.points, k=2)[0][:, 1]))
        self.near = (NEAR if oriented else TOLERANCE) + max(1.5 * spacing, 0.375 * gap)
        self.around = self._neighbours()
        self.grain = float(np.median(self._off_plane(self.points[:, None], self.around[:, -3:])))
        self.bare = self.open = np.ones(len(cloud), dtype=bool)
        self.passed = np.zeros(len(cloud), dtype=bool)
        self._directions = self.points if self.normals is None else self.normals
        self._bare_points = self._those(self.bare)
        self.floor, self.lost = -np.inf, 0.0
        self.faces = _Faces()

    @property
    def covered(self) -> float:
        """Share of the points that lie on the faces so far."""
        return 1 - float(self.bare.mean())

    @property
    def rest(self) -> float:
        """Share of the points that are open, and can still be covered."""
        return float(self.open.mean()) - self.lost

    def weigh(self, triangles: Float[np.ndarray, "k 3 3"]) -> Weights:
        """What each of the triangles would be as the next face."""
        normals = _unit_normals(triangles)
        inside = np.einsum("sc,kcd->ksd", INSIDE, triangles)
        edges = np.einsum("sc,kcd->ksd", EDGES, triangles)
        depth = self._depth(inside, normals)
        off = np.isinf(depth).mean(1)
        miss = (np.minimum(depth, TOLERANCE).mean(1) - self.grain).clip(0) / BIN
        off += np.isinf(self.tree.query(edges.reshape(-1, 3), distance_upper_bound=self.near)[0].reshape(edges.shape[:2])).mean(1)
        double = self.faces.hold(inside.reshape(-1, 3), normals.repeat(len(INSIDE), 0)).reshape(inside.shape[:2]).mean(1)
        gain = self._gains(triangles, normals)
        return Weights(off, miss, double, gain, self._losses(triangles))

    def _losses(self, triangles: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "k"]:
        if not self.bottom_up:
            return np.zeros(len(triangles))
        return (self._bare_below(triangles[..., 1].min(1)) - self.lost).clip(0)

    def open_points(self, top: float) -> Float[np.ndarray, "m 3"]:
        """Where something is open that can still be covered, up to a height."""
        heights = self.points[:, 1]
        return self.points[self.open & (heights >= self.floor - TOLERANCE) & (heights <= top)]

    def widely_open_points(self) -> Float[np.ndarray, "m 3"]:
        """Open points with open ones all around, or all open points, where there are none: slits are left for later. Of several
        pieces of the surface that are open, the largest."""
        wide = self.open & self.open[self.around].all(1)
        which = np.flatnonzero(wide if wide.any() else self.open)
        return self.points[self._largest_piece(which)]

    def _largest_piece(self, which: Int[np.ndarray, "m"]) -> Int[np.ndarray, "k"]:
        """Those of some points that most others are neighbours of, one after another."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        number = np.full(len(self.points), -1)
        number[which] = np.arange(len(which))
        ends = number[self.around[which]]
        row, column = np.nonzero(ends >= 0)
        pairs = coo_matrix((np.ones(len(row), dtype=bool), (row, ends[row, column])), shape=(len(which), len(which)))
        piece = connected_components(pairs, directed=False)[1]
        return which[piece == np.bincount(piece).argmax()] if len(which) else which

    def pass_over(self, position: Float[np.ndarray, "3"]) -> None:
        """What lies around a position is open no longer, whether or not a face covers it: none could be found that does."""
        self.passed[self.tree.query_ball_point(position, self.near + 2 * TOLERANCE)] = True
        self.open = self.open & ~self.passed

    def near_open(self, positions: Float[np.ndarray, "k 3"]) -> Bool[np.ndarray, "k"]:
        """Whether positions are on the surface, and something is open around them."""
        around = self.tree.query_ball_point(positions, self.near + TOLERANCE)
        opened = np.array([bool(self.open[np.array(which, dtype=np.int64)].any()) for which in around])
        return opened & self._on_surface(positions)

    def edges_off(self, edges: Float[np.ndarray, "k 2 3"]) -> Float[np.ndarray, "k"]:
        """The share of each edge that is off the surface."""
        return 1 - self._on_surface(np.einsum("sc,kcd->ksd", ALONG, edges)).mean(1)

    def _on_surface(self, positions: Float[np.ndarray, "*n 3"]) -> Bool[np.ndarray, "*n"]:
        apart, which = self.tree.query(positions)
        return (apart < self.near) & (self._off_plane(positions, which) < BIN + 2 * self.grain)

    def take(self, triangle: Float[np.ndarray, "3 3"]) -> None:
        """Take in the next face."""
        from meshgpt.coverage_kernels import beneath, opened

        which, points, directions = self._bare_points
        self.bare[which[beneath(triangle, _unit_normals(triangle[None])[0], points, directions, *self._margins)]] = False
        self.open = opened(self.bare, self.around, OPEN / AROUND) & ~self.passed
        self._bare_points = self._those(self.bare)
        self.faces.add(triangle)
        if self.bottom_up:
            self.rise(float(triangle[:, 1].min()))

    def rise(self, floor: float) -> None:
        """From now on no face has a corner below the floor, so that what is bare below it is lost."""
        self.floor = max(self.floor, floor)
        self.lost = float(self._bare_below(np.array([self.floor]))[0])

    def lowest_bare(self, crumbs: float) -> float:
        """The height of the lowest open point that is not lost; as small a share of the points as `crumbs` may lie lower. The
        floor, where there is none."""
        heights = np.sort(self.points[self.open & (self.points[:, 1] >= self.floor - TOLERANCE), 1])
        return float(heights[int(crumbs * len(self.points))]) if len(heights) > crumbs * len(self.points) else self.floor

    def _neighbours(self) -> Int[np.ndarray, "n k"]:
        """The nearest points that face the way of each point, itself where there are too few."""
        many = min(4 * AROUND, len(self.points))
        which = self.tree.query(self.points, k=many)[1].reshape(len(self.points), many)
        if self.normals is not None:
            alike = self._face(which, self.normals[:, None])
            order = np.argsort(~alike, axis=1, kind="stable")
            which = np.where(alike, which, which[:, :1])
            which = np.take_along_axis(which, order, 1)
        return which[:, :AROUND]

    def _depth(self, samples: Float[np.ndarray, "k s 3"], normals: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k s"]:
        """How far samples are from the plane of the nearest point that faces their way; infinitely, where none is near."""
        from meshgpt.coverage_kernels import depths

        many = min(NEIGHBOURS, len(self.points))
        flat = samples.reshape(-1, 3)
        which = self.tree.query(flat, k=many, distance_upper_bound=self.near)[1].reshape(len(flat), many)
        ways = normals if self.normals is not None else np.zeros_like(normals)
        facing = ANY_WAY if self.normals is None else FACING
        return depths(flat, ways, which, self.points, self._directions, facing, self.oriented).reshape(samples.shape[:2])

    def _off_plane(self, positions: Float[np.ndarray, "*#n 3"], which: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """How far positions are from the tangent planes of points; not at all, where these are not known."""
        if self.normals is None:
            return np.zeros(which.shape)
        return np.abs(((positions - self.points[which]) * self.normals[which]).sum(-1))

    def _face(self, which: Int[np.ndarray, "*n"], normals: Float[np.ndarray, "*#n 3"], least: float = FACING) -> Bool[np.ndarray, "*n"]:
        """Whether points look the way of normals."""
        if self.normals is None:
            return np.ones(which.shape, dtype=bool)
        cosine = (self.normals[which] * normals).sum(-1)
        return (cosine if self.oriented else np.abs(cosine)) > least

    def _gains(self, triangles: Float[np.ndarray, "k 3 3"], normals: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k"]:
        """The share of the cloud that each triangle covers of what is bare."""
        from meshgpt.coverage_kernels import counts_beneath

        return counts_beneath(triangles, normals, *self._bare_points[1:], *self._margins) / len(self.points)

    @property
    def _margins(self) -> tuple[float, float, float, bool]:
        """How far above or below a triangle the points are that it covers, how far beside it, and how they must face."""
        return 1.5 * TOLERANCE, 0.75 * TOLERANCE, ANY_WAY if self.normals is None else 0.8 * FACING, self.oriented

    def _those(self, among: Bool[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "m"], Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
        """Numbers, positions and directions of some of the points."""
        which = np.flatnonzero(among)
        return which, self.points[which], self._directions[which]

    def _bare_below(self, floors: Float[np.ndarray, "*k"]) -> Float[np.ndarray, "*k"]:
        """Share of the points that are open, but that no later face can cover, if none of them has a corner below a floor."""
        heights = np.sort(self.points[self.open, 1])
        return np.searchsorted(heights, floors - TOLERANCE) / len(self.points)


class _Faces:
    """Finds out whether points lie on faces that look the same way."""

    def __init__(self) -> None:
        self.origins, self.normals, self.frames = np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3))

    def add(self, triangle: Float[np.ndarray, "3 3"]) -> None:
        normal = _unit_normals(triangle[None])[0]
        edges = triangle[1] - triangle[0], triangle[2] - triangle[0]
        if not normal.any():
            return
        self.origins = np.concatenate([self.origins, triangle[:1]])
        self.normals = np.concatenate([self.normals, normal[None]])
        self.frames = np.concatenate([self.frames, np.linalg.inv(np.stack([*edges, normal]))[None]])

    def hold(self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
        """Within a bin of a face, over it."""
        from meshgpt.coverage_kernels import held

        return held(points, normals, self.origins, self.frames, self.normals, BIN, FACING)


def _unit_normals(triangles: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "k 3"]:
    """Zeros where a triangle has no area."""
    from meshgpt.coverage_kernels import unit_normals

    return unit_normals(triangles)


def _inside(steps: int) -> Float[np.ndarray, "s 3"]:
    """Barycentric coordinates of a regular grid in a triangle, off its edges."""
    at = (np.arange(steps) + 0.5) / steps
    return np.array([(1 - u - v, u, v) for u in at for v in at if u + v < 1 - 1e-9])


def _edges(steps: int) -> Float[np.ndarray, "s 3"]:
    """Barycentric coordinates of points on the edges, corners included."""
    at = np.arange(steps) / steps
    one = np.stack([1 - at, at, 0 * at], 1)
    return np.concatenate([np.roll(one, turn, 1) for turn in range(3)])


INSIDE, EDGES = _inside(5), _edges(4)
ALONG = EDGES[1:4, :2]
