"""What tokenizers and models are measured by: tokens and bits for a face, and whether meshes come back as they were.

Tokens are ids: a step of width w is w of them. END, which belongs to the model, counts in a model's nats and not in a tokenizer's tokens.

f  faces
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Integer

from meshgpt.mesh import canonical, weld
from meshgpt.tokenizer.interface import MeshTokenizer

RAW_TOKENS = 9  # of a face, one for each coordinate


def bits_per_face(nats: float, faces: int) -> float:
    """nats / (faces log 2): the summed loss of whole sequences, END included, for each face; comparable across tokenizers."""
    return nats / math.log(2) / faces


def tokens_per_face(tokens: int, faces: int) -> float:
    """L / N: all tokens / all faces, not a mean over meshes."""
    return tokens / faces


def compression_ratio(tokens: int, faces: int) -> float:
    """L / 9N: against nine coordinates for a face (MeshAnythingV2, EdgeRunner); smaller is shorter."""
    return tokens / (RAW_TOKENS * faces)


def bits_per_face_bound(tokens: int, faces: int, vocab: int) -> float:
    """L / N x log2 V: the most that a model can need for a face, when it finds all ids equally likely (Mesh Silksong)."""
    return tokens / faces * math.log2(vocab)


@runtime_checkable
class Coder(Protocol):
    """What a round trip needs of a tokenizer."""

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]: ...

    def decode(self, ids: Integer[np.ndarray, "n width"]) -> Int[np.ndarray, "f 3 3"]: ...


class RoundTrip(NamedTuple):
    """One mesh through a tokenizer: its length, and whether it came back exactly; `failed` is '' or what the tokenizer raised.

    `oriented`: the same canonical corners. `unoriented`: the same faces on the same vertices, whichever way round.
    """

    faces: int
    tokens: int
    oriented: bool
    unoriented: bool
    failed: str = ""


class TokenizerScores(NamedTuple):
    """Of a tokenizer on a set of meshes. Meshes that it could not write count in the shares, as not exact, and not in the lengths."""

    tokens_per_face: float
    compression_ratio: float
    bits_per_face_bound: float
    exact_oriented: float
    exact_unoriented: float
    meshes: int
    failures: int


def round_trip(tokenizer: Coder, corners: Integer[np.ndarray, "f 3 3"]) -> RoundTrip:
    """Encode and decode canonical corners; what the tokenizer raises is noted, not raised."""
    tokens = 0
    try:
        ids = tokenizer.encode(corners)
        tokens = int(ids.size)
        back = tokenizer.decode(ids)
    except Exception as error:  # tokenizers, others' among them, raise whatever they stumble over; it counts against them
        return RoundTrip(len(corners), tokens, False, False, str(error) or type(error).__name__)
    oriented = np.array_equal(canonical(back), corners)
    return RoundTrip(len(corners), tokens, oriented, oriented or np.array_equal(_unoriented(back), _unoriented(corners)))


def _unoriented(corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "g 3 3"]:
    """Every face once, its corners in order of their numbers: equal for meshes that differ in orientation only."""
    vertices, faces = weld(canonical(corners))
    return vertices[np.unique(np.sort(faces, 1), axis=0)]


def tokenizer_scores(tokenizer: MeshTokenizer, meshes: Iterable[Integer[np.ndarray, "_ 3 3"]]) -> TokenizerScores:
    """All numbers of a tokenizer over canonical corners; ValueError when no mesh with faces is written."""
    return summary([round_trip(tokenizer, corners) for corners in meshes], tokenizer.vocab)


def summary(trips: Sequence[RoundTrip], vocab: int) -> TokenizerScores:
    """All numbers of round trips through one tokenizer; ValueError when no mesh with faces is written."""
    written = [trip for trip in trips if trip.tokens]
    tokens, faces = sum(trip.tokens for trip in written), sum(trip.faces for trip in written)
    if not faces:
        raise ValueError(f"of {len(trips)} meshes none with faces could be written, so there is nothing to measure; pass others")
    return TokenizerScores(
        tokens_per_face(tokens, faces),
        compression_ratio(tokens, faces),
        bits_per_face_bound(tokens, faces, vocab),
        float(np.mean([trip.oriented for trip in trips])),
        float(np.mean([trip.unoriented for trip in trips])),
        len(trips),
        sum(bool(trip.failed) for trip in trips),
    )
