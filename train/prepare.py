"""Meshes as found to meshes worth training on: cleaned, filtered, fitted to the cube, without repeats, in parquet shards.

    entries -> clean, in worker processes -> in their order: drop repeats -> row groups -> part-00000.parquet ... + report.json

A broken file is a line of the report, never the end of the run. It knows geometry and shards. It does not know where entries
come from (`sources.py`), nor tokens, nor torch.

v  vertices      f  faces
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from meshgpt.mesh import BINS, Fit, Mesh, canonical, corners_of, weld
from meshgpt.train.shards import ShardWriter, check_free, replaced
from meshgpt.train.sources import METADATA, Entry, count, entries

# The reasons for leaving a mesh out, in the order in which they are looked for.
REASONS = {
    "too large": "more bytes or faces than may be read",
    "unreadable": "broken, or not what its name says",
    "not finite": "a face has a corner at NaN or infinity",
    "no extent": "no face with three different corners",
    "too many faces": "after cleaning",
    "too few faces": "that are left at the bins",
    "flat": "thinner than one bin in some direction",
    "excluded": "the same shape is in the sets to keep apart from",
    "duplicate": "the same shape came before",
}
LISTED = 10_000  # meshes named in report.json for each reason; all are counted
REPORT = "report.json"


@dataclass(frozen=True)
class PrepareOptions:
    """What is kept, and how it is written."""

    min_faces: int = 12  # a box; counted at the bins
    max_faces: int = 800  # counted after welding and before binning, so that it holds for any number of bins
    bins: int = 128  # the coarsest bins the meshes are meant for
    up: str = "y"  # the up-axis of the source; what is written is y up
    exclude: tuple[Path, ...] = ()  # shapes of these places are left out: validation and test sets
    overwrite: bool = False  # replace a folder that an earlier run wrote
    workers: int | None = None  # processes; 0 works in this one, None leaves one core free
    max_megabytes: int = 2048  # of a file: more is not even opened
    max_faces_read: int = 5_000_000
    worker_gigabytes: float = 8.0  # a mesh that needs more memory is skipped (where the system can limit it, so on Linux)
    shard_megabytes: float = 256.0
    texts: tuple[str, ...] = ("category", "words", *METADATA)  # columns written beside the geometry

    def __post_init__(self) -> None:
        if not 1 <= self.min_faces <= self.max_faces:
            raise ValueError(f"min_faces {self.min_faces} and max_faces {self.max_faces} leave nothing; use 1 <= min_faces <= max_faces")
        if self.bins < 2 or self.shard_megabytes <= 0 or self.worker_gigabytes <= 0:
            raise ValueError(
                f"bins {self.bins}, shard_megabytes {self.shard_megabytes} and worker_gigabytes {self.worker_gigabytes} "
                "cannot all be used; bins start at 2, sizes above 0"
            )
        if self.up not in ("y", "z"):
            raise ValueError(f"the up-axis {self.up!r} is unknown; use 'y' or 'z'")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"{self.workers} workers cannot work; use 0 for none beside this process, or more")


@dataclass(frozen=True)
class Cleaned:
    """A welded mesh in the cube: vertices by (y, z, x), faces in canonical order; equal digests are equal shapes."""

    vertices: Float32[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    digest: bytes


@dataclass(frozen=True)
class Skipped:
    """A mesh that was left out: one of REASONS, and a sentence."""

    id: str
    reason: str
    detail: str


@dataclass
class PrepareReport:
    """What came out of a run; `report.json` in the folder says the same."""

    kept: int = 0
    faces: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    problems: list[Skipped] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    bytes: int = 0

    def keep(self, cleaned: Cleaned) -> None:
        self.kept += 1
        self.faces += len(cleaned.faces)

    def skip(self, skipped: Skipped) -> None:
        self.skipped[skipped.reason] = self.skipped.get(skipped.reason, 0) + 1
        if self.skipped[skipped.reason] <= LISTED:
            self.problems.append(skipped)

    def save(self, path: Path, options: PrepareOptions) -> None:
        chosen = {name: value for name, value in asdict(options).items() if name not in ("overwrite", "workers")}
        content = asdict(self) | {"options": chosen}
        path.write_text(json.dumps(content, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")

    def show(self) -> None:
        """Print the counts as a table."""
        from rich.console import Console
        from rich.table import Table

        table = Table("", "meshes", "what it means", title=f"{len(self.shards)} shards, {self.bytes / 1e6:.1f} MB, {self.faces:,} faces")
        table.columns[1].justify = "right"
        table.add_row("kept", f"{self.kept:,}", "", style="bold")
        for reason, meaning in REASONS.items():
            if reason in self.skipped:
                table.add_row(reason, f"{self.skipped[reason]:,}", meaning)
        Console().print(table)


def prepare(source: str | Path, out: str | Path, options: PrepareOptions | None = None) -> PrepareReport:
    """Write the good meshes of `source` (see `sources.entries`) into the new folder `out`, and say what was left out and why."""
    inside = Path(source).resolve()
    if Path(out).resolve() in (inside, *inside.parents):
        raise ValueError(f"{out} is or holds the source {source}, which writing would replace; name another folder")
    return prepare_entries(entries(source), out, options, total=count(source))


def prepare_entries(
    found: Iterable[Entry], out: str | Path, options: PrepareOptions | None = None, total: int | None = None
) -> PrepareReport:
    """`prepare` for entries from anywhere; `total` is for the progress bar only."""
    options = options or PrepareOptions()
    out = Path(out)
    check_free(out, options.overwrite, [REPORT])
    report = PrepareReport()
    with replaced(out) as folder:
        with ShardWriter(folder, options.texts, options.shard_megabytes) as shards, _progress(total) as step:
            _fill(shards, found, options, report, step)
        if not report.kept:
            raise ValueError(_nothing_left(report))
        report.shards, report.bytes = shards.names, sum((folder / name).stat().st_size for name in shards.names)
        report.save(folder / REPORT, options)
    report.show()
    return report


def _fill(shards: ShardWriter, found: Iterable[Entry], options: PrepareOptions, report: PrepareReport, step: Callable[[int], None]) -> None:
    known = dict.fromkeys(_digests(options), "excluded")
    with closing(cleaned(found, options)) as results:
        for entry, result in results:
            result = _unless_known(entry, result, known)
            if isinstance(result, Skipped):
                report.skip(result)
            else:
                report.keep(result)
                texts = {"category": entry.category, "words": entry.words, **entry.metadata}
                shards.add(entry.id, result.vertices, result.faces, texts)
            step(report.kept)


def _unless_known(entry: Entry, result: Cleaned | Skipped, known: dict[bytes, str]) -> Cleaned | Skipped:
    """`known` says for the shapes to leave out why; a shape that comes for the first time joins them."""
    if isinstance(result, Skipped):
        return result
    if result.digest in known:
        reason = known[result.digest]
        return Skipped(entry.id, reason, REASONS[reason])
    known[result.digest] = "duplicate"
    return result


def _nothing_left(report: PrepareReport) -> str:
    counts = ", ".join(f"{number} {reason}" for reason, number in report.skipped.items()) or "none came"
    first = f"; the first is {report.problems[0].id}: {report.problems[0].detail}" if report.problems else ""
    return f"no mesh is left to write ({counts}){first}; other limits, or another source, may help"


def _digests(options: PrepareOptions) -> Iterator[bytes]:
    for place in options.exclude:
        with closing(cleaned(entries(place), options)) as results:
            yield from (result.digest for _, result in results if isinstance(result, Cleaned))


# Cleaning one mesh


class _Skip(Exception):  # noqa: N818  (it is a way out, not an error)
    """Leave this mesh out: reason, sentence."""


def clean(entry: Entry, options: PrepareOptions) -> Cleaned | Skipped:
    """The mesh of an entry, ready to be written, or why it is left out."""
    try:
        return _clean(_read(entry, options), options)
    except _Skip as skip:
        return Skipped(entry.id, *skip.args)
    except MemoryError:
        return Skipped(entry.id, "too large", f"it needs more than the {options.worker_gigabytes:g} GB of memory of a worker")


def _read(entry: Entry, options: PrepareOptions) -> Mesh:
    try:
        if entry.size() > options.max_megabytes << 20:
            raise _Skip("too large", f"{entry.size() >> 20} MB are more than the {options.max_megabytes} that are opened")
        mesh = entry.read()
    except (_Skip, MemoryError):
        raise
    except Exception as error:  # a broken file can break its reader in any way, and must not stop the others
        sentence = str(error).strip().splitlines()
        raise _Skip("unreadable", sentence[0] if sentence else type(error).__name__) from None
    if len(mesh.faces) > options.max_faces_read:
        raise _Skip("too large", f"{len(mesh.faces):,} faces are more than the {options.max_faces_read:,} that are read")
    return mesh


def _clean(mesh: Mesh, options: PrepareOptions) -> Cleaned:
    vertices, faces = _welded(*_fitted(mesh, options.up))
    if len(faces) > options.max_faces:
        raise _Skip("too many faces", f"{len(faces)} faces are more than {options.max_faces}")
    binned = corners_of(Mesh(vertices, faces), options.bins)
    if len(binned) < options.min_faces:
        raise _Skip("too few faces", f"{len(binned)} faces at {options.bins} bins are fewer than {options.min_faces}")
    if _thickness(vertices) < 1 / options.bins:
        raise _Skip("flat", f"the shape is thinner than one of {options.bins} bins")
    return Cleaned(vertices, faces, digest(vertices, faces))


def _fitted(mesh: Mesh, up: str) -> tuple[Float32[np.ndarray, "v 3"], Int[np.ndarray, "f 3"]]:
    """Faces with three different corners and the vertices they use, in the cube; other vertices may lie anywhere, and be NaN."""
    if not len(mesh.faces):
        raise _Skip("no extent", "there are no faces")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise _Skip("unreadable", f"the faces name vertices {mesh.faces.min()} to {mesh.faces.max()} of {len(mesh.vertices)}")
    corners = mesh.vertices[mesh.faces]
    faces = mesh.faces[(corners != corners[:, [1, 2, 0]]).any(2).all(1)]
    if not len(faces):
        raise _Skip("no extent", "all faces have two corners at the same place")
    used, faces = np.unique(faces, return_inverse=True)
    vertices = mesh.vertices[used].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        extent = np.ptp(vertices, axis=0).max()
    if not np.isfinite(extent):
        raise _Skip("not finite", "a face has a corner at NaN or infinity")
    fit = Fit.of(vertices, up)
    return fit.apply(vertices).astype(np.float32), faces.reshape(-1, 3)


def _welded(
    vertices: Float32[np.ndarray, "u 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[Float32[np.ndarray, "v 3"], Int32[np.ndarray, "g 3"]]:
    """Equal vertices made one, degenerate and repeated faces dropped, canonical order; coordinates stay as they are.

    The rank of a coordinate among those of its axis is a bin fine enough to lose nothing, so `canonical` does the work.
    """
    values, ranks = zip(*(np.unique(axis, return_inverse=True) for axis in vertices.T), strict=True)
    welded, faces = weld(canonical(np.stack(ranks, 1)[faces]))
    return np.stack([axis[rank] for axis, rank in zip(values, welded.T, strict=True)], 1), faces.astype(np.int32)


def _thickness(vertices: Float[np.ndarray, "v 3"]) -> float:
    """The extent along the direction in which the vertices spread least."""
    centred = vertices.astype(np.float64) - vertices.mean(0)
    return float(np.ptp(centred @ np.linalg.eigh(centred.T @ centred)[1][:, 0]))


def digest(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> bytes:
    """Equal for shapes with equal canonical corners at 128 bins, whatever the order and the frame they came in.

    Half a cell aside: a symmetric shape has its middle on a border between bins, and rounding would send its copies either way.
    """
    corners = corners_of(Mesh(vertices + 0.5 / BINS, faces), BINS)
    return blake2b(corners.astype(np.uint8).tobytes(), digest_size=16).digest()


# Many meshes, in order


def cleaned(found: Iterable[Entry], options: PrepareOptions) -> Iterator[tuple[Entry, Cleaned | Skipped]]:
    """Every entry and what became of it, in the order of the entries, however many workers there are."""
    workers = max(1, (os.cpu_count() or 2) - 1) if options.workers is None else options.workers
    if workers == 0:
        yield from ((entry, clean(entry, options)) for entry in found)
        return
    pool = _Pool(workers, options)
    waiting: deque[tuple[Entry, Future]] = deque()
    try:
        for entry in found:
            if len(waiting) == 4 * workers:  # no more than this is in memory
                yield pool.result(*waiting.popleft())
            waiting.append((entry, pool.submit(entry)))
        while waiting:
            yield pool.result(*waiting.popleft())
    finally:
        pool.executor.shutdown(cancel_futures=True)


class _Pool:
    """Worker processes that outlive a mesh that kills one of them."""

    def __init__(self, workers: int, options: PrepareOptions) -> None:
        self.workers, self.options = workers, options
        self.executor = _executor(workers, options)
        try:
            self.executor.submit(os.getpid).result()
        except BrokenProcessPool:  # else each mesh would be blamed for it
            raise RuntimeError(
                "worker processes cannot start from standard input, nor from a script that runs without "
                "`if __name__ == '__main__':`; use workers=0, or put the call under that line"
            ) from None

    def submit(self, entry: Entry) -> Future:
        try:
            return self.executor.submit(clean, entry, self.options)
        except BrokenProcessPool:
            self.executor.shutdown()
            self.executor = _executor(self.workers, self.options)
            return self.executor.submit(clean, entry, self.options)

    def result(self, entry: Entry, future: Future) -> tuple[Entry, Cleaned | Skipped]:
        """A dead worker takes all waiting meshes with it; each of them gets a second try with nobody to harm."""
        try:
            return entry, future.result()
        except BrokenProcessPool:
            pass
        with _executor(1, self.options) as alone:
            try:
                return entry, alone.submit(clean, entry, self.options).result()
            except BrokenProcessPool:
                return entry, Skipped(entry.id, "unreadable", "reading it killed the process, perhaps for lack of memory")


def _executor(workers: int, options: PrepareOptions) -> ProcessPoolExecutor:
    # Spawned, not forked: the progress bar runs in a thread, and a fork with threads can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_limit_memory, initargs=(options.worker_gigabytes,))


def _limit_memory(gigabytes: float) -> None:
    """From here on, what asks for more gets a MemoryError; elsewhere than on Linux there is no such limit."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = int(gigabytes * (1 << 30))
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("preparing", total=total)
        yield lambda kept: progress.update(task, advance=1, description=f"preparing, {kept:,} kept")
