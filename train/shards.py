"""A folder of parquet shards that appears whole or not at all.

    vertices list<float[3]>   faces list<int[3]>   n_vertices   n_faces   id and other texts

`datasets.load_dataset("parquet", data_files=...)` and `sources.py` read them. It knows arrays and files. It does not know what the
arrays mean, nor which are good.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32

ROW_GROUP_BYTES, ROW_GROUP_ROWS = 8 << 20, 1000


class ShardWriter:
    """Writes part-00000.parquet, part-00001.parquet ... into a folder; rows wait until they fill a row group."""

    def __init__(self, folder: Path, texts: Sequence[str], megabytes: float) -> None:
        geometry = [("vertices", pa.list_(pa.list_(pa.float32(), 3))), ("faces", pa.list_(pa.list_(pa.int32(), 3)))]
        numbers = [("n_vertices", pa.int32()), ("n_faces", pa.int32())]
        self.schema = pa.schema([("id", pa.string()), *geometry, *numbers, *((name, pa.string()) for name in texts)])
        self.folder, self.texts, self.megabytes = folder, tuple(texts), megabytes
        self.names: list[str] = []
        self._writer: pq.ParquetWriter | None = None
        self._clear()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._ids:
            self._write_row_group()
        self._close()

    def add(self, name: str, vertices: Float32[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], texts: Mapping[str, str]) -> None:
        """One row; a text that is empty or missing becomes a null."""
        self._ids.append(name)
        self._vertices.append(vertices)
        self._faces.append(faces)
        self._texts.append([texts.get(text) or None for text in self.texts])
        self._bytes += vertices.nbytes + faces.nbytes
        if self._bytes >= ROW_GROUP_BYTES or len(self._ids) >= ROW_GROUP_ROWS:
            self._write_row_group()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._texts: list[list[str | None]] = []
        self._bytes = 0

    def _write_row_group(self) -> None:
        if self._writer is None:
            self.names.append(f"part-{len(self.names):05d}.parquet")
            # A dictionary helps texts that repeat; among coordinates it only costs.
            how = {"compression": "zstd", "compression_level": 9, "use_dictionary": list(self.texts)}
            self._writer = pq.ParquetWriter(self.folder / self.names[-1], self.schema, **how)
        self._writer.write_table(self._table())
        self._clear()
        if (self.folder / self.names[-1]).stat().st_size >= self.megabytes * 1e6:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _table(self) -> pa.Table:
        columns = {
            "id": self._ids,
            "vertices": _lists(self._vertices),
            "faces": _lists(self._faces),
            "n_vertices": [len(vertices) for vertices in self._vertices],
            "n_faces": [len(faces) for faces in self._faces],
        }
        texts = dict(zip(self.texts, zip(*self._texts, strict=True), strict=True))
        return pa.table(columns | texts, schema=self.schema)


def _lists(parts: list[np.ndarray]) -> pa.ListArray:
    """A column whose row i is the list of the threes of parts[i], without a Python object per number."""
    starts = np.append(0, np.cumsum([len(part) for part in parts])).astype(np.int32)
    threes = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(parts).reshape(-1)), 3)
    return pa.ListArray.from_arrays(pa.array(starts), threes)


def check_free(out: Path, overwrite: bool, ours: Sequence[str]) -> None:
    """FileExistsError when `out` may not be written: only what an earlier run wrote (shards and the files `ours`) is ever replaced."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; name a new folder for the shards")
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if names and not overwrite:
        raise FileExistsError(f"{out} is not empty; name a new folder, or ask with overwrite for this one to be replaced")
    foreign = [name for name in names if name not in ours and not (name.startswith("part-") and name.endswith(".parquet"))]
    if foreign:
        raise FileExistsError(f"{out} holds {foreign[0]}, which no earlier run wrote, so it is not replaced; name a new folder")


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """A folder to write into beside `out`, which becomes `out` at the end; after an error nothing of it stays."""
    beside = out.parent / f".{out.name}.partial-{os.getpid()}"
    beside.mkdir(parents=True)
    try:
        yield beside
        _swap(beside, out)
    except BaseException:  # an interrupt, too
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _swap(beside: Path, out: Path) -> None:
    if not out.exists():
        beside.rename(out)
        return
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    out.rename(old)
    beside.rename(out)
    shutil.rmtree(old)
