"""What `bench` runs: our networks writing step by step, and the OPT that MeshAnything writes with, as it writes with it.

It knows networks and how long their sequences are. It does not know words for users.

f  faces so far
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from meshgpt.cloud import Cloud
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.generate import OpenRows, Sampling, pick
from meshgpt.loading import Precision, in_precision
from meshgpt.mesh import Mesh, corners_of, sample_surface
from meshgpt.model import MeshGPT
from meshgpt.precision import best_for
from meshgpt.steps import Seen, StepModel
from meshgpt.stopwatch import now, seconds
from meshgpt.tokenizer import GatesTokenizer
from meshgpt.transformer import RowCache, TransformerConfig

# Of the corpus (docs/tokenizers.md): a gate that is left without a face is a step, too.
GATE_STEPS, OPT_IDS = 1.136, 9
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
# Larger caches are not measured.
MOST_CACHE = 2 << 30


@dataclass(frozen=True)
class Written:
    """One step at a time, where so many faces are there; times in seconds, `floor` is that of reading all that a step reads."""

    faces: int
    step: float
    floor: float


@dataclass(frozen=True)
class Loop:
    """A network, written with; `cache` is the bytes of keys and values of a mesh of the most faces."""

    network: str
    precision: Precision
    batch: int
    parameters: int
    steps_a_face: float
    cache: int
    written: tuple[Written, ...]

    def mesh_seconds(self, faces: int) -> float:
        """Of one batch of meshes of so many faces, the measured steps joined by lines."""
        return self.steps_a_face * area([(at.faces, at.step) for at in self.written], faces)

    def faces_a_second(self, faces: int) -> float:
        return self.batch * faces / self.mesh_seconds(faces)


def area(points: Sequence[tuple[float | int, float]], end: float | int) -> float:
    """Under the line through the points from 0 to `end`; level before the first point and behind the last."""
    xs, ys = zip(*points, strict=True)
    along = sorted({0.0, float(end), *(x for x in xs if 0 < x < end)})
    return float(
        sum((right - left) * (np.interp(left, xs, ys) + np.interp(right, xs, ys)) / 2 for left, right in itertools.pairwise(along))
    )


def large(config: GateModelConfig, body: TransformerConfig) -> GateModel:
    """A network with another transformer, of random weights (which cost seconds to draw well, so that they are drawn quickly)."""
    with torch.device("meta"):
        network = GateModel(replace(config, body=body))
    network.to_empty(device="cpu")
    for weight in network.parameters():
        nn.init.uniform_(weight, -0.02, 0.02)
    network.tokenizer = GatesTokenizer(config.bins)
    network.places.copy_(network.tokenizer.middles)
    return network.eval()


def torus(faces: int) -> Mesh:
    """A closed mesh of about so many faces."""
    around = max(3, round((faces / 4) ** 0.5))
    along = max(3, faces // (2 * around))
    u, v = (np.arange(count) * 2 * np.pi / count for count in (along, around))
    ring = 0.3 + 0.14 * np.cos(v)
    vertices = np.stack([np.cos(u)[:, None] * ring, np.tile(0.14 * np.sin(v), (along, 1)), np.sin(u)[:, None] * ring], -1)
    i, j = (index.ravel() for index in np.meshgrid(np.arange(along), np.arange(around), indexing="ij"))
    a, b = i * around + j, (i + 1) % along * around + j
    c, d = (i + 1) % along * around + (j + 1) % around, i * around + (j + 1) % around
    return Mesh(vertices.reshape(-1, 3), np.concatenate([np.stack([a, c, b], 1), np.stack([a, d, c], 1)]))


class Weights(NamedTuple):
    """How many numbers a step reads: of the transformer's matrices, which the precision is for, and of the parts behind it."""

    matrices: int
    behind: int

    @classmethod
    def of(cls, network: GateModel | StepModel) -> Weights:
        behind = network.decoder if isinstance(network, GateModel) else network.depth
        matrices = (part.weight.numel() for part in network.body.modules() if isinstance(part, nn.Linear))
        return cls(sum(matrices), sum(weight.numel() for weight in behind.parameters()))

    def bytes(self, precision: Precision) -> int:
        return BYTES[precision] * self.matrices + BYTES["fp32"] * self.behind


def time_loops(
    name: str,
    make: Callable[[], GateModel | StepModel],
    precisions: Sequence[Precision],
    batches: Sequence[int],
    at: Sequence[int],
    repeats: int,
    bytes_a_second: float,
) -> Iterator[Loop]:
    """Of a network in several precisions and with several rows; `at` are numbers of faces."""
    for precision in precisions:
        network = make()
        weights, device = Weights.of(network), next(network.parameters()).device
        if precision == "int8" and device.type != "cpu":
            continue
        network = in_precision(network, precision, device.type)
        for batch in batches:
            loop = _time(name, network, weights, precision, batch, at, repeats, bytes_a_second)
            if loop.written:
                yield loop


@torch.inference_mode()
def _time(
    name: str,
    network: GateModel | StepModel,
    weights: Weights,
    precision: Precision,
    batch: int,
    at: Sequence[int],
    repeats: int,
    bytes_a_second: float,
) -> Loop:
    body, device = network.config.body, network.start.device
    writing = network.writing([_seen(network, at[-1], device)] * batch, len(at) * (repeats + 1) + 1)
    before = writing.cache.lengths[0]
    steps_a_face = GATE_STEPS if isinstance(network, GateModel) else 1.0
    position = 2 * body.layers * body.dim * (2 if precision == "bf16" else 4)
    steps, written = _steps(network, at[-1], batch, device), []
    for faces in at:
        length = before + round(faces * steps_a_face)
        if batch * (length + 1) * position > MOST_CACHE:
            break
        writing.cache = noise(body, batch, length, writing.cache.keys)
        took = seconds(partial(_step, writing, length, steps), repeats, device)
        written.append(Written(faces, took, (weights.bytes(precision) + batch * length * position) / bytes_a_second))
    cache = round(before + at[-1] * steps_a_face) * position
    return Loop(name, precision, batch, sum(weights), steps_a_face, cache, tuple(written))


def _seen(network: GateModel | StepModel, faces: int, device: torch.device) -> Seen:
    surface = sample_surface(torus(faces), network.config.cloud.points, np.random.default_rng(0)).astype(np.float32)
    return network.see(torch.from_numpy(surface)[None].to(device))


def noise(body: TransformerConfig, rows: int, length: int, like: Tensor) -> RowCache:
    """Of so many positions, with room for one more: memory that was never written to is read faster than any."""
    cache = RowCache(body, rows, length + 1, like)
    cache.keys.normal_(std=0.5)
    cache.values.normal_(std=0.5)
    cache.lengths = [length] * rows
    return cache


def _steps(network: GateModel | StepModel, faces: int, batch: int, device: torch.device) -> Iterator[Int[Tensor, "b w"]]:
    """A walk over real faces where the network follows one, else steps of chance."""
    draw, width = np.random.default_rng(0), network.config.width
    if isinstance(network, GateModel):
        walk = network.tokenizer.encode(corners_of(torus(faces), network.config.bins))
        ways = (walk[at % len(walk)] for at in itertools.count())
    else:
        ways = (draw.integers(0, network.config.vocab, width) for _ in itertools.count())
    for ids in ways:
        yield torch.from_numpy(ids.astype(np.int64)).to(device).expand(batch, width)


def _step(writing: OpenRows, length: int, steps: Iterator[Tensor]) -> None:
    """Ask for each slot, draw as in sampling, go on."""
    writing.cache.lengths, ids = [length] * writing.rows, next(steps)
    rows = torch.arange(writing.rows, device=writing.device)
    for slot in range(ids.shape[1]):
        logits = writing.logits(rows, ids[:, :slot]).cpu()
        pick(logits, torch.ones(logits.shape, dtype=torch.bool), rows.cpu(), torch.full((writing.rows,), 0.5), Sampling())
    writing.take(ids)


@dataclass(frozen=True)
class Whole:
    """A mesh from a cloud, with grammar and judge and all; times in seconds."""

    tries: int
    faces: int
    took: float


def time_whole(model: MeshGPT, tries: int, most: int) -> Whole:
    """Of the cloud of a torus."""
    points = sample_surface(torus(400), 8192, np.random.default_rng(0))
    cloud, device = Cloud(points[:, :3], points[:, 3:]), next(model.network.parameters()).device
    model.samples(cloud, 1, 0, sampling=Sampling(max_faces=2, tries=tries))  # compiled loops are read from the disk
    began = now(device)
    (sample,) = model.samples(cloud, 1, 0, sampling=Sampling(max_faces=most, tries=tries))
    return Whole(tries, len(sample.mesh.faces), now(device) - began)


@dataclass(frozen=True)
class Theirs:
    """Seconds an id of `generate`, behind so many positions; `floors` those of reading weights and cache."""

    parameters: int
    lengths: tuple[int, ...]
    times: tuple[float, ...]
    floors: tuple[float, ...]

    def mesh_seconds(self, faces: int) -> float:
        return area(list(zip(self.lengths, self.times, strict=True)), OPT_IDS * faces)


def opt(body: TransformerConfig, ids: int, positions: int) -> nn.Module:
    """transformers' OPT, in the layout of OPT-350M, with random weights."""
    from transformers import OPTConfig, OPTForCausalLM

    sizes = {"hidden_size": body.dim, "num_hidden_layers": body.layers, "ffn_dim": 4 * body.dim, "num_attention_heads": body.heads}
    config = OPTConfig(vocab_size=ids, max_position_embeddings=positions, do_layer_norm_before=False, word_embed_proj_dim=body.dim, **sizes)
    with torch.device("meta"):
        model = OPTForCausalLM(config)
    model.to_empty(device="cpu")
    for weight in model.parameters():
        nn.init.uniform_(weight, -0.02, 0.02)
    model.tie_weights()
    return model.eval()


class _Clock:
    """A streamer of transformers that looks at the time."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.times = device, []

    def put(self, value: Tensor) -> None:
        self.times.append(now(self.device))

    def end(self) -> None:
        pass


@torch.inference_mode()
def time_theirs(model: Any, lengths: Sequence[int], count: int, bytes_a_second: float) -> Theirs:
    """`generate`, greedily, goes on from a growing cache of so many positions (of noise, which saves the reading of a prompt)."""
    from transformers import DynamicCache

    config, times, device = model.config, [], model.device
    shape = (1, config.num_attention_heads, 0, config.hidden_size // config.num_attention_heads)
    for length in lengths:
        cache = DynamicCache()
        for layer in range(config.num_hidden_layers):
            noise = (torch.randn(*shape[:2], length - 1, shape[3], device=device) for _ in range(2))
            cache.update(*noise, layer)
        clock, ids = _Clock(device), torch.full((1, length), 5, device=device)
        with best_for(1):  # as torch is without us
            model.generate(ids, cache=cache, max_new_tokens=count, min_new_tokens=count, do_sample=False, streamer=clock)
        times.append(statistics.median(np.diff(clock.times)[1:]))
    parameters = sum(weight.numel() for weight in model.parameters())
    bytes_read = (4 * (parameters + 2 * length * config.num_hidden_layers * config.hidden_size) for length in lengths)
    return Theirs(parameters, tuple(lengths), tuple(times), tuple(read / bytes_a_second for read in bytes_read))
