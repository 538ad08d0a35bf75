"""Stage 2: the decoder alone learns to read codes that are partly wrong, with the shape in sight.

    meshgpt train decoder --data data/artist-kits --vqvae runs/vqvae --out runs/decoder
    accelerate launch -m meshgpt.train.decoder --data data/artist-kits --vqvae runs/vqvae --out runs/decoder

A transformer makes mistakes that the VQ-VAE's decoder never saw. Codes drawn with noise stand in for them (MeshAnything, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from meshgpt import checkpoint
from meshgpt.conditioners import PointCloudConfig
from meshgpt.model import read_tokenizer
from meshgpt.tokenizer.vqvae import VQVAE, VQVAETokenizer

from .augment import Augmentation, Degradation
from .data import Batch, Recipe, loader
from .loop import Loop, LoopOptions
from .sources import MeshSet
from .vqvae import batches_for, read_splits, validation_batches

REPORTED_NOISE = (0.0, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class DecoderOptions:
    """Fine-tune the decoder of a trained VQ-VAE into the noise-resistant decoder."""

    data: str
    """A prepared parquet file, or a folder with train, val (and test) parquet files."""
    vqvae: str
    """Folder of the trained VQ-VAE."""
    out: str
    """Folder of the run and its model."""
    shape: PointCloudConfig = field(default_factory=lambda: PointCloudConfig(layers=1))
    """How the decoder sees the shape; `out` is set to the decoder's width."""
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=1_000, learning_rate=5e-4))
    max_faces: int = 800
    """Larger meshes are left out."""
    noise: float = 1.0
    """Highest noise level; each batch draws its own between 0 and this."""
    drop: float = 0.1
    """Share of meshes decoded without their cloud, so that `decode` works without one."""
    validate_on: int = 100
    """Meshes of the validation split that are looked at each time."""


class DecoderObjective(nn.Module):
    """Nats of a coordinate when the codes are noisy. Encoder and codebook stay as they are."""

    def __init__(self, network: VQVAE, noise: float, drop: float) -> None:
        super().__init__()
        self.network, self.noise, self.drop = network, noise, drop
        for part in (network.encoder, network.quantizer):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> DecoderObjective:
        super().train(mode)
        self.network.encoder.eval()
        self.network.quantizer.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        faces, device = batch.faces, batch.faces.corners.device
        level = float(torch.rand(())) * self.noise
        codes = self.network.quantizer.vectors(noisy_ids(self.network, batch, level))
        drop = torch.rand(len(faces.keep), device=device) < self.drop
        logits = self.network.decoder(codes[faces.vertex], faces.keep, self.network.decoder.condition(batch.surface, drop))[faces.keep]
        return {"loss": functional.cross_entropy(logits.flatten(0, 2), faces.corners[faces.keep].flatten())}


@torch.no_grad()
def noisy_ids(network: VQVAE, batch: Batch, noise: float) -> Tensor:
    """Ids of each vertex, drawn with noise; the batch's own seed decides."""
    rng = torch.Generator(batch.faces.corners.device).manual_seed(batch.seed)
    faces = batch.faces
    vectors = network.encoder(network.positions(faces.vertices), faces.vertex, faces.keep)
    return network.quantizer.noisy(vectors, noise, rng)


def run(options: DecoderOptions) -> dict[str, float]:
    """Train; returns the last validation."""
    torch.manual_seed(options.loop.seed)
    network = with_sight(options.vqvae, options.shape)
    meshes, held_out = read_splits(options.data, options.max_faces)
    loop = Loop(DecoderObjective(network, options.noise, options.drop), options.out, options.loop)
    recipe = Recipe(
        bins=network.config.bins,
        points=options.shape.points,
        augmentation=Augmentation(),
        degradation=Degradation(),
        seed=options.loop.seed,
    )
    training = loader(meshes, recipe, batches_for(meshes, options.loop, loop), loop.skip, options.loop.workers)
    few = held_out.subset(range(min(options.validate_on, len(held_out))))

    def finish(out: Path) -> None:
        checkpoint.write(out, {"kind": "vqvae", "vqvae": checkpoint.to_json(network.config)}, checkpoint.tensors_of(network))

    return loop.run(training, lambda: resistance(network, few, recipe, options.loop.faces, loop.device), finish)


def with_sight(place: str, shape: PointCloudConfig) -> VQVAE:
    """A trained VQ-VAE whose decoder also sees the shape, through an encoder that is still untrained."""
    tokenizer = read_tokenizer(place)
    if not isinstance(tokenizer, VQVAETokenizer):
        raise ValueError(f"{place} is no VQ-VAE; pass the folder that `meshgpt train vqvae` wrote")
    trained = tokenizer.network
    network = VQVAE(replace(trained.config, shape=replace(shape, out=trained.config.dim)))
    network.load_state_dict(trained.state_dict(), strict=False)
    return network


@torch.no_grad()
def resistance(network: VQVAE, meshes: MeshSet, recipe: Recipe, faces: int, device: torch.device) -> dict[str, float]:
    """The share of exact corner coordinates at each noise level, with the shape in sight."""
    right = dict.fromkeys(REPORTED_NOISE, 0)
    coordinates = 0
    for batch in validation_batches(meshes, recipe, faces):
        batch = batch.to(device)
        keep = batch.faces.keep
        coordinates += int(keep.sum()) * 9
        for noise in REPORTED_NOISE:
            ids = noisy_ids(network, batch, noise)[batch.faces.vertex].flatten(2)
            surface = batch.surface if network.config.shape else None
            right[noise] += int((network.decode(ids, keep, surface) == batch.faces.corners)[keep].sum())
    return {f"exact_at_noise_{noise}": count / coordinates for noise, count in right.items()}


if __name__ == "__main__":
    import sys

    from meshgpt.cli import main

    sys.exit(main(["train", "decoder", *sys.argv[1:]]))
