"""Eight results from the nearest to the farthest are drawn beside their references; fewer are no picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meshgpt.cloud import Cloud
from meshgpt.mesh import Mesh
from meshgpt.result_picture import PARTS, save_result_picture

TRIANGLE = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0.5]]), np.array([[0, 1, 2]]))
NOTHING = Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))


class Shapes:
    def __init__(self, empty: str = "") -> None:
        self.drawn, self.empty = [], empty

    def result(self, method: str, id: str) -> Mesh | None:
        return None if id == "lost" else NOTHING if id == self.empty else TRIANGLE

    def reference(self, id: str) -> Mesh:
        self.drawn.append(id)
        return TRIANGLE

    def cloud(self, method: str, id: str) -> Cloud:
        raise AssertionError("clouds are not drawn")


def row(id: str, failed: str = "") -> dict:
    return {"id": id, "category": "", "reference_faces": 1, "seconds": 1.0, "failed": failed, "scores": {}}


def worst_first(count: int) -> list[dict]:
    return [row(str(number)) for number in reversed(range(count))]


def test_results_are_spread_from_the_nearest_to_the_farthest(tmp_path: Path):
    shapes = Shapes()
    save_result_picture(worst_first(100), "mine", shapes, tmp_path / "results.png")
    assert shapes.drawn == ["4", "19", "34", "49", "64", "79", "89", "99"]
    picture = np.asarray(Image.open(tmp_path / "results.png"))
    assert picture.shape == (4 * 260, 4 * 280, 3)
    assert [each.name for each in tmp_path.iterdir()] == ["results.png"]
    for number in range(len(PARTS)):
        across, down = number % 2, number // 2
        pair = picture[260 * down : 260 * (down + 1), 560 * across : 560 * (across + 1)]
        assert (pair[:, :280] != 255).any() and (pair[:, :280] == pair[:, 280:]).all()


def test_what_has_no_result_is_left_out(tmp_path: Path):
    shapes = Shapes(empty="3")
    save_result_picture([row("bad", "it broke"), row("lost"), *worst_first(9)], "mine", shapes, tmp_path / "results.png")
    assert sorted(shapes.drawn) == ["0", "1", "2", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize("count", [0, 7])
def test_a_few_results_are_no_picture(tmp_path: Path, count: int):
    save_result_picture(worst_first(count), "mine", Shapes(), tmp_path / "results.png")
    assert not list(tmp_path.iterdir())
