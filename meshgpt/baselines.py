"""What one would pick instead of a mesh generator: decimation, reconstruction, remeshing, the hull, the nearest known mesh.

    cloud  ->  convex_hull, poisson, ball_pivoting, marching_cubes, retrieval
    dense  ->  decimated, decimated_fast, instant_meshes

All work in the cube, since libraries fail far from it (ball pivoting finds nothing on a sphere of radius 1e-9), and on checked clouds.
It knows shapes; it does not know networks, files or metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from meshgpt.cloud import Cloud, checked
from meshgpt.extras import import_extra
from meshgpt.gallery import Gallery
from meshgpt.mesh import Fit, Mesh
from meshgpt.reconstruct import ball_pivoting, decimate, marching_cubes, poisson
from meshgpt.silence import silent

SAME_POINT = 1e-4  # of the cube: nearer points are one


@dataclass(frozen=True)
class Shape:
    """What every baseline is given: all in one frame, and the number of faces to aim at."""

    cloud: Cloud
    dense: Mesh
    faces: int
    gallery: Gallery | None = None
    """Where `retrieval` looks."""


class BaselineFailed(ValueError):  # noqa: N818, it names an outcome
    """A baseline found no mesh for a shape."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the baseline {name} failed: {reason}")
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Baseline:
    """A named way from a shape to a mesh; `build` works in the cube."""

    name: str
    build: Callable[[Shape], Mesh]

    def __call__(self, shape: Shape) -> Mesh:
        """The mesh in the shape's frame, perhaps without faces; the same for the same shape.

        BaselineFailed says which baseline failed and why; ImportError names a package to install.
        """
        try:
            fit, fitted = _fitted(shape)
            vertices, faces = _used(self.build(fitted))
            if not np.isfinite(vertices).all():
                raise ValueError("the result holds NaN or infinite coordinates")
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            raise BaselineFailed(self.name, " ".join(str(error).split()) or type(error).__name__) from error
        return Mesh(fit.undo(vertices), faces)


def decimated(shape: Shape) -> Mesh:
    """The dense mesh, decimated."""
    return decimate(shape.dense, shape.faces)


def decimated_fast(shape: Shape) -> Mesh:
    """The dense mesh, decimated by fast-simplification, which trimesh and PyVista call.

    It stops where faces would flip: on thin parts far above the count that it was asked for.
    """
    if len(shape.dense.faces) <= shape.faces:
        return shape.dense
    simplify = import_extra("fast_simplification", "fast decimation").simplify
    vertices, faces = simplify(shape.dense.vertices, shape.dense.faces.astype(np.int32), target_count=shape.faces)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))


def instant_meshes(shape: Shape) -> Mesh:
    """The dense mesh, remeshed by Instant Meshes (Jakob et al. 2015) with triangles, of which there are two for each vertex.

    Not with quads: it gets those by splitting every face at its centre, so that a hundred triangles' worth begin as a dozen faces.
    """
    remesh = import_extra("pynanoinstantmeshes", "remeshing").remesh
    vertices, faces = shape.dense.vertices.astype(np.float32), shape.dense.faces.astype(np.uint32)
    with silent():
        vertices, faces = remesh(vertices, faces, vertex_count=max(shape.faces // 2, 4), rosy=6, posy=3, deterministic=True)
    return Mesh(vertices.astype(np.float64), faces.reshape(-1, 3).astype(np.int64))


def convex_hull(shape: Shape) -> Mesh:
    """The convex hull of the cloud, decimated; of a flat cloud both sides."""
    from trimesh.convex import convex_hull

    with np.errstate(divide="ignore", invalid="ignore"):  # a flat hull has no centre of mass
        hull = convex_hull(shape.cloud.positions)
    return decimate(Mesh(np.array(hull.vertices), np.array(hull.faces)), shape.faces)


def retrieval(shape: Shape) -> Mesh:
    """The mesh of the gallery that lies nearest to the cloud, as it is in the cube, however many faces it has."""
    if shape.gallery is None:
        raise ValueError("there is no gallery to retrieve from; pass the training meshes as a Gallery")
    return shape.gallery.nearest(shape.cloud.positions)[1]


BASELINES: dict[str, Baseline] = {
    "decimated": Baseline("decimated", decimated),
    "decimated_fast": Baseline("decimated_fast", decimated_fast),
    "poisson": Baseline("poisson", lambda shape: decimate(poisson(shape.cloud), shape.faces)),
    "ball_pivoting": Baseline("ball_pivoting", lambda shape: decimate(ball_pivoting(shape.cloud), shape.faces)),
    "marching_cubes": Baseline("marching_cubes", lambda shape: decimate(marching_cubes(shape.cloud), shape.faces)),
    "instant_meshes": Baseline("instant_meshes", instant_meshes),
    "convex_hull": Baseline("convex_hull", convex_hull),
    "retrieval": Baseline("retrieval", retrieval),
}


def _fitted(shape: Shape) -> tuple[Fit, Shape]:
    """The shape in the cube; ValueError for what crashes libraries: no dense mesh, a cloud that is no surface, a count below one."""
    if shape.faces < 1:
        raise ValueError(f"{shape.faces} faces were asked for; aim at one or more")
    if not len(shape.dense.faces) or not np.isfinite(shape.dense.vertices).all():
        raise ValueError(f"the dense mesh has {len(shape.dense.faces)} faces, or vertices that are not finite; make it with dense_of")
    fit = Fit.of(shape.cloud.positions)
    dense = Mesh(fit.apply(shape.dense.vertices), shape.dense.faces.astype(np.int64))
    return fit, replace(shape, cloud=_distinct(checked(shape.cloud), fit), dense=dense)


def _distinct(cloud: Cloud, fit: Fit) -> Cloud:
    """In the cube, one point for each place, with the normals of the first there."""
    positions = fit.apply(cloud.positions)
    _, first = np.unique(np.round(positions / SAME_POINT), axis=0, return_index=True)
    kept = np.sort(first)
    return checked(Cloud(positions[kept], None if cloud.normals is None else cloud.normals[kept].astype(np.float64)))


def _used(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Without faces that touch a vertex twice, and without vertices that no face touches."""
    a, b, c = mesh.faces.T
    faces = mesh.faces[(a != b) & (b != c) & (c != a)]
    used, numbers = np.unique(faces, return_inverse=True)
    return mesh.vertices[used], numbers.reshape(-1, 3)
