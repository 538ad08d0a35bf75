"""PLY files, text and binary, as numpy arrays: rows of vertices, and triangles.

    header              one row a vertex        one row a face
    element vertex 4    x y z nx ny nz          3  0 1 2
    element face 2      x y z nx ny nz ...      4  0 2 3 1 ...      polygons become triangles

The vertices of binary files are mapped, not read, so that some can be picked out of many millions. It knows the format. It does
not know meshes, clouds or frames.

v  vertices      f  triangles      n  polygons      k  corners of a polygon
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Mapping
from io import BufferedReader
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer, Num, Shaped, UInt8

KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip
STRUCTS = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
LONGEST_HEADER = 1 << 20  # bytes


class Ply(NamedTuple):
    """Vertices as rows with columns x, y, z and what else the file has, still on the disk where it is binary; without faces, a cloud."""

    vertices: Shaped[np.ndarray, "v"]
    faces: Int[np.ndarray, "f 3"]


class _Property(NamedTuple):
    """A column; in a list a number of items comes before the items, and `length` is the kind of that number."""

    name: str
    kind: str
    length: str | None


class _Element(NamedTuple):
    name: str
    rows: int
    properties: tuple[_Property, ...]

    @property
    def corners(self) -> _Property | None:
        """The list of a face's vertices; files call it vertex_index, vertex_indices or as they please."""
        lists = [each for each in self.properties if each.length]
        return next((each for each in lists if each.name.startswith("vert")), lists[0] if lists else None)


def read_ply(path: Path) -> Ply:
    """ValueError with one sentence for what is no whole PLY file."""
    with path.open("rb") as file:
        order, elements = _header(file, path.name)
        parts = dict(_text(file, elements, path) if order == "=" else _binary(file, elements, path))
    faces = parts.get("face")
    return Ply(parts["vertex"], np.zeros((0, 3), np.int64) if faces is None or faces.dtype.names else faces)


def write_ply(
    path: Path,
    positions: Float[np.ndarray, "v 3"],
    faces: Integer[np.ndarray, "f 3"] | None = None,
    normals: Float[np.ndarray, "v 3"] | None = None,
) -> None:
    """A binary file; positions in single precision, or in double where single is too coarse."""
    kind, name = ("<f8", "double") if too_coarse(positions) else ("<f4", "float")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(positions)}", *(f"property {name} {axis}" for axis in "xyz")]
    vertices = np.zeros(len(positions), [("positions", kind, 3), ("normals", "<f4", 0 if normals is None else 3)])
    vertices["positions"] = positions
    if normals is not None:
        header += [f"property float n{axis}" for axis in "xyz"]
        vertices["normals"] = normals
    triangles = np.zeros(0 if faces is None else len(faces), [("length", "u1"), ("corners", "<i4", 3)])
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles["length"], triangles["corners"] = 3, faces
    path.write_bytes("\n".join([*header, "end_header\n"]).encode() + vertices.tobytes() + triangles.tobytes())


def too_coarse(positions: Float[np.ndarray, "v 3"], tolerance: float = 1e-6) -> bool:
    """Whether single precision moves a point by more than this part of the extent, as it does with map coordinates."""
    if not len(positions):
        return False
    moved = np.abs(positions.astype(np.float32).astype(np.float64) - positions).max()
    return bool(moved > tolerance * (positions.max(0) - positions.min(0)).max())


# The header


def _header(file: BufferedReader, name: str) -> tuple[str, list[_Element]]:
    """Byte order ('=' for text) and elements, among them vertices with x, y and z; leaves the file at its first row."""
    lines = _header_lines(file, name)
    if next(lines, "") != "ply":
        raise ValueError(f"{name} is not a PLY file (its first line is not 'ply'); check how it was saved")
    order, elements = None, []
    for line in lines:
        words = line.split() or [""]
        try:
            if words[0] == "format":
                order = ORDERS[words[1]]
            elif words[0] == "element":
                elements.append(_Element(words[1], int(words[2]), ()))
            elif words[0] == "property":
                each = _Property(words[-1], KINDS[words[-2]], KINDS[words[2]] if words[1] == "list" else None)
                elements[-1] = elements[-1]._replace(properties=(*elements[-1].properties, each))
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"the header line {line!r} of {name} makes no sense; export it again as PLY 1.0") from None
    _check_elements(elements, name)
    if order is None:
        raise ValueError(f"the header of {name} has no format line; export it again as PLY 1.0")
    return order, [each._replace(properties=tuple(_ordered(one, order) for one in each.properties)) for each in elements]


def _header_lines(file: BufferedReader, name: str) -> Iterator[str]:
    while file.tell() < LONGEST_HEADER:
        line = file.readline(LONGEST_HEADER)
        if not line.endswith(b"\n"):
            break
        text = line.decode("latin-1").strip()
        if text == "end_header":
            return
        yield text
    raise ValueError(f"{name} is not a whole PLY file (its header has no end_header line); copy or export it again")


def _check_elements(elements: list[_Element], name: str) -> None:
    vertices = next((each for each in elements if each.name == "vertex"), None)
    if vertices is None or vertices.corners or not {"x", "y", "z"} <= {each.name for each in vertices.properties}:
        raise ValueError(f"{name} has no vertices with numbers x, y and z; export it as a mesh or as a point cloud")
    names = [each.name for each in elements]
    for each in elements:
        columns = [one.name for one in each.properties]
        if each.rows < 0 or not columns or len({*columns}) < len(columns) or names.count(each.name) > 1:
            raise ValueError(f"the header of {name} has an element {each.name!r} that makes no sense; export it again as PLY 1.0")


def _ordered(each: _Property, order: str) -> _Property:
    if order == "=":  # text has no kinds: every number is read as a double
        return _Property(each.name, "=f8", "=f8" if each.length else None)
    return _Property(each.name, order + each.kind, order + each.length if each.length else None)


# The rows: of each element a table, of elements with lists the triangles


def _binary(file: BufferedReader, elements: list[_Element], path: Path) -> Iterator[tuple[str, np.ndarray]]:
    data = np.memmap(path, np.uint8, "r")[file.tell() :]
    for element in elements:
        if element.corners:
            triangles, used = _triangles(data, element, path.name)
            yield element.name, triangles
        else:
            row = _row(element)
            used = element.rows * row.itemsize
            if used > len(data):
                raise _cut_off(path.name, element, f"{used} bytes", f"{len(data)} are")
            yield element.name, data[:used].view(row)
        data = data[used:]


def _text(file: BufferedReader, elements: list[_Element], path: Path) -> Iterator[tuple[str, np.ndarray]]:
    left = path.stat().st_size - file.tell()
    for element in elements:
        needed = element.rows * len(element.properties) * 2 - 1  # a number is a digit and a space
        if needed > left:
            raise _cut_off(path.name, element, f"at least {needed} bytes", f"{left} are")
        table = _text_table(islice(file, element.rows), element, path.name)
        if element.corners:
            yield element.name, _triangles(table.view(np.uint8), element, path.name)[0]
        elif len(table) < element.rows:
            raise _cut_off(path.name, element, f"{element.rows} lines", f"{len(table)} are")
        else:
            yield element.name, table


def _text_table(lines: Iterator[bytes], element: _Element, name: str) -> Shaped[np.ndarray, "n"]:
    """A row for each line, or, as rows with lists are not all alike, all their numbers."""
    try:
        if element.corners:
            return np.array(b" ".join(lines).split(), np.float64)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # that there are no lines is said by the caller
            return np.loadtxt(lines, _row(element), comments=None, ndmin=1)
    except ValueError as error:
        raise ValueError(f"{name} has a {element.name} that is not as its header says ({error}); export it again") from None


def _row(element: _Element, lengths: Mapping[str, int] = MappingProxyType({})) -> np.dtype:
    """The bytes of a row whose lists have these lengths."""
    fields: list[tuple] = []
    for each in element.properties:
        if each.length:
            fields += [(each.name + "?", each.length), (each.name, each.kind, (lengths[each.name],))]
        else:
            fields.append((each.name, each.kind))
    return np.dtype(fields)


def _cut_off(name: str, element: _Element, needed: str, there: str) -> ValueError:
    return ValueError(
        f"{name} is cut off: {needed} for {element.rows} rows of {element.name!r} are promised, {there} there; copy or export it again"
    )


# Triangles


def _triangles(data: UInt8[np.ndarray, "bytes"], element: _Element, name: str) -> tuple[Int[np.ndarray, "f 3"], int]:
    """The polygons that start where `data` starts, as triangles, and how many bytes they take."""
    if not element.rows:
        return np.zeros((0, 3), np.int64), 0
    even = _even_polygons(data, element)
    if even is not None:
        return _fans(even[0]), even[1]
    starts, lengths, used = _uneven_polygons(data, element, name)
    parts, owners, item = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)], int(element.corners.kind[-1])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        polygons = data[starts[rows, None] + np.arange(length * item)].view(element.corners.kind)
        parts.append(_fans(polygons))
        owners.append(np.repeat(rows, len(parts[-1]) // len(rows)))
    return np.concatenate(parts)[np.argsort(np.concatenate(owners), kind="stable")], used


def _fans(polygons: Num[np.ndarray, "n k"]) -> Int[np.ndarray, "f 3"]:
    """Each polygon cut from its first corner; none of those with fewer than three."""
    last = max(polygons.shape[1], 2)
    fan = np.stack([np.zeros(last - 2, np.int64), np.arange(1, last - 1), np.arange(2, last)], 1)
    return polygons.astype(np.int64)[:, fan].reshape(-1, 3)


def _even_polygons(data: UInt8[np.ndarray, "bytes"], element: _Element) -> tuple[Num[np.ndarray, "n k"], int] | None:
    """The common case, without a loop: all lists are as long as in the first row. Their corners, and how many bytes the rows take."""
    lengths: dict[str, int] = {}
    for place, each in enumerate(element.properties):
        if each.length:
            at = _row(element._replace(properties=element.properties[:place]), lengths).itemsize
            head = data[at : at + int(each.length[-1])]
            if len(head) < int(each.length[-1]) or not 0 <= head.view(each.length)[0] <= len(data):
                return None
            lengths[each.name] = int(head.view(each.length)[0])
    row = _row(element, lengths)
    used = row.itemsize * element.rows
    if used > len(data):
        return None
    table = data[:used].view(row)
    if any((table[f"{name}?"] != length).any() for name, length in lengths.items()):
        return None
    return table[element.corners.name], used


def _uneven_polygons(
    data: UInt8[np.ndarray, "bytes"], element: _Element, name: str
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], int]:
    """Row by row: where the corners of each polygon start, how many they are, and how many bytes the rows take."""
    columns = [
        (struct.Struct((each.length or each.kind)[0] + STRUCTS[(each.length or each.kind)[1:]]), int(each.kind[-1]) if each.length else 0)
        for each in element.properties
    ]
    wanted = element.properties.index(element.corners)
    view, at, starts, lengths = memoryview(data), 0, [], []
    for _ in range(element.rows):
        for place, (head, item) in enumerate(columns):
            if at + head.size > len(view):
                raise _cut_off(name, element, f"{at + head.size} or more bytes", f"{len(view)} are")
            length = max(int(head.unpack_from(view, at)[0]), 0) if item else 0
            at += head.size
            if place == wanted:
                starts.append(at)
                lengths.append(length)
            at += length * item
    if at > len(view):
        raise _cut_off(name, element, f"{at} bytes", f"{len(view)} are")
    return np.array(starts), np.array(lengths), at
