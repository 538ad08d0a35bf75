"""How good models, baselines and finished meshes are on a split, by the protocols of the field.

meshgpt evaluate --data data/artist-kits/test.parquet --limit 100 --out report

out/meshes/METHOD/ID.ply    what came out, kept
out/rows/METHOD/ID.json     its scores; a run that was stopped goes on behind the last one
out/metrics.json            protocol, definitions, summaries and rows (meshgpt/evaluation.py)
out/report.html             the same to look at, with pictures, in one file
out/results.png             eight results of the first method, from the nearest to the farthest, beside the artists' meshes

With other --conditions than clean (meshgpt/scans.py) a method counts once for each: METHOD, METHOD-noise, ...
"""

from __future__ import annotations

import json
import math
import multiprocessing
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from meshgpt.baselines import BASELINES
from meshgpt.cloud import Cloud
from meshgpt.evaluation import Evaluation, Row, mesh_metrics, worst_first
from meshgpt.files import read_mesh, whole_file
from meshgpt.gallery import Gallery
from meshgpt.generate import Sampling
from meshgpt.loading import Precision
from meshgpt.mesh import Mesh
from meshgpt.model import MeshGPT
from meshgpt.protocols import METRICS
from meshgpt.report import write_report
from meshgpt.result_picture import save_result_picture
from meshgpt.scans import CLEAN, CONDITIONS
from meshgpt.scores import PAIR_METRICS, Scored, problem, scores, summarise
from meshgpt.shape_sets import set_scores
from meshgpt.tables import table, wide_console

from .methods import CLOUD_POINTS, MODEL, Method, Task, file_stem, method, unmatched
from .sources import MeshSet, evenly, read_parquet, split

DISTANCE = "cd_ma100k"
PACKAGES = ("meshgpt", "torch", "numpy", "scipy", "open3d", "trimesh")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure the shipped model, or another one, on a split, and beside it what one would use instead."""

    data: str
    """The split: a parquet file, or a folder with test.parquet."""
    out: str
    """The folder to write; what an earlier run with the same options left there is used."""
    methods: tuple[str, ...] = (MODEL, *BASELINES)
    """meshgpt, names of baselines, folders of finished meshes named like the ids (in the frame of the split, fitted to the cube)."""
    conditions: tuple[str, ...] = (CLEAN,)
    """How the clouds are that methods are shown: clean, noise, points-512, points-256, no-normals, scan, scan-4, marching-cubes,
    double-shell."""
    model: str | None = None
    """The model's folder or hub name; the shipped one by default."""
    precision: Precision = "fp32"
    """Of the model's transformer: fp32, bf16 or int8."""
    train: str = ""
    """Where `retrieval` looks: parquet; the train split beside the data by default."""
    limit: int = 100
    """Meshes of the split, spread evenly over it."""
    max_faces: int = 800
    """Larger meshes are left out."""
    best_of: int = 1
    """Samples of the model for each cloud, of which the nearest to the cloud counts."""
    seed: int = 0
    """Of clouds, samples and metrics."""
    pictures: int = 100
    """Meshes with pictures in the report, the worst first."""
    workers: int = 2
    """Processes."""
    sampling: Sampling = field(default_factory=Sampling)


def run(options: EvaluateOptions) -> Evaluation:
    """Measure what is not measured yet, write metrics.json and what shows it, print the table. ValueError where options do not fit."""
    _check(options)
    out, meshes = Path(options.out), _meshes(options)
    _claim(out, options)
    todo = [
        (index, one) for index in range(len(meshes)) for one in _entries(options) if not _row_file(out, one, meshes.ids[index]).is_file()
    ]
    _measure_all(options, todo)
    evaluation = _evaluation(options, meshes)
    with whole_file(out / "metrics.json") as part:
        part.write_text(json.dumps(_finite(evaluation), indent=1, allow_nan=False) + "\n")
    _show(_finite(evaluation), Kept(out, meshes, options), options)
    for line in (*_ratio_lines(options, evaluation), *_unmatched_lines(options, meshes)):
        print(line)
    return evaluation


def _show(evaluation: Evaluation, shapes: Kept, options: EvaluateOptions) -> None:
    out, first = Path(options.out), _entries(options)[0].name
    write_report(evaluation, shapes, out / "report.html", pictures=options.pictures)
    save_result_picture(worst_first(evaluation, first, mesh_metrics(evaluation)[0]), first, shapes, out / "results.png")
    wide_console().print(table(evaluation))


class Entry(NamedTuple):
    """A method that is shown clouds in a condition; it goes by its `name` in files and tables."""

    method: str
    condition: str

    @property
    def name(self) -> str:
        method = self.method if self.method == MODEL or self.method in BASELINES else file_stem(Path(self.method).resolve().name)
        return method if self.condition == CLEAN else f"{method}-{self.condition}"


def _entries(options: EvaluateOptions) -> list[Entry]:
    return [Entry(method, condition) for method in options.methods for condition in options.conditions]


def _check(options: EvaluateOptions) -> None:
    for name, least in (("limit", 1), ("max_faces", 1), ("best_of", 1), ("workers", 1), ("pictures", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)} does not fit; use at least {least}")
    for kind in ("methods", "conditions"):
        words = getattr(options, kind)
        if not words or len(set(words)) < len(words):
            raise ValueError(f"the {kind} {' '.join(words) or '(none)'} do not fit; name at least one, and each once")
    for condition in options.conditions:
        if condition not in CONDITIONS:
            raise ValueError(f"the condition {condition!r} is unknown; use {', '.join(CONDITIONS)}")
    names = [one.name for one in _entries(options)]
    if len(set(names)) < len(names):
        raise ValueError(f"the methods {' '.join(options.methods)} do not fit; name at least one, and each once")
    for name in options.methods:
        if name != MODEL and name not in BASELINES and not Path(name).is_dir():
            raise FileNotFoundError(f"{name} is no method: name {MODEL}, a folder of finished meshes, or one of {', '.join(BASELINES)}")


def _meshes(options: EvaluateOptions) -> MeshSet:
    return spread(read_parquet(split(options.data, "test") or options.data).at_most(options.max_faces), options.limit)


def spread(meshes: MeshSet, count: int) -> MeshSet:
    """`count` of the meshes, evenly over the set."""
    return meshes if len(meshes) <= count else meshes.subset(evenly(len(meshes), count))


def _claim(out: Path, options: EvaluateOptions) -> None:
    """Rows of other options must not mix with these; what changes no row may change."""
    asked = asdict(replace(options, out="", workers=0, pictures=0, methods=(), conditions=()))
    claimed = out / "options.json"
    if claimed.is_file() and json.loads(claimed.read_text()) != json.loads(json.dumps(asked)):
        raise ValueError(f"{out} holds an evaluation with other options; name another --out, or remove that folder")
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(claimed) as part:
        part.write_text(json.dumps(asked, indent=1) + "\n")


# Rows


def _row_file(out: Path, one: Entry, id: str) -> Path:
    return out / "rows" / one.name / f"{file_stem(id)}.json"


def _mesh_file(out: Path, one: Entry, id: str) -> Path:
    return out / "meshes" / one.name / f"{file_stem(id)}.ply"


def _measure_all(options: EvaluateOptions, todo: list[tuple[int, Entry]]) -> None:
    from rich.console import Console
    from rich.progress import track

    order: dict[int, list[Entry]] = {}
    for index, one in todo:
        order.setdefault(index, []).append(one)
    console = Console(stderr=True)
    done = _in_processes(options, order) if options.workers > 1 and len(order) > 1 else map(_Worker(options), order.items())
    for _ in track(done, "evaluating", len(order), console=console, disable=not console.is_terminal):
        pass


def _in_processes(options: EvaluateOptions, order: dict[int, list[Entry]]) -> Iterator[None]:
    # Forked children of a process with threads may hang, and each must load its own model anyway.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(options.workers, len(order)), context, _start, (options,)) as pool:
        yield from pool.map(_work, order.items())


_worker: _Worker | None = None


def _start(options: EvaluateOptions) -> None:
    global _worker
    _worker = _Worker(options)


def _work(item: tuple[int, list[Entry]]) -> None:
    _worker(item)


class _Worker:
    """Measures methods on one mesh after another; loads what it needs once."""

    def __init__(self, options: EvaluateOptions) -> None:
        torch.set_num_threads(1)
        self.options, self.meshes, self.methods = options, _meshes(options), {}

    def __call__(self, item: tuple[int, list[Entry]]) -> None:
        index, asked = item
        tasks = {one.condition: Task(self.meshes, index, self.options.seed, one.condition) for one in asked}
        for one in asked:
            self._measure(tasks[one.condition], one)

    def _measure(self, task: Task, one: Entry) -> None:
        out, began = Path(self.options.out), time.perf_counter()
        try:
            mesh, failed = self._method(one.method)(task), ""
        except (ValueError, ImportError, OSError) as error:
            mesh, failed = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)), str(error)
        seconds = time.perf_counter() - began
        scored = scores(mesh, task.reference, self.options.seed)
        place = _mesh_file(out, one, task.id)
        if not problem(mesh):
            place.parent.mkdir(parents=True, exist_ok=True)
            mesh.save(place)
        _write_row(_row_file(out, one, task.id), task, seconds, replace(scored, failed=failed or scored.failed))

    def _method(self, name: str) -> Method:
        if name not in self.methods:
            options = self.options
            load = partial(MeshGPT.from_pretrained, options.model, device="cpu", precision=options.precision)
            self.methods[name] = method(name, load, options.best_of, options.seed, options.sampling, self._gallery)
        return self.methods[name]

    def _gallery(self) -> Gallery:
        known = _known(self.options).at_most(self.options.max_faces)
        return Gallery([known.mesh(index) for index in range(len(known))], known.ids)


def _known(options: EvaluateOptions) -> MeshSet:
    data = Path(options.data)
    return read_parquet(options.train or split(data if data.is_dir() else data.parent, "train") or data)


def _write_row(path: Path, task: Task, seconds: float, scored: Scored) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"id": task.id, "reference_faces": len(task.reference.faces), "seconds": round(seconds, 3), **asdict(scored)}
    with whole_file(path) as part:
        part.write_text(json.dumps(_finite(row), allow_nan=False) + "\n")


# What they come to


def _evaluation(options: EvaluateOptions, meshes: MeshSet) -> Evaluation:
    return {
        "protocol": _protocol(options, len(meshes)),
        "metrics": {name: _defined(name) for name in (*PAIR_METRICS, *SETS)},
        "methods": {one.name: _summary(options, meshes, one) for one in _entries(options)},
    }


def _protocol(options: EvaluateOptions, count: int) -> dict[str, Any]:
    shown = {"data": options.data, "meshes": count, "seed": options.seed, "cloud_points": CLOUD_POINTS, "max_faces": options.max_faces}
    settings = {**asdict(options.sampling), "best_of": options.best_of}
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {**shown, "model": options.model or "the shipped one", "settings": settings, "versions": versions}


def _defined(name: str) -> dict[str, str]:
    metric = METRICS[name]
    return {"unit": metric.unit, "better": metric.better, "definition": metric.definition, "source": metric.source}


SETS = ("cov_pivot1024_sq", "mmd_pivot1024_sq", "one_nna_pivot1024_sq")


def _summary(options: EvaluateOptions, meshes: MeshSet, one: Entry) -> dict[str, Any]:
    out = Path(options.out)
    read = [json.loads(_row_file(out, one, id).read_text()) for id in meshes.ids]
    rows = [_row(row) for row in read]
    scored = [Scored(_worst(row["values"]), row["failed"], row["reasons"]) for row in read]
    found = summarise(scored)
    summary = {key: {"median": its.median, "mean": its.mean, "failures": its.failures} for key, its in found.items()}
    kept = Kept(out, meshes, options)
    results = [kept.result(one.name, id) or Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)) for id in meshes.ids]
    sets = set_scores(results, [kept.reference(id) for id in meshes.ids], options.seed)
    return {
        "summary": summary,
        "sets": dict(zip(SETS, sets[:3], strict=True)),
        "failures": sum(bool(row["failed"]) for row in rows),
        "rows": rows,
    }


def _row(read: dict[str, Any]) -> Row:
    values = {name: None if name in read["reasons"] else value for name, value in read["values"].items()}
    return {key: read[key] for key in ("id", "reference_faces", "seconds", "failed")} | {
        "category": _category(read["id"]),
        "scores": values,
    }


def _category(id: str) -> str:
    """What ids of one kind begin with: a folder, or the first two words."""
    return id.partition("/")[0] if "/" in id else "-".join(id.split("-")[:2])


def _worst(values: dict[str, float | None]) -> dict[str, float]:
    return {name: METRICS[name].worst if value is None else value for name, value in values.items()}


def _finite(value: Any) -> Any:
    """What is infinite, or no number, is null in JSON."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Kept:
    """The shapes of an evaluation, for its report."""

    def __init__(self, out: Path, meshes: MeshSet, options: EvaluateOptions) -> None:
        self.out, self.meshes, self.seed = out, meshes, options.seed
        self.conditions = {one.name: one.condition for one in _entries(options)}
        self.numbers = {id: index for index, id in enumerate(meshes.ids)}

    def result(self, method: str, id: str) -> Mesh | None:
        path = self.out / "meshes" / method / f"{file_stem(id)}.ply"
        return read_mesh(path) if path.is_file() else None

    def reference(self, id: str) -> Mesh:
        return self.meshes.mesh(self.numbers[id])

    def cloud(self, method: str, id: str) -> Cloud:
        return Task(self.meshes, self.numbers[id], self.seed, self.conditions[method]).cloud


def _ratio_lines(options: EvaluateOptions, evaluation: Evaluation) -> Iterator[str]:
    """How much further each method is from the truth, in the median, than with clean clouds."""
    medians = {name: found["summary"][DISTANCE]["median"] for name, found in evaluation["methods"].items()}
    for one in _entries(options):
        clean = medians.get(one._replace(condition=CLEAN).name)
        if clean is not None and one.condition != CLEAN:
            median = medians[one.name]
            yield f"{one.name}: median {DISTANCE} {median:.4f}, {median / clean:.2f} times that of clean clouds"


def _unmatched_lines(options: EvaluateOptions, meshes: MeshSet) -> Iterator[str]:
    for name in options.methods:
        without_file, without_id = unmatched(name, meshes.ids)
        if without_file:
            yield f"{name}: no mesh for {len(without_file)} of {len(meshes)}, counted as failures: {', '.join(without_file)}"
        if without_id:
            yield f"{name}: {len(without_id)} files belong to no mesh of the split: {', '.join(without_id)}"
