"""A mesh as the bytes of meshoptimizer's vertex and index codecs, put side by side so that they can be read from the left.

    count      first vertex     blocks of 256 vertices                        faces
    255 44     x y z            x: modes, deltas  y: ...  z: ...  0: modes    code  code  code data  code ...

Both codecs are written by meshoptimizer (vertex version 0, index version 1, stable formats; EXT_meshopt_compression describes them).
What is the same in all files or can be told from the rest is left out and put back for reading: headers, padding, the table at the
end. The rest is moved, byte by byte: the first vertex comes first, and what belongs to a face stands behind its code, so that whoever
writes bytes from the left knows all vertices when it comes to faces, and all of a face when it has ended.

The count is the sum of bytes up to the first one below 255. Above 256 bins a coordinate is two bytes, the lower one first.

It knows bytes. It does not know canonical order, nor ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from .file_reading import Problem, Reading, nothing

GROUP, BLOCK = 16, 256  # vertices whose deltas share a mode, and a block
BITS = (0, 2, 4, 8)  # of a delta, by mode
VERTEX_HEADER, INDEX_HEADER = b"\xa0", b"\xe1"
TAIL = 32  # bytes at the end of the vertex codec: zeros and the first vertex
PAIRS = bytes.fromhex("007687566778a9866589689801690000")  # second and third corners, by the lower half of a code
VERSIONS = "meshoptimizer>=0.2.30a0"


def two_bytes(bins: int) -> bool:
    """Whether a coordinate takes two of them."""
    return bins > 256


# Writing


def write(vertices: Integer[np.ndarray, "v 3"], faces: Integer[np.ndarray, "f 3"], bins: int) -> bytes:
    """Faces in strips, vertices in the order in which faces need them; b"" without faces. ImportError without meshoptimizer."""
    if not len(faces):
        return b""
    codec = _codec()
    order = np.zeros(faces.size, np.uint32)
    codec.optimize_vertex_cache_strip(order, np.ascontiguousarray(faces.reshape(-1), np.uint32), faces.size, len(vertices))
    padded = np.zeros((len(vertices), 4), np.uint16 if two_bytes(bins) else np.uint8)
    padded[:, :3] = vertices
    stored = np.zeros_like(padded)
    count = codec.optimize_vertex_fetch(stored, order, padded)
    stored = stored[:count]
    return _count_bytes(count) + stored[0, :3].tobytes() + _write_vertices(codec, stored) + _write_faces(codec, order)


def _codec() -> ModuleType:
    try:
        import meshoptimizer
    except ImportError as error:
        raise ImportError(f"meshopt bytes need meshoptimizer, which cannot be loaded ({error}); pip install '{VERSIONS}'") from None
    return meshoptimizer


def _count_bytes(count: int) -> bytes:
    return b"\xff" * (count // 255) + bytes([count % 255])


def _write_vertices(codec: ModuleType, stored: np.ndarray) -> bytes:
    codec.encode_vertex_version(0)
    try:
        return codec.encode_vertex_buffer(stored)[len(VERTEX_HEADER) : -TAIL]
    finally:
        codec.encode_vertex_version(1)  # as it is when meshoptimizer is loaded


def _write_faces(codec: ModuleType, order: np.ndarray) -> bytes:
    codec.encode_index_version(1)
    written = codec.encode_index_buffer(order)
    if written[:1] != INDEX_HEADER or written[-len(PAIRS) :] != PAIRS:
        raise ImportError(f"this meshoptimizer writes index buffers of another version; pip install '{VERSIONS}'")
    faces = len(order) // 3
    return _side_by_side(written[1 : 1 + faces], written[1 + faces : -len(PAIRS)])


def _side_by_side(codes: bytes, data: bytes) -> bytes:
    """Each code followed by its data, which the codec keeps behind all codes."""
    parts: list[bytes] = []
    done = taken = 0
    for found in WITH_DATA.finditer(codes):
        parts.append(codes[done : found.end()])
        done = found.end()
        end = DATA_OF[codes[done - 1]].match(data, taken).end()
        parts.append(data[taken:end])
        taken = end
    return b"".join([*parts, codes[done:]])


# What follows a code: numbers of at most five bytes, of which only the last is below 128

_HALF = b"".join(re.escape(bytes([high << 4 | 15])) for high in range(15))  # third corner told by a number, second one not
_NUMBER = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_PAIR = rb"(?:\xff%(n)s%(n)s|[\xf0-\xfe%(h)s]%(n)s|[^\xf0-\xff%(h)s])"
_PAIR_AND_FIRST = rb"(?:\xff%(n)s%(n)s%(n)s|[\xf0-\xfe%(h)s]%(n)s%(n)s|[^\xf0-\xff%(h)s]%(n)s)"
_NAMES = {b"n": _NUMBER, b"h": _HALF}
ON_EDGE, NEXT_FIRST, FIRST_TOLD = (
    _NUMBER,
    _PAIR % _NAMES,
    _PAIR_AND_FIRST % _NAMES,
)  # after x15 (x < 15), 254 and 255
WITH_DATA = re.compile(rb"[%b\xfe\xff]" % _HALF)
DATA_OF = {
    **dict.fromkeys((high << 4 | 15 for high in range(15)), re.compile(ON_EDGE, re.DOTALL)),
    254: re.compile(NEXT_FIRST, re.DOTALL),
    255: re.compile(FIRST_TOLD, re.DOTALL),
}
RUN = re.compile(
    rb"([^%b\xfe\xff]*+)([%b]%b|\xfe%b|\xff%b)?" % (_HALF, _HALF, ON_EDGE, NEXT_FIRST, FIRST_TOLD),
    re.DOTALL,
)


# Reading


def read(data: bytes, bins: int) -> Reading:
    """The mesh of the bytes, as far as they go. Nothing in them makes it larger than 255 vertices and one face a byte."""
    if not data:
        return Reading(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), None, lambda face: 0)
    length = re.match(rb"\xff*+.", data, re.DOTALL)
    if length is None:
        return nothing(Problem(len(data), "the count of vertices does not end"))
    size = 8 if two_bytes(bins) else 4
    count, first = sum(length[0]), length.end()
    blocks = first + size * 3 // 4
    end = _end_of_vertices(data, blocks, count, size)
    if end is None:
        return nothing(Problem(len(data), f"the sequence ends inside the {count} vertices"))
    vertices = _read_vertices(data[first:blocks], data[blocks:end], count, size)
    beyond = (vertices >= bins).any(1)
    if beyond.any():
        vertex = int(beyond.argmax())
        return nothing(Problem(blocks, f"vertex {vertex} of those that begin here is {vertices[vertex].tolist()}, outside of {bins} bins"))
    faces, problem = _read_faces(data, end)
    broken = (faces >= count).any(1)
    if broken.any():
        face = int(broken.argmax())
        problem = Problem(_start_of_face(data, end, face), f"face {face} refers to a vertex that is not there")
        faces = faces[:face]
    return Reading(vertices, faces, problem, lambda face: _start_of_face(data, end, face))


def _end_of_vertices(data: bytes, at: int, count: int, size: int) -> int | None:
    """The byte behind the blocks; None where there are fewer bytes than that.

    A group is its sixteen deltas, packed, and a byte for each of them that is all ones: too large for its bits.
    """
    for start in range(0, count, BLOCK):
        groups = -(-min(BLOCK, count - start) // GROUP)
        for _ in range(size):
            modes = data[at : at + -(-groups // 4)]
            at += -(-groups // 4)
            if at > len(data):
                return None
            for group in range(groups):
                mode = modes[group >> 2] >> 2 * (group & 3) & 3
                packed = GROUP * BITS[mode] // 8
                at += packed + sum(map(ESCAPES[mode].__getitem__, data[at : at + packed])) if 0 < mode < 3 else packed
    return at if at <= len(data) else None


def _ones(byte: int, bits: int) -> int:
    """How many of the deltas in a byte are all ones."""
    large = (1 << bits) - 1
    return sum(byte >> shift & large == large for shift in range(0, 8, bits))


ESCAPES = {mode: bytes(_ones(byte, BITS[mode]) for byte in range(256)) for mode in (1, 2)}


def _read_vertices(first: bytes, blocks: bytes, count: int, size: int) -> np.ndarray:
    if not count:
        return np.zeros((0, 3), np.int64)
    tail = bytes(TAIL - size) + first + bytes(size - len(first))
    codec = _codec()
    kind = np.uint64 if size == 8 else np.uint32
    read = codec.decode_vertex_buffer(count, size, VERTEX_HEADER + blocks + tail, kind)
    return read.view(np.uint16 if size == 8 else np.uint8).reshape(count, 4)[:, :3].astype(np.int64)


class _Run(NamedTuple):
    """Codes without data, and then perhaps one with it; where they begin."""

    at: int
    codes: bytes
    data: bytes


def _runs(data: bytes, at: int) -> Iterator[_Run]:
    while at < len(data):
        found = RUN.match(data, at)
        if found.end() == at:
            return
        rest = found[2] or b""
        yield _Run(at, found[1] + rest[:1], rest[1:])
        at = found.end()


def _read_faces(data: bytes, at: int) -> tuple[np.ndarray, Problem | None]:
    runs = list(_runs(data, at))
    codes, extra = b"".join(run.codes for run in runs), b"".join(run.data for run in runs)
    end = at + len(codes) + len(extra)
    problem = None if end == len(data) else Problem(end, f"face {len(codes)} begins here and does not end as it must")
    if not codes:
        return np.zeros((0, 3), np.int64), problem
    read = _codec().decode_index_buffer(3 * len(codes), 4, INDEX_HEADER + codes + extra + PAIRS)
    return read.reshape(-1, 3).astype(np.int64), problem


def _start_of_face(data: bytes, at: int, face: int) -> int:
    for run in _runs(data, at):
        if face < len(run.codes):
            return run.at + face
        face -= len(run.codes)
        at = run.at + len(run.codes) + len(run.data)
    return at
