"""How close a mesh comes to another, or to a cloud; every number has a name that says how it is measured.

    Compared(result, reference, seed)      what several metrics need is worked out once
    cd_ma100k(compared) ...                one number each

Shapes are compared in the frame of the reference: its box centred, its longest side 1. Where a metric brings each mesh into a frame of
its own, its docstring says so. Points are spread by `sample_surface`, which is stratified by area. It knows meshes and points only.

n, m  points      f  faces
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from meshgpt.mesh import Mesh, face_normals, sample_surface
from meshgpt.topology import joined

MESHANYTHING_POINTS = 100_000
BPT_POINTS, BPT_LONGEST_SIDE = 1_024, 1.9
# Edge points as NDC's `eval_cd_nc_f1_ecd_ef1.py` finds them, where the longest side is about 1.
EDGE_RADIUS, EDGE_COSINE = 0.004, 0.2
MOST_NEIGHBOURS, CROWD_EVERY = 5_000_000, 100  # pairs of near points held at once; which points tell how many there are
FIT_POINTS = 4_096


def nearest(points: Float[np.ndarray, "n 3"], others: Float[np.ndarray, "m 3"]) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """For each point the Euclidean distance to the nearest of the others, and which one that is."""
    return _tree(others).query(points)


def _tree(points: Float[np.ndarray, "n 3"]) -> Any:
    from scipy.spatial import KDTree

    # Large leaves: a point far from a surface has many points about equally near, and small boxes would be queued one by one.
    return KDTree(points, leafsize=64, balanced_tree=False, compact_nodes=False)


class Pairing(NamedTuple):
    """Two sets of points with unit normals, and for each point the nearest of the other set.

    `there` are the distances from the first set to the second and `other` which points those are, `back` and `own` the way back.
    """

    one: Float[np.ndarray, "n 6"]
    two: Float[np.ndarray, "m 6"]
    there: Float[np.ndarray, "n"]
    other: Int[np.ndarray, "n"]
    back: Float[np.ndarray, "m"]
    own: Int[np.ndarray, "m"]

    @classmethod
    def of(cls, one: Float[np.ndarray, "n 6"], two: Float[np.ndarray, "m 6"]) -> Pairing:
        return cls(one, two, *nearest(one[:, :3], two[:, :3]), *nearest(two[:, :3], one[:, :3]))

    def mean_distance(self) -> float:
        """Mean there plus mean back, not squared."""
        return float(self.there.mean() + self.back.mean())

    def largest_distance(self) -> float:
        """The larger of the largest one there and the largest one back."""
        return float(max(self.there.max(), self.back.max()))

    def cosines(self) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]:
        """Between the normals of each point and its nearest, there and back."""
        there = (self.one[:, 3:] * self.two[self.other, 3:]).sum(1)
        return there, (self.two[:, 3:] * self.one[self.own, 3:]).sum(1)

    def f_score(self, within: float) -> float:
        """Harmonic mean of the shares of points nearer than `within`, there (precision) and back (recall); 0 when both are 0."""
        precision, recall = float((self.there < within).mean()), float((self.back < within).mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class Compared:
    """A result beside its reference; whatever several metrics need is worked out when it is first asked for, and kept.

    ValueError, from the metric that stumbles over it, when either has no face with area.
    """

    result: Mesh
    reference: Mesh
    seed: int = 0

    @cached_property
    def framed(self) -> tuple[Mesh, Mesh]:
        """Both in the frame of the reference: the centre of its box is 0, its longest side is 1."""
        centre, size = _box(self.reference)
        return tuple(Mesh((each.vertices - centre) / size, each.faces) for each in (self.result, self.reference))

    @cached_property
    def surfaces(self) -> Pairing:
        """100,000 points on each, in the frame of the reference."""
        return Pairing.of(*(self._sampled(mesh, part, MESHANYTHING_POINTS) for part, mesh in enumerate(self.framed)))

    @cached_property
    def edges(self) -> tuple[Float[np.ndarray, "n 6"], Float[np.ndarray, "m 6"]]:
        """Those of the 100,000 points that lie near a sharp edge."""
        return tuple(points[near_edge(points)] for points in (self.surfaces.one, self.surfaces.two))

    @cached_property
    def boxed(self) -> Pairing:
        """1,024 points on each, each mesh by itself brought to [-0.95, 0.95] along its longest side."""
        return Pairing.of(*(self._sampled(_boxed(mesh), part, BPT_POINTS) for part, mesh in enumerate(self.framed)))

    @cached_property
    def centres(self) -> Pairing:
        """The centres of all faces that have an area, with their normals, in the frame of the reference."""
        return Pairing.of(*map(_centres, self.framed))

    def _sampled(self, mesh: Mesh, part: int, count: int) -> Float[np.ndarray, "n 6"]:
        return sample_surface(mesh, count, np.random.default_rng((self.seed, part)))


def _box(mesh: Mesh) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and longest side of what the faces span."""
    corners = mesh.triangles().reshape(-1, 3).astype(np.float64)
    if not len(corners) or not np.ptp(corners, axis=0).max() > 0:
        raise ValueError(f"the {len(mesh.faces)} faces span no box; pass a mesh with a surface")
    return (corners.min(0) + corners.max(0)) / 2, float(np.ptp(corners, axis=0).max())


def _boxed(mesh: Mesh) -> Mesh:
    centre, size = _box(mesh)
    return Mesh((mesh.vertices - centre) / size * BPT_LONGEST_SIDE, mesh.faces)


def _centres(mesh: Mesh) -> Float[np.ndarray, "f 6"]:
    triangles = mesh.triangles()
    normals = face_normals(triangles)
    lengths = np.linalg.norm(normals, axis=1)
    flat = ~(lengths > 0)
    if flat.all():
        raise ValueError(f"none of the {len(mesh.faces)} faces has an area, so none has a normal; pass a mesh with a surface")
    return np.concatenate([triangles.mean(1), normals / np.where(flat, 1, lengths)[:, None]], 1)[~flat]


def near_edge(points: Float[np.ndarray, "n 6"]) -> Bool[np.ndarray, "n"]:
    """Which points have, within 0.004, another whose normal is at more than 78 degrees to theirs (absolute cosine below 0.2).

    So NDC finds the points near sharp edges and corners. Where points lie so densely that there are more than about five million pairs of
    neighbours (the surface is a fiftieth of the square of its longest side, or less), only every k-th point counts as a neighbour.
    """
    from scipy.spatial import KDTree

    positions, normals = points[:, :3], points[:, 3:]
    tree = KDTree(positions)
    crowd = tree.query_ball_point(positions[::CROWD_EVERY], EDGE_RADIUS, return_length=True).mean()
    every = max(1, round(crowd * len(points) / MOST_NEIGHBOURS))
    pairs = tree.sparse_distance_matrix(KDTree(positions[::every]), EDGE_RADIUS, output_type="ndarray")
    sharp = np.abs((normals[pairs["i"]] * normals[::every][pairs["j"]]).sum(1)) < EDGE_COSINE
    found = np.zeros(len(points), bool)
    found[pairs["i"][sharp]] = True
    return found


# Distances, in units of the reference's longest side unless stated otherwise; smaller is better


def cd_ma100k(compared: Compared) -> float:
    """Chamfer distance as MeshAnything samples it: mean distance from result to reference plus mean distance back, not squared.

    100,000 points each; frame and unit of the reference (longest side 1). MeshAnything (ICLR 2025) and V2 print it times 100.
    """
    return compared.surfaces.mean_distance()


def ecd_ma100k(compared: Compared) -> float:
    """Edge chamfer distance: as `cd_ma100k`, between those of the same 100,000 points that lie near sharp edges (`near_edge`).

    MeshAnything takes it from NMC and NDC, whose released code squares the distances; here they are not squared, as in `cd_ma100k`.
    As there, a reference without edges gives 0, and for a result without edges the centre of the reference stands in.
    """
    one, two = compared.edges
    if not len(two):
        return 0.0
    return Pairing.of(one if len(one) else np.zeros((1, 6)), two).mean_distance()


def cd_bpt1024_l2(compared: Compared) -> float:
    """Chamfer distance of BPT's `metrics.py`: mean distance there plus mean distance back, Euclidean and not squared.

    1,024 points each; each mesh by itself is brought to [-0.95, 0.95] along its longest side, so place and size do not count.
    """
    return compared.boxed.mean_distance()


def hd_bpt1024(compared: Compared) -> float:
    """Hausdorff distance of BPT's `metrics.py`: the largest distance from a point to the nearest of the other mesh, of both ways.

    The points and the frame of `cd_bpt1024_l2`.
    """
    return compared.boxed.largest_distance()


# Agreement, larger is better


def nc_ma100k(compared: Compared) -> float:
    """Normal consistency of MeshAnything: mean absolute cosine between the normals of nearest points, mean of both ways, 0 to 1.

    The points of `cd_ma100k`. Flipped faces do not count, by definition.
    """
    there, back = compared.surfaces.cosines()
    return float((np.abs(there).mean() + np.abs(back).mean()) / 2)


def nc_tree(compared: Compared) -> float:
    """Normal consistency of TreeMeshGPT, -1 to 1: cosine between the normals of a face and of the face with the nearest centre.

    Mean over the faces that have an area, of each mesh, then mean of both ways; frame of the reference, no sampling. Flipped faces count.
    """
    there, back = compared.centres.cosines()
    return float((there.mean() + back.mean()) / 2)


def absnc_tree(compared: Compared) -> float:
    """As `nc_tree` with absolute cosines, 0 to 1: flipped faces do not count."""
    there, back = compared.centres.cosines()
    return float((np.abs(there).mean() + np.abs(back).mean()) / 2)


def f_1pct_ma100k(compared: Compared) -> float:
    """F-score, 0 to 1: harmonic mean of the shares of points nearer than 1 % of the reference's longest side, there and back.

    The points of `cd_ma100k`; precision and recall as in Tanks and Temples (SIGGRAPH 2017).
    """
    return compared.surfaces.f_score(0.01)


def f_2pct_ma100k(compared: Compared) -> float:
    """As `f_1pct_ma100k`, at 2 % of the longest side."""
    return compared.surfaces.f_score(0.02)


# Sizes, neither way is better


def vertex_ratio(compared: Compared) -> float:
    """Vertices of the result / vertices of the reference; those that faces use, and those at exactly equal places once."""
    return len(joined(compared.result).vertices) / len(joined(compared.reference).vertices)


def face_ratio(compared: Compared) -> float:
    """Faces of the result / faces of the reference, as they are stored."""
    return len(compared.result.faces) / len(compared.reference.faces)


# To a cloud


def fit_to_cloud(mesh: Mesh, positions: Float[np.ndarray, "n 3"], seed: int = 0) -> float:
    """Mean distance from 4,096 surface points to the cloud plus mean distance back, in units of the cloud's longest side."""
    surface = sample_surface(mesh, FIT_POINTS, np.random.default_rng(seed))[:, :3]
    size = float(np.ptp(positions, axis=0).max())
    return float((nearest(surface, positions)[0].mean() + nearest(positions, surface)[0].mean()) / size)
