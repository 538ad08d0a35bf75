"""Which bytes may come next in the text of `obj_text`: every one of those ends in a mesh."""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from .interface import UNLIMITED, Steering

VOCAB = 256
BLANK, NEWLINE, ZERO = b" \n0"
VERTEX, FACE = b"vf"


class ObjState(NamedTuple):
    """Heights z of the vertices over each (x, y), and how many there are; third corners over each pair, how many faces each vertex
    has, and how many there are; the open line."""

    columns: dict[tuple[int, int], frozenset[int]]
    vertices: int
    thirds: dict[frozenset[int], frozenset[int]]
    fans: dict[int, int]
    faces: int
    line: bytes


class ObjGrammar:
    """Different vertices, then different faces, of three different vertices each. END comes at the start, or after a face; after `most`
    faces there is only END, and vertices are at most as many as these have corners."""

    def __init__(self, bins: int, most: int = UNLIMITED) -> None:
        self.bins, self.most = bins, most

    def start(self) -> ObjState:
        return ObjState({}, 0, {}, {}, 0, b"")

    def legal(self, state: ObjState) -> Bool[np.ndarray, "ids"]:
        mask = np.zeros(VOCAB + 1, dtype=bool)
        if not state.line:
            mask[VERTEX] = not state.faces and state.vertices < min(self.bins**3, 3 * self.most)
            mask[FACE] = state.faces < min(comb(state.vertices, 3), self.most)
            mask[VOCAB] = state.faces or not state.vertices
        elif len(state.line) == 1:
            mask[BLANK] = True
        else:
            *whole, begun = state.line[2:].split(b" ")
            numbers = [int(number) for number in whole]
            fit = self._coordinates(state, numbers) if state.line[0] == VERTEX else _corners(state, numbers)
            mask[ZERO : ZERO + 10] = _digits(fit, begun)
            mask[NEWLINE if len(whole) == 2 else BLANK] = bool(begun) and fit[int(begun)]
        return mask

    def advance(self, state: ObjState, id: int) -> ObjState:
        if id != NEWLINE:
            return state._replace(line=state.line + bytes([id]))
        a, b, c = map(int, state.line[2:].split(b" "))
        if state.line[0] == VERTEX:
            columns = state.columns | {(a, b): state.columns.get((a, b), frozenset()) | {c}}
            return state._replace(columns=columns, vertices=state.vertices + 1, line=b"")
        thirds, fans = dict(state.thirds), dict(state.fans)
        for pair, third in (((a, b), c), ((b, c), a), ((c, a), b)):
            thirds[frozenset(pair)] = thirds.get(frozenset(pair), frozenset()) | {third}
            fans[third] = fans.get(third, 0) + 1
        return ObjState(state.columns, state.vertices, thirds, fans, state.faces + 1, b"")

    def steered(self, state: ObjState, steering: Steering) -> ObjState:
        return state

    def faces(self, state: ObjState) -> int:
        return state.faces

    def most_steps(self, faces: int) -> int:
        """Three vertices a face, a line each, and the face's own."""
        return faces * (3 * (5 + 3 * len(str(self.bins - 1))) + 5 + 3 * len(str(3 * faces)))

    def _coordinates(self, state: ObjState, numbers: list[int]) -> Bool[np.ndarray, "values"]:
        """Which values leave room for a vertex that is not there yet."""
        fit = np.ones(self.bins, dtype=bool)
        if len(numbers) == 2:
            fit[list(state.columns.get(tuple(numbers), ()))] = False
        elif len(numbers) == 1 and state.vertices >= self.bins:
            fit[[y for (x, y), heights in state.columns.items() if x == numbers[0] and len(heights) == self.bins]] = False
        elif not numbers and state.vertices >= self.bins**2:
            taken = np.zeros(self.bins, dtype=np.int64)
            for (x, _), heights in state.columns.items():
                taken[x] += len(heights)
            fit = taken < self.bins**2
        return fit


def _corners(state: ObjState, numbers: list[int]) -> Bool[np.ndarray, "values"]:
    """Which corners, counted from 1, leave room for a face that is not there yet."""
    fit = np.ones(state.vertices + 1, dtype=bool)
    fit[[0, *numbers]] = False
    if len(numbers) == 2:
        fit[list(state.thirds.get(frozenset(numbers), ()))] = False
    elif numbers:
        full = (pair for pair, thirds in state.thirds.items() if numbers[0] in pair and len(thirds) == state.vertices - 2)
        fit[[vertex for pair in full for vertex in pair]] = False
    else:
        fit[[vertex for vertex, faces in state.fans.items() if faces == comb(state.vertices - 1, 2)]] = False
    return fit


def _digits(fit: Bool[np.ndarray, "values"], begun: bytes) -> list[bool]:
    """With which digits a value that fits goes on."""
    if begun == b"0":
        return [False] * 10
    flags = [not begun and bool(fit[0])] + [False] * 9
    for digit in range(0 if begun else 1, 10):
        low, span = int(begun or b"0") * 10 + digit, 1
        while low * span < len(fit) and not flags[digit]:
            flags[digit] = bool(fit[low * span : (low + 1) * span].any())
            span *= 10
    return flags
