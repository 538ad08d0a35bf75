"""The scores of a result beside its reference, and of many results; bad ones count, by a written rule.

    scores(result, reference, seed=0)           a number for every metric of a pair, failures included
    summarise([scored, scored, ...])            median, mean and number of failures of each metric

The written rule for bad results stands at `scores`. It knows metrics; models and files are others'.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from meshgpt import metrics, topology
from meshgpt.mesh import Mesh, face_normals
from meshgpt.metrics import Compared
from meshgpt.protocols import METRICS, Metric
from meshgpt.shape_sets import cd_pivot1024_sq

_OF_RESULT = [
    topology.boundary_edge_ratio,
    topology.topology_score,
    topology.non_manifold_edge_ratio,
    topology.non_manifold_vertex_ratio,
    topology.components,
    topology.watertight,
    topology.duplicate_face_share,
]
_OF_BOTH = [
    metrics.cd_ma100k,
    metrics.ecd_ma100k,
    metrics.nc_ma100k,
    metrics.f_1pct_ma100k,
    metrics.f_2pct_ma100k,
    metrics.cd_bpt1024_l2,
    metrics.hd_bpt1024,
    metrics.nc_tree,
    metrics.absnc_tree,
    metrics.vertex_ratio,
    metrics.face_ratio,
]


def _of_result(measure: Callable[[Mesh], float]) -> Callable[[Compared], float]:
    return lambda compared: measure(compared.result)


def _cd_pivot1024_sq(compared: Compared) -> float:
    return cd_pivot1024_sq(compared.result, compared.reference, compared.seed)


def _valid(compared: Compared) -> float:
    return float(not problem(compared.result))


_MEASURES: dict[str, Callable[[Compared], float]] = {
    **{measure.__name__: measure for measure in _OF_BOTH},
    **{measure.__name__: _of_result(measure) for measure in _OF_RESULT},
    "cd_pivot1024_sq": _cd_pivot1024_sq,
    "valid": _valid,
}
PAIR_METRICS = tuple(metric.name for metric in METRICS.values() if metric.of == "pair")


@dataclass(frozen=True)
class Scored:
    """The metrics of one result by name; `failed` is '' or why the whole result failed, `reasons` says it for each metric that did."""

    values: dict[str, float]
    failed: str = ""
    reasons: dict[str, str] = field(default_factory=dict)


def scores(result: Mesh, reference: Mesh, seed: int = 0, names: Sequence[str] = PAIR_METRICS) -> Scored:
    """A float for every metric named. Bad results are scored by this rule, and none is ever left out:

    1. A result with no faces, with faces at vertices that do not exist, with vertices that are NaN or infinite, or without a face of
       positive area has failed: `failed` says why, and every metric has its worst value (`Metric.worst`): distances are infinite, shares,
       consistencies and ratios 0 or, where lower is better, 1; `nc_tree` is -1, `valid` is 0.
    2. Open, non-manifold, many-piece and single-triangle results are scored like any other.
    3. A metric that raises, or whose number is not finite, has failed by itself: it has its worst value, and `reasons` says why.

    ValueError when a name is unknown, or when the reference itself would fail by rule 1: no result can be measured by it.
    """
    unknown = [name for name in names if name not in _MEASURES]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))}: no metric of a pair has that name; these have one: {', '.join(PAIR_METRICS)}")
    if wrong := problem(reference):
        raise ValueError(f"the reference {wrong}, so nothing can be measured by it; leave it out of the split")
    if failed := problem(result):
        values = {name: METRICS[name].worst for name in names}
        return Scored(values, failed, {name: failed for name in names if name != "valid"})
    compared = Compared(result, reference, seed)
    measured = {name: _measured(name, compared) for name in names}
    values = {name: METRICS[name].worst if reason else value for name, (value, reason) in measured.items()}
    return Scored(values, "", {name: reason for name, (_, reason) in measured.items() if reason})


def _measured(name: str, compared: Compared) -> tuple[float, str]:
    """The number, and '' or why there is none."""
    try:
        with np.errstate(all="ignore"):
            value = float(_MEASURES[name](compared))
    except Exception as error:  # a metric rests on several libraries; whatever they stumble over is shown, and ends nothing
        return math.nan, str(error) or type(error).__name__
    return value, "" if math.isfinite(value) else f"it came out as {value}"


def problem(mesh: Mesh) -> str:
    """Why a mesh cannot be measured (rule 1 of `scores`), '' when it can."""
    if not len(mesh.faces):
        return "has no faces"
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        return f"has {len(mesh.vertices)} vertices and a face at vertex {mesh.faces.max() if mesh.faces.min() >= 0 else mesh.faces.min()}"
    if not np.isfinite(mesh.vertices).all():
        return f"has {int((~np.isfinite(mesh.vertices)).any(1).sum())} vertices that are NaN or infinite"
    with np.errstate(all="ignore"):
        areas = np.linalg.norm(face_normals(mesh.triangles().astype(np.float64)), axis=1)
    return "" if (areas > 0).any() else f"has {len(mesh.faces)} faces, none with an area"


class Summary(NamedTuple):
    """One metric over many results.

    median    a failure counts as infinitely bad, so that it may be infinite; where neither way is better, failures are left out
    mean      of the scored results only
    scored, failures    how many of each
    """

    median: float
    mean: float
    scored: int
    failures: int


def summarise(rows: Iterable[Scored]) -> dict[str, Summary]:
    """Every metric that the rows hold; NaN where nothing was scored. ValueError when rows hold different metrics."""
    rows = list(rows)
    names = tuple(rows[0].values) if rows else ()
    if any(tuple(row.values) != names for row in rows):
        raise ValueError("the rows hold different metrics, so they have no common summary; score them all by the same names")
    return {name: _summary(METRICS[name], rows) for name in names}


def _summary(metric: Metric, rows: list[Scored]) -> Summary:
    values = [row.values[metric.name] for row in rows if metric.name not in row.reasons]
    failures = len(rows) - len(values)
    bad = {"lower": [math.inf], "higher": [-math.inf], "neither": []}[metric.better] * failures
    counted = values + bad
    mean = statistics.fmean(values) if values else math.nan
    return Summary(float(statistics.median(counted)) if counted else math.nan, mean, len(values), failures)
