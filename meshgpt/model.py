"""MeshGPT: a tokenizer and a network that writes its steps; a cloud in, a mesh in the cloud's frame out.

It is the part that a user meets. Files of models are `checkpoint.py`'s, the sampling loop is `generate.py`'s.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meshgpt import checkpoint
from meshgpt.checkpoint import Checkpoint
from meshgpt.cloud import Cloud, checked, surface, thinned, with_normals
from meshgpt.coverage import Coverage
from meshgpt.gate_judge import GateJudge
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.generate import Judge, Sampling, generate
from meshgpt.judge import CloudJudge
from meshgpt.memory import shifted
from meshgpt.mesh import Fit, Mesh, face_normals, mesh_of
from meshgpt.metrics import fit_to_cloud
from meshgpt.precision import fast_float32
from meshgpt.steps import Seen, StepModel, StepModelConfig
from meshgpt.tokenizer import TOKENIZERS, VQVAE, GatesTokenizer, VQVAEConfig, VQVAETokenizer, build, describe
from meshgpt.tokenizer.interface import Grammar, MeshTokenizer

SMALL = 8_192
KEPT_POINTS = 16_384
JUDGED_POINTS = 8_192


@dataclass(frozen=True)
class Sample:
    """One generated mesh, in the frame of its cloud, and how it came about.

    `distance` is `metrics.fit_to_cloud`; `dropped` counts the faces that were written but had no area or stood there already;
    `ended` is false where the face limit cut the mesh off.
    """

    mesh: Mesh
    seed: int
    steps: int
    ended: bool
    dropped: int
    distance: float


class MeshGPT:
    """A model ready to generate; on a GPU where there is one, unless `device` says otherwise."""

    def __init__(self, tokenizer: MeshTokenizer, network: StepModel | GateModel, device: str | torch.device | None = None) -> None:
        self.tokenizer, self.network = tokenizer, network
        if device is not None:
            self.to(device)

    def to(self, device: str | torch.device) -> MeshGPT:
        self.network.to(device)
        if isinstance(self.tokenizer, VQVAETokenizer):
            self.tokenizer.network.to(device)
        return self

    @classmethod
    def from_pretrained(cls, place: str | Path | None = None, revision: str | None = None, device: str | None = None) -> MeshGPT:
        """The model that ships inside the package, or that of a folder, a shipped one's name, or a hub repository ("org/name").

        FileNotFoundError or ValueError with one sentence where there is none, or its files do not fit.
        """
        found = Checkpoint.at(place, revision)
        config = found.read_config()
        if config.get("kind") != "meshgpt":
            raise ValueError(f"{found.config} describes a {config.get('kind')!r}, no whole model; pass the folder of a trained transformer")
        tokenizer = build(checkpoint.part(config, "tokenizer", found))
        network = build_network(tokenizer, checkpoint.part(config, "steps", found))
        _fill(tokenizer, network, found)
        fast_float32()
        return cls(tokenizer, network.eval(), device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def save(self, folder: str | Path, card: str = "", dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors (and the card); floats of large tensors as `dtype` where one is given."""
        config = {"kind": "meshgpt", "tokenizer": describe(self.tokenizer), "steps": checkpoint.to_json(self.network.config)}
        checkpoint.write(folder, config, {name: _as(value, dtype) for name, value in _tensors(self.tokenizer, self.network).items()}, card)

    def generate(
        self, cloud: Cloud | Float[np.ndarray, "n c"], seed: int = 0, up: str = "y", sampling: Sampling | None = None, samples: int = 1
    ) -> Mesh:
        """The mesh of a cloud (points x 3, or x 6 with normals), in the cloud's frame; of several samples the one nearest to it."""
        if isinstance(cloud, np.ndarray):
            cloud = Cloud(cloud[:, :3], cloud[:, 3:] if cloud.shape[1] == 6 else None)
        return min(self.samples(cloud, samples, seed, up, sampling), key=lambda sample: sample.distance).mesh

    def samples(
        self,
        cloud: Cloud,
        count: int = 1,
        seed: int = 0,
        up: str = "y",
        sampling: Sampling | None = None,
        progress: Callable[[int], None] = lambda faces: None,
    ) -> list[Sample]:
        """`count` meshes of one cloud, with seeds seed, seed + 1, ...; `progress` hears how many faces the longest has so far."""
        sampling = sampling or Sampling()
        fit = Fit.of(checked(cloud).positions, up)
        # Seeds are for sampling; which points are shown does not depend on them, so that each seed means one mesh.
        oriented = cloud.normals is not None
        cloud = _with_normals_if_possible(thinned(checked(cloud), KEPT_POINTS, np.random.default_rng(0)))
        shown = self.prepare(cloud, fit)
        seeds = list(range(seed, seed + count))
        judged = sampling.tries > 1 and self.tokenizer.spell > 1 and self.tokenizer.width > 1  # a step is vertices
        judges = [self._judge(cloud, fit, oriented, sampling.max_faces) for _ in seeds] if judged else []
        rows = self._rows(self.stream(shown, seeds, sampling, judges, _in_cube(cloud, fit)), len(seeds), progress)
        return [self._sample(row, one, cloud, fit, shown, sampling) for row, one in zip(rows, seeds, strict=True)]

    def _rows(self, steps: Iterator[Int[np.ndarray, "b w"]], count: int, progress: Callable[[int], None]) -> list[Int[np.ndarray, "n w"]]:
        """The steps of each row, up to its end."""
        rows: list[list[np.ndarray]] = [[] for _ in range(count)]
        for number, step in enumerate(steps, 1):
            for row in np.flatnonzero(step[:, 0] >= 0):
                rows[row].append(step[row])
            progress(number)
        return [np.stack(row) if row else np.zeros((0, self.tokenizer.width), dtype=np.int64) for row in rows]

    def _judge(self, cloud: Cloud, fit: Fit, oriented: bool, faces: int) -> Judge:
        points = _in_cube(thinned(cloud, JUDGED_POINTS, np.random.default_rng(0)), fit)
        if isinstance(self.tokenizer, GatesTokenizer):
            return GateJudge(Coverage(points, oriented, bottom_up=False), self.tokenizer, faces)
        coverage = Coverage(points, oriented)
        return CloudJudge(coverage, self.corners, self.tokenizer.spell, self.tokenizer.bins, faces)

    def corners(self, ids: Int[np.ndarray, "n s"]) -> Float[np.ndarray, "n k 3"]:
        """About where the corners of steps, or of what is there of them, are in the cube; the decoder may move them by a bin or two."""
        bins = shifted(torch.from_numpy(ids).unflatten(1, (-1, self.tokenizer.spell)), self.tokenizer.shifts)
        return (bins.double().numpy() + 0.5) / self.tokenizer.bins - 0.5

    def prepare(self, cloud: Cloud, fit: Fit, seed: int = 0) -> Float[np.ndarray, "p 6"]:
        """The cloud as the network is shown it: in the cube, as many points as it wants."""
        return self.network.cloud.prepare(_in_cube(cloud, fit), np.random.default_rng(seed))

    def stream(
        self,
        shown: Float[np.ndarray, "p 6"],
        seeds: list[int],
        sampling: Sampling,
        judges: Sequence[Judge] = (),
        surface: Float[np.ndarray, "n 6"] | None = None,
    ) -> Iterator[Int[np.ndarray, "b w"]]:
        """Steps as they are written, a row for each seed; -1 in rows that have ended. `judges`: one for each seed, or none; vertices
        stay on the `surface`, all points that are known, where that is asked for: by default on those that are shown."""
        points = torch.from_numpy(shown)[None].to(self.network.start.device)
        with torch.inference_mode():
            seen = self._seen(points, len(seeds), drop=False)
            blank = self._seen(points, len(seeds), drop=True) if sampling.guidance != 1 else None
        grammar = self._grammar(shown, shown if surface is None else surface, sampling)
        yield from generate(self.network, seen, blank, grammar, seeds, sampling, judges)

    def _grammar(self, shown: Float[np.ndarray, "p 6"], surface: Float[np.ndarray, "n 6"], sampling: Sampling) -> Grammar:
        manifold, bounded = sampling.edges == "manifold", sampling.bounds == "cloud"
        if isinstance(self.tokenizer, GatesTokenizer):
            return self.tokenizer.grammar(manifold, surface[:, :3].astype(np.float64) if bounded else None, sampling.max_faces)
        if isinstance(self.tokenizer, VQVAETokenizer):
            return self.tokenizer.grammar(manifold, shown[:, :3].astype(np.float64) if bounded else None)
        return self.tokenizer.grammar()

    def _seen(self, points: Float[Tensor, "1 p 6"], rows: int, drop: bool) -> Seen:
        dropped = torch.tensor([drop], device=points.device)
        return self.network.see(points, dropped).select(torch.zeros(rows, dtype=torch.long, device=points.device))

    def _sample(self, ids: np.ndarray, seed: int, cloud: Cloud, fit: Fit, shown: np.ndarray, sampling: Sampling) -> Sample:
        ended = len(ids) < self.network.most_steps(sampling.max_faces)
        corners = self.tokenizer.decode(ids, shown, strict=ended)
        by_face = self.tokenizer.width == 3 * self.tokenizer.spell
        if isinstance(self.tokenizer, GatesTokenizer):
            ended = ended and len(corners) < sampling.max_faces
        mesh = without_flat_faces(mesh_of(corners, self.tokenizer.bins))
        dropped = (len(ids) if by_face else len(corners)) - len(mesh.faces)
        mesh = Mesh(fit.undo(mesh.vertices), mesh.faces)
        distance = fit_to_cloud(mesh, cloud.positions) if len(mesh.faces) else float("inf")
        return Sample(mesh, seed, len(ids), ended, dropped, distance)


def build_network(tokenizer: MeshTokenizer, sizes: dict[str, Any]) -> StepModel | GateModel:
    """The untrained network that writes the steps of a tokenizer, as its config describes it."""
    if isinstance(tokenizer, GatesTokenizer):
        return GateModel(checkpoint.from_json(GateModelConfig, sizes, "steps"))
    return StepModel(checkpoint.from_json(StepModelConfig, sizes, "steps"))


def _in_cube(cloud: Cloud, fit: Fit) -> Float[np.ndarray, "n 6"]:
    """Normals of zeros where they are not known."""
    normals = np.zeros_like(cloud.positions) if cloud.normals is None else cloud.normals
    return surface(Cloud(fit.apply(cloud.positions), fit.turn(normals)))


def without_flat_faces(mesh: Mesh) -> Mesh:
    """Without faces that have no area, and without the vertices that only they used."""
    area = np.linalg.norm(face_normals(mesh.triangles()), axis=1) if len(mesh.faces) else np.zeros(0)
    used, faces = np.unique(mesh.faces[area > 1e-12], return_inverse=True)
    return Mesh(mesh.vertices[used], faces.reshape(-1, 3))


def _with_normals_if_possible(cloud: Cloud) -> Cloud:
    """Estimated normals where the cloud has none; the networks have learned to do without, too."""
    if cloud.normals is not None:
        return cloud
    try:
        return with_normals(cloud)
    except ImportError as error:
        warnings.warn(f"the cloud is used without normals: {error}", stacklevel=3)
        return cloud


def read_tokenizer(place: str) -> MeshTokenizer:
    """A trained tokenizer from its folder (or from a whole model's, or `vqvae`, the one that ships), or one that needs no training by its
    name."""
    if place in TOKENIZERS and place != "vqvae":
        return TOKENIZERS[place]()
    found = Checkpoint.at(place)
    config = found.read_config()
    if config.get("kind") == "meshgpt":
        tokenizer = build(checkpoint.part(config, "tokenizer", found))
    elif config.get("kind") == "vqvae":
        tokenizer = VQVAETokenizer(VQVAE(checkpoint.from_json(VQVAEConfig, checkpoint.part(config, "vqvae", found), "vqvae")))
    else:
        raise ValueError(f"{place} holds a {config.get('kind')!r}, no tokenizer; pass the folder of a trained VQ-VAE")
    if isinstance(tokenizer, VQVAETokenizer):
        prefix = "tokenizer." if config["kind"] == "meshgpt" else ""
        weights = {name.removeprefix(prefix): value for name, value in found.read_weights().items() if name.startswith(prefix)}
        checkpoint.load_into(tokenizer.network, weights, str(found.weights))
        tokenizer.network.eval()
    return tokenizer


def _tensors(tokenizer: MeshTokenizer, network: StepModel | GateModel) -> dict[str, Tensor]:
    tensors = {f"steps.{name}": value for name, value in checkpoint.tensors_of(network).items()}
    if isinstance(tokenizer, VQVAETokenizer):
        tensors |= {f"tokenizer.{name}": value for name, value in checkpoint.tensors_of(tokenizer.network).items()}
    return tensors


def _fill(tokenizer: MeshTokenizer, network: StepModel | GateModel, found: Checkpoint) -> None:
    weights: dict[str, Any] = {"steps.": {}, "tokenizer.": {}}
    for name, value in found.read_weights().items():
        part = next((part for part in weights if name.startswith(part)), None)
        if part is None:
            raise ValueError(f"{found.weights} holds the unknown tensor {name!r}; was it written by a newer meshgpt?")
        weights[part][name.removeprefix(part)] = value
    checkpoint.load_into(network, weights["steps."], str(found.weights))
    if isinstance(tokenizer, VQVAETokenizer):
        checkpoint.load_into(tokenizer.network, weights["tokenizer."], str(found.weights))
        tokenizer.network.eval()


def _as(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Small tensors keep their digits: they are codebooks and places, and cost nothing."""
    return value.to(dtype) if dtype is not None and value.is_floating_point() and value.numel() > SMALL else value
