"""Evaluations: every mesh and method has a row, the same each time, and what failed is counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meshgpt.cli import main
from meshgpt.generate import Sampling
from meshgpt.mesh import Mesh
from meshgpt.protocols import METRICS
from meshgpt.scores import PAIR_METRICS
from meshgpt.train.evaluate import EvaluateOptions, run
from meshgpt.train.methods import file_stem
from meshgpt.train.sources import read_parquet

TEST = Path(__file__).resolve().parents[1] / "data" / "artist-kits" / "test.parquet"
FEW = Sampling(max_faces=4, tries=2)


def options(out: Path, **changes) -> EvaluateOptions:
    settings = {"methods": ("convex_hull",), "limit": 2, "workers": 1, "sampling": FEW, "max_faces": 60, "pictures": 1}
    return EvaluateOptions(str(TEST), str(out), **settings | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Meshes as somebody else's program would have left them: one right, one missing, one of another split, one broken."""
    folder = tmp_path_factory.mktemp("finished")
    meshes = read_parquet(TEST).at_most(60)
    meshes.mesh(0).save(folder / f"{file_stem(meshes.ids[0])}.obj")
    (folder / "stranger.obj").write_text("v 0 0 0\n")
    (folder / f"{file_stem(meshes.ids[-1])}.ply").write_text("no mesh")
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory, finished) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("report")
    run(options(out, methods=("meshgpt", "convex_hull", str(finished)), limit=3))
    return out, json.loads((out / "metrics.json").read_text())


def test_every_mesh_has_a_row_for_every_method_with_every_metric(measured, finished):
    _, evaluation = measured
    assert list(evaluation["methods"]) == ["meshgpt", "convex_hull", finished.name]
    for method in evaluation["methods"].values():
        assert len(method["rows"]) == 3
        for row in method["rows"]:
            assert set(row["scores"]) == set(PAIR_METRICS)
    for name, said in evaluation["metrics"].items():
        assert said["definition"] == METRICS[name].definition
    assert evaluation["protocol"]["seed"] == 0
    assert evaluation["protocol"]["settings"]["tries"] == 2
    assert evaluation["protocol"]["versions"]["meshgpt"]


def test_a_finished_mesh_that_is_the_reference_scores_like_it(measured, finished):
    _, evaluation = measured
    row = evaluation["methods"][finished.name]["rows"][0]
    assert row["failed"] == ""
    assert row["scores"]["cd_ma100k"] < 0.01
    assert row["scores"]["face_ratio"] == 1


def test_failures_are_counted_and_say_why(measured, finished):
    _, evaluation = measured
    method = evaluation["methods"][finished.name]
    assert method["failures"] == 2
    assert "holds no mesh named" in method["rows"][1]["failed"]
    assert method["rows"][2]["failed"]
    assert method["summary"]["cd_ma100k"]["median"] is None, "two of three are infinitely far"
    assert method["summary"]["cd_ma100k"]["mean"] < 0.01
    assert method["rows"][1]["scores"]["cd_ma100k"] is None


def test_a_report_and_the_meshes_lie_there(measured):
    out, evaluation = measured
    page = (out / "report.html").read_text()
    for row in evaluation["methods"]["convex_hull"]["rows"]:
        assert row["id"] in page
        assert (out / "meshes" / "convex_hull" / f"{file_stem(row['id'])}.ply").is_file()


def test_a_second_run_measures_nothing_anew_and_says_the_same(measured, finished):
    out, evaluation = measured
    rows = {path: path.stat().st_mtime_ns for path in (out / "rows").rglob("*.json")}
    run(options(out, methods=("meshgpt", "convex_hull", str(finished)), limit=3))
    assert json.loads((out / "metrics.json").read_text()) == evaluation
    assert {path: path.stat().st_mtime_ns for path in (out / "rows").rglob("*.json")} == rows


def test_a_stopped_run_goes_on_and_comes_to_the_same_numbers(measured, tmp_path):
    _, whole = measured
    run(options(tmp_path, limit=3))
    first = json.loads((tmp_path / "metrics.json").read_text())
    (row,) = (tmp_path / "rows" / "convex_hull").glob(f"{file_stem(first['methods']['convex_hull']['rows'][1]['id'])}.json")
    row.unlink()
    run(options(tmp_path, limit=3))
    again = json.loads((tmp_path / "metrics.json").read_text())
    for evaluation in (first, again):
        assert evaluation["methods"]["convex_hull"]["summary"] == whole["methods"]["convex_hull"]["summary"]
        assert evaluation["methods"]["convex_hull"]["sets"] == whole["methods"]["convex_hull"]["sets"]


def test_rows_of_other_options_are_not_mixed_in(measured, finished):
    out, _ = measured
    with pytest.raises(ValueError, match=r"holds an evaluation with other options; name another --out, or remove that folder$"):
        run(options(out, limit=3, seed=1))


def test_files_and_meshes_that_do_not_match_are_listed(measured, finished, capsys):
    out, evaluation = measured
    run(options(out, methods=(str(finished),), limit=3))
    said = capsys.readouterr().out
    assert "1 files belong to no mesh of the split: stranger" in said
    assert evaluation["methods"][finished.name]["rows"][1]["id"] in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "no-such-thing"], "no-such-thing is no method: name meshgpt, a folder of finished meshes, or one of decimated"),
        (["--methods", "poisson", "poisson"], "name at least one, and each once"),
        (["--conditions", "fog"], "the condition 'fog' is unknown; use clean, noise, points-512"),
        (["--conditions", "noise", "noise"], "the conditions noise noise do not fit; name at least one, and each once"),
        (["--limit", "0"], "--limit 0 does not fit; use at least 1"),
        (["--workers", "-1"], "--workers -1 does not fit"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_sentence(words, message, tmp_path, capsys):
    assert main(["evaluate", "--data", str(TEST), "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_method_counts_once_for_each_condition_of_the_clouds(measured, tmp_path, capsys):
    _, clean = measured
    evaluation = run(options(tmp_path, limit=3, conditions=("clean", "noise", "points-256")))
    assert list(evaluation["methods"]) == ["convex_hull", "convex_hull-noise", "convex_hull-points-256"]
    medians = [method["summary"]["cd_ma100k"]["median"] for method in evaluation["methods"].values()]
    assert medians[0] == clean["methods"]["convex_hull"]["summary"]["cd_ma100k"]["median"]
    assert medians[1] > medians[0], "the hull of a noisy cloud is too large"
    assert f"convex_hull-noise: median cd_ma100k {medians[1]:.4f}, {medians[1] / medians[0]:.2f} times that of clean clouds" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("id", "stem"), [("a/b c", "a_b_c"), ("../../etc", "_.._etc"), ("...", "_"), ("Zaun-1.2", "Zaun-1.2")])
def test_ids_from_outside_stay_in_their_folder(id, stem):
    assert file_stem(id) == stem


def test_results_without_a_surface_fail(tmp_path):
    meshes = read_parquet(TEST).at_most(60)
    folder = tmp_path / "flat"
    folder.mkdir()
    Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])).save(folder / f"{file_stem(meshes.ids[0])}.ply")
    evaluation = run(options(tmp_path / "out", methods=(str(folder),), limit=1))
    (row,) = evaluation["methods"]["flat"]["rows"]
    assert row["failed"]
    assert evaluation["methods"]["flat"]["sets"]["cov_pivot1024_sq"] == 0
