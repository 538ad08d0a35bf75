"""The judge of gates takes faces that lie on the cloud, leaves gates without one where none does, and knows when a mesh is whole."""

from __future__ import annotations

import numpy as np
import pytest
from test_coverage import cloud_of, strip

from meshgpt.coverage import Coverage
from meshgpt.gate_judge import ROUNDS, GateJudge
from meshgpt.generate import Verdict
from meshgpt.mesh import canonical
from meshgpt.tokenizer import GatesTokenizer

TOKENIZER = GatesTokenizer()
# A strip of 32 triangles in the cube; its faces as bins, and the steps that write them.
STRIP = canonical(((strip(4) + 0.5) * 128 - 0.5).round().clip(0, 127).astype(np.int64))
STEPS = TOKENIZER.encode(STRIP)
CUBE = (STRIP + 0.5) / 128 - 0.5
SKIP = np.array([TOKENIZER.skip, 0, 0])


@pytest.fixture
def judge() -> GateJudge:
    return GateJudge(Coverage(cloud_of(CUBE), bottom_up=False), TOKENIZER, 100)


def ask(judge: GateJudge, *steps: np.ndarray, ended: tuple[int, ...] = (), uniform: float = 0.5) -> Verdict:
    return judge.judge(np.stack(steps), np.isin(np.arange(len(steps)), ended), uniform)


def insist(judge: GateJudge, *steps: np.ndarray, ended: tuple[int, ...] = ()) -> Verdict:
    """The verdict when nothing else is proposed in any round."""
    for round in range(1, ROUNDS + 1):
        verdict = ask(judge, *steps * round, ended=tuple(at + len(steps) * turn for turn in range(round) for at in ended))
        if verdict.what != "again":
            return verdict
    raise AssertionError("it asks for ever")


def vertex(x: int, y: int, z: int) -> np.ndarray:
    return TOKENIZER.spelled(np.array([y << 20 | z << 10 | x]))[0]


def test_the_mesh_of_the_cloud_is_taken_to_its_end(judge):
    for step in STEPS:
        assert not judge.whole
        assert ask(judge, step).what == "take"
    assert judge.whole
    assert judge.coverage.covered > 0.99


def test_a_vertex_off_the_surface_is_never_taken_over_a_gate(judge):
    for step in STEPS[:3]:
        ask(judge, step)
    off = vertex(64, 120, 120)
    for uniform in (0.0, 0.5, 0.999):
        fresh = GateJudge(Coverage(cloud_of(CUBE), bottom_up=False), TOKENIZER, 100)
        for step in STEPS[:3]:
            ask(fresh, step)
        assert ask(fresh, off, STEPS[3], off, uniform=uniform)[:2] == ("take", 1)


def test_a_gate_is_skipped_when_nothing_better_is_proposed(judge):
    for step in STEPS[:3]:
        ask(judge, step)
    gates = judge.stage
    assert ask(judge, vertex(64, 120, 120)).what == "again"
    verdict = insist(judge, vertex(64, 120, 120), SKIP)
    assert verdict[:2] == ("take", 1)
    assert judge.stage == gates == 0


def test_a_face_that_is_there_already_is_not_covered_twice(judge):
    """Over the gate that was skipped a second face in the same plane gains nothing and lies on another."""
    for step in STEPS:
        ask(judge, step)
    triangle = CUBE[:1]
    assert float(judge.coverage.weigh(triangle).double[0]) > 0.9
    assert float(judge.coverage.weigh(triangle).lost[0]) == 0, "nothing is lost where faces may still come"


def test_a_mesh_does_not_end_while_much_is_open(judge):
    assert ask(judge, SKIP, ended=(0,)).what == "again"
    assert ask(judge, SKIP, STEPS[0], ended=(0,))[:2] == ("take", 1)


def test_a_mesh_is_unfinished_while_much_is_open_and_no_longer_when_it_is_whole(judge):
    assert judge.unfinished
    for step in STEPS:
        ask(judge, step)
    while judge.stage == 0:
        insist(judge, SKIP)
    assert judge.whole and not judge.unfinished


def test_where_a_face_of_its_own_brought_nothing_none_begins_again(judge):
    def begin(x: int, y: int) -> np.ndarray:
        """A face of next to no area, and nothing over its gates; where it was begun, in the cube."""
        for step in (vertex(x, y, 64), vertex(x + 1, y, 64), vertex(x, y + 1, 64)):
            insist(judge, step)
        while judge.stage == 0:
            insist(judge, SKIP)
        return (np.array([x, y, 64]) + 0.5) / 128 - 0.5

    def nearest_spot(at: np.ndarray) -> float:
        return float(np.linalg.norm((judge.steering.spots + 0.5) / 128 - 0.5 - at, axis=1).min())

    first = begin(40, 40)
    covered = nearest_spot(first)
    begin(40, 41)  # covers what the one before does
    assert nearest_spot(first) < 1.2 * covered
    second = begin(80, 80)
    assert nearest_spot(first) > 1.5 * covered > 1.2 * nearest_spot(second)


def test_faces_of_their_own_are_steered_to_what_is_open(judge):
    everywhere = judge.steering.spots
    for step in STEPS[:12]:
        ask(judge, step)
    assert judge.steering.spots is None, "over a gate nobody asks"
    while judge.stage == 0:
        insist(judge, SKIP)
    left = judge.steering.spots
    assert 0 < len(left) < len(everywhere)
    assert np.isin(left.round(6), everywhere.round(6)).all()
