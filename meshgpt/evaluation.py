"""The scores of an evaluation: what metrics.json holds, and what a table or a report asks of it.

    protocol    what was measured on what, with which versions and settings
    metrics     name to unit, direction, definition and source
    methods     name to its summary, its scores over the whole set, and a row for each mesh

A score that is infinite is null in the file. It counts as the worst there is: in medians, in orders, and as a failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypedDict

import numpy as np
from jaxtyping import Float

FACE_BUCKETS = (50, 100, 200, 400, 800)
ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}  # where better is


class Metric(TypedDict):
    """How a number is measured; `definition` is one sentence."""

    unit: str
    better: Literal["lower", "higher", "neither"]
    definition: str
    source: str


class Summary(TypedDict):
    """One metric over all meshes: the median counts failures as the worst there is, the mean leaves them out."""

    median: float | None
    mean: float | None
    failures: int


class Row(TypedDict):
    """One mesh; `failed` is the reason, '' where there is a result."""

    id: str
    category: str
    reference_faces: int
    seconds: float | None
    failed: str
    scores: dict[str, float | None]


class Method(TypedDict):
    """`sets` holds the scores that belong to the whole set, such as coverage."""

    summary: dict[str, Summary]
    sets: dict[str, float | None]
    failures: int
    rows: list[Row]


class Evaluation(TypedDict):
    """What metrics.json holds."""

    protocol: dict[str, Any]
    metrics: dict[str, Metric]
    methods: dict[str, Method]


Score = float | int | None  # JSON writes a float without a fraction as it likes
Group = tuple[str, Callable[[Row], bool]]


def known(evaluation: Evaluation, method: str = "") -> str:
    """The method of that name, or the first; ValueError where there is none."""
    methods = list(evaluation["methods"])
    if not methods:
        raise ValueError("the evaluation holds no methods; evaluate at least one")
    if method and method not in methods:
        raise ValueError(f"the method {method!r} was not evaluated; there are: {', '.join(methods)}")
    return method or methods[0]


def metric_of(evaluation: Evaluation, name: str) -> Metric:
    """Its entry, or one without words for a metric that has none."""
    return evaluation["metrics"].get(name) or Metric(unit="", better="neither", definition="", source="")


def mesh_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics that each mesh has, in the order of their definitions; ValueError where there is none."""
    there = {name: None for method in evaluation["methods"].values() for name in method["summary"]}
    if not there:
        raise ValueError("the evaluation summarises no metrics; measure at least one")
    return sorted(there, key=_place(evaluation))


def set_metrics(evaluation: Evaluation) -> list[str]:
    """The metrics that only the whole set has."""
    return sorted({name: None for method in evaluation["methods"].values() for name in method["sets"]}, key=_place(evaluation))


def _place(evaluation: Evaluation) -> Callable[[str], int]:
    places = {name: place for place, name in enumerate(evaluation["metrics"])}
    return lambda name: places.get(name, len(places))


def finite(value: Score) -> float | None:
    """The number, None where there is none or it is infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def shown(value: Score) -> str:
    """Three digits that count."""
    value = finite(value)
    if value is None:
        return "∞"
    if value == 0 or abs(value) >= 999.5:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits}e{int(exponent)}"
    return f"{value:#.3g}".rstrip(".")


def best(values: Mapping[str, Score], better: str) -> set[str]:
    """The names of the best value and of those that look the same; none where neither end is better, or all look the same."""
    numbers = {name: number for name, value in values.items() if (number := finite(value)) is not None}
    if better == "neither" or not numbers:
        return set()
    winner = shown((min if better == "lower" else max)(numbers.values()))
    winners = {name for name, number in numbers.items() if shown(number) == winner}
    return winners if len(winners) < len(values) else set()


def scores(evaluation: Evaluation, metric: str, rows: Iterable[Row]) -> Float[np.ndarray, "n"]:
    """One metric of some rows: infinite scores as the worst there is or, where neither end is better, left out."""
    worst = {"lower": math.inf, "higher": -math.inf, "neither": math.nan}[metric_of(evaluation, metric)["better"]]
    values = [worst if (value := finite(row["scores"].get(metric))) is None else value for row in rows]
    return np.array([value for value in values if not math.isnan(value)], dtype=np.float64)


def median(values: Float[np.ndarray, "n"]) -> float | None:
    """None where it is infinite, or there are no values."""
    return finite(float(np.median(values))) if len(values) else None


def worst_first(evaluation: Evaluation, method: str, metric: str) -> list[Row]:
    """The rows of a method: failures, then infinite scores, then from bad to good; equals in the order of their names."""
    sign = 1 if metric_of(evaluation, metric)["better"] == "higher" else -1

    def place(row: Row) -> tuple[bool, float, str]:
        value = finite(row["scores"].get(metric))
        return not row["failed"], -math.inf if value is None else sign * value, row["id"]

    return sorted(evaluation["methods"][method]["rows"], key=place)


def face_groups(evaluation: Evaluation) -> list[Group]:
    """By the faces of the reference: those buckets that hold meshes."""
    lows, highs = (0, *FACE_BUCKETS), (*FACE_BUCKETS, math.inf)
    names = [f"{low + 1} to {high}" for low, high in zip(lows, FACE_BUCKETS, strict=False)] + [f"more than {FACE_BUCKETS[-1]}"]
    groups = [(name, _between(low, high)) for name, low, high in zip(names, lows, highs, strict=True)]
    return [group for group in groups if any(group[1](row) for row in _all_rows(evaluation))]


def category_groups(evaluation: Evaluation) -> list[Group]:
    """By category, the one with most meshes first; none where there is but one."""
    counts: dict[str, int] = {}
    for row in _all_rows(evaluation):
        counts[row["category"]] = counts.get(row["category"], 0) + 1
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return [(name or "no category", _of_category(name)) for name in names] if len(names) > 1 else []


def _between(low: int, high: int | float) -> Callable[[Row], bool]:
    return lambda row: low < row["reference_faces"] <= high


def _of_category(name: str) -> Callable[[Row], bool]:
    return lambda row: row["category"] == name


def _all_rows(evaluation: Evaluation) -> Iterable[Row]:
    return (row for method in evaluation["methods"].values() for row in method["rows"])
