"""The network that completes what was seen from one side, from simulated scans of artist meshes.

meshgpt train completion --data data/artist-kits --out runs/completion

A scan takes longer to simulate than to learn from: each is kept in OUT/scenes when it is made, and shown several times, turned and
mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from meshgpt import checkpoint
from meshgpt.cloud import Cloud
from meshgpt.completion_network import CompletionConfig, CompletionNetwork
from meshgpt.denoise import without_floating
from meshgpt.mesh import sample_surface
from meshgpt.scans import DepthCamera, seen_by, towards
from meshgpt.scene import TURNS, Frame, Scene, in_eights
from meshgpt.surface_grid import sheets_of
from meshgpt.symmetry import Mirror

from .augment import Augmentation, augment
from .loop import Loop, LoopOptions
from .sources import MeshSet
from .vqvae import read_splits
from .workers import begin_worker

SURFACE = 12_288  # points of the whole shape
FEWEST = 200  # points of a scan
TRIED = 300  # points that are mirrored to find planes
OFF = 0.07  # of the way: how far the eye is estimated wrongly (a standard deviation)
HEIGHTS, DISTANCES, PIXELS, NOISE = (5, 60), (1.5, 3.0), (88, 128), 0.0015
MEASURED = 96  # scans that are measured


@dataclass(frozen=True)
class CompletionOptions:
    """Train the network that completes scans from one side."""

    data: str
    """A prepared parquet file, or a folder with train, val (and test) parquet files."""
    out: str
    """Folder of the run and its model."""
    model: CompletionConfig = field(default_factory=CompletionConfig)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=3_000, learning_rate=2e-3, warmup=50))
    shapes: int = 8
    """Scans in a batch."""
    max_faces: int = 800
    """Larger meshes are left out."""


class ScanBatch(NamedTuple):
    """What is known of scans, and where the whole shapes have sheets, in eights of cells; the middles and normals of these, in order."""

    grid: Float[Tensor, "b d d d k"]
    there: Bool[Tensor, "b d d d e"]
    middle: Float[Tensor, "n 3"]
    normal: Float[Tensor, "n 3"]

    @property
    def size(self) -> int:
        return len(self.grid)

    def to(self, device: torch.device | str) -> ScanBatch:
        return ScanBatch(*(part.to(device) for part in self))


class CompletionObjective(nn.Module):
    """How wrong the network is, for each sheet that there is."""

    def __init__(self, network: CompletionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: ScanBatch) -> dict[str, Tensor]:
        guess = self.network(batch.grid)
        there = functional.binary_cross_entropy_with_logits(guess.there, batch.there.float(), reduction="sum") / batch.there.sum()
        middle = (guess.middle.movedim(-2, -1)[batch.there] - batch.middle).abs().mean()
        normal = 1 - functional.cosine_similarity(guess.normal.movedim(-2, -1)[batch.there], batch.normal).mean()
        return {"loss": there + 3 * middle + normal, "there": there, "middle": middle, "normal": normal}


class Scans(Dataset):
    """Indexed by (epoch, indices): one batch. Scan `index` is of the mesh of that number; an epoch turns and mirrors it."""

    def __init__(self, meshes: MeshSet, cells: int, folder: Path, seed: int) -> None:
        self.meshes, self.cells, self.folder, self.seed = meshes, cells, folder, seed

    def __getitem__(self, wanted: tuple[int, list[int]]) -> ScanBatch:
        epoch, indices = wanted
        grids, there, middles, normals = zip(*(self._sample(epoch, index) for index in indices), strict=True)
        parts = np.stack(grids), np.stack(there), np.concatenate(middles), np.concatenate(normals)
        return ScanBatch(*(torch.from_numpy(part) for part in parts))

    def _sample(self, epoch: int, index: int) -> tuple[np.ndarray, ...]:
        scene, surface = self.kept(index)
        way = TURNS[int(np.random.default_rng((self.seed, epoch, index)).integers(len(TURNS)))] if epoch >= 0 else np.eye(3)
        sheets = sheets_of(np.concatenate([surface[:, :3] @ way.T, surface[:, 3:] @ way.T], 1), self.cells)
        there = in_eights(sheets.there)
        middle, normal = (_in_order(part, there) for part in (sheets.middle, sheets.normal))
        return scene.turned(way).grid(self.cells), there, middle, normal

    def kept(self, index: int) -> tuple[Scene, Float[np.ndarray, "n 6"]]:
        """Scan and surface, made once."""
        path = self.folder / f"{index:06}.safetensors"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, *scanned(self.meshes, index, np.random.default_rng((self.seed, index))))
        return _read(path)


def _in_order(values: Float[np.ndarray, "s 3 c c c"], there: Bool[np.ndarray, "d d d e"]) -> Float[np.ndarray, "n 3"]:
    """The values of the sheets, as these lie in eights."""
    return np.stack([in_eights(values[:, axis])[there] for axis in range(3)], 1)


def scanned(meshes: MeshSet, index: int, rng: np.random.Generator) -> tuple[Scene, Float[np.ndarray, "n 6"]]:
    """A mesh, changed by chance, as it is seen from one side; and points on all of it, in the frame of the scan."""
    for _ in range(20):
        mesh = augment(meshes.mesh(index), rng, Augmentation(quarter_turns=0.85))
        distance = rng.uniform(*DISTANCES)
        view = 2 * np.degrees(np.arctan(0.77 / distance))
        camera = DepthCamera(int(rng.integers(*PIXELS)), distance, view, rng.uniform(0, NOISE))
        out = towards(rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(*HEIGHTS)))
        positions = seen_by(camera, out, mesh, rng)
        if len(positions) >= FEWEST:
            break
    else:
        return scanned(meshes, (index + 1) % len(meshes), rng)
    positions = without_floating(Cloud(positions)).positions
    frame = Frame.of(positions)
    eye = frame.apply(distance * (out + rng.normal(0, OFF, 3)) * np.exp(rng.normal(0, 0.2)))
    surface = sample_surface(mesh, SURFACE, rng)
    surface[:, :3] = frame.apply(surface[:, :3])
    return Scene.of(frame.apply(positions), eye, TRIED), surface


def _write(path: Path, scene: Scene, surface: Float[np.ndarray, "n 6"]) -> None:
    planes = np.array([[mirror.place, mirror.matched, mirror.free] for mirror in scene.mirrors])
    beside = path.with_suffix(".new")
    save_file(
        {"points": scene.points.astype(np.float16), "eye": scene.eye, "planes": planes, "surface": surface.astype(np.float16)}, beside
    )
    beside.replace(path)


def _read(path: Path) -> tuple[Scene, Float[np.ndarray, "n 6"]]:
    kept = load_file(path)
    first, second = (Mirror(axis, *plane) for axis, plane in zip((0, 2), kept["planes"].tolist(), strict=True))
    return Scene(kept["points"].astype(np.float64), kept["eye"], (first, second)), kept["surface"].astype(np.float64)


class _Orders:
    """(epoch, indices) for ever, each scan once in an epoch, without the first batches."""

    def __init__(self, count: int, size: int, seed: int, skip: int) -> None:
        self.count, self.size, self.seed, self.skip = count, size, seed, skip

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        per_epoch = max(1, self.count // self.size)
        number = self.skip
        while True:
            epoch, at = divmod(number, per_epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            yield epoch, order[at * self.size : (at + 1) * self.size].tolist()
            number += 1


def run(options: CompletionOptions) -> dict[str, float]:
    """Train; returns the last validation."""
    torch.manual_seed(options.loop.seed)
    meshes, held_out = read_splits(options.data, options.max_faces)
    network = CompletionNetwork(options.model)
    objective = CompletionObjective(network)
    loop = Loop(objective, options.out, options.loop)
    cells, scenes = options.model.cells, Path(options.out) / "scenes"
    orders = _Orders(len(meshes), options.shapes, options.loop.seed, loop.skip)
    training = DataLoader(
        Scans(meshes, cells, scenes / "train", options.loop.seed),
        sampler=orders,
        batch_size=None,
        num_workers=options.loop.workers,
        worker_init_fn=begin_worker,
    )
    measured = Scans(held_out, cells, scenes / "val", options.loop.seed)

    def save(out: Path) -> None:
        checkpoint.write(out, {"kind": "completion", "completion": checkpoint.to_json(network.config)}, checkpoint.tensors_of(network))

    return loop.run(iter(training), lambda: measure(objective, measured, options.shapes, loop.device), save)


@torch.no_grad()
def measure(objective: CompletionObjective, scans: Scans, size: int, device: torch.device) -> dict[str, float]:
    """Losses of scans of other meshes, and which share of the sheets that are guessed is there, and of those there is guessed."""
    total: dict[str, float] = {}
    count = min(MEASURED, len(scans.meshes))
    for start in range(0, count, size):
        batch = scans[-1, list(range(start, min(start + size, count)))].to(device)
        guessed, there = objective.network(batch.grid).there > 0, batch.there
        hits = (guessed & there).sum()
        values = {**objective(batch), "precision": hits / guessed.sum().clamp(min=1), "recall": hits / there.sum()}
        for name, value in values.items():
            total[name] = total.get(name, 0) + float(value) * batch.size / count
    return total


if __name__ == "__main__":
    import sys

    from meshgpt.cli import main

    sys.exit(main(["train", "completion", *sys.argv[1:]]))
