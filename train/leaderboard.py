"""The `tokenize` command: every tokenizer on the meshes of a place, how long its sequences are, and whether they come back.

It knows meshes and tokenizers. It does not know models, but for the shipped codebook, which is a tokenizer.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import Positional, arg

from meshgpt.face_order import save_orders
from meshgpt.files import whole_file
from meshgpt.mesh import BINS, Fit, Mesh, corners_of
from meshgpt.model import read_tokenizer
from meshgpt.tables import wide_console
from meshgpt.tokenizer import TOKENIZERS, MeshTokenizer
from meshgpt.tokenizer_metrics import RoundTrip, round_trip, summary
from meshgpt.tokenizer_tables import Measured, Tokenizer, by_faces, leaderboard

from .sources import count, entries, evenly

LEARNED = "vqvae"
RANGES = (1, 100, 300, 1000, 3000, 6000)  # the least faces of each
SHOWN_FACES = 800  # at most, of the mesh in the picture
KEPT = 10  # sentences about failures


@dataclass(frozen=True)
class TokenizeOptions:
    """Measure tokenizers: tokens and bits for each face, exact round trips, time."""

    source: Annotated[str, Positional, arg(metavar="SOURCE")]
    """Parquet, a folder of parquet or mesh files, or a mesh file."""
    tokenizers: str = ",".join(name for name in TOKENIZERS if name != LEARNED)
    """Names, with commas between them; `vqvae` is the shipped codebook."""
    bins: int = BINS
    """Of the grid on which vertices are put."""
    limit: int = 0
    """Meshes, spread evenly over the source; 0 for all."""
    out: str = ""
    """A .json file to write the numbers to."""
    show: str = ""
    """A .png file to draw the order of faces in."""
    mesh: str = ""
    """The id of the mesh in the picture; by default the largest of up to 800 faces."""


def run(options: TokenizeOptions) -> dict[str, Any]:
    """Measure, print the tables, write what was asked for. ValueError or FileNotFoundError where options or the source do not fit."""
    tokenizers = _tokenizers(options)
    _check_place(options.out, ".json")
    _check_place(options.show, ".png")
    results = measure(options, tokenizers)
    if options.out:
        with whole_file(Path(options.out)) as part:
            part.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    console = wide_console()
    title = f"{results['meshes']:,} mesh{'es' * (results['meshes'] != 1)}, {results['faces']:,} faces, {options.bins} bins"
    console.print(leaderboard(results["tokenizers"], title))
    console.print(by_faces(results["tokenizers"]))
    for line in results["skipped"][:KEPT]:
        console.print(f"left out: {line}", markup=False, highlight=False)
    if options.show:
        save_orders(options.show, _shown(options), tokenizers)
    return results


def _tokenizers(options: TokenizeOptions) -> dict[str, MeshTokenizer]:
    names = [name.strip() for name in options.tokenizers.split(",")]
    unknown = [name for name in names if name not in TOKENIZERS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f"--tokenizers {options.tokenizers} does not fit; name some of {', '.join(TOKENIZERS)}, each once")
    if options.limit < 0:
        raise ValueError(f"--limit {options.limit} does not fit; use 0 for all meshes, or a number of them")
    return {name: _learned(options.bins) if name == LEARNED else TOKENIZERS[name](options.bins) for name in names}


def _learned(bins: int) -> MeshTokenizer:
    found = read_tokenizer(LEARNED)
    if found.bins != bins:
        raise ValueError(f"the shipped codebook is made for {found.bins} bins; leave {LEARNED} or --bins {bins} out")
    return found


def _check_place(name: str, ending: str) -> None:
    """Before minutes are spent on it."""
    if not name:
        return
    if Path(name).suffix.lower() != ending:
        raise ValueError(f"{name} does not end in {ending}; pass a file name that does")
    if not Path(name).parent.is_dir():
        raise FileNotFoundError(f"the folder {Path(name).parent} does not exist; make it first, or write elsewhere")


# Meshes


def _meshes(options: TokenizeOptions, skipped: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Ids and canonical corners; meshes without any are told in `skipped`."""
    total = count(options.source)
    chosen = set(evenly(total, options.limit or total))
    for index, entry in enumerate(entries(options.source)):
        if index not in chosen:
            continue
        try:
            corners = _corners(entry.read(), options.bins)
        except (ValueError, OSError, ImportError) as error:
            skipped.append(f"{entry.id}: {error}")
            continue
        if len(corners):
            yield entry.id, corners
        else:
            skipped.append(f"{entry.id}: no face is left on {options.bins} bins")


def _corners(mesh: Mesh, bins: int) -> np.ndarray:
    return corners_of(Mesh(Fit.of(mesh.vertices).apply(mesh.vertices), mesh.faces), bins)


def _shown(options: TokenizeOptions) -> np.ndarray:
    """The mesh of the picture."""
    found: np.ndarray | None = None
    for id, corners in _meshes(options, []):
        if options.mesh and id == options.mesh:
            return corners
        if not options.mesh and len(corners) <= SHOWN_FACES and (found is None or len(corners) > len(found)):
            found = corners
    if found is None:
        wanted = f"the id {options.mesh}" if options.mesh else f"at most {SHOWN_FACES} faces"
        raise ValueError(f"no mesh that is measured has {wanted}, so there is nothing to draw; name another with --mesh")
    return found


# Measuring


@dataclass
class _Timed:
    """A tokenizer with a clock: seconds of this process in each half of the last round trip."""

    tokenizer: MeshTokenizer
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def encode(self, corners: np.ndarray) -> np.ndarray:
        return self._run(0, self.tokenizer.encode, corners)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        return self._run(1, self.tokenizer.decode, ids)

    def _run(self, half: int, function: Any, given: np.ndarray) -> np.ndarray:
        start = time.process_time()
        try:
            return function(given)
        finally:
            self.seconds[half] = time.process_time() - start


Row = tuple[RoundTrip, float, float]


def measure(options: TokenizeOptions, tokenizers: dict[str, MeshTokenizer]) -> dict[str, Any]:
    """All numbers; ValueError where there is no mesh to measure."""
    rows: dict[str, list[Row]] = defaultdict(list)
    failed: dict[str, list[str]] = defaultdict(list)
    skipped: list[str] = []
    for id, corners in _meshes(options, skipped):
        for name, tokenizer in tokenizers.items():
            if not rows[name]:
                round_trip(tokenizer, corners)  # what is loaded or compiled once is not the mesh's time
            timed = _Timed(tokenizer)
            trip = round_trip(timed, corners)
            rows[name].append((trip, *timed.seconds))
            if trip.failed and len(failed[name]) < KEPT:
                failed[name].append(f"{id}: {trip.failed}")
    if not rows:
        why = f" ({skipped[0]})" if skipped else ""
        raise ValueError(f"none of the {len(skipped)} meshes of {options.source} can be measured{why}; pass others")
    first = next(iter(rows.values()))
    measured = {name: _result(rows[name], tokenizer, failed[name]) for name, tokenizer in tokenizers.items()}
    faces = sum(trip.faces for trip, *_ in first)
    return {
        "source": options.source,
        "bins": options.bins,
        "meshes": len(first),
        "faces": faces,
        "skipped": skipped,
        "tokenizers": measured,
    }


def _result(rows: list[Row], tokenizer: MeshTokenizer, failed: list[str]) -> Tokenizer:
    buckets: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        buckets[int(np.searchsorted(RANGES, row[0].faces, "right")) - 1].append(row)
    written = [at for at in sorted(buckets) if any(trip.tokens for trip, *_ in buckets[at])]
    named = {_range(at): _measured(buckets[at], tokenizer) for at in written}
    return {
        "vocab": tokenizer.vocab,
        "lossy": tokenizer.lossy,
        "total": _measured(rows, tokenizer),
        "by_faces": named,
        "failed": failed,
    }


def _range(at: int) -> str:
    return f"{RANGES[at]:,} to {RANGES[at + 1] - 1:,} faces" if at + 1 < len(RANGES) else f"{RANGES[at]:,} faces and more"


def _measured(rows: list[Row], tokenizer: MeshTokenizer) -> Measured:
    trips = [trip for trip, *_ in rows]
    found = summary(trips, tokenizer.vocab)
    faces = sum(trip.faces for trip in trips)
    return {
        "meshes": len(trips),
        "faces": faces,
        "failures": found.failures,
        "tokens_per_face": found.tokens_per_face,
        "steps_per_face": found.tokens_per_face / tokenizer.width,
        "compression_ratio": found.compression_ratio,
        "bits_per_face_bound": found.bits_per_face_bound,
        "exact_oriented": found.exact_oriented,
        "exact_unoriented": found.exact_unoriented,
        "encode_microseconds_per_face": sum(row[1] for row in rows) / faces * 1e6,
        "decode_microseconds_per_face": sum(row[2] for row in rows) / faces * 1e6,
    }
