r"""A mesh as the text of an .obj file: what a plain language model would write.

    v 12 0 7\n  ...  f 1 2 3\n  ...      vertices x y z in bins, all before the faces, whose corners count them from 1

Vertices are different, faces too (whichever way round), and numbers have no zeros in front.

It knows text. It does not know canonical order, nor ids.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Integer

from .file_reading import Problem, Reading

NUMBER = rb"(?:0|[1-9][0-9]{0,9}+)"
LINES = re.compile(rb"(?:v %b %b %b\n)*+(?:f %b %b %b\n)*+" % ((NUMBER,) * 6))
BLANKS = bytes.maketrans(b"vf\n", b"   ")


def write(vertices: Integer[np.ndarray, "v 3"], faces: Integer[np.ndarray, "f 3"], bins: int) -> bytes:
    """b"" without faces."""
    if not len(faces):
        return b""
    lines = "v %d %d %d\n" * len(vertices) + "f %d %d %d\n" * len(faces)
    return (lines % (*vertices.reshape(-1).tolist(), *(faces.reshape(-1) + 1).tolist())).encode()


def read(data: bytes, bins: int) -> Reading:
    """The mesh of the whole lines."""
    end = LINES.match(data).end()
    problem = None if end == len(data) else Problem(end, _unfinished(data, end))
    count = data.count(b"v", 0, end)
    numbers = np.fromstring(data[:end].translate(BLANKS), dtype=np.int64, sep=" ") if end else np.zeros(0, np.int64)
    vertices, faces = np.split(numbers.reshape(-1, 3), [count])
    wrong = _wrong_vertex(vertices, bins)
    if wrong is not None:
        at, said = wrong
        return Reading(vertices, faces[:0], Problem(_line(data, at), said), lambda face: 0)
    beyond = ((faces < 1) | (faces > count)).any(1)
    if beyond.any():
        face = int(beyond.argmax())
        problem = Problem(_line(data, count + face), f"face {face} refers to a vertex that is not there")
        faces = faces[:face]
    return Reading(vertices, faces - 1, problem, lambda face: _line(data, count + face))


def _wrong_vertex(vertices: np.ndarray, bins: int) -> tuple[int, str] | None:
    """The first one that is outside of the bins, or is there already, and what to say of it."""
    beyond = (vertices >= bins).any(1)
    if beyond.any():
        at = int(beyond.argmax())
        return at, f"vertex {at + 1} is {vertices[at].tolist()}, outside of {bins} bins"
    keys = (vertices[:, 0] * bins + vertices[:, 1]) * bins + vertices[:, 2]
    _, first = np.unique(keys, return_index=True)
    if len(first) == len(keys):
        return None
    again = np.ones(len(keys), dtype=bool)
    again[first] = False
    return int(again.argmax()), f"vertex {int(again.argmax()) + 1} is there already"


def _unfinished(data: bytes, end: int) -> str:
    line = data[end:].partition(b"\n")
    return f"the line {line[0][:40].decode('latin-1')!r} " + ("is neither vertex nor face" if line[1] else "does not end")


def _line(data: bytes, number: int) -> int:
    """Where a line begins."""
    return len(b"\n".join(data.split(b"\n", number)[:number])) + bool(number)
