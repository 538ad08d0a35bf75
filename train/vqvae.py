"""Stage 1: the VQ-VAE learns a codebook for faces from noise-augmented artist meshes.

meshgpt train vqvae --data data/artist-kits --out runs/vqvae
accelerate launch -m meshgpt.train.vqvae --data data/artist-kits --out runs/vqvae
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from meshgpt import checkpoint
from meshgpt.tokenizer.quantizer import perplexity
from meshgpt.tokenizer.vqvae import VQVAE, VQVAEConfig

from .augment import Augmentation
from .batches import Batches
from .data import Batch, Recipe, Samples, loader
from .loop import Loop, LoopOptions
from .sources import MeshSet, read_parquet, split

MEASURED_BATCHES = 40


@dataclass(frozen=True)
class VQVAEOptions:
    """Train the VQ-VAE tokenizer."""

    data: str
    """A prepared parquet file, or a folder with train, val (and test) parquet files."""
    out: str
    """Folder of the run and its model."""
    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=4_000, learning_rate=6e-4))
    augment: Augmentation | None = field(default_factory=Augmentation)
    max_faces: int = 800
    """Larger meshes are left out."""
    noise_bins: float = 0.5
    """Largest standard deviation of the vertex noise that the encoder is shown, in bins; the target stays clean."""


class VQVAEObjective(nn.Module):
    def __init__(self, network: VQVAE, noise_bins: float) -> None:
        super().__init__()
        self.network, self.noise_bins = network, noise_bins

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.network(batch.faces, self._jitter(batch))
        return {
            "loss": losses.reconstruction + losses.commitment,
            "reconstruction": losses.reconstruction,
            "commitment": losses.commitment,
        }

    def _jitter(self, batch: Batch) -> Tensor | None:
        """Half of the batches are clean; in the others every vertex moves by a random share of the largest noise."""
        if batch.seed % 2 or not self.noise_bins:
            return None
        vertices = batch.faces.vertices
        noise = torch.randn(vertices.shape, device=vertices.device)
        return noise * torch.rand((), device=vertices.device) * self.noise_bins * 2 / self.network.config.bins


def run(options: VQVAEOptions) -> dict[str, float]:
    """Train; returns the last validation."""
    torch.manual_seed(options.loop.seed)
    meshes, held_out = read_splits(options.data, options.max_faces)
    network = VQVAE(options.model)
    loop = Loop(VQVAEObjective(network, options.noise_bins), options.out, options.loop)
    recipe = Recipe(bins=options.model.bins, augmentation=options.augment, seed=options.loop.seed)
    batches = batches_for(meshes, options.loop, loop)
    training = loader(meshes, recipe, batches, loop.skip, options.loop.workers)

    def finish(out: Path) -> None:
        samples = Samples(meshes, recipe)
        network.measure(samples[0, indices].faces.to(loop.device) for indices in batches.epoch(0)[:MEASURED_BATCHES])
        checkpoint.write(out, {"kind": "vqvae", "vqvae": checkpoint.to_json(network.config)}, checkpoint.tensors_of(network))

    return loop.run(training, lambda: reconstruct(network, held_out, options.loop.faces, loop.device), finish)


def read_splits(data: str, max_faces: int) -> tuple[MeshSet, MeshSet]:
    """The training meshes, and those to validate on: the val split, or 2 % of a place that has no splits."""
    train, val = split(data, "train"), split(data, "val")
    if train is not None and val is not None:
        return read_parquet(train).at_most(max_faces), read_parquet(val).at_most(max_faces)
    together = read_parquet(train or data).at_most(max_faces)
    if len(together) < 2:
        raise ValueError(f"{data} holds one mesh only; training needs at least two, one of them to validate on")
    every = max(2, min(50, len(together) // 2))
    numbers = range(len(together))
    return together.subset([i for i in numbers if i % every]), together.subset([i for i in numbers if i % every == 0])


def batches_for(meshes: MeshSet, options: LoopOptions, loop: Loop) -> Batches:
    process, processes = loop.accelerator.process_index, loop.accelerator.num_processes
    return Batches(meshes.face_counts, options.faces, options.seed, process, processes)


def validation_batches(meshes: MeshSet, recipe: Recipe, faces: int) -> Iterator[Batch]:
    """Every mesh once, as it is."""
    samples = Samples(meshes, replace(recipe, augmentation=None, degradation=None, missteps=None, seed=1))
    for indices in Batches(meshes.face_counts, faces).epoch(0):
        yield samples[0, indices]


@torch.no_grad()
def reconstruct(network: VQVAE, meshes: MeshSet, faces: int, device: torch.device) -> dict[str, float]:
    """Shares of corner coordinates that come back exactly and within one bin, and the perplexity of each level's codes."""
    exact = close = coordinates = 0
    ids = []
    for batch in validation_batches(meshes, Recipe(bins=network.config.bins), faces):
        batch = batch.to(device)
        codes = network.encode(batch.faces)
        off = (network.decode(codes, batch.faces.keep) - batch.faces.corners).abs()[batch.faces.keep]
        exact, close, coordinates = exact + int((off == 0).sum()), close + int((off <= 1).sum()), coordinates + off.numel()
        ids.append(codes[batch.faces.keep].unflatten(-1, (3, -1)).flatten(0, 1).cpu())
    used = torch.cat(ids)
    levels = {f"perplexity_{level}": perplexity(used[:, level], network.config.codes) for level in range(network.config.levels)}
    return {"exact": exact / coordinates, "within_one_bin": close / coordinates, **levels}


if __name__ == "__main__":
    import sys

    from meshgpt.cli import main

    sys.exit(main(["train", "vqvae", *sys.argv[1:]]))
