"""PCD files, the Point Cloud Library's, as numpy arrays: rows with columns x, y, z and, where they are there, nx, ny, nz.

    FIELDS x y z normal_x normal_y normal_z
    SIZE 4 4 4 4 4 4        bytes
    TYPE F F F F F F        float, unsigned or integer
    COUNT 1 1 1 1 1 1       numbers
    POINTS 8192
    DATA binary             or ascii, or binary_compressed

Binary rows are mapped, not read, so that some can be picked out of many millions. (open3d 0.20 reads PCD files as well, but where
they are cut off or damaged it makes points up or crashes.) It knows the format. It does not know clouds or frames.

n  points
"""

from __future__ import annotations

import warnings
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

COLUMNS = {"x": "x", "y": "y", "z": "z", "normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}
KINDS = {"F": "f", "I": "i", "U": "u"}
KEYS = {"VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA"}
LONGEST_LINE = 1 << 16  # bytes


class _Header(NamedTuple):
    """`row` are the bytes of a point with its named columns, `places` where these stand in a line of text."""

    points: int
    row: np.dtype
    places: list[int]
    data: str


def read_pcd(path: Path) -> Shaped[np.ndarray, "n"]:
    """ValueError with one sentence for what is no whole PCD file."""
    with path.open("rb") as file:
        header = _header(file, path.name)
        start, left = file.tell(), path.stat().st_size - file.tell()
        if header.data == "ascii":
            return _ascii(file, header, path.name)
        packed, unpacked = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4").tolist()
        size = header.points * header.row.itemsize
        needed = size if header.data == "binary" else packed + 8
        if needed > left or (header.data == "binary_compressed" and size > unpacked):
            raise ValueError(
                f"{path.name} is cut off: {header.points} points take {needed} bytes, {left} are there; copy or export it again"
            )
        if header.data == "binary_compressed":
            return _compressed(file.read(packed), header, path.name)
    return np.memmap(path, np.uint8, "r")[start : start + size].view(header.row)


def _header(file: BufferedReader, name: str) -> _Header:
    """Leaves the file at its first row."""
    lines: dict[str, list[str]] = {}
    while "DATA" not in lines:
        words = file.readline(LONGEST_LINE).decode("latin-1").split()
        if not words or (words[0] not in KEYS and not words[0].startswith("#")):
            raise ValueError(f"{name} is not a whole PCD file (its header has no DATA line); copy or export it again")
        lines[words[0]] = words[1:]
    try:
        header = _parsed(lines)
    except (KeyError, IndexError, ValueError, TypeError):
        raise ValueError(f"the header of {name} makes no sense; export it again as PCD 0.7") from None
    if not {"x", "y", "z"} <= set(header.row.names) or header.data not in ("ascii", "binary", "binary_compressed") or header.points < 0:
        raise ValueError(f"{name} has the fields {' '.join(lines['FIELDS'])} as {header.data}; it needs x, y and z, ascii or binary")
    return header


def _parsed(lines: dict[str, list[str]]) -> _Header:
    sizes = [int(each) for each in lines["SIZE"]]
    counts = [int(each) for each in lines.get("COUNT", ["1"] * len(sizes))]
    starts = np.cumsum([0, *np.multiply(sizes, counts)]).tolist()
    places = np.cumsum([0, *counts]).tolist()
    fields = zip(lines["FIELDS"], lines["TYPE"], sizes, starts[:-1], places[:-1], strict=True)
    if any(count != 1 for name, count in zip(lines["FIELDS"], counts, strict=True) if name in COLUMNS):
        raise ValueError
    columns = [(COLUMNS[name], f"<{KINDS[kind]}{size}", start, place) for name, kind, size, start, place in fields if name in COLUMNS]
    names, formats, offsets, places = (list(each) for each in zip(*columns, strict=True))
    row = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": starts[-1]})
    return _Header(int(lines["POINTS"][0]), row, places, lines["DATA"][0])


def _ascii(file: BufferedReader, header: _Header, name: str) -> Shaped[np.ndarray, "n"]:
    row = np.dtype([(each, "f8") for each in header.row.names])
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there are no lines is said below
            table = np.loadtxt(islice(file, header.points), row, comments=None, usecols=header.places, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{name} has a point that is not as its header says ({error}); export it again") from None
    if len(table) < header.points:
        raise ValueError(f"{name} is cut off: {header.points} points are promised, {len(table)} are there; copy or export it again")
    return table


def _compressed(packed: bytes, header: _Header, name: str) -> Shaped[np.ndarray, "n"]:
    """Here all numbers of a field come before those of the next."""
    data = _unpacked(packed, header.points * header.row.itemsize)
    if data is None:
        raise ValueError(f"{name} is damaged: its packed points cannot be unpacked; copy or export it again")
    table = np.zeros(header.points, [(field, kind) for field, (kind, _) in header.row.fields.items()])
    for field, (kind, start) in header.row.fields.items():
        table[field] = np.frombuffer(data, kind, header.points, start * header.points)
    return table


def _unpacked(packed: bytes, size: int) -> bytearray | None:
    """LZF: runs of new bytes, and references to bytes that came before; None when it is not `size` bytes."""
    data, at = bytearray(), 0
    while at < len(packed) and len(data) <= size:
        head = packed[at]
        if head < 32:
            data += packed[at + 1 : at + 2 + head]
            at += 2 + head
            continue
        long = head >> 5 == 7
        if at + 1 + long >= len(packed):
            return None
        length = (head >> 5) + 2 + (packed[at + 1] if long else 0)
        distance = ((head & 31) << 8) + packed[at + 1 + long] + 1
        if distance > len(data):
            return None
        seen = data[-distance:][:length]
        data += (seen * (length // len(seen) + 1))[:length]  # a reference may run on into what it writes
        at += 2 + long
    return data if len(data) == size else None
