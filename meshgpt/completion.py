"""The unseen side of a cloud that was seen from one side: mirrored, where the shape is its own mirror image, and guessed by a network.

A mirrored point lies where it belongs to the last digit, and the network, which has seen thousands of shapes, says whether one belongs
there, and what is where no mirror shows it. It knows points, what an eye knows, and a network. It does not know meshes.

n  points      s  sides      c  cells along an axis
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from meshgpt import checkpoint
from meshgpt.checkpoint import Checkpoint
from meshgpt.cloud import Cloud
from meshgpt.completion_network import CompletionConfig, CompletionNetwork
from meshgpt.converted import PRETRAINED
from meshgpt.mesh import Fit
from meshgpt.scene import Frame, Scene, out_of_eights
from meshgpt.surface_grid import SIDES, Sheets, places_of, points_on
from meshgpt.viewpoint import only_eye_of


class Completed(NamedTuple):
    """What was seen, with normals that face the eye, and what was added."""

    seen: Cloud
    added: Cloud


# How sure the network is that there is a sheet (a share of 1), for mirrored points, and where there are none.
MIRRORED, ALONE = 0.2, 0.5
# A point is not added within so many usual distances of points that face its way.
APART, ALIKE, AROUND = 1.5, 0.7, 8
ALONG = 4  # points on a sheet, along and across


def whole_of(cloud: Cloud, up: str = "y") -> Completed | None:
    """The cloud and the side that was not seen, if it was seen from one side only."""
    fit, upright = Fit.of(cloud.positions, up), Fit(up=up)
    found = only_eye_of(Cloud(fit.apply(cloud.positions), None if cloud.normals is None else fit.turn(cloud.normals)))
    if found is None:
        return None
    seen, added = completed(fit.apply(cloud.positions), found.eye, shipped())
    return Completed(Cloud(cloud.positions, upright.undo(seen.normals)), Cloud(fit.undo(added.positions), upright.undo(added.normals)))


@cache
def shipped() -> CompletionNetwork:
    """The network inside the package."""
    found = Checkpoint.at(PRETRAINED / "completion")
    network = CompletionNetwork(checkpoint.from_json(CompletionConfig, checkpoint.part(found.read_config(), "completion", found)))
    checkpoint.load_into(network, found.read_weights(), str(found.weights))
    return network.eval()


class Guessed(NamedTuple):
    """How sure it is that there are sheets (0 to 1), their middles and normals."""

    sure: Float[np.ndarray, "s c c c"]
    middle: Float[np.ndarray, "s 3 c c c"]
    normal: Float[np.ndarray, "s 3 c c c"]


def guessed(scene: Scene, network: CompletionNetwork) -> Guessed:
    """What the network makes of a scene."""
    guess = network(torch.from_numpy(scene.grid(network.config.cells))[None])
    middle, normal = (np.stack([out_of_eights(part[0, ..., axis, :].numpy()) for axis in range(3)], 1) for part in guess[1:])
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    return Guessed(out_of_eights(guess.there[0].sigmoid().numpy()), middle, normal)


@torch.inference_mode()
def completed(positions: Float[np.ndarray, "n 3"], eye: Float[np.ndarray, "3"], network: CompletionNetwork) -> Completed:
    """What an eye has seen of a shape, and the rest of it."""
    frame, cells = Frame.of(positions), network.config.cells
    scene = Scene.of(frame.apply(positions), frame.apply(eye))
    sight = scene.sight
    sure, middle, normal = guessed(scene, network)
    nearby, most = _across(sure)
    parts = [scene.points]
    for image in scene.images(sight):
        parts.append(_new(_believed(image, nearby, cells), parts))
    where, _ = places_of(np.concatenate(parts), cells)
    bare = np.ones(sure.size, dtype=bool)
    bare[where] = False
    rest = points_on(Sheets((nearby > ALONE) & (sure >= most) & bare.reshape(sure.shape), middle, normal), ALONG)
    parts.append(_new(rest[sight.behind(rest[:, :3]) > -sight.grain], parts[:1]))
    seen, added = scene.points, np.concatenate(parts[1:])
    return Completed(Cloud(positions, seen[:, 3:]), Cloud(frame.undo(added[:, :3]), added[:, 3:]))


def _across(sure: Float[np.ndarray, "s c c c"]) -> tuple[Float[np.ndarray, "s c c c"], Float[np.ndarray, "s c c c"]]:
    """Sums and maxima over each cell and the ones before and behind it, as its side faces: a network that does not know in which of them a
    sheet is may know that there is one."""
    sums, most = np.empty_like(sure), np.empty_like(sure)
    for side in range(SIDES):
        padded = np.pad(sure[side], [(1, 1) if axis == side // 2 else (0, 0) for axis in range(3)])
        three = np.stack([np.take(padded, range(start, start + sure.shape[1]), side // 2) for start in range(3)])
        sums[side], most[side] = three.sum(0), three.max(0)
    return sums, most


def _believed(points: Float[np.ndarray, "n 6"], sure: Float[np.ndarray, "s c c c"], cells: int) -> Float[np.ndarray, "m 6"]:
    """The points on sheets that the network believes in."""
    inside = (np.abs(points[:, :3]) < 0.5).all(1)
    points = points[inside]
    where, _ = places_of(points, cells)
    return points[sure.reshape(-1)[where] > MIRRORED]


def _new(points: Float[np.ndarray, "n 6"], there: list[Float[np.ndarray, "_m 6"]]) -> Float[np.ndarray, "k 6"]:
    """The points that have none of those that are there, and that face their way, nearby."""
    from scipy.spatial import KDTree

    if not len(points):
        return points
    known = np.concatenate(there)
    tree = KDTree(known[:, :3])
    far = APART * float(np.median(tree.query(there[0][:, :3], k=2)[0][:, 1]))
    apart, which = tree.query(points[:, :3], k=AROUND, distance_upper_bound=far)
    near = np.isfinite(apart)
    cosine = (known[np.where(near, which, 0), 3:] * points[:, None, 3:]).sum(-1)
    return points[~(near & (cosine > ALIKE)).any(1)]
