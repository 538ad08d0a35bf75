"""The bytes of a mesh file as tokens: what JPEG-LM (Han et al. 2024) does for pictures, for meshes. An id is a byte.

    meshopt   meshoptimizer's vertex and index codecs       2.1 bytes a face, readable from the left
    draco     Draco                                         1.1 bytes a face, only as a whole: a lower bound, not a language
    obj       the text of an .obj file                      20 bytes a face, what a plain language model would write

Faces and vertices come in the order that suits the file; canonical order is restored behind it, so all three are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from meshgpt.mesh import BINS, canonical_of, weld

from . import draco_file, meshopt_file, obj_text
from .checks import check_bins, check_corners, check_width, first_spoiled
from .file_reading import Problem, Reading
from .interface import UNLIMITED, Grammar
from .meshopt_grammar import MeshoptGrammar
from .obj_grammar import ObjGrammar
from .one_id import OneIdTokenizer


class Format(NamedTuple):
    """How a kind of file is written and read."""

    write: Callable[[np.ndarray, np.ndarray, int], bytes]
    read: Callable[[bytes, int], Reading]


FORMATS = {
    "meshopt": Format(meshopt_file.write, meshopt_file.read),
    "draco": Format(draco_file.write, draco_file.read),
    "obj": Format(obj_text.write, obj_text.read),
}


class CodecTokenizer(OneIdTokenizer):
    """One id a byte; lossless. `kind` is one of FORMATS."""

    kind = "meshopt"
    vocab = 256

    def __init__(self, bins: int = BINS) -> None:
        check_bins(bins)
        self.bins = bins

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n 1"]:
        """ValueError on corners out of range, on a face that touches a vertex twice, and on one that is there twice."""
        check_corners(corners, self.bins)
        vertices, faces = weld(corners)
        spoiled = first_spoiled(faces)
        if spoiled:
            raise ValueError(f"face {spoiled[0]} touches a vertex twice or is there twice; pass canonical(corners)")
        data = FORMATS[self.kind].write(vertices, faces, self.bins)
        return np.frombuffer(data, np.uint8).astype(np.int64)[:, None]

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners. ValueError where the ids are no whole file; when not `strict`, the faces before (none, of draco)."""
        check_width(ids, self.width, "bytes", "bytes")
        flat = ids[:, 0]
        wrong = np.flatnonzero((flat < 0) | (flat >= self.vocab))
        problem = None
        if len(wrong):
            at = int(wrong[0])
            problem = Problem(at, f"END (id {self.vocab}) is no byte" if flat[at] == self.vocab else f"id {flat[at]} is no byte")
            flat = flat[:at]
        reading = FORMATS[self.kind].read(flat.astype(np.uint8).tobytes(), self.bins)
        corners = canonical_of(reading.vertices, reading.faces)
        found = reading.problem
        if len(corners) < len(reading.faces):
            reading, found = _cut(reading)
            corners = canonical_of(reading.vertices, reading.faces)
        problem = problem or found
        if strict and problem is not None:
            raise ValueError(f"{problem.said} (id {problem.at} of {len(ids)}); make the ids again, or pass strict=False for what is whole")
        return corners

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """ValueError for draco: an entropy coder's bytes cannot be judged one by one. Files list vertices first: `manifold` edges, and
        the cloud's `points`, are not looked at."""
        if self.kind == "draco":
            raise ValueError("Draco's bytes are entropy-coded and have no grammar; generate with meshopt, obj or another tokenizer")
        return MeshoptGrammar(self.bins, faces) if self.kind == "meshopt" else ObjGrammar(self.bins, faces)


class MeshoptTokenizer(CodecTokenizer):
    """See `meshopt_file`."""

    kind = "meshopt"


class DracoTokenizer(CodecTokenizer):
    """See `draco_file`."""

    kind = "draco"


class ObjTokenizer(CodecTokenizer):
    """See `obj_text`."""

    kind = "obj"


def _cut(reading: Reading) -> tuple[Reading, Problem]:
    """What comes before the first face that touches a vertex twice or repeats another, and what is wrong with that face."""
    bad, _ = first_spoiled(weld(reading.vertices[reading.faces])[1])
    problem = Problem(reading.start(bad), f"face {bad} touches a vertex twice or repeats an earlier face")
    return reading._replace(faces=reading.faces[:bad]), problem
