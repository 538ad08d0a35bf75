"""The report of an evaluation: what a browser would read of it, and that nothing is lost, loaded or let through."""

from __future__ import annotations

import copy
import json
import math
import os
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from meshgpt import contact_sheet as sheet
from meshgpt.cloud import Cloud
from meshgpt.evaluation import best, category_groups, face_groups, median, scores, shown, worst_first
from meshgpt.markup import VOID, Markup, element, joined
from meshgpt.mesh import Mesh, sample_surface
from meshgpt.plots import Scale, Series, lines, strips
from meshgpt.report import report, write_report
from meshgpt.scores import scores as score
from meshgpt.tables import table
from meshgpt.train.sources import read_parquet

TEST = Path(__file__).resolve().parents[1] / "data" / "artist-kits" / "test.parquet"
NASTY = "kit/</bdi><script>alert('id')</script>"
REASON = 'no faces & "no end" <img src=x onerror=alert(1)>'
METRICS = {
    "cd_ma100k": {
        "unit": "longest side",
        "better": "lower",
        "definition": "There and back.",
        "source": "MeshAnything, https://example.org",
    },
    "nc_ma100k": {"unit": "cosine", "better": "higher", "definition": "Of nearest points.", "source": "MeshAnything"},
    "face_ratio": {"unit": "faces of the reference", "better": "neither", "definition": "Faces over faces.", "source": ""},
    "cov": {"unit": "share", "better": "higher", "definition": "References that are hit.", "source": "PivotMesh"},
}
MEASURED = tuple(METRICS)[:3]


class Kept(NamedTuple):
    """The shapes of an evaluation, all in memory."""

    results: dict[tuple[str, str], Mesh]
    references: dict[str, Mesh]

    def result(self, method: str, id: str) -> Mesh | None:
        return self.results.get((method, id))

    def reference(self, id: str) -> Mesh:
        return self.references[id]

    def cloud(self, method: str, id: str) -> Cloud:
        surface = sample_surface(self.references[id], 500, np.random.default_rng(0))
        return Cloud(surface[:, :3], surface[:, 3:])


def row(id: str, category: str, reference: Mesh, result: Mesh | None) -> dict:
    measured = score(result, reference, names=MEASURED).values if result else dict.fromkeys(MEASURED)
    failed = "" if result else REASON
    return {
        "id": id,
        "category": category,
        "reference_faces": len(reference.faces),
        "seconds": 0.5,
        "failed": failed,
        "scores": measured,
    }


def summary(rows: list[dict], metric: str, worst: float) -> dict:
    values = [worst if each["scores"][metric] is None else each["scores"][metric] for each in rows]
    known = [value for value in values if math.isfinite(value)]
    return {"median": float(np.median(values)), "mean": float(np.mean(known)), "failures": len(values) - len(known)}


def method(rows: list[dict], cov: float) -> dict:
    summaries = {name: summary(rows, name, worst) for name, worst in zip(METRICS, (math.inf, -math.inf, math.inf), strict=False)}
    return {"summary": summaries, "sets": {"cov": cov}, "failures": sum(bool(each["failed"]) for each in rows), "rows": rows}


@pytest.fixture(scope="session")
def shapes() -> Kept:
    """Six meshes; the method `half` drops every second face and fails once, `rough` moves the vertices."""
    meshes = read_parquet(TEST)
    picked = [0, 40, 90, 150, 200, 250]
    references = {NASTY if place == 2 else meshes.ids[index]: meshes.mesh(index) for place, index in enumerate(picked)}
    rng = np.random.default_rng(0)
    results = {("half", id): Mesh(mesh.vertices, mesh.faces[::2]) for id, mesh in references.items() if id != NASTY}
    for id, mesh in references.items():
        results["rough", id] = Mesh(mesh.vertices + rng.normal(0, 0.01, mesh.vertices.shape), mesh.faces)
    return Kept(results, references)


@pytest.fixture(scope="session")
def evaluation(shapes) -> dict:
    categories = ["chairs & <b>tables</b>", "lamps"]
    methods = {
        name: method(
            [row(id, categories[place % 2], mesh, shapes.result(name, id)) for place, (id, mesh) in enumerate(shapes.references.items())],
            cov,
        )
        for name, cov in (("half", 0.25), ("rough", 0.75))
    }
    protocol = {"data": "data/test.parquet", "meshes": 6, "versions": {"meshgpt": "0.1.0"}, "settings": {"top_p": 0.9, "none": None}}
    return {"protocol": protocol, "metrics": METRICS, "methods": methods}


@pytest.fixture(scope="session")
def page(evaluation, shapes) -> str:
    return report(evaluation, shapes, pictures=2)


class Element(NamedTuple):
    name: str
    attributes: dict[str, str | None]
    children: list

    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def find(self, name: str, class_: str = "") -> list[Element]:
        below = [child for child in self.children if not isinstance(child, str)]
        here = [each for each in below if each.name == name and class_ in ["", *(each.attributes.get("class") or "").split()]]
        return here + [found for each in below for found in each.find(name, class_)]


class Parser(HTMLParser):
    """A tree; an end that has no start, or the wrong one, is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {}, [])]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Element(tag, dict(attrs), [])
        assert len(found.attributes) == len(attrs), f"an attribute twice in {tag}"
        self.open[-1].children.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert len(parser.open) == 1, f"never closed: {[each.name for each in parser.open]}"
    return parser.open[0]


def everything(tree: Element) -> list[Element]:
    below = [child for child in tree.children if not isinstance(child, str)]
    return below + [found for each in below for found in everything(each)]


def section(tree: Element, name: str) -> Element:
    (found,) = (each for each in tree.find("section") if each.attributes["id"] == name)
    return found


# The page


def test_nothing_is_loaded_and_no_other_script_runs(page):
    tree = parsed(page)
    elements = everything(tree)
    targets = [each.attributes[name] for each in elements for name in ("src", "href", "data", "action") if name in each.attributes]
    assert targets
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in targets)
    assert not {each.name for each in elements} & {"link", "iframe", "object", "embed", "form", "base", "video", "audio"}
    assert not re.search(r"url\(|@import", tree.find("style")[0].text())
    assert not [name for each in elements for name in each.attributes if name.startswith("on") or name == "style"]
    (script,) = tree.find("script")
    (policy,) = (each.attributes["content"] for each in tree.find("meta") if "http-equiv" in each.attributes)
    assert b64encode(sha256(script.text().encode()).digest()).decode() in policy
    assert "default-src 'none'" in policy


def test_links_inside_the_page_lead_somewhere(page):
    elements = everything(parsed(page))
    places = [each.attributes["id"] for each in elements if "id" in each.attributes]
    assert len(places) == len(set(places))
    assert {each.attributes["href"] for each in elements if "href" in each.attributes} <= {f"#{place}" for place in places}


def test_every_mesh_and_every_failure_is_there(page, evaluation):
    meshes = section(parsed(page), "meshes")
    assert sorted(each.text() for each in meshes.find("bdi")) == sorted(each["id"] for each in evaluation["methods"]["half"]["rows"])
    assert REASON in meshes.text()
    rows = [[cell.text() for cell in each.children] for each in section(parsed(page), "failures").find("tbody")[0].children]
    assert rows == [["half", NASTY, REASON]]


def test_texts_from_outside_stay_texts(page, evaluation, shapes):
    tree = parsed(page)
    assert len(tree.find("script")) == 1
    assert {each.attributes["alt"] for each in tree.find("img")} == {"input cloud", "reference", "result"}
    assert "chairs & <b>tables</b>" in section(tree, "breakdown").text()
    hostile = copy.deepcopy(evaluation)
    hostile["methods"] = {"<script>1</script>": hostile["methods"]["half"]}
    hostile["protocol"] = {"</dl><script>2</script>": {'"><script>': "<script>"}}
    hostile["metrics"]["cd_ma100k"] = {"unit": "<script>", "better": "lower", "definition": '"><script>', "source": "<script>"}
    assert len(parsed(report(hostile, shapes, pictures=0)).find("script")) == 1


def test_the_numbers_of_the_table_are_those_of_the_file(page, evaluation):
    (body,) = section(parsed(page), "summary").find("table")[0].find("tbody")
    for line, (name, measured) in zip(body.children, evaluation["methods"].items(), strict=True):
        head, *cells = line.children
        assert head.text() == name
        for cell, metric in zip(cells[:3], ("cd_ma100k", "nc_ma100k", "face_ratio"), strict=True):
            values = measured["summary"][metric]
            assert float(cell.attributes["data-value"]) == values["median"]
            assert cell.children[0].text() == shown(values["median"])
            assert cell.children[1].text() == shown(values["mean"])
            assert ("1 failed" in cell.text()) == (name == "half")
        assert [cell.attributes["data-value"] for cell in cells[3:]] == ["0.5", str(measured["failures"])]


def test_the_best_of_each_metric_is_marked(page, evaluation):
    tables = section(parsed(page), "summary").find("table")
    marked = [[bool(cell.find("mark")) for cell in line.children[1:]] for each in tables for line in each.find("tbody")[0].children]
    half, rough = (evaluation["methods"][name]["summary"] for name in ("half", "rough"))
    nearer = half["cd_ma100k"]["median"] < rough["cd_ma100k"]["median"]
    straighter = half["nc_ma100k"]["median"] > rough["nc_ma100k"]["median"]
    assert marked[0] == [nearer, straighter, False, False, False]
    assert marked[1] == [not nearer, not straighter, False, False, False]
    assert marked[2:] == [[False], [True]]


def test_protocol_and_definitions_are_complete(page):
    tree = parsed(page)
    protocol = dict(zip(*([each.text() for each in section(tree, "protocol").find(name)] for name in ("dt", "dd")), strict=True))
    assert protocol == {"data": "data/test.parquet", "meshes": "6", "meshgpt": "0.1.0", "top p": "0.9", "none": "none"}
    words = section(tree, "definitions").text()
    for name, metric in METRICS.items():
        assert all(part in words for part in (name, metric["unit"], metric["definition"], metric["source"]))


def test_each_metric_has_a_plot_and_a_breakdown(page, evaluation):
    tree = parsed(page)
    assert [each.text() for each in section(tree, "distributions").find("span", "metric")] == ["cd_ma100k", "nc_ma100k", "face_ratio"]
    panels = section(tree, "breakdown").find("div", "panel")
    assert [each.attributes["data-metric"] for each in panels] == ["0", "1", "2"]
    faces, categories = panels[0].find("tbody")
    rows = evaluation["methods"]["half"]["rows"]
    assert sum(int(line.children[1].text()) for line in faces.children) == len(rows)
    lamps = next(line for line in categories.children if line.children[0].text() == "lamps")
    expected = np.median([each["scores"]["cd_ma100k"] for each in rows if each["category"] == "lamps"])
    assert lamps.children[2].text() == shown(float(expected))


def test_the_same_evaluation_gives_the_same_page(page, evaluation, shapes):
    assert report(json.loads(json.dumps(evaluation)), shapes, pictures=2) == page


# The contact sheet


def test_the_worst_come_first(page, evaluation):
    rows = {each["id"]: each["scores"]["cd_ma100k"] for each in evaluation["methods"]["half"]["rows"]}
    ids = [each.text() for each in section(parsed(page), "meshes").find("bdi")]
    assert ids[0] == NASTY
    values = [rows[id] for id in ids[1:]]
    assert values == sorted(values, reverse=True)
    by_normals = [each["scores"]["nc_ma100k"] for each in worst_first(evaluation, "rough", "nc_ma100k")]
    assert by_normals == sorted(by_normals)


def test_pictures_are_limited_and_folded(evaluation, shapes, monkeypatch):
    monkeypatch.setattr(sheet, "WORST", 2)
    rows = worst_first(evaluation, "rough", "cd_ma100k")
    tree = parsed(sheet.contact_sheet(rows, "rough", "cd_ma100k", shapes, pictures=3))
    open_cards, *folded = tree.children
    assert [len(open_cards.find("article")), len(open_cards.find("img"))] == [2, 6]
    assert [len(each.find("article")) for each in folded] == [1, 0]
    assert [each.text() for each in folded[1].find("bdi")] == [each["id"] for each in rows[3:]]
    ranks = [each.text() for each in folded[1].find("tbody")[0].find("td", "number")[::3]]
    assert ranks == ["4", "5", "6"]


def test_the_three_pictures_of_a_row_show_three_things(evaluation, shapes):
    rows = worst_first(evaluation, "rough", "cd_ma100k")[:1]
    images = parsed(sheet.contact_sheet(rows, "rough", "cd_ma100k", shapes, pictures=1)).find("img")
    pictures = [Image.open(BytesIO(b64decode(each.attributes["src"].partition(",")[2]))) for each in images]
    assert [picture.size for picture in pictures] == [(sheet.SIZE, sheet.SIZE)] * 3
    cloud, reference, result = (np.asarray(picture.convert("RGBA")) for picture in pictures)
    for pixels in (cloud, reference, result):
        assert pixels[0, 0, 3] == 0
        assert (pixels[..., 3] > 100).sum() > 300
    assert ((reference[..., 3] > 0) & (result[..., 3] > 0)).sum() > 0.7 * (reference[..., 3] > 0).sum()
    assert (reference != result).any()
    assert (reference != cloud).any()


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "the result was not kept"),
        (Mesh(np.zeros((0, 3)), np.zeros((0, 3), int)), "the result has no faces"),
        (Mesh(np.eye(3) * np.nan, np.array([[0, 1, 2]])), "the result has vertices that are not finite"),
    ],
)
def test_what_cannot_be_drawn_says_why(evaluation, shapes, result, reason):
    rows = worst_first(evaluation, "rough", "cd_ma100k")[:1]
    kept = Kept({("rough", rows[0]["id"]): result} if result else {}, shapes.references)
    tree = parsed(sheet.contact_sheet(rows, "rough", "cd_ma100k", kept, pictures=1))
    assert [each.text() for each in tree.find("p", "reason")] == [reason]
    assert len(tree.find("img")) == 2


def test_a_result_far_away_is_still_in_the_picture(evaluation, shapes):
    rows = worst_first(evaluation, "rough", "cd_ma100k")[:1]
    id = rows[0]["id"]
    mesh = shapes.references[id]
    away = Kept({("rough", id): Mesh(mesh.vertices + np.array([8.0, 0, 8.0]), mesh.faces)}, shapes.references)
    images = parsed(sheet.contact_sheet(rows, "rough", "cd_ma100k", away, pictures=1)).find("img")
    for each in images:
        assert np.asarray(Image.open(BytesIO(b64decode(each.attributes["src"].partition(",")[2]))).convert("RGBA"))[..., 3].max() > 100


# Files, and evaluations that are not as they should be


def test_the_file_is_the_page(tmp_path, evaluation, shapes, page):
    write_report(evaluation, shapes, tmp_path / "report.html", pictures=2)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path, evaluation, shapes, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(evaluation, shapes, tmp_path / "report.html", pictures=0)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("report.html", "old")]


def test_names_that_no_encoding_has_are_written(tmp_path, evaluation, shapes):
    broken = copy.deepcopy(evaluation)
    broken["methods"]["half"]["rows"][0]["id"] = "chair-\udcff"
    write_report(broken, shapes, tmp_path / "report.html", pictures=0)
    assert r"chair-\udcff" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_method_that_failed_everywhere_is_shown(evaluation, shapes):
    failed = copy.deepcopy(evaluation)
    for each in failed["methods"]["half"]["rows"]:
        each |= {"failed": "no memory", "scores": dict.fromkeys(each["scores"])}
    failed["methods"]["half"] |= {
        "failures": 6,
        "sets": {"cov": None},
        "summary": {name: {"median": None, "mean": None, "failures": 6} for name in list(METRICS)[:3]},
    }
    tree = parsed(report(failed, shapes, pictures=1))
    line = section(tree, "summary").find("tbody")[0].children[0]
    assert [each.attributes["data-value"] for each in line.children] == ["half", "", "", "", "0.5", "6"]
    assert len(section(tree, "failures").find("tbody")[0].children) == 6
    assert "∞" in line.text()


def test_a_method_without_rows_is_shown(evaluation, shapes):
    empty = copy.deepcopy(evaluation)
    empty["methods"]["half"] = {"summary": {}, "sets": {}, "failures": 0, "rows": []}
    tree = parsed(report(empty, shapes))
    assert section(tree, "summary").find("tbody")[0].children[0].text() == "half\N{EN DASH}0of 0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": {}}, "^the evaluation holds no methods; evaluate at least one$"),
        ({"method": "best"}, "^the method 'best' was not evaluated; there are: half, rough$"),
        ({"summary": {}}, "^the evaluation summarises no metrics; measure at least one$"),
    ],
)
def test_evaluations_without_content_are_refused(evaluation, shapes, change, message):
    changed = evaluation | {name: value for name, value in change.items() if name == "methods"}
    if "summary" in change:
        changed = evaluation | {"methods": {"half": evaluation["methods"]["half"] | change}}
    with pytest.raises(ValueError, match=message):
        report(changed, shapes, method=change.get("method", ""))


# Scores


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0712345, "0.0712"), (1.0, "1.00"), (0, "0"), (12.0, "12.0"), (123.4, "123"), (999.7, "1,000"), (12345.6, "12,346"),
        (0.00012345, "1.2e-4"), (-0.5, "-0.500"), (None, "∞"), (math.inf, "∞"),
    ],
)  # fmt: skip
def test_three_digits_count(value, text):
    assert shown(value) == text


def test_the_best_is_what_looks_best():
    values = {"a": 0.12341, "b": 0.12339, "c": 0.2, "d": None, "e": math.nan}
    assert best(values, "lower") == {"a", "b"}
    assert best(values, "higher") == {"c"}
    assert best({"a": 0, "b": 0.0}, "lower") == set()
    assert best({"a": 0, "b": None}, "lower") == {"a"}
    assert best(values, "neither") == best({"a": 1.0}, "lower") == best({"a": None, "b": None}, "lower") == set()


def test_failures_count_as_the_worst(evaluation):
    rows = evaluation["methods"]["half"]["rows"]
    assert sorted(scores(evaluation, "cd_ma100k", rows))[-1] == math.inf
    assert sorted(scores(evaluation, "nc_ma100k", rows))[0] == -math.inf
    assert len(scores(evaluation, "face_ratio", rows)) == len(rows) - 1
    for name in ("cd_ma100k", "nc_ma100k"):
        assert median(scores(evaluation, name, rows)) == evaluation["methods"]["half"]["summary"][name]["median"]
    assert median(np.array([1.0, np.inf])) is None
    assert median(np.array([])) is None


@pytest.mark.parametrize(
    ("faces", "bucket"), [(1, "1 to 50"), (50, "1 to 50"), (51, "51 to 100"), (800, "401 to 800"), (801, "more than 800")]
)
def test_each_mesh_is_in_one_bucket(evaluation, faces, bucket):
    only = copy.deepcopy(evaluation)
    for each in only["methods"].values():
        each["rows"] = [each["rows"][0] | {"reference_faces": faces}]
    assert [name for name, _ in face_groups(only)] == [bucket]
    assert category_groups(only) == []


# Plots


def test_axes_fit_their_numbers():
    spread = Scale.of(np.array([0.001, 0.02, 0.9]), 0.0, 100.0)
    assert spread.log
    assert not Scale.of(np.array([0.0, 0.02, 0.9]), 0.0, 100.0).log
    assert not Scale.of(np.array([0.5, 0.9]), 0.0, 100.0).log
    for values in ([0.001, 0.9], [0.0, 1e-7], [-3.0, 5.0], [7.0], [1e-9, 1e9], [0.0], [], [0.91, 0.92]):
        scale = Scale.of(np.array(values), 10.0, 90.0)
        ticks = scale.ticks()
        assert 2 <= len(ticks) <= 6
        assert all(scale.low <= tick <= scale.high for tick in ticks)
        places = scale.at(np.array(values + ticks))
        assert ((places >= 10) & (places <= 90)).all()


def dots(lane: Element) -> np.ndarray:
    (path,) = lane.find("path", "dots")
    return np.array(re.findall(r"M(\S+) (\S+)h0", path.attributes["d"]), dtype=float)


def test_every_finite_value_is_a_dot_at_its_place():
    values = np.array([0.1, 0.1, 0.1, 0.5, 0.9, np.inf])
    tree = parsed(strips([Series("a", values, "0.3", "1 failed"), Series("<b>", np.array([0.9]))], "two"))
    first, second = tree.find("g")
    places = dots(first)
    assert len(places) == 5
    assert len({tuple(place) for place in places.tolist()}) == 5, "equal values hide each other"
    x = np.sort(places[:, 0])
    np.testing.assert_allclose((x[3] - x[0]) / (x[4] - x[0]), 0.5, atol=0.01)
    assert abs(dots(second)[0, 0] - x[4]) <= 0.11
    (line,) = first.find("path", "median")
    assert x[0] < float(re.match(r"M(\S+)", line.attributes["d"])[1]) < x[3]
    assert [each.text() for each in first.find("text")] == ["a", "1 failed  0.3"]
    assert second.find("text")[0].text() == "<b>"


def test_a_median_beyond_all_values_lies_at_the_end():
    (lane,) = parsed(strips([Series("a", np.array([1.0, 2.0, np.inf, np.inf, np.inf]))], "one")).find("g")
    (line,) = lane.find("path", "median")
    assert float(re.match(r"M(\S+)", line.attributes["d"])[1]) > dots(lane)[:, 0].max()
    (lane,) = parsed(strips([Series("a", np.array([np.inf]))], "one")).find("g")
    assert not lane.find("path", "dots")


def test_lines_break_where_there_is_nothing():
    (line,) = parsed(lines(["x", "y", "z", "w"], [Series("a", np.array([1.0, 2.0, np.nan, 3.0]))], "one")).find("path", "line")
    assert re.sub(r"[^ML]", "", line.attributes["d"]) == "MLM"
    assert parsed(lines(["x"], [Series("a", np.array([np.nan]))], "none")).find("path", "line") == []


def test_only_markup_is_not_escaped():
    assert element("p", "<", Markup("<b></b>"), title='"<&') == '<p title="&quot;&lt;&amp;">&lt;<b></b></p>'
    assert element("img", alt="") == '<img alt="">'
    assert element("p", hidden=True, class_="a", data_value=1, title=False) == '<p hidden class="a" data-value="1"></p>'
    assert isinstance(joined("<", element("b")), Markup)


# In the terminal


def printed(evaluation: dict, *metrics: str) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table(evaluation, metrics))
    return captured.get()


def test_the_table_in_the_terminal_shows_the_medians(evaluation):
    lines_of_methods = [line for line in printed(evaluation).splitlines() if "half" in line or "rough" in line]
    for line, measured in zip(lines_of_methods, evaluation["methods"].values(), strict=True):
        expected = [shown(measured["summary"][name]["median"]) for name in list(METRICS)[:3]]
        assert re.findall(r"[\d.]+(?= )", line.replace("of", ""))[:3] == expected
        assert f"{measured['failures']} of 6" in line


def test_the_table_in_the_terminal_shows_the_metrics_asked_for(evaluation):
    text = printed(evaluation, "nc_ma100k")
    assert "nc_ma100k ↑" in text
    assert "cd_ma100k" not in text
    with pytest.raises(ValueError, match=r"^the metric 'cd' was not measured; there are: cd_ma100k, nc_ma100k, face_ratio$"):
        table(evaluation, ["cd"])


def test_names_are_no_markup_in_the_terminal(evaluation):
    assert "[red]half[/red]" in printed(evaluation | {"methods": {"[red]half[/red]": evaluation["methods"]["half"]}})
