"""The VQ-VAE tokenizer: a learned codebook for the corners of faces, and a step is a face.

    face 0                                face 1
    [coarse .. fine] [c .. f] [c .. f]    [c .. f] ...      END
     corner a         corner b  corner c

An encoder looks at all faces of a mesh; the features of a vertex are averaged over the faces that share it, so that they share
its codes as well (Siddiqui et al. 2024, MeshGPT, section 3.1); residual quantization writes each vertex as `levels` codes.

b  rows      f  faces      n  vertices of the whole batch      c  width of a code vector      d  width of the network
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn
from torch.nn import functional

from meshgpt.conditioners import PointCloudConfig, fourier
from meshgpt.mesh import BINS, canonical, weld
from meshgpt.transformer import Transformer, TransformerConfig

from .checks import check_corners, check_width, whole_steps
from .decoder import DecoderConfig, FaceDecoder
from .face_grammar import FaceGrammar
from .interface import UNLIMITED, Grammar
from .quantizer import Quantizer
from .room import Room

FREQUENCIES = 6


@dataclass(frozen=True)
class VQVAEConfig:
    bins: int = BINS
    dim: int = 192
    heads: int = 3
    encoder_layers: int = 3
    decoder_layers: int = 4
    levels: int = 3
    codes: int = 1024
    code_width: int = 4
    shape: PointCloudConfig | None = None

    @property
    def decoder(self) -> DecoderConfig:
        return DecoderConfig(self.bins, self.code_width, self.dim, self.decoder_layers, self.heads, self.shape)


class Faces(NamedTuple):
    """The faces of several meshes, padded; vertices are numbered through the batch and padding stands on vertex 0."""

    corners: Int[Tensor, "b f 3 3"]
    vertex: Int[Tensor, "b f 3"]
    keep: Bool[Tensor, "b f"]
    vertices: Int[Tensor, "n 3"]

    def to(self, device: torch.device | str) -> Faces:
        return Faces(*(part.to(device) for part in self))


def pad_faces(meshes: list[np.ndarray]) -> Faces:
    """Canonical corners of several meshes (f 3 3 each) as one padded batch."""
    most = max(map(len, meshes))
    corners = torch.zeros(len(meshes), most, 3, 3, dtype=torch.long)
    vertex = torch.zeros(len(meshes), most, 3, dtype=torch.long)
    keep = torch.zeros(len(meshes), most, dtype=torch.bool)
    vertices, count = [], 0
    for row, mesh in enumerate(meshes):
        positions, faces = weld(mesh)
        corners[row, : len(mesh)] = torch.from_numpy(np.asarray(mesh, dtype=np.int64))
        vertex[row, : len(mesh)] = torch.from_numpy(faces) + count
        keep[row, : len(mesh)] = True
        vertices.append(torch.from_numpy(positions))
        count += len(positions)
    return Faces(corners, vertex, keep, torch.cat(vertices))


class FaceEncoder(nn.Module):
    """Faces with their positions, normals, angles and areas, seen together, to one code vector a vertex."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(9 * (1 + 2 * FREQUENCIES) + 7, config.dim)
        self.body = Transformer(TransformerConfig(config.dim, config.encoder_layers, config.heads, causal=False))
        self.position = nn.Linear(3, config.code_width)
        self.refine = nn.Linear(config.dim, 3 * config.code_width)
        self.position.weight.data = torch.eye(config.code_width, 3)
        for weight in (self.position.bias, self.refine.weight, self.refine.bias):
            nn.init.zeros_(weight)

    def forward(self, positions: Float[Tensor, "n 3"], vertex: Int[Tensor, "b f 3"], keep: Bool[Tensor, "b f"]) -> Float[Tensor, "n c"]:
        """`positions` run from -1 to 1 (twice the cube)."""
        hidden = self.body(self.embed(self._features(positions[vertex])), keep=keep)
        corrections = self.refine(hidden).unflatten(-1, (3, -1))[keep].flatten(0, 1)
        return self.position(positions) + _mean_per_vertex(corrections, vertex[keep].flatten(), len(positions))

    @staticmethod
    def _features(corners: Float[Tensor, "b f 3 3"]) -> Float[Tensor, "b f k"]:
        edges = corners.roll(-1, 2) - corners
        normal = torch.linalg.cross(edges[:, :, 0], edges[:, :, 1])
        doubled_area = normal.norm(dim=-1, keepdim=True)
        unit = functional.normalize(edges, dim=-1)
        cosines = -(unit * unit.roll(1, 2)).sum(-1)
        shape = [normal / doubled_area.clamp(min=1e-6), cosines, doubled_area.clamp(min=1e-6).log() / 10]
        return torch.cat([fourier(corners.flatten(2), FREQUENCIES), *shape], -1)


def _mean_per_vertex(values: Float[Tensor, "k c"], vertex: Int[Tensor, "k"], count: int) -> Float[Tensor, "n c"]:
    total = values.new_zeros(count, values.shape[-1]).index_add(0, vertex, values)
    shared = values.new_zeros(count).index_add(0, vertex, torch.ones_like(vertex, dtype=values.dtype))
    return total / shared.clamp(min=1)[:, None]


class Losses(NamedTuple):
    """Nats of a coordinate, commitment loss, and what was predicted."""

    reconstruction: Float[Tensor, ""]
    commitment: Float[Tensor, ""]
    logits: Float[Tensor, "k 3 3 bins"]
    ids: Int[Tensor, "n levels"]


class VQVAE(nn.Module):
    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FaceEncoder(config)
        self.quantizer = Quantizer(config.code_width, config.levels, config.codes)
        self.decoder = FaceDecoder(config.decoder)
        # Where in the cube the vertices with a given coarse code lie, on average over the training set.
        self.register_buffer("places", torch.zeros(config.codes, 3))

    def positions(self, vertices: Int[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Bins to -1 .. 1."""
        return (vertices.float() + 0.5) * (2 / self.config.bins) - 1

    def forward(self, faces: Faces, jitter: Float[Tensor, "n 3"] | None = None) -> Losses:
        """`jitter` (in -1 .. 1 units) moves what the encoder sees; the target stays clean."""
        positions = self.positions(faces.vertices)
        seen = positions if jitter is None else positions + jitter
        vectors, ids, commitment = self.quantizer(self.encoder(seen, faces.vertex, faces.keep))
        logits = self.decoder(vectors[faces.vertex], faces.keep)[faces.keep]
        target = faces.corners[faces.keep]
        reconstruction = functional.cross_entropy(logits.reshape(-1, self.config.bins), target.reshape(-1))
        return Losses(reconstruction, commitment, logits, ids)

    @torch.no_grad()
    def encode(self, faces: Faces) -> Int[Tensor, "b f w"]:
        """Ids of each face, corner by corner, coarse to fine; padding holds whatever."""
        vectors = self.encoder(self.positions(faces.vertices), faces.vertex, faces.keep)
        return self.quantizer.nearest(vectors)[faces.vertex].flatten(2)

    @torch.no_grad()
    def measure(self, batches: Iterable[Faces]) -> None:
        """Set what is known only after training: where each coarse code stands, and the unit of noise of each level."""
        positions, vectors = [], []
        for faces in batches:
            positions.append(self.positions(faces.vertices))
            vectors.append(self.encoder(positions[-1], faces.vertex, faces.keep))
        place, vector = torch.cat(positions) / 2, torch.cat(vectors)
        self.quantizer.measure_spread(vector)
        coarse = self.quantizer.nearest(vector)[:, 0]
        mean = _mean_per_vertex(place, coarse, self.config.codes)
        unseen = torch.bincount(coarse, minlength=self.config.codes) == 0
        self.places.copy_(torch.where(unseen[:, None], self.decoder.position(self.quantizer.codebook) / 2, mean))

    def logits(
        self, ids: Int[Tensor, "b f w"], keep: Bool[Tensor, "b f"], surface: Float[Tensor, "b p 6"] | None = None
    ) -> Float[Tensor, "b f 3 3 bins"]:
        """Corners with the same codes are one vertex: they get the mean of their logits, so that no crack opens."""
        codes = ids.unflatten(-1, (3, self.config.levels))
        logits = self.decoder(self.quantizer.vectors(codes), keep, self.decoder.condition(surface, rows=len(ids)))
        row = torch.arange(len(ids), device=ids.device)[:, None, None, None].expand(*codes.shape[:3], 1)
        _, vertex = torch.unique(torch.cat([row, codes], -1)[keep].flatten(0, 1), dim=0, return_inverse=True)
        mean = _mean_per_vertex(logits[keep].flatten(0, 1).flatten(1), vertex, int(vertex.max()) + 1)
        out = torch.zeros_like(logits)
        out[keep] = mean[vertex].view(-1, 3, 3, self.config.bins)
        return out

    @torch.no_grad()
    def decode(
        self, ids: Int[Tensor, "b f w"], keep: Bool[Tensor, "b f"], surface: Float[Tensor, "b p 6"] | None = None
    ) -> Int[Tensor, "b f 3 3"]:
        return self.logits(ids, keep, surface).argmax(-1)


class VQVAETokenizer:
    """A trained VQ-VAE behind the tokenizer interface. Lossy: how much is written in the model card."""

    lossy = True

    def __init__(self, network: VQVAE) -> None:
        self.network = network
        self.spell = network.config.levels
        self.bins, self.vocab = network.config.bins, network.config.codes
        self.width = 3 * network.config.levels

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]:
        if not len(corners):
            return np.zeros((0, self.width), dtype=np.int64)
        check_corners(corners, self.bins)
        faces = pad_faces([corners]).to(self._device)
        return self.network.encode(faces)[0].cpu().numpy()

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners. `context`: the surface, p x 6 points and normals in the cube, for a noise-resistant decoder.

        ValueError on a wrong width, or on an id out of range; when not `strict`, the faces before that id.
        """
        check_width(ids, self.width, f"faces of {self.width} codes", "faces")
        ids = whole_steps(ids, self.vocab, "code", strict)
        if not len(ids):
            return np.zeros((0, 3, 3), dtype=np.int64)
        steps = torch.as_tensor(ids, dtype=torch.long, device=self._device)[None]
        surface = None if context is None else torch.as_tensor(context, dtype=torch.float32, device=self._device)[None]
        keep = torch.ones(steps.shape[:2], dtype=torch.bool, device=self._device)
        return canonical(self.network.decode(steps, keep, surface)[0].cpu().numpy())

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """With the `points` of a cloud (in the cube) vertices stay on it, and come in canonical order, from its lowest point on.

        It holds for codes: the decoder may put vertices of different codes into one bin.
        """
        return FaceGrammar(self.vocab, self.spell, manifold, None if points is None else self._room(points), faces)

    def _room(self, points: Float[np.ndarray, "n 3"]) -> Room:
        # After each level the rest is as good as never longer than four times its root mean square; sums are up to two bins off.
        rest = 4 * self.network.quantizer.spread.sqrt().cpu().double().numpy() * self.bins / 2
        rest[-1] = 2
        return Room.around(points, self.bins, self.shifts.cpu().double().numpy(), rest)

    @property
    def places(self) -> Float[Tensor, "vocab 3"]:
        """Where in the cube the vertices with a given coarse code lie."""
        return self.network.places

    @property
    def offsets(self) -> Float[Tensor, "vocab 3"]:
        """How far a finer code moves a vertex, in cube units: codes are summed, and a position is linear in the sum."""
        weight = self.network.decoder.position.weight.detach()
        return self.network.quantizer.codebook.detach() @ weight.T / 2

    @property
    def shifts(self) -> Float[Tensor, "spell vocab 3"]:
        """How far a code moves a vertex, in bins: the same at each level; the first one starts from the middle."""
        start = self.network.decoder.position.bias.detach() * (self.bins / 2) + (self.bins - 1) / 2
        shifts = (self.offsets * self.bins).repeat(self.spell, 1, 1)
        shifts[0] += start
        return shifts

    @property
    def _device(self) -> torch.device:
        return self.network.places.device
