"""Input cloud, reference and result side by side, the worst first, as HTML with the pictures in it.

It knows rows of an evaluation and where their shapes come from. It does not know how they were measured.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from meshgpt.cloud import Cloud
from meshgpt.evaluation import Row, shown
from meshgpt.markup import Markup, element, joined
from meshgpt.mesh import Mesh
from meshgpt.views import Camera, draw_cloud, draw_mesh

SIZE = 200  # pixels
PALETTE = 64  # colours
WORST = 20


@runtime_checkable
class Shapes(Protocol):
    """Where the shapes of an evaluation come from: those of one mesh in one frame, y up."""

    def result(self, method: str, id: str) -> Mesh | None: ...
    def reference(self, id: str) -> Mesh: ...
    def cloud(self, method: str, id: str) -> Cloud: ...


def contact_sheet(rows: Sequence[Row], method: str, metric: str, shapes: Shapes, pictures: int) -> Markup:
    """The first `pictures` rows with pictures, all but the worst twenty of them folded; the others as a list."""
    drawn = [_card(row, place + 1, method, metric, shapes) for place, row in enumerate(rows[:pictures])]
    parts = [element("div", *drawn[:WORST], class_="cards")]
    if drawn[WORST:]:
        parts.append(_folded(f"The next {len(drawn) - WORST}", element("div", *drawn[WORST:], class_="cards")))
    if rows[pictures:]:
        parts.append(_folded(f"{len(rows[pictures:])} more, without pictures", _list(rows[pictures:], metric, pictures + 1)))
    return joined(*parts)


def named(id: str) -> Markup:
    """A name from outside: it may be long, empty, or written from right to left."""
    return element("bdi", id or "(no name)", class_="id")


def _folded(title: str, content: Markup) -> Markup:
    return element("details", element("summary", title), content)


def _card(row: Row, place: int, method: str, metric: str, shapes: Shapes) -> Markup:
    reference, result = shapes.reference(row["id"]), shapes.result(method, row["id"])
    problem = row["failed"] or problem_of(result)
    seen = [reference] if problem or result is None else [reference, result]
    camera = Camera.of(np.concatenate([mesh.triangles().reshape(-1, 3) for mesh in seen]), SIZE)
    last = (
        element("div", "no result", class_="missing")
        if len(seen) == 1
        else _image(draw_mesh(seen[1], camera=camera, transparent=True), "result")
    )
    slots = [
        _slot("input cloud", _image(draw_cloud(shapes.cloud(method, row["id"]), camera=camera, transparent=True), "input cloud")),
        _slot(f"reference, {_faces(reference)}", _image(draw_mesh(reference, camera=camera, transparent=True), "reference")),
        _slot(f"result, {_faces(seen[1])}" if len(seen) == 2 else "result", last),
    ]
    reason = [element("p", problem, class_="reason")] if problem else []
    return element("article", _title(row, place, metric), element("div", *slots, class_="three"), *reason, class_="card")


def problem_of(result: Mesh | None) -> str:
    """Why a result that did not fail cannot be drawn, '' when it can."""
    if result is None:
        return "the result was not kept"
    if not len(result.faces):
        return "the result has no faces"
    return "" if np.isfinite(result.triangles()).all() else "the result has vertices that are not finite"


def _title(row: Row, place: int, metric: str) -> Markup:
    score = element("span", shown(row["scores"].get(metric)), class_="score", title=metric)
    category = [element("span", row["category"], class_="category")] if row["category"] else []
    return element("header", element("span", str(place), class_="rank"), element("h3", named(row["id"]), *category), score)


def _slot(caption: str, content: Markup) -> Markup:
    return element("figure", content, element("figcaption", caption))


def _faces(mesh: Mesh) -> str:
    return f"{len(mesh.faces):,} face{'s' * (len(mesh.faces) != 1)}"


def _list(rows: Sequence[Row], metric: str, start: int) -> Markup:
    head = element("tr", *(element("th", name) for name in ("", "mesh", "category", "faces", metric, "")))
    body = [
        element(
            "tr",
            element("td", str(start + place), class_="number"),
            element("td", named(row["id"])),
            element("td", row["category"]),
            element("td", f"{row['reference_faces']:,}", class_="number"),
            element("td", shown(row["scores"].get(metric)), class_="number"),
            element("td", row["failed"], class_="reason"),
        )
        for place, row in enumerate(rows)
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _image(pixels: UInt8[np.ndarray, "h w 4"], alt: str) -> Markup:
    return element("img", src=data_uri(pixels), alt=alt, width=SIZE, height=SIZE, decoding="async")


def data_uri(pixels: UInt8[np.ndarray, "h w 4"]) -> str:
    """A .png file of few colours, as an address that holds the file itself."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).quantize(PALETTE, Image.Quantize.FASTOCTREE).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
