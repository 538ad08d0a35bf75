"""What is compared in an evaluation: a model, baselines, or a folder of finished meshes. Each gives one mesh for a shape.

meshgpt            the model's sample (of several, the one nearest to the cloud)
poisson, ...       a baseline by its name (meshgpt/baselines.py)
path/to/meshes     the file there that is named like the mesh
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from meshgpt.baselines import BASELINES, Shape
from meshgpt.cloud import Cloud
from meshgpt.dense import dense_of
from meshgpt.files import MESH_ENDINGS, read_mesh
from meshgpt.gallery import Gallery
from meshgpt.generate import Sampling
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.model import MeshGPT
from meshgpt.scans import CLEAN, degraded

from .sources import MeshSet

CLOUD_POINTS = 8_192
MODEL = "meshgpt"


class Task:
    """One mesh of the split: what is shown, in a condition, and what should come of it. All in the cube."""

    def __init__(self, meshes: MeshSet, index: int, seed: int, condition: str = CLEAN) -> None:
        self.id, self.reference = meshes.ids[index], meshes.mesh(index)
        self.seeds, self.condition = (seed, index), condition

    @cached_property
    def cloud(self) -> Cloud:
        rng = np.random.default_rng(self.seeds)
        surface = sample_surface(self.reference, CLOUD_POINTS, rng)
        return degraded(self.condition, self.reference, Cloud(surface[:, :3], surface[:, 3:]), rng)

    @cached_property
    def dense(self) -> Mesh:
        """The reference as a scanner would give it."""
        return dense_of(self.reference)


Method = Callable[[Task], Mesh]


def method(name: str, model: Callable[[], MeshGPT], best_of: int, seed: int, sampling: Sampling, gallery: Callable[[], Gallery]) -> Method:
    """The method of that name. ValueError or FileNotFoundError, with one sentence, where there is none."""
    if name == MODEL:
        return _of_model(model(), best_of, seed, sampling)
    if name in BASELINES:
        return _of_baseline(name, gallery() if name == "retrieval" else None)
    return _of_folder(Path(name))


def _of_model(model: MeshGPT, best_of: int, seed: int, sampling: Sampling) -> Method:
    def sample(task: Task) -> Mesh:
        return min(model.samples(task.cloud, best_of, seed, sampling=sampling), key=lambda found: found.distance).mesh

    return sample


def _of_baseline(name: str, gallery: Gallery | None) -> Method:
    def build(task: Task) -> Mesh:
        needs_dense = name in ("decimated", "decimated_fast", "instant_meshes")
        return BASELINES[name](Shape(task.cloud, task.dense if needs_dense else task.reference, len(task.reference.faces), gallery))

    return build


def _of_folder(folder: Path) -> Method:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no method: name {MODEL}, a folder of finished meshes, or one of {', '.join(BASELINES)}")

    def read(task: Task) -> Mesh:
        found = [path for path in (folder / f"{file_stem(task.id)}{ending}" for ending in MESH_ENDINGS) if path.is_file()]
        if not found:
            raise ValueError(f"{folder.name} holds no mesh named {file_stem(task.id)}")
        return read_mesh(found[0])

    return read


def file_stem(id: str) -> str:
    """An id as a file name: what is no letter, digit, dot, dash or underscore becomes an underscore."""
    return "".join(letter if letter.isalnum() or letter in ".-_" else "_" for letter in id).lstrip(".") or "_"


def unmatched(name: str, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """For a folder of finished meshes: the ids without a file, and the files without an id. Nothing for other methods."""
    if name == MODEL or name in BASELINES:
        return [], []
    stems = {path.stem for path in Path(name).iterdir() if path.suffix.lower() in MESH_ENDINGS}
    wanted = {file_stem(id): id for id in ids}
    return [id for stem, id in wanted.items() if stem not in stems], sorted(stems - wanted.keys())
