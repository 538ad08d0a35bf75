"""The notebooks run from top to bottom on a CPU, and are kept without what they print."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
PLACES = re.compile(r"""["'](/|~|[A-Za-z]:\\)""")  # of one machine alone
SECONDS = 1_200  # a cell that hangs ends there
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_one_to_sample_one_of_tokenizers_and_one_to_train():
    assert [path.stem for path in NOTEBOOKS] == ["sample", "tokenizers", "train_tiny"]


@each
def test_they_are_kept_without_outputs(path):
    kept = [cell.source for cell in cells(path) if cell.outputs or cell.execution_count is not None]
    assert not kept, f"clear the outputs of {path.name} before it is committed; there are some below: {kept[0]}"


@each
def test_they_name_no_absolute_path(path):
    wrong = [line for cell in cells(path) for line in cell.source.splitlines() if PLACES.search(line)]
    assert not wrong, f"{path.name} names places that other machines do not have: {wrong}"


@each
def test_their_cells_are_short(path):
    assert max(len(cell.source.splitlines()) for cell in cells(path)) <= 30


@each
@pytest.mark.notebook
def test_they_run_from_top_to_bottom_and_show_pictures(path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))  # this checkout, whatever else is installed
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many notebooks run at a time as there are cores
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
