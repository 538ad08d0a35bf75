"""The registry holds what is measured, every result gets a number for every metric, and bad ones count by the written rule."""

from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest

from meshgpt import metrics, shape_sets, tokenizer_metrics, topology
from meshgpt import scores as module
from meshgpt.mesh import Mesh
from meshgpt.protocols import METRICS
from meshgpt.scores import PAIR_METRICS, Scored, problem, scores, summarise

QUICK = tuple(name for name in PAIR_METRICS if "ma100k" not in name)
CORNER = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FAILURES = {
    "has no faces": Mesh(CORNER, np.zeros((0, 3), np.int64)),
    "has 1 faces, none with an area": Mesh(CORNER, np.array([[0, 1, 1]])),
    "has 2 vertices that are NaN or infinite": Mesh(np.where(np.eye(4, 3) > 0, [[1, np.nan, np.inf]], 0), np.array([[0, 0, 3]])),
    "has 4 vertices and a face at vertex 4": Mesh(CORNER, np.array([[0, 1, 4]])),
    "has 4 vertices and a face at vertex -1": Mesh(CORNER, np.array([[0, 1, -1]])),
}


def test_the_registry_is_what_can_be_measured():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert set(PAIR_METRICS) == set(module._MEASURES)
    for metric in METRICS.values():
        assert metric.definition.endswith(".") and metric.source and metric.unit
        assert metric.better in ("lower", "higher", "neither")
        assert metric.of in ("pair", "set", "tokenizer", "model")


def test_there_is_no_unnamed_chamfer_distance():
    """What is a distance between point sets says how many points, and whose normalisation and power."""
    named = [name for name in METRICS if name.startswith(("cd_", "ecd_", "hd_"))]
    assert all(any(protocol in name for protocol in ("_ma100k", "_bpt1024", "_pivot1024")) for name in named)
    functions = [
        name for each in (metrics, module, shape_sets, tokenizer_metrics, topology) for name, _ in inspect.getmembers(each, callable)
    ]
    assert not [name for name in [*METRICS, *functions] if "chamfer" in name.lower() or name in ("cd", "hd", "nc", "ecd")]


def test_worst_is_not_better_than_any_result(val):
    found = scores(val.mesh(10), val.mesh(10)).values
    for name in PAIR_METRICS:
        better, worst = METRICS[name].better, METRICS[name].worst
        assert better == "neither" or (found[name] < worst if better == "lower" else found[name] >= worst)


def test_a_mesh_beside_itself_has_the_best_of_everything(val):
    found = scores(val.mesh(10), val.mesh(10))
    assert tuple(found.values) == PAIR_METRICS
    assert (found.failed, found.reasons) == ("", {})
    assert all(type(value) is float and math.isfinite(value) for value in found.values.values())
    for name in ("nc_tree", "absnc_tree", "vertex_ratio", "face_ratio", "valid"):
        assert found.values[name] == pytest.approx(1)
    assert found.values["cd_ma100k"] < 0.01
    assert found.values["f_1pct_ma100k"] > 0.99
    json.dumps(found.values, allow_nan=False)


@pytest.mark.parametrize("reason", FAILURES)
def test_a_result_that_cannot_be_measured_is_as_bad_as_can_be(val, reason):
    found = scores(FAILURES[reason], val.mesh(10))
    assert found.failed == problem(FAILURES[reason]) == reason
    assert found.values == {name: METRICS[name].worst for name in PAIR_METRICS}
    assert found.reasons == {name: reason for name in PAIR_METRICS if name != "valid"}


def test_a_reference_that_cannot_be_measured_is_refused(val):
    for reason, mesh in FAILURES.items():
        with pytest.raises(ValueError, match=f"the reference {reason}"):
            scores(val.mesh(10), mesh)


def test_poor_results_are_scored_like_any_other(val):
    reference = val.mesh(10)
    book = Mesh(np.random.default_rng(0).random((5, 3)), np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]]))
    strays = Mesh(np.concatenate([reference.vertices, reference.vertices[:1] * 0]), np.concatenate([reference.faces, [[0, 0, 1]]]))
    for mesh in (Mesh(CORNER, np.array([[0, 1, 2]])), book, strays, Mesh(reference.vertices, reference.faces[::3])):
        found = scores(mesh, reference, names=QUICK)
        assert (found.failed, found.reasons, found.values["valid"]) == ("", {}, 1)


def test_a_metric_that_raises_fails_by_itself(val, monkeypatch):
    def stumble(compared: metrics.Compared) -> float:
        raise RuntimeError("the library fell over")

    monkeypatch.setitem(module._MEASURES, "nc_tree", stumble)
    monkeypatch.setitem(module._MEASURES, "absnc_tree", lambda compared: math.nan)
    found = scores(val.mesh(10), val.mesh(10), names=QUICK)
    assert found.failed == ""
    assert found.reasons == {"nc_tree": "the library fell over", "absnc_tree": "it came out as nan"}
    assert found.values["nc_tree"] == -1
    assert found.values["absnc_tree"] == 0
    assert found.values["face_ratio"] == 1
    summary = summarise([found, found])
    assert summary["nc_tree"][2:] == (0, 2)
    assert math.isnan(summary["nc_tree"].mean)


def test_a_missing_pymeshlab_is_a_failure_with_its_reason(val, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymeshlab", None)
    found = scores(val.mesh(10), val.mesh(10), names=("topology_score", "face_ratio"))
    assert found.values == {"topology_score": 0, "face_ratio": 1}
    assert "pip install 'meshgpt[evaluate]'" in found.reasons["topology_score"]


def test_unknown_names_are_refused(val):
    with pytest.raises(ValueError, match=r"'chamfer': no metric of a pair has that name; these have one: cd_ma100k"):
        scores(val.mesh(10), val.mesh(10), names=("chamfer",))


def test_the_same_seed_gives_the_same_scores(val):
    pair, names = (val.mesh(3), val.mesh(4)), ("cd_ma100k", "cd_bpt1024_l2", "cd_pivot1024_sq")
    assert scores(*pair, seed=1, names=names) == scores(*pair, seed=1, names=names) != scores(*pair, seed=2, names=names)


def row(distance: float, agreement: float, ratio: float, failed: bool = False) -> Scored:
    names = ("cd_ma100k", "nc_ma100k", "face_ratio")
    return Scored(
        dict(zip(names, map(float, (distance, agreement, ratio)), strict=True)), "", dict.fromkeys(names, "why") if failed else {}
    )


def test_a_failure_is_infinitely_bad_in_the_median_and_absent_from_the_mean():
    bad = row(math.inf, 0.0, 0.0, failed=True)
    summary = summarise([row(1, 0.5, 2), row(2, 0.7, 4), bad])
    assert summary["cd_ma100k"] == (2, 1.5, 2, 1)
    assert summary["nc_ma100k"] == pytest.approx((0.5, 0.6, 2, 1))
    assert summary["face_ratio"] == (3, 3, 2, 1)  # neither way is better
    mostly_bad = summarise([row(1, 0.5, 2), bad, bad])
    assert mostly_bad["cd_ma100k"].median == math.inf
    assert mostly_bad["nc_ma100k"].median == -math.inf
    only_bad = summarise([bad])
    assert math.isnan(only_bad["cd_ma100k"].mean)
    assert math.isnan(only_bad["face_ratio"].median)


def test_the_share_of_valid_results_is_a_mean(val):
    good, bad = scores(val.mesh(10), val.mesh(10), names=("valid",)), scores(FAILURES["has no faces"], val.mesh(10), names=("valid",))
    assert summarise([good, good, bad, good])["valid"] == (1, 0.75, 4, 0)


def test_rows_of_different_metrics_have_no_summary(val):
    with pytest.raises(ValueError, match="different metrics"):
        summarise([row(1, 1, 1), Scored({"valid": 1.0})])
    assert summarise([]) == {}
