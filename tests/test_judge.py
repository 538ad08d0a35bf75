"""The judge takes large faces that lie on the cloud, asks for more where none does, and knows when a mesh is whole."""

from __future__ import annotations

import numpy as np
import pytest
from test_coverage import cloud_of, strip

from meshgpt.coverage import Coverage
from meshgpt.judge import IDLE, PASSES, RISES, ROUNDS, CloudJudge

FINE, COARSE = strip(4), strip(1)
# What steps stand for: the fine triangles, the coarse ones, and the same off the surface.
SHAPES = np.concatenate([FINE, COARSE, FINE + np.array([0, 0, 0.3])])
OFF = 34


def step(number: int, first: int = 0) -> np.ndarray:
    """A step of three ids; the first one names its first corner, the last its shape."""
    return np.array([[first, 0, number]])


@pytest.fixture
def judge() -> CloudJudge:
    return CloudJudge(Coverage(cloud_of(FINE)), lambda ids: SHAPES[ids[:, 2]], 1, 128, 1000)


def ask(judge: CloudJudge, *steps: np.ndarray, ended: tuple[int, ...] = (), uniform: float = 0.5):
    return judge.judge(np.concatenate(steps), np.isin(np.arange(len(steps)), ended), uniform)


def test_the_larger_of_two_good_faces_is_taken(judge):
    assert ask(judge, step(0), step(32), step(1))[:2] == ("take", 1)
    assert judge.coverage.covered == pytest.approx(0.5, abs=0.05)
    assert ask(judge, step(33), step(31))[:2] == ("take", 0)
    assert judge.whole


def test_a_face_off_the_surface_is_never_taken(judge):
    for uniform in (0.0, 0.5, 0.999):
        fresh = CloudJudge(Coverage(cloud_of(FINE)), judge.corners, 1, 128, 1000)
        assert ask(fresh, step(OFF), step(0), step(OFF + 1), uniform=uniform)[:2] == ("take", 1)


def test_more_ways_are_asked_for_and_then_the_first_corner_is_passed_over(judge):
    ways = [step(OFF, 7), step(OFF + 1, 7), step(OFF + 2, 8)]
    for round in range(1, ROUNDS):
        assert ask(judge, *(ways * round)).what == "again"
    assert ask(judge, *(ways * ROUNDS)).what == "pass"
    assert judge.passed == {(7,)}
    assert ask(judge, step(0, 7), step(1, 9))[:2] == ("take", 1), "7 is passed over, though its face would be fine"


def test_ways_of_earlier_rounds_count(judge):
    assert ask(judge, step(OFF)).what == "again"
    assert ask(judge, step(OFF), step(32))[:2] == ("take", 1)


def refuse(judge: CloudJudge, first: int) -> str:
    """The verdict when all rounds brought nothing but a face off the surface."""
    for round in range(1, ROUNDS + 1):
        verdict = ask(judge, *[step(OFF, first)] * round)
    return verdict.what


def test_after_some_first_corners_the_floor_rises_above_what_is_bare(judge):
    ceiling = judge.steering.ceiling
    for first in range(PASSES):
        assert refuse(judge, first) == "pass"
        assert judge.coverage.lost == 0
        assert judge.steering.ceiling == ceiling
    assert refuse(judge, PASSES) == "pass"
    assert 0 < judge.coverage.lost < 0.1
    assert judge.steering.ceiling > ceiling


def test_a_mesh_that_goes_nowhere_ends(judge):
    verdicts = [refuse(judge, first) for first in range((PASSES + 1) * (RISES + 1))]
    assert verdicts == ["pass"] * (len(verdicts) - 1) + ["end"]


def test_a_face_keeps_the_floor_from_rising_for_a_while(judge):
    for first in range(PASSES):
        refuse(judge, first)
    assert ask(judge, step(0, 99)).what == "take"
    assert refuse(judge, PASSES) == "pass"
    assert judge.coverage.lost == 0


def test_the_ceiling_is_just_above_the_lowest_bare_points(judge):
    lowest = (-0.4 + 0.5) * 128 - 0.5
    assert lowest < judge.steering.ceiling < lowest + 6
    for row in FINE[:8]:
        judge.coverage.take(row)
    assert lowest + 0.2 * 128 - 1 < judge.steering.ceiling < lowest + 0.2 * 128 + 6


def test_end_is_taken_only_where_little_is_missing(judge):
    for round in range(1, ROUNDS):
        assert ask(judge, *[step(0)] * round, ended=tuple(range(round))).what == "again"
    assert ask(judge, *[step(0)] * (ROUNDS - 1), step(2), ended=tuple(range(ROUNDS - 1)))[:2] == ("take", ROUNDS - 1)
    for number in (0, 32, 33):
        judge.coverage.take(SHAPES[number])
    assert judge.whole
    assert ask(judge, step(OFF), ended=(0,)).what == "end"


def test_a_first_corner_is_passed_over_when_its_faces_cover_nothing_new(judge):
    judge.coverage.bare[:] = judge.coverage.open[:] = False
    for _ in range(IDLE):
        assert judge.passed == set()
        judge.coverage.faces = Coverage(cloud_of(FINE)).faces
        assert ask(judge, step(0, 3)).what == "take"
    assert judge.passed == {(3,)}


def test_what_is_lost_weighs(judge):
    """The upper row covers as much as the lower one, but leaves it bare."""
    for uniform in (0.01, 0.5, 0.99):
        fresh = CloudJudge(Coverage(cloud_of(FINE)), judge.corners, 1, 128, 1000)
        assert ask(fresh, step(24), step(0), uniform=uniform)[:2] == ("take", 1)


@pytest.mark.parametrize(("left", "what"), [(1000, "take"), (4, "again")])
def test_with_few_faces_left_a_small_one_is_not_worth_it(left, what):
    judge = CloudJudge(Coverage(cloud_of(FINE)), lambda ids: SHAPES[ids[:, 2]], 1, 128, left)
    assert ask(judge, step(0)).what == what
