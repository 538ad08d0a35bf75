"""MeshGPT: a tokenizer and a network that writes its steps; a cloud in, a mesh in the cloud's frame out.

It is the part that a user meets. Files of models are `checkpoint.py`'s, the sampling loop is `generate.py`'s.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
from meshgpt.completion import Completed, whole_of
from meshgpt.converted import at
from meshgpt.coverage import Coverage
from meshgpt.denoise import smoothed, without_floating
from meshgpt.gate_judge import GateJudge
from meshgpt.generate import Judge, Network, Sampling, Task, in_step, write
from meshgpt.interrupts import ctrl_c_between_loops
from meshgpt.judge import CloudJudge
from meshgpt.loading import InBfloat16, Int8Linear, PackedLinear, Precision, blank, in_precision, learned, load_published
from meshgpt.memory import shifted
from meshgpt.mesh import Fit, Mesh, mesh_of, to_unit
from meshgpt.metrics import fit_to_cloud
from meshgpt.one_id_model import OneIdModel, Shape
from meshgpt.precision import fast_float32
from meshgpt.published import Published
from meshgpt.settle import settled
from meshgpt.steps import Seen
from meshgpt.tidy import tidied
from meshgpt.tokenizer import TOKENIZERS, VQVAE, GatesTokenizer, VQVAEConfig, VQVAETokenizer, build, describe
from meshgpt.tokenizer.interface import Grammar, MeshTokenizer
from meshgpt.upsample import spacing_of, upsampled
from meshgpt.validity import sound

SMALL = 8_192
KEPT_POINTS = 16_384
ROWS = 16  # meshes written at the same time


@dataclass(frozen=True)
class Sample:
    """One generated mesh, in the frame of its cloud, and how it came about.

    `distance` is `metrics.fit_to_cloud`; `dropped` counts the faces that were written but had no area, stood there already or, where
    manifold edges are wanted, would have been too many on an edge; `ended` is false where the face limit, or the user, cut the mesh off.
    `tokens` are ids.
    """

    mesh: Mesh
    seed: int
    steps: int
    ended: bool
    dropped: int
    distance: float
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Shown:
    """A cloud as a model is shown it.

    cloud     as it came, thinned
    known     mended, with normals: what vertices lie on
    dense     with points in between where there are few, `gap` cube units apart at first (0 where nothing was added)
    fit       where it lies in the cube
    points    what the network is shown there; `seen` is what it sees of them, `blank` of nothing
    grammar   which ids are legal
    oriented  whether the cloud came with normals
    """

    cloud: Cloud
    known: Cloud
    dense: Cloud
    gap: float
    fit: Fit
    points: Float[np.ndarray, "p 6"]
    seen: Seen | Shape
    blank: Seen | None
    grammar: Grammar
    oriented: bool


class Stopped(KeyboardInterrupt):
    """Ctrl-C while meshes were written; `samples` are what was there of them, by their numbers."""

    def __init__(self, samples: list[tuple[int, Sample]]) -> None:
        super().__init__()
        self.samples = samples


@dataclass
class _Open:
    """A mesh that is being written."""

    shown: Shown
    seed: int
    began: float
    steps: list[Int[np.ndarray, "w"]]


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
        """`count` meshes of one cloud, with seeds seed, seed + 1, ...; `progress` hears how many faces the longest has so far.

        `Stopped`, with all that is there, on Ctrl-C.
        """
        sampling = sampling or self.sampling
        done = []
        try:
            with ctrl_c_between_loops():
                shown = self.look(cloud, up, sampling)
                for one in self.written([(shown, seed + number) for number in range(count)], sampling, progress=progress):
                    done.append(one)
        except Stopped as stop:
            raise Stopped(sorted([*done, *stop.samples], key=lambda one: one[0])) from None
        return [sample for _, sample in sorted(done, key=lambda one: one[0])]

    def written(
        self,
        asked: Iterable[tuple[Shown, int]],
        sampling: Sampling | None = None,
        rows: int = ROWS,
        progress: Callable[[int], None] = lambda faces: None,
    ) -> Iterator[tuple[int, Sample]]:
        """A mesh for each cloud and seed that is asked for, numbered, as they come to their ends; up to `rows` are written at the same
        time, and what is `asked` is looked at when there is room. Cloud, seed and sampling alone decide what a mesh becomes.

        `Stopped`, with what is there of those at work, on Ctrl-C.
        """
        sampling, opened = sampling or self.sampling, {}

        def tasks() -> Iterator[Task]:
            for number, (shown, seed) in enumerate(asked):
                opened[number] = _Open(shown, seed, time.monotonic(), [])
                yield Task(shown.seen, shown.blank, shown.grammar, seed, self._judge(shown, sampling))

        try:
            for steps in write(self.network, tasks(), sampling, rows):
                for one in steps:
                    if one.step is not None:
                        opened[one.task].steps.append(one.step)
                    if not one.goes_on:
                        yield one.task, self._sample(opened[one.task], sampling, ended=not one.cut)
                        del opened[one.task]
                progress(max(one.faces or 0 for one in steps))
        except KeyboardInterrupt:
            raise Stopped([(number, self._sample(one, sampling, ended=False)) for number, one in opened.items()]) from None

    def look(self, cloud: Cloud, up: str = "y", sampling: Sampling | None = None) -> Shown:
        """The cloud as it is shown; ValueError, in one sentence, where it is none."""
        sampling = sampling or self.sampling
        given = checked(cloud)
        # Seeds are for sampling; which points are shown does not depend on them, so that each seed means one mesh.
        oriented = cloud.normals is not None
        thin = thinned(given, KEPT_POINTS, np.random.default_rng(0))
        ours = self.published is None
        firm = without_floating(thin) if ours else thin
        whole = whole_of(firm, up) if ours and sampling.complete == "auto" else None
        if whole is not None:
            return self._look_at_whole(thin, whole, up, sampling)
        known = smoothed(_with_normals_if_possible(firm)) if ours else _with_normals_if_possible(firm)
        dense = thinned(upsampled(known), KEPT_POINTS, np.random.default_rng(0)) if oriented and ours else known
        fit = self._fit(given if dense.positions is thin.positions else dense, up)
        gap = 0.0 if dense is known else spacing_of(known) / fit.scale
        points = self.prepare(dense, fit)
        seen, blank = self._see(points, sampling)
        grammar = self._grammar(points, _in_cube(known, fit), sampling)
        return Shown(thin, known, dense, gap, fit, points, seen, blank, grammar, oriented)

    def _look_at_whole(self, thin: Cloud, whole: Completed, up: str, sampling: Sampling) -> Shown:
        """Vertices settle on what was seen; what was added is built like the rest."""
        known, added = smoothed(whole.seen), whole.added
        dense = Cloud(np.concatenate([known.positions, added.positions]), np.concatenate([known.normals, added.normals]))
        dense = thinned(dense, KEPT_POINTS, np.random.default_rng(0))
        fit = self._fit(dense, up)
        points = self.prepare(dense, fit)
        seen, blank = self._see(points, sampling)
        return Shown(thin, known, dense, 0.0, fit, points, seen, blank, self._grammar(points, _in_cube(dense, fit), sampling), True)

    def _fit(self, cloud: Cloud, up: str) -> Fit:
        return Fit.of(cloud.positions, up) if self.published is None else self.published.fit(cloud.positions, up)

    def _judge(self, shown: Shown, sampling: Sampling) -> Judge | None:
        """What chooses among the ways to write a step of one mesh, where a step is vertices."""
        if sampling.tries == 1 or self.tokenizer.spell == 1 or self.tokenizer.width == 1:
            return None
        points = _in_cube(shown.dense, shown.fit)
        if isinstance(self.tokenizer, GatesTokenizer):
            return GateJudge(Coverage(points, shown.oriented, bottom_up=False, gap=shown.gap), self.tokenizer, sampling.max_faces)
        coverage = Coverage(points, shown.oriented, gap=shown.gap)
        return CloudJudge(coverage, self.corners, self.tokenizer.spell, self.tokenizer.bins, sampling.max_faces)

    def corners(self, ids: Int[np.ndarray, "n s"]) -> Float[np.ndarray, "n k 3"]:
        """About where the corners of steps, or of what is there of them, are in the cube; the decoder may move them by a bin or two."""
        bins = shifted(torch.from_numpy(ids).unflatten(1, (-1, self.tokenizer.spell)), self.tokenizer.shifts)
        return to_unit(bins.double().numpy(), self.tokenizer.bins)

    def prepare(self, cloud: Cloud, fit: Fit, seed: int = 0) -> Float[np.ndarray, "p 6"]:
        """The cloud as the network is shown it: in the cube, as many points as it wants."""
        if self.published is not None:
            return self.published.shown(_in_cube(cloud, fit), np.random.default_rng(seed))
        return self.network.cloud.prepare(_in_cube(cloud, fit), np.random.default_rng(seed))

    def stream(self, shown: Float[np.ndarray, "p 6"], seeds: list[int], sampling: Sampling) -> Iterator[Int[np.ndarray, "b w"]]:
        """Steps as they are written, a row for each seed; -1 in rows that have ended. Nobody judges them, and vertices stay on what is
        shown, where that is asked for."""
        seen, blank = self._see(shown, sampling)
        grammar = self._grammar(shown, shown, sampling)
        yield from in_step(self.network, [Task(seen, blank, grammar, seed) for seed in seeds], sampling)

    def steps(self, shown: Shown, seed: int = 0, sampling: Sampling | None = None) -> Iterator[Int[np.ndarray, "w"]]:
        """The steps of one mesh as they are written: those of the mesh that `samples` gives for the same seed."""
        sampling = sampling or self.sampling
        task = Task(shown.seen, shown.blank, shown.grammar, seed, self._judge(shown, sampling))
        for (step,) in in_step(self.network, [task], sampling):
            yield step

    def _grammar(self, shown: Float[np.ndarray, "p 6"], surface: Float[np.ndarray, "n 6"], sampling: Sampling) -> Grammar:
        """Codes stay on the points that were shown, as their room was measured; others on all that are known."""
        if self.published is not None:
            return self.published.grammar(sampling.min_faces, sampling.max_faces)
        points = (shown if self.tokenizer.lossy else surface)[:, :3].astype(np.float64)
        return self.tokenizer.grammar(sampling.edges == "manifold", points if sampling.bounds == "cloud" else None, sampling.max_faces)

    @torch.inference_mode()
    def _see(self, shown: Float[np.ndarray, "p 6"], sampling: Sampling) -> tuple[Seen | Shape, Seen | None]:
        """What the network sees of the points, and of nothing where something is to guide it."""
        points = torch.from_numpy(shown)[None].to(next(self.network.parameters()).device)
        if isinstance(self.network, OneIdModel):
            if sampling.guidance != 1:
                raise ValueError("this model was not trained to do without a cloud, so that nothing guides it; leave the guidance at 1")
            return self.network.see(points), None
        nothing = self.network.see(points, torch.tensor([True], device=points.device)) if sampling.guidance != 1 else None
        return self.network.see(points, torch.tensor([False], device=points.device)), nothing

    def _sample(self, one: _Open, sampling: Sampling, ended: bool) -> Sample:
        ids = np.stack(one.steps) if one.steps else np.zeros((0, self.tokenizer.width), dtype=np.int64)
        shown = one.shown
        mesh, written = self._mesh_of(ids, shown.points, sampling, ended)
        dropped = max(written - len(mesh.faces), 0)
        mesh = _on_cloud(mesh, shown, sampling)
        mesh = Mesh(shown.fit.undo(mesh.vertices), mesh.faces)
        distance = fit_to_cloud(mesh, shown.cloud.positions) if len(mesh.faces) else float("inf")
        seconds = time.monotonic() - one.began
        return Sample(mesh, one.seed, len(ids), ended, dropped, distance, ids.size, seconds)

    def _mesh_of(self, ids: Int[np.ndarray, "n w"], shown: np.ndarray, sampling: Sampling, whole: bool) -> tuple[Mesh, int]:
        """In the cube, and how many faces were written; what does not decode is left out unless the ids are `whole`."""
        manifold = sampling.edges == "manifold"
        if self.published is not None:
            mesh = self.published.mesh(ids, self._shape(shown), strict=whole)
            return sound(mesh, manifold and not self.published.as_released), self.published.faces_in(ids[:, 0])
        corners = self.tokenizer.decode(ids, shown, strict=whole)
        return sound(mesh_of(corners, self.tokenizer.bins), manifold), len(ids) if self._step_is_face else len(corners)

    @property
    def _step_is_face(self) -> bool:
        return self.tokenizer.width == 3 * self.tokenizer.spell

    @torch.inference_mode()
    def _shape(self, shown: Float[np.ndarray, "p 6"]) -> Float[Tensor, "n d"] | None:
        """The shape vectors, for a tokenizer that decodes with them."""
        if learned(self.tokenizer) is None:
            return None
        points = torch.from_numpy(shown)[None].to(next(self.network.parameters()).device)
        return self.network.cloud(points)[0]


def _on_cloud(mesh: Mesh, shown: Shown, sampling: Sampling) -> Mesh:
    """A mesh in the cube, settled and tidy, as far as that is wanted."""
    if sampling.settle == "none":
        return mesh
    cloud = _in_cube(shown.known, shown.fit)
    if sampling.tidy == "none" or sampling.edges == "any":
        return settled(mesh, cloud, shown.oriented)
    whole = _in_cube(shown.dense, shown.fit)
    return tidied(mesh, cloud, shown.oriented, sampling.min_faces, sampling.max_faces, whole, shown.gap)


def _in_cube(cloud: Cloud, fit: Fit) -> Float[np.ndarray, "n 6"]:
    """Normals of zeros where they are not known."""
    normals = np.zeros_like(cloud.positions) if cloud.normals is None else cloud.normals
    return surface(Cloud(fit.apply(cloud.positions), fit.turn(normals)))


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
