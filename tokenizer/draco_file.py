"""A mesh as a Draco file: EdgeBreaker and an entropy coder, the shortest lossless bytes there are, and no tokens to learn from.

    checksum     the file without its first eleven bytes, which are the same in all files
    4 bytes      ...

The checksum (CRC-32) makes an error of damage that Draco would not notice: it often reads another mesh out of broken bytes. It keeps
nobody from writing bytes that bear the right one; such bytes reach Draco's own checks, behind a bound on how much they may ask for.

It knows bytes. It does not know canonical order, nor ids.
"""

from __future__ import annotations

import zlib
from types import ModuleType

import numpy as np
from jaxtyping import Integer

from .file_reading import Problem, Reading, nothing

HEADER = b"DRACO\x02\x02\x01\x01\x00\x00"  # version 2.2, a mesh, EdgeBreaker, no flags
CHECKSUM = 4
MOST_FACES_A_BYTE = 4096  # a flat grid of 300,000 faces has 590
EFFORT = 10  # of 10
WHOLE = "Draco bytes cannot be read in part"


def write(vertices: Integer[np.ndarray, "v 3"], faces: Integer[np.ndarray, "f 3"], bins: int) -> bytes:
    """b"" without faces. ImportError without DracoPy."""
    if not len(faces):
        return b""
    written = _codec().encode(vertices.astype(np.int32), faces.astype(np.uint32), compression_level=EFFORT)
    if not written.startswith(HEADER):
        raise ImportError("this DracoPy writes another version of the format; pip install 'DracoPy>=2.2'")
    body = written[len(HEADER) :]
    return zlib.crc32(body).to_bytes(CHECKSUM, "little") + body


def _codec() -> ModuleType:
    try:
        import DracoPy
    except ImportError as error:
        raise ImportError(f"Draco bytes need DracoPy, which cannot be loaded ({error}); pip install 'DracoPy>=2.2'") from None
    return DracoPy


def read(data: bytes, bins: int) -> Reading:
    """The mesh of the bytes, or nothing."""
    if not data:
        return Reading(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), None, lambda face: 0)
    body = data[CHECKSUM:]
    if zlib.crc32(body).to_bytes(CHECKSUM, "little") != data[:CHECKSUM]:
        return nothing(Problem(0, f"the checksum does not fit, so bytes are wrong or missing, and {WHOLE}"))
    if not _modest(body):
        return nothing(Problem(CHECKSUM, f"so many faces cannot stand in {len(body)} bytes"))
    try:
        found = _codec().decode(HEADER + body)
        vertices, faces = np.rint(found.points), np.asarray(found.faces, np.int64)
    except (ValueError, TypeError, AttributeError, MemoryError, RuntimeError, _codec().FileTypeException) as error:
        return nothing(Problem(CHECKSUM, f"Draco finds no mesh ({error}), and {WHOLE}"))
    if not _is_mesh(vertices, faces, bins):
        return nothing(Problem(CHECKSUM, f"a vertex lies outside of {bins} bins or is not there, and {WHOLE}"))
    return Reading(vertices.astype(np.int64), faces, None, lambda face: 0)


def _is_mesh(vertices: np.ndarray, faces: np.ndarray, bins: int) -> bool:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        return False
    inside = (vertices >= 0) & (vertices < bins)  # NaN is not
    return bool(inside.all() and faces.min(initial=0) >= 0 and faces.max(initial=-1) < len(vertices))


def _modest(body: bytes) -> bool:
    """Whether the counts at the start (kind of traversal, vertices, faces) are ones that so many bytes can hold."""
    vertices, at = _number(body, 1)
    faces, _ = _number(body, at)
    return max(vertices, faces) <= MOST_FACES_A_BYTE * len(body)


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number in sevens of bits, the lowest first, and where it ends."""
    value = shift = 0
    for at in range(at, min(at + 5, len(body))):  # noqa: B020 - it goes on from where it was
        value |= (body[at] & 127) << shift
        shift += 7
        if body[at] < 128:
            break
    return value, at + 1
