"""Walk tokens: faces in the order of a walk over shared edges, and words for moves that often come together.

    START  vertex vertex vertex      a face of its own: the lowest that is left; its three sides become gates
    vertex                           the face over the current gate; its other two sides are the next gates, the right one first
    SKIP                             no face over this gate

A vertex is written by one move, or by one to three ids of its own:

    HOP -1, HOP 1, HOP 2 ...         the end of a gate that lies so far along the border from the current one
    a + b - c + shift                from the parallelogram over the gate a b, whose face's third corner is c
    a + shift, b + shift             from either end of the gate
    a + n - b + shift                from the parallelogram in the border's corner at b, where n is the end of the next gate
    b + p - a + shift                and in that at a, where p is the beginning of the gate before
    y z x                            the vertex itself; y and z are left out where they are those of a

An id is a coordinate or a word: up to 16 moves that often come together (see walk_words.py). Of all ways to write a walk in words,
`encode` takes one with the fewest ids.

Equal places are one vertex, and a face closes all gates that its sides run against; so nothing needs to be declared, and any
faces can be written: an edge of many faces, one seen from both sides or a Moebius strip only costs a start, or coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from meshgpt.mesh import BINS

from .checks import check_bins, check_corners, check_width
from .interface import UNLIMITED, Grammar
from .one_id import OneIdTokenizer
from .walk_grammar import WalkGrammar
from .walk_words import moves_by_shift, tree, walk_through, words

# What is wrong with an id, by the numbers of walk_machine.py.
WRONGS = (
    "is fine",
    "is no id of 0 .. {last}",
    "needs an open gate, and there is none",
    "leads out of the cube",
    "makes a face that touches a vertex twice",
    "makes a face that is there already",
    "comes between the coordinates of a vertex, or after a later one of them",
    "comes inside a face",
    "makes one face more than there is room for",
    "leaves no face that is not there already",
)


class WalkTokenizer(OneIdTokenizer):
    """Fewer than one id a face, each up to 16 moves or a coordinate; lossless."""

    def __init__(self, bins: int = BINS) -> None:
        check_bins(bins)
        self.bins, self.vocab = bins, 3 * bins + len(words().ends) - 1

    def encode(self, corners: Integer[np.ndarray, "f 3 3"]) -> Int[np.ndarray, "n width"]:
        """ValueError on corners out of range, and on a face that is degenerate or was there before."""
        from .walk_kernels import fewest_ids, symbols_of

        check_corners(corners, self.bins)
        symbols, wrong, face = symbols_of(places_of_cells(corners.astype(np.int32)), self.bins, *moves_by_shift())
        if wrong:
            raise ValueError(f"face {face} {WRONGS[wrong]}; pass canonical corners, see meshgpt.mesh.canonical")
        return fewest_ids(symbols, 3 * self.bins, *tree())[:, None]

    def decode(self, ids: Integer[np.ndarray, "n width"], context: Any = None, strict: bool = True) -> Int[np.ndarray, "f 3 3"]:
        """Canonical corners. ValueError on a wrong width, on an id that cannot come where it does, and on an end inside a face.

        Not `strict`: the faces of the longest beginning of the ids that holds whole faces.
        """
        from .walk_kernels import faces_of

        check_width(ids, self.width, "walk", "ids")
        walk, wrong, at, valid = walk_through(ids[:, 0], self.bins)
        if wrong and strict:
            cut = f"cut the sequence with ids[:{valid}]"
            if at == len(ids):
                raise ValueError(f"the {len(ids)} ids end inside a face; go on, or {cut}")
            raise ValueError(f"id {ids[at, 0]} at place {at} {WRONGS[wrong].format(last=self.vocab - 1)}; {cut}")
        return corners_in_order(faces_of(walk))

    def grammar(self, manifold: bool = False, points: Float[np.ndarray, "n 3"] | None = None, faces: int = UNLIMITED) -> Grammar:
        """An id is several moves, or a part of a vertex: `manifold` edges, and the cloud's `points`, are not looked at."""
        return WalkGrammar(self.bins, faces)


def places_of_cells(cells: Int[np.ndarray, "*n 3"]) -> Int[np.ndarray, "*n"]:
    """Vertices (x, y, z) of up to 1024 bins as one number each: their places in canonical order."""
    x, y, z = np.moveaxis(cells, -1, 0)
    return y << 20 | z << 10 | x


def cells_of_places(places: Int[np.ndarray, "*n"]) -> Int[np.ndarray, "*n 3"]:
    """And back."""
    return np.stack([places & 1023, places >> 20, places >> 10 & 1023], -1)


def corners_in_order(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "f 3 3"]:
    """Canonical corners of faces of vertices, which are places."""
    return cells_of_places(_sorted(faces))


def _sorted(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "f 3"]:
    """Canonical order, of different faces of three vertices each, whose numbers sort as the vertices do."""
    turn = (faces.argmin(1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turn, 1).astype(np.int64)
    first, second, third = faces.T
    # Two sorts, of which the second keeps the first's order: three numbers of 30 bits do not fit into one.
    order = np.argsort(third, kind="stable")
    return faces[order[np.argsort((first << 30 | second)[order], kind="stable")]]
