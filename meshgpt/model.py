"""MeshGPT: a tokenizer and a network that writes its steps; a cloud in, a mesh in the cloud's frame out.

It is the part that a user meets. Files of models are `checkpoint.py`'s, the sampling loop is `generate.py`'s.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meshgpt import checkpoint, hub
from meshgpt.card import card_of
from meshgpt.checkpoint import Checkpoint
from meshgpt.cloud import Cloud, checked, surface, thinned, with_normals
from meshgpt.converted import at
from meshgpt.coverage import Coverage
from meshgpt.gate_judge import GateJudge
from meshgpt.gate_model import GateModel
from meshgpt.generate import Judge, Network, Sampling, generate
from meshgpt.judge import CloudJudge
from meshgpt.loading import InBfloat16, Int8Linear, PackedLinear, Precision, blank, in_precision, learned, load_published
from meshgpt.memory import shifted
from meshgpt.mesh import Fit, Mesh, face_normals, mesh_of
from meshgpt.metrics import fit_to_cloud
from meshgpt.one_id_model import OneIdModel, Shape
from meshgpt.precision import fast_float32
from meshgpt.published import Published
from meshgpt.steps import Seen
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

    def __init__(
        self, tokenizer: MeshTokenizer, network: Network, device: str | torch.device | None = None, as_released: bool = False
    ) -> None:
        self.tokenizer, self.network = tokenizer, network
        self.published, self.converted_from = None, ""
        if isinstance(network, OneIdModel):
            self.published = Published(tokenizer, network.config.cloud.look.points, network.room, as_released)
            network.writes_begin = as_released
        if device is not None:
            self.to(device)

    def to(self, device: str | torch.device) -> MeshGPT:
        self.network.to(device)
        if learned(self.tokenizer) is not None:
            learned(self.tokenizer).to(device)
        return self

    def compile(self) -> None:
        """Have the depth decoder compiled when it is first used, which takes half a minute and makes its steps 3 times as fast. ValueError
        where the model is none of gates, or there is no C++ compiler."""
        if not isinstance(self.network, GateModel):
            raise ValueError("only models of gates are compiled; leave it away for this one")
        if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
            raise ValueError("there is no C++ compiler to compile with; install g++, or leave it away")
        self.network.decoder.compile()

    @property
    def sampling(self) -> Sampling:
        """How ids are drawn unless one says otherwise."""
        return Sampling() if self.published is None else self.published.sampling

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path | None = None,
        revision: str | None = None,
        device: str | None = None,
        precision: Precision = "fp32",
        as_released: bool = False,
    ) -> MeshGPT:
        """The model that ships inside the package, or that of a folder or a hub repository ("org/name"), our own or MeshAnything's.

        `precision` is `loading.py`'s; `as_released` is for published models: see `published.py`. FileNotFoundError or ValueError with one
        sentence where there is none, or its files do not fit.
        """
        found = at(place, revision)
        config = found.read_config()
        if config.get("kind") != "meshgpt":
            raise ValueError(f"{found.config} describes a {config.get('kind')!r}, no whole model; pass the folder of a trained transformer")
        fast_float32()
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if "one_id" in config:
            tokenizer, network = load_published(config, found, precision, device)
            model = cls(tokenizer, network, device, as_released)
            model.converted_from = str(config.get("converted_from", ""))
            return model
        if as_released:
            raise ValueError(f"--as-released is for published models of other projects, and {found.config.parent} is none; leave it away")
        tokenizer, network = blank(config, found)
        _fill(tokenizer, network, found)
        return cls(tokenizer, in_precision(network, precision, device).eval(), device)

    def save(self, folder: str | Path, card: str = "", dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors (and the card); floats of large tensors as `dtype` where one is given."""
        if any(isinstance(part, Int8Linear | PackedLinear | InBfloat16) for part in self.network.modules()):
            raise ValueError("a model in int8 or bf16 cannot be saved; load it in fp32 first")
        name = "steps" if self.published is None else "one_id"
        config = {"kind": "meshgpt", "tokenizer": describe(self.tokenizer), name: checkpoint.to_json(self.network.config)}
        config |= {"converted_from": self.converted_from} if self.converted_from else {}
        checkpoint.write(folder, config, {name: _as(value, dtype) for name, value in _tensors(self.tokenizer, self.network).items()}, card)

    def push_to_hub(self, name: str, private: bool = False, card: str = "") -> str:
        """Upload to a repository of the hub ("org/name"), which is made where there is none, with a generated card or your own; returns
        its address. FileNotFoundError says how to log in."""
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, card)
            if not card:
                (Path(folder) / checkpoint.CARD).write_text(card_of(Checkpoint.at(Path(folder)), name), encoding="utf-8")
            return hub.push(Path(folder), name, private)

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
        sampling = sampling or self.sampling
        fit = Fit.of(checked(cloud).positions, up) if self.published is None else self.published.fit(checked(cloud).positions, up)
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
            progress(number if self.published is None else max(self.published.faces_in(np.array(row).reshape(-1)) for row in rows))
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
        if self.published is not None:
            return self.published.shown(_in_cube(cloud, fit), np.random.default_rng(seed))
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
        points = torch.from_numpy(shown)[None].to(next(self.network.parameters()).device)
        with torch.inference_mode():
            seen = self._seen(points, len(seeds), drop=False)
            blank = self._seen(points, len(seeds), drop=True) if sampling.guidance != 1 else None
        grammar = self._grammar(shown, shown if surface is None else surface, sampling)
        if self.published is not None:
            sampling = replace(sampling, max_faces=self.published.steps(sampling.max_faces), min_faces=1)
        yield from generate(self.network, seen, blank, grammar, seeds, sampling, judges)

    def _grammar(self, shown: Float[np.ndarray, "p 6"], surface: Float[np.ndarray, "n 6"], sampling: Sampling) -> Grammar:
        if self.published is not None:
            return self.published.grammar(sampling.min_faces, sampling.max_faces)
        manifold, bounded = sampling.edges == "manifold", sampling.bounds == "cloud"
        if isinstance(self.tokenizer, GatesTokenizer):
            return self.tokenizer.grammar(manifold, surface[:, :3].astype(np.float64) if bounded else None, sampling.max_faces)
        if isinstance(self.tokenizer, VQVAETokenizer):
            return self.tokenizer.grammar(manifold, shown[:, :3].astype(np.float64) if bounded else None)
        return self.tokenizer.grammar()

    def _seen(self, points: Float[Tensor, "1 p 6"], rows: int, drop: bool) -> Seen | Shape:
        if isinstance(self.network, OneIdModel):
            if drop:
                raise ValueError("this model was not trained to do without a cloud, so that nothing guides it; leave the guidance at 1")
            return self.network.see(points).select(torch.zeros(rows, dtype=torch.long, device=points.device))
        dropped = torch.tensor([drop], device=points.device)
        return self.network.see(points, dropped).select(torch.zeros(rows, dtype=torch.long, device=points.device))

    def _sample(self, ids: np.ndarray, seed: int, cloud: Cloud, fit: Fit, shown: np.ndarray, sampling: Sampling) -> Sample:
        mesh, ended, written = self._mesh_of(ids, shown, sampling)
        dropped = written - len(mesh.faces)
        mesh = Mesh(fit.undo(mesh.vertices), mesh.faces)
        distance = fit_to_cloud(mesh, cloud.positions) if len(mesh.faces) else float("inf")
        return Sample(mesh, seed, len(ids), ended, dropped, distance)

    def _mesh_of(self, ids: np.ndarray, shown: np.ndarray, sampling: Sampling) -> tuple[Mesh, bool, int]:
        """In the cube; whether it came to its end; and how many faces were written."""
        if self.published is not None:
            written = self.published.faces_in(ids[:, 0])
            whole = len(ids) < self.published.steps(sampling.max_faces)
            mesh = without_flat_faces(self.published.mesh(ids, self._shape(shown), strict=whole))
            return mesh, whole and (self.published.as_released or written < sampling.max_faces), max(written, len(mesh.faces))
        ended = len(ids) < self.network.most_steps(sampling.max_faces)
        corners = self.tokenizer.decode(ids, shown, strict=ended)
        mesh = without_flat_faces(mesh_of(corners, self.tokenizer.bins))
        if isinstance(self.tokenizer, GatesTokenizer):
            ended = ended and len(corners) < sampling.max_faces
        return mesh, ended, len(ids) if self.tokenizer.width == 3 * self.tokenizer.spell else len(corners)

    @torch.inference_mode()
    def _shape(self, shown: Float[np.ndarray, "p 6"]) -> Float[Tensor, "n d"] | None:
        """The shape vectors, for a tokenizer that decodes with them."""
        if learned(self.tokenizer) is None:
            return None
        points = torch.from_numpy(shown)[None].to(next(self.network.parameters()).device)
        return self.network.cloud(points)[0]


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
    found = at(place)
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


def _tensors(tokenizer: MeshTokenizer, network: Network) -> dict[str, Tensor]:
    tensors = {f"steps.{name}": value for name, value in checkpoint.tensors_of(network).items()}
    if learned(tokenizer) is not None:
        tensors |= {f"tokenizer.{name}": value for name, value in checkpoint.tensors_of(learned(tokenizer)).items()}
    return tensors


def _fill(tokenizer: MeshTokenizer, network: Network, found: Checkpoint) -> None:
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
