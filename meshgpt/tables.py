"""The summary of an evaluation as a table in the terminal: methods as rows, medians of the main metrics as columns; and where tables go."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshgpt.evaluation import ARROWS, Evaluation, best, known, mesh_metrics, metric_of, shown

MAIN = ("cd_ma100k", "nc_ma100k", "f_2pct_ma100k", "hd_bpt1024", "boundary_edge_ratio", "non_manifold_edge_ratio", "face_ratio")
WIDE = 160  # columns


def wide_console() -> Console:
    """The terminal as it is; a file or a pipe has no width, and a table cut at 80 columns tells little."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def table(evaluation: Evaluation, metrics: Sequence[str] = ()) -> Table:
    """Medians, the best of each metric in bold, and how often each method failed; the main metrics unless others are named.

    ValueError names a metric that was not measured.
    """
    known(evaluation)
    metrics = metrics or _main(mesh_metrics(evaluation))
    shown_table = Table(
        "method", title="medians", caption="↓ lower is better, ↑ higher is better; failures count in the median as the worst"
    )
    for name in metrics:
        shown_table.add_column(Text(f"{name} {ARROWS[metric_of(evaluation, name)['better']]}".rstrip()), justify="right")
    shown_table.add_column("failed", justify="right")
    columns = [_column(evaluation, name) for name in metrics]
    for method, measured in evaluation["methods"].items():
        shown_table.add_row(Text(method), *(column[method] for column in columns), f"{measured['failures']} of {len(measured['rows'])}")
    return shown_table


def _main(measured: list[str]) -> list[str]:
    return [name for name in MAIN if name in measured] or measured[: len(MAIN)]


def _column(evaluation: Evaluation, metric: str) -> dict[str, Text]:
    if metric not in mesh_metrics(evaluation):
        raise ValueError(f"the metric {metric!r} was not measured; there are: {', '.join(mesh_metrics(evaluation))}")
    values = {name: method["summary"][metric]["median"] for name, method in evaluation["methods"].items() if metric in method["summary"]}
    winners = best(values, metric_of(evaluation, metric)["better"])
    return {
        name: Text(shown(values[name]) if name in values else "", style="bold green" if name in winners else "")
        for name in evaluation["methods"]
    }
