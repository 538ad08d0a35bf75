"""Stage 3: the transformer learns to write meshes, seeing their clouds.

meshgpt train transformer --data data/artist-kits --out runs/transformer
accelerate launch -m meshgpt.train.transformer --data data/artist-kits --out runs/transformer
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from meshgpt.conditioners import PointCloudConfig, SurroundingsConfig
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.model import MeshGPT, read_tokenizer
from meshgpt.steps import StepModel, StepModelConfig
from meshgpt.tokenizer import describe
from meshgpt.tokenizer.gates import GatesTokenizer
from meshgpt.tokenizer.interface import MeshTokenizer
from meshgpt.tokenizer.vqvae import VQVAETokenizer
from meshgpt.transformer import TransformerConfig

from .augment import Augmentation, Degradation
from .data import Batch, Recipe, loader
from .loop import Loop, LoopOptions
from .missteps import Missteps
from .sources import MeshSet
from .vqvae import batches_for, read_splits, validation_batches


@dataclass(frozen=True)
class Sizes:
    """How large the networks are; what the tokenizer fixes is taken from it."""

    body: TransformerConfig = field(default_factory=lambda: TransformerConfig(dim=256, layers=4, heads=4))
    cloud: PointCloudConfig = field(default_factory=lambda: PointCloudConfig(points=2048))
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    depth_dim: int = 192
    depth_hidden: int = 256
    depth_layers: int = 2
    depth_code: int = 96


@dataclass(frozen=True)
class TransformerOptions:
    """Train the transformer on the steps of a tokenizer."""

    data: str
    """A prepared parquet file, or a folder with train, val (and test) parquet files."""
    out: str
    """Folder of the run and its model."""
    tokenizer: str = "gates"
    """The name of a tokenizer that needs no training, or a folder with a trained VQ-VAE."""
    model: Sizes = field(default_factory=Sizes)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=20_000, learning_rate=1e-3))
    augment: Augmentation | None = field(default_factory=Augmentation)
    degrade: Degradation | None = field(default_factory=Degradation)
    missteps: Missteps | None = field(default_factory=Missteps)
    """Only for gates."""
    max_faces: int = 800
    """Larger meshes are left out."""
    drop: float = 0.1
    """Share of meshes shown without their cloud, for classifier-free guidance."""
    start_from: str = ""
    """A trained model (folder, hub name, or one that ships) of the same tokenizer, whose sizes and weights this run starts with."""
    validate_on: int = 200
    """Meshes of the validation split that are looked at each time."""


class TransformerObjective(nn.Module):
    """Nats per face of whole sequences, END included. The tokenizer's network is frozen, and no part of what is trained."""

    def __init__(self, network: StepModel | GateModel, tokenizer: MeshTokenizer, drop: float) -> None:
        super().__init__()
        self.network, self.drop = network, drop
        self.tokenizer = [tokenizer]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        ids, lengths = steps_of(batch, self.tokenizer[0])
        drop = torch.rand(len(ids), device=ids.device) < self.drop if self.drop else None
        astray = {} if batch.written is None else {"written": batch.written}
        loss = self.network(ids, lengths, batch.surface, drop, **astray).sum() / batch.faces.keep.sum()
        return {"loss": loss, "bits_per_face": loss / math.log(2)}


def steps_of(batch: Batch, tokenizer: MeshTokenizer) -> tuple[Tensor, Tensor]:
    """The ids of a batch: from the workers, or from a learned tokenizer on the device, at full precision."""
    if batch.ids is not None and batch.lengths is not None:
        return batch.ids, batch.lengths
    with torch.autocast(batch.faces.corners.device.type, enabled=False):
        return tokenizer.network.encode(batch.faces), batch.faces.keep.sum(1)


def run(options: TransformerOptions) -> dict[str, float]:
    """Train; returns the last validation."""
    torch.manual_seed(options.loop.seed)
    tokenizer = read_tokenizer(options.tokenizer)
    meshes, held_out = read_splits(options.data, options.max_faces)
    network = trained_network(options.start_from, tokenizer) if options.start_from else new_network(tokenizer, options.model)
    loop = Loop(TransformerObjective(network, tokenizer, options.drop), options.out, options.loop)
    learned = isinstance(tokenizer, VQVAETokenizer)
    if learned:
        tokenizer.network.to(loop.device).eval()
    recipe = Recipe(
        tokenizer.bins,
        network.config.cloud.points,
        None if learned else tokenizer,
        options.augment,
        options.degrade,
        options.missteps,
        options.loop.seed,
    )
    batches = batches_for(meshes, options.loop, loop)
    training = loader(meshes, recipe, batches, loop.skip, options.loop.workers)
    few = held_out.subset(range(min(options.validate_on, len(held_out))))
    return loop.run(
        training,
        lambda: bits_per_face(network, tokenizer, few, recipe, options.loop.faces, loop.device),
        lambda out: MeshGPT(tokenizer, network).save(out),
    )


def trained_network(place: str, tokenizer: MeshTokenizer) -> StepModel | GateModel:
    """The network of a trained model; ValueError where it writes another tokenizer's steps."""
    trained = MeshGPT.from_pretrained(place, device="cpu")
    own, wanted = (describe(one)["name"] for one in (trained.tokenizer, tokenizer))
    if own != wanted:
        raise ValueError(f"{place} writes {own} and not {wanted}; pass its --tokenizer")
    return trained.network.train()


def new_network(tokenizer: MeshTokenizer, sizes: Sizes) -> StepModel | GateModel:
    """An untrained model for the steps of this tokenizer."""
    if isinstance(tokenizer, GatesTokenizer):
        return GateModel(
            GateModelConfig(
                tokenizer.bins, sizes.body, sizes.cloud, sizes.surroundings, sizes.depth_dim, sizes.depth_hidden, sizes.depth_layers
            )
        )
    has_places = tokenizer.places is not None
    fixed = {"vocab": tokenizer.vocab, "width": tokenizer.width, "spell": tokenizer.spell, "has_places": has_places, "bins": tokenizer.bins}
    network = StepModel(StepModelConfig(**fixed, **vars(sizes)))
    network.depth.shifts.copy_(tokenizer.shifts)
    if has_places:
        network.places.copy_(tokenizer.places)
        network.depth.offsets.copy_(tokenizer.offsets)
    return network


@torch.no_grad()
def bits_per_face(
    network: StepModel | GateModel, tokenizer: MeshTokenizer, meshes: MeshSet, recipe: Recipe, faces: int, device: torch.device
) -> dict[str, float]:
    """Bits of the whole sequences, END included, per face, on meshes and clouds as they are: comparable across tokenizers."""
    nats = count = 0.0
    for batch in validation_batches(meshes, replace(recipe, seed=1), faces):
        batch = batch.to(device)
        ids, lengths = steps_of(batch, tokenizer)
        nats += float(network(ids, lengths, batch.surface).sum())
        count += int(batch.faces.keep.sum())
    return {"bits_per_face": nats / math.log(2) / count}


if __name__ == "__main__":
    import sys

    from meshgpt.cli import main

    sys.exit(main(["train", "transformer", *sys.argv[1:]]))
