"""Changes of a training mesh and of the cloud that it is shown as; each takes its random generator.

Meshes and clouds lie in the cube. It knows arrays. It does not know files, tokens or batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from meshgpt.mesh import Fit, Mesh


@dataclass(frozen=True)
class Augmentation:
    """How far a mesh is changed. `quarter_turns` is the share of turns about y that keep walls parallel to the axes."""

    stretch: tuple[float, float] = (0.75, 1.25)
    quarter_turns: float = 0.7
    mirror: float = 0.5
    shrink: float = 0.08
    shift: float = 0.02


def augment(mesh: Mesh, rng: np.random.Generator, how: Augmentation) -> Mesh:
    """Stretched per axis, turned about y, mirrored, fitted to the cube again, then made a little smaller and moved."""
    vertices = mesh.vertices * rng.uniform(*how.stretch, 3)
    quarter = rng.random() < how.quarter_turns
    angle = rng.integers(4) * np.pi / 2 if quarter else rng.uniform(0, 2 * np.pi)
    vertices = vertices @ _turn_about_y(angle).T
    faces = mesh.faces
    if rng.random() < how.mirror:
        vertices, faces = vertices * [-1, 1, 1], faces[:, ::-1]
    vertices = Fit.of(vertices).apply(vertices) * rng.uniform(1 - how.shrink, 1)
    return Mesh(vertices + rng.uniform(-how.shift, how.shift, 3), faces)


def _turn_about_y(angle: float) -> Float[np.ndarray, "3 3"]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


@dataclass(frozen=True)
class Degradation:
    """How bad a training cloud may be. Lengths are in cube units; each kind strikes with its own probability."""

    probability: float = 0.5
    fewest_points: int = 256
    noise: float = 0.01
    patch: float = 0.25
    normal_jitter: float = 0.3
    no_normals: float = 0.2


def degrade(surface: Float[np.ndarray, "n 6"], rng: np.random.Generator, how: Degradation) -> Float[np.ndarray, "m 6"]:
    """Like a scan: points missing here and everywhere, moved, with normals that are off or absent (zeros)."""
    out = surface.copy()
    strikes = rng.random(4) < how.probability
    if strikes[0]:
        out = out[rng.random(len(out)) < np.exp(rng.uniform(np.log(min(1.0, how.fewest_points / len(out))), 0))]
        out = out if len(out) >= how.fewest_points else surface[rng.permutation(len(surface))[: how.fewest_points]]
    if strikes[1]:
        out = _without_patch(out, rng, how)
    if strikes[2]:
        out[:, :3] += rng.normal(0, rng.uniform(0, how.noise), (len(out), 3))
    if strikes[3]:
        out[:, 3:] += rng.normal(0, rng.uniform(0, how.normal_jitter), (len(out), 3))
        out[:, 3:] /= np.maximum(np.linalg.norm(out[:, 3:], axis=1, keepdims=True), 1e-9)
    if rng.random() < how.no_normals:
        out[:, 3:] = 0
    return out


def _without_patch(surface: Float[np.ndarray, "n 6"], rng: np.random.Generator, how: Degradation) -> Float[np.ndarray, "m 6"]:
    centre = surface[rng.integers(len(surface)), :3]
    far = np.linalg.norm(surface[:, :3] - centre, axis=1) > rng.uniform(0, how.patch)
    return surface[far] if far.sum() >= how.fewest_points else surface
