"""Where training meshes come from: parquet files, folders of mesh files, ShapeNetCore and Objaverse trees.

`entries(place)` walks a place one mesh at a time, whatever is in it; `read_parquet(place)` holds all meshes of parquet files as
flat arrays, for training. It knows files and arrays. It does not know which meshes are worth training on (`prepare.py`), nor torch.

n  meshes      v  vertices      f  faces
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32, Int64, Num

from meshgpt.files import MESH_ENDINGS, read_mesh
from meshgpt.mesh import Fit, Mesh

METADATA = ("name", "pack", "licence", "licence_evidence", "author", "source_repo", "source_path", "commit")
SHAPENET_FILE = "model_normalized.obj"
OBJAVERSE_UID = re.compile(r"[0-9a-f]{32}")
BATCH_ROWS = 128


@dataclass(frozen=True)
class Entry:
    """One mesh of a place, not yet read: a file, the arrays of a row, or the sentence that says why the row cannot be read."""

    id: str
    origin: Path | Mesh | str
    category: str = ""
    words: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Mesh:
        """The mesh as stored; ValueError, FileNotFoundError or ImportError with one sentence when that fails."""
        if isinstance(self.origin, str):
            raise ValueError(self.origin)
        if isinstance(self.origin, Mesh):
            return self.origin
        return read_mesh(self.origin)

    def size(self) -> int:
        """Bytes on the disk, or in memory for a row: what there is to know before reading."""
        if isinstance(self.origin, str):
            return 0
        if isinstance(self.origin, Mesh):
            return self.origin.vertices.nbytes + self.origin.faces.nbytes
        return self.origin.stat().st_size


@dataclass(frozen=True)
class MeshSet:
    """Many meshes in four arrays: loaded in a second, cheap to pickle, shared between forked data workers.

    Mesh i owns vertices[vertex_starts[i] : vertex_starts[i + 1]], in the frame of its file, and likewise its faces.
    """

    ids: tuple[str, ...]
    words: tuple[str, ...]
    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    vertex_starts: Int64[np.ndarray, "starts"]
    face_starts: Int64[np.ndarray, "starts"]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def face_counts(self) -> Int64[np.ndarray, "n"]:
        return np.diff(self.face_starts)

    def mesh(self, index: int) -> Mesh:
        """Mesh `index`, fitted to the cube."""
        if not 0 <= index < len(self):
            raise IndexError(f"mesh {index} is not one of the {len(self)} meshes; use 0 .. {len(self) - 1}")
        vertices = self.vertices[self.vertex_starts[index] : self.vertex_starts[index + 1]]
        faces = self.faces[self.face_starts[index] : self.face_starts[index + 1]]
        return Mesh(Fit.of(vertices).apply(vertices), faces)

    def at_most(self, faces: int) -> MeshSet:
        """The meshes of up to `faces` faces; ValueError when none is left."""
        fitting = np.flatnonzero(self.face_counts <= faces)
        if not len(fitting):
            raise ValueError(f"none of the {len(self)} meshes has at most {faces} faces; raise the limit or prepare other data")
        return self if len(fitting) == len(self) else self.subset(fitting.tolist())

    def subset(self, indices: Sequence[int]) -> MeshSet:
        """These meshes, in this order; ValueError for none."""
        if not len(indices):
            raise ValueError(f"none of the {len(self)} meshes was asked for; name at least one")
        return MeshSet(
            tuple(self.ids[i] for i in indices),
            tuple(self.words[i] for i in indices),
            np.concatenate([self.vertices[self.vertex_starts[i] : self.vertex_starts[i + 1]] for i in indices]),
            np.concatenate([self.faces[self.face_starts[i] : self.face_starts[i + 1]] for i in indices]),
            np.concatenate([[0], np.cumsum(np.diff(self.vertex_starts)[indices])]),
            np.concatenate([[0], np.cumsum(np.diff(self.face_starts)[indices])]),
        )


def evenly(total: int, count: int) -> list[int]:
    """`count` of the numbers 0 .. total - 1, from the first to the last; all, where there are no more."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def read_parquet(place: str | Path) -> MeshSet:
    """All meshes of a parquet file, or of the parquet files in a folder in the order of their names.

    ValueError names the first mesh that has no faces, no extent, a corner that does not exist or a coordinate that is not finite.
    """
    files = parquet_files(place)
    if not files:
        raise ValueError(f"{place} holds no parquet file; make some with: meshgpt prepare {place} OUT")
    ids: list[str] = []
    words: list[str] = []
    parts: list[_Rows] = []
    for path in files:
        for start, batch in _batches(path, ("id", "words", "vertices", "faces")):
            ids += _ids(batch, path, start)
            words += _texts(batch, "words")
            parts.append(_decode(batch, ids[-len(batch) :]))
    rows = _Rows.joined(parts)
    _check_trainable(rows, ids)
    return MeshSet(tuple(ids), tuple(words), rows.vertices.astype(np.float32, copy=False), rows.faces, *rows.starts())


def entries(place: str | Path) -> Iterator[Entry]:
    """The meshes of a place, always in the same order, read only when asked for.

    A place is a parquet file or a folder that holds some; a mesh file; or a folder of mesh files, at any depth, among them
    ShapeNetCore (category = synset) and Objaverse trees. Errors about the place itself come at once, those of one mesh from its `read`.
    """
    files = parquet_files(place)
    if files:
        for path in files:
            _open(path)
        return (entry for path in files for entry in _row_entries(path))
    place = Path(place)
    if place.is_file():
        return iter([_file_entry(place, place.parent, {})])
    found = _mesh_files(place)
    first = next(found, None)
    if first is None:
        raise ValueError(f"{place} holds no meshes; a folder with parquet files or with {' '.join(MESH_ENDINGS)} files (at any depth) fits")
    synsets = _synset_words(place)
    return (_file_entry(path, place, synsets) for path in chain([first], found))


def count(place: str | Path) -> int:
    """How many entries a place has; cheap beside reading them."""
    files = parquet_files(place)
    if files:
        return sum(_open(path).metadata.num_rows for path in files)
    return 1 if Path(place).is_file() else sum(1 for _ in _mesh_files(Path(place)))


def parquet_files(place: str | Path) -> list[Path]:
    """The parquet files a place stands for, [] when it is a place of mesh files; an error when it is neither.

    A folder that holds several splits is refused, since reading it whole would train on the test meshes: `split` picks one.
    """
    place = Path(place)
    if not place.exists():
        raise FileNotFoundError(f"{place} does not exist; pass a parquet file, a mesh file or a folder of either")
    if place.is_dir():
        files = sorted(path for path in place.glob("*.parquet") if not path.name.startswith("."))
        names = sorted({_split_name(path) for path in files} - {""})
        if len(names) > 1:
            raise ValueError(f"{place} holds the splits {', '.join(names)}; pass one of them, such as {place / files[0].name}")
        return files
    if place.suffix.lower() == ".parquet":
        return [place]
    if place.suffix.lower() in MESH_ENDINGS:
        return []
    raise ValueError(f"{place.name} is neither parquet nor a mesh; a .parquet file or one of {' '.join(MESH_ENDINGS)} fits")


def split(place: str | Path, name: str) -> Path | None:
    """Where the split `name` of a place is: its parquet file or folder there; for "train", failing that, the place itself; else None."""
    place = Path(place)
    for part in (place / f"{name}.parquet", place / name):
        if part.is_file() or (part.is_dir() and any(part.glob("*.parquet"))):
            return part
    return place if name == "train" else None


# Rows of parquet files


def _split_name(path: Path) -> str:
    """`train` for train.parquet and for train-00000-of-00002.parquet, '' for the shards that `prepare` writes."""
    found = re.fullmatch(r"(train|val|valid|validation|dev|test)(-\d+(-of-\d+)?)?", path.stem)
    return found[1] if found else ""


@dataclass(frozen=True)
class _Rows:
    """Decoded rows: everything of all rows, and how much of it each row owns."""

    vertices: Num[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    vertex_counts: Int64[np.ndarray, "n"]
    face_counts: Int64[np.ndarray, "n"]

    @classmethod
    def joined(cls, parts: list[_Rows]) -> _Rows:
        if not parts:
            return cls(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def starts(self) -> tuple[Int64[np.ndarray, "starts"], Int64[np.ndarray, "starts"]]:
        return np.append(0, self.vertex_counts).cumsum(), np.append(0, self.face_counts).cumsum()


def _open(path: Path) -> pq.ParquetFile:
    """An opened file that has the two columns; the schema is read, no row."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path.name} is not a parquet file ({str(error).splitlines()[0]}); download or write it again") from None
    schema = file.schema_arrow
    if not {"vertices", "faces"} <= set(schema.names):
        raise ValueError(
            f"{path.name} has the columns {', '.join(schema.names)}; it needs vertices (lists of 3 floats) and faces (lists of 3 ints)"
        )
    for name, fits in (("vertices", _is_number), ("faces", pa.types.is_integer)):
        if not _is_list_of_threes(schema.field(name).type, fits):
            raise ValueError(
                f"the column {name} of {path.name} is {schema.field(name).type}; vertices are lists of 3 floats, faces lists of 3 ints"
            )
    return file


def _is_list_of_threes(kind: pa.DataType, fits: Callable[[pa.DataType], bool]) -> bool:
    inner = kind.value_type if _is_list(kind) else None
    return (
        inner is not None and (_is_list(inner) or (pa.types.is_fixed_size_list(inner) and inner.list_size == 3)) and fits(inner.value_type)
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Number of the first row, rows: a hundred at a time, so that a file may be larger than the memory."""
    file, start = _open(path), 0
    for batch in file.iter_batches(BATCH_ROWS, columns=[name for name in columns if name in file.schema_arrow.names]):
        yield start, batch
        start += len(batch)


def _decode(batch: pa.RecordBatch, ids: list[str]) -> _Rows:
    """Columns to arrays without a Python object per number; ValueError when a row is not a mesh."""
    vertices, vertex_counts = _threes(batch["vertices"])
    faces, face_counts = _threes(batch["faces"])
    beyond = ((faces < 0) | (faces >= np.repeat(vertex_counts, face_counts)[:, None])).any(1)
    if beyond.any():
        row = int(np.repeat(np.arange(len(ids)), face_counts)[beyond.argmax()])
        raise ValueError(
            f"mesh {ids[row]} has a face {faces[beyond.argmax()].tolist()} but {vertex_counts[row]} vertices; fix or drop that row"
        )
    return _Rows(vertices, faces.astype(np.int32), vertex_counts, face_counts)


def _threes(column: pa.Array) -> tuple[Num[np.ndarray, "m 3"], Int64[np.ndarray, "n"]]:
    """All threes of all rows, and how many each row has."""
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    inner = column.flatten()
    flat = inner.flatten()
    if len(flat) != 3 * len(inner) or inner.null_count or (len(inner) and pc.max(pc.list_value_length(inner)).as_py() != 3):
        raise ValueError("a vertex or a face has more or fewer than 3 numbers; fix or drop that row")
    if flat.null_count:
        raise ValueError("a vertex or a face holds a null; fix or drop that row")
    return flat.to_numpy(zero_copy_only=False).reshape(-1, 3), counts


def _check_trainable(rows: _Rows, ids: list[str]) -> None:
    """A mesh that cannot be fitted to the cube must not stop a run after hours; so it stops it now."""
    cure = "keep the good ones with: meshgpt prepare IN OUT"
    if (rows.face_counts == 0).any():
        raise ValueError(f"mesh {ids[int((rows.face_counts == 0).argmax())]} has no faces; {cure}")
    owner = np.repeat(np.arange(len(ids)), rows.vertex_counts)
    finite = np.isfinite(rows.vertices).all(1)
    if not finite.all():
        raise ValueError(f"mesh {ids[owner[finite.argmin()]]} has a coordinate that is not finite; {cure}")
    if ids:
        first = rows.starts()[0][:-1]
        extent = (np.maximum.reduceat(rows.vertices, first) - np.minimum.reduceat(rows.vertices, first)).max(1)
        if not (extent > 0).all():
            raise ValueError(f"all vertices of mesh {ids[int((extent > 0).argmin())]} are one point; {cure}")


def _row_entries(path: Path) -> Iterator[Entry]:
    for start, batch in _batches(path, ("id", "category", "words", "vertices", "faces", "license", *METADATA)):
        ids = _ids(batch, path, start)
        metadata = {name: _texts(batch, name) for name in (*METADATA, "license") if name in batch.schema.names}
        if "license" in metadata:
            metadata.setdefault("licence", metadata.pop("license"))
        categories, words = _texts(batch, "category"), _texts(batch, "words")
        for row, origin in enumerate(_origins(batch, ids)):
            yield Entry(ids[row], origin, categories[row], words[row], {name: values[row] for name, values in metadata.items()})


def _origins(batch: pa.RecordBatch, ids: list[str]) -> Iterator[Mesh | str]:
    """The meshes of a batch; where one of them is broken, the others are found by decoding row by row."""
    try:
        rows = _decode(batch, ids)
    except ValueError as error:
        if len(batch) == 1:
            yield str(error)
        else:
            for row in range(len(batch)):
                yield from _origins(batch.slice(row, 1), ids[row : row + 1])
        return
    vertices = rows.vertices if rows.vertices.dtype.kind == "f" else rows.vertices.astype(np.float64)
    for (v0, v1), (f0, f1) in zip(*(np.stack([starts[:-1], starts[1:]], 1) for starts in rows.starts()), strict=True):
        yield Mesh(vertices[v0:v1], rows.faces[f0:f1])


def _ids(batch: pa.RecordBatch, path: Path, start: int) -> list[str]:
    if "id" in batch.schema.names:
        return _texts(batch, "id")
    return [f"{path.stem}-{start + row}" for row in range(len(batch))]


def _texts(batch: pa.RecordBatch, name: str) -> list[str]:
    """A column as texts, '' for nulls and for a column that is not there."""
    if name not in batch.schema.names:
        return [""] * len(batch)
    return ["" if value is None else str(value) for value in batch[name].to_pylist()]


# Files of folders


def _mesh_files(folder: Path) -> Iterator[Path]:
    for base, folders, names in os.walk(folder):
        # Hidden: ._chair.obj is what macOS leaves beside chair.obj in archives, and it is no mesh.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        if SHAPENET_FILE in names and Path(base).name == "models":
            names = [SHAPENET_FILE]
        for name in sorted(names):
            if name.lower().endswith(MESH_ENDINGS) and not name.startswith("."):
                yield Path(base, name)


def _file_entry(path: Path, place: Path, synsets: Mapping[str, str]) -> Entry:
    if path.name == SHAPENET_FILE and path.parent.name == "models":
        model, synset = path.resolve().parts[-3], path.resolve().parts[-4]
        return Entry(f"{synset}/{model}", path, synset, synsets.get(synset, ""))
    if path.suffix == ".glb" and OBJAVERSE_UID.fullmatch(path.stem):
        notes = _objaverse_notes(path.parents[2] / "metadata" / f"{path.parent.name}.json.gz").get(path.stem, {})
        return Entry(path.stem, path, notes.get("category", ""), notes.get("words", ""), {k: v for k, v in notes.items() if k in METADATA})
    inside = path.relative_to(place)
    words = " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", path.stem)).lower()
    return Entry(inside.as_posix(), path, inside.parts[0] if len(inside.parts) > 1 else "", words, {"name": path.stem})


def _synset_words(place: Path) -> dict[str, str]:
    """Synset to words from the taxonomy.json that ShapeNetCore brings, {} without one."""
    path = place / "taxonomy.json"
    if not path.is_file():
        return {}
    return {node["synsetId"]: node["name"].replace(",", " ") for node in json.loads(path.read_text(encoding="utf-8"))}


@lru_cache(maxsize=1)
def _objaverse_notes(path: Path) -> dict[str, dict[str, str]]:
    """Uid to name, words, licence and author from the metadata file that Objaverse 1.0 brings for each of its folders."""
    if not path.is_file():
        return {}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {uid: _objaverse_note(note) for uid, note in json.load(file).items()}


def _objaverse_note(note: dict) -> dict[str, str]:
    categories = [each["name"] for each in note.get("categories") or []]
    return {
        "name": note.get("name") or "",
        "words": " ".join(each["name"] for each in note.get("tags") or []),
        "category": categories[0] if categories else "",
        "licence": note.get("license") or "",
        "author": (note.get("user") or {}).get("username") or "",
        "source_repo": "sketchfab.com",
        "source_path": note.get("viewerUrl") or "",
    }
