"""Training samples: a mesh of the set, changed by chance, its canonical corners, and the cloud it is shown as.

Everything is numpy and runs in data workers; a sample is a pure function of (seed, epoch, index). It does not know networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from meshgpt.conditioners import pick_points
from meshgpt.mesh import Mesh, corners_of, sample_surface
from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.tokenizer.interface import MeshTokenizer
from meshgpt.tokenizer.vqvae import Faces, pad_faces

from .augment import Augmentation, Degradation, augment, degrade
from .batches import Batches
from .missteps import Missteps, astray
from .sources import MeshSet
from .workers import begin_worker

DENSE = 4


class Batch(NamedTuple):
    """Padded faces, the clouds they are shown as (none without `points`), and a seed for what is random on the device.

    With a tokenizer in the recipe also padded ids and how many steps of each row are real; and what should be written at each step,
    where that is something else.
    """

    faces: Faces
    surface: Float[Tensor, "b p 6"] | None
    seed: int
    ids: Int[Tensor, "b t w"] | None = None
    lengths: Int[Tensor, "b"] | None = None
    written: Int[Tensor, "b t w"] | None = None

    @property
    def size(self) -> int:
        """Faces."""
        return int(self.faces.keep.sum())

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(part if part is None or isinstance(part, int) else part.to(device) for part in self))


@dataclass(frozen=True)
class Recipe:
    """How a mesh becomes a sample. `points` 0 leaves the cloud out; without augmentation and degradation it is validation.

    A tokenizer here runs in the workers; a learned one is left to the device.
    """

    bins: int = 128
    points: int = 0
    tokenizer: MeshTokenizer | None = None
    augmentation: Augmentation | None = None
    degradation: Degradation | None = None
    missteps: Missteps | None = None
    seed: int = 0

    def corners(self, mesh: Mesh) -> np.ndarray:
        return corners_of(mesh, self.bins)

    def surface(self, mesh: Mesh, rng: np.random.Generator) -> np.ndarray | None:
        if not self.points:
            return None
        dense = sample_surface(mesh, DENSE * self.points, rng)
        if self.degradation is not None:
            dense = degrade(dense, rng, self.degradation)
        return pick_points(dense, self.points, rng)


class Samples(Dataset):
    """Indexed by (epoch, indices): one whole batch at a time, so that a worker pads it too."""

    def __init__(self, meshes: MeshSet, recipe: Recipe) -> None:
        self.meshes, self.recipe = meshes, recipe

    def __getitem__(self, wanted: tuple[int, list[int]]) -> Batch:
        epoch, indices = wanted
        corners, surfaces = zip(*(self._sample(epoch, index) for index in indices), strict=True)
        surface = None if surfaces[0] is None else torch.from_numpy(np.stack(surfaces))
        seed = int(np.random.default_rng((self.recipe.seed, epoch, indices[0])).integers(2**31))
        return Batch(pad_faces(list(corners)), surface, seed, *self._steps(corners, seed))

    def _steps(self, corners: tuple[np.ndarray, ...], seed: int) -> tuple[Tensor, ...]:
        tokenizer, how = self.recipe.tokenizer, self.recipe.missteps
        if tokenizer is None:
            return ()
        rows = [tokenizer.encode(mesh) for mesh in corners]
        lengths = torch.tensor([len(row) for row in rows])
        if how is None or not isinstance(tokenizer, GatesTokenizer):
            return _padded(rows), lengths
        rng = np.random.default_rng(seed)
        taken, written = zip(*(astray(row, tokenizer, rng, how) for row in rows), strict=True)
        return _padded(taken), lengths, _padded(written)

    def _sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        rng = np.random.default_rng((self.recipe.seed, epoch, index))
        mesh = self.meshes.mesh(index)
        if self.recipe.augmentation is not None:
            changed = augment(mesh, rng, self.recipe.augmentation)
            # A stretch can press a small mesh into fewer than one face at these bins; then it is shown as it is.
            mesh = changed if len(self.recipe.corners(changed)) else mesh
        return self.recipe.corners(mesh), self.recipe.surface(mesh, rng)


def _padded(rows: Sequence[np.ndarray]) -> Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)


def loader(meshes: MeshSet, recipe: Recipe, batches: Batches, skip: int = 0, workers: int = 1) -> Iterator[Batch]:
    """Batches for ever, made in `workers` processes (0: in this one), without the first `skip`."""
    return iter(
        DataLoader(
            Samples(meshes, recipe),
            sampler=_Endless(batches, skip),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=begin_worker,
        )
    )


class _Endless:
    def __init__(self, batches: Batches, skip: int) -> None:
        self.batches, self.skip = batches, skip

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return self.batches.endless(self.skip)
