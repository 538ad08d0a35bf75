"""MeshAnything's tokenizer: nine codes a face, and the noise-resistant decoder (Chen et al. 2024, section 4.2) that reads them.

    face 0                                  face 1
    coarse .. fine      c .. f    c .. f     c .. f  ...
     vertex 0            vertex 1  vertex 2

Its encoder was never published, so that meshes cannot be encoded. The decoder sees a fixed number of places for faces, the empty ones
included: how a face is decoded depends on how many there are.

b  rows      f  faces      s  places for faces      n  shape vectors      c  width of a code vector      d  width of the network
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from meshgpt.mesh import canonical
from meshgpt.transformer import Transformer, TransformerConfig

from .checks import column
from .face_grammar import FaceGrammar
from .interface import UNLIMITED, Grammar
from .one_id import OneIdTokenizer
from .winding import oriented

LEVELS = 3
FACE = 3 * LEVELS


@dataclass(frozen=True)
class FaceCodesConfig:
    """`codes` in one codebook for all levels, `shapes` shape vectors of width `dim`, `places` for faces."""

    bins: int = 128
    codes: int = 8192
    code_width: int = 1024
    dim: int = 768
    layers: int = 6
    heads: int = 12
    shapes: int = 257
    places: int = 800


class FaceCodesDecoder(nn.Module):
    def __init__(self, config: FaceCodesConfig) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.codebook = nn.Embedding(config.codes, config.code_width)
        self.embed = nn.Linear(3 * config.code_width, dim)
        self.place = nn.Embedding(config.places, dim)
        self.face_norm = nn.LayerNorm(dim, eps=1e-5)
        self.head, self.rest = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.shape_place = nn.Embedding(config.shapes, dim)
        self.shape_norm = nn.LayerNorm(dim, eps=1e-5)
        self.body = Transformer(TransformerConfig(dim, config.layers, config.heads, causal=False, layout="bert"))
        self.classify = nn.Linear(dim, 9 * config.bins)

    def forward(self, codes: Int[Tensor, "b s 9"], shape: Float[Tensor, "b n d"]) -> Float[Tensor, "b s 3 3 bins"]:
        """Logits of the bins of each coordinate; -1 is no code, and a face with one of these is empty: its logits mean nothing."""
        known = codes >= 0
        vectors = self.codebook(codes.clamp(min=0)) * known[..., None]
        faces = self.embed(vectors.unflatten(2, (3, LEVELS)).sum(3).flatten(2))
        keep = known.all(-1)[..., None]
        faces = self.face_norm(faces * keep + self.place.weight)
        shape = torch.cat([self.head(shape[:, :1]), self.rest(shape[:, 1:])], 1)
        shape = self.shape_norm(shape + self.shape_place.weight)
        hidden = self.body(torch.cat([shape, faces], 1))[:, shape.shape[1] :]
        return self.classify(hidden * keep).unflatten(-1, (3, 3, self.config.bins))


class FaceCodesTokenizer(OneIdTokenizer):
    """One code to a step, nine to a face. Lossy, and it only decodes."""

    lossy = True

    def __init__(self, network: FaceCodesDecoder) -> None:
        self.network = network
        self.bins, self.vocab = network.config.bins, network.config.codes

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n 1"]:
        """ValueError: only the decoder was published."""
        raise ValueError("the encoder of MeshAnything's codes was never published, so that meshes cannot be encoded; use another tokenizer")

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners, facing outward where that can be told. `context`: the shape vectors, n x d, which the decoder needs.

        ValueError names the first id that does not fit; when not `strict`, the whole faces before it are decoded.
        """
        whole = self._whole(column(ids), strict)
        if not len(whole):
            return np.zeros((0, 3, 3), dtype=np.int64)
        return oriented(canonical(self.corners(whole, context)))

    @torch.inference_mode()
    def corners(self, codes: Int[np.ndarray, "f 9"], context: Float[Tensor, "n d"]) -> Int[np.ndarray, "f 3 3"]:
        """Each face by itself, in the given order; equal vertices are not one, and a face may be flat. -1 is no code."""
        places = torch.full((1, self.network.config.places, FACE), -1)
        places[0, : len(codes)] = torch.from_numpy(codes)
        device = self.network.classify.weight.device
        return self.network(places.to(device), context.to(device)[None])[0, : len(codes)].argmax(-1).cpu().numpy()

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """Where codes put vertices is only known when all are there: `manifold` edges and the cloud's `points` are not looked at."""
        return FaceGrammar(self.vocab, LEVELS, faces=faces, step=1)

    def _whole(self, sequence: Int[np.ndarray, "n"], strict: bool) -> Int[np.ndarray, "f 9"]:
        wrong = np.flatnonzero((sequence < 0) | (sequence >= self.vocab))
        sound = min(int(wrong[0]) if len(wrong) else len(sequence), self.network.config.places * FACE)
        faces = sound // FACE
        if strict and faces * FACE < len(sequence):
            raise ValueError(f"{self._why(sequence, sound)}; cut the sequence with ids[:{faces * FACE}]")
        return sequence[: faces * FACE].reshape(-1, FACE)

    def _why(self, sequence: Int[np.ndarray, "n"], sound: int) -> str:
        if sound == self.network.config.places * FACE:
            return f"{len(sequence)} ids are more than the {self.network.config.places} faces that the decoder has places for"
        if sound < len(sequence):
            return f"id {sequence[sound]} at {sound} is not in 0 .. {self.vocab - 1}"
        return f"the end, at {sound}, comes inside a face"
