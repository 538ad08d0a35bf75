"""Checkpoints of other projects to our format, tensor by tensor, by the tables of `families.py`.

A tensor that no row of the table names, and one that a row names and that is not there, are errors that name it. It knows files and
tensors. It does not know the hub or networks' code; the shapes of our tensors come from their networks, built without memory.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from meshgpt import checkpoint
from meshgpt.families import FAMILIES, Family, Row, Shapes
from meshgpt.hub import Listing
from meshgpt.one_id_model import OneIdConfig, OneIdModel
from meshgpt.tokenizer import build

ALIGNED = 64  # bytes


class Source(NamedTuple):
    """A checkpoint of a family, and the shapes of its tensors."""

    family: Family
    file: Path
    shapes: Shapes


def source_in(folder: Path) -> Source | None:
    """The checkpoint of another project in a folder; None where there is none, or a model of ours.

    ValueError says what is wrong with a file that has the right name.
    """
    config = folder / checkpoint.CONFIG
    kind = _model_type(config)
    if kind is not None and kind != "shape_opt":
        return None
    for file in dict.fromkeys(family.file for family in FAMILIES):
        if (folder / file).is_file():
            return read_source(folder / file)
    return None


def _model_type(config: Path) -> str | None:
    """What a config.json says it is of; None without one."""
    if not config.is_file():
        return None
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except ValueError:
        return ""
    return str(found.get("model_type", "")) if isinstance(found, dict) else ""


def read_source(file: Path) -> Source:
    """ValueError when the file is no safetensors file, is cut short or holds something else."""
    shapes = shapes_in(file)
    family = next((family for family in FAMILIES if family.mark in shapes), None)
    if family is None:
        known = ", ".join(family.name for family in FAMILIES)
        raise ValueError(
            f"{file} is of no kind that this meshgpt converts ({known}): its first tensor is {next(iter(shapes), 'missing')!r}"
        )
    return Source(family, file, shapes)


def remote_source(listing: Listing) -> Source | None:
    """Of what is on the hub; None where it is a model of ours, or none that this meshgpt knows."""
    family = next((family for family in FAMILIES if family.mark in listing.shapes), None)
    return None if family is None else Source(family, Path(listing.file), listing.shapes)


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Of a safetensors file, whatever its name is."""
    with file.open("rb") as stream:
        start = stream.read(8)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ValueError(f"{file} is a pickle, which could run any code when it is read, so it is not; pass a safetensors file")
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise ValueError(f"{file} is no whole safetensors file ({error}); download it again") from None


# Names


class Move(NamedTuple):
    """Tensors of theirs that become one of ours."""

    theirs: tuple[str, ...]
    ours: str
    make: Callable[..., Tensor]


def moves(family: Family, names: Mapping[str, Any], where: str = "the checkpoint") -> list[Move]:
    """What becomes what; ValueError names the first tensor that is unknown or missing."""
    found: list[Move] = []
    placed: set[str] = set()
    missing: list[str] = []
    for row in family.rows:
        for theirs, ours in _rows_of(row, names):
            placed.update(theirs)
            missing += [name for name in theirs if name not in names and not name.endswith("?")]
            if ours is not None:
                found.append(Move(theirs, ours, row.make))
    unknown = [name for name in names if name not in placed]
    if unknown or missing:
        first = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is unknown"
        counts = f"{len(missing)} tensors are missing and {len(unknown)} unknown"
        raise ValueError(f"{where}: {counts}, first {first}; it is not the {family.name} that was published")
    return found


def _rows_of(row: Row, names: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """A row for each layer; patterns with * or ? are what they match."""
    if row.ours is None:
        yield tuple(_matched(row.sources[0], names)), None
        return
    if "{}" not in row.ours:
        yield row.sources, row.ours
        return
    start = row.sources[0].partition("{}")[0]
    numbers = {int(found.group(1)) for name in names if (found := re.match(re.escape(start) + r"(\d+)\.", name))}
    for number in range(max(numbers, default=0) + 1):
        yield tuple(name.format(number) for name in row.sources), row.ours.format(number)


def _matched(pattern: str, names: Mapping[str, Any]) -> list[str]:
    if pattern.endswith("*"):
        return [name for name in names if name.startswith(pattern[:-1])]
    return [pattern.removesuffix("?")] if pattern.removesuffix("?") in names or not pattern.endswith("?") else []


# Tensors


def convert(source: Source, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Write our config.json and model.safetensors into a folder that is there; `progress` hears of bytes.

    ValueError names what is missing, unknown or of another shape.
    """
    config = {"kind": "meshgpt", **source.family.config(source.shapes)}
    table = {move.ours: move for move in moves(source.family, source.shapes, str(source.file))}
    wanted = {name: tuple(tensor.shape) for name, tensor in blank_tensors(config).items()}
    lacking = next((name for name in wanted if name not in table), None)
    assert lacking is None and len(table) == len(wanted), lacking or sorted(set(table) - set(wanted))
    with safe_open(source.file, framework="pt") as theirs, (folder / checkpoint.WEIGHTS).open("wb") as stream:
        write_tensors(stream, wanted, lambda name: _made(table[name], wanted[name], theirs, source.file), progress)
    text = json.dumps({"format": checkpoint.FORMAT, **config, "converted_from": source.family.repository}, indent=2) + "\n"
    (folder / checkpoint.CONFIG).write_text(text, encoding="utf-8")


def blank_tensors(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a model of ours, by name, with shapes and no numbers."""
    with torch.device("meta"):
        network = OneIdModel(checkpoint.from_json(OneIdConfig, config["one_id"], "one_id"))
        tokenizer = build(config["tokenizer"])
    parts = {"steps": network, "tokenizer": getattr(tokenizer, "network", None)}
    return {f"{part}.{name}": tensor for part, own in parts.items() if own for name, tensor in own.named_parameters()}


def _made(move: Move, shape: tuple[int, ...], theirs: Any, file: Path) -> Tensor:
    try:
        tensor = move.make(*(theirs.get_tensor(name).float() for name in move.theirs))
    except (RuntimeError, IndexError):
        tensor = None
    if tensor is None or tuple(tensor.shape) != shape:
        came = " and ".join(str(tuple(theirs.get_slice(name).get_shape())) for name in move.theirs)
        raise ValueError(
            f"{file}: tensor {move.theirs[0]!r} of shape {came} does not make a {move.ours!r} of shape {shape}; was it edited?"
        )
    return tensor


def write_tensors(
    stream: BinaryIO, shapes: Shapes, read: Callable[[str], Tensor], progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """A safetensors file of float32 tensors, written one after another, so that no two need to be in memory."""
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + 4 * prod(shape)]}
        end += 4 * prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNED)
    stream.write(struct.pack("<Q", len(text)) + text)
    done = 0
    for name in shapes:
        tensor = read(name).contiguous()
        stream.write(tensor.numpy().data)
        done += tensor.nbytes
        progress(done, end)
