"""The `info` command: what a model or a data set is, and what this machine has to run it.

It reads headers. It builds no network and loads no tensor.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

import meshgpt
from meshgpt import hub
from meshgpt.checkpoint import CARD, Checkpoint
from meshgpt.convert import Source, remote_source, source_in
from meshgpt.converted import SHIPPED, folder_of

PACKAGES = ("torch", "numpy", "accelerate", "vector-quantize-pytorch", "safetensors", "trimesh", "open3d")
CARD_LINES = 8


@dataclass(frozen=True)
class InfoOptions:
    """Say what a model folder, a model of the hub or a data set holds, and which versions and which GPU there are.

    Of a published checkpoint on the hub only the header is read: nothing large is downloaded.
    """

    place: Annotated[str | None, Positional, arg(metavar="[PLACE]", help_behavior_hint="(default: the model that ships)")] = None
    """A model's folder or its name on the Hugging Face hub (org/name), a parquet file, or a folder with parquet files."""
    revision: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the newest)")] = None
    """Commit, tag or branch of a model on the hub."""


def run(options: InfoOptions) -> None:
    """Print; ValueError or FileNotFoundError, with one sentence, where the place is neither model nor data set."""
    print("\n".join(_machine()))
    print()
    print("\n".join(_place(options)))


def _machine() -> Iterator[str]:
    import torch

    yield f"meshgpt {meshgpt.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    if not torch.cuda.is_available():
        yield f"no GPU that torch can use; {torch.get_num_threads()} CPU threads"
    for number in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(number)
        yield f"cuda:{number} {found.name}, {found.total_memory / 2**30:.0f} GiB"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is missing"


def _place(options: InfoOptions) -> Iterator[str]:
    place = Path(SHIPPED[0] if options.place is None else options.place)
    tables = [place] if place.is_file() else sorted(place.glob("*.parquet"))
    if tables and not (place / "config.json").is_file():
        return _data_set(place, tables)
    if not place.is_dir() and str(place) not in SHIPPED:
        listing = hub.listing(str(place), options.revision)
        source = None if listing is None else remote_source(listing)
        if source is not None:
            return _published(str(place), source, listing.size)
    folder = folder_of(place, options.revision)
    source = source_in(folder)
    return _model(str(place), Checkpoint.at(folder)) if source is None else _published(str(place), source, source.file.stat().st_size)


# Models


def _model(name: str, found: Checkpoint) -> Iterator[str]:
    config = found.read_config()
    yield f"{name}: a model of the kind {config.get('kind')!r}, format {config['format']}"
    for part, values in _settings({key: value for key, value in config.items() if key not in ("kind", "format")}):
        yield f"  {part:24}  {values}"
    yield from (f"  {part:24}  {values}" for part, values in _weights(found))
    card = found.config.with_name(CARD)
    if card.is_file():
        yield ""
        yield from _first_lines(card)


def _published(name: str, source: Source, size: int) -> Iterator[str]:
    """A checkpoint of another project, by the shapes of its tensors."""
    family = source.family
    yield f"{name}: {family.name}, a checkpoint of another project, which this meshgpt converts when it is first used"
    yield f"  {'licence':24}  {family.licence}"
    count = sum(map(prod, source.shapes.values()))
    yield f"  {'parameters':24}  {count:,} in {len(source.shapes)} tensors, {size / 1e6:.1f} MB in {source.file.name}"
    for part, values in _settings(family.config(source.shapes)):
        yield f"  {part:24}  {values}"


def _settings(config: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """One line for each object of the config: its name, and its plain values."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    if plain:
        yield name or "config", ", ".join(f"{key} {value}" for key, value in plain.items())
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _settings(value, f"{name}.{key}" if name else key)


def _weights(found: Checkpoint) -> Iterator[tuple[str, str]]:
    """Parameters of the whole and of its parts, from the header of the file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(found.weights, framework="numpy") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            sizes = {name: prod(tensor.get_shape()) for name, tensor in tensors.items()}
            kinds = sorted({tensor.get_dtype() for tensor in tensors.values()})
    except SafetensorError as error:
        raise ValueError(f"{found.weights} is no whole safetensors file ({error}); download or save the model again") from None
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        parts[name.split(".")[0]] = parts.get(name.split(".")[0], 0) + size
    megabytes = found.weights.stat().st_size / 1e6
    yield "parameters", f"{sum(sizes.values()):,} in {len(sizes)} tensors of {' and '.join(kinds)}, {megabytes:.1f} MB"
    yield "of these", ", ".join(f"{part} {size:,}" for part, size in parts.items())


def _first_lines(card: Path) -> list[str]:
    """Of a model card, without the YAML at its head."""
    text = card.read_text(encoding="utf-8", errors="replace")
    if text.startswith("---\n"):
        text = text[4:].partition("\n---\n")[2]
    return [line for line in text.splitlines() if line.strip()][:CARD_LINES]


# Data sets


def _data_set(place: Path, tables: list[Path]) -> Iterator[str]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    yield f"{place}: meshes in parquet files"
    for path in tables:
        try:
            file = pq.ParquetFile(path)
            names = file.schema_arrow.names
            counts = pc.list_value_length(file.read(["faces"])["faces"]).to_numpy() if "faces" in names else np.zeros(0)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a parquet file of meshes ({str(error).splitlines()[0]}); write or download it again") from None
        faces = f"{int(counts.sum()):,} faces, median {np.median(counts):.0f}, at most {counts.max()}" if len(counts) else "no faces"
        yield f"  {path.name:24}  {file.metadata.num_rows:,} meshes, {faces}, {path.stat().st_size / 1e6:.1f} MB"
    yield f"  {'columns':24}  {', '.join(names)}"
