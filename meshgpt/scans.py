"""Clouds as the world gives them: what becomes of the points of a shape when a scanner, or a mesh generator, stands in between.

    clean            points with normals, as they are on the surface
    noise            moved by 1 % of the longest side (a normal distribution on each axis); the normals stay
    points-512       512 of them; points-256: 256
    no-normals       without normals
    scan             what a depth camera sees from one side: holes, noise that grows with the distance, flying pixels, no normals
    scan-4           the same from four sides
    marching-cubes   points of a dense mesh of the outside; double-shell: of both sides of a shell around the surface

Shapes lie in the cube, and lengths are shares of its side. It knows meshes and points. It does not know models.

n  points      h, w  pixels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from meshgpt.cloud import Cloud, import_open3d, thinned
from meshgpt.dense import CELL, dense_of, double_shell
from meshgpt.mesh import Mesh, sample_surface

NOISE = 0.01
CLEAN = "clean"


@dataclass(frozen=True)
class DepthCamera:
    """A structured-light camera: `distance` sides away from the shape, `pixels` a side, noise in depth of `noise` x depth^2 (Khoshelham &
    Elberink 2012). Where depth jumps by more than `jump`, the share `flying` of the pixels comes out anywhere in between, or, where there
    is nothing behind, up to `drift` too far."""

    pixels: int = 160
    distance: float = 2.0
    field_of_view: float = 42.0  # degrees
    noise: float = 0.001
    jump: float = 0.05
    flying: float = 0.3
    drift: float = 0.1


Condition = Callable[[Mesh, Cloud, np.random.Generator], Cloud]


def degraded(condition: str, mesh: Mesh, cloud: Cloud, rng: np.random.Generator) -> Cloud:
    """The cloud that is shown instead of the clean `cloud` of a mesh. ValueError where there is no such condition."""
    if condition not in CONDITIONS:
        raise ValueError(f"the condition {condition!r} is unknown; use {', '.join(CONDITIONS)}")
    return CONDITIONS[condition](mesh, cloud, rng)


def noisy(cloud: Cloud, share: float, rng: np.random.Generator) -> Cloud:
    """Each point moved by a normal distribution of `share` of the longest side on each axis; normals stay as they are."""
    side = float(np.ptp(cloud.positions, axis=0).max())
    return replace(cloud, positions=cloud.positions + rng.normal(scale=share * side, size=cloud.positions.shape))


def scan(mesh: Mesh, views: int, rng: np.random.Generator, camera: DepthCamera | None = None) -> Cloud:
    """What a depth camera sees, from one side or from several that are spread around the shape; no normals."""
    camera, turn = camera or DepthCamera(), rng.uniform(0, 2 * np.pi)
    outs = (towards(turn + 2 * np.pi * view / views, rng.uniform(np.radians(15), np.radians(45))) for view in range(views))
    return Cloud(np.concatenate([seen_by(camera, out, mesh, rng) for out in outs]))


def towards(turn: float, height: float) -> Float[np.ndarray, "3"]:
    """The direction in which a camera is that stands so high above the horizon (radians), turned about y."""
    return np.array([np.cos(height) * np.sin(turn), np.sin(height), np.cos(height) * np.cos(turn)])


def seen_by(camera: DepthCamera, out: Float[np.ndarray, "3"], mesh: Mesh, rng: np.random.Generator) -> Float[np.ndarray, "n 3"]:
    """The points that a camera sees in the direction `out`, which looks at the middle of the cube."""
    right = np.cross([0.0, 1.0, 0.0], out)
    right /= np.linalg.norm(right)
    reach = np.tan(np.radians(camera.field_of_view) / 2) * (2 * (np.arange(camera.pixels) + 0.5) / camera.pixels - 1)
    across, down = np.meshgrid(reach, reach)
    rays = across[..., None] * right - down[..., None] * np.cross(out, right) - out  # one unit deep
    depth = spoiled(_depths(mesh, camera.distance * out, rays), camera, rng)
    return (camera.distance * out + depth[..., None] * rays)[np.isfinite(depth)]


def _depths(mesh: Mesh, eye: Float[np.ndarray, "3"], rays: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Infinite where a ray hits nothing."""
    open3d = import_open3d("a depth camera")
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(open3d.core.Tensor(mesh.vertices.astype(np.float32)), open3d.core.Tensor(mesh.faces.astype(np.uint32)))
    both = np.concatenate([np.broadcast_to(eye, rays.shape), rays], -1).astype(np.float32)
    return scene.cast_rays(open3d.core.Tensor(both))["t_hit"].numpy().astype(np.float64)


def spoiled(depth: Float[np.ndarray, "h w"], camera: DepthCamera, rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A depth image as the camera gives it; pixels that see nothing stay infinite."""
    hit, way, axis = np.isfinite(depth), int(rng.choice([-1, 1])), int(rng.integers(2))
    deep = np.where(hit, depth, 0)
    gap = np.where(np.roll(hit, way, axis), np.roll(deep, way, axis) - deep, camera.drift)
    flies = (np.abs(gap) > camera.jump) & (rng.random(depth.shape) < camera.flying)
    moved = deep + flies * rng.random(depth.shape) * gap + rng.normal(size=depth.shape) * camera.noise * deep**2
    return np.where(hit, moved, np.inf)


def _few(count: int) -> Condition:
    return lambda mesh, cloud, rng: thinned(cloud, count, rng)


def _points_of(mesh: Mesh, count: int, rng: np.random.Generator) -> Cloud:
    points = sample_surface(mesh, count, rng)
    return Cloud(points[:, :3], points[:, 3:])


CONDITIONS: dict[str, Condition] = {
    CLEAN: lambda mesh, cloud, rng: cloud,
    "noise": lambda mesh, cloud, rng: noisy(cloud, NOISE, rng),
    "points-512": _few(512),
    "points-256": _few(256),
    "no-normals": lambda mesh, cloud, rng: replace(cloud, normals=None),
    "scan": lambda mesh, cloud, rng: scan(mesh, 1, rng),
    "scan-4": lambda mesh, cloud, rng: scan(mesh, 4, rng),
    "marching-cubes": lambda mesh, cloud, rng: _points_of(dense_of(mesh), len(cloud), rng),
    "double-shell": lambda mesh, cloud, rng: _points_of(double_shell(mesh, CELL), len(cloud), rng),
}
