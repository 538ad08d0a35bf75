"""The report of an evaluation: one HTML file that holds its style, its script and its pictures, and loads nothing.

It knows the scores and how a page is laid out. It does not know how they were measured.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from meshgpt.contact_sheet import Shapes, contact_sheet, named
from meshgpt.evaluation import (
    ARROWS,
    Evaluation,
    Group,
    Metric,
    Score,
    best,
    category_groups,
    face_groups,
    finite,
    known,
    median,
    mesh_metrics,
    metric_of,
    scores,
    set_metrics,
    shown,
    worst_first,
)
from meshgpt.files import whole_file
from meshgpt.markup import Markup, element, joined
from meshgpt.plots import COLOURS, Series, lines, strips

PICTURES = 100
LONG_NAME = 13  # letters
ABSENT = Markup("&ndash;")
STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")
DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "neither": "neither end is better"}


def write_report(evaluation: Evaluation, shapes: Shapes, path: str | Path, method: str = "", pictures: int = PICTURES) -> None:
    """Write `report(...)` to a file, whole or not at all."""
    page = report(evaluation, shapes, method, pictures)
    with whole_file(Path(path)) as part:
        # Names of files may hold halves of characters that no encoding has.
        part.write_text(page, encoding="utf-8", errors="backslashreplace")


def report(evaluation: Evaluation, shapes: Shapes, method: str = "", pictures: int = PICTURES) -> str:
    """The page. The contact sheet shows `method`, the first by default, with pictures of its worst `pictures` meshes (20 kB each).

    ValueError when that method, or any at all, was not evaluated, or no metric was measured.
    """
    method = known(evaluation, method)
    sections = {
        "Protocol": _protocol(evaluation),
        "Summary": _summary(evaluation),
        "Distributions": _distributions(evaluation),
        "Breakdown": _breakdown(evaluation),
        "Failures": _failures(evaluation),
        "Meshes": _meshes(evaluation, shapes, method, pictures),
        "Definitions": _definitions(evaluation),
    }
    links = element("nav", *(element("a", title, href=f"#{title.lower()}") for title in sections))
    body = [element("section", element("h2", title), *content, id=title.lower()) for title, content in sections.items()]
    script = Markup(SCRIPT.read_text(encoding="utf-8"))
    page = element("body", element("main", _opening(evaluation), links, *body), element("script", script))
    return f"<!DOCTYPE html>\n{element('html', _head(evaluation, script), page, lang='en')}\n"


def _head(evaluation: Evaluation, script: str) -> Markup:
    # Nothing is loaded, and no script runs but this one, whatever a name may hold.
    allowed = f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Evaluation: {', '.join(evaluation['methods'])}"),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )


def _opening(evaluation: Evaluation) -> Markup:
    methods, protocol = evaluation["methods"], evaluation["protocol"]
    meshes = max(len(method["rows"]) for method in methods.values())
    failures = sum(method["failures"] for method in methods.values())
    facts = [_counted(len(methods), "method"), _counted(meshes, "mesh", "es"), _counted(len(mesh_metrics(evaluation)), "metric")]
    facts.append(_counted(failures, "failure"))
    where = [" · ", element("span", str(protocol["data"]), class_="id")] if "data" in protocol else []
    return element("header", element("h1", "Evaluation"), element("p", " · ".join(facts), *where), class_="opening")


def _counted(count: int, name: str, ending: str = "s") -> str:
    return f"{count:,} {name}{ending if count != 1 else ''}"


# Protocol


def _protocol(evaluation: Evaluation) -> list[Markup]:
    protocol = evaluation["protocol"]
    plain = {name: value for name, value in protocol.items() if not isinstance(value, Mapping)}
    nested = {name: value for name, value in protocol.items() if isinstance(value, Mapping)}
    boxes = [element("div", element("h3", _words(name)), _facts(value), class_="box") for name, value in nested.items()]
    return [element("div", element("div", _facts(plain), class_="box wide"), *boxes, class_="boxes")]


def _facts(values: Mapping[str, Any]) -> Markup:
    return element("dl", *(element("div", element("dt", _words(name)), element("dd", _plain(value))) for name, value in values.items()))


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(each) for each in value) or "none"
    return {None: "none", "": "none"}.get(value, str(value)) if not isinstance(value, bool) else ("yes" if value else "no")


# Summary


def _summary(evaluation: Evaluation) -> list[Markup]:
    note = element(
        "p",
        "Each cell: ",
        element("b", "median"),
        ", below it the mean of the finite scores and, where there are any, the failures. The median counts failures as the worst. ",
        element("mark", "Marked"),
        ": the best of a column. A column's name sorts by it.",
        class_="note",
    )
    tables = [note, _summary_table(evaluation)]
    if set_metrics(evaluation):
        tables += [element("h3", "Scores of the whole set"), _set_table(evaluation)]
    return tables


def _summary_table(evaluation: Evaluation) -> Markup:
    names, methods = mesh_metrics(evaluation), evaluation["methods"]
    medians_of = {
        name: {key: each["summary"][name]["median"] for key, each in methods.items() if name in each["summary"]} for name in names
    }
    winners = {name: best(medians_of[name], metric_of(evaluation, name)["better"]) for name in names}
    body = []
    for number, (key, method) in enumerate(methods.items()):
        cells = [_summary_cell(method["summary"].get(name), key in winners[name]) for name in names]
        body.append(element("tr", _method_head(key, number), *cells, *_cost_cells(method)))
    heads = [_metric_head(evaluation, name) for name in names] + [_head_cell("seconds", "median of a mesh"), _head_cell("failed", "meshes")]
    return _table(heads, body, "sortable")


def _summary_cell(summary: Mapping[str, Any] | None, wins: bool) -> Markup:
    if summary is None:
        return element("td", "", data_value="")
    middle, mean = finite(summary["median"]), finite(summary["mean"])
    failed = [element("small", f"{summary['failures']} failed", class_="bad")] if summary["failures"] else []
    return element(
        "td",
        _value(middle, wins),
        element("small", ABSENT if mean is None else shown(mean), title=f"mean {mean!r}"),
        *failed,
        data_value=_sortable(middle),
    )


def _value(value: float | None, wins: bool) -> Markup:
    return element("mark" if wins else "b", shown(value), title="infinite" if value is None else repr(value))


def _sortable(value: float | None) -> str:
    return "" if value is None else repr(value)


def _cost_cells(method: Mapping[str, Any]) -> list[Markup]:
    seconds = [row["seconds"] for row in method["rows"] if row.get("seconds") is not None]
    usual = median(np.array(seconds, dtype=np.float64))
    failures = element("span", str(method["failures"]), class_="bad" if method["failures"] else "")
    return [
        element("td", ABSENT if usual is None else shown(usual), data_value=_sortable(usual)),
        element("td", failures, element("small", f"of {len(method['rows'])}"), data_value=method["failures"]),
    ]


def _set_table(evaluation: Evaluation) -> Markup:
    names, methods = set_metrics(evaluation), evaluation["methods"]
    winners = {
        name: best({key: each["sets"].get(name) for key, each in methods.items()}, metric_of(evaluation, name)["better"]) for name in names
    }
    body = [
        element("tr", _method_head(key, number), *(_set_cell(method["sets"], name, key in winners[name]) for name in names))
        for number, (key, method) in enumerate(methods.items())
    ]
    return _table([_metric_head(evaluation, name) for name in names], body, "sortable")


def _set_cell(sets: Mapping[str, Score], name: str, wins: bool) -> Markup:
    value = finite(sets.get(name))
    return element("td", _value(value, wins) if name in sets else ABSENT, data_value=_sortable(value))


def _metric_head(evaluation: Evaluation, name: str) -> Markup:
    metric = metric_of(evaluation, name)
    arrow = Markup(f"&nbsp;{ARROWS[metric['better']]}" if ARROWS[metric["better"]] else "")
    return _head_cell(joined(_breakable(name), arrow), metric["unit"], _hint(metric))


def _breakable(name: str) -> Markup:
    """In long names lines may end behind underscores."""
    return Markup(joined(name).replace("_", "_<wbr>")) if len(name) > LONG_NAME else joined(name)


def _hint(metric: Metric) -> str:
    return ". ".join(part.rstrip(".") for part in (metric["definition"], DIRECTIONS[metric["better"]], metric["source"]) if part)


def _head_cell(name: str, unit: str, hint: str = "") -> Markup:
    return element("th", element("button", name, type="button"), element("small", unit), scope="col", title=hint or False)


def _method_head(name: str, number: int) -> Markup:
    return element("th", _swatched(name, number), scope="row", data_value=name)


def _swatched(name: str, number: int) -> Markup:
    return element("span", name, class_=f"swatch s{number % COLOURS}")


def _table(heads: Iterable[Markup], body: Iterable[Markup], class_: str = "", corner: str = "method") -> Markup:
    first = element("th", element("button", corner, type="button") if class_ == "sortable" else corner, scope="col")
    table = element("table", element("thead", element("tr", first, *heads)), element("tbody", *body), class_=class_)
    return element("div", table, class_="scroll", tabindex="0")


# Distributions


def _distributions(evaluation: Evaluation) -> list[Markup]:
    note = "Every mesh a dot; the box holds the middle half, the line is the median. Failures have no dot; they count as the worst."
    plots = [_distribution(evaluation, name) for name in mesh_metrics(evaluation)]
    return [element("p", note, class_="note"), element("div", *plots, class_="plots")]


def _distribution(evaluation: Evaluation, metric: str) -> Markup:
    series = []
    for name, method in evaluation["methods"].items():
        values = scores(evaluation, metric, method["rows"])
        missing = len(method["rows"]) - int(np.isfinite(values).sum())
        series.append(Series(name, values, shown(median(values)), f"{missing} failed" if missing else ""))
    return _plot(evaluation, metric, strips(series, f"distribution of {metric}"))


def _plot(evaluation: Evaluation, metric: str, plot: Markup) -> Markup:
    entry = metric_of(evaluation, metric)
    unit = element("span", " · ".join(part for part in (entry["unit"], DIRECTIONS[entry["better"]]) if part), class_="unit")
    return element("figure", element("figcaption", element("span", metric, class_="metric"), unit, title=_hint(entry)), plot, class_="box")


# Breakdown


def _breakdown(evaluation: Evaluation) -> list[Markup]:
    names = mesh_metrics(evaluation)
    choices = element("select", *(element("option", name, value=number) for number, name in enumerate(names)))
    choice = element("label", "Metric ", choices, class_="choice", hidden=True)
    note = element("p", "Medians, failures counted as the worst; ", element("mark", "marked"), ": the best of a row.", class_="note")
    faces, categories = face_groups(evaluation), category_groups(evaluation)
    return [note, choice, *(_breakdown_of(evaluation, name, faces, categories, number) for number, name in enumerate(names))]


def _breakdown_of(evaluation: Evaluation, metric: str, faces: list[Group], categories: list[Group], number: int) -> Markup:
    series = [
        Series(name, np.array([_or_nan(median(scores(evaluation, metric, filter(fits, method["rows"])))) for _, fits in faces]))
        for name, method in evaluation["methods"].items()
    ]
    plot = _plot(evaluation, metric, lines([name for name, _ in faces], series, f"median {metric} by faces of the reference"))
    parts = [element("div", plot, _group_table(evaluation, metric, faces, "faces of the reference"), class_="pair")]
    if categories:
        parts.append(_group_table(evaluation, metric, categories, "category"))
    return element("div", *parts, class_="panel", data_metric=number)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _group_table(evaluation: Evaluation, metric: str, groups: list[Group], corner: str) -> Markup:
    methods = evaluation["methods"]
    heads = [element("th", "meshes", scope="col")]
    heads += [element("th", _swatched(name, number), scope="col") for number, name in enumerate(methods)]
    return _table(heads, [_group_row(evaluation, metric, group) for group in groups], "groups", corner)


def _group_row(evaluation: Evaluation, metric: str, group: Group) -> Markup:
    name, fits = group
    rows = {key: list(filter(fits, method["rows"])) for key, method in evaluation["methods"].items()}
    values = {key: median(scores(evaluation, metric, found)) for key, found in rows.items()}
    winners = best(values, metric_of(evaluation, metric)["better"])
    cells = [element("td", _value(values[key], key in winners) if rows[key] else ABSENT) for key in rows]
    return element("tr", element("th", name, scope="row"), element("td", str(max(map(len, rows.values())))), *cells)


# Failures, meshes, definitions


def _failures(evaluation: Evaluation) -> list[Markup]:
    failed = [
        element("tr", _method_head(name, number), element("td", named(row["id"])), element("td", row["failed"], class_="reason"))
        for number, (name, method) in enumerate(evaluation["methods"].items())
        for row in method["rows"]
        if row["failed"]
    ]
    if not failed:
        return [element("p", "Every method gave a result for every mesh.", class_="note")]
    heads = [element("th", name, scope="col") for name in ("mesh", "reason")]
    return [_table(heads, failed, "texts")]


def _meshes(evaluation: Evaluation, shapes: Shapes, method: str, pictures: int) -> list[Markup]:
    metric = mesh_metrics(evaluation)[0]
    order = "highest" if metric_of(evaluation, metric)["better"] == "neither" else "worst"
    note = element(
        "p",
        element("b", method),
        f", the {order} by ",
        element("span", metric, class_="metric"),
        " first, failures before all. The three of a row are seen from the same place; faces seen from behind are orange.",
        class_="note",
    )
    return [note, contact_sheet(worst_first(evaluation, method, metric), method, metric, shapes, pictures)]


def _definitions(evaluation: Evaluation) -> list[Markup]:
    names = [*mesh_metrics(evaluation), *set_metrics(evaluation)]
    return [element("dl", *(_definition(name, metric_of(evaluation, name)) for name in dict.fromkeys(names)), class_="definitions")]


def _definition(name: str, metric: Metric) -> Markup:
    unit = element("span", " · ".join(part for part in (metric["unit"], DIRECTIONS[metric["better"]]) if part), class_="unit")
    source = [element("p", metric["source"], class_="source")] if metric["source"] else []
    words = element("dd", element("p", metric["definition"] or "No definition was recorded."), *source)
    return element("div", element("dt", element("span", name, class_="metric"), unit), words)
