"""`python sample.py` is `meshgpt sample`, word for word."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "sample.py"


@pytest.mark.parametrize("words", [[], ["--cond", "my chair.ply", "--seed", "3"]], ids=["nothing", "options"])
def test_the_script_hands_everything_on(monkeypatch, words):
    seen = []
    monkeypatch.setattr("meshgpt.cli.main", lambda arguments: seen.append(arguments) or 7)
    monkeypatch.setattr(sys, "argv", ["sample.py", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert seen == [["sample", *words]]
    assert stop.value.code == 7
